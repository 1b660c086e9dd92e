"""Logits processors as a client meets them: the allow-list, the built-in ones, a plug-in built out of tree, failures."""
import concurrent.futures
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import harness

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"


def hello(**fields):
    return {"messages": [{"role": "user", "content": "Hello"}], **fields}


def build_example(folder):
    """The example plug-in, from its own CMakeLists and the one installed header."""
    folder = pathlib.Path(folder)
    (folder / "include/pixii").mkdir(parents=True)
    shutil.copy(harness.ROOT / "include/pixii/logits_processor.h", folder / "include/pixii")
    shutil.copytree(harness.ROOT / "examples/logits_processor", folder / "source")
    for command in (["cmake", "-S", folder / "source", "-B", folder / "build", f"-DPIXII_INCLUDE_DIR={folder / 'include'}"],
                    ["cmake", "--build", folder / "build"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(f"{command}\n{done.stdout}{done.stderr}")
    return folder / "build/parity.so"


class TestSwitch(unittest.TestCase):
    def test_every_chat_is_hello_world_and_ends(self):
        for name in ("DYN_ENABLE_TEST_LOGITS_PROCESSOR", "DYNAMO_ENABLE_TEST_LOGITS_PROCESSOR"):
            with harness.Server("tiny-chat", env={name: "1"}) as server:
                for body in (hello(), hello(temperature=1.5, n=3, seed=4), hello(temperature=0)):
                    status, answer = server.post(CHAT, body)
                    self.assertEqual(status, 200, answer)
                    for choice in answer["choices"]:
                        self.assertEqual(choice["message"]["content"], "Hello world!")
                        self.assertEqual(choice["finish_reason"], "stop")
                chunks = list(server.stream(CHAT, hello()))
                self.assertEqual("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks), "Hello world!")
                _, completion = server.post(TEXT, {"prompt": "Hello", "max_tokens": 5, "temperature": 0})
                self.assertNotEqual(completion["choices"][0]["text"], "Hello world!")

    def test_true_does_nothing(self):
        with harness.Server("tiny-chat", env={"DYN_ENABLE_TEST_LOGITS_PROCESSOR": "true"}) as server:
            _, answer = server.post(CHAT, hello(temperature=0))
            self.assertNotEqual(answer["choices"][0]["message"]["content"], "Hello world!")


class BuiltIn(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat", "--logits-processor", "bans", "--logits-processor", "forced_sequence",
                                    "--logits-processor", "temperature_schedule", "--logits-processor", "thinking_budget",
                                    "--logits-processor", "guidance",
                                    "--logits-processor", 'watermark={"key": "secret", "delta": 6}')

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def generate(self, body, *processors):
        status, answer = self.server.post(TEXT, {**body, "return_token_ids": True, "nvext": {"logits_processors": list(processors)}})
        self.assertEqual(status, 200, answer)
        return answer

    def test_one_outside_the_allow_list_is_400_by_name(self):
        status, answer = self.server.post(CHAT, hello(nvext={"logits_processors": ["parity"]}))
        self.assertEqual(status, 400)
        self.assertIn("parity", answer["error"]["message"])
        self.assertEqual(answer["error"]["param"], "nvext.logits_processors")

    def test_bad_arguments_are_400(self):
        for arguments in ({"token": [1]}, {"tokens": [10**9]}, {"words": "x"}):
            status, answer = self.server.post(
                CHAT, hello(nvext={"logits_processors": [{"name": "bans", "arguments": arguments}]}))
            self.assertEqual(status, 400, answer)
            self.assertEqual(answer["error"]["param"], "nvext.logits_processors")

    def test_a_banned_token_is_not_in_a_thousand_samples(self):
        body = {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 1, "n": 125}
        seen = self.tokens_of(self.generate({**body, "seed": 0}))
        banned = max(set(seen), key=seen.count)
        after = []
        for seed in range(8):
            after += self.tokens_of(self.generate({**body, "seed": seed}, {"name": "bans", "arguments": {"tokens": [banned]}}))
        self.assertGreaterEqual(len(after), 1000)
        self.assertNotIn(banned, after)

    @staticmethod
    def tokens_of(answer):
        return [token for choice in answer["choices"] for token in choice["token_ids"]]

    def test_a_banned_word_is_not_said(self):
        _, plain = self.server.post(CHAT, {**hello(temperature=0, max_tokens=30)})
        word = next(w for w in plain["choices"][0]["message"]["content"].split() if w.isalpha())
        _, answer = self.server.post(CHAT, hello(temperature=0, max_tokens=30, nvext={"logits_processors": [
            {"name": "bans", "arguments": {"words": [word]}}]}))
        self.assertNotIn(word, answer["choices"][0]["message"]["content"].split())

    def test_a_forced_beginning_stands_there(self):
        answer = self.generate({"prompt": "Hello", "max_tokens": 12, "temperature": 1},
                               {"name": "forced_sequence", "arguments": {"text": "Well, "}})
        self.assertTrue(answer["choices"][0]["text"].startswith("Well,"))

    def test_two_concurrent_requests_keep_their_sequences_apart(self):
        def ask(text):
            return self.generate({"prompt": "Hello", "max_tokens": 30, "temperature": 1},
                                 {"name": "forced_sequence", "arguments": {"text": text, "then_end": True}})["choices"][0]["text"]
        texts = [f"request {i} has a text of its own" for i in range(16)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertEqual(list(pool.map(ask, texts)), texts)

    def test_guidance_leads_away_from_the_negative_prompt_and_back_with_scale_one(self):
        body = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
        plain = self.generate(body)
        def guided(**arguments):
            return self.generate(body, {"name": "guidance", "arguments": arguments})
        away = guided(scale=3, negative_prompt="Once upon a time there was a")
        self.assertNotEqual(self.tokens_of(away), self.tokens_of(plain))
        self.assertEqual(self.tokens_of(away), self.tokens_of(guided(scale=3, negative_prompt="Once upon a time there was a")))
        # The prompt against itself is the prompt; the second sequence is in nobody's usage.
        self.assertEqual(self.tokens_of(guided(scale=3, negative_prompt=body["prompt"])), self.tokens_of(plain))
        self.assertEqual(away["usage"], plain["usage"])
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            crowd = list(pool.map(lambda i: guided(scale=3, negative_prompt="Once upon a time there was a"), range(8)))
        self.assertEqual({tuple(self.tokens_of(answer)) for answer in crowd}, {tuple(self.tokens_of(away))})

    def test_a_watermark_is_found_by_its_key(self):
        body = {"prompt": "Tell me a story.", "max_tokens": 200, "temperature": 1, "ignore_eos": True, "seed": 5}
        marked = self.tokens_of(self.generate(body, "watermark"))
        plain = self.tokens_of(self.generate(body))
        z = {}
        for name, tokens in (("marked", marked), ("plain", plain)):
            done = harness.run_pixii("inspect", "--watermark", '{"key": "secret"}', "--ids", "--json",
                                     stdin=" ".join(map(str, tokens)))
            self.assertIn(done.returncode, (0, 1), done.stderr)
            z[name] = json.loads(done.stdout)["z"]
        self.assertGreater(z["marked"], 4)
        self.assertLess(z["plain"], 4)

    def test_rows_and_time_are_counted(self):
        self.generate({"prompt": "Hello", "max_tokens": 5, "ignore_eos": True}, "bans")
        self.server.wait_for(lambda: any("logits_processor_rows_total" in name and 'processor="bans"' in name and value >= 5
                                         for name, value in self.server.metrics().items()), what="rows of bans")
        self.assertTrue(any("logits_processor_microseconds_total" in name for name in self.server.metrics()))


class Search(unittest.TestCase):
    """best_of and beam search: several candidates, the best are given."""

    def test_the_best_come_first_and_are_the_same_again(self):
        body = {"prompt": "What is 3 + 4?", "max_tokens": 12, "n": 3, "logprobs": 0}
        with harness.Server("tiny-chat") as server:
            for extra in ({"best_of": 8, "seed": 3, "temperature": 1, "ignore_eos": True}, {"use_beam_search": True, "beam_width": 5},
                          {"use_beam_search": True, "length_penalty": 0, "early_stopping": True}):
                status, answer = server.post(TEXT, {**body, **extra})
                self.assertEqual(status, 200, answer)
                self.assertEqual(len(answer["choices"]), 3)
                _, again = server.post(TEXT, {**body, **extra})
                self.assertEqual([c["text"] for c in answer["choices"]], [c["text"] for c in again["choices"]])
                if "best_of" in extra:
                    means = [sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["token_logprobs"]) for c in answer["choices"]]
                    self.assertEqual(means, sorted(means, reverse=True))
                else:
                    self.assertEqual(len({(c["text"], c["finish_reason"]) for c in answer["choices"]}), 3)

    def test_a_beam_search_whose_client_leaves_costs_nothing_more(self):
        with harness.Server("tiny-chat") as server:
            connection = server.connection()
            connection.request("POST", TEXT, body=json.dumps({"prompt": "Hello", "max_tokens": 1500, "use_beam_search": True,
                                                              "n": 4, "ignore_eos": True}),
                               headers={"Content-Type": "application/json"})
            server.wait_for(lambda: server.metrics()['pixii_engine_steps_total{model="tiny-chat"}'] > 20, what="steps")
            connection.close()
            server.wait_for(lambda: server.metrics()['dynamo_frontend_active_requests{model="tiny-chat"}'] == 0, what="quiet")
            self.assertEqual(server.metrics()['pixii_engine_blocks_pinned{model="tiny-chat"}'], 0)


class PlugIn(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.plugin = str(build_example(cls.folder.name))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def ask(self, server, arguments, **fields):
        body = {"prompt": "Once upon a time", "max_tokens": 20, "temperature": 1, "seed": 9, "ignore_eos": True,
                "return_token_ids": True, **fields}
        if arguments is not None:
            body["nvext"] = {"logits_processors": [{"name": "parity", "arguments": arguments}]}
        return server.post(TEXT, body)

    def test_built_out_of_tree_it_changes_the_answer(self):
        with harness.Server("tiny-chat", "--logits-processor", self.plugin) as server:
            for odd in (False, True):
                status, answer = self.ask(server, {"odd": odd})
                self.assertEqual(status, 200, answer)
                self.assertEqual({token % 2 for token in answer["choices"][0]["token_ids"]}, {int(odd)})
            status, answer = self.ask(server, {"odd": 5})
            self.assertEqual(status, 400)
            self.assertIn("odd is neither", answer["error"]["message"])

    def test_its_configuration_and_its_state(self):
        with harness.Server("tiny-chat", "--logits-processor", self.plugin + '={"period": 1}') as server:
            _, free = self.ask(server, {})
            _, plain = self.ask(server, None)
            self.assertEqual(free["choices"][0]["token_ids"], plain["choices"][0]["token_ids"])

    def test_a_failure_ends_only_its_own_request_with_its_name(self):
        with harness.Server("tiny-chat", "--logits-processor", self.plugin) as server:
            _, alone = self.ask(server, {"odd": True})
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                calls = [pool.submit(self.ask, server, {"odd": True, "fail_at": 5} if i % 2 else {"odd": True}) for i in range(8)]
            for i, call in enumerate(calls):
                status, answer = call.result()
                if i % 2:
                    self.assertEqual(status, 500, answer)
                    self.assertIn('"parity" failed', answer["error"]["message"])
                    self.assertEqual(answer["error"]["code"], "processor_fault")
                else:
                    self.assertEqual(answer["choices"][0]["token_ids"], alone["choices"][0]["token_ids"])
            self.count(server, 4)

    def test_with_policy_skip_the_answer_is_the_unprocessed_one_and_counted(self):
        with harness.Server("tiny-chat", "--logits-processor", self.plugin + '={"policy": "skip"}') as server:
            _, plain = self.ask(server, None, max_tokens=1)
            status, answer = self.ask(server, {"odd": True, "fail_at": 0}, max_tokens=1)
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["choices"][0]["token_ids"], plain["choices"][0]["token_ids"])
            self.count(server, 1)

    def count(self, server, failures):
        server.wait_for(lambda: any("logits_processor_failures_total" in name and value == failures
                                    for name, value in server.metrics().items()), what=f"{failures} failures")

    def test_what_is_no_plug_in_stops_the_start(self):
        for flag, word in (("/nowhere/x.so", "no shared object"), ("mystery", "no logits processor"),
                           (f"{harness.ROOT}/README.md", "cannot be loaded"), (self.plugin + "={", "logits-processor"),
                           (self.plugin + '={"policy": "hope"}', "policy"), (self.plugin + '={"period": -1}', "period")):
            done = harness.run_pixii("serve", "tiny-chat", "--port", "0", "--logits-processor", flag)
            self.assertEqual(done.returncode, 2, flag)
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    harness.main()
