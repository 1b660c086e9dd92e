"""Trains tiny-video: the autoencoder first, then the transformer with its text encoder on what it encodes.

  python3 train.py --out FOLDER --vae-seconds 170 --seconds 250 [--init FOLDER] [--seed 1]
"""

import argparse
import json
import math
import os
import random
import sys
import time

import torch
import torch.nn.functional as F

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tiny-vlm", "train"))

import captions  # noqa: E402
import clips  # noqa: E402
import config  # noqa: E402
from muon import Muon  # noqa: E402
from vae import Vae  # noqa: E402
from wan import TextEncoder, Wan  # noqa: E402

VAE_BATCH, VAE_RATE, KL, THING_WEIGHT = 32, 2e-3, 3e-5, 5.0
BATCH, RATE, DROPPED, JUNK, AVERAGE = 320, 2e-3, 0.1, 0.3, 0.999
REST = 8  # rows that stand for all rows of text behind the caption
BEGUN, KEEP_EVERY_S = time.time(), 60
LENGTHS = (512, 512, 512, 226, 128, 64)  # tokens of text that a pipeline may be run with


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--vae-seconds", type=float, default=170)
    parser.add_argument("--seconds", type=float, default=250)
    parser.add_argument("--limit", type=float, default=1e9, help="seconds for all, compiling included")
    parser.add_argument("--clips", type=int, default=98304, help="clips to encode for the transformer")
    parser.add_argument("--init", help="folder to go on from; with --vae-seconds 0 its autoencoder stays")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--vae-batch", type=int, default=VAE_BATCH)
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def save(model, path, kind=torch.float32):
    from safetensors.torch import save_file
    os.makedirs(os.path.dirname(path), exist_ok=True)
    state = model if isinstance(model, dict) else model.state_dict()
    save_file({name: p.detach().to(kind).cpu().contiguous() for name, p in state.items()}, path, metadata={"format": "pt"})


def load(folder, device="cpu"):
    """(text encoder, transformer, autoencoder, latents' mean, their deviation) of a pipeline's folder."""
    from safetensors.torch import load_file
    parts = []
    for kind, name, file in ((TextEncoder, "text_encoder", "model"), (Wan, "transformer", "diffusion_pytorch_model"), (Vae, "vae", "diffusion_pytorch_model")):
        with open(os.path.join(folder, name, "config.json"), encoding="utf-8") as opened:
            shape = json.load(opened)
        part = kind(shape)
        part.load_state_dict({k: v.float() for k, v in load_file(os.path.join(folder, name, file + ".safetensors")).items()})
        parts.append(part.to(device).eval())
    return (*parts, *(torch.tensor(shape[k], device=device).view(1, -1, 1, 1, 1) for k in ("latents_mean", "latents_std")))


class Timer:
    """Shares of a span that begins with the first call."""

    def __init__(self, seconds):
        self.seconds, self.start, self.shown = seconds, None, 0.0

    def share(self):
        self.start = self.start or time.time()
        return (time.time() - self.start) / self.seconds

    def show(self, text):
        now = time.time() - self.start
        if now - self.shown > 10:
            self.shown = now
            print(f"video {now:5.0f} s  {text}", flush=True)


def drawn(rng, count):
    """Endless clips: many plans are made at once, and batches drawn from them."""
    plans = clips.tensors([clips.plan(rng) for _ in range(8192)])
    while True:
        pick = torch.randint(0, 8192, (count,))
        yield tuple(v[pick] for v in plans)


def train_vae(args, vae):
    fast = args.device == "cuda"
    optimizer = torch.optim.AdamW(vae.parameters(), lr=VAE_RATE, betas=(0.9, 0.98), weight_decay=0.0)

    def loss_of(video):
        mean, variance = vae.encode(video)
        variance = variance.float().clamp(-20, 10)
        z = mean.float() + torch.randn_like(mean.float()) * (0.5 * variance).exp()
        back = vae.decode(z.to(mean.dtype)).float()
        weight = 1 + (THING_WEIGHT - 1) * ((video - video[:, :, :1, :1, :1]).abs().amax(1, keepdim=True) > 0.05)
        error = back - video
        kl = 0.5 * (mean.float() ** 2 + variance.exp() - 1 - variance).mean()
        return (weight * (error.abs() + error ** 2)).mean() + KL * kl, error.abs().mean()

    step_loss = torch.compile(loss_of) if fast else loss_of
    timer, step = Timer(args.vae_seconds), 0
    for plans in drawn(random.Random(f"vae:{args.seed}"), args.vae_batch):
        with torch.no_grad():
            video = clips.draw(*(v.to(args.device) for v in plans))
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=fast):
            loss, error = step_loss(video)
        loss.backward()
        if not step:
            print(f"video vae begins at {time.time() - BEGUN:.0f} s", flush=True)
        share = timer.share()
        for group in optimizer.param_groups:
            group["lr"] = VAE_RATE * min(1, (step + 1) / 50) * min(1, max(0.0, (1 - share) / 0.6))
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        timer.show(f"vae step {step}  loss {loss.item():.4f}  error {error.item() * 127.5:.2f} grey levels")
        if share >= 1:
            break
    print(f"video vae: {step} steps of {args.vae_batch}, error {error.item() * 127.5:.3f} grey levels", flush=True)


@torch.no_grad()
def encoded(args, vae):
    """Latents of many clips, their captions' tokens, and the mean and deviation of each channel."""
    fast, rng = args.device == "cuda", random.Random(f"clips:{args.seed}")
    plans = [clips.plan(rng) for _ in range(args.clips)]
    latents = []
    for i in range(0, args.clips, 128):
        video = clips.draw(*(v.to(args.device) for v in clips.tensors(plans[i:i + 128])))
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=fast):
            latents.append(vae.encode(video)[0].float())
    latents = torch.cat(latents)
    texts = [captions.caption(rng, p[0]) for p in plans for _ in range(3)]
    ids, mask = clips.token_rows(texts)
    print(f"video {args.clips} clips encoded", flush=True)
    dims = (0, 2, 3, 4)
    return (latents, ids.view(args.clips, 3, -1).to(args.device), mask.view(args.clips, 3, -1).to(args.device),
            latents.mean(dims, keepdim=True), latents.std(dims, keepdim=True))


def save_transformer(folder, state):
    text, wan = ({name[2:]: p for name, p in state.items() if name.startswith(f"{i}.")} for i in (0, 1))
    save(text, os.path.join(folder, "text_encoder/model.safetensors"))
    save(wan, os.path.join(folder, "transformer/diffusion_pytorch_model.safetensors"), torch.bfloat16)


def train_transformer(args, text, wan, latents, ids, mask):
    """Flow matching on normalised latents; returns the averaged weights."""
    fast, device, kept = args.device == "cuda", args.device, time.time()
    both = torch.nn.ModuleList((text, wan))
    small = ("condition_embedder.time", "scale_shift_table", "shared", "relative_attention_bias")
    matrices = [p for name, p in both.named_parameters() if p.dim() >= 2 and not any(s in name for s in small)]
    rest = [p for name, p in both.named_parameters() if p.dim() < 2 or any(s in name for s in small)]
    optimizer = Muon(matrices, rest, args.rate, decay=0.02, compile=fast)
    average = {name: p.detach().clone() for name, p in both.state_dict().items()}
    empty, empty_mask = (v.to(device) for v in clips.token_rows([""]))
    width, captions_size = captions.TOKENS_MAX, len(captions.vocabulary())
    letters, column = captions.Tokenizer().ids["▁"], torch.arange(width, device=device)[None]

    def loss_of(x0, ids, mask, noise, sigma, bias):
        hidden = text(ids, mask) * mask[..., None]
        hidden = torch.cat((hidden, torch.zeros_like(hidden[:, :REST])), 1)
        s = sigma.view(-1, 1, 1, 1, 1)
        flow = wan((1 - s) * x0 + s * noise, sigma * 1000, hidden, bias)
        return F.mse_loss(flow.float(), noise - x0)

    step_loss = torch.compile(loss_of) if fast else loss_of
    timer, step, mean = Timer(args.seconds), 0, None
    while True:
        pick = torch.randint(0, len(latents), (args.batch,), device=device)
        way = torch.randint(0, 3, (args.batch,), device=device)
        x0, own, own_mask = latents[pick], ids[pick, way], mask[pick, way]
        drop = torch.rand(args.batch, 1, device=device) < DROPPED
        own, own_mask = torch.where(drop, empty, own), torch.where(drop, empty_mask, own_mask)
        junk = drop & (torch.rand(args.batch, 1, device=device) < JUNK)  # what says nothing is as good as nothing
        long = torch.randint(1, width, (args.batch, 1), device=device)
        noise_ids = torch.where(column == long, captions.END, torch.randint(letters, captions_size, (args.batch, width), device=device))
        own, own_mask = torch.where(junk, torch.where(column <= long, noise_ids, 0), own), torch.where(junk, column <= long, own_mask)
        u = torch.rand(args.batch, device=device) if step % 2 else torch.randn(args.batch, device=device).sigmoid()
        sigma = config.SHIFT * u / (1 + (config.SHIFT - 1) * u)
        bias = torch.zeros(1, 1, 1, captions.TOKENS_MAX + REST, device=device)
        bias[..., -REST:] = math.log((random.choice(LENGTHS) - captions.TOKENS_MAX) / REST)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=fast):
            loss = step_loss(x0, own, own_mask, torch.randn_like(x0), sigma, bias)
        loss.backward()
        if not step:  # compiled; what is left may be less than wished
            timer.seconds = max(10.0, min(args.seconds, args.limit - (time.time() - BEGUN)))
            print(f"video transformer begins at {time.time() - BEGUN:.0f} s and has {timer.seconds:.0f} s", flush=True)
        share = timer.share()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        optimizer.step(min(1, (step + 1) / 100) * min(1, max(0.0, (1 - share) / 0.5)))
        optimizer.zero_grad()
        step += 1
        if step % 4 == 0:
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), list(both.state_dict().values()), 1 - min(AVERAGE, step / (step + 40)) ** 4)
        mean = loss.detach() if mean is None else mean.lerp(loss.detach(), 0.02)
        if step % 20 == 0:
            timer.show(f"step {step}  loss {mean.item():.4f}")
            if time.time() - kept > KEEP_EVERY_S:
                kept = time.time()
                save_transformer(args.out, average)
        if share >= 1:
            break
    print(f"video transformer: {step} steps of {args.batch}, loss {mean.item():.4f}", flush=True)
    save_transformer(args.out, average)


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    if args.init:
        text, wan, vae, *_ = load(args.init, args.device)
    else:
        text, wan, vae = (kind(shape).to(args.device) for kind, shape in ((TextEncoder, config.TEXT), (Wan, config.TRANSFORMER), (Vae, config.VAE)))
        torch.nn.init.zeros_(wan.proj_out.weight)
        torch.nn.init.normal_(text.shared.weight, std=1.0)
        for block in text.encoder.block:  # no scale of 1 / sqrt(d): the queries are small instead
            torch.nn.init.normal_(block.layer[0].SelfAttention.q.weight, std=(config.TEXT["d_model"] * config.TEXT["d_kv"]) ** -0.5)
    if args.vae_seconds:
        train_vae(args, vae)
    save(vae, os.path.join(args.out, "vae/diffusion_pytorch_model.safetensors"))
    latents, ids, mask, mean, std = encoded(args, vae)
    if args.init and not args.vae_seconds:
        *_, mean, std = load(args.init, args.device)
    config.main(args.out, [round(v, 4) for v in mean.flatten().tolist()], [round(v, 4) for v in std.flatten().tolist()])
    captions.main(args.out)
    train_transformer(args, text, wan, (latents - mean) / std, ids, mask)


if __name__ == "__main__":
    main()
