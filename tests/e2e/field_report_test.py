"""Adversarial cases 1 to 16 and 26 of the field report, by number, against a real server that most of them share.

Whatever a case does, a greedy control stream beside it keeps its bytes, and once the case is over the server holds what it
held before: no request, no pinned block, no descriptor, no series of metrics more. docs/adversarial_cases.md lists all cases.
"""
import concurrent.futures
import contextlib
import hashlib
import json
import random
import re
import selectors
import socket
import struct
import tempfile
import threading
import time
import unittest

import harness

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
CONTEXT_TOKENS = 8192
BODY_LIMIT = 2 << 20
OPEN_ROUTES = ("/health", "/live", "/ready", "/v2/health/live", "/v2/health/ready", "/metrics", "/openapi.json", "/")
INTERNALS = re.compile(r"0x[0-9a-f]{5,}|/tmp|/home|/root|/proc|\.cc\b|std::|pixii::|boost|nlohmann")
CRAWL_SECONDS = 75  # the head's deadline is 60 s


def chat(text="What is 17 + 25?", **fields):
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 8, **fields}


def head(method="POST", path=CHAT, **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_all(connection, seconds=20):
    """What comes until the peer closes; a reset ends it too."""
    connection.settimeout(seconds)
    out = b""
    with contextlib.suppress(ConnectionError):
        while True:
            part = connection.recv(65536)
            if not part:
                return out
            out += part
    return out


class FieldReport(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat", "--body-limit", str(BODY_LIMIT), "--queue-length", "256")
        cls.expected = cls.server.post(CHAT, cls.control_body())[1]["choices"][0]["message"]["content"]
        cls.tokens = {}

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    @staticmethod
    def control_body():
        return chat("Count from 1 to 60.", max_tokens=200, ignore_eos=True)

    def setUp(self):
        self.before = self.held()
        self.series = set(self.series_names())
        self.stop_control = threading.Event()
        self.control_answers = []
        self.control = threading.Thread(target=self.run_control)
        self.control.start()

    def run_control(self):
        while True:
            events = self.server.stream(CHAT, self.control_body())
            text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
            self.control_answers.append(text)
            if self.stop_control.is_set():
                return

    def tearDown(self):
        self.stop_control.set()
        self.control.join(timeout=60)
        self.assertTrue(self.control_answers, "the control stream gave nothing")
        self.assertEqual(set(self.control_answers), {self.expected})
        self.assertIsNone(self.server.process.poll())
        self.server.wait_for(lambda: all(now <= self.before[name] for name, now in self.held().items()), 10,
                             f"what was held before ({self.before}, now {self.held()})")

    def held(self):
        metrics = self.server.metrics()
        value = lambda name: next(v for key, v in metrics.items() if key.startswith(name))
        return {"active": value("dynamo_frontend_active_requests"), "running": value("pixii_engine_running"),
                "waiting": value("pixii_engine_waiting"), "pinned": value("pixii_engine_blocks_pinned"),
                "connections": value("pixii_http_connections_open"), "errors": value("pixii_error_events_total"),
                "faults": value("pixii_engine_faults_total"),
                "descriptors": self.server.process_figures()["descriptors"]}

    def series_names(self):
        return [name for name in self.server.metrics() if "_bucket" not in name]

    def raw(self, data, half_close=False):
        """Status and whole answer to bytes as they are; 0 if the connection ends without one."""
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            answer = read_all(connection)
        return (int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else 0), answer

    def refused(self, path, body, param=None, status=400):
        """The answer's error, which is in OpenAI's form and names `param` where one is to blame."""
        got, answer = self.server.post(path, body)
        self.assertEqual(got, status, f"{str(body)[:200]} -> {str(answer)[:300]}")
        error = answer["error"] if "error" in answer else answer
        self.assertTrue(error["message"])
        self.assertIsNone(INTERNALS.search(json.dumps(answer)[:20_000]), answer)
        if param is not None:
            self.assertIn(param, f"{error.get('param')} {error['message']}")
        return error

    def served(self, path, body):
        status, answer = self.server.post(path, body)
        self.assertEqual(status, 200, f"{str(body)[:200]} -> {str(answer)[:300]}")
        return answer

    # HTTP

    def test_case_01_tiny_chunks(self):
        before = self.server.process_figures()["rss_kib"]
        body = b"1\r\nA\r\n" * 600_000 + b"0\r\n\r\n"
        status, answer = self.raw(head(Transfer_Encoding="chunked", Connection="close") + body)
        self.assertEqual(status, 400, answer[:300])
        self.assertLess(self.server.process_figures()["rss_kib"] - before, BODY_LIMIT // 1024 + 8192)

    def test_case_02_two_lengths_and_broken_chunk_sizes(self):
        self.assertEqual(self.raw(head(Content_Length=10, Transfer_Encoding="chunked") + b"0\r\n\r\n")[0], 400)
        self.assertEqual(self.raw(head(Content_Length="10\r\nContent-Length: 11") + b"{}")[0], 400)
        for size in [b"FFFFFFFFFFFFFFFF", b"-1", b"0x10", b" 5", b"5;" + b"x" * 65536, b"G"]:
            status, answer = self.raw(head(Transfer_Encoding="chunked") + size + b"\r\nhello\r\n0\r\n\r\n")
            self.assertIn(status, (400, 413), (size[:20], answer[:200]))
            self.assertIn(b"connection: close", answer.lower())

    def test_case_05_disconnects_of_every_form(self):
        long = "tell me more about it. " * 1200
        for form in ["fin", "rst"]:
            body = json.dumps(chat(long, max_tokens=500, ignore_eos=True, stream=True)).encode()
            connection = socket.create_connection(("127.0.0.1", self.server.port))
            connection.sendall(head(Content_Length=len(body)) + body)
            self.server.wait_for(lambda: self.held()["active"] >= self.before["active"] + 1, 10, "the request")
            if form == "rst":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            self.assertEqual(self.server.post(CHAT, chat())[0], 200)
        body = json.dumps(chat(max_tokens=16)).encode()
        status, answer = self.raw(head(Content_Length=len(body)) + body, half_close=True)
        while 100 <= status < 200:  # asks whether anybody is still there
            answer = answer.split(b"\r\n\r\n", 1)[1]
            status = int(answer[9:12])
        self.assertEqual(status, 200, answer[:300])
        self.assertIn(b"42", answer)

    def test_case_06_equal_ids_in_flight(self):
        for headers, extra in [({"X-Request-Id": "x"}, {}), ({}, {"request_id": "id"}),
                               ({"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, {})]:
            texts = ["What is 17 + 25?", "What is 4 + 4?"]
            ask = lambda text: self.server.request("POST", CHAT, chat(text, **extra), headers=headers)
            alone = [ask(text) for text in texts]
            if any(status == 400 for status, _, _ in alone):  # the field is not one of the API's: named, for both
                self.assertTrue(all("request_id" in json.dumps(answer) for _, _, answer in alone), alone)
                continue
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                both = list(pool.map(ask, texts * 4))
            for i, (status, got, answer) in enumerate(both):
                self.assertEqual(status, 200)
                self.assertEqual(answer["choices"], alone[i % 2][2]["choices"])
                if "X-Request-Id" in headers:
                    self.assertEqual({k.lower(): v for k, v in got.items()}["x-request-id"], "x")
        body = json.dumps(chat()).encode()
        self.assertIn(self.raw(head(Content_Length=len(body), X_Request_Id="a" * 65536) + body)[0], (400, 431))
        self.assertEqual(self.raw(head(Content_Length=len(body), X_Request_Id="a\rb") + body)[0], 400)
        self.assertEqual(self.raw(head(Content_Length=len(body), X_Request_Id="a\0b") + body)[0], 400)

    def test_case_07_routes_without_a_key(self):
        key = "secret"
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write(json.dumps({"keys": [{"sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": "a"}]}))
            keys.flush()
            with harness.Server("tiny-chat", "--api-key-file", keys.name) as server:
                routes = server.request("GET", "/openapi.json", headers={"Authorization": f"Bearer {key}"})[2]["paths"]
                self.assertGreater(len(routes), 20)
                odd = ["/v1/../metrics", "/v1//models", "/%76%31/models", "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
                       "/invocations", "/pause", "/update_weights", "/v2/repository/models/..%2fx/load", "/../etc/passwd"]
                for path in list(routes) + odd:
                    path = re.sub(r"\{[^}]*\}", "tiny-chat", path)
                    for method in ["GET", "POST", "DELETE"]:
                        status, _, answer = server.request(method, path, body="{}" if method == "POST" else None)
                        self.assertNotIn("root:", str(answer))
                        if path not in OPEN_ROUTES:
                            self.assertIn(status, (401, 404, 405), (method, path, answer))

    # JSON and parameters

    def test_case_08_depth_and_shape(self):
        for body in ['{"model":"tiny-chat","messages":' + "[" * 100_000, '{"model":"tiny-chat","model":"X"}',
                     json.dumps(chat()) + "}", "\ufeff" + json.dumps(chat()), "[]", '"x"', "", "null", "1",
                     "{" + ",".join(f'"k{i}":1' for i in range(150_000)) + "}"]:
            error = self.refused(CHAT, body.encode())
            self.assertLess(len(error["message"]), 2000)

    def test_case_09_text_bytes(self):
        for bad in [b"\\ud800", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"]:
            self.refused(CHAT, b'{"max_tokens":1,"messages":[{"role":"user","content":"' + bad + b'"}]}')
        for good in ["\u202e", "e\u0301", "\u00e9", "a" + "\u0301" * 2000, "\u0000"]:
            self.served(CHAT, chat(good, max_tokens=1))
        self.assertNotIn("\u202e", self.server.log_text())

    def test_case_10_numbers(self):
        bad = {"max_tokens": ["-5", "1.5", "9223372036854775808", '"10"', "true"], "temperature": ["-0.1", "1e400"],
               "top_p": ["0", "-0", "1.0000001"], "seed": ["18446744073709551616"], "n": ["0", "-1"],
               "presence_penalty": ["3"], "top_k": ["-2"], "min_p": ["1.5"]}
        for name, values in bad.items():
            for value in values:
                fields = {k: v for k, v in chat().items() if k != name}
                body = json.dumps(fields)[:-1] + f', "{name}": {value}}}'
                self.refused(CHAT, body.encode(), param=name)
        body = json.dumps({k: v for k, v in chat().items() if k != "temperature"})[:-1] + ', "temperature": NaN}'
        self.refused(CHAT, body.encode())

    def test_case_11_fan_out(self):
        answer = self.served(CHAT, chat(n=2))
        self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1])
        seen = {choice["index"] for event in self.server.stream(CHAT, chat(n=2)) for choice in event["choices"]}
        self.assertEqual(seen, {0, 1})
        for fields in [{"n": 100_000}, {"n": 100_000, "stream": True}]:
            self.refused(CHAT, chat(**fields), param="n")
        self.refused(TEXT, {"prompt": "a", "best_of": 100_000, "max_tokens": 1}, param="best_of")
        self.refused(TEXT, {"prompt": ["a"] * 100_000, "max_tokens": 1}, param="prompt")

    def test_case_12_logprobs(self):
        prompt = "one two three four " * 1500
        for count in [1, 20]:
            answer = self.served(TEXT, {"prompt": prompt, "max_tokens": 1, "prompt_logprobs": count, "temperature": 0})
            rows = answer["choices"][0]["prompt_logprobs"]
            self.assertEqual(len(rows), answer["usage"]["prompt_tokens"])
        self.refused(TEXT, {"prompt": "a", "prompt_logprobs": -1}, param="prompt_logprobs")
        self.refused(TEXT, {"prompt": prompt * 4, "prompt_logprobs": 1})
        for count in [-1, 21, 2147483647]:
            self.refused(CHAT, chat(logprobs=True, top_logprobs=count), param="top_logprobs")
        echo = {"prompt": "one two", "echo": True, "max_tokens": 0, "logprobs": 1}
        status, answer = self.server.post(TEXT, echo)
        self.assertIn(status, (200, 400))
        if status == 200:
            self.assertEqual(answer["choices"][0]["text"], "one two")

    def test_case_13_stops(self):
        limit = next(count for count in range(1, 100)
                     if self.server.post(CHAT, chat(stop=["zq%d" % i for i in range(count + 1)]))[0] == 400)
        for path, body in [(CHAT, chat()), (TEXT, {"prompt": "a", "max_tokens": 2})]:
            self.served(path, {**body, "stop": ["zq%d" % i for i in range(limit)]})
            self.refused(path, {**body, "stop": ["zq%d" % i for i in range(limit + 1)]}, param="stop")
            self.refused(path, {**body, "stop": [""]}, param="stop")
            self.refused(path, {**body, "stop": "x" * (1 << 20)}, param="stop")
            self.served(path, {**body, "stop_token_ids": [1, 2, 3, 4, 5]})
        whole = self.served(CHAT, chat())["choices"][0]["message"]["content"]
        stops = [whole[4:6], whole[4:8]]
        cut = self.served(CHAT, chat(stop=stops))["choices"][0]["message"]["content"]
        self.assertEqual(cut, whole[:whole.index(stops[0])])

    def test_case_14_token_ids(self):
        vocabulary = 4096
        while self.server.post(TEXT, {"prompt": [vocabulary], "max_tokens": 1})[0] == 200:
            vocabulary += 1
        self.served(TEXT, {"prompt": [vocabulary - 1], "max_tokens": 1})
        for prompt in [[-1], [vocabulary], [2147483647], [], [[1], ["a"]], [1.5], [[]]]:
            self.refused(TEXT, {"prompt": prompt, "max_tokens": 1}, param="prompt")
        for bias in [{"-1": 100}, {"999999999": -100}, {"abc": 1}, {"0": 1e9}]:
            self.refused(CHAT, chat(logit_bias=bias), param="logit_bias")
        self.refused(CHAT, chat(n_discard=-1), param="n_discard")

    def test_case_15_sizes(self):
        for size in [1_048_575, 1_048_576, 1_223_632, BODY_LIMIT - 1, BODY_LIMIT]:
            body = json.dumps(chat(""))
            body = json.dumps(chat(" " * (size - len(body))))
            self.assertEqual(len(body), size)
            error = self.refused(CHAT, body.encode())  # far more tokens than the context has
            self.assertIn(str(CONTEXT_TOKENS), error["message"])
        self.refused(CHAT, b" " * (BODY_LIMIT + 1), status=413)
        self.refused(CHAT, b" " * (8 * BODY_LIMIT), status=413)
        for length, fields, status in [(CONTEXT_TOKENS - 1, {}, 200), (CONTEXT_TOKENS - 1, {"max_tokens": 1}, 200),
                                       (CONTEXT_TOKENS, {"max_tokens": 1}, 400), (CONTEXT_TOKENS + 1, {}, 400)]:
            got, answer = self.server.post(TEXT, {"prompt": [65] * length, "temperature": 0, **fields})
            self.assertEqual(got, status, (length, fields, str(answer)[:200]))
        answer = self.served(TEXT, {"prompt": [65] * (CONTEXT_TOKENS - 100), "temperature": 0, "ignore_eos": True})
        self.assertEqual(answer["usage"]["completion_tokens"], 100)  # no hidden default

    def test_case_16_strangers_make_no_series(self):
        before = self.server.process_figures()["rss_kib"]
        seed = random.Random(16)
        with contextlib.closing(self.server.connection()) as connection:
            for i in range(3000):
                name = f"{seed.getrandbits(60):x}"
                path = [CHAT, f"/v1/{name}", f"/v1/models/{name}"][i % 3]
                body = json.dumps(chat(model=name, user=name)) if i % 3 == 0 else None
                connection.request("POST" if body else "GET", path, body=body,
                                   headers={"User-Agent": name, "Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                self.assertEqual(response.status, 404)
        new = set(self.series_names()) - self.series
        self.assertLessEqual(len(new), 2, new)  # of errors, and the same whoever makes them
        self.assertLess(self.server.process_figures()["rss_kib"] - before, 8 * 1024)

    # Interactions

    def test_case_26_schemas_with_everything_at_once(self):
        schema = {"type": "object", "required": ["name", "ok"], "additionalProperties": False,
                  "properties": {"name": {"type": "string", "maxLength": 12}, "ok": {"type": "boolean"},
                                 "n": {"type": "integer", "minimum": 0, "maximum": 99}}}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        draws = [{}, {"n": 2}, {"logprobs": True, "top_logprobs": 3}, {"stop": ["zz"]}, {"temperature": 1.0, "seed": 5}]
        with harness.Server("tiny-chat", "--speculation", "lookup", "--max-context", "1024", "--kv-tokens", "2048") as server:
            def ask(i):
                body = chat(f"Say {i % 7} as JSON.", max_tokens=120, response_format=form, **draws[i % len(draws)])
                return server.post(CHAT, body)
            alone = [ask(i) for i in range(35)]
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                crowd = list(pool.map(ask, range(35)))
            done = 0
            for (status, one), (_, many) in zip(alone, crowd):
                self.assertEqual(status, 200, one)
                self.assertEqual(one["choices"], many["choices"])
                for choice in many["choices"]:
                    if choice["finish_reason"] == "stop":
                        value = json.loads(choice["message"]["content"])
                        self.assertEqual(type(value["ok"]), bool)
                        self.assertLessEqual(len(value["name"]), 12)
                        self.assertLessEqual(set(value), {"name", "ok", "n"})
                        self.assertTrue(0 <= value.get("n", 0) <= 99)
                        done += 1
            self.assertGreater(done, 10)


def setUpModule():
    SlowClients.start()


def tearDownModule():
    SlowClients.pool.shutdown()
    SlowClients.server.__exit__(None, None, None)


class SlowClients(unittest.TestCase):
    """Cases that wait for deadlines: on a server of their own, beside the others."""

    @classmethod
    def start(cls):
        cls.server = harness.Server("tiny-chat")
        cls.pool = concurrent.futures.ThreadPoolExecutor(2)
        cls.never_reads = cls.pool.submit(cls.never_read)
        cls.crawls = cls.pool.submit(cls.crawl)

    def test_case_03_heads_and_bodies_that_crawl(self):
        self.assertEqual(self.crawls.result(), 0)

    def test_case_04_a_client_that_never_reads(self):
        grown_kib = self.never_reads.result()
        self.assertLess(grown_kib, 32 * 1024)

    @classmethod
    def crawl(cls):
        """Connections that are open still when all should have been ended."""
        whole = head(Content_Length=100)
        poll = selectors.DefaultSelector()
        for i in range(400):
            connection = socket.create_connection(("127.0.0.1", cls.server.port))
            connection.sendall(whole[:20] if i % 2 == 0 else whole)
            poll.register(connection, selectors.EVENT_READ, i)
        if cls.server.post(CHAT, chat())[0] != 200:
            raise AssertionError("others are not served meanwhile")
        open_connections = 400
        deadline = time.monotonic() + CRAWL_SECONDS
        sent = time.monotonic()
        at = 20
        while open_connections > 0 and time.monotonic() < deadline:
            for key, _ in poll.select(timeout=1):
                with contextlib.suppress(ConnectionError):
                    if key.fileobj.recv(4096):
                        continue
                poll.unregister(key.fileobj)
                key.fileobj.close()
                open_connections -= 1
            if time.monotonic() - sent > 1:
                sent = time.monotonic()
                for key in list(poll.get_map().values()):
                    byte = whole[at:at + 1] if key.data % 2 == 0 else b" "
                    with contextlib.suppress(ConnectionError):
                        key.fileobj.sendall(byte)
                at += 1
        return open_connections

    @classmethod
    def never_read(cls):
        """Resident KiB that a server of its own grew by until it gave the stream up, beyond what such a stream takes."""
        body = chat(max_tokens=8000, ignore_eos=True, stream=True, logprobs=True, top_logprobs=20)
        with harness.Server("tiny-chat") as server, socket.socket() as connection:
            for _ in server.stream(CHAT, body):  # a first one that is read: the KV cache and the heap have their size
                pass
            before = server.process_figures()["rss_kib"]
            body = json.dumps(body).encode()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(head(Content_Length=len(body)) + body)
            cancelled = lambda: sum(v for k, v in server.metrics().items() if "model_cancellation_total" in k)
            server.wait_for(lambda: cancelled() > 0, 90, "the cancel of the stream")
            return server.process_figures()["rss_kib"] - before


if __name__ == "__main__":
    harness.main()
