"""`pixii conformance` against this server, where nothing may fail, and against one with faults, where each must be found.

The faulty server is this one behind a proxy that spoils one thing.
"""
import contextlib
import http.client
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import unittest

import harness


def spoil_events(text, change):
    """Each event's JSON through change(json) -> json or None (dropped)."""
    out = []
    for event in text.split("\n\n"):
        if event.startswith("data: {"):
            value = change(json.loads(event[6:]))
            if value is None:
                continue
            event = "data: " + json.dumps(value)
        out.append(event)
    return "\n\n".join(out)


class Fault:
    """What the proxy does otherwise: to a request's JSON, to the answer's text, or to its status."""

    def __init__(self, only, request=None, stream=None, whole=None, status=None):
        self.only, self.request, self.stream, self.whole, self.status = only, request, stream, whole, status


def without(*keys):
    return lambda body: {key: value for key, value in body.items() if key not in keys}


def changing(what):
    """For change(json), which works in place."""
    def change(value):
        what(value)
        return value
    return change


class Every:
    """Spoils every second answer."""

    def __init__(self):
        self.count = 0

    def __call__(self, answer):
        self.count += 1
        if self.count % 2 == 0 and "choices" in answer:
            answer["choices"][0]["message"]["content"] += " and more"
        return answer


def drop_system(body):
    return {**body, "messages": [m for m in body.get("messages", []) if m.get("role") not in ("system", "developer")]}


def pad_parts(body):
    messages = [{**m, "content": "".join(p["text"] for p in m["content"]) + " padded out"} if isinstance(m.get("content"), list) else m
                for m in body.get("messages", [])]
    return {**body, "messages": messages}


@changing
def break_calls(answer):
    for choice in answer.get("choices", []):
        for call in choice.get("message", {}).get("tool_calls") or []:
            call["function"]["arguments"] = call["function"]["arguments"][:-1]


@changing
def drop_param(answer):
    if "error" in answer:
        answer["error"]["param"] = None


@changing
def wrong_total(answer):
    if answer.get("usage"):
        answer["usage"]["total_tokens"] += 1


@changing
def no_role(chunk):
    for choice in chunk.get("choices", []):
        choice.get("delta", {}).pop("role", None)


class OtherIds:
    def __init__(self):
        self.count = 0

    def __call__(self, chunk):
        self.count += 1
        return {**chunk, "id": f"id-{self.count}"}


def usage_always(chunk):
    return {**chunk, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}


def drop_usage(chunk):
    return None if chunk.get("usage") else chunk


@changing
def shorten(chunk):
    for choice in chunk.get("choices", []):
        if choice.get("delta", {}).get("content"):
            choice["delta"]["content"] = choice["delta"]["content"][1:]


@changing
def finish_always(chunk):
    for choice in chunk.get("choices", []):
        choice["finish_reason"] = "stop"


# By the cases that must then fail; any other may.
FAULTS = {
    "the seed is not kept": Fault(["promises/same_seed_twice"], whole=Every()),
    "streams lose text": Fault(["promises/streamed_and_not"], stream=lambda text: spoil_events(text, shorten)),
    "[DONE] comes twice": Fault(["ends/once"], stream=lambda text: text + "data: [DONE]\n\n"),
    "[DONE] never comes": Fault(["ends/once", "ends/completion_once"], stream=lambda text: text.replace("data: [DONE]\n\n", "")),
    "every chunk ends": Fault(["ends/once"], stream=lambda text: spoil_events(text, finish_always)),
    "max_tokens is ignored": Fault(["ends/length"], request=lambda body: {**body, "max_tokens": 8}),
    "stops are ignored": Fault(["ends/stop"], request=without("stop")),
    "load never falls": Fault(["cancel/streams", "cancel/whole"]),
    "system messages are dropped": Fault(["templates/system"], request=drop_system),
    "parts are other texts": Fault(["templates/parts"], request=pad_parts),
    "arguments are cut": Fault(["tools/required"], whole=break_calls),
    "none means required": Fault(["tools/none"], request=lambda body: {**body, "tool_choice": "required"}
                                 if body.get("tool_choice") == "none" else body),
    "schemas are ignored": Fault(["schemas/strict", "schemas/choices"], request=without("response_format")),
    "errors are 422": Fault(["errors/chat.temperature.above", "errors/no_json"], status=lambda status: 422 if status == 400 else status),
    "errors name no field": Fault(["errors/chat.n.below", "errors/completion.prompt.missing"], whole=drop_param),
    "wrong values are ignored": Fault(["errors/chat.temperature.wrong_type", "errors/chat.temperature.below",
                                       "errors/chat.temperature.above"], request=without("temperature")),
    "models are not looked at": Fault(["errors/chat.model.below"], request=without("model")),
    "the role is missing": Fault(["streams/role_first"], stream=lambda text: spoil_events(text, no_role)),
    "the last event of a response is lost": Fault(["responses/streamed"], stream=lambda text: text.replace("response.completed", "response.gone")
                                                 .replace("response.incomplete", "response.gone")),
    "a message does not say why it ended": Fault(["messages/whole"], whole=lambda answer: {**answer, "stop_reason": None}),
    "ids change": Fault(["streams/chunks"], stream=lambda text: spoil_events(text, OtherIds())),
    "usage comes unasked": Fault(["streams/no_usage_unasked"], stream=lambda text: spoil_events(text, usage_always)),
    "usage does not come": Fault(["streams/usage_last"], stream=lambda text: spoil_events(text, drop_usage)),
    "totals are wrong": Fault(["usage/adds"], whole=wrong_total),
    "hostile numbers are let through": Fault(["adversarial/fan_out"], request=lambda body: {**body, "n": 1} if "n" in body else body),
}
GAUGE = re.compile(r"^((?:pixii_engine_running|dynamo_frontend_inflight_requests)\S*) .*$", re.M)


class Proxy(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, name, fault):
        self.upstream, self.name, self.fault = port, name, fault
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, address):
        pass  # clients that hang up


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def pass_on(self, body):
        fault = self.server.fault
        try:
            if body and fault.request:
                body = json.dumps(fault.request(json.loads(body))).encode()
        except (ValueError, AttributeError):
            pass  # no JSON object: as it is
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)) as connection:
            connection.request(self.command, self.path, body=body, headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            kind, status, text = answer.getheader("Content-Type", ""), answer.status, answer.read().decode("utf-8", errors="replace")
        if kind.startswith("text/event-stream") and fault.stream:
            text = fault.stream(text)
        elif kind.startswith("application/json") and fault.whole:
            text = json.dumps(fault.whole(json.loads(text)))
        elif self.path == "/metrics" and self.server.name == "load never falls":
            text = GAUGE.sub(r"\1 8", text)
        data = text.encode()
        self.send_response(fault.status(status) if fault.status else status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))), ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def do_GET(self):
        self.pass_on(None)

    def do_POST(self):
        self.pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))




def conformance(port, *flags):
    """(exit status, outcome by group/name, evidence by group/name, what was printed)."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "table.json"
        out = harness.run_pixii("conformance", f"http://127.0.0.1:{port}/v1", "--json", str(path), *flags, timeout=600)
        cases = json.loads(path.read_text())["cases"] if path.exists() else []
    return (out.returncode, {f"{c['group']}/{c['name']}": c["outcome"] for c in cases},
            {f"{c['group']}/{c['name']}": c["evidence"] for c in cases}, out)


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat", "--enable-anthropic-api")
        cls.addClassCleanup(cls.server.stop)

    def test_this_server_fails_nothing(self):
        status, outcomes, evidence, out = conformance(self.server.port)
        wrong = {name: evidence[name] for name, outcome in outcomes.items() if outcome == "fail"}
        self.assertEqual(wrong, {}, out.stderr)
        self.assertEqual(status, 0)
        self.assertGreater(len(outcomes), 250)
        unsupported = sum(outcome == "not_supported" for outcome in outcomes.values())
        self.assertLess(unsupported, len(outcomes) / 20, [name for name, o in outcomes.items() if o == "not_supported"])
        self.assertIn("OpenAI's reference", out.stdout)

    def test_vectors_of_a_model_that_makes_them(self):
        with harness.Server(str(harness.OWN_MODELS / "bert-mean"), "--dtype", "fp32") as server:
            status, outcomes, evidence, out = conformance(server.port, "--only", "embeddings")
            self.assertEqual(outcomes, {"embeddings/whole": "not_supported",  # it has no tokenizer
                                        **{f"embeddings/{name}": "pass" for name in ("batch", "base64", "no_input")}}, (evidence, out.stderr))
            self.assertEqual(status, 0)

    @unittest.skipIf(shutil.which("openssl") is None, "no openssl to make certificates with")
    def test_a_server_is_asked_by_its_name_and_over_tls(self):
        self.assertEqual(harness.run_pixii("conformance", f"http://localhost:{self.server.port}", "--only", "usage").returncode, 0)
        with tempfile.TemporaryDirectory() as folder:
            key, cert = f"{folder}/key.pem", f"{folder}/cert.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                           check=True, capture_output=True)
            with harness.Server("tiny-chat", "--tls-cert", cert, "--tls-key", key) as server:
                url = f"https://localhost:{server.port}/v1"
                out = harness.run_pixii("conformance", url, "--ca", cert, "--only", "usage,streams")
                self.assertEqual(out.returncode, 0, out.stdout + out.stderr)
                load = ("bench", "serve", "--requests", "4", "--output-tokens", "4", "--repeats", "1", "--json")
                out = harness.run_pixii(*load, "--url", url, "--ca", cert)
                self.assertEqual(out.returncode, 0, out.stderr)
                self.assertNotEqual(harness.run_pixii(*load, "--url", url).returncode, 0, "nobody vouches for it")

    def test_each_fault_is_found(self):
        for name, fault in {"no fault": Fault(sorted({case for f in FAULTS.values() for case in f.only})), **FAULTS}.items():
            with self.subTest(fault=name), Proxy(self.server.port, name, fault) as proxy:
                thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
                thread.start()
                try:
                    status, outcomes, evidence, out = conformance(proxy.server_port, "--only", ",".join(fault.only),
                                                                  "--load-timeout", "60s" if name == "no fault" else "300ms")
                finally:
                    proxy.shutdown()
                    thread.join()
                wanted = "pass" if name == "no fault" else "fail"
                self.assertEqual({case: (wanted, evidence.get(case)) for case in fault.only},
                                 {case: (outcomes.get(case), evidence.get(case)) for case in fault.only}, out.stderr)
                self.assertEqual(status, 0 if name == "no fault" else 1)

    def test_cases_are_listed_with_their_sources_and_wrong_words_are_named(self):
        out = harness.run_pixii("conformance", "--list", "--only", "cancel")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("4 cases", out.stdout)
        self.assertIn("docs/api.md", out.stdout)
        for words, word in (((), "URL"), (("ftp://a",), "https"), (("https://localhost:1", "--ca", "/no/such"), "/no/such"), (("http://127.0.0.1:1",), "nobody"),
                            (("http://127.0.0.1:1", "--only", "cancle"), "cancle")):
            out = harness.run_pixii("conformance", *words)
            self.assertEqual(out.returncode, 2)
            self.assertIn(word, out.stderr)


if __name__ == "__main__":
    harness.main()
