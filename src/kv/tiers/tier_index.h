// Which block stands in which slot of a tier, and which slot gives way next. docs/kvbm.md
//
// Thread: one owner (the engine thread). Owns no bytes and does no I/O.
// A slot is free, being written, or holds a block; one that holds a block may have readers. A slot
// that is written or read is never given to another block. Children are counted, so that leaves can
// go first: a block is of no use without those before it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "kv/tiers/eviction_order.h"
#include "rt/time.h"

namespace pixii::kv {

enum class EvictionPolicy : std::uint8_t {
  kLru,         // unused for longest
  kFrequency,   // used least often, then unused for longest
  kLeafFirst,   // of blocks that no other one here follows, the one unused for longest
  kLeafReward,  // the same, but each use keeps a block for TierIndexOptions::hit_reward longer
};

struct TierIndexOptions {
  std::uint32_t slot_count = 0;  // 1 .. 2^28
  EvictionPolicy policy = EvictionPolicy::kLeafFirst;
  rt::Duration hit_reward = std::chrono::seconds(60);  // of kLeafReward
  /// Slots that one tenant may have while others want some; 0: all.
  std::uint32_t tenant_slots_max = 0;
};

/// A block in a slot at one moment of its life.
struct TierPlace {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;  // raised with each use of the slot

  friend bool operator==(const TierPlace&, const TierPlace&) = default;
};

struct TierBlock {
  Hash128 hash;
  Hash128 parent;
  std::string_view tenant = {};
  std::int32_t priority = 0;  // higher ones stay longer
};

struct TierReservation {
  TierPlace place;
  std::optional<Hash128> evicted;
};

class TierIndex final {
 public:
  /// Tenants with budgets of their own; all others share one.
  static constexpr std::uint32_t kTenantsMax = 64;

  explicit TierIndex(const TierIndexOptions& options);

  /// What is used from now on is used at `now`. Pre: it never goes back.
  void AdvanceTo(rt::Time now) { now_ = now; }

  /// A slot to write `block` into. Nothing if every slot is in use, or holds a block of more
  /// priority. Pre: !contains(block.hash).
  std::optional<TierReservation> Reserve(const TierBlock& block);
  /// It is written. Pre: reserved.
  void Commit(std::uint32_t slot);
  /// It is not, and the slot is free. Pre: reserved.
  void Abandon(std::uint32_t slot);

  /// Takes a block into account that stood there before a restart. False: the slot or the hash is
  /// taken.
  bool Adopt(const TierPlace& place, const TierBlock& block, std::uint32_t frequency);

  /// Reserved, written or read.
  bool contains(const Hash128& hash) const { return slots_of_.contains(hash); }

  /// Where it is, if it is there whole.
  std::optional<TierPlace> Find(const Hash128& hash) const;

  /// It was used: it goes later.
  void Touch(const Hash128& hash);
  /// It goes after all of less priority. Never lowers it.
  void Raise(const Hash128& hash, std::int32_t priority);

  /// All priorities above 0 fall by 1. O(slots).
  void LowerPriorities();

  /// Nobody else gets its slot until EndRead. Pre: Find gave it.
  void BeginRead(std::uint32_t slot);
  void EndRead(std::uint32_t slot);

  /// Nobody finds the block any more; its slot is free with its last reader. False: it was not
  /// there, or another generation of it.
  bool Remove(const Hash128& hash, const TierPlace& place);

  /// Blocks that can be found.
  std::uint32_t stored_count() const { return stored_; }

  std::uint32_t free_count() const { return static_cast<std::uint32_t>(free_.size()); }

  /// Neither can be found nor free: reserved, or removed and still read.
  std::uint32_t busy_count() const { return slot_count() - stored_ - free_count(); }

  std::uint32_t slot_count() const { return static_cast<std::uint32_t>(slots_.size()); }

  struct Entry {
    Hash128 hash;
    TierPlace place;
    bool stored = false;  // else it is being written
  };

  /// All that contains() knows. O(slots).
  std::vector<Entry> Entries() const;

  /// What was said of the block in `slot`. Pre: it is not free.
  TierBlock block(std::uint32_t slot) const;

  std::uint32_t frequency(std::uint32_t slot) const { return slots_[slot].frequency; }

  /// O(slots).
  void CheckInvariants() const;

 private:
  enum class State : std::uint8_t { kFree, kReserved, kStored, kRemoved };

  struct Slot {
    Hash128 hash;
    Hash128 parent;
    std::uint64_t generation = 0;
    std::uint64_t used = 0;  // when, counted in uses
    rt::Time kept_until{};   // of kLeafReward
    std::uint32_t readers = 0;
    std::uint32_t tenant = 0;
    std::uint32_t frequency = 0;
    std::uint32_t free_position = 0;  // in free_, of a free one
    std::int32_t priority = 0;
    State state = State::kFree;
  };

  std::uint32_t TenantOf(std::string_view tenant);
  std::optional<std::uint32_t> TakeSlot(const TierBlock& block, std::uint32_t tenant,
                                        std::optional<Hash128>& evicted);
  void Occupy(std::uint32_t slot, const TierBlock& block, std::uint32_t tenant);
  void Vacate(std::uint32_t slot);
  void PushFree(std::uint32_t slot);
  void TakeFree(std::uint32_t slot);
  void CountChild(const Hash128& parent, bool comes);
  void Reorder(std::uint32_t slot);
  EvictionRank RankOf(const Slot& slot) const;

  TierIndexOptions options_;
  EvictionOrder order_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;  // last first
  std::unordered_map<Hash128, std::uint32_t, Hash128Hasher> slots_of_;
  std::unordered_map<Hash128, std::uint32_t, Hash128Hasher> children_;  // of those with any
  std::unordered_map<std::string, std::uint32_t> tenants_;
  std::vector<std::string> tenant_names_;    // [tenant]
  std::vector<std::uint32_t> tenant_slots_;  // [tenant]: slots that are not free
  std::uint64_t uses_ = 0;
  rt::Time now_{};
  std::uint32_t stored_ = 0;
};

}  // namespace pixii::kv
