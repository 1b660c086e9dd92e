"""The random source of all data, and the line between training and held-out data.

Every name, number and wording belongs to exactly one side, decided here and nowhere else:
names and numbers by a hash of themselves, wordings by their place in their list. A `Source` of
one side can therefore not produce anything of the other; test_disjoint.py proves that it does not.
"""

import random
from zlib import crc32

WILD_SHARE = 0.1
VOWELS, CONSONANTS = "aeiouaeiouy", "bcdfghjklmnpqrstvwxz" "bdfgklmnprstv" "lnrst"
HELD_ONE_IN = 8  # one name or number in eight is held out


def is_held(key):
    """True when `key` (a name, a number, an operand pair as text) belongs to the held-out side."""
    return crc32(b"tiny-chat:" + key.encode()) % HELD_ONE_IN == 0


def _bare(text):
    """What remains of a wording when case, blanks and punctuation are taken away."""
    return "".join(c for c in text.lower() if c.isalnum() or c in "{}+-*/=")


# A wording is a frame around a core. Half-known is enough to be understood and new enough to be a
# test: every core and every frame occurs in training, but a quarter of their pairs never does, and
# tests use those of them whose frame is in TEST_FRAMES. (The others are left out of both sides:
# the first of the training stages, see README.md, still had another split.)
# {q} is the core as it stands, {l} with a small first letter; the first frame adds nothing.
ASK = ("{q}", "Answer me: {l}", "Please answer: {q}", "One question: {l}", "Hey, {l}", "OK. {q}", "Now: {l}",
       "I have a question: {l}", "{q} Please answer.", "Next question: {q}", "So, {l}", "Good. {q}", "Question: {q}",
       "And {l}", "Another one: {q}", "My question: {l}")
SAY = ("{q}", "It is known that {l}", "Note: {l}", "As we know, {l}", "By the way, {l}", "The list says: {q}",
       "It is true that {l}", "{q} That is certain.", "We know that {l}", "They say that {l}", "In fact, {l}",
       "Today we know: {l}")
TALK = ("{q}", "Hey, {l}", "OK, {l}", "Well, {l}", "So, {l}", "Hm, {l}", "Now, {l}", "Oh, {l}")
TEST_FRAMES = {*SAY[1:], "Answer me: {l}", "One question: {l}", "{q} Please answer.", "So, {l}", "And {l}",
               "Another one: {q}", "My question: {l}", "Well, {l}", "Hm, {l}", "Oh, {l}"}
PLAIN_SHARE = 0.6        # of the wordings of training have no frame
HELD_PAIR, PAIRS = 3, 4  # (frame + core) % PAIRS == HELD_PAIR is not trained


def _framed(frame, core):
    low = core if core[0] == "{" or core.startswith(("I ", "I'")) else core[0].lower() + core[1:]
    return frame.replace("{q}", core).replace("{l}", low)


class Wordings:
    """Ways to say one thing: (training, tests), plain and framed; with frames, no test is plain.

    Texts that differ only in case and punctuation count as one, and stay together. Without frames
    the last quarter of the texts, at least one, is held out.
    """

    def __init__(self, *texts, frames=None):
        bare = list(dict.fromkeys(_bare(text) for text in texts))
        self.plain = ([], [])   # of training, of tests
        self.framed = ([], [])
        if not frames:
            first_held = len(bare) - max(1, len(bare) // 4)
            for text in texts:
                self.plain[bare.index(_bare(text)) >= first_held].append(text)
            return
        for text in texts:
            for f, frame in enumerate(frames):
                held = (f + bare.index(_bare(text))) % PAIRS == HELD_PAIR
                if not held or frame in TEST_FRAMES:
                    (self.framed if f else self.plain)[held].append(_framed(frame, text))

    def side(self, held):
        return self.plain[held] + self.framed[held]


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
        """One of `wordings`, of this source's side; in training mostly without a frame."""
        plain, framed = wordings.plain[self.held], wordings.framed[self.held]
        texts = plain if plain and (not framed or self.random() < PLAIN_SHARE) else framed
        return self.note("wordings", texts[int(self.random() * len(texts))])

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
        """A name of `pool` (a NamePool), now and then one of random letters."""
        if self.random() < WILD_SHARE:
            return self.note("names", self._wild(pool.train[0][0].isupper()))
        return self.note("names", self.choice(pool.held if self.held else pool.train))

    def _wild(self, capital):
        """Random letters, more or less pronounceable: what no list foresees must be copied as well."""
        while True:
            vowel, text = self.random() < 0.4, ""
            for _ in range(self.between(2, 8)):
                text += self.choice(VOWELS if vowel else CONSONANTS)
                if self.random() < 0.8:
                    vowel = not vowel
            name = text.capitalize() if capital else text
            if len(text) > 2 and is_held(name) == self.held:
                return name

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
