// Which ranks hold a block: sets of holders, each kept once however many blocks have it.
//
// Thread: a value; one owner.
// Blocks of one prefix are held by the same ranks nearly always, so a thousand holders of a million
// blocks are a few sets. A set lies in an arena of 32-bit words: uses, hash, size and class, then
// its holders by rank number; it never changes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace pixii::router {

/// One rank that has a block: its slot in the upper half, and how often it was stored on each of
/// four tiers in the lower half, four bits each. Never 0: somebody who has it nowhere is no holder.
using Holder = std::uint32_t;

constexpr std::uint32_t SlotOf(Holder holder) { return holder >> 16; }

constexpr std::uint32_t CountsOf(Holder holder) { return holder & 0xffffU; }

class HolderSets final {
 public:
  /// Of a set; 0: none.
  using Ref = std::uint32_t;

  static constexpr std::size_t kChunkWords = 1U << 16;  // a chunk of the arena: 256 KiB
  static constexpr std::size_t kSetSizeMax = 1U << 14;  // holders

  HolderSets();

  /// The set of these holders, used once more. 0 if a chunk is needed and `may_grow` is false, or
  /// there are too many. Pre: sorted by slot, at least one.
  Ref Intern(std::span<const Holder> holders, bool may_grow);

  void Use(Ref set) { ++At(set)[kUses]; }

  /// Used once less; freed with the last use.
  void Drop(Ref set);

  std::span<const Holder> holders(Ref set) const {
    const std::uint32_t* words = At(set);
    return {words + kHeader, words[kShape] & 0xffffU};
  }

  std::size_t set_count() const { return set_count_; }

  /// Bytes that are allocated.
  std::size_t bytes() const {
    return chunks_.size() * kChunkWords * sizeof(std::uint32_t) + table_.size() * sizeof(Ref);
  }

 private:
  enum : std::uint8_t { kUses, kHash, kShape, kHeader };  // words of a set

  static constexpr std::size_t kClassCount = 64;

  static std::uint32_t HashOf(std::span<const Holder> holders);

  std::uint32_t* At(Ref set) { return &chunks_[set / kChunkWords][set % kChunkWords]; }

  const std::uint32_t* At(Ref set) const { return &chunks_[set / kChunkWords][set % kChunkWords]; }

  Ref Allocate(std::size_t size_class, bool may_grow);
  void Grow();

  std::vector<std::unique_ptr<std::uint32_t[]>> chunks_;
  std::size_t next_word_ = 0;  // of the last chunk
  std::array<Ref, kClassCount> free_{};
  std::vector<Ref> table_;  // by hash, open addressing; a power of two, at most three quarters full
  std::size_t set_count_ = 0;
};

}  // namespace pixii::router
