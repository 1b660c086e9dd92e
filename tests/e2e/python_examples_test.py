"""Programs of examples/python that no other test runs, and the wheel: put into a folder by unzipping it, imported and used from there."""
import hashlib
import os
import pathlib
import re
import subprocess
import tempfile
import unittest
import zipfile

import cluster
import harness
import python_cluster

HAS_INSTALL = (python_cluster.BUILD / "cmake_install.cmake").exists()


@unittest.skipUnless(python_cluster.BUILT, python_cluster.WHY_NOT)
class Examples(unittest.TestCase):
    def test_an_engine_in_the_process(self):
        done = python_cluster.run(python_cluster.EXAMPLES / "embedded_engine.py")
        self.assertEqual(done.returncode, 0, done.stderr)
        said, tokens, likely = done.stdout.strip().splitlines()[-3:]
        self.assertTrue(said or done.stdout)
        listed = [int(word) for word in re.findall(r"\d+", tokens.partition(":")[2])]
        self.assertEqual((len(listed), len(set(listed))), (16, 16), tokens)
        self.assertTrue(likely.startswith("most likely next: ["))

    def test_an_engine_behind_a_frontend_and_its_instances_one_by_one(self):
        with tempfile.TemporaryDirectory() as folder:
            worker = python_cluster.Program(python_cluster.EXAMPLES / "engine_worker.py", f"file:{folder}")
            try:
                with cluster.Frontend(folder) as frontend:
                    ask = {"model": "careful", "prompt": "Hello", "max_tokens": 24, "seed": 5, "temperature": 1.0, "ignore_eos": True}
                    status, answer = frontend.post("/v1/completions", ask)
                    self.assertEqual(status, 200, answer)
                    self.assertEqual(answer["usage"]["completion_tokens"], 24)
                    text = answer["choices"][0]["text"]
                    self.assertTrue(text)
                    self.assertNotIn("e", text)
                    done = python_cluster.run(python_cluster.EXAMPLES / "ask_instances.py", f"file:{folder}")
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertRegex(done.stdout, r"^[0-9a-f]+ \[\d+(, \d+){5}\]\nany two: the same\n$")
                self.assertEqual(worker.stop(), 0, worker.log_text())
            finally:
                worker.kill()
                worker.folder.cleanup()


@unittest.skipUnless(python_cluster.BUILT and HAS_INSTALL, python_cluster.WHY_NOT)
class Wheel(unittest.TestCase):
    def make(self, folder):
        done = subprocess.run([str(harness.ROOT / "tools/wheel"), "--build", str(python_cluster.BUILD), "--out", folder, "--version", "9.8.7", "--fast"],
                              capture_output=True, text=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
        self.assertEqual(done.returncode, 0, done.stderr)
        [path] = pathlib.Path(folder).glob("*.whl")
        return path

    def test_it_is_the_same_twice_and_works_from_a_folder(self):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second, tempfile.TemporaryDirectory() as target:
            wheel, again = self.make(first), self.make(second)
            self.assertRegex(wheel.name, r"^pixii-9\.8\.7-cp3\d+-cp3\d+-linux_\w+\.whl$")
            self.assertEqual(*[hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, again)])
            # As an installer does it.
            with zipfile.ZipFile(wheel) as zipped:
                listed = {line.split(",")[0]: line.split(",")[1] for line in zipped.read("pixii-9.8.7.dist-info/RECORD").decode().splitlines()}
                self.assertEqual(sorted(listed), sorted(zipped.namelist()))
                for member in zipped.infolist():
                    path = pathlib.Path(zipped.extract(member, target))
                    path.chmod(member.external_attr >> 16 & 0o777)
            home = {"HOME": target, "PATH": "/usr/bin:/bin", "PYTHONPATH": target, "PYTHONDONTWRITEBYTECODE": "1"}

            def run(*words):
                return subprocess.run([python_cluster.PYTHON, *words], capture_output=True, text=True, timeout=120, env=home, cwd=target)
            done = run("-c", "import pixii\nprint(pixii.__file__)\nwith pixii.Engine('tiny-chat', kv_memory='32MiB', threads=1) as engine:\n"
                             "    print(len(engine.generate('Hello', max_tokens=5, ignore_eos=True).tokens))")
            self.assertEqual((done.returncode, done.stdout), (0, f"{target}/pixii/__init__.py\n5\n"), done.stderr)
            done = run("-m", "dynamo.trtllm", "--model-path", "tiny-chat", "--check-config")
            self.assertEqual((done.returncode, done.stdout), (0, "pixii worker: the values are right\n"), done.stderr)
            done = run("-c", "from importlib import metadata\n[one] = metadata.entry_points(group='console_scripts', name='pixii')\n"
                             "import sys\nsys.argv = ['pixii', 'tokenize', '--model', 'tiny-chat', '--help']\nprint(metadata.version('pixii'))\none.load()()")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("pixii tokenize", done.stdout)


if __name__ == "__main__":
    harness.main()
