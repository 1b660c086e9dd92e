"""Answers that must follow a schema, a pattern, a choice or a grammar, from the real server."""
import concurrent.futures
import json
import re
import unittest

import harness

PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags"],
          "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
                         "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3}}}


def ask(text="Tell me about Anna.", **fields):
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 160, "temperature": 1.0, **fields}


def schema(value):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": value, "strict": True}}}


def is_person(text):
    value = json.loads(text)
    return (set(value) == {"name", "age", "tags"} and isinstance(value["name"], str) and len(value["name"]) <= 12
            and value["age"] == int(value["age"]) and 0 <= value["age"] <= 120 and 1 <= len(value["tags"]) <= 3
            and set(value["tags"]) <= {"red", "green"})


class StructuredOutput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat", "--speculation", "lookup")
        cls.plain = harness.Server("tiny-chat", "--max-batch", "1", "--prefix-cache=false")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.plain.stop()

    def content(self, body, server=None):
        status, answer = (server or self.server).post("/v1/chat/completions", body)
        self.assertEqual(status, 200, answer)
        return [(choice["message"]["content"], choice["finish_reason"]) for choice in answer["choices"]]

    def test_a_schema_holds_in_every_answer_that_ends_and_company_changes_nothing(self):
        bodies = [ask(f"Who is person {i}?", seed=i, n=1 + i % 2, **schema(PERSON)) for i in range(16)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            crowd = list(pool.map(self.content, bodies))
        ended = 0
        for body, answers in zip(bodies, crowd):
            for text, reason in answers:
                if reason == "stop":
                    ended += 1
                    self.assertTrue(is_person(text), text)
            self.assertEqual(answers, self.content(body, self.plain))
        self.assertGreater(ended, 8)

    def test_streams_say_the_same_as_whole_answers(self):
        body = ask(seed=5, **schema(PERSON))
        streamed = "".join(event["choices"][0]["delta"].get("content") or ""
                           for event in self.server.stream("/v1/chat/completions", body) if event["choices"])
        self.assertEqual(streamed, self.content(body)[0][0])

    def test_patterns_choices_grammars_and_any_object(self):
        for seed in range(4):
            text = self.content(ask(seed=seed, guided_regex="[a-c]{3}-[0-9]{2}"))[0][0]
            self.assertRegex(text, r"\A[a-c]{3}-[0-9]{2}\Z")
            text = self.content(ask(seed=seed, structured_outputs={"choice": ["left", "right", "straight on"]}))[0][0]
            self.assertIn(text, ("left", "right", "straight on"))
            text = self.content(ask(seed=seed, guided_grammar='root ::= "a" ("," root)? "b"\n'))[0]
            if text[1] == "stop":
                self.assertEqual(re.sub(r"[a,b]", "", text[0]), "")
                self.assertEqual(text[0].count("a"), text[0].count("b"))
            text, reason = self.content(ask(seed=seed, response_format={"type": "json_object"}, max_tokens=300))[0]
            if reason == "stop":
                self.assertIsInstance(json.loads(text), dict)

    def test_completions_take_the_same_fields(self):
        status, answer = self.server.post("/v1/completions", {"prompt": "One of two:", "guided_choice": ["yes", "no"],
                                                              "max_tokens": 20})
        self.assertEqual(status, 200, answer)
        self.assertIn(answer["choices"][0]["text"], ("yes", "no"))

    def test_what_cannot_be_enforced_is_refused_by_name(self):
        for fields, param in (
                (schema({"type": "nothing"}), "response_format"), (schema({"type": "string", "pattern": "(("}), "response_format"),
                ({"guided_regex": "(("}, "guided_regex"), ({"guided_choice": []}, "guided_choice"),
                ({"guided_grammar": "root ::= other"}, "guided_grammar"),
                ({"guided_json": {"allOf": 5}}, "guided_json"),
                ({**schema(PERSON), "guided_choice": ["a"]}, "guided_choice"),
                ({**schema(PERSON), "use_beam_search": True, "temperature": None}, "response_format"),
                ({"response_format": {"type": "xml"}}, "response_format.type"),
                ({"response_format": {"type": "json_schema"}}, "response_format.json_schema")):
            status, answer = self.server.post("/v1/chat/completions", ask(**fields))
            self.assertEqual(status, 400, (fields, answer))
            self.assertEqual(answer["error"]["param"], param, answer)


if __name__ == "__main__":
    harness.main()
