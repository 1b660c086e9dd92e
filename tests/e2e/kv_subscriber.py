"""A subscriber to KV events for tests, written from docs/kv_events_for_engines.md alone, on Debian's ZeroMQ and msgpack.

`kv_subscriber.py EVENTS [REPLAY]` rebuilds what the cache of one publisher holds. Commands on stdin, one JSON a line, each answered with a
line: {"state": true} says what is held and what was seen; {"miss": n} makes it deaf for the next n messages, as if the network had lost them.
"""
import json
import sys
import threading

import msgpack
import zmq

END = (1 << 64) - 1
SILENCE_MS = 5000
lock = threading.Lock()
held = {}  # (rank, medium, hash) -> [times stored, parent, tokens, adapter, salt]
seen = {"next": None, "batches": 0, "missed": 0, "replayed": 0, "gaps": 0, "media": [], "ranks": [], "block_sizes": [], "clears": 0}
deaf = 0
context = zmq.Context()


def note(name, value):
    if value not in seen[name]:
        seen[name].append(value)


def apply(payload):
    seconds, events, rank = msgpack.unpackb(payload, raw=False)
    assert isinstance(seconds, float)
    seen["batches"] += 1
    note("ranks", rank)
    for event in events:
        kind, fields = event[0], event[1:]
        if kind == "AllBlocksCleared":
            seen["clears"] += 1
            for key in [key for key in held if key[0] == rank]:
                del held[key]
        elif kind == "BlockStored":
            hashes, parent, tokens, size, _, medium, adapter, extra = fields[:8]
            note("media", medium)
            note("block_sizes", size)
            assert len(tokens) == len(hashes) * size, "tokens of complete blocks"
            before = held.get((rank, medium, parent))
            assert parent is None or before, "a parent is told of before its children"
            salts = [text[len("pixii-salt:"):] for text in (extra[0] if extra and extra[0] else []) if text.startswith("pixii-salt:")]
            salt = before[4] if before else (salts or [None])[0]
            for number, name in enumerate(hashes):
                known = held.setdefault((rank, medium, name), [0, parent, tokens[number * size:(number + 1) * size], adapter, salt])
                known[0] += 1
                parent = name
        elif kind == "BlockRemoved":
            hashes, medium = fields[:2]
            for name in hashes:
                known = held[(rank, medium, name)]
                known[0] -= 1
                if known[0] == 0:
                    del held[(rank, medium, name)]


def ask(first):
    """Everything that the publisher still has from `first` on."""
    question = context.socket(zmq.DEALER)
    question.connect(sys.argv[2])
    question.send_multipart([b"", first.to_bytes(8, "big")])
    while True:
        empty, sequence, payload = question.recv_multipart()
        assert empty == b""
        sequence = int.from_bytes(sequence, "big")
        if sequence == END:
            assert payload == b""
            break
        if sequence == seen["next"]:
            apply(payload)
            seen["next"] += 1
            seen["replayed"] += 1
    question.close()


def listen(socket):
    global deaf
    while True:
        if len(sys.argv) > 2 and not socket.poll(SILENCE_MS):  # what was sent before the subscription stood is in no gap
            with lock:
                ask(seen["next"])
            continue
        topic, sequence, payload = socket.recv_multipart()
        assert topic == b"kv-events" and len(sequence) == 8
        sequence = int.from_bytes(sequence, "big")
        with lock:
            if deaf > 0:
                deaf -= 1
                seen["missed"] += 1
                continue
            if sequence > seen["next"]:
                seen["gaps"] += 1
                ask(seen["next"])
            if sequence == seen["next"]:
                apply(payload)
                seen["next"] += 1


def prefix_of(key):
    rank, medium, name = key
    tokens = []
    while name is not None:
        _, name, own, _, _ = held[(rank, medium, name)]
        tokens = own + tokens
    return tokens


subscriber = context.socket(zmq.SUB)
subscriber.setsockopt(zmq.SUBSCRIBE, b"kv-events")
subscriber.connect(sys.argv[1])
seen["next"] = 0
if len(sys.argv) > 2:
    ask(0)
threading.Thread(target=listen, args=(subscriber,), daemon=True).start()
print("listening", flush=True)
for line in sys.stdin:
    command = json.loads(line)
    with lock:
        if "miss" in command:
            deaf = command["miss"]
            answer = {}
        else:
            answer = {**seen, "blocks": [{"rank": key[0], "medium": key[1], "prefix": prefix_of(key), "lora": entry[3], "salt": entry[4]}
                                         for key, entry in held.items()]}
    print(json.dumps(answer), flush=True)
