"""The byte-level BPE: training, a plain-Python encoder, and tokenizer.json.

Merges are learned from pieces that keep letters apart from everything else, so no token joins a
letter with a quote or a bracket; names therefore get the same tokens in prose and in JSON. The
pattern in tokenizer.json is the widely used one with single digits; under these merges it gives
the same tokens, and the encoder here is compared with the tokenizers library in golden.py.
"""

import json
import re
import sys
from collections import Counter, defaultdict

VOCAB_SIZE = 4096
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKERS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
ADDED = SPECIAL + MARKERS
END_OF_TEXT, IM_START, IM_END = (VOCAB_SIZE - len(ADDED) + i for i in range(3))
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PIECE = re.compile(r" ?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
MARKER = re.compile("(" + "|".join(re.escape(text) for text in ADDED) + ")")


def pieces(text):
    """`text` cut into markers and pieces that no token crosses."""
    out = []
    for i, part in enumerate(MARKER.split(text)):
        if i % 2:
            out.append(part)
        else:
            out += PIECE.findall(part)
    return out


def byte_letters():
    """The usual printable stand-ins for the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {}, 0
    for byte in range(256):
        if byte in keep:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


LETTERS = byte_letters()


def learn(texts, size):
    """Merges of a BPE with `size` entries, from texts."""
    counts = Counter()
    added = set(ADDED)
    for text in texts:
        counts.update(piece for piece in pieces(text) if piece not in added)
    words = [[LETTERS[b] for b in piece.encode()] for piece in counts]
    weights = list(counts.values())
    pairs, where = Counter(), defaultdict(set)
    for index, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += weights[index]
            where[pair].add(index)
    vocab = [LETTERS[b] for b in sorted(LETTERS, key=lambda b: LETTERS[b])]
    merges, known = [], set(vocab)
    while len(vocab) < size:
        pair = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(pair)
        joined = pair[0] + pair[1]
        if joined not in known:  # two merges may make the same text
            known.add(joined)
            vocab.append(joined)
        for index in list(where[pair]):
            word, weight = words[index], weights[index]
            for old in zip(word, word[1:]):
                pairs[old] -= weight
                where[old].discard(index)
            new, i = [], 0
            while i < len(word):
                if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
                    new.append(joined)
                    i += 2
                else:
                    new.append(word[i])
                    i += 1
            words[index] = new
            for fresh in zip(new, new[1:]):
                pairs[fresh] += weight
                where[fresh].add(index)
        del pairs[pair], where[pair]
    return vocab, merges


def to_json(vocab, merges):
    """tokenizer.json in the Hugging Face format."""
    base = len(vocab)
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": base + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": text in SPECIAL} for i, text in enumerate(ADDED)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {text: i for i, text in enumerate(vocab)}, "merges": [f"{a} {b}" for a, b in merges]},
    }


class Tokenizer(dict):
    """Encodes by pieces, each piece once: the dict is the cache, piece -> ids."""

    def __init__(self, path):
        super().__init__()
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.vocab = data["model"]["vocab"]
        self.ranks = {tuple(merge.split(" ")): i for i, merge in enumerate(data["model"]["merges"])}
        for token in data["added_tokens"]:
            self[token["content"]] = (token["id"],)

    def __missing__(self, piece):
        word = [LETTERS[b] for b in piece.encode()]
        while len(word) > 1:
            rank, i = min((self.ranks.get(pair, len(self.ranks)), i) for i, pair in enumerate(zip(word, word[1:])))
            if rank == len(self.ranks):
                break
            word[i:i + 2] = [word[i] + word[i + 1]]
        ids = tuple(self.vocab[part] for part in word)
        if len(self) < 400_000:  # invented names are many; the cache has a bound
            self[piece] = ids
        return ids

    def encode(self, text):
        return [i for piece in pieces(text) for i in self[piece]]


def main(path, seed=1, characters=12_000_000):
    """Learns the vocabulary from conversations of the training side and writes `path`."""
    import mix
    import render
    from source import Source
    src = Source(f"tokenizer:{seed}")
    texts, size = [], 0
    while size < characters:
        c = mix.conversation(src, src.choice((200, 500, 1000)))
        texts.append(render.render(c.messages, tools=c.tools, enable_thinking=c.thinking))
        size += len(texts[-1])
    vocab, merges = learn(texts, VOCAB_SIZE - len(ADDED))
    with open(path, "w", encoding="utf-8") as file:
        json.dump(to_json(vocab, merges), file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
