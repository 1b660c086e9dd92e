"""Adapters through the server: loaded, listed, asked for, unloaded, pinned, refused."""
import concurrent.futures
import pathlib
import tempfile
import unittest

import adapters
import harness

QUESTION = {"messages": [{"role": "user", "content": "Tell me a story about a fox and a river."}], "temperature": 0, "ignore_eos": True}


MODEL = harness.ROOT / "models/tiny-chat"
SHAPES = adapters.linears(MODEL)
LAYERS = 1 + max(int(module.split(".")[2]) for module in SHAPES)
KINDS = sorted({module.split(".", 3)[3] for module in SHAPES})


def write_adapter(folder, seed, rank=4, targets=("self_attn.q_proj", "mlp.down_proj"), layers=(0, 3, 7), **more):
    shapes = {f"model.layers.{layer}.{target}": SHAPES[f"model.layers.{layer}.{target}"] for layer in layers for target in targets}
    return adapters.write(folder, shapes, seed, rank, **more)


class Adapters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name)
        cls.fox = write_adapter(cls.root / "fox", 1)
        cls.owl = write_adapter(cls.root / "owl", 2, rank=17, targets=KINDS, layers=range(LAYERS))
        cls.server = harness.Server("tiny-chat", "--enable-lora", "--lora", f"start={cls.owl}")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()

    def load(self, name, folder, **more):
        status, answer = self.server.post("/v1/loras", {"lora_name": name, "source": {"uri": f"file://{folder}"}, **more})
        self.assertEqual(status, 200, answer)
        return answer

    def unload(self, name):
        status, _, answer = self.server.request("DELETE", f"/v1/loras/{name}")
        self.assertEqual(status, 200, answer)
        return answer

    def ask(self, model=None, max_tokens=24, **more):
        body = {**QUESTION, "max_tokens": max_tokens, **({"model": model} if model else {}), **more}
        status, answer = self.server.post("/v1/chat/completions", body)
        self.assertEqual(status, 200, answer)
        return answer

    def text(self, model=None, **more):
        return self.ask(model, **more)["choices"][0]["message"]["content"]

    def test_a_loaded_one_is_listed_answers_differently_and_goes(self):
        before = self.text()
        answer = self.load("fox", self.fox)
        self.assertEqual((answer["status"], answer["lora_name"]), ("success", "fox"))
        status, _, listed = self.server.request("GET", "/v1/loras")
        self.assertEqual(listed["loras"]["fox"], answer["lora_id"])
        self.assertEqual(listed["count"], len(listed["loras"]))
        _, _, models = self.server.request("GET", "/v1/models")
        fox = next(model for model in models["data"] if model["id"] == "fox")
        self.assertEqual((fox["parent"], fox["root"]), ("tiny-chat", self.fox))
        _, _, one = self.server.request("GET", "/v1/models/fox")
        self.assertEqual(one, fox)
        reply = self.ask("fox")
        self.assertEqual(reply["model"], "fox")
        self.assertNotEqual(reply["choices"][0]["message"]["content"], before)
        self.assertEqual(self.text(), before)
        self.assertEqual(self.unload("fox")["lora_id"], answer["lora_id"])
        status, gone = self.server.post("/v1/chat/completions", {**QUESTION, "model": "fox"})
        self.assertEqual((status, gone["error"]["code"]), (404, "model_not_found"))
        self.assertEqual(self.server.request("DELETE", "/v1/loras/fox")[0], 404)

    def test_loaded_and_unloaded_while_the_engine_sleeps(self):
        with harness.Server("tiny-chat", "--enable-lora") as server:
            def post(path, body=None, expected=200):
                status, answer = server.post(path, body or {})
                self.assertEqual(status, expected, answer)
                return answer

            def text(model):
                answer = post("/v1/chat/completions", {**QUESTION, "max_tokens": 24, "model": model})
                return answer["choices"][0]["message"]["content"]

            bare = text("tiny-chat")
            post("/engine/control/release_memory_occupation")
            post("/v1/loras", {"lora_name": "owl", "source": {"uri": f"file://{self.owl}"}})
            post("/engine/control/resume_memory_occupation")
            self.assertEqual(text("owl"), self.text("start"))
            post("/engine/control/release_memory_occupation")
            self.assertEqual(server.request("DELETE", "/v1/loras/owl")[0], 200)
            post("/engine/control/resume_memory_occupation")
            self.assertEqual(text("tiny-chat"), bare)
            post("/v1/chat/completions", {**QUESTION, "max_tokens": 4, "model": "owl"}, 404)

    def test_vllms_routes_do_the_same(self):
        body = {"lora_name": "vfox", "lora_path": self.fox}
        status, answer = self.server.post("/v1/load_lora_adapter", body)
        self.assertEqual((status, answer), (200, "Success: LoRA adapter 'vfox' added successfully."))
        status, answer = self.server.post("/v1/load_lora_adapter", body)
        self.assertEqual((status, answer["error"]["param"]), (400, "lora_name"))
        self.assertEqual(self.server.post("/v1/load_lora_adapter", {**body, "load_inplace": True})[0], 200)
        status, answer = self.server.post("/v1/unload_lora_adapter", {"lora_name": "vfox"})
        self.assertEqual((status, answer), (200, "Success: LoRA adapter 'vfox' removed successfully."))
        self.assertEqual(self.server.post("/v1/unload_lora_adapter", {"lora_name": "vfox"})[0], 404)

    def test_mixed_in_one_batch_each_gets_what_it_gets_alone_and_never_anothers_cache(self):
        names = [None]
        for i in range(6):
            write_adapter(self.root / f"many{i}", 10 + i, rank=1 + 7 * i, targets=KINDS[i:])
            self.load(f"many{i}", self.root / f"many{i}")
            names.append(f"many{i}")
        alone = {}
        for name in names:
            reply = self.ask(name, nvext=None)
            alone[name] = reply["choices"][0]["message"]["content"]
            if name:
                self.assertEqual(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertGreater(self.ask("many3")["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
        self.assertEqual(len(set(alone.values())), len(names))
        with concurrent.futures.ThreadPoolExecutor(28) as pool:
            for name, text in pool.map(lambda name: (name, self.text(name)), names * 4):
                self.assertEqual(text, alone[name], name)
        for name in names[1:]:
            self.unload(name)

    def test_a_request_goes_on_when_its_adapter_is_unloaded_or_replaced(self):
        other = write_adapter(self.root / "other", 77)
        self.load("swift", self.fox)
        whole = self.text("swift", max_tokens=120)
        for change in (lambda: self.unload("swift"), lambda: self.load("swift", other)):
            self.load("swift", self.fox)
            pieces = []
            for chunk in self.server.stream("/v1/chat/completions", {**QUESTION, "model": "swift", "max_tokens": 120}):
                if not pieces:
                    change()
                pieces.append((chunk["choices"] or [{"delta": {}}])[0]["delta"].get("content") or "")
            self.assertEqual("".join(pieces), whole)
        self.assertNotEqual(self.text("swift", max_tokens=120), whole)
        self.unload("swift")

    def test_a_folder_of_adapters_has_a_name_for_each_that_can_be_asked_for(self):
        root = self.root / "offered"
        for name in ("kit", ".partial", "tiny-chat"):
            write_adapter(root / name, 5)
        clash = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--lora-dir", str(root))
        self.assertEqual(clash.returncode, 2, clash.stderr)
        self.assertIn(f"lora-dir: the adapter tiny-chat in {root}/tiny-chat has the model's own name", clash.stderr)
        with harness.Server("tiny-chat", "--served-model-name", "chat", "--lora-dir", str(root)) as server:
            _, _, models = server.request("GET", "/v1/models")
            self.assertEqual(sorted(entry["id"] for entry in models["data"]), ["chat", "kit", "tiny-chat"])
            status, answer = server.post("/v1/chat/completions", {**QUESTION, "model": ".partial", "max_tokens": 1})
            self.assertEqual(status, 404, answer)
        absent = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--lora-dir", str(root / "absent"))
        self.assertEqual(absent.returncode, 2, absent.stderr)
        self.assertIn(f"lora-dir: cannot list '{root}/absent'", absent.stderr)
        self.assertNotIn("model.loaded", absent.stderr)

    def test_beams_run_with_the_adapter(self):
        body = {"prompt": "The fox", "max_tokens": 8, "use_beam_search": True, "n": 2, "best_of": 2}
        texts = [self.server.post("/v1/completions", {**body, "model": model}) for model in ("start", "tiny-chat")]
        self.assertEqual([status for status, _ in texts], [200, 200], texts)
        self.assertNotEqual(texts[0][1]["choices"][0]["text"], texts[1][1]["choices"][0]["text"])

    def test_tokenize_takes_its_name(self):
        self.assertEqual(self.server.post("/tokenize", {"model": "start", "prompt": "hi"})[0], 200)

    def test_what_cannot_be_run_is_refused_with_its_reason(self):
        def folder(name, **more):
            return write_adapter(self.root / name, 5, **more)

        cut = pathlib.Path(folder("cut"))
        whole = (cut / "adapter_model.safetensors").read_bytes()
        (cut / "adapter_model.safetensors").write_bytes(whole[:-100])
        narrow = {"base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight": ([4, 9], [0.0] * 36),
                  "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight": ([128, 4], [0.0] * 512)}
        embedding = {"base_model.model.model.embed_tokens.lora_embedding_A": ([4, 4096], [0.0] * 16384)}
        unknown = {f"base_model.model.model.layers.99.self_attn.q_proj.lora_{half}.weight": ([4, 4], [0.0] * 16) for half in "AB"}
        cases = [
            ("dora", folder("dora", config={"use_dora": True}), 400, "use_dora"),
            ("saved", folder("saved", config={"modules_to_save": ["lm_head"]}), 400, "modules_to_save"),
            ("ia3", folder("ia3", config={"peft_type": "IA3"}), 400, "peft_type"),
            ("bias", folder("bias", config={"bias": "all"}), 400, "bias"),
            ("rank", folder("rank", config={"r": 257}), 400, "257"),
            ("embedding", folder("embedding", extra=embedding), 400, "embedding"),
            ("unknown", folder("unknown", extra=unknown), 400, "layers.99"),
            ("narrow", folder("narrow", extra=narrow, targets=("self_attn.q_proj", "self_attn.k_proj")), 400, "[4, 9]"),
            ("cut", str(cut), 400, "adapter_model.safetensors"),
            ("nothing", str(self.root / "nothing"), 404, "nothing"),
            ("tiny-chat", self.fox, 400, "own name"),
            ("two words", self.fox, 400, "printable"),
        ]
        for name, path, status, says in cases:
            with self.subTest(name):
                got, answer = self.server.post("/v1/loras", {"lora_name": name, "source": {"uri": f"file://{path}"}})
                self.assertEqual(got, status, answer)
                self.assertIn(says, answer["error"]["message"])
        for body in ({}, {"lora_name": "x"}, {"lora_name": 3}, {"lora_name": "x", "source": {"uri": "s3://bucket/x"}},
                     {"lora_name": "x", "source": {"uri": self.fox}, "surprise": 1}, {"lora_name": "x", "source": self.fox}):
            self.assertEqual(self.server.post("/v1/loras", body)[0], 400, body)
        _, _, listed = self.server.request("GET", "/v1/loras")
        _, _, models = self.server.request("GET", "/v1/models")
        for name, *_ in cases[:-2]:
            self.assertNotIn(name, listed["loras"])
            self.assertNotIn(name, [model["id"] for model in models["data"]])
        self.assertEqual(self.load("dora", self.fox)["status"], "success", "the name is free: a retry with a good one succeeds")
        self.unload("dora")
        self.assertEqual(self.server.request("PUT", "/v1/loras", {})[0], 405)
        self.text("start")

    def test_chat_talks_with_one(self):
        plain, adapted, unknown = (harness.run_pixii("chat", "hello", "--max-tokens", "12", "--lora", f"fox={self.fox}", *flags)
                                   for flags in ([], ["--adapter", "fox"], ["--adapter", "cat"]))
        self.assertEqual((plain.returncode, adapted.returncode), (0, 0), adapted.stderr)
        self.assertNotEqual(plain.stdout, adapted.stdout)
        self.assertNotEqual(unknown.returncode, 0)
        self.assertIn("cat", unknown.stderr)

    def test_a_receipt_names_the_adapter_and_replay_wants_the_same(self):
        with tempfile.TemporaryDirectory() as records, \
                harness.Server("tiny-chat", "--lora", f"fox={self.fox}", "--record", records) as server:
            body = {"model": "fox", "prompt": "Once", "max_tokens": 12, "seed": 4, "temperature": 1, "receipt": True}
            status, answer = server.post("/v1/completions", body)
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["receipt"]["adapter"]["name"], "fox")
            self.assertEqual(len(answer["receipt"]["adapter"]["fingerprint"]), 64)
            path = pathlib.Path(records) / f"{answer['id']}.json"
            server.wait_for(path.exists, 20, "the record")
            for flags, status, says in ((["--lora", f"fox={self.fox}"], 0, "same"), (["--lora-dir", str(self.root)], 0, "same"),
                                        ([], 2, "--lora fox="), (["--lora", f"fox={self.owl}"], 2, "fingerprint")):
                done = harness.run_pixii("replay", str(path), *flags)
                self.assertEqual(done.returncode, status, done.stdout + done.stderr)
                self.assertIn(says, done.stdout + done.stderr)


class Folders(unittest.TestCase):
    def test_a_folders_adapters_come_when_asked_for_and_give_way(self):
        with tempfile.TemporaryDirectory() as folder:
            for i in range(4):
                write_adapter(pathlib.Path(folder) / f"a{i}", i + 1)
            pinned = write_adapter(pathlib.Path(folder) / "a0", 1)
            flags = ["--lora-dir", folder, "--lora", f"stays={pinned}", "--lora-count", "2", "--lora-slots", "1"]
            with harness.Server("tiny-chat", *flags) as server:
                def text(name):
                    status, answer = server.post("/v1/chat/completions", {**QUESTION, "model": name, "max_tokens": 12})
                    self.assertEqual(status, 200, answer)
                    return answer["choices"][0]["message"]["content"]

                _, _, models = server.request("GET", "/v1/models")
                self.assertEqual([model["id"] for model in models["data"]], ["tiny-chat", "a0", "a1", "a2", "a3", "stays"])
                first = {name: text(name) for name in ("a0", "a1", "a2", "a3", "stays")}
                self.assertEqual(len(set(first.values())), 4)
                self.assertEqual(first["a0"], first["stays"])
                for _ in range(2):
                    for name, wanted in first.items():
                        self.assertEqual(text(name), wanted)
                with concurrent.futures.ThreadPoolExecutor(8) as pool:
                    for name, got in pool.map(lambda name: (name, text(name)), ["a1", "a1", "stays", "a1"] * 3):
                        self.assertEqual(got, first[name])
                self.assertGreater(server.metrics()['pixii_adapter_evictions_total{model="tiny-chat"}'], 3)
                self.assertEqual(server.metrics()['pixii_adapters_loaded{model="tiny-chat"}'], 2)
                status, answer = server.post("/v1/loras", {"lora_name": "b", "source": {"uri": pinned}})
                self.assertEqual(status, 400)
                self.assertIn("--enable-lora", answer["error"]["message"])

    def test_pinned_ones_stay_and_a_full_store_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            one = write_adapter(pathlib.Path(folder) / "one", 1)
            two = write_adapter(pathlib.Path(folder) / "two", 2)
            with harness.Server("tiny-chat", "--enable-lora", "--lora-count", "1") as server:
                def load(name, path, **more):
                    return server.post("/v1/loras", {"lora_name": name, "source": {"uri": path}, **more})[0]

                self.assertEqual(load("one", one, pinned=True), 200)
                self.assertEqual(load("two", two), 529)
                self.assertEqual(load("one", one, pinned=False), 200)
                self.assertEqual(load("two", two), 200)
                _, _, listed = server.request("GET", "/v1/loras")
                self.assertEqual(list(listed["loras"]), ["two"])
                for name in ("one", "two", "one"):
                    status, answer = server.post("/v1/chat/completions", {**QUESTION, "model": name, "max_tokens": 2})
                    self.assertEqual(status, 200, f"{name} gave way and is still routable: {answer}")
                self.assertIn("adapter.read", server.log_text())

    def test_what_cannot_be_read_in_the_folder_is_left_out_with_its_reason(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, more in (("good", {}), ("dora", {"config": {"use_dora": True}}), ("cut", {})):
                write_adapter(pathlib.Path(folder) / name, 1, **more)
            weights = pathlib.Path(folder) / "cut" / "adapter_model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-7])
            with harness.Server("tiny-chat", "--lora-dir", folder) as server:
                listed = [model["id"] for model in server.request("GET", "/v1/models")[2]["data"]]
                self.assertEqual(sorted(listed), ["good", "tiny-chat"])
                refused = [line for line in server.log_path.read_text().splitlines() if "adapter.refused" in line]
                self.assertEqual(len(refused), 2, refused)
                for name, why in (("dora", "use_dora"), ("cut", "adapter_model.safetensors")):
                    self.assertTrue(any(f"{folder}/{name}" in line and why in line for line in refused), refused)
                self.assertEqual(server.post("/v1/chat/completions", {**QUESTION, "model": "dora"})[0], 404)
                self.assertEqual(server.post("/v1/chat/completions", {**QUESTION, "model": "good", "max_tokens": 2})[0], 200)

    def test_a_wrong_flag_stops_the_start(self):
        with tempfile.TemporaryDirectory() as folder:
            bad = write_adapter(pathlib.Path(folder) / "bad", 1, config={"use_dora": True})
            write_adapter(pathlib.Path(folder) / "good", 1)
            for flags, says in ((["--lora", "fox"], "NAME=FOLDER"), (["--lora", f"fox={folder}/none"], "fox"),
                                (["--lora", f"fox={bad}"], "use_dora"), (["--lora-dir", f"{folder}/none"], "lora-dir"),
                                (["--lora", f"tiny-chat={folder}/good"], "own name"), (["--lora", f"fox={folder}/good", "--lora-rank", "2"], "at most 2")):
                done = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assertIn(says, done.stderr)


if __name__ == "__main__":
    harness.main()
