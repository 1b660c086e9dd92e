#include "text/grammar/value_count.h"

#include <algorithm>
#include <set>
#include <string>
#include <unordered_map>

namespace pixii::text::grammar {

namespace {

constexpr std::uint64_t kValuesMax = 4'096;  // beyond them nobody counts
constexpr int kCharactersMax = 128;          // of a text that is counted

class TextCount final {
 public:
  TextCount(RegexStore& regexes, std::uint64_t many) : regexes_(regexes), many_(many) {}

  std::uint64_t Of(RegexId language, int depth = 0) {
    if (language == RegexStore::kNothing || !regexes_.Alive(language)) {
      return 0;
    }
    if (depth >= kCharactersMax || !regexes_.fuel.Burn(8)) {
      return many_;
    }
    if (const auto known = known_.find(language); known != known_.end()) {
      return known->second;
    }
    std::uint64_t count = regexes_.AcceptsEnd(language) ? 1 : 0;
    std::vector<char32_t> cuts = {0, 0xD800, 0xE000, kCodePointMax + 1};
    regexes_.Cuts(language, cuts);
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (std::size_t i = 0; i + 1 < cuts.size() && cuts[i] <= kCodePointMax && count < many_; ++i) {
      if (cuts[i] >= 0xD800 && cuts[i] < 0xE000) {
        continue;  // surrogates are no characters
      }
      const std::uint64_t width = cuts[i + 1] - cuts[i];
      const std::uint64_t rest = Of(regexes_.Derive(language, cuts[i]), depth + 1);
      count = rest >= many_ ? many_ : std::min(many_, count + width * rest);
    }
    known_[language] = count;
    return count;
  }

 private:
  RegexStore& regexes_;
  std::uint64_t many_;
  std::unordered_map<RegexId, std::uint64_t> known_;
};

std::uint64_t CountNumbers(const std::vector<NumberBox>& boxes, std::uint64_t many) {
  std::set<std::string> values;
  for (const NumberBox& box : boxes) {
    const std::optional<std::vector<Decimal>> of_box = box.Values(many);
    if (!of_box) {
      return many;
    }
    for (const Decimal& value : *of_box) {
      values.insert(value.ToString());
    }
  }
  return std::min<std::uint64_t>(values.size(), many);
}

}  // namespace

std::uint64_t CountValues(FormulaStore& store, FormulaId formula, std::uint64_t count_max) {
  const std::uint64_t many = std::min(count_max, kValuesMax) + 1;
  std::uint64_t count = 0;
  for (int i = 0; i < kValueKinds && count < many; ++i) {
    const auto kind = static_cast<ValueKind>(i);
    const FormulaId rest = store.OfKind(store.Resolve(formula), kind);
    if (rest == kFalse) {
      continue;
    }
    switch (kind) {
      case ValueKind::kString:
        count += TextCount(store.regexes, many).Of(store.Language(rest));
        break;
      case ValueKind::kNumber:
        count += CountNumbers(store.Boxes(rest), many);
        break;
      case ValueKind::kArray:
      case ValueKind::kObject:
        count = many;
        break;
      default:
        ++count;
    }
  }
  return count >= many ? count_max + 1 : count;
}

}  // namespace pixii::text::grammar
