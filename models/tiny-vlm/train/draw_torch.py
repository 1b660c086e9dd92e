"""Pictures as rows of patches, many at a time: what draw.py draws, normalised, in the order of the vision tower."""

import torch

from config import MEAN, STD
from shapes import EDGES_MAX

PATCH = 14
PIXELS = PATCH * PATCH


def _paint(canvas, x, y, edges, filled, half_width, colour, soft):
    """canvas [pictures, 3, pixels]; one item each: edges [pictures, EDGES_MAX, 4]."""
    distance2 = torch.full_like(x, 1e9)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for e in range(EDGES_MAX):
        x0, y0, x1, y1 = (edges[:, e, i, None] for i in range(4))
        dx, dy = x1 - x0, y1 - y0
        t = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-6)).clamp(0, 1)
        distance2 = torch.minimum(distance2, (x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2)
        safe = torch.where(dy == 0, torch.ones_like(dy), dy)
        inside = inside ^ (((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * dx / safe))
    distance = distance2.sqrt()
    depth = torch.where(filled[:, None], torch.where(inside, distance, -distance), half_width[:, None] - distance)
    part = (0.5 + depth / soft[:, None]).clamp(0, 1)[:, None]
    return canvas + (colour[:, :, None] - canvas) * part


class Painter:
    """`compile`: torch.compile, on a GPU."""

    def __init__(self, cells, device, compile=False):
        self.cells, self.device = cells, device
        self.paint = torch.compile(_paint) if compile else _paint
        self.mean = torch.tensor(MEAN, device=device)[:, None] * 255
        self.std = torch.tensor(STD, device=device)[:, None] * 255

    def canvas(self, rows, columns, back, edges, filled, half_width, colour, soft):
        """Values 0 to 255, [pictures, 3, 4 * cells * PIXELS]; edges [pictures, items, EDGES_MAX, 4]."""
        patch = torch.arange(4 * self.cells, device=self.device)
        cell, part = patch // 4, patch % 4
        pixel = torch.arange(PIXELS, device=self.device)
        left = (cell % columns[:, None]) * 2 + part % 2
        top = (cell // columns[:, None]) * 2 + part // 2
        x = (left[..., None] * PATCH + pixel % PATCH + 0.5).flatten(1).float()
        y = (top[..., None] * PATCH + pixel // PATCH + 0.5).flatten(1).float()
        canvas = back[:, :, None].expand(-1, -1, x.shape[1]).float().contiguous()
        for i in range(edges.shape[1]):
            canvas = self.paint(canvas, x, y, edges[:, i], filled[:, i], half_width[:, i], colour[:, i], soft)
        return canvas

    def patches(self, canvas, noise=None):
        """[pictures, 4 * cells, 1176]; `noise` [pictures]: its deviation in grey levels."""
        if noise is not None:
            canvas = canvas + torch.randn_like(canvas) * noise[:, None, None]
        canvas = (canvas.round().clamp(0, 255) - self.mean) / self.std
        n = canvas.shape[0]
        canvas = canvas.view(n, 3, 4 * self.cells, 1, PIXELS).permute(0, 2, 1, 3, 4)
        return canvas.expand(-1, -1, -1, 2, -1).reshape(n, 4 * self.cells, 6 * PIXELS)
