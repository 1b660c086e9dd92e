"""Files that tests of diffusion models write: pictures and adapters."""
import json
import struct


def bmp(colour, width=50, height=40):
    """A chequered picture of `colour` (red, green, blue) and white; 24 bits, bottom row first."""
    def pixel(x, y):
        return bytes(reversed(colour if (x // 8 + y // 8) % 2 else (250, 250, 250)))

    rows = b"".join(b"".join(pixel(x, y) for x in range(width)) + bytes(-3 * width % 4) for y in reversed(range(height)))
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54 + len(rows), 0, 54, 40, width, height, 1, 24, 0, len(rows), 2835, 2835,
                               0, 0) + rows


def adapter(linear, rows, cols, value=0.5):
    """A safetensors file with a pair of rank 1 for `linear` of [rows, cols], all of one value."""
    header, at = {}, 0
    for half, shape in (("A", [1, cols]), ("B", [rows, 1])):
        size = 4 * shape[0] * shape[1]
        header[f"{linear}.lora_{half}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<f", value) * (at // 4)
