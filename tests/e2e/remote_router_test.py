"""Frontends that ask a router's process, and frontends that tell each other what they send."""
import concurrent.futures
import os
import signal
import unittest

import cluster
import harness
from router_service_test import Router, loads

FLAGS = ("--engine", "mock", "--kv-tokens", "16384", "--block-size", "16", "--mock-step-time", "5ms")
LONG = {"model": "tiny-chat", "prompt": "one two", "max_tokens": 6000, "ignore_eos": True}  # 30 s: whoever looks has the time


def chat(frontend, text, **more):
    status, answer = frontend.post("/v1/completions", {"model": "tiny-chat", "prompt": text, "max_tokens": 8, **more})
    assert status == 200, answer
    return answer


def active(router):
    return sum(row[2] for row in loads(router).values())


class RemoteRouter(unittest.TestCase):
    def test_requests_go_where_the_router_says_and_nobody_notices_its_death(self):
        with cluster.Cluster(2, worker_flags=FLAGS) as both:
            with both.frontend_of("--router-url", "discovery") as frontend, \
                    both.frontend_of("--router-url", "discovery") as other:
                router = Router(both.folder.name)
                try:
                    router.wait_for(lambda: len(loads(router)) == 2, 20, "two workers")
                    # While a stream runs the router counts it, whoever sent it; afterwards nothing.
                    for asking in (frontend, other):
                        self.while_streaming(asking, lambda: router.wait_for(lambda: active(router) == 1, 10, "the stream"))
                        router.wait_for(lambda: active(router) == 0, 10, "its end")
                    # One prompt again and again goes where it is cached: that only the router knows.
                    text = "the same words for every request " * 30
                    chat(frontend, text)
                    at = self.holder(router, frontend, text)
                    self.assertEqual({self.served_by(one, text) for one in (frontend, other) * 4}, {at})
                    expected = chat(frontend, "a b c", seed=5)["choices"]
                    with concurrent.futures.ThreadPoolExecutor(4) as pool:
                        asked = [pool.submit(chat, one, "a b c", seed=5) for one in (frontend, other) * 40]
                        router.kill()
                        self.assertEqual([one.result()["choices"] for one in asked], [expected] * 80)
                finally:
                    router.kill()
                # It comes back, and learns what runs.
                with Router(both.folder.name) as again:
                    self.while_streaming(frontend, lambda: again.wait_for(lambda: active(again) == 1, 20, "the stream"))
                    again.wait_for(lambda: active(again) == 0, 10, "its end")

    def test_a_router_that_stands_still_delays_and_fails_nobody(self):
        with cluster.Cluster(1, worker_flags=FLAGS) as one:
            with Router(one.folder.name) as router, one.frontend_of("--router-url", "discovery") as frontend:
                router.wait_for(lambda: len(loads(router)) == 1, 20, "a worker")
                self.while_streaming(frontend, lambda: router.wait_for(lambda: active(router) == 1, 10, "the stream"))
                os.kill(router.process.pid, signal.SIGSTOP)
                for _ in range(5):
                    chat(frontend, "a b c")
                os.kill(router.process.pid, signal.SIGCONT)

    def test_workers_with_other_blocks_take_over(self):
        with cluster.Cluster(1, worker_flags=FLAGS) as one:
            with Router(one.folder.name) as router, one.frontend_of("--router-url", "discovery") as frontend:
                router.wait_for(lambda: len(loads(router)) == 1, 20, "a worker")
                old = one.workers[0]
                flags = ("32" if flag == "16" else flag for flag in FLAGS)
                one.workers.append(cluster.Worker(one.folder.name, "tiny-chat", *flags))
                router.wait_for(lambda: len(loads(router)) == 2, 20, "both")
                for asking in (frontend, one.frontend) * 5:
                    chat(asking, "a b c")
                one.kill(old)
                router.wait_for(lambda: len(loads(router)) == 1, 20, "the new one alone")
                for asking in (frontend, one.frontend):
                    asking.wait_for(lambda: asking.post("/v1/completions", {"prompt": "a", "max_tokens": 1})[0] == 200,
                                    10, "answers")
                self.while_streaming(frontend, lambda: router.wait_for(lambda: active(router) == 1, 10, "the stream"))
                router.wait_for(lambda: active(router) == 0, 10, "its end")

    def while_streaming(self, frontend, check):
        stream = frontend.stream("/v1/completions", LONG)
        next(stream)
        check()
        stream.close()

    def holder(self, router, frontend, text):
        """The only worker that has the text cached, once it says so."""
        ids = frontend.post("/tokenize", {"model": "tiny-chat", "prompt": text})[1]["tokens"]

        def found():
            rows = router.post("/overlap_scores", {"token_ids": ids})[1]["scores"]
            return [row["worker_id"] for row in rows if row["device_blocks"] > 0]
        router.wait_for(lambda: len(found()) == 1, 10, "a holder")
        return found()[0]

    def served_by(self, frontend, text):
        answer = chat(frontend, text, nvext={"extra_fields": ["worker_id"]})
        return answer["nvext"]["worker_id"]["decode_worker_id"]


class Replicas(unittest.TestCase):
    def test_a_frontend_counts_what_another_one_sends(self):
        flags = ("--router-mode", "least-loaded", "--router-replica-sync")
        with cluster.Cluster(2, worker_flags=FLAGS, frontend_flags=flags) as both:
            with both.frontend_of(*flags) as other:
                def seen():
                    _, why = other.post("/router/explain", {"model": "tiny-chat", "prompt": "x"})
                    return sum(row["input"]["active_requests"] for row in why["candidates"])
                stream = both.frontend.stream("/v1/completions", LONG)
                next(stream)
                other.wait_for(lambda: seen() == 1, 10, "the other's stream")
                stream.close()
                other.wait_for(lambda: seen() == 0, 10, "its end")


if __name__ == "__main__":
    harness.main()
