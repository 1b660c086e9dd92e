// What one worker told routers of its KV blocks: the last events, and all that they amount to.
//
// Thread: a value. docs/formats/kv_events.md
// A block stored twice is there until it is removed twice: routers hear of the first and of the
// last. Source: spec/dynamo-core.md B.4, B.5 (local index of a worker).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "wire/messages/kv_event.h"

namespace pixii::worker {

struct KvEventLogOptions {
  std::size_t blocks_max = 65536;  // named by the events that are kept; the last is always kept
};

class KvEventLog final {
 public:
  explicit KvEventLog(KvEventLogOptions options) : options_(options) {}

  /// Takes what an engine said, gives it ids of its own and leaves out what changes nothing. O(size
  /// of the event); kCleared: of what its rank holds.
  void Add(wire::KvEvent event);

  /// Of the event that comes next.
  std::uint64_t next_id() const { return next_id_; }

  /// Events from `from_id` on that name at most about `blocks_max` blocks, at least one event if
  /// there is any. Nothing: some are forgotten already, or `from_id` is above next_id().
  std::optional<std::vector<wire::KvEvent>> Since(std::uint64_t from_id,
                                                  std::size_t blocks_max) const;

  /// All blocks as kStored events, each behind its parent's, with the id of the last event. O(n log
  /// n) for n blocks.
  std::vector<wire::KvEvent> Dump() const;

  std::size_t block_count() const;

 private:
  /// Where a block is.
  struct Place {
    std::uint32_t rank = 0;
    wire::KvTier tier{};

    friend auto operator<=>(const Place&, const Place&) = default;
  };

  struct Held {
    std::uint64_t tokens_hash = 0;
    std::optional<std::uint64_t> parent;
    std::uint64_t order = 0;  // of its first store
    std::uint32_t count = 0;  // stores without a remove
  };

  using Blocks = std::unordered_map<std::uint64_t, Held>;  // by block_hash

  void Store(Blocks& blocks, wire::KvEvent event);
  void Remove(Blocks& blocks, wire::KvEvent event);
  void Keep(wire::KvEvent event);
  static const Blocks::value_type* LateParent(const Blocks& blocks, const Blocks::value_type& block,
                                              const Blocks::value_type* last);

  std::uint64_t LastId() const { return next_id_ == 0 ? 0 : next_id_ - 1; }

  KvEventLogOptions options_;
  std::map<Place, Blocks> held_;
  std::deque<wire::KvEvent> events_;  // ids in a row, up to next_id_
  std::size_t kept_blocks_ = 0;       // that `events_` name
  std::uint64_t next_id_ = 0;
  std::uint64_t next_order_ = 0;
};

}  // namespace pixii::worker
