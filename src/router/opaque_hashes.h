// What a rank whose engine has hashes of its own calls its blocks.
//
// Thread: a value; one owner.
// A table of 13 bytes an entry, in the order of the hashes' mixed bits: each stands where its bits
// say or behind. That order lets the table be full to 15/16 and still say soon that a hash is not
// here, and lets it grow by little in one pass from front to back. The block that an entry
// means may have been evicted and its id given again; 8 bits of its chain's hash tell.
// Source: ordered hash tables (Amble and Knuth, 1974).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace pixii::router {

class OpaqueHashes final {
 public:
  struct Block {
    std::uint32_t id = 0;
    std::uint8_t check = 0;  // of its chain's hash
  };

  struct Named {
    std::uint64_t hash = 0;
    Block block;
  };

  static std::uint8_t CheckOf(std::uint64_t chain) {
    return static_cast<std::uint8_t>(chain >> 56);
  }

  std::optional<Block> Find(std::uint64_t hash) const;

  /// Begins to fetch what Find and Insert will read.
  void Prefetch(std::uint64_t hash) const;

  /// Takes the place of an entry of the same hash. If the table is full and may not grow, another
  /// entry makes room: it is returned.
  std::optional<Named> Insert(std::uint64_t hash, Block block, bool may_grow);

  void Erase(std::uint64_t hash);

  std::size_t size() const { return size_; }

  std::size_t bytes() const { return entries_.size() * sizeof(Entry); }

  /// Bytes that the next growth adds.
  std::size_t growth_bytes() const { return Step() * sizeof(Entry); }

  template <class See>
  void ForEach(See see) const {
    for (const Entry& entry : entries_) {
      if (entry.id != kFree) {
        see(HashOf(entry.mixed), Block{entry.id, entry.check});
      }
    }
  }

 private:
  static constexpr std::uint32_t kFree = ~std::uint32_t{0};
  static constexpr std::size_t kHomesMin = 16;  // entries that hashes are spread over
  static constexpr std::size_t kTail = 32;  // entries behind them, for what the last ones push on

  struct __attribute__((packed)) Entry {
    std::uint64_t mixed = 0;
    std::uint32_t id = kFree;
    std::uint8_t check = 0;
  };

  static_assert(sizeof(Entry) == 13);

  // Engines may count; one to one, so that an entry needs not keep both.
  static constexpr std::uint64_t kMix = 0x9e3779b97f4a7c15U;
  static constexpr std::uint64_t kUnmix = 0xf1de83e19937733dU;
  static_assert(kMix * kUnmix == 1);

  static std::uint64_t Mixed(std::uint64_t hash) { return (hash ^ hash >> 32) * kMix; }

  static std::uint64_t HashOf(std::uint64_t mixed) {
    const std::uint64_t out = mixed * kUnmix;
    return out ^ out >> 32;
  }

  std::size_t homes() const { return entries_.empty() ? 0 : entries_.size() - kTail; }

  std::size_t Step() const { return homes() * 3 / 32 > kHomesMin ? homes() * 3 / 32 : kHomesMin; }

  std::size_t HomeOf(std::uint64_t mixed) const;
  std::size_t Look(std::uint64_t mixed) const;
  std::size_t FreeFrom(std::size_t at) const;
  std::optional<Named> MakeRoom(std::uint64_t mixed);
  void EraseAt(std::size_t hole);
  void Grow();

  std::vector<Entry> entries_;
  std::size_t size_ = 0;
};

}  // namespace pixii::router
