"""`pixii router`: what is cached where, who gets a request, and what runs, for those who send requests themselves."""
import http.server
import json
import pathlib
import tempfile
import threading
import unittest

import cluster
import harness

FLAGS = ("--engine", "mock", "--kv-tokens", "16384", "--block-size", "16")
KEY = {"Authorization": "Bearer admin-key-for-tests"}


class Router(harness.Server):
    """`pixii router`."""

    def __init__(self, folder, *flags):
        self.start(["router", "--port", "0", "--discovery", f"file:{folder}", *flags])

    def get(self, path, **kwargs):
        status, _, answer = self.request("GET", path, **kwargs)
        return status, answer


class Peer:
    """Answers /dump, and nothing else."""

    def __init__(self, dump):
        text = dump if isinstance(dump, str) else json.dumps(dump)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == "/dump" else 404)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind, value, trace):
        self.server.shutdown()
        self.server.server_close()


def loads(router):
    """(worker, rank) -> (prefill tokens, decode blocks, requests), of all models."""
    _, models = router.get("/loads")
    return {(row["worker_id"], row["dp_rank"]):
            (row["potential_prefill_tokens"], row["potential_decode_blocks"], row["active_requests"])
            for model in models for row in model["loads"]}


WORKER = {"model_name": "m", "endpoint": "http://worker:8000", "block_size": 4, "max_num_batched_tokens": 100}
PROMPT = {"model_name": "m", "token_ids": list(range(1, 15))}  # 3 whole blocks of 4 and a bit


class WithoutWorkers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-router-")
        self.addCleanup(self.folder.cleanup)

    def router(self, *flags):
        return Router(self.folder.name, *cluster.PUBLISHED_COST, *flags)

    def test_by_default_nothing_is_computed_twice(self):
        with Router(self.folder.name) as router:
            for worker in (1, 2):
                router.post("/workers", {"worker_id": worker, **WORKER})
            _, one = router.post("/select_and_reserve", PROMPT)
            _, two = router.post("/select_and_reserve", PROMPT)  # what the first one computes counts as cached
            self.assertEqual((two["worker_id"], two["effective_prefill_tokens"]), (one["worker_id"], 14 - 12))
            _, why = router.post("/router/explain", PROMPT)
            terms = {row["worker_id"]: row["terms"] for row in why["candidates"]}
            self.assertEqual(terms.pop(one["worker_id"])["recompute"], 0)
            # Three blocks that two others use, by their weight.
            self.assertAlmostEqual(terms.popitem()[1]["recompute"], 16 * 3 / (1 + 2), places=9)

    def test_it_is_ready_with_its_first_worker(self):
        with self.router() as router:
            self.assertEqual(router.get("/health")[0], 200)
            status, answer = router.get("/ready")
            self.assertEqual((status, answer["ready"], answer["schedulable_workers"]), (503, False, 0))
            self.assertEqual(router.post("/workers", {"worker_id": 1, **WORKER})[0], 201)
            status, answer = router.get("/ready")
            self.assertEqual((status, answer["schedulable_workers"], answer["workers"][0]["lifecycle"]), (200, 1, "schedulable"))
            self.assertEqual(router.request("DELETE", "/workers/1")[0], 200)
            self.assertEqual(router.get("/ready")[0], 503)
            self.assertEqual(router.request("DELETE", "/workers/1")[0], 404)

    def test_each_answer_is_a_line_of_the_access_log(self):
        path = pathlib.Path(self.folder.name) / "access.log"
        with self.router("--access-log", str(path), "--trace-id-header", "x-run") as router:
            router.post("/workers", {"worker_id": 1, **WORKER}, headers={"X-Run": "r7", "X-Request-Id": "q1"})
            router.request("GET", "/nothing")

            def lines(file=path):
                return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

            router.wait_for(lambda: len(lines()) == 2, 10, "two lines")
            first, second = lines()
            self.assertEqual({k: first[k] for k in ("method", "path", "status", "whole", "request_id", "trace_id")},
                             {"method": "POST", "path": "/workers", "status": 201, "whole": True, "request_id": "q1", "trace_id": "r7"})
            self.assertGreater(first["bytes"], 0)
            self.assertGreaterEqual(first["ms"], 0)
            self.assertRegex(first["time"], r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual((second["path"], second["status"], "trace_id" in second), ("/nothing", 404, False))
            moved = path.with_suffix(".1")
            path.rename(moved)
            self.assertEqual(router.post("/reopen_logs", {}), (200, {"status": "ok"}))
            router.wait_for(path.exists, 10, "a new file")
            router.request("GET", "/live")
            router.wait_for(lambda: any(line["path"] == "/live" for line in lines()), 10, "a line in the new file")
        with self.assertRaisesRegex(RuntimeError, "access-log"):
            self.router("--access-log", self.folder.name)

    def test_what_is_reserved_counts_until_it_is_deleted(self):
        with self.router() as router:
            for worker in (1, 2):
                router.post("/workers", {"worker_id": worker, **WORKER})
            status, one = router.post("/select_and_reserve", {**PROMPT, "selection_id": "one"})
            self.assertEqual(status, 200)
            self.assertEqual((one["selection_id"], one["endpoint"], one["block_size"], one["effective_prefill_tokens"]),
                             ("one", "http://worker:8000", 4, 14))
            self.assertEqual(one["overlap"], {"longest_matched": 0, "gpu": 0, "dp": {"0": 0}, "cpu": 0, "disk": 0})
            first = (one["worker_id"], 0)
            self.assertEqual(loads(router)[first], (14, 4, 1))
            _, two = router.post("/select_and_reserve", PROMPT)
            self.assertNotEqual(two["worker_id"], one["worker_id"])  # where less runs
            self.assertEqual(router.post("/select_and_reserve", {**PROMPT, "selection_id": "one"})[0], 409)
            self.assertEqual(router.post("/reservations/one/prefill_complete", {})[0], 200)
            self.assertEqual(router.post("/reservations/one/output_block", {})[0], 200)
            self.assertEqual(router.post("/reservations/one/output_block", {"decay_fraction": 1.5})[0], 400)
            self.assertEqual(loads(router)[first], (0, 5, 1))
            for name in ("one", two["selection_id"]):
                self.assertEqual(router.request("DELETE", f"/reservations/{name}")[0], 200)
            self.assertEqual(set(loads(router).values()), {(0, 0, 0)})
            self.assertEqual(router.request("DELETE", "/reservations/one")[0], 404)

    def test_a_choice_is_reserved_later_or_told(self):
        with self.router() as router:
            router.post("/workers", {"worker_id": 1, **WORKER, "data_parallel_size": 2})
            status, one = router.post("/select", {**PROMPT, "selection_id": "later"})
            self.assertEqual(status, 200)
            self.assertEqual(set(loads(router).values()), {(0, 0, 0)})
            again = {"selection_id": "later", "model_name": "m"}
            status, booked = router.post("/reservations", again)
            self.assertEqual((status, booked["worker_id"], booked["dp_rank"]), (201, 1, one["dp_rank"]))
            self.assertEqual(loads(router)[(1, one["dp_rank"])], (14, 4, 1))
            router.request("DELETE", "/reservations/later")
            self.assertEqual(router.post("/reservations", again)[0], 404)  # used up
            status, _ = router.post("/reservations", {**again, "worker_id": 1, "dp_rank": 1, "token_ids": list(range(8)),
                                                      "effective_prefill_tokens": 3})
            self.assertEqual(status, 201)
            self.assertEqual(loads(router)[(1, 1)], (3, 2, 1))
            self.assertEqual(router.post("/reservations", {**again, "selection_id": "x", "worker_id": 9, "token_ids": [1]})[0], 404)

    def test_new_mark_prefill_mark_free_give_exact_loads(self):
        with self.router() as router:
            router.post("/workers", {"worker_id": 7, **WORKER})
            status, new = router.post("/new", {"model_name": "m", "tokens": list(range(9)), "request_id": "r"})
            self.assertEqual((status, new), (200, {"request_id": "r", "worker_id": 7, "dp_rank": 0, "overlap_blocks": 0}))
            self.assertEqual(loads(router)[(7, 0)], (9, 3, 1))
            _, potential = router.post("/potential_loads", {"model_name": "m", "token_ids": list(range(9)) + [50]})
            self.assertEqual(potential["loads"], [{"worker_id": 7, "dp_rank": 0, "potential_prefill_tokens": 19,
                                                   "potential_decode_blocks": 4, "active_requests": 1}])  # two blocks are shared
            self.assertEqual((potential["pending_count"], potential["pending_isl_tokens"]), (0, 0))
            router.post("/mark_prefill", {"request_id": "r"})
            self.assertEqual(loads(router)[(7, 0)], (0, 3, 1))
            router.post("/mark_free", {"request_id": "r"})
            self.assertEqual(loads(router)[(7, 0)], (0, 0, 0))
            self.assertEqual(router.post("/mark_free", {"request_id": "r"})[0], 404)

    def test_who_waits_in_the_queue_is_answered_later_and_may_hang_up(self):
        with self.router("--router-queue-threshold", "0") as router:
            router.post("/workers", {"worker_id": 1, **WORKER})
            router.post("/new", {**PROMPT, "request_id": "first"})
            answers = []

            def wait():
                answers.append(router.post("/new", {**PROMPT, "request_id": "second"}))

            def pending():
                return router.get("/loads")[1][0]["pending_count"]

            gone = router.connection()
            gone.request("POST", "/new", body='{"model_name": "m", "token_ids": [1], "request_id": "gone"}')
            router.wait_for(lambda: pending() == 1, 10, "one that waits")
            gone.close()
            router.wait_for(lambda: pending() == 0, 10, "nobody who waits")
            thread = threading.Thread(target=wait)
            thread.start()
            router.wait_for(lambda: pending() == 1, 10, "one that waits")
            router.post("/mark_prefill", {"request_id": "first"})
            thread.join()
            self.assertEqual((answers[0][0], answers[0][1]["request_id"]), (200, "second"))
            self.assertEqual(loads(router)[(1, 0)][2], 2)

    def test_pins_taints_and_reasons(self):
        with self.router() as router:
            router.post("/workers", {"worker_id": 1, **WORKER, "taints": ["zone=a"]})
            router.post("/workers", {"worker_id": 2, **WORKER})
            pinned = {**PROMPT, "pinned_worker": {"worker_id": 2}}
            self.assertEqual({router.post("/select", pinned)[1]["worker_id"] for _ in range(5)}, {2})
            tainted = {**PROMPT, "routing_constraints": {"required_taints": ["zone=a"]}}
            self.assertEqual({router.post("/select", tainted)[1]["worker_id"] for _ in range(5)}, {1})
            allowed = {**PROMPT, "allowed_worker_ids": [2]}
            self.assertEqual({router.post("/select", allowed)[1]["worker_id"] for _ in range(5)}, {2})
            nobody = {**PROMPT, "routing_constraints": {"required_taints": ["zone=b"]}}
            self.assertEqual(router.post("/select", nobody)[0], 503)
            self.assertEqual(router.post("/select", {**PROMPT, "model_name": "other"})[0], 404)
            _, why = router.post("/router/explain", tainted)
            standings = {row["worker_id"]: row["standing"] for row in why["candidates"]}
            self.assertEqual(standings, {1: "eligible", 2: "taint"})
            self.assertEqual(why["candidates"][0]["terms"]["raw_prefill_blocks"], 3.5)  # 14 tokens
            self.assertEqual(why["candidates"][0]["terms"]["cost"], 7.5)  # and 4 blocks to keep
            self.assertEqual((why["choice"]["worker_id"], why["mode"], why["isl_tokens"]), (1, "kv", 14))
            _, why = router.post("/router/explain", nobody)
            self.assertEqual((why["choice"], why["refusal"]["code"]), (None, "Unavailable"))

    def test_keys(self):
        keys = pathlib.Path(self.folder.name) / "keys"
        keys.write_text('{"keys": [{"key": "admin-key-for-tests", "admin": true}, {"key": "user-key-for-tests"}]}')
        with self.router("--api-key-file", str(keys)) as router:
            self.assertEqual(router.get("/health")[0], 200)
            self.assertEqual(router.get("/ready")[0], 503)
            self.assertEqual(router.get("/loads")[0], 401)
            self.assertEqual(router.post("/router/explain", PROMPT)[0], 401)
            self.assertEqual(router.get("/loads", headers={"Authorization": "Bearer user-key-for-tests"})[0], 403)
            self.assertEqual(router.get("/loads", headers=KEY), (200, []))

    def test_a_peers_dump_is_what_it_begins_with_in_all_tiers(self):
        def stored(worker, rank, tier, parent, block):
            return {"worker_id": worker, "storage_tier": tier, "event": {"event_id": 0, "dp_rank": rank, "data": {"stored": {
                "parent_hash": parent, "blocks": [{"block_hash": block + 100, "tokens_hash": block}]}}}}

        big = 2 ** 64 - 5  # hashes are 64 bits without a sign
        dump = {"a:b:group": {"block_size": 16, "events": [
            stored(5, 0, "device", None, 1), stored(5, 0, "device", 101, big), stored(5, 0, "host_pinned", big + 100 - 2 ** 64, 3),
            stored(5, 0, "disk", 103, 4), stored(5, 1, "device", None, 1), stored(6, 0, "host_pinned", None, 1)]}}
        dump["a:b:group"]["events"][1]["event"]["data"]["stored"]["blocks"][0]["block_hash"] = big + 100 - 2 ** 64
        with Peer(dump) as peer, self.router("--peers", peer.url) as router:
            query = {"model_name": "a:b", "routing_group": "group", "block_hashes": [1, big, 3, 4, 5]}
            status, answer = router.post("/query_by_hash", query)
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["instances"], {
                "5": {"longest_matched": 64, "gpu": 32, "dp": {"0": 32, "1": 16}, "cpu": 48, "disk": 64},
                "6": {"longest_matched": 16, "gpu": 0, "dp": {"0": 0}, "cpu": 16, "disk": 16}})
            self.assertEqual(answer["scores"], {"5": {"0": 32, "1": 16}, "6": {"0": 0}})
            self.assertEqual(answer["frequencies"], [2, 1])
            negative = {**query, "block_hashes": [1, big - 2 ** 64]}  # as systems write them that have a sign
            self.assertEqual(router.post("/query_by_hash", negative)[1]["instances"]["5"]["gpu"], 32)
            again = router.get("/dump")[1]["a:b:group"]
            with Peer({"a:b:group": again}) as second, self.router("--peers", second.url) as other:
                self.assertEqual(other.post("/query_by_hash", query)[1], answer)
        for broken in ("{", {"m:g": {"block_size": 0, "events": []}}, {"m:g": {"block_size": 4, "events": [{"worker_id": "x"}]}}):
            with Peer(broken) as peer, self.router("--peers", peer.url) as router:  # it begins empty
                self.assertEqual(router.get("/dump"), (200, {}))

    def test_what_is_wrong_is_named(self):
        with self.router() as router:
            router.post("/workers", {"worker_id": 1, **WORKER})
            for path, body, status in (
                    ("/register", {"instance_id": 1}, 400),
                    ("/query", {"model_name": "m"}, 400),
                    ("/query", {"model_name": "m", "token_ids": ["x"]}, 400),
                    ("/query", {"model_name": "none", "token_ids": [1]}, 404),
                    ("/query_by_hash", {"model_name": "m", "block_hashes": [1.5]}, 400),
                    ("/select", {"model_name": "m"}, 400),
                    ("/select", {"model_name": "m", "block_hashes": [1, 2], "isl_tokens": 7}, 400),
                    ("/select", "{", 400),
                    ("/workers", {"worker_id": 2, "model_name": "m", "block_size": 8, "endpoint": "http://x"}, 400),
                    ("/workers", {"worker_id": 2, "model_name": "m", "data_parallel_size": 100000}, 400),
                    ("/register", {"instance_id": 3, "endpoint": "pixii://nonsense", "model_name": "m", "block_size": 4}, 400),
                    ("/register", {"instance_id": 3, "endpoint": "ftp://x", "model_name": "m", "block_size": 4}, 400),
                    ("/register_peer", {"url": "ftp://x"}, 400),
                    ("/select", {**PROMPT, "selection_id": "x" * 257}, 400),
                    ("/nothing", {}, 404)):
                got, answer = router.post(path, body)
                self.assertEqual(got, status, (path, body, answer))
                self.assertIn("error", answer)
            for path, body, said in (
                    ("/select", {**PROMPT, "pinned_worker": 7}, "pinned_worker: is no object"),
                    ("/select", {**PROMPT, "routing_constraints": []}, "routing_constraints: is no object"),
                    ("/select", {**PROMPT, "router_config_override": 1}, "router_config_override: is no object"),
                    ("/workers", [], "no JSON object"),
                    ("/register", [], "no JSON object")):
                got, answer = router.post(path, body)
                self.assertEqual(got, 400)
                self.assertIn(said, json.dumps(answer))
            got, _, answer = router.request("PATCH", "/workers/abc", {})
            self.assertEqual((got, "worker_id" in json.dumps(answer)), (400, True), answer)
            got, answer = router.get("/workers?model_name=%zz")
            self.assertEqual((got, "model_name" in json.dumps(answer)), (400, True), answer)
            self.assertEqual(router.get("/select")[0], 405)


class WithWorkers(unittest.TestCase):
    """The indexer's contract, with the KV events of real workers."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = cluster.Cluster(2, worker_flags=FLAGS)
        cls.folder = cls.cluster.folder.name
        cls.model = "tiny-chat"

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__(None, None, None)

    def fill(self, text):
        """Makes some worker compute a prompt; its tokens."""
        body = {"model": self.model, "prompt": text, "max_tokens": 1}
        self.assertEqual(self.cluster.frontend.post("/v1/completions", body)[0], 200)
        _, answer = self.cluster.frontend.post("/tokenize", {"model": self.model, "prompt": text})
        return answer["tokens"]

    def longest(self, router, tokens, **more):
        _, answer = router.post("/query", {"model_name": self.model, "token_ids": tokens, **more})
        return max((one["longest_matched"] for one in answer["instances"].values()), default=0)

    def test_discovered_workers_are_heard(self):
        tokens = self.fill("one two three four five six seven eight nine ten " * 12)
        blocks = len(tokens) // 16 * 16
        with Router(self.folder) as router:
            router.wait_for(lambda: self.longest(router, tokens) >= blocks - 16, 20, "the blocks")
            _, answer = router.post("/query", {"model_name": self.model, "token_ids": tokens})
            reached = {key: one["gpu"] for key, one in answer["instances"].items()}
            self.assertEqual(sorted(reached.values())[0], 0)
            self.assertEqual({key: one["0"] for key, one in answer["scores"].items()}, reached)
            self.assertEqual(len(answer["frequencies"]) * 16, max(reached.values()))
            for one in answer["instances"].values():
                self.assertLessEqual(one["gpu"], one["cpu"])
                self.assertLessEqual(one["cpu"], one["disk"])
                self.assertEqual(one["longest_matched"], one["disk"])
            self.assertEqual(self.longest(router, tokens, cache_salt="other"), 0)
            holder = max(reached, key=reached.get)
            _, chosen = router.post("/select", {"model_name": self.model, "token_ids": tokens})
            self.assertEqual(str(chosen["worker_id"]), holder)
            self.assertEqual(chosen["overlap"]["gpu"], reached[holder])
            self.assertEqual(chosen["effective_prefill_tokens"], len(tokens) - reached[holder])
            status, workers = router.get("/workers")
            self.assertEqual([(one["source"], one["status"]) for one in workers], [("discovery", "active")] * 2)

    def test_the_indexers_contract(self):
        tokens = self.fill("red orange yellow green blue indigo violet black white " * 12)
        blocks = len(tokens) // 16 * 16
        empty = tempfile.TemporaryDirectory(prefix="pixii-router-")
        self.addCleanup(empty.cleanup)
        ports = [self.address(worker) for worker in self.cluster.workers]
        with Router(empty.name, "--namespace", "alone") as router:
            for number, port in enumerate(ports):
                body = {"instance_id": number, "endpoint": f"pixii://{port}", "model_name": self.model, "block_size": 16,
                        "tenant_id": "ignored"}
                self.assertEqual(router.post("/register", body)[0], 201)
            self.assertEqual(router.post("/register", body)[0], 400)  # twice
            router.wait_for(lambda: self.longest(router, tokens) >= blocks - 16, 20, "the blocks")
            ours = f"/workers?model_name={self.model}&routing_group=default"
            router.wait_for(lambda: all(one["status"] == "active" for one in router.get(ours)[1]), 20, "both workers")
            _, workers = router.get(ours)
            self.assertEqual([(one["instance_id"], one["source"], one["status"], one["block_size"]) for one in workers],
                             [(0, "zmq", "active", 16), (1, "zmq", "active", 16)])
            self.assertEqual(workers[0]["endpoints"], {"0": f"pixii://{ports[0]}"})
            self.assertEqual(workers[0]["listeners"]["0"], {"endpoint": f"pixii://{ports[0]}", "status": "active"})
            self.assertEqual(router.get("/workers?model_name=none"), (200, []))
            # One that is not there is waited for.
            pending = {"instance_id": 9, "endpoint": "pixii://127.0.0.1:1", "model_name": self.model, "block_size": 16, "dp_rank": 3}
            self.assertEqual(router.post("/register", pending)[0], 201)
            _, workers = router.get("/workers")
            self.assertEqual((workers[2]["status"], workers[2]["listeners"]["3"]["status"]), ("pending", "pending"))
            self.assertIn(b"dynamo_kvindexer_listeners{status=\"pending\"} 1", router.request("GET", "/metrics")[2].encode())
            hashes = [event["event"]["data"]["stored"]["blocks"][0]["tokens_hash"]
                      for event in self.chain(router.get("/dump")[1], tokens)]
            _, by_hash = router.post("/query_by_hash", {"model_name": self.model, "block_hashes": hashes})
            self.assertEqual(max(one["gpu"] for one in by_hash["instances"].values()), len(hashes) * 16)
            for salt in ("", "x"):
                self.assertEqual(router.post("/query_by_hash", {"model_name": self.model, "block_hashes": hashes,
                                                                "cache_salt": salt})[0], 400)
            self.assertEqual(router.post("/query_by_hash", {"model_name": self.model, "block_hashes": hashes,
                                                            "cache_salt": None})[0], 200)
            self.assertEqual(router.post("/reopen_logs", {}), (200, {"status": "ok"}))
            # A replica begins with what this one knows, though it hears no worker itself.
            with Router(empty.name, "--namespace", "replica", "--peers",
                        f"http://127.0.0.1:1,http://127.0.0.1:{router.port}") as replica:
                self.assertEqual(self.longest(replica, tokens), self.longest(router, tokens))
                self.assertEqual(len(replica.get("/peers")[1]), 2)
                self.assertEqual(replica.get("/workers"), (200, []))
                self.assertEqual(replica.post("/deregister_peer", {"url": "http://127.0.0.1:1"})[0], 200)
                self.assertEqual(replica.post("/register_peer", {"url": "http://127.0.0.1:2"})[0], 201)
                self.assertEqual(replica.get("/peers")[1], sorted(["http://127.0.0.1:2", f"http://127.0.0.1:{router.port}"]))
            self.assertEqual(router.post("/unregister", {"instance_id": 9, "model_name": self.model, "dp_rank": 3})[0], 200)
            for number in range(2):
                self.assertEqual(router.post("/unregister", {"instance_id": number, "model_name": self.model})[0], 200)
            self.assertEqual(router.post("/unregister", {"instance_id": 0, "model_name": self.model})[0], 404)
            self.assertEqual(self.longest(router, tokens), 0)

    def address(self, worker):
        """Where a worker listens, as its log says."""
        for line in worker.log_text().splitlines():
            if "worker.ready" in line:
                return line.split("address=")[1].split()[0].strip('"')
        raise AssertionError(worker.log_text())

    def chain(self, dump, tokens):
        """The events of the longest chain of blocks of a dump, from its root."""
        events = dump[f"{self.model}:default"]["events"]
        self.assertEqual(dump[f"{self.model}:default"]["block_size"], 16)
        best = []
        for worker in {event["worker_id"] for event in events}:
            by_parent = {}
            for event in events:
                if event["worker_id"] == worker:
                    by_parent.setdefault(event["event"]["data"]["stored"]["parent_hash"], []).append(event)
            todo = [[root] for root in by_parent.get(None, [])]
            while todo:
                chain = todo.pop()
                best = max(best, chain, key=len)
                after = chain[-1]["event"]["data"]["stored"]["blocks"][0]["block_hash"]
                todo += [chain + [event] for event in by_parent.get(after, [])]
        self.assertGreater(len(best), len(tokens) // 16 - 2)
        return best


class Replicas(unittest.TestCase):
    def test_two_routers_count_what_either_sends(self):
        with tempfile.TemporaryDirectory(prefix="pixii-router-") as folder:
            flags = ("--router-replica-sync", "--router-active-request-expiry-secs", "5s")
            with Router(folder, *flags) as one, Router(folder, *flags) as two:
                for router in (one, two):
                    router.post("/workers", {"worker_id": 1, **WORKER})
                one.post("/new", {**PROMPT, "request_id": "r"})
                two.wait_for(lambda: loads(two)[(1, 0)] == (14, 4, 1), 10, "the other's load")
                one.post("/mark_prefill", {"request_id": "r"})
                two.wait_for(lambda: loads(two)[(1, 0)] == (0, 4, 1), 10, "the other's prefill")
                one.post("/mark_free", {"request_id": "r"})
                two.wait_for(lambda: loads(two)[(1, 0)] == (0, 0, 0), 10, "the other's end")


if __name__ == "__main__":
    harness.main()
