"""A frontend that knows what its workers hold and do: where requests go, and why. Real processes with mock engines."""
import collections
import itertools
import json
import pathlib
import random
import shutil
import socket
import ssl
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

PATH = "/v1/completions"
BLOCK = 16
WORKER = ("--engine", "mock", "--kv-tokens", "65536", "--max-context", "8192")
SLOW = (*WORKER, "--mock-step-time", "5ms")
HEADER = "x-dynamo-worker-instance-id"
PAUSE_FLAGS = ("--worker-dead-after", "1s")


def tokens(seed, count):
    """Token ids that no other seed shares a block with."""
    draw = random.Random(seed)
    return [draw.randrange(100, 1000) for _ in range(count)]


class Fleet(cluster.Cluster):
    """Workers with mock engines, and what one asks of their frontend."""

    def __init__(self, workers, *frontend_flags, worker_flags=WORKER):
        super().__init__(workers, worker_flags=worker_flags, frontend_flags=frontend_flags)

    def ask(self, prompt, headers=None, nvext=None, **more):
        """(worker id, cached tokens, output ids) of a completion of token ids."""
        answer = self.answer(prompt, headers, nvext, **more)
        return (answer["nvext"]["worker_id"]["decode_worker_id"],
                answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["token_ids"])

    def answer(self, prompt, headers=None, nvext=None, **more):
        status, _, answer = self.try_ask(prompt, headers, nvext, **more)
        if status != 200:
            raise AssertionError(f"status {status}: {answer}")
        return answer

    def try_ask(self, prompt, headers=None, nvext=None, **more):
        body = {"prompt": prompt, "max_tokens": 4, "ignore_eos": True, "return_token_ids": True,
                "nvext": {"extra_fields": ["worker_id"], **(nvext or {})}, **more}
        return self.frontend.request("POST", PATH, body, headers)

    def explain(self, prompt, nvext=None, **more):
        status, answer = self.frontend.post("/router/explain", {"token_ids": prompt, "max_tokens": 4,
                                                                **({"nvext": nvext} if nvext else {}), **more})
        if status != 200:
            raise AssertionError(f"status {status}: {answer}")
        return answer

    def candidates(self, prompt, **more):
        return {one["worker_id"]: one for one in self.explain(prompt, **more)["candidates"]}

    def ids(self):
        return sorted(self.candidates([1]))

    def wait_for_blocks(self, prompt, worker, blocks):
        def there():
            found = self.candidates(prompt).get(worker)
            return found is not None and found["input"]["device_blocks"] == blocks
        harness.wait_for(there, 10, f"worker {worker} is known to have {blocks} blocks", lambda: json.dumps(self.explain(prompt)))

    def run_on(self, worker, prompts, max_tokens=4000):
        """Streams that run until they are closed; each has had a token."""
        streams = []
        for prompt in prompts:
            body = {"prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True, "nvext": {"backend_instance_id": worker}}
            stream = self.frontend.stream(PATH, body)
            next(stream)
            streams.append(stream)
        return streams


class Knowledge(unittest.TestCase):
    def sessions(self, fleet, count, turns, exact):
        """How many turns behind the first went to the worker of the first."""
        hits = 0
        histories = [tokens(i, 40 + i % 30) for i in range(count)]
        homes = {}
        for turn in range(turns):
            for number in random.Random(turn).sample(range(count), count):
                history = histories[number]
                foretold = fleet.explain(history)
                worker, cached, output = fleet.ask(history)
                if exact:
                    self.assertEqual((worker, cached),
                                     (foretold["choice"]["worker_id"], foretold["choice"]["overlap_tokens"]), foretold)
                hits += turn > 0 and worker == homes[number]
                homes[number] = worker
                if exact:  # the last token was drawn, not computed
                    fleet.wait_for_blocks(history + output, worker, (len(history) + len(output) - 1) // BLOCK)
                history += output + tokens(1000 * turn + number, 20)
        return hits / (count * (turns - 1))

    def test_sessions_return_to_what_they_left(self):  # B5
        with Fleet(2, "--router-mode", "kv") as fleet:
            self.assertGreaterEqual(self.sessions(fleet, 50, 4, True), 0.9)
            values = fleet.frontend.metrics()
            stored = [v for k, v in values.items() if k.startswith("dynamo_component_kv_cache_events_applied") and '"stored"' in k]
            self.assertGreater(sum(stored), 0)
            routed = [v for k, v in values.items() if k.startswith("dynamo_router_overhead_total_ms_count")]
            self.assertGreaterEqual(sum(routed), 200)
        with Fleet(2, "--router-mode", "random") as fleet:
            self.assertLess(abs(self.sessions(fleet, 50, 4, False) - 0.5), 0.17)

    def test_load_beats_cache_where_the_cost_says_so(self):  # B6, B35
        with Fleet(2, "--router-mode", "kv", *cluster.PUBLISHED_COST, worker_flags=SLOW) as fleet:
            prompt = tokens("rich", 20 * BLOCK + 1)
            rich, _, _ = fleet.ask(prompt)
            fleet.wait_for_blocks(prompt, rich, 20)
            self.assertEqual(fleet.explain(prompt)["choice"]["worker_id"], rich)
            streams, flipped = [], False
            for number in range(12):
                foretold = fleet.explain(prompt)
                costs = {}
                for one in foretold["candidates"]:  # the formula, by hand
                    had, terms = one["input"], one["terms"]
                    prefill = max((had["active_prefill_tokens"] + len(prompt)) / BLOCK - had["device_blocks"], 0)
                    costs[one["worker_id"]] = prefill + had["active_decode_blocks"] + had["added_decode_blocks"]
                    self.assertAlmostEqual(costs[one["worker_id"]], terms["cost"], places=9)
                choice = foretold["choice"]["worker_id"]
                self.assertEqual(costs[choice], min(costs.values()))
                if choice != rich:
                    flipped = True
                    break
                streams += fleet.run_on(rich, [tokens(f"load {number}", 10 * BLOCK)])
            self.assertTrue(flipped)
            loyal = {"router_config_override": {"overlap_score_credit": 1000, "prefill_load_scale": 1000}}
            usual = fleet.explain(prompt)
            self.assertNotEqual(usual["choice"]["worker_id"], rich)
            without = {one["worker_id"]: one["terms"]["credit"] for one in fleet.explain(
                prompt, nvext={"router_config_override": {"overlap_score_credit": 0}})["candidates"]}
            self.assertEqual(set(without.values()), {0})
            credit = {one["worker_id"]: one["terms"]["credit"] for one in fleet.explain(prompt, nvext=loyal)["candidates"]}
            self.assertEqual(credit[rich], 20000)
            self.assertEqual(fleet.explain(prompt)["candidates"], usual["candidates"], "an override is of its request alone")
            self.assertNotEqual(fleet.ask(prompt)[0], rich)
            for stream in streams:
                stream.close()

    def test_without_credit_nothing_is_known(self):  # B7
        with Fleet(2, "--router-mode", "kv", "--router-kv-overlap-score-credit", "0") as fleet:
            prompt = tokens("a", 5 * BLOCK + 1)
            for _ in range(4):
                fleet.ask(prompt)
            self.assertEqual([one["input"]["device_blocks"] for one in fleet.explain(prompt)["candidates"]], [0, 0])
            self.assertFalse([k for k in fleet.frontend.metrics() if "kv_cache_events_applied" in k])

    def test_salts_share_nothing(self):  # B36
        with Fleet(2, "--router-mode", "kv") as fleet:
            prompt = tokens("a", 6 * BLOCK + 1)
            worker, _, _ = fleet.ask(prompt)
            fleet.wait_for_blocks(prompt, worker, 6)
            self.assertEqual({one["input"]["device_blocks"] for one in fleet.explain(prompt, cache_salt="b")["candidates"]}, {0})
            self.assertEqual(fleet.ask(prompt, cache_salt="b")[1], 0)
            self.assertEqual(fleet.ask(prompt)[1], 6 * BLOCK)

    def test_blocks_leave_with_their_worker_and_come_back_with_it(self):  # B16, B17
        with Fleet(2, "--router-mode", "kv", *PAUSE_FLAGS) as fleet:
            prompt = tokens("a", 9 * BLOCK + 1)
            for worker in fleet.ids():
                fleet.ask(prompt, {HEADER: str(worker)})
                fleet.wait_for_blocks(prompt, worker, 9)
            by_id = {}
            for process in fleet.workers:
                for worker in fleet.ids():
                    if f"instance={worker:x}" in process.log_text():
                        by_id[worker] = process
            still, dead = sorted(by_id)
            cluster.pause(by_id[still])
            fleet.wait_for_workers(1)
            self.assertNotIn(still, fleet.candidates(prompt))
            cluster.resume(by_id[still])
            fleet.wait_for_workers(2)
            fleet.wait_for_blocks(prompt, still, 9)
            fleet.kill(by_id[dead])
            fleet.wait_for_workers(1)
            self.assertEqual(list(fleet.candidates(prompt)), [still])
            fleet.add_worker()
            fleet.wait_for_workers(2)
            homes = {worker: one["input"]["device_blocks"] for worker, one in fleet.candidates(prompt).items()}
            self.assertEqual(homes.pop(still), 9)
            self.assertEqual(list(homes.values()), [0])

    def test_guesses_last_their_time_and_no_longer(self):  # B9
        with Fleet(2, "--router-mode", "kv", "--no-router-kv-events", "--router-ttl-secs", "3s") as fleet:
            prompt = tokens("a", 8 * BLOCK + 1)
            worker, _, _ = fleet.ask(prompt)
            self.assertEqual(fleet.candidates(prompt)[worker]["input"]["device_blocks"], 8)
            self.assertEqual(fleet.ask(prompt)[0], worker)
            fleet.wait_for_blocks(prompt, worker, 0)

    def test_siblings_follow_the_first_of_them(self):  # B10
        def largest_group(*flags):
            with Fleet(2, "--router-mode", "kv", "--router-kv-overlap-score-credit", "2", *flags, worker_flags=SLOW) as fleet:
                prompt = tokens("a", 30 * BLOCK)
                with ThreadPoolExecutor(16) as pool:
                    workers = list(pool.map(lambda i: fleet.ask(prompt + [i], max_tokens=20)[0], range(16)))
                return max(collections.Counter(workers).values())

        self.assertGreaterEqual(largest_group("--router-predicted-ttl-secs", "5s"), 15)


class Choice(unittest.TestCase):
    def test_modes(self):  # B8
        with Fleet(3, "--router-mode", "round-robin") as fleet:
            seen = [fleet.ask(tokens(i, 5))[0] for i in range(9)]
            self.assertEqual(seen[:3] * 3, seen)
            self.assertEqual(len(set(seen)), 3)
        with Fleet(3, "--router-mode", "random") as fleet:
            counts = collections.Counter(fleet.ask(tokens(i, 5))[0] for i in range(150))
            self.assertLess(sum((counts[w] - 50) ** 2 / 50 for w in fleet.ids()), 27.6)  # chi square, 2 degrees, p 1e-6
        for mode in ("power-of-two", "least-loaded"):
            with Fleet(3, "--router-mode", mode, worker_flags=SLOW) as fleet:
                loaded = fleet.ids()[1]
                streams = fleet.run_on(loaded, [tokens(i, 20) for i in range(3)])
                counts = collections.Counter(fleet.ask(tokens(i, 5))[0] for i in range(20))
                self.assertEqual(counts[loaded], 0, mode)
                self.assertEqual(len(counts), 2, mode)
                for stream in streams:
                    stream.close()

    def test_direct_goes_where_it_is_told_or_nowhere(self):  # B8, B29, A37, A38
        with Fleet(2, "--router-mode", "direct") as fleet:
            status, _, answer = fleet.try_ask([1, 2, 3])
            self.assertEqual((status, answer["error"]["param"]), (400, "worker_id"))
            first, second = fleet.ids()
            for _ in range(20):
                self.assertEqual(fleet.ask([1, 2, 3], nvext={"backend_instance_id": first})[0], first)
            self.assertEqual(fleet.ask([1, 2, 3], {HEADER: str(second)}, {"backend_instance_id": first})[0], second)
            self.assertEqual(fleet.ask([1, 2, 3], {HEADER: str(second), "x-dynamo-dp-rank": "0"})[0], second)
            status, _, answer = fleet.try_ask([1, 2, 3], {HEADER: str(second), "x-dynamo-dp-rank": "7"})
            self.assertEqual((status, answer["error"]["param"]), (400, "dp_rank"))
            self.assertEqual(fleet.try_ask([1, 2, 3], {HEADER: "12345"})[0], 503)
            self.assertEqual(fleet.try_ask([1, 2, 3], {HEADER: "none"})[0], 400)

    def test_a_query_says_where_and_sends_nothing(self):  # A37
        with Fleet(2, "--router-mode", "kv") as fleet:
            before = fleet.frontend.metrics()
            answer = fleet.answer(tokens("a", 40), nvext={"annotations": ["query_instance_id:"]})
            self.assertIn(answer["nvext"]["worker_id"]["decode_worker_id"], fleet.ids())
            self.assertEqual(answer["nvext"]["token_ids"], tokens("a", 40))
            self.assertEqual(answer["choices"], [])
            after = fleet.frontend.metrics()
            count = [k for k in before if k.startswith("dynamo_router_overhead_total_ms_count")]
            self.assertEqual([before[k] for k in count], [after[k] for k in count])
            worker = answer["nvext"]["worker_id"]["decode_worker_id"]
            self.assertEqual(fleet.ask([7], {HEADER: str(worker)}, {"token_data": answer["nvext"]["token_ids"]})[0], worker)

    def test_sessions_stay(self):  # B26
        session = {"x-dynamo-session-id": "mine"}
        with Fleet(3, "--router-mode", "random", "--router-session-affinity-ttl-secs", "60s") as fleet:
            bound = {fleet.ask(tokens(i, 5), session)[0] for i in range(20)}
            self.assertEqual(len(bound), 1)
            home = bound.pop()
            for process in list(fleet.workers):
                if f"instance={home:x}" in process.log_text():
                    fleet.kill(process)
            fleet.wait_for_workers(2)
            self.assertEqual(len({fleet.ask(tokens(i, 5), session)[0] for i in range(10)} - {home}), 1)
        with Fleet(3, "--router-mode", "round-robin") as fleet:
            self.assertEqual(len({fleet.ask(tokens(i, 5), session)[0] for i in range(3)}), 3, "without a time they mean nothing")

    def test_taints_and_topology(self):  # B30, B31
        with Fleet(1, "--router-mode", "kv", worker_flags=(*WORKER, "--taint", "dynamo.topology/zone=a")) as fleet:
            fleet.worker_flags = (*WORKER, "--taint", "dynamo.topology/zone=b", "--taint", "cheap")
            fleet.add_worker()
            fleet.wait_for_workers(2)

            def where(**constraints):
                return fleet.try_ask(tokens("a", 40), nvext={"routing_constraints": constraints})

            zones = {}
            for zone in "ab":
                workers = {where(required_taints=[f"dynamo.topology/zone={zone}"])[2]["nvext"]["worker_id"]["decode_worker_id"]
                           for _ in range(5)}
                self.assertEqual(len(workers), 1)
                zones[zone] = workers.pop()
            self.assertNotEqual(zones["a"], zones["b"])
            self.assertEqual(where(required_taints=["dynamo.topology/zone=c"])[0], 503)
            fresh = itertools.count()
            for weight, zone in ((3, "b"), (-3, "a")):
                for _ in range(3):
                    worker, _, _ = fleet.ask(tokens(f"t{next(fresh)}", 40),
                                             nvext={"routing_constraints": {"preferred_taints": {"cheap": weight}}})
                    self.assertEqual(worker, zones[zone])

    def test_busy_workers_are_spared(self):  # B31, C15, C16
        flags = (*SLOW, "--max-batch", "2", "--queue-length", "1")
        with Fleet(2, worker_flags=flags) as fleet:
            with ThreadPoolExecutor(64) as pool:
                statuses = list(pool.map(lambda i: fleet.try_ask(tokens(i, 5), max_tokens=40), range(64)))
            self.assertEqual({status for status, _, _ in statuses}, {200, 529})
            refused = next(headers for status, headers, _ in statuses if status == 529)
            self.assertGreaterEqual(int({k.lower(): v for k, v in refused.items()}["retry-after"]), 1)
            harness.wait_for(lambda: fleet.try_ask([1, 2, 3])[0] == 200, 2, "a request is taken again")
            for number in range(5):
                self.assertEqual(fleet.try_ask(tokens(number, 5))[0], 200)
        with Fleet(2, "--router-mode", "kv", "--active-prefill-tokens-threshold", "0",
                   worker_flags=(*SLOW, "--mock-prefill-time", "20ms")) as fleet:
            with ThreadPoolExecutor(3) as pool:
                first = [pool.submit(fleet.try_ask, tokens(i, 60)) for i in range(2)]
                harness.wait_for(lambda: {c["standing"] for c in fleet.explain([1])["candidates"]} == {"busy"}, 5, "both are busy",
                                 lambda: json.dumps(fleet.explain([1])))
                self.assertEqual(fleet.explain([1])["refusal"]["code"], "ResourceExhausted")
                self.assertEqual(fleet.try_ask([1])[0], 529)
                self.assertEqual([one.result()[0] for one in first], [200, 200])
            self.assertEqual(fleet.try_ask([1])[0], 200)

    def test_classes_of_a_file_wait_apart_and_share_by_their_quanta(self):  # B23, B24, B25
        policy = """default_policy_family: chat
uncached_isl_buckets: [{min_tokens: 0, bucket: any}]
policy_classes:
  - {name: chat, policy_family: chat, cache_bucket: any, quantum: 512, prefill_busy_threshold: 0}
  - {name: bulk, policy_family: bulk, cache_bucket: any, quantum: 64, prefill_busy_threshold: 0, request_queue_limit_per_worker: 6}
"""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "policy.yaml"
            path.write_text(policy)
            worker = (*WORKER, "--mock-prefill-time", "100us")
            with Fleet(1, "--router-mode", "kv", "--router-policy-config", str(path), worker_flags=worker) as fleet:
                bulk = {"x-dynamo-meta-policy-class": "bulk"}

                def value(name, **labels):
                    return sum(v for k, v in fleet.frontend.metrics().items() if k.startswith(name + "{")
                               and all(f'{label}="{wanted}"' in k for label, wanted in labels.items()))

                pending = "dynamo_frontend_router_queue_pending_requests"
                order = []

                def ask(number, headers):
                    status, _, answer = fleet.try_ask(tokens(number, 800), headers, max_tokens=1)
                    order.append("bulk" if headers else "chat")
                    return status, answer

                with ThreadPoolExecutor(20) as pool:
                    # 80 ms of prefill each: one runs, the others wait in their classes.
                    first = pool.submit(ask, 0, None)
                    harness.wait_for(lambda: value("dynamo_frontend_worker_active_prefill_tokens") > 0, 10, "a prefill")
                    bulks = [pool.submit(ask, 100 + i, bulk) for i in range(9)]
                    harness.wait_for(lambda: value(pending, policy_class="bulk") == 6, 10, "bulk waits")
                    chats = [pool.submit(ask, 200 + i, None) for i in range(6)]
                    harness.wait_for(lambda: value(pending, policy_class="chat") > 0, 10, "chat waits")
                    statuses = [future.result() for future in (first, *bulks, *chats)]
                refused = [answer for status, answer in statuses if status == 529]
                self.assertEqual(sum(status == 200 for status, _ in statuses) + len(refused), len(statuses), statuses)
                self.assertGreaterEqual(len(refused), 1)
                for answer in refused:
                    self.assertIn("policy class bulk has 6 requests waiting; its limit is 6 (6 for each of 1 workers)",
                                  answer["error"]["message"])
                self.assertEqual(value("dynamo_frontend_router_queue_backpressure_total", policy_class="bulk", reason="requests"),
                                 len(refused))
                # Of those that waited together the heavier class went first, though it came later.
                served = [word for word in order if word == "chat"]
                last_chat = max(i for i, word in enumerate(order) if word == "chat")
                self.assertEqual(len(served), 7)
                self.assertLess(last_chat, len(order) - 1, order)
                self.assertEqual(value(pending), 0)
            path.write_text(policy.replace("quantum: 64", "quantum: 0"))
            done = harness.run_pixii("frontend", "--router-policy-config", str(path), "--discovery", f"file:{folder}")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("policy.yaml:5: policy_classes.1.quantum", done.stdout + done.stderr)
            self.assertIn("1 .. 1000000000", done.stdout + done.stderr)

    def test_decisions_are_in_the_log_with_their_terms(self):
        with Fleet(2, "--router-mode", "kv", "--log-level", "debug") as fleet:
            worker, _, _ = fleet.ask(tokens("a", 40))
            line = next(line for line in fleet.frontend.log_text().splitlines()
                        if "router.decision" in line and "overlap_tokens=0" in line and f"worker={worker}" in line)
            self.assertRegex(line, f"{worker}:0 eligible .*cost=")


@unittest.skipIf(shutil.which("openssl") is None, "no openssl to make certificates with")
class Secured(unittest.TestCase):  # C13
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-fleet-tls-")
        cls.ours, cls.theirs = (cls.authority(name) for name in ("ours", "theirs"))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def authority(cls, name):
        """Files of an authority, a worker's certificate for 127.0.0.1 and a frontend's."""
        at = pathlib.Path(cls.folder.name) / name
        at.mkdir()

        def openssl(*arguments):
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *key, "-days", "1", "-subj", f"/CN={name}", "-keyout", at / "ca.key", "-out", at / "ca.pem")
        for who, names in (("worker", "IP:127.0.0.1"), ("frontend", "DNS:frontend"), ("elsewhere", "IP:127.0.0.9"),
                           ("replica", "IP:127.0.0.1")):
            (at / "names").write_text(f"subjectAltName={names}\n")
            openssl("req", *key, "-subj", f"/CN={who}", "-keyout", at / f"{who}.key", "-out", at / f"{who}.csr")
            openssl("x509", "-req", "-in", at / f"{who}.csr", "-CA", at / "ca.pem", "-CAkey", at / "ca.key", "-CAcreateserial",
                    "-days", "1", "-extfile", at / "names", "-out", at / f"{who}.pem")
        return at

    @staticmethod
    def worker(at, who="worker"):
        return (*WORKER, "--worker-tls-cert", str(at / f"{who}.pem"), "--worker-tls-key", str(at / f"{who}.key"),
                "--worker-tls-client-ca", str(at / "ca.pem"))

    @staticmethod
    def frontend(at, who="frontend"):
        return ("--fleet-tls-ca", str(at / "ca.pem"), "--fleet-tls-cert", str(at / f"{who}.pem"),
                "--fleet-tls-key", str(at / f"{who}.key"))

    def test_who_belongs_together_works_together_and_nobody_else(self):
        with Fleet(1, *self.frontend(self.ours), worker_flags=self.worker(self.ours)) as fleet:
            self.assertEqual(fleet.answer([1, 2, 3])["usage"]["completion_tokens"], 4)
            good = fleet.ids()
            # A worker in the clear, one of another authority, one with a certificate for another host.
            for flags in (WORKER, self.worker(self.theirs), self.worker(self.ours, "elsewhere")):
                fleet.worker_flags = flags
                fleet.add_worker()
            harness.wait_for(lambda: sum(v for k, v in fleet.frontend.metrics().items()
                                         if k.startswith("dynamo_frontend_router_workers")) == 4, 20, "all are found")
            fleet.worker_flags = self.worker(self.ours)
            fleet.add_worker()
            fleet.wait_for_workers(2)  # it had no easier way than those before it
            self.assertTrue(set(good) < set(fleet.ids()))
            self.assertEqual(fleet.answer([1, 2, 3])["usage"]["completion_tokens"], 4)

    def test_frontends_that_tell_each_other_their_loads_do_so_in_secret(self):
        flags = (*self.frontend(self.ours, "replica"), "--router-mode", "least-loaded", "--router-replica-sync")
        with Fleet(1, *flags, worker_flags=(*self.worker(self.ours), "--mock-step-time", "5ms")) as fleet:
            with fleet.frontend_of(*flags) as other:
                def seen():
                    status, why = other.post("/router/explain", {"token_ids": [1, 2, 3]})
                    return sum(row["input"]["active_requests"] for row in why["candidates"]) if status == 200 else None
                other.wait_for(lambda: seen() == 0, 20, "a worker")
                heard = []
                for _ in fleet.frontend.stream(PATH, {"prompt": [1, 2, 3], "max_tokens": 200, "ignore_eos": True}):
                    if not heard:
                        other.wait_for(lambda: seen() == 1, 10, "a stream that it has not sent")
                        heard.append(True)
                self.assertTrue(heard)
                # Nobody else is answered: not one without a certificate, not one of another authority.
                entries = [json.loads(path.read_text().split("\n", 1)[1])
                           for path in pathlib.Path(fleet.folder.name).rglob("*.entry")]
                addresses = [entry["transport"]["pixii"] for entry in entries if entry.get("endpoint") == "replica"]
                self.assertEqual(len(addresses), 2)
                for at, works in ((self.ours, True), (None, False), (self.theirs, False)):
                    self.assertEqual([self.is_answered(address, at) for address in addresses], [works] * 2, at)

    def is_answered(self, address, certificate_of):
        """By a replica at the address that shows a certificate of ours."""
        context = ssl.create_default_context(cafile=str(self.ours / "ca.pem"))
        if certificate_of is not None:
            context.load_cert_chain(certificate_of / "replica.pem", certificate_of / "replica.key")
        host, port = address.rsplit(":", 1)
        try:
            with socket.create_connection((host, int(port)), 10) as plain, \
                    context.wrap_socket(plain, server_hostname=host) as secured:
                return bool(secured.recv(1))  # it says hello first, once it believes who is there
        except OSError:
            return False

    def test_wrong_files_are_named(self):
        for words, named in ((("worker", "tiny-chat", "--worker-tls-cert", str(self.ours / "worker.pem")), "worker-tls-key"),
                             (("worker", "tiny-chat", "--worker-tls-client-ca", str(self.ours / "ca.pem")), "worker-tls-client-ca"),
                             (("frontend", "--fleet-tls-cert", "a", "--fleet-tls-key", "b"), "fleet-tls-ca"),
                             (("frontend", "--fleet-tls-ca", str(self.ours / "ca.pem"), "--router-replica-sync"), "fleet-tls-cert"),
                             (("frontend", "--fleet-tls-ca", "/nowhere.pem"), "/nowhere.pem")):
            done = harness.run_pixii(*words)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(named, done.stderr)


if __name__ == "__main__":
    harness.main()
