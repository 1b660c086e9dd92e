#include "model/sentence_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "model/config_reader.h"
#include "model/decoder_spec.h"
#include "model/encoder_spec.h"

namespace pixii::model {
namespace {

constexpr std::size_t kPromptsMax = 256;
constexpr std::size_t kPromptSizeMax = 16 * 1024;  // bytes
constexpr std::size_t kDimensionsMax = 256;

Result<std::optional<wire::Json>> ReadJson(const CheckpointFolder& folder, std::string_view name) {
  if (!folder.Has(name)) {
    return std::optional<wire::Json>();
  }
  PX_TRY(const std::string text, folder.ReadText(name, kConfigSizeMax));
  PX_TRY(wire::Json json, ParseConfigJson(text, name));
  return std::optional<wire::Json>(std::move(json));
}

Result<void> ReadPrompts(const ConfigReader& config, SentenceConfig& out) {
  if (const wire::Json* prompts = config.Find("prompts"); prompts != nullptr) {
    if (!prompts->is_object() || prompts->object().size() > kPromptsMax) {
      return config.Bad("prompts", fmt::format("is no object of at most {} texts", kPromptsMax));
    }
    for (const auto& [name, text] : prompts->object()) {
      if (!text.is_string() || text.string().size() > kPromptSizeMax) {
        return config.Bad(
            "prompts", fmt::format("has one that is no text of at most {} bytes", kPromptSizeMax));
      }
      out.prompts.emplace_back(name, text.string());
    }
  }
  PX_TRY(out.default_prompt, config.String("default_prompt_name", ""));
  const bool known =
      std::ranges::find(out.prompts, out.default_prompt,
                        &std::pair<std::string, std::string>::first) != out.prompts.end();
  if (!out.default_prompt.empty() && !known) {
    return config.Bad("default_prompt_name", "is none of the prompts");
  }
  return {};
}

Result<void> ReadSimilarity(const ConfigReader& config, SentenceConfig& out) {
  constexpr std::array<std::pair<std::string_view, VectorSimilarity>, 5> kKnown = {{
      {"cosine", VectorSimilarity::kCosine},
      {"dot", VectorSimilarity::kDot},
      {"dot_product", VectorSimilarity::kDot},
      {"euclidean", VectorSimilarity::kEuclidean},
      {"manhattan", VectorSimilarity::kManhattan},
  }};
  PX_TRY(const std::string name, config.String("similarity_fn_name", "cosine"));
  const auto* found =
      std::ranges::find(kKnown, name, &std::pair<std::string_view, VectorSimilarity>::first);
  if (found == kKnown.end()) {
    return config.Unsupported("similarity_fn_name", "is not built");
  }
  out.similarity = found->second;
  return {};
}

Result<void> ReadActivation(const ConfigReader& config, std::string_view key, SentenceConfig& out) {
  PX_TRY(const std::string name, config.String(key, ""));
  if (name.empty()) {
    return {};
  }
  const std::string_view last = std::string_view(name).substr(name.rfind('.') + 1);
  if (last == "Sigmoid") {
    out.activation = ScoreActivation::kSigmoid;
  } else if (last == "Softmax") {
    out.activation = ScoreActivation::kSoftmax;
  } else if (last == "Identity") {
    out.activation = ScoreActivation::kIdentity;
  } else {
    return config.Unsupported(key, "is not built");
  }
  return {};
}

/// id2label has keys "0", "1", …
Result<void> ReadLabels(const ConfigReader& config, SentenceConfig& out) {
  const wire::Json* labels = config.Find("id2label");
  if (labels == nullptr) {
    return {};
  }
  if (!labels->is_object() || labels->object().size() > kClassCountMax) {
    return config.Bad("id2label", "is no object of labels");
  }
  out.labels.resize(labels->object().size());
  for (const auto& [key, label] : labels->object()) {
    std::size_t index = 0;
    const auto read = std::from_chars(key.data(), key.data() + key.size(), index);
    if (read.ec != std::errc() || read.ptr != key.data() + key.size() ||
        index >= out.labels.size() || !label.is_string()) {
      out.labels.clear();  // labels name results and change none
      return {};
    }
    out.labels[index] = label.string();
  }
  return {};
}

Result<void> ReadDimensions(const ConfigReader& config, SentenceConfig& out) {
  PX_TRY(out.matryoshka, config.Bool("is_matryoshka", false));
  PX_TRY(const auto dimensions, config.IntOrInts("matryoshka_dimensions"));
  if (dimensions.size() > kDimensionsMax) {
    return config.Bad("matryoshka_dimensions", fmt::format("are more than {}", kDimensionsMax));
  }
  for (const std::int64_t dimension : dimensions) {
    if (dimension < 1 || dimension > kHiddenSizeMax) {
      return config.Bad("matryoshka_dimensions", "has one that no vector has");
    }
    out.dimensions.push_back(static_cast<std::int32_t>(dimension));
  }
  out.matryoshka = out.matryoshka || !out.dimensions.empty();
  return {};
}

Result<void> ReadConfig(const ConfigReader& config, SentenceConfig& out) {
  PX_CHECK_OK(ReadLabels(config, out));
  PX_CHECK_OK(ReadDimensions(config, out));
  PX_TRY(const std::string problem, config.String("problem_type", ""));
  if (problem == "regression") {
    out.activation = ScoreActivation::kIdentity;
  } else if (problem == "multi_label_classification") {
    out.activation = ScoreActivation::kSigmoid;
  } else if (problem == "single_label_classification") {
    out.activation = ScoreActivation::kSoftmax;
  }
  PX_CHECK_OK(ReadActivation(config, "sbert_ce_default_activation_function", out));
  if (config.Find("sentence_transformers") != nullptr) {
    PX_TRY(const ConfigReader inner, config.Object("sentence_transformers"));
    PX_CHECK_OK(ReadActivation(inner, "activation_fn", out));
  }
  return {};
}

}  // namespace

Result<SentenceConfig> LoadSentenceConfig(const CheckpointFolder& folder) {
  SentenceConfig out;
  PX_TRY(const auto config, ReadJson(folder, "config.json"));
  if (config) {
    PX_CHECK_OK(ReadConfig(ConfigReader(*config, "config.json"), out));
  }
  constexpr std::string_view kSentence = "config_sentence_transformers.json";
  PX_TRY(const auto sentence, ReadJson(folder, kSentence));
  if (sentence) {
    const ConfigReader reader(*sentence, std::string(kSentence));
    PX_CHECK_OK(ReadPrompts(reader, out));
    PX_CHECK_OK(ReadSimilarity(reader, out));
    PX_CHECK_OK(ReadActivation(reader, "activation_fn", out));
  }
  constexpr std::string_view kTransformer = "sentence_bert_config.json";
  PX_TRY(const auto transformer, ReadJson(folder, kTransformer));
  if (transformer) {
    const ConfigReader reader(*transformer, std::string(kTransformer));
    PX_TRY(const std::int64_t tokens,
           reader.Int("max_seq_length", {0, kContextTokensMax}, std::int64_t{0}));
    out.tokens_max = static_cast<std::int32_t>(tokens);
  }
  return out;
}

}  // namespace pixii::model
