"""The pipeline's shape: model_index.json and the configuration of its parts.

  python3 config.py FOLDER
"""

import json
import os
import sys

from captions import vocabulary

WIDTH = HEIGHT = 64
FRAMES = 17
TEXT = {
    "architectures": ["UMT5EncoderModel"], "classifier_dropout": 0.0, "d_ff": 128, "d_kv": 16, "d_model": 64, "decoder_start_token_id": 0,
    "dense_act_fn": "gelu_new", "dropout_rate": 0.0, "dtype": "float32", "eos_token_id": 1, "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0,
    "is_decoder": False, "is_encoder_decoder": True, "is_gated_act": True, "layer_norm_epsilon": 1e-6, "model_type": "umt5", "num_decoder_layers": 2,
    "num_heads": 4, "num_layers": 2, "pad_token_id": 0, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32,
    "tie_word_embeddings": True, "transformers_version": "5.17.0", "use_cache": True, "vocab_size": len(vocabulary()),
}
TRANSFORMER = {
    "_class_name": "WanTransformer3DModel", "_diffusers_version": "0.35.0", "added_kv_proj_dim": None, "attention_head_dim": 32, "cross_attn_norm": True,
    "eps": 1e-6, "ffn_dim": 512, "freq_dim": 256, "image_dim": None, "in_channels": 8, "num_attention_heads": 6, "num_layers": 6, "out_channels": 8,
    "patch_size": [1, 2, 2], "pos_embed_seq_len": None, "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 1024, "text_dim": 64,
}
VAE = {
    "_class_name": "AutoencoderKLWan", "_diffusers_version": "0.35.0", "attn_scales": [], "base_dim": 16, "decoder_base_dim": None, "dim_mult": [1, 2, 2, 2],
    "dropout": 0.0, "in_channels": 3, "is_residual": False, "latents_mean": [0.0] * 8, "latents_std": [1.0] * 8, "num_res_blocks": 1, "out_channels": 3,
    "patch_size": None, "scale_factor_spatial": 8, "scale_factor_temporal": 4, "temperal_downsample": [False, True, True], "z_dim": 8,
}
SHIFT = 3.0
SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.35.0", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
    "disable_corrector": [], "dynamic_thresholding_ratio": 0.995, "final_sigmas_type": "zero", "flow_shift": SHIFT, "lower_order_final": True,
    "num_train_timesteps": 1000, "predict_x0": True, "prediction_type": "flow_prediction", "rescale_betas_zero_snr": False, "sample_max_value": 1.0,
    "solver_order": 2, "solver_p": None, "solver_type": "bh2", "steps_offset": 0, "thresholding": False, "timestep_spacing": "linspace",
    "trained_betas": None, "use_beta_sigmas": False, "use_exponential_sigmas": False, "use_flow_sigmas": True, "use_karras_sigmas": False,
}
INDEX = {
    "_class_name": "WanPipeline", "_diffusers_version": "0.35.0", "boundary_ratio": None, "expand_timesteps": False,
    "scheduler": ["diffusers", "UniPCMultistepScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "TokenizersBackend"],
    "transformer": ["diffusers", "WanTransformer3DModel"], "transformer_2": [None, None], "vae": ["diffusers", "AutoencoderKLWan"],
}


def main(folder, mean=None, std=None):
    vae = VAE | ({"latents_mean": mean, "latents_std": std} if mean else {})
    for name, data in (("model_index", INDEX), ("scheduler/scheduler_config", SCHEDULER), ("text_encoder/config", TEXT),
                       ("transformer/config", TRANSFORMER), ("vae/config", vae)):
        path = os.path.join(folder, name + ".json")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
