#include "unit/model/diffusion/tiny_wan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "support/golden.h"

namespace pixii::model::testing {
namespace {

class TensorList final {
 public:
  explicit TensorList(std::uint64_t seed) : random_(seed) {}

  /// Values around `middle`.
  void Add(const std::string& name, std::vector<std::int64_t> shape, float middle, float spread) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) {
      count *= extent;
    }
    std::string bytes;
    for (std::int64_t i = 0; i < count; ++i) {
      const float value =
          middle + spread * (static_cast<float>(random_() >> 40U) * 0x1p-23F - 1.0F);
      bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    out_.push_back({.name = name, .dtype = "F32", .shape = std::move(shape), .bytes = bytes});
  }

  void Weight(const std::string& name, std::vector<std::int64_t> shape, bool bias = true) {
    std::int64_t inputs = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) {
      inputs *= shape[i];
    }
    const std::int64_t outputs = shape[0];
    Add(name + ".weight", std::move(shape), 0.0F, 1.7F / std::sqrt(static_cast<float>(inputs)));
    if (bias) {
      Add(name + ".bias", {outputs}, 0.0F, 0.1F);
    }
  }

  std::string File() const { return Safetensors(out_); }

 private:
  std::mt19937_64 random_;
  std::vector<WrittenTensor> out_;
};

constexpr char kTokenizer[] = R"({"version": "1.0", "truncation": null, "padding": null,
 "added_tokens": [
  {"id": 0, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
  {"id": 1, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
  {"id": 2, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
 "normalizer": null,
 "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
 "post_processor": {"type": "TemplateProcessing",
  "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
  "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}},
 "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
 "model": {"type": "Unigram", "unk_id": 2, "byte_fallback": false, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0],
  ["▁red", -1.0], ["▁blue", -1.1], ["▁circle", -1.2], ["▁moves", -1.3], ["▁left", -1.4], ["▁", -3.0]]}})";

constexpr char kText[] =
    R"({"model_type": "umt5", "feed_forward_proj": "gated-gelu", "vocab_size": 9, "d_model": 16,
 "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 3, "relative_attention_num_buckets": 8,
 "relative_attention_max_distance": 16, "layer_norm_epsilon": 1e-06})";

constexpr char kTransformer[] =
    R"({"_class_name": "WanTransformer3DModel", "num_attention_heads": 2,
 "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 40, "in_channels": 4, "out_channels": 4, "text_dim": 16,
 "freq_dim": 8, "patch_size": [1, 2, 2], "eps": 1e-06, "cross_attn_norm": true,
 "qk_norm": "rms_norm_across_heads", "added_kv_proj_dim": null, "image_dim": null, "pos_embed_seq_len": null})";

constexpr char kVae[] = R"({"_class_name": "AutoencoderKLWan", "attn_scales": [], "base_dim": 4,
 "decoder_base_dim": null, "dim_mult": [1, 2, 2], "in_channels": 3, "out_channels": 3, "is_residual": false,
 "latents_mean": [0.1, -0.2, 0.0, 0.3], "latents_std": [1.5, 0.5, 1.0, 2.0], "num_res_blocks": 1,
 "patch_size": null, "temperal_downsample": [false, true], "z_dim": 4})";

constexpr char kScheduler[] = R"({"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0,
 "num_train_timesteps": 1000, "prediction_type": "flow_prediction", "use_flow_sigmas": true, "solver_order": 2,
 "solver_type": "bh2", "predict_x0": true, "lower_order_final": true, "final_sigmas_type": "zero",
 "disable_corrector": []})";

constexpr char kIndex[] =
    R"({"_class_name": "WanPipeline", "boundary_ratio": null, "expand_timesteps": false,
 "scheduler": ["diffusers", "UniPCMultistepScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
 "tokenizer": ["transformers", "TokenizersBackend"], "transformer": ["diffusers", "WanTransformer3DModel"],
 "transformer_2": [null, null], "vae": ["diffusers", "AutoencoderKLWan"]})";

constexpr char kDefaults[] =
    R"({"width": 16, "height": 8, "num_frames": 5, "num_inference_steps": 3,
 "guidance_scale": 4.0, "fps": 8, "max_sequence_length": 6, "negative_prompt": "blue"})";

std::string TextWeights() {
  TensorList out(1);
  out.Add("shared.weight", {9, 16}, 0.0F, 1.0F);
  for (int i = 0; i < 2; ++i) {
    const std::string attention = fmt::format("encoder.block.{}.layer.0.", i);
    const std::string feed = fmt::format("encoder.block.{}.layer.1.", i);
    for (const char* name : {"q", "k", "v"}) {
      out.Weight(attention + "SelfAttention." + name, {18, 16}, false);
    }
    out.Weight(attention + "SelfAttention.o", {16, 18}, false);
    out.Add(attention + "SelfAttention.relative_attention_bias.weight", {8, 3}, 0.0F, 2.0F);
    out.Add(attention + "layer_norm.weight", {16}, 1.0F, 0.2F);
    out.Weight(feed + "DenseReluDense.wi_0", {24, 16}, false);
    out.Weight(feed + "DenseReluDense.wi_1", {24, 16}, false);
    out.Weight(feed + "DenseReluDense.wo", {16, 24}, false);
    out.Add(feed + "layer_norm.weight", {16}, 1.0F, 0.2F);
  }
  out.Add("encoder.final_layer_norm.weight", {16}, 1.0F, 0.2F);
  return out.File();
}

std::string TransformerWeights() {
  constexpr std::int64_t kDim = 24;
  TensorList out(2);
  out.Weight("patch_embedding", {kDim, 4, 1, 2, 2});
  out.Weight("condition_embedder.time_embedder.linear_1", {kDim, 8});
  out.Weight("condition_embedder.time_embedder.linear_2", {kDim, kDim});
  out.Weight("condition_embedder.time_proj", {6 * kDim, kDim});
  out.Weight("condition_embedder.text_embedder.linear_1", {kDim, 16});
  out.Weight("condition_embedder.text_embedder.linear_2", {kDim, kDim});
  for (int i = 0; i < 2; ++i) {
    const std::string block = fmt::format("blocks.{}.", i);
    out.Add(block + "scale_shift_table", {1, 6, kDim}, 0.0F, 0.3F);
    for (const char* attention : {"attn1.", "attn2."}) {
      for (const char* name : {"to_q", "to_k", "to_v", "to_out.0"}) {
        out.Weight(block + attention + name, {kDim, kDim});
      }
      out.Add(block + attention + "norm_q.weight", {kDim}, 1.0F, 0.2F);
      out.Add(block + attention + "norm_k.weight", {kDim}, 1.0F, 0.2F);
    }
    out.Add(block + "norm2.weight", {kDim}, 1.0F, 0.2F);
    out.Add(block + "norm2.bias", {kDim}, 0.0F, 0.2F);
    out.Weight(block + "ffn.net.0.proj", {40, kDim});
    out.Weight(block + "ffn.net.2", {kDim, 40});
  }
  out.Add("scale_shift_table", {1, 2, kDim}, 0.0F, 0.3F);
  out.Weight("proj_out", {16, kDim});
  return out.File();
}

void AddResidual(TensorList& out, const std::string& name, std::int64_t inputs,
                 std::int64_t outputs) {
  out.Add(name + ".norm1.gamma", {inputs, 1, 1, 1}, 1.0F, 0.2F);
  out.Weight(name + ".conv1", {outputs, inputs, 3, 3, 3});
  out.Add(name + ".norm2.gamma", {outputs, 1, 1, 1}, 1.0F, 0.2F);
  out.Weight(name + ".conv2", {outputs, outputs, 3, 3, 3});
  if (inputs != outputs) {
    out.Weight(name + ".conv_shortcut", {outputs, inputs, 1, 1, 1});
  }
}

void AddMiddle(TensorList& out, const std::string& name) {
  AddResidual(out, name + ".resnets.0", 8, 8);
  out.Add(name + ".attentions.0.norm.gamma", {8, 1, 1}, 1.0F, 0.2F);
  out.Weight(name + ".attentions.0.to_qkv", {24, 8, 1, 1});
  out.Weight(name + ".attentions.0.proj", {8, 8, 1, 1});
  AddResidual(out, name + ".resnets.1", 8, 8);
}

std::string VaeWeights() {
  TensorList out(3);
  out.Weight("encoder.conv_in", {4, 3, 3, 3, 3});
  AddResidual(out, "encoder.down_blocks.0", 4, 4);
  out.Weight("encoder.down_blocks.1.resample.1", {4, 4, 3, 3});
  AddResidual(out, "encoder.down_blocks.2", 4, 8);
  out.Weight("encoder.down_blocks.3.resample.1", {8, 8, 3, 3});
  out.Weight("encoder.down_blocks.3.time_conv", {8, 8, 3, 1, 1});
  AddResidual(out, "encoder.down_blocks.4", 8, 8);
  AddMiddle(out, "encoder.mid_block");
  out.Add("encoder.norm_out.gamma", {8, 1, 1, 1}, 1.0F, 0.2F);
  out.Weight("encoder.conv_out", {8, 8, 3, 3, 3});
  out.Weight("quant_conv", {8, 8, 1, 1, 1});
  out.Weight("post_quant_conv", {4, 4, 1, 1, 1});
  out.Weight("decoder.conv_in", {8, 4, 3, 3, 3});
  AddMiddle(out, "decoder.mid_block");
  AddResidual(out, "decoder.up_blocks.0.resnets.0", 8, 8);
  AddResidual(out, "decoder.up_blocks.0.resnets.1", 8, 8);
  out.Weight("decoder.up_blocks.0.upsamplers.0.resample.1", {4, 8, 3, 3});
  out.Weight("decoder.up_blocks.0.upsamplers.0.time_conv", {16, 8, 3, 1, 1});
  AddResidual(out, "decoder.up_blocks.1.resnets.0", 4, 8);
  AddResidual(out, "decoder.up_blocks.1.resnets.1", 8, 8);
  out.Weight("decoder.up_blocks.1.upsamplers.0.resample.1", {4, 8, 3, 3});
  AddResidual(out, "decoder.up_blocks.2.resnets.0", 4, 4);
  AddResidual(out, "decoder.up_blocks.2.resnets.1", 4, 4);
  out.Add("decoder.norm_out.gamma", {4, 1, 1, 1}, 1.0F, 0.2F);
  out.Weight("decoder.conv_out", {3, 4, 3, 3, 3});
  return out.File();
}

std::string WeightsFile(const std::string& part) {
  return part +
         (part == "text_encoder" ? "/model.safetensors" : "/diffusion_pytorch_model.safetensors");
}

}  // namespace

TinyWan::TinyWan() {
  for (const char* part : {"scheduler", "text_encoder", "tokenizer", "transformer", "vae"}) {
    std::filesystem::create_directory(path() + "/" + part);
  }
  Write("model_index.json", kIndex);
  Write("generation_config.json", kDefaults);
  Write("scheduler/scheduler_config.json", kScheduler);
  Write("tokenizer/tokenizer.json", kTokenizer);
  Write("text_encoder/config.json", kText);
  Write("transformer/config.json", kTransformer);
  Write("vae/config.json", kVae);
  Write(WeightsFile("text_encoder"), TextWeights());
  Write(WeightsFile("transformer"), TransformerWeights());
  Write(WeightsFile("vae"), VaeWeights());
}

void TinyWan::Replace(const std::string& file, const std::string& from,
                      const std::string& to) const {
  std::string text = pixii::testing::ReadFileOrFail(path() + "/" + file);
  std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << file << " has no " << from;
  for (; at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  Write(file, text);
}

void TinyWan::ChangeWeights(const std::string& part,
                            const std::function<void(std::vector<WrittenTensor>&)>& change) const {
  std::vector<WrittenTensor> tensors = ReadSafetensors(path() + "/" + WeightsFile(part));
  change(tensors);
  Write(WeightsFile(part), Safetensors(tensors));
}

std::unique_ptr<kernels::Operators> CpuOperators(int threads) {
  return std::move(*kernels::MakeCpuOperators({.thread_count = threads}));
}

}  // namespace pixii::model::testing
