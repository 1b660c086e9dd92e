"""The command line tools, by what they print."""
import json
import subprocess
import tempfile
import pathlib
import unittest

import harness

TEXTS = ["Hello", "What is 17 + 25?", "tab\tand\nline", "é 日本 🙂", "", "<|im_end|>"]


class CommandLine(unittest.TestCase):
    def test_tokenize_and_detokenize_are_inverse(self):
        lines = "".join(json.dumps(t) + "\n" for t in TEXTS)
        out = harness.run_pixii("tokenize", "--model", "tiny-chat", stdin=lines)
        self.assertEqual(out.returncode, 0, out.stderr)
        ids = [json.loads(line) for line in out.stdout.splitlines()]
        self.assertEqual(len(ids), len(TEXTS))
        back = harness.run_pixii("detokenize", "--model", "tiny-chat", stdin=out.stdout)
        self.assertEqual([json.loads(line) for line in back.stdout.splitlines()], TEXTS)

    def test_tokenize_names_the_bad_line(self):
        out = harness.run_pixii("tokenize", "--model", "tiny-chat", stdin='"fine"\n{"no": 1}\n')
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("line 2", out.stderr)

    def test_grammar_says_what_it_could_not_find_out(self):
        ask = lambda regex, texts: harness.run_pixii("grammar", "--model", "tiny-chat", "--regex", regex, stdin=texts)
        out = ask("a{2}|b", "aa\nb\na\n")
        self.assertEqual(out.stdout.splitlines(), ['{"valid":true}', '{"valid":true}', '{"valid":false}'], out.stderr)
        broken = ask("(" + "a" * 5000, "")  # longer than a flag usually is
        self.assertEqual(broken.returncode, 2)
        self.assertEqual(list(json.loads(broken.stdout)), ["error"])
        costly = ask("(%s)" % "|".join(f".*{c}.{{{18 + i}}}" for i, c in enumerate("abcdefghijklmnop")),
                     "abcdefgh" * 40 + "\n" + "x\n")
        rows = [json.loads(line) for line in costly.stdout.splitlines()]
        self.assertTrue(all(list(row) in (["error"], ["valid"]) for row in rows), rows)
        self.assertIn(["error"], [list(row) for row in rows])

    def render(self, *flags, contexts):
        lines = "".join(json.dumps(context) + "\n" for context in contexts)
        out = harness.run_pixii("render", *flags, stdin=lines)
        self.assertEqual(out.returncode, 0, out.stderr)
        return [json.loads(line) for line in out.stdout.splitlines()]

    def test_render_writes_a_text_or_an_error_for_every_line(self):
        source = ("{%- for m in messages %}{{ raise_exception('no ' + m.role) if m.role == 'system' }}"
                  "<{{ m.role }}>{{ m.content | upper }}{% endfor %}{{ tools | tojson if tools }}"
                  "{{ bos_token }}{{ strftime_now('%d %b %Y') }}{% if add_generation_prompt %}>{% endif %}")
        user = [{"role": "user", "content": "hi"}]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "t.jinja"
            path.write_text(source)
            rows = self.render("--template", str(path), "--date", "2024-02-29", contexts=[
                {"messages": user, "add_generation_prompt": True, "variables": {"bos_token": "<s>"}},
                {"messages": user, "tools": [{"name": "f"}]},
                {"messages": [{"role": "system", "content": ""}]},
                {"messages": [{"role": "user", "content": 1}]},
                ["no object"]])
            self.assertEqual(rows[0], {"text": "<user>HI<s>29 Feb 2024>"})
            self.assertEqual(rows[1], {"text": '<user>HI[{"name": "f"}]29 Feb 2024'})
            self.assertEqual(rows[2], {"error": "TemplateError: no system"})
            self.assertEqual(rows[3], {"text": "<user>129 Feb 2024"})
            self.assertEqual(list(rows[4]), ["error"])
            path.write_text("{% if %}")
            self.assertIn("TemplateSyntaxError", self.render("--template", str(path), contexts=[{}])[0]["error"])
            bad = harness.run_pixii("render", "--template", str(path), "--date", "2023-02-29")
            self.assertEqual(bad.returncode, 2)
            self.assertIn("2023-02-29", bad.stderr)

    def test_render_takes_the_template_of_a_model(self):
        messages = [{"role": "user", "content": "What is 17 + 25?"}]
        row, = self.render("--model", "tiny-chat", contexts=[{"messages": messages, "add_generation_prompt": True}])
        self.assertIn("What is 17 + 25?", row["text"])
        self.assertTrue(row["text"].endswith("assistant\n"), row)

    def test_bench_tokenizer_measures_a_text(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "text"
            path.write_text("Some text to encode. " * 1000)
            out = harness.run_pixii("bench", "tokenizer", "--text", str(path), "--repeats", "2", "--json")
            self.assertEqual(out.returncode, 0, out.stderr)
            rows = {row["name"]: row for row in json.loads(out.stdout)["results"]}
            self.assertGreater(rows["encode"]["value"], 0)
            ids = json.loads(harness.run_pixii("tokenize", stdin=json.dumps(path.read_text()) + "\n").stdout)
            self.assertEqual(rows["ids"]["value"], len(ids))

    def test_chat_answers_in_the_terminal(self):
        out = harness.run_pixii("chat", "What is 17 + 25?")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("42", out.stdout)

    def test_inspect_says_what_it_is(self):
        out = harness.run_pixii("inspect", "tiny-chat", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        facts = json.loads(out.stdout)
        self.assertEqual(facts["architecture"], "Qwen3ForCausalLM")
        self.assertGreater(facts["parameter_count"], 5_000_000)
        self.assertGreater(facts["kv_bytes_per_token"], 0)

    def test_quantize_writes_a_model_that_answers(self):
        with tempfile.TemporaryDirectory() as folder:
            target = f"{folder}/small"
            out = harness.run_pixii("quantize", "tiny-chat", target, "--scheme", "int8")
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assertIn("linears in int8", out.stdout)
            again = harness.run_pixii("quantize", "tiny-chat", target)
            self.assertEqual(again.returncode, 2)
            self.assertIn("exists already", again.stderr)
            ids = {}
            for compute in ("auto", "bf16", "int8"):
                answer = harness.run_pixii("chat", "--model", target, "--compute", compute, "What is 17 + 25?")
                self.assertIn("42", answer.stdout, compute)
                ids[compute] = self.numerics_id(target, "--compute", compute)
            self.assertIn("-int8-", ids["auto"])
            self.assertEqual(ids["auto"], ids["int8"])
            self.assertEqual(ids["auto"].replace("-int8-", "-bf16-"), ids["bf16"])

    def test_int8_without_integer_codes_is_refused(self):
        out = harness.run_pixii("chat", "--compute", "int8", "hi")
        self.assertEqual(out.returncode, 2)
        self.assertIn("compute", out.stderr)
        self.assertIn("-bf16-", self.numerics_id("tiny-chat"))

    def numerics_id(self, model, *flags):
        with harness.Server(model, *flags) as server:
            status, answer = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1, "receipt": True})
            self.assertEqual(status, 200, answer)
            return answer["receipt"]["numerics_id"]

    def test_reference_pages_are_those_in_the_tree(self):
        for name in ("config", "metrics", "events", "errors"):
            out = harness.run_pixii("reference", name)
            self.assertEqual(out.returncode, 0, out.stderr)
            page = (harness.ROOT / f"docs/reference/{name}.md").read_text()
            self.assertEqual(out.stdout, page, f"docs/reference/{name}.md is stale: ./dev docs")

    def test_output_that_cannot_be_written_is_an_error(self):
        for arguments in (["chat", "Hello"], ["inspect"], ["serve", "--print-config"], ["--version"]):
            with self.subTest(arguments), open("/dev/full", "w") as full:
                done = subprocess.run([harness.BINARY, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
                self.assertEqual(done.returncode, 2)
                self.assertIn("output", done.stderr)

    def test_version_is_json(self):
        out = harness.run_pixii("--version", "--json")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertIn("version", json.loads(out.stdout))

    def test_doctor_passes_here(self):
        out = harness.run_pixii("doctor")
        self.assertEqual(out.returncode, 0, out.stdout + out.stderr)

    def test_unknown_command_and_model_are_named(self):
        self.assertIn("serve", harness.run_pixii("sreve").stderr)
        missing = harness.run_pixii("serve", "/no/such/folder", "--port", "0")
        self.assertNotEqual(missing.returncode, 0)
        self.assertIn("/no/such/folder", missing.stderr)

    def test_a_context_past_the_models_names_the_flag_and_the_limit(self):
        done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--max-context", "100000", timeout=20)
        self.assertEqual(done.returncode, 2)
        for word in ("max-context", "100000", "8192"):
            self.assertIn(word, done.stderr)

    def test_broken_checkpoints_are_refused_with_file_and_reason(self):
        source = harness.OWN_MODELS / "llama-gqa"
        with tempfile.TemporaryDirectory() as copy:
            folder = pathlib.Path(copy)
            for name in ("config.json", "generation_config.json"):
                (folder / name).write_bytes((source / name).read_bytes())
            weights = (source / "model.safetensors").read_bytes()
            for label, data in (("half", weights[: len(weights) // 2]), ("zero header", bytes(8)),
                                ("huge header", b"\xff" * 8 + weights[8:]), ("empty", b"")):
                with self.subTest(label):
                    (folder / "model.safetensors").write_bytes(data)
                    done = harness.run_pixii("serve", str(folder), "--port", "0", timeout=20)
                    self.assertGreater(done.returncode, 0, label)
                    self.assertIn("model.safetensors", done.stderr)

    def test_nothing_is_left_running_when_chat_is_interrupted(self):
        import signal
        process = subprocess.Popen([harness.BINARY, "chat", "Hello", "--max-tokens", "5000", "--ignore-eos"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        self.assertIsNotNone(process.returncode)


if __name__ == "__main__":
    harness.main()
