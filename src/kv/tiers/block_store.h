// Where a tier keeps the bytes of its blocks: memory, a file, a service.
//
// Thread: the tier's own; calls block. Slots are given out by a TierIndex elsewhere, which sees to
// it that no slot is read and written at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/result.h"
#include "kv/tiers/stored_block.h"
#include "kv/tiers/tier_index.h"

namespace pixii::kv {

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  /// Puts the block into `slot`. Its checksums, if it has none, are made from the copy.
  /// Errors: kTooLarge if the header does not fit, kResourceExhausted if the tier is full,
  /// kUnavailable; the slot then holds nothing.
  virtual Result<void> Write(std::uint32_t slot, StoredBlock block,
                             std::span<const std::byte> payload) = 0;

  /// What stands in `slot`; nothing of it is proven. `payload` stays until the next call.
  virtual BlockFault Read(std::uint32_t slot, const Hash128& hash, StoredBlock& block,
                          std::span<const std::byte>& payload) = 0;

  /// Nobody will ask for it any more.
  virtual void Drop(std::uint32_t /*slot*/, const Hash128& /*hash*/) {}

  struct Found {
    TierPlace place;
    StoredBlock block;
  };

  /// Tells of every block that stood there before this process: of those that cannot be read,
  /// why. False from `on_found`: enough.
  virtual void Scan(const std::function<bool(Found)>& /*on_found*/,
                    const std::function<void(BlockFault)>& /*on_fault*/) {}
};

}  // namespace pixii::kv
