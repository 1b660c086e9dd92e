"""The network in PyTorch: Qwen3ForCausalLM's arithmetic over packed conversations of any lengths."""

import torch
import torch.nn.functional as F
from torch import nn

EPSILON = 1e-6

try:
    from torch.nn.attention.varlen import varlen_attn as _varlen
except ImportError:
    _varlen = None


def attend(q, k, v, starts, longest):
    """Causal attention within each conversation; `starts` are the cumulative lengths."""
    group = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(group, 1)
    v = v.repeat_interleave(group, 1)
    if _varlen is None:
        return torch.ops.aten._flash_attention_forward(q, k, v, starts, starts, longest, longest, 0.0, True, False)[0]
    try:
        return _varlen(q, k, v, starts, starts, longest, longest, window_size=(-1, 0))
    except TypeError:
        return _varlen(q, k, v, starts, starts, longest, longest, is_causal=True)


class Norm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + EPSILON) * self.weight).to(torch.bfloat16)


def turn(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(torch.bfloat16)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner, self.head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.input_layernorm = Norm(width)
        self.q_proj = nn.Linear(width, self.heads * self.head, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head, width, bias=False)
        self.q_norm = Norm(self.head)
        self.k_norm = Norm(self.head)
        self.post_attention_layernorm = Norm(width)
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x, cos, sin, starts, longest):
        n = x.shape[0]
        h = self.input_layernorm(x)
        q = turn(self.q_norm(self.q_proj(h).view(n, self.heads, self.head)), cos, sin)
        k = turn(self.k_norm(self.k_proj(h).view(n, self.kv_heads, self.head)), cos, sin)
        v = self.v_proj(h).view(n, self.kv_heads, self.head)
        x = x + self.o_proj(attend(q, k, v, starts, longest).reshape(n, self.heads * self.head))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        layers, width, head = config["num_hidden_layers"], config["hidden_size"], config["head_dim"]
        assert config["rms_norm_eps"] == EPSILON
        self.embed_tokens = nn.Embedding(config["vocab_size"], width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(layers))
        self.norm = Norm(width)
        angles = torch.outer(torch.arange(config["max_position_embeddings"]).float(),
                             config["rope_theta"] ** (-torch.arange(0, head, 2).float() / head))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 / (2 * layers) ** 0.5 if "o_proj" in name or "down_proj" in name else
                                (0.02 if "embed" in name else width ** -0.5))

    def forward(self, tokens, positions, starts, longest):
        x = self.embed_tokens(tokens)
        cos, sin = self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)
        for layer in self.layers:
            x = layer(x, cos, sin, starts, longest)
        return F.linear(self.norm(x), self.embed_tokens.weight)

    def loss(self, tokens, targets, weights, positions, starts, longest, teacher=None):
        """(weighted mean loss, mean loss on answers). With a teacher's logits: against its distribution."""
        logits = self(tokens, positions, starts, longest).float()
        if teacher is None:
            each = F.cross_entropy(logits, targets, reduction="none")
        else:
            each = F.cross_entropy(logits, teacher.float().softmax(-1), reduction="none")
        answers = weights > 0.5
        return (each * weights).sum() / weights.sum(), ((each * answers).sum() / answers.sum()).detach()


def hugging_face_names(state):
    """Our parameter names as the published layout spells them."""
    out = {}
    for name, tensor in state.items():
        for part, home in (("q_proj", "self_attn"), ("k_proj", "self_attn"), ("v_proj", "self_attn"), ("o_proj", "self_attn"),
                           ("q_norm", "self_attn"), ("k_norm", "self_attn"), ("gate_proj", "mlp"), ("up_proj", "mlp"), ("down_proj", "mlp")):
            name = name.replace(f".{part}.", f".{home}.{part}.")
        out["model." + name] = tensor
    return out
