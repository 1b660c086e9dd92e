// How fast the router's index is, what it weighs, and how long a decision takes while events come.
//
// Thread: the caller's, alone.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "bench/report.h"

namespace pixii::bench {

struct RouterBenchOptions {
  std::uint64_t blocks = 10'000'000;  // distinct ones in the index
  std::uint32_t workers = 1000;
  std::uint32_t prompt_blocks = 128;  // of a stored prompt; look-ups ask for half of it and more
  std::uint32_t copies = 3;           // workers that hold each, where more than one does
  double decisions_per_s = 10'000;
  double seconds = 5;  // of decisions
  std::uint64_t seed = 1;
};

/// Figures stored (10^6 blocks/s), lookup (10^6 blocks/s), block_size and further_size (bytes of a
/// distinct block and of each further worker that holds it; with public and with opaque hashes),
/// budget_* (into half the bytes that the blocks took: the most that was allocated of it, what is
/// found afterwards of prompts asked for often and of the others, and matches that were wrong),
/// decision_p50 and decision_p99 (us, from a request's arrival to its worker, each decision with
/// eight new blocks stored and eight removed). Errors: kInvalidArgument for a count of 0.
Result<std::vector<Figure>> BenchRouter(const RouterBenchOptions& options);

}  // namespace pixii::bench
