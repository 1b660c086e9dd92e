"""Each launch script of examples/launch with the names of Dynamo's package: it answers, and SIGTERM ends everything that it started."""
import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

import harness
import python_cluster

sys.path.insert(0, str(harness.ROOT / "models/tiny-vlm/train"))
import draw  # noqa: E402

SCRIPTS = harness.ROOT / "examples/launch"
SMALL = {"PIXII_WORKER_KV_MEMORY": "32MiB", "PIXII_WORKER_THREADS": "1"}


def children(pid):
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def program_of(pid):
    try:
        return os.path.realpath(f"/proc/{pid}/exe")
    except OSError:
        return ""


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def picture():
    return draw.png(112, 112, bytes((200, 0, 0)) * (112 * 112))


class Launched(harness.Server):
    """A script, from the port of its frontend (or server) until stop()."""

    def __init__(self, words, env=None, command="FRONTEND"):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-launch-test-")
        self.port_file = pathlib.Path(self.folder.name) / "port"
        self.log_path = pathlib.Path(self.folder.name) / "log"
        self.log = open(self.log_path, "wb")
        temporary = pathlib.Path(self.folder.name) / "tmp"
        temporary.mkdir()
        more = {"PIXII_PYTHON": python_cluster.PYTHON, "TMPDIR": str(temporary), f"PIXII_{command}_PORT": "0",
                f"PIXII_{command}_PORT_FILE": str(self.port_file), **SMALL, **(env or {})}
        surroundings = {name: value for name, value in python_cluster.environment(**more).items()
                        if not name.startswith("DYN_") or name in more}
        self.process = subprocess.Popen(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=surroundings)

        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.log_text()}")
            return self.port_file.exists() and self.port_file.read_text().strip()
        try:
            self.port = int(harness.wait_for(ready, 60, "its port", self.log_text))
        except BaseException:
            self.stop()
            raise

    def end(self, case):
        """SIGTERM: its exit status, and whether anything is left of it."""
        pids = children(self.process.pid)
        case.assertTrue(pids)
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=120)
        case.assertEqual(status, 0, self.log_text())
        case.assertEqual([pid for pid in pids if is_running(pid)], [], self.log_text())
        case.assertEqual(list((pathlib.Path(self.folder.name) / "tmp").iterdir()), [])
        self.log.close()
        self.folder.cleanup()


class Launch(unittest.TestCase):
    def launch(self, name, processes, env=None, command="FRONTEND"):
        one = Launched([SCRIPTS / f"{name}.sh"], env, command)
        self.addCleanup(one.kill)
        own = os.path.realpath(harness.BINARY)
        harness.wait_for(lambda: [program_of(pid) for pid in children(one.process.pid)] == [own] * processes, 60,
                         "all of its processes are the program itself", one.log_text)
        return one

    def answer(self, server, body, path="/v1/chat/completions"):
        def asked():
            status, answer = server.post(path, body)
            return answer if status == 200 else None
        return harness.wait_for(asked, 60, f"an answer of {path}", server.log_text)

    def chat(self, server, model="tiny-chat"):
        answer = self.answer(server, {"model": model, "messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 8, "seed": 1})
        self.assertGreater(answer["usage"]["completion_tokens"], 0)
        return answer

    def wait_for_workers(self, server, count):
        harness.wait_for(lambda: sum(v for k, v in server.metrics().items() if k.startswith("dynamo_frontend_router_worker_state")
                                     and 'state="available"' in k) == count, 60, f"{count} workers", server.log_text)

    def look(self, server, url):
        self.wait_for_workers(server, self.workers)
        answer = self.answer(server, {"model": "tiny-vlm", "temperature": 0, "max_tokens": 24, "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What do you see?"}]}]})
        self.assertIn("red", answer["choices"][0]["message"]["content"].lower())

    def paths(self, server):
        return {re.search('path="([a-z_]+)"', name)[1]: value for name, value in server.metrics().items()
                if name.startswith("pixii_encode_total{") and value}

    def test_every_script_has_a_case(self):
        scripts = {path.stem for path in SCRIPTS.glob("*.sh")} - {"common"}
        self.assertEqual(scripts, {name.removeprefix("test_") for name in dir(self) if name.startswith("test_")} - {"every_script_has_a_case"})

    def test_agg(self):
        server = self.launch("agg", 2)
        self.chat(server)
        server.end(self)

    def test_agg_router(self):
        server = self.launch("agg_router", 3)
        self.wait_for_workers(server, 2)
        self.chat(server)
        harness.wait_for(lambda: server.metrics().get("pixii_router_index_blocks", 0) or
                         sum(v for k, v in server.metrics().items() if k.startswith("pixii_router_index_blocks")), 30,
                         "the frontend knows what is cached", server.log_text)
        server.end(self)

    def test_agg_metrics(self):
        with tempfile.TemporaryDirectory() as folder:
            port_file = pathlib.Path(folder) / "system"
            server = self.launch("agg_metrics", 2, {"DYN_SYSTEM_PORT": "0", "PIXII_WORKER_SYSTEM_PORT_FILE": str(port_file)})
            self.chat(server)
            worker = harness.Server.__new__(harness.Server)
            worker.port = int(port_file.read_text())
            self.assertEqual(worker.request("GET", "/health")[0], 200)
            figures = worker.metrics()
            self.assertGreater(sum(v for k, v in figures.items() if k.startswith("dynamo_component_requests_total")), 0)
            server.end(self)

    def handed_over(self, name, processes, env=None):
        server = self.launch(name, processes, env)
        self.wait_for_workers(server, processes - 1)
        self.chat(server)
        self.assertEqual(sum(v for k, v in server.metrics().items() if k.startswith("pixii_disaggregation_total{") and 'path="prefill"' in k), 1)
        server.end(self)

    def test_disagg(self):
        self.handed_over("disagg", 3)

    def test_disagg_router(self):
        self.handed_over("disagg_router", 5)

    def test_disagg_same_gpu(self):
        self.handed_over("disagg_same_gpu", 3, {"MEMORY": "0.01", "PIXII_WORKER_KV_MEMORY": "", "PIXII_WORKER_MAX_CONTEXT": "256"})

    workers = 0

    def test_disagg_multimodal(self):
        self.workers = 2
        server = self.launch("disagg_multimodal", 3)
        self.look(server, "data:image/png;base64," + base64.b64encode(picture()).decode())
        server.end(self)

    def test_epd_disagg(self):
        self.workers = 3
        server = self.launch("epd_disagg", 4)
        self.look(server, "data:image/png;base64," + base64.b64encode(picture()).decode())
        self.assertEqual(self.paths(server), {"encode": 1})
        server.end(self)

    def test_epd_multimodal(self):
        self.workers = 3
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "red.png"
            path.write_bytes(picture())
            server = self.launch("epd_multimodal", 4, {"MEDIA": folder})
            self.look(server, f"file://{path}")
            self.assertEqual(self.paths(server), {"encode": 1})
            server.end(self)

    def test_disagg_e_pd(self):
        self.workers = 2
        server = self.launch("disagg_e_pd", 3)
        self.look(server, "data:image/png;base64," + base64.b64encode(picture()).decode())
        self.assertEqual(self.paths(server), {"encode": 1})
        server.end(self)

    def test_agg_video_diffusion(self):
        server = self.launch("agg_video_diffusion", 1, command="SERVE")
        job = self.answer(server, {"model": "tiny-video", "prompt": "a red circle", "size": "64x64", "seed": 1, "num_frames": 5}, "/v1/videos")
        ended = harness.wait_for(lambda: (lambda got: got if got["status"] in ("completed", "failed") else None)(
            server.request("GET", f"/v1/videos/{job['id']}")[2]), 60, "the video", server.log_text)
        self.assertEqual(ended["status"], "completed", ended)
        server.end(self)

    def test_agg_image_diffusion(self):
        server = self.launch("agg_image_diffusion", 1, command="SERVE")
        answer = self.answer(server, {"model": "tiny-video", "prompt": "a red circle", "size": "64x64", "response_format": "b64_json"},
                             "/v1/images/generations")
        self.assertTrue(base64.b64decode(answer["data"][0]["b64_json"]))
        server.end(self)


class Names(unittest.TestCase):
    """What the modules do with flags that are not the program's."""

    def run_module(self, module, *words, env=None):
        return subprocess.run([python_cluster.PYTHON, "-m", module, *words], capture_output=True, text=True, timeout=120,
                              env=python_cluster.environment(**(env or {})))

    def test_flags_reach_the_program(self):
        done = self.run_module("dynamo.trtllm", "--model-path", "tiny-chat", "--max-batch-size", "3", "--print-config")
        self.assertRegex(done.stdout, r"(?m)^max-batch +3 +flag")
        done = self.run_module("dynamo.frontend", "--router-mode", "kv", "--dyn-chat-processor", "dynamo", "--tokenizer", "default",
                               "--model-path", "anything", "--kv-cache-block-size", "32", "--print-config")
        self.assertRegex(done.stdout, r"(?m)^router-mode +kv +flag", done.stderr)
        done = self.run_module("dynamo.mocker", "--model-path", "tiny-chat", "--speedup-ratio", "10", "--engine-type", "vllm",
                               "--enable-chunked-prefill", "--enable-prefix-caching", "false", "--extra-engine-args",
                               '{"num_gpu_blocks": 600, "block_size": 32, "max_num_seqs": 7}', "--max-num-seqs", "8", "--print-config")
        for name, value in {"mock": "true", "mock-speedup": "10", "mock-blocks": "600", "block-size": "32", "max-batch": "8",
                            "max-batched-tokens": "8192", "prefix-cache": "false", "model": "tiny-chat"}.items():
            self.assertRegex(done.stdout, rf"(?m)^{name} +{value} ", done.stderr)
        self.assertRegex(self.run_module("dynamo.trtllm", "--version").stdout, r"^pixii \d")

    def test_what_cannot_be_done_is_said(self):
        for module, words, why in (("dynamo.frontend", ["--dyn-chat-processor", "vllm"], "dyn-chat-processor: vllm: chats are rendered"),
                                   ("dynamo.frontend", ["-i"], "pixii chat"), ("dynamo.frontend", ["--no-such"], "unknown flag --no-such"),
                                   ("dynamo.mocker", ["--engine-type", "sglang"], "engine-type: sglang"),
                                   ("dynamo.mocker", ["--num-workers", "none"], "num-workers: none; allowed are 1 .. 1024"),
                                   ("dynamo.mocker", ["--extra-engine-args", "/nowhere.json"], "nowhere.json"),
                                   ("dynamo.trtllm", ["--modality", "video_diffusion"], "pixii serve MODEL")):
            done = self.run_module(module, *words)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertIn(why, done.stderr)
        done = self.run_module("dynamo.trtllm", env={"PIXII_BINARY": "/nowhere/pixii"})
        self.assertEqual(done.returncode, 2)
        self.assertIn("/nowhere/pixii", done.stderr)

    def test_several_mockers_are_watched_and_answer(self):
        with tempfile.TemporaryDirectory() as folder:
            env = {"DYN_DISCOVERY_BACKEND": "file", "DYN_FILE_KV": f"{folder}/cluster", "TMPDIR": folder}
            log = open(f"{folder}/log", "wb")
            mockers = subprocess.Popen([python_cluster.PYTHON, "-m", "dynamo.mocker", "--model-path", "tiny-chat", "--model-name", "mocked",
                                        "--num-workers", "2", "--speedup-ratio", "100"], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                       env=python_cluster.environment(**env))
            try:
                frontend = harness.Server.__new__(harness.Server)
                frontend.start(["frontend", "--port", "0"], env)
                with frontend:
                    frontend.wait_for(lambda: sum(v for k, v in frontend.metrics().items()
                                                  if k.startswith("dynamo_frontend_model_workers{")) == 2, 60, "two workers")
                    status, answer = frontend.post("/v1/completions", {"model": "mocked", "prompt": "Hello", "max_tokens": 4, "ignore_eos": True})
                    self.assertEqual((status, answer["usage"]["completion_tokens"]), (200, 4), json.dumps(answer))
                    self.assertEqual(program_of(mockers.pid), os.path.realpath(harness.BINARY))
            finally:
                mockers.send_signal(signal.SIGTERM)
                self.assertEqual(mockers.wait(timeout=60), 0, pathlib.Path(f"{folder}/log").read_text())
                log.close()


if __name__ == "__main__":
    harness.main()
