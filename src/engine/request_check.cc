#include "engine/request_check.h"

#include <cmath>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "engine/sampler.h"
#include "engine/sampling_check.h"

namespace pixii::engine {

namespace {

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
  if (limits.input_tokens_max > 0 && request.prompt.size() > limits.input_tokens_max) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the prompt has {} tokens; at most {} are taken", request.prompt.size(),
                            limits.input_tokens_max),
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
  PX_CHECK_OK(CheckSampling(request.sampling, limits));
  PX_CHECK_OK(CheckRange("top_logprobs", request.top_logprobs, -1, kTopLogprobsMax));
  if (!request.states.empty() && request.states.size() != request.choice_count) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("states has {} choices; n is {}", request.states.size(), request.choice_count),
        "states");
  }
  if (request.deadline_left_ns < 0) {
    return Fail(Code::kDeadlineExceeded, "the deadline passed before the request arrived");
  }
  return {};
}

}  // namespace pixii::engine
