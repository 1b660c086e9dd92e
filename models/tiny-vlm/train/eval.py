"""Accuracy per task through a running server, greedy, on held-out pictures. Standard library only.

  python3 eval.py --url http://127.0.0.1:8000 [--cases 25] [--concurrency 4] [--task WORDS] [--json FILE]

Pictures travel as PNG in data URLs, half of them in sizes that the server must resize.
"""

import argparse
import base64
import json
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import conversations
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
    request = urllib.request.Request(args.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=args.timeout) as reply:
        return json.load(reply)["choices"][0]["message"].get("content") or ""


def measure(args, task):
    """(right, failed, [(case, answer)] of the wrong ones) of one task."""
    cases = conversations.cases(task, args.cases, args.seed)

    def one(case):
        try:
            return ask(args, case)
        except (OSError, ValueError, KeyError) as error:
            return error

    with ThreadPoolExecutor(args.concurrency) as pool:
        got = list(pool.map(one, cases))
    wrong = [(case, text) for case, text in zip(cases, got) if isinstance(text, Exception) or not conversations.right(task, case, text)]
    return len(cases) - len(wrong), sum(isinstance(text, Exception) for text in got), wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default=conversations.NAME)
    parser.add_argument("--cases", type=int, default=25)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", default="", help="only tasks whose name contains this")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per request")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print per task")
    parser.add_argument("--json", help="file for the result")
    args = parser.parse_args()
    table, failures = {}, 0
    print(f"{'task':32s} {'right':>9s} {'accuracy':>9s} {'seconds':>8s}")
    for task in conversations.CASES:
        if args.task not in task:
            continue
        begun = time.time()
        good, failed, wrong = measure(args, task)
        failures += failed
        table[task] = 100 * good / args.cases
        print(f"{task:32s} {good:4d}/{args.cases:<4d} {table[task]:7.1f} % {time.time() - begun:8.1f}" + (f"   {failed} requests failed" if failed else ""), flush=True)
        for case, text in wrong[:args.show]:
            print(f"    asked {case['messages'][-1]['content'][-1]['text']!r}   expected {case['expect']!r}   got {text!r}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"cases": args.cases, "seed": args.seed, "accuracy": table, "failed_requests": failures}, file, indent=1)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
