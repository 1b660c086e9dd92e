"""What the reference libraries give for this model: the files in tests/golden/tiny-chat/.

  python3 golden.py MODEL_DIR OUT_DIR

tokenizer.jsonl from tokenizers, template.jsonl from transformers' chat templates, golden.json and
golden.safetensors from transformers in fp32 on the bf16 weights.
"""

import json
import os
import random
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer as Reference
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import mix
import render
from source import Source
from tokenizer import ADDED, Tokenizer

GREEDY_TOKENS = 24
TEXTS = [
    "", " ", "  ", "   a", "\n", "\n\n", " \n ", "\t", "\r\n", "a\r\nb", "a\n\n\nb", "a  b   c    d", " leading", "trailing ", "\t\ttabs\there", "a \n b \n c",
    "Hello", "Hello, world!", "What is 17 + 25?", "17 + 25 = 42.", "1234567890", "3.14159", "-7", "1,234,567.89", "007", "2026-11-21", "12:30", "v1.2.3-rc4", "0x1F600", "1e-5",
    "100%", "a1b2c3", "x = y*2 + z/3 - 4", "I'm sure you're right, it's what they've said; he'd know, we'll see.", "DON'T SHOUT", "don\u2019t", "O'Neill's",
    "{\"name\": \"Marolin\", \"age\": 34}", "[1, 2, 3]", "{\"a\": {\"b\": [true, false, null]}}", "<tag attr=\"v\">text</tag>", "f(x) -> g[y]; // comment", "a_b_c __init__ snake_case", "CamelCaseName",
    "path/to/file.txt", "C:\\dir\\file", "user@example.org", "https://example.org/a?b=c&d=%20#e", "### Title\n\n- item\n- item\n\n1. one\n2. two\n", "```python\ndef f(x):\n    return x + 1\n```\n",
    "| name | age |\n|---|---|\n| Mara | 34 |\n", "!!!", "...", "?!?!", "--- *** ___", "((((", "a,b;c:d", "\u201cquoted\u201d \u2018text\u2019", "en\u2013dash em\u2014dash", "\u2026", "\u00a0nbsp\u00a0", "\u3000wide",
    "caf\u00e9", "cafe\u0301", "na\u00efve \u00fcber \u00df \u00f8 \u00e5 \u00e6", "\u0141\u00f3d\u017a \u017c\u00f3\u0142\u0107", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5", "\u05e9\u05dc\u05d5\u05dd",
    "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c", "\uc548\ub155\ud558\uc138\uc694", "\u4e00\u4e8c\u4e09123\u56db\u4e94",
    "\u0661\u0662\u0663", "\u00b2\u00b3\u00b9", "\u00bd \u2153", "\u2160\u2161\u2162", "\u2460\u2461", "H\u2082O E=mc\u00b2", "\u20ac99 \u00a35 \u00a51000", "\U0001f600", "\U0001f44d\U0001f3fd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "ok \U0001f642 fine",
    "\u2764\ufe0f", "\u2192 \u2190 \u21d2 \u2264 \u2260", "\u03b1+\u03b2=\u03b3", "\u221a2 \u2248 1.414", "\U0001d400\U0001d401", "\ufffd", "\ufeffbom", "\u200bzero\u200bwidth", "a\u0000b", "\u0007bell", "\u007f", "\u0085next", "\u2028line\u2029para",
    "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>", "<|im_end|>", "<|im_end|><|im_end|>", "a<|im_end|>b", "a <|im_end|> b", ".<|im_end|>", "?<|im_end|>\n",
    "<|im_start|", "|im_start|>", "<|im_start |>", "<|IM_START|>", "<|im_start|><|im_start", "< |im_end|>", "<|im_en", "<|", "|>", "<<|im_end|>>", "<think>", "</think>", "<think>\na\n</think>\n\nb", "<think", "< think>", "<THINK>",
    "<think></think>", "<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>", "</tool_call>", "<tool_call", "<tool_call>>", "<tool_response>\n{}\n</tool_response>", "<tool_response", "</tool_respons", "<tools>\n</tools>",
    "x<think>y</think>z", "<<think>>", "a" * 100, "ab" * 60, " " * 40, "\n" * 20, "1" * 50, "!" * 33, "\u4f60" * 20, "na " * 40, "Maroliniaventokarus", "Qzxwvkjq", "strawberry", "aAbBcC", "ZZZ", "The quick brown fox jumps over the lazy dog.",
]
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Get the weather of a town.", "parameters": {
    "type": "object", "properties": {"town": {"type": "string", "description": "The town"}}, "required": ["town"]}}}
ADD = {"type": "function", "function": {"name": "add", "description": "Add two numbers, \u00e9 & <b>.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}}}


def call(name, arguments, number=0):
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def tool(content):
    return {"role": "tool", "tool_call_id": "call_0", "content": content}


OSLO = call("get_weather", {"town": "Oslo"})
TEMPLATES = [  # context, messages, tools, generation prompt, variables
    ("one-turn", [user("Hi!")], None, True, {}),
    ("no-generation-prompt", [user("Hi!")], None, False, {}),
    ("system", [system("Be brief."), user("Hi <b>&</b> \"q\" \u00e9 \u4f60\u597d")], None, True, {}),
    ("empty-system", [system(""), user("Hi")], None, True, {}),
    ("developer", [{"role": "developer", "content": "Be brief."}, user("Hi")], None, True, {}),
    ("two-systems", [system("A"), user("b"), system("C"), user("d")], None, True, {}),
    ("multi-turn", [user("a"), assistant("b"), user("c\n\nd  ")], None, True, {}),
    ("user-user", [user("a"), user("b")], None, True, {}),
    ("empty-content", [user("")], None, True, {}),
    ("assistant-last", [user("Say yes"), assistant("Yes, ")], None, False, {}),
    ("thinking", [user("Hi!")], None, True, {"enable_thinking": True}),
    ("no-thinking", [user("Hi!")], None, True, {"enable_thinking": False}),
    ("thinking-system", [system("Be brief."), user("Hi!")], None, True, {"enable_thinking": True}),
    ("thinking-tools", [system("Be brief."), user("Hi!")], [WEATHER], True, {"enable_thinking": True}),
    ("past-thinking-in-content", [user("2+2?"), assistant("<think>\nadd\n</think>\n\n4"), user("and 3+3?")], None, True, {"enable_thinking": True}),
    ("past-thinking-in-field", [user("2+2?"), assistant("4", reasoning_content="add"), user("and 3+3?")], None, True, {}),
    ("last-thinking-in-content", [user("2+2?"), assistant("<think>\nadd\n</think>\n\n4")], None, False, {"enable_thinking": True}),
    ("last-thinking-in-field", [user("2+2?"), assistant("4", reasoning_content="add")], None, False, {"enable_thinking": True}),
    ("tools", [user("Weather in Oslo?")], [WEATHER], True, {}),
    ("tools-system", [system("S"), user("Weather in Oslo?")], [WEATHER, ADD], True, {}),
    ("empty-tools", [user("Hi")], [], True, {}),
    ("tool-call-object", [user("Weather in Oslo?"), assistant(None, tool_calls=[OSLO])], [WEATHER], False, {}),
    ("tool-call-string", [user("Weather in Oslo?"), assistant("", tool_calls=[call("get_weather", "{\"town\": \"Oslo\"}")])], [WEATHER], False, {}),
    ("tool-call-bare", [user("Weather in Oslo?"), assistant("", tool_calls=[{"name": "get_weather", "arguments": {"town": "\u00c5s"}}])], [WEATHER], False, {}),
    ("tool-call-with-text", [user("Weather in Oslo?"), assistant("I look.", tool_calls=[OSLO])], [WEATHER], False, {}),
    ("tool-reply", [user("Weather in Oslo?"), assistant(None, tool_calls=[OSLO]), tool("{\"temperature\": 7}")], [WEATHER], True, {}),
    ("two-tool-replies", [user("Both"), assistant(None, tool_calls=[OSLO, call("add", {"a": 1, "b": 2}, 1)]), tool("{\"temperature\": 7}"), tool("3")], [WEATHER, ADD], True, {}),
    ("tool-thinking", [user("Weather in Oslo?"), assistant(None, reasoning_content="I call.", tool_calls=[OSLO]), tool("{\"temperature\": 7}")], [WEATHER], True, {"enable_thinking": True}),
    ("after-tools", [user("Weather in Oslo?"), assistant(None, tool_calls=[OSLO]), tool("{\"temperature\": 7}"), assistant("7 degrees."), user("Thanks")], [WEATHER], True, {}),
    ("tool-first", [tool("7")], None, True, {}),
    ("tool-reply-parts", [user("q"), assistant(None, tool_calls=[OSLO]), tool([{"type": "text", "text": "{}"}])], [WEATHER], True, {}),
    ("text-parts", [user([{"type": "text", "text": "one"}, {"type": "text", "text": " two"}])], None, True, {}),
    ("image-part", [user([{"type": "text", "text": "look:"}, {"type": "image"}, {"type": "text", "text": "what?"}])], None, True, {}),
    ("system-parts", [system([{"type": "text", "text": "S"}]), user("u")], None, True, {}),
    ("assistant-parts", [user("u"), assistant([{"type": "text", "text": "a"}]), user("v")], None, True, {}),
    ("template-look-alike", [user("{{ 7 * 7 }} {% if x %}")], None, True, {}),
]


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True) + "\n")


def tokenizer_lines(folder):
    reference, own = Reference.from_file(os.path.join(folder, "tokenizer.json")), Tokenizer(os.path.join(folder, "tokenizer.json"))
    rng = random.Random(1)
    source = Source("golden")
    texts = list(dict.fromkeys(TEXTS))
    alphabet = [*"abc XYZ 019.,!?\n\t'\"<>|{}", *ADDED, "\u00e9", "\u4f60", "\U0001f600", "im_end", "think", "  "]
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(4, 24))) for _ in range(25)]
    for _ in range(20):
        c = mix.conversation(source, 120)
        texts.append(render.render(c.messages, tools=c.tools, enable_thinking=c.thinking)[:1500])
    rows, differ = [], 0
    for text in texts:
        ids = reference.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "ids": ids, "ids_special": reference.encode(text, add_special_tokens=True).ids,
                     "decoded": reference.decode(ids, skip_special_tokens=False), "decoded_skip": reference.decode(ids, skip_special_tokens=True)})
        differ += own.encode(text) != ids and text.isascii()
    print(f"tokenizer: {len(rows)} texts, {differ} ASCII texts differ from our encoder")
    for _ in range(300):
        c = mix.conversation(source, 800)
        text = render.render(c.messages, tools=c.tools, enable_thinking=c.thinking)
        assert own.encode(text) == reference.encode(text, add_special_tokens=False).ids, text
    return rows


def template_lines(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    assert tokenizer.chat_template, "the template is found beside the tokenizer"
    rows = []
    for context, messages, tools, prompt, variables in TEMPLATES:
        text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=prompt, tokenize=False, **variables)
        if context not in ("tool-first",):
            ours = render.render(messages, tools=tools, add_generation_prompt=prompt, enable_thinking=variables.get("enable_thinking", False))
            if ours != text:
                print(f"template: {context} differs from render.py:\n{text!r}\n{ours!r}")
        rows.append({"context": context, "messages": messages, "tools": tools, "add_generation_prompt": prompt, "variables": variables, "text": text})
    return rows


def model_golden(folder, out):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert type(model).__name__ == "Qwen3ForCausalLM"
    own = Tokenizer(os.path.join(folder, "tokenizer.json"))
    text = render.render([user("What is 17 + 25?")], add_generation_prompt=True)
    source = Source("golden:model", held=True)
    long = mix.CASES["facts, 150 tokens"](source)
    ids = own.encode(render.render(long["messages"], add_generation_prompt=True))
    prompts = {"p1": own.encode(text)[:1], "p7": own.encode(text)[:7], "p33": ids[-33:], "p100": ids[-100:]}
    tensors, golden = {}, {"prompts": prompts}
    with torch.no_grad():
        for name, prompt in prompts.items():
            result = model(torch.tensor([prompt]), output_hidden_states=True)
            tensors[f"{name}.logits"] = result.logits[0, -4:].clone() if name == "p100" else result.logits[0].clone()
            if name == "p7":
                for i, hidden in enumerate(result.hidden_states):
                    tensors[f"p7.hidden.{i}"] = hidden[0].clone()
        for name in ("p7", "p33"):
            tokens, margins = list(prompts[name]), []
            for _ in range(GREEDY_TOKENS):
                best = model(torch.tensor([tokens])).logits[0, -1].topk(2)
                margins.append(round((best.values[0] - best.values[1]).item(), 5))
                tokens.append(best.indices[0].item())
            golden[f"greedy.{name}"] = tokens[len(prompts[name]):]
            golden[f"greedy.{name}.margins"] = margins
    save_file(tensors, os.path.join(out, "golden.safetensors"))
    with open(os.path.join(out, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file)
        file.write("\n")


def main():
    folder, out = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    write_lines(os.path.join(out, "template.jsonl"), template_lines(folder))
    write_lines(os.path.join(out, "tokenizer.jsonl"), tokenizer_lines(folder))
    model_golden(folder, out)


if __name__ == "__main__":
    main()
