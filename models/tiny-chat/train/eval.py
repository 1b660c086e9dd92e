"""Accuracy per task through a running server, greedy, on held-out data. Standard library only.

  python3 eval.py --url http://127.0.0.1:8000 [--cases 100] [--concurrency 8] [--task WORDS] [--json FILE]

Tasks without tools go to /v1/chat/completions. Cases with tools go to /v1/completions, with a prompt
rendered here, so that the raw calls are graded and no tool parser is needed.
"""

import sys

import accuracy
import mix
import render
from grade import right

ANSWER_TOKENS_MAX = 200
THINKING_TOKENS_MAX = 800


def ask(args, case):
    """The server's answer to a case, thinking included."""
    body = {"model": args.model, "temperature": 0, "max_tokens": THINKING_TOKENS_MAX if case["thinking"] else ANSWER_TOKENS_MAX}
    if case["tools"]:
        prompt = render.render(case["messages"], tools=case["tools"], enable_thinking=case["thinking"], add_generation_prompt=True)
        return accuracy.post(args.url + "/v1/completions", {**body, "prompt": prompt}, args.timeout)["text"].split("<|im_end|>")[0]
    if case["thinking"]:
        body["chat_template_kwargs"] = {"enable_thinking": True}
    message = accuracy.post(args.url + "/v1/chat/completions", {**body, "messages": case["messages"]}, args.timeout)["message"]
    text = message.get("content") or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought and "</think>" not in text:  # the server has taken the thinking out of the content
        text = f"<think>{thought}</think>{text}"
    return text


EXAM = accuracy.Exam(model="tiny-chat", case_count=100, tasks=list(mix.CASES), cases=mix.cases, ask=ask,
                     right=lambda task, case, text: right(case, text), question=lambda case: case["messages"][-1]["content"][-200:])

if __name__ == "__main__":
    sys.exit(accuracy.main(EXAM, __doc__))
