"""The random source of all data, and the line between training and held-out data.

Every name, number and wording belongs to exactly one side, decided here and nowhere else:
names and numbers by a hash of themselves, wordings by their place in their list. A `Source` of
one side can therefore not produce anything of the other; test_disjoint.py proves that it does not.
"""

import random
from zlib import crc32

HELD_ONE_IN = 8  # one name or number in eight is held out


def is_held(key):
    """True when `key` (a name, a number, an operand pair as text) belongs to the held-out side."""
    return crc32(b"tiny-chat:" + key.encode()) % HELD_ONE_IN == 0


def _bare(text):
    """What remains of a wording when case, blanks and punctuation are taken away."""
    return "".join(c for c in text.lower() if c.isalnum() or c in "{}+-*/=")


class Wordings:
    """Ways to say one thing. The last quarter, at least one, is never seen in training.

    Texts that differ only in case and punctuation count as one, and stay together.
    """

    def __init__(self, *texts):
        bare = list(dict.fromkeys(_bare(text) for text in texts))
        held = set(bare[-max(1, len(bare) // 4):])
        self.train = tuple(text for text in texts if _bare(text) not in held)
        self.held = tuple(text for text in texts if _bare(text) in held)
        assert self.train, texts


class Source:
    """Random choices of one side (held or not), reproducible from a seed.

    `log`, when given, is a dict of sets that collects what was used: names, numbers, wordings.
    """

    def __init__(self, seed, held=False, log=None):
        self.rng = random.Random(seed)
        self.random = self.rng.random
        self.held = held
        self.log = log

    def below(self, n):
        return int(self.random() * n)

    def between(self, low, high):
        """An integer of low .. high, both included, of either side: for sizes, never for data."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, p):
        return self.random() < p

    def choice(self, items):
        return items[int(self.random() * len(items))]

    def sample(self, items, count):
        return self.rng.sample(items, count)

    def shuffle(self, items):
        self.rng.shuffle(items)

    def weighted(self, table):
        """A key of `table`, a list of (key, weight)."""
        x = self.random() * sum(weight for _, weight in table)
        for key, weight in table:
            x -= weight
            if x < 0:
                return key
        return table[-1][0]

    def note(self, kind, key):
        if self.log is not None:
            self.log.setdefault(kind, set()).add(key)
        return key

    def pick(self, wordings):
        """One of `wordings`, of this source's side."""
        return self.note("wordings", self.choice(wordings.held if self.held else wordings.train))

    def owns(self, key):
        """Whether `key` (operands, a date and an offset, ...) is of this side; notes it if so."""
        if is_held(key) != self.held:
            return False
        self.note("keys", key)
        return True

    def number(self, low, high):
        """A number that may stand in data; numbers are of one side like names."""
        while True:
            n = low + int(self.random() * (high - low + 1))
            if is_held(str(n)) == self.held:
                self.note("numbers", n)
                return n

    def name(self, pool):
        """A name of `pool` (a NamePool)."""
        return self.note("names", self.choice(pool.held if self.held else pool.train))

    def names(self, pool, count):
        """`count` different names."""
        found = []
        seen = set()
        while len(found) < count:
            name = self.name(pool)
            if name not in seen:
                seen.add(name)
                found.append(name)
        return found


class NamePool:
    """All names of one kind, split by hash."""

    def __init__(self, names):
        self.train = []
        self.held = []
        for name in names:
            (self.held if is_held(name) else self.train).append(name)
