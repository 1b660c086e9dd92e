"""Traces of requests: over frontend, prefill and decode each is one whole tree, whatever is cancelled or killed meanwhile."""
import contextlib
import json
import os
import pathlib
import random
import re
import tempfile
import threading
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import cluster
import harness
import otlp

COMPLETIONS = "/v1/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
REQUESTS = int(os.environ.get("PIXII_TREES", 1000))
CANCEL_EVERY = 50  # requests
AT_A_TIME = 8
WORDS = "the cat sat on a mat and saw one more of them come in from the garden where it had been raining all day".split()


class Disaggregated:
    """A frontend that exports, one prefill and two decode workers."""

    def __init__(self, *frontend_flags, flags=(), decode=2):
        self.stack = contextlib.ExitStack()
        try:
            self.folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="pixii-trace-"))
            os.mkdir(f"{self.folder}/cluster")
            pathlib.Path(f"{self.folder}/key").write_bytes(os.urandom(32))
            self.flags = flags
            self.prefill = self.add("prefill")
            self.decode = [self.add("decode") for _ in range(decode)]
            self.frontend = cluster.Frontend(f"{self.folder}/cluster", *frontend_flags)
            self.stack.callback(self.end, self.frontend)
            self.wait_for_workers()
        except BaseException:
            self.stack.close()
            raise

    def add(self, role):
        worker = cluster.RoleWorker(self.folder, role, *FLAGS, *self.flags)
        self.stack.callback(self.end, worker)
        return worker

    @staticmethod
    def end(process):
        process.kill()
        process.folder.cleanup()

    def wait_for_workers(self):
        self.frontend.wait_for(
            lambda: cluster.total(self.frontend, "dynamo_frontend_router_worker_state", 'state="available"') == 1 + len(self.decode),
            20, "the workers")

    def kill_who_decodes(self, label):
        """The decode worker that the router gave a request to, as the frontend's log says. Needs router=debug there."""
        found = re.findall(f"event=router.decision .*x_request_id={label} .*worker=([0-9]+)", self.frontend.log_path.read_text())
        worker = next(one for one in self.decode if str(one.instance()) in found)
        self.decode.remove(worker)
        worker.kill()

    def ask_and_kill(self, body, headers):
        """A stream whose worker dies behind some tokens."""
        with contextlib.closing(self.frontend.connection()) as connection:
            connection.request("POST", COMPLETIONS, body=json.dumps(body), headers={"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            first = b"".join(response.readline() for _ in range(20))  # the prefill worker gives the first token alone
            self.kill_who_decodes(headers["x-request-id"])
            return first + response.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()


def prompt(number):
    draw = random.Random(number)
    return " ".join(draw.choices(WORDS, k=30 + number % 40))


def traceparent(number):
    return f"00-{number + 1:032x}-{number + 1:016x}-01"


class Trees(unittest.TestCase):
    def check_tree(self, spans, parent=""):
        """Whole, no orphan, children within their parents; returns its root."""
        by_id = {span.id: span for span in spans}
        self.assertEqual(len(by_id), len(spans), "a span id twice")
        roots = [span for span in spans if span.parent not in by_id]
        self.assertEqual([(root.name, root.parent) for root in roots], [("http-request", parent)])
        for span in spans:
            self.assertLessEqual(span.begin, span.end)
            if span is not roots[0]:
                above = by_id[span.parent]
                self.assertLessEqual(above.begin, span.begin, f"{span.name} begins before {above.name}")
                self.assertLessEqual(span.end, above.end, f"{span.name} ends behind {above.name}")
        return roots[0]

    def attempts(self, spans, phase):
        found = [span for span in spans if span.name == "handle_payload" and span.attributes["pixii.phase"] == phase]
        return sorted(found, key=lambda span: span.begin)

    def test_every_tree_is_whole_whatever_is_cancelled_or_killed(self):
        collector = otlp.Collector(refusals=1)
        self.addCleanup(collector.close)
        with Disaggregated("--otel-export", "--otel-endpoint", collector.url, "--otel-service-name", "front",
                           "--log-level", "info,router=debug") as fleet:
            def ask(number):
                body = {"prompt": prompt(number), "max_tokens": 40 if number % CANCEL_EVERY == 7 else 6 + number % 5, "ignore_eos": True,
                        "stream": True}
                headers = {"Content-Type": "application/json", "x-request-id": f"client-{number}"}
                if number % 2 == 0:
                    headers |= {"traceparent": traceparent(number), "tracestate": "of=tests"}
                with contextlib.closing(fleet.frontend.connection()) as connection:
                    connection.request("POST", COMPLETIONS, body=json.dumps(body), headers=headers)
                    response = connection.getresponse()
                    self.assertEqual(response.status, 200)
                    self.assertEqual(response.headers["x-request-id"], f"client-{number}")
                    if number % 2 == 0:
                        self.assertEqual(response.headers["traceparent"][:36], traceparent(number)[:36])
                    if number % CANCEL_EVERY == 7:
                        response.fp.readline()
                        return  # the client goes away
                    self.assertIn(b"[DONE]", response.read())

            with ThreadPoolExecutor(AT_A_TIME) as pool:
                asked = [pool.submit(ask, number) for number in range(REQUESTS)]
                asked[REQUESTS // 2].result()
                text = fleet.ask_and_kill({"prompt": prompt(0), "max_tokens": 3000, "ignore_eos": True, "stream": True},
                                          {"x-request-id": "client-killed"})
                self.assertIn(b"[DONE]", text)
                for one in asked:
                    one.result()
            expected = {"client-killed", *(f"client-{number}" for number in range(REQUESTS))}
            labels = {}

            def arrived():
                labels.clear()
                for spans in collector.traces().values():
                    labels[spans[0].attributes.get("x_request_id")] = spans
                return expected <= labels.keys()

            harness.wait_for(arrived, 60, "all traces", lambda: f"{len(labels)} of {REQUESTS}\n{fleet.frontend.log_text()}")
            # The same tree is to be had from the frontend, and in the terminal.
            url = f"http://127.0.0.1:{fleet.frontend.port}"
            status, _, shown = fleet.frontend.request("GET", f"/v1/traces/client-{REQUESTS - 1}")
            self.assertEqual(status, 200, shown)
            self.assertEqual({span["span_id"] for span in shown["spans"]}, {span.id for span in labels[f"client-{REQUESTS - 1}"]})
            chart = harness.run_pixii("trace", f"client-{REQUESTS - 1}", "--url", url)
            self.assertEqual(chart.returncode, 0, chart.stderr)
            for name in ("http-request", "prefill_routing", "handle_payload", "worker", "decode"):
                self.assertIn(name, chart.stdout)
            status, _, refused = fleet.frontend.request("GET", "/v1/traces/nobody")
            self.assertEqual((status, refused["error"]["param"]), (404, "request_id"), refused)
            self.assertEqual(harness.run_pixii("trace", "nobody", "--url", url).returncode, 1)
        self.assertEqual({one["service.name"] for one in collector.resources}, {"front"})
        moved = cancelled = disaggregated = brought = 0
        self.check_tree(labels["client-killed"])
        attempts = self.attempts(labels["client-killed"], "decode")
        self.assertGreaterEqual(len(attempts), 2)
        self.assertIn("Disconnected", attempts[0].error)
        self.assertIn(attempts[0].id, attempts[1].links)
        below = {span.parent for span in labels["client-killed"]}
        self.assertNotIn(attempts[0].id, below, "a killed worker said something")
        self.assertIn(attempts[-1].id, below)
        for number in range(REQUESTS):
            spans = labels[f"client-{number}"]
            given = number % 2 == 0
            root = self.check_tree(spans, f"{number + 1:016x}" if given else "")
            if given:
                self.assertEqual(root.trace, f"{number + 1:032x}")
                self.assertEqual({span.state for span in spans}, {"of=tests"})
            self.assertEqual({span.attributes["x_request_id"] for span in spans}, {f"client-{number}"})
            prefill, decode = self.attempts(spans, "prefill"), self.attempts(spans, "decode")
            for earlier, later in zip(decode, decode[1:]):
                self.assertIn(earlier.id, later.links)
            moved += any(span.error for span in decode)
            if number % CANCEL_EVERY == 7:
                cancelled += "CANCELLED" in root.error.upper()
                continue
            self.assertEqual(root.error, "")
            self.assertEqual(root.attributes["gen_ai.usage.output_tokens"], 6 + number % 5)
            self.assertEqual(root.attributes["gen_ai.response.finish_reasons"], "length")
            names = {span.name for span in spans}
            self.assertLessEqual({"preprocess", "handle_payload", "worker", "queue", "decode"}, names)
            if prefill and decode:
                disaggregated += 1
                self.assertLessEqual(prefill[-1].end, decode[0].begin)
                self.assertEqual(next(span.name for span in spans if span.id == prefill[-1].parent), "prefill_routing")
                moves = [span.attributes["pixii.bytes"] for span in spans if span.name == "kv_transfer"]
                brought = brought or any(bytes_ > 0 for bytes_ in moves)
                self.assertEqual(decode[0].parent, root.id)
        self.assertGreater(disaggregated, REQUESTS * 3 // 4)
        self.assertGreater(cancelled, 0)
        self.assertTrue(brought, "no span says how many bytes of KV came")
        print(f"{REQUESTS} trees of {len(collector.spans)} spans, {disaggregated} over prefill and decode, {cancelled} cancelled, {moved} moved")

    def test_a_traceparent_that_cannot_be_read_is_as_none(self):
        collector = otlp.Collector()
        self.addCleanup(collector.close)
        env = {"OTEL_EXPORT_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "by-variable",
               "OTEL_EXPORTER_OTLP_HEADERS": "x-team=tests"}
        bad = ["", "00-zz", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
        with harness.Server("tiny-chat", *FLAGS, env=env) as server:
            for number, text in enumerate(bad):
                status, headers, body = server.request("POST", COMPLETIONS, {"prompt": "a b", "max_tokens": 2},
                                                       headers={"traceparent": text, "x-request-id": f"bad-{number}"})
                self.assertEqual(status, 200, body)
                self.assertNotIn("traceparent", headers)
            status, _, body = server.request("POST", COMPLETIONS, {"prompt": "a", "max_tokens": -1}, headers={"x-request-id": "refused"})
            self.assertEqual(status, 400, body)
        traces = {spans[0].attributes["x_request_id"]: spans for spans in collector.traces().values()}  # sent at the end, too
        self.assertEqual(set(traces), {*(f"bad-{number}" for number in range(len(bad))), "refused"})
        for name, spans in traces.items():
            root = self.check_tree(spans)
            self.assertEqual(bool(root.error), name == "refused")
        self.assertTrue(all(headers["x-team"] == "tests" for headers in collector.headers))

    def test_a_slow_bucket_names_the_trace_that_fell_into_it(self):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        with harness.Server("tiny-chat", *FLAGS) as server:
            status, _, body = server.request("POST", COMPLETIONS, {"prompt": "a b", "max_tokens": 2},
                                             headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
            self.assertEqual(status, 200, body)
            asked = urllib.request.Request(f"http://127.0.0.1:{server.port}/metrics", headers={"Accept": "application/openmetrics-text"})
            with urllib.request.urlopen(asked, timeout=30) as reply:
                text = reply.read().decode()
            for name in ("time_to_first_token_seconds", "request_duration_seconds"):
                self.assertRegex(text, f'dynamo_frontend_{name}_bucket.* # {{trace_id="{trace}"}}')

    def test_a_collector_that_is_away_or_speaks_grpc_harms_no_request(self):
        with harness.Server("tiny-chat", *FLAGS, "--otel-export", "--otel-endpoint", "http://127.0.0.1:9") as server:
            status, body = server.post(COMPLETIONS, {"prompt": "a b", "max_tokens": 2})
            self.assertEqual(status, 200, body)
            server.wait_for(lambda: "event=trace.lost" in server.log_path.read_text(), 20, "what is lost to be told")
        refused = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--otel-export",
                                    env={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
        self.assertEqual(refused.returncode, 2)
        self.assertIn("otel-protocol: grpc", refused.stderr)


class AnyNode(unittest.TestCase):
    def test_an_odd_answer_is_drawn_within_its_bounds(self):
        spans = [{"name": 5, "parent_span_id": 9, "start_ns": -1, "end_ns": "x"}, {"span_id": "a", "parent_span_id": "a", "start_ns": 900, "end_ns": 5}]

        class Odd(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({"object": "trace", "spans": spans * 40, "duration_ns": 100}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with HTTPServer(("127.0.0.1", 0), Odd) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            done = harness.run_pixii("trace", "x", "--url", f"http://127.0.0.1:{server.server_port}")
            server.shutdown()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 3 + 80)

    def test_who_only_looks_makes_no_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            away = pathlib.Path(folder) / "typo"
            done = harness.run_pixii("trace", "x", "--discovery", f"file:{away}")
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"discovery: there is no folder {away}", done.stderr)
            self.assertFalse(away.exists())

    def test_a_cluster_is_asked_by_its_discovery(self):
        with tempfile.TemporaryDirectory(prefix="pixii-anynode-") as folder, \
                cluster.Worker(folder, "tiny-chat", *FLAGS), \
                cluster.Frontend(folder, "--announce-http") as one, cluster.Frontend(folder, "--announce-http") as other, \
                cluster.Frontend(folder) as silent:
            for number, frontend in enumerate((one, other, silent)):
                frontend.wait_for(lambda frontend=frontend: frontend.request("GET", "/ready")[0] == 200, 20, "a worker")
                status, _, body = frontend.request("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
                                                   headers={"x-request-id": f"asked-{number}"})
                self.assertEqual(status, 200, body)
            for number in range(2):
                shown = harness.run_pixii("trace", f"asked-{number}", "--discovery", f"file:{folder}", "--json")
                self.assertEqual(shown.returncode, 0, shown.stderr)
                spans = {span["name"]: span for span in json.loads(shown.stdout)["spans"]}
                self.assertLessEqual({"preprocess", "template", "tokenize", "worker"}, spans.keys())
                for name in ("template", "tokenize"):
                    self.assertEqual(spans[name]["parent_span_id"], spans["preprocess"]["span_id"])
                self.assertLessEqual(spans["template"]["end_ns"], spans["tokenize"]["start_ns"])
            self.assertEqual(harness.run_pixii("trace", "asked-2", "--discovery", f"file:{folder}").returncode, 1)
            nobody = harness.run_pixii("trace", "asked-0", "--discovery", f"file:{folder}", "--namespace", "other")
            self.assertEqual(nobody.returncode, 2)
            self.assertIn("--announce-http", nobody.stderr)


class Logs(unittest.TestCase):
    def test_every_line_about_a_request_has_its_ids_in_all_processes(self):
        flags = ("--log-jsonl", "--log-level", "info,worker=debug")
        with Disaggregated("--log-jsonl", "--log-level", "info,request=debug", flags=flags, decode=1) as fleet:
            status, _, body = fleet.frontend.request("POST", COMPLETIONS, {"prompt": prompt(1), "max_tokens": 4, "ignore_eos": True},
                                                     headers={"traceparent": traceparent(0), "x-request-id": "of-mine"})
            self.assertEqual(status, 200, body)
            for process, event in ((fleet.frontend, "request.ended"), (fleet.prefill, "worker.took"), (fleet.decode[0], "worker.took"),
                                   (fleet.decode[0], "worker.ended")):
                def line(process=process, event=event):
                    whole = process.log_path.read_text().rpartition("\n")[0]
                    lines = [json.loads(one) for one in whole.splitlines() if one.startswith("{")]
                    return next((one for one in lines if one["event"] == event and one.get("x_request_id") == "of-mine"), None)

                found = harness.wait_for(line, 10, event, process.log_text)
                self.assertEqual(found["trace_id"], traceparent(0)[3:35])

    def test_a_level_of_one_target_leaves_the_others_alone(self):
        with harness.Server("tiny-chat", *FLAGS, env={"DYN_LOG": "warn,request=debug", "DYN_LOGGING_JSONL": "1"}) as server:
            self.assertEqual(server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1})[0], 200)
            server.wait_for(lambda: "request.ended" in server.log_path.read_text(), 10, "the request's line")
            events = {json.loads(line)["event"] for line in server.log_path.read_text().splitlines() if line.startswith("{")}
            self.assertEqual(events, {"request.ended"})
        refused = harness.run_pixii("serve", "tiny-chat", "--log-level", "info,nothing=debug")
        self.assertEqual(refused.returncode, 2)
        self.assertRegex(refused.stderr, re.escape("log-level: \"nothing=debug\""))


if __name__ == "__main__":
    harness.main()
