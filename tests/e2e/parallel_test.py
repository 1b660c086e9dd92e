"""Ranks that hold a model together: every answer is the one that a single rank gives, whatever is asked of the engine."""
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness
from ranks_test import FLAGS, ask, bodies
from sleep_test import RELEASE, RESUME

MODELS = ["llama-gqa", "deepseek-v3-mla"]


def server(model, *flags):
    return harness.Server(str(harness.OWN_MODELS / model), *FLAGS, *flags)


class Parallel(unittest.TestCase):
    def test_answers_are_those_of_one_rank(self):
        for model in MODELS:
            asked = list(bodies(model, 12))
            with server(model) as one:
                expected = [ask(one, body) for body in asked]
            for flags in (["--tp", "2"], ["--tensor-parallel-size", "4", "--overlap"], ["--pp", "2"],
                          ["--tp", "2", "--pipeline-parallel-size", "2", "--no-prefix-cache"],
                          ["--enable-attention-dp", "--tp", "2", "--pp", "2"]):
                with self.subTest(model=model, flags=flags), server(model, *flags) as ranks:
                    with ThreadPoolExecutor(6) as pool:
                        self.assertEqual(list(pool.map(lambda body: ask(ranks, body), asked)), expected)

    def test_ranks_sleep_and_wake_together(self):
        body = next(bodies(MODELS[0]))
        with server(MODELS[0], "--tp", "2", "--pp", "2") as ranks:
            expected = ask(ranks, body)
            self.assertEqual(ranks.request("POST", RELEASE, {"tags": ["kv_cache", "weights"]})[0], 200)
            self.assertEqual(ranks.request("POST", RESUME, {"tags": ["kv_cache", "weights"]})[0], 200)
            self.assertEqual(ask(ranks, body), expected)

    def test_sizes_may_be_set_in_the_engine_yaml(self):
        body = next(bodies(MODELS[0]))
        with server(MODELS[0]) as one:
            expected = ask(one, body)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("tensor_parallel_size: 2\npipeline_parallel_size: 2\n")
            file.flush()
            with server(MODELS[0], "--extra-engine-args", file.name) as ranks:
                self.assertEqual(ask(ranks, body), expected)

    def test_golden_models_pass_with_ranks(self):
        for cut in (("--tp", "2"), ("--tp", "4", "--pp", "2")):
            done = harness.run_pixii("check", *[str(harness.OWN_MODELS / model) for model in MODELS], *cut)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_what_cannot_be_is_refused_at_the_start(self):
        for flags, said in ((["--tp", "3"], "1, 2, 4 or 8"), (["--pp", "4"], "the model has 3 layers")):
            done = harness.run_pixii("serve", str(harness.OWN_MODELS / MODELS[0]), *flags)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(said, done.stdout + done.stderr)
        done = harness.run_pixii("serve", str(harness.OWN_MODELS / "bert-mean"), "--tp", "2")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("encoders are not cut", done.stdout + done.stderr)


if __name__ == "__main__":
    harness.main()
