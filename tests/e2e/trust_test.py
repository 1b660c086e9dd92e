"""Who may speak with the server and how: TLS, certificates of clients, socket files."""
import contextlib
import http.client
import json
import pathlib
import shutil
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


class SocketFile(unittest.TestCase):
    def test_serves_on_a_socket_file_that_goes_with_it(self):
        with tempfile.TemporaryDirectory(prefix="pixii-unix-") as folder:
            path = pathlib.Path(folder) / "api.sock"
            with harness.Server("tiny-chat", "--listen", f"unix:{path}"):
                curl = subprocess.run(["curl", "-sS", "--unix-socket", str(path), "http://localhost/v1/models"],
                                      capture_output=True, text=True)
                self.assertEqual(json.loads(curl.stdout)["data"][0]["id"], "tiny-chat", curl.stderr)
            self.assertFalse(path.exists())


if __name__ == "__main__":
    harness.main()
