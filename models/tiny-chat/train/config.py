"""The shapes of the two models, and the small files beside their weights."""

import json
import os

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": None, "dtype": "bfloat16", "eos_token_id": 4089, "head_dim": 64, "hidden_act": "silu",
    "hidden_size": 256, "initializer_range": 0.02, "intermediate_size": 768, "max_position_embeddings": 8192,
    "max_window_layers": 8, "model_type": "qwen3", "num_attention_heads": 4, "num_hidden_layers": 8,
    "num_key_value_heads": 2, "pad_token_id": 4087, "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 100000.0,
    "sliding_window": None, "tie_word_embeddings": True, "transformers_version": "4.51.0", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 4096,
}


# A sibling of a million parameters that guesses what tiny-chat says next (speculative decoding).
DRAFT = CONFIG | {"hidden_size": 128, "intermediate_size": 320, "head_dim": 32, "num_hidden_layers": 3, "max_window_layers": 3}
CONFIGS = {"chat": CONFIG, "draft": DRAFT}


def write_config(folder, config):
    """config.json, generation_config.json and tokenizer_config.json."""
    generation = {"bos_token_id": None, "do_sample": False, "eos_token_id": [4089, 4087], "pad_token_id": 4087}
    tokenizer = {"add_bos_token": False, "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False,
                 "eos_token": "<|im_end|>", "model_max_length": 8192, "pad_token": "<|endoftext|>",
                 "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}
    for name, data in (("config", config), ("generation_config", generation), ("tokenizer_config", tokenizer)):
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    write_config(os.path.join(MODELS, "tiny-chat"), CONFIG)
    write_config(os.path.join(MODELS, "tiny-draft"), DRAFT)
