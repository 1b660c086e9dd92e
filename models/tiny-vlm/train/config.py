"""The model's shape and the small files beside its weights.

  python3 config.py FOLDER
"""

import json
import os
import sys

from tokens import END_OF_TEXT, IM_END, IMAGE_PAD, VIDEO_PAD, VISION_END, VISION_START, VOCAB_SIZE
from scenes import CELL, CELLS_MAX, CELLS_MIN

CONTEXT = 1024
TEXT = {
    "attention_dropout": 0.0, "bos_token_id": None, "dtype": "bfloat16", "eos_token_id": IM_END, "hidden_act": "silu", "hidden_size": 256,
    "initializer_range": 0.02, "intermediate_size": 704, "layer_types": ["full_attention"] * 5, "max_position_embeddings": CONTEXT,
    "max_window_layers": 5, "model_type": "qwen2_5_vl_text", "num_attention_heads": 4, "num_hidden_layers": 5, "num_key_value_heads": 2,
    "pad_token_id": END_OF_TEXT, "rms_norm_eps": 1e-6,
    "rope_parameters": {"mrope_section": [8, 12, 12], "rope_theta": 10000.0, "rope_type": "default"},
    "sliding_window": None, "tie_word_embeddings": True, "use_cache": True, "use_sliding_window": False, "vocab_size": VOCAB_SIZE,
}
VISION = {
    "depth": 6, "dtype": "bfloat16", "fullatt_block_indexes": [2, 5], "hidden_act": "silu", "hidden_size": 128, "in_channels": 3,
    "initializer_range": 0.02, "intermediate_size": 384, "model_type": "qwen2_5_vl_vision", "num_heads": 4, "out_hidden_size": 256,
    "patch_size": 14, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"}, "spatial_merge_size": 2, "temporal_patch_size": 2,
    "tokens_per_second": 2, "window_size": 112,
}
CONFIG = {
    "architectures": ["Qwen2_5_VLForConditionalGeneration"], "dtype": "bfloat16", "image_token_id": IMAGE_PAD, "model_type": "qwen2_5_vl",
    "text_config": TEXT, "tie_word_embeddings": True, "transformers_version": "5.17.0", "video_token_id": VIDEO_PAD, "vision_config": VISION,
    "vision_end_token_id": VISION_END, "vision_start_token_id": VISION_START,
}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
FILES = {
    "config": CONFIG,
    "generation_config": {"bos_token_id": None, "do_sample": False, "eos_token_id": [IM_END, END_OF_TEXT], "pad_token_id": END_OF_TEXT},
    "preprocessor_config": {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": MEAN,
        "image_processor_type": "Qwen2VLImageProcessor", "image_std": STD, "max_pixels": CELLS_MAX * CELL ** 2, "merge_size": 2,
        "min_pixels": CELLS_MIN * CELL ** 2, "patch_size": 14, "processor_class": "Qwen2_5_VLProcessor", "resample": 3, "rescale_factor": 1 / 255,
        "size": {"longest_edge": CELLS_MAX * CELL ** 2, "shortest_edge": CELLS_MIN * CELL ** 2}, "temporal_patch_size": 2},
    "tokenizer_config": {
        "add_bos_token": False, "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>",
        "model_max_length": CONTEXT, "pad_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None},
}


def main(folder):
    for name, data in FILES.items():
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
