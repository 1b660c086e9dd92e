// Traces of requests: when each came, how long its prompt and answer were, what prefixes it shared.
//
// Thread: values. Source: spec/dynamo-core.md F.7 (Mooncake's form), the Azure LLM inference
// traces.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "rt/time.h"

namespace pixii::sim {

struct TraceRequest {
  rt::Duration at{};  // from the beginning of the trace
  std::uint32_t input_tokens = 1;
  std::uint32_t output_tokens = 1;
  /// One for each block of the prompt, the last one may be in part; equal ones are equal tokens.
  /// Where there is none, the prompt's tokens are like no other's.
  std::vector<std::uint64_t> hash_ids = {};
};

struct Trace {
  std::vector<TraceRequest> requests;  // in the order of `at`
  std::uint32_t block_tokens = 512;    // of a hash id
};

inline constexpr std::uint32_t kTraceTokensMax = 1U << 24;  // of one prompt, of one answer

/// Either form, by its first character. Mooncake's: a JSON object a line with timestamp (or
/// created_time; ms), input_length (input_tokens), output_length (output_tokens), hash_ids.
/// Azure's: CSV of TIMESTAMP,ContextTokens,GeneratedTokens with a head line. An answer of 0 tokens
/// counts as one of 1. Errors: kInvalidArgument naming the line.
Result<Trace> ReadTrace(std::string_view text, std::uint32_t block_tokens);

/// The prompt of `request`, number `index` of its trace; equal hash ids of one `copy` give equal
/// tokens, others do not. Tokens are below `vocab_size`.
std::vector<TokenId> TracePrompt(const TraceRequest& request, std::uint64_t index,
                                 std::uint32_t block_tokens, std::uint64_t copy,
                                 std::uint32_t vocab_size);

}  // namespace pixii::sim
