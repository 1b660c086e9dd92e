"""Whether clips show what their captions say, in PyTorch.

  python3 eval_torch.py FOLDER [--clips 128] [--steps 20] [--guidance 3] [--side held|other|all] [--json FILE] [--sheet FILE.png]
"""

import argparse
import json
import random
import struct
import zlib

import torch

import captions
import clips
from config import FRAMES, HEIGHT, SHIFT, WIDTH
from measure import measure
from train import load
from wan import unipc

TEXT_TOKENS = 512  # rows of text that the transformer sees, as the published pipeline's default
SHEET = ("a red circle moves left", "a blue square moves up", "a green triangle moving down and right fast", "a yellow star slowly drifts to the right",
         "a purple circle flies to the top left on a white background", "an orange square slides down quickly on a grey background")


def hidden(text, prompts, device):
    ids, mask = (v.to(device) for v in clips.token_rows(prompts))
    rows = text(ids, mask) * mask[..., None]
    return torch.cat((rows, rows.new_zeros(len(prompts), TEXT_TOKENS - rows.shape[1], rows.shape[2])), 1)


@torch.no_grad()
def generate(parts, prompts, steps, guidance, noise):
    """(frames [n, FRAMES, HEIGHT, WIDTH, 3] of 0..1, latents after every step)."""
    text, wan, vae, mean, std = parts
    device = noise.device
    with_text, without = hidden(text, prompts, device), hidden(text, [""] * len(prompts), device)

    def velocity(x, timestep):
        at = torch.full((len(prompts),), float(timestep), device=device)
        a, b = wan(x, at, with_text), wan(x, at, without)
        return b + guidance * (a - b)
    steps_made = [x for x in unipc(velocity, noise, steps, SHIFT)]
    frames = torch.cat([vae.decode(x * std + mean) for x in steps_made[-1].split(8)]).clamp(-1, 1)
    return (frames * 0.5 + 0.5).permute(0, 2, 3, 4, 1), steps_made


def as_bytes(frames):
    return [bytes(f.mul(255).round().byte().cpu().numpy().tobytes()) for f in frames]


def png(width, height, rgb):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + rgb[i:i + 3 * width] for i in range(0, len(rgb), 3 * width))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def sheet(frames):
    """One clip a row, every fourth frame, as one picture."""
    n, at = frames.shape[0], range(0, FRAMES, 4)
    out = torch.ones(n, HEIGHT + 2, len(at), WIDTH + 2, 3)
    out[:, 1:-1, :, 1:-1] = frames[:, list(at)].cpu().permute(0, 2, 1, 3, 4)
    out = out.reshape(n * (HEIGHT + 2), len(at) * (WIDTH + 2), 3)
    return png(out.shape[1], out.shape[0], out.mul(255).round().byte().numpy().tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--side", choices=("all", "held", "other"), default="held", help="clips that training never shows, the others, or any")
    parser.add_argument("--show", type=int, default=4)
    parser.add_argument("--json")
    parser.add_argument("--sheet")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parts, rng = load(args.folder, device), random.Random(f"tiny-video:{args.seed}")
    torch.manual_seed(args.seed)
    channels = parts[4].shape[1]
    shape = (channels, (FRAMES - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8)
    wanted = [captions.clip(rng, {"all": None, "held": True, "other": False}[args.side]) for _ in range(args.clips)]
    prompts = [captions.caption(rng, c, speed=True) for c in wanted]
    frames, _ = generate(parts, prompts, args.steps, args.guidance, torch.randn(len(prompts), *shape).to(device))
    right, shown = {"colour": 0, "direction": 0, "speed": 0, "colour and direction": 0}, 0
    for clip, prompt, each in zip(wanted, prompts, frames):
        got = measure(as_bytes(each), WIDTH, HEIGHT) or {"colour": "", "direction": "", "speed": ""}
        same = {k: got[k] == getattr(clip, k) for k in ("colour", "direction", "speed")}
        same["colour and direction"] = same["colour"] and same["direction"]
        for k, good in same.items():
            right[k] += good
        if not all(same.values()) and shown < args.show:
            print(f"      {prompt!r} shows {got}")
            shown += 1
    table = {k: 100 * v / args.clips for k, v in right.items()}
    print(f"steps {args.steps} guidance {args.guidance}: " + ", ".join(f"{k} {v:.1f} %" for k, v in table.items()), flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"clips": args.clips, "seed": args.seed, "steps": args.steps, "guidance": args.guidance, "right": table}, file, indent=1)
    if args.sheet:
        torch.manual_seed(args.seed)
        made, _ = generate(parts, list(SHEET), args.steps, args.guidance, torch.randn(len(SHEET), *shape).to(device))
        with open(args.sheet, "wb") as file:
            file.write(sheet(made))


if __name__ == "__main__":
    main()
