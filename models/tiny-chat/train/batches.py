"""Batches made on the fly: processes that write conversations, tokenise and pack them."""

import multiprocessing
import os

import torch

import mix
import render
from source import Source
from tokenizer import Tokenizer

BATCH_TOKENS = 131_072
SEGMENTS_MAX = 768       # conversations in a batch
SLOTS = 56               # batches under way
WEIGHTS = (0.0, 0.05, 1.0)  # nothing to learn, the user's words, answers
LEAST_TOKENS = 48        # a rest shorter than this is padding


def encoded(tokenizer, conversation):
    """Token ids of a conversation, and for each the index of its weight."""
    ids, weights = [], []
    for text, index in render.pieces(conversation.messages, tools=conversation.tools, enable_thinking=conversation.thinking):
        part = tokenizer.encode(text)
        ids += part
        weights += [1 if index is None else 2 if index in conversation.learn else 0] * len(part)
    return ids, weights


class Slots:
    """Shared memory for batches: one row a batch."""

    def __init__(self):
        def rows(width, dtype):
            return torch.zeros(SLOTS, width, dtype=dtype).share_memory_()
        self.tokens = rows(BATCH_TOKENS, torch.int16)
        self.targets = rows(BATCH_TOKENS, torch.int16)
        self.weights = rows(BATCH_TOKENS, torch.uint8)
        self.positions = rows(BATCH_TOKENS, torch.int16)
        self.starts = rows(SEGMENTS_MAX + 1, torch.int32)


def fill(slots, slot, src, tokenizer, longest, kinds):
    """Packs one batch."""
    tokens, targets, weights, positions, starts = [], [], [], [], [0]
    while BATCH_TOKENS - len(tokens) >= LEAST_TOKENS and len(starts) < SEGMENTS_MAX - BATCH_TOKENS // 8192:
        ids, kinds_of = encoded(tokenizer, mix.conversation(src, longest, kinds))
        size = min(len(ids), longest, BATCH_TOKENS - len(tokens))
        tokens += ids[:size]
        targets += ids[1:size]
        targets.append(0)
        weights += kinds_of[1:size]
        weights.append(0)
        positions += range(size)
        starts.append(len(tokens))
    while len(tokens) < BATCH_TOKENS:
        size = min(longest, BATCH_TOKENS - len(tokens))
        tokens += [0] * size
        targets += [0] * size
        weights += [0] * size
        positions += range(size)
        starts.append(len(tokens))
        if len(starts) > SEGMENTS_MAX:
            raise ValueError("too many segments")
    starts += [BATCH_TOKENS] * (SEGMENTS_MAX + 1 - len(starts))
    slots.tokens[slot] = torch.tensor(tokens, dtype=torch.int16)
    slots.targets[slot] = torch.tensor(targets, dtype=torch.int16)
    slots.weights[slot] = torch.tensor(weights, dtype=torch.uint8)
    slots.positions[slot] = torch.tensor(positions, dtype=torch.int16)
    slots.starts[slot] = torch.tensor(starts, dtype=torch.int32)


def work(slots, free, full, longest, seed, tokenizer_path, kinds):
    torch.set_num_threads(1)
    tokenizer = Tokenizer(tokenizer_path)
    src = Source(seed)
    while True:
        slot = free.get()
        if slot is None:
            return
        length = longest.value
        fill(slots, slot, src, tokenizer, length, kinds)
        full.put((slot, length))


class Batches:
    """Starts the processes; `next()` gives (batch on the device, longest conversation)."""

    def __init__(self, processes, seed, tokenizer_path, longest, kinds):
        context = multiprocessing.get_context("fork")
        self.slots = Slots()
        self.free, self.full = context.Queue(), context.Queue()
        self.longest = context.Value("i", longest)
        for slot in range(SLOTS):
            self.free.put(slot)
        self.processes = [context.Process(target=work, daemon=True, args=(
            self.slots, self.free, self.full, self.longest, f"train:{seed}:{i}", tokenizer_path, kinds)) for i in range(processes)]
        for process in self.processes:
            process.start()

    def next(self):
        slot, longest = self.full.get()
        s = self.slots
        table = torch.tensor(WEIGHTS, device="cuda")
        batch = (s.tokens[slot].cuda().long(), s.targets[slot].cuda().long(), table[s.weights[slot].cuda().long()],
                 s.positions[slot].cuda().long(), s.starts[slot].cuda())
        torch.cuda.synchronize()
        self.free.put(slot)
        return batch, longest

    def waiting(self):
        return self.full.qsize()

    def stop(self):
        for process in self.processes:
            os.kill(process.pid, 9)
