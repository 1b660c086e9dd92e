#!/usr/bin/env python3
"""Makes the golden case of Gemma 3 with pictures: tiny, random weights, odd shapes; a definition of its own in numpy.

usage: make_gemma3_vlm.py OUT_FOLDER

Needs numpy and Pillow. Weights are rounded to bf16 and stored so, all else is computed in float64. Follows
transformers' Gemma3ForConditionalGeneration: the tokens of one picture see each other both ways in every layer, more
of them than the window of the sliding layers has; soft tokens are not scaled as words are.

golden.json: {"cases": {name: {"input_ids": ids, "images": files}}}.
golden.safetensors: NAME.pixel_values, NAME.embeddings, NAME.logits of all positions.
"""
import json
import math
import pathlib
import struct
import sys

import numpy as np
from PIL import Image

TEXT = dict(model_type="gemma3_text", vocab_size=203, hidden_size=48, intermediate_size=88, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, head_dim=20, max_position_embeddings=512, query_pre_attn_scalar=17, rms_norm_eps=1e-6, sliding_window=5,
            sliding_window_pattern=3, rope_theta=1000000.0, rope_local_base_freq=10000.0, rope_scaling=dict(factor=8.0, rope_type="linear"),
            hidden_activation="gelu_pytorch_tanh", bos_token_id=2, eos_token_id=1, pad_token_id=0)
VISION = dict(model_type="siglip_vision_model", hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
              image_size=42, patch_size=7, num_channels=3, layer_norm_eps=1e-6, hidden_act="gelu_pytorch_tanh")
SIDE = 3  # soft tokens of a side
BOI, EOI, SOFT = 198, 199, 200
CONFIG = dict(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3", text_config=TEXT, vision_config=VISION,
              mm_tokens_per_image=SIDE * SIDE, boi_token_index=BOI, eoi_token_index=EOI, image_token_index=SOFT, torch_dtype="bfloat16")
PROCESSOR = dict(image_processor_type="Gemma3ImageProcessor", do_convert_rgb=None, do_normalize=True, do_pan_and_scan=None, do_rescale=True,
                 do_resize=True, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5], resample=2, rescale_factor=1 / 255,
                 size=dict(height=42, width=42))
PICTURE = [BOI] + [SOFT] * (SIDE * SIDE) + [EOI]
CASES = {
    "one": ([2, 5, 6] + PICTURE + list(range(11, 23)), ["wide.png"]),
    "two": ([2] + PICTURE + [30, 31] + PICTURE + [40, 41, 42, 43, 44, 45, 46], ["high.png", "wide.png"]),
    "text": ([2] + list(range(50, 70)), []),
}


def bf16(array):
    """The nearest bf16 values, as float64."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)


class Weights(dict):
    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(30)

    def add(self, name, shape, spread, centre=0.0):
        self[name] = bf16(centre + spread * self.rng.standard_normal(shape))

    def linear(self, name, rows, cols, bias=False):
        self.add(name + ".weight", (rows, cols), 1.3 / math.sqrt(cols))
        if bias:
            self.add(name + ".bias", (rows,), 0.2)

    def layer_norm(self, name, size):
        self.add(name + ".weight", (size,), 0.2, 1.0)
        self.add(name + ".bias", (size,), 0.2)


def make_weights():
    weights = Weights()
    hidden, inner, dim = TEXT["hidden_size"], TEXT["intermediate_size"], TEXT["head_dim"]
    weights.add("language_model.model.embed_tokens.weight", (TEXT["vocab_size"], hidden), 0.3)
    for layer in range(TEXT["num_hidden_layers"]):
        at = f"language_model.model.layers.{layer}."
        for name, rows, cols in (("self_attn.q_proj", TEXT["num_attention_heads"] * dim, hidden),
                                 ("self_attn.k_proj", TEXT["num_key_value_heads"] * dim, hidden),
                                 ("self_attn.v_proj", TEXT["num_key_value_heads"] * dim, hidden),
                                 ("self_attn.o_proj", hidden, TEXT["num_attention_heads"] * dim),
                                 ("mlp.gate_proj", inner, hidden), ("mlp.up_proj", inner, hidden), ("mlp.down_proj", hidden, inner)):
            weights.linear(at + name, rows, cols)
        for name in ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"):
            weights.add(at + name + ".weight", (hidden,), 0.2)
        for name in ("self_attn.q_norm", "self_attn.k_norm"):
            weights.add(at + name + ".weight", (dim,), 0.4, 0.5)
    weights.add("language_model.model.norm.weight", (hidden,), 0.2)
    width, patch = VISION["hidden_size"], VISION["patch_size"]
    tower = "vision_tower.vision_model."
    weights.add(tower + "embeddings.patch_embedding.weight", (width, 3, patch, patch), 1.3 / math.sqrt(3 * patch * patch))
    weights.add(tower + "embeddings.patch_embedding.bias", (width,), 0.2)
    weights.add(tower + "embeddings.position_embedding.weight", ((VISION["image_size"] // patch) ** 2, width), 0.5)
    for layer in range(VISION["num_hidden_layers"]):
        at = f"{tower}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights.linear(at + "self_attn." + name, width, width, True)
        weights.linear(at + "mlp.fc1", VISION["intermediate_size"], width, True)
        weights.linear(at + "mlp.fc2", width, VISION["intermediate_size"], True)
        weights.layer_norm(at + "layer_norm1", width)
        weights.layer_norm(at + "layer_norm2", width)
    weights.layer_norm(tower + "post_layernorm", width)
    weights.add("multi_modal_projector.mm_soft_emb_norm.weight", (width,), 0.2)
    weights.add("multi_modal_projector.mm_input_projection_weight", (width, hidden), 1.3 / math.sqrt(width))
    return weights


def rms(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * (1 + weight)


def layer_norm(x, weights, name, eps):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weights[name + ".weight"] + weights[name + ".bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def see(weights, pixels):
    """[3, side, side] to the [SIDE * SIDE, hidden] rows of one picture."""
    width, patch, heads, eps = VISION["hidden_size"], VISION["patch_size"], VISION["num_attention_heads"], VISION["layer_norm_eps"]
    count = VISION["image_size"] // patch
    tower = "vision_tower.vision_model."
    linear = lambda x, name: x @ weights[name + ".weight"].T + weights[name + ".bias"]  # noqa: E731
    cut = pixels.reshape(3, count, patch, count, patch).transpose(1, 3, 0, 2, 4).reshape(count * count, -1)
    x = cut @ weights[tower + "embeddings.patch_embedding.weight"].reshape(width, -1).T + weights[tower + "embeddings.patch_embedding.bias"]
    x = x + weights[tower + "embeddings.position_embedding.weight"]
    for layer in range(VISION["num_hidden_layers"]):
        at = f"{tower}encoder.layers.{layer}."
        normed = layer_norm(x, weights, at + "layer_norm1", eps)
        q, k, v = (linear(normed, at + f"self_attn.{n}_proj").reshape(-1, heads, width // heads).transpose(1, 0, 2) for n in "qkv")
        mixed = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(width // heads)) @ v
        x = x + linear(mixed.transpose(1, 0, 2).reshape(-1, width), at + "self_attn.out_proj")
        normed = layer_norm(x, weights, at + "layer_norm2", eps)
        x = x + linear(gelu(linear(normed, at + "mlp.fc1")), at + "mlp.fc2")
    x = layer_norm(x, weights, tower + "post_layernorm", eps)
    pool = count // SIDE
    x = x.reshape(SIDE, pool, SIDE, pool, width).mean((1, 3)).reshape(SIDE * SIDE, width)
    x = rms(x, weights["multi_modal_projector.mm_soft_emb_norm.weight"], eps)
    return x @ weights["multi_modal_projector.mm_input_projection_weight"]


def turn(x, theta, factor):
    """Rotates [heads, tokens, dim], halves against each other."""
    dim = x.shape[-1]
    angles = np.outer(np.arange(x.shape[1]), theta ** (-np.arange(0, dim, 2) / dim) / factor)
    cos, sin = np.cos(angles), np.sin(angles)
    low, high = x[..., :dim // 2], x[..., dim // 2:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


def allowed(ids, window):
    """[tokens, tokens] who sees whom."""
    picture, number = [], -1
    for i, token in enumerate(ids):
        number += token == SOFT and (i == 0 or ids[i - 1] != SOFT)
        picture.append(number if token == SOFT else -1)
    out = np.zeros((len(ids), len(ids)), bool)
    for i in range(len(ids)):
        for j in range(len(ids)):
            causal = j <= i and (window == 0 or i - j < window)
            out[i, j] = causal or (picture[i] >= 0 and picture[i] == picture[j])
    return out


def read(weights, ids, rows):
    """Logits [tokens, vocab]; `rows` stand where SOFT does."""
    hidden, heads, kv, dim, eps = (TEXT[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps"))
    table = weights["language_model.model.embed_tokens.weight"]
    x = table[ids] * math.sqrt(hidden)
    x[[i for i, token in enumerate(ids) if token == SOFT]] = rows
    for layer in range(TEXT["num_hidden_layers"]):
        at = f"language_model.model.layers.{layer}."
        norm = lambda x, name: rms(x, weights[at + name + ".weight"], eps)  # noqa: E731, B023
        linear = lambda x, name: x @ weights[at + name + ".weight"].T  # noqa: E731, B023
        whole = (layer + 1) % TEXT["sliding_window_pattern"] == 0
        normed = norm(x, "input_layernorm")
        q = norm(linear(normed, "self_attn.q_proj").reshape(-1, heads, dim), "self_attn.q_norm").transpose(1, 0, 2)
        k = norm(linear(normed, "self_attn.k_proj").reshape(-1, kv, dim), "self_attn.k_norm").transpose(1, 0, 2)
        v = linear(normed, "self_attn.v_proj").reshape(-1, kv, dim).transpose(1, 0, 2)
        rope = (TEXT["rope_theta"], TEXT["rope_scaling"]["factor"]) if whole else (TEXT["rope_local_base_freq"], 1.0)
        q, k = turn(q, *rope), turn(k, *rope)
        k, v = (np.repeat(a, heads // kv, 0) for a in (k, v))
        scores = q @ k.transpose(0, 2, 1) * TEXT["query_pre_attn_scalar"] ** -0.5
        scores = np.where(allowed(ids, 0 if whole else TEXT["sliding_window"]), scores, -np.inf)
        mixed = (softmax(scores) @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = x + norm(linear(mixed, "self_attn.o_proj"), "post_attention_layernorm")
        normed = norm(x, "pre_feedforward_layernorm")
        inner = gelu(linear(normed, "mlp.gate_proj")) * linear(normed, "mlp.up_proj")
        x = x + norm(linear(inner, "mlp.down_proj"), "post_feedforward_layernorm")
    return rms(x, weights["language_model.model.norm.weight"], eps) @ table.T


def make_pictures(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    for name, width, height in (("wide.png", 71, 40), ("high.png", 30, 52)):
        y, x = np.mgrid[0:height, 0:width]
        waves = np.stack([127 + 100 * np.sin(x / (3 + c) + y / (5 + 2 * c)) for c in range(3)], -1)
        Image.fromarray(np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)).save(folder / name)


def prepare(path):
    side = VISION["image_size"]
    pixels = np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.BILINEAR), np.float64)
    return ((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)


def save(path, tensors, stored):
    header, at, parts = {}, 0, []
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name], dtype=np.float32)
        data = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes() if stored == "BF16" else values.tobytes()
        header[name] = {"dtype": stored, "shape": list(values.shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        parts.append(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def main(folder):
    folder = pathlib.Path(folder)
    make_pictures(folder / "images")
    weights = make_weights()
    golden, cases = {}, {}
    for name, (ids, files) in CASES.items():
        pixels = [prepare(folder / "images" / file) for file in files]
        rows = np.concatenate([see(weights, p) for p in pixels]) if pixels else np.zeros((0, TEXT["hidden_size"]))
        golden[name + ".logits"] = read(weights, ids, rows)
        if pixels:
            golden[name + ".pixel_values"] = np.stack(pixels)
            golden[name + ".embeddings"] = rows
        cases[name] = {"input_ids": ids, "images": files}
    save(folder / "model.safetensors", weights, "BF16")
    save(folder / "golden.safetensors", golden, "F32")
    for file, content in (("config.json", CONFIG), ("preprocessor_config.json", PROCESSOR), ("golden.json", {"cases": cases})):
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
