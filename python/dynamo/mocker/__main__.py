import json

from .._start import Refused, become, become_several, flags_of, main, translated

DEFAULTS = {"block-size": "64", "max-num-seqs": "256", "max-num-batched-tokens": "8192"}
OF_THE_FILE = {"num_gpu_blocks": "num-gpu-blocks-override"}  # keys that flags call otherwise
RULES = {
    "engine-type": (("vllm",), "the mock schedules as our engine does"),
    "kv-cache-dtype": (("auto",), "a mock stores nothing"),
    "kv-bytes-per-token": (("auto",), "a mock stores nothing"),
    "enable-chunked-prefill": (("true",), "prompts are always computed in pieces"),
    "preemption-mode": (("lifo",), "who came last gives way"),
    "startup-time": (("0", "0.0"), "a mock is there at once"),
    "data-parallel-size": (("1",), "a mock has one rank"),
    "stagger-delay": (("-1", "-1.0", "0"), "workers start as they can"),
    "reasoning": ((), "its tokens are a function of prompt and seed"),
    "kv-transfer-bandwidth": (("64", "64.0", "0"), "a mock moves its blocks as a worker does"),
}


def file_flags(path):
    """The mocker's JSON file, or the JSON itself, as flags."""
    try:
        text = path if path.lstrip().startswith("{") else open(path).read()
        members = json.loads(text)
    except (OSError, ValueError) as error:
        raise Refused(f"extra-engine-args: {path}: {error}") from error
    if not isinstance(members, dict):
        raise Refused(f"extra-engine-args: {path} holds no JSON object")
    out = []
    for key, value in members.items():
        out += [f"--{OF_THE_FILE.get(key, key.replace('_', '-'))}", json.dumps(value) if isinstance(value, bool) else str(value)]
    return out


def start(words):
    own, count = [], 1
    for name, value, given in flags_of(words):
        if name == "extra-engine-args":
            own = file_flags(value or "") + own  # flags beat the file
        elif name == "num-workers":
            if not (value or "").isdigit() or not 1 <= int(value) <= 1024:
                raise Refused(f"num-workers: {value}; allowed are 1 .. 1024")
            count = int(value)
        else:
            own += given
    own = translated(own, RULES)
    # A switch with a word behind it, as the mocker has them.
    own = [word for pair in ([[f"--{n}={v}"] if n and v in ("true", "false") else g for n, v, g in flags_of(own)]) for word in pair]
    names = {name for name, _, _ in flags_of(own)}
    for name, value in DEFAULTS.items():
        if name not in names:
            own += [f"--{name}", value]
    own.append("--mock")
    if count > 1:
        become_several(count, own)
    become(["worker"], own)


if __name__ == "__main__":
    main(start)
