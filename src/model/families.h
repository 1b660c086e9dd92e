// The model families this build runs: a table of functions from config.json to a DecoderSpec.
//
// Thread: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/config_reader.h"
#include "model/decoder_spec.h"
#include "model/rope_config.h"

namespace pixii::model {

struct Family {
  std::string_view architecture;  // "LlamaForCausalLM", as config.json's architectures names it
  std::string_view model_type;    // "llama"
  Result<DecoderSpec> (*describe)(const ConfigReader& config);
};

std::span<const Family> Families();

/// Picks the family by `architectures`, else by `model_type`, and describes the decoder.
/// Errors: kUnsupported naming key and value of what cannot be run exactly; kInvalidArgument for
/// values out of range.
Result<DecoderSpec> DescribeDecoder(const ConfigReader& config);

Result<DecoderSpec> DescribeLlama(const ConfigReader& config);
Result<DecoderSpec> DescribeMistral(const ConfigReader& config);
Result<DecoderSpec> DescribeQwen2(const ConfigReader& config);
Result<DecoderSpec> DescribeQwen3(const ConfigReader& config);
Result<DecoderSpec> DescribeMixtral(const ConfigReader& config);
Result<DecoderSpec> DescribeQwen2Moe(const ConfigReader& config);
Result<DecoderSpec> DescribeQwen3Moe(const ConfigReader& config);
Result<DecoderSpec> DescribePhi3(const ConfigReader& config);
Result<DecoderSpec> DescribeGemma2(const ConfigReader& config);
Result<DecoderSpec> DescribeGemma3(const ConfigReader& config);
Result<DecoderSpec> DescribeGptOss(const ConfigReader& config);
Result<DecoderSpec> DescribeDeepseekV2(const ConfigReader& config);
Result<DecoderSpec> DescribeDeepseekV3(const ConfigReader& config);
Result<DecoderSpec> DescribeSmolLm3(const ConfigReader& config);

/// What configs of these families leave out, as the reference implementation fills it in.
struct CommonDefaults {
  std::int64_t kv_head_count = 0;  // 0: as many as query heads
  std::int64_t head_dim = 0;       // 0: hidden_size / head_count
  std::int64_t context_tokens_max = 2048;
  double norm_epsilon = 1e-6;
  RopeDefaults rope = {};
  std::string_view activation_key = "hidden_act";
  std::string activation = "silu";
};

/// An integer of [1, max] of either key, the first one that stands in the config.
struct CountKeys {
  std::string_view key;
  std::string_view alias = {};
  std::int64_t fallback = 0;
};

inline constexpr std::int64_t kExpertCountMax = 1024;

/// experts.count, experts_per_token and intermediate_size. Errors: kInvalidArgument naming the key.
struct ExpertKeys {
  CountKeys count;
  std::int64_t experts_per_token = 1;  // fallback of num_experts_per_tok
  CountKeys intermediate_size;
};

Result<void> ReadExperts(const ConfigReader& config, const ExpertKeys& keys, DecoderSpec& spec);

/// A number that null or absence may switch off: null is 0, absence `fallback`.
Result<float> ReadCap(const ConfigReader& config, std::string_view key, double fallback);

/// Reads what all families share: sizes, norm, activation, rope (both dialects), tied head.
Result<DecoderSpec> ReadCommon(const ConfigReader& config, const CommonDefaults& defaults);

/// Whether q, k, v and o have biases, by attention_bias.
Result<void> ReadAttentionBias(const ConfigReader& config, bool fallback, DecoderSpec& spec);

/// Sets each layer's window from layer_types, or where those are absent: `window_tokens` from layer
/// `first_layer` on. window_tokens 0 means that the config has none.
Result<void> ReadLayerTypes(const ConfigReader& config, std::int32_t window_tokens,
                            std::int64_t first_layer, DecoderSpec& spec);

/// Which of its two ropes each layer turns by, once windows are read.
void ChooseRopes(DecoderSpec& spec);

/// Qwen's keys: use_sliding_window, sliding_window, max_window_layers, layer_types.
Result<void> ReadQwenWindow(const ConfigReader& config, DecoderSpec& spec);

}  // namespace pixii::model
