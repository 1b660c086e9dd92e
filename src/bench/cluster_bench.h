// What a cluster costs on one machine: frontends, router and mock workers as processes on loopback,
// beside one server that has the same engine in its own process, in turns.
//
// Thread: one that runs `loop`; the servers are children.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "rt/time.h"

namespace pixii::bench {

enum class BenchedRouter : std::uint8_t {
  kBoth,     // one behind the other
  kProcess,  // one `pixii router` that all frontends ask
  kOwn,      // every frontend has its own
};

struct ClusterBenchOptions {
  std::string program;  // of ours
  std::string model;    // whose tokenizer is used
  std::uint32_t frontends = 2;
  std::uint32_t workers = 8;
  BenchedRouter router = BenchedRouter::kBoth;
  std::string router_mode = "kv";
  double load = 0.5;          // of what the cluster can take, at which latencies are measured
  double rate = 0;            // requests/s instead; 0: by `load`
  double seconds = 3;         // of each case and round
  std::uint32_t repeats = 7;  // rounds
  std::uint32_t input_tokens = 64;
  std::uint32_t output_tokens = 16;   // of each request whose latency is measured
  std::uint32_t stream_tokens = 128;  // of each stream of which CPU is counted
  std::uint32_t connections = 32;     // requests open at a time, where there is no rate
  rt::Duration step_time{};           // of the mock engine
};

/// Figures of the cluster, of the server alone (direct), and added: what the cluster takes longer
/// in the same round, at the same quantile. CPU of a streamed token by hop. Names of the figures of
/// frontends with routers of their own begin with "own_". Errors:
/// kInvalidArgument for a count of 0; kUnavailable if a process does not start or a request fails.
Result<std::vector<Figure>> BenchCluster(const ClusterBenchOptions& options);

}  // namespace pixii::bench
