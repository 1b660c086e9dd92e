"""A port scanner without key or certificate: every port and socket of a whole cluster, spoken to well and badly, gives nothing away and goes on."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import ssl
import struct
import tempfile
import unittest

import cluster
import harness
import kv_publish_test
from disaggregation_test import completion
from router_service_test import Router
from trust_test import Authority

KEY = "a-key-for-the-scanned-cluster"
AUTH = {"Authorization": f"Bearer {KEY}"}
COMPLETIONS = "/v1/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB", "--block-size", "16")
REPLY_MAX = 1 << 20
GROWTH_KIB = 48 << 10  # of a process under all this; one reply or frame that was believed would take more
WIRE = harness.ROOT / "tests/wire/v1"


def vectors():
    """Name -> bytes, of docs/formats/transfer.md."""
    text = (harness.ROOT / "docs/formats/transfer.md").read_text()
    return {name: bytes.fromhex(value) for name, value in re.findall(r"^(\w+) ([0-9a-f]{64,})$", text, re.M)}


def sockets_of(pid):
    """((family, address) of what the process listens on: TCP ports of loopback, and socket files."""
    inodes = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{entry}"))
            if found:
                inodes.add(found[1])
    out = []
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            out.append(("tcp", int(fields[1].split(":")[1], 16)))
    for line in pathlib.Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000 and fields[6] in inodes and len(fields) > 7:
            out.append(("unix", fields[7]))
    return sorted(set(out), key=str)


class Process:
    """One that is scanned: what it had before, to be compared."""

    def __init__(self, name, server):
        self.name, self.server = name, server
        self.sockets = sockets_of(server.process.pid)
        self.before = self.figures()

    def figures(self):
        return self.server.process_figures()


def connect(where, timeout=10):
    kind, address = where
    if kind == "tcp":
        return socket.create_connection(("127.0.0.1", address), timeout)
    one = socket.socket(socket.AF_UNIX)
    one.settimeout(timeout)
    one.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
    return one


def read_all(connection):
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < REPLY_MAX:
            piece = connection.recv(1 << 16)
            if not piece:
                break
            data += piece
    return data


def say(where, payload):
    """What comes back for the payload and the end of our side."""
    try:
        with connect(where) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(payload)
                connection.shutdown(socket.SHUT_WR)
            return read_all(connection)
    except OSError:
        return b""


def say_in_tls(where, payload, cert=None):
    """The same within TLS, in which nobody is asked who he is and we show a certificate of our own making or none: what came inside."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert:
        context.load_cert_chain(*cert)
    try:
        with connect(where) as plain, context.wrap_socket(plain) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(payload)
            return read_all(connection)
    except OSError:
        return b""


def http(method, path, body=b"", headers=""):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}Connection: close\r\n\r\n".encode() + body


def payloads(rng):
    """(what it is, bytes): for every port the same, so that each hears its own protocol well, and all others."""
    said = vectors()
    prompt = json.dumps({"prompt": "hello", "max_tokens": 4}).encode()
    json_type = "Content-Type: application/json\r\n"
    out = [("nothing", b""), ("one byte", b"\0"), ("newlines", b"\r\n" * 1000), ("zeros", bytes(1 << 20)), ("ones", b"\xff" * (1 << 20)),
           ("completion", http("POST", COMPLETIONS, prompt, json_type)),
           ("completion with a wrong key", http("POST", COMPLETIONS, prompt, json_type + "Authorization: Bearer nobodys-key\r\n")),
           ("half a request", http("POST", COMPLETIONS, prompt, json_type)[:60]),
           ("a body that does not come", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + bytes(1000)),
           ("a header without end", b"GET / HTTP/1.1\r\nX: " + b"y" * (1 << 20)),
           ("many headers", b"GET / HTTP/1.1\r\n" + b"X-Y: z\r\n" * 20000),
           ("chunks without end", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + bytes(65536) + b"\r\nffffffffffffffff\r\n"),
           ("smuggled", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n"),
           ("http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")),
           ("http/2, large frames", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("ffffff000000000001") + bytes(1 << 16)),
           ("a TLS hello cut off", bytes.fromhex("16030102000100")),
           ("mux, a whole connection", (WIRE / "to_answerer.mux").read_bytes()),
           ("mux, the answers", (WIRE / "to_caller.mux").read_bytes()),
           ("mux, a frame too long", b"\xff\xff\xff\x03" + bytes(16) + bytes(1 << 16)),
           ("transfer, hello", said["hello"]),
           ("transfer, hello and a proof of another key", said["hello"] + said["client_proof"]),
           ("transfer, a whole session repeated", said["hello"] + said["client_proof"] + said["frame_header"] + said["descriptors"]),
           ("transfer, from the middle", said["frame_header"] + said["descriptors"]),
           ("transfer, long", said["hello"] + bytes(1 << 20)),
           ("shm, a message", said["region_message"] * 100),
           ("zmtp", b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31)),
           ("zmtp, another mechanism", b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15 + 1 + 31)),
           ("zmtp, a message too long", b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16 + 1 + 31) + b"\x02" + struct.pack(">Q", 1 << 62)),
           ("lmcache", struct.pack("<9i150s", 2, 0, 4, 6, 0, 0, 0, 0, 0, b"a@1@0@0@uint8".ljust(150))),
           ("lmcache, 2 GiB", struct.pack("<9i150s", 1, 2**31 - 1, 4, 6, 0, 0, 0, 0, 0, b"a@1@0@0@uint8".ljust(150)))]
    for path in ("/v1/models", "/v1/cluster", "/v1/loras", "/metrics", "/health", "/dump", "/loads", "/engine/control/release_memory_occupation", "/state",
                 "/router/explain", "/clear_kv_blocks", "/v1/files", "/v2/models"):
        out.append((f"GET {path}", http("GET", path)))
        out.append((f"POST {path}", http("POST", path, b"{}", json_type)))
    for i in range(8):
        out.append((f"noise {i}", rng.randbytes(rng.randrange(1, 5000))))
    spoilt = (said["hello"], (WIRE / "mux_hello.msgpack").read_bytes(), (WIRE / "to_answerer.mux").read_bytes()[:600], http("GET", "/v1/models"))
    for i in range(16):
        data = bytearray(spoilt[i % 4])
        for _ in range(1 + rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        out.append((f"spoilt {i}", bytes(data[:rng.randrange(1, len(data) + 1)])))
    return out


@unittest.skipIf(shutil.which("openssl") is None, "no openssl to make certificates with")
class PortScanner(unittest.TestCase):
    def setUp(self):
        seed = random.randrange(2**31)
        print("seed", seed)
        self.rng = random.Random(seed)
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.folder = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="pixii-scan-")))
        (self.folder / "cluster").mkdir()
        (self.folder / "key").write_bytes(os.urandom(32))
        (self.folder / "api").write_text(f"{KEY}\n")
        self.ours, self.strangers = Authority(self.folder, "ours"), Authority(self.folder, "strangers")
        self.cert = self.ours.sign("member")

    def start(self, words):
        server = harness.Server.__new__(harness.Server)
        server.start([str(word) for word in words])
        return self.stack.enter_context(server)

    def worker(self, role):
        system = self.folder / f"system-{role}"
        zmq = ("--kv-events-zmq", "tcp://127.0.0.1:0", "--kv-events-replay", "tcp://127.0.0.1:0") if role == "prefill" else ()
        server = self.start(["worker", "tiny-chat", "--discovery", f"file:{self.folder}/cluster", "--role", role, "--cluster-key",
                             self.folder / "key", "--system-port", "0", "--system-port-file", system, "--system-api-key-file", self.folder / "api",
                             "--kv-host-blocks", "200", "--kv-disk", self.folder / f"disk-{role}", "--kv-disk-blocks", "400", "--kv-offload-all",
                             "--worker-tls-cert", self.cert[0], "--worker-tls-key", self.cert[1], "--worker-tls-client-ca", self.ours.cert,
                             *zmq, *FLAGS])
        server.port = int(system.read_text())  # its metrics
        return server

    def cluster(self):
        self.prefill, self.decode = self.worker("prefill"), self.worker("decode")
        fleet = ("--fleet-tls-ca", self.ours.cert, "--fleet-tls-cert", self.cert[0], "--fleet-tls-key", self.cert[1])
        tls = ("--worker-tls-cert", self.cert[0], "--worker-tls-key", self.cert[1], "--worker-tls-client-ca", self.ours.cert)
        self.router = self.start(["router", "--port", "0", "--discovery", f"file:{self.folder}/cluster", "--api-key-file", self.folder / "api",
                                  *fleet, *tls])
        grpc_file = self.folder / "grpc"
        grpc = ("--kserve-grpc-server", "--grpc-port", "0", "--grpc-port-file", grpc_file) if self.has_grpc() else ()
        self.frontend = self.start(["frontend", "--port", "0", "--discovery", f"file:{self.folder}/cluster", "--api-key-file", self.folder / "api",
                                    "--router-mode", "kv", "--body-limit", "1MiB", *fleet, *grpc])
        self.frontend.wait_for(lambda: cluster.total(self.frontend, "dynamo_frontend_router_worker_state", 'state="available"') == 2, 20, "2 workers")

    @staticmethod
    def has_grpc():
        program = pathlib.Path(harness.BINARY).resolve()
        return any((folder / "libpixii_grpc.so").exists() for folder in (program.parent, program.parent.parent))

    def ask(self, body):
        status, answer = self.frontend.post(COMPLETIONS, body, headers=AUTH)
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["text"]

    def kv_bytes(self):
        """Pieces of what the workers' caches hold, from their disk tiers."""
        pieces = []
        for file in self.folder.glob("disk-*/kv-*.blocks"):
            data = file.read_bytes()
            slot = int.from_bytes(data[16:24], "little")
            header = int.from_bytes(data[12:16], "little")
            for at in range(4096, len(data) - slot + 1, slot):
                piece = data[at + header + 1024:at + header + 1024 + 24]
                if len(set(piece)) > 12:
                    pieces.append(piece)
        return pieces

    def scan(self, process, payload_list):
        """(socket, what was said, within TLS, what came) of everything."""
        jobs = []
        stranger = self.strangers.sign("member")
        for where in process.sockets:
            for name, payload in payload_list:
                jobs.append((where, name, "", lambda where=where, payload=payload: say(where, payload)))
            for name, payload in payload_list:
                if name.startswith(("mux", "transfer, hello", "GET", "completion", "noise 0")):
                    jobs.append((where, name, "TLS", lambda where=where, payload=payload: say_in_tls(where, payload)))
                    jobs.append((where, name, "TLS with a certificate of another authority",
                                 lambda where=where, payload=payload: say_in_tls(where, payload, stranger)))
        self.rng.shuffle(jobs)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            for (where, name, how, _), got in zip(jobs, pool.map(lambda job: job[3](), jobs)):
                yield where, name, how, got

    def scan_all(self, bodies, expected):
        servers = {"frontend": self.frontend, "router": self.router, "prefill": self.prefill, "decode": self.decode}
        processes = [Process(name, server) for name, server in servers.items()]
        for process in processes:
            self.assertTrue(process.sockets, process.name)
        public = {("tcp", self.frontend.port), ("tcp", self.router.port), ("tcp", self.prefill.port), ("tcp", self.decode.port)}
        zmq = {("tcp", int(address.rsplit(":", 1)[1])) for rank in kv_publish_test.published(self.prefill) for address in rank}
        grpc = {("tcp", int((self.folder / "grpc").read_text()))} if self.has_grpc() else set()
        secret = self.kv_bytes()
        self.assertGreater(len(secret), 8)
        payload_list = payloads(self.rng)
        idle = [connect(where) for process in processes for where in process.sockets for _ in range(20)]  # who say nothing
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as asking:
                answers = asking.submit(lambda: [self.ask(body) for body in bodies for _ in range(3)])
                count = 0
                for process in processes:
                    for where, name, how, got in self.scan(process, payload_list):
                        count += 1
                        what = (process.name, where, name, how, got[:300])
                        self.assertFalse(any(piece in got for piece in secret), what)
                        if where in public:
                            self.check_http(name, how, got, what)
                        elif where not in zmq | grpc:
                            self.assertTrue(self.says_nothing(how, got), what)
                self.assertGreater(count, 1000)
                self.assertEqual(answers.result(), [answer for answer in expected for _ in range(3)])
        finally:
            for one in idle:
                one.close()
        for body, answer in zip(bodies, expected):
            self.assertEqual(self.ask(body), answer)
        for process in processes:
            figures = {}

            def settled(process=process, figures=figures):
                figures.update(process.figures())
                return figures["descriptors"] <= process.before["descriptors"] + 8 and figures["threads"] <= process.before["threads"] + 2

            harness.wait_for(settled, 30, f"{process.name}: nothing is left of it", lambda: f"{process.before} {figures}")
            self.assertLess(figures["rss_kib"] - process.before["rss_kib"], GROWTH_KIB, process.name)
            self.assertEqual(cluster.total(process.server, "pixii_error_events_total"), 0, process.name)
        for worker in (self.prefill, self.decode):
            self.assertGreater(cluster.total(worker, "pixii_transfer_strangers_refused_total"), 10)
            self.assertEqual(cluster.total(worker, "pixii_transfer_refused_total", "malformed"), 0, "nobody got as far as a frame")
            for name in ("pixii_handover_corrupt_blocks_total", "pixii_kv_integrity_failures_total", "pixii_engine_running", "pixii_engine_blocks_pinned"):
                worker.wait_for(lambda worker=worker, name=name: cluster.total(worker, name) == 0, 10, name)

    @staticmethod
    def says_nothing(how, got):
        """The link of a worker or router: a TLS alert at most. The transfer port: the 60 bytes of a challenge, which are random or name a life."""
        return not got or not how and (got[:1] == b"\x15" and len(got) <= 64 or got[:4] == b"PxTs" and len(got) == 60)

    def check_http(self, name, how, got, what):
        """Who has no key gets no answer to a request but of the routes that say nothing about requests."""
        if not got or not got.startswith(b"HTTP/1.1 "):
            self.assertFalse(how and got, what)
            return
        status = int(got[9:12])
        path = name.split(" ", 1)[1] if name.startswith(("GET ", "POST ")) else ""
        if status < 300:
            self.assertIn(path, ("/health", "/metrics"), what)
        else:
            self.assertIn(status, (400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 421, 431, 501, 505), what)

    def bodies(self):
        return [completion(length, seed=5) for length in (40, 120, 260)]

    def test_a_whole_cluster_with_tiers_gives_nothing_away_and_goes_on(self):
        with harness.Server("tiny-chat", *FLAGS) as alone:
            expected = [alone.post(COMPLETIONS, body)[1]["choices"][0]["text"] for body in self.bodies()]
        self.cluster()
        self.assertEqual([self.ask(body) for body in self.bodies()], expected)
        self.prefill.wait_for(lambda: self.kv_bytes(), 20, "blocks on disk")
        self.assertGreater(cluster.total(self.decode, "pixii_handover_bytes_total"), 0)
        self.scan_all(self.bodies(), expected)

    def test_the_scanner_speaks_well(self):
        """Where no certificate is asked for the same bytes are answered: it is not deaf."""
        with tempfile.TemporaryDirectory(prefix="pixii-scan-open-") as folder:
            with cluster.Cluster(1, worker_flags=FLAGS) as open_one:
                ports = sockets_of(open_one.workers[0].process.pid)
                answered = [say(where, (WIRE / "to_answerer.mux").read_bytes()) for where in ports]
                self.assertTrue(any(b"window_bytes" in got for got in answered), answered)
                self.assertIn(b"200 OK", say(("tcp", open_one.frontend.port), http("GET", "/v1/models")))


if __name__ == "__main__":
    harness.main()
