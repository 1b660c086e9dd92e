"""Whole conversations from the tasks: the training mix, and single held-out cases for measuring."""

from dataclasses import dataclass, field

import dates
import facts
import json_task
import lists
import memory
import sums
import talk
import tools
from source import Source, Wordings

QUESTIONS_MAX = 24       # per document
LONG_TOKENS = 2000       # from here on a document gets more questions:
LONG_QUESTIONS = (16, 40)

SYSTEMS = Wordings(
    "You are a helpful assistant.", "You are tiny-chat, a helpful assistant.", "You are a friendly assistant.", "Answer in short sentences.",
    "You are a helpful assistant. Answer briefly.", "Be brief and exact.", "You are an assistant who answers questions.", "Help the user.",
    "You are a helpful AI assistant.", "Be helpful.", "You are a careful assistant. Answer exactly.", "You answer the questions of the user.",
    "You are a kind and helpful assistant.", "You are an exact assistant. Be brief.", "You are a helpful assistant who answers exactly.", "Help the user and be friendly.")
# Words that may lose their capital at the start of a question; names may not.
LOWER = frozenset("""What Which Who Where When How Is Are Do Can Tell Give Add Sort Reverse Count Calculate Write Put
    Subtract Multiply Divide My I The Please Remember Show Get""".split())


@dataclass
class Conversation:
    """Messages as a request has them; only the answers in `learn` count fully in training."""
    messages: list = field(default_factory=list)
    tools: list = None
    thinking: bool = False
    learn: set = field(default_factory=set)
    size: int = 0  # characters so far

    def say(self, role, content, **more):
        self.messages.append({"role": role, "content": content, **more})
        self.size += len(content or "") + 30
        if role == "assistant":
            self.learn.add(len(self.messages) - 1)

    def turn(self, question, answer):
        self.say("user", question)
        self.say("assistant", answer)


def casual(src, text):
    """A question as people type it: now and then without capital, full stop or question mark."""
    if src.random() < 0.12 and text.split(" ", 1)[0] in LOWER:
        text = text[0].lower() + text[1:]
    if src.random() < 0.10 and text[-1] in ".?!" and len(text) > 2:
        text = text[:-1]
    return text


SHORT = ((sums.short_sum, 5), (lists.counting, 1.6), (lists.sorting, 3), (lists.reverse, 1.4), (dates.dates, 2.4),
         (sums.multiply_long, 1.2), (json_task.json_answer, 1.4), (lists.repeat, 0.5), (facts.duel, 0.4))


def short_task(src, thinking=False):
    return src.weighted(SHORT)(src, thinking)


def begin(src, chance=0.4):
    conversation = Conversation()
    if src.chance(chance):
        conversation.say("system", src.pick(SYSTEMS))
    return conversation


def place_document(src, document, question, answer):
    """A conversation that begins with a document and its first question."""
    where = src.weighted((("user", 6), ("system", 2.5), ("alone", 1.5)))
    conversation = begin(src, 0 if where == "system" else 0.3)
    if where == "system":
        conversation.say("system", src.pick(facts.SYSTEM).format(doc=document.text))
        conversation.turn(question, answer)
    elif where == "alone":
        conversation.turn(src.pick(facts.ALONE).format(doc=document.text), facts.READ)
        conversation.turn(question, answer)
    else:
        conversation.turn(src.pick(facts.PLACE).format(doc=document.text, q=question), answer)
    return conversation


def document_talk(src, tokens):
    """A document and up to QUESTIONS_MAX questions, with other turns strewn in."""
    count = 2 + src.below(min(QUESTIONS_MAX, 3 + tokens // 40) - 1)
    if tokens > LONG_TOKENS:
        count = src.between(*LONG_QUESTIONS)
    document = facts.Document(src, max(40, min(6300, tokens - count * 36 - 60)))
    question, answer, _ = document.question()
    conversation = place_document(src, document, casual(src, question), answer)
    asides = src.chance(0.3)
    for _ in range(count - 1):
        question, answer, _ = short_task(src) if asides and src.chance(0.2) else document.question()
        conversation.turn(casual(src, question), answer)
    return conversation


def chat(src, tokens):
    """Small talk, tasks and things to remember, in turns; sometimes a short document among them."""
    conversation = begin(src)
    told = memory.Memory(src)
    document = None
    weights = (("task", src.choice((1, 3, 5))), ("memory", src.choice((0, 1, 4))), ("talk", 1), ("unknown", 0.7), ("document", 0.15))
    limit = tokens * 3.1
    while conversation.size < limit:
        kind = src.weighted(weights)
        if kind == "task":
            question, answer, _ = short_task(src)
        elif kind == "memory":
            question, answer, _ = told.tell() if src.chance(0.4) else told.ask()
        elif kind == "talk":
            question, answer, _ = talk.small_talk(src)
        elif kind == "unknown":
            if document:
                continue
            question, answer, _ = talk.unknown(src)
        elif document is None:
            document = facts.Document(src, src.between(40, 200))
            question, answer, _ = document.question()
            question = src.pick(facts.PLACE).format(doc=document.text, q=question)
        else:
            question, answer, _ = document.question()
        conversation.turn(casual(src, question), answer)
        if document and src.chance(0.5):
            question, answer, _ = document.question()
            conversation.turn(casual(src, question), answer)
    return conversation


def as_calls(uses, number=0):
    return [{"id": f"call_{number + i}", "type": "function", "function": use.call} for i, use in enumerate(uses)]


def tool_turn(src, conversation, chosen, think=False):
    """One request, its calls, their replies and the answer."""
    text, uses = tools.uses(src, chosen)
    more = {"reasoning_content": tool_thinking(uses)} if think else {}
    conversation.say("user", casual(src, text))
    conversation.say("assistant", "", tool_calls=as_calls(uses), **more)
    conversation.size += sum(len(str(use.call)) for use in uses)
    for use in uses:
        conversation.say("tool", use.reply)
    more = {"reasoning_content": "The tools have answered."} if think else {}
    conversation.say("assistant", " ".join(use.answer for use in uses), **more)


def tool_thinking(uses):
    names = ", ".join(use.tool.name for use in uses)
    return f"This needs {'one call' if len(uses) == 1 else f'{len(uses)} calls'}: {names}."


def tool_talk(src, tokens):
    """Tools, and requests that need them or do not."""
    chosen = tools.tool_set(src)
    conversation = begin(src)
    conversation.tools = tools.schema(src, chosen)
    conversation.size += len(str(conversation.tools))
    limit = tokens * 3.1
    while True:
        kind = src.weighted((("use", 6), ("missing", 1), ("talk", 0.5), ("sum", 0.7), ("unknown", 0.4)))
        if kind == "use":
            tool_turn(src, conversation, chosen)
        elif kind == "missing":
            conversation.turn(casual(src, tools.missing(src, chosen)), tools.NO_TOOL)
        elif kind == "unknown":
            conversation.turn(casual(src, talk.unknown(src)[0]), tools.NO_TOOL)
        else:
            question, answer, _ = talk.small_talk(src) if kind == "talk" else sums.short_sum(src, False)
            conversation.turn(casual(src, question), answer)
        if conversation.size > limit or src.chance(0.12):
            return conversation


def thought_turn(src, kind):
    """(question, answer, thinking) of a task with thinking on."""
    if kind == "long":
        return src.weighted(((sums.multiply_long, 5), (sums.add_long, 3)))(src, True)
    if kind == "task":
        return short_task(src, True)
    return talk.small_talk(src) if kind == "talk" else talk.unknown(src)


def thinking_talk(src, tokens):
    """A last turn with thinking, after some turns whose thinking is stripped."""
    kind = src.weighted((("long", 7), ("task", 4), ("document", 2), ("tools", 2), ("talk", 0.5), ("unknown", 0.4), ("memory", 1)))
    conversation = begin(src)
    if kind == "document":
        document = facts.Document(src, src.between(40, max(60, tokens - 200)))
        question, answer, think = document.question()
        conversation = place_document(src, document, casual(src, question), answer)
        conversation.messages[-1]["reasoning_content"] = think or answer
        for _ in range(src.below(3)):
            question, answer, think = document.question()
            conversation.turn(casual(src, question), answer)
            conversation.messages[-1]["reasoning_content"] = think or answer
    elif kind == "tools":
        chosen = tools.tool_set(src)
        conversation.tools = tools.schema(src, chosen)
        if src.chance(0.2):
            conversation.turn(casual(src, tools.missing(src, chosen)), tools.NO_TOOL)
            conversation.messages[-1]["reasoning_content"] = "None of the tools fits."
        else:
            tool_turn(src, conversation, chosen, think=True)
    else:
        told = memory.Memory(src)
        for _ in range(src.choice((0, 0, 0, 1, 2, 4))):
            question, answer, _ = told.tell() if src.chance(0.5) else short_task(src)
            conversation.turn(question, answer)
        question, answer, think = told.ask() if kind == "memory" else thought_turn(src, kind)
        conversation.turn(casual(src, question), answer)
        conversation.messages[-1]["reasoning_content"] = think or "This is easy."
    conversation.thinking = True
    last_user = max(i for i, m in enumerate(conversation.messages) if m["role"] == "user")
    conversation.learn = {i for i in conversation.learn if i > last_user}
    return conversation


KINDS = ((document_talk, 40), (chat, 31), (tool_talk, 15), (thinking_talk, 14))


def conversation(src, tokens, kinds=KINDS):
    """One conversation for training, of about `tokens` tokens at most."""
    make = src.weighted(kinds)
    if src.chance(0.7):  # all lengths occur, the short ones as often as the long ones
        tokens = int(150 * (tokens / 150) ** src.random())
    return make(src, tokens)


# Held-out cases. Each is a dict: messages, tools, thinking, and `expect`, the last answer
# ({"text": ...} or {"calls": [...]}), which the messages do not contain.

def _close(conversation, expect):
    return {"messages": conversation.messages, "tools": conversation.tools, "thinking": conversation.thinking, "expect": expect}


def _after_chat(src, turn, thinking=False):
    """A case that ends with `turn`, half of the time after a few other turns."""
    conversation = begin(src)
    for _ in range(src.choice((0, 0, 0, 1, 2, 3))):
        question, answer, _ = talk.small_talk(src) if src.chance(0.3) else short_task(src)
        conversation.turn(question, answer)
    question, answer, _ = turn
    conversation.say("user", casual(src, question))
    conversation.thinking = thinking
    return _close(conversation, {"text": answer})


def _document_case(src, tokens, kind, thinking=False):
    found = None
    while not found:
        document = facts.Document(src, tokens)
        found = document.question(kind)
    question, answer, _ = found
    conversation = place_document(src, document, casual(src, question), answer)
    conversation.messages.pop()
    conversation.thinking = thinking
    return _close(conversation, {"text": answer})


def _memory_case(src, least, most):
    conversation = begin(src)
    told = memory.Memory(src)
    for _ in range(src.between(least, most)):
        question, answer, _ = told.tell()
        conversation.turn(question, answer)
        for _ in range(src.below(4)):
            question, answer, _ = talk.small_talk(src) if src.chance(0.3) else short_task(src)
            conversation.turn(question, answer)
    question, answer, _ = told.ask()
    conversation.say("user", casual(src, question))
    return _close(conversation, {"text": answer})


def _tool_case(src, what, thinking=False):
    chosen = tools.tool_set(src)
    conversation = begin(src)
    conversation.tools = tools.schema(src, chosen)
    conversation.thinking = thinking
    if what == "none":
        conversation.say("user", casual(src, tools.missing(src, chosen)))
        return _close(conversation, {"text": tools.NO_TOOL})
    while True:
        text, uses = tools.uses(src, chosen)
        if what == "answer" or (len(uses) > 1) == (what == "several"):
            break
    conversation.say("user", casual(src, text))
    if what != "answer":
        return _close(conversation, {"calls": [use.call for use in uses]})
    conversation.say("assistant", "", tool_calls=as_calls(uses))
    for use in uses:
        conversation.say("tool", use.reply)
    return _close(conversation, {"text": " ".join(use.answer for use in uses)})


CASES = {
    "facts, 150 tokens": lambda src: _document_case(src, 150, "find"),
    "facts, 1,000 tokens": lambda src: _document_case(src, 1000, "find"),
    "facts, 2,800 tokens": lambda src: _document_case(src, 2800, "find"),
    "facts, 6,000 tokens": lambda src: _document_case(src, 6000, "find"),
    "combining facts, 150 tokens": lambda src: _document_case(src, 150, "combine"),
    "combining facts, 1,000 tokens": lambda src: _document_case(src, 1000, "combine"),
    "combining facts, 6,000 tokens": lambda src: _document_case(src, 6000, "combine"),
    "memory, 2 to 30 turns": lambda src: _memory_case(src, 2, 8),
    "memory, 20 to 100 turns": lambda src: _memory_case(src, 20, 25),
    "small talk": lambda src: _after_chat(src, talk.small_talk(src)),
    "saying it does not know": lambda src: _after_chat(src, talk.unknown(src)),
    "counting": lambda src: _after_chat(src, lists.counting(src, False)),
    "sorting": lambda src: _after_chat(src, lists.sorting(src, False)),
    "reversing": lambda src: _after_chat(src, lists.reverse(src, False)),
    "arithmetic": lambda src: _after_chat(src, sums.short_sum(src, False)),
    "dates": lambda src: _after_chat(src, dates.dates(src, False)),
    "JSON": lambda src: _after_chat(src, json_task.json_answer(src, False)),
    "one tool": lambda src: _tool_case(src, "one"),
    "several tools": lambda src: _tool_case(src, "several"),
    "answer from tools": lambda src: _tool_case(src, "answer"),
    "no tool fits": lambda src: _tool_case(src, "none"),
    "long products, thinking": lambda src: _after_chat(src, sums.multiply_long(src, True), True),
    "long sums, thinking": lambda src: _after_chat(src, sums.add_long(src, True), True),
    "other tasks, thinking": lambda src: _after_chat(src, short_task(src, True), True),
    "tools, thinking": lambda src: _tool_case(src, src.choice(("one", "several")), True),
    "facts, thinking": lambda src: _document_case(src, 600, src.choice(("find", "combine")), True),
}


def cases(task, count, seed, log=None):
    """`count` held-out cases of `task`."""
    src = Source(f"{task}:{seed}", held=True, log=log)
    return [CASES[task](src) for _ in range(count)]
