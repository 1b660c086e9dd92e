#include "engine/sampling_check.h"

#include <string>

#include <fmt/format.h>

namespace pixii::engine {

Result<void> CheckRange(std::string_view name, double value, double low, double high) {
  if (!(value >= low && value <= high)) {  // false for NaN too
    return Fail(Code::kInvalidArgument,
                fmt::format("{} is {}; allowed is {} to {}", name, value, low, high),
                std::string(name));
  }
  return {};
}

Result<void> CheckTokens(std::string_view name, std::span<const TokenId> tokens,
                         std::uint32_t vocab_size) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<std::uint32_t>(tokens[i]) >= vocab_size) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("{}[{}] is token {}; the vocabulary has {}", name, i, tokens[i], vocab_size),
          std::string(name));
    }
  }
  return {};
}

namespace {

Result<void> CheckCount(std::string_view name, std::size_t count, std::uint32_t count_max) {
  return CheckRange(name, static_cast<double>(count), 0, count_max);
}

Result<void> CheckFilters(const wire::SamplingParams& params) {
  PX_CHECK_OK(CheckRange("top_a", double{params.top_a}, 0, 1));
  PX_CHECK_OK(CheckRange("typical_p", double{params.typical_p}, 0, 1));
  if (params.typical_p <= 0) {
    return Fail(Code::kInvalidArgument, "typical_p is 0; it must be above 0 and at most 1",
                "typical_p");
  }
  PX_CHECK_OK(CheckRange("xtc_probability", double{params.xtc.probability}, 0, 1));
  PX_CHECK_OK(CheckRange("xtc_threshold", double{params.xtc.threshold}, 0, 1));
  PX_CHECK_OK(CheckRange("mirostat_tau", double{params.mirostat.tau}, 0, 100));
  PX_CHECK_OK(CheckRange("mirostat_eta", double{params.mirostat.eta}, 0, 1));
  if (params.mirostat.tau <= 0) {
    return Fail(Code::kInvalidArgument, "mirostat_tau is 0; it must be above 0 and at most 100",
                "mirostat_tau");
  }
  return {};
}

Result<void> CheckDry(const wire::DryParams& dry, const RequestLimits& limits) {
  PX_CHECK_OK(CheckRange("dry_multiplier", double{dry.multiplier}, 0, 100));
  PX_CHECK_OK(CheckRange("dry_base", double{dry.base}, 1, 10));
  PX_CHECK_OK(CheckRange("dry_allowed_length", dry.allowed_length, 1, 0x7fffffff));
  PX_CHECK_OK(CheckRange("dry_range", dry.range, 0, 0x7fffffff));
  PX_CHECK_OK(CheckCount("dry_sequence_breakers", dry.breakers.size(), kDryBreakersMax));
  return CheckTokens("dry_sequence_breakers", dry.breakers, limits.vocab_size);
}

Result<void> CheckLists(const wire::SamplingParams& params, std::uint32_t vocab_size) {
  PX_CHECK_OK(CheckCount("allowed_token_ids", params.allowed_token_ids.size(), kAllowedTokensMax));
  PX_CHECK_OK(CheckTokens("allowed_token_ids", params.allowed_token_ids, vocab_size));
  PX_CHECK_OK(CheckCount("bad_words", params.bad_words.size(), kBadWordsMax));
  for (const std::vector<TokenId>& word : params.bad_words) {
    PX_CHECK_OK(CheckRange("bad_words", static_cast<double>(word.size()), 1, kBadWordTokensMax));
    PX_CHECK_OK(CheckTokens("bad_words", word, vocab_size));
  }
  return {};
}

}  // namespace

Result<void> CheckSampling(const wire::SamplingParams& params, const RequestLimits& limits) {
  PX_CHECK_OK(CheckRange("temperature", double{params.temperature}, 0, 2));
  PX_CHECK_OK(CheckRange("top_p", double{params.top_p}, 0, 1));
  if (params.top_p <= 0) {
    return Fail(Code::kInvalidArgument, "top_p is 0; it must be above 0 and at most 1", "top_p");
  }
  PX_CHECK_OK(CheckRange("top_k", params.top_k, 0, 0x7fffffff));
  PX_CHECK_OK(CheckRange("min_p", double{params.min_p}, 0, 1));
  PX_CHECK_OK(CheckRange("presence_penalty", double{params.presence_penalty}, -2, 2));
  PX_CHECK_OK(CheckRange("frequency_penalty", double{params.frequency_penalty}, -2, 2));
  PX_CHECK_OK(CheckRange("repetition_penalty", double{params.repetition_penalty}, 0, 2));
  if (params.repetition_penalty <= 0) {
    return Fail(Code::kInvalidArgument, "repetition_penalty is 0; it must be above 0 and at most 2",
                "repetition_penalty");
  }
  for (const auto& [id, bias] : params.logit_bias) {
    PX_CHECK_OK(CheckTokens("logit_bias", std::span(&id, 1), limits.vocab_size));
    PX_CHECK_OK(CheckRange("logit_bias", double{bias}, -100, 100));
  }
  PX_CHECK_OK(CheckFilters(params));
  PX_CHECK_OK(CheckDry(params.dry, limits));
  return CheckLists(params, limits.vocab_size);
}

}  // namespace pixii::engine
