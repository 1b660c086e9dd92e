"""The golden files beside the model, in the form that `pixii check` reads, from the modules here in fp32.

  python3 golden.py FOLDER [--against FOLDER]

`--against` compares the modules with the golden files of another pipeline first, such as one that diffusers made.
"""

import argparse
import json
import os
import random

import torch
from safetensors.torch import load_file, save_file

import captions
import clips
from train import load
from wan import flow_sigmas, unipc

CASE = {"prompt": "a red circle moves left", "negative_prompt": "blurry", "height": 32, "width": 48, "num_frames": 9, "steps": 8,
        "guidance_scale": 2.0, "max_sequence_length": 32, "scheduler": "unipc", "dit_timestep": 437.0, "latent_frames": 3}


def run(folder, case, ids, empty_ids, start, video, states_of_pass=None):
    """All golden tensors of a case; the single pass is over `states_of_pass`, else over the prompt's."""
    text, wan, vae, mean, std = load(folder)
    with open(os.path.join(folder, "scheduler/scheduler_config.json"), encoding="utf-8") as file:
        shift = json.load(file)["flow_shift"]

    def hidden(row):
        mask = torch.arange(case["max_sequence_length"])[None] < len(row)
        padded = torch.zeros(mask.shape, dtype=torch.long)
        padded[0, :len(row)] = torch.tensor(row)
        return padded, mask, text(padded, mask)
    row, mask, states = hidden(ids)
    _, empty_mask, empty = hidden(empty_ids)
    with_text, without = states * mask[..., None], empty * empty_mask[..., None]

    states_of_pass = with_text if states_of_pass is None else states_of_pass

    def velocity(x, timestep):
        at = torch.tensor([float(timestep)])
        a, b = wan(x, at, with_text), wan(x, at, without)
        return b + case["guidance_scale"] * (a - b)
    sigmas = flow_sigmas(case["steps"], shift)
    steps = list(unipc(velocity, start, case["steps"], shift))
    out = {"text.ids": row, "text.mask": mask.long(), "text.hidden": states, "dit.text": states_of_pass, "latents.start": start,
           "dit.out": wan(start, torch.tensor([case["dit_timestep"]]), states_of_pass),
           "pipeline.sigmas": sigmas.float(), "pipeline.timesteps": (sigmas[:-1] * 1000).long().float(),
           "pipeline.frames": vae.decode(steps[-1] * std + mean).clamp(-1, 1).transpose(1, 2) * 0.5 + 0.5,
           "vae.video": video, "vae.encoded_mean": vae.encode(video)[0], "vae.decoded": vae.decode(start * 0.5).clamp(-1, 1)}
    return out | {f"pipeline.latents.{i}": x for i, x in enumerate(steps)}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--against")
    args = parser.parse_args()
    if args.against:
        theirs = load_file(os.path.join(args.against, "golden.safetensors"))
        with open(os.path.join(args.against, "golden.json"), encoding="utf-8") as file:
            case = json.load(file) | {"guidance_scale": 1.0}
        ids = theirs["text.ids"][theirs["text.mask"] == 1].tolist()
        for name, tensor in run(args.against, case, ids, ids, theirs["latents.start"], theirs["vae.video"], theirs["dit.text"]).items():
            if not name.startswith("pipeline.latents") and name != "pipeline.frames":  # those need the other's tokenizer
                print(f"{name}: differs by {(tensor - theirs[name]).abs().max().item():.2g}")
    tokenizer = captions.Tokenizer()
    torch.manual_seed(3)
    start = torch.randn(1, 8, CASE["latent_frames"], CASE["height"] // 8, CASE["width"] // 8)
    video = clips.draw(*clips.tensors([clips.plan(random.Random(1))]))[:, :, :CASE["num_frames"], :CASE["height"], :CASE["width"]].contiguous()
    made = run(args.folder, CASE, tokenizer.encode(CASE["prompt"]), tokenizer.encode(CASE["negative_prompt"]), start, video)
    save_file({k: v.contiguous() for k, v in made.items()}, os.path.join(args.folder, "golden.safetensors"))
    with open(os.path.join(args.folder, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(CASE, file)
        file.write("\n")


if __name__ == "__main__":
    main()
