"""Promise 1 through the server: a request's tokens, text and logprobs are the same bits whatever runs beside it."""
import json
import random
import threading
import unittest

import harness

SEED = 20261121
REQUESTS = 200
CONCURRENCY = 32
TOKENS_MAX = 1000


def make_requests(rng):
    """Mixed lengths and sampling; several share long prefixes so that the cache is warm for some of them."""
    shared = " ".join(f"Item {i} is {rng.choice(['red', 'blue', 'green'])}." for i in range(60))
    requests = []
    for i in range(REQUESTS):
        words = " ".join(rng.choice(["count", "sort", "what", "is", "seven", "Hello", "list", "9", "41"])
                         for _ in range(rng.choice([1, 5, 30, 200])))
        prompt = (shared + " " + words) if rng.random() < 0.5 else words
        body = {"prompt": prompt, "max_tokens": int(2 ** rng.uniform(0, 9.97)), "ignore_eos": rng.random() < 0.7,
                "logprobs": rng.choice([0, 3]), "return_token_ids": True}
        if rng.random() < 0.5:
            body["temperature"] = 0
        else:
            body.update(temperature=rng.choice([0.5, 1.0, 1.4]), seed=rng.randrange(2**31), top_p=rng.choice([1, 0.9]),
                        top_k=rng.choice([0, 40]), presence_penalty=rng.choice([0, 0.5]),
                        repetition_penalty=rng.choice([1, 1.1]))
        requests.append(body)
    requests[0]["max_tokens"] = TOKENS_MAX
    requests[0]["ignore_eos"] = True
    return requests


def essence(answer):
    """Everything the promise covers; not ids, times or cache counts."""
    choice = answer["choices"][0]
    return {"text": choice["text"], "token_ids": choice["token_ids"], "logprobs": choice["logprobs"],
            "finish_reason": choice["finish_reason"], "prompt_logprobs": choice.get("prompt_logprobs"), "prompt_token_ids": choice.get("prompt_token_ids", answer.get("prompt_token_ids"))}


class OneAnswer(unittest.TestCase):
    def test_alone_equals_crowded_chunked_cached_preempted_and_cancelled_beside(self):
        rng = random.Random(SEED)
        requests = make_requests(rng)
        with harness.Server("tiny-chat", "--max-batch", "1") as server:
            alone = []
            for body in requests:
                status, answer = server.post("/v1/completions", body)
                self.assertEqual(status, 200, answer)
                alone.append(essence(answer))
        # A small pool and a small token budget force preemption and chunked prefill.
        with harness.Server("tiny-chat", "--max-batch", str(CONCURRENCY), "--max-batched-tokens", "96", "--kv-memory", "24MiB",
                            "--max-context", "2048") as server:
            crowded = [None] * len(requests)
            order = list(range(len(requests)))
            rng.shuffle(order)
            lock = threading.Lock()
            stop_noise = threading.Event()

            def work():
                while True:
                    with lock:
                        if not order:
                            return
                        i = order.pop()
                    status, answer = server.post("/v1/completions", requests[i], timeout=600)
                    crowded[i] = essence(answer) if status == 200 else answer

            def noise(seed):
                local = random.Random(seed)
                while not stop_noise.is_set():
                    body = {"prompt": local.choice(requests)["prompt"], "max_tokens": 500, "ignore_eos": True, "stream": True}
                    connection = server.connection()
                    connection.request("POST", "/v1/completions", body=json.dumps(body),
                                       headers={"Content-Type": "application/json"})
                    response = connection.getresponse()
                    for _ in range(local.randrange(8)):
                        response.readline()
                    response.close()
                    connection.close()

            workers = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
            noises = [threading.Thread(target=noise, args=(SEED + i,)) for i in range(2)]
            for thread in workers + noises:
                thread.start()
            for thread in workers:
                thread.join()
            stop_noise.set()
            for thread in noises:
                thread.join()
            metrics = server.metrics()
        different = [i for i in range(len(requests)) if alone[i] != crowded[i]]
        self.assertEqual(different, [], f"seed {SEED}: first difference: {requests[different[0]] if different else None}\n"
                         f"{alone[different[0]] if different else None}\n{crowded[different[0]] if different else None}")
        self.assertGreater(total(metrics, "pixii_engine_preemptions_total"), 0, "the pool was too large to preempt")
        self.assertGreater(total(metrics, "pixii_engine_prefix_hit_tokens_total"), 0, "the cache never hit")


    def test_answers_that_are_computed_again_without_a_cache_are_the_same(self):
        requests = make_requests(random.Random(SEED))[:30]
        with harness.Server("tiny-chat", "--audit-rate", "3", "--max-batched-tokens", "96", "--kv-memory", "24MiB", "--max-context", "2048") as server:
            for body in requests:
                self.assertEqual(server.post("/v1/completions", body)[0], 200)
            audits = lambda: sum(v for k, v in server.metrics().items() if k.startswith("pixii_answer_audits_total"))
            server.wait_for(lambda: audits() == 10, 60, "ten audits")
            metrics = server.metrics()
        self.assertEqual(total(metrics, "pixii_answer_mismatch_total"), 0)
        self.assertEqual([v for k, v in metrics.items() if 'result="equal"' in k], [10])


def total(metrics, name):
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


if __name__ == "__main__":
    harness.main()
