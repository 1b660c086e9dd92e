"""What a clip shows, measured on its frames: colour, direction, speed and shape. Standard library only.

A frame is RGB bytes, row by row. The background is the colour that most of the frame has: the median of each channel.
"""

import math

from captions import COLOURS, DIRECTIONS, SPEEDS

APART = 110  # summed over the channels: what differs so much from the background is the thing


def thing(frame, width, height):
    """(centre x, centre y, area, mean colour) of what is not background, or None."""
    back = [sorted(frame[k::3])[width * height // 2] for k in range(3)]
    area, sx, sy, tint, full = 0.0, 0.0, 0.0, [0.0, 0.0, 0.0], 0.0
    for i in range(0, 3 * width * height, 3):
        apart = abs(frame[i] - back[0]) + abs(frame[i + 1] - back[1]) + abs(frame[i + 2] - back[2])
        if apart > APART:
            weight = float(apart)
            area += 1
            full += weight
            sx += weight * (i // 3 % width)
            sy += weight * (i // 3 // width)
            for k in range(3):
                tint[k] += weight * frame[i + k]
    if area < 12:
        return None
    return sx / full, sy / full, area, [v / full for v in tint]


def measure(frames, width, height):
    """{"colour", "direction", "speed", "pixels a frame"}, or None where nothing is seen."""
    found = [(i, thing(f, width, height)) for i, f in enumerate(frames)]
    found = [(i, t) for i, t in found if t]
    if len(found) < max(2, len(frames) // 2):
        return None
    times = [i - sum(i for i, _ in found) / len(found) for i, _ in found]
    dx, dy = (sum(t * at[k] for t, (_, at) in zip(times, found)) / sum(t * t for t in times) for k in (0, 1))  # least squares
    tint = [sum(t[3][k] for _, t in found) / len(found) for k in range(3)]
    colour = min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], tint)))
    pace = math.hypot(dx, dy)

    def agreement(name):
        x, y, _ = DIRECTIONS[name]
        return (x * dx + y * dy) / math.hypot(x, y)
    return {"colour": colour, "direction": max(DIRECTIONS, key=agreement) if pace > 0.25 else "none",
            "speed": min(SPEEDS, key=lambda name: abs(math.log(max(pace, 1e-3) / SPEEDS[name][0]))), "pixels a frame": pace}
