"""Pictures as bytes, in plain Python: for tests through a server. draw_torch.py does the same on a GPU."""

import math
import struct
import zlib


def _distance2(x, y, edge):
    x0, y0, x1, y1 = edge
    dx, dy = x1 - x0, y1 - y0
    t = min(1.0, max(0.0, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-6)))
    return (x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2


def coverage(item, x, y):
    """How much of the pixel around (x, y) the item covers, 0 to 1."""
    distance = math.sqrt(min(_distance2(x, y, edge) for edge in item.edges))
    if not item.filled:
        return min(1.0, max(0.0, 0.5 + item.half_width - distance))
    inside = False
    for x0, y0, x1, y1 in item.edges:
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return min(1.0, max(0.0, 0.5 + (distance if inside else -distance)))


def draw(width, height, background, items):
    """RGB bytes, row by row."""
    pixels = [[list(background) for _ in range(width)] for _ in range(height)]
    for item in items:
        reach = item.half_width + 1
        xs = [v for edge in item.edges for v in edge[::2]]
        ys = [v for edge in item.edges for v in edge[1::2]]
        for row in range(max(0, int(min(ys) - reach)), min(height, int(max(ys) + reach) + 1)):
            for column in range(max(0, int(min(xs) - reach)), min(width, int(max(xs) + reach) + 1)):
                part = coverage(item, column + 0.5, row + 0.5)
                if part:
                    pixel = pixels[row][column]
                    for i in range(3):
                        pixel[i] += (item.colour[i] - pixel[i]) * part
    return bytes(int(v + 0.5) for row in pixels for pixel in row for v in pixel)


def png(width, height, rgb):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + rgb[i:i + 3 * width] for i in range(0, len(rgb), 3 * width))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))
