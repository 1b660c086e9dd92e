"""TensorRT-LLM's engine YAML as a deployment brings it: --extra-engine-args, --override-engine-args, --trtllm.KEY."""
import json
import pathlib
import re
import tempfile
import unittest

import harness

# Every key that becomes an option, with a value for it.
WHOLE = """
model: tiny-chat
tokenizer: tiny-chat
dtype: bfloat16
max_batch_size: 16
max_input_len: 900
max_seq_len: 1024
max_num_tokens: 256
scheduler_config:
  capacity_scheduler_policy: GUARANTEED_NO_EVICT
  dynamic_batch_config: {dynamic_batch_moving_average_window: 128}
disable_overlap_scheduler: true
enable_chunked_prefill: true
cuda_graph_config: {enable_padding: true}
kv_cache_config:
  enable_block_reuse: true
  max_tokens: 4096
  tokens_per_block: 32
  dtype: bfloat16
  free_gpu_memory_fraction: 0.5
  host_cache_size: 1048576
cache_transceiver_config:
  backend: DEFAULT
  transceiver_runtime: CPP
  max_tokens_in_buffer: 64
  kv_transfer_timeout_ms: 30000
  kv_transfer_sender_future_timeout_ms: 1000
  kv_transfer_poll_interval_ms: 5000
  kv_cache_bounce_size_mb: 0
  enable_pipelined_transfer: true
speculative_config:
  decoding_type: DraftTarget
  speculative_model: tiny-draft
  max_draft_len: 2
  num_nextn_predict_layers: 2
  max_concurrency: 4
enable_lora: true
lora_config: {max_lora_rank: 64, max_loras: 3, max_cpu_loras: 5, lora_target_modules: [attn_q, attn_k]}
peft_cache_config: {host_cache_size: 10485760}
backend: pytorch
trust_remote_code: true
"""


class EngineYaml(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, text):
        path = pathlib.Path(self.folder.name) / "engine.yaml"
        path.write_text(text)
        return str(path)

    def config(self, *flags):
        done = harness.run_pixii("serve", *flags, "--print-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = {}
        for line in done.stdout.splitlines():
            name, value, source = re.split(r"\s+", line, maxsplit=2)
            rows[name] = (value, source)
        return rows, done.stderr

    def refused(self, *flags):
        done = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
        self.assertEqual(done.returncode, 2, done.stdout)
        return done.stderr

    def test_a_server_runs_with_it_and_says_where_values_came_from(self):
        path = self.file(WHOLE)
        rows, _ = self.config("--extra-engine-args", path)
        for name, value in {"max-batch": "16", "max-context": "1024", "max-batched-tokens": "256", "admission": "guaranteed",
                            "kv-tokens": "4096", "block-size": "32", "kv-dtype": "bf16", "kv-memory-fraction": "0.5",
                            "swap-memory": "1MiB", "speculation": "draft", "draft-model": "tiny-draft", "draft-tokens": "2",
                            "draft-max-batch": "4", "prefix-cache": "true", "overlap": "false", "max-input-tokens": "900",
                            "dtype": "bf16", "tokenizer": "tiny-chat", "kv-transfer": "default", "kv-transfer-buffer-tokens": "64",
                            "kv-transfer-timeout-ms": "30000"}.items():
            self.assertEqual(rows[name][0], value, name)
            self.assertTrue(rows[name][1].startswith(f"engine args {path}:"), rows[name])
        with harness.Server("tiny-chat", "--extra-engine-args", path) as server:
            metrics = server.metrics()
            self.assertEqual(metrics['dynamo_frontend_model_max_num_seqs{model="tiny-chat"}'], 16)
            self.assertEqual(metrics['dynamo_frontend_model_kv_cache_block_size{model="tiny-chat"}'], 32)
            self.assertEqual(metrics['dynamo_frontend_model_total_kv_blocks{model="tiny-chat"}'], 4096 / 32)
            self.assertEqual(metrics['dynamo_frontend_model_context_length{model="tiny-chat"}'], 1024)
            status, answer = server.post("/v1/completions", {"prompt": "Hello", "max_tokens": 8, "temperature": 0})
            self.assertEqual(status, 200, answer)
        with harness.Server("tiny-chat") as plain:
            self.assertEqual(plain.post("/v1/completions", {"prompt": "Hello", "max_tokens": 8, "temperature": 0})[1]["choices"],
                             answer["choices"])

    def test_an_imported_file_starts_a_server_and_keeps_what_it_was(self):
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder) / "theirs.yaml", pathlib.Path(folder) / "ours.yaml"
            source.write_text(WHOLE + "print_iter_log: true\nno_such_key: 1\n")
            out = harness.run_pixii("config", "import", str(source), "--out", str(target))
            self.assertEqual(out.returncode, 1, out.stderr)
            self.assertIn("max_batch_size: renamed: --max-batch 16\n", out.stdout)
            self.assertIn("enable_chunked_prefill: without effect\n", out.stdout)
            lines = len(WHOLE.splitlines())
            for line, key in ((lines + 1, "print_iter_log"), (lines + 2, "no_such_key")):
                self.assertRegex(out.stdout, f"refused: {source}:{line}: .*{key}")
            self.assertIn(", 2 refused\n", out.stdout)
            again = harness.run_pixii("config", "import", str(target))
            self.assertEqual(again.returncode, 0, again.stdout)
            source.write_text(WHOLE)
            printed = [harness.run_pixii("serve", "--extra-engine-args", str(path), "--print-config").stdout.replace(path.name, "")
                       for path in (source, target)]
            self.assertIn("max-batch", printed[0])
            # Lines of the files aside, they say the same.
            self.assertEqual(*[re.sub(r":\d+", "", text) for text in printed])
            for words, word in ((["export"], "import"), (["import", folder + "/none"], "none")):
                out = harness.run_pixii("config", *words)
                self.assertEqual(out.returncode, 2)
                self.assertIn(word, out.stderr)

    def test_yaml_beats_flags_and_the_override_beats_yaml(self):
        path = self.file("max_batch_size: 8\nkv_cache_config: {max_tokens: 4096}\n")
        rows, said = self.config("tiny-chat", "--max-batch", "4", "--extra-engine-args", path)
        self.assertEqual(rows["max-batch"][0], "8")
        self.assertIn("takes the place of --max-batch 4", said)
        rows, said = self.config("tiny-chat", "--extra-engine-args", path,
                                 "--override-engine-args", json.dumps({"kv_cache_config": {"max_tokens": 8192}}))
        self.assertEqual((rows["kv-tokens"][0], rows["max-batch"][0]), ("8192", "8"))
        self.assertIn("max_tokens 8192 takes the place of 4096", said)
        dotted, _ = self.config("tiny-chat", "--extra-engine-args", path, "--trtllm.kv_cache_config.max_tokens", "8192")
        self.assertEqual(dotted["kv-tokens"][0], "8192")
        self.assertIn("exclude", self.refused("--trtllm.max_batch_size", "2", "--override-engine-args", "{}"))

    def test_what_is_wrong_is_said_with_place_and_suggestion(self):
        for text, word in (("kv_cache_config:\n  max_token: 5\n", "engine.yaml:2: unknown key kv_cache_config.max_token; did you mean kv_cache_config.max_tokens?"),
                           ("context_parallel_size: 2", "engine.yaml:1: context_parallel_size: 2 is not available"),
                           ("max_batch_size: 0", "1 .. 4096"), ("max_batch_size: [8]", "one plain value"),
                           ("model: other", "was asked for"), ("a: [", "engine.yaml")):
            self.assertIn(word, self.refused("--extra-engine-args", self.file(text)), text)
        self.assertIn("no JSON", self.refused("--override-engine-args", "{'max_batch_size': 4}"))
        self.assertIn("nowhere.yaml", self.refused("--extra-engine-args", "/nowhere.yaml"))

    def test_every_mapped_key_of_the_reference_is_tried_here(self):
        page = (harness.ROOT / "docs/reference/engine_yaml.md").read_text()
        keys = re.findall(r"^\| `([a-z_.]+)` \| `", page, re.M)
        self.assertGreater(len(keys), 20)
        ranks = {"tensor_parallel_size": ("tensor-parallel-size", "2"), "pipeline_parallel_size": ("pipeline-parallel-size", "2"), "enable_attention_dp": ("enable-attention-dp", "true"),
                 "attention_dp_config.enable_balance": ("attention-dp-balance", "true"),
                 "attention_dp_config.timeout_iters": ("attention-dp-timeout-iters", "7"),
                 "attention_dp_config.batching_wait_iters": ("attention-dp-batching-wait-iters", "3"),
                 "attention_dp_config.conversation_affinity": ("conversation-affinity", "true"),
                 "attention_dp_config.max_sessions": ("conversation-affinity-max-sessions", "99")}
        tiers = {"kv_cache_config.disk_cache_size": ("kv-disk-bytes", "2MiB", "2097152"),
                 "kv_cache_config.disk_cache_path": ("kv-disk", "/fast/disk", "/fast/disk"),
                 "kv_connector_config.connector_module": ("connector", "kvbm", "kvbm.trtllm_integration.connector")}
        elsewhere = {"revision", "kv_cache_config.max_gpu_total_bytes", "speculative_config.speculative_model_dir", *ranks, *tiers}
        for key in keys:
            if key not in elsewhere:
                self.assertRegex(WHOLE, rf"\b{key.rsplit('.', 1)[-1]}:", key)
        words = [word for key, (_, _, given) in tiers.items() for word in (f"--trtllm.{key}", given)]
        rows, _ = self.config("tiny-chat", *words)
        for name, value, _ in tiers.values():
            self.assertEqual(rows[name][0], value, name)
        rows, _ = self.config("org/name", "--trtllm.revision", "abc", "--trtllm.kv_cache_config.max_gpu_total_bytes", "2097152",
                              "--trtllm.speculative_config.decoding_type", "DraftTarget",
                              "--trtllm.speculative_config.speculative_model_dir", "x")
        self.assertEqual((rows["revision"][0], rows["kv-memory"][0], rows["draft-model"][0]), ("abc", "2MiB", "x"))
        words = [word for key, (_, value) in ranks.items() for word in (f"--trtllm.{key}", value)]
        rows, _ = self.config("tiny-chat", *words)
        self.assertEqual({name: rows[name][0] for name, _ in ranks.values()}, dict(ranks.values()))


if __name__ == "__main__":
    harness.main()
