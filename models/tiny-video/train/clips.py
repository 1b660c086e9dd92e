"""Moving shapes as tensors, drawn many at a time."""

import math

import torch

from captions import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SPEEDS, TOKENS_MAX, Tokenizer, clip
from config import FRAMES, HEIGHT, WIDTH

RADIUS = (6.0, 9.5)
EDGES = 10


def _outline(shape):
    """Corners of a shape with the area of a circle of radius 1; none for the circle."""
    if shape == "circle":
        return []
    count, inner = {"square": (4, 1), "triangle": (3, 1), "star": (10, 0.45)}[shape]
    radii = [1 if i % 2 == 0 or shape != "star" else inner for i in range(count)]
    area = 0.5 * sum(a * b * math.sin(2 * math.pi / count) for a, b in zip(radii, radii[1:] + radii[:1]))
    turn = math.pi / 4 if shape == "square" else -math.pi / 2
    scale = math.sqrt(math.pi / area)
    return [(scale * r * math.cos(turn + 2 * math.pi * i / count), scale * r * math.sin(turn + 2 * math.pi * i / count)) for i, r in enumerate(radii)]


OUTLINES = {shape: _outline(shape) for shape in SHAPES}
REACH = {shape: max([math.hypot(*p) for p in OUTLINES[shape]], default=1.0) for shape in SHAPES}


def plan(rng, held=False):
    """A clip and where it runs: (clip, radius, x, y, dx, dy), the whole way within the picture."""
    made = clip(rng, held)
    dx, dy, _ = DIRECTIONS[made.direction]
    speed = SPEEDS[made.speed][0] / math.hypot(dx, dy)
    radius = RADIUS[0] + (RADIUS[1] - RADIUS[0]) * rng.random()
    reach = min(radius * REACH[made.shape], 13.5) + 0.5

    def start(size, step):
        way = step * speed * (FRAMES - 1)
        low, high = reach - min(0, way), size - reach - max(0, way)
        return low + (high - low) * rng.random() if high > low else (low + high) / 2
    return made, radius, start(WIDTH, dx), start(HEIGHT, dy), dx * speed, dy * speed


def tensors(plans):
    """What `draw` needs, of several plans."""
    numbers, edges, ink, back = [], [], [], []
    for made, radius, x, y, dx, dy in plans:
        corners = OUTLINES[made.shape]
        own = [(*a, *b) for a, b in zip(corners, corners[1:] + corners[:1])] or [(0, 0, 0, 0)]
        edges.append(own + [(*own[0][:2], *own[0][:2])] * (EDGES - len(own)))
        numbers.append((radius, x, y, dx, dy, made.shape == "circle"))
        ink.append(COLOURS[made.colour])
        back.append(BACKGROUNDS[made.background])
    return tuple(torch.tensor(v, dtype=torch.float32) for v in (numbers, edges, ink, back))


def draw(numbers, edges, ink, back):
    """Videos [n, 3, FRAMES, HEIGHT, WIDTH] in -1..1."""
    radius, x0, y0, dx, dy, round_ = (v.view(-1, 1, 1, 1) for v in numbers.unbind(1))
    device = numbers.device
    t = torch.arange(FRAMES, device=device).view(1, -1, 1, 1)
    x = (torch.arange(WIDTH, device=device).view(1, 1, 1, -1) + 0.5 - x0 - dx * t).expand(-1, -1, HEIGHT, -1)
    y = (torch.arange(HEIGHT, device=device).view(1, 1, -1, 1) + 0.5 - y0 - dy * t).expand(-1, -1, -1, WIDTH)
    distance2, inside = torch.full_like(x, 1e9), torch.zeros_like(x, dtype=torch.bool)
    for e in range(EDGES):
        ax, ay, bx, by = (edges[:, e, i].view(-1, 1, 1, 1) * radius for i in range(4))
        ex, ey = bx - ax, by - ay
        s = (((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey + 1e-6)).clamp(0, 1)
        distance2 = torch.minimum(distance2, (x - ax - s * ex) ** 2 + (y - ay - s * ey) ** 2)
        inside = inside ^ (((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / torch.where(ey == 0, torch.ones_like(ey), ey)))
    distance = distance2.sqrt()
    depth = torch.where(round_ > 0, radius - distance, torch.where(inside, distance, -distance))
    part = (0.5 + depth).clamp(0, 1)[:, None]
    ink, back = (v.view(-1, 3, 1, 1, 1) for v in (ink, back))
    return (back + (ink - back) * part) / 127.5 - 1


def token_rows(texts):
    """(ids, mask) [n, TOKENS_MAX]."""
    tokenizer = Tokenizer()
    ids = torch.zeros(len(texts), TOKENS_MAX, dtype=torch.long)
    mask = torch.zeros(len(texts), TOKENS_MAX, dtype=torch.bool)
    for i, text in enumerate(texts):
        row = tokenizer.encode(text)
        ids[i, :len(row)] = torch.tensor(row)
        mask[i, :len(row)] = True
    return ids, mask
