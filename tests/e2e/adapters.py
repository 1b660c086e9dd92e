"""Writes LoRA adapters with random weights as PEFT saves them."""
import json
import pathlib
import random
import struct


def linears(checkpoint):
    """Module -> (inputs, outputs) of every matrix in a folder's model.safetensors but tables and heads."""
    with open(pathlib.Path(checkpoint) / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    return {name.removesuffix(".weight"): tuple(reversed(entry["shape"])) for name, entry in header.items()
            if name.endswith(".weight") and len(entry["shape"]) == 2 and "embed" not in name and not name.startswith("lm_head")}


def write(folder, shapes, seed, rank, size=0.2, config=None, extra=None):
    """A folder that changes each module of `shapes` {name: (inputs, outputs)}; `extra`: more tensors {name: (shape, values)}."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(seed)
    tensors = dict(extra or {})
    for module, (inputs, outputs) in shapes.items():
        name = f"base_model.model.{module}"
        tensors[f"{name}.lora_A.weight"] = ([rank, inputs], [drawn.gauss(0, size) for _ in range(rank * inputs)])
        tensors[f"{name}.lora_B.weight"] = ([outputs, rank], [drawn.gauss(0, size) for _ in range(rank * outputs)])
    header, data = {}, []
    at = 0
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * len(values)]}
        at += 4 * len(values)
        data.append(struct.pack(f"<{len(values)}f", *values))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
    (folder / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0, "bias": "none",
        "target_modules": sorted({module.rpartition(".")[2] for module in shapes}), **(config or {})}))
    return str(folder)
