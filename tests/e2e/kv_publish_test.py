"""Our own workers' KV events over ZeroMQ: a foreign subscriber knows what their caches hold, and so does a foreign router."""
import contextlib
import json
import pathlib
import re
import subprocess
import tempfile
import unittest

import adapters
import cluster
import harness
from router_service_test import Router

COMPLETIONS = "/v1/completions"
SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's, for which python3-zmq is
SIZE = 16
MOCK = ("--engine", "mock", "--block-size", str(SIZE))


def has_zmq():
    with contextlib.suppress(OSError):
        return subprocess.run([SYSTEM_PYTHON, "-c", "import zmq, msgpack"], capture_output=True).returncode == 0
    return False


class Subscriber:
    """tests/e2e/kv_subscriber.py as a process."""

    def __init__(self, *addresses):
        self.process = subprocess.Popen([SYSTEM_PYTHON, str(harness.ROOT / "tests/e2e/kv_subscriber.py"), *addresses],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def ask(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def state(self):
        return self.ask(state=True)

    def blocks(self):
        return self.state()["blocks"]

    def holds(self, prompt, **whose):
        """Whether every whole block of the prompt is held by them."""
        ends = {len(block["prefix"]) for block in self.blocks() if block["prefix"] == prompt[:len(block["prefix"])]
                and all(block[key] == value for key, value in whose.items())}
        return all(end in ends for end in range(SIZE, len(prompt) + 1, SIZE))

    def __enter__(self):
        return self

    def __exit__(self, *arguments):
        self.process.kill()
        self.process.communicate()


def prompt_of(number, size=70):
    return [300 + (number * 37 + at * 11) % 2000 for at in range(size)]


def published(server):
    """[(events, replay)] of each rank, as the log says."""
    return [tuple(f"tcp://{address}" for address in found)
            for found in re.findall(r"event=kv.published .*?events=\"?([^ \"]+)\"? replay=\"?([^\s\"]+)", server.log_text())]


def ask(server, prompt, max_tokens=1, **more):
    status, said = server.post(COMPLETIONS, {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more})
    assert status == 200, said
    return said


@unittest.skipUnless(has_zmq(), "python3-zmq and python3-msgpack of tools/packages.txt are not installed")
class KvPublish(unittest.TestCase):
    def agree(self, frontend, subscriber):
        """The subscriber holds as many blocks as the frontend's own index, which workers told in their own way."""
        def known():
            return sum(value for name, value in frontend.metrics().items() if name.startswith("pixii_router_index_blocks{"))
        harness.wait_for(lambda: known() == len(subscriber.blocks()) > 0, 10, "both know the same blocks",
                         lambda: f"{known()} {len(subscriber.blocks())} {frontend.log_text()}")

    def test_a_subscriber_rebuilds_the_cache(self):
        flags = (*MOCK, "--mock-blocks", "60", "--max-context", "512", "--kv-events-zmq", "tcp://127.0.0.1:0", "--kv-events-replay", "tcp://127.0.0.1:0")
        with cluster.Cluster(1, worker_flags=flags, frontend_flags=("--router-mode", "kv")) as fleet:
            (addresses,) = published(fleet.workers[0])
            ask(fleet.frontend, prompt_of(0), 40)  # before anybody listens
            with Subscriber(*addresses) as subscriber:
                self.assertTrue(subscriber.holds(prompt_of(0)), subscriber.state())
                for number in range(1, 30):  # more than fits: blocks go
                    ask(fleet.frontend, prompt_of(number), 20)
                    harness.wait_for(lambda: subscriber.holds(prompt_of(number)), 15, "the prompt is heard of")
                self.assertFalse(subscriber.holds(prompt_of(0)), "it was evicted")
                self.agree(fleet.frontend, subscriber)
                state = subscriber.state()
                self.assertEqual((state["media"], state["block_sizes"], state["ranks"]), (["GPU"], [SIZE], [None]))
                self.assertLessEqual(len(state["blocks"]), 60)

                subscriber.ask(miss=5)
                for number in range(30, 40):
                    ask(fleet.frontend, prompt_of(number), 20)
                harness.wait_for(lambda: subscriber.holds(prompt_of(39)), 15, "what was missed is asked for")
                state = subscriber.state()
                self.assertEqual((state["missed"], state["gaps"]), (5, 1))
                self.assertGreaterEqual(state["replayed"], 5)
                self.agree(fleet.frontend, subscriber)
                with Subscriber(*addresses) as late:
                    self.agree(fleet.frontend, late)

                self.assertEqual(fleet.frontend.post("/clear_kv_blocks", {})[0], 200)
                harness.wait_for(lambda: not subscriber.blocks(), 15, "nothing is left")

    def test_salts_are_told(self):
        flags = (*MOCK, "--kv-events-zmq", "tcp://127.0.0.1:0", "--kv-events-replay", "tcp://127.0.0.1:0")
        with cluster.Cluster(1, worker_flags=flags, frontend_flags=("--router-mode", "kv")) as fleet:
            with Subscriber(*published(fleet.workers[0])[0]) as subscriber:
                ask(fleet.frontend, prompt_of(1), cache_salt="mine")
                ask(fleet.frontend, prompt_of(1))
                harness.wait_for(lambda: subscriber.holds(prompt_of(1), salt=None) and subscriber.holds(prompt_of(1), salt="mine"), 15,
                                 "both are held apart", lambda: json.dumps(subscriber.state()))
                self.agree(fleet.frontend, subscriber)

    def test_adapters_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            model = harness.ROOT / "models/tiny-chat"
            owl = adapters.write(pathlib.Path(folder) / "owl", adapters.linears(model), 1, 4)
            flags = ("--threads", "1", "--kv-memory", "32MiB", "--block-size", str(SIZE), "--enable-lora", "--lora", f"owl={owl}",
                     "--kv-events-zmq", f"ipc://{folder}/events", "--kv-events-replay", f"ipc://{folder}/replay")
            with harness.Server(str(model), *flags) as server:  # in one process
                with Subscriber(f"ipc://{folder}/events", f"ipc://{folder}/replay") as subscriber:
                    name = next(one["id"] for one in server.request("GET", "/v1/models")[2]["data"] if one["id"] != "owl")
                    ask(server, prompt_of(1), model="owl")
                    ask(server, prompt_of(2), model=name)
                    harness.wait_for(lambda: subscriber.holds(prompt_of(1), lora="owl") and subscriber.holds(prompt_of(2), lora=None), 15,
                                     "each is told of with its adapter", lambda: json.dumps(subscriber.state()))
                    self.assertFalse(subscriber.holds(prompt_of(1), lora=None))

    def test_each_rank_has_its_own_sockets(self):
        with tempfile.TemporaryDirectory() as folder:
            flags = ("--threads", "2", "--max-batch", "4", "--block-size", str(SIZE), "--kv-memory", "32MiB", "--max-context", "200",
                     "--enable-attention-dp", "--tensor-parallel-size", "3", "--kv-events-zmq", f"ipc://{folder}/events",
                     "--kv-events-replay", f"ipc://{folder}/replay")
            model = harness.OWN_MODELS / "deepseek-v3"
            prompts = [[3 + (number * 7 + at) % 60 for at in range(40)] for number in range(9)]
            with cluster.Cluster(1, str(model), worker_flags=flags) as fleet, contextlib.ExitStack() as stack:
                heard = [stack.enter_context(Subscriber(f"ipc://{folder}/events{behind}", f"ipc://{folder}/replay{behind}"))
                         for behind in ("", "_dp1", "_dp2")]
                for number, prompt in enumerate(prompts):
                    status, _, said = fleet.frontend.request("POST", COMPLETIONS, {"prompt": prompt, "max_tokens": 2, "temperature": 0},
                                                             headers={"x-dp-rank": str(number % 3)})
                    self.assertEqual(status, 200, said)
                for number, prompt in enumerate(prompts):
                    rank = number % 3
                    harness.wait_for(lambda: heard[rank].holds(prompt, rank=rank), 15, f"rank {rank} tells what it holds",
                                     lambda: json.dumps([one.state() for one in heard]))
                    self.assertFalse(any(heard[other].holds(prompt) for other in range(3) if other != rank))

    def test_workers_of_a_server_publish_apart_and_a_new_one_where_the_old_one_did(self):
        with tempfile.TemporaryDirectory() as folder:
            flags = ("--workers", "2", "--router-mode", "round-robin", "--kv-events-zmq", f"ipc://{folder}/e", "--kv-events-replay", f"ipc://{folder}/r")
            with harness.Server("tiny-chat", *MOCK, *flags) as server:
                def workers():
                    return sum(v for k, v in server.metrics().items() if k.startswith("dynamo_frontend_model_workers{"))
                server.wait_for(lambda: workers() == 2, 20, "both workers")
                with Subscriber(f"ipc://{folder}/e", f"ipc://{folder}/r") as one, Subscriber(f"ipc://{folder}/e_dp1", f"ipc://{folder}/r_dp1") as two:
                    for number in range(8):
                        ask(server, prompt_of(number))
                    for number in range(8):
                        harness.wait_for(lambda: one.holds(prompt_of(number)) or two.holds(prompt_of(number)), 15, "one of them tells")
                    self.assertTrue(one.blocks() and two.blocks())
                pids = [int(pid) for pid in re.findall(r"event=worker.process .*?pid=(\d+) what=started", server.log_text())]
                subprocess.run(["kill", "-9", str(pids[0])], check=True)
                server.wait_for(lambda: server.log_text().count("is ready") >= 3, 20, "a new one is ready")
                with Subscriber(f"ipc://{folder}/e", f"ipc://{folder}/r") as one, Subscriber(f"ipc://{folder}/e_dp1", f"ipc://{folder}/r_dp1") as two:
                    for number in range(20, 28):
                        ask(server, prompt_of(number))
                    for number in range(20, 28):
                        harness.wait_for(lambda: one.holds(prompt_of(number)) or two.holds(prompt_of(number)), 15, "one of them tells")
                    harness.wait_for(lambda: one.blocks() and two.blocks(), 15, "both publish")

    def test_a_router_that_only_listens_finds_the_blocks(self):
        flags = (*MOCK, "--kv-events-zmq", "tcp://127.0.0.1:0", "--kv-events-replay", "tcp://127.0.0.1:0")
        with cluster.Cluster(1, worker_flags=flags) as fleet, tempfile.TemporaryDirectory() as elsewhere:
            ((events, replay),) = published(fleet.workers[0])
            ask(fleet.frontend, prompt_of(1))
            with Router(elsewhere) as router:
                status, said = router.post("/register", {"instance_id": 5, "endpoint": events, "replay_endpoint": replay, "model_name": "m",
                                                         "block_size": SIZE})
                self.assertEqual(status, 201, said)

                def overlap(prompt, **more):
                    status, said = router.post("/query", {"token_ids": prompt, "model_name": "m", **more})
                    return said["instances"].get("5", {}).get("gpu", 0) if status == 200 else 0
                harness.wait_for(lambda: overlap(prompt_of(1)) == 64, 10, "what was stored before is found", router.log_text)
                ask(fleet.frontend, prompt_of(2), cache_salt="mine")
                harness.wait_for(lambda: overlap(prompt_of(2), cache_salt="mine") == 64, 15, "salted blocks are found by their salt")
                self.assertEqual(overlap(prompt_of(2)), 0)

    def test_what_cannot_be_is_said_at_the_start(self):
        for flags, said in ((("--kv-events-zmq", "udp://x"), "kv-events-zmq"), (("--kv-events-replay", "tcp://127.0.0.1:0"), "kv-events-zmq"),
                            (("--kv-events-zmq", "tcp://127.0.0.1:0", "--kv-events-replay", "x"), "kv-events-replay"),
                            (("--kv-events-zmq", "tcp://127.0.0.1:0", "--no-publish-kv-events"), "publish-kv-events"),
                            (("--kv-events-zmq", "tcp://127.0.0.1:0", "--no-prefix-cache"), "kv-events-zmq")):
            with tempfile.TemporaryDirectory() as folder:
                done = harness.run_pixii("worker", "tiny-chat", *MOCK, "--discovery", f"file:{folder}", *flags)
                self.assertEqual(done.returncode, 2, (flags, done.stderr))
                self.assertIn(said, done.stderr)


if __name__ == "__main__":
    harness.main()
