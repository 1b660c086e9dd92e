"""Rows of the acceptance tables on migration (A3, D1 to D6) and cancellation (A4, D7, D9, D10), by number.

Workers with mock engines at a pace that leaves time to hit a token; what real engines carry along is in cluster_test.py.
"""
import contextlib
import itertools
import json
import os
import random
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness
from attached_engine_test import HELLO, Attached, tokens_of
from fake_engines import FakeEngine

PATH = "/v1/completions"
CHAT = "/v1/chat/completions"
BLOCK = 16
MOCK = ("--engine", "mock", "--kv-tokens", "65536", "--max-context", "8192")
MODES = ("round-robin", "random", "power-of-two", "least-loaded", "kv")
STORM_SECONDS = int(os.environ.get("PIXII_STORM_SECONDS", 6))
TOKENS = [100 + i for i in range(6)]


def mock(step, *more):
    return (*MOCK, "--mock-step-time", step, *more)


def fleet(workers, step, *frontend_flags, worker_flags=()):
    return cluster.Cluster(workers, worker_flags=mock(step, *worker_flags), frontend_flags=frontend_flags)


def completion(count, prompt=TOKENS, **more):
    return {"prompt": prompt, "max_tokens": count, "ignore_eos": True, "return_token_ids": True, **more}


class Stream:
    """A stream of one choice, read token by token."""

    def __init__(self, frontend, body):
        self.events = frontend.stream(PATH, {**body, "stream_options": {"include_usage": True}})
        self.tokens, self.usage, self.finish, self.error = [], None, None, None

    def read(self, count=None):
        """Until it has so many tokens, or to its end; itself."""
        while count is None or len(self.tokens) < count:
            event = next(self.events, None)
            if event is None:
                break
            self.error = event.get("error") or self.error
            self.usage = event.get("usage") or self.usage
            for choice in event.get("choices", []):
                self.tokens += choice.get("token_ids") or []
                self.finish = choice.get("finish_reason") or self.finish
            if self.error:
                break
        return self

    def close(self):
        self.events.close()


def kill_at(both, body, *counts):
    """A stream whose worker is killed each time that the client has so many tokens."""
    stream = Stream(both.frontend, body)
    for count in counts:
        stream.read(max(count - 2, 1))
        victim = cluster.serving(both.workers)
        stream.read(count)
        both.kill(victim)
    return stream.read()


class Migration(unittest.TestCase):
    def test_a_stream_outlives_its_worker_once_with_one_move(self):  # A3.1, A3.7, D1, D3
        body = completion(200)
        with fleet(3, "5ms", "--migration-limit", "1") as both:
            expected = Stream(both.frontend, body).read()
            self.assertEqual(len(expected.tokens), 200)
            for moves, count in enumerate((10, 50), 1):
                got = kill_at(both, body, count)
                self.assertEqual((got.tokens, got.finish, got.usage), (expected.tokens, "length", {
                    **expected.usage, "prompt_tokens_details": got.usage["prompt_tokens_details"]}))
                self.assertEqual((got.usage["prompt_tokens"], got.usage["completion_tokens"]), (len(TOKENS), 200))
                self.assertEqual(both.migrations(), {"new_request": 0, "ongoing_request": moves})
                both.add_worker()
                both.wait_for_workers(3)
            # Two deaths are one more than it may move: the client hears of the last.
            got = kill_at(both, body, 10, 50)
            self.assertEqual(got.error["code"], "disconnected", got.error)
            self.assertEqual(got.tokens, expected.tokens[:len(got.tokens)])
            self.assertEqual(both.migrations()["ongoing_request"], 3)

    def test_a_request_that_killed_two_workers_gets_no_third(self):  # A3.9
        with fleet(3, "5ms") as both:
            got = kill_at(both, completion(400), 10, 50)
            self.assertEqual(got.error["code"], "request_poisoned", got.error)
            self.assertEqual(both.migrations()["ongoing_request"], 1)
            self.assertEqual(cluster.dump(both.workers[0])["requests"], 0)
            self.assertEqual(len(Stream(both.frontend, completion(20)).read().tokens), 20)

    def test_a_worker_that_does_not_answer_or_is_not_there_costs_no_request(self):  # A3.3, D2
        with fleet(2, "5ms", "--worker-dead-after", "1s") as both:
            expected = Stream(both.frontend, completion(20)).read().tokens
            grey = both.workers[0]
            cluster.pause(grey)
            try:
                with ThreadPoolExecutor(2) as pool:  # in turns: one goes to each
                    streams = list(pool.map(lambda _: Stream(both.frontend, completion(20)).read(), range(2)))
                self.assertEqual([one.tokens for one in streams], [expected] * 2)
                self.assertEqual(both.migrations(), {"new_request": 1, "ongoing_request": 0})
                # Registered still, and refusing connections: nothing goes there.
                both.kill(grey)
                self.assertEqual(cluster.total(both.frontend, "dynamo_frontend_router_workers"), 2)
                for _ in range(4):
                    self.assertEqual(Stream(both.frontend, completion(20)).read().tokens, expected)
                self.assertEqual(both.migrations(), {"new_request": 1, "ongoing_request": 0})
            finally:
                if grey in both.workers:
                    cluster.resume(grey)

    def test_a_sequence_moves_up_to_the_limit_and_not_beyond(self):  # A3.4, D3
        for count, moves in ((4, True), (5, False)):
            with fleet(2, "250ms", "--migration-max-seq-len", str(len(TOKENS) + 4)) as both:
                got = kill_at(both, completion(8), count)
                self.assertEqual(both.migrations()["ongoing_request"], int(moves))
                self.assertEqual(cluster.total(both.frontend, "dynamo_frontend_model_migration_max_seq_len_exceeded_total"),
                                 int(not moves))
                self.assertEqual((len(got.tokens), got.error and got.error["code"]), (8, None) if moves else (count, "disconnected"))

    def test_who_hangs_up_while_it_moves_is_sent_nowhere(self):  # A3.8, D4
        with fleet(1, "5ms") as both:
            stream = Stream(both.frontend, completion(4000)).read(5)
            both.kill(both.workers[0])
            both.wait_for_workers(0)
            self.assertEqual(cluster.total(both.frontend, "dynamo_frontend_active_requests"), 1)
            stream.close()
            both.frontend.wait_for(lambda: cluster.total(both.frontend, "dynamo_frontend_active_requests") == 0, 2, "it is forgotten")
            late = both.add_worker()
            both.wait_for_workers(1)
            self.assertEqual(len(Stream(both.frontend, completion(20)).read().tokens), 20)
            state = cluster.dump(late)
            self.assertEqual((state["running"], state["requests"]), (0, 0))
            self.assertLess(state["sampled_tokens"], 30)  # those 20, and what it asks itself

    def test_no_mode_tries_the_dead_worker_again(self):  # D5
        with fleet(3, "10ms", "--worker-dead-after", "1s", "--router-mode", MODES[0]) as both, contextlib.ExitStack() as ends:
            frontends = [both.frontend] + [ends.enter_context(both.frontend_of("--worker-dead-after", "1s", "--router-mode", mode))
                                           for mode in MODES[1:]]
            for frontend in frontends:
                frontend.wait_for(lambda one=frontend: cluster.total(one, "dynamo_frontend_model_workers") == 3, 20, "three workers")
            expected = Stream(frontends[0], completion(250)).read().tokens
            with ThreadPoolExecutor(len(frontends) * 3) as pool:
                streams = [(frontend, Stream(frontend, completion(250))) for frontend in frontends for _ in range(3)]
                list(pool.map(lambda one: one[1].read(3), streams))
                cluster.pause(both.workers[0])  # as dead as can be, but its port is open
                try:
                    for got in pool.map(lambda one: one[1].read(), streams):
                        self.assertEqual(got.tokens, expected)
                finally:
                    cluster.resume(both.workers[0])
            moved = [sum(both.migrations(frontend).values()) for frontend in frontends]
            print("moves of three streams by mode:", dict(zip(MODES, moved)))
            self.assertGreaterEqual(moved[0], 1)
            self.assertLessEqual(max(moved), 3, "a stream moved twice")
            cluster.wait_until_idle(both.workers, 5)

    def test_no_mode_goes_back_to_an_engine_that_broke_off(self):  # D5; its worker is well, so only the exclusion keeps it away
        with FakeEngine("vllm") as broken, FakeEngine("vllm") as one, FakeEngine("vllm") as two, \
                Attached([broken, one, two]) as both, contextlib.ExitStack() as ends:
            seeds = itertools.count(1)
            broken.script = "cut 2"
            for mode in MODES:
                frontend = ends.enter_context(cluster.Frontend(both.folder.name, "--router-mode", mode))
                frontend.wait_for(lambda: cluster.total(frontend, "dynamo_frontend_model_workers") == 3, 20, "three workers")
                for _ in range(8):
                    self.assertEqual(len(tokens_of(frontend, {**HELLO, "seed": next(seeds)})[1]), 12, mode)
            asked = [body["seed"] for body in broken.seen]
            self.assertGreater(len(asked), len(MODES))
            self.assertEqual(len(asked), len(set(asked)), "a request came back")

    def test_a_storm_of_deaths_changes_no_answer(self):  # D6
        bodies = [completion(40, seed=seed, temperature=1.0) for seed in range(16)]
        draw = random.Random(6)
        with fleet(4, "5ms") as both:
            expected = [Stream(both.frontend, body).read().tokens for body in bodies]
            done, ends = threading.Event(), []

            def drive(number):
                which = number
                while not done.is_set():
                    which = (which + 1) % len(bodies)
                    got = Stream(both.frontend, bodies[which]).read()
                    self.assertEqual(got.tokens, expected[which][:len(got.tokens)])
                    ends.append(got.error["code"] if got.error else "whole" if len(got.tokens) == 40 else "short")

            with ThreadPoolExecutor(20) as pool:
                drivers = [pool.submit(drive, number) for number in range(20)]
                try:
                    began = time.monotonic()
                    for second in range(1, STORM_SECONDS):
                        harness.wait_for(lambda at=began + second: time.monotonic() >= at, 5, "the next death")
                        both.kill(draw.choice(both.workers))
                        both.add_worker()
                        both.wait_for_workers(4)
                finally:
                    done.set()
                for driver in drivers:
                    driver.result()
            print(f"{len(ends)} requests, {cluster.total(both.frontend, 'dynamo_frontend_model_migration_total'):.0f} moves, "
                  f"{100 * ends.count('whole') / len(ends):.2f} % whole")
            self.assertEqual(set(ends) - {"whole", "request_poisoned"}, set())
            self.assertGreater(ends.count("whole") / len(ends), 0.95)


class Cancellation(unittest.TestCase):
    def counts(self, both):
        """What a cancel changes: frontend's, worker's."""
        return (cluster.total(both.frontend, "dynamo_frontend_model_cancellation_total"), cluster.dump(both.workers[0])["cancelled"],
                cluster.total(both.frontend, "dynamo_frontend_requests_total", 'status="error",error_type="internal'))

    def idle_within(self, both, seconds):
        cluster.wait_until_idle(both.workers, seconds)
        both.frontend.wait_for(lambda: cluster.total(both.frontend, "dynamo_frontend_worker_active_decode_blocks") == 0, seconds,
                               "the router counts nothing")

    def test_a_stream_that_is_closed_costs_two_steps(self):  # A4.1, A4.6, D7
        with fleet(1, "50ms") as both:
            worker = both.workers[0]
            Stream(both.frontend, completion(2)).read()
            before, counts = cluster.dump(worker), self.counts(both)
            for number in range(1, 4):
                sampled = cluster.dump(worker)["sampled_tokens"]
                stream = Stream(both.frontend, completion(4000)).read(5)
                stream.close()
                self.idle_within(both, 1)
                state = cluster.dump(worker)
                self.assertLessEqual(state["sampled_tokens"] - sampled, 5 + 1 + 2)  # one on its way, two after the cancel: 150 ms
                self.assertEqual(state["blocks_pinned"], before["blocks_pinned"])
                both.frontend.wait_for(lambda n=number: self.counts(both) == (counts[0] + n, counts[1] + n, counts[2]), 2, "it is counted once")
            self.assertEqual(cluster.total(both.frontend, "dynamo_frontend_model_cancellation_total",
                                           'endpoint="completions",request_type="stream"'), 3)

    def test_a_prompt_that_nobody_waits_for_is_not_computed_to_its_end(self):  # A4.2
        with fleet(1, "1ms", worker_flags=("--mock-prefill-time", "1ms", "--max-batched-tokens", "256")) as both:
            worker = both.workers[0]
            before = cluster.dump(worker)["computed_tokens"]
            for stream in (True, False):  # A4.7
                begun = cluster.dump(worker)["computed_tokens"]
                with contextlib.closing(both.frontend.connection()) as connection:
                    prompt = [100 + (i * 7 + stream) % 800 for i in range(4000)]
                    connection.request("POST", PATH, body=json.dumps({**completion(4000, prompt), "stream": stream}),
                                       headers={"Content-Type": "application/json"})
                    harness.wait_for(lambda: cluster.dump(worker)["computed_tokens"] > begun, 10, "a chunk is computed")
                self.idle_within(both, 1.5)
                self.assertLessEqual(cluster.dump(worker)["computed_tokens"] - begun, 256 * 5)
            self.assertLess(cluster.dump(worker)["computed_tokens"] - before, 4000)

    def test_who_leaves_the_routers_queue_was_never_at_a_worker(self):  # A4.3
        flags = ("--mock-prefill-time", "2ms", "--max-batched-tokens", "256")
        with fleet(1, "1ms", "--router-mode", "kv", "--router-queue-threshold", "0", worker_flags=flags) as both:
            worker = both.workers[0]
            before = cluster.dump(worker)["computed_tokens"]
            first = [100 + i % 700 for i in range(1500)]

            def pending():
                return cluster.total(both.frontend, "dynamo_frontend_router_queue_pending_requests")

            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(lambda: Stream(both.frontend, completion(3, first)).read().tokens)
                harness.wait_for(lambda: cluster.dump(worker)["running"] == 1, 10, "the first runs")
                with contextlib.closing(both.frontend.connection()) as connection:
                    connection.request("POST", PATH, body=json.dumps(completion(10, [500 + i % 300 for i in range(1500)])),
                                       headers={"Content-Type": "application/json"})
                    both.frontend.wait_for(lambda: pending() == 1, 5, "the second waits")
                both.frontend.wait_for(lambda: pending() == 0, 2, "nobody waits")
                self.assertEqual(len(running.result()), 3)
            cluster.wait_until_idle(both.workers)
            self.assertLess(cluster.dump(worker)["computed_tokens"] - before, 1500 + 64)

    def test_all_that_a_request_became_ends_with_it(self):  # A4.7, D9
        with fleet(2, "20ms", worker_flags=("--max-batch", "64")) as both:
            for body, sequences in (({"prompt": [TOKENS, TOKENS[1:], TOKENS[2:]], "n": 4}, 12), ({"prompt": TOKENS, "n": 8}, 8),
                                    ({"prompt": TOKENS, "best_of": 4, "n": 1}, 4)):
                for stream in (True, False):
                    if stream and "best_of" in body:
                        continue  # it has no stream
                    with contextlib.closing(both.frontend.connection()) as connection:
                        connection.request("POST", PATH, body=json.dumps({**completion(4000), **body, "temperature": 1.0, "stream": stream}),
                                           headers={"Content-Type": "application/json"})
                        harness.wait_for(lambda: sum(cluster.dump(one)["running"] for one in both.workers) == sequences, 10,
                                         f"{sequences} sequences")
                    self.idle_within(both, 1)

    def test_500_cancels_at_random_leave_frontend_and_workers_as_before(self):  # A4.8
        draw = random.Random(8)
        with fleet(2, "2ms", worker_flags=("--max-batch", "64")) as both:
            def burst(count):
                def one(number):
                    words = {**completion(2000, [100 + (number * 31 + i) % 800 for i in range(draw.choice([3, 40, 700]))]),
                             "stream": draw.random() < 0.5}
                    with contextlib.closing(both.frontend.connection()) as connection:
                        connection.request("POST", PATH, body=json.dumps(words), headers={"Content-Type": "application/json"})
                        if words["stream"]:
                            response = connection.getresponse()
                            for _ in range(draw.randrange(8)):
                                response.readline()
                            response.close()

                with ThreadPoolExecutor(16) as pool:
                    list(pool.map(one, range(count)))
                cluster.wait_until_idle(both.workers, 5)
                both.frontend.wait_for(lambda: cluster.total(both.frontend, "dynamo_frontend_active_requests") == 0, 2, "nothing runs")

            burst(300)
            burst(300)  # buffers have their size
            everybody = [both.frontend, *both.workers]
            before = [one.process_figures() for one in everybody]
            burst(500)
            both.frontend.wait_for(lambda: both.frontend.process_figures()["descriptors"] <= before[0]["descriptors"], 2, "descriptors closed")
            for one, then in zip(everybody, before):
                now = one.process_figures()
                self.assertLess(now["rss_kib"], then["rss_kib"] * 1.02 + 1024, (then, now))
                self.assertEqual(now["threads"], then["threads"])
                self.assertLessEqual(now["descriptors"], then["descriptors"])


if __name__ == "__main__":
    harness.main()
