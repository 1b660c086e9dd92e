"""Rows of the runtime's acceptance table (C3, C4, C6 to C8, C10 to C12, D11) and what a fleet's lines carry. Real processes."""
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness
from attached_engine_test import HELLO, Attached, Publisher, has_zmq, tokens_of
from fake_engines import FakeEngine, answer
from fault_proxy import FaultProxy
from router_service_test import Router

PATH = "/v1/completions"
CHAT = "/v1/chat/completions"
MOCK = ("--engine", "mock", "--kv-tokens", "65536", "--max-context", "8192")
HEADER_BYTES = 20
HELLO_FRAME, CALL, DATA, END, CANCEL, CREDIT, PING, PONG, GO_AWAY = range(1, 10)


def frames(data):
    """(kind, more, stream, payload) of each whole frame, read as docs/formats/mux.md says."""
    out, at = [], 0
    while at + HEADER_BYTES <= len(data):
        size = int.from_bytes(data[at:at + 3], "little")
        kind, (stream,) = data[at + 3], struct.unpack_from("<Q", data, at + 4)
        if size > 65536 or not HELLO_FRAME <= kind & 0x7F <= GO_AWAY:
            raise AssertionError(f"no frame at {at}: size {size}, kind {kind}")
        if at + HEADER_BYTES + size > len(data):
            break
        out.append((kind & 0x7F, bool(kind & 0x80), stream, data[at + HEADER_BYTES:at + HEADER_BYTES + size]))
        at += HEADER_BYTES + size
    return out


class Lines(unittest.TestCase):
    def setUp(self):
        self.sockets = tempfile.TemporaryDirectory(prefix="pixii-lines-")
        self.addCleanup(self.sockets.cleanup)

    def worker_flags(self, *more):
        return (*MOCK, "--worker-listen", f"unix:{self.sockets.name}/w.sock", *more)

    @contextlib.contextmanager
    def behind_a_proxy(self, *flags):
        """A worker, a frontend that reaches it through a proxy, and the proxy."""
        with tempfile.TemporaryDirectory(prefix="pixii-lines-") as folder, \
                cluster.Worker(folder, "tiny-chat", *self.worker_flags(*flags)) as worker:
            proxy = FaultProxy(f"{self.sockets.name}/w.sock")
            try:
                with cluster.Frontend(folder) as frontend:
                    frontend.wait_for(lambda: cluster.total(frontend, "dynamo_frontend_model_workers") == 1, 20, "the worker")
                    yield worker, frontend, proxy
            finally:
                proxy.close()

    def test_what_passes_between_frontend_and_worker_is_as_the_format_says(self):  # C3, C7
        with self.behind_a_proxy() as (worker, frontend, proxy):
            proxy.tape = {"to_server": bytearray(), "to_client": bytearray()}
            proxy.reset()  # a new connection, recorded from its first byte
            frontend.wait_for(lambda: cluster.total(frontend, "dynamo_frontend_model_workers") == 1, 20, "the worker")
            status, said = frontend.post(PATH, {"prompt": [5, 6, 7], "max_tokens": 3, "ignore_eos": True})
            self.assertEqual(status, 200, said)
            asked, answered = frames(proxy.tape["to_server"]), frames(proxy.tape["to_client"])
            for side in (asked, answered):
                kind, _, stream, payload = side[0]
                self.assertEqual((kind, stream), (HELLO_FRAME, 0))
                self.assertIn(b"xMxP", payload)  # the magic, 0x784D7850
                self.assertEqual(sum(one[0] == HELLO_FRAME for one in side), 1)
            calls = [(stream, payload) for kind, _, stream, payload in asked if kind == CALL]
            self.assertEqual(len({stream for stream, _ in calls}), len(calls))
            self.assertTrue(all(stream % 2 == 1 for stream, _ in calls))
            streams = [stream for stream, payload in calls if b"generate" in payload]
            self.assertEqual(len(streams), 1)
            back = [kind for kind, _, stream, _ in answered if stream == streams[0]]
            self.assertGreaterEqual(back.count(DATA), 1)
            self.assertEqual((back[-1], back.count(END)), (END, 1))  # without it the answer would not be whole
            self.assertEqual([kind for kind, _, stream, _ in asked if stream == streams[0]][:2], [CALL, DATA])

    def test_spoiled_frames_end_their_connection_and_nothing_else(self):  # C3, C4
        draw = random.Random(3)
        with self.behind_a_proxy() as (worker, frontend, proxy):
            proxy.tape = {"to_server": bytearray(), "to_client": bytearray()}
            proxy.reset()
            frontend.wait_for(lambda: cluster.total(frontend, "dynamo_frontend_model_workers") == 1, 20, "the worker")
            frontend.post(PATH, {"prompt": [5, 6, 7], "max_tokens": 3, "ignore_eos": True})
            good = bytes(proxy.tape["to_server"])
            refused = 0
            for number in range(1000):
                bad = bytearray(good)
                for _ in range(draw.randint(1, 4)):
                    way = draw.randrange(3)
                    at = draw.randrange(len(bad))
                    if way == 0:
                        bad[at] ^= 1 << draw.randrange(8)
                    elif way == 1:
                        del bad[at:at + draw.randint(1, 30)]
                    else:
                        bad[at:at] = draw.randbytes(draw.randint(1, 30))
                if number == 0:
                    bad = bytearray(b"\xff\xff\xff\x03" + bytes(16) + bytes(1 << 20))  # 16 MiB in a frame, it says
                with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer:
                    peer.settimeout(0.2 if number % 100 == 0 else 0)
                    peer.connect(proxy.real)
                    with contextlib.suppress(BrokenPipeError, BlockingIOError, TimeoutError):
                        peer.sendall(bytes(bad))
                    with contextlib.suppress(ConnectionResetError, BlockingIOError, TimeoutError):
                        while peer.recv(65536):
                            pass
                        refused += 1
            self.assertGreater(refused, 0, "nobody was ever hung up on")
            self.assertIsNone(worker.process.poll())
            self.assertEqual(frontend.post(PATH, {"prompt": [5, 6, 7], "max_tokens": 3})[0], 200)
            cluster.wait_until_idle([worker])
            self.assertNotIn("severity=error", worker.log_text())

    def test_what_a_worker_refuses_is_a_typed_error_and_no_empty_stream(self):  # C6
        with cluster.Cluster(1, worker_flags=("--threads", "1", "--max-batch", "4", "--kv-memory", "32MiB")) as one:
            body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4, "response_format": {
                "type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string", "pattern": "(?=a)b"}, "strict": True}}}
            answers = [one.frontend.post(CHAT, {**body, "stream": stream}) for stream in (False, True)]
            for status, said in answers:
                self.assertEqual(status, 400, said)
            self.assertEqual(answers[0], answers[1])
            self.assertEqual(one.migrations(), {"new_request": 0, "ongoing_request": 0})

    def test_a_line_that_is_slow_holds_up_its_streams_and_fills_no_memory(self):  # C8
        with self.behind_a_proxy("--max-batch", "64") as (worker, frontend, proxy):
            body = {"prompt": [5, 6, 7], "max_tokens": 4000, "ignore_eos": True, "logprobs": 5}
            for stream in [frontend.stream(PATH, {**body, "max_tokens": 50, "seed": i}) for i in range(8)]:
                list(stream)
            before = worker.process_figures()["rss_kib"]
            proxy.tape = {"to_server": bytearray(), "to_client": bytearray()}
            proxy.bytes_per_second = 100_000
            streams = [frontend.stream(PATH, {**body, "seed": i}) for i in range(32)]
            with ThreadPoolExecutor(32) as pool:
                answers = [pool.submit(list, stream) for stream in streams]
                harness.wait_for(lambda: cluster.dump(worker)["requests"] == 32, 10, "all are there")
                harness.wait_for(lambda: cluster.dump(worker)["running"] == 0, 20, "all is computed")
                carried = len(proxy.tape["to_client"])  # a small part of it: the rest waits at the worker
                self.assertLess(worker.process_figures()["rss_kib"] - before, 32 * 1024)
                proxy.bytes_per_second = None
                for events in answers:
                    count = sum(len(choice["logprobs"]["tokens"]) for event in events.result() for choice in event["choices"]
                                if choice.get("logprobs"))
                    self.assertEqual(count, 4000)
                self.assertGreater(len(proxy.tape["to_client"]), 8 * carried)
            cluster.wait_until_idle([worker])


class Ends(unittest.TestCase):
    def test_a_drain_ends_at_its_limit_or_at_the_second_signal(self):  # C10
        body = {"prompt": [5, 6, 7], "max_tokens": 4000, "ignore_eos": True}
        for timeout, signals in (("1s", 1), ("60s", 2)):
            with cluster.Cluster(2, worker_flags=(*MOCK, "--mock-step-time", "5ms", "--drain-timeout", timeout)) as both:
                stream = both.frontend.stream(PATH, {**body, "max_tokens": 400, "return_token_ids": True})
                first = next(stream)
                old = cluster.serving(both.workers)
                began = time.monotonic()
                for _ in range(signals):
                    old.process.send_signal(signal.SIGTERM)
                    both.wait_for_workers(1)  # it gets nothing new
                both.workers.remove(old)
                old.process.wait(5 * harness.BUSY)
                self.assertLess(time.monotonic() - began, 5 * harness.BUSY)
                old.log.close()
                old.folder.cleanup()
                ids = [token for event in [first, *stream] for choice in event["choices"] for token in choice.get("token_ids") or []]
                self.assertEqual(len(ids), 400)  # it went on elsewhere
                self.assertEqual(sum(both.migrations().values()), 1)


class Engines(unittest.TestCase):
    CANARY = ("--canary-interval", "300ms", "--canary-timeout", "500ms", "--stall-limit", "1s")

    def test_an_engine_that_hangs_gets_nothing_within_a_period_and_comes_back(self):  # C11
        with FakeEngine("vllm") as engine, FakeEngine("vllm") as other, Attached([engine, other], worker_flags=self.CANARY) as both:
            prompt, ids, _ = tokens_of(both.frontend, HELLO)
            self.assertEqual(ids, answer(prompt, 12))
            engine.script = "hang before"
            began = time.monotonic()
            both.wait_for_workers(1)
            self.assertLess(time.monotonic() - began, (0.3 + 0.5 + 1) * harness.BUSY)
            seen = len(engine.seen)
            for _ in range(4):
                self.assertEqual(tokens_of(both.frontend, HELLO)[1], ids)
            self.assertEqual(len(engine.seen), seen, "no request went to it")
            engine.script = None
            both.wait_for_workers(2)
            for _ in range(4):
                self.assertEqual(tokens_of(both.frontend, HELLO)[1], ids)
            self.assertGreater(len(engine.seen), seen)

    def test_an_engine_that_dies_is_known_within_five_seconds(self):  # C12
        with FakeEngine("vllm") as engine, Attached([engine], worker_flags=self.CANARY) as both:
            tokens_of(both.frontend, HELLO)
            engine.close()
            both.wait_for_workers(0, 5)
            self.assertEqual(both.frontend.post(CHAT, HELLO)[0], 503)


@unittest.skipUnless(has_zmq(), "python3-zmq and python3-msgpack of tools/packages.txt are not installed")
class Events(unittest.TestCase):
    def test_publishers_that_come_and_go_leave_those_that_live(self):  # C9
        draw = random.Random(9)
        prompts = {number: [100 + number * 40 + i for i in range(32)] for number in range(40)}
        with tempfile.TemporaryDirectory(prefix="pixii-churn-") as folder, Router(folder) as router, contextlib.ExitStack() as ends:
            living, started = {}, 0
            while started < 30 or len(living) < 12:
                if len(living) < 8 or (len(living) < 20 and draw.random() < 0.6):
                    publisher = ends.enter_context(Publisher())
                    publisher.tell(stored=prompts[started])
                    status, said = router.post("/register", {
                        "instance_id": started, "endpoint": publisher.addresses["events"], "replay_endpoint": publisher.addresses["replay"],
                        "model_name": "m", "block_size": 16})
                    self.assertEqual(status, 201, said)
                    living[started] = publisher
                    started += 1
                else:
                    number = draw.choice(sorted(living))
                    living.pop(number).process.kill()
                    self.assertEqual(router.post("/unregister", {"instance_id": number, "model_name": "m"})[0], 200)

            def holders(number):
                status, said = router.post("/query", {"model_name": "m", "token_ids": prompts[number]})
                return {int(key) for key, one in said["instances"].items() if one["gpu"] == 32} if status == 200 else None

            self.assertEqual({one["instance_id"] for one in router.get("/workers")[1]}, set(living))
            for number in range(started):
                expected = {number} & set(living)
                router.wait_for(lambda n=number, e=expected: holders(n) == e, 10, f"{expected} hold prompt {number}")


def can_make_hosts():
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    probe = f"pixii-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return made


class Host:
    """A network namespace with one address, joined to a bridge that the script's hosts share."""

    def __init__(self, name, address, bridge):
        self.name, self.address, self.link = name, address, f"{name}-l"
        self.run("ip", "netns", "add", name)
        self.run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", name)
        self.run("ip", "link", "set", self.link, "master", bridge, "up")
        for words in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            self.run("ip", "-n", name, *words)

    @staticmethod
    def run(*words):
        subprocess.run(words, check=True, capture_output=True)

    def cut(self, is_cut):
        """As a cable that is pulled: nobody hears of it."""
        self.run("ip", "link", "set", self.link, "down" if is_cut else "up")

    def remove(self):
        for words in (["ip", "link", "del", self.link], ["ip", "netns", "del", self.name]):
            subprocess.run(words, capture_output=True)


@unittest.skipUnless(can_make_hosts(), "no right to make network namespaces")
class Hosts(unittest.TestCase):
    """Workers on hosts of their own, reached over TCP; the frontend is on this one."""

    def setUp(self):
        number = os.getpid() % 200 + 20
        self.bridge, self.subnet = f"pxb{number}", f"10.213.{number}"
        self.hosts = []
        self.addCleanup(lambda: subprocess.run(["ip", "link", "del", self.bridge], capture_output=True))
        Host.run("ip", "link", "add", self.bridge, "type", "bridge")
        Host.run("ip", "addr", "add", f"{self.subnet}.1/24", "dev", self.bridge)
        Host.run("ip", "link", "set", self.bridge, "up")
        for i in range(2):
            self.hosts.append(Host(f"pxh{number}-{i}", f"{self.subnet}.{10 + i}", self.bridge))
            self.addCleanup(self.hosts[-1].remove)

    def worker(self, folder, host, *flags):
        """`pixii worker` on a host; its namespace is entered before it starts."""
        worker = cluster.Worker.__new__(cluster.Worker)
        usual, harness.BINARY = harness.BINARY, "ip"
        try:
            worker.start(["netns", "exec", host.name, usual, "worker", "tiny-chat", "--discovery", f"file:{folder}",
                          "--worker-host", host.address, *MOCK, *flags])
        finally:
            harness.BINARY = usual
        return worker

    def test_a_cable_that_is_pulled_moves_streams_and_a_healed_one_is_used_again(self):  # D11, case 35
        body = {"prompt": [5, 6, 7], "max_tokens": 500, "ignore_eos": True, "return_token_ids": True}

        def read(stream):
            times, ids = [time.monotonic()], []
            for event in stream:
                times.append(time.monotonic())
                ids += [token for choice in event["choices"] for token in choice.get("token_ids") or []]
            return ids, max(later - earlier for earlier, later in zip(times, times[1:]))

        with tempfile.TemporaryDirectory(prefix="pixii-hosts-") as folder:
            workers = [self.worker(folder, host, "--mock-step-time", "3ms") for host in self.hosts]
            try:
                with cluster.Frontend(folder, "--worker-dead-after", "1s") as frontend:
                    count = lambda: cluster.total(frontend, "dynamo_frontend_model_workers")  # noqa: E731
                    frontend.wait_for(lambda: count() == 2, 20, "two workers")
                    expected, _ = read(frontend.stream(PATH, body))
                    for host in self.hosts:
                        with ThreadPoolExecutor(4) as pool:
                            streams = [frontend.stream(PATH, body) for _ in range(4)]
                            heads = list(pool.map(next, streams))
                            host.cut(True)
                            results = list(pool.map(read, streams))
                        for head, (ids, pause) in zip(heads, results):
                            whole = [token for choice in head["choices"] for token in choice.get("token_ids") or []] + ids
                            self.assertEqual(whole, expected)
                            self.assertLess(pause, (1 + 1) * harness.BUSY)  # the silence that is believed, and one prefill
                        frontend.wait_for(lambda: count() == 1, 5, "one worker is left")
                        host.cut(False)
                        frontend.wait_for(lambda: count() == 2, 10, "it is used again")
                    moves = cluster.total(frontend, "dynamo_frontend_model_migration_total")
                    self.assertGreaterEqual(moves, 4)
                    cluster.wait_until_idle(workers, 10)
            finally:
                for worker in workers:
                    worker.stop()
                    worker.folder.cleanup()


if __name__ == "__main__":
    harness.main()
