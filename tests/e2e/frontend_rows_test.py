"""Rows of the frontend's acceptance table (docs/feature_status.md) that need a whole server, each by its number."""
import contextlib
import json
import unittest

import harness

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = {"model": "tiny-chat", "messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0}


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


class Rows(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat", "--body-limit", "65536", "--max-context", "512")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.folder.cleanup()

    def post(self, path, body, status=200):
        got, answer = self.server.post(path, body)
        self.assertEqual(got, status, answer)
        return answer

    def requests_seen(self):
        return sum(value for name, value in self.server.metrics().items()
                   if name.startswith("pixii_engine_decode_tokens_total"))

    def test_row_a1_a2_a10_usage_and_streams_of_a_chat(self):
        answer = self.post(CHAT, HELLO)
        count = self.post("/tokenize", {"messages": HELLO["messages"]})["count"]
        self.assertEqual(answer["usage"]["prompt_tokens"], count)
        chunks = list(self.server.stream(CHAT, {**HELLO, "stream_options": {"include_usage": True}}))
        self.assertEqual("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]), text_of(answer))
        self.assertEqual(sum(1 for c in chunks for choice in c["choices"] if choice["finish_reason"]), 1)
        self.assertEqual((chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]), ([], answer["usage"]["completion_tokens"]))

    def test_row_a4_completions_of_texts_ids_and_batches(self):
        ids = self.post("/tokenize", {"prompt": "One two"})["tokens"]
        single = [self.post(TEXT, {"prompt": prompt, "temperature": 0, "max_tokens": 6})["choices"][0]["text"]
                  for prompt in ("One two", ids, "three")]
        self.assertEqual(single[0], single[1])
        batch = self.post(TEXT, {"prompt": ["One two", "three"], "temperature": 0, "max_tokens": 6})["choices"]
        self.assertEqual([choice["index"] for choice in batch], [0, 1])
        self.assertEqual([choice["text"] for choice in batch], [single[0], single[2]])

    def test_row_a10_tokens_of_a_hundred_texts_come_back(self):
        for i in range(100):
            text = f"{i}: " + "".join(chr(code) for code in (0x41 + i, 0xE4 + i, 0x4E00 + 37 * i, 0x1F600 + i % 60)) + " \n\t" * (i % 3)
            tokens = self.post("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
            self.assertEqual(self.post("/detokenize", {"tokens": tokens})["prompt"], text)
        self.post("/tokenize", {"messages": HELLO["messages"], "add_generation_prompt": True, "continue_final_message": True}, 400)

    def test_row_a12_a_body_past_the_limit_and_one_at_it(self):
        frame = json.dumps({"prompt": ""}).encode()
        for size, expected in ((65536, 400), (65537, 413)):  # at the limit it is read: the prompt is past the context
            body = frame.replace(b'""', b'"' + b"a" * (size - len(frame)) + b'"')
            self.assertEqual(len(body), size)
            self.assertEqual(self.server.request("POST", TEXT, body)[0], expected)
        self.assertEqual(self.server.request("GET", "/v1/models")[0], 200)

    def test_row_a13_a14_a15_malformed_bodies_unknown_models_and_fields(self):
        for body in ("{", '{"messages":5}', "[]", '{"messages":[]}'):
            status, _, answer = self.server.request("POST", CHAT, body)
            self.assertEqual((status, answer["code"]), (400, 400), body)
        self.assertEqual(self.server.request("POST", CHAT, "{}", {"Content-Type": "text/plain"})[0], 415)
        busy = lambda body, kind="application/json": self.server.request("POST", "/busy_threshold", body, {"Content-Type": kind})
        self.assertEqual(busy('{"model":7}')[0], 422)
        self.assertEqual(busy("{}", "text/plain")[0], 415)
        self.assertEqual(busy("{")[0], 400)
        answer = self.post(CHAT, {**HELLO, "model": "nobody"}, 404)
        self.assertEqual((answer["code"], answer["type"]), (404, "Not Found"))
        self.assertIn("nobody", answer["message"])
        self.assertEqual(self.post(CHAT, {**HELLO, "foo": 1}, 400)["error"]["param"], "foo")

    def test_row_a16_null_is_absent_and_zero_is_zero(self):
        sampled = {**HELLO, "seed": 3, "top_p": 0.9}
        without = {k: v for k, v in sampled.items() if k != "temperature"}
        self.assertEqual(text_of(self.post(CHAT, {**sampled, "temperature": None})), text_of(self.post(CHAT, without)))
        self.assertEqual(text_of(self.post(CHAT, {**sampled, "temperature": 0})), text_of(self.post(CHAT, HELLO)))

    def test_row_a20_a21_the_context_is_a_bound_before_and_behind(self):
        before = self.requests_seen()
        answer = self.post(TEXT, {"prompt": "word " * 2000, "max_tokens": 4}, 400)
        self.assertEqual(answer["error"]["code"], "context_length_exceeded")
        self.assertEqual(self.requests_seen(), before, "the engine heard nothing of it")
        answer = self.post(TEXT, {"prompt": "One two", "ignore_eos": True, "temperature": 0})
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(answer["usage"]["total_tokens"], 512)

    def test_row_a24_a25_a26_stops(self):
        whole = text_of(self.post(CHAT, HELLO))
        stop = whole[len(whole) // 2:len(whole) // 2 + 3]
        choice = self.post(CHAT, {**HELLO, "stop": [stop]})["choices"][0]
        self.assertEqual((choice["message"]["content"], choice["finish_reason"], choice["stop_reason"]),
                         (whole[:whole.index(stop)], "stop", stop))
        kept = self.post(CHAT, {**HELLO, "stop": [stop], "include_stop_str_in_output": True})
        self.assertEqual(text_of(kept), whole[:whole.index(stop) + len(stop)])
        natural = self.post(CHAT, HELLO)
        self.assertIsNone(natural["choices"][0].get("stop_reason"))
        least = natural["usage"]["completion_tokens"] + 5
        self.assertGreaterEqual(self.post(CHAT, {**HELLO, "min_tokens": least, "max_tokens": 60})["usage"]["completion_tokens"], least)
        before = self.requests_seen()
        self.post(TEXT, {"prompt": "One two", "temperature": 0, "ignore_eos": True, "max_tokens": 400, "stop": [" ", "e"]})
        self.server.wait_for(lambda: sum(v for k, v in self.server.metrics().items() if k.startswith("pixii_engine_running")) == 0,
                             2, "nothing runs")
        self.assertIn(self.requests_seen() - before, range(1, 100), "a stop string ends the work upstream")

    def test_row_a27_logprobs_are_sorted_and_have_the_chosen_token(self):
        content = self.post(CHAT, {**HELLO, "logprobs": True, "top_logprobs": 3})["choices"][0]["logprobs"]["content"]
        for entry in content:
            shown = [top["logprob"] for top in entry["top_logprobs"]]
            self.assertEqual((len(shown), shown), (3, sorted(shown, reverse=True)))
            self.assertIn(entry["token"], [top["token"] for top in entry["top_logprobs"]])
        ids = self.post(CHAT, {**HELLO, "logprobs": True, "return_tokens_as_token_ids": True})["choices"][0]["logprobs"]["content"]
        self.assertTrue(all(entry["token"].startswith("token_id:") for entry in ids))

    def test_row_a35_a36_nvext_shows_what_is_asked_for(self):
        self.assertNotIn("nvext", self.post(CHAT, HELLO))
        chunks = list(self.server.stream(CHAT, {**HELLO, "nvext": {"extra_fields": ["timing", "worker_id"], "annotations": ["nothing"]}}))
        self.assertEqual([i for i, chunk in enumerate(chunks) if "nvext" in chunk], [len(chunks) - 1])
        self.assertIn("ttft_ms", chunks[-1]["nvext"]["timing"])

    def test_row_a40_a_request_id_comes_back(self):
        status, headers, _ = self.server.request("POST", CHAT, HELLO, {"x-request-id": "row-a40"})
        self.assertEqual((status, headers["x-request-id"]), (200, "row-a40"))

    def test_row_a41_health_tells_a_drain_and_live_stays(self):
        with harness.Server("tiny-chat") as server:
            status, _, body = server.request("GET", "/health")
            self.assertEqual((status, body["status"]), (200, "healthy"))
            self.assertEqual(server.request("GET", "/live")[2]["status"], "live")
            with contextlib.closing(server.connection()) as connection:
                connection.request("POST", CHAT, json.dumps({**HELLO, "max_tokens": 4000, "ignore_eos": True, "stream": True}),
                                   {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.readline()
                server.process.terminate()
                server.wait_for(lambda: server.request("GET", "/health")[0] == 503, 5, "health says the drain")
                self.assertEqual(server.request("GET", "/health")[2]["stage"], "draining")
                self.assertEqual(server.request("GET", "/live")[0], 200)


if __name__ == "__main__":
    harness.main()
