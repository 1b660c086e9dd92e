"""pixii profile: what it measures of the mock engine whose times are known, what it recommends, and what the fleet then does."""
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import unittest

import harness
from planner_test import Up, free_port

# Times that a busy machine of two cores adds little to: a step is 40 ms and more, 0.5 ms for each token of a prompt, 5 ms for each sequence.
MOCK = ("--engine", "mock", "--mock-step-time", "40ms", "--mock-prefill-time", "500us", "--mock-decode-time", "5ms", "--max-batch", "8",
        "--max-batched-tokens", "256", "--kv-tokens", "8192", "--threads", "1")
SMALL = ("--profile-context", "512", "--prefill-points", "5", "--decode-points", "4", "--repeats", "1", "--ttft-goal", "2s", "--itl-goal", "200ms",
         "--input-tokens", "100", "--output-tokens", "20")


def profile(folder, *words, model="tiny-chat"):
    return subprocess.run([harness.BINARY, "profile", model, *MOCK, *SMALL, "--output", str(folder), *words], capture_output=True, text=True,
                          timeout=600)


class ProfileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.TemporaryDirectory(prefix="pixii-profile-")
        cls.folder = pathlib.Path(cls.root.name) / "out"
        cls.done = profile(cls.folder, "--pick", "load-match", "--target-rate", "6", "--json")
        if cls.done.returncode != 0:
            raise AssertionError(f"{cls.done.returncode}: {cls.done.stderr}{cls.done.stdout[-2000:]}")
        cls.said = json.loads(cls.done.stdout)

    @classmethod
    def tearDownClass(cls):
        cls.root.cleanup()

    def test_times_are_the_engines_and_do_not_fall(self):
        """Spec dynamo-core F9. A machine that others use makes steps longer, never shorter; the errors are shown."""
        measured = json.loads((self.folder / "profile.json").read_text())
        lengths, times = measured["prefill_isl"], measured["prefill_ttft_ms"]
        self.assertEqual((len(lengths), lengths[0], lengths[-1]), (5, 4, 256))
        self.assertEqual(times, sorted(times))
        for tokens, took in zip(lengths, times):
            self.assertGreaterEqual(took, 40 + 0.5 * tokens - 0.5)
        rows, columns, table = measured["decode_active_kv_tokens"], measured["decode_context_length"], measured["decode_itl_ms"]
        self.assertEqual([len(row) for row in table], [len(columns)] * len(rows))
        for column, context in enumerate(columns):
            steps = [row[column] for row in table]
            self.assertEqual(steps, sorted(steps))
            for kv, took in zip(rows, steps):
                self.assertGreaterEqual(took, 40 + 5 * min(max(round(kv / context), 1), 8) - 0.5)
        self.assertEqual((measured["kv_tokens"], measured["sequences_max"], measured["batch_tokens_max"]), (8192, 8, 256))
        kinds = {point["of"] for point in measured["held_out"]}
        self.assertEqual(kinds, {"prefill", "prompt", "decode"})
        print("held out: " + ", ".join(f"{p['of']} {p['tokens']:.0f}: {p['measured_ms']:.1f} ms, predicted {p['predicted_ms']:.1f}"
                                       for p in measured["held_out"]) + f"; largest error {self.said['held_out_error_max']:.3f}", file=sys.stderr)
        self.assertTrue(math.isfinite(self.said["held_out_error_max"]))

    def test_the_profile_drives_a_mock_engine(self):
        with harness.Server("tiny-chat", "--engine", "mock", "--mock-timing", "profile", "--mock-profile", str(self.folder / "profile.json"),
                            "--threads", "1") as server:
            status, answer = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2})
            self.assertEqual(status, 200, answer)

    def test_a_graph_that_is_recommended_serves_its_load_and_the_prediction_is_shown_beside_it(self):
        advice = self.said["advice"]
        self.assertTrue(advice["meets"])
        self.assertGreater(advice["workers"], 0, advice)
        self.assertGreaterEqual(len(advice["reasons"]), 2)
        text = (self.folder / "graph.yaml").read_text()
        for reason in advice["reasons"]:
            self.assertIn(f"# - {reason}", text)
        check = subprocess.run([harness.BINARY, "up", "--check", str(self.folder / "graph.yaml")], capture_output=True, text=True, timeout=60)
        self.assertEqual(check.returncode, 0, check.stderr)
        port = free_port()
        graph = self.folder / "run.yaml"
        graph.write_text(text.replace("port: 8000", f"port: {port}"))
        with Up.running(graph):
            done = subprocess.run([harness.BINARY, "bench", "serve", "--port", str(port), "--requests", "60", "--rate", "6", "--input-tokens", "100",
                                   "--output-tokens", "20", "--json"], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, 0, done.stderr)
        figures = {one["name"]: one["value"] for one in json.loads(done.stdout)["results"]}
        print(f"predicted first token {advice['ttft_ms']:.0f} ms, measured p50 {figures['ttft_p50']:.0f}; between tokens {advice['itl_ms']:.1f} ms, "
              f"measured p50 {figures['tpot_p50']:.1f}", file=sys.stderr)

    def test_autoscale_writes_a_planner_that_starts(self):
        folder = pathlib.Path(self.root.name) / "auto"
        done = profile(folder, "--pick", "autoscale", "--budget", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("a planner adds up to 3", done.stdout)
        planner = json.loads((folder / "planner.json").read_text())
        self.assertEqual((planner["environment"], planner["max_gpu_budget"]), ("local", 3))
        port = free_port()
        graph = folder / "run.yaml"
        graph.write_text((folder / "graph.yaml").read_text().replace("port: 8000", f"port: {port}").replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        with Up.running(graph) as up:
            up.wait(lambda: up.plan("planner").get('pixii_planner_looks_total{outcome="used"}', 0) > 0, 60, "the planner looks")

    def test_goals_that_cannot_be_kept_and_wishes_without_a_target_are_said(self):
        folder = pathlib.Path(self.root.name) / "none"
        done = profile(folder, "--pick", "load-match")
        self.assertEqual(done.returncode, 2)
        self.assertIn("target-rate", done.stderr)
        self.assertFalse(folder.exists(), "nothing was measured")
        done = profile(folder, "--ttft-goal", "1ms", "--prefill-points", "2", "--decode-points", "2")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("no number of workers", done.stdout)
        done = subprocess.run([harness.BINARY, "profile", "tiny-chat", "--mock-step-time", "1ms"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 2)
        self.assertIn("mock", done.stderr)


class RealEngineTest(unittest.TestCase):
    def test_a_real_model_is_measured(self):
        with tempfile.TemporaryDirectory(prefix="pixii-profile-") as folder:
            done = subprocess.run([harness.BINARY, "profile", "tiny-chat", "--threads", "1", "--max-batch", "4", "--kv-memory", "32MiB", "--output", folder,
                                   "--profile-context", "256", "--prefill-points", "4", "--decode-points", "3", "--repeats", "1", "--input-tokens", "64",
                                   "--output-tokens", "8", "--ttft-goal", "60s", "--itl-goal", "60s", "--json"], capture_output=True, text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stderr)
            said = json.loads(done.stdout)
            times = said["profile"]["prefill_ttft_ms"]
            self.assertEqual(times, sorted(times))
            print("real engine: first token of " + ", ".join(f"{n}: {t:.1f} ms" for n, t in zip(said["profile"]["prefill_isl"], times)) +
                  f"; largest error held out {said['held_out_error_max']:.3f}", file=sys.stderr)


if __name__ == "__main__":
    harness.main()
