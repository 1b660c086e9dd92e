"""Rows of the router's acceptance table that need time to pass or several frontends: B20 to B22, B26 to B28, C14, C17. Real processes."""
import json
import pathlib
import random
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness
from router_test import PATH, WORKER, Fleet, tokens

PENDING = "dynamo_frontend_router_queue_pending_requests"
PENDING_TOKENS = "dynamo_frontend_router_queue_pending_isl_tokens"
SESSION = {"x-dynamo-session-id": "mine"}
PREFILL = (*WORKER, "--mock-prefill-time", "1ms", "--max-batched-tokens", "256")


def pass_time(seconds):
    """What the row is about is that time passes."""
    until = time.monotonic() + seconds
    harness.wait_for(lambda: time.monotonic() >= until, seconds + 5, "the time")


def active(frontend):
    """Requests that a frontend counts at all workers, its own and those that others told it of."""
    _, why = frontend.post("/router/explain", {"model": "tiny-chat", "prompt": "x"})
    return sum(row["input"]["active_requests"] for row in why["candidates"])


class Queue(unittest.TestCase):
    def ask(self, fleet, seed, count, headers=None):
        status, _, answer = fleet.try_ask(tokens(seed, count), headers, max_tokens=1)
        self.assertEqual(status, 200, answer)

    def test_requests_wait_while_all_workers_are_past_the_threshold(self):  # B20
        for flags, waits in (((), False), (("--router-queue-threshold", "0.5"), True)):
            with Fleet(2, "--router-mode", "kv", *flags, worker_flags=PREFILL) as fleet, ThreadPoolExecutor(4) as pool:
                most = [0, 0]

                def watch():
                    most[0] = max(most[0], cluster.total(fleet.frontend, PENDING))
                    most[1] = max(most[1], cluster.total(fleet.frontend, PENDING_TOKENS))
                    return sum(c["input"]["active_requests"] for c in fleet.explain([1])["candidates"]) + most[0]

                asked = [pool.submit(self.ask, fleet, number, 600) for number in range(2)]
                fleet.frontend.wait_for(lambda: watch() == 2, 5, "both workers compute")
                asked += [pool.submit(self.ask, fleet, number, 300 + number) for number in (2, 3)]
                fleet.frontend.wait_for(lambda: watch() == 4, 5, "four requests are there")
                for one in asked:
                    one.result()
                self.assertEqual(most, [2, 302 + 303] if waits else [0, 0])
                self.assertEqual(cluster.total(fleet.frontend, PENDING), 0)

    def test_priorities_leave_the_queue_first(self):  # B21
        worker = (*WORKER, "--mock-prefill-time", "1ms")
        with Fleet(1, "--router-mode", "kv", "--router-queue-threshold", "0", worker_flags=worker) as fleet, ThreadPoolExecutor(8) as pool:
            order = []

            def ask(name, headers):
                self.ask(fleet, name, 80, headers)
                order.append(name)

            first = pool.submit(self.ask, fleet, "first", 900)
            fleet.frontend.wait_for(lambda: active(fleet.frontend) == 1, 5, "the first runs")
            asked = [first]
            for number, (name, headers) in enumerate([
                    ("a", {}), ("negative", {"x-dynamo-request-priority": "-10"}), ("b", {}),
                    ("ten seconds", {"x-dynamo-request-priority": "10"}), ("strict", {"x-dynamo-request-strict-priority": "1"})], 1):
                asked.append(pool.submit(ask, name, headers))
                fleet.frontend.wait_for(lambda n=number: cluster.total(fleet.frontend, PENDING) == n, 5, f"{name} waits")
            for one in asked:
                one.result()
            self.assertEqual(order, ["strict", "ten seconds", "a", "negative", "b"])

    def test_short_ones_first_lowers_the_mean_and_in_turn_lowers_the_worst(self):  # B22, in virtual time
        draw = random.Random(22)
        with tempfile.TemporaryDirectory() as folder:
            trace = pathlib.Path(folder) / "trace.jsonl"
            lines, block = [], 0
            for number in range(1500):
                length = 8192 if draw.random() < 0.2 else 128
                ids = list(range(block, block + -(-length // 512)))
                block += len(ids)
                lines.append(json.dumps({"timestamp": number * 21, "input_length": length, "output_length": 4, "hash_ids": ids}))
            trace.write_text("\n".join(lines))
            times = {}
            for policy in ("fcfs", "wspt"):
                done = harness.run_pixii("simulate", "--scenario", "trace", "--trace", str(trace), "--workers", "2", "--router-mode", "kv",
                                         "--router-queue-threshold", "0.1", "--router-queue-policy", policy, "--json")
                self.assertEqual(done.returncode, 0, done.stderr)
                times[policy] = {row["name"]: row["value"] for row in json.loads(done.stdout)["results"] if row["name"].startswith("ttft")}
            print(times)
            self.assertLess(times["wspt"]["ttft_mean"], times["fcfs"]["ttft_mean"])
            self.assertLess(times["fcfs"]["ttft_max"], times["wspt"]["ttft_max"])


class Sessions(unittest.TestCase):
    def test_a_session_that_idled_may_go_elsewhere(self):  # B26
        with Fleet(3, "--router-mode", "round-robin", "--router-session-affinity-ttl-secs", "1s") as fleet:
            home = fleet.ask(tokens(0, 5), SESSION)[0]
            self.assertEqual({fleet.ask(tokens(i, 5), SESSION)[0] for i in range(5)}, {home})
            harness.wait_for(lambda: fleet.ask(tokens(9, 5))[0] == home, 5, "a turn ends at its worker")
            pass_time(1.2)
            self.assertNotEqual(fleet.ask(tokens(1, 5), SESSION)[0], home)

    def test_two_frontends_send_a_session_to_one_worker(self):  # B26
        flags = ("--router-mode", "round-robin", "--router-session-affinity-ttl-secs", "60s", "--router-replica-sync")
        with Fleet(3, *flags) as fleet, fleet.frontend_of(*flags) as other:
            mine = fleet.frontend
            other.wait_for(lambda: cluster.total(other, "dynamo_frontend_model_workers") == 3, 20, "three workers")

            def at(frontend, name):
                fleet.frontend = frontend
                try:
                    return fleet.ask(tokens(name, 5), {"x-dynamo-session-id": name})[0]
                finally:
                    fleet.frontend = mine

            for number in range(6):
                first, second = (mine, other) if number % 2 else (other, mine)
                name = f"session-{number}"
                home = at(first, name)
                # What either is told of takes a moment; from then on both keep to it.
                harness.wait_for(lambda: at(second, name) == home, 5, "the other hears of it")
                self.assertEqual({at(one, name) for one in (mine, other) * 2}, {home})


class Replicas(unittest.TestCase):
    FLAGS = ("--router-mode", "least-loaded", "--router-replica-sync", "--router-active-request-expiry-secs", "2s")

    def stream(self, frontend, count):
        stream = frontend.stream(PATH, {"prompt": [5, 6, 7], "max_tokens": count, "ignore_eos": True})
        next(stream)
        return stream

    def test_what_one_frontend_sends_another_counts_at_once_and_forgets_with_it(self):  # B27
        with Fleet(2, *self.FLAGS, worker_flags=(*WORKER, "--mock-step-time", "5ms")) as fleet:
            first = fleet.frontend_of(*self.FLAGS)
            try:
                for frontend in (first, fleet.frontend):
                    frontend.wait_for(lambda one=frontend: cluster.total(one, "dynamo_frontend_model_workers") == 2, 20, "two workers")
                lags = []
                for _ in range(4):
                    stream = self.stream(first, 4000)
                    began = time.monotonic()
                    fleet.frontend.wait_for(lambda: active(fleet.frontend) == 1, 10, "the other's stream")
                    lags.append(time.monotonic() - began)
                    self.assertEqual(active(first), 1)  # its own echo is not counted
                    if len(lags) < 4:
                        stream.close()
                        fleet.frontend.wait_for(lambda: active(fleet.frontend) == 0, 10, "its end")
                self.assertLess(min(lags), 0.1 * harness.BUSY, lags)
                first.kill()
                fleet.frontend.wait_for(lambda: active(fleet.frontend) == 0, 2 + 2, "it is forgotten")
            finally:
                first.kill()
                first.folder.cleanup()

    def test_a_stream_older_than_the_expiry_still_counts(self):  # B28
        with Fleet(1, "--router-mode", "least-loaded", "--router-active-request-expiry-secs", "1s",
                   worker_flags=(*WORKER, "--mock-step-time", "20ms")) as fleet:
            stream = self.stream(fleet.frontend, 4000)
            began = time.monotonic()
            while time.monotonic() < began + 2.5:  # it streams all the time
                self.assertEqual(active(fleet.frontend), 1)
            stream.close()


class Caps(unittest.TestCase):
    def test_a_worker_takes_what_batch_and_queue_hold_and_no_more(self):  # C14
        with Fleet(1, worker_flags=(*WORKER, "--mock-step-time", "20ms", "--max-batch", "2", "--queue-length", "2")) as fleet:
            connections = []
            for number in range(4):
                connection = fleet.frontend.connection()
                connection.request("POST", PATH, body=json.dumps({"prompt": tokens(number, 5), "max_tokens": 4000, "ignore_eos": True}),
                                   headers={"Content-Type": "application/json"})
                connections.append(connection)

            def held():
                state = cluster.dump(fleet.workers[0])
                return state["running"], state["waiting"]

            harness.wait_for(lambda: held() == (2, 2), 10, "two run and two wait")
            status, headers, _ = fleet.try_ask(tokens(9, 5))
            self.assertEqual(status, 529)
            self.assertIn("retry-after", {key.lower() for key in headers})
            self.assertEqual(held(), (2, 2))
            self.assertEqual(cluster.total(fleet.frontend, "dynamo_frontend_model_rejection_total"), 1)
            for connection in connections:
                connection.close()
            cluster.wait_until_idle(fleet.workers)

    def test_a_frontend_admits_so_many_and_reads_no_further_prompt(self):  # C17
        with Fleet(1, "--max-requests", "2", worker_flags=(*WORKER, "--mock-step-time", "20ms")) as fleet:
            body = {"prompt": [5, 6, 7], "max_tokens": 4000, "ignore_eos": True}
            streams = [fleet.frontend.stream(PATH, body) for _ in range(2)]
            for stream in streams:
                next(stream)
            status, headers, _ = fleet.frontend.request("POST", PATH, {"prompt": "all the words of a long text " * 100_000})
            self.assertEqual(status, 529)  # 3 MB of text: if it were encoded, it were too long, 400
            self.assertIn("retry-after", {key.lower() for key in headers})
            self.assertEqual(cluster.total(fleet.frontend, "dynamo_frontend_model_rejection_total"), 1)
            self.assertEqual(cluster.dump(fleet.workers[0])["requests"], 2)
            for stream in streams:
                stream.close()


if __name__ == "__main__":
    harness.main()
