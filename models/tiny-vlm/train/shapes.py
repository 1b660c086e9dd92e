"""What pictures are made of: coloured shapes and digits as lists of edges. Standard library only.

Everything drawn is an `Item`: edges (x0, y0, x1, y1) in pixels, either the outline of a filled polygon or
strokes of a half width. A circle is a stroke of no length. draw.py and draw_torch.py colour a pixel by its
distance to the edges, so both give the same picture.
"""

import math
from dataclasses import dataclass

COLOURS = {"red": (214, 40, 40), "green": (38, 150, 64), "blue": (44, 84, 210), "yellow": (244, 210, 44),
           "purple": (128, 50, 168), "orange": (244, 130, 30), "black": (16, 16, 16), "white": (250, 250, 250)}
BACKGROUNDS = {"white": (246, 246, 246), "grey": (128, 128, 128), "black": (14, 14, 14)}
EDGES_MAX = 12  # of one item


@dataclass
class Item:
    edges: list
    filled: bool
    half_width: float  # of strokes
    colour: tuple


def _closed(points):
    return [(*a, *b) for a, b in zip(points, points[1:] + points[:1])]


def _open(points):
    return [(*a, *b) for a, b in zip(points, points[1:])]


def _polar(radii, turn=-90.0):
    step = 2 * math.pi / len(radii)
    return [(r * math.cos(math.radians(turn) + i * step), r * math.sin(math.radians(turn) + i * step)) for i, r in enumerate(radii)]


def _cross(a):
    b = a / 3
    return [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)]


# Outlines whose area is that of a circle of radius 1, so that "larger" means the same for all.
OUTLINES = {
    "square": _polar([math.sqrt(math.pi / 2)] * 4, -45),
    "triangle": _polar([math.sqrt(4 * math.pi / (3 * math.sqrt(3)))] * 3),
    "star": _polar([math.sqrt(math.pi / (5 * 0.45 * math.sin(math.radians(36)))) * s for s in (1, 0.45)] * 5),
    "diamond": [(x * math.sqrt(math.pi / 1.4), y * math.sqrt(math.pi / 1.4)) for x, y in ((0, -1), (0.7, 0), (0, 1), (-0.7, 0))],
    "cross": _cross(math.sqrt(math.pi * 9 / 20)),
}
SHAPES = ("circle", *OUTLINES)
REACH = {"circle": 1.0} | {name: max(math.hypot(*p) for p in points) for name, points in OUTLINES.items()}

# Digits in a box of 0.6 x 1, y downwards.
_SIX = [(.48, 0), (.18, .2), (.02, .5), (0, .72), (.08, .92), (.3, 1), (.52, .92), (.6, .72), (.52, .52), (.3, .44), (.08, .55), (.01, .68)]
DIGITS = [
    _closed([(.3, 0), (.52, .1), (.6, .3), (.6, .7), (.52, .9), (.3, 1), (.08, .9), (0, .7), (0, .3), (.08, .1)]),
    _open([(.1, .22), (.35, 0), (.35, 1)]),
    _open([(0, .25), (.06, .08), (.3, 0), (.54, .08), (.6, .28), (.5, .5), (0, 1), (.6, 1)]),
    _open([(.02, .12), (.28, 0), (.54, .1), (.58, .27), (.46, .44), (.22, .48), (.48, .53), (.6, .72), (.54, .9), (.28, 1), (0, .88)]),
    _open([(.45, 1), (.45, 0), (0, .68), (.6, .68)]),
    _open([(.55, 0), (.08, 0), (.04, .45), (.3, .38), (.54, .47), (.6, .68), (.52, .9), (.26, 1), (0, .9)]),
    _open(_SIX),
    _open([(0, 0), (.6, 0), (.2, 1)]),
    _closed([(.3, 0), (.52, .1), (.52, .36), (.3, .47), (.08, .36), (.08, .1)]) +
    _closed([(.3, .47), (.58, .6), (.58, .88), (.3, 1), (.02, .88), (.02, .6)]),
    _open([(.6 - x, 1 - y) for x, y in _SIX]),
]


def shape_item(shape, x, y, radius, turn_degrees, colour):
    if shape == "circle":
        return Item([(x, y, x, y)], False, radius, colour)
    c, s = math.cos(math.radians(turn_degrees)) * radius, math.sin(math.radians(turn_degrees)) * radius
    return Item(_closed([(x + c * px - s * py, y + s * px + c * py) for px, py in OUTLINES[shape]]), True, 0.0, colour)


def digit_item(digit, x, y, height, slant, half_width, colour):
    """A digit whose box has its top left corner at (x, y)."""
    edges = [(x + height * (a + slant * (1 - b)), y + height * b, x + height * (c + slant * (1 - d)), y + height * d)
             for a, b, c, d in DIGITS[digit]]
    return Item(edges, False, half_width, colour)
