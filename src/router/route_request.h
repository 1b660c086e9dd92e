// A request as the router sees it.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "router/rank.h"
#include "wire/messages/routing.h"

namespace pixii::router {

using wire::PreferredTaint;
using wire::RouteOverride;

/// A prompt as somebody sees it who has its hashes alone.
struct HashedPrompt {
  std::vector<std::uint64_t> block_hashes;  // of the complete blocks, by their tokens
  std::uint64_t token_count = 0;
};

struct RouteRequest : wire::RouteWishes {
  RequestId id{};               // of this attempt, unique among those that run
  std::vector<TokenId> tokens;  // prompt and what is generated already
  std::string adapter;
  std::string salt;                    // tenant's and client's own
  std::optional<HashedPrompt> hashed;  // in place of these three
  std::optional<InstanceId> pinned;    // this worker and no other
  std::optional<std::uint32_t> rank;   // and this rank of it
  std::vector<InstanceId> excluded;    // where it failed already
  std::string session;                 // empty: none
  double priority_jump_s = 0;          // arrival is made earlier by so many seconds
};

/// A request that runs at a rank, whoever sent it there.
struct Placement {
  Target target = {};
  HashedPrompt prompt = {};
  std::uint64_t prefill_tokens = 0;          // of the prompt, not computed yet
  std::uint32_t expected_output_tokens = 0;  // 0: nobody knows
  std::string session = {};                  // empty: none
};

/// What others need to know to count what this router sends: in the order in which it happened.
struct LoadChange {
  enum class Kind : std::uint8_t {
    kAdded,
    kPrefilled,
    kFreed,  // ended, expired, or its worker is gone
  };

  Kind kind = Kind::kAdded;
  RequestId id{};
  Placement placement = {};  // kAdded only
};

}  // namespace pixii::router
