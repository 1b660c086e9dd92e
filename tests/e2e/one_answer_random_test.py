"""Promise 1 however a cluster is put together: answers are the bits of one undisturbed worker's, whatever moves, is kept or dies.

A round draws an arrangement (alike workers, or prefill and decode workers over one of the transports), a tier behind small caches, chunks,
batches and preemption; requests come cold, then warm, among others that are hung up, and workers are killed meanwhile.
"""
import contextlib
import json
import os
import pathlib
import random
import subprocess
import tempfile
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness
import s3_stub
from disaggregation_test import block_bytes
from one_answer_test import essence

SEED = int(os.environ.get("PIXII_ONE_ANSWER_SEED", 20261122))
DRAWN_ROUNDS = int(os.environ.get("PIXII_ONE_ANSWER_ROUNDS", 2))  # beyond the fixed ones, which have every transport and tier
REQUESTS = int(os.environ.get("PIXII_ONE_ANSWER_REQUESTS", 16))
ACCURACY_CASES = int(os.environ.get("PIXII_ONE_ANSWER_CASES", 1))  # of each task
COMPLETIONS = "/v1/completions"
BLOCK = 16
CONTEXT = 512
EVAL = harness.ROOT / "models/tiny-chat/train/eval.py"

# A build says itself which it has not.
TRANSPORTS = {"tcp": ("--kv-transfer", "tcp"), "shm": ("--kv-transfer", "shm"),
              "tls": ("--kv-transfer", "tcp", "--kv-transfer-encrypted"), "ucx": ("--kv-transfer", "ucx"),
              "libfabric": ("--kv-transfer", "nixl", "--kv-transfer-nixl-backend", "LIBFABRIC")}
TIERS = ("none", "host", "disk", "object")


def transports_of_this_build():
    with tempfile.TemporaryDirectory() as folder:
        key = pathlib.Path(folder) / "key"
        key.write_bytes(bytes(32))

        def refused(flags):
            # What a build lacks is said before the model is looked for, which is none.
            done = harness.run_pixii("worker", "/none", "--discovery", "file:" + folder, "--role", "decode", "--cluster-key", str(key),
                                     *flags)
            assert done.returncode != 0
            return "kv-transfer" in done.stderr

        return [name for name, flags in TRANSPORTS.items() if not refused(flags)]


class Arrangement:
    """Workers of one role, or of two, a frontend and what lies behind their caches; all end with it."""

    def __init__(self, draw, transport, tier, store):
        self.draw, self.transport, self.tier, self.store = draw, transport, tier, store
        self.root = tempfile.TemporaryDirectory(prefix="pixii-one-answer-")
        self.folder = self.root.name
        os.mkdir(f"{self.folder}/cluster")
        pathlib.Path(f"{self.folder}/key").write_bytes(os.urandom(32))
        self.roles = ["agg", "agg"] if transport is None else ["prefill", "decode", "decode"]
        self.workers, self.frontend, self.started = [], None, 0
        # Blocks are found by all workers of a role alike, or they do not work together.
        self.common = ("--block-size", str(BLOCK), "--max-context", str(CONTEXT), "--threads", "1", "--cluster-key", f"{self.folder}/key")
        self.text = f"{transport or 'aggregated'}, {tier}"
        self.sums = {}
        try:
            for role in self.roles:
                self.add(role)
            self.frontend = cluster.Frontend(f"{self.folder}/cluster", "--router-mode", draw.choice(["kv", "round-robin"]))
            self.wait_for_workers()
        except BaseException:
            self.end(False)
            raise

    def tier_flags(self):
        folder = f"{self.folder}/tier{self.started}"
        own = {"none": (), "host": ("--kv-host-blocks", "300"), "object": self.store.flags(bucket="kv"),
               "disk": ("--kv-host-blocks", "20", "--kv-disk", folder, "--kv-disk-blocks", "600", "--kv-offload-all")}
        return own[self.tier]

    def add(self, role):
        self.started += 1
        draw = self.draw
        # A little more than one context: everything preempts and evicts everything.
        own = ("--kv-tokens", str(draw.choice([34, 34, 48]) * BLOCK), "--max-batch", str(draw.choice([4, 8, 8])),
               "--max-batched-tokens", str(draw.choice([32, 64, 256])), "--admission", "eager",
               *draw.choice([(), ("--preemption", "swap", "--swap-memory", "16MiB")]), *draw.choice([(), ("--overlap",)]))
        roles = () if role == "agg" else ("--role", role, *TRANSPORTS[self.transport])
        worker = SystemWorker(self.folder, role, *self.common, *own, *roles, *self.tier_flags())
        self.workers.append(worker)

    def wait_for_workers(self):
        self.frontend.wait_for(lambda: cluster.total(self.frontend, "dynamo_frontend_router_worker_state", 'state="available"')
                               == len(self.workers), 60, f"{len(self.workers)} workers")

    def note(self, worker):
        """What it did counts, also when it is gone."""
        for series, value in worker.metrics().items():
            name = series.split("{")[0]
            self.sums[name] = self.sums.get(name, 0) + value

    def kill_one(self):
        victim = self.draw.choice(self.workers)
        self.note(victim)
        self.workers.remove(victim)
        victim.kill()
        victim.folder.cleanup()
        self.add(victim.role)
        return victim.role

    def wait_until_quiet(self):
        names = ("pixii_handover_offers", "pixii_handover_blocks_pinned", "pixii_handover_loads", "pixii_engine_blocks_pinned",
                 "pixii_engine_running")
        for worker in self.workers:
            worker.wait_for(lambda worker=worker: not any(cluster.total(worker, name) for name in names), 60,
                            f"nothing held by a worker ({self.text})")

    def end(self, well):
        cluster.end((*([self.frontend] if self.frontend else []), *self.workers), well, self.root)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.end(kind is None)


class SystemWorker(cluster.Worker):
    """A worker whose `request` asks its system port."""

    def __init__(self, folder, role, *flags):
        self.role = role
        system_file = pathlib.Path(folder) / f"system-{id(self)}"
        self.start(["worker", "tiny-chat", "--discovery", f"file:{folder}/cluster", "--system-port", "0", "--system-port-file",
                    str(system_file), *flags])
        self.port = int(system_file.read_text())


def make_requests(draw, count):
    """Prompts of ids that share long beginnings, some of them not ending at a block; what is asked for differs."""
    shared = [[draw.randint(300, 900) for _ in range(draw.choice([130, 200, 256]))] for _ in range(2)]
    for number in range(count):
        own = [draw.randint(300, 900) for _ in range(draw.choice([1, 15, 16, 17, 90]))]
        begin = draw.choice([[], shared[0], shared[1]])
        body = {"prompt": begin[:draw.randint(0, len(begin))] + own, "max_tokens": draw.choice([1, 8, 24, 120]), "logprobs": 2,
                "ignore_eos": True, "return_token_ids": True, "seed": number}
        if draw.random() < 0.5:
            body["temperature"] = 0
        else:
            body.update(temperature=draw.choice([0.7, 1.3]), top_p=draw.choice([1, 0.9]), presence_penalty=draw.choice([0, 0.5]),
                        repetition_penalty=draw.choice([1, 1.1]))
        if draw.random() < 0.15:
            body["cache_salt"] = str(number)
        yield body


def hang_up(frontend, body, lines):
    """Asks, reads a little, and is gone."""
    with contextlib.closing(frontend.connection()) as connection, contextlib.suppress(OSError):
        connection.request("POST", COMPLETIONS, body=json.dumps({**body, "stream": True, "max_tokens": 60}),
                           headers={"Content-Type": "application/json"})
        response = connection.getresponse()
        for _ in range(lines):
            response.readline()


class OneAnswerHowever(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.transports = transports_of_this_build()
        print(f"seed {SEED}, transports of this build: {', '.join(cls.transports)}")
        cls.store = s3_stub.Store()
        cls.store.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.store.__exit__(None, None, None)

    def alone(self, requests):
        with harness.Server("tiny-chat", "--max-batch", "1", "--no-prefix-cache", "--block-size", str(BLOCK), "--max-context",
                            str(CONTEXT), "--threads", "1") as server:
            answers = []
            for body in requests:
                status, answer = server.post(COMPLETIONS, body)
                self.assertEqual(status, 200, answer)
                answers.append(essence(answer))
            return answers

    def ask_all(self, arrangement, requests, draw, kills):
        """All of them at once in some order, beside others that are hung up, while workers are killed."""
        order = list(range(len(requests)))
        draw.shuffle(order)
        answers = [None] * len(requests)
        done = threading.Semaphore(0)

        def one(index):
            status, answer = arrangement.frontend.post(COMPLETIONS, requests[index], timeout=300)
            answers[index] = essence(answer) if status == 200 else {"status": status, "answer": answer}
            done.release()

        with ThreadPoolExecutor(10) as pool, ThreadPoolExecutor(2) as noise:
            for index in order:
                pool.submit(one, index)
            for _ in range(len(requests) // 2):
                noise.submit(hang_up, arrangement.frontend, draw.choice(requests), draw.randrange(12))
            killed = []
            for kill in range(kills):  # after some answers, in the midst of others
                for _ in range(len(requests) // (kills + 2)):
                    done.acquire()
                killed.append(arrangement.kill_one())
        if kills:
            arrangement.wait_for_workers()
        return answers, killed

    def play(self, seed, transport, tier):
        draw = random.Random(seed)
        requests = list(make_requests(draw, REQUESTS))
        expected = self.alone(requests)
        with Arrangement(draw, transport, tier, self.store) as arrangement:
            killed = []
            for temperature, kills in (("cold", 0), ("warm", 1), ("warm again", 0)):
                answers, dead = self.ask_all(arrangement, requests, draw, kills)
                killed += dead
                different = [i for i in range(len(requests)) if answers[i] != expected[i]]
                if different:
                    self.fail(f"seed {seed}, {arrangement.text}, {temperature}, killed {killed}: {len(different)} answers differ, first of "
                              f"{requests[different[0]]}:\n{answers[different[0]]}\nexpected\n{expected[different[0]]}")
            arrangement.wait_until_quiet()
            for worker in arrangement.workers:
                arrangement.note(worker)
            return arrangement.sums

    def test_every_transport_and_tier_and_drawn_rounds_give_the_answers_of_one_worker(self):
        draw = random.Random(SEED)
        # Every transport and every tier at least once, and workers of one role beside a tier.
        rounds = [(self.transports[i % len(self.transports)], TIERS[i % len(TIERS)])
                  for i in range(max(len(self.transports), len(TIERS)))] + [(None, draw.choice(TIERS[1:]))]
        rounds += [(draw.choice([None, *self.transports]), draw.choice(TIERS)) for _ in range(DRAWN_ROUNDS)]
        sums = {}
        for transport, tier in rounds:
            seed = draw.randrange(2**31)
            print(f"seed {seed}: {transport or 'aggregated'}, {tier}", flush=True)
            got = self.play(seed, transport, tier)
            if transport is not None:
                self.assertGreater(got["pixii_handover_bytes_total"], block_bytes(), f"seed {seed}: hardly anything was handed over")
            for name, value in got.items():
                sums[name] = sums.get(name, 0) + value
        for name in ("pixii_engine_preemptions_total", "pixii_kv_evictions_total", "pixii_engine_cancelled_requests_total",
                     "kvbm_onboard_blocks_h2d", "kvbm_onboard_blocks_d2d", "kvbm_onboard_blocks_o2d"):
            print(f"{name} {sums.get(name, 0):.0f}")
            self.assertGreater(sums.get(name, 0), 0, f"{name}: the rounds do not exercise it")

    def test_facts_of_long_documents_are_recalled_as_by_one_worker(self):
        flags = ("--max-context", "8192", "--threads", "2", "--max-batch", "4")
        with harness.Server("tiny-chat", *flags) as server:
            expected = self.accuracy(server)
        self.assertEqual(len(expected), 5, expected)
        print("facts and their combinations, by length:", expected)
        with tempfile.TemporaryDirectory() as folder:
            # Room for one document and a half: the second time they come from the tiers, of either worker.
            small = (*flags, "--kv-tokens", "10240", "--kv-host-blocks", "400", "--kv-disk", folder, "--kv-disk-blocks", "40000",
                     "--kv-offload-all")
            with harness.Server("tiny-chat", "--prefill", "1", "--decode", "1", *small) as server:
                server.wait_for(lambda: cluster.total(server, "dynamo_frontend_router_worker_state", 'state="available"') == 2, 60,
                                "both workers")
                for _ in range(2):
                    self.assertEqual(self.accuracy(server), expected)
                self.assertGreater(cluster.total(server, "pixii_disaggregation_total", 'path="prefill"'), 0)
        self.assertGreater(sum(expected.values()) / len(expected), 93, expected)

    def accuracy(self, server):
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            done = subprocess.run(["python3", str(EVAL), "--url", f"http://127.0.0.1:{server.port}", "--cases", str(ACCURACY_CASES),
                                   "--concurrency", "2", "--task", "00 tokens", "--json", report.name], capture_output=True, text=True,
                                  timeout=800)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            result = json.load(open(report.name))
            self.assertEqual(result["failed_requests"], 0, result)
            return result["accuracy"]


if __name__ == "__main__":
    harness.main()
