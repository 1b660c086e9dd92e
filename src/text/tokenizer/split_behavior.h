// What becomes of the delimiters when a word is cut: the five behaviours of Hugging Face's Split.
//
// Thread: pure functions.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/tokenizer/pre_tokenizer.h"

namespace pixii::text {

enum class SplitBehavior : std::uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

std::optional<SplitBehavior> SplitBehaviorOf(std::string_view name);

/// A stretch of a word that is a delimiter or stands between two. Stretches cover the word without
/// gap.
struct Stretch {
  std::uint32_t begin;
  std::uint32_t end;
  bool delimiter;
};

/// Appends the words that `stretches`, the parts of `word`, make under `behavior`. O(stretches).
void AppendSplit(const Word& word, const std::vector<Stretch>& stretches, SplitBehavior behavior,
                 std::vector<Word>& out);

}  // namespace pixii::text
