"""Writes draft heads for checkpoints of tests/golden: an MTP layer inside, or an EAGLE folder beside.

`knowing` heads are made with a target that forgets all but its last token, so that they guess what it says; others have
random weights, so that they guess wrong. Either changes no answer.
"""
import json
import pathlib
import random
import shutil
import struct


def read(folder):
    """Name -> (dtype, shape, bytes) of model.safetensors."""
    data = (pathlib.Path(folder) / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (e["dtype"], e["shape"], data[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]])
            for name, e in header.items()}


def write(folder, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (pathlib.Path(folder) / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def floats(shape, values):
    return ("F32", list(shape), struct.pack(f"<{len(values)}f", *values))


def ones(size):
    return floats([size], [1.0] * size)


def noise(rng, rows, cols):
    return floats([rows, cols], [rng.gauss(0, cols ** -0.5) for _ in range(rows * cols)])


def token_alone(hidden):
    """[hidden, 2 * hidden]: passes the embedding on and drops the state."""
    return floats([hidden, 2 * hidden], [float(i == j) for i in range(hidden) for j in range(2 * hidden)])


def forget(tensors):
    """`tensors` whose layers add nothing: what follows depends on the last token alone."""
    return {name: (dtype, shape, bytes(len(data)) if "o_proj" in name or "down_proj" in name else data)
            for name, (dtype, shape, data) in tensors.items()}


def copy_target(source, folder, knowing):
    """Copies a checkpoint to `folder`, as it is or forgetful; returns its config and tensors."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for file in pathlib.Path(source).iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, folder)
    tensors = read(source)
    config = json.loads((folder / "config.json").read_text())
    if knowing:
        tensors = forget(tensors)
        tensors["model.norm.weight"] = ones(config["hidden_size"])
    return config, tensors


def add_prediction_layer(source, folder, knowing=False, seed=1):
    """A DeepSeek-V3 checkpoint with the layer that its num_nextn_predict_layers says."""
    rng = random.Random(seed)
    config, tensors = copy_target(source, folder, knowing)
    hidden, last = config["hidden_size"], config["num_hidden_layers"] - 1
    head = f"model.layers.{last + 1}."
    tensors.update({head + name.removeprefix(f"model.layers.{last}."): tensor for name, tensor in tensors.items()
                    if name.startswith(f"model.layers.{last}.")})
    tensors[head + "eh_proj.weight"] = token_alone(hidden) if knowing else noise(rng, hidden, 2 * hidden)
    for norm in ("enorm", "hnorm", "shared_head.norm"):
        tensors[head + norm + ".weight"] = ones(hidden)
    tensors[head + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"]
    tensors[head + "shared_head.head.weight"] = tensors["lm_head.weight"]
    write(folder, tensors)
    config["num_nextn_predict_layers"] = 1
    (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
    return str(folder)


def make_eagle(source, target, folder, knowing=False, seed=1):
    """A Llama target, and a head in `folder` that has neither table nor output projection of its own."""
    rng = random.Random(seed)
    config, tensors = copy_target(source, target, knowing)
    write(target, tensors)
    hidden = config["hidden_size"]
    head = {name.removeprefix("model."): tensor for name, tensor in tensors.items()
            if name.startswith("model.layers.0.") and "input_layernorm" not in name}
    head["fc.weight"] = token_alone(hidden) if knowing else noise(rng, hidden, 2 * hidden)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    write(folder, head)
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlamaForCausalLMEagle"], "num_hidden_layers": 1}))
    return str(target), str(folder)
