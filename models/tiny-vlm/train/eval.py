"""Accuracy per task through a running server, greedy, on held-out pictures. Standard library only.

  python3 eval.py --url http://127.0.0.1:8000 [--cases 25] [--concurrency 4] [--task WORDS] [--json FILE]

Pictures travel as PNG in data URLs, half of them in sizes that the server must resize.
"""

import base64
import sys

import conversations  # first: it finds the modules of tiny-chat's folder
import accuracy
import draw

ANSWER_TOKENS_MAX = 64


def data_url(scene):
    rgb = draw.draw(scene.width, scene.height, scene.back_colour, scene.items)
    return "data:image/png;base64," + base64.b64encode(draw.png(scene.width, scene.height, rgb)).decode()


def request_messages(messages):
    """The messages as a request has them, pictures drawn."""
    def part(p):
        return {"type": "image_url", "image_url": {"url": data_url(p["scene"])}} if p["type"] == "image" else p
    return [m if isinstance(m["content"], str) else {**m, "content": [part(p) for p in m["content"]]} for m in messages]


def ask(args, case):
    body = {"model": args.model, "temperature": 0, "max_tokens": ANSWER_TOKENS_MAX, "messages": request_messages(case["messages"])}
    return accuracy.post(args.url + "/v1/chat/completions", body, args.timeout)["message"].get("content") or ""


EXAM = accuracy.Exam(model=conversations.NAME, case_count=25, tasks=list(conversations.CASES), cases=conversations.cases, ask=ask,
                     right=conversations.right, question=lambda case: case["messages"][-1]["content"][-1]["text"])

if __name__ == "__main__":
    sys.exit(accuracy.main(EXAM, __doc__))
