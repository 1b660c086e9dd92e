"""Embedding models, classifiers and rerankers through the server: golden values, and the same bits in any company."""
import base64
import concurrent.futures
import json
import math
import pathlib
import shutil
import struct
import tempfile
import unittest

import harness

LIMIT = 1e-4  # of the largest golden value
EMBED = ("bert-mean", "bert-modes", "distilbert-mean", "qwen3-embedding", "qwen3-mean", "roberta-mean", "xlmr-cls")
CLASSIFY = ("bert-classes", "distilbert-classes", "qwen3-classes", "xlmr-reranker")


def tensors(path):
    """name -> flat list of floats of a safetensors file of fp32."""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            out[name] = list(struct.unpack(f"<{(end - begin) // 4}f", data[8 + size + begin:8 + size + end]))
    return out


def golden(name, result):
    """[(ids, types or None, expected)] of a case."""
    folder = harness.OWN_MODELS / name
    text = json.loads((folder / "golden.json").read_text())
    values = tensors(folder / "golden.safetensors")
    types = text.get("token_types", {})
    return [(ids, types.get(key), values[f"{key}.{result}"]) for key, ids in text["prompts"].items()]


def serve(name, *flags):
    return harness.Server(str(harness.OWN_MODELS / name), "--dtype", "fp32", *flags)


def floats(item):
    return list(struct.unpack(f"<{len(base64.b64decode(item)) // 4}f", base64.b64decode(item)))


def crowd(work, count=16):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [job.result() for job in [pool.submit(each) for each in work]]


class Pooling(unittest.TestCase):
    def expect_close(self, ours, expected, what):
        self.assertEqual(len(ours), len(expected), what)
        scale = max(abs(value) for value in expected)
        worst = max(abs(a - b) for a, b in zip(ours, expected))
        self.assertLessEqual(worst, LIMIT * scale, what)

    def expect_same_in_a_crowd(self, server, cases, ask, read):
        """Each case alone, then all of them many times at once, alone and side by side in one request."""
        alone = []
        for ids, types, expected in cases:
            values = read(ask([ids], types and [types]))[0]
            self.expect_close(values, expected, len(ids))
            alone.append(values)
        jobs = []
        for repeat in range(4):
            for index, (ids, types, _) in enumerate(cases):
                jobs.append((lambda i=ids, t=types: read(ask([i], t and [t])), [alone[index]]))
            order = cases[repeat % len(cases):] + cases[:repeat % len(cases)]
            wanted = alone[repeat % len(cases):] + alone[:repeat % len(cases)]
            types = [case[1] for case in order]
            jobs.append((lambda o=order, t=types: read(ask([case[0] for case in o], t if t[0] else None)), wanted))
        for values, (_, wanted) in zip(crowd([job[0] for job in jobs]), jobs):
            self.assertEqual(values, wanted)
        metrics = server.metrics()
        self.assertEqual(metrics[f'pixii_engine_blocks_pinned{{model="{self.name}"}}'], 0)

    def test_embeddings_are_the_golden_ones_in_any_company(self):
        for name in EMBED:
            self.name = name
            for flags in ((), ("--max-batched-tokens", "64", "--overlap")):
                with self.subTest(name, flags=flags), serve(name, *flags) as server:
                    def ask(inputs, types):
                        body = {"input": inputs, "encoding_format": "base64", "token_type_ids": types}
                        status, answer = server.post("/v1/embeddings", body)
                        self.assertEqual(status, 200, answer)
                        self.assertEqual(answer["usage"]["prompt_tokens"], sum(map(len, inputs)))
                        return answer

                    self.expect_same_in_a_crowd(server, golden(name, "pooled"), ask, lambda answer: [
                        floats(item["embedding"]) for item in answer["data"]])

    def test_class_logits_are_the_golden_ones_in_any_company(self):
        for name in CLASSIFY:
            self.name = name
            with self.subTest(name), serve(name) as server:
                def ask(inputs, types):
                    body = {"input": inputs, "use_activation": False, "token_type_ids": types}
                    status, answer = server.post("/classify", body)
                    self.assertEqual(status, 200, answer)
                    return answer

                self.expect_same_in_a_crowd(server, golden(name, "classes"), ask, lambda answer: [
                    item["probs"] for item in answer["data"]])


def words(ids):
    return " ".join(f"w{token}" for token in ids)


def with_tokenizer(name, folder, post_processor=None, template=None):
    """A copy of a case whose token i is written "wi"."""
    copy = pathlib.Path(folder) / name
    shutil.copytree(harness.OWN_MODELS / name, copy)
    vocab = {f"w{i}": i for i in range(json.loads((copy / "config.json").read_text())["vocab_size"])}
    (copy / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": post_processor, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w3"}}))
    if template:
        (copy / "chat_template.jinja").write_text(template)
    return str(copy)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


class Texts(unittest.TestCase):
    def test_a_cross_encoder_scores_and_ranks_pairs_as_its_tokenizer_joins_them(self):
        roberta = {"type": "RobertaProcessing", "sep": ["w2", 2], "cls": ["w0", 0], "trim_offsets": True,
                   "add_prefix_space": False}
        with tempfile.TemporaryDirectory() as folder, harness.Server(
                with_tokenizer("xlmr-reranker", folder, roberta), "--dtype", "fp32") as server:
            query, documents = [7, 8], [[30], [40, 41, 42], [50, 51]]
            joined = [[0, *query, 2, 2, *document, 2] for document in documents]
            _, classes = server.post("/classify", {"input": joined, "use_activation": False})
            logits = [item["probs"][0] for item in classes["data"]]
            status, score = server.post("/v1/score", {
                "text_1": words(query), "text_2": [words(document) for document in documents]})
            self.assertEqual(status, 200, score)
            for item, logit in zip(score["data"], logits):
                self.assertAlmostEqual(item["score"], sigmoid(logit), places=6)
            self.assertEqual(score["usage"]["prompt_tokens"], sum(map(len, joined)))
            _, ranks = server.post("/v1/rerank", {
                "query": words(query), "documents": [words(document) for document in documents], "top_n": 2})
            order = sorted(range(3), key=lambda i: -logits[i])[:2]
            self.assertEqual([item["index"] for item in ranks["results"]], order)
            self.assertEqual(ranks["results"][0]["document"]["text"], words(documents[order[0]]))
            _, _, models = server.request("GET", "/v1/models")
            self.assertEqual(models["data"][0]["task"], "score")

    def test_a_generator_with_score_tokens_ranks_by_the_golden_logits_and_still_generates(self):
        roles = ('w1 {{ messages | selectattr("role", "equalto", "query") | map(attribute="content") | first }} w2 '
                 '{{ messages | selectattr("role", "equalto", "document") | map(attribute="content") | first }}')
        yes, no = json.loads((harness.OWN_MODELS / "qwen3-reranker/golden.json").read_text())["score_tokens"]
        with tempfile.TemporaryDirectory() as folder, harness.Server(
                with_tokenizer("qwen3-reranker", folder), "--dtype", "fp32") as server:
            for ids, _, logits in golden("qwen3-reranker", "logits"):
                half = len(ids) // 2
                status, score = server.post("/v1/score", {"text_1": words(ids[:half]), "text_2": words(ids[half:])})
                self.assertEqual(status, 200, score)
                self.assertAlmostEqual(score["data"][0]["score"], sigmoid(logits[yes] - logits[no]), places=4)
            status, answer = server.post("/v1/completions", {"prompt": [7, 8], "max_tokens": 2})
            self.assertEqual(status, 200, answer)
            _, plain = server.post("/v1/score", {"text_1": "w1 w7 w2", "text_2": "w9 w10"})
            self.assertEqual(server.post("/v1/score", {"text_1": "w1", "text_2": "w2", "instruction": "w3"})[0], 400)
        with tempfile.TemporaryDirectory() as folder, harness.Server(
                with_tokenizer("qwen3-reranker", folder, template=roles), "--dtype", "fp32") as server:
            _, framed = server.post("/v1/score", {"text_1": "w7", "text_2": "w9 w10"})
            self.assertEqual(framed["data"], plain["data"])

    def test_a_model_that_embeds_scores_by_the_cosine_of_the_golden_vectors(self):
        with tempfile.TemporaryDirectory() as folder, harness.Server(
                with_tokenizer("qwen3-embedding", folder), "--dtype", "fp32") as server:
            (first, _, a), *others = golden("qwen3-embedding", "pooled")
            status, score = server.post("/score", {
                "text_1": words(first), "text_2": [words(ids) for ids, _, _ in others]})
            self.assertEqual(status, 200, score)
            for item, (_, _, b) in zip(score["data"], others):
                cosine = sum(x * y for x, y in zip(a, b))
                self.assertAlmostEqual(item["score"], cosine, places=4)
            _, texts = server.post("/v1/embeddings", {"input": words(first)})
            _, ids = server.post("/v1/embeddings", {"input": first})
            self.assertEqual(texts["data"], ids["data"])


class Surfaces(unittest.TestCase):
    def test_a_model_that_embeds_says_so_and_does_not_chat(self):
        with serve("qwen3-embedding") as server:
            _, _, models = server.request("GET", "/v1/models")
            self.assertEqual(models["data"][0]["task"], "embed")
            self.assertEqual(models["data"][0]["dimensions"], 56)
            for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
                               ("/v1/completions", {"prompt": [1, 2]}),
                               ("/classify", {"input": [1, 2]})):
                status, answer = server.post(path, body)
                self.assertEqual((status, answer["error"]["param"]), (404, "model"), answer)
            status, answer = server.post("/v1/embeddings", {"input": [1, 2, 3], "dimensions": 8})
            self.assertEqual((status, answer["error"]["param"]), (400, "dimensions"))
            status, answer = server.post("/v1/embeddings", {"input": list(range(100)) * 3})
            self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"))
            status, answer = server.post(
                "/v1/embeddings", {"input": list(range(100)) * 3, "truncate_prompt_tokens": -1, "receipt": True})
            self.assertEqual((status, answer["usage"]["prompt_tokens"]), (200, 256))
            self.assertTrue(answer["receipt"]["numerics_id"])
            self.assertAlmostEqual(sum(x * x for x in answer["data"][0]["embedding"]), 1, places=5)

    def test_a_model_that_chats_gives_no_embeddings(self):
        with harness.Server("tiny-chat") as server:
            for path, body in (("/v1/embeddings", {"input": "hi"}), ("/v1/rerank", {"query": "a", "documents": ["b"]}),
                               ("/v1/score", {"text_1": "a", "text_2": "b"}), ("/classify", {"input": "hi"})):
                status, answer = server.post(path, body)
                self.assertEqual((status, answer["error"]["param"]), (404, "model"), answer)
            _, _, models = server.request("GET", "/v1/models")
            self.assertEqual(models["data"][0]["task"], "generate")


if __name__ == "__main__":
    harness.main()
