"""Arithmetic: up to three digits at once, longer multiplication and addition by thinking."""

from source import ASK, Wordings
from words import PERSONS, WORDS

ADD = Wordings(
    "What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=?", "Calculate {a} + {b}.",
    "What is {a} plus {b}?", "How much is {a} + {b}?", "How much is {a} plus {b}?", "Add {a} and {b}.",
    "Compute {a} plus {b}.", "What is the sum of {a} and {b}?", "Give me {a} + {b}.",
    "{a} plus {b}", "What do you get when you add {a} and {b}?", "Tell me what {a} + {b} is.",
    "What does {a} + {b} make?", "Work out {a}+{b}.", "What's {a} + {b}?", "What is {a}+{b}?",
    "I need the sum of {a} and {b}.", "Can you add {a} and {b}?", "Tell me how much {a} plus {b} is.",
    "Please compute the sum of {a} and {b}.", "Can you calculate {a} + {b}?",
    "What does {a} plus {b} make?", frames=ASK)
SUBTRACT = Wordings(
    "What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=?", "Calculate {a} - {b}.",
    "What is {a} minus {b}?", "How much is {a} - {b}?", "How much is {a} minus {b}?",
    "Subtract {b} from {a}.", "Compute {a} minus {b}.", "What is the difference of {a} and {b}?",
    "Take {b} away from {a}.", "Give me {a} - {b}.", "{a} minus {b}", "What's {a} - {b}?",
    "What is left if you take {b} from {a}?", "Tell me what {a} - {b} is.", "What is {a}-{b}?",
    "Can you subtract {b} from {a}?", "Tell me how much {a} minus {b} is.",
    "I need the difference of {a} and {b}.", "Can you calculate {a} - {b}?",
    "Please work out {a} minus {b}.", frames=ASK)
MULTIPLY = Wordings(
    "What is {a} * {b}?", "{a} * {b}", "{a}*{b}", "{a} * {b} =", "{a} x {b}", "Calculate {a} * {b}.",
    "What is {a} times {b}?", "How much is {a} * {b}?", "How much is {a} times {b}?",
    "Multiply {a} by {b}.", "Compute {a} times {b}.", "What is the product of {a} and {b}?",
    "Multiply {a} and {b}.", "Give me {a} * {b}.", "{a} times {b}", "What's {a} * {b}?",
    "Tell me what {a} * {b} is.", "What is {a} x {b}?", "Work out {a} * {b}.", "What is {a}*{b}?",
    "Can you multiply {a} by {b}?", "I need the product of {a} and {b}.",
    "Tell me how much {a} times {b} is.", "Can you calculate {a} * {b}?",
    "Please compute the product of {a} and {b}.", frames=ASK)
DIVIDE = Wordings(
    "What is {a} / {b}?", "{a} / {b}", "{a}/{b}", "{a} / {b} =", "Calculate {a} / {b}.",
    "What is {a} divided by {b}?", "How much is {a} / {b}?", "How much is {a} divided by {b}?",
    "Divide {a} by {b}.", "Compute {a} divided by {b}.", "Give me {a} / {b}.", "What's {a} / {b}?",
    "{a} divided by {b}", "Tell me what {a} / {b} is.", "Work out {a} / {b}.",
    "Can you divide {a} by {b}?", "Tell me how much {a} divided by {b} is.",
    "Can you calculate {a} / {b}?", "I need {a} divided by {b}.", frames=ASK)
LARGER = Wordings(
    "Which is larger, {a} or {b}?", "Which number is larger, {a} or {b}?", "Is {a} or {b} larger?",
    "What is larger: {a} or {b}?", "Which is bigger, {a} or {b}?", "Is {a} or {b} bigger?",
    "Which number is bigger: {a} or {b}?", "Tell me which is larger, {a} or {b}.",
    "Which of {a} and {b} is larger?", "Which of the numbers {a} and {b} is bigger?",
    "Tell me which number is bigger, {a} or {b}.", frames=ASK)
STORY_ADD = Wordings(
    "I have {a} {things} and buy {b} more. How many do I have?",
    "{name} has {a} {things} and gets {b} more. How many are there now?",
    "There are {a} {things} here and {b} {things} there. How many are there together?",
    "{name} finds {a} {things} today and {b} tomorrow. How many is that?",
    "There were {a} {things}, then {b} more came. How many are there now?",
    "I have {a} {things} and {name} has {b}. How many do we have together?",
    "{name} buys {a} {things} and then {b} more. How many is that?",
    "There are {a} {things} and {b} more came. How many are there together?", frames=ASK)
STORY_SUBTRACT = Wordings(
    "I have {a} {things} and give away {b}. How many are left?",
    "{name} has {a} {things} and loses {b}. How many are left?",
    "There were {a} {things} and {b} were sold. How many remain?",
    "{name} had {a} {things} and gave me {b}. How many does {name} have now?",
    "Of {a} {things}, {b} are broken. How many are whole?",
    "{name} has {a} {things} and sells {b}. How many remain?",
    "There were {a} {things} and I lost {b}. How many are left?", frames=ASK)

# Longest operands, in digits, of what is done at once and by thinking.
LONG_FIRST_MAX = 4
LONG_SECOND_MAX = 3
LONG_SUM_MAX = 6


def _digits(src, count):
    return src.between(10 ** (count - 1) if count > 1 else 0, 10 ** count - 1)


def _size(src):
    return src.weighted(((1, 1), (2, 3), (3, 4)))


def _pair(src, sign, draw):
    """Operands of this side; a + b and b + a are on the same side."""
    while True:
        a, b = draw()
        low, high = (min(a, b), max(a, b)) if sign in "+*" else (a, b)
        if src.owns(f"{low}{sign}{high}"):
            return a, b


def add(src, thinking):
    a, b = _pair(src, "+", lambda: (_digits(src, _size(src)), _digits(src, _size(src))))
    if src.chance(0.2):
        text = src.pick(STORY_ADD).format(a=a, b=b, things=src.choice(WORDS) + "s", name=src.name(PERSONS))
    else:
        text = src.pick(ADD).format(a=a, b=b)
    return text, f"{a} + {b} = {a + b}.", "A sum of short numbers."


def subtract(src, thinking):
    def draw():
        a, b = _digits(src, _size(src)), _digits(src, _size(src))
        return (a, b) if a >= b or src.chance(0.1) else (b, a)
    a, b = _pair(src, "-", draw)
    if a >= b and src.chance(0.2):
        text = src.pick(STORY_SUBTRACT).format(a=a, b=b, things=src.choice(WORDS) + "s",
                                               name=src.name(PERSONS))
    else:
        text = src.pick(SUBTRACT).format(a=a, b=b)
    return text, f"{a} - {b} = {a - b}.", "A difference of short numbers."


def multiply(src, thinking):
    """Up to two digits by one, and the small table, at once."""
    def draw():
        a, b = _digits(src, src.weighted(((1, 2), (2, 3)))), src.between(0, 9)
        if src.chance(0.15):
            a, b = src.between(2, 12), src.between(2, 12)
        return (a, b) if src.chance(0.5) else (b, a)
    a, b = _pair(src, "*", draw)
    return src.pick(MULTIPLY).format(a=a, b=b), f"{a} * {b} = {a * b}.", "A short product."


def long_division(a, b):
    """The steps of a division without rest, as taught at school: each takes one digit more."""
    steps, rest = [], 0
    for digit in str(a):
        rest = rest * 10 + int(digit)
        if rest < b and not steps and len(str(a)) > 1:
            continue
        over = rest % b
        steps.append(f"{rest} = {rest // b} * {b}" + (f" + {over}" if over else ""))
        rest = over
    return ", ".join(steps)


def divide(src, thinking):
    def draw():
        b = src.between(1, 12)
        return b * src.between(0, src.choice((12, 99, 999) if b < 10 else (12, 83))), b
    while True:
        a, b = _pair(src, "/", draw)
        if a < 1000:
            break
    return src.pick(DIVIDE).format(a=a, b=b), f"{long_division(a, b)}, so {a} / {b} = {a // b}.", "A short division."


TOO_LONG = "These numbers are too long for me."
ADD_THREE = Wordings("What is {a} + {b} + {c}?", "{a} + {b} + {c}", "Add {a}, {b} and {c}.", "Calculate {a} + {b} + {c}.", "How much is {a} + {b} + {c}?",
                     "What is the sum of {a}, {b} and {c}?", "What is {a} plus {b} plus {c}?", "Compute {a} + {b} + {c}.", frames=ASK)


def add_three(src, thinking):
    """Two sums, one after the other, both of this side."""
    while True:
        a, b = _pair(src, "+", lambda: (_digits(src, src.between(1, 2)), _digits(src, src.between(1, 2))))
        c = _digits(src, src.between(1, 2))
        if src.owns(f"{min(a + b, c)}+{max(a + b, c)}"):
            return src.pick(ADD_THREE).format(a=a, b=b, c=c), f"{a} + {b} = {a + b}. {a + b} + {c} = {a + b + c}.", "Two sums."


def too_long(src, thinking):
    """What it does not try: long differences and divisions, and long sums without thinking."""
    sign, wordings = src.choice((("+", ADD), ("-", SUBTRACT), ("/", DIVIDE)))
    a, b = _pair(src, sign, lambda: (_digits(src, src.between(4, 7)), _digits(src, src.between(1, 7))))
    if sign == "+":
        if thinking:
            return add_long(src, True)
        return wordings_text(src, wordings, a, b), "That is a long sum. Ask me again with thinking on.", None
    return wordings_text(src, wordings, a, b), TOO_LONG, "I only do this with short numbers."


def wordings_text(src, wordings, a, b):
    return src.pick(wordings).format(a=a, b=b)


def larger(src, thinking):
    def draw():
        size = _size(src)
        return _digits(src, size), _digits(src, size)
    while True:
        a, b = _pair(src, "?", draw)
        if a != b:
            break
    return src.pick(LARGER).format(a=a, b=b), f"{max(a, b)} is larger than {min(a, b)}.", \
        "Two numbers to compare."


def column_sum(a, b):
    """Adds column by column from the right, as written in thinking."""
    steps, carry, x, y = [], 0, a, b
    while x or y:
        if x and y:
            terms = [x % 10, y % 10]
        else:
            terms = [x % 10 if x else y % 10]
        if carry:
            terms.append(carry)
        total = sum(terms)
        steps.append(" + ".join(map(str, terms)) + f" = {total}")
        carry = total // 10
        x, y = x // 10, y // 10
    if carry:
        steps.append(f"{carry} = {carry}")
    return f"{a} + {b}: " + ", ".join(steps) + f" -> {a + b}"


def row_product(a, digit, zeros):
    """a * digit * 10^zeros, digit by digit from the right, as written in thinking."""
    steps, carry, x = [], 0, a
    while x:
        total = x % 10 * digit + carry
        steps.append(f"{x % 10} * {digit}" + (f" + {carry}" if carry else "") + f" = {total}")
        carry = total // 10
        x //= 10
    text = f"{a} * {digit}{'0' * zeros}: " + ", ".join(steps) + f" -> {a * digit}"
    return text + (f" -> {a * digit * 10 ** zeros}" if zeros else "")


def long_product(a, b):
    lines, rows = [], []
    for zeros, digit in enumerate(reversed(str(b))):
        if digit != "0":
            lines.append(row_product(a, int(digit), zeros))
            rows.append(a * int(digit) * 10 ** zeros)
    total = rows[0]
    for row in rows[1:]:
        lines.append(column_sum(total, row))
        total += row
    return "\n".join(lines)


def multiply_long(src, thinking):
    """Products too long to do at once: by thinking; without it short ones on one line."""
    def draw():
        if not thinking and src.chance(0.8):
            return _digits(src, 2), _digits(src, 2)
        a, b = _digits(src, src.between(2, LONG_FIRST_MAX)), _digits(src, src.between(2, LONG_SECOND_MAX))
        return (b, a) if src.chance(0.3) and a < 1000 else (a, b)
    a, b = _pair(src, "*", draw)
    text = src.pick(MULTIPLY).format(a=a, b=b)
    result = f"{a} * {b} = {a * b}."
    if thinking:
        return text, result, long_product(a, b)
    if a > 99 or b > 99:
        return text, "That is a long product. Ask me again with thinking on.", None
    tens, ones = b // 10 * 10, b % 10
    if not ones or b < 13:
        return text, result, None
    return text, (f"{a} * {b} = {a} * {tens} + {a} * {ones} = {a * tens} + {a * ones} = "
                  f"{a * b}."), None


def add_long(src, thinking):
    def draw():
        return _digits(src, src.between(4, LONG_SUM_MAX)), _digits(src, src.between(2, LONG_SUM_MAX))
    a, b = _pair(src, "+", draw)
    return src.pick(ADD).format(a=a, b=b), f"{a} + {b} = {a + b}.", column_sum(a, b)


def short_sum(src, thinking):
    """Any arithmetic that needs no thinking."""
    task = src.weighted(((add, 4), (subtract, 4), (multiply, 3), (divide, 5), (larger, 1), (add_three, 0.6), (too_long, 0.4)))
    return task(src, thinking)
