"""Trains tiny-chat, or its small sibling, for a given time and writes the checkpoint.

  python3 train.py --out DIR --seconds 420 [--init DIR] [--rate 3e-3] [--seed 1]
  python3 train.py --model draft --teacher .. --out DIR --seconds 420

The schedule is a function of elapsed time: lengths 512, 1,024 and 8,192 for 22, 22 and 56 % of it,
the learning rate constant after a warm-up and linear to zero from 60 %.
"""

import argparse
import os
import time

import torch

import mix
from batches import BATCH_TOKENS, Batches
from config import CONFIGS
from export import export, load_master, load_published, save_master
from model import Model

HERE = os.path.dirname(os.path.abspath(__file__))
WARM_UP_STEPS = 200
DECAY_FROM = 0.6
KEEP_EVERY_S = 120


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--model", choices=CONFIGS, default="chat")
    parser.add_argument("--teacher", help="folder of tiny-chat: learn its distribution instead of the text")
    parser.add_argument("--init")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--lengths", default="512:0.22,1024:0.22,8192:0.56")
    parser.add_argument("--kinds", default="", help="other shares, e.g. document_talk:30,chat:40")
    return parser.parse_args()


def length_at(phases, fraction):
    for length, share in phases:
        fraction -= share
        if fraction < 0:
            return length
    return phases[-1][0]


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    phases = [(int(length), float(share)) for length, share in (part.split(":") for part in args.lengths.split(","))]
    kinds = mix.KINDS
    if args.kinds:
        kinds = tuple((getattr(mix, name), float(share)) for name, share in (part.split(":") for part in args.kinds.split(",")))
    batches = Batches(args.processes, args.seed, os.path.join(HERE, "..", "tokenizer.json"), phases[0][0], kinds)
    torch.set_float32_matmul_precision("high")
    model = Model(CONFIGS[args.model])
    if args.init:
        load_master(model, args.init)
    model.cuda()
    teacher = None
    if args.teacher:
        teacher = Model(CONFIGS["chat"])
        load_published(teacher, args.teacher)
        teacher = torch.compile(teacher.cuda().eval())
    decay = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                                  lr=args.rate, betas=(0.9, 0.95), fused=True)
    loss_of = torch.compile(model.loss)
    start, step, kept, shown, shown_step = None, 0, 0.0, 0.0, 0
    while True:
        (tokens, targets, weights, positions, starts), longest = batches.next()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            taught = None
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(tokens, positions, starts, longest)
            loss, answers = loss_of(tokens, targets, weights, positions, starts, longest, taught)
        loss.backward()
        if start is None:  # time begins when the first step is compiled
            torch.cuda.synchronize()
            start = time.time()
        elapsed = time.time() - start
        fraction = elapsed / args.seconds
        batches.longest.value = length_at(phases, fraction)
        rate = args.rate * min(1, (step + 1) / WARM_UP_STEPS) * min(1, max(0.0, (1 - fraction) / (1 - DECAY_FROM)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if elapsed - shown > 10 or step == 1:
            speed = (step - shown_step) * BATCH_TOKENS / max(elapsed - shown, 1e-3) / 1e6
            print(f"{elapsed:6.0f} s  step {step:6d}  length {longest:5d}  rate {rate:.1e}  loss {loss.item():.4f}  "
                  f"answers {answers.item():.5f}  {speed:.2f} M tokens/s  ready {batches.waiting()}", flush=True)
            shown, shown_step = elapsed, step
        if elapsed - kept > KEEP_EVERY_S:
            save_master(model, args.out)
            kept = elapsed
        if fraction >= 1:
            break
    batches.stop()
    save_master(model, args.out)
    export(model, args.out)
    print(f"{step} steps, {step * BATCH_TOKENS / 1e9:.2f} billion tokens in {elapsed:.0f} s")


if __name__ == "__main__":
    main()
