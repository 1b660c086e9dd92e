// Whether a rank's prompts wait, so that ranks compute prompts in the same steps: a step takes as
// long as its slowest rank, and one that reads a prompt while the others decode makes them wait.
//
// Thread: a value; decides and does nothing.
// Source: attention_dp_config of TensorRT-LLM's engine (enable_balance, timeout_iters,
// batching_wait_iters; spec/trtllm-backend.md 8).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/executor.h"

namespace pixii::engine {

struct RankBalanceOptions {
  bool enable = false;
  std::uint32_t timeout_steps = 50;   // of a rank, that its prompts wait for prompts of all others
  std::uint32_t batching_steps = 10;  // that they wait for more, once all ranks have some
};

class RankBalance final {
 public:
  RankBalance(const RankBalanceOptions& options, std::uint32_t rank_count)
      : options_(options), ranks_(rank_count) {}

  /// Whether the prompts of `rank` are left out of the step that it plans now. Never where it has
  /// nothing else to compute.
  bool Holds(std::uint32_t rank, const StepOutlook& outlook);

  /// It has no work, or is gone.
  void Rest(std::uint32_t rank) { ranks_[rank].outlook = {}; }

 private:
  struct Rank {
    StepOutlook outlook;         // as of its last plan
    std::uint32_t waited = 0;    // steps for the others' prompts
    std::uint32_t gathered = 0;  // steps for more of them
  };

  RankBalanceOptions options_;
  std::vector<Rank> ranks_;
};

}  // namespace pixii::engine
