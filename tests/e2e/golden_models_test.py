"""Checkpoints of every family through `pixii check` and through the server, against reference implementations."""
import json
import pathlib
import shutil
import tempfile
import unittest

import harness

OWN = sorted(path.parent.name for path in harness.OWN_MODELS.glob("*/golden.json") if "greedy" in path.read_text())
VISION = ("llava-clip", "llava-siglip", "qwen2-vl", "qwen2-5-vl", "qwen3-vl")
MARGIN = 1e-3  # below it the two best logits are too close for the arg max to be a fact


def folders():
    for name in OWN:
        yield name, harness.OWN_MODELS / name
    yield "stories260K", harness.GOLDEN / "models/stories260K"


def greedy_cases(folder):
    """(prompt ids, expected ids) pairs; an expectation ends before the first choice without a margin."""
    golden = json.loads((folder / "golden.json").read_text())
    if isinstance(golden, list):
        return [(case["prompt_ids"], case["greedy_ids"][:60]) for case in golden]
    greedy = golden.get("greedy", golden)
    cases = []
    for name in ("p7", "p33"):
        expected = greedy[name] if name in greedy else golden[f"greedy.{name}"]
        margins = greedy.get(f"{name}.margins") or golden.get(f"greedy.{name}.margins")
        sure = next((i for i, m in enumerate(margins) if m <= MARGIN), len(expected))
        cases.append((golden["prompts"][name], expected[:sure]))
    return cases


def context_flags(folder, cases):
    """A rope whose factors depend on length is fixed by --max-context, the reference's by the text at hand."""
    if not any(kind in (folder / "config.json").read_text() for kind in ('"longrope"', '"dynamic"')):
        return []
    return ["--max-context", str(max(len(prompt) + len(expected) for prompt, expected in cases))]


class GoldenModels(unittest.TestCase):
    def test_check_passes_on_every_family(self):
        for name, folder in folders():
            with self.subTest(name):
                if not folder.is_dir():
                    self.skipTest(f"{folder} is not here")
                done = harness.run_pixii("check", str(folder))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("logits", done.stdout)

    def test_check_passes_on_the_bundled_models_that_see_and_draw(self):
        """Of tiny-vlm also a case whose pictures are resized, which lies apart."""
        for name in ("tiny-vlm", "tiny-video"):
            with self.subTest(name):
                done = harness.run_pixii("check", name, timeout=600)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        golden = harness.ROOT / "tests/golden/tiny-vlm"
        with tempfile.TemporaryDirectory() as folder:
            for path in (harness.ROOT / "models/tiny-vlm").iterdir():
                if path.is_file() and not path.name.startswith("golden."):
                    shutil.copy(path, folder)
            for path in golden.iterdir():
                (shutil.copytree if path.is_dir() else shutil.copy)(path, pathlib.Path(folder) / path.name)
            done = harness.run_pixii("check", folder, timeout=600)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("pixels", done.stdout)

    def test_check_passes_on_every_tower(self):
        """Pictures' pixels too, where the pictures are."""
        for name in VISION:
            with self.subTest(name):
                folder = harness.GOLDEN / "models" / name
                pixels = folder.is_dir()
                if not pixels:
                    folder = harness.OWN_MODELS / name
                if not folder.is_dir():
                    self.skipTest(f"{folder} is not here")
                done = harness.run_pixii("check", str(folder))
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("dog.features", done.stdout)
                if pixels:
                    self.assertRegex(done.stdout, r"dog\.pixels\.0 +\d+ +0 +2 +ok")  # not a bit differs
        done = harness.run_pixii("check", str(harness.OWN_MODELS / "gemma3-vlm"))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("two in chunks", done.stdout)

    def test_check_fails_on_a_changed_weight(self):
        import shutil
        import tempfile
        with tempfile.TemporaryDirectory() as copy:
            folder = pathlib.Path(copy) / "m"
            shutil.copytree(harness.OWN_MODELS / "llama-gqa", folder)
            weights = bytearray((folder / "model.safetensors").read_bytes())
            weights[-2] ^= 0x80  # the lowest exponent bit of the last value
            (folder / "model.safetensors").write_bytes(weights)
            self.assertEqual(harness.run_pixii("check", str(folder)).returncode, 1)

    def test_the_server_gives_the_same_greedy_tokens(self):
        for name, folder in folders():
            with self.subTest(name):
                if not folder.is_dir():
                    self.skipTest(f"{folder} is not here")
                cases = greedy_cases(folder)
                with harness.Server(str(folder), "--dtype", "fp32", *context_flags(folder, cases)) as server:
                    for prompt, expected in cases:
                        body = {"prompt": prompt, "max_tokens": len(expected), "temperature": 0, "ignore_eos": True,
                                "return_token_ids": True}
                        status, answer = server.post("/v1/completions", body)
                        self.assertEqual(status, 200, answer)
                        self.assertEqual(answer["choices"][0]["token_ids"], expected)


if __name__ == "__main__":
    harness.main()
