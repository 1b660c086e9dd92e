"""Who may speak with the server and how: TLS, certificates of clients, socket files."""
import contextlib
import hashlib
import http.client
import json
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest

import harness

BODY = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0, "max_tokens": 12}


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A certificate authority of the test's own in `folder`."""

    def __init__(self, folder, name):
        self.folder = pathlib.Path(folder)
        self.name = name
        self.cert, self.key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                "-subj", f"/CN={name}", "-keyout", str(self.key), "-out", str(self.cert))

    def sign(self, name):
        """(certificate, key) for localhost and 127.0.0.1."""
        cert, key = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(self.cert), "-CAkey", str(self.key),
                "-keyout", str(key), "-out", str(cert))
        return str(cert), str(key)


def ask(connection, stream=False):
    connection.request("POST", "/v1/chat/completions", body=json.dumps({**BODY, "stream": stream}),
                       headers={"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.status
    if not stream:
        return json.loads(response.read())["choices"][0]["message"]["content"]
    events = [line[6:] for line in response.read().decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events
    deltas = [json.loads(event)["choices"] for event in events[:-1]]
    return "".join(choices[0]["delta"].get("content") or "" for choices in deltas if choices)


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("openssl") is None:
            raise unittest.SkipTest("no openssl to make certificates with")
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-tls-")
        cls.authority = Authority(cls.folder.name, "authority")
        cls.cert, cls.key = cls.authority.sign("server")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def connection(self, server, cert=None, authority=None):
        context = ssl.create_default_context(cafile=str((authority or self.authority).cert))
        if cert:
            context.load_cert_chain(*cert)
        return contextlib.closing(http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=60))

    def test_answers_are_those_of_plain_http_unary_and_streamed(self):
        with harness.Server("tiny-chat") as plain:
            with contextlib.closing(plain.connection()) as connection:
                expected = ask(connection)
        with harness.Server("tiny-chat", "--tls-cert-path", self.cert, "--tls-key-path", self.key) as server:
            with self.connection(server) as connection:
                self.assertEqual(ask(connection), expected)
                self.assertEqual(ask(connection, stream=True), expected)
                self.assertEqual(ask(connection), expected)
            curl = subprocess.run(["curl", "-sS", "--cacert", str(self.authority.cert), "--tlsv1.3",
                                   f"https://localhost:{server.port}/v1/models"], capture_output=True, text=True)
            self.assertEqual(json.loads(curl.stdout)["data"][0]["id"], "tiny-chat", curl.stderr)
            old = subprocess.run(["curl", "-sS", "--cacert", str(self.authority.cert), "--tls-max", "1.1",
                                  f"https://localhost:{server.port}/v1/models"], capture_output=True, text=True)
            self.assertNotEqual(old.returncode, 0)
            # Plain HTTP to the same port, and a client that hangs up within its handshake.
            with contextlib.closing(plain.connection()) as connection:
                connection.port = server.port
                with self.assertRaises((http.client.HTTPException, OSError)):
                    connection.request("GET", "/health")
                    connection.getresponse()
            with socket.create_connection(("127.0.0.1", server.port)) as half:
                half.sendall(b"\x16\x03\x01\x02\x00\x01")
            with self.connection(server) as connection:
                self.assertEqual(ask(connection), expected)

    def test_a_client_that_hangs_up_is_cancelled(self):
        with harness.Server("tiny-chat", "--tls-cert", self.cert, "--tls-key", self.key) as server:
            with self.connection(server) as connection:
                connection.request("POST", "/v1/chat/completions", headers={"Content-Type": "application/json"},
                                   body=json.dumps({**BODY, "max_tokens": 400, "ignore_eos": True, "stream": True}))
                self.assertTrue(connection.getresponse().readline().startswith(b"data: "))

            def cancelled():
                with self.connection(server) as connection:
                    connection.request("GET", "/metrics")
                    text = connection.getresponse().read().decode()
                return any(line.startswith("pixii_engine_running") and line.endswith(" 0") for line in text.splitlines())

            server.wait_for(cancelled, what="no request runs")

    def test_clients_must_show_a_certificate_where_they_are_asked_for_one(self):
        other = Authority(self.folder.name, "stranger")
        with harness.Server("tiny-chat", "--tls-cert", self.cert, "--tls-key", self.key,
                            "--tls-client-ca", str(self.authority.cert)) as server:
            with self.connection(server, cert=self.authority.sign("client")) as connection:
                self.assertTrue(ask(connection))
            for cert in (None, other.sign("client")):
                with self.connection(server, cert=cert) as connection, self.assertRaises((ssl.SSLError, OSError)):
                    ask(connection)

    def test_flags_that_cannot_work_stop_the_start_by_name(self):
        for flags, named in ((["--tls-cert", self.cert], "tls-key"), (["--tls-key", self.key], "tls-cert"),
                             (["--tls-client-ca", self.cert], "tls-client-ca"),
                             (["--tls-cert", "/nowhere.pem", "--tls-key", self.key], "/nowhere.pem"),
                             (["--tls-cert", self.cert, "--tls-key", str(self.authority.key)], str(self.authority.key)),
                             (["--listen", "tcp:1"], "listen")):
            done = harness.run_pixii("serve", "tiny-chat", *flags)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(named, done.stderr, flags)


    def test_a_hang_up_signal_brings_new_certificates_and_keys_and_broken_files_change_nothing(self):
        with tempfile.TemporaryDirectory(prefix="pixii-reload-") as folder:
            folder = pathlib.Path(folder)
            cert, key, keys = folder / "cert", folder / "key", folder / "keys"

            def put(pair):
                shutil.copy(pair[0], cert)
                shutil.copy(pair[1], key)

            def shown(server):
                with socket.create_connection(("127.0.0.1", server.port)) as plain:
                    context = ssl.create_default_context(cafile=str(self.authority.cert))
                    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                        return dict(part[0] for part in connection.getpeercert()["subject"])["commonName"]

            def status(server, name):
                with self.connection(server) as connection:
                    connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {name}"})
                    return connection.getresponse().status

            def reload(server, event, count):
                server.process.send_signal(signal.SIGHUP)
                server.wait_for(lambda: server.log_text().count(event) >= count, what=event)

            put((self.cert, self.key))
            keys.write_text("first-key-1\n")
            with harness.Server("tiny-chat", "--tls-cert", str(cert), "--tls-key", str(key),
                                "--api-key-file", str(keys)) as server:
                self.assertEqual((shown(server), status(server, "first-key-1")), ("server", 200))
                with self.connection(server) as kept:
                    kept.request("GET", "/health")
                    kept.getresponse().read()
                    put(self.authority.sign("renewed"))
                    keys.write_text("second-key-1\n")
                    reload(server, "serve.reloaded", 2)
                    self.assertEqual(shown(server), "renewed")
                    self.assertEqual((status(server, "first-key-1"), status(server, "second-key-1")), (401, 200))
                    kept.request("GET", "/health")
                    self.assertEqual(kept.getresponse().status, 200, "a connection that was there goes on")
                cert.write_text("no certificate")
                keys.write_text("{")
                reload(server, "serve.reload_failed", 2)
                self.assertIn(str(cert), server.log_text())
                self.assertEqual((shown(server), status(server, "second-key-1")), ("renewed", 200))


class SocketFile(unittest.TestCase):
    def test_serves_on_a_socket_file_that_goes_with_it(self):
        with tempfile.TemporaryDirectory(prefix="pixii-unix-") as folder:
            path = pathlib.Path(folder) / "api.sock"
            with harness.Server("tiny-chat", "--listen", f"unix:{path}"):
                curl = subprocess.run(["curl", "-sS", "--unix-socket", str(path), "http://localhost/v1/models"],
                                      capture_output=True, text=True)
                self.assertEqual(json.loads(curl.stdout)["data"][0]["id"], "tiny-chat", curl.stderr)
            self.assertFalse(path.exists())


class Keys(unittest.TestCase):
    FILE = {"keys": [
        {"sha256": hashlib.sha256(b"operator-key").hexdigest(), "admin": True},
        {"key": "reader-key-1", "tenant": "readers", "requests_per_minute": 3},
        {"key": "reader-key-2", "tenant": "readers", "tokens_per_minute": 20},
        {"key": "single-key-1", "max_requests": 1},
        {"key": "other-models", "models": ["another"]}]}

    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".json")
        json.dump(cls.FILE, cls.file)
        cls.file.flush()
        cls.server = harness.Server("tiny-chat", "--api-key-file", cls.file.name, "--enable-lora")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.file.close()

    def ask(self, key, path="/v1/chat/completions", body=None, method="POST"):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.server.request(method, path, {**BODY, **(body or {})} if method == "POST" else None, headers)

    def test_a_key_is_needed_and_any_route_but_health_says_only_that(self):
        for key in (None, "nobody-key-1", "reader-key-", hashlib.sha256(b"operator-key").hexdigest()):
            for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/loras"),
                                 ("POST", "/tokenize"), ("POST", "/engine/control/release_memory_occupation")):
                status, headers, answer = self.ask(key, path, method=method)
                self.assertEqual(status, 401, (key, path))
                self.assertEqual(answer["error"]["code"], "invalid_api_key")
                self.assertEqual(headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(self.server.request("GET", "/health")[0], 200)

    def test_only_an_admin_key_may_control_the_engine(self):
        for method, path in (("GET", "/v1/loras"), ("POST", "/engine/control/release_memory_occupation")):
            status, _, answer = self.ask("reader-key-2", path, method=method)
            self.assertEqual((status, answer["error"]["code"]), (403, "permission_denied"), path)
        self.assertEqual(self.ask("operator-key", "/v1/loras", method="GET")[0], 200)

    def test_a_key_sees_only_its_models(self):
        status, _, answer = self.ask("other-models")
        self.assertEqual((status, answer["error"]["code"]), (404, "model_not_found"))
        status, _, unknown = self.ask("operator-key", body={"model": "nothing"})
        self.assertEqual(answer["error"]["message"].replace("tiny-chat", "nothing"), unknown["error"]["message"])
        self.assertEqual(self.ask("other-models", "/v1/models", method="GET")[2]["data"], [])
        self.assertEqual(self.ask("other-models", "/v1/models/tiny-chat", method="GET")[0], 404)
        self.assertEqual(len(self.ask("operator-key", "/v1/models", method="GET")[2]["data"]), 1)

    def test_requests_past_a_minutes_worth_are_refused_with_how_long_to_wait(self):
        for left in (2, 1, 0):
            status, headers, _ = self.ask("reader-key-1")
            self.assertEqual(status, 200)
            self.assertEqual(headers["x-ratelimit-limit-requests"], "3")
            self.assertEqual(headers["x-ratelimit-remaining-requests"], str(left))
        status, headers, answer = self.ask("reader-key-1")
        self.assertEqual((status, answer["error"]["code"]), (429, "rate_limit_exceeded"))
        self.assertIn("requests_per_minute", answer["error"]["message"])
        self.assertTrue(1 <= int(headers["Retry-After"]) <= 20, headers)
        self.assertEqual(self.ask("operator-key")[0], 200)

    def test_tokens_past_a_minutes_worth_are_refused(self):
        status, _, answer = self.ask("reader-key-2")
        self.assertEqual(status, 200)
        self.assertGreaterEqual(answer["usage"]["total_tokens"], 20)
        status, headers, answer = self.ask("reader-key-2")
        self.assertEqual(status, 429)
        self.assertIn("tokens_per_minute", answer["error"]["message"])
        self.assertEqual(headers["x-ratelimit-remaining-tokens"], "0")

    def test_requests_at_a_time_are_bounded_and_a_hang_up_frees_the_place(self):
        connection = self.server.connection()
        connection.request("POST", "/v1/chat/completions",
                           json.dumps({**BODY, "stream": True, "max_tokens": 400, "ignore_eos": True}),
                           {"Authorization": "Bearer single-key-1", "Content-Type": "application/json"})
        self.assertTrue(connection.getresponse().readline().startswith(b"data: "))
        status, _, answer = self.ask("single-key-1")
        self.assertEqual(status, 429)
        self.assertIn("max_requests", answer["error"]["message"])
        connection.close()
        self.server.wait_for(lambda: self.ask("single-key-1")[0] == 200, what="the place is free")

    def test_a_cache_salt_shares_prefixes_only_with_itself(self):
        body = {"messages": [{"role": "user", "content": "Tell me about rivers and the sea. " * 12}]}
        cached = []
        for extra in ({"cache_salt": "a"}, {"cache_salt": "a"}, {"cache_salt": "b"}, {"nvext": {"cache_salt": "a"}}, {}, {}):
            status, _, answer = self.ask("operator-key", body={**body, **extra})
            self.assertEqual(status, 200, answer)
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0)
        self.assertEqual(cached, [False, True, False, True, False, True])

    def test_keys_of_one_tenant_share_a_cache_and_others_do_not(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"keys": [{"key": f"tenant-key-{i}", "tenant": tenant} for i, tenant in
                                enumerate(("a", "a", "b"))]}, file)
            file.flush()
            body = {"messages": [{"role": "user", "content": "Tell me about rivers and the sea. " * 12}]}
            with harness.Server("tiny-chat", "--api-key-file", file.name) as server:
                cached = []
                for key in range(3):
                    status, _, answer = server.request("POST", "/v1/chat/completions", {**BODY, **body},
                                                       {"Authorization": f"Bearer tenant-key-{key}"})
                    self.assertEqual(status, 200, answer)
                    cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
                self.assertEqual(cached[0], 0)
                self.assertGreater(cached[1], 0)
                self.assertEqual(cached[2], 0)


if __name__ == "__main__":
    harness.main()
