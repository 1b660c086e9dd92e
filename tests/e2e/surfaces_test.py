"""The surfaces beside OpenAI's completions, over plain HTTP: Anthropic's messages, OpenAI's responses."""
import json
import unittest

import harness

QUESTION = "What is 17 + 25?"
CHAT = {"model": "tiny-chat", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}


def events(server, path, body, headers=None):
    """Each SSE event of a stream as (name, data)."""
    status, _, text = server.request("POST", path, {**body, "stream": True}, headers)
    if status != 200:
        raise AssertionError(f"status {status}: {text}")
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            yield fields.get("event", ""), json.loads(fields["data"])


class Schema:
    """The part of JSON Schema that OpenAI's published file uses."""

    def __init__(self):
        path = harness.DATA / "openapi" / "openapi.json"
        self.root = json.loads(path.read_text()) if path.exists() else None

    def errors(self, name, value):
        return self._check({"$ref": f"#/components/schemas/{name}"}, value, name)

    def _check(self, schema, value, at):
        if "$ref" in schema:
            return self._check(self.root["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], value, at)
        out = []
        for part in schema.get("allOf", []):
            out += self._check(part, value, at)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                tried = [self._check(part, value, at) for part in schema[word]]
                if all(tried):
                    out += min(tried, key=len)
        if "enum" in schema and value not in schema["enum"]:
            out.append(f"{at}: {value!r} is none of {schema['enum']}")
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
                 "integer": int, "number": (int, float)}
        kind = schema.get("type")
        if kind and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
            return out + [f"{at}: {value!r} is no {kind}"]
        if isinstance(value, dict):
            out += [f"{at}.{name} is missing" for name in schema.get("required", []) if name not in value]
            for name, part in schema.get("properties", {}).items():
                if name in value:
                    out += self._check(part, value[name], f"{at}.{name}")
        if isinstance(value, list) and "items" in schema:
            for i, item in enumerate(value):
                out += self._check(schema["items"], item, f"{at}[{i}]")
        return out


class Surfaces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server("tiny-chat", "--enable-anthropic-api")
        cls.schema = Schema()
        status, answer = cls.server.post("/v1/chat/completions", CHAT)
        assert status == 200, answer
        cls.text = answer["choices"][0]["message"]["content"]
        cls.prompt_tokens = answer["usage"]["prompt_tokens"]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.folder.cleanup()

    def check_schema(self, name, value):
        if self.schema.root is not None:
            self.assertEqual(self.schema.errors(name, value), [])

    def test_a_message_says_what_a_chat_says(self):
        body = {**CHAT, "max_tokens": 100}
        status, answer = self.server.post("/v1/messages", body)
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["content"], [{"type": "text", "text": self.text}])
        self.assertEqual(answer["stop_reason"], "end_turn")
        seen = list(events(self.server, "/v1/messages", body))
        self.assertEqual(seen[0][0], "message_start")
        self.assertEqual(seen[-1][0], "message_stop")
        streamed = "".join(data["delta"]["text"] for name, data in seen if name == "content_block_delta")
        self.assertEqual(streamed, self.text)
        status, count = self.server.post("/v1/messages/count_tokens", {k: CHAT[k] for k in ("model", "messages")})
        self.assertEqual((status, count), (200, {"input_tokens": self.prompt_tokens}))
        self.assertEqual(answer["usage"]["input_tokens"], self.prompt_tokens)

    def test_errors_of_messages_are_in_anthropics_form(self):
        status, answer = self.server.post("/v1/messages", {**CHAT, "max_tokens": 5, "foo": 1})
        self.assertEqual(status, 400)
        self.assertEqual(answer["type"], "error")
        self.assertEqual(answer["error"]["type"], "invalid_request_error")
        self.assertIn("foo", answer["error"]["message"])

    def test_messages_are_off_by_default_and_on_by_the_variable(self):
        body = {**CHAT, "max_tokens": 5}
        with harness.Server("tiny-chat") as server:
            self.assertEqual(server.post("/v1/messages", body)[0], 404)
        with harness.Server("tiny-chat", env={"DYN_ENABLE_ANTHROPIC_API": "1"}) as server:
            self.assertEqual(server.post("/v1/messages", body)[0], 200)

    def test_a_response_says_what_a_chat_says(self):
        body = {"model": "tiny-chat", "input": QUESTION, "temperature": 0}
        status, answer = self.server.post("/v1/responses", body)
        self.assertEqual(status, 200, answer)
        self.check_schema("Response", answer)
        self.assertEqual(answer["output"][0]["content"][0]["text"], self.text)
        self.assertEqual(answer["usage"]["input_tokens"], self.prompt_tokens)
        status, count = self.server.post("/v1/responses/input_tokens", {k: body[k] for k in ("model", "input")})
        self.assertEqual((status, count["input_tokens"]), (200, self.prompt_tokens))
        self.check_schema("TokenCountsResource", count)

    def test_events_of_a_response_are_openais(self):
        body = {"model": "tiny-chat", "input": QUESTION, "temperature": 0}
        names = {"response.created": "ResponseCreatedEvent", "response.in_progress": "ResponseInProgressEvent",
                 "response.output_item.added": "ResponseOutputItemAddedEvent",
                 "response.content_part.added": "ResponseContentPartAddedEvent",
                 "response.output_text.delta": "ResponseTextDeltaEvent",
                 "response.output_text.done": "ResponseTextDoneEvent",
                 "response.content_part.done": "ResponseContentPartDoneEvent",
                 "response.output_item.done": "ResponseOutputItemDoneEvent",
                 "response.completed": "ResponseCompletedEvent"}
        text = ""
        for number, (name, data) in enumerate(events(self.server, "/v1/responses", body)):
            self.assertEqual(data["sequence_number"], number)
            self.assertEqual(data["type"], name)
            self.check_schema(names[name], data)
            text += data["delta"] if name == "response.output_text.delta" else ""
        self.assertEqual(text, self.text)
        self.assertEqual(name, "response.completed")

    def test_a_conversation_goes_on_with_the_previous_response(self):
        first = self.server.post("/v1/responses", {"input": QUESTION, "temperature": 0})[1]
        second = self.server.post("/v1/responses", {"input": "And 1 + 1?", "temperature": 0,
                                                    "previous_response_id": first["id"]})[1]
        chat = self.server.post("/v1/chat/completions", {"temperature": 0, "messages": [
            *CHAT["messages"], {"role": "assistant", "content": self.text}, {"role": "user", "content": "And 1 + 1?"}]})[1]
        self.assertEqual(second["output"][0]["content"][0]["text"], chat["choices"][0]["message"]["content"])
        self.assertEqual(second["usage"]["input_tokens"], chat["usage"]["prompt_tokens"])
        status, _, stored = self.server.request("GET", f"/v1/responses/{second['id']}")
        self.assertEqual((status, stored), (200, second))
        self.assertEqual(self.server.request("DELETE", f"/v1/responses/{second['id']}")[0], 200)
        self.assertEqual(self.server.request("GET", f"/v1/responses/{second['id']}")[0], 404)

    def test_kserve_says_what_a_completion_says(self):
        text = self.server.post("/v1/completions", {"prompt": "One two", "max_tokens": 8, "temperature": 0})[1]["choices"][0]["text"]
        parameters = {"max_tokens": 8, "temperature": 0}
        status, answer = self.server.post("/v2/models/tiny-chat/infer", {"parameters": parameters, "inputs": [
            {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["One two"]}]})
        self.assertEqual(status, 200, answer)
        self.assertEqual([(t["name"], t["shape"]) for t in answer["outputs"]], [("text_output", [1]), ("finish_reason", [1])])
        self.assertEqual(answer["outputs"][0]["data"], [text])
        body = {"text_input": "One two", "parameters": parameters}
        self.assertEqual(self.server.post("/v2/models/tiny-chat/generate", body)[1]["text_output"], text)
        status, _, stream = self.server.request("POST", "/v2/models/tiny-chat/generate_stream", body)
        pieces = [json.loads(line[6:])["text_output"] for line in stream.splitlines() if line.startswith("data: ")]
        self.assertEqual((status, "".join(pieces)), (200, text))
        inputs = self.server.request("GET", "/v2/models/tiny-chat")[2]["inputs"]
        self.assertEqual([(t["name"], t["datatype"]) for t in inputs], [("text_input", "BYTES"), ("streaming", "BOOL")])

    def test_token_ids_give_token_ids(self):
        ids = self.server.post("/tokenize", {"prompt": "One two"})[1]["tokens"]
        whole = self.server.post("/v1/completions", {"prompt": ids, "max_tokens": 8, "temperature": 0, "return_token_ids": True})[1]
        status, answer = self.server.post("/inference/v1/generate", {
            "token_ids": ids, "sampling_params": {"max_tokens": 8, "temperature": 0}})
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["choices"][0]["token_ids"], whole["choices"][0]["token_ids"])

    def test_a_cleared_cache_is_empty(self):
        body = {"messages": [{"role": "user", "content": "Tell me about the sea. " * 10}], "max_tokens": 2}
        cached = lambda: self.server.post("/v1/chat/completions", body)[1]["usage"]["prompt_tokens_details"]["cached_tokens"]
        cached()
        self.assertGreater(cached(), 0)
        status, answer = self.server.post("/clear_kv_blocks", "")
        self.assertEqual((status, len(answer["cleared_workers"])), (200, 1))
        self.assertEqual(cached(), 0)

    def test_the_list_of_routes_is_true(self):
        paths = self.server.request("GET", "/openapi.json")[2]["paths"]
        self.assertIn("/v1/messages", paths)
        self.assertNotIn("/v1/embeddings", paths)
        for path, methods in paths.items():
            if "{" in path and "{model}" not in path:
                continue  # of objects that are not there
            if "/engine/" in path:
                continue  # would put the server to sleep
            for method in methods:
                status, _, answer = self.server.request(method.upper(), path.replace("{model}", "tiny-chat"),
                                                        "{}" if method == "post" else None)
                self.assertNotIn(status, (404, 405), (path, answer))


if __name__ == "__main__":
    harness.main()
