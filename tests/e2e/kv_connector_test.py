"""KV connector plug-ins, built out of tree: what they bring changes no answer, and what they do wrong costs misses."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import harness
from kv_tiers_test import BLOCK, SMALL_CACHE, ask, metric, prompt_of


def build(folder):
    """The example, from its own CMakeLists and the one installed header, and the connector that can do wrong."""
    folder = pathlib.Path(folder)
    (folder / "include/pixii").mkdir(parents=True)
    shutil.copy(harness.ROOT / "include/pixii/kv_connector.h", folder / "include/pixii")
    shutil.copytree(harness.ROOT / "examples/kv_connector", folder / "source")
    compiler = next(name for name in ("clang++-19", "clang++", "g++") if shutil.which(name))
    for command in (["cmake", "-S", folder / "source", "-B", folder / "build", f"-DPIXII_INCLUDE_DIR={folder / 'include'}"],
                    ["cmake", "--build", folder / "build"],
                    [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{folder / 'include'}",
                     harness.ROOT / "tests/e2e/bad_connector.cc", "-o", folder / "bad.so"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
    return str(folder / "build/memory_cache.so"), str(folder / "bad.so")


def blocks(server, way):
    return metric(server, "pixii_kv_connector_blocks_total", way=way)


class Connector(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="pixii-connector-")
        cls.example, cls.bad = build(cls.folder.name)
        cls.prompts = [prompt_of(i, 60 + i) for i in range(8)]
        with harness.Server("tiny-chat", *SMALL_CACHE, "--no-prefix-cache") as server:
            cls.expected = [ask(server, prompt) for prompt in cls.prompts]

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check(self, server, *numbers):
        for i in numbers or range(len(self.prompts)):
            self.assertEqual(ask(server, self.prompts[i]), self.expected[i], i)

    def offered(self, server):
        """Until it has what was computed."""
        seen = -1

        def quiet():
            nonlocal seen
            before, seen = seen, blocks(server, "offered")
            return seen > 0 and seen == before

        server.wait_for(quiet, 20, "blocks offered")

    def test_the_example_brings_back_what_the_device_forgot(self):
        with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-connector", self.example + '={"blocks":4096}') as server:
            self.check(server)
            self.offered(server)
            self.assertEqual(blocks(server, "brought"), 0)
            hits = metric(server, "pixii_engine_prefix_hit_tokens_total")
            self.check(server)
            self.assertGreater(blocks(server, "brought"), 8)
            self.assertGreaterEqual(metric(server, "pixii_engine_prefix_hit_tokens_total") - hits, blocks(server, "brought") * BLOCK)
            self.assertEqual(metric(server, "pixii_kv_integrity_failures_total"), 0)
            # Another salt has other blocks.
            before = blocks(server, "brought")
            ask(server, self.prompts[0], cache_salt="other")
            self.assertEqual(blocks(server, "brought"), before)
            server.wait_for(lambda: metric(server, "pixii_engine_blocks_pinned") == 0, 10, "no pins")

    def test_one_too_small_for_all_and_tiers_beside_it(self):
        with harness.Server("tiny-chat", *SMALL_CACHE, "--kv-connector", self.example + '={"blocks":20}', "--kv-host-blocks", "30") as server:
            for _ in range(2):
                self.check(server)
            self.assertGreater(blocks(server, "offered"), 20)

    def test_users_engine_yaml_names_it(self):
        yaml = pathlib.Path(self.folder.name) / "engine.yaml"
        yaml.write_text(f"kv_connector_config:\n  connector_module: {self.example}\n")
        with harness.Server("tiny-chat", *SMALL_CACHE, "--extra-engine-args", str(yaml)) as server:
            self.check(server, 0, 1)
            self.offered(server)
        yaml.write_text("kv_connector_config:\n  connector_module: my.python.module\n")
        done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--extra-engine-args", str(yaml))
        self.assertEqual(done.returncode, 2)
        self.assertIn("kv_connector_config.connector_module", done.stderr)
        self.assertIn("*.so", done.stderr)

    def bad_server(self, *flags):
        self.fault_file = pathlib.Path(self.folder.name) / "fault"
        self.fault_file.write_text("")
        return harness.Server("tiny-chat", *SMALL_CACHE, "--kv-connector", f'{self.bad}={{"fault_file": "{self.fault_file}"}}', *flags)

    def fault(self, name):
        replaced = self.fault_file.with_suffix(".new")
        replaced.write_text(name)
        os.replace(replaced, self.fault_file)

    def test_one_that_lies_is_found_out_counted_and_computed(self):
        with self.bad_server() as server:
            self.check(server)
            self.offered(server)
            for fault, reasons in (("flip", ("checksum", "header")), ("other", ("identity",)), ("zeros", ("header",)), ("short", ("truncated",)),
                                   ("long", ("shape",)), ("too many", ()), ("gone", ())):
                with self.subTest(fault=fault):
                    def failures():
                        return sum(metric(server, "pixii_kv_integrity_failures_total", tier="connector", reason=reason) for reason in reasons)

                    self.fault(fault)
                    before, brought = failures(), blocks(server, "brought")
                    self.check(server)
                    if reasons:
                        self.assertGreater(failures(), before)
                        self.assertEqual(blocks(server, "brought"), brought)
            self.fault("")
            self.offered(server)
            brought = blocks(server, "brought")
            self.check(server)
            self.assertGreater(blocks(server, "brought"), brought)
            server.wait_for(lambda: metric(server, "pixii_engine_blocks_pinned") == 0, 10, "no pins")

    def test_one_that_throws_costs_misses_and_is_asked_again_later(self):
        with self.bad_server() as server:
            self.check(server)
            self.offered(server)
            for fault in ("throw", "throw a number"):
                self.fault(fault)
                threw = metric(server, "pixii_kv_connector_faults_total", kind="threw")
                self.ask_until(server, lambda threw=threw: metric(server, "pixii_kv_connector_faults_total", kind="threw") > threw)
            self.ask_until(server, lambda: metric(server, "pixii_kv_tier_degraded", tier="connector") == 1)
            self.assertRegex(server.log_text(), r"kv\.tier\.resting tier=connector rank=0 what=loads why=.*threw")
            self.fault("")
            brought = blocks(server, "brought")
            self.ask_until(server, lambda: blocks(server, "brought") > brought)
            server.wait_for(lambda: "kv.tier.resumed tier=connector" in server.log_text(), 10, "a word that it works again")
            self.assertEqual(metric(server, "pixii_kv_tier_degraded", tier="connector"), 0)

    def ask_until(self, server, condition):
        """One prompt after another, so that no more fails than must: each failure makes the rest longer."""
        turn = iter(range(10**6))
        server.wait_for(lambda: (self.check(server, next(turn) % len(self.prompts)), condition())[1], 120, "what was to happen")

    def test_one_that_hangs_costs_one_wait_holds_no_pin_and_lets_the_server_end(self):
        with self.bad_server("--kv-load-time", "300ms") as server:
            self.check(server)
            self.offered(server)
            self.fault("hang")
            self.check(server)
            self.assertEqual(metric(server, "pixii_kv_connector_faults_total", kind="late"), 1, "who hangs is not asked again")
            self.assertEqual(metric(server, "pixii_kv_tier_degraded", tier="connector"), 1)
            self.check(server)
            self.assertGreater(metric(server, "pixii_kv_tier_refused_total", tier="connector"), 0)
            server.wait_for(lambda: metric(server, "pixii_engine_blocks_pinned") == 0, 10, "no pins")
        # Leaving the block above has ended it with status 0.

    def test_what_is_no_connector_stops_the_start(self):
        for flag, word in (("/nowhere/x.so", "no shared object"), (f"{harness.ROOT}/README.md", "cannot be loaded"),
                           (self.example + "={", "kv-connector"), (self.example + "=[]", "JSON object"),
                           (self.example + '={"blocks":0}', "blocks must be"), (self.bad, "fault_file is not there")):
            done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--kv-connector", flag)
            self.assertEqual(done.returncode, 2, flag)
            self.assertIn(word, done.stderr, flag)


if __name__ == "__main__":
    harness.main()
