"""The network in PyTorch: Qwen2_5_VLForConditionalGeneration's arithmetic and names, over batches of one shape.

Every picture has room for `cells` tokens of 2 x 2 patches; what it does not use is masked. Rows of text are as
long as one another; what stands behind their end is not looked at.
"""

import torch
import torch.nn.functional as F
from torch import nn


def attend(q, k, v, mask=None, causal=False):
    """Scaled attention over [batch, heads, n, head]."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


class Norm(nn.Module):
    def __init__(self, size, epsilon=1e-6):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(size)), epsilon

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight).to(x.dtype)


def turn(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return (torch.cat((a, b), -1) * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


class Gated(nn.Module):
    def __init__(self, width, inner, bias):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(width, inner, bias=bias), nn.Linear(width, inner, bias=bias)
        self.down_proj = nn.Linear(inner, width, bias=bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class VisionAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x, cos, sin, mask):
        b, n, width = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(turn(q, cos, sin), turn(k, cos, sin), v, mask).transpose(1, 2).reshape(b, n, width))


class VisionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = Norm(c["hidden_size"]), Norm(c["hidden_size"])
        self.attn = VisionAttention(c["hidden_size"], c["num_heads"])
        self.mlp = Gated(c["hidden_size"], c["intermediate_size"], True)

    def forward(self, x, cos, sin, mask):
        x = x + self.attn(self.norm1(x), cos, sin, mask)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.ln_q = Norm(width)
        self.mlp = nn.Sequential(nn.Linear(4 * width, 4 * width), nn.GELU(), nn.Linear(4 * width, out))

    def forward(self, x):
        x = self.ln_q(x)
        return self.mlp(x.reshape(x.shape[0], x.shape[1] // 4, 4 * x.shape[2]))


class PatchEmbed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv3d(3, width, (2, 14, 14), (2, 14, 14), bias=False)

    def forward(self, x):
        return F.linear(x, self.proj.weight.flatten(1))


class Vision(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.patch_embed = PatchEmbed(c["hidden_size"])
        self.blocks = nn.ModuleList(VisionBlock(c) for _ in range(c["depth"]))
        self.merger = Merger(c["hidden_size"], c["out_hidden_size"])
        self.full, self.window = set(c["fullatt_block_indexes"]), c["window_size"] // 28
        self.head = c["hidden_size"] // c["num_heads"]

    def forward(self, patches, rows, columns):
        """patches [pictures, 4 * cells, 1176] in the order of 2 x 2 cells; rows, columns [pictures], of cells."""
        n, device = patches.shape[1], patches.device
        cell, part = torch.arange(n, device=device) // 4, torch.arange(n, device=device) % 4
        row, column = cell // columns[:, None], cell % columns[:, None]
        real = cell < (rows * columns)[:, None]
        mask = real[:, None, :] | (cell[:, None] == cell)  # of what is no patch the result is not used, but must be finite
        window = (row // self.window) * 1024 + column // self.window
        within = mask & (window[:, None, :] == window[:, :, None])
        rate = 10000.0 ** (-torch.arange(0, self.head // 2, 2, device=device).float() / (self.head // 2))
        angles = torch.cat(((row * 2 + part // 2)[..., None] * rate, (column * 2 + part % 2)[..., None] * rate), -1)
        angles = torch.cat((angles, angles), -1)[:, None]
        cos, sin = angles.cos(), angles.sin()
        x = self.patch_embed(patches)
        for i, block in enumerate(self.blocks):
            x = block(x, cos, sin, (mask if i in self.full else within)[:, None])
        return self.merger(x)


class TextAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        width, self.heads, self.kv_heads = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.head = width // self.heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj, self.v_proj = (nn.Linear(width, self.kv_heads * self.head) for _ in range(2))
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, cos, sin):
        b, n, width = x.shape
        q = turn(self.q_proj(x).view(b, n, self.heads, self.head).transpose(1, 2), cos, sin)
        k = turn(self.k_proj(x).view(b, n, self.kv_heads, self.head).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(b, n, self.kv_heads, self.head).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        return self.o_proj(attend(q, k, v, causal=True).transpose(1, 2).reshape(b, n, width))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (Norm(c["hidden_size"], c["rms_norm_eps"]) for _ in range(2))
        self.self_attn = TextAttention(c)
        self.mlp = Gated(c["hidden_size"], c["intermediate_size"], False)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Text(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Layer(c) for _ in range(c["num_hidden_layers"]))
        self.norm = Norm(c["hidden_size"], c["rms_norm_eps"])


class Model(nn.Module):
    """Parameters have the names of the published layout."""

    def __init__(self, config):
        super().__init__()
        text, vision = config["text_config"], config["vision_config"]
        self.visual, self.model = Vision(vision), Text(text)
        self.tied = text["tie_word_embeddings"]
        if not self.tied:
            self.lm_head = nn.Linear(text["hidden_size"], text["vocab_size"], bias=False)
        head = text["hidden_size"] // text["num_attention_heads"]
        self.register_buffer("rate", text["rope_parameters"]["rope_theta"] ** (-torch.arange(0, head, 2).float() / head), persistent=False)
        sections = text["rope_parameters"]["mrope_section"]
        self.register_buffer("axis", torch.cat([torch.full((n,), i) for i, n in enumerate(sections)]), persistent=False)
        deep = {"o_proj": len(self.model.layers), "down_proj": len(self.model.layers), "attn.proj": len(self.visual.blocks)}
        for name, p in self.named_parameters():
            if p.dim() >= 2:
                scale = next(((2 * n) ** -0.5 for part, n in deep.items() if part in name), 1.0)
                nn.init.normal_(p, std=0.02 if "embed_tokens" in name else scale * p[0].numel() ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens, positions, source, patches, rows, columns, keep=None):
        """Logits at `keep` (indices into the flattened rows), or everywhere.

        tokens [rows, n]; positions [rows, n, 3]; source [rows, n]: which row of the pictures' embeddings stands here, or -1.
        """
        x = self.model.embed_tokens(tokens)
        if patches is not None:
            seen = self.visual(patches, rows, columns).flatten(0, 1)
            x = torch.where((source >= 0)[..., None], seen[source.clamp(min=0)].to(x.dtype), x)
        angles = (positions[..., None].float() * self.rate)  # [rows, n, 3, head / 2]
        angles = angles.gather(2, self.axis.expand(*angles.shape[:2], 1, -1)).squeeze(2)
        angles = torch.cat((angles, angles), -1)[:, None]
        cos, sin = angles.cos(), angles.sin()
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        x = x.flatten(0, 1)
        x = self.model.norm(x if keep is None else x[keep])
        return F.linear(x, (self.model.embed_tokens if self.tied else self.lm_head).weight)
