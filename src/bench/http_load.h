// Drives an OpenAI-compatible server with streamed completions and measures what a client feels.
//
// Thread: one loop; connections are coroutines on it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/load_plan.h"  // LoadPlan
#include "rt/net.h"

namespace pixii::bench {

struct LoadOptions {
  rt::Address server;
  std::string host;       // as the field Host has it; empty: as `server`
  std::string base_path;  // before /v1
  std::string model;      // empty: the server's only one
  std::string api_key;    // empty: none
  std::uint32_t request_count = 200;
  rt::Duration time{};                     // after so long none is begun any more; zero: no limit
  std::uint32_t concurrency = 32;          // open requests at most
  double rate_per_second = 0;              // Poisson arrivals; 0: as soon as a place is free
  std::uint32_t input_tokens = 128;        // of each prompt, random token ids
  std::uint32_t output_tokens = 128;       // exactly: end-of-sequence is ignored
  std::uint32_t shared_prefix_tokens = 0;  // of input_tokens, equal in all prompts
  std::uint32_t token_id_max = 256;        // prompts use ids below this
  std::uint64_t seed = 1;
  /// What comes when; in place of count, rate, lengths and seed.
  std::optional<LoadPlan> plan = {};
  /// Requests of a conversation: each has what was said before in front. One place is its own.
  std::uint32_t turns = 1;
  rt::Duration turn_delay{};  // from the end of an answer to the next turn
  rt::Duration request_timeout = std::chrono::minutes(10);
};

struct RequestSample {
  double arrival_ms = 0;      // when it was to be sent, from the beginning
  double send_delay_ms = 0;   // how much later it was: all places were taken
  double first_token_ms = 0;  // from its arrival, not its sending, to the first chunk with tokens
  double total_ms = 0;
  std::vector<double> gaps_ms;  // between chunks after the first
  std::uint32_t input_tokens = 0;
  std::uint32_t output_tokens = 0;
  std::uint32_t turn = 0;  // of its conversation
  std::string error;       // empty if it ended well
};

struct LoadResult {
  std::vector<RequestSample> samples;
  double elapsed_s = 0;
};

/// Called as requests end, with how many have.
using LoadProgress = std::function<void(std::size_t ended)>;

/// Runs the load to its end. Requests that fail are samples with an error. Errors: kUnavailable if
/// nobody listens.
rt::Task<Result<LoadResult>> RunLoad(rt::Loop& loop, rt::Net& net, LoadOptions options,
                                     LoadProgress progress = nullptr);

}  // namespace pixii::bench
