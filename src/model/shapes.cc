#include "model/shapes.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "model/config.h"

namespace pixii::model {
namespace {

struct Shape {
  std::string_view name;
  std::string_view config;  // the keys of its config.json that matter
};

constexpr std::array<Shape, 6> kShapes = {{
    {"tiny",
     R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 64, "intermediate_size": 160, "vocab_size": 512,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
      "max_position_embeddings": 2048, "tie_word_embeddings": true})"},
    {"tiny-chat",
     R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 256, "intermediate_size": 768,
      "vocab_size": 4096, "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
      "max_position_embeddings": 8192, "rope_theta": 100000.0, "tie_word_embeddings": true})"},
    {"qwen2.5-0.5b",
     R"({"architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "intermediate_size": 4864,
      "vocab_size": 151936, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
      "max_position_embeddings": 32768, "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
    {"llama-3.2-1b",
     R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192,
      "vocab_size": 128256, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
      "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": {
      "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
      "rope_type": "llama3"}, "tie_word_embeddings": true})"},
    {"qwen3-0.6b",
     R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024, "intermediate_size": 3072,
      "vocab_size": 151936, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
      "max_position_embeddings": 40960, "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
    {"qwen3-moe",
     R"({"architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 1024, "intermediate_size": 3072,
      "vocab_size": 151936, "num_hidden_layers": 12, "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64,
      "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 384, "norm_topk_prob": true,
      "max_position_embeddings": 40960, "rope_theta": 1000000.0, "tie_word_embeddings": true})"},
}};

constexpr auto kNames = [] {
  std::array<std::string_view, kShapes.size()> names;
  for (std::size_t i = 0; i < kShapes.size(); ++i) {
    names[i] = kShapes[i].name;
  }
  return names;
}();

}  // namespace

std::span<const std::string_view> Shapes() { return kNames; }

Result<DecoderSpec> FindShape(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name == name) {
      PX_TRY(ModelConfig config, ParseConfig(std::string(shape.config), ""));
      return std::move(config.decoder);
    }
  }
  return Fail(Code::kNotFound,
              fmt::format("there is no shape \"{}\"; known are {}", name, fmt::join(kNames, ", ")),
              "shape");
}

}  // namespace pixii::model
