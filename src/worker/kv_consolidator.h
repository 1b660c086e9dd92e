// What several tiers of a cache say of a block, as if it were one cache: for listeners that know of
// one.
//
// Thread: a value. Source: spec/dynamo-core.md E.6 (a block has a set of sources; told of with the
// first, taken back with the last).
#pragma once

#include <cstdint>
#include <unordered_map>

#include "kv/cache_journal.h"

namespace pixii::worker {

class KvConsolidator final {
 public:
  /// The changes that a listener to one cache needs to hear of. `block_tokens`: of each stored
  /// block, if the changes have tokens.
  kv::CacheChanges Merge(const kv::CacheChanges& changes, std::uint32_t block_tokens);

  std::size_t block_count() const { return tiers_.size(); }

 private:
  std::unordered_map<std::uint64_t, std::uint8_t> tiers_;  // chain hash -> a bit for each tier
};

}  // namespace pixii::worker
