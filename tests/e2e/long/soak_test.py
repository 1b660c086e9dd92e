"""Half an hour of mixed load with cancels: memory, descriptors and threads stay where they were after the first minutes."""
import json
import pathlib
import random
import sys
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402

MINUTES = 30
WARM_MINUTES = 5
WORKERS = 12
GROWTH_KIB_MAX = 4 * 1024


class Soak(unittest.TestCase):
    def test_half_an_hour_of_load_with_cancels_leaves_memory_flat(self):
        with harness.Server("tiny-chat", "--max-batch", "16", "--kv-memory", "64MiB", "--max-context", "4096") as server:
            end = time.monotonic() + MINUTES * 60
            failures = []

            def work(seed):
                rng = random.Random(seed)
                while time.monotonic() < end:
                    body = {"prompt": "count " * rng.choice([1, 30, 400]), "max_tokens": rng.choice([1, 30, 300]),
                            "ignore_eos": True, "stream": True, "seed": rng.randrange(2**31)}
                    connection = server.connection()
                    connection.request("POST", "/v1/completions", body=json.dumps(body),
                                       headers={"Content-Type": "application/json"})
                    response = connection.getresponse()
                    if response.status != 200:
                        failures.append((response.status, response.read()[:200]))
                    elif rng.random() < 0.3:
                        response.readline()
                    elif b"[DONE]" not in response.read():
                        failures.append("a stream without its end")
                    response.close()
                    connection.close()

            threads = [threading.Thread(target=work, args=(i,)) for i in range(WORKERS)]
            for thread in threads:
                thread.start()
            harness.wait_for(lambda: time.monotonic() > end - (MINUTES - WARM_MINUTES) * 60, MINUTES * 60, "warm-up")
            before = server.process_figures()
            for thread in threads:
                thread.join()
            after = server.process_figures()
            self.assertEqual(failures, [])
            self.assertLess(after["rss_kib"] - before["rss_kib"], GROWTH_KIB_MAX, (before, after))
            self.assertEqual(after["threads"], before["threads"])


if __name__ == "__main__":
    harness.main()
