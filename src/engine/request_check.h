// Whether an engine can take a request: every field against its range, named in the error.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "wire/messages/generate.h"

namespace pixii::engine {

struct RequestLimits {
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens_max = 0;  // tokens of prompt and output
  std::uint32_t input_tokens_max = 0;    // tokens of the prompt; 0: what the context leaves
  std::uint32_t choice_count_max = 0;
  bool context_bound_by_blocks = false;  // the KV cache is smaller than the model's context
};

/// Errors: kInvalidArgument naming the field, its value and the limit.
Result<void> CheckRequest(const wire::GenerateRequest& request, const RequestLimits& limits);

}  // namespace pixii::engine
