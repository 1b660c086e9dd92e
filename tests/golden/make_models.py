#!/usr/bin/env python3
"""Makes the golden cases of decoder-only families: tiny, random weights, odd shapes.

usage: make_models.py OUT_FOLDER [CASE...]

Needs torch, transformers and safetensors; meant for transformers 5.17, in fp32 with eager attention.
Weights are rounded to bf16 before the goldens are computed, and stored as bf16.

golden.json: {"prompts": {name: ids}, "greedy.NAME": ids, "greedy.NAME.margins": numbers}.
golden.safetensors: NAME.logits (all positions; of p100 the last four), p7.hidden.I.
"""
import json
import pathlib
import sys
import traceback

import torch
import transformers
from safetensors.torch import save_file

BASE = dict(vocab_size=203, hidden_size=48, intermediate_size=88, num_hidden_layers=2,
            num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=256,
            bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=10000.0)
MOE = dict(moe_intermediate_size=24, num_experts=6, num_experts_per_tok=3)
LATENT = dict(num_key_value_heads=6, kv_lora_rank=20, qk_nope_head_dim=10, qk_rope_head_dim=6,
              v_head_dim=14, moe_intermediate_size=24, n_routed_experts=8, num_experts_per_tok=3,
              n_shared_experts=2, first_k_dense_replace=1)


def rope(kind, **more):
    return {"rope_parameters": dict(rope_type=kind, rope_theta=10000.0, **more)}


def longrope(head_dim, partial=1.0):
    pairs = int(head_dim * partial) // 2
    return dict(rope_parameters=dict(
        rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=partial,
        short_factor=[1.0 + 0.25 * i for i in range(pairs)],
        long_factor=[2.0 + 0.75 * i for i in range(pairs)],
        original_max_position_embeddings=128), original_max_position_embeddings=128)


# name: (family of the transformers classes, what differs from BASE)
CASES = {
    "llama-bias-mqa": ("Llama", dict(num_key_value_heads=1, attention_bias=True, mlp_bias=True)),
    "llama-linear": ("Llama", dict(head_dim=18, **rope("linear", factor=3.0))),
    "llama-dynamic": ("Llama", dict(num_key_value_heads=6, **rope("dynamic", factor=2.0))),
    "llama-yarn": ("Llama", dict(rope_parameters=YARN)),
    "llama-llama3-tied": ("Llama", dict(tie_word_embeddings=True, **rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64))),
    "mistral-head10": ("Mistral", dict(head_dim=10, sliding_window=9)),
    "mixtral-window": ("Mixtral", dict(num_local_experts=5, num_experts_per_tok=3, sliding_window=11)),
    "qwen2-moe": ("Qwen2Moe", dict(shared_expert_intermediate_size=40, num_hidden_layers=4,
                                   decoder_sparse_step=2, **MOE)),
    "qwen2-moe-norm": ("Qwen2Moe", dict(shared_expert_intermediate_size=36, norm_topk_prob=True,
                                        mlp_only_layers=[0], num_hidden_layers=3, **MOE)),
    "qwen3-moe-plain": ("Qwen3Moe", dict(head_dim=22, norm_topk_prob=False, mlp_only_layers=[1],
                                         num_hidden_layers=3, **MOE)),
    "phi3-longrope": ("Phi3", dict(longrope(8), sliding_window=None)),
    "phi3-partial": ("Phi3", dict(longrope(16, 0.75), num_attention_heads=3, num_key_value_heads=1,
                                  sliding_window=13)),
    "gemma2-odd": ("Gemma2", dict(head_dim=18, query_pre_attn_scalar=23, sliding_window=7,
                                  num_hidden_layers=3, attention_bias=True, tie_word_embeddings=True)),
    "gemma2-no-caps": ("Gemma2", dict(head_dim=12, attn_logit_softcapping=None,
                                      final_logit_softcapping=None, tie_word_embeddings=True)),
    "gemma3": ("Gemma3", dict(head_dim=20, query_pre_attn_scalar=17, sliding_window=8,
                              num_hidden_layers=4, tie_word_embeddings=True,
                              layer_types=["sliding_attention", "sliding_attention",
                                           "full_attention", "sliding_attention"],
                              rope_parameters=dict(
                                  full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                                  sliding_attention=dict(rope_type="default", rope_theta=1e4)))),
    "gpt-oss-odd": ("GptOss", dict(head_dim=14, num_local_experts=5, num_experts_per_tok=3,
                                   intermediate_size=40, sliding_window=10, num_hidden_layers=3,
                                   rope_parameters=dict(YARN, truncate=False))),
    "deepseek-v2": ("DeepseekV2", dict(LATENT, q_lora_rank=None, topk_method="greedy", n_group=None,
                                       topk_group=None, norm_topk_prob=False,
                                       routed_scaling_factor=1.0, **rope("default"))),
    "deepseek-v2-groups": ("DeepseekV2", dict(
        LATENT, q_lora_rank=26, topk_method="group_limited_greedy", n_group=4, topk_group=2,
        norm_topk_prob=False, routed_scaling_factor=3.0,
        rope_parameters=dict(YARN, mscale=0.7, mscale_all_dim=0.9))),
    "deepseek-v3": ("DeepseekV3", dict(LATENT, q_lora_rank=26, n_group=4, topk_group=2,
                                       norm_topk_prob=True, routed_scaling_factor=2.5,
                                       rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=0.6))),
    "deepseek-v3-no-q-rank": ("DeepseekV3", dict(
        LATENT, q_lora_rank=None, n_group=1, topk_group=1, norm_topk_prob=False,
        routed_scaling_factor=1.25, attention_bias=True, rope_interleave=False, **rope("default"))),
    "smollm3": ("SmolLM3", dict(num_hidden_layers=4, no_rope_layers=[1, 0, 1, 0], use_sliding_window=True,
                                sliding_window=9, attention_bias=True, tie_word_embeddings=True)),
    "smollm3-plain": ("SmolLM3", dict(num_hidden_layers=5, num_key_value_heads=1, head_dim=14,
                                      no_rope_layer_interval=3)),
}


def config_class(family):
    return getattr(transformers, f"{family}TextConfig" if family == "Gemma3" else f"{family}Config")


def randomize(model, seed):
    """Values of a size that makes every layer matter, exactly representable in bf16."""
    generator = torch.Generator().manual_seed(seed)
    values = dict(model.named_parameters())
    values |= {name: value for name, value in model.named_buffers()
               if name.endswith("e_score_correction_bias")}
    with torch.no_grad():
        for name, value in sorted(values.items()):
            noise = torch.randn(value.shape, generator=generator)
            if "correction" in name:
                noise = 0.5 * torch.rand(value.shape, generator=generator)
            elif "norm" in name and name.endswith("weight"):
                zero_based = "gemma" in type(model).__name__.lower()
                noise = (0.0 if zero_based else 1.0) + 0.2 * noise
            elif value.dim() == 1 or name.endswith("_bias"):
                noise = 0.3 * noise
            elif "embed" in name:
                noise = 0.5 * noise
            else:
                noise = noise * (1.2 / value.shape[-1] ** 0.5)
            value.copy_(noise.to(torch.bfloat16).to(value.dtype))
    return model.eval()


def run(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)


def greedy(model, ids, count=12):
    ids, out, margins = list(ids), [], []
    for _ in range(count):
        best = run(model, ids).logits[0, -1].float().topk(2)
        out.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        ids.append(out[-1])
    return out, margins


def make(folder, name, seed):
    family, edits = CASES[name]
    config = config_class(family)(**(BASE | edits))
    config._attn_implementation = "eager"
    model = randomize(getattr(transformers, f"{family}ForCausalLM")(config).float(), seed)
    generator = torch.Generator().manual_seed(seed + 1)
    prompts = {f"p{n}": torch.randint(3, BASE["vocab_size"], (n,), generator=generator).tolist()
               for n in (1, 7, 33, 100)}
    golden, tensors = {"prompts": prompts}, {}
    for key, ids in prompts.items():
        out = run(model, ids)
        logits = out.logits[0].float()
        assert torch.isfinite(logits).all(), f"{key}: logits are not finite"
        tensors[f"{key}.logits"] = (logits[-4:] if key == "p100" else logits).clone()
        if key == "p7":
            for i, hidden in enumerate(out.hidden_states):
                tensors[f"{key}.hidden.{i}"] = hidden[0].float().clone()
        if key in ("p7", "p33"):
            golden[f"greedy.{key}"], golden[f"greedy.{key}.margins"] = greedy(model, ids)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    save_file(tensors, folder / "golden.safetensors", metadata={"format": "pt"})
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size <= 400_000, f"{size} bytes are more than 400,000"
    return size


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    total, failed = 0, []
    for seed, name in enumerate(CASES):
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        try:
            size = make(pathlib.Path(sys.argv[1]) / name, name, 1000 + 10 * seed)
            total += size
            print(f"{name}: {size} bytes")
        except Exception:  # the other cases are still wanted
            failed.append(name)
            print(f"{name}: FAILED\n{traceback.format_exc()}")
    print(f"{total} bytes in all; failed: {', '.join(failed) or 'none'}")
    sys.exit(1 if failed or total > 6_000_000 else 0)


if __name__ == "__main__":
    main()
