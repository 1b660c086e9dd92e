#include "text/tokenizer/merge_table.h"

#include <algorithm>
#include <bit>

namespace pixii::text {

namespace {

std::uint64_t MixPair(TokenId left, TokenId right) {
  std::uint64_t x = static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
                    static_cast<std::uint32_t>(right);
  x ^= x >> 31;
  x *= 0x9E3779B97F4A7C15;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9;
  return x ^ (x >> 32);
}

}  // namespace

std::size_t MergeTable::Slot(TokenId left, TokenId right) const {
  std::size_t mask = slots_.size() - 1;
  std::size_t at = MixPair(left, right) & mask;
  while (slots_[at].left != -1 && (slots_[at].left != left || slots_[at].right != right)) {
    at = (at + 1) & mask;
  }
  return at;
}

void MergeTable::Resize(std::size_t slots) {
  std::vector<Entry> old = std::move(slots_);
  slots_.assign(slots, Entry{});
  for (const Entry& entry : old) {
    if (entry.left != -1) {
      slots_[Slot(entry.left, entry.right)] = entry;
    }
  }
}

void MergeTable::Reserve(std::size_t merges) {
  std::size_t slots = std::bit_ceil(std::max<std::size_t>(merges * 2, 16));
  if (slots > slots_.size()) {
    Resize(slots);
  }
}

void MergeTable::Add(const Entry& entry) {
  if ((size_ + 1) * 2 > slots_.size()) {
    Reserve(size_ + 1);
  }
  Entry& slot = slots_[Slot(entry.left, entry.right)];
  size_ += slot.left == -1 ? 1 : 0;
  slot = entry;
}

void MergeTable::Prefetch(TokenId left, TokenId right) const {
  if (!slots_.empty()) {
    __builtin_prefetch(&slots_[MixPair(left, right) & (slots_.size() - 1)], 1);
  }
}

const MergeTable::Entry* MergeTable::Find(TokenId left, TokenId right) const {
  if (slots_.empty()) {
    return nullptr;
  }
  const Entry& slot = slots_[Slot(left, right)];
  return slot.left == -1 ? nullptr : &slot;
}

namespace {

constexpr std::size_t kFilterBitsPerMerge = 8;
constexpr std::size_t kFilterBitsMax = 1 << 20;

// For each id the symbol at one end of it, found by following its parts down.
class EndSymbols final {
 public:
  explicit EndSymbols(TokenId id_end) : end_(static_cast<std::size_t>(id_end)) {
    for (TokenId id = 0; id < id_end; ++id) {
      end_[static_cast<std::size_t>(id)] = id;
    }
  }

  void SetPart(TokenId whole, TokenId part) { end_[static_cast<std::size_t>(whole)] = part; }

  // Parts are shorter than what they make, so following them ends.
  TokenId Of(TokenId id) {
    TokenId end = id;
    while (end_[static_cast<std::size_t>(end)] != end) {
      end = end_[static_cast<std::size_t>(end)];
    }
    while (end_[static_cast<std::size_t>(id)] != end) {
      TokenId part = end_[static_cast<std::size_t>(id)];
      end_[static_cast<std::size_t>(id)] = end;
      id = part;
    }
    return end;
  }

 private:
  std::vector<TokenId> end_;
};

}  // namespace

MergeBoundaries::MergeBoundaries(const MergeTable& merges, TokenId id_end,
                                 const std::function<bool(TokenId)>& is_symbol) {
  EndSymbols first(id_end);
  EndSymbols last(id_end);
  wild_.resize(static_cast<std::size_t>(id_end));
  merges.ForEach([&](const MergeTable::Entry& entry) {
    first.SetPart(entry.merged, entry.left);
    last.SetPart(entry.merged, entry.right);
    wild_[static_cast<std::size_t>(entry.merged)] = true;
  });
  for (TokenId id = 0; id < id_end; ++id) {
    wild_[static_cast<std::size_t>(id)] = wild_[static_cast<std::size_t>(id)] && is_symbol(id);
  }
  std::size_t bits =
      std::min(std::bit_ceil(merges.size() * kFilterBitsPerMerge + 64), kFilterBitsMax);
  filter_.resize(bits / 64);
  bool consistent = true;
  merges.ForEach([&](const MergeTable::Entry& entry) {
    // A piece made in two ways has the same text and so the same ends, unless the file is odd.
    consistent = consistent && first.Of(entry.merged) == first.Of(entry.left) &&
                 last.Of(entry.merged) == last.Of(entry.right);
    std::uint64_t bit = MixPair(last.Of(entry.left), first.Of(entry.right)) & (bits - 1);
    filter_[bit / 64] |= std::uint64_t{1} << (bit % 64);
  });
  if (!consistent) {
    filter_.clear();
  }
}

bool MergeBoundaries::MayJoin(TokenId left, TokenId right) const {
  if (filter_.empty() || wild_[static_cast<std::size_t>(left)] ||
      wild_[static_cast<std::size_t>(right)]) {
    return true;
  }
  std::uint64_t bit = MixPair(left, right) & (filter_.size() * 64 - 1);
  return (filter_[bit / 64] >> (bit % 64) & 1) != 0;
}

}  // namespace pixii::text
