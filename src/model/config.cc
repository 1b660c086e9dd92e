#include "model/config.h"

#include <fmt/format.h>

#include "model/config_reader.h"
#include "model/encoder_families.h"
#include "model/families.h"
#include "model/vision_families.h"

namespace pixii::model {
namespace {

constexpr std::string_view kConfigName = "config.json";
constexpr std::string_view kGenerationName = "generation_config.json";
constexpr std::int64_t kTokenIdMax = (std::int64_t{1} << 31) - 1;

/// End-of-sequence ids of either file. An id past the vocabulary can never be drawn, so it is
/// dropped.
Result<std::vector<std::int32_t>> ReadEos(const ConfigReader& config, std::int32_t vocab_size) {
  PX_TRY(const auto ids, config.IntOrInts("eos_token_id"));
  if (ids.size() > kEosTokenCountMax) {
    return config.Bad("eos_token_id", fmt::format("has more than {} ids", kEosTokenCountMax));
  }
  std::vector<std::int32_t> out;
  for (const std::int64_t id : ids) {
    if (id >= 0 && id < vocab_size) {
      out.push_back(static_cast<std::int32_t>(id));
    }
  }
  return out;
}

template <class T>
Result<void> ReadOptional(const ConfigReader& config, std::string_view key, NumberRange range,
                          std::optional<T>& out) {
  if (config.Find(key) != nullptr) {
    if constexpr (std::is_same_v<T, double>) {
      PX_TRY(out, config.Number(key, range));
    } else {
      PX_TRY(const std::int64_t value, config.Int(key, {static_cast<std::int64_t>(range.min),
                                                        static_cast<std::int64_t>(range.max)}));
      out = static_cast<T>(value);
    }
  }
  return {};
}

Result<GenerationDefaults> ReadGeneration(const ConfigReader& config) {
  GenerationDefaults out;
  if (config.Find("do_sample") != nullptr) {
    PX_TRY(out.do_sample, config.Bool("do_sample", false));
  }
  PX_CHECK_OK(ReadOptional(config, "temperature", {0.0, 100.0}, out.temperature));
  PX_CHECK_OK(ReadOptional(config, "top_p", {0.0, 1.0}, out.top_p));
  PX_CHECK_OK(ReadOptional(config, "min_p", {0.0, 1.0}, out.min_p));
  PX_CHECK_OK(ReadOptional(config, "top_k", {-1.0, double{kVocabSizeMax}}, out.top_k));
  if (out.top_k == -1) {
    out.top_k = 0;  // some writers say -1 for "all"
  }
  PX_CHECK_OK(ReadOptional(config, "repetition_penalty", {1e-3, 100.0}, out.repetition_penalty));
  PX_CHECK_OK(
      ReadOptional(config, "max_new_tokens", {1.0, double{kContextTokensMax}}, out.max_new_tokens));
  return out;
}

}  // namespace

Result<ModelConfig> ParseConfig(std::string text, std::string_view generation_text) {
  ModelConfig out;
  PX_TRY(const wire::Json json, ParseConfigJson(text, kConfigName));
  const ConfigReader config(json, std::string(kConfigName));
  PX_TRY(const bool is_encoder, IsEncoder(config));
  PX_TRY(const bool sees, IsVisionLanguage(config));
  if (is_encoder) {
    PX_TRY(out.encoder, DescribeEncoder(config));
  } else if (sees) {
    PX_TRY(VisionLanguageSpec both, DescribeVisionLanguage(config));
    out.decoder = std::move(both.decoder);
    out.vision = std::move(both.vision);
  } else {
    PX_TRY(out.decoder, DescribeDecoder(config));
  }
  const std::int32_t vocab_size = is_encoder ? out.encoder->vocab_size : out.decoder.vocab_size;
  PX_TRY(out.eos_token_ids, ReadEos(config, vocab_size));
  PX_TRY(std::int64_t bos, config.Int("bos_token_id", {-1, kTokenIdMax}, -1));
  if (sees && config.Find("text_config") != nullptr) {
    PX_TRY(const ConfigReader inner, config.Object("text_config"));
    if (out.eos_token_ids.empty()) {
      PX_TRY(out.eos_token_ids, ReadEos(inner, vocab_size));
    }
    if (bos < 0) {
      PX_TRY(bos, inner.Int("bos_token_id", {-1, kTokenIdMax}, -1));
    }
  }
  out.bos_token_id = bos < vocab_size ? static_cast<std::int32_t>(bos) : -1;
  out.text = std::move(text);
  if (generation_text.empty()) {
    return out;
  }
  PX_TRY(const wire::Json generation_json, ParseConfigJson(generation_text, kGenerationName));
  const ConfigReader generation(generation_json, std::string(kGenerationName));
  PX_TRY(out.generation, ReadGeneration(generation));
  PX_TRY(const auto eos, ReadEos(generation, vocab_size));
  if (!eos.empty()) {
    out.eos_token_ids = eos;
  }
  return out;
}

Result<ModelConfig> LoadConfig(const CheckpointFolder& folder) {
  PX_TRY(std::string text, folder.ReadText(kConfigName, kConfigSizeMax));
  std::string generation_text;
  if (folder.Has(kGenerationName)) {
    PX_TRY(generation_text, folder.ReadText(kGenerationName, kConfigSizeMax));
  }
  auto config = ParseConfig(std::move(text), generation_text);
  if (!config) {
    return Fail(config.error().code(), fmt::format("{}/{}", folder.path(), config.error().detail()),
                config.error().param());
  }
  PX_TRY(config->modules, LoadSentenceModules(folder));
  const bool generates = !config->encoder && config->decoder.head == HeadKind::kVocab;
  if (generates && config->modules.pooling) {
    config->decoder.head = HeadKind::kNone;  // published with the architecture it was trained from
  }
  return config;
}

}  // namespace pixii::model
