#include "engine/request_check.h"

#include <cmath>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "engine/sampler.h"

namespace pixii::engine {

namespace {

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

Result<void> CheckSampling(const wire::SamplingParams& params, std::uint32_t vocab_size) {
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
    PX_CHECK_OK(CheckTokens("logit_bias", std::span(&id, 1), vocab_size));
    PX_CHECK_OK(CheckRange("logit_bias", double{bias}, -100, 100));
  }
  return {};
}

Result<void> CheckLengths(const wire::GenerateRequest& request, const RequestLimits& limits) {
  bool generates = request.stop.max_tokens > 0;
  if (!generates && !request.prompt_logprobs) {
    return Fail(Code::kInvalidArgument,
                "max_tokens is 0; that is allowed only with prompt_logprobs", "max_tokens");
  }
  if (request.prompt.empty()) {
    return Fail(Code::kInvalidArgument, "the prompt has no tokens; at least 1 is needed", "prompt");
  }
  std::size_t room = limits.context_tokens_max - (generates ? 1U : 0U);
  if (request.prompt.size() > room) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("the prompt has {} tokens; {} of {} tokens leaves room for a prompt of {}",
                    request.prompt.size(),
                    limits.context_bound_by_blocks ? "a KV cache" : "a context",
                    limits.context_tokens_max, room),
        "prompt");
  }
  for (const std::vector<TokenId>& generated : request.generated) {
    if (request.prompt.size() + generated.size() > limits.context_tokens_max) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("prompt and generated tokens are {}; the limit is {}",
                              request.prompt.size() + generated.size(), limits.context_tokens_max),
                  "generated");
    }
  }
  return {};
}

}  // namespace

Result<void> CheckRequest(const wire::GenerateRequest& request, const RequestLimits& limits) {
  PX_CHECK_OK(CheckRange("n", request.choice_count, 1, limits.choice_count_max));
  if (!request.generated.empty() && request.generated.size() != request.choice_count) {
    return Fail(Code::kInvalidArgument,
                fmt::format("generated has {} choices; n is {}", request.generated.size(),
                            request.choice_count),
                "generated");
  }
  PX_CHECK_OK(CheckLengths(request, limits));
  PX_CHECK_OK(CheckTokens("prompt", request.prompt, limits.vocab_size));
  for (const std::vector<TokenId>& generated : request.generated) {
    PX_CHECK_OK(CheckTokens("generated", generated, limits.vocab_size));
  }
  PX_CHECK_OK(CheckSampling(request.sampling, limits.vocab_size));
  PX_CHECK_OK(CheckRange("top_logprobs", request.top_logprobs, -1, kTopLogprobsMax));
  if (request.deadline_left_ns < 0) {
    return Fail(Code::kDeadlineExceeded, "the deadline passed before the request arrived");
  }
  return {};
}

}  // namespace pixii::engine
