#include "model/families.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <string>

#include "model/encoder_families.h"
#include "model/vision_families.h"

namespace pixii::model {
namespace {

constexpr std::array<Family, 14> kFamilies = {{
    {"LlamaForCausalLM", "llama", DescribeLlama},
    {"MistralForCausalLM", "mistral", DescribeMistral},
    {"Qwen2ForCausalLM", "qwen2", DescribeQwen2},
    {"Qwen3ForCausalLM", "qwen3", DescribeQwen3},
    {"MixtralForCausalLM", "mixtral", DescribeMixtral},
    {"Qwen2MoeForCausalLM", "qwen2_moe", DescribeQwen2Moe},
    {"Qwen3MoeForCausalLM", "qwen3_moe", DescribeQwen3Moe},
    {"Phi3ForCausalLM", "phi3", DescribePhi3},
    {"Gemma2ForCausalLM", "gemma2", DescribeGemma2},
    {"Gemma3ForCausalLM", "gemma3_text", DescribeGemma3},
    {"GptOssForCausalLM", "gpt_oss", DescribeGptOss},
    {"DeepseekV2ForCausalLM", "deepseek_v2", DescribeDeepseekV2},
    {"DeepseekV3ForCausalLM", "deepseek_v3", DescribeDeepseekV3},
    {"SmolLM3ForCausalLM", "smollm3", DescribeSmolLm3},
}};

constexpr std::string_view kGenerator = "ForCausalLM";
constexpr std::string_view kClassifier = "ForSequenceClassification";
constexpr std::string_view kBare = "Model";

/// The head that `architecture` says, if it is `family`'s generator, classifier or bare decoder.
std::optional<HeadKind> HeadOf(const Family& family, std::string_view architecture) {
  const std::string_view stem =
      family.architecture.substr(0, family.architecture.size() - kGenerator.size());
  if (architecture == family.architecture) {
    return HeadKind::kVocab;
  }
  if (!family.architecture.ends_with(kGenerator) || !architecture.starts_with(stem)) {
    return std::nullopt;
  }
  const std::string_view suffix = architecture.substr(stem.size());
  return suffix == kBare         ? std::optional(HeadKind::kNone)
         : suffix == kClassifier ? std::optional(HeadKind::kClasses)
                                 : std::nullopt;
}

struct FamilyChoice {
  const Family* family = nullptr;
  HeadKind head = HeadKind::kVocab;
};

std::string KnownArchitectures() {
  std::string out;
  for (const Family& family : kFamilies) {
    out.append(out.empty() ? "" : ", ").append(family.architecture);
  }
  return fmt::format("{} (also …Model and …ForSequenceClassification of these), {}, {}", out,
                     EncoderArchitectures(), VisionLanguageArchitectures());
}

Result<FamilyChoice> PickFamily(const ConfigReader& config) {
  PX_TRY(const auto architectures, config.Strings("architectures"));
  if (architectures.size() > 1) {
    return config.Unsupported("architectures", "names more than one");
  }
  if (architectures.size() == 1) {
    for (const Family& family : kFamilies) {
      if (const auto head = HeadOf(family, architectures[0])) {
        return FamilyChoice{&family, *head};
      }
    }
    return config.Unsupported(
        "architectures", fmt::format("is not built; this build runs {}", KnownArchitectures()));
  }
  PX_TRY(const std::string model_type, config.String("model_type", ""));
  for (const Family& family : kFamilies) {
    if (family.model_type == model_type) {
      return FamilyChoice{&family, HeadKind::kVocab};
    }
  }
  return config.Unsupported("model_type",
                            fmt::format("is not built; this build runs {}", KnownArchitectures()));
}

/// Keys that change what a model computes, in any family, and that nothing here computes.
Result<void> RefuseWhatIsNotBuilt(const ConfigReader& config) {
  PX_TRY(const bool causal, config.Bool("is_causal", true));
  if (!causal) {
    return config.Unsupported("is_causal", "is not built; this build runs causal attention");
  }
  return {};
}

Result<kernels::Activation> ReadActivation(const ConfigReader& config,
                                           const CommonDefaults& defaults) {
  PX_TRY(const std::string name, config.String(defaults.activation_key, defaults.activation));
  if (name == "silu" || name == "swish") {
    return kernels::Activation::kSilu;
  }
  if (name == "gelu_pytorch_tanh") {
    return kernels::Activation::kGeluTanh;
  }
  if (name == "gelu") {
    return kernels::Activation::kGelu;
  }
  return config.Unsupported(defaults.activation_key,
                            "is not built; this build runs silu, gelu, gelu_pytorch_tanh");
}

}  // namespace

std::span<const Family> Families() { return kFamilies; }

void ChooseRopes(DecoderSpec& spec) {
  for (LayerSpec& layer : spec.layers) {
    layer.windowed_rope = spec.rope_by_layer_type && layer.window_tokens > 0;
  }
}

Result<DecoderSpec> DescribeDecoder(const ConfigReader& config) {
  PX_TRY(const FamilyChoice choice, PickFamily(config));
  const Family* family = choice.family;
  PX_CHECK_OK(RefuseWhatIsNotBuilt(config));
  PX_TRY(DecoderSpec spec, family->describe(config));
  spec.architecture = family->architecture;
  spec.head = choice.head;
  if (spec.head != HeadKind::kVocab) {
    PX_TRY(const auto architectures, config.Strings("architectures"));
    spec.architecture = architectures[0];
  }
  if (spec.head == HeadKind::kClasses) {
    PX_TRY(spec.class_count, ReadClassCount(config));
    spec.names.head = "score";
  }
  ChooseRopes(spec);
  PX_TRY(spec.quantization, ReadQuantization(config));
  return spec;
}

Result<DecoderSpec> ReadCommon(const ConfigReader& config, const CommonDefaults& defaults) {
  DecoderSpec spec;
  const auto read = [&](std::string_view key, std::int64_t max,
                        std::optional<std::int64_t> fallback, std::int32_t& out) -> Result<void> {
    PX_TRY(const std::int64_t value, config.Int(key, {1, max}, fallback));
    out = static_cast<std::int32_t>(value);
    return {};
  };
  std::int32_t layer_count = 0;
  PX_CHECK_OK(read("hidden_size", kHiddenSizeMax, {}, spec.hidden_size));
  PX_CHECK_OK(read("intermediate_size", kIntermediateSizeMax, {}, spec.intermediate_size));
  PX_CHECK_OK(read("vocab_size", kVocabSizeMax, {}, spec.vocab_size));
  PX_CHECK_OK(read("num_hidden_layers", kLayerCountMax, {}, layer_count));
  PX_CHECK_OK(read("num_attention_heads", kHeadCountMax, {}, spec.head_count));
  PX_CHECK_OK(read("num_key_value_heads", kHeadCountMax,
                   defaults.kv_head_count == 0 ? spec.head_count : defaults.kv_head_count,
                   spec.kv_head_count));
  PX_CHECK_OK(read("max_position_embeddings", kContextTokensMax, defaults.context_tokens_max,
                   spec.context_tokens_max));
  if (spec.head_count % spec.kv_head_count != 0) {
    return config.Bad("num_key_value_heads",
                      fmt::format("does not divide num_attention_heads = {}", spec.head_count));
  }
  if (config.Find("head_dim") == nullptr && defaults.head_dim == 0 &&
      spec.hidden_size % spec.head_count != 0) {
    return config.Bad("num_attention_heads",
                      fmt::format("does not divide hidden_size = {}", spec.hidden_size));
  }
  PX_CHECK_OK(read("head_dim", kHeadDimMax,
                   defaults.head_dim == 0 ? spec.hidden_size / spec.head_count : defaults.head_dim,
                   spec.head_dim));
  if (spec.head_dim % 2 != 0 || spec.head_dim > kHeadDimMax) {
    return config.Bad("head_dim", fmt::format("(here {}) is not an even number of 2 to {}",
                                              spec.head_dim, kHeadDimMax));
  }
  PX_TRY(const double epsilon, config.Number("rms_norm_eps", {0.0, 1.0}, defaults.norm_epsilon));
  spec.norm_epsilon = static_cast<float>(epsilon);
  PX_TRY(spec.activation, ReadActivation(config, defaults));
  PX_CHECK_OK(ReadRopes(config, defaults.rope, spec));
  spec.layers.resize(static_cast<std::size_t>(layer_count));
  return spec;
}

namespace {

Result<std::int32_t> ReadCount(const ConfigReader& config, const CountKeys& keys,
                               std::int64_t max) {
  const bool alias =
      config.Find(keys.key) == nullptr && !keys.alias.empty() && config.Find(keys.alias) != nullptr;
  const auto fallback =
      keys.fallback > 0 ? std::optional<std::int64_t>(keys.fallback) : std::nullopt;
  PX_TRY(const std::int64_t value, config.Int(alias ? keys.alias : keys.key, {1, max}, fallback));
  return static_cast<std::int32_t>(value);
}

}  // namespace

Result<void> ReadExperts(const ConfigReader& config, const ExpertKeys& keys, DecoderSpec& spec) {
  ExpertsSpec& experts = spec.experts;
  PX_TRY(experts.count, ReadCount(config, keys.count, kExpertCountMax));
  PX_TRY(experts.intermediate_size,
         ReadCount(config, keys.intermediate_size, kIntermediateSizeMax));
  PX_TRY(const std::int64_t per_token,
         config.Int("num_experts_per_tok", {1, experts.count}, keys.experts_per_token));
  if (per_token > experts.count) {
    return config.Bad("num_experts_per_tok",
                      fmt::format("(here {}) is more than {} experts", per_token, experts.count));
  }
  experts.route.experts_per_token = static_cast<std::int32_t>(per_token);
  return {};
}

Result<float> ReadCap(const ConfigReader& config, std::string_view key, double fallback) {
  PX_TRY(const double value, config.Number(key, {1e-3, 1e9}, config.Has(key) ? 0.0 : fallback));
  return static_cast<float>(value);
}

Result<void> ReadAttentionBias(const ConfigReader& config, bool fallback, DecoderSpec& spec) {
  PX_TRY(spec.names.qkv.bias, config.Bool("attention_bias", fallback));
  spec.names.o.bias = spec.names.qkv.bias;
  return {};
}

Result<void> ReadLayerTypes(const ConfigReader& config, std::int32_t window_tokens,
                            std::int64_t first_layer, DecoderSpec& spec) {
  PX_TRY(const auto types, config.Strings("layer_types"));
  if (types.empty()) {
    for (std::size_t layer = 0; layer < spec.layers.size(); ++layer) {
      spec.layers[layer].window_tokens =
          static_cast<std::int64_t>(layer) >= first_layer ? window_tokens : 0;
    }
    return {};
  }
  if (types.size() != spec.layers.size()) {
    return config.Bad("layer_types", fmt::format("does not have num_hidden_layers = {} entries",
                                                 spec.layers.size()));
  }
  for (std::size_t layer = 0; layer < types.size(); ++layer) {
    if (types[layer] == "sliding_attention" && window_tokens > 0) {
      spec.layers[layer].window_tokens = window_tokens;
    } else if (types[layer] != "full_attention") {
      return config.Unsupported(
          "layer_types", fmt::format("cannot be run: layer {} is {} and sliding_window is {}",
                                     layer, types[layer], window_tokens));
    }
  }
  return {};
}

Result<void> ReadQwenWindow(const ConfigReader& config, DecoderSpec& spec) {
  PX_TRY(const bool used, config.Bool("use_sliding_window", false));
  PX_TRY(const std::int64_t window, config.Int("sliding_window", {used ? 1 : 0, kContextTokensMax},
                                               used && !config.Has("sliding_window") ? 4096 : 0));
  PX_TRY(const std::int64_t first_layer, config.Int("max_window_layers", {0, kLayerCountMax}, 28));
  return ReadLayerTypes(config, used ? static_cast<std::int32_t>(window) : 0, first_layer, spec);
}

}  // namespace pixii::model
