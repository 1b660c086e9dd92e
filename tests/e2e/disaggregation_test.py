"""Prefill workers and decode workers: together they answer as one, whatever dies, and what they keep for each other they let go."""
import base64
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

import cluster
import harness

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
FLAGS = ("--threads", "1", "--max-batch", "8", "--kv-memory", "64MiB")
KILLS = int(os.environ.get("PIXII_DISAGG_KILLS", 6))
CANCELS = int(os.environ.get("PIXII_DISAGG_CANCELS", 60))
BLOCK_TOKENS = 16
PIPELINED = ("--override-engine-args", '{"cache_transceiver_config": {"enable_pipelined_transfer": true}}', "--max-batched-tokens", "16")
LATE = 10  # seconds for what should take a moment


class Disaggregated:
    """Workers of both roles and a frontend; all end with it."""

    def __init__(self, prefill=1, decode=1, flags=(), frontend_flags=(), env=None):
        self.root = tempfile.TemporaryDirectory(prefix="pixii-disagg-")
        self.folder = self.root.name
        os.mkdir(f"{self.folder}/cluster")
        pathlib.Path(f"{self.folder}/key").write_bytes(os.urandom(32))
        self.flags = flags
        self.prefill, self.decode, self.frontend = [], [], None
        try:
            for _ in range(prefill):
                self.add("prefill", env=env)
            for _ in range(decode):
                self.add("decode", env=env)
            self.frontend = cluster.Frontend(f"{self.folder}/cluster", *frontend_flags)
            self.wait_for_workers()
        except BaseException:
            self.end(False)
            raise

    def workers(self):
        return [*self.prefill, *self.decode]

    def add(self, role, *flags, env=None):
        worker = cluster.RoleWorker(self.folder, role, *FLAGS, *self.flags, *flags, env=env)
        (self.prefill if role == "prefill" else self.decode).append(worker)
        return worker

    def wait_for_workers(self):
        count = len(self.workers())
        self.frontend.wait_for(lambda: cluster.total(self.frontend, "dynamo_frontend_router_worker_state", 'state="available"') == count,
                               20, f"{count} workers")

    def kill(self, worker):
        (self.prefill if worker.role == "prefill" else self.decode).remove(worker)
        worker.kill()
        worker.folder.cleanup()

    def paths(self):
        found = {}
        for name, value in self.frontend.metrics().items():
            if name.startswith("pixii_disaggregation_total{"):
                found[re.search('path="([a-z_]+)"', name)[1]] = int(value)
        return found

    def moved(self):
        return sum(cluster.total(worker, "pixii_handover_bytes_total") for worker in self.decode)

    def ways(self):
        """What blocks came by so far."""
        return {re.search('transport="([a-z]+)"', name)[1] for worker in self.decode for name, value in worker.metrics().items()
                if name.startswith("pixii_handover_transport{") and value}

    def transferred(self, way, operation):
        return sum(cluster.total(worker, "pixii_transfer_bytes_total", f'transport="{way}",operation="{operation}"') for worker in self.decode)

    def wait_until_quiet(self, seconds=LATE):
        """Nothing is kept, on its way, pinned or running at any worker."""
        names = ("pixii_handover_offers", "pixii_handover_blocks_pinned", "pixii_handover_loads", "pixii_engine_blocks_pinned",
                 "pixii_engine_running")
        for worker in self.workers():
            left = {}

            def quiet(worker=worker):
                left.update({name: cluster.total(worker, name) for name in names})
                return not any(left.values())

            try:
                worker.wait_for(quiet, seconds, "nothing is left")
            except AssertionError as error:
                raise AssertionError(f"{worker.role}: {left}") from error

    def end(self, well):
        cluster.end((*([self.frontend] if self.frontend else []), *self.workers()), well, self.root)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.end(kind is None)


def prompt(length, seed=1):
    draw = random.Random(seed * 1000 + length)
    return [draw.randint(300, 900) for _ in range(length)]


def completion(length, seed=1, **more):
    return {"prompt": prompt(length, seed), "max_tokens": 12, "seed": length, "temperature": 0.8, "ignore_eos": True, **more}


def unary(server, body):
    status, answer = server.post(COMPLETIONS, body)
    if status != 200:
        raise AssertionError(f"{status}: {answer}")
    return [choice["text"] for choice in answer["choices"]], [choice["finish_reason"] for choice in answer["choices"]], {
        key: answer["usage"][key] for key in ("prompt_tokens", "completion_tokens")}


def streamed(server, body):
    texts = {}
    for event in server.stream(COMPLETIONS, body):
        if "error" in event:
            raise AssertionError(event)
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return [texts[index] for index in sorted(texts)]


def chat(server, body):
    return cluster.joined(server.stream(CHAT, {**body, "stream_options": {"include_usage": True}}))


def block_bytes():
    config = json.loads((harness.ROOT / "models/tiny-chat/config.json").read_text())
    heads = config.get("num_key_value_heads", config["num_attention_heads"])
    size = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    return config["num_hidden_layers"] * 2 * heads * size * 2 * BLOCK_TOKENS


def shared_bytes(worker):
    """Memory that a worker's shared KV cache takes now, whoever has it mapped; it can only read those of others."""
    process = pathlib.Path(f"/proc/{worker.process.pid}")
    for path in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "pixii-sparse" in os.readlink(path):
                flags = int(re.search("flags:\\s*([0-7]+)", (process / "fdinfo" / path.name).read_text())[1], 8)
                if flags & os.O_ACCMODE == os.O_RDWR:
                    return os.stat(path).st_blocks * 512
    raise AssertionError("its KV cache is not shared")


class Disaggregation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lengths = [1, 2, 15, 16, 17, 31, 32, 33, 47, 64, 90, 100, 128, 150, 177, 200, 240, 255, 256, 300]
        cls.bodies = [completion(length) for length in cls.lengths]
        cls.several = completion(70, seed=2, n=3)
        cls.chats = list(cluster.requests(8, 4))
        with harness.Server("tiny-chat", *FLAGS) as server:
            cls.alone = [unary(server, body) for body in cls.bodies]
            cls.several_alone = unary(server, cls.several)
            cls.chats_alone = [chat(server, body) for body in cls.chats]
            cls.long = completion(280, seed=9, max_tokens=40)
            cls.long_alone = unary(server, cls.long)

    def test_they_answer_as_one_worker_does_and_only_whole_blocks_move(self):
        with Disaggregated() as both:
            before = both.paths()
            for body, expected in zip(self.bodies, self.alone):
                self.assertEqual(unary(both.frontend, body), expected)
            whole = sum(length >= BLOCK_TOKENS for length in self.lengths)
            self.assertEqual(both.paths()["prefill"], whole)
            self.assertEqual(both.paths()["local_nothing_to_do"] - before["local_nothing_to_do"], len(self.bodies) - whole)
            blocks = sum(length // BLOCK_TOKENS for length in self.lengths)
            self.assertEqual(both.moved(), blocks * block_bytes())
            for body, expected in zip(self.bodies, self.alone):
                self.assertEqual(streamed(both.frontend, body), expected[0])
            self.assertEqual(both.moved(), blocks * block_bytes(), "what is there does not move again")
            self.assertEqual(unary(both.frontend, self.several), self.several_alone)
            with ThreadPoolExecutor(4) as pool:
                self.assertEqual(list(pool.map(lambda body: chat(both.frontend, body), self.chats)), self.chats_alone)
            self.assertEqual({path for path, count in both.paths().items() if count}, {"prefill", "local_nothing_to_do"})
            both.wait_until_quiet()
            successes = "trtllm_kv_transfer_success_total"
            self.assertGreater(cluster.total(both.decode[0], successes), 0)
            self.assertEqual(cluster.total(both.prefill[0], successes), 0)
            self.assertEqual(both.ways(), {"shm"}, "workers of one host read each other's memory")
            log = both.decode[0].log_path.read_text()
            self.assertRegex(log, "event=transfer.opened .*transports=shm,tcp")
            self.assertEqual(len(re.findall("event=transfer.linked .*transport=shm", log)), 1, "said once")
            peer = re.search("event=transfer.linked .*peer=([0-9a-f]{32})", log)[1]
            self.assertEqual(cluster.total(both.decode[0], "pixii_transfer_peer", f'peer="{peer}",transport="shm"'), 1)
            self.assertEqual(both.transferred("shm", "read"), both.moved())
            self.assertEqual(cluster.total(both.prefill[0], "pixii_transfer_connections", 'transport="shm"'), 1)

    def test_over_tcp_and_encrypted_they_answer_the_same(self):
        few = [number for number, length in enumerate(self.lengths) if length in (17, 100, 240, 300)]
        for flags, way, some in ((("--kv-transfer", "tcp"), "tcp", range(len(self.lengths))),
                                 (("--kv-transfer", "tcp", "--kv-transfer-encrypted"), "tls", few),
                                 (("--kv-transfer", "shm"), "shm", few)):
            with self.subTest(way), Disaggregated(flags=flags) as both:
                for number in some:
                    self.assertEqual(unary(both.frontend, self.bodies[number]), self.alone[number])
                self.assertEqual(both.moved(), sum(self.lengths[number] // BLOCK_TOKENS for number in some) * block_bytes())
                self.assertEqual(both.ways(), {way})
                self.assertEqual(both.transferred(way, "read"), both.moved())
                both.wait_until_quiet()

    def test_who_cannot_reach_the_socket_takes_tcp_and_it_is_counted(self):
        with tempfile.TemporaryDirectory(prefix="pixii-shm-", dir="/tmp") as sockets:
            with Disaggregated(flags=("--kv-transfer-folder", sockets)) as both:
                for path in pathlib.Path(sockets).iterdir():  # as for a container that does not have the folder
                    if path.is_socket():
                        path.unlink()
                for number in (-1, -2):
                    self.assertEqual(unary(both.frontend, self.bodies[number]), self.alone[number])
                self.assertEqual(both.ways(), {"tcp"})
                self.assertGreaterEqual(cluster.total(both.decode[0], "pixii_transfer_fallbacks_total", 'transport="shm"'), 1)
                self.assertEqual(cluster.total(both.decode[0], "pixii_transfer_failures_total"), 0)
                self.assertGreater(cluster.total(both.prefill[0], "pixii_transfer_bytes_total", 'transport="tcp",operation="served"'), 0)
                self.assertIn("event=transfer.unlinked", both.decode[0].log_path.read_text())
                both.wait_until_quiet()

    def test_one_without_encryption_is_not_read_in_the_clear(self):
        with Disaggregated(prefill=0, flags=("--kv-transfer", "tcp", "--kv-transfer-encrypted")) as both:
            both.flags = ("--kv-transfer", "tcp")
            both.add("prefill")
            both.wait_for_workers()
            self.assertEqual(unary(both.frontend, self.bodies[-1]), self.alone[-1])
            self.assertEqual(both.moved(), 0)
            both.wait_until_quiet()

    def test_sockets_of_killed_workers_are_swept_by_the_next(self):
        with tempfile.TemporaryDirectory(prefix="pixii-shm-", dir="/tmp") as sockets:
            with Disaggregated(flags=("--kv-transfer-folder", sockets)) as both:
                living = {path.name for path in pathlib.Path(sockets).iterdir()}
                self.assertEqual(len(living), 4, "a socket and a lock each")
                both.kill(both.prefill[0])
                self.assertEqual({path.name for path in pathlib.Path(sockets).iterdir()}, living, "nobody could tidy up")
                both.add("prefill")
                both.wait_for_workers()
                now = {path.name for path in pathlib.Path(sockets).iterdir()}
                self.assertEqual((len(now), len(now & living)), (4, 2))
                self.assertEqual(unary(both.frontend, self.bodies[-1]), self.alone[-1])
            self.assertEqual(list(pathlib.Path(sockets).iterdir()), [], "who ends takes his along")

    def test_a_worker_that_sleeps_gives_shared_blocks_back_and_hands_over_again_awake(self):
        with Disaggregated() as both:
            self.assertEqual(unary(both.frontend, self.bodies[-1]), self.alone[-1])
            both.wait_until_quiet()
            for worker in both.workers():
                self.assertGreaterEqual(shared_bytes(worker), 300 // BLOCK_TOKENS * block_bytes())
            for worker in both.workers():
                status, answer = worker.post("/engine/control/release_memory_occupation", {"tags": ["kv_cache"]})
                self.assertEqual(status, 200, answer)
                self.assertEqual(shared_bytes(worker), 0, "though the other one has it mapped")
                self.assertEqual(worker.post("/engine/control/resume_memory_occupation", {"tags": ["kv_cache"]})[0], 200)
            before = both.moved()

            def handed_over():  # it is heard within a moment that they are back
                status, answer = both.frontend.post(COMPLETIONS, {**self.bodies[-1], "cache_salt": str(time.monotonic())})
                return status == 200 and [choice["text"] for choice in answer["choices"]] == self.alone[-1][0] and both.moved() > before

            both.frontend.wait_for(handed_over, 30, "blocks move again")
            self.assertEqual(both.ways(), {"shm"})
            self.assertEqual(cluster.total(both.decode[0], "pixii_handover_corrupt_blocks_total"), 0)
            both.wait_until_quiet()

    def test_the_second_turn_moves_only_what_is_new(self):
        with Disaggregated() as both:
            first = completion(100, seed=3)
            unary(both.frontend, first)
            before = both.moved()
            self.assertEqual(before, 6 * block_bytes())
            second = {**first, "prompt": first["prompt"] + prompt(40, 7)}
            unary(both.frontend, second)
            self.assertEqual(both.moved() - before, 2 * block_bytes())

    def test_a_small_buffer_costs_chunks_alone(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("cache_transceiver_config:\n  backend: DEFAULT\n  max_tokens_in_buffer: 16\n  kv_transfer_timeout_ms: 30000\n"
                       "  transceiver_runtime: PYTHON\n  kv_transfer_poll_interval_ms: 100\n")
            file.flush()
            with Disaggregated(flags=("--extra-engine-args", file.name)) as both:
                self.assertEqual(unary(both.frontend, self.bodies[-1]), self.alone[-1])
                self.assertEqual(cluster.total(both.decode[0], "pixii_handover_chunks_total"), 300 // BLOCK_TOKENS)

    def test_workers_that_plan_ahead_hand_over_too(self):
        with Disaggregated(flags=("--overlap",)) as both:
            with ThreadPoolExecutor(6) as pool:
                self.assertEqual(list(pool.map(lambda body: unary(both.frontend, body), self.bodies)), self.alone)
            self.assertGreater(both.moved(), 0)
            both.wait_until_quiet()

    def early_blocks(self, both):
        return sum(cluster.total(worker, "pixii_handover_early_blocks_total") for worker in both.decode)

    def test_blocks_move_while_their_prompt_is_computed(self):
        with Disaggregated(decode=2, flags=PIPELINED) as both:
            for body, expected in zip(self.bodies, self.alone):
                self.assertEqual(unary(both.frontend, body), expected)
            self.assertEqual(unary(both.frontend, self.several), self.several_alone)
            blocks = (sum(length // BLOCK_TOKENS for length in self.lengths) + 70 // BLOCK_TOKENS) * block_bytes()
            self.assertEqual(both.moved(), blocks, "each block moves once, to where it is used")
            seeds = iter(range(1000, 2000))

            def early():  # one that had the time to: a count of this kind is only made while its prompt is not computed yet
                unary(both.frontend, completion(300, seed=next(seeds)))
                return self.early_blocks(both) > 0

            both.frontend.wait_for(early, 60, "blocks come before their prompt is computed")
            self.assertGreater(cluster.total(both.prefill[0], "pixii_handover_early_offers_total"), 0)
            self.assertEqual({path for path, count in both.paths().items() if count}, {"prefill", "local_nothing_to_do"})
            with ThreadPoolExecutor(6) as pool:
                again = [{**body, "cache_salt": "other"} for body in self.bodies]
                self.assertEqual(list(pool.map(lambda body: unary(both.frontend, body), again)), self.alone)
            both.wait_until_quiet()

    def test_a_death_while_blocks_move_costs_time_alone(self):
        draw = random.Random(5)
        with Disaggregated(decode=2, flags=PIPELINED) as both:
            for number in range(KILLS):
                role = "decode" if number % 2 else "prefill"
                body = completion(280, seed=300 + number, max_tokens=40)
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(unary, both.frontend, body)
                    threading.Event().wait(draw.choice([0.005, 0.02, 0.04, 0.08]))
                    both.kill(both.prefill[0] if role == "prefill" else draw.choice(both.decode))
                    got = answer.result(timeout=60)
                self.assertEqual(got, unary(both.frontend, body))
                both.add(role)
                both.wait_for_workers()
            both.wait_until_quiet()

    def test_cancels_while_blocks_move_leave_nothing(self):
        draw = random.Random(6)
        with Disaggregated(flags=PIPELINED) as both:
            def one(number):
                body = completion(draw.randint(100, 300), seed=400 + number, max_tokens=200, stream=number % 2 == 0)
                with contextlib.closing(both.frontend.connection()) as connection:
                    connection.request("POST", COMPLETIONS, body=json.dumps(body), headers={"Content-Type": "application/json"})
                    threading.Event().wait(draw.random() * 0.12)

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(one, range(CANCELS)))
            both.wait_until_quiet()
            self.assertEqual(unary(both.frontend, self.long), self.long_alone)
            both.wait_until_quiet()

    def test_who_decodes_can_be_chosen_first(self):
        for flags in ((), PIPELINED):
            with Disaggregated(flags=flags, frontend_flags=("--disaggregation-strategy", "decode_first")) as both:
                for body, expected in zip(self.bodies, self.alone):
                    self.assertEqual(unary(both.frontend, body), expected)
                whole = sum(length >= BLOCK_TOKENS for length in self.lengths)
                self.assertEqual(both.paths()["prefill"], whole)
                # It says itself what it has: nobody else computes what it need not be given.
                for body, expected in zip(self.bodies, self.alone):
                    self.assertEqual(streamed(both.frontend, body), expected[0])
                self.assertEqual(both.paths()["prefill"], whole)
                self.assertEqual(both.paths()["local_short"], whole)
                with ThreadPoolExecutor(4) as pool:
                    self.assertEqual(list(pool.map(lambda body: chat(both.frontend, body), self.chats)), self.chats_alone)
                both.wait_until_quiet()
                both.kill(both.prefill[0])
                both.wait_for_workers()
                self.assertEqual(unary(both.frontend, self.long), self.long_alone)
                both.wait_until_quiet()

    def test_without_a_prefill_worker_the_decode_worker_computes(self):
        with Disaggregated(prefill=0) as both:
            self.assertEqual(unary(both.frontend, self.bodies[9]), self.alone[9])
            self.assertEqual(both.paths()["local_no_worker"], 1)
            both.add("prefill")
            both.wait_for_workers()
            self.assertEqual(unary(both.frontend, self.bodies[10]), self.alone[10])
            self.assertEqual(both.paths()["prefill"], 1)
            both.kill(both.prefill[0])
            both.wait_for_workers()
            self.assertEqual(unary(both.frontend, self.bodies[11]), self.alone[11])
            self.assertEqual(both.paths()["local_no_worker"], 2)

    def test_without_one_and_without_fallback_it_is_refused(self):
        with Disaggregated(prefill=0, frontend_flags=("--no-decode-fallback",)) as both:
            status, answer = both.frontend.post(COMPLETIONS, self.bodies[5])
            self.assertEqual(status, 503, answer)
            self.assertIn("decode-fallback", json.dumps(answer))

    def test_prefill_workers_get_no_whole_requests(self):
        with Disaggregated(frontend_flags=("--migration-patience", "1s")) as both:
            both.kill(both.decode[0])
            both.wait_for_workers()
            before = cluster.total(both.prefill[0], "dynamo_component_requests_total")
            status, answer = both.frontend.post(COMPLETIONS, self.bodies[5])
            self.assertIn(status, (404, 503), answer)
            self.assertEqual(cluster.total(both.prefill[0], "dynamo_component_requests_total"), before)

    def test_a_worker_of_another_key_is_not_believed(self):
        with Disaggregated(prefill=0) as both:
            pathlib.Path(f"{both.folder}/key").write_bytes(os.urandom(32))
            both.add("prefill")
            both.wait_for_workers()
            self.assertEqual(unary(both.frontend, self.bodies[-1]), self.alone[-1])
            self.assertEqual(both.moved(), 0)
            self.assertEqual(cluster.total(both.decode[0], "pixii_handover_refused_records_total"), 1)
            status, _, body = both.frontend.request("POST", COMPLETIONS, self.bodies[5], headers={"x-request-id": "not-believed"})
            self.assertEqual(status, 200, body)
            log = both.decode[0].log_path
            harness.wait_for(lambda: re.search("event=handover.refused .*trace_id=[0-9a-f]{32} x_request_id=not-believed ", log.read_text()),
                             20, "the refusal to say whose request it was", log.read_text)
            both.wait_until_quiet()

    def test_other_numerics_are_computed_anew(self):
        with Disaggregated(prefill=0, decode=1) as both:
            both.add("prefill", "--dtype", "fp32")
            both.wait_for_workers()
            unary(both.frontend, self.bodies[-1])
            self.assertEqual(both.moved(), 0)
            self.assertIn("fp32", both.decode[0].log_path.read_text())
            self.assertIn("bf16", both.decode[0].log_path.read_text())
            both.wait_until_quiet()

    def test_a_killed_prefill_worker_costs_time_alone(self):
        draw = random.Random(3)
        with Disaggregated() as both:
            for number in range(KILLS):
                body = completion(280, seed=20 + number, max_tokens=40)
                expected = unary(both.frontend, {**body, "prompt": list(body["prompt"])}) if number == 0 else None
                pause = draw.choice([0, 0.005, 0.02, 0.05])
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(unary, both.frontend, body)
                    threading.Event().wait(pause)
                    both.kill(both.prefill[0])
                    got = answer.result(timeout=60)
                if expected is not None:
                    self.assertEqual(got, expected)
                else:
                    self.assertEqual(got, unary(both.frontend, body))
                both.add("prefill")
                both.wait_for_workers()
            both.wait_until_quiet()

    def test_a_killed_decode_worker_is_a_move(self):
        with Disaggregated(decode=2) as both:
            for number in range(KILLS):
                body = completion(200, seed=40 + number, max_tokens=60)
                expected = unary(both.frontend, body)[0]
                texts, killed = "", False
                for event in both.frontend.stream(COMPLETIONS, body):
                    self.assertNotIn("error", event)
                    texts += "".join(choice["text"] for choice in event["choices"])
                    if not killed and len(texts) > number:
                        killed = True
                        both.kill(cluster.serving(both.decode))
                self.assertEqual([texts], expected)
                both.add("decode")
                both.wait_for_workers()
            both.wait_until_quiet()

    def test_a_decode_worker_that_stands_still_pins_nothing_for_long(self):
        with Disaggregated(flags=("--kv-transfer-timeout-ms", "2000"),
                           frontend_flags=("--worker-dead-after", "600s", "--migration-patience", "1s")) as both:
            unary(both.frontend, completion(33, seed=60))
            cluster.pause(both.decode[0])
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(both.frontend.post, COMPLETIONS, completion(250, seed=61))
                kept = "pixii_handover_blocks_pinned"
                both.prefill[0].wait_for(lambda: cluster.total(both.prefill[0], kept) > 0, LATE, "blocks are kept")
                both.prefill[0].wait_for(lambda: cluster.total(both.prefill[0], kept) == 0, 2 + LATE, "their lease ends")
                self.assertEqual(cluster.total(both.prefill[0], "pixii_handover_ends_total", 'state="expired"'), 1)
                cluster.resume(both.decode[0])
                status, _ = answer.result(timeout=60)
                self.assertEqual(status, 200)
            both.wait_until_quiet()

    def test_a_decode_worker_stopped_in_the_midst_of_reading_believes_nothing_old(self):
        draw = random.Random(17)
        flags = ("--kv-transfer", "shm", "--kv-transfer-timeout-ms", "500", "--kv-transfer-buffer-tokens", str(BLOCK_TOKENS),
                 "--max-context", "512", "--kv-tokens", "768")
        with Disaggregated(flags=flags, frontend_flags=("--worker-dead-after", "600s", "--migration-patience", "1s")) as both:
            def ended():
                return cluster.total(both.prefill[0], "pixii_handover_ends_total", 'side="offer"')

            for number in range(KILLS):
                body, before = completion(300, seed=80 + number), ended()
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(unary, both.frontend, body)
                    threading.Event().wait(draw.random() * 0.1)
                    cluster.pause(both.decode[0])
                    both.prefill[0].wait_for(lambda before=before: ended() > before, 2 * LATE, "it was read, or the lease ends")
                    for other in range(3):  # its blocks are used for other prompts, while the reader stands in the midst of them
                        status, said = both.frontend.post(COMPLETIONS, completion(
                            300, seed=200 + 3 * number + other, disaggregated_params={"request_type": "context_only"}))
                        self.assertEqual(status, 200, said)
                    cluster.resume(both.decode[0])
                    got = answer.result(timeout=60)
                both.prefill[0].wait_for(lambda: cluster.total(both.prefill[0], "pixii_handover_blocks_pinned") == 0, LATE, "all leases end")
                self.assertEqual(got, unary(both.frontend, {**body, "cache_salt": "cold"}))
            both.wait_until_quiet()

    def test_a_prefill_worker_that_stands_still_is_given_up(self):
        with Disaggregated(frontend_flags=("--worker-dead-after", "1s")) as both:
            cluster.pause(both.prefill[0])
            begun = time.monotonic()
            self.assertEqual(unary(both.frontend, self.long), self.long_alone)
            self.assertLess(time.monotonic() - begun, 20)
            self.assertEqual(both.paths()["fallback_unavailable"], 1)
            cluster.resume(both.prefill[0])
            both.wait_for_workers()
            both.wait_until_quiet()

    def test_cancels_at_any_time_leave_nothing(self):
        draw = random.Random(8)
        with Disaggregated() as both:
            def one(number):
                body = completion(draw.randint(1, 300), seed=100 + number, max_tokens=200, stream=number % 2 == 0)
                with contextlib.closing(both.frontend.connection()) as connection:
                    connection.request("POST", COMPLETIONS, body=json.dumps(body), headers={"Content-Type": "application/json"})
                    threading.Event().wait(draw.random() * 0.12)

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(one, range(CANCELS)))
            both.wait_until_quiet()
            self.assertEqual(unary(both.frontend, self.long), self.long_alone)
            both.wait_until_quiet()

    def test_it_is_local_where_that_is_worth_it(self):
        flags = ("--router-mode", "kv", "--router-conditional-disagg", "--router-conditional-disagg-eff-isl-threshold", "64")
        with Disaggregated(frontend_flags=flags) as both:
            first = completion(160, seed=70)
            unary(both.frontend, first)
            self.assertEqual(both.paths()["prefill"], 1)

            def known():  # the frontend has heard what the decode worker has cached
                unary(both.frontend, {**first, "max_tokens": 2})
                return both.paths()["local_short"] > 0

            both.frontend.wait_for(known, LATE, "what is cached is computed where it is")
            before = both.paths()
            unary(both.frontend, completion(160, seed=71))
            self.assertEqual(both.paths()["prefill"], before["prefill"] + 1)

    def test_a_prompt_and_its_answer_can_be_asked_for_one_by_one(self):
        with Disaggregated() as both:
            body = {**self.long, "n": 1}
            status, first = both.frontend.post(COMPLETIONS, {**body, "disaggregated_params": {"request_type": "context_only"}})
            self.assertEqual(status, 200, first)
            params = first["disaggregated_params"]
            self.assertEqual(params["request_type"], "context_only")
            self.assertEqual(len(params["first_gen_tokens"]), 1)
            self.assertTrue(base64.b64decode(params["opaque_state"], validate=True).startswith(b"PXHO"))
            self.assertGreater(cluster.total(both.prefill[0], "pixii_handover_blocks_pinned"), 0)
            going_on = {**body, "disaggregated_params": {**params, "request_type": "generation_only"}}
            self.assertEqual(unary(both.frontend, going_on), self.long_alone)
            self.assertEqual(both.moved(), 280 // BLOCK_TOKENS * block_bytes())
            both.wait_until_quiet()
            # A changed state is no state: the prompt is computed, nothing breaks.
            draw = random.Random(2)
            for _ in range(20):
                state = bytearray(base64.b64decode(params["opaque_state"]))
                state[draw.randrange(len(state))] ^= 1 << draw.randrange(8)
                going_on["disaggregated_params"]["opaque_state"] = base64.b64encode(bytes(state)).decode()
                self.assertEqual(unary(both.frontend, {**going_on, "cache_salt": str(draw.random())}), self.long_alone)
            self.assertEqual(cluster.total(both.decode[0], "pixii_handover_refused_records_total"), 20)
            status, answer = both.frontend.post(COMPLETIONS, {**body, "n": 2, "disaggregated_params": {"request_type": "context_only"}})
            self.assertEqual(status, 501 if status == 501 else 400, answer)
            self.assertIn("disaggregated_params", json.dumps(answer))

    def test_workers_with_several_ranks_hand_over_from_rank_to_rank(self):
        with Disaggregated(flags=("--enable-attention-dp", "--tensor-parallel-size", "2")) as both:
            with ThreadPoolExecutor(6) as pool:
                self.assertEqual(list(pool.map(lambda body: unary(both.frontend, body), self.bodies)), self.alone)
                self.assertEqual(list(pool.map(lambda body: chat(both.frontend, body), self.chats)), self.chats_alone)
            self.assertEqual({path for path, count in both.paths().items() if count}, {"prefill", "local_nothing_to_do"})
            kept, moved = {}, both.moved()
            for number in range(100):  # until both ranks of the prefill worker keep a prompt
                body = {**self.long, "n": 1, "cache_salt": str(number)}
                status, first = both.frontend.post(COMPLETIONS, {**body, "disaggregated_params": {"request_type": "context_only"}})
                self.assertEqual(status, 200, first)
                kept[first["disaggregated_params"]["ctx_dp_rank"]] = (body, first["disaggregated_params"])
                if len(kept) == 2:
                    break
            self.assertEqual(sorted(kept), [0, 1])
            for body, params in kept.values():
                going_on = {**body, "disaggregated_params": {**params, "request_type": "generation_only"}}
                self.assertEqual(unary(both.frontend, going_on), self.long_alone)
            self.assertEqual(both.moved() - moved, 2 * (280 // BLOCK_TOKENS) * block_bytes())

    def test_one_command_runs_both(self):
        with harness.Server("tiny-chat", "--prefill", "1", "--decode", "1", *FLAGS) as server:
            def handed_over():
                self.assertEqual(unary(server, self.long), self.long_alone)
                return cluster.total(server, "pixii_disaggregation_total", 'path="prefill"') > 0

            server.wait_for(handed_over, 20, "a prefill worker computes")

    def refused(self, *words, env=None):
        with tempfile.TemporaryDirectory() as folder:
            done = harness.run_pixii(*words, "--discovery", f"file:{folder}", *FLAGS, env=env)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr

    def test_what_cannot_be_is_said_before_the_model_is_loaded(self):
        self.assertIn("cluster-key", self.refused("worker", "tiny-chat", "--role", "prefill"))
        with tempfile.NamedTemporaryFile() as key:
            key.write(os.urandom(31))
            key.flush()
            self.assertIn("31 bytes", self.refused("worker", "tiny-chat", "--role", "decode", "--cluster-key", key.name))
            key.write(os.urandom(1))
            key.flush()
            worker = ("worker", "tiny-chat", "--role", "decode", "--cluster-key", key.name)
            for backend in ("MOONCAKE", "MPI"):
                said = self.refused(*worker, "--override-engine-args",
                                    json.dumps({"cache_transceiver_config": {"backend": backend}}))
                self.assertIn(f"{backend} is not available", said)
                self.assertIn("allowed: DEFAULT, NIXL, UCX\n", said)
                self.assertIn("allowed: default, nixl, ucx, libfabric, shm, tcp (",
                              self.refused(*worker, "--kv-transfer", backend.lower()))
            said = self.refused(*worker, "--override-engine-args", json.dumps({"cache_transceiver_config": {"backend": "NIXEL"}}))
            self.assertIn("did you mean NIXL", said)
            said = self.refused(*worker, "--override-engine-args", json.dumps({"cache_transceiver_config": {"backnd": "NIXL"}}))
            self.assertIn("backend", said)
            said = self.refused(*worker, "--kv-transfer", "ucks")
            self.assertIn("allowed: default, nixl, ucx, libfabric, shm, tcp; did you mean ucx?", said)
            self.assertIn("prefix-cache", self.refused(*worker, "--no-prefix-cache"))
        self.assertIn("kv-transfer-pipelined: true does not go with the role agg",
                      self.refused("worker", "tiny-chat", "--kv-transfer-pipelined"))
        self.assertIn("kv-transfer-pipelined", self.refused_serve("--kv-transfer-pipelined", "--workers", "1"))
        self.assertIn("did you mean decode_first?", self.refused_serve("--disaggregation-strategy", "decode_frist"))
        self.assertIn("decode", self.refused_serve("--prefill", "1"))
        self.assertIn("workers", self.refused_serve("--prefill", "1", "--decode", "1", "--workers", "1"))

    def refused_serve(self, *flags):
        done = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_the_variable_that_does_not_choose_ucx_is_named_once(self):
        with Disaggregated(prefill=0) as both:
            worker = both.add("decode", env={"TRTLLM_USE_UCX_KVCACHE": "1"})
            self.assertEqual(worker.log_path.read_text().count("transfer.variable_ignored"), 1)


if __name__ == "__main__":
    harness.main()
