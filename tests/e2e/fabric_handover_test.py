"""KV blocks that move by UCX and by libfabric: the same answers, whatever dies, and what is missing is said by name."""
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
from disaggregation_test import BLOCK_TOKENS, FLAGS, Disaggregated, block_bytes, completion, unary

KILLS = int(os.environ.get("PIXII_FABRIC_KILLS", 3))
LENGTHS = [15, 16, 33, 100, 177, 300]
# As a configuration of TensorRT-LLM chooses them, and by our own names.
UCX = {"ucx": ("--override-engine-args", json.dumps({"cache_transceiver_config": {"backend": "UCX"}})),
       "nixl": ("--override-engine-args", json.dumps({"cache_transceiver_config": {"backend": "NIXL"}}))}
LIBFABRIC = {"libfabric": ("--kv-transfer", "libfabric"),
             "nixl": ("--kv-transfer", "nixl", "--kv-transfer-nixl-backend", "LIBFABRIC")}


class FabricHandover(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bodies = [completion(length) for length in LENGTHS]
        cls.long = [completion(280, seed=20 + number, max_tokens=40) for number in range(KILLS)]
        with harness.Server("tiny-chat", *FLAGS) as server:
            cls.alone = [unary(server, body) for body in cls.bodies]
            cls.long_alone = [unary(server, body) for body in cls.long]

    def answers_alike(self, transport, flags):
        with Disaggregated(flags=flags) as both:
            for body, expected in zip(self.bodies, self.alone):
                self.assertEqual(unary(both.frontend, body), expected)
            self.assertEqual(both.moved(), sum(length // BLOCK_TOKENS for length in LENGTHS) * block_bytes())
            self.assertEqual(cluster.total(both.decode[0], "pixii_handover_transport", f'transport="{transport}"'), 1)
            self.assertEqual(set(path for path, count in both.paths().items() if count), {"prefill", "local_nothing_to_do"})
            both.wait_until_quiet()

    def test_ucx_brings_the_same_blocks(self):
        for flags in UCX.values():
            self.answers_alike("ucx", flags)

    def test_libfabric_brings_the_same_blocks(self):
        for flags in LIBFABRIC.values():
            self.answers_alike("libfabric", flags)

    def killed(self, flags):
        draw = random.Random(3)
        with Disaggregated(flags=(*flags, "--kv-transfer-timeout-ms", "5000")) as both:
            for body, expected in zip(self.long, self.long_alone):
                pause = draw.choice([0, 0.005, 0.02, 0.05])
                with ThreadPoolExecutor(1) as pool:
                    answer = pool.submit(unary, both.frontend, body)
                    threading.Event().wait(pause)
                    both.kill(both.prefill[0])
                    self.assertEqual(answer.result(timeout=120), expected)
                both.add("prefill")
                both.wait_for_workers()
            self.assertEqual(unary(both.frontend, self.bodies[-1]), self.alone[-1])
            both.wait_until_quiet(30)

    def test_a_peer_that_is_killed_ends_its_transfers_over_ucx(self):
        self.killed(UCX["ucx"])

    def test_a_peer_that_is_killed_ends_its_transfers_over_libfabric(self):
        self.killed(LIBFABRIC["libfabric"])

    def test_without_its_library_a_fabric_stops_the_start_and_names_the_package(self):
        binary = pathlib.Path(harness.BINARY).resolve()
        with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
            key = pathlib.Path(folder) / "key"
            key.write_bytes(os.urandom(32))
            alone = pathlib.Path(folder) / "a" / "b" / "pixii"  # no library beside it, nor in the folder above
            alone.parent.mkdir(parents=True)
            os.link(binary, alone)
            for fabric, package in (("ucx", "libucx-dev"), ("libfabric", "libfabric-dev")):
                done = subprocess.run([str(alone), "worker", "tiny-chat", "--role", "decode", "--cluster-key", str(key), "--discovery",
                                       f"file:{folder}/cluster", "--kv-transfer", fabric, *FLAGS], capture_output=True, text=True, timeout=120)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(package, done.stderr)
                self.assertIn("kv-transfer", done.stderr)


if __name__ == "__main__":
    harness.main()
