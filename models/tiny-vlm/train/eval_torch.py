"""Accuracy per task in PyTorch, greedy, on held-out pictures: the check after training, before a server exists.

  python3 eval_torch.py FOLDER [--cases 100] [--json FILE] [--show 2]

Pictures are resized and cut as Qwen2VLImageProcessor does it. golden.py compares this arithmetic with transformers.
"""

import argparse
import json
import math
import multiprocessing
import time

import numpy
import torch
from PIL import Image

import conversations
import draw
from config import MEAN, STD
from scenes import CELL, CELLS_MAX, CELLS_MIN
from tokens import END_OF_TEXT, FIRST_NEW, IM_END, IMAGE_PAD, Tokens, expand, pictures, pieces, positions
from tokenizer import LETTERS
from train import load

ANSWER_TOKENS_MAX = 64


def smart_size(width, height):
    """(width, height) in multiples of CELL, with an area within the limits."""
    low, high = CELLS_MIN * CELL ** 2, CELLS_MAX * CELL ** 2
    w, h = round(width / CELL) * CELL, round(height / CELL) * CELL
    if w * h > high:
        by = math.sqrt(width * height / high)
        return max(CELL, math.floor(width / by / CELL) * CELL), max(CELL, math.floor(height / by / CELL) * CELL)
    if w * h < low:
        by = math.sqrt(low / (width * height))
        return math.ceil(width * by / CELL) * CELL, math.ceil(height * by / CELL) * CELL
    return w, h


def patches(image):
    """(rows [4 * cells, 1176], rows of cells, columns of cells) of a PIL image."""
    width, height = smart_size(*image.size)
    pixels = numpy.asarray(image.resize((width, height), Image.BICUBIC), numpy.float32) / 255
    pixels = (pixels - numpy.array(MEAN, numpy.float32)) / numpy.array(STD, numpy.float32)
    rows, columns = height // CELL, width // CELL
    cut = pixels.reshape(rows, 2, 14, columns, 2, 14, 3).transpose(0, 3, 1, 4, 6, 2, 5)  # row, column, part row, part column, colour, y, x
    cut = numpy.repeat(cut[:, :, :, :, :, None], 2, axis=5)
    return torch.from_numpy(cut.reshape(rows * columns * 4, 1176).copy()), rows, columns


def image_of(scene):
    return Image.frombytes("RGB", (scene.width, scene.height), draw.draw(scene.width, scene.height, scene.back_colour, scene.items))


def images_of(case):
    return [image_of(s) for s in pictures(case["messages"])]


def batch_of(tokens, cases, images, device):
    """Prompts of several cases and what belongs to them, padded behind."""
    cut = [[patches(image) for image in each] for each in images]
    flat = [p for each in cut for p in each]
    grids = [[(r, c) for _, r, c in each] for each in cut]
    prompts = []
    for case, grid in zip(cases, grids):
        ids = [i for text, _ in pieces(case["messages"], add_generation_prompt=True) for i in tokens.encode(text)]
        prompts.append(expand(ids, grid))
    seen = None
    if flat:
        all_patches = torch.zeros(len(flat), 4 * CELLS_MAX, 1176)
        for i, (p, _, _) in enumerate(flat):
            all_patches[i, :len(p)] = p
        seen = tuple(t.to(device) for t in (all_patches, torch.tensor([r for _, r, _ in flat]), torch.tensor([c for _, _, c in flat])))
    return prompts, grids, seen


class Run:
    """Greedy answers to a batch of cases."""

    def __init__(self, model, tokens, device):
        self.model, self.tokens, self.device = model, tokens, device
        letters = {letter: byte for byte, letter in LETTERS.items()}
        self.bytes = {i: bytes(letters[c] for c in text) for text, i in tokens.text.vocab.items()}

    def text(self, ids):
        return b"".join(self.bytes.get(i, b"") for i in ids).decode(errors="replace")

    @torch.no_grad()
    def answers(self, cases, images):
        prompts, grids, seen = batch_of(self.tokens, cases, images, self.device)
        rows, out, done = [list(p) for p in prompts], [[] for _ in prompts], [False] * len(prompts)
        first = [sum(len(g) for g in grids[:i]) for i in range(len(grids))]
        for _ in range(ANSWER_TOKENS_MAX):
            longest = max(map(len, rows))
            tokens = torch.full((len(rows), longest), END_OF_TEXT)
            where, source = torch.zeros(len(rows), longest, 3, dtype=torch.long), torch.full((len(rows), longest), -1)
            for i, (row, grid) in enumerate(zip(rows, grids)):
                tokens[i, :len(row)] = torch.tensor(row)
                where[i, :len(row)] = torch.tensor(positions(row, grid)).T
                cells = torch.tensor([(first[i] + p) * CELLS_MAX + k for p, (r, c) in enumerate(grid) for k in range(r * c)], dtype=torch.long)
                source[i, :len(row)][tokens[i, :len(row)] == IMAGE_PAD] = cells
            keep = torch.tensor([i * longest + len(row) - 1 for i, row in enumerate(rows)])
            made = self.model(*(t.to(self.device) for t in (tokens, where, source)), *(seen or (None, None, None)), keep.to(self.device)).argmax(-1).tolist()
            for i, token in enumerate(made):
                done[i] |= token in (IM_END, END_OF_TEXT) or token >= FIRST_NEW
                if not done[i]:
                    out[i].append(token)
                    rows[i].append(token)
            if all(done):
                break
        return [self.text(ids) for ids in out]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    parser.add_argument("--show", type=int, default=2, help="wrong answers to print per task")
    parser.add_argument("--task", default="", help="only tasks whose name contains this")
    parser.add_argument("--processes", type=int, default=8)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = {task: conversations.cases(task, args.cases, args.seed) for task in conversations.CASES if args.task in task}
    with multiprocessing.Pool(args.processes) as pool:
        images = {task: pool.map(images_of, cases) for task, cases in asked.items()}
    run, table = Run(load(args.folder).to(device).eval(), Tokens(), device), {}
    for task, cases in asked.items():
        begun = time.time()
        got = run.answers(cases, images[task])
        wrong = [(c, g) for c, g in zip(cases, got) if not conversations.right(task, c, g)]
        table[task] = 100 * (1 - len(wrong) / len(cases))
        print(f"{task:32s} {table[task]:6.1f} %   {time.time() - begun:.1f} s", flush=True)
        for case, text in wrong[:args.show]:
            print(f"      asked {case['messages'][-1]['content'][-1]['text']!r}   expected {case['expect']!r}   got {text!r}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"cases": args.cases, "seed": args.seed, "accuracy": table}, file, indent=1)


if __name__ == "__main__":
    main()
