"""Sleep and wake: /engine/control gives the memory back, and the answers afterwards are the same."""
import json
import pathlib
import shutil
import struct
import tempfile
import threading
import unittest

import adapters
import harness

RELEASE = "/engine/control/release_memory_occupation"
RESUME = "/engine/control/resume_memory_occupation"
TEXT = "/v1/completions"
MIB = 1 << 20


def wide_llama(folder, layers=6, hidden=768, inner=2048, vocab=512):
    """A Llama of about 100 MiB whose weights are a short pattern of small numbers."""
    folder = pathlib.Path(folder)
    source = harness.OWN_MODELS / "llama-gqa"
    config = json.loads((source / "config.json").read_text())
    config.update(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=12,
                  num_key_value_heads=4, head_dim=64, vocab_size=vocab, tie_word_embeddings=False, max_position_embeddings=2048)
    config.pop("rope_scaling", None)
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "lm_head.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    for i in range(layers):
        at = f"model.layers.{i}."
        shapes.update({at + "input_layernorm.weight": [hidden], at + "post_attention_layernorm.weight": [hidden],
                       at + "self_attn.q_proj.weight": [768, hidden], at + "self_attn.k_proj.weight": [256, hidden],
                       at + "self_attn.v_proj.weight": [256, hidden], at + "self_attn.o_proj.weight": [hidden, 768],
                       at + "mlp.gate_proj.weight": [inner, hidden], at + "mlp.up_proj.weight": [inner, hidden],
                       at + "mlp.down_proj.weight": [hidden, inner]})
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    state, words = 12345, []
    for _ in range(4099):  # a prime: rows differ
        state = (state * 1103515245 + 12345) % (1 << 31)
        words.append(struct.unpack("<I", struct.pack("<f", (state / (1 << 30) - 1) * 0.06))[0] >> 16)
    pattern = struct.pack(f"<{len(words)}H", *words)
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        while offset > 0:
            piece = pattern[:min(offset, len(pattern))]
            out.write(piece)
            offset -= len(piece)
    return str(folder)


class Sleep(unittest.TestCase):
    def ask(self, server, **fields):
        body = {"prompt": list(range(5, 205)), "max_tokens": 16, "temperature": 0.8, "seed": 3, "logprobs": 1, "ignore_eos": True,
                "return_token_ids": True, **fields}
        status, answer = server.post(TEXT, body)
        return status, answer.get("choices", answer), answer.get("usage")

    @staticmethod
    def resident(server):
        return server.process_figures()["rss_kib"] * 1024

    @staticmethod
    def get(server, path):
        status, _, answer = server.request("GET", path)
        return status, answer

    def post(self, server, route, body=None):
        return server.post(route, {} if body is None else body)

    def test_memory_falls_and_comes_back_with_the_same_answers(self):
        with tempfile.TemporaryDirectory() as folder, \
             harness.Server(wide_llama(folder), "--kv-memory", "64MiB", "--max-batched-tokens", "64") as server:
            status, before, usage = self.ask(server)
            self.assertEqual(status, 200, before)
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)
            warm = self.ask(server)
            self.assertEqual(warm[1], before)
            self.assertGreater(warm[2]["prompt_tokens_details"]["cached_tokens"], 100)
            awake = self.resident(server)
            weights = pathlib.Path(folder, "model.safetensors").stat().st_size
            self.assertGreater(weights, 70 * MIB)

            status, answer = self.post(server, RELEASE, {"tags": ["kv_cache", "weights"], "timeout_s": 30})
            self.assertEqual((status, answer["status"]), (200, "ok"), answer)
            asleep = self.resident(server)
            self.assertLess(asleep, awake - weights * 8 // 10, (awake, asleep, weights))
            status, refused, _ = self.ask(server)
            self.assertEqual(status, 503)
            self.assertEqual(refused["error"]["code"], "unavailable")
            self.assertEqual(self.get(server, "/ready")[0], 503)
            self.assertIn("sleeps", self.get(server, "/ready")[1]["message"])
            self.assertEqual(self.get(server, "/live")[0], 200)
            self.assertIn(1, [value for name, value in server.metrics().items() if name.startswith("pixii_engine_asleep")])

            status, answer = self.post(server, RESUME, {"tags": ["kv_cache", "weights"]})
            self.assertEqual((status, answer["status"]), (200, "ok"), answer)
            server.wait_for(lambda: self.get(server, "/ready")[0] == 200, what="ready again")
            status, after, usage = self.ask(server)
            self.assertEqual((status, after), (200, before))
            # What was in the cache is lost, and is not taken for what it was.
            self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], 0)
            self.assertGreater(self.resident(server), asleep + weights // 2)

    def test_weights_alone_keep_the_cache_and_the_cache_alone_loses_it(self):
        with harness.Server("tiny-chat", "--speculation", "draft") as server:
            _, before, _ = self.ask(server)
            for tags, kept in ((["weights"], True), (["kv_cache"], False)):
                self.assertEqual(self.post(server, RELEASE, {"tags": tags})[0], 200)
                self.assertEqual(self.ask(server)[0], 503)
                self.assertEqual(self.post(server, RELEASE, {"tags": tags})[0], 200)  # it sleeps already
                self.assertEqual(self.post(server, RESUME)[0], 200)
                status, after, usage = self.ask(server)
                self.assertEqual((status, after), (200, before))
                self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"] > 0, kept)
            self.assertEqual(self.post(server, RESUME)[0], 200)  # it is awake already

    def test_adapters_are_there_again(self):
        shapes = adapters.linears(harness.ROOT / "models/tiny-chat")
        with tempfile.TemporaryDirectory() as folder:
            fox = adapters.write(pathlib.Path(folder, "fox"), dict(list(shapes.items())[:9]), 1, 4)
            with harness.Server("tiny-chat", "--lora", f"fox={fox}") as server:
                _, plain, _ = self.ask(server)
                _, before, _ = self.ask(server, model="fox")
                self.assertNotEqual(before, plain)
                self.assertEqual(self.post(server, RELEASE)[0], 200)
                self.assertEqual(self.post(server, RESUME)[0], 200)
                self.assertEqual(self.ask(server, model="fox")[1], before)
                self.assertEqual(self.ask(server)[1], plain)

    def test_what_runs_ends_first_and_what_comes_meanwhile_is_refused(self):
        with harness.Server("tiny-chat") as server:
            _, alone, _ = self.ask(server, max_tokens=400)
            running = {}
            thread = threading.Thread(target=lambda: running.update(answer=self.ask(server, max_tokens=400)))
            thread.start()
            server.wait_for(lambda: server.metrics()['dynamo_frontend_active_requests{model="tiny-chat"}'] > 0, what="a request")
            status, answer = self.post(server, RELEASE)
            self.assertEqual(status, 200, answer)
            thread.join()
            self.assertEqual(running["answer"][1], alone)
            connection = server.connection()
            connection.request("POST", TEXT, body=json.dumps({"prompt": "x", "stream": True}),
                               headers={"Content-Type": "application/json"})
            refused = connection.getresponse()
            self.assertEqual(refused.status, 503)
            self.assertIsNotNone(refused.getheader("Retry-After"))
            connection.close()
            self.assertEqual(self.post(server, RESUME)[0], 200)
            self.assertEqual(self.ask(server, max_tokens=400)[1], alone)

    def test_a_release_that_cannot_wait_is_refused_and_nothing_has_happened(self):
        with harness.Server("tiny-chat", "--threads", "1") as server:
            _, alone, _ = self.ask(server, max_tokens=1200)
            running = {}
            thread = threading.Thread(target=lambda: running.update(answer=self.ask(server, max_tokens=1200)))
            thread.start()
            server.wait_for(lambda: server.metrics()['dynamo_frontend_active_requests{model="tiny-chat"}'] > 0, what="a request")
            status, answer = self.post(server, RELEASE, {"timeout_s": 0})
            self.assertEqual((status, answer["status"]), (504, "error"), answer)
            self.assertIn("still ran", answer["message"])
            thread.join()
            self.assertEqual(running["answer"][1], alone)
            self.assertEqual(self.ask(server, max_tokens=20)[0], 200)

    def test_bad_requests_and_the_switch(self):
        with harness.Server("tiny-chat", "--no-engine-control") as server:
            self.assertEqual(self.post(server, RELEASE)[0], 400)
            self.assertEqual(self.ask(server)[0], 200)
        with harness.Server("tiny-chat") as server:
            for body, param in (({"tags": []}, "tags"), ({"tags": ["kv"]}, "tags"), ({"tags": "weights"}, "tags"),
                                ({"timeout_s": -1}, "timeout_s"), ({"timeout_s": "x"}, "timeout_s"), ({"timeout": 3}, "timeout")):
                status, answer = self.post(server, RELEASE, body)
                self.assertEqual((status, answer["error"]["param"]), (400, param), answer)
            self.assertEqual(self.ask(server)[0], 200)

    def test_another_checkpoint_in_the_folder_is_not_taken(self):
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder, "model")
            shutil.copytree(harness.OWN_MODELS / "llama-gqa", model)
            with harness.Server(str(model)) as server:
                status, before, _ = self.ask(server)
                self.assertEqual(status, 200, before)
                self.assertEqual(self.post(server, RELEASE)[0], 200)
                weights = model / "model.safetensors"
                kept = weights.read_bytes()
                changed = bytearray(kept)
                for i in range(len(changed) // 2, len(changed), 64):
                    changed[i] ^= 1
                weights.write_bytes(changed)
                status, answer = self.post(server, RESUME)
                self.assertEqual((status, answer["status"]), (500, "error"), answer)
                self.assertEqual(self.ask(server)[0], 503)
                weights.write_bytes(kept)
                self.assertEqual(self.post(server, RESUME)[0], 200)
                self.assertEqual(self.ask(server)[1], before)


if __name__ == "__main__":
    harness.main()
