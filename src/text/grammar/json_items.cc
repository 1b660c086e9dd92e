// Items that must be unique: what was met, and what is left for the next.
#include <algorithm>

#include "base/utf8.h"
#include "text/grammar/json_machine.h"
#include "wire/json.h"

namespace pixii::text::grammar {

namespace {

constexpr std::string_view kLiterals[] = {"null", "false", "true"};

// Values met that the next item differs from at once; more are compared at its end.
constexpr std::size_t kItemsLeftOutMax = 2'048;

// One spelling for equal values.
void AppendCanonical(std::string& out, const wire::Json& value) {
  switch (value.kind()) {
    case wire::Json::Kind::kNumber:
      out += Decimal::Parse(value.digits()).value_or(Decimal()).ToString();
      break;
    case wire::Json::Kind::kArray:
      out += '[';
      for (const wire::Json& item : value.array()) {
        AppendCanonical(out, item);
        out += ',';
      }
      out += ']';
      break;
    case wire::Json::Kind::kObject: {
      std::vector<const wire::JsonMember*> members;
      for (const wire::JsonMember& member : value.object()) {
        members.push_back(&member);
      }
      std::sort(members.begin(), members.end(),
                [](const auto* a, const auto* b) { return a->first < b->first; });
      out += '{';
      for (const wire::JsonMember* member : members) {
        wire::AppendJsonString(out, member->first);
        out += ':';
        AppendCanonical(out, member->second);
        out += ',';
      }
      out += '}';
      break;
    }
    default:
      out += value.Dump();
  }
}

// A number begun on one side of zero may be driven to an end that is `value`, and no further.
bool MayEndAt(const NumberBox& box, const Decimal& value) {
  const std::optional<Decimal>& bound = value.negative() ? box.low : box.high;
  const bool grid = box.integer || !box.steps.empty();
  return bound && (grid || value == *bound || (box.low && value == *box.low) ||
                   (box.high && value == *box.high));
}

}  // namespace

std::string JsonMachine::Canonical(std::uint32_t begin, std::uint32_t end) const {
  std::string text;
  for (std::uint32_t at = end; at != begin && at > 1; at = bytes_[at].parent) {
    text += static_cast<char>(bytes_[at].byte);
  }
  std::reverse(text.begin(), text.end());
  std::string out;
  if (Result<wire::Json> value = wire::ParseJson(text, {.depth_max = 1024})) {
    AppendCanonical(out, *value);
  } else {
    out = "?" + text;  // a repeated key: equal only to itself
  }
  return out;
}

// The strings of an item, names of members among them, between their quotes.
void JsonMachine::KeepStrings(std::string_view item) {
  for (std::size_t at = item.find('"'); at != std::string_view::npos; at = item.find('"', at)) {
    std::size_t end = at + 1;
    while (end < item.size() && item[end] != '"') {
      end += item[end] == '\\' ? 2 : 1;
    }
    std::string_view text = item.substr(at + 1, end - at - 1);
    item_strings_.emplace(text);
    item_string_bytes_max_ = std::max(item_string_bytes_max_, text.size());
    at = std::min(end + 1, item.size());
  }
}

// An item that is none of those met.
std::uint32_t JsonMachine::FreshItem(std::uint32_t container) {
  Container next = containers_[container];
  const std::uint32_t item = items_.Intern({"fresh"});  // no JSON text
  store_.regexes.fuel.Burn(4);
  return ContainerId(true, next.goal, std::move(next.watched), item_sets_.With(next.seen, item));
}

std::uint32_t JsonMachine::WithItem(const Frame& frame, std::uint32_t container,
                                    std::uint32_t text) {
  std::string spelt = Canonical(frame.item_text, text);
  store_.regexes.fuel.Burn(8 + spelt.size() / 4);
  std::size_t known = items_.size();
  const std::uint32_t item = items_.Intern({spelt});
  if (items_.size() != known) {
    KeepStrings(spelt);
  }
  Container next = containers_[container];
  if (item_sets_.Contains(next.seen, item)) {
    FormulaId goal = store_.WithoutUnique(next.goal);
    if (!viability_.PossibleRest(store_, goal, ValueKind::kArray)) {
      return kNone;
    }
    for (FormulaId& formula : next.watched) {
      formula = store_.WithoutUnique(formula);
    }
    return ContainerId(true, goal, std::move(next.watched), next.seen);
  }
  return ContainerId(true, next.goal, std::move(next.watched), item_sets_.With(next.seen, item));
}

bool JsonMachine::WasMet(std::uint32_t seen, std::string_view spelt) {
  return item_sets_.Contains(seen, items_.Intern({std::string(spelt)}));
}

// What must come as the next item, without the values that were met where so few are possible that
// an item begun could only become one of them: no text leads there then. Values inside lists and
// objects are compared at their end alone.
FormulaId JsonMachine::NewItem(const Container& place, FormulaId goal) {
  if (place.seen == ItemSets::kEmpty || !store_.NeedsUnique(place.goal)) {
    return goal;
  }
  const FormulaId repeated = store_.WithoutUnique(place.goal);
  if (repeated != kFalse && viability_.PossibleRest(store_, repeated, ValueKind::kArray)) {
    return goal;  // items may be equal
  }
  RegexStore& regexes = store_.regexes;
  const FormulaId text = store_.OfKind(goal, ValueKind::kString);
  std::uint32_t min = 0;
  std::uint32_t max = kUnbounded;
  // A text that is not as long as it may be can go on.
  const bool lengths_alone =
      text != kFalse && regexes.WithoutLength(store_.Language(text), min, max) == regexes.full();
  const bool strings = text != kFalse && !(lengths_alone && max == kUnbounded);
  const FormulaId number = store_.OfKind(goal, ValueKind::kNumber);
  const std::vector<NumberBox> boxes =
      number == kFalse ? std::vector<NumberBox>() : store_.Boxes(number);
  const bool numbers = std::any_of(boxes.begin(), boxes.end(),
                                   [](const NumberBox& box) { return box.low || box.high; });
  std::vector<FormulaId> parts = {goal};
  std::vector<std::u32string> words;
  for (ValueKind kind : {ValueKind::kNull, ValueKind::kFalse, ValueKind::kTrue}) {
    if (WasMet(place.seen, kLiterals[static_cast<std::size_t>(kind)])) {
      parts.push_back(store_.Kinds(~KindBit(kind)));
    }
  }
  const auto leave_out = [&](const Decimal& value) {
    const FormulaId equal = store_.Number({NumberRule::Kind::kEquals, false, value});
    parts.push_back(store_.Not(store_.And({store_.Kinds(KindBit(ValueKind::kNumber)), equal})));
  };
  if (!boxes.empty() && WasMet(place.seen, "0")) {
    leave_out(Decimal());  // behind a zero there are no more digits
  }
  const auto look_at = [&](std::uint32_t item) {
    const std::string& spelt = items_[item].text;
    if (parts.size() + words.size() > kItemsLeftOutMax) {
      return;
    }
    if (strings && spelt[0] == '"') {
      const Result<wire::Json> value = wire::ParseJson(spelt);
      std::u32string word;
      for (std::string_view rest = value ? value->string() : std::string_view(); !rest.empty();) {
        word += DecodeUtf8(rest);
        rest.remove_prefix(Utf8SequenceLength(rest));
      }
      if (!lengths_alone || word.size() == max) {
        words.push_back(word + kTextEnd);
      }
    } else if (numbers && (spelt[0] == '-' || (spelt[0] >= '1' && spelt[0] <= '9'))) {
      const Decimal value = Decimal::Parse(spelt).value_or(Decimal());
      if (std::any_of(boxes.begin(), boxes.end(),
                      [&](const NumberBox& box) { return MayEndAt(box, value); })) {
        leave_out(value);
      }
    }
  };
  if (strings || numbers) {
    regexes.fuel.Burn(8 * item_sets_.CountOf(place.seen));
    item_sets_.ForEach(place.seen, look_at);
  }
  if (!words.empty()) {
    const FormulaId met = store_.Text(regexes.Words(std::move(words)));
    parts.push_back(store_.Not(store_.And({store_.Kinds(KindBit(ValueKind::kString)), met})));
  }
  return store_.And(std::move(parts));
}

}  // namespace pixii::text::grammar
