"""Dates, weekdays and months. Steps are written in the answer, so that each is a small one."""

from source import ASK, Wordings
from words import MONTHS, MONTH_DAYS, WEEKDAYS

DAYS_MAX = 60

WEEKDAY_AFTER = Wordings(
    "What day is {n} days after {day}?", "Which weekday is {n} days after {day}?",
    "Today is {day}. What day is it in {n} days?", "It is {day}. Which day is it in {n} days?",
    "If today is {day}, what day is it in {n} days?", "What day of the week is {n} days after {day}?",
    "Tell me the day {n} days after {day}.", "Which day comes {n} days after {day}?",
    "Today is {day}. Which weekday is it in {n} days?", "Tell me which weekday is {n} days after {day}.",
    "If it is {day}, which day is it in {n} days?", frames=ASK)
MONTH_AFTER = Wordings(
    "Which month is {n} months after {month}?", "What month comes {n} months after {month}?",
    "It is {month}. Which month is it in {n} months?", "What month is it {n} months after {month}?",
    "If it is {month} now, what month is it in {n} months?", "Tell me the month {n} months after {month}.",
    "Which month comes {n} months after {month}?", "It is {month}. What month is it in {n} months?", frames=ASK)
DATE_AFTER = Wordings(
    "What date is {n} days after {day} {month}?", "Which date is {n} days after {day} {month}?",
    "Today is {day} {month}. What is the date in {n} days?", "What is {day} {month} plus {n} days?",
    "It is {day} {month}. Which date is it in {n} days?", "Add {n} days to {day} {month}.",
    "Tell me the date {n} days after {day} {month}.", "If today is {day} {month}, what date is it in {n} days?",
    "Which date comes {n} days after {day} {month}?", "Today is {day} {month}. Which date is it in {n} days?",
    "Can you add {n} days to {day} {month}?", frames=ASK)
MONTH_LENGTH = Wordings(
    "How many days has {month}?", "How many days does {month} have?", "How long is {month}?",
    "How many days are in {month}?", "What is the number of days in {month}?", "How many days are there in {month}?",
    "Tell me how many days {month} has.", frames=ASK)
TO_ISO = Wordings(
    "Write {day} {month} {year} as year-month-day.", "Write {day} {month} {year} in ISO format.",
    "Write {day} {month} {year} as an ISO date.", "Give me {day} {month} {year} as an ISO date.",
    "What is {day} {month} {year} in ISO format?", "Give me {day} {month} {year} in ISO format.", frames=ASK)
FROM_ISO = Wordings(
    "Write {iso} in words.", "Which date is {iso}?", "What date is {iso}?", "Write {iso} with the name of the month.",
    "Say {iso} in words.", "Which day is {iso}?", "Write the date {iso} in words.", frames=ASK)
BETWEEN = Wordings(
    "How many days are there from {day} {month} to {day2} {month2}?",
    "How many days are between {day} {month} and {day2} {month2}?",
    "How many days is it from {day} {month} to {day2} {month2}?",
    "It is {day} {month}. How many days are there until {day2} {month2}?",
    "Count the days from {day} {month} to {day2} {month2}.",
    "Tell me how many days it is from {day} {month} to {day2} {month2}.",
    "It is {day} {month}. How many days is it until {day2} {month2}?", frames=ASK)


def _case(src, draw, key):
    while True:
        values = draw()
        if src.owns(key + ":" + ":".join(map(str, values))):
            return values


def weekday_after(src):
    day, n = _case(src, lambda: (src.below(7), src.between(1, DAYS_MAX)), "weekday")
    rest = n % 7
    step = f"{n} = {n - rest} + {rest}. " if n >= 7 else ""
    if rest:
        step += f"{rest} {'day' if rest == 1 else 'days'} after {WEEKDAYS[day]} is {WEEKDAYS[(day + rest) % 7]}."
    else:
        step += f"So it is {WEEKDAYS[day]} again."
    return src.pick(WEEKDAY_AFTER).format(n=n, day=WEEKDAYS[day]), step


def month_after(src):
    month, n = _case(src, lambda: (src.below(12), src.between(1, 24)), "month")
    total = month + 1 + n
    steps = [f"{MONTHS[month]} is month {month + 1}.", f"{month + 1} + {n} = {total}."]
    while total > 12:
        steps.append(f"{total} - 12 = {total - 12}.")
        total -= 12
    return src.pick(MONTH_AFTER).format(n=n, month=MONTHS[month]), " ".join(steps) + f" Month {total} is {MONTHS[total - 1]}."


def date_after(src):
    month, day, n = _case(src, lambda: (src.below(12), src.between(1, 28), src.between(1, DAYS_MAX)),
                          "date")
    text = src.pick(DATE_AFTER).format(n=n, day=day, month=MONTHS[month])
    total = day + n
    steps = [f"{day} + {n} = {total}."]
    while total > MONTH_DAYS[month]:
        length = MONTH_DAYS[month]
        steps.append(f"{MONTHS[month]} has {length} days: {total} - {length} = {total - length}.")
        total -= length
        month = (month + 1) % 12
    return text, " ".join(steps) + f" It is {total} {MONTHS[month]}."


def month_length(src):
    month = src.below(12)
    length = f"{MONTH_DAYS[month]} days" + (", in leap years 29" if month == 1 else "")
    return src.pick(MONTH_LENGTH).format(month=MONTHS[month]), f"{MONTHS[month]} has {length}."


def iso(src):
    year, month, day = _case(src, lambda: (src.between(1900, 2099), src.below(12), src.between(1, 28)),
                             "iso")
    long_form, short = f"{day} {MONTHS[month]} {year}", f"{year}-{month + 1:02d}-{day:02d}"
    if src.chance(0.5):
        return src.pick(TO_ISO).format(day=day, month=MONTHS[month], year=year), f"It is {short}."
    return src.pick(FROM_ISO).format(iso=short), f"It is {long_form}."


def between(src):
    def draw():
        month, day = src.below(12), src.between(1, 28)
        if src.chance(0.5):
            return (month, day, month, src.between(1, 28))
        return (month, day, (month + 1) % 12, src.between(1, 28))
    month, day, month2, day2 = _case(src, draw, "between")
    if month == month2 and day2 < day:
        day, day2 = day2, day
    text = src.pick(BETWEEN).format(day=day, month=MONTHS[month], day2=day2, month2=MONTHS[month2])
    if month == month2:
        return text, f"{day2} - {day} = {day2 - day}. It is {day2 - day} {'day' if day2 - day == 1 else 'days'}."
    length = MONTH_DAYS[month]
    left = length - day
    return text, (f"{MONTHS[month]} has {length} days: {length} - {day} = {left}. "
                  f"{left} + {day2} = {left + day2}. It is {left + day2} {'day' if left + day2 == 1 else 'days'}.")


def dates(src, thinking):
    task = src.weighted(((weekday_after, 3), (date_after, 3), (month_after, 2), (between, 2), (iso, 2),
                         (month_length, 0.3)))
    text, answer = task(src)
    return text, answer, "A question about dates."
