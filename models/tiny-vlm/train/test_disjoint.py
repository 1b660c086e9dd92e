"""Checks that held-out pictures and questions share no wording, number or scene with training, and that answers are true.

Standard library only. Prints `N passed, N failed` and exits with 0 or 1.
"""

import sys

import conversations
import draw
import scenes
import tokens
from source import Source, is_held

CONVERSATIONS, CASES_EACH = 1200, 30

passed, failed = 0, 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}")


def drawn():
    """The wordings and scenes of training conversations and of held-out cases."""
    train, held, both = {}, {}, ([], [])
    src = Source("test:train", log=train)
    for _ in range(CONVERSATIONS):
        both[0].extend(tokens.pictures(conversations.conversation(src, 8)))
    for task in conversations.CASES:
        src = Source(f"test:{task}", held=True, log=held)
        for _ in range(CASES_EACH):
            both[1].extend(tokens.pictures(conversations.CASES[task](src)["messages"]))
    return train["wordings"], held["wordings"], both


def look(scene):
    return (scene.width, scene.height, scene.number, tuple((t.name, round(t.x), round(t.y), round(t.radius)) for t in scene.things))


def check_pixels():
    """The middle of every shape but a hidden one has its colour, the corner that of the background."""
    src = Source("test:pixels")
    for _ in range(6):
        s = scenes.scene(src, scenes._varied)
        rgb = draw.draw(s.width, s.height, s.back_colour, s.items)
        for thing, item in zip(s.things, s.items):
            at = 3 * (int(thing.y) * s.width + int(thing.x))
            check(tuple(rgb[at:at + 3]) == item.colour, f"the middle of the {thing.name}")


def check_positions():
    """Text, a picture of 2 x 3 cells, text."""
    ids = tokens.expand([1, tokens.IMAGE_PAD, 2], [(2, 3)])
    t, h, w = tokens.positions(ids, [(2, 3)])
    check(t == [0, 1, 1, 1, 1, 1, 1, 4] and h == [0, 1, 1, 1, 2, 2, 2, 4] and w == [0, 1, 2, 3, 1, 2, 3, 4], f"positions: {t} {h} {w}")


def main():
    train, held, (seen, tested) = drawn()
    check(len(train) > 200 and len(held) > 100, "too few wordings were drawn")
    check(not train & held, f"wordings on both sides: {sorted(train & held)[:5]}")
    looks = {look(s) for s in seen}
    check(not looks & {look(s) for s in tested}, "scenes on both sides")
    check(all(is_held(s.number) == (side == 1) for side, group in enumerate((seen, tested)) for s in group if s.number), "numbers on both sides")
    check_pixels()
    check_positions()
    again = [repr(conversations.cases("count", 3, 1)) for _ in range(2)]
    check(again[0] == again[1], "cases are reproducible from their seed")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
