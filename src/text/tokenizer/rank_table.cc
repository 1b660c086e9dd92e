#include "text/tokenizer/rank_table.h"

#include <algorithm>
#include <bit>

namespace pixii::text {

void RankTable::Reserve(std::size_t pairs) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(pairs * 2, 64));
  const std::size_t bits = std::bit_ceil(std::max<std::size_t>(pairs * 8, 64));
  slots_.assign(slots, kEmpty);
  filter_.assign(bits / 64, 0);
  mask_ = slots - 1;
  slot_shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots));
  filter_shift_ = 64 - static_cast<unsigned>(std::countr_zero(bits));
}

void RankTable::Add(TokenId left, TokenId right, std::uint32_t rank) {
  const std::uint64_t pair = Pair(left, right);
  const std::uint64_t hash = pair * kMultiplier;
  const std::uint64_t bit = hash >> filter_shift_;
  filter_[bit / 64] |= std::uint64_t{1} << (bit % 64);
  std::uint64_t slot = hash >> slot_shift_;
  while (slots_[slot] != kEmpty) {
    slot = (slot + 1) & mask_;
  }
  slots_[slot] = pair << 24 | rank;
}

}  // namespace pixii::text
