#include "text/tokenizer/word_table.h"

#include <algorithm>

namespace pixii::text {

void WordTable::Reserve(std::size_t words) {
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(words * 2, 64));
  slots_.assign(slots, Slot{});
  mask_ = slots - 1;
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots));
  longest_ = 0;
  long_words_ = Vocabulary();
  long_ids_.clear();
}

void WordTable::Add(std::string_view word, TokenId id) {
  if (word.size() > kShortBytesMax) {
    auto index = static_cast<TokenId>(long_ids_.size());
    if (long_words_.Add(word, index) == Vocabulary::Added::kYes) {
      long_ids_.push_back(id);
      longest_ = std::max(longest_, word.size());
    }
    return;
  }
  const Key key = KeyOf(word.data(), word.size(), word.data() + word.size());
  std::uint64_t slot = Hash(key) >> shift_;
  while (slots_[slot].id >= 0 && !(slots_[slot].key == key)) {
    slot = (slot + 1) & mask_;
  }
  if (slots_[slot].id < 0) {
    slots_[slot] = {key, id};
  }
}

TokenId WordTable::FindLong(std::string_view word) const {
  auto index = long_words_.IdOf(word);
  return index ? long_ids_[static_cast<std::size_t>(*index)] : -1;
}

}  // namespace pixii::text
