"""Promise 3 through the server: cancelled requests leave nothing behind."""
import json
import random
import threading
import unittest

import harness

CANCELS = 500
SEED = 7


def total(metrics, name):
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


class Cancel(unittest.TestCase):
    def idle(self, server):
        metrics = server.metrics()
        return (total(metrics, "pixii_engine_running") == 0 and total(metrics, "pixii_engine_waiting") == 0
                and total(metrics, "pixii_engine_blocks_pinned") == 0)

    def burst(self, server, count, seed):
        """`count` streams cut after 0 to 20 lines, 16 at a time, long prompts among them."""
        rng = random.Random(seed)
        jobs = [(rng.randrange(21), rng.choice([3, 40, 700]), rng.random() < 0.5) for _ in range(count)]
        lock = threading.Lock()

        def work():
            while True:
                with lock:
                    if not jobs:
                        return
                    lines, words, streamed = jobs.pop()
                body = {"prompt": "count " * words, "max_tokens": 2000, "ignore_eos": True, "stream": streamed}
                connection = server.connection()
                connection.request("POST", "/v1/completions", body=json.dumps(body),
                                   headers={"Content-Type": "application/json"})
                if streamed:
                    response = connection.getresponse()
                    for _ in range(lines):
                        response.readline()
                    response.close()
                connection.close()

        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_500_random_cancels_leave_blocks_descriptors_threads_and_memory_as_before(self):
        with harness.Server("tiny-chat", "--max-batch", "16") as server:
            self.burst(server, 100, SEED)  # warm: buffers and caches reach their size
            server.wait_for(lambda: self.idle(server), 2, "idle after the warm-up")
            before = server.process_figures()
            self.burst(server, CANCELS, SEED + 1)
            server.wait_for(lambda: self.idle(server), 2, "idle after 500 cancels")
            server.wait_for(lambda: server.process_figures()["descriptors"] <= before["descriptors"], 2, "descriptors closed")
            after = server.process_figures()
            self.assertEqual(after["threads"], before["threads"])
            self.assertLess(after["rss_kib"], before["rss_kib"] + 8 * 1024)
            status, _ = server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 3})
            self.assertEqual(status, 200)


if __name__ == "__main__":
    harness.main()
