"""Asks a running server the cases of every task, and says how many it answers right. Standard library only."""

import argparse
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable


@dataclass
class Exam:
    """What a model is asked."""
    model: str  # its name
    case_count: int  # of a task, unless told otherwise
    tasks: list
    cases: Callable  # (task, count, seed): the cases of a task
    ask: Callable  # (args, case): the server's answer
    right: Callable  # (task, case, answer): whether it is
    question: Callable  # (case): how it is shown


def post(url, body, timeout_s):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout_s) as reply:
        return json.load(reply)["choices"][0]


def measure(exam, args, task):
    """(right, failed, [(case, answer)] of the wrong ones) of one task."""
    cases = exam.cases(task, args.cases, args.seed)

    def one(case):
        try:
            return exam.ask(args, case)
        except (OSError, ValueError, KeyError) as error:
            return error

    with ThreadPoolExecutor(args.concurrency) as pool:
        got = list(pool.map(one, cases))
    wrong = [(case, text) for case, text in zip(cases, got) if isinstance(text, Exception) or not exam.right(task, case, text)]
    return len(cases) - len(wrong), sum(isinstance(text, Exception) for text in got), wrong


def main(exam, doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default=exam.model)
    parser.add_argument("--cases", type=int, default=exam.case_count)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--task", default="", help="only tasks whose name contains this")
    parser.add_argument("--timeout", type=float, default=600, help="seconds per request")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print per task")
    parser.add_argument("--json", help="file for the result")
    args = parser.parse_args()
    table, failures = {}, 0
    print(f"{'task':34s} {'right':>9s} {'accuracy':>9s} {'seconds':>8s}")
    for task in exam.tasks:
        if args.task not in task:
            continue
        begun = time.time()
        good, failed, wrong = measure(exam, args, task)
        failures += failed
        table[task] = 100 * good / args.cases
        print(f"{task:34s} {good:4d}/{args.cases:<4d} {table[task]:7.1f} % {time.time() - begun:8.1f}" + (f"   {failed} requests failed" if failed else ""), flush=True)
        for case, text in wrong[:args.show]:
            print(f"    asked    {exam.question(case)!r}\n    expected {case['expect']!r}\n    got      {text!r}")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"cases": args.cases, "seed": args.seed, "accuracy": table, "failed_requests": failures}, file, indent=1)
    return 1 if failures else 0
