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
  wire::ModelTask task = wire::ModelTask::kGenerate;
  std::uint32_t token_type_count = 0;  // of an encoder; 0: it knows no types
  bool can_skip_tokens = false;        // pooling may leave an instruction out
};

/// Errors: kUnsupported if the model does not do what the request wants; kInvalidArgument naming
/// the field, its value and the limit.
Result<void> CheckRequest(const wire::GenerateRequest& request, const RequestLimits& limits);

}  // namespace pixii::engine
