#include "engine/request_check.h"

#include <algorithm>
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
  if (!generates && !request.prompt_logprobs && !request.pool) {
    return Fail(Code::kInvalidArgument,
                "max_tokens is 0; that is allowed only with prompt_logprobs", "max_tokens");
  }
  if (request.fetch_only && (request.choice_count != 1 || request.prompt_logprobs)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("fetch_only: blocks are brought for one choice without "
                            "prompt_logprobs; n is {}",
                            request.choice_count),
                "fetch_only");
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

// All of the prompt that is not media's. Pre: Engine::CheckMedia took their places.
Result<void> CheckWords(const wire::GenerateRequest& request, std::uint32_t vocab_size) {
  std::span<const TokenId> rest = request.prompt;
  for (const wire::MediaItem& item : request.media) {
    const std::size_t at = request.prompt.size() - rest.size();
    PX_CHECK_OK(CheckTokens("prompt", rest.first(item.begin - at), vocab_size));
    rest = rest.subspan(std::size_t{item.begin} - at + item.count);
  }
  return CheckTokens("prompt", rest, vocab_size);
}

// What a text's result is made of, by the model's task.
Result<void> CheckPool(const wire::GenerateRequest& request, const RequestLimits& limits) {
  const wire::PoolParams& pool = *request.pool;
  if (request.choice_count != 1 || request.stop.max_tokens != 0 || request.prompt_logprobs ||
      !request.generated.empty() || !request.processors.empty()) {
    return Fail(Code::kInvalidArgument,
                "pool: a text that is read has one choice, max_tokens 0, no prompt_logprobs, no "
                "processors and nothing generated",
                "pool");
  }
  bool generates = limits.task == wire::ModelTask::kGenerate;
  std::size_t logits = pool.logit_tokens.size();
  if (generates != (logits > 0) || logits > wire::kLogitTokensMax) {
    return Fail(generates && logits == 0 ? Code::kUnsupported : Code::kInvalidArgument,
                fmt::format("logit_tokens has {} tokens; {}", logits,
                            generates ? fmt::format("a model that generates needs 1 to {}",
                                                    wire::kLogitTokensMax)
                                      : "a model that does not generate takes none"),
                "logit_tokens");
  }
  PX_CHECK_OK(CheckTokens("logit_tokens", pool.logit_tokens, limits.vocab_size));
  if (!pool.token_types.empty() && pool.token_types.size() != request.prompt.size()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("token_types has {} entries; the prompt has {} tokens",
                            pool.token_types.size(), request.prompt.size()),
                "token_types");
  }
  for (std::int32_t type : pool.token_types) {
    PX_CHECK_OK(CheckRange("token_types", type, 0, std::max(1U, limits.token_type_count) - 1U));
  }
  std::size_t skip_max = limits.can_skip_tokens ? request.prompt.size() - 1 : 0;
  if (pool.skip_tokens > skip_max) {
    return Fail(Code::kInvalidArgument,
                fmt::format("skip_tokens is {}; this model and a prompt of {} tokens allow {}",
                            pool.skip_tokens, request.prompt.size(), skip_max),
                "skip_tokens");
  }
  return {};
}

}  // namespace

Result<void> CheckRequest(const wire::GenerateRequest& request, const RequestLimits& limits) {
  if (!request.pool && limits.task != wire::ModelTask::kGenerate) {
    return Fail(Code::kUnsupported, "the model reads texts and does not generate", "model");
  }
  PX_CHECK_OK(CheckRange("n", request.choice_count, 1, limits.choice_count_max));
  if (!request.generated.empty() && request.generated.size() != request.choice_count) {
    return Fail(Code::kInvalidArgument,
                fmt::format("generated has {} choices; n is {}", request.generated.size(),
                            request.choice_count),
                "generated");
  }
  PX_CHECK_OK(CheckLengths(request, limits));
  PX_CHECK_OK(CheckWords(request, limits.vocab_size));
  for (const std::vector<TokenId>& generated : request.generated) {
    PX_CHECK_OK(CheckTokens("generated", generated, limits.vocab_size));
  }
  if (request.pool) {
    PX_CHECK_OK(CheckPool(request, limits));
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
