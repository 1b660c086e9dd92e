#include "text/tokenizer/split_behavior.h"

#include <algorithm>

namespace pixii::text {

std::optional<SplitBehavior> SplitBehaviorOf(std::string_view name) {
  if (name == "Removed") {
    return SplitBehavior::kRemoved;
  }
  if (name == "Isolated") {
    return SplitBehavior::kIsolated;
  }
  if (name == "MergedWithPrevious") {
    return SplitBehavior::kMergedWithPrevious;
  }
  if (name == "MergedWithNext") {
    return SplitBehavior::kMergedWithNext;
  }
  if (name == "Contiguous") {
    return SplitBehavior::kContiguous;
  }
  return std::nullopt;
}

void AppendSplit(const Word& word, const std::vector<Stretch>& stretches, SplitBehavior behavior,
                 std::vector<Word>& out) {
  auto push = [&](const Stretch& s) {
    out.push_back({s.begin, s.end, word.first && s.begin == word.begin});
  };
  std::size_t start = out.size();
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Stretch& s : stretches) {
        if (!s.delimiter) {
          push(s);
        }
      }
      return;
    case SplitBehavior::kIsolated:
      for (const Stretch& s : stretches) {
        push(s);
      }
      return;
    case SplitBehavior::kContiguous:
      for (std::size_t i = 0; i < stretches.size(); ++i) {
        if (i > 0 && stretches[i].delimiter == stretches[i - 1].delimiter) {
          out.back().end = stretches[i].end;
        } else {
          push(stretches[i]);
        }
      }
      return;
    case SplitBehavior::kMergedWithPrevious:
      for (std::size_t i = 0; i < stretches.size(); ++i) {
        bool joins = stretches[i].delimiter && i > 0 && !stretches[i - 1].delimiter;
        if (joins) {
          out.back().end = stretches[i].end;
        } else {
          push(stretches[i]);
        }
      }
      return;
    case SplitBehavior::kMergedWithNext:
      // From the right: a delimiter joins what follows it, unless that is a delimiter too.
      for (std::size_t i = stretches.size(); i-- > 0;) {
        bool joins =
            stretches[i].delimiter && i + 1 < stretches.size() && !stretches[i + 1].delimiter;
        if (joins) {
          out.back().begin = stretches[i].begin;
          out.back().first = word.first && stretches[i].begin == word.begin;
        } else {
          push(stretches[i]);
        }
      }
      std::reverse(out.begin() + static_cast<std::ptrdiff_t>(start), out.end());
      return;
  }
}

}  // namespace pixii::text
