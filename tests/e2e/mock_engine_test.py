"""`pixii serve --engine mock`: the whole way of a request around made-up tokens."""
import contextlib
import json
import tempfile
import time
import unittest

import harness

BODY = {"prompt": "The quick brown fox", "max_tokens": 24, "temperature": 0, "ignore_eos": True}


class MockEngine(unittest.TestCase):
    def test_answers_are_a_function_of_prompt_and_seed(self):
        answers = []
        for flags in (["--mock-seed", "3"], ["--mock-seed", "3", "--max-batched-tokens", "8"], ["--mock-seed", "4"]):
            with harness.Server("tiny-chat", "--engine", "mock", *flags) as server:
                status, answer = server.post("/v1/completions", BODY)
                self.assertEqual(status, 200, answer)
                self.assertEqual(answer["usage"]["completion_tokens"], 24)
                again = "".join(event["choices"][0]["text"] for event in server.stream("/v1/completions", BODY))
                self.assertEqual(again, answer["choices"][0]["text"])
                answers.append(answer["choices"][0]["text"])
                self.assertIn("engine.mocked", server.log_text())
        self.assertEqual(answers[0], answers[1])
        self.assertNotEqual(answers[0], answers[2])

    def test_stops_limits_templates_and_constraints_hold(self):
        with harness.Server("tiny-chat", "--engine", "mock") as server:
            _, whole = server.post("/v1/completions", BODY)
            text = whole["choices"][0]["text"]
            stop = text[len(text) // 2:len(text) // 2 + 3]
            _, cut = server.post("/v1/completions", {**BODY, "stop": [stop]})
            self.assertEqual(cut["choices"][0]["text"], text[:text.index(stop)])
            self.assertEqual(cut["choices"][0]["finish_reason"], "stop")
            chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200, "ignore_eos": False,
                    "response_format": {"type": "json_schema",
                                        "json_schema": {"name": "n", "schema": {"enum": ["yes", "no"]}}}}
            status, answer = server.post("/v1/chat/completions", chat)
            self.assertEqual(status, 200, answer)
            self.assertIn(json.loads(answer["choices"][0]["message"]["content"]), ("yes", "no"))

    def test_a_cancelled_request_costs_no_further_step(self):
        with harness.Server("tiny-chat", "--engine", "mock", "--mock-step-time", "5ms") as server:
            with contextlib.closing(server.connection()) as connection:
                connection.request("POST", "/v1/completions",
                                   body=json.dumps({**BODY, "max_tokens": 4000, "stream": True}),
                                   headers={"Content-Type": "application/json"})
                self.assertTrue(connection.getresponse().readline())
            server.wait_for(lambda: self.figure(server, "pixii_engine_running") == 0
                            and self.figure(server, "pixii_engine_blocks_pinned") == 0, what="nothing runs")
            self.assertLess(self.figure(server, "pixii_engine_decode_tokens_total"), 3000)

    def test_steps_take_the_time_that_is_asked_for(self):
        flags = ["--mock-step-time", "10ms", "--mock-decode-time", "20ms", "--mock-prefill-time", "40ms", "--mock-speedup", "2"]
        with harness.Server("tiny-chat", "--engine", "mock", *flags) as server:
            begin = time.monotonic()
            status, answer = server.post("/v1/completions", {**BODY, "prompt": [5, 6, 7, 8, 9], "max_tokens": 5})
            took = time.monotonic() - begin
            self.assertEqual(status, 200, answer)
            self.assertGreaterEqual(took, (10 + 5 * 40 + 4 * (10 + 20)) / 2 / 1000)

    def test_it_takes_the_names_and_the_times_of_the_mocker(self):
        profile = {"prefill_isl": [1], "prefill_ttft_ms": [40], "decode_active_kv_tokens": [0], "decode_context_length": [0],
                   "decode_itl_ms": [[20]]}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(profile, file)
            file.flush()
            cases = (["--mock", "--speedup", "10", "--num-gpu-blocks-override", "600", "--max-num-seqs", "8"],
                     ["--engine", "mock", "--planner-profile-data", file.name, "--speedup-ratio", "2", "--mock-blocks", "600"])
            least = ((16.5 + 4 * 5.74) / 10, (40 + 4 * 20) / 2)
            for flags, milliseconds in zip(cases, least):
                with harness.Server("tiny-chat", *flags) as server:
                    begin = time.monotonic()
                    status, answer = server.post("/v1/completions", {**BODY, "max_tokens": 5})
                    took = time.monotonic() - begin
                    self.assertEqual(status, 200, answer)
                    self.assertGreaterEqual(took * 1000, milliseconds)
                    self.assertEqual(self.figure(server, "pixii_engine_blocks_free")
                                     + self.figure(server, "pixii_engine_blocks_cached"), 600)
            for flags, word in ((["--mock", "--mock-step-time", "1ms"], "mock-timing"), (["--mock-timing", "polynomial"], "--engine mock"),
                                (["--mock", "--mock-timing", "profile"], "mock-profile"),
                                (["--mock", "--mock-profile", "/nowhere"], "/nowhere"),
                                (["--mock", "--mock-blocks", "9", "--kv-tokens", "999"], "mock-blocks")):
                out = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
                self.assertNotEqual(out.returncode, 0, flags)
                self.assertIn(word, out.stderr)

    def test_it_is_never_there_by_accident(self):
        for flags, word in ((["--mock-seed", "3"], "--engine mock"), (["--mock-step-time", "1ms"], "--engine mock"),
                            (["--engine", "mock", "--speculation", "draft"], "speculation"),
                            (["--engine", "mock", "--record", "/nowhere"], "record"), (["--engine", "mok"], "mock")):
            out = harness.run_pixii("serve", "tiny-chat", "--port", "0", *flags)
            self.assertNotEqual(out.returncode, 0)
            self.assertIn(word, out.stderr)

    @staticmethod
    def figure(server, name):
        return sum(value for key, value in server.metrics().items() if key.split("{")[0] == name)


if __name__ == "__main__":
    harness.main()
