#include "model/vision_families.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "model/families.h"

namespace pixii::model {
namespace {

using Describe = Result<void> (*)(const ConfigReader& config, VisionLanguageSpec& spec);

struct VisionFamily {
  std::string_view architecture;
  std::string_view model_type;
  Result<DecoderSpec> (*text)(const ConfigReader& config);  // null: by text_config's own names
  Describe vision;
};

constexpr std::array<VisionFamily, 7> kFamilies = {{
    {"Gemma3ForConditionalGeneration", "gemma3", nullptr, DescribeGemma3Vision},
    {"LlavaForConditionalGeneration", "llava", nullptr, DescribeLlavaVision},
    {"LlavaNextForConditionalGeneration", "llava_next", nullptr, DescribeLlavaNextVision},
    {"LlavaOnevisionForConditionalGeneration", "llava_onevision", nullptr, DescribeOneVision},
    {"Qwen2VLForConditionalGeneration", "qwen2_vl", DescribeQwen2, DescribeQwen2Vision},
    {"Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", DescribeQwen2, DescribeQwen25Vision},
    {"Qwen3VLForConditionalGeneration", "qwen3_vl", DescribeQwen3, DescribeQwen3Vision},
}};

Result<const VisionFamily*> Choose(const ConfigReader& config) {
  PX_TRY(const auto architectures, config.Strings("architectures"));
  const auto* found = kFamilies.end();
  if (architectures.size() == 1) {
    found = std::ranges::find(kFamilies, architectures[0], &VisionFamily::architecture);
  } else if (architectures.empty()) {
    PX_TRY(const std::string type, config.String("model_type", ""));
    found = std::ranges::find(kFamilies, type, &VisionFamily::model_type);
  }
  return found == kFamilies.end() ? nullptr : found;
}

/// What hub configs leave out of their text_config, as LlamaConfig, MistralConfig and
/// Gemma3TextConfig fill it in.
wire::Json WithDefaults(const wire::Json& text, std::string_view type) {
  wire::Json::Object out = text.object();
  const auto fill = [&](const char* key, std::int64_t value) {
    if (text.Find(key) == nullptr) {
      out.emplace_back(key, wire::Json(value));
    }
  };
  if (type == "gemma3_text") {
    fill("hidden_size", 2304);
    fill("intermediate_size", 9216);
    fill("num_hidden_layers", 26);
    fill("num_attention_heads", 8);
    fill("vocab_size", 262208);
    return wire::Json(std::move(out));
  }
  fill("hidden_size", 4096);
  fill("intermediate_size", type == "mistral" ? 14336 : 11008);
  fill("num_hidden_layers", 32);
  fill("num_attention_heads", 32);
  return wire::Json(std::move(out));
}

Result<DecoderSpec> DescribeText(const VisionFamily& family, const ConfigReader& config) {
  const wire::Json* text = config.Find("text_config");
  if (text == nullptr) {
    if (family.text == nullptr) {
      return config.Bad("text_config", "is missing");
    }
    return family.text(config);
  }
  PX_TRY(const ConfigReader reader, config.Object("text_config"));
  if (family.text != nullptr) {
    return family.text(reader);
  }
  PX_TRY(const std::string type, reader.String("model_type", "llama"));
  const auto families = Families();
  const auto found = std::ranges::find(families, type, &Family::model_type);
  if (found == families.end()) {
    return reader.Unsupported("model_type", "is no text model of this build");
  }
  if (type != "llama" && type != "mistral" && type != "gemma3_text") {
    return found->describe(reader);
  }
  const wire::Json filled = WithDefaults(*text, type);
  return found->describe(ConfigReader(filled, config.file_name(), "text_config."));
}

/// Either key, -1 where the config has neither.
Result<std::int32_t> ReadTokenId(const ConfigReader& config,
                                 std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (config.Find(key) != nullptr) {
      PX_TRY(const std::int64_t id, config.Int(key, {0, kVocabSizeMax}));
      return static_cast<std::int32_t>(id);
    }
  }
  return -1;
}

Result<MediaTokens> ReadMediaTokens(const ConfigReader& config) {
  MediaTokens out;
  PX_TRY(out.image, ReadTokenId(config, {"image_token_id", "image_token_index"}));
  PX_TRY(out.video, ReadTokenId(config, {"video_token_id", "video_token_index"}));
  PX_TRY(out.vision_start,
         ReadTokenId(config, {"vision_start_token_id", "boi_token_id", "boi_token_index"}));
  PX_TRY(out.vision_end,
         ReadTokenId(config, {"vision_end_token_id", "eoi_token_id", "eoi_token_index"}));
  if (out.image < 0) {
    return config.Bad("image_token_id", "is missing, and so is image_token_index");
  }
  return out;
}

Result<void> RefuseWhatIsNotBuilt(const ConfigReader& config) {
  for (const std::string_view key : {"quantization_config", "compression_config"}) {
    if (config.Find(key) != nullptr) {
      return config.Unsupported(key, "is not built for vision-language models");
    }
  }
  return {};
}

}  // namespace

std::string VisionLanguageArchitectures() {
  std::string out;
  for (const VisionFamily& family : kFamilies) {
    out.append(out.empty() ? "" : ", ").append(family.architecture);
  }
  return out;
}

Result<bool> IsVisionLanguage(const ConfigReader& config) {
  PX_TRY(const VisionFamily* family, Choose(config));
  return family != nullptr;
}

Result<VisionLanguageSpec> DescribeVisionLanguage(const ConfigReader& config) {
  PX_TRY(const VisionFamily* family, Choose(config));
  PX_CHECK_OK(RefuseWhatIsNotBuilt(config));
  VisionLanguageSpec spec;
  PX_TRY(spec.decoder, DescribeText(*family, config));
  ChooseRopes(spec.decoder);
  spec.decoder.architecture = family->architecture;
  // Some hub configs say it of the text alone; a head that is there must be the table then.
  PX_TRY(const bool tied, config.Bool("tie_word_embeddings", false));
  spec.decoder.tied_head = spec.decoder.tied_head || tied;
  spec.vision.architecture = family->architecture;
  spec.vision.out_size = spec.decoder.hidden_size;
  spec.vision.three_positions = !spec.decoder.rope.sections.empty();
  PX_TRY(spec.vision.tokens, ReadMediaTokens(config));
  PX_CHECK_OK(family->vision(config, spec));
  if (spec.vision.deepstack_layers.size() >= spec.decoder.layers.size()) {
    return config.Unsupported("vision_config", "has deepstack levels for every text layer");
  }
  return spec;
}

void ResolveTextNames(const Checkpoint& checkpoint, DecoderSpec& decoder) {
  struct Dialect {
    std::string_view body;  // in place of "model."
    std::string_view head;  // in place of "lm_head"
  };

  constexpr std::string_view kBody = "model.";
  constexpr std::array<Dialect, 3> kDialects = {{
      {"model.", "lm_head"},
      {"language_model.model.", "language_model.lm_head"},
      {"model.language_model.", "lm_head"},
  }};
  const std::string embed = decoder.names.embed.substr(kBody.size()) + ".weight";
  const auto* found = std::ranges::find_if(kDialects, [&](const Dialect& dialect) {
    return checkpoint.Find(std::string(dialect.body) + embed) != nullptr;
  });
  if (found == kDialects.end()) {
    return;
  }
  ForEachName(decoder, [&](std::string& name) {
    if (name.starts_with(kBody)) {
      name = std::string(found->body) + name.substr(kBody.size());
    }
  });
  decoder.names.head = found->head;
}

Result<kernels::Activation> ReadVisionActivation(const ConfigReader& config, std::string_view key,
                                                 std::string fallback) {
  PX_TRY(const std::string name, config.String(key, std::move(fallback)));
  if (name == "quick_gelu") {
    return kernels::Activation::kQuickGelu;
  }
  if (name == "gelu") {
    return kernels::Activation::kGelu;
  }
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    return kernels::Activation::kGeluTanh;
  }
  if (name == "silu" || name == "swish") {
    return kernels::Activation::kSilu;
  }
  return config.Unsupported(
      key, "is not built; this build runs quick_gelu, gelu, gelu_pytorch_tanh, gelu_new, silu");
}

Result<std::int32_t> ReadVisionSize(const ConfigReader& config, std::string_view key,
                                    std::int64_t max, std::optional<std::int64_t> fallback) {
  PX_TRY(const std::int64_t value, config.Int(key, {1, max}, fallback));
  return static_cast<std::int32_t>(value);
}

Result<void> CheckVisionHeads(const ConfigReader& config, std::string_view key,
                              const VisionSpec& spec) {
  const bool divides = spec.hidden_size % spec.head_count == 0;
  // A half of the pairs turns by the row, the other by the column.
  if (!divides || spec.head_dim() > kernels::kHeadDimMax ||
      (spec.rotary && spec.head_dim() % 4 != 0)) {
    return config.Bad(key, fmt::format("does not divide a width of {} into heads of at most {}{}",
                                       spec.hidden_size, kernels::kHeadDimMax,
                                       spec.rotary ? ", a multiple of 4" : ""));
  }
  return {};
}

}  // namespace pixii::model
