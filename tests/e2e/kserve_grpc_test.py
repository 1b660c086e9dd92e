"""KServe's protocol over gRPC, with an ordinary client: the texts are those of /v1/completions."""
import json
import pathlib
import subprocess
import tempfile
import unittest

import harness
from trust_test import Authority

WORK = harness.ROOT / "build/npm/kserve"
PROMPT = "The river runs"


class GrpcServer(harness.Server):
    def __init__(self, *flags):
        self.grpc_folder = tempfile.TemporaryDirectory(prefix="pixii-grpc-")
        file = pathlib.Path(self.grpc_folder.name) / "port"
        super().__init__("tiny-chat", "--kserve-grpc-server", "--grpc-port", "0", "--grpc-port-file", str(file), *flags)
        self.grpc_port = int(file.read_text())

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        self.grpc_folder.cleanup()

    def run_case(self, test, name, argument="", host="127.0.0.1"):
        done = subprocess.run(["node", "client.mjs", f"{host}:{self.grpc_port}", name, argument], cwd=WORK,
                              capture_output=True, text=True, timeout=120)
        test.assertEqual(done.returncode, 0, done.stdout + done.stderr + self.log_text())


class Kserve(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        harness.install_npm_client("kserve")

    def test_says_what_completions_say_whole_and_in_pieces(self):
        with GrpcServer() as server:
            status, answer = server.post("/v1/completions", {"prompt": PROMPT, "temperature": 0, "max_tokens": 24})
            self.assertEqual(status, 200, answer)
            choice = answer["choices"][0]
            server.run_case(self, "infer", json.dumps({"prompt": PROMPT, "expected": choice["text"],
                                                       "finish": choice["finish_reason"]}))
            server.run_case(self, "describe")
            server.run_case(self, "cancel")
            server.wait_for(lambda: server.running() == 0, 2, "no running sequence")

    def test_errors_are_statuses(self):
        with GrpcServer("--body-limit", "32768") as server:
            server.run_case(self, "errors")

    def test_keys_and_their_limits_hold(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"keys": [{"key": "grpc-key-1", "requests_per_minute": 1}]}, file)
            file.flush()
            with GrpcServer("--api-key-file", file.name) as server:
                server.run_case(self, "keys", "grpc-key-1")

    def test_certificates_are_those_of_the_http_listener(self):
        with tempfile.TemporaryDirectory(prefix="pixii-tls-") as folder:
            authority = Authority(folder, "authority")
            cert, key = authority.sign("server")
            client_cert, client_key = authority.sign("client")
            with GrpcServer("--tls-cert", cert, "--tls-key", key, "--tls-client-ca", str(authority.cert)) as server:
                server.run_case(self, "tls", json.dumps({"authority": str(authority.cert), "key": client_key,
                                                         "certificate": client_cert}), host="localhost")

    def test_a_port_that_is_taken_stops_the_start(self):
        with GrpcServer() as server:
            second = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--kserve-grpc-server",
                                       "--grpc-port", str(server.grpc_port))
            self.assertNotEqual(second.returncode, 0)
            self.assertIn(str(server.grpc_port), second.stderr)


if __name__ == "__main__":
    harness.main()
