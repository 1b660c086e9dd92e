// When each request of a load comes and how long its prompt and answer are, decided before it runs.
//
// Thread: values; equal options give equal plans. docs/benchmarking.md
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "rt/time.h"
#include "sim/trace.h"

namespace pixii::bench {

enum class Arrival : std::uint8_t {
  kPoisson,
  kConstant,
  kGamma,  // gaps of shape `burstiness`: below 1 they come in bursts, above more evenly
};

struct LoadPlanOptions {
  std::uint32_t request_count = 200;
  double rate_per_second = 0;  // mean; 0: each as soon as a place is free
  double rate_end = 0;         // of the last request, in a straight line; 0: the same
  Arrival arrival = Arrival::kPoisson;
  double burstiness = 1;
  double input_tokens = 128;  // means and standard deviations of normal distributions, from 1
  double input_stddev = 0;
  double output_tokens = 128;
  double output_stddev = 0;
  std::uint32_t shared_prefix_tokens = 0;  // at the front of each prompt
  std::uint32_t prefix_groups = 1;         // of prompts that share it, drawn evenly
  std::uint64_t seed = 1;
};

struct PlannedRequest {
  rt::Duration at{};  // from the beginning; only if the plan is timed
  std::uint64_t index = 0;
  std::uint32_t input_tokens = 1;
  std::uint32_t output_tokens = 1;
  std::uint32_t prefix_tokens = 0;
  std::uint32_t prefix_group = 0;
  std::vector<std::uint64_t> hash_ids = {};  // of a trace; then the prefix does not count
};

struct LoadPlan {
  std::vector<PlannedRequest> requests;  // in the order of `at`
  bool timed = false;                    // else each goes as soon as a place is free
  std::uint32_t block_tokens = 512;      // of a hash id
  std::uint64_t seed = 1;

  /// The prompt of one; ids are below `vocab_size`. O(tokens).
  std::vector<TokenId> Prompt(const PlannedRequest& request, std::uint32_t vocab_size) const;
};

LoadPlan MakeLoadPlan(const LoadPlanOptions& options);

/// The trace, `speed` times as fast. Pre: speed > 0.
LoadPlan PlanOfTrace(const sim::Trace& trace, double speed, std::uint64_t seed);

}  // namespace pixii::bench
