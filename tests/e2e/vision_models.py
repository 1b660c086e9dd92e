"""Writes vision-language checkpoints of random weights with tiny-vlm's tokenizer: what they say means nothing, but its bits follow from every picture and word."""
import json
import math
import pathlib
import random
import shutil

import draft_heads
import harness

SOURCE = harness.ROOT / "models/tiny-vlm"
VOCAB, START, END, IMAGE = 4100, 4096, 4097, 4098
HIDDEN, WIDTH, SIDE, PATCH = 32, 24, 56, 14
TEXT = dict(vocab_size=VOCAB, hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
            head_dim=16, max_position_embeddings=1024, rms_norm_eps=1e-6, tie_word_embeddings=True, eos_token_id=4089)
VISION = dict(hidden_size=WIDTH, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=PATCH)
PROCESSOR = dict(do_resize=True, do_rescale=True, do_normalize=True, rescale_factor=1 / 255, image_mean=[0.5] * 3, image_std=[0.5] * 3,
                 size=dict(height=SIDE, width=SIDE))
PINPOINTS = [[56, 112], [112, 56], [112, 112]]
GEMMA_TOKENS = 4  # of a picture: more than the windows of some layers hold


class Weights:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.tensors = {}

    def add(self, name, shape, spread, centre=0.0):
        self.tensors[name] = draft_heads.floats(shape, [self.rng.gauss(centre, spread) for _ in range(math.prod(shape))])

    def linear(self, name, rows, cols, bias=False):
        self.add(name + ".weight", [rows, cols], 1.4 / math.sqrt(cols))
        if bias:
            self.add(name + ".bias", [rows], 0.2)

    def norm(self, name, size, centre=1.0, bias=False):
        self.add(name + ".weight", [size], 0.2, centre)
        if bias:
            self.add(name + ".bias", [size], 0.2)

    def text(self, family):
        at = "language_model.model."
        centre = 0.0 if family == "gemma3" else 1.0
        self.add(at + "embed_tokens.weight", [VOCAB, HIDDEN], 0.3)
        self.norm(at + "norm", HIDDEN, centre)
        for i in range(TEXT["num_hidden_layers"]):
            layer = f"{at}layers.{i}."
            for name, rows in (("q", 32), ("k", 16), ("v", 16)):
                self.linear(f"{layer}self_attn.{name}_proj", rows, HIDDEN, bias=family == "qwen2")
            self.linear(layer + "self_attn.o_proj", HIDDEN, 32)
            for name, rows, cols in (("gate", 48, HIDDEN), ("up", 48, HIDDEN), ("down", HIDDEN, 48)):
                self.linear(f"{layer}mlp.{name}_proj", rows, cols)
            self.norm(layer + "input_layernorm", HIDDEN, centre)
            self.norm(layer + "post_attention_layernorm", HIDDEN, centre)
            if family == "gemma3":
                self.norm(layer + "pre_feedforward_layernorm", HIDDEN, centre)
                self.norm(layer + "post_feedforward_layernorm", HIDDEN, centre)
                self.norm(layer + "self_attn.q_norm", 16, centre)
                self.norm(layer + "self_attn.k_norm", 16, centre)

    def tower(self, clip):
        at = "vision_tower.vision_model."
        self.add(at + "embeddings.patch_embedding.weight", [WIDTH, 3, PATCH, PATCH], 1.4 / math.sqrt(3 * PATCH * PATCH))
        self.add(at + "embeddings.position_embedding.weight", [(SIDE // PATCH) ** 2 + clip, WIDTH], 0.4)
        if clip:
            self.add(at + "embeddings.class_embedding", [WIDTH], 0.4)
            self.norm(at + "pre_layrnorm", WIDTH, bias=True)
        else:
            self.add(at + "embeddings.patch_embedding.bias", [WIDTH], 0.2)
        self.norm(at + "post_layernorm", WIDTH, bias=True)
        for i in range(VISION["num_hidden_layers"]):
            layer = f"{at}encoder.layers.{i}."
            for name in ("q", "k", "v", "out"):
                self.linear(f"{layer}self_attn.{name}_proj", WIDTH, WIDTH, bias=True)
            self.linear(layer + "mlp.fc1", VISION["intermediate_size"], WIDTH, bias=True)
            self.linear(layer + "mlp.fc2", WIDTH, VISION["intermediate_size"], bias=True)
            self.norm(layer + "layer_norm1", WIDTH, bias=True)
            self.norm(layer + "layer_norm2", WIDTH, bias=True)

    def two_linears(self):
        self.linear("multi_modal_projector.linear_1", HIDDEN, WIDTH, bias=True)
        self.linear("multi_modal_projector.linear_2", HIDDEN, HIDDEN, bias=True)


def make(family, folder):
    """A checkpoint of `family` (llava_next, llava_onevision, gemma3) at `folder`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    weights = Weights(family)
    config, processor = dict(model_type=family, torch_dtype="float32", image_token_index=IMAGE), dict(PROCESSOR, resample=3)
    template = (SOURCE / "chat_template.jinja").read_text()
    pad = "<|vision_start|><|image_pad|><|vision_end|>"
    assert pad in template
    if family == "gemma3":
        config |= dict(architectures=["Gemma3ForConditionalGeneration"], boi_token_index=START, eoi_token_index=END,
                       mm_tokens_per_image=GEMMA_TOKENS, vision_config=dict(VISION, model_type="siglip_vision_model"),
                       text_config=dict(TEXT, model_type="gemma3_text", sliding_window=3, sliding_window_pattern=2, query_pre_attn_scalar=16))
        processor["resample"] = 2
        template = template.replace(pad, "<|vision_start|>")
        weights.text("gemma3")
        weights.tower(clip=False)
        weights.norm("multi_modal_projector.mm_soft_emb_norm", WIDTH, 0.0)
        weights.add("multi_modal_projector.mm_input_projection_weight", [WIDTH, HIDDEN], 1.4 / math.sqrt(WIDTH))
    else:
        clip = family == "llava_next"
        name = "LlavaNext" if clip else "LlavaOnevision"
        config |= dict(architectures=[f"{name}ForConditionalGeneration"], image_grid_pinpoints=PINPOINTS, tie_word_embeddings=True,
                       vision_config=dict(VISION, model_type="clip_vision_model" if clip else "siglip_vision_model"),
                       text_config=dict(TEXT, model_type="llama" if clip else "qwen2"))
        template = template.replace(pad, "<|image_pad|>")
        weights.text("llama" if clip else "qwen2")
        weights.tower(clip)
        weights.two_linears()
        weights.add("image_newline", [HIDDEN], 0.4)
    draft_heads.write(folder, weights.tensors)
    for file, content in (("config.json", config), ("preprocessor_config.json", processor)):
        (folder / file).write_text(json.dumps(content))
    (folder / "chat_template.jinja").write_text(template)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(SOURCE / file, folder)
    return folder
