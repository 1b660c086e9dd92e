"""What every role says at /metrics: names, types, labels and bounds as a table has them, and figures that are true."""
import concurrent.futures
import contextlib
import json
import pathlib
import random
import shutil
import string
import subprocess
import tempfile
import unittest

import cluster
import harness
from metrics_cluster import CHAT, WORKER, MetricsCluster, chat, families, scrape

GOLDEN = pathlib.Path(__file__).parent / "metrics_golden.tsv"
# What promtool says of names that are others': they are as dashboards know them.
FOREIGN = ("dynamo_", "trtllm_", "kvbm_")
OPEN = "application/openmetrics-text;version=1.0.0"


def golden():
    for line in GOLDEN.read_text().splitlines():
        if not line.startswith("#"):
            name, kind, roles, labels, bounds = line.split("\t")
            yield name, kind, roles.split(","), tuple(labels.split(",")) if labels else (), [float(b) for b in bounds.split()]


def stable(process):
    """What it said last, once two expositions in a row count the same."""
    seen = []

    def same():
        seen.append(families(process).total("dynamo_frontend_request_duration_seconds_count"))
        return len(seen) > 1 and seen[-1] == seen[-2]

    harness.wait_for(same, 10, "it counts no more")
    return families(process)


class Names(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            both = cls.stack.enter_context(MetricsCluster())
            frontend = both.frontends[0]
            for number in range(3):
                status, answer = frontend.post(CHAT, chat(f"The {number} of many words that fill a block or two. " * 6))
                assert status == 200, answer
            both.processes["router"].request("GET", "/workers")
            root = cls.stack.enter_context(tempfile.TemporaryDirectory(prefix="pixii-names-"))
            key = pathlib.Path(root, "key")
            key.write_bytes(b"k" * 32)
            pathlib.Path(root, "cluster").mkdir()
            agg = cls.stack.enter_context(cluster.RoleWorker(root, "agg", *WORKER))
            encode = cls.stack.enter_context(cluster.RoleWorker(root, "encode", "--threads", "1", model="tiny-vlm"))
            with cluster.Frontend(f"{root}/cluster") as other:
                other.wait_for(lambda: other.post(CHAT, chat("hello", model="tiny-chat"))[0] == 200, 20, "an answer")
            cls.processes = {"frontend": frontend, "router": both.processes["router"], "prefill": both.processes["prefill-0"],
                             "decode": both.processes["decode-0"], "agg": agg, "encode": encode}
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def test_every_role_has_what_the_table_has(self):
        said = {role: families(process) for role, process in self.processes.items()}
        wrong = []
        for name, kind, roles, labels, bounds in golden():
            for role in roles:
                found = said[role]
                if name not in found.samples:
                    wrong.append(f"{role}: {name} is not there")
                    continue
                if found.types[name] != kind:
                    wrong.append(f"{role}: {name} is a {found.types[name]}, not a {kind}")
                if found.labels(name) != {labels}:
                    wrong.append(f"{role}: {name} has {found.labels(name)}, not {labels}")
                if bounds and found.bounds(name) != bounds:
                    wrong.append(f"{role}: {name} has the bounds {found.bounds(name)}")
        self.assertEqual(wrong, [])

    def test_others_roles_names_are_not_there(self):
        said = {role: set(families(process).samples) for role, process in self.processes.items()}
        for role in ("prefill", "decode", "agg", "encode"):
            self.assertEqual([name for name in said[role] if name.startswith(("dynamo_frontend_", "dynamo_router_"))], [], role)
        self.assertEqual([name for name in said["frontend"] if name.startswith("trtllm_")], [])
        # A router's process is asked where requests go; how long it thinks and who waits is the frontends' to say.
        self.assertEqual([name for name in said["router"] if "overhead" in name or "queue" in name or "worker_active" in name], [])
        for role in ("prefill", "agg", "encode"):
            self.assertEqual([name for name in said[role] if name.startswith("trtllm_kv_transfer")], [], f"{role}: of decode workers alone")

    def test_open_metrics_for_who_asks(self):
        for role, process in self.processes.items():
            with self.subTest(role):
                text, kind = scrape(process, OPEN)
                self.assertTrue(kind.startswith("application/openmetrics-text; version=1.0.0"), kind)
                self.assertTrue(text.endswith("\n# EOF\n"))
                counters = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ") and line.endswith(" counter")}
                self.assertTrue(counters)
                self.assertFalse([name for name in counters if name.endswith("_total")])
                text, kind = scrape(process)
                self.assertTrue(kind.startswith("text/plain; version=0.0.4"), kind)
                self.assertNotIn("# EOF", text)

    @unittest.skipIf(shutil.which("promtool") is None, "promtool (prometheus of tools/packages.txt) is not installed")
    def test_prometheus_reads_every_process(self):
        for role, process in self.processes.items():
            with self.subTest(role):
                done = subprocess.run(["promtool", "check", "metrics"], input=scrape(process)[0], capture_output=True, text=True, timeout=60)
                said = (done.stdout + done.stderr).splitlines()
                self.assertNotIn("error while linting", "\n".join(said))
                self.assertEqual([line for line in said if not line.startswith(FOREIGN)], [])

    def test_a_request_s_times_add_up(self):
        for role in ("agg", "prefill", "decode"):
            said = families(self.processes[role])
            counts = {name: said.total(f"trtllm_{name}_count") for name in
                      ("e2e_request_latency_seconds", "time_to_first_token_seconds", "request_queue_time_seconds",
                       "request_prefill_time_seconds", "request_decode_time_seconds", "request_inference_time_seconds",
                       "prompt_cached_tokens_per_request")}
            self.assertEqual(set(counts.values()), {said.total("trtllm_request_success_total")}, counts)
            self.assertGreater(said.total("trtllm_request_success_total"), 0)
            total = said.total("trtllm_e2e_request_latency_seconds_sum")
            parts = sum(said.total(f"trtllm_request_{part}_time_seconds_sum") for part in ("queue", "prefill", "decode"))
            self.assertGreater(said.total("trtllm_request_prefill_time_seconds_sum"), 0)
            self.assertAlmostEqual(total, parts, delta=0.005 * counts["e2e_request_latency_seconds"])

    def test_transfers_are_counted_at_the_decode_worker_alone(self):
        frontend, decode = self.processes["frontend"], self.processes["decode"]
        handed = cluster.total(frontend, "pixii_disaggregation_total", 'path="prefill"')
        self.assertGreater(handed, 0)
        said = families(decode)
        self.assertEqual(said.total("trtllm_kv_transfer_success_total"), said.total("pixii_handover_ends_total", state="done"))
        for name in ("latency_seconds", "bytes", "speed_gb_s"):
            self.assertEqual(said.total(f"trtllm_kv_transfer_{name}_count"), said.total("trtllm_kv_transfer_success_total"), name)
        self.assertGreater(said.total("trtllm_kv_transfer_success_total"), 0)
        self.assertEqual(said.total("trtllm_kv_transfer_failure_total"), 0)


class Truth(unittest.TestCase):
    def test_counts_are_the_clients_own(self):
        """100 requests: most end, some are refused, some are left."""
        with cluster.Cluster(1, worker_flags=("--max-batch", "8", "--threads", "1")) as one:
            frontend = one.frontend
            draw = random.Random(5)
            before = families(frontend)
            mine = {"success": 0, "error": 0, "cancelled": 0, "prompt": 0, "output": 0}

            def ask(number):
                if number % 10 == 3:  # no such temperature
                    status, _ = frontend.post(CHAT, chat("no", temperature=-1))
                    return ("error", 0, 0) if status == 400 else ("?", status, 0)
                if number % 10 == 7:  # the client goes
                    stream = frontend.stream(CHAT, chat(f"go on {number}", 4000))
                    next(stream)
                    stream.close()
                    return "cancelled", 0, 0
                status, answer = frontend.post(CHAT, chat(f"request {number} " * (1 + number % 7), 1 + draws[number]))
                usage = answer["usage"]
                return ("success", usage["prompt_tokens"], usage["completion_tokens"]) if status == 200 else ("?", status, 0)

            draws = [draw.randrange(12) for _ in range(100)]
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                for kind, prompt, output in pool.map(ask, range(100)):
                    mine[kind] += 1
                    mine["prompt"] += prompt
                    mine["output"] += output
            self.assertEqual((mine["success"], mine["error"], mine["cancelled"]), (80, 10, 10))

            def of(name, **labels):
                now = families(frontend)
                return now.total(f"dynamo_frontend_{name}", **labels) - before.total(f"dynamo_frontend_{name}", **labels)

            frontend.wait_for(lambda: of("requests_total") == 100, 10, "all requests are counted")
            self.assertEqual(of("requests_total", status="success"), 80)
            self.assertEqual(of("requests_total", error_type="validation"), 10)
            self.assertEqual(of("requests_total", error_type="cancelled"), 10)
            self.assertEqual(of("model_cancellation_total"), 10)
            self.assertEqual(of("disconnected_clients"), 10)
            self.assertEqual(of("requests_started_total"), 90, "those that were admitted")
            for name in ("request_duration_seconds", "input_sequence_tokens", "output_sequence_tokens", "cached_tokens"):
                self.assertEqual(of(f"{name}_count"), 90, name)
            self.assertEqual(of("time_to_first_token_seconds_count"), 90)
            for gauge in ("active_requests", "inflight_requests", "stage_requests"):
                self.assertEqual(families(frontend).total(f"dynamo_frontend_{gauge}"), 0, gauge)
            # Of those that ended, tokens to the last one; of the others at least what the client saw.
            self.assertGreaterEqual(of("output_tokens_total"), mine["output"] + 10)
            exact = families(frontend)
            for number in range(20):
                answer = frontend.post(CHAT, chat(f"exactly {number}", 1 + number))[1]
                mine["output"] = answer["usage"]["completion_tokens"] + (mine["output"] if number else 0)
                mine["prompt"] = answer["usage"]["prompt_tokens"] + (mine["prompt"] if number else 0)
            now = families(frontend)
            difference = lambda name: now.total(f"dynamo_frontend_{name}") - exact.total(f"dynamo_frontend_{name}")  # noqa: E731
            self.assertEqual(difference("output_tokens_total"), mine["output"])
            self.assertEqual(difference("output_sequence_tokens_sum"), mine["output"])
            self.assertEqual(difference("input_sequence_tokens_sum"), mine["prompt"])

    def test_no_client_makes_a_series(self):
        with cluster.Cluster(1, worker_flags=("--max-batch", "4", "--threads", "1")) as one:
            frontend = one.frontend
            draw = random.Random(17)
            word = lambda: "".join(draw.choices(string.ascii_letters + string.digits, k=12))  # noqa: E731
            keys = lambda: {key for samples in families(frontend).samples.values() for key in samples}  # noqa: E731
            frontend.post(CHAT, chat("one", model=word()))
            frontend.post(CHAT, chat("one"), headers={"x-request-id": word()})
            with contextlib.closing(frontend.connection()) as connection:
                def ask():
                    body = json.dumps({"model": word(), "messages": [{"role": "user", "content": word()}], "user": word()})
                    connection.request("POST", CHAT, body=body, headers={
                        "Content-Type": "application/json", "x-request-id": word(), "User-Agent": word(), "x-" + word(): word(),
                        "x-dynamo-session-id": word(), "Authorization": "Bearer " + word()})
                    response = connection.getresponse()
                    response.read()
                    return response.status

                self.assertEqual(ask(), 404)
                before = keys()
                self.assertEqual({ask() for _ in range(self.strings())}, {404})
            self.assertEqual(keys() - before, set())

    def strings(self):
        return 2000


class Presence(unittest.TestCase):
    def test_gauges_go_with_the_last_worker_and_counters_stay(self):
        with cluster.Cluster(1, worker_flags=("--threads", "1")) as one:
            frontend = one.frontend
            self.assertEqual(frontend.post(CHAT, chat("hello"))[0], 200)
            model = {name for name in families(frontend).samples if name.startswith("dynamo_frontend_model_")
                     and families(frontend).types[name] == "gauge"}
            self.assertGreaterEqual(len(model), 6)
            counted = families(frontend).total("dynamo_frontend_output_tokens_total")
            self.assertGreater(counted, 0)
            worker = one.workers.pop()
            self.assertEqual(worker.stop(), 0)
            worker.folder.cleanup()
            gauges = lambda: [name for name in families(frontend).samples if "_model_context_length" in name  # noqa: E731
                              or "model_total_kv_blocks" in name or "_worker_active" in name]
            frontend.wait_for(lambda: not gauges(), 20, "its gauges are gone")
            self.assertEqual(families(frontend).total("dynamo_frontend_output_tokens_total"), counted)
            self.assertEqual(families(frontend).total("dynamo_frontend_requests_total", status="success"), 1)

    def test_who_does_not_route_by_cache_says_nothing_of_it(self):
        with cluster.Cluster(1, worker_flags=("--threads", "1"), frontend_flags=("--router-mode", "round-robin")) as one:
            self.assertEqual(one.frontend.post(CHAT, chat("hello"))[0], 200)
            said = families(one.frontend)
            self.assertEqual([name for name in said.samples if "overhead" in name or "router_queue" in name or "kv_cache_events" in name], [])
            router = {name: said.total(name + ("_count" if said.types[name] == "histogram" else ""))
                      for name in said.samples if name.startswith("dynamo_component_router_")}
            self.assertGreaterEqual(len(router), 7)
            self.assertEqual(set(router.values()), {0})
            self.assertIn("dynamo_frontend_worker_last_input_sequence_tokens", said.samples)


if __name__ == "__main__":
    harness.main()
