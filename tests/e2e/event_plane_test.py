"""KV events and loads over NATS with JetStream, against a real nats-server: what is brought, what is recovered, what is refused."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import unittest.mock

import cluster
import harness
from router_service_test import Router

COMPLETIONS = "/v1/completions"
MOCK = ("--engine", "mock", "--block-size", "16")
KV = ("--router-mode", "kv")


class Nats:
    """nats-server with JetStream on a free port, which it keeps over restarts."""

    def __init__(self, *flags):
        self.flags = flags
        self.folder = tempfile.TemporaryDirectory(prefix="pixii-nats-")
        self.port = None
        self.start()
        self.url = f"nats://127.0.0.1:{self.port}"

    def start(self):
        ports = pathlib.Path(self.folder.name) / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        self.log = open(f"{self.folder.name}/log", "ab")
        self.process = subprocess.Popen(["nats-server", "-a", "127.0.0.1", "-p", str(self.port or -1), "--ports_file_dir", str(ports),
                                         "-js", "-sd", f"{self.folder.name}/store", *self.flags], stdout=self.log, stderr=self.log)

        def listens():
            for file in ports.glob("*.ports"):
                text = file.read_text()
                return json.loads(text)["nats"][0] if text else None
        try:
            address = harness.wait_for(listens, 10, "nats-server listens", lambda: pathlib.Path(f"{self.folder.name}/log").read_text())
        except BaseException:
            self.kill()
            raise
        self.port = int(address.rsplit(":", 1)[1])

    def kill(self, forget=False):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        if forget:
            shutil.rmtree(f"{self.folder.name}/store", ignore_errors=True)

    @contextlib.contextmanager
    def client(self):
        """As anybody can who reaches the server, in NATS' own protocol: (connection, reader)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            reader = connection.makefile("rb")
            assert reader.readline().startswith(b"INFO ")
            connection.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
            yield connection, reader

    def publish(self, messages):
        with self.client() as (connection, reader):
            for subject, payload in messages:
                connection.sendall(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")
            connection.sendall(b"PING\r\n")
            assert reader.readline().strip() == b"PONG"

    def stream(self):
        """What the server says of the stream of the fleet."""
        with self.client() as (connection, reader):
            connection.sendall(b"SUB answer 1\r\nPUB $JS.API.STREAM.INFO.pixii-dynamo answer 0\r\n\r\n")
            size = int(reader.readline().split()[-1])
            return json.loads(reader.read(size))

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.kill()
        self.folder.cleanup()


def prompt_of(number, size=70):
    return [300 + (number * 37 + at * 11) % 2000 for at in range(size)]


def figure(server, name, **labels):
    values = server.metrics()
    return sum(value for key, value in values.items()
               if key.split("{")[0] == name and all(f'{label}="{text}"' in key for label, text in labels.items()))


def messages(server, what):
    return figure(server, "pixii_event_plane_messages_total", what=what)


@unittest.skipUnless(shutil.which("nats-server"), "nats-server of tools/packages.txt is not installed")
class EventPlane(unittest.TestCase):
    def setUp(self):
        if not (pathlib.Path(harness.BINARY).parent / "libpixii_nats.so").exists():
            self.skipTest("this build has no libpixii_nats.so: libnats-dev of tools/packages.txt is not installed")
        self.asked = 0

    def ask(self, server, count=6):
        for number in range(self.asked, self.asked + count):
            status, said = server.post(COMPLETIONS, {"prompt": prompt_of(number), "max_tokens": 2, "temperature": 0})
            self.assertEqual(status, 200, said)
        self.asked += count

    def cluster(self, nats, workers=2):
        plane = ("--event-plane", nats.url)
        return cluster.Cluster(workers, worker_flags=(*MOCK, *plane), frontend_flags=(*KV, *plane))

    def index(self, server):
        return figure(server, "pixii_router_index_blocks")

    def agree(self, one, other, seconds=15):
        """Both frontends know the same number of blocks, which is what was asked for."""
        expected = 4 * self.asked  # whole blocks of prompts that share nothing
        harness.wait_for(lambda: self.index(one) == self.index(other) == expected, seconds, f"both know {expected} blocks",
                         lambda: f"{self.index(one)} {self.index(other)}\n{one.log_text()}\n{other.log_text()}")

    def ready(self, server, seconds=15):
        server.wait_for(lambda: figure(server, "pixii_event_plane_ready") == 1, seconds, "the plane is ready")

    def relies_on_the_plane(self, server):
        """Events come over the plane, none is missing."""
        before, gaps = figure(server, "pixii_event_plane_kv_events_total"), figure(server, "pixii_event_plane_gaps_total")

        def grows():
            self.ask(server, 1)
            return figure(server, "pixii_event_plane_kv_events_total") > before
        server.wait_for(grows, 15, "events come over the plane")
        return gaps

    def test_events_and_loads_arrive(self):
        with Nats() as nats, self.cluster(nats) as fleet:
            direct = fleet.frontend_of(*KV)  # the same fleet, told by each worker
            try:
                self.ready(fleet.frontend)
                self.relies_on_the_plane(fleet.frontend)
                self.ask(fleet.frontend, 20)
                self.agree(fleet.frontend, direct)
                stream = nats.stream()
                self.assertEqual((stream["config"]["subjects"], stream["config"]["storage"]), (["pixii.dynamo.>"], "file"))
                self.assertGreater(stream["state"]["messages"], 5)  # several events go in one
                self.assertGreater(messages(fleet.frontend, "heard"), 5)
                self.assertEqual(messages(fleet.frontend, "malformed"), 0)
                self.assertGreater(figure(fleet.frontend, "pixii_event_plane_kv_events_total"), 15)
                self.assertEqual(messages(direct, "heard"), 0)
                before = self.index(fleet.frontend)
                for number in range(20):  # they go where they are cached: nothing new is
                    status, said = fleet.frontend.post(COMPLETIONS, {"prompt": prompt_of(number), "max_tokens": 2, "temperature": 0})
                    self.assertEqual(status, 200, said)
                    self.assertEqual(said["usage"]["prompt_tokens_details"]["cached_tokens"], 64)
                self.assertEqual(self.index(fleet.frontend), before)
            finally:
                direct.stop()

    def test_a_server_that_restarts_loses_nothing(self):
        with Nats() as nats, self.cluster(nats) as fleet:
            direct = fleet.frontend_of(*KV)
            try:
                for forget in (False, True):
                    with self.subTest(forget=forget):
                        self.ready(fleet.frontend)
                        self.relies_on_the_plane(fleet.frontend)
                        breaks = figure(fleet.frontend, "pixii_event_plane_breaks_total")
                        nats.kill(forget)
                        self.ask(fleet.frontend, 8)  # nobody hears of them over the plane
                        nats.start()
                        self.ready(fleet.frontend)
                        self.assertGreater(figure(fleet.frontend, "pixii_event_plane_breaks_total"), breaks)
                        self.agree(fleet.frontend, direct)
                        self.relies_on_the_plane(fleet.frontend)
                        self.agree(fleet.frontend, direct)
            finally:
                direct.stop()

    def test_without_the_server_the_workers_are_listened_to(self):
        with Nats() as nats:
            nats.kill()
            with self.cluster(nats) as fleet:  # it starts without
                direct = fleet.frontend_of(*KV)
                try:
                    self.ask(fleet.frontend)
                    self.agree(fleet.frontend, direct)
                    self.assertEqual(figure(fleet.frontend, "pixii_event_plane_ready"), 0)
                    nats.start()
                    self.ready(fleet.frontend)
                    self.relies_on_the_plane(fleet.frontend)
                    nats.kill()
                    fleet.frontend.wait_for(lambda: figure(fleet.frontend, "pixii_event_plane_ready") == 0, 15, "it is away")
                    self.ask(fleet.frontend)
                    self.agree(fleet.frontend, direct)
                    nats.start()
                finally:
                    direct.stop()

    def test_who_starts_late_catches_up(self):
        with Nats() as nats, self.cluster(nats) as fleet:
            self.ready(fleet.frontend)
            self.ask(fleet.frontend, 30)
            late = fleet.frontend_of(*KV, "--event-plane", nats.url)
            router = Router(fleet.folder.name, "--event-plane", nats.url)
            try:
                self.agree(late, fleet.frontend)
                self.ready(late)
                self.relies_on_the_plane(late)
                self.agree(late, fleet.frontend)
                harness.wait_for(lambda: messages(router, "heard") > 0, 10, "the router hears, too", router.log_text)
                status, said = router.post("/query", {"token_ids": prompt_of(3), "model_name": "tiny-chat"})
                self.assertEqual(status, 200, said)
                self.assertEqual(max(one["gpu"] for one in said["instances"].values()), 64)
            finally:
                late.stop()
                router.stop()

    def test_a_server_with_users_wants_to_know_who_asks(self):
        with Nats("--user", "fleet", "--pass", "secret") as nats:
            for password, works in (("secret", True), ("wrong", False)):
                with unittest.mock.patch.dict(os.environ, {"NATS_AUTH_USERNAME": "fleet", "NATS_AUTH_PASSWORD": password}), \
                        self.cluster(nats, 1) as fleet:
                    direct = fleet.frontend_of(*KV)
                    try:
                        self.asked = 0
                        if works:
                            self.ready(fleet.frontend)
                            self.relies_on_the_plane(fleet.frontend)
                        self.ask(fleet.frontend)
                        self.agree(fleet.frontend, direct)
                        if not works:
                            fleet.frontend.wait_for(lambda: re.search("event=event_plane.away .*uthorization", fleet.frontend.log_text()), 15, "it says why")
                            self.assertEqual(messages(fleet.frontend, "heard"), 0)
                            nats.kill()
                            nats.flags = ()  # it asks nobody any more
                            nats.start()
                            self.ready(fleet.frontend)
                            self.relies_on_the_plane(fleet.frontend)
                            self.agree(fleet.frontend, direct)
                        self.assertNotIn(password, fleet.frontend.log_text())
                    finally:
                        direct.stop()

    def test_what_is_no_message_is_counted_and_dropped(self):
        with Nats() as nats, self.cluster(nats, 1) as fleet:
            direct = fleet.frontend_of(*KV)
            try:
                self.ready(fleet.frontend)
                self.relies_on_the_plane(fleet.frontend)
                (name,) = re.findall(r"event=worker.ready .*instance=\"?([0-9a-f]+)", fleet.workers[0].log_text())
                junk = [b"", b"x", b"\x00" * 8, b"\xff" * 4000, bytes(range(256)), b"\xde\xff\xff\xff\xff" + b"\x91" * 200]
                nats.publish([(f"pixii.dynamo.{kind}.{name}", payload) for kind in ("kv", "load") for payload in junk]
                             + [("pixii.dynamo.kv.ffff", b"x"), ("pixii.dynamo.none", b"x")])
                fleet.frontend.wait_for(lambda: messages(fleet.frontend, "malformed") == 2 * len(junk), 5, "they are counted")
                fleet.frontend.wait_for(lambda: messages(fleet.frontend, "unknown") >= 2, 5, "so are those of nobody")
                self.ask(fleet.frontend)
                self.agree(fleet.frontend, direct)
                self.relies_on_the_plane(fleet.frontend)
            finally:
                direct.stop()

    def test_what_cannot_be_is_said_at_the_start(self):
        for command in (("worker", "tiny-chat", *MOCK), ("frontend", "--port", "0"), ("router", "--port", "0")):
            with tempfile.TemporaryDirectory() as folder:
                done = harness.run_pixii(*command, "--discovery", f"file:{folder}", "--event-plane", "kafka://x")
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("event-plane", done.stderr)


if __name__ == "__main__":
    harness.main()
