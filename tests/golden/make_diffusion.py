#!/usr/bin/env python3
"""Makes the golden cases of diffusion pipelines: tiny, random weights, in diffusers' folder layout.

usage: make_diffusion.py OUT_FOLDER [CASE...]
       make_diffusion.py --verify FOLDER     a Wan folder whose goldens diffusers made

Needs numpy and Pillow. Written from the published definitions (the papers, and what diffusers' and
transformers' modules of the same names compute), not from this program's sources: it is the other
opinion. Everything is computed in fp64 from weights rounded to fp32.

A weight is made when a module first asks for it, from a generator seeded by its name; what was
asked for is the checkpoint. --verify computes a Wan text to video folder from its own files and
compares: that is how this file itself is checked.
"""
import json
import math
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image

erf = np.vectorize(math.erf)


# ---------------------------------------------------------------------------------- files
def read_safetensors(path):
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    out = {}
    kinds = {"F32": np.float32, "I64": np.int64, "U8": np.uint8}
    for name, item in json.loads(raw[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = item["data_offsets"]
        data = np.frombuffer(raw[8 + size + begin:8 + size + end], kinds[item["dtype"]])
        out[name] = data.reshape(item["shape"])
    return out


def write_safetensors(path, tensors):
    header, data, offset = {}, [], 0
    kinds = {"float32": "F32", "int64": "I64", "uint8": "U8"}
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        raw = array.tobytes()
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def write_json(path, value):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


class Weights:
    """Tensors by name: of a file, or made when asked for."""

    def __init__(self, seed, path=None):
        self.seed = seed
        self.made = {}
        self.file = read_safetensors(path) if path else None

    def __call__(self, name, shape, middle=0.0, spread=1.0):
        if self.file is not None:
            assert self.file[name].shape == tuple(shape), (name, shape, self.file[name].shape)
            return self.file[name].astype(np.float64)
        if name not in self.made:
            random = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            values = middle + spread * random.standard_normal(shape)
            self.made[name] = values.astype(np.float32)
        assert self.made[name].shape == tuple(shape), name
        return self.made[name].astype(np.float64)

    def save(self, path):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(path, self.made)


# ---------------------------------------------------------------------------------- layers
def linear(w, x, name, out, bias=True):
    y = x @ w(name + ".weight", (out, x.shape[-1]), spread=x.shape[-1] ** -0.5).T
    return y + w(name + ".bias", (out,), spread=0.05) if bias else y


def layer_norm(x, eps, weight=1.0, bias=0.0):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps) * weight + bias


def named_layer_norm(w, x, name, eps):
    return layer_norm(x, eps, w(name + ".weight", x.shape[-1:], 1.0, 0.1),
                      w(name + ".bias", x.shape[-1:], 0.0, 0.1))


def rms_norm(w, x, name, eps):
    weight = w(name + ".weight", x.shape[-1:], 1.0, 0.1)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attend(q, k, v, heads, scale=None, bias=0.0):
    """Rows [n, heads * d]."""
    def split(x):
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    q, k, v = split(q), split(k), split(v)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = softmax(q @ k.transpose(0, 2, 1) * scale + bias) @ v
    return out.transpose(1, 0, 2).reshape(out.shape[1], -1)


def turn(x, heads, angles):
    """Pairs (2i, 2i + 1) of each head by angles [rows, d / 2]."""
    pairs = x.reshape(len(x), heads, -1, 2)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    out = np.stack([pairs[..., 0] * cos - pairs[..., 1] * sin,
                    pairs[..., 0] * sin + pairs[..., 1] * cos], -1)
    return out.reshape(x.shape)


def wave(timestep, size):
    """Cosines, then sines; the exponent in fp32, as it is trained."""
    half = size // 2
    exponent = (np.float32(-math.log(10000)) * np.arange(half, dtype=np.float32)) / np.float32(half)
    angle = (np.float32(timestep) * np.exp(exponent)).astype(np.float64)
    return np.concatenate([np.cos(angle), np.sin(angle)])


# ---------------------------------------------------------------------------------- text
def t5_bucket(distance, buckets, farthest):
    half = buckets // 2
    first = half if distance > 0 else 0
    distance = abs(distance)
    exact = half // 2
    if distance < exact:
        return first + distance
    far = exact + int(math.log(distance / exact) / math.log(farthest / exact) * (half - exact))
    return first + min(far, half - 1)


def t5(w, ids, c, own_bias):
    """UMT5 has a bias by distance in every layer, T5 in the first."""
    heads, inner, n = c["num_heads"], c["num_heads"] * c["d_kv"], len(ids)
    buckets, farthest = c["relative_attention_num_buckets"], c["relative_attention_max_distance"]
    eps = c["layer_norm_epsilon"]
    x = w("shared.weight", (c["vocab_size"], c["d_model"]))[ids]
    numbers = np.array([[t5_bucket(j - i, buckets, farthest) for j in range(n)] for i in range(n)])
    for i in range(c["num_layers"]):
        a, f = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
        if own_bias or i == 0:
            table = w(a + "SelfAttention.relative_attention_bias.weight", (buckets, heads))
            bias = table[numbers].transpose(2, 0, 1)
        h = rms_norm(w, x, a + "layer_norm", eps)
        q, k, v = (linear(w, h, a + "SelfAttention." + part, inner, False) for part in "qkv")
        x = x + linear(w, attend(q, k, v, heads, 1.0, bias), a + "SelfAttention.o", c["d_model"],
                       False)
        h = rms_norm(w, x, f + "layer_norm", eps)
        h = (gelu_tanh(linear(w, h, f + "DenseReluDense.wi_0", c["d_ff"], False)) *
             linear(w, h, f + "DenseReluDense.wi_1", c["d_ff"], False))
        x = x + linear(w, h, f + "DenseReluDense.wo", c["d_model"], False)
    return rms_norm(w, x, "encoder.final_layer_norm", eps)


WORDS = ["red", "blue", "green", "circle", "square", "moves", "left", "right", "a", "blurry"]


def unigram_tokenizer():
    special = ["<pad>", "</s>", "<unk>"]
    vocab = [[token, 0.0] for token in special]
    vocab += [["▁" + word, -2.0 - i / 10] for i, word in enumerate(WORDS)] + [["▁", -9.0]]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": token, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for i, token in enumerate(special)],
        "normalizer": None, "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": False, "vocab": vocab}}


def unigram_ids(prompt):
    return [3 + WORDS.index(word) for word in prompt.split()] + [1]


# ---------------------------------------------------------------------------------- CLIP's pictures
def clip_vision(w, image, c):
    """Hidden states [-2] of a CLIPVisionModel, class token first; image [3, side, side]."""
    d, p, side = c["hidden_size"], c["patch_size"], c["image_size"] // c["patch_size"]
    cut = image.reshape(3, side, p, side, p).transpose(1, 3, 0, 2, 4).reshape(side * side, -1)
    kernel = w("vision_model.embeddings.patch_embedding.weight", (d, 3, p, p), spread=0.1)
    x = cut @ kernel.reshape(d, -1).T
    x = np.concatenate([w("vision_model.embeddings.class_embedding", (d,))[None], x])
    x = x + w("vision_model.embeddings.position_embedding.weight", (side * side + 1, d))
    x = named_layer_norm(w, x, "vision_model.pre_layrnorm", c["layer_norm_eps"])
    states = [x]
    for i in range(c["num_hidden_layers"]):
        name = f"vision_model.encoder.layers.{i}."
        h = named_layer_norm(w, x, name + "layer_norm1", c["layer_norm_eps"])
        q, k, v = (linear(w, h, name + f"self_attn.{part}_proj", d) for part in "qkv")
        x = x + linear(w, attend(q, k, v, c["num_attention_heads"]), name + "self_attn.out_proj", d)
        h = named_layer_norm(w, x, name + "layer_norm2", c["layer_norm_eps"])
        x = x + linear(w, gelu(linear(w, h, name + "mlp.fc1", c["intermediate_size"])),
                       name + "mlp.fc2", d)
        states.append(x)
    named_layer_norm(w, x[0], "vision_model.post_layernorm", c["layer_norm_eps"])  # unused here
    return states[-2]


def clip_pixels(image, c, processor):
    """CLIPImageProcessor: short side, centre, normalised. image: PIL."""
    side = processor["size"]["shortest_edge"]
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(side * long / short)
    image = image.resize((side, other) if width <= height else (other, side), Image.BICUBIC)
    crop = processor["crop_size"]["height"]
    left, top = (image.size[0] - crop) // 2, (image.size[1] - crop) // 2
    pixels = np.asarray(image)[top:top + crop, left:left + crop].astype(np.float64) / 255
    pixels = (pixels - processor["image_mean"]) / processor["image_std"]
    return pixels.transpose(2, 0, 1)


# ---------------------------------------------------------------------------------- CLIP's texts
def clip_pieces():
    """vocab.json and merges.txt of a few words."""
    letters = sorted(set("".join(WORDS)))
    pieces = ["<|startoftext|>", "<|pad|>"] + letters + [letter + "</w>" for letter in letters]
    merges = [("r", "e"), ("re", "d</w>"), ("c", "i"), ("ci", "r"), ("c", "l"), ("cl", "e</w>"),
              ("cir", "cle</w>")]
    pieces += ["".join(pair) for pair in merges] + ["<|endoftext|>"]
    return {piece: i for i, piece in enumerate(pieces)}, merges


def clip_ids(prompt, vocabulary, merges):
    ranks = {pair: i for i, pair in enumerate(merges)}
    out = [vocabulary["<|startoftext|>"]]
    for word in prompt.lower().split():
        pieces = list(word[:-1]) + [word[-1] + "</w>"]
        while True:
            pairs = [(ranks[pair], i) for i, pair in enumerate(zip(pieces, pieces[1:]))
                     if pair in ranks]
            if not pairs:
                break
            _, i = min(pairs)
            pieces[i:i + 2] = [pieces[i] + pieces[i + 1]]
        out += [vocabulary[piece] for piece in pieces]
    return out + [vocabulary["<|endoftext|>"]]


def clip_text(w, ids, c):
    """pooler_output of a CLIPTextModel: the state at the end token, the largest id."""
    d, n = c["hidden_size"], len(ids)
    x = w("text_model.embeddings.token_embedding.weight", (c["vocab_size"], d))[ids]
    x = x + w("text_model.embeddings.position_embedding.weight",
              (c["max_position_embeddings"], d))[:n]
    later = np.where(np.arange(n)[None] > np.arange(n)[:, None], -1e30, 0.0)
    for i in range(c["num_hidden_layers"]):
        name = f"text_model.encoder.layers.{i}."
        h = named_layer_norm(w, x, name + "layer_norm1", c["layer_norm_eps"])
        q, k, v = (linear(w, h, name + f"self_attn.{part}_proj", d) for part in "qkv")
        seen = attend(q, k, v, c["num_attention_heads"], bias=later)
        x = x + linear(w, seen, name + "self_attn.out_proj", d)
        h = linear(w, named_layer_norm(w, x, name + "layer_norm2", c["layer_norm_eps"]),
                   name + "mlp.fc1", c["intermediate_size"])
        x = x + linear(w, h * sigmoid(1.702 * h), name + "mlp.fc2", d)
    x = named_layer_norm(w, x, "text_model.final_layer_norm", c["layer_norm_eps"])
    return x[int(np.argmax(ids))]


# ---------------------------------------------------------------------------------- FLUX
def flux_transformer(w, latents, timestep, guidance, rows, pooled, c):
    """latents [channels, height, width]."""
    heads, dim, eps = c["num_attention_heads"], c["num_attention_heads"] * c["attention_head_dim"], 1e-6
    channels, height, width = latents.shape
    gh, gw = height // 2, width // 2
    x = latents.reshape(channels, gh, 2, gw, 2).transpose(1, 3, 0, 2, 4).reshape(gh * gw, -1)
    x = linear(w, x, "x_embedder", dim)
    text = linear(w, rows, "context_embedder", dim)
    n = len(text)

    ids = np.zeros((n + gh * gw, 3))
    ids[n:, 1] = np.repeat(np.arange(gh), gw)
    ids[n:, 2] = np.tile(np.arange(gw), gh)
    angles = np.concatenate([ids[:, i:i + 1] / 10000.0 ** (np.arange(0, size, 2) / size)
                             for i, size in enumerate(c["axes_dims_rope"])], 1)

    def embed(values, name):
        name = "time_text_embed." + name
        return linear(w, silu(linear(w, values, name + ".linear_1", dim)), name + ".linear_2", dim)

    share = np.float32(timestep) / np.float32(1000)
    known = embed(wave(share * np.float32(1000), 256), "timestep_embedder")
    known = known + embed(wave(np.float32(guidance) * np.float32(1000), 256), "guidance_embedder")
    known = silu(known + embed(pooled, "text_embedder"))

    def head_norm(values, name):
        split = values.reshape(len(values), heads, -1)
        return rms_norm(w, split, name, eps).reshape(values.shape)

    for i in range(c["num_layers"]):
        b = f"transformer_blocks.{i}."
        sets = {}
        for kind, norm, parts, more in (("picture", "norm1", "to_{}", ""),
                                        ("text", "norm1_context", "add_{}_proj", "added_")):
            values = x if kind == "picture" else text
            m = linear(w, known, b + norm + ".linear", 6 * dim).reshape(6, dim)
            h = layer_norm(values, eps) * (1 + m[1]) + m[0]
            q, k, v = (linear(w, h, b + "attn." + parts.format(part), dim) for part in "qkv")
            sets[kind] = (m, head_norm(q, b + f"attn.norm_{more}q"),
                          head_norm(k, b + f"attn.norm_{more}k"), v)
        q, k, v = (np.concatenate([sets["text"][j], sets["picture"][j]]) for j in (1, 2, 3))
        seen = attend(turn(q, heads, angles), turn(k, heads, angles), v, heads)

        def after(values, gathered, m, out, feed_forward):
            values = values + m[2] * linear(w, gathered, b + "attn." + out, dim)
            h = layer_norm(values, eps) * (1 + m[4]) + m[3]
            h = gelu_tanh(linear(w, h, b + feed_forward + ".net.0.proj", 4 * dim))
            return values + m[5] * linear(w, h, b + feed_forward + ".net.2", dim)

        x = after(x, seen[n:], sets["picture"][0], "to_out.0", "ff")
        text = after(text, seen[:n], sets["text"][0], "to_add_out", "ff_context")

    x = np.concatenate([text, x])
    for i in range(c["num_single_layers"]):
        b = f"single_transformer_blocks.{i}."
        shift, scale, gate = linear(w, known, b + "norm.linear", 3 * dim).reshape(3, dim)
        h = layer_norm(x, eps) * (1 + scale) + shift
        q, k, v = (linear(w, h, b + "attn.to_" + part, dim) for part in "qkv")
        q = turn(head_norm(q, b + "attn.norm_q"), heads, angles)
        k = turn(head_norm(k, b + "attn.norm_k"), heads, angles)
        up = gelu_tanh(linear(w, h, b + "proj_mlp", 4 * dim))
        both = np.concatenate([attend(q, k, v, heads), up], 1)
        x = x + gate * linear(w, both, b + "proj_out", dim)
    scale, shift = linear(w, known, "norm_out.linear", 2 * dim).reshape(2, dim)
    x = layer_norm(x[n:], eps) * (1 + scale) + shift
    x = linear(w, x, "proj_out", c["in_channels"])
    return x.reshape(gh, gw, channels, 2, 2).transpose(2, 0, 3, 1, 4).reshape(latents.shape)


def flux_sigmas(steps, tokens, c):
    """FluxPipeline's sigmas through FlowMatchEulerDiscreteScheduler with dynamic shifting."""
    even = np.linspace(1.0, 1 / steps, steps).astype(np.float32).astype(np.float64)
    slope = ((c["max_shift"] - c["base_shift"]) /
             (c["max_image_seq_len"] - c["base_image_seq_len"]))
    mu = tokens * slope + c["base_shift"] - slope * c["base_image_seq_len"]
    sigmas = (math.exp(mu) / (math.exp(mu) + (1 / even - 1))).astype(np.float32)
    return sigmas * np.float32(1000), np.append(sigmas, np.float32(0))


def kl_decode(w, latents, c):
    """AutoencoderKL's decoder; latents [channels, height, width]."""
    def conv(x, name, out):
        kernel = w(name + ".weight", (out, len(x), 3, 3), spread=(9 * len(x)) ** -0.5)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        return convolve(padded[:, None], kernel[:, :, None],
                        w(name + ".bias", (out,), spread=0.05))[:, 0]

    def norm(x, name):
        groups = x.reshape(c["norm_num_groups"], -1)
        mean = groups.mean(1, keepdims=True)
        deviation = np.sqrt(((groups - mean) ** 2).mean(1, keepdims=True) + 1e-6)
        x = ((groups - mean) / deviation).reshape(x.shape)
        return (x * w(name + ".weight", (len(x),), 1.0, 0.1)[:, None, None] +
                w(name + ".bias", (len(x),), 0.0, 0.1)[:, None, None])

    def residual(x, name, out):
        h = conv(silu(norm(x, name + ".norm1")), name + ".conv1", out)
        h = conv(silu(norm(h, name + ".norm2")), name + ".conv2", out)
        if len(x) != out:
            kernel = w(name + ".conv_shortcut.weight", (out, len(x), 1, 1), spread=len(x) ** -0.5)
            bias = w(name + ".conv_shortcut.bias", (out,), spread=0.05)
            x = np.einsum("oc,chw->ohw", kernel[:, :, 0, 0], x) + bias[:, None, None]
        return h + x

    widths = c["block_out_channels"][::-1]
    x = conv(latents, "decoder.conv_in", widths[0])
    x = residual(x, "decoder.mid_block.resnets.0", widths[0])
    a = "decoder.mid_block.attentions.0."
    h = norm(x, a + "group_norm").reshape(len(x), -1).T
    q, k, v = (linear(w, h, a + "to_" + part, len(x)) for part in "qkv")
    x = x + linear(w, attend(q, k, v, 1), a + "to_out.0", len(x)).T.reshape(x.shape)
    x = residual(x, "decoder.mid_block.resnets.1", widths[0])
    for i, out in enumerate(widths):
        name = f"decoder.up_blocks.{i}."
        for j in range(c["layers_per_block"] + 1):
            x = residual(x, f"{name}resnets.{j}", out)
        if i + 1 < len(widths):
            x = conv(x.repeat(2, 1).repeat(2, 2), name + "upsamplers.0.conv", out)
    return conv(silu(norm(x, "decoder.conv_norm_out")), "decoder.conv_out", 3)


# ---------------------------------------------------------------------------------- Wan
def wan_transformer(w, latents, timestep, text, c, picture=None):
    """latents [channels, frames, height, width], text [tokens, text_dim]."""
    heads, head_dim, eps = c["num_attention_heads"], c["attention_head_dim"], c["eps"]
    dim = heads * head_dim
    pf, ph, pw = c["patch_size"]
    channels, frames, height, width = latents.shape
    gf, gh, gw = frames // pf, height // ph, width // pw
    kernel = w("patch_embedding.weight", (dim, channels, pf, ph, pw), spread=0.15)
    cut = latents.reshape(channels, gf, pf, gh, ph, gw, pw).transpose(1, 3, 5, 0, 2, 4, 6)
    x = cut.reshape(gf * gh * gw, -1) @ kernel.reshape(dim, -1).T
    x = x + w("patch_embedding.bias", (dim,), spread=0.05)

    across = 2 * (head_dim // 6)
    angles = []
    for f in range(gf):
        for y in range(gh):
            for z in range(gw):
                row = []
                for place, size in ((f, head_dim - 2 * across), (y, across), (z, across)):
                    row.append(place / 10000.0 ** (np.arange(0, size, 2) / size))
                angles.append(np.concatenate(row))
    angles = np.array(angles)

    e = "condition_embedder."
    time = linear(w, wave(timestep, c["freq_dim"]), e + "time_embedder.linear_1", dim)
    time = linear(w, silu(time), e + "time_embedder.linear_2", dim)
    modulation = linear(w, silu(time), e + "time_proj", 6 * dim).reshape(6, dim)
    text = linear(w, text, e + "text_embedder.linear_1", dim)
    text = linear(w, gelu_tanh(text), e + "text_embedder.linear_2", dim)
    if picture is not None:
        p = e + "image_embedder."
        picture = named_layer_norm(w, picture, p + "norm1", 1e-5)
        picture = gelu(linear(w, picture, p + "ff.net.0.proj", picture.shape[-1]))
        picture = linear(w, picture, p + "ff.net.2", dim)
        picture = named_layer_norm(w, picture, p + "norm2", 1e-5)

    for i in range(c["num_layers"]):
        b = f"blocks.{i}."
        table = w(b + "scale_shift_table", (1, 6, dim), spread=0.2)[0] + modulation
        shift, scale, gate, c_shift, c_scale, c_gate = table
        h = layer_norm(x, eps) * (1 + scale) + shift
        q, k, v = (linear(w, h, b + "attn1.to_" + part, dim) for part in "qkv")
        q = turn(rms_norm(w, q, b + "attn1.norm_q", eps), heads, angles)
        k = turn(rms_norm(w, k, b + "attn1.norm_k", eps), heads, angles)
        x = x + linear(w, attend(q, k, v, heads), b + "attn1.to_out.0", dim) * gate
        h = named_layer_norm(w, x, b + "norm2", eps)
        q = rms_norm(w, linear(w, h, b + "attn2.to_q", dim), b + "attn2.norm_q", eps)
        k = rms_norm(w, linear(w, text, b + "attn2.to_k", dim), b + "attn2.norm_k", eps)
        seen = attend(q, k, linear(w, text, b + "attn2.to_v", dim), heads)
        if picture is not None:
            k = linear(w, picture, b + "attn2.add_k_proj", dim)
            k = rms_norm(w, k, b + "attn2.norm_added_k", eps)
            seen = seen + attend(q, k, linear(w, picture, b + "attn2.add_v_proj", dim), heads)
        x = x + linear(w, seen, b + "attn2.to_out.0", dim)
        h = layer_norm(x, eps) * (1 + c_scale) + c_shift
        h = linear(w, gelu_tanh(linear(w, h, b + "ffn.net.0.proj", c["ffn_dim"])),
                   b + "ffn.net.2", dim)
        x = x + h * c_gate
    shift, scale = w("scale_shift_table", (1, 2, dim), spread=0.2)[0] + time
    x = layer_norm(x, eps) * (1 + scale) + shift
    x = linear(w, x, "proj_out", c["out_channels"] * pf * ph * pw)
    x = x.reshape(gf, gh, gw, pf, ph, pw, c["out_channels"]).transpose(6, 0, 3, 1, 4, 2, 5)
    return x.reshape(c["out_channels"], frames, height, width)


def convolve(x, kernel, bias, stride=(1, 1, 1)):
    """x [channels, frames, height, width], padded already; kernel [out, channels, f, h, w]."""
    seen = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (1, 2, 3))
    seen = seen[:, ::stride[0], ::stride[1], ::stride[2]]
    return np.einsum("cthwfyx,ocfyx->othw", seen, kernel) + bias[:, None, None, None]


class WanVae:
    def __init__(self, w, c):
        self.w, self.c, self.cache = w, c, {}

    def weights(self, name, out, channels, kernel):
        spread = (channels * math.prod(kernel)) ** -0.5
        return (self.w(name + ".weight", (out, channels) + kernel, spread=spread),
                self.w(name + ".bias", (out,), spread=0.05))

    def point(self, x, name, out, rank=3):
        kernel, bias = self.weights(name, out, len(x), (1,) * rank)
        return np.einsum("oc,cthw->othw", kernel.reshape(out, -1), x) + bias[:, None, None, None]

    def flat(self, x, name, out, stride=1):
        """A convolution of each frame by itself; x padded already."""
        kernel, bias = self.weights(name, out, len(x), (3, 3))
        return convolve(x, kernel[:, :, None], bias, (1, stride, stride))

    def causal(self, x, name, out, kernel=(3, 3, 3)):
        """With the two frames before, of the last chunk or zeros."""
        before = self.cache.get(name)
        if before is None:
            before = np.zeros((len(x), 2) + x.shape[2:])
        joined = np.concatenate([before, x], 1)
        self.cache[name] = joined[:, -2:]
        pad = kernel[1] // 2
        joined = np.pad(joined, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        return convolve(joined, *self.weights(name, out, len(x), kernel))

    def norm(self, x, name, ones=3):
        gamma = self.w(name + ".gamma", (len(x),) + (1,) * ones, 1.0, 0.1).reshape(-1, 1, 1, 1)
        return x / np.maximum(np.sqrt((x * x).sum(0)), 1e-12) * math.sqrt(len(x)) * gamma

    def residual(self, x, name, out):
        h = self.causal(silu(self.norm(x, name + ".norm1")), name + ".conv1", out)
        h = self.causal(silu(self.norm(h, name + ".norm2")), name + ".conv2", out)
        return h + (self.point(x, name + ".conv_shortcut", out) if len(x) != out else x)

    def attention(self, x, name):
        h = self.norm(x, name + ".norm", 2)
        qkv = self.point(h, name + ".to_qkv", 3 * len(x), 2)
        seen = np.zeros_like(x)
        for t in range(x.shape[1]):
            q, k, v = (part.reshape(len(x), -1).T for part in np.split(qkv[:, t], 3))
            seen[:, t] = attend(q, k, v, 1).T.reshape(x[:, t].shape)
        return x + self.point(seen, name + ".proj", len(x), 2)

    def middle(self, x, name):
        x = self.residual(x, name + ".resnets.0", len(x))
        x = self.attention(x, name + ".attentions.0")
        return self.residual(x, name + ".resnets.1", len(x))

    def encode_chunk(self, x):
        c, base = self.c, self.c["base_dim"]
        x = self.causal(x, "encoder.conv_in", base)
        index = 0
        for i, mult in enumerate(c["dim_mult"]):
            for _ in range(c["num_res_blocks"]):
                x = self.residual(x, f"encoder.down_blocks.{index}", base * mult)
                index += 1
            if i + 1 < len(c["dim_mult"]):
                name = f"encoder.down_blocks.{index}"
                index += 1
                x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))
                x = self.flat(x, name + ".resample.1", len(x), 2)
                if c["temperal_downsample"][i]:
                    before = self.cache.get(name)
                    self.cache[name] = x[:, -1:]
                    if before is not None:  # the first chunk is left as it is
                        kernel, bias = self.weights(name + ".time_conv", len(x), len(x), (3, 1, 1))
                        x = convolve(np.concatenate([before, x], 1), kernel, bias, (2, 1, 1))
        x = self.middle(x, "encoder.mid_block")
        x = silu(self.norm(x, "encoder.norm_out"))
        return self.causal(x, "encoder.conv_out", 2 * c["z_dim"])

    def encode(self, video):
        self.cache = {}
        scale = 2 ** sum(self.c["temperal_downsample"])
        chunks = [self.encode_chunk(video[:, :1])]
        for begin in range(1, video.shape[1], scale):
            chunks.append(self.encode_chunk(video[:, begin:begin + scale]))
        both = self.point(np.concatenate(chunks, 1), "quant_conv", 2 * self.c["z_dim"])
        return both[:self.c["z_dim"]]

    def decode_chunk(self, x):
        c = self.c
        base, mults = c["decoder_base_dim"] or c["base_dim"], c["dim_mult"][::-1]
        x = self.causal(x, "decoder.conv_in", base * mults[0])
        x = self.middle(x, "decoder.mid_block")
        for i, mult in enumerate(mults):
            name = f"decoder.up_blocks.{i}"
            for j in range(c["num_res_blocks"] + 1):
                x = self.residual(x, f"{name}.resnets.{j}", base * mult)
            if i + 1 < len(mults):
                up = name + ".upsamplers.0"
                if c["temperal_downsample"][::-1][i]:
                    if up not in self.cache:
                        self.cache[up] = True  # the first chunk passes by, and is forgotten
                    else:
                        twice = self.causal(x, up + ".time_conv", 2 * len(x), (3, 1, 1))
                        parts = twice.reshape((2, len(x)) + twice.shape[1:])
                        x = parts.transpose(1, 2, 0, 3, 4).reshape(
                            (len(x), 2 * x.shape[1]) + x.shape[2:])
                x = x.repeat(2, 2).repeat(2, 3)
                x = self.flat(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), up + ".resample.1",
                              len(x) // 2)
        x = silu(self.norm(x, "decoder.norm_out"))
        return self.causal(x, "decoder.conv_out", 3)

    def decode(self, latents):
        self.cache = {}
        x = self.point(latents, "post_quant_conv", self.c["z_dim"])
        out = [self.decode_chunk(x[:, t:t + 1]) for t in range(x.shape[1])]
        return np.clip(np.concatenate(out, 1), -1, 1)

    def mean_std(self):
        shape = (-1, 1, 1, 1)
        return (np.array(self.c["latents_mean"]).reshape(shape),
                np.array(self.c["latents_std"]).reshape(shape))


# ---------------------------------------------------------------------------------- schedulers
def euler_sigmas(steps, c):
    """FlowMatchEulerDiscreteScheduler.set_timesteps(steps)."""
    shift, train = c["shift"], c["num_train_timesteps"]

    def shifted(sigma):
        return shift * sigma / (1 + (shift - 1) * sigma)

    ends = shifted(np.array([1.0, 1.0 / train])) * train
    sigmas = shifted(np.linspace(ends[0], ends[1], steps) / train).astype(np.float32)
    return sigmas * np.float32(train), np.append(sigmas, np.float32(0))


def f32(x):
    return np.asarray(x, dtype=np.float32)


def wan_pipeline(parts, golden, start, tensors, condition=None, picture=None):
    """Text to video, or from a picture; fills `tensors`."""
    text_w, dit_w, vae = parts["text"], parts["dit"], parts["vae"]
    length = golden["max_sequence_length"]
    rows = {}
    for key in ("prompt", "negative_prompt"):
        ids = parts["ids"](golden[key])
        hidden = t5(text_w, ids, parts["text_config"], True)
        rows[key] = np.zeros((length, hidden.shape[1]))
        rows[key][:len(ids)] = hidden
        if key == "prompt":
            tensors["text.ids"] = np.array([ids + [0] * (length - len(ids))], dtype=np.int64)
            tensors["text.mask"] = (np.arange(length)[None] < len(ids)).astype(np.int64)
            tensors["text.hidden"] = f32(rows[key])[None]

    def velocity(latents, timestep, key):
        seen = latents if condition is None else np.concatenate([latents, condition])
        return wan_transformer(dit_w, seen, timestep, rows[key], parts["dit_config"], picture)

    rows["dit"] = parts.get("dit_text", rows["prompt"])
    tensors["dit.text"] = f32(rows["dit"])[None]
    tensors["latents.start"] = f32(start)[None]
    tensors["dit.out"] = f32(velocity(start, golden["dit_timestep"], "dit"))[None]
    timesteps, sigmas = euler_sigmas(golden["steps"], parts["scheduler"])
    tensors["pipeline.timesteps"], tensors["pipeline.sigmas"] = timesteps, sigmas
    x = start
    for i, timestep in enumerate(timesteps):
        with_text = velocity(x, timestep, "prompt")
        without = velocity(x, timestep, "negative_prompt")
        v = without + golden["guidance_scale"] * (with_text - without)
        x = x + float(sigmas[i + 1] - sigmas[i]) * v
        tensors[f"pipeline.latents.{i}"] = f32(x)[None]
    mean, std = vae.mean_std()
    frames = vae.decode(x * std + mean).transpose(1, 0, 2, 3)
    tensors["pipeline.frames"] = f32(np.clip(frames / 2 + 0.5, 0, 1))[None]
    tensors["vae.decoded"] = f32(vae.decode(start * 0.5))[None]


def verify(folder):
    folder = pathlib.Path(folder)
    load = lambda name: json.loads((folder / name).read_text())
    want = read_safetensors(folder / "golden.safetensors")
    golden = load("golden.json")
    ids = [int(i) for i, m in zip(want["text.ids"][0], want["text.mask"][0]) if m]
    tokenizer = load("tokenizer/tokenizer.json")["model"]["vocab"]
    pieces = {piece: i for i, (piece, _) in enumerate(tokenizer)}
    vae = WanVae(Weights(0, folder / "vae/diffusion_pytorch_model.safetensors"),
                 load("vae/config.json"))
    parts = {"text": Weights(0, folder / "text_encoder/model.safetensors"),
             "dit": Weights(0, folder / "transformer/diffusion_pytorch_model.safetensors"),
             "vae": vae, "text_config": load("text_encoder/config.json"),
             "dit_config": load("transformer/config.json"),
             "scheduler": load("scheduler/scheduler_config.json"),
             "dit_text": want["dit.text"][0].astype(np.float64), "ids": lambda text: ids if text == golden["prompt"] else
                    [pieces["▁blur"], pieces["ry"], 1]}
    got = {}
    wan_pipeline(parts, golden, want["latents.start"][0].astype(np.float64), got)
    got["vae.encoded_mean"] = f32(vae.encode(want["vae.video"][0].astype(np.float64)))[None]
    worst = 0.0
    for name in sorted(got):
        ours, theirs = got[name].astype(np.float64), want[name].astype(np.float64)
        if name == "text.hidden":
            theirs = theirs * want["text.mask"][0][None, :, None]
        error = abs(ours - theirs).max() / max(abs(theirs).max(), 1e-30)
        worst = max(worst, error)
        print(f"{name:24} {error:.2e}")
    return 0 if worst < 1e-4 else 1


# ---------------------------------------------------------------------------------- cases
UMT5 = {"architectures": ["UMT5EncoderModel"], "model_type": "umt5",
        "feed_forward_proj": "gated-gelu", "vocab_size": 14, "d_model": 24, "d_kv": 8, "d_ff": 40,
        "num_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16, "layer_norm_epsilon": 1e-06}


def make_wan_i2v(folder):
    clip = {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model",
            "hidden_act": "gelu", "hidden_size": 24, "intermediate_size": 40, "image_size": 24,
            "patch_size": 8, "num_hidden_layers": 3, "num_attention_heads": 4, "num_channels": 3,
            "layer_norm_eps": 1e-05, "projection_dim": 16}
    processor = {"image_processor_type": "CLIPImageProcessor", "do_resize": True,
                 "size": {"shortest_edge": 24}, "resample": 3, "do_center_crop": True,
                 "crop_size": {"height": 24, "width": 24}, "do_rescale": True,
                 "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
                 "image_mean": [0.48145466, 0.4578275, 0.40821073],
                 "image_std": [0.26862954, 0.26130258, 0.27577711]}
    vae_config = {"_class_name": "AutoencoderKLWan", "attn_scales": [], "base_dim": 4,
                  "decoder_base_dim": None, "dim_mult": [1, 1, 2, 2], "in_channels": 3,
                  "out_channels": 3, "is_residual": False, "num_res_blocks": 1, "patch_size": None,
                  "latents_mean": [0.1, -0.2, 0.0, 0.3], "latents_std": [1.5, 0.5, 1.0, 2.0],
                  "temperal_downsample": [False, True, True], "z_dim": 4}
    dit = {"_class_name": "WanTransformer3DModel", "num_attention_heads": 2,
           "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 40, "in_channels": 12,
           "out_channels": 4, "text_dim": 24, "freq_dim": 16, "patch_size": [1, 2, 2],
           "eps": 1e-06, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads",
           "added_kv_proj_dim": 24, "image_dim": 24, "pos_embed_seq_len": None,
           "rope_max_seq_len": 64}
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
                 "shift": 3.0, "use_dynamic_shifting": False}
    golden = {"prompt": "a red circle moves left", "negative_prompt": "blurry", "height": 32,
              "width": 48, "num_frames": 5, "steps": 3, "guidance_scale": 4.0,
              "max_sequence_length": 8, "dit_timestep": 437.0}
    write_json(folder / "model_index.json", {
        "_class_name": "WanImageToVideoPipeline", "_diffusers_version": "0.35.0",
        "boundary_ratio": None, "expand_timesteps": False,
        "image_encoder": ["transformers", "CLIPVisionModel"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"], "transformer_2": [None, None],
        "vae": ["diffusers", "AutoencoderKLWan"]})
    for part, name, value in (("image_encoder", "config", clip), ("vae", "config", vae_config),
                              ("image_processor", "preprocessor_config", processor),
                              ("text_encoder", "config", UMT5), ("transformer", "config", dit),
                              ("scheduler", "scheduler_config", scheduler),
                              ("tokenizer", "tokenizer", unigram_tokenizer())):
        write_json(folder / part / (name + ".json"), value)
    write_json(folder / "golden.json", golden)

    random = np.random.default_rng(7)
    y, x = np.mgrid[0:37, 0:61]
    picture = np.stack([x * 4, y * 6, 255 - x * 2 - y * 2], -1) + random.integers(-20, 20, (37, 61, 3))
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    image = Image.fromarray(picture)
    towers = Weights(11)
    hidden = clip_vision(towers, clip_pixels(image, clip, processor), clip)
    vae = WanVae(Weights(12), vae_config)
    small = np.asarray(image.resize((golden["width"], golden["height"]), Image.LANCZOS))
    video = np.zeros((3, golden["num_frames"], golden["height"], golden["width"]))
    video[:, 0] = (2 * (small.astype(np.float64) / 255) - 1).transpose(2, 0, 1)
    mean, std = vae.mean_std()
    given = (vae.encode(video) - mean) / std
    mask = np.zeros((4,) + given.shape[1:])
    mask[:, 0] = 1
    condition = np.concatenate([mask, given])
    start = random.standard_normal(given.shape).astype(np.float32).astype(np.float64)
    tensors = {"image": picture, "image.hidden": f32(hidden)[None],
               "image.condition": f32(condition)[None]}
    parts = {"text": Weights(13), "dit": Weights(14), "vae": vae, "text_config": UMT5,
             "dit_config": dit, "scheduler": scheduler, "ids": unigram_ids}
    wan_pipeline(parts, golden, start, tensors, condition, hidden)
    sample = f32(np.tanh(random.standard_normal(video.shape)))
    tensors["vae.video"] = sample[None]
    tensors["vae.encoded_mean"] = f32(vae.encode(sample.astype(np.float64)))[None]
    write_safetensors(folder / "golden.safetensors", tensors)
    towers.save(folder / "image_encoder/model.safetensors")
    parts["text"].save(folder / "text_encoder/model.safetensors")
    parts["dit"].save(folder / "transformer/diffusion_pytorch_model.safetensors")
    vae.w.save(folder / "vae/diffusion_pytorch_model.safetensors")


def make_flux(folder):
    clip = {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model",
            "hidden_act": "quick_gelu", "hidden_size": 20, "intermediate_size": 36,
            "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 12,
            "layer_norm_eps": 1e-05, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    text = {**UMT5, "architectures": ["T5EncoderModel"], "model_type": "t5"}
    dit = {"_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 16,
           "out_channels": None, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 12,
           "num_attention_heads": 2, "joint_attention_dim": 24, "pooled_projection_dim": 20,
           "guidance_embeds": True, "axes_dims_rope": [2, 4, 6]}
    vae_config = {"_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3,
                  "out_channels": 3, "latent_channels": 4, "block_out_channels": [4, 4, 8, 8],
                  "layers_per_block": 1, "norm_num_groups": 2, "scaling_factor": 0.3611,
                  "shift_factor": 0.1159, "use_post_quant_conv": False, "use_quant_conv": False,
                  "mid_block_add_attention": True, "force_upcast": True, "sample_size": 64,
                  "down_block_types": ["DownEncoderBlock2D"] * 4,
                  "up_block_types": ["UpDecoderBlock2D"] * 4, "latents_mean": None,
                  "latents_std": None}
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
                 "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
                 "base_image_seq_len": 256, "max_image_seq_len": 4096}
    golden = {"prompt": "a red circle", "height": 48, "width": 32, "num_frames": 1, "steps": 3,
              "guidance_scale": 3.5, "max_sequence_length": 7, "dit_timestep": 640.0}
    vocabulary, merges = clip_pieces()
    clip["vocab_size"] = len(vocabulary)
    write_json(folder / "model_index.json", {
        "_class_name": "FluxPipeline", "_diffusers_version": "0.35.0",
        "feature_extractor": [None, None], "image_encoder": [None, None],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"]})
    for part, name, value in (("text_encoder", "config", clip), ("text_encoder_2", "config", text),
                              ("transformer", "config", dit), ("vae", "config", vae_config),
                              ("scheduler", "scheduler_config", scheduler),
                              ("tokenizer", "vocab", vocabulary),
                              ("tokenizer_2", "tokenizer", unigram_tokenizer())):
        write_json(folder / part / (name + ".json"), value)
    lines = ["#version: 0.2"] + [" ".join(pair) for pair in merges]
    (folder / "tokenizer/merges.txt").write_text("\n".join(lines) + "\n")
    write_json(folder / "golden.json", golden)

    random = np.random.default_rng(9)
    length = golden["max_sequence_length"]
    ids = unigram_ids(golden["prompt"])
    ids = ids + [0] * (length - len(ids))
    pooled_ids = clip_ids(golden["prompt"], vocabulary, merges)
    text_w, clip_w, dit_w, vae_w = (Weights(20 + i) for i in range(4))
    rows = t5(text_w, ids, text, False)  # padding is seen like words
    pooled = clip_text(clip_w, pooled_ids, clip)
    start = random.standard_normal((4, 6, 4)).astype(np.float32).astype(np.float64)

    def velocity(latents, timestep):
        return flux_transformer(dit_w, latents, timestep, golden["guidance_scale"], rows, pooled, dit)

    four = (1, 4, 1, 6, 4)
    tensors = {"text.ids": np.array([ids], dtype=np.int64),
               "pooled.ids": np.array([pooled_ids], dtype=np.int64),
               "text.hidden": f32(rows)[None], "text.pooled": f32(pooled)[None],
               "latents.start": f32(start).reshape(four),
               "dit.out": f32(velocity(start, golden["dit_timestep"])).reshape(four)}
    timesteps, sigmas = flux_sigmas(golden["steps"], 3 * 2, scheduler)
    tensors["pipeline.timesteps"], tensors["pipeline.sigmas"] = timesteps, sigmas
    x = start
    for i, timestep in enumerate(timesteps):
        x = x + float(sigmas[i + 1] - sigmas[i]) * velocity(x, timestep)
        tensors[f"pipeline.latents.{i}"] = f32(x).reshape(four)
    picture = kl_decode(vae_w, x / vae_config["scaling_factor"] + vae_config["shift_factor"],
                        vae_config)
    tensors["pipeline.image"] = f32(np.clip(picture / 2 + 0.5, 0, 1))[None]
    tensors["vae.decoded"] = f32(np.clip(kl_decode(vae_w, start * 0.5, vae_config), -1, 1))[None]
    write_safetensors(folder / "golden.safetensors", tensors)
    text_w.save(folder / "text_encoder_2/model.safetensors")
    clip_w.save(folder / "text_encoder/model.safetensors")
    dit_w.save(folder / "transformer/diffusion_pytorch_model.safetensors")
    vae_w.save(folder / "vae/diffusion_pytorch_model.safetensors")


CASES = {"wan-i2v": make_wan_i2v, "flux": make_flux}


def main():
    if sys.argv[1] == "--verify":
        return verify(sys.argv[2])
    out = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or CASES:
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        CASES[name](folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{name}: {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
