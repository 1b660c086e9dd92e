"""The server as a user meets it: start, answer, refuse, drain."""
import json
import signal
import threading
import unittest

import harness

PROMPT = {"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0}


class Serve(unittest.TestCase):
    def test_answers_chat_unary_and_streamed_alike(self):
        with harness.Server() as server:
            status, unary = server.post("/v1/chat/completions", PROMPT)
            self.assertEqual(status, 200, unary)
            text = unary["choices"][0]["message"]["content"]
            self.assertIn("42", text)
            self.assertEqual(unary["choices"][0]["finish_reason"], "stop")
            usage = unary["usage"]
            self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
            chunks = list(server.stream("/v1/chat/completions", {**PROMPT, "stream_options": {"include_usage": True}}))
            streamed = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
            self.assertEqual(streamed, text)
            self.assertEqual(chunks[-1]["usage"]["completion_tokens"], usage["completion_tokens"])

    def test_lists_its_model_under_the_name_given(self):
        with harness.Server("tiny-chat", "--served-model-name", "mine") as server:
            _, _, models = server.request("GET", "/v1/models")
            self.assertEqual([m["id"] for m in models["data"]], ["mine"])
            status, answer = server.post("/v1/chat/completions", {**PROMPT, "model": "other"})
            self.assertEqual(status, 404, answer)

    def test_ready_only_after_the_port_file_and_live_before(self):
        with harness.Server() as server:
            for path in ("/health", "/live", "/ready"):
                status, _, _ = server.request("GET", path)
                self.assertEqual(status, 200, path)

    def test_sigterm_ends_running_requests_and_refuses_new_ones(self):
        server = harness.Server("tiny-chat", "--drain-timeout", "10m")
        with server.folder:
            long_request = {"messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True, "max_tokens": 1500,
                            "temperature": 0}
            stream = server.stream("/v1/chat/completions", long_request)
            next(stream)
            server.process.send_signal(signal.SIGTERM)
            refused = harness.wait_for(lambda: self.refusal(server), 10, "refusal while draining")
            self.assertEqual(refused[0], 503)
            self.assertIn("Retry-After", refused[1])
            chunks = list(stream)
            self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "length")
            self.assertEqual(server.stop(), 0)

    @staticmethod
    def refusal(server):
        try:
            status, headers, _ = server.request("POST", "/v1/chat/completions", PROMPT)
        except OSError:
            raise AssertionError("connection refused while a request still runs") from None
        return (status, headers) if status != 200 else None

    def test_metrics_are_those_of_the_moment(self):
        with harness.Server("tiny-chat") as server:
            name = 'pixii_engine_decode_tokens_total{model="tiny-chat"}'
            for count in (3, 7, 11):
                before = server.metrics()
                server.post("/v1/completions", {"prompt": "Hello", "max_tokens": count, "ignore_eos": True})
                after = server.metrics()
                self.assertGreaterEqual(after[name] - before[name], count)
                self.assertGreater(after['pixii_engine_steps_total{model="tiny-chat"}'], before['pixii_engine_steps_total{model="tiny-chat"}'])
            for counter in ("steps_ahead", "retried_chunks", "prefix_waits", "swapped_out_blocks", "swapped_in_blocks",
                            "swap_refusals", "swap_failures"):
                self.assertIn(f'pixii_engine_{counter}_total{{model="tiny-chat"}}', after)

    def test_prompt_logprobs_are_those_of_echo(self):
        with harness.Server() as server:
            body = {"prompt": "What is 17 + 25?", "max_tokens": 3, "temperature": 0}
            _, echoed = server.post("/v1/completions", {**body, "echo": True, "logprobs": 2})
            _, answer = server.post("/v1/completions", {**body, "prompt_logprobs": 2, "logprobs": 1, "n": 2, "return_token_ids": True})
            first, second = answer["choices"]
            self.assertEqual(first["prompt_logprobs"], second["prompt_logprobs"])
            self.assertTrue(all(len(top) == 1 for top in first["logprobs"]["top_logprobs"]))
            ids = first["prompt_token_ids"]
            self.assertIsNone(first["prompt_logprobs"][0])
            shown = [entry[str(token)]["logprob"] for entry, token in zip(first["prompt_logprobs"][1:], ids[1:])]
            self.assertEqual(shown, echoed["choices"][0]["logprobs"]["token_logprobs"][1:len(ids)])
            for entry, token in zip(first["prompt_logprobs"][1:], ids[1:]):
                ranks = {value["rank"] for value in entry.values()}
                self.assertTrue({1, 2} <= ranks, entry)
                self.assertLessEqual(len(entry), 3)
            _, chat = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2,
                                                           "prompt_logprobs": 0})
            self.assertEqual(len(chat["prompt_logprobs"]), chat["usage"]["prompt_tokens"])
            status, refused = server.post("/v1/completions", {**body, "prompt_logprobs": 1, "stream": True})
            self.assertEqual((status, refused["error"]["param"]), (400, "prompt_logprobs"))

    def test_hang_up_cancels_the_request(self):
        with harness.Server() as server:
            body = {"messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True, "max_tokens": 7000}
            connection = server.connection()
            connection.request("POST", "/v1/chat/completions", body=json.dumps({**body, "stream": True}),
                               headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            response.readline()
            response.close()
            connection.close()
            server.wait_for(lambda: sum(v for k, v in server.metrics().items()
                                        if k.startswith("pixii_engine_running")) == 0, 2, "no running sequence")

    def test_starts_on_a_used_port_with_a_clear_error(self):
        with harness.Server() as server:
            second = harness.run_pixii("serve", "tiny-chat", "--port", str(server.port))
            self.assertNotEqual(second.returncode, 0)
            self.assertIn(str(server.port), second.stderr)

    def test_a_port_file_that_cannot_be_written_ends_the_server(self):
        done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--port-file", "/nonexistent/port", timeout=30)
        self.assertEqual(done.returncode, 2)
        self.assertIn("/nonexistent/port", done.stderr)

    @staticmethod
    def fill_weights(folder, value):
        """A copy of a small model in bf16 whose weights all have the bits `value`."""
        import shutil
        shutil.copytree(harness.OWN_MODELS / "llama-gqa", folder)
        data = bytearray((folder / "model.safetensors").read_bytes())
        begin = 8 + int.from_bytes(data[:8], "little")
        data[begin:] = bytes.fromhex(value) * ((len(data) - begin) // 2)
        (folder / "model.safetensors").write_bytes(data)

    def test_a_model_of_nan_weights_is_refused_naming_the_tensor(self):
        import pathlib
        import tempfile
        with tempfile.TemporaryDirectory() as copy:
            folder = pathlib.Path(copy) / "nan"
            self.fill_weights(folder, "c07f")
            done = harness.run_pixii("serve", str(folder), "--port", "0")
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn('"model.embed_tokens.weight" is NaN or infinite at element 0', done.stderr)

    def test_a_model_whose_sums_overflow_is_never_ready_and_the_log_says_why(self):
        import pathlib
        import subprocess
        import tempfile
        with tempfile.TemporaryDirectory() as copy:
            folder = pathlib.Path(copy) / "large"
            self.fill_weights(folder, "5e5d")  # about 1e18: products of two rows overflow
            log = open(pathlib.Path(copy) / "log", "w+")
            process = subprocess.Popen([harness.BINARY, "serve", str(folder), "--port", "0"], stdout=log, stderr=log)
            try:
                harness.wait_for(lambda: "readiness.awaited" in open(log.name).read(), 30, "the reason in the log")
                self.assertNotIn("serve.ready", open(log.name).read())
            finally:
                process.terminate()
                self.assertEqual(process.wait(timeout=30), 0)

    def test_print_config_names_every_source(self):
        out = harness.run_pixii("serve", "--print-config", "--max-batch", "7", env={"PIXII_SERVE_BLOCK_SIZE": "32"})
        self.assertEqual(out.returncode, 0, out.stderr)
        lines = out.stdout.splitlines()
        self.assertTrue(any("max-batch" in l and "7" in l and "flag" in l for l in lines), out.stdout)
        self.assertTrue(any("block-size" in l and "32" in l and "environment" in l for l in lines), out.stdout)
        self.assertTrue(any("port" in l and "8000" in l and "default" in l for l in lines), out.stdout)

    def test_unknown_flag_names_the_nearest(self):
        out = harness.run_pixii("serve", "--max-bach", "7")
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("--max-batch", out.stderr)

    def test_api_keys_guard_the_api_but_not_health(self):
        import tempfile
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
            keys.write("secret-one\nsecret-two\n")
            keys.flush()
            with harness.Server("tiny-chat", "--api-key-file", keys.name) as server:
                self.assertEqual(server.post("/v1/chat/completions", PROMPT)[0], 401)
                headers = {"Authorization": "Bearer secret-two"}
                self.assertEqual(server.request("POST", "/v1/chat/completions", PROMPT, headers)[0], 200)
                self.assertEqual(server.request("GET", "/health")[0], 200)

    def test_parallel_answers_equal_lonely_ones(self):
        questions = [f"What is {a} + {b}?" for a, b in ((1, 2), (30, 12), (7, 80), (123, 321))]
        bodies = [{"messages": [{"role": "user", "content": q}], "temperature": 0.9, "seed": i, "logprobs": True}
                  for i, q in enumerate(questions * 4)]
        with harness.Server() as server:
            alone = [server.post("/v1/chat/completions", b)[1]["choices"] for b in bodies]
            together = [None] * len(bodies)

            def ask(i):
                together[i] = server.post("/v1/chat/completions", bodies[i])[1]["choices"]

            threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(alone, together)


if __name__ == "__main__":
    harness.main()
