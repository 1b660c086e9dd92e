"""The chat format, as chat_template.jinja writes it: for training and for raw prompts in eval.py.

test_disjoint.py and the golden template cases keep the two in step.
"""

import json

THINKING_ON = "# Thinking: on"
TOOLS_HEAD = "# Tools\nYou may call these functions:\n<tools>"
TOOLS_TAIL = ("</tools>\nTo call one, write:\n<tool_call>\n"
              '{"name": "the function", "arguments": {"its": "arguments"}}\n</tool_call>')


def text_of(content):
    """Content may be text, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content or [] if part["type"] == "text")


def call_text(call):
    call = call.get("function", call)
    arguments = call["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {arguments}}}\n</tool_call>'


def assistant_text(message, keep_thinking):
    """What stands between the assistant's header and <|im_end|>."""
    text = text_of(message.get("content"))
    thinking = message.get("reasoning_content")
    if "</think>" in text:
        if not thinking:
            thinking = text.split("</think>")[0].split("<think>")[-1].strip("\n")
        text = text.split("</think>")[-1].lstrip("\n")
    calls = [call_text(call) for call in message.get("tool_calls") or []]
    body = "\n".join(([text] if text else []) + calls)
    if thinking and keep_thinking:
        return f"<think>\n{thinking}\n</think>\n\n{body}"
    return body


def pieces(messages, tools=None, enable_thinking=False, add_generation_prompt=False):
    """The conversation as (text, index of the assistant's message or None) in order."""
    out = []
    first = messages[0] if messages and messages[0]["role"] in ("system", "developer") else None
    system = [text_of(first["content"])] if first else []
    if tools:
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        system.append(f"{TOOLS_HEAD}\n{listed}\n{TOOLS_TAIL}")
    if enable_thinking:
        system.append(THINKING_ON)
    if system:
        out.append(("<|im_start|>system\n" + "\n\n".join(system) + "<|im_end|>\n", None))
    last_user = max([i for i, m in enumerate(messages) if m["role"] == "user"], default=-1)
    for i, message in enumerate(messages):
        role = message["role"]
        if message is first:
            continue
        if role == "assistant":
            out.append(("<|im_start|>assistant\n", None))
            out.append((assistant_text(message, i > last_user) + "<|im_end|>", i))
            out.append(("\n", None))
        elif role == "tool":
            text = f"\n<tool_response>\n{text_of(message['content'])}\n</tool_response>"
            if i == 0 or messages[i - 1]["role"] != "tool":
                text = "<|im_start|>user" + text
            if i + 1 == len(messages) or messages[i + 1]["role"] != "tool":
                text += "<|im_end|>\n"
            out.append((text, None))
        else:
            role = "system" if role == "developer" else role
            out.append((f"<|im_start|>{role}\n{text_of(message['content'])}<|im_end|>\n", None))
    if add_generation_prompt:
        out.append(("<|im_start|>assistant\n", None))
    return out


def render(messages, **options):
    return "".join(text for text, _ in pieces(messages, **options))
