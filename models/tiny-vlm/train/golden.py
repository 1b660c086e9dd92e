"""What transformers gives for this model: the golden files beside it and in tests/golden/tiny-vlm/.

  python3 golden.py FOLDER OUT CASE...

golden.json and golden.safetensors of these cases in the form that `pixii check` reads (fp32 on the bf16 weights), their
pictures as PNG in OUT/images; with the case `template` also template.jsonl from the chat template. Each is compared
with what tokens.py and model.py make of it.
"""

import json
import os
import sys

import torch
from safetensors.torch import save_file
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, PreTrainedTokenizerFast

import conversations
import draw
import eval_torch
import scenes
from conversations import assistant, picture, user
from source import Source
from tokens import IMAGE_PAD, Tokens, expand, pictures, pieces, positions
from train import load

SEED, CELLS = "tiny-vlm:golden", 20  # tokens of a picture, so that the files stay small


def processor(folder):
    """The one that resizes with Pillow, where there is a choice."""
    try:
        from transformers import Qwen2VLImageProcessorPil
        return Qwen2VLImageProcessorPil.from_pretrained(folder)
    except ImportError:
        return AutoImageProcessor.from_pretrained(folder, use_fast=False)


def cases():
    src = Source(SEED, held=True)

    def small_one(kind, exact=True):
        while True:
            made = scenes.scene(src, kind, exact)
            width, height = eval_torch.smart_size(made.width, made.height)
            if width * height <= CELLS * scenes.CELL ** 2 and width != height and (exact or made.width * made.height < 40000):
                return made
    one, big, small = small_one(scenes._varied), small_one(scenes._number, False), small_one(scenes._many, False)
    return {"describe": [user(picture(one), "Describe the picture.")],
            "number+count": [user(picture(big), "What number is written?"), assistant(f"{big.number}."), user("And here: ", picture(small), "How many shapes are there?")],
            "text": [user("Who are you?")]}


TEMPLATES = [
    ("one-picture", [user({"type": "image"}, "What is this?")], True),
    ("picture-behind", [user("What is this?", {"type": "image"})], True),
    ("two-pictures", [user({"type": "image"}, " and ", {"type": "image"}, "?"), assistant("Yes."), user("Sure?")], True),
    ("image-url", [user({"type": "image_url", "image_url": {"url": "data:,"}}, "What is this?")], True),
    ("video", [user({"type": "video"}, "What moves?")], True),
    ("system", [{"role": "system", "content": "Answer briefly."}, user("Hi")], True),
    ("developer-parts", [{"role": "developer", "content": [{"type": "text", "text": "Answer briefly."}]}, user("Hi")], True),
    ("no-prompt", [{"role": "user", "content": "Hi"}, assistant("Hello!")], False),
]


def template_lines(folder):
    tokenizer, rows = PreTrainedTokenizerFast.from_pretrained(folder), []
    for context, messages, prompt in TEMPLATES:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
        rows.append({"context": context, "messages": messages, "tools": None, "add_generation_prompt": prompt, "variables": {}, "text": text})
    for case in [c for task in ("two pictures", "fourth question on a picture", "small talk") for c in conversations.cases(task, 5, 1)]:
        bare = [m if isinstance(m["content"], str) else {**m, "content": [{"type": "image"} if p["type"] == "image" else p for p in m["content"]]} for m in case["messages"]]
        ours = "".join(text for text, _ in pieces(bare, add_generation_prompt=True))
        assert ours == tokenizer.apply_chat_template(bare, add_generation_prompt=True, tokenize=False), ours
        assert Tokens().encode(ours) == tokenizer.encode(ours, add_special_tokens=False), ours
    return rows


def main():
    folder, out, *wanted = sys.argv[1:]
    os.makedirs(os.path.join(out, "images"), exist_ok=True)
    if "template" in wanted:
        with open(os.path.join(out, "template.jsonl"), "w", encoding="utf-8") as file:
            for row in template_lines(folder):
                file.write(json.dumps(row) + "\n")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    process, own, tokens = processor(folder), load(folder).eval(), Tokens()
    run = eval_torch.Run(own, tokens, "cpu")
    golden, tensors = {"processor_class": type(process).__name__, "cases": {}}, {}
    for name, messages in cases().items():
        if name not in wanted:
            continue
        images, files = [], []
        for i, s in enumerate(pictures(messages)):
            files.append(f"{name.replace('+', '-')}-{i}.png")
            with open(os.path.join(out, "images", files[-1]), "wb") as file:
                file.write(draw.png(s.width, s.height, draw.draw(s.width, s.height, s.back_colour, s.items)))
            images.append(Image.open(os.path.join(out, "images", files[-1])).convert("RGB"))
        grids, seen = [], {}
        if images:
            made = process(images=images, return_tensors="pt")
            seen = {"pixel_values": made["pixel_values"], "image_grid_thw": made["image_grid_thw"]}
            grids = [(h // 2, w // 2) for _, h, w in made["image_grid_thw"].tolist()]
            ours = torch.cat([eval_torch.patches(image)[0] for image in images])
            print(f"{name}: pixels differ by {(ours - made['pixel_values']).abs().max().item():.2g}")
        ids = expand([i for text, _ in pieces(messages, add_generation_prompt=True) for i in tokens.encode(text)], grids)
        row = torch.tensor([ids])
        kinds = {"mm_token_type_ids": (row == IMAGE_PAD).int()}
        with torch.no_grad():
            try:
                logits = model(input_ids=row, attention_mask=torch.ones_like(row), **kinds, **seen).logits[0]
            except (TypeError, ValueError):
                logits = model(input_ids=row, attention_mask=torch.ones_like(row), **seen).logits[0]
            tensors[f"{name}.logits"] = logits.clone()
            if images:
                towered = model.model.visual(made["pixel_values"], grid_thw=made["image_grid_thw"])
                tensors |= {f"{name}.pixel_values": made["pixel_values"], f"{name}.grid": made["image_grid_thw"],
                            f"{name}.mrope": torch.tensor(positions(ids, grids))[:, None],
                            f"{name}.embeddings": (towered if torch.is_tensor(towered) else towered.pooler_output).clone()}
        case = {"messages": messages}
        prompts, where, seen_own = eval_torch.batch_of(tokens, [case], [images], "cpu")
        cells = [p * scenes.CELLS_MAX + k for p, (r, c) in enumerate(where[0]) for k in range(r * c)]
        source = torch.full((1, len(ids)), -1)
        source[row == IMAGE_PAD] = torch.tensor(cells, dtype=torch.long)
        with torch.no_grad():
            mine = own(row, torch.tensor(positions(ids, grids)).T[None], source, *(seen_own or (None, None, None)))
        print(f"{name}: {len(ids)} tokens, logits differ by {(mine - logits).abs().max().item():.2g} of {logits.abs().max().item():.2g}; "
              f"answer {run.answers([case], [images])[0]!r}")
        golden["cases"][name] = {"input_ids": ids, "images": files, "answer": run.answers([case], [images])[0]}
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(out, "golden.safetensors"))
    with open(os.path.join(out, "golden.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
