"""MTP layers and EAGLE heads: the bytes that decoding alone gives, and fewer steps where the head knows the model."""
import json
import pathlib
import tempfile
import unittest

import draft_heads
import harness

DEEPSEEK = harness.OWN_MODELS / "deepseek-v3"
LLAMA = harness.OWN_MODELS / "llama-llama3-tied"
REQUESTS = [{"prompt": [5 + 7 * i % 190 for i in range(start, start + length)], "max_tokens": 40, "temperature": t, "seed": 3, "logprobs": 2,
             "ignore_eos": True, "return_token_ids": True} for start, length in ((1, 3), (2, 30), (2, 50), (40, 1)) for t in (0.0, 0.9)]


def answers(folder, *flags):
    with harness.Server(folder, "--dtype", "fp32", *flags) as server:
        out = []
        for body in REQUESTS:
            status, answer = server.post("/v1/completions", body)
            assert status == 200, answer
            out.append(answer["choices"])
        name = pathlib.Path(folder).name
        figure = {}
        server.wait_for(lambda: server.metrics().get(f'pixii_engine_decode_tokens_total{{model="{name}"}}', 0) > 0)
        for what in ("steps", "drafts", "drafted_tokens", "accepted_tokens"):
            figure[what] = server.metrics().get(f'pixii_engine_{what}_total{{model="{name}"}}', 0)
        return out, figure


class DraftHeads(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)

    def check(self, folder, knowing, *flags):
        plain, plain_figure = answers(folder)
        got, figure = answers(folder, *flags)
        self.assertEqual(got, plain)
        self.assertGreater(figure["drafted_tokens"], 0)
        if knowing:
            self.assertGreater(figure["accepted_tokens"], 0.8 * figure["drafted_tokens"], figure)
            self.assertLess(figure["steps"], 0.5 * plain_figure["steps"], figure)

    def test_a_prediction_layer_that_knows_the_model(self):
        self.check(draft_heads.add_prediction_layer(DEEPSEEK, self.scratch / "m", knowing=True), True, "--speculation", "mtp")

    def test_a_prediction_layer_of_random_weights(self):
        self.check(draft_heads.add_prediction_layer(DEEPSEEK, self.scratch / "m"), False, "--speculation", "mtp", "--overlap")

    def test_an_eagle_head_that_knows_the_model(self):
        target, head = draft_heads.make_eagle(LLAMA, self.scratch / "m", self.scratch / "e", knowing=True)
        self.check(target, True, "--speculation", "eagle", "--draft-model", head)

    def test_an_eagle_head_of_random_weights_in_an_engine_yaml(self):
        target, head = draft_heads.make_eagle(LLAMA, self.scratch / "m", self.scratch / "e")
        yaml = self.scratch / "engine.yaml"
        yaml.write_text(f"speculative_config:\n  decoding_type: Eagle\n  max_draft_len: 3\n  speculative_model: {head}\n")
        self.check(target, False, "--extra-engine-args", str(yaml))

    def refusal(self, folder, *flags):
        done = harness.run_pixii("serve", folder, *flags, "--port", "0")
        self.assertEqual(done.returncode, 2, done.stderr)
        return done.stderr

    def test_what_cannot_be_run_is_refused_by_name(self):
        self.assertIn("num_nextn_predict_layers", self.refusal(str(LLAMA), "--speculation", "mtp"))
        target, head = draft_heads.make_eagle(LLAMA, self.scratch / "m", self.scratch / "e")
        path = pathlib.Path(head) / "config.json"
        config = json.loads(path.read_text())
        eagle = ("--speculation", "eagle", "--draft-model", head)
        path.write_text(json.dumps({**config, "architectures": ["LlamaForCausalLMEagle3"]}))
        self.assertIn("EAGLE-3", self.refusal(target, *eagle))
        path.write_text(json.dumps({**config, "vocab_size": config["vocab_size"] + 1}))
        self.assertIn("draft-model", self.refusal(target, *eagle))
        path.write_text(json.dumps(config))
        self.assertIn("fc", self.refusal(target, "--speculation", "eagle", "--draft-model", str(LLAMA)))


if __name__ == "__main__":
    harness.main()
