"""Whether an answer is right: the same text or the same calls, after the thinking."""

import json
import re

CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.S)


def calls_of(text):
    """The calls in a raw answer, or None where one is no valid JSON."""
    try:
        return [json.loads(body) for body in CALL.findall(text)]
    except ValueError:
        return None


def right(case, text):
    if case["thinking"] and "</think>" not in text:
        return False
    text = text.split("</think>")[-1].strip()
    if "calls" in case["expect"]:
        return calls_of(text) == case["expect"]["calls"]
    return text == case["expect"]["text"]
