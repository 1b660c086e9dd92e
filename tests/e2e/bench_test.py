"""The benches run and say what they promise to say; no figure is asserted."""
import contextlib
import json
import os
import pathlib
import pty
import shutil
import subprocess
import tempfile
import unittest

import harness

HAS_NGINX = shutil.which("nginx") is not None or os.path.exists("/usr/sbin/nginx")


class Bench(unittest.TestCase):
    def check_report(self, text, names):
        report = json.loads(text)
        self.assertEqual(sorted(report), ["commit", "flags", "machine", "results"])
        self.assertTrue(report["machine"]["processor"])
        rows = {row["name"]: row for row in report["results"]}
        for name in names:
            row = rows[name]
            self.assertEqual(sorted(row), ["fraction", "high", "limit", "limit_name", "low", "name", "quartile_high", "quartile_low",
                                           "unit", "value"])
            ordered = [row[key] for key in ("low", "quartile_low", "value", "quartile_high", "high")]
            self.assertEqual(ordered, sorted(ordered))
        return rows

    def test_engine_prints_every_case_beside_its_limit(self):
        out = harness.run_pixii("bench", "engine", "--shape", "tiny-chat", "--repeats", "1", "--json", timeout=600)
        self.assertEqual(out.returncode, 0, out.stderr)
        names = ["gemm", "prefill_512", "prefill_2048", "decode_b1", "decode_b1_ctx2048", "decode_b4", "decode_b16"]
        for name, row in self.check_report(out.stdout, names).items():
            if name in names:
                self.assertTrue(0 < row["fraction"], name)
                self.assertTrue(row["limit_name"])

    def test_videos_prints_what_chats_feel_of_them(self):
        out = harness.run_pixii("bench", "videos", "--seconds", "0.5", "--repeats", "1", "--videos", "2", "--output-tokens", "50", "--json",
                                timeout=600)
        self.assertEqual(out.returncode, 0, out.stderr)
        rows = self.check_report(out.stdout, ["itl_p50", "itl_p99", "tokens", "steps", "itl_p50_beside", "itl_p99_beside",
                                              "tokens_beside", "steps_beside", "itl_p99_beside_of_itl_p99"])
        self.assertEqual(rows["itl_p99_beside"]["limit_name"], "itl_p99")

    def test_engine_measures_what_adapters_cost(self):
        out = harness.run_pixii("bench", "engine", "--shape", "tiny", "--adapters", "5", "--rank", "3", "--repeats", "2", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        rows = self.check_report(out.stdout, ["decode_b5", "decode_b5_adapters", "adapter_step_cost", "adapter_size"])
        # Both halves of every linear of both layers in bf16: (inputs + outputs) x rank x 2 bytes.
        widths = (64 + 64) + 2 * (64 + 32) + (64 + 64) + 2 * (64 + 160) + (160 + 64)
        self.assertEqual(rows["adapter_size"]["value"], 2 * widths * 3 * 2)
        self.assertGreater(rows["adapter_step_cost"]["value"], 0)

    def test_engine_measures_every_kind_of_weight(self):
        for dtype in ("int8", "int4", "q8_0", "q4_0"):
            with self.subTest(dtype=dtype):
                out = harness.run_pixii("bench", "engine", "--shape", "tiny-chat", "--dtype", dtype, "--repeats", "1", "--json",
                                        timeout=600)
                self.assertEqual(out.returncode, 0, out.stderr)
                rows = self.check_report(out.stdout, ["gemm", "prefill_512", "decode_b1"])
                self.assertEqual(rows["gemm"]["limit_name"], "multiply-add peak")

    def test_transfers_are_measured_beside_what_the_machine_gives(self):
        out = harness.run_pixii("bench", "transfer", "--repeats", "1", "--scale", "0.001", "--no-tools", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        shapes = ["64k", "1m", "16m", "64x32k"]
        rows = self.check_report(out.stdout, [f"{what}_{shape}" for shape in shapes for what in (
            "memcpy", "shm_write", "shm_read", "shm_two_sided", "socket", "tcp_write", "tcp_read", "tcp_checked_write",
            "tcp_checked_read", "ucx_read", "ucx_write", "libfabric_read", "libfabric_write")] +
            ["shm_notification", "uring_write_64k", "disk_checked_write_64k", "disk_read_16m"])
        for shape in shapes:
            self.assertEqual(rows[f"shm_write_{shape}"]["limit_name"], f"memcpy_{shape}")
            self.assertEqual(rows[f"tcp_checked_read_{shape}"]["limit_name"], f"socket_{shape}")
            self.assertGreater(rows[f"ucx_read_{shape}"]["value"], 0)
            self.assertGreater(rows[f"libfabric_write_{shape}"]["value"], 0)
            self.assertGreater(rows[f"tcp_write_{shape}"]["value"], 0)

    def test_reads_through_ucx_are_measured_beside_its_own_program(self):
        out = harness.run_pixii("bench", "transfer", "--only", "ucx", "--repeats", "1", "--scale", "0.001", "--json", timeout=600)
        self.assertEqual(out.returncode, 0, out.stderr)
        rows = self.check_report(out.stdout, ["ucx_tool_64k", "ucx_read_64k"])
        self.assertEqual(rows["ucx_read_64k"]["limit_name"], "ucx_tool_64k")

    def test_kv_measures_conversations_that_come_back_from_each_tier(self):
        with tempfile.TemporaryDirectory() as disk:
            out = harness.run_pixii("bench", "kv", "--context", "128", "--turn", "16", "--cache-tokens", "512", "--working-set", "3",
                                    "--repeats", "1", "--disk", disk, "--json")
            self.assertEqual(os.listdir(disk), [])
        self.assertEqual(out.returncode, 0, out.stderr)
        names = ("ttft_none", "ttft_host", "ttft_disk", "host_speedup", "disk_speedup", "host_tokens", "disk_tokens", "prefill",
                 "block", "host_read_of_prefill", "disk_read_of_prefill", "gap_device", "gap_free", "gap_paced", "share_used_free",
                 "share_used_paced", "share_configured", "memory_bandwidth")
        rows = self.check_report(out.stdout, (*names, "slowdown_free", "slowdown_paced"))
        for name in names:  # also the tokens that came and were not computed
            self.assertGreater(rows[name]["value"], 0, name)

    def test_media_measures_a_picture_on_its_way_to_a_tower(self):
        out = harness.run_pixii("bench", "media", "--repeats", "1", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        rows = self.check_report(out.stdout, ["floor", "decode", "patches", "clip", "tower", "kept"])
        for name in ("decode", "patches", "clip"):
            self.assertEqual(rows[name]["limit_name"], "libjpeg-turbo decodes")
            self.assertGreater(rows[name]["value"], 0)
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"no JPEG")
            file.flush()
            out = harness.run_pixii("bench", "media", "--image", file.name)
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("JPEG", out.stderr)

    def test_diffusion_measures_a_step_and_a_decoding_beside_the_peak(self):
        out = harness.run_pixii("bench", "diffusion", "--frames", "1", "--vae-width", "16", "--vae-height", "8", "--repeats", "1", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        cases = ["dit_tiny", "vae_tiny", "dit_tiny_bf16", "dit_wan", "dit_wan_bf16", "vae_wan"]
        rows = self.check_report(out.stdout, [*cases, "multiply_add", "multiply_add_bf16"])
        for name in cases:
            self.assertEqual(rows[name]["limit_name"], "multiply-add peak")
            self.assertGreater(rows[name]["fraction"], 0)
        out = harness.run_pixii("bench", "diffusion", "--frames", "0")
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("frames", out.stderr)

    def test_diffusion_measures_one_case_alone(self):
        small = ["--frames", "1", "--vae-width", "16", "--vae-height", "8", "--repeats", "1"]
        out = harness.run_pixii("bench", "diffusion", *small, "--only", "dit_tiny", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.check_report(out.stdout, ["dit_tiny", "multiply_add", "multiply_add_bf16"])
        out = harness.run_pixii("bench", "diffusion", *small, "--only", "dit")
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("vae_tiny", out.stderr)

    def test_router_measures_its_index_and_its_decisions(self):
        out = harness.run_pixii("bench", "router", "--blocks", "20000", "--workers", "50", "--seconds", "0.05", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        rows = self.check_report(out.stdout, ["stored", "lookup", "block_size", "further_size", "stored_opaque", "lookup_opaque",
                                              "decision_p50", "decision_p99", "budget_used", "budget_found_often", "budget_found_once"])
        self.assertEqual(rows["budget_wrong"]["value"], 0)
        for name in ("stored", "lookup", "decision_p50"):
            self.assertGreater(rows[name]["value"], 0)

    def test_cluster_measures_what_each_hop_takes(self):
        out = harness.run_pixii("bench", "cluster", "--frontends", "2", "--workers", "3", "--seconds", "0.2", "--repeats", "2",
                                "--output-tokens", "4", "--stream-tokens", "20", "--connections", "4", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        rows = self.check_report(out.stdout, ["direct_ttft_p50", "cluster_ttft_p99", "added_ttft_p50", "added_latency_p99",
                                              "frontend_cpu", "router_cpu", "worker_cpu", "direct_cpu", "cluster_capacity", "rate",
                                              "own_added_latency_p50", "own_frontend_cpu", "own_worker_cpu"])
        self.assertNotIn("own_router_cpu", rows)
        self.assertGreater(rows["router_cpu"]["high"], 0)  # it was asked
        for name in ("direct_latency_p50", "cluster_latency_p50", "cluster_stream", "cluster_rate", "own_cluster_latency_p50"):
            self.assertGreater(rows[name]["value"], 0)
        # The load that is asked for is that of half of what the cluster takes.
        self.assertAlmostEqual(rows["rate"]["value"] / rows["cluster_capacity"]["value"], 0.5, places=6)

    def test_a_trace_is_replayed_by_every_mode(self):
        # Six conversations of four turns; each turn's prompt is the last one's and 512 tokens more.
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trace.jsonl"
            rows = [{"timestamp": 4000 * turn + 700 * talk, "input_length": 512 * (turn + 2) - 7, "output_length": 6,
                     "hash_ids": [100 * talk + block for block in range(turn + 2)]} for turn in range(4) for talk in range(6)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            results = {}
            for mode in ("kv", "round-robin", "random", "power-of-two", "least-loaded"):
                flags = ["simulate", "--scenario", "trace", "--trace", str(path), "--workers", "5", "--router-mode", mode,
                         "--router-kv-events", "--json"]
                out = harness.run_pixii(*flags)
                self.assertEqual(out.returncode, 0, out.stderr)
                got = {name: row["value"] for name, row in self.check_report(out.stdout, ["ttft_mean", "itl_p99"]).items()}
                self.assertEqual((got["requests"], got["finished"], got["refused"], got["output_tokens"]), (24, 24, 0, 144))
                self.assertLessEqual(got["chosen_hit_rate"], got["oracle_hit_rate"])
                results[mode] = got
                again = json.loads(harness.run_pixii(*flags).stdout)
                self.assertEqual(again["results"], json.loads(out.stdout)["results"])
            # All whole blocks of 64 tokens of the last turn, which end 7 tokens before its prompt does.
            hits = sum(512 * (turn + 1) // 64 * 64 - 64 for turn in range(1, 4)) * 6 / sum(row["input_length"] for row in rows)
            self.assertAlmostEqual(results["kv"]["hit_rate"], hits)
            self.assertAlmostEqual(results["kv"]["oracle_hit_rate"], hits)
            self.assertLess(results["round-robin"]["hit_rate"], hits)
            self.assertLess(results["kv"]["ttft_mean"], results["round-robin"]["ttft_mean"])

    def test_a_trace_of_azure_is_read_and_wrong_ones_are_named(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "trace.csv"
            path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
                            "2023-11-16 18:17:04.0319600,3180,8")
            flags = ["simulate", "--scenario", "trace", "--trace", str(path), "--json"]
            out = harness.run_pixii(*flags)
            self.assertEqual(out.returncode, 0, out.stderr)
            rows = self.check_report(out.stdout, ["ttft_mean"])
            self.assertEqual((rows["prompt_tokens"]["value"], rows["output_tokens"]["value"], rows["seen_rate"]["value"]),
                             (7988, 18, 0))
            path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n")
            for more, word in (([], "line 2"), (["--trace", folder + "/none"], "none"), (["--trace", ""], "--trace FILE"),
                               (["--router-mode", "direct"], "line 2")):
                out = harness.run_pixii(*flags, *more)
                self.assertEqual(out.returncode, 2)
                self.assertIn(word, out.stderr)

    def test_serve_counts_every_token_of_every_request(self):
        with harness.Server() as server:
            out = harness.run_pixii("bench", "serve", "--port", str(server.port), "--requests", "24", "--concurrency", "8",
                                    "--input-tokens", "40", "--output-tokens", "20", "--repeats", "2", "--json")
            self.assertEqual(out.returncode, 0, out.stderr)
            rows = self.check_report(out.stdout, ["ttft_p50", "itl_p99", "output_throughput", "request_throughput"])
            self.assertEqual(rows["failed_requests"]["value"], 0)
            counted = sum(v for k, v in server.metrics().items() if k.startswith("dynamo_frontend_output_tokens_total"))
            self.assertEqual(counted, 2 * 24 * 20)

    def test_serve_talks_in_turns_and_over_several_concurrencies(self):
        with harness.Server() as server, tempfile.TemporaryDirectory() as folder:
            base = ["bench", "serve", "--url", f"http://localhost:{server.port}", "--repeats", "1", "--output-tokens", "5", "--json"]
            path = pathlib.Path(folder) / "turns.json"
            out = harness.run_pixii(*base, "--requests", "12", "--turns", "3", "--turn-delay", "1ms", "--concurrency", "2",
                                    "--input-tokens", "40", "--profile-export", str(path))
            self.assertEqual((out.returncode, out.stderr), (0, ""), "no bar where there is no terminal")
            rows = self.check_report(out.stdout, ["ttft_later_turns_p50"])
            self.assertEqual(rows["failed_requests"]["value"], 0)
            lengths = sorted(row["input_sequence_length"] for row in json.loads(path.read_text())["pixii_requests"])
            self.assertEqual(lengths, [40] * 4 + [85] * 4 + [130] * 4)  # what was said before, answers too, stands in front
            cached = sum(v for k, v in server.metrics().items() if k.startswith("dynamo_frontend_cached_tokens_sum"))
            self.assertGreaterEqual(cached, 4 * (32 + 80))
            page = pathlib.Path(folder) / "page.html"
            out = harness.run_pixii(*base, "--requests", "8", "--input-tokens", "20", "--sweep", "1,2,4", "--html", str(page))
            self.assertEqual(out.returncode, 0, out.stderr)
            self.check_report(out.stdout, ["ttft_p50@1", "output_throughput@2", "latency_p99@4"])
            for name in ("1 at a time", "4 at a time"):
                self.assertIn(name, page.read_text())
            out = harness.run_pixii(*base, "--sweep", "1,x")
            self.assertEqual(out.returncode, 2)
            self.assertIn('"x"', out.stderr)

    def on_terminal(self, *arguments):
        """What a command writes to standard error where that is a terminal."""
        ours, its = pty.openpty()
        try:
            with open(its, "wb", closefd=True) as terminal:
                done = subprocess.run([harness.BINARY, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal,
                                      timeout=120)
            self.assertEqual(done.returncode, 0)
            said = b""
            with contextlib.suppress(OSError):  # nobody has the other end open any more
                while piece := os.read(ours, 65536):
                    said += piece
            return said.decode()
        finally:
            os.close(ours)

    def test_long_work_shows_how_far_it_is_in_a_terminal(self):
        with harness.Server() as server:
            said = self.on_terminal("bench", "serve", "--port", str(server.port), "--requests", "8", "--repeats", "1", "--output-tokens", "4")
        self.assertRegex(said, r"requests, 32 at a time \[#+\.*\] +[0-9]+ %")
        self.assertTrue(said.endswith("\r\x1b[K"), "it leaves nothing behind")
        self.assertRegex(self.on_terminal("chat", "tiny-chat"), r"loading tiny-chat \[#*\.*\] +[0-9]+ %")

    def test_serve_takes_plans_traces_and_limits_and_writes_aiperfs_names(self):
        with harness.Server() as server, tempfile.TemporaryDirectory() as folder:
            base = ["bench", "serve", "--port", str(server.port), "--repeats", "1", "--json"]
            exports = [f"{folder}/{name}.json" for name in "ab"]
            for path in exports:
                out = harness.run_pixii(*base, "--requests", "24", "--rate", "200", "--rate-end", "400", "--arrival", "gamma", "--burstiness",
                                        "0.5", "--concurrency", "2", "--input-tokens", "40", "--input-tokens-stddev", "9", "--output-tokens",
                                        "8", "--output-tokens-stddev", "3", "--shared-prefix", "16", "--prefix-groups", "2", "--warmup", "3",
                                        "--slo", "ttft:0.0001,itl:100000", "--profile-export", path)
                self.assertEqual(out.returncode, 0, out.stderr)
                rows = self.check_report(out.stdout, ["ttft_p99.9", "itl_p75", "tpot_p95", "latency_p50", "send_delay_p99", "ttft_mean"])
                self.assertEqual((rows["failed_requests"]["value"], rows["good_share"]["value"]), (0, 0))
            files = [json.loads(pathlib.Path(path).read_text()) for path in exports]
            for name in ("input_sequence_length", "output_sequence_length"):
                self.assertEqual(files[0][name], files[1][name])  # of the seed alone
                self.assertGreater(files[0][name]["std"], 0)
            self.assertEqual(files[0]["request_count"], {"unit": "requests", "avg": 24})
            self.assertEqual(files[0]["time_to_first_token"]["count"], 24)
            for row in files[0]["pixii_requests"]:  # all of it counts from the arrival
                self.assertLessEqual(row["send_delay_ms"], row["time_to_first_token"])
            out = harness.run_pixii("bench", "compare", exports[0], exports[0])
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assertEqual(out.stdout.count("not told apart"), 12, out.stdout)
            trace = pathlib.Path(folder) / "trace.jsonl"
            trace.write_text("".join(json.dumps({"timestamp": 5 * i, "input_length": 20 + i, "output_length": 3, "hash_ids": [1, 50 + i]}) + "\n"
                                     for i in range(10)))
            out = harness.run_pixii(*base, "--trace", str(trace), "--trace-block-size", "16", "--speed", "2", "--profile-export", exports[1])
            self.assertEqual(out.returncode, 0, out.stderr)
            lengths = json.loads(pathlib.Path(exports[1]).read_text())["input_sequence_length"]
            self.assertEqual((lengths["min"], lengths["max"], lengths["count"]), (20, 29, 10))
            page = pathlib.Path(folder) / "page.html"
            out = harness.run_pixii("bench", "report", *exports, "--out", str(page))
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assertEqual(page.read_text().count("<svg "), 5)
            self.assertIn("b.json", page.read_text())
            out = harness.run_pixii("bench", "report", str(trace), "--out", str(page))
            self.assertEqual(out.returncode, 2)
            for flags, word in ((["--slo", "tpot:4"], "slo"), (["--rate-end", "4"], "rate-end"), (["--trace", folder + "/none"], "none")):
                out = harness.run_pixii(*base, *flags)
                self.assertEqual(out.returncode, 2)
                self.assertIn(word, out.stderr)

    def test_frontend_measures_every_case_with_and_without_nginx(self):
        cases = ["floor", "health", "health_cpu", "health_pipelined", "chat_1_token", "completion_1_token",
                 "completion_1_token_cpu", "ttft_c1_p50", "ttft_c8_p99", "stream", "stream_cpu", "stream_events"]
        out = harness.run_pixii("bench", "frontend", "--seconds", "0.05", "--repeats", "2", "--connections", "8",
                                "--output-tokens", "20", "--nginx", "/nowhere/nginx", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("without nginx", out.stderr)
        rows = self.check_report(out.stdout, cases)
        self.assertIsNone(rows["health"]["limit"])
        # One event a token, the finish, the usage and [DONE], less what ends inside a character.
        self.assertTrue(0.5 < rows["stream_events"]["value"] <= 23 / 20, rows["stream_events"])
        if HAS_NGINX:
            out = harness.run_pixii("bench", "frontend", "--seconds", "0.05", "--repeats", "1", "--json")
            self.assertEqual(out.returncode, 0, out.stderr)
            rows = self.check_report(out.stdout, ["nginx", "nginx_cpu", "nginx_c1_p50", "health_of_nginx"])
            self.assertEqual(rows["health"]["limit_name"], "nginx")

    def test_an_interrupted_frontend_bench_leaves_no_server_behind(self):
        process = subprocess.Popen([harness.BINARY, "bench", "frontend", "--seconds", "60", "--only", "stream"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wanted = 2 if HAS_NGINX else 1
        harness.wait_for(lambda: len(children.read_text().split()) == wanted, 20, "its servers")
        pids = children.read_text().split()
        process.terminate()
        self.assertNotEqual(process.wait(timeout=30), 0)
        process.stderr.close()
        for pid in pids:
            self.assertFalse(os.path.exists(f"/proc/{pid}"), pid)

    def test_a_server_that_is_not_there_is_named(self):
        out = harness.run_pixii("bench", "serve", "--port", "1", "--requests", "1")
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("refused", out.stderr.lower())


if __name__ == "__main__":
    harness.main()
