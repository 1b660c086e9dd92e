// What a rank whose engine has hashes of its own calls its blocks.
//
// Thread: a value; one owner.
// An open-addressing table of 14 bytes an entry. The block that an entry means may have been
// evicted and its id given again; 16 bits of its chain's hash tell.
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
    std::uint16_t check = 0;  // of its chain's hash
  };

  struct Named {
    std::uint64_t hash = 0;
    Block block;
  };

  static std::uint16_t CheckOf(std::uint64_t chain) {
    return static_cast<std::uint16_t>(chain >> 48);
  }

  std::optional<Block> Find(std::uint64_t hash) const;

  /// Takes the place of an entry of the same hash. If the table is full and may not grow, another
  /// entry makes room: it is returned.
  std::optional<Named> Insert(std::uint64_t hash, Block block, bool may_grow);

  void Erase(std::uint64_t hash);

  std::size_t size() const { return size_; }

  std::size_t bytes() const { return entries_.size() * sizeof(Entry); }

  template <class See>
  void ForEach(See see) const {
    for (const Entry& entry : entries_) {
      if (entry.id != kFree) {
        see(entry.hash, Block{entry.id, entry.check});
      }
    }
  }

 private:
  static constexpr std::uint32_t kFree = ~std::uint32_t{0};
  static constexpr std::size_t kSizeMin = 16;  // entries

  struct __attribute__((packed)) Entry {
    std::uint64_t hash = 0;
    std::uint32_t id = kFree;
    std::uint16_t check = 0;
  };

  static_assert(sizeof(Entry) == 14);

  std::size_t HomeOf(std::uint64_t hash) const;
  std::size_t Look(std::uint64_t hash) const;
  void EraseAt(std::size_t hole);
  void Grow();

  std::vector<Entry> entries_;
  std::size_t size_ = 0;
};

}  // namespace pixii::router
