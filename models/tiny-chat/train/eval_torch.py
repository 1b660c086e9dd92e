"""Accuracy per task with transformers, greedy: the check after training, before a server exists.

  python3 eval_torch.py MODEL_DIR --cases 200 [--json FILE] [--show 3]
"""

import argparse
import json
import os
import time

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM
from safetensors.torch import load_file

import mix
import render
from grade import right
from config import CONFIG
from tokenizer import END_OF_TEXT, IM_END, Tokenizer, LETTERS

HERE = os.path.dirname(os.path.abspath(__file__))
ANSWER_TOKENS_MAX = 200
THINKING_TOKENS_MAX = 800
BATCH_TOKENS = 150_000  # of prompts, padded


def load(folder):
    model = Qwen3ForCausalLM(Qwen3Config(**{k: v for k, v in CONFIG.items() if k not in ("architectures", "dtype", "transformers_version")}))
    state = load_file(os.path.join(folder, "model.safetensors"))
    missing, extra = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not extra and missing in ([], ["lm_head.weight"]), (missing, extra)
    model.tie_weights()
    return model.cuda().eval()


def answers(model, tokenizer, cases):
    prompts = [tokenizer.encode(render.render(c["messages"], tools=c["tools"], enable_thinking=c["thinking"], add_generation_prompt=True)) for c in cases]
    letters = {letter: byte for byte, letter in LETTERS.items()}
    texts = {i: bytes(letters[c] for c in text) for text, i in tokenizer.vocab.items()}
    for token, ids in tokenizer.items():
        if ids[0] > END_OF_TEXT + 2 and len(ids) == 1:
            texts[ids[0]] = token.encode()
    out = [None] * len(cases)
    order = sorted(range(len(cases)), key=lambda i: len(prompts[i]))
    while order:
        longest = len(prompts[order[-1]])
        group = [order.pop() for _ in range(min(len(order), max(1, BATCH_TOKENS // longest)))]
        ids = torch.full((len(group), longest), END_OF_TEXT)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(group):
            ids[row, longest - len(prompts[i]):] = torch.tensor(prompts[i])
            mask[row, longest - len(prompts[i]):] = 1
        limit = THINKING_TOKENS_MAX if cases[0]["thinking"] else ANSWER_TOKENS_MAX
        with torch.no_grad():
            made = model.generate(input_ids=ids.cuda(), attention_mask=mask.cuda(), max_new_tokens=limit, do_sample=False,
                                  eos_token_id=[IM_END, END_OF_TEXT], pad_token_id=END_OF_TEXT)
        for row, i in enumerate(group):
            got = made[row, longest:].tolist()
            stop = min([got.index(t) for t in (IM_END, END_OF_TEXT) if t in got], default=len(got))
            out[i] = b"".join(texts.get(t, b"") for t in got[:stop]).decode(errors="replace")
    return out, max(map(len, prompts))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    parser.add_argument("--show", type=int, default=3, help="wrong answers to print per task")
    parser.add_argument("--task", default="")
    args = parser.parse_args()
    model, tokenizer, table = load(args.model), Tokenizer(os.path.join(HERE, "..", "tokenizer.json")), {}
    for task in mix.CASES:
        if args.task not in task:
            continue
        begun = time.time()
        cases = mix.cases(task, args.cases, args.seed)
        got, longest = answers(model, tokenizer, cases)
        wrong = [(c, g) for c, g in zip(cases, got) if not right(c, g)]
        table[task] = 100 * (1 - len(wrong) / len(cases))
        print(f"{task:32s} {table[task]:6.1f} %   prompt max {longest}   {time.time() - begun:.1f} s", flush=True)
        for case, text in wrong[:args.show]:
            print(f"      asked    {case['messages'][-1]['content'][-150:]!r}\n      expected {case['expect']}\n      got      {text[-300:]!r}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"cases": args.cases, "seed": args.seed, "accuracy": table}, file, indent=1)


if __name__ == "__main__":
    main()
