"""Agents: whose turn a request is, records of requests and tools, turns that are prepared before they come, blocks that a session keeps."""
import contextlib
import gzip
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import event_plane_test
import harness
import otlp
import s3_stub

sys.path.insert(0, str(harness.ROOT / "models/tiny-chat/train"))
import mix  # noqa: E402  the model's own held-out conversations

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's, for which python3-zmq and python3-msgpack are
PUSH = """import json, sys, msgpack, zmq
socket = zmq.Context().socket(zmq.PUSH)
socket.connect(sys.argv[1])
for number, (topic, form, event) in enumerate(json.load(sys.stdin)):
    payload = msgpack.packb(event) if form == "msgpack" else json.dumps(event).encode()
    socket.send_multipart([topic.encode(), number.to_bytes(8, "big"), payload])
socket.close(10_000)
zmq.Context.instance().term()
"""
MOCK = ("--engine", "mock", "--max-context", "2048", "--block-size", "16", "--session-kv-share", "0.4")
CONVERSATION = [{"role": "system", "content": "You are the keeper of a small zoo and answer in short sentences, whatever is asked of you."},
                {"role": "user", "content": "What do the three penguins of the second house eat in the morning, and what in the evening?"}]


def tokens(seed, count):
    draw = random.Random(seed)
    return [draw.randrange(100, 1000) for _ in range(count)]


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def ask(server, path, body, headers=None):
    status, _, answer = server.request("POST", path, body, headers)
    if status != 200:
        raise AssertionError(f"{status}: {answer}")
    return answer


def complete(server, prompt, headers=None, **more):
    return ask(server, COMPLETIONS, {"prompt": prompt, "max_tokens": 2, "ignore_eos": True, **more}, headers)


def metric(server, name, **labels):
    return sum(value for key, value in server.metrics().items()
               if key.split("{")[0] == name and all(f'{label}="{wanted}"' in key for label, wanted in labels.items()))


def read_gz(prefix):
    out = []
    for part in sorted(pathlib.Path(prefix).parent.glob(pathlib.Path(prefix).name + ".*.jsonl.gz")):
        out += [json.loads(line) for line in gzip.decompress(part.read_bytes()).splitlines()]
    return out


class Records(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-records-")
        self.addCleanup(self.folder.cleanup)
        self.prefix = f"{self.folder.name}/trace"

    def test_headers_of_all_harnesses_are_one_identity_in_the_records(self):
        with harness.Server("tiny-chat", *FLAGS, "--request-trace", "--request-trace-file", self.prefix, "--request-trace-format",
                            "jsonl", "--request-trace-block-size", "16") as server:
            for number, headers in enumerate((
                    {"X-Dynamo-Session-ID": "s1", "X-Dynamo-Parent-Session-ID": "s0"}, {"x-claude-code-session-id": "s1"}, {"session-id": "s1"},
                    {"x-session-id": "s1", "x-parent-session-id": "s0"},
                    {"X-Dynamo-Session-ID": "s1", "X-Dynamo-Session-Final": "true"}, {})):
                complete(server, tokens(1, 40), {**headers, "x-request-id": f"turn-{number}"})
            status, _, refused = server.request("POST", COMPLETIONS, {"prompt": "a", "max_tokens": -1}, {"x-request-id": "refused"})
            self.assertEqual(status, 400)
            status, _, refused = server.request("POST", COMPLETIONS, {"prompt": "a", "max_tokens": 1},
                                                {"x-dynamo-session-id": "s", "x-dynamo-session-final": "perhaps"})
            self.assertEqual((status, refused["error"]["param"]), (400, "x-dynamo-session-final"), refused)
        records = {record["request"].get("x_request_id"): record for record in map(json.loads, pathlib.Path(self.prefix).read_text().splitlines())}
        contexts = [records[f"turn-{number}"].get("agent_context") for number in range(6)]
        self.assertEqual(contexts, [{"session_id": "s1", "parent_session_id": "s0"}, {"session_id": "s1"}, {"session_id": "s1"},
                                    {"session_id": "s1", "parent_session_id": "s0"}, {"session_id": "s1", "session_final": True}, None])
        for number in range(6):
            record = records[f"turn-{number}"]
            self.assertEqual((record["schema"], record["event_type"]), ("dynamo.request.trace.v1", "request_end"))
            request = record["request"]
            self.assertEqual((request["input_tokens"], request["output_tokens"], request["model"]), (40, 2, "tiny-chat"))
            self.assertEqual(request["finish_reason_metadata"]["finish_reason"], "length")
            self.assertLessEqual(request["ttft_ms"], request["total_time_ms"])
            self.assertEqual((request["replay"]["input_length"], len(request["replay"]["input_sequence_hashes"])), (40, 3))
        self.assertGreaterEqual(records["turn-1"]["request"]["cached_tokens"], 32)
        self.assertEqual(records["refused"]["request"]["error"]["code"], "InvalidArgument")
        self.assertNotIn("replay", records["refused"]["request"])

    def test_every_sink_gets_every_record(self):
        collector = otlp.Collector()
        self.addCleanup(collector.close)
        sinks, env = ["file", "stderr", "otel", "s3"], {}
        nats = None
        if shutil.which("nats-server") and (pathlib.Path(harness.BINARY).parent / "libpixii_nats.so").exists():
            nats = event_plane_test.Nats()
            self.addCleanup(nats.kill)
            sinks.append("nats")
            env["NATS_SERVER"] = nats.url
        with s3_stub.Store() as store:
            env |= {"AWS_ACCESS_KEY_ID": s3_stub.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": s3_stub.SECRET_KEY, "AWS_REGION": s3_stub.REGION,
                    "DYN_REQUEST_TRACE": "1", "DYN_REQUEST_TRACE_SINKS": ",".join(sinks), "DYN_REQUEST_TRACE_FILE_PATH": self.prefix,
                    "DYN_REQUEST_TRACE_RECORDS": "request_end,request_payload", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{collector.url}/v1/logs"}
            with harness.Server("tiny-chat", *FLAGS, "--request-trace-s3", f"{store.endpoint}/bucket/of/agents", env=env) as server:
                for number in range(3):
                    complete(server, f"the cat sat on a mat {number}", {"x-request-id": f"r{number}"})
                for sink in sinks:
                    server.wait_for(lambda sink=sink: sink == "s3" or metric(server, "pixii_trace_records_total", sink=sink, outcome="written") == 6,
                                    20, f"the records of {sink}")
                self.assertEqual(metric(server, "pixii_trace_records_total", outcome="lost"), 0)
                if nats:
                    self.assertIn(b"pixii-request-trace", self.streams(nats))
                printed = [json.loads(line) for line in server.log_path.read_text().splitlines() if line.startswith("{")]
            def kinds(records):
                return sorted((record["event_type"], record["request"]["x_request_id"]) for record in records)

            wanted = sorted((kind, f"r{number}") for kind in ("request_end", "request_payload") for number in range(3))
            self.assertEqual(kinds(read_gz(self.prefix)), wanted)
            self.assertEqual(kinds(printed), wanted)
            self.assertEqual(kinds(json.loads(record.body) for record in collector.logs if record.event == "request_trace"), wanted)
            objects = [content for (bucket, name), content in store.objects.items() if bucket == "bucket" and name.startswith("of/agents/")]
            self.assertEqual(kinds(json.loads(line) for content in objects for line in gzip.decompress(content).splitlines()), wanted)
        payload = next(record for record in read_gz(self.prefix) if record["event_type"] == "request_payload")["payload"]
        self.assertIn("the cat sat on a mat", payload["request"]["prompt"])
        self.assertTrue(payload["payload_complete"])
        self.assertEqual(payload["response"]["choices"][0]["finish_reason"], "length")

    @staticmethod
    def streams(nats):
        with nats.client() as (connection, reader):
            connection.sendall(b"SUB inbox 1\r\nPUB $JS.API.STREAM.NAMES inbox 0\r\n\r\n")
            while True:
                line = reader.readline()
                if line.startswith(b"MSG inbox"):
                    return reader.read(int(line.split()[-1]))

    def test_parts_are_bounded_and_go_on_after_a_restart(self):
        flags = (*FLAGS, "--request-trace", "--request-trace-file", self.prefix, "--request-trace-roll-bytes", "4096", "--request-trace-parts", "3")
        for start in range(3):
            with harness.Server("tiny-chat", *flags) as server:
                for number in range(4):
                    complete(server, tokens(number, 3000), {"x-request-id": f"{start}-{number}"})
                    server.wait_for(lambda number=number: metric(server, "pixii_trace_records_total", sink="file", outcome="written") == number + 1,
                                    20, "the record")
        parts = sorted(path.name for path in pathlib.Path(self.folder.name).iterdir())
        self.assertLessEqual(len(parts), 3)
        self.assertEqual(read_gz(self.prefix)[-1]["request"]["x_request_id"], "2-3")

    def test_wrong_words_stop_the_start_with_their_flag(self):
        for flags, name in ((("--request-trace-sinks", "file,paper"), "request-trace-sinks"), (("--request-trace-records", "all"), "request-trace-records"),
                            (("--request-trace-sinks", "s3"), "request-trace-s3"), (("--request-trace-tool-events", "here"), "request-trace-tool-events"),
                            (("--request-trace-file", "/nowhere/at/all"), "request-trace-file")):
            done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--request-trace", "--request-trace-file", self.prefix, *flags)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"{name}: ", done.stderr)

    def test_tools_events_become_records_and_a_trace_that_replays(self):
        endpoint = f"ipc://{self.folder.name}/tools"

        def event(kind, at, call, **tool):
            return {"event_type": kind, "event_time_unix_ms": at, "agent_context": {"session_id": "run"},
                    "tool": {"tool_call_id": call, "tool_class": "search", **tool}}

        with harness.Server("tiny-chat", *FLAGS, "--request-trace", "--request-trace-file", self.prefix, "--request-trace-tool-events", endpoint,
                            "--request-trace-block-size", "16") as server:
            for turn in range(4):
                complete(server, tokens(9, 40 + 20 * turn), {"x-dynamo-session-id": "run"})
            complete(server, tokens(10, 30), {"x-dynamo-session-id": "child", "x-dynamo-parent-session-id": "run", "x-dynamo-session-final": "1"})
            pushed = subprocess.run([SYSTEM_PYTHON, "-c", PUSH, endpoint], input=json.dumps([
                ["agent-tool-events", "msgpack", event("tool_start", 5, "c1")],
                ["agent-tool-events", "msgpack", event("tool_end", 9, "c1", duration_ms=4.0, status="ok")],
                ["agent-tool-events", "json", event("tool_error", 9, "c2")],
                ["of others", "msgpack", event("tool_end", 9, "c3")],
                ["agent-tool-events", "msgpack", {"event_type": "request_end"}],
                ["agent-tool-events", "json", "no object"]]), text=True, capture_output=True, timeout=60)
            self.assertEqual(pushed.returncode, 0, pushed.stderr)
            for outcome in ("taken", "refused"):
                server.wait_for(lambda outcome=outcome: metric(server, "pixii_tool_events_total", outcome=outcome) == 3, 20, f"events {outcome}")
        records = read_gz(self.prefix)
        tools = [record for record in records if record["event_type"].startswith("tool_")]
        self.assertEqual([(tool["event_type"], tool["tool"]["tool_call_id"], tool["event_source"]) for tool in tools],
                         [("tool_start", "c1", "harness"), ("tool_end", "c1", "harness"), ("tool_error", "c2", "harness")])
        trace = f"{self.folder.name}/mooncake.jsonl"
        parts = [str(path) for path in pathlib.Path(self.folder.name).glob("trace.*.gz")]
        done = harness.run_pixii("trace", "--to-mooncake", trace, "--agentic", *parts)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [json.loads(line) for line in pathlib.Path(trace).read_text().splitlines()]
        self.assertEqual([row["input_length"] for row in rows], [40, 60, 80, 100, 30])
        self.assertEqual([row["session_id"] for row in rows], ["run"] * 4 + ["child"])
        for before, after in zip(rows[:3], rows[1:4]):
            self.assertEqual(after["wait_for"], [before["request_id"]])
            whole = before["input_length"] // 16
            self.assertEqual(after["hash_ids"][:whole], before["hash_ids"][:whole])
        self.assertEqual((rows[4]["parent_session_id"], rows[4]["wait_for"]), ("run", [rows[3]["request_id"]]))
        done = harness.run_pixii("simulate", "--scenario", "trace", "--trace", trace, "--trace-block-size", "16", "--block-size", "16",
                                 "--workers", "1", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        figures = {row["name"]: row["value"] for row in json.loads(done.stdout)["results"]}
        self.assertEqual((figures["finished"], figures["prompt_tokens"]), (5, 310))
        with harness.Server("tiny-chat", *FLAGS) as server:
            done = harness.run_pixii("bench", "serve", "--port", str(server.port), "--repeats", "1", "--trace", trace, "--trace-block-size", "16",
                                     "--speed", "1000")
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            self.assertEqual(sum(value for key, value in server.metrics().items()
                                 if key.startswith("dynamo_frontend_input_sequence_tokens_count")), 5)
        done = harness.run_pixii("trace", "--to-mooncake", trace, "--agentic", os.devnull)
        self.assertEqual(done.returncode, 2)


class NextTurns(unittest.TestCase):
    """What is prepared is the conversation with its answer: the turn behind it finds that in the cache."""

    @staticmethod
    def body(messages, hint):
        return {"messages": messages, "max_tokens": 60, "temperature": 0, "nvext": {"agent_hints": {"speculative_prefill": hint}}}

    def second_turn(self, server, hint):
        """Prompt tokens of a turn behind a tool's result that had to be computed. The answer before it had reasoning, which templates leave out
        of earlier turns: what was computed for it is of no use from there on."""
        case = mix.cases("tools, thinking", 1, 1)[0]
        body = {"tools": case["tools"], "temperature": 0, "max_tokens": 600, "chat_template_kwargs": {"enable_thinking": True}}
        first = ask(server, CHAT, {**body, "messages": case["messages"], "nvext": {"agent_hints": {"speculative_prefill": hint}}})
        choice = first["choices"][0]
        self.assertEqual((choice["finish_reason"], bool(choice["message"]["reasoning_content"])), ("tool_calls", True), first)
        if hint:
            server.wait_for(lambda: metric(server, "pixii_speculative_prefills_total", outcome="done") == 1, 20, "the turn prepared")
        message = {key: value for key, value in choice["message"].items() if key != "reasoning_content"}
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "nothing was found"} for call in message["tool_calls"]]
        second = ask(server, CHAT, {**body, "messages": [*case["messages"], message, *results]})
        return second["usage"]["prompt_tokens"] - cached(second)

    def test_a_turn_behind_a_hint_has_less_to_compute(self):
        with harness.Server("tiny-chat", *FLAGS, "--block-size", "8") as server:
            plain = self.second_turn(server, False)
            counted = server.metrics()
        with harness.Server("tiny-chat", *FLAGS, "--block-size", "8") as server:
            warmed = self.second_turn(server, True)
            again = server.metrics()
        self.assertLess(warmed, plain)
        for name in ("dynamo_frontend_requests_total", "dynamo_frontend_output_tokens_total", "dynamo_frontend_requests_started_total"):
            of = lambda values, name=name: sum(value for key, value in values.items() if key.startswith(name))
            self.assertEqual(of(counted, name), of(again, name), f"{name} counts what no client asked")
        print(f"second turn: {plain} prompt tokens to compute without the hint, {warmed} with it")

    def test_nothing_is_prepared_behind_a_last_turn_or_a_cut_answer(self):
        with harness.Server("tiny-chat", *FLAGS) as server:
            answer = ask(server, CHAT, self.body(CONVERSATION, True), {"x-dynamo-session-id": "s", "x-dynamo-session-final": "1"})
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop", answer)
            ask(server, CHAT, {**self.body(CONVERSATION, True), "max_tokens": 2})
            server.wait_for(lambda: metric(server, "pixii_speculative_prefills_total", outcome="skipped") == 1, 20, "it to be left out")
            self.assertEqual(metric(server, "pixii_speculative_prefills_total", outcome="done"), 0)
            status, answer = server.post(CHAT, {"messages": CONVERSATION, "nvext": {"agent_hints": {"speculative_prefill": "yes"}}})
            self.assertEqual((status, answer["error"]["param"]), (400, "nvext.agent_hints.speculative_prefill"))

    def test_it_gives_way_to_the_turn_itself(self):
        # One place in the batch: behind the first turn somebody else takes it, and what is prepared waits until the turn itself is there.
        with harness.Server("tiny-chat", *FLAGS, "--max-batch", "1") as server, ThreadPoolExecutor(2) as pool:
            waiting = lambda count: server.wait_for(lambda: metric(server, "pixii_engine_waiting") == count, 20, f"{count} that wait")
            headers = {"x-dynamo-session-id": "s"}
            with self.stream(server):
                first = pool.submit(ask, server, CHAT, self.body(CONVERSATION, True), headers)
                waiting(1)
                blocker = self.stream(server)
                blocker.__enter__()
                waiting(2)
            answer = first.result()
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop", answer)
            waiting(1)  # what is prepared
            second = pool.submit(ask, server, CHAT, self.body([*CONVERSATION, answer["choices"][0]["message"], {"role": "user", "content": "?"}], False),
                                 headers)
            server.wait_for(lambda: metric(server, "pixii_speculative_prefills_total", outcome="cancelled") == 1, 20, "it to be given up")
            blocker.__exit__(None, None, None)
            second.result()

    @staticmethod
    @contextlib.contextmanager
    def stream(server):
        """Somebody's long answer, until its client goes away."""
        with contextlib.closing(server.connection()) as connection:
            connection.request("POST", COMPLETIONS, json.dumps({"prompt": "a b c", "max_tokens": 3000, "ignore_eos": True, "stream": True}),
                               {"Content-Type": "application/json"})
            yield


class Sessions(unittest.TestCase):
    """A mock engine of 128 blocks, 51 of them for sessions."""

    def server(self, *flags):
        return harness.Server("tiny-chat", *MOCK, "--kv-tokens", "2048", *flags)

    @staticmethod
    def flood(server):
        for seed in range(12):
            complete(server, tokens(1000 + seed, 800))

    def kept(self, server):
        return metric(server, "pixii_session_blocks")

    def test_blocks_of_a_live_session_outlive_others_and_go_with_its_last_turn(self):
        prompt = tokens(1, 400)
        with self.server() as server:
            complete(server, prompt)
            self.flood(server)
            self.assertEqual(cached(complete(server, prompt)), 0, "nobody kept it")
        with self.server() as server:
            complete(server, prompt, {"x-dynamo-session-id": "s"})
            server.wait_for(lambda: metric(server, "pixii_session_live") == 1, 20, "the session")
            self.assertEqual(self.kept(server), 25)
            self.flood(server)
            self.assertEqual(cached(complete(server, prompt + tokens(2, 10), {"x-dynamo-session-id": "s"})), 400)
            # What needs all blocks gets them: nothing is reserved.
            complete(server, tokens(3, 1900))
            complete(server, prompt, {"x-dynamo-session-id": "s", "x-dynamo-session-final": "true"})
            server.wait_for(lambda: metric(server, "pixii_session_live") == 0, 20, "the session's end")
            self.assertEqual(self.kept(server), 0)
            self.assertEqual(metric(server, "pixii_session_ends_total", how="final"), 1)
            self.flood(server)
            self.assertEqual(cached(complete(server, prompt)), 0)

    def test_sessions_are_bounded_in_blocks_and_time(self):
        with self.server("--session-kv-time", "3s") as server:
            for number in range(6):
                complete(server, tokens(number, 320), {"x-dynamo-session-id": f"s{number}"})
            self.assertLessEqual(self.kept(server), 51)
            server.wait_for(lambda: metric(server, "pixii_session_live") == 0, 20, "the sessions' time to end")
            self.assertEqual(self.kept(server), 0)
            self.assertGreaterEqual(metric(server, "pixii_session_ends_total", how="displaced"), 3)
            self.assertEqual(metric(server, "pixii_session_begun_total"),
                             sum(metric(server, "pixii_session_ends_total", how=how) for how in ("final", "expired", "displaced")))


class Logs(unittest.TestCase):
    def test_lines_of_all_processes_go_to_a_collector(self):
        collector = otlp.Collector()
        self.addCleanup(collector.close)
        env = {"OTEL_EXPORT_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        saved = {name: os.environ.get(name) for name in env}
        os.environ.update(env)
        try:
            with cluster.Cluster(1, worker_flags=(*FLAGS, "--log-level", "info,worker=debug", "--otel-service-name", "worker"),
                                 frontend_flags=("--log-level", "info,request=debug", "--otel-service-name", "front")) as fleet:
                trace = "4bf92f3577b34da6a3ce929d0e0e4736"
                complete(fleet.frontend, "a b c", {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})

                def both():
                    with collector.lock:
                        return {record.service for record in collector.logs if record.trace == trace} == {"front", "worker"}
                harness.wait_for(both, 20, "a line of each process", lambda: str(collector.logs[-20:]))
        finally:
            for name, value in saved.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.assertTrue(any("event=worker.ready" in record.body and record.severity == "INFO" for record in collector.logs))


if __name__ == "__main__":
    harness.main()
