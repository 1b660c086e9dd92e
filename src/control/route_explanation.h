// Why a router picked a worker: every candidate with its terms.
//
// Thread: values. Source: terms of spec/dynamo-core.md B.1.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/messages/routing.h"

namespace pixii::control {

using wire::WorkerRank;

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

/// Every term of a cost.
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

/// One rank as a decision saw it.
struct RouteCandidate {
  WorkerRank target = {};
  std::string standing = {};  // "eligible", or why it is out
  CostInput input = {};
  CostTerms terms = {};  // of modes that have a cost
};

/// A decision with its reasons.
struct RouteExplanation {
  std::string mode = {};
  bool scored = false;  // the candidates have terms
  std::uint32_t block_tokens = 0;
  std::uint64_t prompt_tokens = 0;
  std::optional<WorkerRank> choice = {};
  std::optional<Error> refusal = {};  // without a choice
  std::uint32_t overlap_tokens = 0;   // of the prompt that the choice should have cached
  std::vector<RouteCandidate> candidates = {};
  bool waits = false;  // until a rank has less to do; `choice` is the one it would have now
  /// Another process is asked first; this is what is done while it does not answer.
  bool asks_router = false;
  std::uint64_t waiting_requests = 0;
  std::uint64_t waiting_tokens = 0;  // of their prompts
};

}  // namespace pixii::control
