"""Accuracy per task through a running server, greedy, on held-out data. Standard library only.

  python3 eval.py --url http://127.0.0.1:8000 [--cases 100] [--concurrency 8] [--task WORDS] [--json FILE]

Tasks without tools go to /v1/chat/completions. Cases with tools go to /v1/completions, with a prompt
rendered here, so that the raw calls are graded and no tool parser is needed.
"""

import argparse
import json
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import mix
import render
from grade import right

ANSWER_TOKENS_MAX = 200
THINKING_TOKENS_MAX = 800


def post(url, body, timeout_s):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:
        return json.load(reply)["choices"][0]


def ask(args, case):
    """The server's answer to a case, thinking included."""
    body = {"model": args.model, "temperature": 0, "max_tokens": THINKING_TOKENS_MAX if case["thinking"] else ANSWER_TOKENS_MAX}
    if case["tools"]:
        prompt = render.render(case["messages"], tools=case["tools"], enable_thinking=case["thinking"], add_generation_prompt=True)
        return post(args.url + "/v1/completions", {**body, "prompt": prompt}, args.timeout)["text"].split("<|im_end|>")[0]
    if case["thinking"]:
        body["chat_template_kwargs"] = {"enable_thinking": True}
    message = post(args.url + "/v1/chat/completions", {**body, "messages": case["messages"]}, args.timeout)["message"]
    text = message.get("content") or ""
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought and "</think>" not in text:  # the server has taken the thinking out of the content
        text = f"<think>{thought}</think>{text}"
    return text


def measure(args, task):
    """(right, failed, [(case, answer)] of the wrong ones) of one task."""
    cases = mix.cases(task, args.cases, args.seed)

    def one(case):
        try:
            return ask(args, case)
        except (OSError, ValueError, KeyError) as error:
            return error

    with ThreadPoolExecutor(args.concurrency) as pool:
        got = list(pool.map(one, cases))
    wrong = [(case, text) for case, text in zip(cases, got) if isinstance(text, Exception) or not right(case, text)]
    return len(cases) - len(wrong), sum(isinstance(text, Exception) for text in got), wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="tiny-chat")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", default="", help="only tasks whose name contains this")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per request")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print per task")
    parser.add_argument("--json", help="file for the result")
    args = parser.parse_args()
    table, failures = {}, 0
    print(f"{'task':34s} {'right':>9s} {'accuracy':>9s} {'seconds':>8s}")
    for task in mix.CASES:
        if args.task not in task:
            continue
        begun = time.time()
        good, failed, wrong = measure(args, task)
        failures += failed
        table[task] = 100 * good / args.cases
        print(f"{task:34s} {good:4d}/{args.cases:<4d} {table[task]:7.1f} % {time.time() - begun:8.1f}" + (f"   {failed} requests failed" if failed else ""), flush=True)
        for case, text in wrong[:args.show]:
            print(f"    asked    {case['messages'][-1]['content'][-200:]!r}\n    expected {case['expect']}\n    got      {text!r}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"cases": args.cases, "seed": args.seed, "accuracy": table, "failed_requests": failures}, file, indent=1)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
