"""Checks that held-out data shares no name, number, operands or wording with training data.

Standard library only. Prints `N passed, N failed` and exits with 0 or 1.
"""

import sys

import dates
import facts
import json_task
import lists
import memory
import mix
import render
import source
import sums
import talk
import tools
import words

CONVERSATIONS = 1500
CASES_EACH = 40
LENGTHS = (200, 600, 1500)

passed, failed = 0, 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {what}")


def bare(text):
    return source._bare(text)


def _words(text):
    return "".join(c if c.isalnum() else " " for c in text).split()


def lists_of_wordings(module):
    """Every Wordings that a module holds, also within tuples, dicts and objects."""
    seen, open_, found = set(), list(vars(module).values()), []
    while open_:
        item = open_.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, source.Wordings):
            found.append(item)
        elif isinstance(item, (list, tuple)):
            open_.extend(item)
        elif isinstance(item, dict):
            open_.extend(item.values())
        elif type(item).__module__ == module.__name__:
            open_.extend(vars(item).values() if hasattr(item, "__dict__") else ())
    return found


def check_lists():
    """The declared lists are split, whatever is drawn from them."""
    for module in (dates, facts, json_task, lists, memory, mix, sums, talk, tools):
        for wordings in lists_of_wordings(module):
            train, held = ({bare(t) for t in wordings.side(side)} for side in (False, True))
            check(train and held and not train & held, f"wordings of {module.__name__}: {sorted(train & held)}")
    for name in ("PERSONS", "TOWNS", "COMPANIES", "NOUNS"):
        pool = getattr(words, name)
        check(pool.train and pool.held and not set(pool.train) & set(pool.held), f"names of {name}")
        check(all(source.is_held(n) for n in pool.held) and not any(source.is_held(n) for n in pool.train), f"hash of {name}")


def drawn():
    """What training conversations and held-out cases really used, and the words of the former."""
    train, held, text_words = {}, {}, set()
    src = source.Source("test:train", log=train)
    for i in range(CONVERSATIONS):
        conversation = mix.conversation(src, LENGTHS[i % len(LENGTHS)])
        text = render.render(conversation.messages, tools=conversation.tools, enable_thinking=conversation.thinking)
        text_words.update(_words(text))
    for task in mix.CASES:
        mix.cases(task, CASES_EACH, "test", log=held)
    return train, held, text_words


def main():
    check_lists()
    train, held, text_words = drawn()
    for used in (train, held):
        used["bare wordings"] = {bare(text) for text in used["wordings"]}
    for kind in ("names", "numbers", "wordings", "bare wordings", "keys"):
        check(len(train[kind]) > 100 and len(held[kind]) > 100, f"too few {kind} were drawn")
        common = train[kind] & held[kind]
        check(not common, f"{kind} on both sides: {sorted(common, key=str)[:5]}")
    # A name of random letters may happen to be a word that wordings use, such as "Set" or "Rise".
    listed = [item for value in vars(words).values() if isinstance(value, (list, tuple)) for item in value if isinstance(item, str)]
    ordinary = {word.lower() for text in [*train["wordings"], *held["wordings"], *listed] for word in _words(text)}
    seen = {name for name in held["names"] & text_words if name.lower() not in ordinary}
    check(not seen, f"held-out names in training text: {sorted(seen)[:5]}")
    again = [mix.cases("memory, 2 to 30 turns", 5, 1) for _ in range(2)]
    check(again[0] == again[1], "cases are reproducible from their seed")
    check(again[0] != mix.cases("memory, 2 to 30 turns", 5, 2), "another seed gives other cases")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
