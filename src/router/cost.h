// What it would cost to send a request to a rank, in blocks, and the choice between costs.
//
// Thread: functions without state. Source: spec/dynamo-core.md B.1.
#pragma once

#include <cstdint>
#include <span>

#include "router/options.h"
#include "rt/random.h"

namespace pixii::router {

/// A request and a rank, as the cost sees them. Blocks unless said otherwise.
struct CostInput {
  std::uint32_t block_tokens = 1;
  std::uint64_t prompt_tokens = 0;
  std::uint32_t device_blocks = 0;  // of the prompt, on the rank's device
  std::uint32_t host_blocks = 0;    // behind those, in host memory
  std::uint32_t disk_blocks = 0;    // behind those, on disk
  std::uint32_t shared_blocks = 0;  // of the prompt, in a cache that all share
  std::uint64_t active_prefill_tokens = 0;
  std::uint64_t active_prefill_tokens_least = 0;  // of any rank that may be chosen
  double active_decode_blocks = 0;
  double added_decode_blocks = 0;  // by this request
  std::uint32_t active_requests = 0;
  double preferred_taints = 0;  // sum of the weights of those it has
  double prompt_price = 0;      // of all blocks of the prompt, each shared by those who use it
  double held_price = 0;        // of those that the rank need not compute
};

/// Every term, for whoever asks why.
struct CostTerms {
  double raw_prefill_blocks = 0;
  double decay = 1;
  double credit = 0;
  double recompute = 0;         // what computing here costs those who come behind
  double adjusted_prefill = 0;  // with `recompute`
  double decode_blocks = 0;
  double active_requests = 0;
  double taint_factor = 1;
  double cost = 0;
};

CostTerms CostOf(const CostOptions& options, const CostInput& input);

/// Tokens of the prompt that need not be computed at the rank.
std::uint64_t CachedTokens(const CostOptions& options, const CostInput& input);

/// Index of one of `costs`: the least (equal ones alike likely) at temperature 0, else at random,
/// the likelier the less. Pre: not empty.
std::size_t PickByCost(std::span<const double> costs, double temperature, rt::Random& random);

}  // namespace pixii::router
