"""Trains tiny-vlm for a given time and writes model.safetensors.

  python3 train.py --out DIR --seconds 420 [--init DIR] [--rate 3e-3] [--seed 1]

The learning rate rises over the first steps, stays, and falls to zero from half of the time.
"""

import argparse
import os
import time

import torch
import torch.nn.functional as F

from batches import ROWS, Batches
from config import CONFIG
from draw_torch import Painter
from model import Model
from muon import Muon
from scenes import CELLS_MAX

WARM_UP_STEPS, DECAY_FROM, KEEP_EVERY_S = 150, 0.5, 100
SOFTEST, NOISE_MOST = 2.2, 5.0  # edges are between 0.8 and this many pixels soft; noise in grey levels


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--init", help="folder to go on from")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=0, help="stop after so many (a trial)")
    return parser.parse_args()


def save(model, folder):
    from safetensors.torch import save_file
    save_file({name: p.detach().to(torch.bfloat16).cpu().contiguous() for name, p in model.state_dict().items()},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def load(folder):
    from safetensors.torch import load_file
    model = Model(CONFIG)
    model.load_state_dict({name: p.float() for name, p in load_file(os.path.join(folder, "model.safetensors")).items()})
    return model


def draw(painter, batch, device):
    soft = 0.8 + (SOFTEST - 0.8) * torch.rand(ROWS, device=device) ** 2
    noise = NOISE_MOST * torch.rand(ROWS, device=device) * (torch.rand(ROWS, device=device) < 0.5)
    with torch.no_grad():
        canvas = painter.canvas(batch["rows"], batch["columns"], batch["back"].float(), batch["edges"], batch["filled"], batch["half_width"],
                                batch["colour"].float(), soft)
        return painter.patches(canvas, noise).to(torch.bfloat16 if device == "cuda" else torch.float32)


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    fast = args.device == "cuda"
    batches = Batches(args.processes, args.seed, args.device)
    torch.set_float32_matmul_precision("high")
    model = (load(args.init) if args.init else Model(CONFIG)).to(args.device)
    matrices = [p for name, p in model.named_parameters() if p.dim() >= 2 and "embed_tokens" not in name]
    rest = [p for name, p in model.named_parameters() if p.dim() < 2 or "embed_tokens" in name]
    optimizer = Muon(matrices, rest, args.rate, compile=fast)
    painter = Painter(CELLS_MAX, args.device, compile=fast)

    def loss_of(batch, patches):
        logits = model(batch["tokens"], batch["positions"], batch["source"], patches, batch["rows"], batch["columns"], batch["keep"])
        return F.cross_entropy(logits.float(), batch["targets"], ignore_index=-100)

    step_loss = torch.compile(loss_of) if fast else loss_of
    start, step, kept, shown, shown_step, mean = None, 0, 0.0, 0.0, 0, None
    while True:
        batch = batches.next()
        patches = draw(painter, batch, args.device)
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=fast):
            loss = step_loss(batch, patches)
        loss.backward()
        if start is None:  # time begins when the first step is compiled
            start = time.time()
        elapsed = time.time() - start
        fraction = elapsed / args.seconds
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        optimizer.step(min(1, (step + 1) / WARM_UP_STEPS) * min(1, max(0.0, (1 - fraction) / (1 - DECAY_FROM))))
        optimizer.zero_grad()
        step += 1
        mean = loss.detach() if mean is None else mean.lerp(loss.detach(), 0.05)
        if elapsed - shown > 10 or step in (1, args.steps):
            speed = (step - shown_step) / max(elapsed - shown, 1e-3)
            print(f"vlm {elapsed:5.0f} s  step {step:6d}  loss {mean.item():.4f}  {speed:.1f} steps/s  ready {batches.waiting()}", flush=True)
            shown, shown_step = elapsed, step
        if elapsed - kept > KEEP_EVERY_S:
            save(model, args.out)
            kept = elapsed
        if fraction >= 1 or step == args.steps:
            break
    batches.stop()
    save(model, args.out)
    print(f"vlm {step} steps of {ROWS} conversations in {elapsed:.0f} s, loss {mean.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
