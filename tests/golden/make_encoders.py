#!/usr/bin/env python3
"""Makes the golden cases of encoders, embedding models and rerankers: tiny, random weights.

usage: make_encoders.py OUT_FOLDER [CASE...]

Needs torch, transformers and safetensors; made with transformers 5.17 in fp32 with eager attention.
Weights are rounded to bf16 before the goldens are computed, and stored as bf16. Pooling, dense and
normalize modules are done by hand as sentence-transformers' modules of these names define them.

golden.json: {"prompts": {name: ids}, "token_types": {name: types}, "score_tokens": [yes, no]}.
golden.safetensors: NAME.hidden.I [tokens, hidden], then one of NAME.pooled [1, features] (embedding models),
NAME.classes [1, labels] (classifiers), NAME.logits [1, vocab] (decoders that score by two tokens).
"""
import json
import pathlib
import sys
import traceback

import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig, BertForSequenceClassification, BertModel, DistilBertConfig,
    DistilBertForSequenceClassification, DistilBertModel, Qwen3Config, Qwen3ForCausalLM,
    Qwen3ForSequenceClassification, Qwen3Model, RobertaConfig, RobertaModel, XLMRobertaConfig,
    XLMRobertaForSequenceClassification, XLMRobertaModel)

SAFE = {"format": "pt"}


def randomize(model, seed):
    """Values of a size that makes every layer matter, exactly representable in bf16."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                noise = 1.0 + 0.2 * noise
            elif value.dim() == 1:
                noise = 0.1 * noise
            elif "embed" in name:
                noise = 0.5 * noise
            else:
                noise = noise * (1.2 / value.shape[-1] ** 0.5)
            value.copy_(noise.to(torch.bfloat16).to(torch.float32))
    return model.eval()


def prompts_of(lengths, vocab, seed, low=5):
    generator = torch.Generator().manual_seed(seed)
    return {f"p{n}": torch.randint(low, vocab, (n,), generator=generator).tolist() for n in lengths}


def pair_types(prompts):
    """A pair's types: the second text begins at two fifths."""
    return {name: [int(i >= len(ids) * 2 // 5) for i in range(len(ids))] for name, ids in prompts.items()}


def pool(hidden, modes):
    n = hidden.shape[0]
    out = []
    for mode in ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"):
        if mode not in modes:
            continue
        if mode == "cls":
            out.append(hidden[0])
        elif mode == "max":
            out.append(hidden.max(dim=0).values)
        elif mode == "mean":
            out.append(hidden.sum(dim=0) / n)
        elif mode == "mean_sqrt_len":
            out.append(hidden.sum(dim=0) / n ** 0.5)
        elif mode == "weightedmean":
            weights = torch.arange(1, n + 1, dtype=hidden.dtype)[:, None]
            out.append((hidden * weights).sum(dim=0) / weights.sum())
        else:
            out.append(hidden[-1])
    return torch.cat(out)


class Modules:
    """modules.json and what it names: pooling, dense, normalize."""

    def __init__(self, modes, hidden, dense=None, normalize=True):
        self.modes, self.hidden, self.normalize = modes, hidden, normalize
        self.dense = None
        if dense:
            generator = torch.Generator().manual_seed(77)
            self.features = hidden * len(modes)
            weight = torch.randn((dense, self.features), generator=generator) / self.features ** 0.5
            bias = 0.1 * torch.randn((dense,), generator=generator)
            self.dense = [x.to(torch.bfloat16).to(torch.float32) for x in (weight, bias)]

    def apply(self, hidden):
        out = pool(hidden, self.modes)
        if self.dense:
            out = torch.tanh(torch.nn.functional.linear(out, *self.dense))
        if self.normalize:
            out = torch.nn.functional.normalize(out, p=2, dim=0)
        return out

    def save(self, folder):
        entries = [("", "Transformer"), ("1_Pooling", "Pooling")]
        keys = {"cls": "cls_token", "max": "max_tokens", "mean": "mean_tokens",
                "mean_sqrt_len": "mean_sqrt_len_tokens", "weightedmean": "weightedmean_tokens",
                "lasttoken": "lasttoken"}
        pooling = {"word_embedding_dimension": self.hidden}
        pooling |= {f"pooling_mode_{key}": mode in self.modes for mode, key in keys.items()}
        pooling["include_prompt"] = True
        write_json(folder / "1_Pooling" / "config.json", pooling)
        if self.dense:
            entries.append((f"{len(entries)}_Dense", "Dense"))
            write_json(folder / entries[-1][0] / "config.json",
                       {"in_features": self.features, "out_features": self.dense[0].shape[0], "bias": True,
                        "activation_function": "torch.nn.modules.activation.Tanh"})
            save_file({"linear.weight": self.dense[0], "linear.bias": self.dense[1]},
                      folder / entries[-1][0] / "model.safetensors", metadata=SAFE)
        if self.normalize:
            entries.append((f"{len(entries)}_Normalize", "Normalize"))
        write_json(folder / "modules.json",
                   [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
                    for i, (path, kind) in enumerate(entries)])


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def save_model(folder, model, **config_changes):
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= config_changes
    write_json(folder / "config.json", config)


def save_golden(folder, prompts, tensors, **more):
    write_json(folder / "golden.json", {"prompts": prompts} | more)
    save_file({k: v.detach().to(torch.float32).contiguous().clone() for k, v in tensors.items()},
              folder / "golden.safetensors", metadata=SAFE)


def run(model, ids, types=None, **options):
    arguments = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long)}
    if types is not None:
        arguments["token_type_ids"] = torch.tensor([types])
    with torch.no_grad():
        return model(**arguments, output_hidden_states=True, **options)


def add_hidden(tensors, name, output, hidden_of):
    if name in hidden_of:
        for i, layer in enumerate(output.hidden_states):
            tensors[f"{name}.hidden.{i}"] = layer[0]


def embedding_case(folder, model, prompts, modules, types=None, **config_changes):
    tensors, hidden_of = {}, list(prompts)[:2]
    for name, ids in prompts.items():
        output = run(model, ids, types and types[name])
        add_hidden(tensors, name, output, hidden_of)
        tensors[f"{name}.pooled"] = modules.apply(output.last_hidden_state[0])[None]
    save_model(folder, model, **config_changes)
    modules.save(folder)
    save_golden(folder, prompts, tensors, **({"token_types": types} if types else {}))


def classifier_case(folder, model, prompts, types=None):
    tensors, hidden_of = {}, list(prompts)[:1]
    for name, ids in prompts.items():
        output = run(model, ids, types and types[name])
        add_hidden(tensors, name, output, hidden_of)
        tensors[f"{name}.classes"] = output.logits
    save_model(folder, model)
    save_golden(folder, prompts, tensors, **({"token_types": types} if types else {}))


EAGER = {"attn_implementation": "eager"}


def bert_config(**more):
    return BertConfig(vocab_size=211, hidden_size=45, num_hidden_layers=3, num_attention_heads=3,
                      intermediate_size=70, max_position_embeddings=61, type_vocab_size=2, pad_token_id=0,
                      **EAGER, **more)


def bert_mean(folder):
    model = randomize(BertModel(bert_config()), 1)
    prompts = prompts_of([5, 19, 1, 61, 16], 211, 11)
    embedding_case(folder, model, prompts, Modules(["mean"], 45), pair_types(prompts))


def bert_modes(folder):
    """Every mode at once, a dense module, relu, no pooler, not normalised."""
    model = randomize(BertModel(bert_config(hidden_act="relu", layer_norm_eps=1e-5), add_pooling_layer=False), 2)
    modes = ["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"]
    embedding_case(folder, model, prompts_of([7, 1, 33], 211, 12), Modules(modes, 45, dense=31, normalize=False))


def bert_classes(folder):
    model = randomize(BertForSequenceClassification(bert_config(num_labels=3, hidden_act="gelu_new")), 3)
    prompts = prompts_of([6, 23, 2, 50], 211, 13)
    classifier_case(folder, model, prompts, pair_types(prompts))


def roberta_options(**more):
    return dict(vocab_size=307, hidden_size=52, num_hidden_layers=2, num_attention_heads=4, intermediate_size=76,
                max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
                **EAGER, **more)


def with_padding_inside(prompts):
    """A padding token inside a text takes no position."""
    prompts["padded"] = [0, 9, 1, 44, 45, 1, 1, 46, 2]
    return prompts


def xlmr_cls(folder):
    model = randomize(XLMRobertaModel(XLMRobertaConfig(**roberta_options())), 4)
    prompts = with_padding_inside(prompts_of([6, 21, 1, 64], 307, 14))
    embedding_case(folder, model, prompts, Modules(["cls"], 52))


def roberta_mean(folder):
    model = randomize(RobertaModel(RobertaConfig(**roberta_options())), 5)
    embedding_case(folder, model, prompts_of([9, 30], 307, 15), Modules(["mean"], 52, dense=24))


def xlmr_reranker(folder):
    model = randomize(XLMRobertaForSequenceClassification(XLMRobertaConfig(num_labels=1, **roberta_options())), 6)
    classifier_case(folder, model, prompts_of([8, 27, 3, 64], 307, 16))


def distilbert_options(**more):
    return dict(vocab_size=197, dim=48, n_heads=4, n_layers=2, hidden_dim=90, max_position_embeddings=40,
                pad_token_id=0, **EAGER, **more)


def distilbert_mean(folder):
    model = randomize(DistilBertModel(DistilBertConfig(**distilbert_options())), 7)
    embedding_case(folder, model, prompts_of([8, 40, 1], 197, 17), Modules(["mean"], 48))


def distilbert_classes(folder):
    model = randomize(DistilBertForSequenceClassification(
        DistilBertConfig(num_labels=2, **distilbert_options())), 8)
    classifier_case(folder, model, prompts_of([5, 37], 197, 18))


def qwen3_config(**more):
    return Qwen3Config(vocab_size=251, hidden_size=56, intermediate_size=88, num_hidden_layers=2,
                       num_attention_heads=4, num_key_value_heads=2, head_dim=20, max_position_embeddings=256,
                       tie_word_embeddings=True, pad_token_id=3, **EAGER, **more)


def qwen3_embedding(folder):
    """As Qwen3-Embedding is published: no head, no "model." in front of the names, yet a causal LM's architecture."""
    model = randomize(Qwen3Model(qwen3_config()), 9)
    embedding_case(folder, model, prompts_of([9, 70, 1, 33], 251, 19), Modules(["lasttoken"], 56),
                   architectures=["Qwen3ForCausalLM"])


def qwen3_mean(folder):
    model = randomize(Qwen3Model(qwen3_config()), 10)
    embedding_case(folder, model, prompts_of([9, 70], 251, 20), Modules(["mean", "lasttoken"], 56))


def qwen3_reranker(folder):
    """As Qwen3-Reranker is published: a causal LM, scored by the logits of two tokens."""
    model = randomize(Qwen3ForCausalLM(qwen3_config()), 11)
    prompts, tensors = prompts_of([7, 45], 251, 21), {}
    for name, ids in prompts.items():
        output = run(model, ids)
        add_hidden(tensors, name, output, prompts)
        tensors[f"{name}.logits"] = output.logits[0, -1:]
    save_model(folder, model)
    entries = [("", "sentence_transformers.base.modules.transformer.Transformer"),
               ("1_LogitScore", "sentence_transformers.cross_encoder.modules.logit_score.LogitScore")]
    write_json(folder / "modules.json", [{"idx": i, "name": str(i), "path": path, "type": kind}
                                         for i, (path, kind) in enumerate(entries)])
    write_json(folder / "1_LogitScore" / "config.json", {"true_token_id": 97, "false_token_id": 21})
    save_golden(folder, prompts, tensors, score_tokens=[97, 21])


def qwen3_classes(folder):
    model = randomize(Qwen3ForSequenceClassification(qwen3_config(num_labels=1)), 12)
    classifier_case(folder, model, prompts_of([7, 45], 251, 22))


CASES = {
    "bert-mean": bert_mean,
    "bert-modes": bert_modes,
    "bert-classes": bert_classes,
    "xlmr-cls": xlmr_cls,
    "roberta-mean": roberta_mean,
    "xlmr-reranker": xlmr_reranker,
    "distilbert-mean": distilbert_mean,
    "distilbert-classes": distilbert_classes,
    "qwen3-embedding": qwen3_embedding,
    "qwen3-mean": qwen3_mean,
    "qwen3-reranker": qwen3_reranker,
    "qwen3-classes": qwen3_classes,
}


def main():
    out = pathlib.Path(sys.argv[1])
    failed = []
    for name in sys.argv[2:] or CASES:
        try:
            CASES[name](out / name)
            size = sum(f.stat().st_size for f in (out / name).rglob("*") if f.is_file())
            print(f"{name}: {size // 1024} KiB")
        except Exception:  # one case must not cost the others
            traceback.print_exc()
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
