"""Data-parallel ranks of one worker: every answer is the one that a single rank gives, and each rank is reached by name."""
import json
import pathlib
import random
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

MODELS = ["deepseek-v3", "deepseek-v2-groups", "deepseek-v3-mla"]
RANKS = 3
FLAGS = ("--threads", "2", "--max-batch", "4", "--max-batched-tokens", "32", "--block-size", "8", "--kv-memory", "32MiB",
         "--max-context", "200")
DP = ("--enable-attention-dp", "--tensor-parallel-size", str(RANKS))


def bodies(model, count=24):
    vocab = json.loads((harness.OWN_MODELS / model / "config.json").read_text())["vocab_size"]
    draw = random.Random(model)
    shared = [draw.randrange(3, vocab) for _ in range(40)]
    for number in range(count):
        own = [draw.randrange(3, vocab) for _ in range(draw.randint(1, 20))]
        yield {"prompt": (shared if number % 3 == 0 else []) + own, "max_tokens": draw.randint(5, 60), "seed": number,
               "temperature": draw.choice([0, 1.0]), "logprobs": 3, "n": 1 + number % 2, "ignore_eos": True,
               "return_token_ids": True}


def ask(server, body):
    status, _, answer = server.request("POST", "/v1/completions", body)
    if status != 200:
        raise AssertionError(answer)
    return [{key: choice[key] for key in ("token_ids", "logprobs", "finish_reason")} for choice in answer["choices"]]


def rank_count(server):
    return sum(1 for name in server.metrics() if name.startswith("pixii_rank_running{"))


class Ranks(unittest.TestCase):
    def test_answers_are_those_of_one_rank(self):
        for model in MODELS:
            folder = str(harness.OWN_MODELS / model)
            with self.subTest(model):
                asked = list(bodies(model))
                with harness.Server(folder, *FLAGS) as one:
                    expected = [ask(one, body) for body in asked]
                for more in ([], ["--overlap"], ["--attention-dp-balance", "--attention-dp-batching-wait-iters", "2"]):
                    with harness.Server(folder, *FLAGS, *DP, *more) as ranks:
                        with ThreadPoolExecutor(12) as pool:
                            self.assertEqual(list(pool.map(lambda body: ask(ranks, body), asked)), expected, more)
                        self.assertEqual(rank_count(ranks), RANKS)

    def test_a_worker_registers_its_ranks(self):
        with cluster.Cluster(1, str(harness.OWN_MODELS / MODELS[0]), worker_flags=(*FLAGS, *DP)) as small:
            records = [path.read_text() for path in pathlib.Path(small.folder.name).rglob("*") if path.is_file()]
            self.assertTrue(any('"data_parallel_size":3' in text.replace(" ", "") for text in records), records)
            asked = list(bodies(MODELS[0], 9))
            with harness.Server(str(harness.OWN_MODELS / MODELS[0]), *FLAGS) as one:
                expected = [ask(one, body) for body in asked]
            with ThreadPoolExecutor(6) as pool:
                self.assertEqual(list(pool.map(lambda body: ask(small.frontend, body), asked)), expected)

    def test_a_frontend_knows_what_each_rank_holds_and_sends_there(self):  # A8.1 to A8.4, A8.7, B29
        model = str(harness.OWN_MODELS / MODELS[0])
        draw = random.Random(8)
        prompts = [[draw.randrange(3, 60) for _ in range(50)] for _ in range(8)]
        flags = (*FLAGS, "--enable-attention-dp", "--tensor-parallel-size", "2")
        with cluster.Cluster(1, model, worker_flags=flags, frontend_flags=("--router-mode", "kv")) as small:
            server = small.frontend

            def rank(prompt, **headers):
                status, _, answer = server.request("POST", "/v1/completions", {
                    "prompt": prompt, "max_tokens": 2, "ignore_eos": True, "nvext": {"extra_fields": ["worker_id"]}}, headers)
                self.assertEqual(status, 200, answer)
                return answer["nvext"]["worker_id"]["decode_dp_rank"]

            def holds(prompt):
                _, why = server.post("/router/explain", {"token_ids": prompt})
                return {one["dp_rank"]: one["input"]["device_blocks"] for one in why["candidates"]}

            records = [path.read_text() for path in pathlib.Path(small.folder.name).rglob("*") if path.is_file()]
            self.assertTrue(any('"data_parallel_size":2' in text.replace(" ", "") for text in records), records)
            self.assertEqual(holds(prompts[0]), {0: 0, 1: 0})
            homes = []
            for prompt in prompts:
                homes.append(rank(prompt))
                expected = {homes[-1]: 50 // 8, 1 - homes[-1]: 0}  # whole blocks, of one rank
                server.wait_for(lambda p=prompt, e=expected: holds(p) == e, 10, "its blocks are known")
            self.assertEqual(set(homes), {0, 1})
            again = [rank(prompt) for _ in range(4) for prompt in prompts]
            self.assertGreater(sum(a == b for a, b in zip(again, homes * 4)) / len(again), 0.9)
            for wish in (0, 1):
                self.assertEqual({rank(prompt, **{"x-dynamo-dp-rank": str(wish)}) for prompt in prompts}, {wish})
            self.assertIn(rank(prompts[0], **{"x-dynamo-dp-rank": "7"}), (0, 1))
            self.assertIn("rank.unknown", server.log_text())
        with cluster.Cluster(1, model, worker_flags=(*flags, "--conversation-affinity")) as small:
            server = small.frontend
            for session in ("a", "b", "c"):
                self.assertEqual(len({rank(prompt, **{"x-dynamo-session-id": session}) for prompt in prompts[:5]}), 1)

    def test_ranks_may_be_set_in_the_engine_yaml(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("tensor_parallel_size: 2\nenable_attention_dp: true\n"
                       "attention_dp_config:\n  enable_balance: true\n  timeout_iters: 20\n  batching_wait_iters: 5\n")
            file.flush()
            with harness.Server(str(harness.OWN_MODELS / MODELS[0]), *FLAGS, "--extra-engine-args", file.name) as server:
                ask(server, next(bodies(MODELS[0])))
                self.assertEqual(rank_count(server), 2)

    def test_what_cannot_be_is_refused_at_the_start(self):
        model = str(harness.OWN_MODELS / MODELS[0])
        with tempfile.TemporaryDirectory() as folder:
            discovery = ("--discovery", f"file:{folder}")
            for words, said in [
                    (["worker", model, *discovery, "--block-size", "16", "--kv-block-size", "32"], "kv-block-size"),
                    (["serve", model, "--tensor-parallel-size", "3"], "1, 2, 4 or 8"),
                    (["serve", model, *DP, "--speculation", "draft"], "speculation"),
                    (["serve", str(harness.OWN_MODELS / "bert-mean"), *DP], "enable-attention-dp"),
                    (["serve", model, *DP, "--kv-tokens", "64", "--max-context", "200"], "each rank")]:
                done = harness.run_pixii(*words)
                self.assertNotEqual(done.returncode, 0, words)
                self.assertIn(said, done.stdout + done.stderr, words)
            with cluster.Cluster(1, model, worker_flags=(*FLAGS, "--kv-block-size", "8")):
                pass


if __name__ == "__main__":
    harness.main()
