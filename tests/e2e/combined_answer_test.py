"""Promise 1 with everything at once: families, quantised weights and KV, adapters, processors, speculation, preemption, cancels.

For each model a draw of options and requests. Each request runs alone on a plain server, then among the others on one that
chunks, caches, speculates, swaps and preempts; tokens, text and logprobs must be the same bits.
"""
import concurrent.futures
import json
import pathlib
import random
import tempfile
import unittest

import adapters
import draft_heads
import harness
from one_answer_test import essence, total

SEED = 20261121
REQUESTS = 40
CONCURRENCY = 16
PROCESSORS = ["bans", "forced_sequence", "temperature_schedule", 'watermark={"key": "k", "delta": 3}']
KINDS = [entry.split("=")[0] for entry in PROCESSORS]
GENERATING = sorted(path.parent.name for path in harness.OWN_MODELS.glob("*/golden.json") if "greedy" in path.read_text())


def quantized(folder, name, scratch):
    """The int8 copy of a model."""
    target = pathlib.Path(scratch) / f"{name}-int8"
    done = harness.run_pixii("quantize", str(folder), str(target), "--scheme", "int8")
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return target


def draw_processor(rng, vocab, kind):
    arguments = {"bans": lambda: {"tokens": [rng.randrange(vocab) for _ in range(20)]},
                 "forced_sequence": lambda: {"tokens": [rng.randrange(3, vocab) for _ in range(rng.randint(1, 6))]},
                 "temperature_schedule": lambda: {"points": [[0, 0.5], [rng.randint(5, 40), 1.5]]},
                 "watermark": lambda: {}}[kind]()
    return {"name": kind, "arguments": arguments}


def draw_sampling(rng, vocab):
    body = {"temperature": rng.choice([0, 0.7, 1.0, 1.3]), "seed": rng.randrange(2**31)}
    options = {"top_k": lambda: rng.randint(2, 60), "top_p": lambda: rng.uniform(0.5, 1), "min_p": lambda: rng.uniform(0, 0.1),
               "top_a": lambda: rng.uniform(0, 0.2), "typical_p": lambda: rng.uniform(0.7, 1),
               "presence_penalty": lambda: rng.uniform(-1, 1), "frequency_penalty": lambda: rng.uniform(-1, 1),
               "repetition_penalty": lambda: rng.uniform(0.9, 1.3), "dry_multiplier": lambda: rng.uniform(0, 1),
               "logit_bias": lambda: {str(rng.randrange(vocab)): rng.uniform(-5, 5) for _ in range(4)},
               "allowed_token_ids": lambda: sorted(rng.sample(range(vocab), vocab // 2)),
               "bad_words": lambda: [[rng.randrange(vocab), rng.randrange(vocab)] for _ in range(4)]}
    for key in rng.sample(sorted(options), rng.randint(0, 4)):
        body[key] = options[key]()
    if rng.random() < 0.15 and not {"top_k", "top_p", "min_p", "top_a", "typical_p"} & set(body):
        body.update(mirostat_mode=2, mirostat_tau=3)
    return body


def draw_adapters(rng, checkpoint, folder):
    """Some adapters, each of some linears, in a folder for --lora-dir; their names."""
    shapes = adapters.linears(checkpoint)
    for i in range(3):
        chosen = rng.sample(sorted(shapes), rng.randint(1, len(shapes)))
        adapters.write(pathlib.Path(folder) / f"adapter{i}", {module: shapes[module] for module in chosen}, rng.randrange(2**31),
                       rng.choice([1, 4, 9]), size=0.1)
    return [f"adapter{i}" for i in range(3)]


def draw_requests(rng, vocab, context, models):
    """Prompts that repeat themselves (guesses hit), share fronts (the cache hits) or neither."""
    shared = [rng.randrange(3, vocab) for _ in range(context // 3)]
    requests = []
    for _ in range(REQUESTS):
        length = rng.choice([1, 2, 15, 16, 17, context // 4])
        tail = [rng.randrange(3, vocab) for _ in range(length)]
        if rng.random() < 0.4:
            tail = (tail[:rng.randint(1, 4)] * length)[:length]
        prompt = shared[:rng.choice([0, 0, 16, len(shared)])] + tail
        body = {"prompt": prompt, "max_tokens": rng.randint(1, context - len(prompt)), "ignore_eos": True,
                "logprobs": rng.choice([0, 2]), "return_token_ids": True, "prompt_logprobs": rng.choice([None, 0, 3]), "model": rng.choice(models), **draw_sampling(rng, vocab)}
        if rng.random() < 0.4:
            body["nvext"] = {"logits_processors": [draw_processor(rng, vocab, kind) for kind in rng.sample(KINDS, rng.randint(1, 3))]}
        requests.append(body)
    return requests


def run_all(server, requests, workers, noise=None):
    """The essence of each answer; a failed one as it came."""
    def run(i):
        if noise is not None and noise.random() < 0.3:
            leave_early(server, noise.choice(requests), noise.randrange(6))
        status, answer = server.post("/v1/completions", requests[i], timeout=600)
        return essence(answer) if status == 200 else (status, answer)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, range(len(requests))))


def leave_early(server, body, lines):
    connection = server.connection()
    connection.request("POST", "/v1/completions", body=json.dumps({**body, "stream": True}),
                       headers={"Content-Type": "application/json"})
    response = connection.getresponse()
    for _ in range(lines):
        response.readline()
    response.close()
    connection.close()


class CombinedAnswer(unittest.TestCase):
    def test_alone_equals_everything_at_once(self):
        rng = random.Random(SEED)
        happened = {"preemptions": 0, "prefix_hit_tokens": 0, "accepted_tokens": 0, "swapped_in_blocks": 0}
        with tempfile.TemporaryDirectory() as scratch:
            for name in GENERATING:
                with self.subTest(name):
                    folder = harness.OWN_MODELS / name
                    names = draw_adapters(rng, folder, f"{scratch}/{name}-adapters")
                    drafter = ["--speculation", "lookup"]
                    if rng.random() < 0.4:
                        folder = quantized(folder, name, scratch)
                    elif name.startswith("deepseek-v3"):
                        folder = pathlib.Path(draft_heads.add_prediction_layer(folder, f"{scratch}/mtp/{name}"))
                        drafter = ["--speculation", "mtp"]
                    elif name.startswith("llama"):
                        target, head = draft_heads.make_eagle(folder, f"{scratch}/target/{name}", f"{scratch}/eagle/{name}")
                        folder = pathlib.Path(target)
                        drafter = ["--speculation", "eagle", "--draft-model", head]
                    self.check(folder, rng, happened, ["--lora-dir", f"{scratch}/{name}-adapters"], names, drafter)
        for what, count in happened.items():
            self.assertGreater(count, 0, f"seed {SEED}: {what} never happened")

    def check(self, folder, rng, happened, flags, names, drafter):
        config = json.loads((folder / "config.json").read_text())
        context = min(config["max_position_embeddings"], 224)
        requests = draw_requests(rng, config["vocab_size"], context, [folder.name, *names])
        bits = ["--kv-dtype", rng.choice(["bf16", "fp16", "fp8", "int8", "fp32"]), "--max-context", str(context), *flags,
                *(flag for entry in PROCESSORS for flag in ("--logits-processor", entry))]
        memory = 4 << 20
        with harness.Server(str(folder), *bits, "--max-batch", "4096", "--kv-memory", str(memory)) as server:
            alone = run_all(server, requests, 1)
            tokens = 16 * total(server.metrics(), "dynamo_frontend_model_total_kv_blocks")
        crowd = ["--max-batch", str(CONCURRENCY), "--max-batched-tokens", str(rng.choice([8, 32, 64])), "--block-size",
                 rng.choice(["8", "16"]), "--kv-memory", str(int(memory * 2 * context / tokens)), "--admission", "eager", *drafter,
                 "--draft-max-batch", str(CONCURRENCY), "--preemption", rng.choice(["recompute", "swap"]), "--swap-memory",
                 "4MiB", "--lora-slots", rng.choice(["1", "2", "4"]), *rng.choice([["--overlap"], []])]
        with harness.Server(str(folder), *bits, *crowd) as server:
            crowded = run_all(server, requests, CONCURRENCY, noise=rng)
            metrics = server.metrics()
        refused = [answer for answer in alone if not isinstance(answer, dict)]  # rules may exclude every token
        self.assertEqual([answer for answer in refused if "no token may follow" not in str(answer)], [])
        self.assertLess(len(refused), REQUESTS / 4)
        for i, (one, other) in enumerate(zip(alone, crowded)):
            self.assertEqual(one, other, f"seed {SEED}, {folder.name}, request {i} of {bits} and {crowd}: {requests[i]}")
        for what in happened:
            happened[what] += total(metrics, f"pixii_engine_{what}_total")


if __name__ == "__main__":
    harness.main()
