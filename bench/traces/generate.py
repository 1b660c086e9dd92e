#!/usr/bin/env python3
"""Makes traces of shapes that public ones lack, in Mooncake's form: generate.py FOLDER.

agents.jsonl: 30 system prompts of 2,000 to 20,000 tokens, asked for by Zipf's law, in sessions of a few turns.
documents.jsonl: every two minutes a document of 20,000 to 40,000 tokens about which 240 questions come at once, beside
requests that share nothing.
"""
import json
import pathlib
import random
import sys

BLOCK = 512  # tokens of a hash id


class Ids:
    """Hash ids that nobody had before."""

    def __init__(self):
        self.last = 0

    def new(self, count):
        self.last += count
        return list(range(self.last - count, self.last))


def agents(rng, ids):
    prompts = [ids.new(rng.randint(4, 40)) for _ in range(30)]
    weights = [1 / (i + 1) for i in range(30)]
    out, now = [], 0.0
    while len(out) < 23_608:
        now += rng.expovariate(2.2 / 1000)
        context, at = list(rng.choices(prompts, weights)[0]), now
        for _ in range(min(12, 1 + int(rng.expovariate(1 / 2)))):
            context = context + ids.new(rng.randint(1, 4))
            answer = max(1, int(rng.expovariate(1 / 182)))
            out.append((at, len(context) * BLOCK - rng.randint(0, 400), answer, context))
            context = context + ids.new(max(1, answer // BLOCK))
            at += rng.expovariate(1 / 8000) + 2000
    return out


def documents(rng, ids):
    out = []
    for number in range(25):
        document = ids.new(rng.randint(40, 80))
        for _ in range(240):
            at = number * 120_000 + rng.expovariate(1 / 15_000)
            size = len(document) * BLOCK + rng.randint(30, 300)
            out.append((at, size, max(1, int(rng.expovariate(1 / 150))), document + ids.new(1)))
    for _ in range(9000):
        blocks = rng.randint(2, 14)
        out.append((rng.uniform(0, 3e6), blocks * BLOCK - 100, max(1, int(rng.expovariate(1 / 200))), ids.new(blocks)))
    return out


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, make in (("agents", agents), ("documents", documents)):
        requests = sorted(make(random.Random(7), Ids()), key=lambda one: one[0])
        lines = (json.dumps({"timestamp": int(at), "input_length": size, "output_length": answer, "hash_ids": hashes})
                 for at, size, answer, hashes in requests)
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
