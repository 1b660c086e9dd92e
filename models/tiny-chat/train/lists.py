"""Counting, sorting and reversing lists."""

from source import ASK, Wordings
from words import NOUNS, PERSONS, WORDS

COUNT = Wordings(
    "How many words are in this list: {list}?", "Count the words: {list}", "How many words: {list}",
    "Count the words in this list: {list}.", "How many items are here: {list}?",
    "How many items has this list: {list}?", "Count these words: {list}.", "Count: {list}",
    "How many things are listed here: {list}?", "Tell me how many words these are: {list}.",
    "What is the number of words in this list: {list}?", "Count the items: {list}.",
    "How many words are listed here: {list}?", "Tell me how many items are in this list: {list}.",
    "What is the number of items here: {list}?", frames=ASK)
OCCUR = Wordings(
    "How often does {word} occur in this list: {list}?", "Count {word} in this list: {list}.",
    "How many times is {word} in this list: {list}?", "How many times does {word} occur here: {list}?",
    "How often is {word} listed here: {list}?", "Count how often {word} occurs: {list}.",
    "How often do you see {word} in this list: {list}?", "How many times do you see {word}: {list}?",
    "Tell me how often {word} occurs here: {list}.", "How often is {word} in this list: {list}?",
    "Count how many times {word} is listed here: {list}.", frames=ASK)
SORT_UP = Wordings(
    "Sort these numbers: {list}.", "Sort: {list}", "Sort {list}.", "Put these numbers in order: {list}.",
    "Order these numbers: {list}.", "Sort these numbers from small to large: {list}.",
    "Sort the numbers {list}.", "Arrange these numbers from the smallest to the largest: {list}.",
    "Sort these numbers in ascending order: {list}.", "Put in order: {list}.",
    "Give me these numbers in order: {list}.", "Can you sort these numbers: {list}?",
    "Arrange in ascending order: {list}.", "Can you put these numbers in order: {list}?",
    "Sort from the smallest to the largest: {list}.", "Order the numbers {list}.", frames=ASK)
SORT_DOWN = Wordings(
    "Sort these numbers from large to small: {list}.", "Sort in descending order: {list}.",
    "Sort these numbers in descending order: {list}.", "Order these numbers from the largest to the smallest: {list}.",
    "Put these numbers in descending order: {list}.", "Sort downwards: {list}.",
    "Arrange these numbers from large to small: {list}.",
    "Sort the numbers {list} from the largest to the smallest.",
    "Arrange in descending order: {list}.", "Give me these numbers in descending order: {list}.",
    "Can you sort these from large to small: {list}?", frames=ASK)
SORT_WORDS = Wordings(
    "Sort these words: {list}.", "Sort alphabetically: {list}", "Sort these words alphabetically: {list}.",
    "Put these words in alphabetical order: {list}.", "Order these words: {list}.",
    "Sort from a to z: {list}.", "Arrange these words in alphabetical order: {list}.",
    "Can you sort these words: {list}?", "Sort the words {list}.", "Alphabetical order: {list}.",
    "Arrange alphabetically: {list}.", "Can you put these words in alphabetical order: {list}?",
    "Give me these words in alphabetical order: {list}.", "Sort these words from a to z: {list}.", frames=ASK)
LARGEST = Wordings(
    "Which of these numbers is the largest: {list}?", "What is the largest of {list}?",
    "Find the largest number: {list}.", "What is the maximum of {list}?",
    "Which number is the largest: {list}?", "Give me the largest of these numbers: {list}.",
    "What is the largest number here: {list}?", "Tell me the largest of {list}.",
    "Which is the largest number here: {list}?", frames=ASK)
SMALLEST = Wordings(
    "Which of these numbers is the smallest: {list}?", "What is the smallest of {list}?",
    "Find the smallest number: {list}.", "What is the minimum of {list}?",
    "Which number is the smallest: {list}?", "Give me the smallest of these numbers: {list}.",
    "What is the smallest number here: {list}?", "Tell me the smallest of {list}.",
    "Which is the smallest number here: {list}?", frames=ASK)
REVERSE = Wordings(
    "Reverse this list: {list}.", "Reverse: {list}", "Reverse the order of these words: {list}.",
    "Write this list backwards: {list}.", "Give me this list in reverse order: {list}.",
    "Turn this list around: {list}.", "Say these words backwards: {list}.", "Reverse these words: {list}.",
    "Put this list in reverse order: {list}.", "Can you reverse this list: {list}?",
    "List these words backwards: {list}.", "Write these words in reverse order: {list}.",
    "Can you write this list backwards: {list}?", "Reverse the list {list}.", frames=ASK)
REVERSE_NUMBER = Wordings(
    "Reverse the digits of {n}.", "Write the number {n} backwards.", "What is {n} backwards?",
    "Reverse the number {n}.", "What is {n} in reverse?", "Read {n} from right to left.",
    "Give me {n} backwards.", "Turn the digits of {n} around.", "Write {n} backwards.",
    "Can you reverse the number {n}?", "Write the digits of {n} in reverse order.",
    "Tell me what {n} is backwards.", frames=ASK)

REPEAT = Wordings("Repeat: {list}", "Say: {list}", "Repeat after me: {list}", "Repeat these words: {list}", "Say this again: {list}", "Copy this: {list}", "Please repeat: {list}", "Write this again: {list}", frames=ASK)

COUNT_MAX = 12
SORT_MAX = 8
REVERSE_MAX = 10


def _words(src, count, repeat=False):
    """A list of words of this side: which side a list is on is decided by its words together."""
    while True:
        words = [src.choice(WORDS) for _ in range(count)] if repeat else src.sample(WORDS, count)
        if src.owns(",".join(words)):
            return words


def _things(src, count, repeat=False):
    """Words, or names, or a mix of both."""
    words = _words(src, count, repeat)
    pool = src.choice((None, None, None, PERSONS, NOUNS))
    return words if pool is None else [word if src.chance(0.3) else src.name(pool) for word in words]


def _joined(src, items):
    items = [str(item) for item in items]
    return (" " if src.chance(0.15) else ", ").join(items)


def _numbers(src, count):
    high = src.choice((199, 999) if src.held else (20, 99, 199, 999, 999))  # few small numbers are held out
    found = []
    while len(found) < count:
        n = src.number(0, high)
        if n not in found:
            found.append(n)
    return found


def count(src, thinking):
    words = _things(src, src.between(1, COUNT_MAX), repeat=True)
    n = len(words)
    think = ", ".join(f"{i} {word}" for i, word in enumerate(words, 1))
    return (src.pick(COUNT).format(list=_joined(src, words)),
            f"There are {n} words." if n != 1 else "There is 1 word.", think)


def occur(src, thinking):
    few = src.sample(WORDS, src.between(2, 4))
    while True:
        words = [src.choice(few) for _ in range(src.between(2, COUNT_MAX))]
        if src.owns(",".join(words)):
            break
    word = src.choice(few)
    n = words.count(word)
    found, steps = 0, []
    for i, w in enumerate(words, 1):
        found += w == word
        steps.append(f"{i} {w} {found}")
    times = {0: "no times", 1: "1 time"}.get(n, f"{n} times")
    return (src.pick(OCCUR).format(word=word, list=_joined(src, words)),
            f"The word {word} occurs {times}.", ", ".join(steps))


def sort_numbers(src, thinking):
    numbers = _numbers(src, src.between(3, SORT_MAX))
    down = src.chance(0.35)
    text = src.pick(SORT_DOWN if down else SORT_UP).format(list=_joined(src, numbers))
    return (text, ", ".join(map(str, sorted(numbers, reverse=down))),
            f"{len(numbers)} numbers, the {'largest' if down else 'smallest'} first.")


def extreme(src, thinking):
    numbers = _numbers(src, src.between(3, SORT_MAX))
    top = src.chance(0.5)
    text = src.pick(LARGEST if top else SMALLEST).format(list=_joined(src, numbers))
    return (text, f"The largest number is {max(numbers)}." if top else
            f"The smallest number is {min(numbers)}.", f"One of {len(numbers)} numbers.")


def sort_words(src, thinking):
    words = _words(src, src.between(3, SORT_MAX))
    return (src.pick(SORT_WORDS).format(list=_joined(src, words)), ", ".join(sorted(words)),
            f"{len(words)} words, a first.")


def reverse(src, thinking):
    if src.chance(0.25):
        n = src.number(100, 999999 if src.chance(0.5) else 9999)
        return (src.pick(REVERSE_NUMBER).format(n=n), str(n)[::-1], "The last digit comes first.")
    if src.chance(0.3):
        items = _numbers(src, src.between(2, REVERSE_MAX))
    else:
        items = _things(src, src.between(2, REVERSE_MAX))
    return (src.pick(REVERSE).format(list=_joined(src, items)), ", ".join(map(str, reversed(items))),
            "The last item comes first.")


def repeat(src, thinking):
    text = " ".join(_things(src, src.between(1, REVERSE_MAX)))
    return src.pick(REPEAT).format(list=text), text, "I say it again."


def counting(src, thinking):
    return src.weighted(((count, 3), (occur, 2)))(src, thinking)


def sorting(src, thinking):
    return src.weighted(((sort_numbers, 4), (sort_words, 3), (extreme, 1)))(src, thinking)
