"""WanTransformer3DModel, UMT5EncoderModel and the flow schedulers in PyTorch, with the published names."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def attend(q, k, v, bias=None):
    """[batch, heads, n, head], scaled."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return (scores if bias is None else scores + bias).softmax(-1) @ v


class RmsNorm(nn.Module):
    def __init__(self, size, epsilon=1e-6):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(size)), epsilon

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight).to(x.dtype)


# ---- text ----

class SelfAttention(nn.Module):
    def __init__(self, c):
        super().__init__()
        inner, self.heads = c["num_heads"] * c["d_kv"], c["num_heads"]
        self.q, self.k, self.v = (nn.Linear(c["d_model"], inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, c["d_model"], bias=False)
        self.relative_attention_bias = nn.Embedding(c["relative_attention_num_buckets"], c["num_heads"])
        self.buckets, self.furthest = c["relative_attention_num_buckets"], c["relative_attention_max_distance"]

    def _buckets(self, n, device):
        at = torch.arange(n, device=device)
        offset = at[None, :] - at[:, None]
        half = self.buckets // 2
        out = (offset > 0).long() * half
        offset = offset.abs()
        exact = half // 2
        far = exact + (torch.log(offset.clamp(min=1).float() / exact) / math.log(self.furthest / exact) * (half - exact)).long()
        return out + torch.where(offset < exact, offset, far.clamp(max=half - 1))

    def forward(self, x, mask):
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        bias = self.relative_attention_bias(self._buckets(n, x.device)).permute(2, 0, 1)[None]
        scores = q.float() @ k.float().transpose(-1, -2) + bias
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(torch.float32).min)
        return self.o((scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).reshape(b, n, -1))


class DenseReluDense(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(c["d_model"], c["d_ff"], bias=False) for _ in range(2))
        self.wo = nn.Linear(c["d_ff"], c["d_model"], bias=False)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class TextLayer(nn.Module):
    def __init__(self, c, what, name):
        super().__init__()
        self.name = name
        setattr(self, name, what(c))
        self.layer_norm = RmsNorm(c["d_model"])

    def forward(self, x, *more):
        return x + getattr(self, self.name)(self.layer_norm(x), *more)


class TextBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer = nn.ModuleList((TextLayer(c, SelfAttention, "SelfAttention"), TextLayer(c, DenseReluDense, "DenseReluDense")))

    def forward(self, x, mask):
        return self.layer[1](self.layer[0](x, mask))


class TextStack(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.block = nn.ModuleList(TextBlock(c) for _ in range(c["num_layers"]))
        self.final_layer_norm = RmsNorm(c["d_model"])


class TextEncoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.shared, self.encoder = nn.Embedding(c["vocab_size"], c["d_model"]), TextStack(c)

    def forward(self, ids, mask):
        """[n, length, d_model]; rows behind the text are not zeroed here."""
        x = self.shared(ids)
        for block in self.encoder.block:
            x = block(x, mask)
        return self.encoder.final_layer_norm(x)


# ---- transformer ----

class Wan(nn.Module):
    """WanTransformer3DModel, text to video."""

    def __init__(self, c):
        super().__init__()
        self.heads, self.head, self.frequencies = c["num_attention_heads"], c["attention_head_dim"], c["freq_dim"]
        width = self.heads * self.head
        self.out = c["out_channels"]
        self.patch_embedding = nn.Conv3d(c["in_channels"], width, (1, 2, 2), (1, 2, 2))
        self.condition_embedder = Condition(c, width)
        self.blocks = nn.ModuleList(Block(width, self.heads, c["ffn_dim"], c["eps"]) for _ in range(c["num_layers"]))
        self.proj_out = nn.Linear(width, c["out_channels"] * 4)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width ** 0.5)

    def rope(self, t, h, w, device):
        """cos, sin [tokens, head / 2] of interleaved pairs: time, then row, then column."""
        side = 2 * (self.head // 6)
        parts = []
        for i, (n, size) in enumerate(((t, self.head - 2 * side), (h, side), (w, side))):
            rate = 10000.0 ** (-torch.arange(0, size, 2, device=device, dtype=torch.float64) / size)
            angle = torch.outer(torch.arange(n, device=device, dtype=torch.float64), rate)
            shape = [1, 1, 1, -1]
            shape[i] = n
            parts.append(angle.view(shape).expand(t, h, w, -1))
        angle = torch.cat(parts, -1).reshape(t * h * w, -1)
        return angle.cos().float(), angle.sin().float()

    def forward(self, latents, timestep, text, text_bias=None):
        """The flow [n, channels, frames, height, width]; timestep [n]; text [n, length, text_dim]."""
        n, _, t, h, w = latents.shape
        cos, sin = self.rope(t, h // 2, w // 2, latents.device)
        x = self.patch_embedding(latents).flatten(2).transpose(1, 2)
        temb, modulation, text = self.condition_embedder(timestep, text, self.frequencies)
        for block in self.blocks:
            x = block(x, text, modulation, cos, sin, text_bias)
        shift, scale = (self.scale_shift_table + temb.float()[:, None]).chunk(2, 1)
        x = (F.layer_norm(x.float(), x.shape[-1:], eps=1e-6) * (1 + scale) + shift).to(x.dtype)
        x = self.proj_out(x).view(n, t, h // 2, w // 2, 1, 2, 2, self.out)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(n, self.out, t, h, w)


class Two(nn.Module):
    def __init__(self, inputs, width, act):
        super().__init__()
        self.linear_1, self.linear_2, self.act = nn.Linear(inputs, width), nn.Linear(width, width), act

    def forward(self, x):
        return self.linear_2(self.act(self.linear_1(x)))


class Condition(nn.Module):
    def __init__(self, c, width):
        super().__init__()
        self.time_embedder = Two(c["freq_dim"], width, F.silu)
        self.time_proj = nn.Linear(width, 6 * width)
        self.text_embedder = Two(c["text_dim"], width, lambda x: F.gelu(x, approximate="tanh"))

    def forward(self, timestep, text, frequencies):
        half = frequencies // 2
        rate = torch.exp(-math.log(10000) * torch.arange(half, device=timestep.device).float() / half)
        angle = timestep.float()[:, None] * rate
        temb = self.time_embedder(torch.cat((angle.cos(), angle.sin()), -1))
        return temb, self.time_proj(F.silu(temb)).unflatten(1, (6, -1)), self.text_embedder(text)


class WanAttention(nn.Module):
    def __init__(self, width, heads, epsilon):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList((nn.Linear(width, width),))
        self.norm_q, self.norm_k = RmsNorm(width, epsilon), RmsNorm(width, epsilon)

    def forward(self, x, y, rope=None, bias=None):
        n, width = x.shape[0], x.shape[2]
        q = self.norm_q(self.to_q(x)).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
        k = self.norm_k(self.to_k(y)).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
        v = self.to_v(y).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
        if rope is not None:
            q, k = turned(q, *rope), turned(k, *rope)
        return self.to_out[0](attend(q, k, v, bias).transpose(1, 2).reshape(n, -1, width))


def turned(x, cos, sin):
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Gelu(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x):
        return F.gelu(self.proj(x), approximate="tanh")


class Feed(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.net = nn.ModuleList((Gelu(width, inner), nn.Identity(), nn.Linear(inner, width)))

    def forward(self, x):
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    def __init__(self, width, heads, inner, epsilon):
        super().__init__()
        self.attn1, self.attn2 = WanAttention(width, heads, epsilon), WanAttention(width, heads, epsilon)
        self.norm2, self.ffn = nn.LayerNorm(width, epsilon), Feed(width, inner)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width ** 0.5)
        self.epsilon = epsilon

    def _norm(self, x, scale, shift):
        return (F.layer_norm(x.float(), x.shape[-1:], eps=self.epsilon) * (1 + scale) + shift).to(x.dtype)

    def forward(self, x, text, modulation, cos, sin, bias):
        shift, scale, gate, c_shift, c_scale, c_gate = (self.scale_shift_table + modulation.float()).chunk(6, 1)
        y = self._norm(x, scale, shift)
        x = (x.float() + self.attn1(y, y, (cos, sin)).float() * gate).to(x.dtype)
        x = x + self.attn2(F.layer_norm(x.float(), x.shape[-1:], self.norm2.weight, self.norm2.bias, self.epsilon).to(x.dtype), text, bias=bias)
        return (x.float() + self.ffn(self._norm(x, c_scale, c_shift)).float() * c_gate).to(x.dtype)


# ---- schedulers ----

def flow_sigmas(steps, shift):
    """The noise levels of UniPC with flow sigmas, the last one 0."""
    s = torch.linspace(1, 1 / 1000, steps + 1, dtype=torch.float64)[:-1]
    s = shift * s / (1 + (shift - 1) * s)
    if abs(s[0] - 1) < 1e-6:
        s[0] -= 1e-6
    return torch.cat((s, torch.zeros(1, dtype=torch.float64)))


def unipc(velocity, latents, steps, shift):
    """UniPC (bh2, second order) for flow prediction; `velocity(x, timestep)`. Yields the latents of every step."""
    sigmas = flow_sigmas(steps, shift)
    rate = [math.log((1 - s) / s) if s > 0 else math.inf for s in sigmas.tolist()]
    x, before, guess, lasts = latents, None, [], []
    for i in range(steps):
        s = sigmas[i].item()
        x0 = x - s * velocity(x, int(s * 1000))
        if i:  # the corrector: the step before again, now that its end is known
            a, b = sigmas[i - 1].item(), s
            h = rate[i] - rate[i - 1]
            base = b / a * before - (1 - b) * math.expm1(-h) * lasts[-1]
            bh = math.expm1(-h)
            now = x0 - lasts[-1]
            if order == 1:
                x = base - (1 - b) * bh * 0.5 * now
            else:
                r = (rate[i - 2] - rate[i - 1]) / h
                old = (lasts[-2] - lasts[-1]) / r
                k1 = bh / -h - 1
                k2 = k1 / -h - 0.5
                r1, r2 = torch.linalg.solve(torch.tensor([[1.0, 1.0], [r, 1.0]], dtype=torch.float64),
                                            torch.tensor([k1 / bh, 2 * k2 / bh], dtype=torch.float64)).tolist()
                x = base - (1 - b) * bh * (r1 * old + r2 * now)
        lasts = [*lasts[-1:], x0]
        before = x
        order = 1 if i == 0 or i == steps - 1 else 2
        b = sigmas[i + 1].item()
        if b == 0:
            x = x0
        else:
            h = rate[i + 1] - rate[i]
            bh = math.expm1(-h)
            x = b / s * x - (1 - b) * bh * lasts[-1]
            if order == 2:
                r = (rate[i - 1] - rate[i]) / h
                x = x - (1 - b) * bh * 0.5 * (lasts[-2] - lasts[-1]) / r
        yield x
