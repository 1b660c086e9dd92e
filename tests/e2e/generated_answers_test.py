"""Generated tool conversations and generated schema requests at concurrency 32, each streamed and whole.

Every answer is valid, every stream says what the whole answer says, and the tools' share of right answers is that of
the model's own table (models/tiny-chat/README.md). 100 of each here; tests/e2e/long asks 500 of each.
"""
import json
import os
import random
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness
import tool_calls_test as calls
from schema_check import valid

sys.path.insert(0, str(harness.ROOT / "models/tiny-chat/train"))
import mix  # noqa: E402  the model's own held-out conversations

COUNT = int(os.environ.get("PIXII_GENERATED_ANSWERS", 100))  # of each kind
CONCURRENCY = 32
TOKENS_MAX = 2000
TOOL_TASKS = {"one tool": 0.96, "several tools": 0.94, "no tool fits": 0.96, "tools, thinking": 0.94}  # share right, at least


def leaf(draw):
    """A schema that any value of bounded size satisfies."""
    low = draw.randint(-20, 20)
    return draw.choice((
        lambda: {"type": "string", "maxLength": draw.randint(1, 12)},
        lambda: {"type": "string", "pattern": draw.choice(("^[a-z]{2,5}$", "^[A-Z][a-z]{1,6}-[0-9]{2}$", "^(yes|no)$"))},
        lambda: {"type": "integer", "minimum": low, "maximum": low + draw.randint(0, 500)},
        lambda: {"type": "number", "minimum": 0, "maximum": 9},
        lambda: {"type": "boolean"},
        lambda: {"enum": draw.sample(["red", "green", 7, None, True, "a \"quote\"", "é"], draw.randint(1, 4))},
        lambda: {"const": draw.choice(["fixed", 12, False])},
        lambda: {"type": ["string", "null"], "maxLength": 6}))()


def schema(draw, depth=0):
    pick = draw.random()
    if depth == 3 or (depth and pick < 0.6):
        return leaf(draw)
    if depth and pick < 0.75:
        return {"type": "array", "items": schema(draw, depth + 1), "minItems": draw.randint(0, 1), "maxItems": draw.randint(1, 3)}
    if depth and pick < 0.85:
        return {"anyOf": [leaf(draw), leaf(draw)]}
    names = draw.sample(["name", "age", "town", "colour", "tags", "member", "n", "größe", "a b"], draw.randint(1, 4))
    return {"type": "object", "properties": {name: schema(draw, depth + 1) for name in names},
            "required": draw.sample(names, draw.randint(0, len(names))), "additionalProperties": False}


def of_the_prompt(case):
    """The schema that a JSON case asks for in its text, closed so that its answer must have these keys; None: it has none."""
    text = case["messages"][-1]["content"]
    at = text.find('{"type": "object"')
    return json.JSONDecoder().raw_decode(text[at:])[0] if at >= 0 else None


ENDS = {"string": {"maxLength": 60}, "array": {"maxItems": 8}, "object": {"additionalProperties": False},
        "integer": {"minimum": -10**9, "maximum": 10**9}, "number": {"minimum": -10**9, "maximum": 10**9}}


def bounded(wanted):
    """The same schema with an end to every value: where the model wants a null that it may not write, it writes on."""
    if isinstance(wanted, list):
        return [bounded(item) for item in wanted]
    if not isinstance(wanted, dict):
        return wanted
    inner = {key: bounded(value) for key, value in wanted.items()}
    return {**inner, **ENDS.get(str(inner.get("type")), {})}


def schema_requests():
    draw = random.Random(7)
    bodies = []
    for case in mix.cases("JSON", COUNT // 2, 3):
        wanted = bounded(of_the_prompt(case))
        bodies.append((case["messages"], wanted, 0))
    while len(bodies) < COUNT:
        wanted = schema(draw)
        bodies.append(([{"role": "user", "content": f"Answer with JSON for this schema:\n{json.dumps(wanted)}\n\nNote {len(bodies)}."}],
                       wanted, draw.choice((0, 1))))
    for number, (messages, wanted, temperature) in enumerate(bodies):
        form = {"type": "json_object"} if wanted is None else {
            "type": "json_schema", "json_schema": {"name": "answer", "schema": wanted, "strict": True}}
        yield wanted, {"messages": messages, "response_format": form, "temperature": temperature, "seed": number,
                       "max_tokens": TOKENS_MAX, "chat_template_kwargs": {"enable_thinking": False}}


class GeneratedAnswers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def both(self, body):
        """The whole answer; the stream's must be the same. Which comes first is the prompt's doing."""
        def whole():
            status, answer = self.server.post(calls.CHAT, body, timeout=600)
            self.assertEqual(status, 200, answer)
            return calls.unary(answer)

        def streamed():
            return calls.joined(self.server.stream(calls.CHAT, body, timeout=600))

        if len(body["messages"][-1]["content"]) % 2:
            first, second = whole(), streamed()
        else:
            second, first = streamed(), whole()
        self.assertEqual(first, second, body["messages"])
        return first

    def ask_all(self, bodies):
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return list(pool.map(self.both, bodies))

    def test_tool_conversations_are_valid_and_as_right_as_the_models_table(self):
        cases = [(task, case) for task in TOOL_TASKS for case in mix.cases(task, COUNT // len(TOOL_TASKS), 2)]
        bodies = [{"messages": case["messages"], "tools": case["tools"], "temperature": 0, "max_tokens": TOKENS_MAX,
                   "chat_template_kwargs": {"enable_thinking": bool(case["thinking"])}} for _, case in cases]
        right = dict.fromkeys(TOOL_TASKS, 0)
        for (task, case), (content, reasoning, made, finish) in zip(cases, self.ask_all(bodies)):
            self.assertNotIn("<tool_call", content)
            self.assertNotIn("</think", content)
            self.assertEqual(bool(reasoning), bool(case["thinking"]))
            self.assertEqual(finish, "tool_calls" if made else "stop")
            tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in case["tools"]}
            for name, arguments in made:
                self.assertTrue(valid(json.loads(arguments), tools[name]), (name, arguments))
            right[task] += [(name, json.loads(text)) for name, text in made] == calls.wanted(case)
        for task, share in TOOL_TASKS.items():
            self.assertGreaterEqual(right[task], share * (COUNT // len(TOOL_TASKS)), right)

    def test_schema_requests_are_all_valid(self):
        wanted, bodies = zip(*schema_requests())
        cut = 0
        for form, (content, _, _, finish) in zip(wanted, self.ask_all(bodies)):
            if finish != "stop":
                cut += 1  # by its length: what is there is a beginning
                continue
            value = json.loads(content)
            self.assertTrue(isinstance(value, dict) if form is None else valid(value, form), (content, form))
        self.assertEqual(cut, 0)


if __name__ == "__main__":
    harness.main()
