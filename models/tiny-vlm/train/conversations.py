"""Whole conversations about pictures, and without: the training mix, and single held-out cases for measuring.

Messages are as a request has them; a picture is the part {"type": "image", "scene": Scene}.
"""

import scenes  # first: it finds tiny-chat's modules
import talk
from source import ASK, Source, Wordings

NAME = "tiny-vlm"
SEES = ("Yes, I can look at pictures of coloured shapes and digits.")
CAN = ("I can look at pictures of coloured shapes: name, count, place and compare them, and read digits.")
NO_PICTURE = "I see no picture."
NEW_ANSWERS = {"No, I only read and write text.": SEES, talk.CAN: CAN,
               "I have about 7 million parameters and read up to 8,192 tokens.": "I have about 6 million parameters and read up to 1,024 tokens."}
LOOKS = ("image", "picture", "see me", "draw")  # of the questions that SEES answers


def _own(wordings):
    """tiny-chat's wordings with this model's name."""
    for side in (*wordings.plain, *wordings.framed):
        side[:] = [text.replace("tiny-chat", NAME) for text in side]
    return wordings


INTENTS = [(NEW_ANSWERS.get(answer, answer.replace("tiny-chat", NAME)), _own(wordings)) for answer, wordings in talk.INTENTS
           if answer != "No, I only read and write text."]
INTENTS.append((SEES, Wordings("Can you see images?", "Can you see pictures?", "Can you look at images?", "Can you look at pictures?", "Do you understand pictures?",
                               "Can I show you a picture?", "May I send you an image?", "Are you able to see?", "Can you read pictures?", frames=ASK)))
SYSTEMS = ("You are a helpful assistant.", "Answer briefly.", f"You are {NAME}, a helpful assistant.", "Look at the pictures and answer.")
NTH = ("In the {n} picture: {l}", "In the {n} picture, {l}", "About the {n} picture: {l}", "Look at the {n} picture. {q}", "{q} I mean the {n} picture.",
       "For the {n} picture: {l}", "The {n} picture: {l}", "{q} Look at the {n} picture.")  # around questions whose wordings are split already
WHICH = Wordings("Which picture shows {x}?", "In which picture is there {x}?", "In which picture do you see {x}?", "Which of the two pictures shows {x}?", frames=ASK)
MORE = Wordings("Which picture has more shapes?", "In which picture are there more shapes?", "Which picture shows more shapes?", "Where are more shapes, in the first or the second picture?",
                frames=ASK)


def user(*parts):
    return {"role": "user", "content": [p if isinstance(p, dict) else {"type": "text", "text": p} for p in parts]}


def assistant(text):
    return {"role": "assistant", "content": text}


def picture(scene):
    return {"type": "image", "scene": scene}


def small_talk(src):
    answer, wordings = src.choice(INTENTS)
    return src.pick(wordings), answer


def not_knowing(src):
    while True:
        question, answer, _ = talk.unknown(src)
        if "stars" not in question:  # those can be counted here
            return question, answer


def no_picture(src):
    return scenes.ask(src, scenes.scene(src))[0], NO_PICTURE


def text_turn(src, pictures=0):
    return src.weighted(((small_talk, 5), (not_knowing, 4), (no_picture, 0 if pictures else 3)))(src)


def of_two(src, first, second):
    """A question about two pictures: (text, answer)."""
    way = src.weighted((("nth", 6), ("which", 2), ("more", 1)))
    if way == "more" and not first.number and not second.number and len(first.things) != len(second.things):
        return src.pick(MORE), "The first." if len(first.things) > len(second.things) else "The second."
    if way == "which":
        pool = first.things + second.things
        thing = src.choice(pool) if pool and src.chance(0.85) else scenes.Thing(src.choice(scenes.SHAPES), src.choice(list(scenes.COLOURS)), 0, 0, 0)
        what = thing.name if src.chance(0.5) else thing.shape
        seen = tuple(any(what in (t.name, t.shape) for t in s.things) for s in (first, second))
        return (src.pick(WHICH).format(x=f"{scenes.a(what)} {what}"),
                {(True, True): "Both.", (True, False): "The first.", (False, True): "The second.", (False, False): "None."}[seen])
    index = src.below(2)
    question, answer = scenes.ask(src, (first, second)[index])
    low = question[0].lower() + question[1:]
    return src.choice(NTH).replace("{n}", ("first", "second")[index]).replace("{l}", low).replace("{q}", question), answer


def _with_pictures(src, pictures, question):
    """Pictures before their question, now and then behind."""
    parts = [picture(s) for s in pictures]
    return user(*parts, question) if src.chance(0.75) else user(question, *parts)


def conversation(src, turns):
    """One for training: about `turns` questions on a picture, on two, or on none."""
    out = [{"role": "system", "content": src.choice(SYSTEMS)}] if src.chance(0.25) else []
    kind = src.weighted((("one", 76), ("two", 15), ("text", 9)))
    if kind == "text":
        for _ in range(turns):
            question, answer = text_turn(src)
            out += [user(question), assistant(answer)]
        return out
    first = scenes.scene(src)
    if kind == "one" or src.chance(0.3):  # the second picture comes later
        if src.chance(0.06):
            question, answer = text_turn(src)
            out += [user(question), assistant(answer)]
        opening = scenes.describe(src, first) if src.chance(0.35) else None
        question, answer = opening or scenes.ask(src, first)
        out += [_with_pictures(src, [first], question), assistant(answer)]
        for _ in range(turns - 1 if kind == "one" else src.between(0, 2)):
            question, answer = text_turn(src, 1) if src.chance(0.04) else scenes.ask(src, first)
            out += [user(question), assistant(answer)]
        if kind == "one":
            return out
        second = scenes.scene(src)
        question, answer = scenes.ask(src, second)
        out += [_with_pictures(src, [second], question), assistant(answer)]
    else:
        second = scenes.scene(src)
        question, answer = of_two(src, first, second)
        out += [_with_pictures(src, [first, second], question), assistant(answer)]
    for _ in range(turns):
        question, answer = of_two(src, first, second)
        out += [user(question), assistant(answer)]
    return out


# ---- held-out cases ----

def _picture_case(task):
    function, _, kind = scenes.TASKS[task]

    def case(src):
        while True:
            scene = scenes.scene(src, kind, exact=src.chance(0.5))
            found = function(src, scene)
            if found:
                return {"messages": [user(picture(scene), found[0])], "expect": found[1]}
    return case


def _two_case(src):
    first, second = scenes.scene(src), scenes.scene(src)
    question, answer = of_two(src, first, second)
    return {"messages": [user(picture(first), picture(second), question)], "expect": answer}


def _later_case(src):
    """A question after others about the same picture."""
    scene = scenes.scene(src)
    turns = [scenes.ask(src, scene) for _ in range(4)]
    messages = [user(picture(scene), turns[0][0]), assistant(turns[0][1])]
    for question, answer in turns[1:-1]:
        messages += [user(question), assistant(answer)]
    return {"messages": messages + [user(turns[-1][0])], "expect": turns[-1][1]}


def _text_case(function):
    def case(src):
        question, answer = function(src)
        return {"messages": [user(question)], "expect": answer}
    return case


CASES = {task: _picture_case(task) for task in scenes.TASKS} | {
    "two pictures": _two_case, "fourth question on a picture": _later_case, "small talk": _text_case(small_talk),
    "saying it does not know": _text_case(not_knowing), "saying it sees no picture": _text_case(no_picture)}


def cases(task, count, seed):
    """`count` held-out cases of `task`."""
    src = Source(f"tiny-vlm:{task}:{seed}", held=True)
    return [CASES[task](src) for _ in range(count)]


def right(task, case, text):
    """The same answer; a description may name its things in any order."""
    text = text.strip()
    if task != "describe":
        return text == case["expect"]

    def things(words):
        return sorted(words.strip(".").lower().replace(" and ", ", ").split(", "))
    return things(text) == things(case["expect"])
