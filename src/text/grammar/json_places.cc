// What the places of a JsonMachine lead to.
#include <algorithm>
#include <span>

#include "base/hash.h"
#include "text/grammar/json_machine.h"

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
    bool open = box != nullptr && !box->high && box->steps.empty() &&
                std::all_of(box->excluded.begin(), box->excluded.end(),
                            [](const Decimal& value) { return value.is_zero(); }) &&
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
  const std::size_t known = containers_.size();
  const std::size_t bytes = place.watched.size() * sizeof(FormulaId);
  const std::uint32_t id = containers_.Intern(std::move(place));
  list_bytes_ += containers_.size() == known ? 0 : bytes;
  return id;
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
    if (!CanTurnOut(place.array, member.goal, formula, kFalse)) {
      given[formula] = kTrue;
      goals.push_back(formula);
    } else if (place.array && !CanTurnOut(true, member.goal, formula, kTrue)) {
      given[formula] = kFalse;
      goals.push_back(store_.Not(formula));
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
  if (place.array) {
    goal = NewItem(place, goal);
  }
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
  list_bytes_ += (member.watched.size() + member.asked.size()) * sizeof(FormulaId);
  members_.push_back(std::move(member));
  return static_cast<std::uint32_t>(members_.size() - 1);
}

// Whether the container can become what it must if its member turns out so.
bool JsonMachine::CanTurnOut(bool array, FormulaId container, FormulaId member, FormulaId verdict) {
  const FormulaId rest = store_.Substitute(container, {{member, verdict}});
  return rest != kFalse && (!array || viability_.PossibleRest(store_, rest, ValueKind::kArray));
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

}  // namespace pixii::text::grammar
