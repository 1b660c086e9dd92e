// What the places of a JsonMachine lead to.
#include <algorithm>
#include <span>

#include "base/hash.h"
#include "text/grammar/json_machine.h"
#include "wire/json.h"

namespace pixii::text::grammar {

namespace {

std::uint64_t HashText(std::string_view text) {
  return Hash64(std::as_bytes(std::span(text.data(), text.size())));
}

template <class List>
std::uint64_t HashList(std::uint64_t hash, const List& list) {
  for (auto word : list) {
    hash = MixHash(hash, word);
  }
  return hash;
}

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

}  // namespace

std::uint64_t JsonMachine::Value::Hash() const { return HashList(MixHash(goal, 1), watched); }

std::uint64_t JsonMachine::Container::Hash() const {
  return HashList(MixHash(MixHash(goal, array ? 2 : 3), seen), watched);
}

std::uint64_t JsonMachine::Frame::Hash() const {
  std::uint64_t hash = MixHash((static_cast<std::uint64_t>(parent) << 32) | container, member);
  return MixHash(hash, (static_cast<std::uint64_t>(item_text) << 32) | (depth << 2) |
                           static_cast<std::uint32_t>(outer));
}

std::uint64_t JsonMachine::Words::Hash() const { return HashList(5, words); }

std::uint64_t JsonMachine::Keys::Hash() const { return HashList(MixHash(names, other), alive); }

std::uint64_t JsonMachine::NumberMode::Hash() const {
  return HashList(MixHash(goal, static_cast<std::uint64_t>(kind) + 7), watched);
}

std::uint64_t JsonMachine::NumberText::Hash() const { return MixHash(HashText(text), mode); }

std::uint64_t JsonMachine::ItemValue::Hash() const { return HashText(text); }

std::uint32_t JsonMachine::ValueId(FormulaId goal, std::vector<FormulaId> watched) {
  Value value;
  value.goal = goal;
  value.watched = std::move(watched);
  return values_.Intern(std::move(value));
}

std::uint32_t JsonMachine::OfKind(std::uint32_t value, ValueKind kind) {
  std::uint32_t known = values_[value].by_kind[static_cast<std::size_t>(kind)];
  if (known != kUnknown) {
    return known == kUnknown - 1 ? kNone : known;
  }
  std::uint32_t out = OfKindNow(value, kind);
  if (store_.regexes.fuel.exhausted) {
    return kNone;
  }
  values_.Mutable(value).by_kind[static_cast<std::size_t>(kind)] =
      out == kNone ? kUnknown - 1 : out;
  return out;
}

std::uint32_t JsonMachine::OfKindNow(std::uint32_t value, ValueKind kind) {
  const Value& place = values_[value];
  FormulaId goal = store_.OfKind(place.goal, kind);
  if (goal == kFalse) {
    return kNone;
  }
  std::vector<FormulaId> watched;
  for (FormulaId formula : place.watched) {
    watched.push_back(store_.OfKind(formula, kind));
  }
  switch (kind) {
    case ValueKind::kString: {
      std::vector<RegexId> languages = {store_.Language(goal)};
      for (FormulaId formula : watched) {
        languages.push_back(store_.Language(formula));
      }
      std::uint32_t text = texts_.Start(store_.regexes, std::move(languages));
      return text == TextStates::kDead ? kNone : text;
    }
    case ValueKind::kNumber:
      return ModeId(goal, std::move(watched));
    case ValueKind::kArray:
    case ValueKind::kObject: {
      if (!viability_.PossibleRest(store_, goal, kind)) {
        return kNone;
      }
      return ContainerId(kind == ValueKind::kArray, goal, std::move(watched), 0);
    }
    default:
      return VerdictOf(watched);
  }
}

std::uint32_t JsonMachine::ModeId(FormulaId goal, std::vector<FormulaId> watched) {
  const std::vector<NumberBox>& boxes = store_.Boxes(goal);
  if (boxes.empty()) {
    return kNone;
  }
  NumberMode mode;
  if (watched.empty() && goal == kTrue) {
    mode.kind = NumberMode::Kind::kAny;
  } else if (watched.empty() && goal == store_.Number({})) {
    mode.kind = NumberMode::Kind::kInteger;
  }
  mode.goal = goal;
  mode.watched = std::move(watched);
  return modes_.Intern(std::move(mode));
}

std::uint32_t JsonMachine::NumberTextId(std::uint32_t mode, std::string text) {
  // Digits after which any digits may follow need not be remembered.
  bool digits = !text.empty() && text[0] >= '1' && text[0] <= '9' &&
                text.find_first_not_of("0123456789") == std::string::npos;
  const NumberMode& full = modes_[mode];
  if (digits && full.watched.empty()) {
    const std::vector<NumberBox>& boxes = store_.Boxes(full.goal);
    const NumberBox* box = boxes.size() == 1 ? boxes.data() : nullptr;
    bool open = box != nullptr && !box->high && box->steps.empty() && box->excluded.empty() &&
                store_.node(full.goal).kind != FormulaStore::Kind::kNot;
    if (open) {
      Decimal value = Decimal::Parse(text).value_or(Decimal());
      bool above = !box->low || value > *box->low || (value == *box->low && !box->low_open);
      bool scaled = !box->low || box->low->negative() || box->low->is_zero();
      if (above && box->integer) {
        mode = ModeId(store_.Number({}), {});
      } else if (above && scaled) {
        mode = ModeId(kTrue, {});
      }
      if (modes_[mode].kind != NumberMode::Kind::kText) {
        text.clear();
      }
    }
  }
  store_.regexes.fuel.nodes -= std::min<std::uint64_t>(store_.regexes.fuel.nodes, 1);
  return numbers_.Intern({mode, std::move(text)});
}

std::uint32_t JsonMachine::Verdict(const Bits& bits) {
  Words words;
  words.words.reserve(bits.size());
  for (bool bit : bits) {
    words.words.push_back(bit ? 1 : 0);
  }
  return verdicts_.Intern(std::move(words));
}

std::uint32_t JsonMachine::VerdictOf(const std::vector<FormulaId>& constants) {
  Bits bits;
  for (FormulaId formula : constants) {
    bits.push_back(formula == kTrue);
  }
  return Verdict(bits);
}

std::uint32_t JsonMachine::ContainerId(bool array, FormulaId goal, std::vector<FormulaId> watched,
                                       std::uint32_t seen) {
  Container place;
  place.array = array;
  place.goal = goal;
  place.watched = std::move(watched);
  place.seen = seen;
  return containers_.Intern(std::move(place));
}

std::uint32_t JsonMachine::MemberOf(std::uint32_t container, std::uint32_t key_class) {
  if (const std::uint32_t* known = member_of_.Find(container, key_class)) {
    return *known;
  }
  std::uint32_t out = MemberNow(container, key_class);
  if (store_.regexes.fuel.exhausted) {
    return 0;
  }
  member_of_.Put(container, key_class, out);
  return out;
}

std::uint32_t JsonMachine::MemberNow(std::uint32_t container, std::uint32_t key_class) {
  const Container& place = containers_[container];
  auto derive = [&](FormulaId formula) {
    return place.array ? store_.OnItem(formula) : store_.OnKey(formula, key_class);
  };
  Member member;
  member.array = place.array;
  member.goal = derive(place.goal);
  if (member.goal == kFalse) {
    return 0;
  }
  std::vector<FormulaId> open;
  store_.Downs(member.goal, open);
  for (FormulaId formula : place.watched) {
    member.watched.push_back(derive(formula));
    store_.Downs(member.watched.back(), open);
  }
  std::sort(open.begin(), open.end());
  open.erase(std::unique(open.begin(), open.end()), open.end());
  // What the container's goal cannot do without is asked of the member; the rest is watched.
  std::unordered_map<FormulaId, FormulaId> given;
  std::vector<FormulaId> goals;
  for (FormulaId formula : open) {
    if (store_.Substitute(member.goal, {{formula, kFalse}}) == kFalse) {
      given[formula] = kTrue;
      goals.push_back(formula);
    }
  }
  if (!given.empty()) {
    member.goal = store_.Substitute(member.goal, given);
    for (FormulaId& formula : member.watched) {
      formula = store_.Substitute(formula, given);
    }
  }
  if (given.size() != open.size()) {
    store_.Downs(member.goal, member.asked);
    for (FormulaId formula : member.watched) {
      store_.Downs(formula, member.asked);
    }
    std::sort(member.asked.begin(), member.asked.end());
    member.asked.erase(std::unique(member.asked.begin(), member.asked.end()), member.asked.end());
  }
  goals.push_back(store_.Best(member.goal));
  FormulaId goal = store_.And(std::move(goals));
  if (!viability_.Possible(store_, goal)) {
    return 0;
  }
  member.value = ValueId(goal, member.asked);
  member.seen = place.seen;
  if (!place.array) {
    KeyId name = store_.key_class(key_class).name;
    member.seen = name == kNone ? place.seen : WithKey(place.seen, name);
  }
  store_.regexes.fuel.Burn(4);
  members_.push_back(std::move(member));
  return static_cast<std::uint32_t>(members_.size() - 1);
}

std::uint32_t JsonMachine::AfterMember(std::uint32_t member, std::uint32_t verdict) {
  if (const std::uint32_t* known = after_member_.Find(member, verdict)) {
    return *known;
  }
  const Member& place = members_[member];
  std::unordered_map<FormulaId, FormulaId> values;
  for (std::size_t i = 0; i < place.asked.size(); ++i) {
    values[place.asked[i]] = verdicts_[verdict].words[i] != 0 ? kTrue : kFalse;
  }
  FormulaId goal = store_.Substitute(place.goal, values);
  std::uint32_t out = kNone;
  ValueKind kind = place.array ? ValueKind::kArray : ValueKind::kObject;
  if (goal != kFalse && viability_.PossibleRest(store_, goal, kind)) {
    std::vector<FormulaId> watched;
    for (FormulaId formula : place.watched) {
      watched.push_back(store_.Substitute(formula, values));
    }
    out = ContainerId(place.array, goal, std::move(watched), place.seen);
  }
  if (store_.regexes.fuel.exhausted) {
    return kNone;
  }
  after_member_.Put(member, verdict, out);
  return out;
}

std::uint32_t JsonMachine::EndOf(std::uint32_t container) {
  const Container& place = containers_[container];
  if (place.end != kUnknown) {
    return place.end == kUnknown - 1 ? kNone : place.end;
  }
  std::uint32_t out = kNone;
  if (store_.AtEnd(place.goal) == kTrue) {
    std::vector<FormulaId> ends;
    for (FormulaId formula : place.watched) {
      ends.push_back(store_.AtEnd(formula));
    }
    out = VerdictOf(ends);
  }
  containers_.Mutable(container).end = out == kNone ? kUnknown - 1 : out;
  return out;
}

std::uint32_t JsonMachine::FrameId(const Frame& frame) {
  std::size_t before = frames_.size();
  std::uint32_t out = frames_.Intern(frame);
  if (frames_.size() != before) {
    Fuel& left = store_.regexes.fuel;
    left.exhausted = left.exhausted || left.nodes == 0;
    left.nodes -= left.nodes == 0 ? 0 : 1;
  }
  return out;
}

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
  Words met = seen_[next.seen];
  std::uint64_t item = items_.Intern({"fresh"});  // no JSON text
  auto at = std::lower_bound(met.words.begin(), met.words.end(), item);
  if (at == met.words.end() || *at != item) {
    met.words.insert(at, item);
  }
  store_.regexes.fuel.Burn(met.words.size());
  std::uint32_t seen = seen_.Intern(std::move(met));
  return ContainerId(true, next.goal, std::move(next.watched), seen);
}

std::uint32_t JsonMachine::WithItem(const Frame& frame, std::uint32_t container,
                                    std::uint32_t text) {
  std::string spelt = Canonical(frame.item_text, text);
  std::size_t known = items_.size();
  std::uint64_t item = items_.Intern({spelt});
  if (items_.size() != known) {
    KeepStrings(spelt);
  }
  Container next = containers_[container];
  Words met = seen_[next.seen];
  auto at = std::lower_bound(met.words.begin(), met.words.end(), item);
  if (at != met.words.end() && *at == item) {
    FormulaId goal = store_.WithoutUnique(next.goal);
    if (!viability_.PossibleRest(store_, goal, ValueKind::kArray)) {
      return kNone;
    }
    for (FormulaId& formula : next.watched) {
      formula = store_.WithoutUnique(formula);
    }
    return ContainerId(true, goal, std::move(next.watched), next.seen);
  }
  met.words.insert(at, item);
  store_.regexes.fuel.Burn(met.words.size());
  std::uint32_t seen = seen_.Intern(std::move(met));
  return ContainerId(true, next.goal, std::move(next.watched), seen);
}

}  // namespace pixii::text::grammar
