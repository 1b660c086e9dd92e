"""Tool calls and reasoning of the bundled model through the real server: streams equal unary answers, and are right."""
import json
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

import harness
from schema_check import valid

CHAT = "/v1/chat/completions"
sys.path.insert(0, str(harness.ROOT / "models/tiny-chat/train"))
import mix  # noqa: E402  the model's own held-out conversations


def joined(chunks):
    """(message, finish_reason) of a stream's only choice, as a unary answer has them."""
    message, calls, finish = {"content": "", "reasoning_content": ""}, [], None
    for chunk in chunks:
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for field in message:
                message[field] += delta.get(field) or ""
            for call in delta.get("tool_calls", []):
                function = call["function"]
                if call["index"] == len(calls):
                    calls.append((function["name"], function["arguments"]))
                else:  # a piece of the arguments of the last call
                    assert call["index"] == len(calls) - 1 and "name" not in function, call
                    calls[-1] = (calls[-1][0], calls[-1][1] + function["arguments"])
            finish = choice["finish_reason"] or finish
    return message["content"], message["reasoning_content"], calls, finish


def unary(answer):
    choice = answer["choices"][0]
    message = choice["message"]
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls", [])]
    return message["content"] or "", message.get("reasoning_content", ""), calls, choice["finish_reason"]


def wanted(case):
    """The calls of a case's right answer."""
    return [(call["name"], call["arguments"]) for call in case["expect"].get("calls", [])]


class ToolCalls(unittest.TestCase):
    def body(self, case):
        return {"messages": case["messages"], "tools": case["tools"], "temperature": 0, "max_tokens": 600,
                "chat_template_kwargs": {"enable_thinking": bool(case["thinking"])}}

    def test_conversations_with_tools_are_parsed_alike_streamed_and_unary(self):
        cases = [case for task in ("one tool", "several tools", "no tool fits", "tools, thinking")
                 for case in mix.cases(task, 8, 1)]
        with harness.Server() as server:
            def both(case):
                status, answer = server.post(CHAT, self.body(case))
                self.assertEqual(status, 200, answer)
                return unary(answer), joined(server.stream(CHAT, self.body(case)))
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(both, cases))
        right = 0
        for case, (whole, streamed) in zip(cases, answers):
            self.assertEqual(whole, streamed)
            content, reasoning, calls, finish = whole
            self.assertNotIn("<tool_call>", content)
            self.assertNotIn("</think>", content)
            self.assertEqual(finish, "tool_calls" if calls else "stop")
            self.assertEqual(bool(reasoning), bool(case["thinking"]))
            right += [(name, json.loads(text)) for name, text in calls] == wanted(case)
        self.assertGreaterEqual(right, len(cases) * 9 // 10, "the model's own table says 96 to 100 %")

    def test_one_call_where_calls_may_not_be_parallel(self):
        case = next(case for case in mix.cases("several tools", 20, 1) if len(wanted(case)) > 1)
        with harness.Server() as server:
            status, answer = server.post(CHAT, {**self.body(case), "parallel_tool_calls": False})
            self.assertEqual(status, 200, answer)
            self.assertEqual(len(unary(answer)[2]), 1)
            self.assertEqual(unary(answer)[3], "tool_calls")

    def test_calls_that_must_come_do_and_are_valid(self):
        cases = mix.cases("no tool fits", 6, 1) + mix.cases("tools, thinking", 6, 1)
        with harness.Server("tiny-chat", "--speculation", "lookup") as server:
            def ask(case):
                named = case["tools"][-1]["function"]["name"]
                out = []
                for choice in ("required", {"type": "function", "function": {"name": named}}):
                    body = {**self.body(case), "tool_choice": choice, "parallel_tool_calls": False}
                    status, answer = server.post(CHAT, body)
                    self.assertEqual(status, 200, answer)
                    self.assertEqual(unary(answer), joined(server.stream(CHAT, body)))
                    out.append(unary(answer))
                return out
            with ThreadPoolExecutor(6) as pool:
                answers = list(pool.map(ask, cases))
        for case, both in zip(cases, answers):
            tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in case["tools"]}
            for content, reasoning, calls, finish in both:
                self.assertEqual((content, finish, len(calls)), ("", "tool_calls", 1))
                self.assertTrue(valid(json.loads(calls[0][1]), tools[calls[0][0]]), calls)
                self.assertEqual(bool(reasoning), bool(case["thinking"]))
            self.assertEqual(both[1][2][0][0], case["tools"][-1]["function"]["name"])

    def test_other_surfaces_demand_calls_in_their_own_words(self):
        case = mix.cases("no tool fits", 1, 1)[0]
        tool = case["tools"][0]["function"]
        question = case["messages"][-1]["content"]
        with harness.Server("tiny-chat", "--enable-anthropic-api") as server:
            for choice in ({"type": "any"}, {"type": "tool", "name": tool["name"]}):
                status, answer = server.post("/v1/messages", {
                    "model": "tiny-chat", "max_tokens": 300, "messages": [{"role": "user", "content": question}],
                    "tools": [{"name": tool["name"], "input_schema": tool["parameters"]}], "tool_choice": choice})
                self.assertEqual((status, answer["stop_reason"]), (200, "tool_use"), answer)
                self.assertTrue(valid(answer["content"][-1]["input"], tool["parameters"]))
            for choice in ("required", {"type": "function", "name": tool["name"]}):
                status, answer = server.post("/v1/responses", {
                    "input": question, "tools": [{"type": "function", **tool}], "tool_choice": choice, "max_output_tokens": 300})
                self.assertEqual((status, answer["output"][-1]["type"]), (200, "function_call"), answer)
                self.assertTrue(valid(json.loads(answer["output"][-1]["arguments"]), tool["parameters"]))
            for fields, param in (({"tool_choice": {"type": "function", "function": {"name": "nothing"}}}, "tool_choice"),
                                  ({"tools": [], "tool_choice": "required"}, "tool_choice")):
                status, answer = server.post(CHAT, {**self.body(case), **fields})
                self.assertEqual((status, answer["error"]["param"]), (400, param), answer)
            strict = {"type": "function", "function": {"name": "f", "strict": True, "parameters": {
                "type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=x)y"}}}}}
            status, answer = server.post(CHAT, {**self.body(case), "tools": [strict]})
            self.assertEqual((status, answer["error"]["param"]), (400, "tools[0].function.parameters"), answer)
            self.assertIn("pattern", answer["error"]["message"])

    def test_arguments_of_enforced_calls_come_while_they_are_written(self):
        case = mix.cases("one tool", 1, 1)[0]
        tool = case["tools"][0]["function"]
        question = case["messages"][-1]["content"]
        wire = {"name": tool["name"], "input_schema": tool["parameters"]}
        flat = {"type": "function", "name": tool["name"], "parameters": tool["parameters"]}
        with harness.Server("tiny-chat", "--enable-anthropic-api") as server:
            body = {**self.body(case), "tool_choice": "required"}
            deltas = [call["function"]["arguments"] for chunk in server.stream(CHAT, body) for choice in chunk["choices"]
                      for call in choice["delta"].get("tool_calls", [])]
            surfaces = [deltas]
            for path, more, kind, field in (
                    ("/v1/messages", {"model": "tiny-chat", "max_tokens": 300, "tools": [wire], "tool_choice": {"type": "any"},
                                      "messages": [{"role": "user", "content": question}]}, "content_block_delta", "partial_json"),
                    ("/v1/responses", {"max_output_tokens": 300, "tools": [flat], "tool_choice": "required", "input": question},
                     "response.function_call_arguments.delta", "delta")):
                _, _, text = server.request("POST", path, {**more, "stream": True})
                events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
                picked = [event["delta"] if kind == "content_block_delta" else event for event in events if event["type"] == kind]
                surfaces.append([item[field] for item in picked])
        for deltas in surfaces:
            self.assertGreater(len(deltas), 2, deltas)  # what a grammar forces comes at once
            self.assertTrue(valid(json.loads("".join(deltas)), tool["parameters"]), deltas)

    def test_an_answer_to_a_call_can_follow(self):
        case = mix.cases("one tool", 1, 1)[0]
        with harness.Server() as server:
            _, answer = server.post(CHAT, self.body(case))
            message = answer["choices"][0]["message"]
            call = message["tool_calls"][0]
            turn = {"role": "tool", "tool_call_id": call["id"], "content": "5"}
            status, answer = server.post(CHAT, {**self.body(case), "messages": [*case["messages"], message, turn]})
            self.assertEqual(status, 200, answer)
            self.assertNotEqual(unary(answer)[0], "")

    def test_parsers_can_be_turned_off_and_unknown_ones_are_refused(self):
        case = mix.cases("one tool", 1, 1)[0]
        with harness.Server("tiny-chat", "--tool-call-parser", "none") as server:
            _, answer = server.post(CHAT, self.body(case))
            self.assertIn("<tool_call>", answer["choices"][0]["message"]["content"])
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        with harness.Server("tiny-chat", env={"DYN_REASONING_FIELD_NAME": "reasoning"}) as server:
            _, answer = server.post(CHAT, {**self.body(case), "chat_template_kwargs": {"enable_thinking": True}})
            self.assertIn("reasoning", answer["choices"][0]["message"])
        for flag, near in (("--tool-call-parser", "hermes"), ("--dyn-tool-call-parser", "hermes")):
            done = subprocess.run([harness.BINARY, "serve", "tiny-chat", flag, "hermse"], capture_output=True, text=True,
                                  timeout=60)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(near, done.stderr)


if __name__ == "__main__":
    harness.main()
