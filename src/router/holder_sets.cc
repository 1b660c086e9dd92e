#include "router/holder_sets.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace pixii::router {

namespace {

// Words of a set of class c: four steps to each doubling, from 4 on.
constexpr std::size_t WordsOf(std::size_t size_class) {
  return (4 + size_class % 4) << (size_class / 4);
}

std::size_t ClassOf(std::size_t words) {
  const auto doublings = static_cast<std::size_t>(std::bit_width(words / 4)) - 1;
  std::size_t out = doublings * 4 + ((words >> doublings) - 4);
  return WordsOf(out) < words ? out + 1 : out;
}

}  // namespace

HolderSets::HolderSets() : table_(64) {}

std::uint32_t HolderSets::HashOf(std::span<const Holder> holders) {
  std::uint64_t hash = holders.size();
  for (const Holder holder : holders) {
    hash = (hash ^ holder) * 0x9e3779b97f4a7c15U;
    hash ^= hash >> 32;
  }
  return static_cast<std::uint32_t>(hash);
}

HolderSets::Ref HolderSets::Intern(std::span<const Holder> holders, bool may_grow) {
  const std::uint32_t hash = HashOf(holders);
  std::size_t slot = hash & (table_.size() - 1);
  while (table_[slot] != 0) {
    const std::uint32_t* words = At(table_[slot]);
    if (words[kHash] == hash && std::ranges::equal(this->holders(table_[slot]), holders)) {
      Use(table_[slot]);
      return table_[slot];
    }
    slot = (slot + 1) & (table_.size() - 1);
  }
  if (holders.size() > kSetSizeMax) {
    return 0;
  }
  const std::size_t size_class = ClassOf(kHeader + holders.size());
  const Ref set = Allocate(size_class, may_grow);
  if (set == 0) {
    return 0;
  }
  std::uint32_t* words = At(set);
  words[kUses] = 1;
  words[kHash] = hash;
  words[kShape] = static_cast<std::uint32_t>(size_class << 16 | holders.size());
  std::ranges::copy(holders, words + kHeader);
  table_[slot] = set;
  if (++set_count_ * 4 > table_.size() * 3) {
    Grow();
  }
  return set;
}

HolderSets::Ref HolderSets::Allocate(std::size_t size_class, bool may_grow) {
  if (free_[size_class] != 0) {
    const Ref set = free_[size_class];
    free_[size_class] = At(set)[kUses];  // the next free one
    return set;
  }
  const std::size_t words = WordsOf(size_class);
  if (chunks_.empty() || next_word_ + words > kChunkWords) {
    if (!may_grow || chunks_.size() * kChunkWords > ~Ref{0} - kChunkWords) {
      return 0;
    }
    next_word_ = chunks_.empty() ? 1 : 0;  // 0 is no set
    chunks_.push_back(std::make_unique<std::uint32_t[]>(kChunkWords));
  }
  const auto set = static_cast<Ref>((chunks_.size() - 1) * kChunkWords + next_word_);
  next_word_ += words;
  return set;
}

void HolderSets::Drop(Ref set) {
  std::uint32_t* words = At(set);
  PX_DASSERT(words[kUses] > 0);
  if (--words[kUses] > 0) {
    return;
  }
  const std::size_t mask = table_.size() - 1;
  std::size_t hole = words[kHash] & mask;
  while (table_[hole] != set) {
    hole = (hole + 1) & mask;
  }
  // What stands behind moves into the hole if its home is not between.
  for (std::size_t next = (hole + 1) & mask; table_[next] != 0; next = (next + 1) & mask) {
    const std::size_t home = At(table_[next])[kHash] & mask;
    if (((next - home) & mask) >= ((next - hole) & mask)) {
      table_[hole] = table_[next];
      hole = next;
    }
  }
  table_[hole] = 0;
  --set_count_;
  Ref& first = free_[words[kShape] >> 16];
  words[kUses] = first;
  first = set;
}

void HolderSets::Grow() {
  std::vector<Ref> old(table_.size() * 2);
  old.swap(table_);
  for (const Ref set : old) {
    if (set != 0) {
      std::size_t slot = At(set)[kHash] & (table_.size() - 1);
      while (table_[slot] != 0) {
        slot = (slot + 1) & (table_.size() - 1);
      }
      table_[slot] = set;
    }
  }
}

}  // namespace pixii::router
