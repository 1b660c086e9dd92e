"""Pictures of coloured shapes and digits, and what can be asked about them. Standard library only.

A `Scene` knows its things; each function of TASKS turns a scene into (question, answer), or None where the
scene does not settle it: no answer depends on a hair's breadth.
"""

import math
import os
import sys
from dataclasses import dataclass, field

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tiny-chat", "train"))

from source import ASK, Wordings, is_held  # noqa: E402
from shapes import BACKGROUNDS, COLOURS, REACH, SHAPES, digit_item, shape_item  # noqa: E402

CELL = 28                       # pixels of a token's side
CELLS_MIN, CELLS_MAX = 16, 64   # tokens of a picture
THINGS_MAX = 8
TURN_MAX = {"circle": 0, "square": 12, "triangle": 20, "star": 20, "diamond": 12, "cross": 12}
ON = {"white": [c for c in COLOURS if c != "white"], "grey": list(COLOURS),
      "black": [c for c in COLOURS if c != "black"]}


@dataclass
class Thing:
    shape: str
    colour: str
    x: float
    y: float
    radius: float
    turn: float = 0.0

    @property
    def name(self):
        return f"{self.colour} {self.shape}"


@dataclass
class Scene:
    width: int
    height: int
    background: str
    things: list = field(default_factory=list)
    number: str = ""
    number_colour: str = ""
    items: list = field(default_factory=list)
    back_colour: tuple = (0, 0, 0)


def _tint(src, colour, most):
    return tuple(min(255, max(0, v + src.between(-most, most))) for v in colour)


def size(src, exact=True):
    """(width, height); exact sizes need no resizing."""
    while True:
        columns, rows = src.between(3, 11), src.between(3, 11)
        if CELLS_MIN <= columns * rows <= CELLS_MAX and 0.45 <= columns / rows <= 2.2:
            break
    if exact:
        return columns * CELL, rows * CELL
    scale = 0.7 + 1.3 * src.random()
    return int(columns * CELL * scale), int(rows * CELL * scale)


def _place(src, scene, radii, tries=60):
    """Centres for things of these reaches that do not touch, or None."""
    centres = []
    for reach in radii:
        for _ in range(tries):
            x = reach + 1 + src.random() * (scene.width - 2 * reach - 2)
            y = reach + 1 + src.random() * (scene.height - 2 * reach - 2)
            if all(math.hypot(x - cx, y - cy) > reach + other + 2 for cx, cy, other in centres):
                centres.append((x, y, reach))
                break
        else:
            return None
    return [(x, y) for x, y, _ in centres]


def _radius(src, scene, low, high):
    side = min(scene.width, scene.height)
    return max(6.5, side * low * (high / low) ** src.random())


def _kinds(src, scene, count, distinct):
    if distinct:
        pairs = set()
        while len(pairs) < count:
            pairs.add((src.choice(SHAPES), src.choice(ON[scene.background])))
        pairs = sorted(pairs)
        src.shuffle(pairs)
        return pairs
    few = [(src.choice(SHAPES), src.choice(ON[scene.background])) for _ in range(src.between(1, 3))]
    return [src.choice(few) for _ in range(count)]


def _add(src, scene, kinds, radii, centres):
    for (shape, colour), radius, (x, y) in zip(kinds, radii, centres):
        most = TURN_MAX[shape]
        scene.things.append(Thing(shape, colour, x, y, radius, most * (2 * src.random() - 1)))


def _scattered(src, scene, count, distinct, low=0.065, high=0.17):
    while True:
        kinds = _kinds(src, scene, count, distinct)
        shrink = 1.0 if count < 5 else 0.75
        radii = [_radius(src, scene, low, high * shrink) for _ in kinds]
        centres = _place(src, scene, [r * REACH[shape] for r, (shape, _) in zip(radii, kinds)])
        if centres:
            return _add(src, scene, kinds, radii, centres)


def _single(src, scene):
    _scattered(src, scene, 1, True, 0.07, 0.28)


def _varied(src, scene):
    _scattered(src, scene, src.between(2, 5), True)


def _many(src, scene):
    _scattered(src, scene, src.between(2, THINGS_MAX), False, 0.06, 0.13)


def _line(src, scene):
    """Three things in a row or a column."""
    across = scene.width >= scene.height if src.chance(0.8) else scene.width < scene.height
    long, short = (scene.width, scene.height) if across else (scene.height, scene.width)
    kinds = _kinds(src, scene, 3, True)
    radii = [max(6.5, min(long / 6 / 1.6, short / 2 / 1.7) * (0.55 + 0.4 * src.random())) for _ in kinds]
    reaches = [r * REACH[shape] for r, (shape, _) in zip(radii, kinds)]
    room = long - 2 * sum(reaches) - 8
    gaps = sorted(src.random() * room for _ in range(3))
    level = max(reaches) + 2 + src.random() * (short - 2 * max(reaches) - 4)
    centres, used = [], 2.0
    for gap, reach, i in zip(gaps, reaches, range(3)):
        along = gap + used + reach + 2 * i
        used += 2 * reach
        side = min(max(level + (2 * src.random() - 1) * 5, reach + 1), short - reach - 1)
        centres.append((along, side) if across else (side, along))
    _add(src, scene, kinds, radii, centres)


def _number(src, scene):
    """One to four digits, now and then with a shape or two beside them."""
    while True:
        scene.number = "".join(str(src.below(10)) for _ in range(src.between(1, 4)))
        if is_held(scene.number) == src.held:
            break
    scene.number_colour = src.choice(ON[scene.background])
    count = len(scene.number)
    gap = 0.24 + 0.2 * src.random()
    per = 0.6 * count + gap * (count - 1) + 0.25
    beside = src.below(3) if src.chance(0.4) else 0
    room = scene.height * (0.6 if beside else 1.0)
    top = min((scene.width - 8) / per, room - 8, 110)
    height = max(min(top, 22), top * (0.4 + 0.6 * src.random()))
    x = 4 + src.random() * (scene.width - 8 - height * per) + 0.05 * height
    y = 4 + src.random() * (room - 8 - height)
    up = src.chance(0.5)
    if beside and up:
        y += scene.height - room
    slant, half_width = 0.12 * src.random(), height * (0.045 + 0.04 * src.random())
    ink = _tint(src, COLOURS[scene.number_colour], 14)
    for i, digit in enumerate(scene.number):
        scene.items.append(digit_item(int(digit), x + i * height * (0.6 + gap), y, height, slant, max(1.1, half_width), ink))
    if beside:
        rest = Scene(scene.width, int(scene.height - room), scene.background)
        kinds = _kinds(src, scene, beside, True)
        radii = [max(6.5, min(rest.height / 2 / 1.7, rest.width / 10) * (0.6 + 0.35 * src.random())) for _ in kinds]
        centres = _place(src, rest, [r * REACH[shape] for r, (shape, _) in zip(radii, kinds)])
        if centres:
            _add(src, scene, kinds, radii, [(cx, cy if up else cy + room) for cx, cy in centres])


KINDS = ((_single, 16), (_varied, 36), (_many, 16), (_line, 10), (_number, 22))


def scene(src, kind=None, exact=True):
    """A random scene; held-out sources give pictures that training never draws."""
    while True:
        made = Scene(*size(src, exact), src.choice(sorted(BACKGROUNDS)))
        (kind or src.weighted(KINDS))(src, made)
        key = f"{made.number}:{made.background}:" + ";".join(f"{t.name} {t.x:.0f} {t.y:.0f} {t.radius:.0f}" for t in made.things)
        if not made.things or is_held(key) == src.held:
            break
    made.back_colour = _tint(src, BACKGROUNDS[made.background], 8)
    made.items += [shape_item(t.shape, t.x, t.y, t.radius, t.turn, _tint(src, COLOURS[t.colour], 14)) for t in made.things]
    return made


# ---- questions ----

def _one(src, found, things):
    """A way to name a thing that fits no other: colour and shape, or one of them."""
    ways = [w for w, same in (("{0.shape}", lambda t: t.shape == found.shape), ("{0.colour} shape", lambda t: t.colour == found.colour))
            if sum(map(same, things)) == 1]
    if sum(t.name == found.name for t in things) != 1:
        return None
    return (src.choice(ways) if ways and src.chance(0.25) else "{0.name}").format(found)


def _two(src, scene_):
    """Two different things and their names, or None."""
    if len(scene_.things) < 2:
        return None
    a, b = src.sample(scene_.things, 2)
    names = _one(src, a, scene_.things), _one(src, b, scene_.things)
    return None if None in names else (a, b, *names)


COLOUR = Wordings("What colour is the {x}?", "What is the colour of the {x}?", "Which colour does the {x} have?", "Tell me the colour of the {x}.",
                  "Name the colour of the {x}.", "The {x} is of what colour?", "What color is the {x}?", "What colour does the {x} have?",
                frames=ASK)
SHAPE = Wordings("What shape is {x}?", "Which shape is {x}?", "What is the {x} shape?", "What is the shape of the {x} thing?", "Tell me which shape is {x}.",
                 "Name the {x} shape.", "Which thing is {x}?", "What kind of shape is {x}?",
                frames=ASK)
WHAT = Wordings("What is in the picture?", "What do you see?", "What is this?", "What does the picture show?", "Tell me what you see.", "Name the shape and its colour.",
                "What can you see here?", "Describe this.", "What is shown here?", "What is it?",
                frames=ASK)
DESCRIBE = Wordings("Describe the picture.", "List all shapes.", "Which shapes are in the picture?", "Name everything in the picture.", "List what you see from left to right.",
                    "Tell me all that is in the picture.", "Describe what you see.", "List everything in the picture.",
                frames=ASK)
COUNT = Wordings("How many {x} are there?", "How many {x} do you see?", "Count the {x}.", "How many {x} are in the picture?", "What is the number of {x}?",
                 "How many {x} can you see?", "How many {x} are here?", "How many {x} does the picture show?",
                frames=ASK)
WHERE = Wordings("Where is the {x}?", "In which part of the picture is the {x}?", "Where do you see the {x}?", "Tell me where the {x} is.", "Where in the picture is the {x}?",
                 "Where does the {x} lie?",
                frames=ASK)
BESIDE = Wordings("Is the {x} {side} the {y}?", "Can you see the {x} {side} the {y}?", "Does the {x} lie {side} the {y}?", "Is it true that the {x} is {side} the {y}?", frames=ASK)
FURTHER = Wordings("Which is further {way}, the {x} or the {y}?", "What is further {way}: the {x} or the {y}?", "Which one is further {way}, the {x} or the {y}?",
                   "Of the {x} and the {y}, which is further {way}?", frames=ASK)
FURTHEST = Wordings("Which shape is furthest {way}?", "What is furthest {way}?", "Which shape lies furthest {way}?", "Name the shape furthest {way}.", frames=ASK)
BETWEEN = Wordings("What is between the {x} and the {y}?", "Which shape is between the {x} and the {y}?", "What do you see between the {x} and the {y}?",
                   "What lies between the {x} and the {y}?", frames=ASK)
BIGGER = Wordings("Which is {more}, the {x} or the {y}?", "What is {more}: the {x} or the {y}?", "Which one is {more}, the {x} or the {y}?",
                  "Of the {x} and the {y}, which is {more}?", frames=ASK)
IS_BIGGER = Wordings("Is the {x} {more} than the {y}?", "Is it true that the {x} is {more} than the {y}?", "Does the {x} look {more} than the {y}?", "Is the {x} the {more} one, compared with the {y}?", frames=ASK)
BIGGEST = Wordings("Which shape is the {most}?", "What is the {most} shape?", "Name the {most} shape.", "Which one is the {most}?", frames=ASK)
READ = Wordings("What number is written?", "Which number do you see?", "Read the number.", "What is the number?", "Read the digits.", "What number is in the picture?",
                "What does it say?", "What number is this?", "What is written here?", "Which digits are written?", "Read this.",
                frames=ASK)
BACK = Wordings("What colour is the background?", "What is the colour of the background?", "Which colour does the background have?", "Name the background colour.", "What color is the background?",
                frames=ASK)
IT = {"colour": Wordings("What colour is it?", "What color is it?", "Which colour does it have?", "What is its colour?", frames=ASK),
      "shape": Wordings("What shape is it?", "Which shape is it?", "What is its shape?", "Which shape do you see?", frames=ASK),
      "place": Wordings("Where is it?", "In which part of the picture is it?", "Where do you see it?", "Where does it lie?", frames=ASK)}
EXTREMES = {"to the left": "leftmost", "to the right": "rightmost", "to the top": "topmost", "to the bottom": "lowest"}
EXTREME = Wordings("Which shape is the {e} one?", "What is the {e} shape?", "Name the {e} shape.", "Which is the {e} shape?", frames=ASK)
THERE = Wordings("Is there {x}?", "Do you see {x}?", "Is {x} in the picture?", "Can you see {x}?", "Does the picture show {x}?", frames=ASK)


def a(noun):
    return "an" if noun[0] in "aeiou" else "a"


def colour(src, s):
    if s.number and src.chance(0.3):
        return src.pick(COLOUR).format(x="number"), f"{s.number_colour.capitalize()}."
    if src.chance(0.1):  # of what is not there
        shape = src.choice(SHAPES)
        if shape not in {t.shape for t in s.things}:
            return src.pick(COLOUR).format(x=shape), f"There is no {shape}."
    alone = [t for t in s.things if sum(o.shape == t.shape for o in s.things) == 1]
    if not alone:
        return None
    t = src.choice(alone)
    question = IT["colour"] if len(s.things) == 1 and not s.number and src.chance(0.4) else COLOUR
    return src.pick(question).format(x=t.shape), f"{t.colour.capitalize()}."


def shape(src, s):
    alone = [t for t in s.things if sum(o.colour == t.colour for o in s.things) == 1]
    if not alone or s.number:
        return None
    t = src.choice(alone)
    return src.pick(IT["shape"] if len(s.things) == 1 and src.chance(0.4) else SHAPE).format(x=t.colour), f"A {t.shape}."


def name(src, s):
    if s.number and not s.things:
        return src.pick(WHAT), f"The number {s.number}."
    if len(s.things) != 1 or s.number:
        return None
    return src.pick(WHAT), f"{a(s.things[0].name).capitalize()} {s.things[0].name}."


def describe(src, s):
    """From left to right; where two are as far left, their order is as good as any."""
    if not s.things or len(s.things) > 5 or s.number:
        return None
    names = [f"{a(t.name)} {t.name}" for t in sorted(s.things, key=lambda t: t.x)]
    text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    return src.pick(WHAT if len(names) > 1 and src.chance(0.3) else DESCRIBE), text.capitalize() + "."


def count(src, s):
    if s.number and src.chance(0.7):
        return src.pick(COUNT).format(x="digits"), f"{len(s.number)}."
    way = src.weighted((("all", 3), ("shape", 3), ("colour", 3), ("both", 2)))
    t = src.choice(s.things) if s.things and src.chance(0.85) else Thing(src.choice(SHAPES), src.choice(list(COLOURS)), 0, 0, 0)
    if way == "all":
        return src.pick(COUNT).format(x="shapes"), f"{len(s.things)}."
    plural = t.shape + ("es" if t.shape == "cross" else "s")
    if way == "shape":
        return src.pick(COUNT).format(x=plural), f"{sum(o.shape == t.shape for o in s.things)}."
    if way == "colour":
        return src.pick(COUNT).format(x=t.colour + " shapes"), f"{sum(o.colour == t.colour for o in s.things)}."
    return src.pick(COUNT).format(x=f"{t.colour} {plural}"), f"{sum(o.name == t.name for o in s.things)}."


PLACES = (("At the top left.", "At the top.", "At the top right."), ("On the left.", "In the centre.", "On the right."),
          ("At the bottom left.", "At the bottom.", "At the bottom right."))


def _third(part):
    for i, low in enumerate((0.0, 1 / 3, 2 / 3)):
        if low + (0.03 if i else -1) < part < low + 1 / 3 - (0.03 if i < 2 else -1):
            return i
    return None


def where(src, s):
    if not s.things:
        return None
    t = src.choice(s.things)
    which, row, column = _one(src, t, s.things), _third(t.y / s.height), _third(t.x / s.width)
    if which is None or row is None or column is None:
        return None
    question = IT["place"] if len(s.things) == 1 and not s.number and src.chance(0.4) else WHERE
    return src.pick(question).format(x=which), PLACES[row][column]


SIDES = (("left of", "to the left", "x", -1), ("right of", "to the right", "x", 1), ("above", "to the top", "y", -1), ("below", "to the bottom", "y", 1))


def relation(src, s):
    side, way, axis, sign = src.choice(SIDES)
    span = s.width if axis == "x" else s.height
    if src.chance(0.3) and len(s.things) > 1:
        order = sorted(s.things, key=lambda t: -sign * getattr(t, axis))
        if abs(getattr(order[0], axis) - getattr(order[1], axis)) < 0.07 * span or _one(src, order[0], s.things) is None:
            return None
        if src.chance(0.3):
            return src.pick(EXTREME).format(e=EXTREMES[way]), f"The {order[0].name}."
        return src.pick(FURTHEST).format(way=way), f"The {order[0].name}."
    pair = _two(src, s)
    if not pair:
        return None
    a, b, x, y = pair
    offset = sign * (getattr(a, axis) - getattr(b, axis))
    if abs(offset) < 0.08 * span:
        return None
    if src.chance(0.5):
        return src.pick(BESIDE).format(x=x, y=y, side=side), "Yes." if offset > 0 else "No."
    return src.pick(FURTHER).format(x=x, y=y, way=way), f"The {(a if offset > 0 else b).name}."


def between(src, s):
    """The middle one of three in a row or a column."""
    if len(s.things) != 3 or s.number:
        return None
    for axis, other, span in (("x", "y", s.width), ("y", "x", s.height)):
        a, m, b = sorted(s.things, key=lambda t: getattr(t, axis))
        at = [getattr(t, axis) for t in (a, m, b)]
        across = [getattr(t, other) for t in (a, m, b)]
        if max(across) - min(across) < 14 and min(at[1] - at[0], at[2] - at[1]) > 0.1 * span:
            if src.chance(0.5):
                a, b = b, a
            return src.pick(BETWEEN).format(x=a.name, y=b.name), f"The {m.name}."
    return None


RATIO = 1.3  # of radii, from which on sizes are told apart


def compare(src, s):
    if len(s.things) < 2:
        return None
    larger = src.chance(0.5)
    if src.chance(0.3):
        order = sorted(s.things, key=lambda t: -t.radius if larger else t.radius)
        ratio = order[0].radius / order[1].radius
        if max(ratio, 1 / ratio) < RATIO or _one(src, order[0], s.things) is None:
            return None
        return src.pick(BIGGEST).format(most=src.choice(("largest", "biggest")) if larger else "smallest"), f"The {order[0].name}."
    pair = _two(src, s)
    if not pair:
        return None
    a, b, x, y = pair
    if max(a.radius / b.radius, b.radius / a.radius) < RATIO:
        return None
    first = (a.radius > b.radius) == larger
    more = src.choice(("larger", "bigger")) if larger else "smaller"
    if src.chance(0.5):
        return src.pick(IS_BIGGER).format(x=x, y=y, more=more), "Yes." if first else "No."
    return src.pick(BIGGER).format(x=x, y=y, more=more), f"The {(a if first else b).name}."


def digits(src, s):
    if not s.number:
        return None
    return src.pick(READ), f"{s.number}."


def background(src, s):
    return src.pick(BACK), f"{s.background.capitalize()}."


def there(src, s):
    t = src.choice(s.things) if s.things and src.chance(0.5) else Thing(src.choice(SHAPES), src.choice(list(COLOURS)), 0, 0, 0)
    if src.chance(0.5):
        return src.pick(THERE).format(x=f"{a(t.shape)} {t.shape}"), "Yes." if any(o.shape == t.shape for o in s.things) else "No."
    return src.pick(THERE).format(x=f"{a(t.name)} {t.name}"), "Yes." if any(o.name == t.name for o in s.things) else "No."


# task -> (question function, share in training, kind of scene that suits tests)
TASKS = {
    "name shape and colour": (name, 4, _single), "colour": (colour, 2, _varied), "shape": (shape, 2, _varied),
    "describe": (describe, 4, _varied), "count": (count, 4, _many), "place": (where, 3, _varied), "left, right, above, below": (relation, 4, _varied),
    "between": (between, 3, _line), "larger, smaller": (compare, 4, _varied), "read digits": (digits, 9, _number), "background": (background, 0.5, None),
    "whether there is one": (there, 2, None),
}
_SHARES = tuple((function, share) for function, share, _ in TASKS.values())


def ask(src, s):
    """A question about the scene that it settles, and the answer."""
    while True:
        found = src.weighted(_SHARES)(src, s)
        if found:
            return found
