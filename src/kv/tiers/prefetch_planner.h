// Which blocks of requests that wait for their turn come nearer first, and when no more may.
//
// Thread: one owner (the engine thread). No clock, no I/O.
// A request's blocks are of use in order, from the first that the cache lacks; who is earlier in
// turn comes first with all of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/hash.h"
#include "kv/connector.h"

namespace pixii::kv {

struct PrefetchPlannerOptions {
  std::uint64_t bytes_in_flight_max = 64ULL << 20;  // on their way; 0: nothing comes early
  std::uint32_t blocks_ahead_max = 0;  // of waiting requests that have come or are on their way
  std::uint64_t block_bytes = 0;
};

class PrefetchPlanner final {
 public:
  explicit PrefetchPlanner(const PrefetchPlannerOptions& options) : options_(options) {}

  /// These wait, soonest first, and no others.
  void Expect(std::span<const ExpectedRequest> waiting);
  /// It waits no more.
  void Forget(RequestId id);

  struct Wish {
    ConnectorRequestRef request;
    std::uint32_t number = 0;  // of its chain's blocks
  };

  /// The next block that nobody has looked for. Nothing if there is none, or while as much is on
  /// its way or has come as may. Each call is followed by one of the three below.
  std::optional<Wish> Next();
  /// It is near already, or on its way for another request.
  void Near(const Wish& wish);
  /// Nobody has it: blocks behind it are of no use.
  void Missing(const Wish& wish);
  /// It is on its way until Done.
  void Began(const Wish& wish);
  void Done(const Hash128& hash);

  bool moving(const Hash128& hash) const { return moving_.contains(hash); }

  std::size_t moving_count() const { return moving_.size(); }

  std::size_t waiting_count() const { return waiting_.size(); }

 private:
  struct Waiting {
    ConnectorRequestRef request;
    std::uint32_t next = 0;   // block to look for
    std::uint32_t ahead = 0;  // blocks that came for it, or were there
  };

  bool full() const {
    return ahead_ >= options_.blocks_ahead_max ||
           (moving_.size() + 1) * options_.block_bytes > options_.bytes_in_flight_max;
  }

  Waiting* Find(RequestId id);
  void Advance(const Wish& wish);

  PrefetchPlannerOptions options_;
  std::vector<Waiting> waiting_;  // soonest first
  std::unordered_set<Hash128, Hash128Hasher> moving_;
  std::uint32_t ahead_ = 0;  // of all that wait
};

}  // namespace pixii::kv
