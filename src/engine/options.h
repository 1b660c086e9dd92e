// What can be set about an engine. docs/subsystems/engine.md
#pragma once

#include <cstdint>
#include <string>

namespace pixii::engine {

struct EngineOptions {
  std::uint32_t batch_sequences_max = 64;  // sequences of one step, 1 .. 4096
  std::uint32_t batch_tokens_max = 512;    // tokens of one step, 1 .. the executor's limit
  std::uint32_t queue_length_max = 1024;   // sequences waiting beyond a batch, 1 .. 65536
  std::uint32_t choice_count_max = 128;    // choices of one request
  std::uint32_t prompt_logprob_rows_max =
      64;  // rows of one step whose logits are wanted for prompt_logprobs
  std::uint32_t context_tokens_max = 0;  // tokens of prompt and output; 0 = the executor's limit
  /// One level of priority is worth this much earlier arrival, so that low priority waits longer
  /// but never for ever.
  std::int64_t priority_head_start_ns = 10'000'000'000;
  /// Part of every block's identity.
  std::string model_fingerprint = {};
  std::string numerics_id = {};
  std::string kv_dtype = {};
  std::string identity_key = {};  // secret of the block hashes
};

}  // namespace pixii::engine
