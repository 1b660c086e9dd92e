"""Speculative decoding gives the bytes that decoding alone gives, in fewer steps."""
import unittest

import harness

COPY = "Repeat this list: apple, pear, cherry, plum, grape, melon, lemon, peach, apple, pear, cherry, plum"
REQUESTS = [{"messages": [{"role": "user", "content": text}], "max_tokens": 60, "temperature": t, "seed": s, "logprobs": True}
            for text in ("What is 17 + 25?", "Who are you?", COPY, "What day comes after Monday?", "Sort: 5 3 9 1")
            for t, s in ((0.0, 1), (0.8, 5))]


def answers(*flags):
    with harness.Server("tiny-chat", *flags) as server:
        out = []
        for body in REQUESTS:
            status, answer = server.post("/v1/chat/completions", body)
            assert status == 200, answer
            out.append([(c["message"]["content"], c["finish_reason"], c["logprobs"]) for c in answer["choices"]])
        server.wait_for(lambda: server.metrics().get('pixii_engine_decode_tokens_total{model="tiny-chat"}', 0) > 0)
        return out, server.metrics()


class Speculation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.plain, cls.plain_metrics = answers()

    def check(self, *flags):
        got, metrics = answers(*flags)
        self.assertEqual(got, self.plain)
        figure = {name: metrics[f'pixii_engine_{name}_total{{model="tiny-chat"}}'] for name in
                  ("steps", "drafts", "drafted_tokens", "accepted_tokens", "decode_tokens")}
        return figure

    def test_with_a_draft_model(self):
        figure = self.check("--speculation", "draft")
        self.assertGreater(figure["accepted_tokens"], 0.5 * figure["drafted_tokens"], figure)
        self.assertLess(figure["steps"], 0.6 * self.plain_metrics['pixii_engine_steps_total{model="tiny-chat"}'], figure)

    def test_with_prompt_lookup(self):
        figure = self.check("--speculation", "lookup")
        self.assertGreater(figure["accepted_tokens"], 0)

    def test_a_draft_model_of_another_tokenizer_is_refused(self):
        done = harness.run_pixii("serve", "tiny-chat", "--speculation", "draft", "--draft-model",
                                 str(harness.OWN_MODELS / "llama-gqa"), "--port", "0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("draft-model", done.stderr)


if __name__ == "__main__":
    harness.main()
