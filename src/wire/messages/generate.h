// The messages between a frontend and a worker: a request for tokens, frames of tokens, a
// cancellation.
//
// Thread: values; they cross a function call, a socket or the simulator unchanged.
// docs/life_of_a_request.md A request is a value (architecture.md section 4): whatever engine gets
// it continues it exactly, because the tokens generated so far stand in it and randomness is a
// function of (seed, choice, output position).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pixii::wire {

struct SamplingParams {
  float temperature = 1.0F;         // 0 = greedy .. 2
  float top_p = 1.0F;               // (0, 1]
  std::int32_t top_k = 0;           // 0 = off
  float min_p = 0.0F;               // [0, 1]
  float presence_penalty = 0.0F;    // [-2, 2], over generated tokens
  float frequency_penalty = 0.0F;   // [-2, 2], over generated tokens
  float repetition_penalty = 1.0F;  // (0, 2], over prompt and generated tokens
  std::uint64_t seed = 0;           // the frontend draws one if the client gave none
  std::vector<std::pair<TokenId, float>> logit_bias;  // token < vocab, bias in [-100, 100]
};

struct StopConditions {
  std::uint32_t max_tokens =
      0;  // 1 .. context; 0 only with prompt_logprobs (echo without generation)
  std::uint32_t min_tokens = 0;  // end-of-sequence and stop ids are not sampled before
  bool ignore_eos = false;
  std::vector<TokenId> eos_token_ids;   // end of sequence: never part of the text
  std::vector<TokenId> stop_token_ids;  // the client's own
};

struct GenerateRequest {
  RequestId id{};
  std::uint32_t attempt = 0;
  std::string model;
  std::vector<TokenId> prompt;     // 1 .. context tokens
  std::uint32_t choice_count = 1;  // n
  std::vector<std::vector<TokenId>>
      generated;  // per choice, tokens already given to the client; empty = none
  SamplingParams sampling;
  StopConditions stop;
  std::int32_t top_logprobs =
      -1;                        // -1: no logprobs; 0 .. 20: of the chosen token and that many best
  bool prompt_logprobs = false;  // also of the prompt's tokens (echo with logprobs)
  std::int32_t priority = 0;     // higher first
  std::string tenant;            // from the authenticated key; part of KV identity
  std::int64_t deadline_left_ns = 0;  // 0: none
};

struct TokenLogprob {
  float logprob = 0.0F;  // of the chosen token, natural logarithm, before sampling filters
  std::vector<std::pair<TokenId, float>> top;  // best first, at most top_logprobs
};

enum class FinishReason : std::uint8_t { kStop, kLength, kCancelled, kError };

/// Tokens of one choice of one request. Frames of a choice come in order; its last one has
/// `finish`. A request ends when each of its choices has ended, each exactly once.
struct TokenFrame {
  RequestId id{};
  std::uint32_t choice = 0;
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;  // [tokens] if asked for
  std::vector<TokenLogprob>
      prompt_logprobs;  // [prompt], first is empty; in the first frame of choice 0 if asked for
  std::uint32_t cached_tokens =
      0;  // prompt tokens found in the prefix cache; in a choice's first frame
  std::optional<FinishReason> finish;
  std::optional<TokenId> stop_token;  // the stop or end token that ended it; it is not in `tokens`
  std::optional<Error> error;         // with kError
};

struct CancelRequest {
  RequestId id{};
  std::optional<std::uint32_t> choice;  // nothing: all choices
};

/// What a worker says of itself when it joins.
struct ModelCard {
  std::string name;         // as requests name it
  std::string fingerprint;  // identity of config and weights
  std::string numerics_id;  // what bits depend on: kernels, instruction set, KV dtype
  std::uint32_t vocab_size = 0;
  std::uint32_t context_tokens_max = 0;  // prompt + output
  std::uint32_t block_tokens = 0;
  std::uint32_t block_count = 0;
  std::uint32_t batch_sequences_max = 0;
  std::uint32_t batch_tokens_max = 0;
  std::vector<TokenId> eos_token_ids;
  TokenId bos_token_id = -1;
};

}  // namespace pixii::wire
