// A trace of requests on many workers under virtual time: the router that frontends have, and
// engines with a mock of the model, in one thread without network.
//
// Thread: one. Equal options give equal results. docs/subsystems/sim.md
// With workers that compute prompts alone, the first token is theirs and the KV moves behind it.
// Left out: HTTP, tokenizing, the network but for a delay of events, failures (those are the other
// scenarios'). Source of the figures: spec/dynamo-core.md F.7.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/mock_timing.h"
#include "engine/options.h"
#include "router/options.h"
#include "rt/time.h"
#include "sim/trace.h"
#include "sim/transfer_connector.h"

namespace pixii::sim {

inline constexpr std::uint32_t kTraceWorkersMax = 16'384;

struct TraceSimOptions {
  std::uint32_t workers = 8;          // 1 .. kTraceWorkersMax
  std::uint32_t prefill_workers = 0;  // of them, that compute prompts for the others; 0: each both
  TransferModel transfer = {};        // of KV from those to the others
  double ttft_goal_ms = 0;            // of an answer that counts as good; 0: any
  double itl_goal_ms = 0;             // likewise
  double speed = 1;                   // requests come so many times as fast as in the trace, > 0
  std::uint32_t copies = 1;  // of the trace at a time, each with prompts of its own and begun at
                             // a random instant of its first tenth
  router::RouterOptions router = {};
  engine::EngineOptions engine = {
      .batch_sequences_max = 256, .batch_tokens_max = 8192, .queue_length_max = 65'536};
  std::uint32_t block_tokens = 64;
  std::uint32_t block_count = 16'384;  // of each worker
  engine::MockTiming timing = {.model = engine::MockTimingModel::kPolynomial};
  rt::Duration event_delay = std::chrono::milliseconds(1);  // of KV events, to the router
  std::uint64_t seed = 1;
};

/// Of what was measured once a request; seconds or milliseconds as the name says.
struct Distribution {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

inline constexpr std::size_t kTraceSlices = 10;

struct TraceSimResult {
  std::uint64_t requests = 0;
  std::uint64_t finished = 0;
  std::uint64_t refused = 0;  // by router or engine, tokens none
  std::uint64_t prompt_tokens = 0;
  std::uint64_t output_tokens = 0;
  Distribution ttft_ms;   // from arrival to the first token
  Distribution e2e_ms;    // from arrival to the last token
  Distribution itl_ms;    // mean gap between the tokens of a request
  double good_share = 0;  // of all requests, those whose answer keeps both goals
  double goodput = 0;     // of those, by the second of arrivals
  double virtual_seconds = 0;
  double requests_per_second = 0;       // arrivals
  double output_tokens_per_second = 0;  // to the last answer's end

  /// Of the prompts' tokens, the share that engines found in their caches.
  double hit_rate = 0;
  /// The share that the best worker had cached at each decision: of a router that knew all caches
  /// as they were just then, and cared for nothing else.
  double oracle_hit_rate = 0;
  /// The share that the chosen worker had cached at each decision.
  double chosen_hit_rate = 0;
  /// The share that stood in any earlier prompt, in whole blocks: one cache without end.
  double seen_rate = 0;

  double busy_mean = 0;  // share of the time of arrivals in which a worker computes
  double busy_max = 0;
  double requests_max_of_mean = 0;  // the most requests of a worker, of the mean
  double computed_max_of_mean = 0;  // the same, of prompt tokens computed
  /// Requests that wait for their first token, mean over each tenth of the time of arrivals.
  std::vector<double> waiting_by_slice;
  double waiting_max = 0;
  std::uint64_t preemptions = 0;
};

/// Errors: kInvalidArgument naming the option, Engine::Create's; kInternal if an engine stalls.
Result<TraceSimResult> RunTraceSim(const Trace& trace, const TraceSimOptions& options);

}  // namespace pixii::sim
