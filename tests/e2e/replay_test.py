"""Receipts of answers, and records that `pixii replay` repeats bit for bit."""
import hashlib
import json
import pathlib
import struct
import tempfile
import unittest

import harness


def token_hash(ids):
    return hashlib.sha256(b"".join(struct.pack("<I", i) for i in ids)).hexdigest()


CHAT = {"messages": [{"role": "user", "content": "What is 17 + 25?"}]}
SAMPLED = {"prompt": "My name is", "n": 2, "max_tokens": 24, "temperature": 1.0, "seed": 7, "logprobs": 2, "ignore_eos": True}


class Replay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = harness.Server("tiny-chat", "--record", cls.folder.name, "--numerics", "portable")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.folder.cleanup()

    def answer(self, path, body):
        status, answer = self.server.post(path, body)
        self.assertEqual(status, 200, answer)
        return answer

    def record_of(self, answer):
        path = pathlib.Path(self.folder.name) / f"{answer['id']}.json"
        self.server.wait_for(path.exists, 20, f"the record {path.name}")
        return path

    def replay(self, *arguments):
        return harness.run_pixii("replay", *map(str, arguments), "--numerics", "portable")

    def test_a_receipt_names_model_numerics_seed_and_the_hash_of_the_tokens(self):
        body = dict(SAMPLED, receipt=True, return_token_ids=True)
        answer = self.answer("/v1/completions", body)
        receipt = answer["receipt"]
        self.assertEqual(receipt["seed"], "7")
        self.assertIn("fma", receipt["numerics_id"])
        self.assertTrue(receipt["fingerprint"])
        hashes = [token_hash(choice["token_ids"]) for choice in answer["choices"]]
        self.assertEqual([c["sha256"] for c in receipt["choices"]], hashes)
        self.assertEqual([c["tokens"] for c in receipt["choices"]], [24, 24])
        self.assertNotEqual(hashes[0], hashes[1])

    def test_numerics_name_the_context_that_a_rope_was_made_for(self):
        def numerics(model, context):
            with harness.Server(str(harness.OWN_MODELS / model), "--max-context", context) as server:
                status, answer = server.post("/v1/completions", {"prompt": [5, 6], "max_tokens": 1, "receipt": True})
                self.assertEqual(status, 200, answer)
                return answer["receipt"]["numerics_id"]
        self.assertNotEqual(numerics("phi3-longrope", "100"), numerics("phi3-longrope", "200"))
        self.assertEqual(numerics("llama-yarn", "100"), numerics("llama-yarn", "200"))

    def test_a_stream_carries_the_same_receipt_before_its_end(self):
        body = dict(SAMPLED, receipt=True)
        whole = self.answer("/v1/completions", body)["receipt"]
        chunks = self.server.stream("/v1/completions", dict(body, stream=True, stream_options={"include_usage": True}))
        receipts = [c["receipt"] for c in chunks if "receipt" in c]
        self.assertEqual(receipts, [whole])

    def test_without_being_asked_there_is_none(self):
        self.assertNotIn("receipt", self.answer("/v1/completions", SAMPLED))

    def test_recorded_requests_repeat_bit_for_bit(self):
        bodies = [("/v1/chat/completions", CHAT), ("/v1/completions", SAMPLED),
                  ("/v1/completions", {"prompt": ["One", [5, 6, 7]], "max_tokens": 9, "temperature": 0.8}),
                  ("/v1/completions", {"prompt": "1 2 3 4 5", "max_tokens": 60, "temperature": 1.2, "seed": 3, "stop": ["a", "e"]})]
        paths = [self.record_of(self.answer(path, body)) for path, body in bodies]
        done = self.replay(*paths)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count(": same: "), len(paths), done.stdout)

    def test_another_token_another_logprob_and_another_seed_are_found(self):
        path = self.record_of(self.answer("/v1/completions", SAMPLED))
        record = json.loads(path.read_text())
        self.assertNotIn(" ", record["choices"][0]["logprobs"][0])

        def spoilt(change):
            copy = json.loads(path.read_text())
            change(copy)
            for choice in copy["choices"]:
                choice["sha256"] = token_hash(choice["tokens"])
            out = pathlib.Path(self.folder.name) / "spoilt.json"
            out.write_text(json.dumps(copy))
            return self.replay(out)

        def token(copy):
            copy["choices"][1]["tokens"][10] ^= 1

        def logprob(copy):
            bits = int(copy["choices"][0]["logprobs"][3], 16) ^ 1
            copy["choices"][0]["logprobs"][3] = f"{bits:08x}"

        def numerics(copy):
            copy["numerics_id"] = "other"

        def seed(copy):
            copy["body"] = json.dumps(dict(SAMPLED, seed=8))

        for change, status, words in ((token, 1, "choice 1: token 10"), (logprob, 1, "choice 0: the logprob of token 3"),
                                      (seed, 1, "differs"), (numerics, 2, "numerics")):
            with self.subTest(change.__name__):
                done = spoilt(change)
                self.assertEqual(done.returncode, status, done.stdout + done.stderr)
                self.assertIn(words, done.stdout + done.stderr)

    def test_a_record_that_cannot_be_replayed_leaves_the_others_to_be(self):
        good = self.record_of(self.answer("/v1/completions", SAMPLED))

        def changed(name, change):
            record = json.loads(good.read_text())
            change(record)
            out = pathlib.Path(self.folder.name) / f"{name}.json"
            out.write_text(json.dumps(record))
            return out

        def processor(record):
            record["body"] = json.dumps(dict(SAMPLED, nvext={"logits_processors": ["absent_one"]}))

        def adapter(record):
            record["adapter"], record["adapter_fingerprint"] = "absent_two", "0" * 64

        def model(record):
            record["model"] = "/nonexistent/absent_three"

        def other(record):
            record["body"] = json.dumps(dict(SAMPLED, seed=8))

        changes = [changed("absent_one", processor), changed("absent_two", adapter), changed("absent_three", model)]
        done = self.replay(changes[0], good, changes[1], changes[2], changed("other", other), good)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count(": same: "), 2, done.stdout)
        self.assertIn("records: 2 same, 1 different, 3 failed", done.stdout)
        lines = done.stderr.splitlines()
        for path in changes:
            self.assertTrue(any(f"{path}: failed: " in line and path.stem in line.partition("failed: ")[2] for line in lines), lines)

    def test_files_that_are_no_records_are_refused(self):
        for text in ("", "{}", "[1]", '{"version": 1}'):
            path = pathlib.Path(self.folder.name) / "bad.json"
            path.write_text(text)
            done = self.replay(path)
            self.assertEqual(done.returncode, 2)
            self.assertIn("record", done.stderr)

    def test_portable_numerics_do_not_go_with_an_instruction_set(self):
        done = harness.run_pixii("chat", "hi", "--numerics", "portable", "--isa", "avx2")
        self.assertEqual(done.returncode, 2)
        self.assertIn("numerics", done.stderr)


if __name__ == "__main__":
    harness.main()
