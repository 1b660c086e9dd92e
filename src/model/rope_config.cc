#include "model/rope_config.h"

#include <fmt/format.h>

#include <cmath>

namespace pixii::model {
namespace {

constexpr NumberRange kThetaRange = {1.0, 1e12};
constexpr NumberRange kFactorRange = {1.0, 1e6};

Result<std::vector<double>> ReadFactors(const ConfigReader& rope, std::string_view key,
                                        std::int32_t count) {
  std::vector<double> out;
  const wire::Json* list = rope.Find(key);
  if (list == nullptr || !list->is_array() || std::ssize(list->array()) != count) {
    return rope.Bad(key, fmt::format("is not a list of {} numbers, one for each pair", count));
  }
  for (const wire::Json& item : list->array()) {
    const auto number = item.is_number() ? item.AsDouble() : std::nullopt;
    if (!number || !(*number >= 1e-6 && *number <= 1e9)) {
      return rope.Bad(key, "holds something that is not a number of 1e-6 to 1e9");
    }
    out.push_back(*number);
  }
  return out;
}

/// The context that the checkpoint was first trained for.
Result<std::int64_t> ReadOriginalContext(const ConfigReader& config, const ConfigReader& rope,
                                         std::int64_t fallback) {
  constexpr std::string_view kKey = "original_max_position_embeddings";
  PX_TRY(const std::int64_t outer, config.Int(kKey, {1, kContextTokensMax}, fallback));
  return rope.Int(kKey, {1, kContextTokensMax}, outer);
}

Result<void> ReadLlama3(const ConfigReader& rope, RopeSpec& spec) {
  PX_TRY(spec.low_freq_factor, rope.Number("low_freq_factor", {1e-6, 1e6}));
  PX_TRY(spec.high_freq_factor, rope.Number("high_freq_factor", {1e-6, 1e6}));
  PX_TRY(spec.original_context_tokens,
         rope.Int("original_max_position_embeddings", {1, kContextTokensMax}));
  if (spec.low_freq_factor >= spec.high_freq_factor) {
    return rope.Bad("low_freq_factor", "is not below high_freq_factor");
  }
  return {};
}

Result<void> ReadYarn(const ConfigReader& rope, RopeSpec& spec) {
  PX_TRY(spec.beta_fast, rope.Number("beta_fast", {1e-6, 1e6}, 32.0));
  PX_TRY(spec.beta_slow, rope.Number("beta_slow", {1e-6, 1e6}, 1.0));
  PX_TRY(spec.truncate, rope.Bool("truncate", true));
  PX_TRY(const double mscale, rope.Number("mscale", {0.0, 1e6}, 0.0));
  PX_TRY(const double all, rope.Number("mscale_all_dim", {0.0, 1e6}, 0.0));
  const double magnitude = mscale > 0.0 && all > 0.0 ? YarnMagnitude(spec.factor, mscale) /
                                                           YarnMagnitude(spec.factor, all)
                                                     : YarnMagnitude(spec.factor, 1.0);
  PX_TRY(spec.attention_factor, rope.Number("attention_factor", {1e-6, 1e6}, magnitude));
  if (all > 0.0) {
    spec.score_scale = std::pow(YarnMagnitude(spec.factor, all), 2.0);
  }
  return {};
}

Result<void> ReadLongRope(const ConfigReader& config, const ConfigReader& rope,
                          const DecoderSpec& sizes, RopeSpec& spec) {
  const std::int32_t pairs = sizes.rotary_dim(spec) / 2;
  PX_TRY(spec.short_factors, ReadFactors(rope, "short_factor", pairs));
  PX_TRY(spec.long_factors, ReadFactors(rope, "long_factor", pairs));
  double factor = spec.factor;
  if (config.Find("original_max_position_embeddings") != nullptr ||
      rope.Find("original_max_position_embeddings") != nullptr) {
    factor = static_cast<double>(sizes.context_tokens_max) /
             static_cast<double>(spec.original_context_tokens);
  }
  const double magnitude =
      factor <= 1.0
          ? 1.0
          : std::sqrt(1.0 + std::log(factor) /
                                std::log(static_cast<double>(spec.original_context_tokens)));
  PX_TRY(spec.attention_factor, rope.Number("attention_factor", {1e-6, 1e6}, magnitude));
  return {};
}

/// M-RoPE's, of multimodal models; text turns by them as without.
Result<void> ReadSections(const ConfigReader& rope, const DecoderSpec& sizes, RopeSpec& spec) {
  PX_TRY(const auto sections, rope.IntOrInts("mrope_section"));
  if (sections.empty()) {
    return {};
  }
  PX_TRY(spec.sections_interleaved, rope.Bool("mrope_interleaved", false));
  const std::int64_t pairs = sizes.rotary_dim(spec) / 2;
  std::int64_t sum = 0;
  bool fits = sections.size() == 3;
  for (const std::int64_t section : sections) {
    fits = fits && section >= 0 && section <= pairs;
    sum += fits ? section : 0;
    spec.sections.push_back(static_cast<std::int32_t>(section));
  }
  if (!fits || sum != pairs) {
    return rope.Bad("mrope_section",
                    fmt::format("is not three sections of {} pairs together", pairs));
  }
  return {};
}

/// One object of either dialect: {"rope_type" or "type", factors…}.
Result<RopeSpec> ReadRopeObject(const ConfigReader& config, const ConfigReader& rope, double theta,
                                const RopeDefaults& defaults, const DecoderSpec& sizes) {
  RopeSpec spec;
  PX_TRY(spec.theta, rope.Number("rope_theta", kThetaRange, theta));
  PX_TRY(const double outer, config.Number("partial_rotary_factor", {0.0, 1.0}, 1.0));
  PX_TRY(const double partial, rope.Number("partial_rotary_factor", {0.0, 1.0}, outer));
  if (partial != 1.0) {
    const ConfigReader& place = rope.Find("partial_rotary_factor") != nullptr ? rope : config;
    if (!defaults.partial) {
      return place.Unsupported("partial_rotary_factor", "is not built for this family");
    }
    spec.rotary_dim = static_cast<std::int32_t>(sizes.head_dim * partial);
    if (spec.rotary_dim < 2 || spec.rotary_dim % 2 != 0) {
      return place.Bad("partial_rotary_factor",
                       fmt::format("times {} elements of a head is not an even number of at least "
                                   "2",
                                   sizes.head_dim));
    }
  }
  const std::string_view type_key = rope.Find("rope_type") != nullptr ? "rope_type" : "type";
  PX_TRY(const std::string type, rope.String(type_key, "default"));
  PX_CHECK_OK(ReadSections(rope, sizes, spec));
  if (type == "default" || (type == "mrope" && !spec.sections.empty())) {
    return spec;
  }
  if (type == "linear") {
    spec.kind = RopeKind::kLinear;
  } else if (type == "dynamic") {
    spec.kind = RopeKind::kDynamic;
  } else if (type == "yarn") {
    spec.kind = RopeKind::kYarn;
  } else if (type == "llama3") {
    spec.kind = RopeKind::kLlama3;
  } else if (type == "longrope" || type == "su") {
    spec.kind = RopeKind::kLongRope;
  } else {
    return rope.Unsupported(
        type_key, "is not built; this build runs default, linear, dynamic, yarn, llama3, longrope");
  }
  const bool needs_factor = spec.kind != RopeKind::kLongRope;
  PX_TRY(spec.factor, rope.Number("factor", kFactorRange,
                                  needs_factor ? std::nullopt : std::optional<double>(1.0)));
  PX_TRY(spec.original_context_tokens, ReadOriginalContext(config, rope, sizes.context_tokens_max));
  if (spec.kind == RopeKind::kLlama3) {
    PX_CHECK_OK(ReadLlama3(rope, spec));
  } else if (spec.kind == RopeKind::kYarn) {
    PX_CHECK_OK(ReadYarn(rope, spec));
  } else if (spec.kind == RopeKind::kLongRope) {
    PX_CHECK_OK(ReadLongRope(config, rope, sizes, spec));
  }
  return spec;
}

}  // namespace

double YarnMagnitude(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

Result<void> ReadRopes(const ConfigReader& config, const RopeDefaults& defaults,
                       DecoderSpec& spec) {
  PX_TRY(const double theta, config.Number("rope_theta", kThetaRange, defaults.theta));
  for (const std::string_view key : {"rope_parameters", "rope_scaling"}) {
    if (config.Find(key) == nullptr) {
      continue;
    }
    PX_TRY(const ConfigReader rope, config.Object(key));
    if (rope.Find("full_attention") == nullptr && rope.Find("sliding_attention") == nullptr) {
      PX_TRY(spec.rope, ReadRopeObject(config, rope, theta, defaults, spec));
      return {};
    }
    PX_TRY(const ConfigReader full, rope.Object("full_attention"));
    PX_TRY(spec.rope, ReadRopeObject(config, full, theta, defaults, spec));
    PX_TRY(const ConfigReader sliding, rope.Object("sliding_attention"));
    PX_TRY(spec.window_rope, ReadRopeObject(config, sliding, theta, defaults, spec));
    spec.rope_by_layer_type = true;
    return {};
  }
  const wire::Json none{wire::Json::Object{}};
  PX_TRY(spec.rope,
         ReadRopeObject(config, ConfigReader(none, config.file_name()), theta, defaults, spec));
  return {};
}

}  // namespace pixii::model
