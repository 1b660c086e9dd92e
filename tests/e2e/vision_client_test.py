"""Pictures through the official `openai` and `@anthropic-ai/sdk` npm clients, unmodified, and through `pixii replay`."""
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import harness

sys.path.append(str(harness.ROOT / "models/tiny-vlm/train"))

import draw  # noqa: E402
from shapes import BACKGROUNDS, COLOURS, shape_item  # noqa: E402

QUESTION, NEXT = "What is in the picture?", "What colour is it?"


def picture(colour, shape, side=168):
    """A PNG of one shape, base64."""
    item = shape_item(shape, side / 2, side / 2, side / 4, 0.0, COLOURS[colour])
    return base64.b64encode(draw.png(side, side, draw.draw(side, side, BACKGROUNDS["white"], [item]))).decode()


def data_url(data):
    return "data:image/png;base64," + data


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.clients = {name: harness.install_npm_client(name) for name in ("openai", "anthropic")}

    def tell(self, server, client, **case):
        """What vision.mjs of the client prints."""
        done = subprocess.run(["node", "vision.mjs", f"http://127.0.0.1:{server.port}"], cwd=self.clients[client],
                              input=json.dumps(case), capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return json.loads(done.stdout)


class VisionClient(Clients):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.records = tempfile.TemporaryDirectory()
        cls.server = harness.Server("tiny-vlm", "--enable-anthropic-api", "--record", cls.records.name)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.folder.cleanup()
        cls.records.cleanup()

    def test_chat_and_responses_see_what_was_drawn(self):
        for colour, shape, said in (("red", "circle", "A red circle."), ("orange", "star", "An orange star.")):
            answers = self.tell(self.server, "openai", model="tiny-vlm", url=data_url(picture(colour, shape)),
                                question=QUESTION, next=NEXT)
            self.assertEqual({k: v.get("text") for k, v in answers.items()},
                             {"chat": said, "responses": said, "streamed": said, "continued": f"{colour.capitalize()}."}, answers)

    def test_messages_and_tool_results_see_what_was_drawn(self):
        for colour, shape, said in (("blue", "square", "A blue square."), ("green", "triangle", "A green triangle.")):
            answers = self.tell(self.server, "anthropic", model="tiny-vlm", media_type="image/png", data=picture(colour, shape),
                                question=QUESTION)
            self.assertEqual(answers["message"].get("text"), said, answers)
            self.assertIn(shape, answers["tool_result"].get("text", ""), answers)

    def test_what_is_no_picture_is_named(self):
        broken = base64.b64encode(b"no picture").decode()
        answers = self.tell(self.server, "openai", model="tiny-vlm", url=data_url(broken), question=QUESTION, next=NEXT)
        self.assertEqual({k: (v["status"], v["param"]) for k, v in answers.items()},
                         {"chat": (400, "messages[0].content[0].image_url.url"), "responses": (400, "input[0].content[0].image_url"),
                          "streamed": (400, "input[0].content[0].image_url")}, answers)
        answers = self.tell(self.server, "anthropic", model="tiny-vlm", media_type="image/png", data=broken, question=QUESTION)
        self.assertEqual(answers["message"]["status"], 400)
        self.assertIn("messages[0].content[0].source.data", answers["message"]["message"])
        self.assertIn("messages[2].content[0].content[0].source.data", answers["tool_result"]["message"])

    def test_a_recorded_picture_is_replayed(self):
        content = [{"type": "input_image", "image_url": data_url(picture("purple", "diamond"))},
                   {"type": "input_text", "text": QUESTION}]
        before = set(pathlib.Path(self.records.name).iterdir())
        status, answer = self.server.post("/v1/responses", {"input": [{"role": "user", "content": content}]})
        self.assertEqual(status, 200, answer)
        self.server.wait_for(lambda: set(pathlib.Path(self.records.name).glob("*.json")) - before, 20, "the record")
        (record,) = set(pathlib.Path(self.records.name).glob("*.json")) - before
        done = harness.run_pixii("replay", str(record), timeout=600)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("records: 1 same, 0 different, 0 failed", done.stdout)

        body = json.loads(record.read_text())
        other = body["body"].replace(picture("purple", "diamond"), picture("red", "circle"))
        self.assertNotEqual(other, body["body"])
        changed = pathlib.Path(self.records.name) / "changed"
        changed.write_text(json.dumps({**body, "body": other}))
        done = harness.run_pixii("replay", str(changed), timeout=600)
        self.assertIn("records: 0 same, 1 different, 0 failed", done.stdout, done.stderr)


class TextClient(Clients):
    def test_a_model_of_text_names_the_picture(self):
        with harness.Server("tiny-chat", "--enable-anthropic-api") as server:
            answers = self.tell(server, "openai", model="tiny-chat", url=data_url(picture("red", "circle")), question=QUESTION, next=NEXT)
            self.assertEqual({k: v["param"] for k, v in answers.items()},
                             {"chat": "messages[0].content[0].image_url.url", "responses": "input[0].content[0].image_url",
                              "streamed": "input[0].content[0].image_url"}, answers)
            self.assertIn("reads text alone", answers["chat"]["message"])
            answers = self.tell(server, "anthropic", model="tiny-chat", media_type="image/png", data=picture("red", "circle"), question=QUESTION)
            self.assertIn("messages[0].content[0].source.data", answers["message"]["message"])
            self.assertIn("messages[2].content[0].content[0].source.data", answers["tool_result"]["message"])


if __name__ == "__main__":
    harness.main()
