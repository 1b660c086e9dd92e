"""What clips show and how it is said, and the tokenizer for it. Standard library only.

  python3 captions.py FOLDER     writes tokenizer.json and tokenizer_config.json into FOLDER/tokenizer
"""

import json
import os
import random
import sys
from dataclasses import dataclass
from zlib import crc32

COLOURS = {"red": (214, 40, 40), "green": (38, 160, 70), "blue": (50, 90, 220), "yellow": (244, 210, 44), "purple": (140, 60, 180), "orange": (244, 130, 30)}
SHAPES = ("circle", "square", "triangle", "star")
BACKGROUNDS = {"black": (16, 16, 16), "white": (240, 240, 240), "grey": (120, 120, 120)}
DIRECTIONS = {  # x to the right, y down; what may be said for it
    "left": (-1, 0, ("left", "to the left", "leftwards")), "right": (1, 0, ("right", "to the right", "rightwards")),
    "up": (0, -1, ("up", "upwards", "to the top")), "down": (0, 1, ("down", "downwards", "to the bottom")),
    "up left": (-1, -1, ("up and left", "to the top left", "up and to the left", "diagonally up and left")),
    "up right": (1, -1, ("up and right", "to the top right", "up and to the right", "diagonally up and right")),
    "down left": (-1, 1, ("down and left", "to the bottom left", "down and to the left", "diagonally down and left")),
    "down right": (1, 1, ("down and right", "to the bottom right", "down and to the right", "diagonally down and right"))}
SPEEDS = {"slow": (0.9, ("slowly", "at low speed")), "fast": (2.2, ("fast", "quickly", "at high speed"))}  # pixels a frame
SUBJECTS = ("a {c} {s}", "a {c} {s}", "the {c} {s}", "{c} {s}", "a video of a {c} {s}", "one {c} {s}", "a {s} that is {c}")
VERBS = ("moves", "moves", "moving", "goes", "flies", "slides", "travels", "drifts", "that moves")
HELD_ONE_IN = 8
TOKENS_MAX = 24  # of a caption, the end included
PAD, END, UNKNOWN = range(3)


@dataclass(frozen=True)
class Clip:
    colour: str
    shape: str
    direction: str
    speed: str
    background: str

    @property
    def held(self):
        """Whether training never shows this thing moving this way."""
        return crc32(f"tiny-video:{self.colour} {self.shape} {self.direction} {self.speed}".encode()) % HELD_ONE_IN == 0


def clip(rng, held=None):
    """A clip, of one side if `held` is given."""
    while True:
        made = Clip(rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(list(DIRECTIONS)), rng.choice(list(SPEEDS)),
                    rng.choice(("black", "black", "white", "grey")))
        if held is None or made.held == held:
            return made


def caption(rng, clip, speed=None):
    """One way to say it; black need not be said, and of the speed half of the captions say nothing."""
    subject, way = rng.choice(SUBJECTS).format(c=clip.colour, s=clip.shape), rng.choice(DIRECTIONS[clip.direction][2])
    pace = rng.choice(SPEEDS[clip.speed][1]) if (rng.random() < 0.6 if speed is None else speed) else ""
    verb = rng.choice(VERBS)
    text = f"{subject} {pace} {verb} {way}" if pace in ("slowly", "quickly") and rng.random() < 0.3 else f"{subject} {verb} {way} {pace}"
    if clip.background != "black" or rng.random() < 0.2:
        text += f" on a {clip.background} background" if rng.random() < 0.7 else f" in front of a {clip.background} background"
    text = " ".join(text.split()).replace("a orange", "an orange")
    return text + "." if rng.random() < 0.2 else text


def words():
    """Every word that captions use, sorted."""
    texts = [*COLOURS, *SHAPES, *BACKGROUNDS, *SUBJECTS, *VERBS, "on a background", "in front of an it is", "and", "please", "show", "clip"]
    texts += [say for *_, says in DIRECTIONS.values() for say in says] + [say for _, says in SPEEDS.values() for say in says]
    return sorted({w for text in texts for w in text.replace("{c}", "").replace("{s}", "").split()})


def vocabulary():
    """(piece, score): the words whole, and letters for all others."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("▁" + word, -5.0) for word in words()] + [("▁", -10.0)]
    return pieces + [(c, -10.0) for c in "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-/&%"]


class Tokenizer:
    def __init__(self):
        self.ids = {piece: i for i, (piece, _) in enumerate(vocabulary())}

    def encode(self, text):
        """Ids with the end; words that are no piece become letters."""
        out = []
        for word in text.lower().split():
            tail = []
            while "▁" + word not in self.ids and word and word[-1] in ".,;:!?":
                tail.insert(0, word[-1])
                word = word[:-1]
            out += [self.ids["▁" + word]] if "▁" + word in self.ids else [self.ids["▁"], *(self.ids.get(c, UNKNOWN) for c in word)]
            out += [self.ids[c] for c in tail]
        return out[:TOKENS_MAX - 1] + [END]


def files():
    special = [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i, text in enumerate(("<pad>", "</s>", "<unk>"))]
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
                           "special_tokens": {"</s>": {"id": "</s>", "ids": [END], "tokens": ["</s>"]}}},
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": UNKNOWN, "vocab": [list(p) for p in vocabulary()], "byte_fallback": False}}
    config = {"backend": "tokenizers", "eos_token": "</s>", "model_max_length": 512, "pad_token": "<pad>", "tokenizer_class": "TokenizersBackend", "unk_token": "<unk>"}
    return {"tokenizer": tokenizer, "tokenizer_config": config}


def main(folder):
    os.makedirs(os.path.join(folder, "tokenizer"), exist_ok=True)
    for name, data in files().items():
        with open(os.path.join(folder, "tokenizer", name + ".json"), "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
