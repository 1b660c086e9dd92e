"""Becomes `pixii`: flags as deployments of Dynamo write them, and no process of Python's that stays."""
import importlib.util
import json
import os
import pathlib
import sys
import tempfile


class Refused(Exception):
    """What cannot be done, as a sentence that names the flag."""


def flags_of(words):
    """[(name, value or None for a switch, words)] in order; what is no flag has the name None."""
    out, words = [], list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            out.append((None, word, [word]))
            continue
        name, equals, value = word[2:].partition("=")
        if equals:
            out.append((name, value, [word]))
        elif words and not words[0].startswith("--"):
            out.append((name, words[0], [word, words.pop(0)]))
        else:
            out.append((name, None, [word]))
    return out


def translated(words, rules):
    """`words` with `rules` applied: name -> (values that mean what is always so, why others are refused)."""
    out = []
    for name, value, own in flags_of(words):
        if name not in rules:
            out += own
            continue
        usual, why = rules[name]
        if usual is None:
            continue  # whatever it says, workers say it themselves
        if value is not None and value not in usual and "true" in usual and len(own) == 2:
            out.append(value)  # a switch, and a word behind it
        elif (value or "true") not in usual:
            raise Refused(f"{name}: {'' if value is None else value + ': '}{why}")
    return out


def become(command, words):
    """Never returns."""
    try:
        _program().become([*command, *words])
    except OSError as error:
        raise Refused(str(error)) from error


def _program():
    # Without the package's own __init__: no extension module is needed to start the program.
    path = pathlib.Path(__file__).resolve().parent.parent / "pixii/_program.py"
    spec = importlib.util.spec_from_file_location("pixii_program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(start, words=None):
    try:
        start(list(sys.argv[1:] if words is None else words))
    except Refused as error:
        print(f"pixii: {error}", file=sys.stderr)
        sys.exit(2)


def discovery_of(flags):
    """What --discovery is, and without it --discovery-backend with its variables, for a file that needs one place."""
    given = {name: value for name, value, _ in flags if name in ("discovery", "discovery-backend")}
    if given.get("discovery"):
        return given["discovery"]
    backend = given.get("discovery-backend") or os.environ.get("DYN_DISCOVERY_BACKEND") or "none"
    if backend == "etcd":
        place = os.environ.get("ETCD_ENDPOINTS", "").split(",")[0].rpartition("//")[2]
        return f"etcd://{place or '127.0.0.1:2379'}"
    if backend == "file":
        return "file:" + os.environ.get("DYN_FILE_KV", "")
    return backend if backend != "none" else os.environ.get("PIXII_WORKER_DISCOVERY") or "file:"


def become_several(count, words):
    """`count` equal workers, which `pixii up` starts, watches and ends."""
    flags = flags_of(words)
    options, model = {}, None
    for name, value, _ in flags:
        if name is None or name in ("model", "model-path"):
            model = value
        elif name not in ("discovery", "discovery-backend", "namespace"):
            options[name] = True if value is None else value
    component = {"command": "worker", "replicas": count, "flags": options}
    if model:
        component["model"] = model
    namespace = [value for name, value, _ in flags if name == "namespace"] or [os.environ.get("DYN_NAMESPACE") or "dynamo"]
    graph = {"namespace": namespace[-1], "components": {"mocker": component}}
    place = discovery_of(flags)
    if place != "file:":
        graph["discovery"] = place
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME", "") + "/.cache"
        graph["discovery"] = f"file:{cache}/pixii/cluster"
    folder = tempfile.mkdtemp(prefix="pixii-mocker-")
    path = os.path.join(folder, "graph.yaml")
    with open(path, "w") as file:
        json.dump(graph, file)  # JSON is YAML
    become(["up"], [path, "--state-dir", folder])
