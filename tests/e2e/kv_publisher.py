"""A publisher of KV events for tests, written from docs/kv_events_for_engines.md alone, on Debian's ZeroMQ and msgpack.

Reads commands from stdin, one JSON a line: {"stored": [tokens], "block_size": n} stores the whole blocks of a prompt,
{"removed": [tokens], ...} removes them, {"cleared": true}; "form": "map" writes maps; "silent": true keeps it in the replay
buffer without sending it. Answers each with a line. First line out: its two addresses.
"""
import hashlib
import json
import sys
import threading
import time

import msgpack
import zmq

context = zmq.Context()
publisher = context.socket(zmq.PUB)
events_port = publisher.bind_to_random_port("tcp://127.0.0.1")
replay = context.socket(zmq.ROUTER)
replay_port = replay.bind_to_random_port("tcp://127.0.0.1")
buffer, lock = [], threading.Lock()


def serve_replay():
    while True:
        *envelope, first = replay.recv_multipart()
        with lock:
            known = list(buffer)
        for sequence, payload in enumerate(known):
            if sequence >= int.from_bytes(first, "big"):
                replay.send_multipart([*envelope, sequence.to_bytes(8, "big"), payload])
        replay.send_multipart([*envelope, b"\xff" * 8, b""])


def hashes_of(tokens, size):
    """Hashes of this engine's own: bytes of SHA-256 over the prefix."""
    return [hashlib.sha256(json.dumps(tokens[:end]).encode()).digest() for end in range(size, len(tokens) + 1, size)]


def event_of(command):
    size = command.get("block_size", 16)
    if "stored" in command:
        hashes = hashes_of(command["stored"], size)
        tokens = command["stored"][:len(hashes) * size]
        if command.get("form") == "map":
            return {"type": "BlockStored", "block_hashes": hashes, "parent_block_hash": None, "token_ids": tokens, "block_size": size}
        return ["BlockStored", hashes, None, tokens, size, None, "GPU", None]
    if "removed" in command:
        return ["BlockRemoved", hashes_of(command["removed"], size), "GPU"]
    return ["AllBlocksCleared"]


threading.Thread(target=serve_replay, daemon=True).start()
print(json.dumps({"events": f"tcp://127.0.0.1:{events_port}", "replay": f"tcp://127.0.0.1:{replay_port}"}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    payload = msgpack.packb([time.time(), [event_of(command)], None])
    with lock:
        sequence = len(buffer)
        buffer.append(payload)
    if not command.get("silent"):
        publisher.send_multipart([b"kv-events", sequence.to_bytes(8, "big"), payload])
    print(sequence, flush=True)
