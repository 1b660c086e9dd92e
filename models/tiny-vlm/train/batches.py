"""Batches made on the fly: processes that invent scenes and conversations and write them as tokens.

A batch holds ROWS conversations of at most LENGTH tokens and as many pictures, which are drawn where they are used.
"""

import multiprocessing
import os

import numpy
import torch

import conversations
from scenes import CELL, CELLS_MAX, THINGS_MAX
from shapes import EDGES_MAX
from source import Source
from tokens import IMAGE_PAD, Tokens, expand, pictures, pieces, positions

ROWS, LENGTH, KEEP = 320, 320, 320 * 88  # KEEP: tokens to learn, at most
SLOTS = 64
NOWHERE = (-1e4, -1e4, -1e4, -1e4)
FIELDS = {  # name: (shape, type)
    "tokens": ((ROWS, LENGTH), torch.int16), "positions": ((ROWS, LENGTH, 3), torch.int16), "source": ((ROWS, LENGTH), torch.int32),
    "keep": ((KEEP,), torch.int32), "targets": ((KEEP,), torch.int16), "rows": ((ROWS,), torch.int16), "columns": ((ROWS,), torch.int16),
    "back": ((ROWS, 3), torch.uint8), "edges": ((ROWS, THINGS_MAX, EDGES_MAX, 4), torch.float32), "filled": ((ROWS, THINGS_MAX), torch.bool),
    "half_width": ((ROWS, THINGS_MAX), torch.float32), "colour": ((ROWS, THINGS_MAX, 3), torch.uint8),
}


def put_scene(out, index, scene):
    out["rows"][index], out["columns"][index] = scene.height // CELL, scene.width // CELL
    out["back"][index] = scene.back_colour
    for i, item in enumerate(scene.items):
        out["edges"][index, i] = [*item.edges, *[(*item.edges[0][:2], *item.edges[0][:2])] * (EDGES_MAX - len(item.edges))]
        out["filled"][index, i], out["half_width"][index, i], out["colour"][index, i] = item.filled, item.half_width, item.colour


def empty():
    out = {name: numpy.zeros(shape, torch.empty(0, dtype=kind).numpy().dtype) for name, (shape, kind) in FIELDS.items()}
    out["source"][:] = -1
    out["targets"][:] = -100
    out["rows"][:] = out["columns"][:] = 4
    out["edges"][:] = NOWHERE
    return out


def fill(src, tokens):
    """One batch as numpy arrays."""
    out, picture, kept, row = empty(), 0, 0, 0
    while row < ROWS:
        messages = conversations.conversation(src, 12)
        seen = pictures(messages)
        if picture + len(seen) > ROWS:
            continue
        grids = [(s.height // CELL, s.width // CELL) for s in seen]
        shapes = iter(grids)
        ids, learn = [], []
        for text, own in pieces(messages):
            part = expand(tokens.encode(text), shapes)
            ids += part
            learn += [own] * len(part)
        if IMAGE_PAD in ids[LENGTH:]:
            continue
        where = positions(ids, grids)
        cell = iter([(picture + p) * CELLS_MAX + k for p, (r, c) in enumerate(grids) for k in range(r * c)])
        source = [next(cell) if i == IMAGE_PAD else -1 for i in ids]
        n = min(len(ids), LENGTH)
        out["tokens"][row, :n] = ids[:n]
        out["positions"][row, :n] = numpy.array(where, numpy.int16).T[:n]
        out["source"][row, :n] = source[:n]
        at = [p for p in range(n - 1) if learn[p + 1]][:KEEP - kept]
        out["keep"][kept:kept + len(at)] = [row * LENGTH + p for p in at]
        out["targets"][kept:kept + len(at)] = [ids[p + 1] for p in at]
        kept += len(at)
        for s in seen:
            put_scene(out, picture, s)
            picture += 1
        row += 1
    return out


def work(slots, free, full, seed):
    torch.set_num_threads(1)
    tokens, src = Tokens(), Source(seed)
    while True:
        slot = free.get()
        for name, value in fill(src, tokens).items():
            slots[name][slot] = torch.from_numpy(value)
        full.put(slot)


class Batches:
    """Starts the processes; `next()` gives a batch on the device."""

    def __init__(self, processes, seed, device):
        context = multiprocessing.get_context("fork")
        self.device = device
        self.slots = {name: torch.zeros(SLOTS, *shape, dtype=kind).share_memory_() for name, (shape, kind) in FIELDS.items()}
        self.free, self.full = context.Queue(), context.Queue()
        for slot in range(SLOTS):
            self.free.put(slot)
        self.processes = [context.Process(target=work, daemon=True, args=(self.slots, self.free, self.full, f"tiny-vlm:train:{seed}:{i}"))
                          for i in range(processes)]
        for process in self.processes:
            process.start()

    def next(self):
        slot = self.full.get()
        wide = (torch.int16, torch.int32)
        batch = {name: value[slot].to(self.device) for name, value in self.slots.items()}
        batch = {name: value.long() if value.dtype in wide else value for name, value in batch.items()}
        self.free.put(slot)
        return batch

    def waiting(self):
        return self.full.qsize()

    def stop(self):
        for process in self.processes:
            os.kill(process.pid, 9)
