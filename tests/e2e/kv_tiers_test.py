"""Slower tiers behind the KV cache, with real processes: what comes back from them changes no answer, whatever happens to it."""
import contextlib
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

import cluster
import harness
import kv_publish_test
import s3_stub

COMPLETIONS = "/v1/completions"
BLOCK = 16
# 64 blocks: three conversations of those below do not fit together.
SMALL_CACHE = ("--kv-tokens", str(64 * BLOCK), "--block-size", str(BLOCK), "--max-context", "512", "--max-batch", "2")
SLOT_HEADER = 4096


def prompt_of(number, words=120):
    return f"Conversation {number}. " + " ".join(str((number * 7919 + i * 31) % 97) for i in range(words))


def ask(server, prompt, **more):
    status, answer = server.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 12, "temperature": 0, "logprobs": 2,
                                               "return_token_ids": True, **more})
    if status != 200:
        raise AssertionError(answer)
    choice = answer["choices"][0]
    return {"token_ids": choice["token_ids"], "logprobs": choice["logprobs"], "text": choice["text"]}


def metric(server, name, **labels):
    """Sum of the series of `name` with these labels."""
    found = 0.0
    for series, value in server.metrics().items():
        if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
            found += value
    return found


def has_metric(server, name):
    return any(series.split("{")[0] == name for series in server.metrics())


def settle(server, tier="host", writes=None):
    """Until nothing is written to the tiers any more."""
    seen = {"count": -1, "since": time.monotonic()}

    def quiet():
        count = sum(metric(server, f"kvbm_offload_blocks_{way}") for way in ("d2h", "h2d", "d2d", "d2o"))
        if count != seen["count"]:
            seen.update(count=count, since=time.monotonic())
        return time.monotonic() - seen["since"] > 0.2

    server.wait_for(quiet, 20, "quiet tiers")


@contextlib.contextmanager
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="pixii-kv-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def blocks_file(path):
    return next(path.glob("kv-*.blocks"))


class HostTier(unittest.TestCase):
    def test_an_evicted_conversation_comes_back_from_host_memory_with_the_same_answer(self):
        prompts = [prompt_of(i) for i in range(6)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            expected = [ask(server, prompt) for prompt in prompts]
            whole = server.post(COMPLETIONS, {"prompt": prompts[0], "max_tokens": 1})[1]["usage"]["prompt_tokens"]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-host-blocks", "512") as server:
            for prompt, answer in zip(prompts, expected):
                self.assertEqual(ask(server, prompt), answer)
            settle(server)
            self.assertGreater(metric(server, "pixii_kv_evictions_total"), 0)
            self.assertGreater(metric(server, "kvbm_offload_blocks_d2h"), 0)
            self.assertEqual(metric(server, "kvbm_onboard_blocks_h2d"), 0)
            hits = metric(server, "pixii_engine_prefix_hit_tokens_total")
            self.assertEqual(ask(server, prompts[0]), expected[0])
            brought = metric(server, "kvbm_onboard_blocks_h2d")
            self.assertGreater(brought, 0)
            # What was brought was not computed.
            saved = metric(server, "pixii_engine_prefix_hit_tokens_total") - hits
            self.assertGreaterEqual(saved, (whole - 1) // BLOCK * BLOCK)
            self.assertGreaterEqual(metric(server, "kvbm_matched_tokens"), brought * BLOCK)
            self.assertGreater(metric(server, "kvbm_host_cache_hit_rate"), 0)
            for way in ("h2d", "d2d", "d2o"):
                self.assertEqual(metric(server, f"kvbm_offload_blocks_{way}"), 0, way)
            for way in ("d2d", "o2d"):
                self.assertEqual(metric(server, f"kvbm_onboard_blocks_{way}"), 0, way)

    def test_two_salts_with_the_same_prompt_share_no_block(self):
        with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-host-blocks", "512") as server:
            ask(server, prompt_of(1), cache_salt="one")
            for i in range(2, 6):
                ask(server, prompt_of(i))
            settle(server)
            before = metric(server, "kvbm_onboard_blocks_h2d")
            ask(server, prompt_of(1), cache_salt="two")
            self.assertEqual(metric(server, "kvbm_onboard_blocks_h2d"), before)
            ask(server, prompt_of(1), cache_salt="one")
            self.assertGreater(metric(server, "kvbm_onboard_blocks_h2d"), before)

    def test_clearing_empties_host_memory_and_if_asked_the_disk(self):
        with folder() as path:
            flags = (*SMALL_CACHE, "--kv-host-blocks", "400", "--kv-disk", str(path), "--kv-disk-blocks", "600", "--kv-offload-all")
            stored = lambda server, tier: metric(server, "pixii_kv_tier_blocks", tier=tier)
            with harness.Server("tiny-chat", *flags) as server:
                first = ask(server, prompt_of(1))
                settle(server)
                self.assertGreater(stored(server, "disk"), 0)
                self.assertEqual(server.post("/clear_kv_blocks", "")[0], 200)
                server.wait_for(lambda: stored(server, "host") == 0, 10, "empty host memory")
                self.assertGreater(stored(server, "disk"), 0)
                self.assertEqual(ask(server, prompt_of(1)), first)
                settle(server)
                self.assertEqual(server.post("/clear_kv_blocks", {"tiers": "all"})[0], 200)
                server.wait_for(lambda: stored(server, "host") + stored(server, "disk") == 0, 10, "empty tiers")
                brought = metric(server, "kvbm_onboard_blocks_h2d") + metric(server, "kvbm_onboard_blocks_d2d")
                self.assertEqual(ask(server, prompt_of(1)), first)
                self.assertEqual(metric(server, "kvbm_onboard_blocks_h2d") + metric(server, "kvbm_onboard_blocks_d2d"), brought)
                self.assertEqual(server.post("/clear_kv_blocks", {"tiers": "disk"})[0], 400)

    def test_blocks_of_requests_that_wait_come_to_host_memory_before_their_turn(self):
        with folder() as path:
            flags = ("--kv-tokens", "4096", "--block-size", str(BLOCK), "--max-context", "2048", "--max-batch", "1",
                     "--kv-host-blocks", "400", "--kv-disk", str(path), "--kv-disk-blocks", "900", "--kv-offload-all")
            prompts = [prompt_of(i) for i in range(4)]
            with harness.Server("tiny-chat", *flags) as server:
                expected = [ask(server, prompt) for prompt in prompts]
                settle(server)
                self.assertEqual(server.post("/clear_kv_blocks", "")[0], 200)  # but for the disk
                self.assertEqual(metric(server, "kvbm_onboard_blocks_d2h"), 0)
                stream = server.stream(COMPLETIONS, {"prompt": "Say something long.", "max_tokens": 1900, "ignore_eos": True, "stream": True})
                next(stream)
                answers = [None] * len(prompts)

                def work(i):
                    answers[i] = ask(server, prompts[i])

                threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
                for thread in threads:
                    thread.start()
                # One runs, one is next and is brought to the device; of the others blocks come nearer.
                server.wait_for(lambda: metric(server, "kvbm_onboard_blocks_d2h") > 0, 60, "blocks in host memory")
                stream.close()
                for thread in threads:
                    thread.join()
                self.assertEqual(answers, expected)
                self.assertGreater(metric(server, "pixii_kv_tier_prefetched_total", tier="disk"), 0)
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)

    def test_the_share_of_the_memorys_bandwidth_is_measured_and_exported(self):
        with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-host-blocks", "400", "--kv-tier-bandwidth-share", "0.1") as server:
            ask(server, prompt_of(1))
            settle(server)
            self.assertGreater(metric(server, "pixii_kv_tier_bandwidth_bytes_per_second"), 1e8)
            self.assertEqual(metric(server, "pixii_kv_tier_bandwidth_share"), 0.1)
            self.assertGreater(metric(server, "pixii_kv_tier_traffic_bytes_total", tier="host"), 0)

    def test_policies_of_other_systems_give_the_same_answers(self):
        prompts = [prompt_of(i) for i in range(6)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            expected = [ask(server, prompt) for prompt in prompts]
        for policy in ("lru", "hicache", "flexkv"):
            with folder() as path:
                with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-policy", policy, "--kv-host-blocks", "40", "--kv-disk", str(path),
                                    "--kv-disk-blocks", "120") as server:
                    for _ in range(2):
                        self.assertEqual([ask(server, prompt) for prompt in prompts], expected, policy)
                    settle(server)
                    self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)
        done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--kv-host-blocks", "9", "--kv-policy", "lru", "--kv-offload-all")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("kv-policy", done.stderr + done.stdout)

    def test_users_variables_set_the_tiers(self):
        with folder() as path:
            env = {"DYN_KVBM_CPU_CACHE_GB": "0.01", "DYN_KVBM_DISK_CACHE_OVERRIDE_NUM_BLOCKS": "9000",
                   "DYN_KVBM_DISK_CACHE_DIR": str(path), "DYN_KVBM_DISABLE_DISK_OFFLOAD_FILTER": "true"}
            with harness.Server("tiny-chat", *SMALL_CACHE, "--connector", "kvbm", env=env) as server:
                self.assertEqual(metric(server, "pixii_kv_tier_slots", tier="disk"), 9000)
                self.assertGreater(metric(server, "pixii_kv_tier_slots", tier="host"), 0)
                for name in ("kvbm_matched_tokens", "kvbm_offload_blocks_d2h", "kvbm_offload_blocks_h2d", "kvbm_offload_blocks_d2d",
                             "kvbm_offload_blocks_d2o", "kvbm_onboard_blocks_h2d", "kvbm_onboard_blocks_d2d",
                             "kvbm_onboard_blocks_o2d", "kvbm_host_cache_hit_rate", "kvbm_disk_cache_hit_rate",
                             "kvbm_object_cache_hit_rate", "kvbm_offload_bytes_object", "kvbm_onboard_bytes_object",
                             "kvbm_object_read_failures", "kvbm_object_write_failures"):
                    self.assertTrue(has_metric(server, name), name)

    def test_users_engine_yaml_sets_the_tiers(self):
        with folder() as path:
            yaml = path / "engine.yaml"
            yaml.write_text("kv_cache_config:\n  disk_cache_size: 50000000\n  disk_cache_path: " + str(path / "disk") + "\n"
                            "kv_connector_config:\n  connector_module: kvbm.trtllm_integration.connector\n"
                            "  connector_scheduler_class: DynamoKVBMConnectorLeader\n  connector_worker_class: DynamoKVBMConnectorWorker\n")
            with harness.Server("tiny-chat", *SMALL_CACHE, "--extra-engine-args", str(yaml)) as server:
                self.assertGreater(metric(server, "pixii_kv_tier_slots", tier="disk"), 100)

    def test_contradictions_stop_the_start_and_name_the_flag(self):
        for flags, named in ((("--connector", "kvbm"), "connector"), (("--kv-disk", "/tmp/x"), "kv-disk-bytes"),
                             (("--connector", "kvmb"), "kvbm"), (("--kv-host-bytes", "1"), "kv-host-bytes"),
                             (("--kv-host-bytes", "1MiB", "--kvbm-cpu-cache-gb", "1"), "kvbm-cpu-cache-gb"),
                             (("--kv-host-bytes", "1MiB", "--kv-host-blocks", "9"), "kv-host-blocks: 9 blocks beside kv-host-bytes 1048576"),
                             (("--kv-disk-bytes", "1MiB"), "kv-disk-bytes: 1048576 bytes of which folder?"),
                             (("--kv-disk", "/proc/none", "--kv-disk-bytes", "1GiB"), "/proc/none")):
            done = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(named, done.stderr + done.stdout, flags)

    def test_a_slower_tier_that_is_smaller_is_warned_of(self):
        with folder() as path:
            with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-host-blocks", "20", "--kv-disk", str(path),
                                "--kv-disk-blocks", "10") as server:
                self.assertEqual(len(re.findall(r"kv\.tier\.small", server.log_text())), 2, server.log_text())
            with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-host-blocks", "200", "--kv-disk", str(path),
                                "--kv-disk-blocks", "300") as server:
                self.assertNotIn("kv.tier.small", server.log_text())


@contextlib.contextmanager
def mounted(mount, path, then=""):
    """Programs started meanwhile see the file system that the shell command `mount` makes of `path`; `then` follows each."""
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*alone, mount], capture_output=True).returncode != 0:
        raise unittest.SkipTest("no file system can be mounted here")
    binary = harness.BINARY
    script = path.parent / f"{path.name}.sh"
    run = f'"$@"; status=$?; {then}; exit $status' if then else 'exec "$@"'
    script.write_text(f"#!/bin/sh\nexec {' '.join(alone)} '{mount} && {{ {run}; }}' sh {pathlib.Path(binary).absolute()} \"$@\"\n")
    script.chmod(0o700)
    harness.BINARY = str(script)
    try:
        yield
    finally:
        harness.BINARY = binary
        script.unlink()


class DiskTier(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prompts = [prompt_of(i) for i in range(8)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            cls.expected = [ask(server, prompt) for prompt in cls.prompts]

    def flags(self, path, host="24", blocks="600"):
        host_flags = ("--kv-host-blocks", host) if host else ()
        return (*SMALL_CACHE, *host_flags, "--kv-disk", str(path), "--kv-disk-blocks", blocks)

    def ask_all(self, server):
        for prompt, answer in zip(self.prompts, self.expected):
            self.assertEqual(ask(server, prompt), answer)

    def test_what_host_memory_evicted_comes_from_the_disk_and_after_a_restart(self):
        with folder() as path:
            with harness.Server("tiny-chat", *self.flags(path), "--kv-offload-all") as server:
                self.ask_all(server)
                settle(server)
                self.assertGreater(metric(server, "kvbm_offload_blocks_h2d"), 0)
                self.assertGreater(metric(server, "pixii_kv_tier_evictions_total", tier="host"), 0)
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)
            with harness.Server("tiny-chat", *self.flags(path)) as server:
                server.wait_for(lambda: metric(server, "pixii_kv_tier_blocks", tier="disk") > 0, 10, "blocks found again")
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)

    def test_a_block_used_once_stays_off_the_disk(self):
        with folder() as path, harness.Server("tiny-chat", *self.flags(path, host="400")) as server:
            ask(server, self.prompts[0])
            settle(server)
            self.assertEqual(metric(server, "kvbm_offload_blocks_h2d"), 0)
            ask(server, self.prompts[0])
            settle(server)
            self.assertGreater(metric(server, "kvbm_offload_blocks_h2d"), 0)

    def test_a_disk_alone_takes_every_block(self):
        with folder() as path, harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
            self.ask_all(server)
            settle(server)
            self.assertGreater(metric(server, "kvbm_offload_blocks_d2d"), 0)
            self.ask_all(server)
            self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)

    def spoil(self, path, rng, how):
        """Changes the file of a server that has it open."""
        file = blocks_file(path)
        size = file.stat().st_size
        with open(file, "r+b") as out:
            if how == "truncate":
                out.truncate(size // 2 // 4096 * 4096)
            elif how == "swap":  # slots of equal size, pairwise
                slot = self.slot_bytes(path)
                count = (size - 4096) // slot
                for a in range(0, count - 1, 2):
                    out.seek(4096 + a * slot)
                    pair = out.read(2 * slot)
                    out.seek(4096 + a * slot)
                    out.write(pair[slot:] + pair[:slot])
            elif how == "bits":
                slot = self.slot_bytes(path)
                for i in range((size - 4096) // slot):
                    at = 4096 + i * slot + rng.randrange(slot)
                    out.seek(at)
                    byte = out.read(1)[0]
                    out.seek(at)
                    out.write(bytes([byte ^ (1 << rng.randrange(8))]))
            elif how == "zero":
                out.seek(4096)
                out.write(bytes(size - 4096))

    def slot_bytes(self, path):
        with open(blocks_file(path), "rb") as file:
            return int.from_bytes(file.read(24)[16:24], "little")

    def test_whatever_happens_to_the_file_answers_stay_and_failures_are_counted(self):
        seed = random.randrange(2**31)
        print("seed", seed)
        rng = random.Random(seed)
        with folder() as path:
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                for how in ("bits", "swap", "truncate", "zero"):
                    self.ask_all(server)
                    settle(server)
                    failures = metric(server, "pixii_kv_integrity_failures_total", tier="disk")
                    self.spoil(path, rng, how)
                    self.ask_all(server)
                    settle(server)
                    self.assertGreater(metric(server, "pixii_kv_integrity_failures_total", tier="disk"), failures, how)

    def test_a_file_of_another_model_or_no_file_of_ours_is_thrown_away(self):
        with folder() as path:
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                self.ask_all(server)
                settle(server)
            own = blocks_file(path).name
            with harness.Server("tiny-chat", *self.flags(path, host=None), "--kv-dtype", "fp32") as server:
                settle(server)
            other = next(file for file in path.glob("kv-*.blocks") if file.name != own)
            shutil.copy(other, path / own)
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total", tier="disk"), 1)
                self.ask_all(server)
            (path / own).write_bytes(b"x" * 100_000)
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total", tier="disk", reason="header"), 1)
                self.ask_all(server)

    def test_two_processes_share_what_is_on_the_disk(self):
        with folder() as path:
            flags = (*self.flags(path, host=None), "--kv-list-time", "200ms")
            with harness.Server("tiny-chat", *flags) as first, harness.Server("tiny-chat", *flags) as second:
                self.ask_all(first)
                settle(first)
                second.wait_for(lambda: metric(second, "pixii_kv_tier_blocks", tier="peer")
                                == metric(first, "pixii_kv_tier_blocks", tier="disk") > 0, 10, "the other's blocks")
                self.ask_all(second)
                self.assertGreater(metric(second, "kvbm_onboard_blocks_d2d"), 20)
                self.assertEqual(metric(second, "pixii_kv_integrity_failures_total"), 0)
                self.assertEqual(len(list(path.glob("kv-*.blocks"))), 2)

    def test_sealed_tiers_hold_nothing_in_the_clear(self):
        with folder() as path, s3_stub.Store() as store:
            key = path / "seal.key"
            key.write_bytes(bytes(range(32)))
            flags = (*self.flags(path / "disk", host=None), "--kv-seal-key-file", str(key), *store.flags())
            with harness.Server("tiny-chat", *flags) as server:
                self.ask_all(server)
                settle(server)
            self.assertGreater(len(store.objects), 10)
            for data in (blocks_file(path / "disk").read_bytes(), *store.objects.values()):
                self.assertNotIn(b"PXKVBLK", data)
            with harness.Server("tiny-chat", *flags) as server:
                server.wait_for(lambda: metric(server, "pixii_kv_tier_blocks", tier="disk") > 0, 10, "blocks found again")
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)
            denied = harness.run_pixii("kv", "ls", str(path / "disk"))
            self.assertIn("sealed", denied.stderr)
            listed = harness.run_pixii("kv", "verify", str(path / "disk"), "--kv-seal-key-file", str(key))
            self.assertIn("0 are not", listed.stdout)
            key.write_bytes(b"another secret, as long as needed")
            with harness.Server("tiny-chat", *flags) as server:
                self.ask_all(server)

    def test_files_deleted_by_another_process_harm_nothing(self):
        with folder() as path, harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
            self.ask_all(server)
            for file in path.iterdir():
                file.unlink()
            self.ask_all(server)

    def test_killed_while_it_writes_it_starts_again_with_whole_blocks(self):
        rng = random.Random(5)
        with folder() as path:
            for _ in range(4):
                server = harness.Server("tiny-chat", *self.flags(path, host=None))
                stop = threading.Event()

                def work(seed, server=server, stop=stop):
                    local = random.Random(seed)
                    while not stop.is_set():
                        with contextlib.suppress(OSError, AssertionError, ValueError):
                            ask(server, prompt_of(local.randrange(1000)))

                threads = [threading.Thread(target=work, args=(rng.random(),)) for _ in range(2)]
                for thread in threads:
                    thread.start()
                written = 20 + rng.randrange(60)
                server.wait_for(lambda: metric(server, "kvbm_offload_blocks_d2d") > written, 30, "writes")
                server.kill()
                stop.set()
                for thread in threads:
                    thread.join()
                server.folder.cleanup()
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                server.wait_for(lambda: metric(server, "pixii_kv_tier_blocks", tier="disk") > 20, 10, "blocks found again")
                self.ask_all(server)
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total", tier="disk"), 0)

    def test_a_full_file_system_is_a_degraded_tier_and_no_more(self):
        with folder() as path, mounted(f"mount -t tmpfs -o size=400k none {path}", path):
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                self.ask_all(server)
                settle(server)
                self.assertGreater(metric(server, "pixii_kv_tier_write_failures_total", tier="disk"), 0)
                self.assertEqual(metric(server, "pixii_kv_tier_degraded", tier="disk"), 1)
                self.assertRegex(server.log_text(), r"kv\.tier\.resting tier=disk rank=0 what=writes why=.*No space")
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)

    def test_a_read_only_file_system_is_read_and_the_tier_says_so(self):
        with folder() as path:
            with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                self.ask_all(server)
                settle(server)
            with mounted(f"mount --bind {path} {path} && mount -o remount,bind,ro {path}", path):
                with harness.Server("tiny-chat", *self.flags(path, host=None)) as server:
                    server.wait_for(lambda: metric(server, "pixii_kv_tier_blocks", tier="disk") > 0, 10, "blocks found again")
                    self.ask_all(server)
                    self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)
                    self.assertEqual(metric(server, "kvbm_offload_blocks_d2d"), 0)
                    self.assertEqual(metric(server, "pixii_kv_tier_degraded", tier="disk"), 1)
                    self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)


class ObjectTier(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.prompts = [prompt_of(i) for i in range(5)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            cls.expected = [ask(server, prompt) for prompt in cls.prompts]

    def ask_all(self, server):
        for prompt, answer in zip(self.prompts, self.expected):
            self.assertEqual(ask(server, prompt), answer)

    def test_blocks_go_to_the_store_and_come_back_also_to_another_worker(self):
        with s3_stub.Store() as store:
            with harness.Server("tiny-chat", *SMALL_CACHE, *store.flags()) as server:
                self.ask_all(server)
                settle(server)
                self.assertGreater(metric(server, "kvbm_offload_blocks_d2o"), 0)
                self.assertGreater(metric(server, "kvbm_offload_bytes_object"), 0)
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_o2d"), 0)
                self.assertEqual(metric(server, "kvbm_object_write_failures"), 0)
            self.assertGreater(len(store.objects), store.page)
            self.assertEqual({bucket for bucket, _ in store.objects}, {"kv"})
            # Whoever has the same credentials knows the same blocks.
            with harness.Server("tiny-chat", *SMALL_CACHE, *store.flags()) as other:
                other.wait_for(lambda: metric(other, "pixii_kv_tier_blocks", tier="object") == len(store.objects), 10, "the list")
                self.ask_all(other)
                self.assertGreater(metric(other, "kvbm_onboard_blocks_o2d"), 20)

    def test_a_missing_spoilt_or_foreign_object_is_computed(self):
        with s3_stub.Store() as store:
            with harness.Server("tiny-chat", *SMALL_CACHE, *store.flags()) as server:
                self.ask_all(server)
                settle(server)
                names = sorted(store.objects)
                for i, name in enumerate(names):
                    data = bytearray(store.objects[name])
                    if i % 4 == 0:
                        del store.objects[name]
                    elif i % 4 == 1:
                        data[i * 37 % len(data)] ^= 4
                        store.objects[name] = bytes(data)
                    elif i % 4 == 2:
                        store.objects[name] = bytes(data[:-1])
                    else:
                        store.objects[name] = store.objects.get(names[i - 3], bytes(data[:5000]))
                self.ask_all(server)
                settle(server)
                self.assertGreater(metric(server, "pixii_kv_integrity_failures_total", tier="object"), 0)

    def test_a_store_that_refuses_fails_or_hangs_costs_time_alone(self):
        with s3_stub.Store() as store:
            with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-load-time", "1s", *store.flags()) as server:
                self.ask_all(server)
                settle(server)
                store.status = 503
                self.ask_all(server)
                self.assertGreater(metric(server, "kvbm_object_read_failures"), 0)
                store.status = None
                server.wait_for(lambda: (self.ask_all(server), metric(server, "pixii_kv_tier_degraded", tier="object") == 0)[1], 30, "the tier's return")
                store.hang.set()
                self.ask_all(server)
                server.wait_for(lambda: metric(server, "pixii_kv_tier_degraded", tier="object") == 1, 30, "a degraded tier")
        with s3_stub.Store() as store:
            wrong = list(store.flags())
            wrong[-1] = "another secret"
            with harness.Server("tiny-chat", *SMALL_CACHE, *wrong) as server:
                self.ask_all(server)
                settle(server)
                self.assertEqual(store.objects, {})
                self.assertGreater(metric(server, "kvbm_object_write_failures"), 0)


def read_file(path):
    """The blocks of a disk tier's file, by docs/formats alone: (slot, hash, parent, index, generation, tenant, adapter)."""
    data = path.read_bytes()
    number = lambda at, size=8: int.from_bytes(data[at:at + size], "little")
    assert data[:8] == b"PXKVDSK\n" and number(8, 4) == 1
    header, slot_bytes, payload, slices, tokens = number(12, 4), number(16), number(24), number(40, 4), number(44, 4)
    assert slot_bytes == header + -(-payload // 4096) * 4096
    blocks = []
    for slot in range((len(data) - 4096) // slot_bytes):
        at = 4096 + slot * slot_bytes
        if not any(data[at:at + 4096]):
            continue
        assert data[at:at + 8] == b"PXKVBLK\n" and number(at + 8, 4) == 1, slot
        assert (number(at + 72), number(at + 84, 4), number(at + 88, 4)) == (payload, tokens, slices)
        texts = number(at + 136, 4) + number(at + 140, 4) + number(at + 144, 4)
        end = at + -(-(192 + texts) // 4) * 4 + 4 * (tokens + 2 * slices)
        sizes = [number(end - 8 * slices + 4 * i, 4) for i in range(slices)]
        assert sum(sizes) == payload
        assert -(-(end - at) // 8) * 8 + 8 == number(at + 12, 4)
        root, fields = data[at + 192:at + 192 + number(at + 136, 4)], []
        while root:
            size = int.from_bytes(root[:8], "little")
            fields.append(root[8:8 + size].decode())
            root = root[8 + size:]
        assert len(fields) == 6
        name = lambda where: f"{number(where + 8):016x}{number(where):016x}"
        blocks.append((slot, name(at + 16), name(at + 32), number(at + 80, 4), number(at + 64), fields[4], fields[3]))
    return blocks


class Command(unittest.TestCase):
    """pixii kv."""

    def kv(self, *arguments, status=0):
        done = harness.run_pixii("kv", *map(str, arguments))
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_files_are_listed_proven_mended_and_moved(self):
        prompt = prompt_of(1)
        with folder() as path, folder() as other:
            flags = (*SMALL_CACHE, "--kv-disk-blocks", "300", "--kv-disk")
            with harness.Server("tiny-chat", *flags, str(path)) as server:
                expected = ask(server, prompt)
                ask(server, prompt_of(2), cache_salt="mine")
                settle(server)
                self.assertIn("another process", self.kv("evict", path, "--all", status=2))
            file = blocks_file(path)
            listed = [harness.json.loads(line) for line in self.kv("ls", path, "--json").splitlines()]
            self.assertGreater(len(listed), 20)
            self.assertEqual([(b["slot"], b["hash"], b["parent"], b["index"], b["generation"], b["tenant"], b["adapter"])
                              for b in listed], read_file(file))
            self.assertTrue(any(b["salted"] for b in listed) and not all(b["salted"] for b in listed))
            self.assertIn(f"{len(listed)} blocks are whole, 0 are not", self.kv("verify", file))

            export = other / "export.blocks"
            self.assertIn(f"{len(listed)} blocks were written", self.kv("export", path, export))
            self.assertIn("is there already", self.kv("export", path, export, status=2))
            self.assertEqual({b[1] for b in read_file(export)}, {b["hash"] for b in listed})

            data = bytearray(file.read_bytes())
            slot_bytes = int.from_bytes(data[16:24], "little")
            data[4096 + listed[3]["slot"] * slot_bytes + slot_bytes // 2] ^= 1
            file.write_bytes(data)
            text = self.kv("verify", path, status=1)
            self.assertIn(f"slot {listed[3]['slot']}: checksum", text)
            self.assertIn("1 blocks were dropped", self.kv("evict", path, "--hash", listed[3]["hash"]))
            self.assertIn(f"{len(listed) - 1} blocks are whole, 0 are not", self.kv("verify", path))
            self.assertIn("1 blocks were added", self.kv("import", path, export))
            self.assertIn("which blocks?", self.kv("evict", path, status=2))
            for wrong in ("zz", listed[0]["hash"][1:], listed[0]["hash"] + "0", "A" * 32):
                self.assertIn(f"hash: '{wrong}' is none; one has 32", self.kv("evict", path, "--hash", wrong, status=2))
            self.assertIn(f"{len(listed)} blocks were dropped", self.kv("evict", path, "--all"))

            # To another folder, with the key: that process finds them.
            with harness.Server("tiny-chat", *flags, str(other / "disk")) as server:
                pass
            shutil.copy(path / "kv-identity.key", other / "disk")
            self.assertIn(f"{len(listed)} blocks were added", self.kv("import", other / "disk", export))
            with harness.Server("tiny-chat", *flags, str(other / "disk")) as server:
                server.wait_for(lambda: metric(server, "pixii_kv_tier_blocks", tier="disk") == len(listed), 10, "blocks")
                self.assertEqual(ask(server, prompt), expected)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_d2d"), 0)

    def test_what_is_no_such_file_is_said(self):
        with folder() as path:
            self.assertIn("holds no file of KV blocks", self.kv("ls", path, status=2))
            (path / "x").write_bytes(b"y" * 9000)
            self.assertIn("no file of KV blocks", self.kv("verify", path / "x", status=2))
            self.assertIn("none of ls, verify", self.kv("look", path / "x", status=2))
            for file in (path / "none.blocks", path / "x"):
                self.kv("evict", file, "--all", status=2)
                self.kv("import", file, path / "x", status=2)
            self.assertEqual([each.name for each in path.iterdir()], ["x"], "nothing is made beside it")

    def test_an_export_to_a_full_file_system_leaves_nothing(self):
        with folder() as path, folder() as full:
            with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-disk-blocks", "300", "--kv-disk", str(path)) as server:
                ask(server, prompt_of(1))
                settle(server)
            left = path.parent / f"{path.name}.left"
            with mounted(f"mount -t tmpfs -o size=100k none {full}", full, f"ls -A {full} > {left}"):
                self.assertIn("No space", self.kv("export", path, full / "export.blocks", status=2))
            self.assertEqual(left.read_text(), "")
            left.unlink()


class Events(unittest.TestCase):
    """A router goes on to know of blocks that only a slower tier has."""

    def test_a_frontend_sends_a_conversation_back_to_whoever_holds_it_in_host_memory(self):
        flags = (*SMALL_CACHE, "--kv-host-blocks", "2000")
        with cluster.Cluster(2, worker_flags=flags, frontend_flags=("--router-mode", "kv")) as servers:
            frontend = servers.frontend
            prompts = [prompt_of(i) for i in range(12)]
            first = {}
            for prompt in prompts:
                answer = frontend.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 4, "temperature": 0,
                                                     "nvext": {"extra_fields": ["worker_id"]}})[1]
                first[prompt] = answer["nvext"]["worker_id"]["decode_worker_id"]
            self.assertEqual(len(set(first.values())), 2, first)
            time_limit = time.monotonic() + 20
            # The device of each holds the last of its conversations alone; the first are in host memory.
            for prompt in prompts[:4]:
                while True:
                    answer = frontend.post(COMPLETIONS, {"prompt": prompt, "max_tokens": 4, "temperature": 0,
                                                         "nvext": {"extra_fields": ["worker_id"]}})[1]
                    if answer["nvext"]["worker_id"]["decode_worker_id"] == first[prompt]:
                        break
                    self.assertLess(time.monotonic(), time_limit, "it went elsewhere")
                self.assertGreater(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 100)


    @unittest.skipUnless(kv_publish_test.has_zmq(), "python3-zmq and python3-msgpack of tools/packages.txt are not installed")
    def test_subscribers_to_an_engine_hear_of_all_its_tiers_as_of_one(self):
        zmq = ("--kv-events-zmq", "tcp://127.0.0.1:0", "--kv-events-replay", "tcp://127.0.0.1:0")
        prompts = [kv_publish_test.prompt_of(i, 300) for i in range(8)]
        for mode, media in (("dedup", {"GPU"}), ("passthrough", {"GPU", "CPU_PINNED"})):
            flags = (*SMALL_CACHE, "--kv-host-blocks", "2000", *zmq, "--kv-events-tiers", mode)
            with cluster.Cluster(1, worker_flags=flags) as servers:
                with kv_publish_test.Subscriber(*kv_publish_test.published(servers.workers[0])[0]) as subscriber:
                    for prompt in prompts:
                        kv_publish_test.ask(servers.frontend, prompt)
                    # The device has room for three of them; no router forgets the others.
                    harness.wait_for(lambda: all(subscriber.holds(prompt) for prompt in prompts), 15, f"all prompts, {mode}",
                                     lambda: harness.json.dumps(subscriber.state())[:2000])
                    self.assertEqual(set(subscriber.state()["media"]), media)


class OneAnswer(unittest.TestCase):
    """Promise 1 while every tier evicts, several requests at a time, some cancelled."""

    def test_random_conversations_over_tiers_that_are_too_small(self):
        seed = random.randrange(2**31)
        print("seed", seed)
        rng = random.Random(seed)
        bodies = [{"prompt": prompt_of(rng.randrange(12), rng.randrange(20, 130)),
                   "temperature": rng.choice([0, 1.0]), "seed": rng.randrange(1000), "max_tokens": rng.randrange(1, 40)}
                  for _ in range(80)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            expected = [ask(server, body["prompt"], **{k: v for k, v in body.items() if k != "prompt"}) for body in bodies]
        with folder() as path:
            with harness.Server("tiny-chat", "--kv-tokens", str(60 * BLOCK), "--block-size", str(BLOCK), "--max-context", "512",
                                "--max-batch", "4", "--kv-host-blocks", "40", "--kv-disk", str(path), "--kv-disk-blocks", "90",
                                "--kv-eviction", rng.choice(["leaf", "lru", "frequency"])) as server:
                for _ in range(2):
                    order = list(range(len(bodies)))
                    rng.shuffle(order)
                    answers = [None] * len(bodies)
                    lock = threading.Lock()

                    def work(salt):
                        local = random.Random(salt)
                        while True:
                            with lock:
                                if not order:
                                    return
                                i = order.pop()
                            body = bodies[i]
                            if local.random() < 0.2:  # a client that goes away
                                with contextlib.suppress(Exception):
                                    with contextlib.closing(server.connection(local.random() / 10)) as connection:
                                        connection.request("POST", COMPLETIONS, body=harness.json.dumps(body),
                                                           headers={"Content-Type": "application/json"})
                                        connection.getresponse()
                            answers[i] = ask(server, body["prompt"], **{k: v for k, v in body.items() if k != "prompt"})

                    threads = [threading.Thread(target=work, args=(rng.random(),)) for _ in range(4)]
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()
                    for i, answer in enumerate(answers):
                        self.assertEqual(answer, expected[i], f"request {i}")
                settle(server)
                for tier in ("host", "disk"):
                    self.assertGreater(metric(server, "pixii_kv_tier_evictions_total", tier=tier), 0, tier)
                self.assertGreater(metric(server, "kvbm_onboard_blocks_h2d"), 0)
                self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)
                server.wait_for(lambda: metric(server, "pixii_engine_blocks_pinned") == 0, 10, "no pins")


if __name__ == "__main__":
    harness.main()
