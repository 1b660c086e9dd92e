"""Flags of Dynamo's worker for TensorRT-LLM on `pixii worker` and `pixii serve`: table A12 of the engine's specification."""
import concurrent.futures
import os
import pathlib
import re
import tempfile
import unittest

import harness

# Flag, a value that is taken, the option that it sets and how that prints. Those that change nothing keep their own name.
TAKEN = (
    ("model", "tiny-chat", None, None), ("model-path", "tiny-chat", "model", "tiny-chat"),
    ("served-model-name", "a", "served-model-name", "a"), ("tensor-parallel-size", "2", "tensor-parallel-size", "2"),
    ("pipeline-parallel-size", "2", "pipeline-parallel-size", "2"), ("expert-parallel-size", "1", None, None),
    ("enable-attention-dp", None, "enable-attention-dp", "true"), ("conversation-affinity", None, "conversation-affinity", "true"),
    ("conversation-affinity-dp-rank-source", "dynamo", None, None), ("kv-block-size", "16", None, None), ("gpus-per-node", "8", None, None),
    ("max-batch-size", "4", "max-batch", "4"), ("max-num-tokens", "256", "max-batched-tokens", "256"),
    ("max-seq-len", "512", "max-context", "512"), ("max-beam-width", "4", None, None),
    ("free-gpu-memory-fraction", "0.5", "kv-memory-fraction", "0.5"), ("override-engine-args", "{}", None, None),
    ("publish-kv-events", None, "publish-kv-events", "true"), ("publish-events-and-metrics", None, "publish-kv-events", "true"),
    ("load-format", "auto", None, None), ("disaggregation-mode", "agg", "role", "agg"), ("disaggregation-mode", "pd", "role", "agg"),
    ("enable-multimodal", None, None, "true"), ("modality", "multimodal", None, None), ("allowed-local-media-path", "/tmp", None, None),
    ("max-file-size-mb", "10", None, None), ("frontend-decoding", None, None, "true"), ("guided-decoding-backend", "xgrammar", None, None),
    ("quant-algo", "none", None, None), ("quant-dynamic", None, None, "true"), ("teacache-use-ret-steps", None, None, "true"),
    ("teacache-thresh", "0.3", None, None), ("torch-dtype", "bfloat16", None, None), ("revision", "main", None, None),
    ("disable-torch-compile", None, None, "true"), ("enable-fullgraph", None, None, "true"), ("attn-backend", "TRTLLM", None, None),
    ("dit-ulysses-size", "1", None, None), ("dit-ring-size", "1", None, None), ("dit-cfg-size", "1", None, None),
    ("skip-warmup", None, None, "true"), ("default-height", "480", None, None), ("default-width", "832", None, None),
    ("default-num-inference-steps", "50", None, None), ("default-guidance-scale", "5", None, None), ("default-num-frames", "81", None, None),
    ("default-num-images-per-prompt", "1", None, None), ("namespace", "a", None, None), ("endpoint", "dyn://a.b.c", "endpoint", "c"),
    ("endpoint-types", "chat,completions", None, None), ("discovery-backend", "etcd", None, None), ("request-plane", "tcp", None, None),
    ("event-plane", "zmq", None, None), ("connector", "kvbm", None, None), ("dyn-tool-call-parser", "hermes", None, None),
    ("dyn-reasoning-parser", "qwen3", None, None), ("exclude-tools-when-tool-choice-none", None, None, "true"),
    ("dyn-enable-structural-tag", None, None, "true"), ("dyn-structural-tag-scope", "always", None, None),
    ("dyn-structural-tag-schema", "strict", None, None), ("multimodal-embedding-cache-capacity-gb", "1", None, None),
    ("output-modalities", "text", None, None))

# Flag, value, a word of the reason.
REFUSED = (
    ("expert-parallel-size", "2", "tensor-parallel-size"), ("load-format", "gms", "GPUs"), ("load-format", "dummy", "mock"),
    ("model-loader-extra-config", "{}", "one loader"), ("modality", "video_diffusion", "pixii serve"), ("quant-algo", "FP8", "pixii quantize"),
    ("enable-teacache", None, "every step"), ("torch-dtype", "float32", "--dtype"), ("enable-cuda-graph", None, "graphs"),
    ("dit-ring-size", "2", "dit-ulysses-size"), ("enable-layerwise-nvtx-marker", None, "NVTX"), ("default-height", "512", "model's own files"),
    ("default-num-frames", "5", "model's own files"), ("endpoint-types", "chat", "disable-endpoints"), ("request-plane", "nats", "tcp"),
    ("connector", "nixl", "kvbm"), ("dyn-default-thinking-mode", "enabled", "enable_thinking"), ("custom-jinja-template", "a.jinja", "--tokenizer"),
    ("output-modalities", "image", "pixii serve"), ("media-output-fs-url", "file:///tmp", "pixii serve"),
    ("media-output-http-url", "http://a", "pixii serve"), ("health-check-payload", "{}", "canary-interval"),
    ("engine-request-limit", "8", "queue-length"), ("durable-kv-events", None, "JetStream"), ("kv-block-size", "32", "--block-size"),
    ("disaggregation-mode", "prefill_and_decode", "agg, pd"), ("endpoint", "dyn://a.b", "NAMESPACE.COMPONENT.ENDPOINT"))

# Defaults of the tables 12.2 to 12.4 beside what `pixii worker --print-config` says where they are others, each with the reason.
DEFAULTS = {
    "tensor-parallel-size": "1", "pipeline-parallel-size": "1", "enable-attention-dp": "false", "conversation-affinity": "false",
    "conversation-affinity-dp-rank-source": "engine", "max-beam-width": "1", "load-format": "auto", "enable-multimodal": "false",
    "modality": "text", "max-file-size-mb": "50", "frontend-decoding": "false", "guided-decoding-backend": "none", "quant-algo": "none",
    "quant-dynamic": "true", "enable-teacache": "false", "teacache-use-ret-steps": "true", "teacache-thresh": "0.2",
    "torch-dtype": "bfloat16", "disable-torch-compile": "false", "enable-fullgraph": "false", "enable-cuda-graph": "false",
    "attn-backend": "VANILLA", "dit-ulysses-size": "1", "dit-ring-size": "1", "dit-cfg-size": "1", "enable-layerwise-nvtx-marker": "false",
    "skip-warmup": "false", "default-height": "480", "default-width": "832", "default-num-inference-steps": "50",
    "default-guidance-scale": "5", "default-num-frames": "81", "default-num-images-per-prompt": "1", "namespace": "dynamo",
    "endpoint-types": "chat,completions", "request-plane": "tcp", "exclude-tools-when-tool-choice-none": "true",
    "dyn-enable-structural-tag": "false", "dyn-structural-tag-scope": "auto", "dyn-structural-tag-schema": "auto", "output-modalities": "text",
    "role": "agg", "encode-endpoint": '""', "allowed-local-media-path": '""', "extra-engine-args": '""', "override-engine-args": '""',
}
OTHER_DEFAULTS = {  # option: (Dynamo's, ours)
    "model": ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", '""'),  # the bundled tiny-chat: nothing is fetched unasked
    "kv-block-size": ("32", "0"),  # what the engine has, 16: smaller blocks find more of a prefix
    "max-batch": ("2048", "64"), "max-batched-tokens": ("8192", "512"),  # sizes of a machine without a GPU
    "kv-memory-fraction": ("0.9", "0"),  # the memory is the machine's, not a GPU's: kv-memory says how much
    "publish-kv-events": ("false", "true"),  # nothing is sent unless a router asks
    "multimodal-embedding-cache-capacity-gb": ("0", "-1"),  # media-cache, 256 MiB, says it
    "discovery-backend": ("etcd", "none"),  # a folder: no server is needed
    "event-plane": ("auto", "direct"),
    "expert-parallel-size": ("none", "1"),
}


def flag_words(flag, value):
    return [f"--{flag}"] if value is None else [f"--{flag}", value]


class Flags(unittest.TestCase):
    def config(self, *flags, command="worker", env=None):
        done = harness.run_pixii(command, *flags, "--print-config", env=env)
        self.assertEqual(done.returncode, 0, f"{flags} {done.stderr}")
        rows = {}
        for line in done.stdout.splitlines():
            name, value, source = re.split(r"\s+", line, maxsplit=2)
            rows[name] = (value, source)
        return rows, done.stderr

    def test_every_flag_is_taken_by_itself_and_says_what_it_sets(self):
        # All at once where they go together, for each start takes its time.
        odd = {"model-path", "publish-events-and-metrics", "kv-block-size", "tensor-parallel-size", "pipeline-parallel-size"}
        together, seen = [], set()
        for flag, value, option, printed in TAKEN:
            if flag in odd or flag in seen or (flag, value) == ("disaggregation-mode", "agg"):
                rows, _ = self.config(*flag_words(flag, value))
                self.assertEqual(rows[option or flag][0], printed or value, flag)
            else:
                seen.add(flag)
                together += flag_words(flag, value)
        rows, said = self.config(*together)
        for flag, value, option, printed in TAKEN:
            if flag in seen and (flag, value) != ("disaggregation-mode", "agg"):
                wanted = printed or value
                self.assertEqual(rows[option or flag][0], wanted, flag)
                self.assertRegex(rows[option or flag][1], f"^flag --{flag}", flag)
        for flag in ("allowed-local-media-path", "max-file-size-mb", "dyn-tool-call-parser", "dyn-reasoning-parser"):
            self.assertRegex(said, f"{flag} changes nothing here; frontends", flag)
        self.assertEqual((rows["namespace"][0], rows["component"][0]), ("a", "b"))

    def test_booleans_are_taken_back(self):
        for flag in ("enable-multimodal", "frontend-decoding", "quant-dynamic", "publish-kv-events", "enable-attention-dp",
                     "dyn-enable-structural-tag", "skip-warmup"):
            rows, _ = self.config(f"--no-{flag}")
            self.assertEqual(rows[flag][0], "false", flag)

    def test_what_is_not_done_is_refused_with_the_reason(self):
        for flag, value, why in REFUSED:
            done = harness.run_pixii("worker", "tiny-chat", *flag_words(flag, value), "--check-config")
            self.assertEqual(done.returncode, 1, f"{flag} {done.stdout}")
            self.assertRegex(done.stderr, rf"^pixii: .*{re.escape(flag.split('-')[0])}", flag)
            self.assertIn(why, done.stderr, flag)

    def test_every_flag_of_the_table_of_options_stands_here(self):
        table = (harness.ROOT / "src/apps/trtllm_options.def").read_text()
        named = {flag for flag, *_ in TAKEN} | {flag for flag, *_ in REFUSED}
        for name in re.findall(r'^PX_\w+\(\w+, "([a-z0-9-]+)"', table, re.M):
            self.assertTrue(name in named or name.startswith("default-"), name)

    def test_variables_work_and_flags_beat_them(self):
        variables = {"DYN_TRTLLM_MODEL": ("model", "tiny-chat"), "DYN_TRTLLM_MAX_BATCH_SIZE": ("max-batch", "3"),
                     "DYN_TRTLLM_MAX_NUM_TOKENS": ("max-batched-tokens", "128"), "DYN_TRTLLM_MAX_SEQ_LEN": ("max-context", "256"),
                     "DYN_TRTLLM_SERVED_MODEL_NAME": ("served-model-name", "n"), "DYN_TRTLLM_TENSOR_PARALLEL_SIZE": ("tensor-parallel-size", "2"),
                     "DYN_TRTLLM_FREE_GPU_MEMORY_FRACTION": ("kv-memory-fraction", "0.5"), "DYN_TRTLLM_MODALITY": ("modality", "multimodal"),
                     "DYN_TRTLLM_ENABLE_MULTIMODAL": ("enable-multimodal", "true"), "DYN_TRTLLM_DISAGGREGATION_MODE": ("role", "agg"),
                     "DYN_TRTLLM_PUBLISH_KV_EVENTS": ("publish-kv-events", "false"), "DYN_TOOL_CALL_PARSER": ("dyn-tool-call-parser", "hermes"),
                     "DYN_NAMESPACE": ("namespace", "other"), "DYN_DISCOVERY_BACKEND": ("discovery-backend", "file"),
                     "DYN_CONNECTOR": ("connector", "none"), "DYN_OUTPUT_MODALITIES": ("output-modalities", "text")}
        rows, _ = self.config(env={name: value for name, (_, value) in variables.items()})
        for name, (option, value) in variables.items():
            self.assertEqual(rows[option], (value, f"environment {name}"), name)
        rows, _ = self.config("--max-batch-size", "5", env={"DYN_TRTLLM_MAX_BATCH_SIZE": "3"})
        self.assertEqual(rows["max-batch"], ("5", "flag --max-batch-size"))

    def test_defaults_are_those_of_the_tables_or_stand_here_as_others(self):
        rows, _ = self.config()
        for option, value in DEFAULTS.items():
            self.assertEqual(rows[option], (value, "default"), option)
        for option, (theirs, ours) in OTHER_DEFAULTS.items():
            self.assertEqual(rows[option][0], ours, option)
            self.assertNotEqual(theirs, ours)

    def test_old_names_are_said_once_and_work(self):
        rows, said = self.config("--model-path", "tiny-draft", "--publish-events-and-metrics")
        self.assertEqual((rows["model"][0], rows["publish-kv-events"][0]), ("tiny-draft", "true"))
        self.assertEqual(said.count("--model-path is an old name of --model"), 1)
        self.assertEqual(said.count("--publish-events-and-metrics is an old name of --publish-kv-events"), 1)

    def test_what_contradicts_is_refused(self):
        for flags, word in ((["--enable-multimodal", "--modality", "video_diffusion"], "does not go with --modality video_diffusion"),
                            (["tiny-chat", "--model", "tiny-draft"], "are two models"),
                            (["--trtllm.max_batch_size", "2", "--override-engine-args", "{}"], "exclude")):
            for command in ("worker", "serve"):
                done = harness.run_pixii(command, *flags, "--check-config")
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(word, done.stderr)
        done = harness.run_pixii("serve", "tiny-chat", "--modality", "video_diffusion", "--port", "0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("tiny-chat is no diffusion model", done.stderr)

    def test_a_configuration_is_checked_and_written_without_a_start(self):
        with tempfile.TemporaryDirectory() as folder:
            yaml, dump = pathlib.Path(folder) / "engine.yaml", pathlib.Path(folder) / "dump"
            yaml.write_text("max_batch_size: 8\n")
            words = ["tiny-chat", "--max-batch", "4", "--extra-engine-args", str(yaml), "--dump-config-to", str(dump)]
            done = harness.run_pixii("worker", *words, "--check-config")
            self.assertEqual((done.returncode, done.stdout), (0, "pixii worker: the values are right\n"), done.stderr)
            self.assertRegex(dump.read_text(), rf"(?m)^max-batch +8 +engine args {re.escape(str(yaml))}:1 max_batch_size$")
            self.assertRegex(dump.read_text(), r"(?m)^namespace +dynamo +default$")
            for text, status in (("max_batch_sizes: 8\n", 1), ("max_batch_size: 0\n", 1), ("max_batch_size: 9\n", 0)):
                yaml.write_text(text)
                self.assertEqual(harness.run_pixii("worker", *words, "--check-config").returncode, status, text)
            done = harness.run_pixii("frontend", "--router-mode", "kv", "--check-config", env={"DYN_DUMP_CONFIG_TO": str(dump)})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(dump.read_text(), r"(?m)^router-mode +kv +flag --router-mode$")
            self.assertEqual(harness.run_pixii("frontend", "--router-mode", "no", "--check-config").returncode, 1)
            done = harness.run_pixii("worker", "--dump-config-to", f"{folder}/none/dump", "--check-config")
            self.assertEqual(done.returncode, 2)
            self.assertIn("dump-config-to", done.stderr)
        self.assertRegex(harness.run_pixii("worker", "--version").stdout, r"^pixii \d")

    def test_a_deployment_in_these_words_answers(self):
        """Discovery by backend and variable, dyn:// names, default names of the roles, readiness by needs."""
        with tempfile.TemporaryDirectory() as folder:
            env = {"DYN_DISCOVERY_BACKEND": "file", "DYN_FILE_KV": f"{folder}/cluster"}
            pathlib.Path(folder, "key").write_bytes(os.urandom(32))
            started = []

            def server(*words):
                one = harness.Server.__new__(harness.Server)
                started.append(one)
                return one, lambda: one.start(list(words), env)
            prefill, start_prefill = server("worker", "--model-path", "tiny-chat", "--disaggregation-mode", "prefill",
                                            "--cluster-key", f"{folder}/key")
            frontend, start_frontend = server("frontend", "--port", "0", "--no-decode-fallback")
            decode, start_decode = server("worker", "--model", "tiny-chat", "--disaggregation-mode", "decode",
                                          "--cluster-key", f"{folder}/key", "--endpoint", "dyn://dynamo.backend.generate")
            try:
                start_prefill()
                with concurrent.futures.ThreadPoolExecutor() as pool:
                    answers = pool.submit(start_frontend)
                    harness.wait_for(lambda: hasattr(frontend, "process") and "no worker that clients' requests go to is there" in frontend.log_text(),
                                     60, "the frontend waits for a decode worker", prefill.log_text)
                    self.assertFalse(answers.done())
                    start_decode()
                    answers.result()
                asked = {"model": "tiny-chat", "prompt": "Hello", "max_tokens": 4, "temperature": 0}
                harness.wait_for(lambda: frontend.post("/v1/completions", asked)[0] == 200, 30, "they answer", frontend.log_text)
                places = "\n".join(path.read_text(errors="replace") for path in pathlib.Path(folder, "cluster").rglob("*") if path.is_file())
                self.assertRegex(places, '"component":"prefill","endpoint":"generate"')
                self.assertRegex(places, '"component":"backend","endpoint":"generate"')
                self.assertIn("is an old name of", prefill.log_text())
                self.assertNotIn("is an old name of", decode.log_text())
            finally:
                for one in (frontend, decode, prefill):
                    if hasattr(one, "process"):
                        self.assertEqual(one.stop(), 0, one.log_text())
                        one.folder.cleanup()


if __name__ == "__main__":
    harness.main()
