"""Weights on disk: fp32 to train on with, bf16 safetensors to serve."""

import os

import torch
from safetensors.torch import load_file, save_file

from model import hugging_face_names

MASTER_FILES = 3


def save_master(model, folder):
    """The fp32 weights, in MASTER_FILES files."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    names = sorted(state, key=lambda name: -state[name].numel())
    for i in range(MASTER_FILES):
        torch.save({name: state[name] for name in names[i::MASTER_FILES]}, os.path.join(folder, f"master{i}.pt"))


def load_master(model, folder):
    state = {}
    for i in range(MASTER_FILES):
        state.update(torch.load(os.path.join(folder, f"master{i}.pt")))
    model.load_state_dict(state)


def load_published(model, folder):
    """Weights from model.safetensors."""
    stored = load_file(os.path.join(folder, "model.safetensors"))
    names = hugging_face_names(model.state_dict())
    model.load_state_dict({ours: stored[theirs].float() for ours, theirs in zip(model.state_dict(), names)})


def export(model, folder):
    """model.safetensors; the output layer is the embedding and is not stored twice."""
    state = {name: tensor.detach().to(torch.bfloat16).cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(hugging_face_names(state), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
