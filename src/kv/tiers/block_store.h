// Where a tier keeps the bytes of its blocks: memory, a file, a service.
//
// Thread: the tier's own; calls block. Slots are given out by a TierIndex elsewhere, which sees to
// it that no slot is read and written at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kv/tiers/stored_block.h"
#include "kv/tiers/tier_index.h"
#include "rt/thread.h"

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

  struct Ask {
    std::uint32_t slot = 0;
    Hash128 hash;
  };

  /// Whether one of several is still wanted, when its turn comes.
  using Wanted = std::function<bool(std::size_t number)>;
  /// As Read's outcome; `payload` stays during the call.
  using OnRead = std::function<void(std::size_t number, BlockFault fault, StoredBlock& block,
                                    std::span<const std::byte> payload)>;
  /// Gives one of several to be written; false: it is not there any more.
  using Source = std::function<bool(std::size_t number, StoredBlock& block,
                                    std::span<const std::byte>& payload)>;

  /// Reads several, in order, as far as they are wanted.
  virtual void ReadMany(std::span<const Ask> asks, const Wanted& wanted, const OnRead& on_read);

  /// Writes several; the result of each, of one that is not there any more kTooLarge.
  virtual std::vector<Result<void>> WriteMany(std::span<const std::uint32_t> slots,
                                              const Source& source);

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

  /// On any thread: a scan, under way or not begun, ends soon.
  void Stop() { stopping_.store(true, std::memory_order_relaxed); }

  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

  /// On any thread: what the system or the service said when it last failed to read; empty: it
  /// never did.
  std::string trouble() const {
    const rt::MutexLock lock(mutex_);
    return trouble_;
  }

 protected:
  void SetTrouble(std::string text) {
    const rt::MutexLock lock(mutex_);
    trouble_ = std::move(text);
  }

  const std::atomic<bool>* stopping_flag() const { return &stopping_; }

 private:
  std::atomic<bool> stopping_{false};
  mutable rt::Mutex mutex_;
  std::string trouble_ PX_GUARDED_BY(mutex_);
};

}  // namespace pixii::kv
