// What ranks may have cached, guessed from what was sent to them.
//
// Thread: a value; time is told.
// By time: a routed prompt is cached for so long. By use: a rank keeps as many blocks as it has,
// those that running requests use and those used last. Source: spec/dynamo-core.md B.5, 12.2.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "router/kv_index.h"
#include "router/options.h"
#include "router/rank.h"
#include "rt/time.h"

namespace pixii::router {

struct ApproximateIndexOptions {
  ApproximatePolicy policy = ApproximatePolicy::kTtl;
  rt::Duration ttl = std::chrono::seconds(120);
  std::uint32_t blocks_max = 1;  // in all; beyond it the oldest go
};

class ApproximateIndex final {
 public:
  explicit ApproximateIndex(ApproximateIndexOptions options);

  /// How many blocks the rank's device has; kLru keeps no more of them.
  void SetCapacity(RankNumber rank, std::uint32_t blocks);

  /// A request with these complete blocks went to the rank.
  void OnRouted(RequestId id, RankNumber rank, std::span<const std::uint64_t> block_hashes,
                rt::Time now);

  /// It is over: its blocks may go.
  void OnEnd(RequestId id);

  void Clear(RankNumber rank);

  void Find(std::span<const std::uint64_t> block_hashes, rt::Time now, KvMatches& out);

  std::size_t block_count() const { return blocks_.size(); }

 private:
  struct Key {
    RankNumber rank{};
    std::uint64_t chain = 0;

    friend bool operator==(const Key&, const Key&) = default;
  };

  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return key.chain ^ static_cast<std::size_t>(key.rank) * 0x9e3779b97f4a7c15U;
    }
  };

  struct Block {
    Key key;
    rt::Time expires{};
    std::uint32_t uses = 0;  // by running requests
  };

  using Order = std::list<Block>;  // the one used longest ago first

  struct Rank {
    std::uint32_t capacity = ~std::uint32_t{0};
    Order order;  // kLru: of this rank alone
  };

  struct Running {
    RankNumber rank{};
    std::vector<std::uint64_t> chains;
  };

  Rank& At(RankNumber rank);

  Order& OrderOf(RankNumber rank) {
    return options_.policy == ApproximatePolicy::kTtl ? order_ : At(rank).order;
  }

  Order::iterator Drop(Order::iterator block);
  void Expire(rt::Time now);
  void Shrink(RankNumber rank);

  ApproximateIndexOptions options_;
  KvIndex index_;
  Order order_;  // kTtl: of all ranks, by expiry
  std::unordered_map<Key, Order::iterator, KeyHash> blocks_;
  std::vector<Rank> ranks_;
  std::unordered_map<RequestId, Running> running_;
};

}  // namespace pixii::router
