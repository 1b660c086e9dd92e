"""tiny-chat's tokenizer with the four tokens that pictures need, and conversations as tokens.

  python3 tokens.py FOLDER     writes tokenizer.json and tokenizer_config.json
"""

import json
import os
import re
import sys

import scenes  # finds tiny-chat's modules
from tokenizer import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
CHAT = os.path.join(HERE, "..", "..", "tiny-chat", "tokenizer.json")
FIRST_NEW = 4096
VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD = range(FIRST_NEW, FIRST_NEW + 4)
VOCAB_SIZE = FIRST_NEW + 4
END_OF_TEXT, IM_START, IM_END = 4087, 4088, 4089
PICTURE = "".join((VISION[0], VISION[2], VISION[1]))
_SPLIT = re.compile("(" + "|".join(map(re.escape, VISION)) + ")")


class Tokens:
    def __init__(self):
        self.text = Tokenizer(CHAT)

    def encode(self, text):
        ids = []
        for i, part in enumerate(_SPLIT.split(text)):
            ids += (FIRST_NEW + VISION.index(part),) if i % 2 else self.text.encode(part)
        return ids


def pieces(messages, add_generation_prompt=False):
    """The conversation as chat_template.jinja writes it, in (text, whether the model says it)."""
    out = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = "".join(PICTURE if part["type"] == "image" else part["text"] for part in content)
        out.append((f"<|im_start|>{message['role']}\n", False))
        out.append((content + "<|im_end|>", message["role"] == "assistant"))
        out.append(("\n", False))
    if add_generation_prompt:
        out.append(("<|im_start|>assistant\n", False))
    return out


def pictures(messages):
    """The scenes of a conversation, in order."""
    return [part["scene"] for m in messages if not isinstance(m["content"], str) for part in m["content"] if part["type"] == "image"]


def expand(ids, grids):
    """One <|image_pad|> a picture becomes one for each of its tokens. `grids` are (rows, columns)."""
    out, grids = [], iter(grids)
    for i in ids:
        if i == IMAGE_PAD:
            rows, columns = next(grids)
            out += [i] * (rows * columns)
        else:
            out.append(i)
    return out


def positions(ids, grids):
    """The rows (t, h, w) of M-RoPE: in a picture h and w count its rows and columns, the text goes on behind the longer."""
    out, grids, i, at = ([], [], []), iter(grids), 0, 0
    while i < len(ids):
        if ids[i] == IMAGE_PAD:
            rows, columns = next(grids)
            for k in range(rows * columns):
                out[0].append(at)
                out[1].append(at + k // columns)
                out[2].append(at + k % columns)
            i += rows * columns
            at += max(rows, columns)
        else:
            for row in out:
                row.append(at)
            i, at = i + 1, at + 1
    return out


def main(folder):
    with open(CHAT, encoding="utf-8") as file:
        data = json.load(file)
    data["added_tokens"] += [{"id": FIRST_NEW + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
                              "normalized": False, "special": True} for i, text in enumerate(VISION)]
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
