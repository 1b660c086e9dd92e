"""Blocks in a server that speaks LMCache's protocol: workers share them, and whatever that server does, answers stay and nobody waits long."""
import os
import pathlib
import random
import threading
import unittest

import harness
import kv_tiers_test
import lmcache_server
from kv_tiers_test import BLOCK, SMALL_CACHE, ask, metric, prompt_of, settle


def brought(server):
    return metric(server, "kvbm_onboard_blocks_o2d")


class Lmcache(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prompts = [prompt_of(i, 60 + i) for i in range(8)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            cls.expected = [ask(server, prompt) for prompt in cls.prompts]

    def setUp(self):
        context = kv_tiers_test.folder()
        self.path = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        (self.path / "key").write_bytes(os.urandom(32))

    def flags(self, url, *more, key="key"):
        return (*SMALL_CACHE, "--kv-key-file", str(self.path / key), "--kv-remote-store", url, *more)

    def check(self, server, *numbers):
        for i in numbers or range(len(self.prompts)):
            self.assertEqual(ask(server, self.prompts[i]), self.expected[i], i)

    def test_two_workers_share_blocks_and_a_stranger_gets_none(self):
        with lmcache_server.Server() as store:
            with harness.Server("tiny-chat", *self.flags(store.url)) as first:
                self.check(first)
                settle(first)
                self.assertGreater(metric(first, "kvbm_offload_blocks_d2o"), 8)
                first.wait_for(lambda: len(store.values) == metric(first, "kvbm_offload_blocks_d2o"), 10, "all are there")
                self.assertEqual(brought(first), 0)
                with harness.Server("tiny-chat", *self.flags(store.url)) as second:
                    hits = metric(second, "pixii_engine_prefix_hit_tokens_total")
                    self.check(second)
                    self.assertGreater(brought(second), 8)
                    self.assertGreaterEqual(metric(second, "pixii_engine_prefix_hit_tokens_total") - hits, brought(second) * BLOCK)
                    self.assertEqual(metric(second, "kvbm_matched_tokens"), brought(second) * BLOCK)
                    self.assertEqual(metric(second, "pixii_kv_integrity_failures_total"), 0)
                    # What the second adds to a conversation the first gets.
                    longer = self.prompts[0] + self.expected[0]["text"] + " And what comes then? " + "It goes on. " * 12
                    answer = ask(second, longer)
                    settle(second)
                    before = brought(first)
                    self.assertEqual(ask(first, longer), answer)
                    self.assertGreater(brought(first), before)
            self.assertEqual(store.bad_keys, [])
            for key, (form, dtype, shape, value) in store.values.items():
                self.assertEqual((form, dtype, shape), (4, 6, (len(value), 0, 0, 0)))
                self.assertNotIn(b"PXKVBLK", value)
            (self.path / "other").write_bytes(os.urandom(32))
            with harness.Server("tiny-chat", *self.flags(store.url, key="other")) as stranger:
                self.check(stranger, 0, 1)
                self.assertEqual(brought(stranger), 0)

    def test_behind_host_memory_it_gets_what_was_used_twice(self):
        with lmcache_server.Server() as store:
            # Here it is named as LMCache's users do.
            with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-key-file", str(self.path / "key"), "--kv-host-blocks", "500",
                                env={"LMCACHE_REMOTE_URL": store.url}) as server:
                self.check(server, 0, 1)
                settle(server)
                self.assertEqual(len(store.values), 0)
                self.check(server, 0)
                settle(server)
                self.assertGreater(len(store.values), 2)

    def test_whatever_it_answers_answers_stay(self):
        prompts = [prompt_of(100 + i, 50) for i in range(2 * len(lmcache_server.Server.FAULTS))]
        with lmcache_server.Server() as store:
            with harness.Server("tiny-chat", *self.flags(store.url)) as writer:
                expected = [ask(writer, prompt) for prompt in prompts]
                settle(writer)
                written = metric(writer, "kvbm_offload_blocks_d2o")
                writer.wait_for(lambda: len(store.values) == written, 10, "all are there")
            with harness.Server("tiny-chat", *self.flags(store.url)) as reader:
                for i, fault in enumerate(store.FAULTS):
                    with self.subTest(fault=fault):
                        before, failures = brought(reader), self.failures(reader)
                        peak = self.peak_kib(reader)
                        store.fault = fault
                        self.assertEqual(ask(reader, prompts[2 * i]), expected[2 * i])
                        self.assertLess(self.peak_kib(reader) - peak, 256 << 10)
                        if fault != "more":
                            self.assertEqual(brought(reader), before)
                            self.assertGreater(self.failures(reader), failures)
                        store.fault = None
                        # And it is used again, with the next request.
                        before = brought(reader)
                        self.assertEqual(ask(reader, prompts[2 * i + 1]), expected[2 * i + 1])
                        reader.wait_for(lambda before=before: brought(reader) > before, 10, "blocks")
                reader.wait_for(lambda: metric(reader, "pixii_engine_blocks_pinned") == 0, 10, "no pins")
                for reason in ("shape", "truncated", "identity"):
                    self.assertGreater(metric(reader, "pixii_kv_integrity_failures_total", reason=reason), 0, reason)

    @staticmethod
    def failures(server):
        return metric(server, "pixii_kv_integrity_failures_total") + metric(server, "pixii_kv_tier_read_failures_total")

    @staticmethod
    def peak_kib(server):
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])

    def test_one_that_is_lost_costs_misses_and_one_that_comes_back_is_used(self):
        store = lmcache_server.Server()
        with store:
            with harness.Server("tiny-chat", *self.flags(store.url)) as server:
                self.check(server)
                settle(server)
                store.stop()
                self.check(server)
                server.wait_for(lambda: (self.ask_new(server), metric(server, "pixii_kv_tier_degraded", tier="object") == 1)[1], 30, "it rests")
                with lmcache_server.Server(store.port) as again:
                    server.wait_for(lambda: (self.ask_new(server), len(again.values) > 0)[1], 60, "blocks are written again")
                    self.check(server)
        # Nobody there at the start is the same.
        with harness.Server("tiny-chat", *self.flags(store.url)) as server:
            self.check(server, 0, 1)
            self.assertEqual(brought(server), 0)

    def ask_new(self, server):
        ask(server, prompt_of(random.randrange(10**6), 40), max_tokens=1)

    def test_random_conversations_while_it_spoils_at_random(self):
        seed = random.randrange(2**31)
        print("seed", seed)
        rng = random.Random(seed)
        faults = [fault for fault in lmcache_server.Server.FAULTS if fault not in ("stall", "dribble")]
        with lmcache_server.Server() as store:
            with harness.Server("tiny-chat", *self.flags(store.url)) as first, \
                    harness.Server("tiny-chat", *self.flags(store.url, "--kv-host-blocks", "40", "--kv-offload-all")) as second:
                def work(server, salt):
                    local = random.Random(salt)
                    for _ in range(12):
                        i = local.randrange(len(self.prompts))
                        answers.append((i, ask(server, self.prompts[i])))
                        store.fault = local.choice([None, None, local.choice(faults)])

                answers = []
                threads = [threading.Thread(target=work, args=(server, rng.random())) for server in (first, second) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.assertEqual(len(answers), 48)
                for i, answer in answers:
                    self.assertEqual(answer, self.expected[i])
                for server in (first, second):
                    server.wait_for(lambda server=server: metric(server, "pixii_engine_blocks_pinned") == 0, 10, "no pins")

    def test_what_cannot_work_stops_the_start_by_name(self):
        key = ("--kv-key-file", str(self.path / "key"))
        for flags, named in ((("--kv-remote-store", "lm://127.0.0.1:1"), "kv-key-file"),
                             (("--kv-remote-store", "redis://x:1", *key), "lm://HOST:PORT"),
                             (("--kv-remote-store", "lm://127.0.0.1", *key), "kv-remote-store"),
                             (("--kv-remote-store", "lm://127.0.0.1:99999", *key), "kv-remote-store"),
                             (("--kv-remote-store", "lm://127.0.0.1:1", "--kv-object", "--kv-object-bucket", "b", *key), "kv-object")):
            done = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
            self.assertEqual(done.returncode, 2, flags)
            self.assertIn(named, done.stderr + done.stdout, flags)


if __name__ == "__main__":
    harness.main()
