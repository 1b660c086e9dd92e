#include "text/grammar/json_machine.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/grammar/grammar_vocabulary.h"
#include "text/grammar/json_string.h"

namespace pixii::text::grammar {

namespace {

// How far plain syntax of a number has come.
enum Syntax : std::uint32_t {
  kMinus,
  kZero,
  kWhole,
  kPoint,
  kFraction,
  kExponent,
  kExponentSign,
  kExponentDigits,
  kBadNumber,
};

Syntax NextSyntax(std::uint32_t at, std::uint8_t byte) {
  bool digit = byte >= '0' && byte <= '9';
  bool e = byte == 'e' || byte == 'E';
  switch (at) {
    case kMinus:
      return byte == '0' ? kZero : digit ? kWhole : kBadNumber;
    case kZero:
      return byte == '.' ? kPoint : e ? kExponent : kBadNumber;
    case kWhole:
      return digit ? kWhole : byte == '.' ? kPoint : e ? kExponent : kBadNumber;
    case kPoint:
      return digit ? kFraction : kBadNumber;
    case kFraction:
      return digit ? kFraction : e ? kExponent : kBadNumber;
    case kExponent:
      return digit ? kExponentDigits : byte == '+' || byte == '-' ? kExponentSign : kBadNumber;
    case kExponentSign:
    case kExponentDigits:
      return digit ? kExponentDigits : kBadNumber;
    default:
      return kBadNumber;
  }
}

bool IsWhole(std::uint32_t syntax) {
  return syntax == kZero || syntax == kWhole || syntax == kFraction || syntax == kExponentDigits;
}

constexpr std::size_t kItemBytesMax = 32U << 20;  // bytes of items that must be unique

constexpr std::string_view kLiterals[] = {"null", "false", "true"};

}  // namespace

JsonMachine::JsonMachine(FormulaStore store, const JsonMachineOptions& options)
    : store_(std::move(store)), options_(options) {
  verdicts_.Intern({});
  seen_.Intern({});
  members_.emplace_back();
  bytes_.resize(2);  // 0: nothing is remembered, 1: nothing yet
}

std::unique_ptr<Machine> JsonMachine::Clone() const { return std::make_unique<JsonMachine>(*this); }

std::uint32_t JsonMachine::AddRoot(FormulaId formula) {
  auto root = static_cast<std::uint32_t>(roots_.size());
  roots_.push_back(ValueId(store_.Resolve(formula), {}));
  // Roots have the first frames.
  frames_.Intern({.parent = root});
  return root;
}

State JsonMachine::StartOf(std::uint32_t root) {
  State out;
  out.frame = root;
  out.phase = kValue;
  out.a = roots_[root];
  return out;
}

std::uint32_t JsonMachine::RootOf(const State& state) const {
  std::uint32_t frame = state.frame;
  while (frames_[frame].depth > 0) {
    frame = frames_[frame].parent;
  }
  return frame;  // roots have the first frames
}

State JsonMachine::ValueAgain(const State& state) const {
  State out = state;
  out.a = members_[frames_[state.frame].member].value;
  out.b = out.c = 0;
  out.phase = kValue;
  return out;
}

bool JsonMachine::AtMemberEnd(const State& state, std::uint32_t depth) {
  if (frames_[state.frame].depth != depth || depth == 0) {
    return false;
  }
  State copy = state;
  return state.phase == kAfter || (state.phase == kNumber && EndNumber(copy));
}

std::size_t JsonMachine::size_bytes() const {
  return store_.size_bytes() + texts_.size_bytes() + frames_.size_bytes() + values_.size_bytes() +
         containers_.size_bytes() + members_.size() * sizeof(Member) + member_of_.size_bytes() +
         after_member_.size_bytes() + seen_.size_bytes() + item_sets_.size_bytes() +
         keys_.size_bytes() + numbers_.size_bytes() + numbers_.size() * 32 +
         number_steps_.size_bytes() + bytes_.size() * sizeof(TextByte) + items_.size_bytes() +
         items_.size() * 96 + item_strings_.size() * 96 + matches_.size_bytes() + list_bytes_;
}

bool JsonMachine::White(State& state, std::uint8_t byte) const {
  if (byte != ' ' && byte != '\n' && byte != '\t' && byte != '\r') {
    return false;
  }
  if (options_.spelling.whitespace_run_max == kUnbounded) {
    return true;
  }
  return ++state.c <= options_.spelling.whitespace_run_max;
}

void JsonMachine::Collect(State& state, std::uint8_t byte) {
  if (state.text == 0 || state.text == kFreshText) {
    return;
  }
  if (bytes_.size() >= kItemBytesMax) {
    store_.regexes.fuel.exhausted = true;
    return;
  }
  bytes_.push_back({state.text, byte});
  state.text = static_cast<std::uint32_t>(bytes_.size() - 1);
}

bool JsonMachine::Step(State& state, std::uint8_t byte) {
  if (state.phase == kNumber) {
    if (NumberByte(state, byte)) {
      Collect(state, byte);
      return true;
    }
    if (!EndNumber(state)) {
      return false;
    }
  }
  Collect(state, byte);
  switch (state.phase) {
    case kString:
      return StringByte(state, byte);
    case kKey:
      return KeyByte(state, byte);
    case kLiteral:
      return LiteralByte(state, byte);
    default:
      break;
  }
  if (White(state, byte)) {
    return true;
  }
  state.c = 0;
  switch (state.phase) {
    case kValue:
      return BeginValue(state, byte);
    case kObjectFirst:
      if (byte == '}') {
        return CloseContainer(state, false);
      }
      [[fallthrough]];
    case kObjectNext: {
      if (byte != '"') {
        return false;
      }
      const Keys& keys = KeysOf(frames_[state.frame].container);
      state.phase = kKey;
      state.a = keys.other;
      state.b = 0;
      return keys.any_name || keys.other != TextStates::kDead;
    }
    case kAfterKey:
      state.phase = kValue;
      state.a = members_[frames_[state.frame].member].value;
      return byte == ':';
    case kArrayFirst:
      if (byte == ']') {
        return CloseContainer(state, true);
      }
      return NextItem(state) && BeginValue(state, byte);
    case kAfter:
      return AfterByte(state, byte);
    default:
      return false;
  }
}

bool JsonMachine::BeginValue(State& state, std::uint8_t byte) {
  std::uint32_t value = state.a;
  auto begin = [&](ValueKind kind, Phase phase) {
    state.a = OfKind(value, kind);
    state.phase = phase;
    state.b = 0;
    return state.a != kNone;
  };
  switch (byte) {
    case '"':
      return begin(ValueKind::kString, kString);
    case '{':
      return begin(ValueKind::kObject, kObjectFirst) && OpenContainer(state, state.a, false);
    case '[':
      return begin(ValueKind::kArray, kArrayFirst) && OpenContainer(state, state.a, true);
    case 'n':
    case 'f':
    case 't': {
      ValueKind kind = byte == 'n'   ? ValueKind::kNull
                       : byte == 'f' ? ValueKind::kFalse
                                     : ValueKind::kTrue;
      if (!begin(kind, kLiteral)) {
        return false;
      }
      state.c = state.a;
      state.a = static_cast<std::uint32_t>(kind);
      state.b = 1;
      return true;
    }
    default:
      break;
  }
  if (byte != '-' && (byte < '0' || byte > '9')) {
    return false;
  }
  if (!begin(ValueKind::kNumber, kNumber)) {
    return false;
  }
  if (modes_[state.a].kind == NumberMode::Kind::kText) {
    state.b = NumberTextId(state.a, "");
    return NumberByte(state, byte);
  }
  state.b = byte == '-' ? kMinus : byte == '0' ? kZero : kWhole;
  return true;
}

bool JsonMachine::OpenContainer(State& state, std::uint32_t container, bool array) {
  std::uint32_t depth = frames_[state.frame].depth + 1;
  if (depth > options_.depth_max) {
    return false;
  }
  Frame frame{.parent = state.frame, .container = container, .depth = depth};
  if (array) {
    const Container& place = containers_[container];
    bool unique = store_.NeedsUnique(place.goal);
    for (FormulaId formula : place.watched) {
      unique = unique || store_.NeedsUnique(formula);
    }
    if (unique) {
      frame.item_text = 1;
      frame.outer = state.text == 0            ? Outer::kNothing
                    : state.text == kFreshText ? Outer::kFresh
                                               : Outer::kBytes;
      state.text = frame.outer == Outer::kBytes ? state.text : 1;
    }
  }
  state.frame = FrameId(frame);
  state.a = 0;
  return true;
}

bool JsonMachine::LiteralByte(State& state, std::uint8_t byte) {
  std::string_view word = kLiterals[state.a];
  if (word[state.b] != static_cast<char>(byte)) {
    return false;
  }
  ++state.b;
  return state.b < word.size() || EndValue(state, state.c);
}

bool JsonMachine::EscapesAllowed(std::uint32_t before, std::uint32_t after, char32_t c) const {
  // A character that came out of an escape, where only needed ones are allowed.
  if (options_.spelling.needless_escapes || after != 0 || !StringBytes::InEscape(before)) {
    return true;
  }
  return c < 0x20 || c == '"' || c == '\\';
}

bool JsonMachine::StringByte(State& state, std::uint8_t byte) {
  RegexStore& regexes = store_.regexes;
  char32_t c = 0;
  std::uint32_t before = state.b;
  switch (StringBytes::Read(state.b, byte, true, c)) {
    case StringEvent::kCharacter:
      state.a = texts_.Next(regexes, state.a, c);
      return state.a != TextStates::kDead && EscapesAllowed(before, state.b, c);
    case StringEvent::kPending:
      return StringBytes::CanBecome(
          state.b, options_.spelling.needless_escapes,
          [&](char32_t low, char32_t high) { return texts_.AnyIn(regexes, state.a, low, high); });
    case StringEvent::kQuote: {
      if (!texts_.Accepts(regexes, state.a)) {
        return false;
      }
      const Bits& all = texts_.Verdicts(regexes, state.a);
      return EndValue(state, all.size() == 1 ? 0 : Verdict(Bits(all.begin() + 1, all.end())));
    }
    default:
      return false;
  }
}

bool JsonMachine::KeyByte(State& state, std::uint8_t byte) {
  RegexStore& regexes = store_.regexes;
  const Keys& keys = KeysOf(frames_[state.frame].container);
  const Names& names = names_[keys.names];
  char32_t c = 0;
  std::uint32_t before = state.b;
  switch (StringBytes::Read(state.b, byte, true, c)) {
    case StringEvent::kCharacter: {
      state.a = state.a == TextStates::kDead ? state.a : texts_.Next(regexes, state.a, c);
      if (state.c != kNone) {
        const Names::Node& node = names.nodes[state.c];
        auto first = names.edges.begin() + node.child_begin;
        auto last = first + node.child_count;
        auto edge = std::lower_bound(first, last, c,
                                     [](const Names::Edge& e, char32_t x) { return e.c < x; });
        state.c = edge != last && edge->c == c ? edge->node : kNone;
      }
      bool name = state.c != kNone &&
                  AnyAlive(keys, names.nodes[state.c].key_begin, names.nodes[state.c].key_end);
      if (!name && state.a == TextStates::kDead) {
        return false;
      }
      return EscapesAllowed(before, state.b, c);
    }
    case StringEvent::kPending: {
      bool needless = options_.spelling.needless_escapes;
      bool name = false;
      bool alive = false;
      if (state.c != kNone) {
        const Names::Node& node = names.nodes[state.c];
        for (std::uint32_t i = 0; i < node.child_count && !alive; ++i) {
          const Names::Edge& edge = names.edges[node.child_begin + i];
          const Names::Node& child = names.nodes[edge.node];
          bool here = StringBytes::CanBecome(state.b, needless, [&](char32_t low, char32_t high) {
            return edge.c >= low && edge.c <= high;
          });
          name = name || here;
          alive = alive || (here && AnyAlive(keys, child.key_begin, child.key_end));
        }
        state.c = name ? state.c : kNone;
      }
      return alive || StringBytes::CanBecome(state.b, needless, [&](char32_t low, char32_t high) {
               return texts_.AnyIn(regexes, state.a, low, high);
             });
    }
    case StringEvent::kQuote:
      return CloseKey(state, keys);
    default:
      return false;
  }
}

bool JsonMachine::CloseKey(State& state, const Keys& keys) {
  RegexStore& regexes = store_.regexes;
  const Names& names = names_[keys.names];
  std::uint32_t key_class = 0;
  if (state.c != kNone && names.nodes[state.c].word) {
    std::uint32_t index = names.nodes[state.c].key_begin;
    if (!AnyAlive(keys, index, index + 1)) {
      return false;
    }
    key_class = names.classes[index];
  } else {
    if (!texts_.Accepts(regexes, state.a)) {
      return false;
    }
    const Bits& verdicts = texts_.Verdicts(regexes, state.a);
    KeyClass known;
    for (std::size_t i = 0; i < names.patterns.size(); ++i) {
      if (verdicts[i + 1]) {
        known.matched.push_back(names.patterns[i]);
      }
    }
    key_class = store_.Class(std::move(known));
  }
  Frame frame = frames_[state.frame];
  frame.member = MemberOf(frame.container, key_class);
  if (frame.member == 0) {
    return false;
  }
  state.frame = FrameId(frame);
  state.phase = kAfterKey;
  state.a = state.b = state.c = 0;
  return true;
}

bool JsonMachine::NumberByte(State& state, std::uint8_t byte) {
  const NumberMode::Kind kind = modes_[state.a].kind;
  if (kind != NumberMode::Kind::kText) {
    Syntax next = NextSyntax(state.b, byte);
    if (kind == NumberMode::Kind::kInteger &&
        ((next == kFraction && byte != '0') || (next == kExponentSign && byte == '-'))) {
      return false;
    }
    if (next == kBadNumber) {
      return false;
    }
    state.b = next;
    return true;
  }
  bool part = (byte >= '0' && byte <= '9') || byte == '-' || byte == '+' || byte == '.' ||
              byte == 'e' || byte == 'E';
  if (!part) {
    return false;
  }
  std::uint32_t place = kNone;
  if (const std::uint32_t* known = number_steps_.Find(state.b, byte)) {
    place = *known;
  } else {
    std::string text = numbers_[state.b].text + static_cast<char>(byte);
    if (IsNumberPrefix(text)) {
      const std::vector<NumberBox>& boxes = store_.Boxes(modes_[state.a].goal);
      store_.regexes.fuel.Burn(4 + 4 * boxes.size());
      bool can = std::any_of(boxes.begin(), boxes.end(),
                             [&](const NumberBox& box) { return CanBecome(box, text); });
      place = can ? NumberTextId(state.a, std::move(text)) : kNone;
    }
    number_steps_.Put(state.b, byte, place);
  }
  if (place == kNone) {
    return false;
  }
  state.a = numbers_[place].mode;
  state.b = place;
  if (modes_[state.a].kind != NumberMode::Kind::kText) {
    state.b = kWhole;  // NumberTextId found that any digits may follow
  }
  return true;
}

bool JsonMachine::EndNumber(State& state) {
  const NumberMode& mode = modes_[state.a];
  std::uint32_t verdict = 0;
  if (mode.kind == NumberMode::Kind::kText) {
    std::optional<Decimal> value = Decimal::Parse(numbers_[state.b].text);
    if (!value || !store_.HoldsNumber(mode.goal, *value)) {
      return false;
    }
    if (!mode.watched.empty()) {
      Bits bits;
      for (FormulaId formula : mode.watched) {
        bits.push_back(store_.HoldsNumber(formula, *value));
      }
      verdict = Verdict(bits);
    }
  } else if (!IsWhole(state.b)) {
    return false;
  }
  return EndValue(state, verdict);
}

bool JsonMachine::EndValue(State& state, std::uint32_t verdict) {
  state.a = state.b = state.c = 0;
  Frame frame = frames_[state.frame];
  if (frame.depth == 0) {
    state.phase = kDone;
    return true;
  }
  state.phase = kAfter;
  std::uint32_t next = AfterMember(frame.member, verdict);
  if (next != kNone && frame.item_text != 0) {
    next = state.text == kFreshText ? FreshItem(next) : WithItem(frame, next, state.text);
    state.text = frame.outer == Outer::kBytes ? state.text : 1;
    frame.item_text = 1;
  }
  if (next == kNone) {
    return false;
  }
  frame.container = next;
  frame.member = 0;
  state.frame = FrameId(frame);
  return true;
}

bool JsonMachine::AfterByte(State& state, std::uint8_t byte) {
  std::uint32_t container = frames_[state.frame].container;
  bool array = containers_[container].array;
  if (byte == (array ? ']' : '}')) {
    return CloseContainer(state, array);
  }
  if (byte != ',') {
    return false;
  }
  if (array) {
    return NextItem(state);
  }
  const Keys& keys = KeysOf(container);
  state.phase = kObjectNext;
  return keys.any_name || keys.other != TextStates::kDead;
}

bool JsonMachine::NextItem(State& state) {
  Frame frame = frames_[state.frame];
  frame.member = MemberOf(frame.container, kNone);
  if (frame.member == 0) {
    return false;
  }
  if (frame.item_text != 0) {
    // The item's bytes begin behind the comma, or with the byte that is being read.
    bool first = state.phase == kArrayFirst;
    if (frame.outer != Outer::kBytes) {
      std::uint8_t byte = bytes_[state.text].byte;
      state.text = 1;
      frame.item_text = 1;
      if (first) {
        Collect(state, byte);
      }
    } else {
      frame.item_text = first ? bytes_[state.text].parent : state.text;
    }
  }
  state.a = members_[frame.member].value;
  state.phase = kValue;
  state.frame = FrameId(frame);
  return true;
}

bool JsonMachine::CloseContainer(State& state, bool array) {
  const Frame frame = frames_[state.frame];
  if (containers_[frame.container].array != array) {
    return false;
  }
  std::uint32_t verdict = EndOf(frame.container);
  if (verdict == kNone) {
    return false;
  }
  if (frame.item_text != 0 && frame.outer != Outer::kBytes) {
    state.text = frame.outer == Outer::kFresh ? kFreshText : 0;
  }
  state.frame = frame.parent;
  return EndValue(state, verdict);
}

bool JsonMachine::CanEnd(const State& state) {
  if (frames_[state.frame].depth != 0) {
    return false;
  }
  if (state.phase == kNumber) {
    State copy = state;
    return EndNumber(copy);
  }
  return state.phase == kDone;
}

Run JsonMachine::RunOf(const State& state) {
  if (state.b != 0) {
    return {};
  }
  bool text = state.phase == kString ||
              (state.phase == kKey && state.c == kNone && state.a != TextStates::kDead);
  if (!text) {
    return {};
  }
  Run run = texts_.RunOf(store_.regexes, state.a);
  run.same = run.same && (state.text == 0 || state.text == kFreshText);
  run.classes &= kPlainClasses;  // quotes, controls and broken sequences are for Step
  return run;
}

Safe JsonMachine::SafeOf(const State& state, std::uint32_t slice) {
  bool text = state.phase == kString ||
              (state.phase == kKey && state.c == kNone && state.a != TextStates::kDead);
  if (!text || state.b != 0) {
    return {};
  }
  Safe safe = texts_.SafeOf(store_.regexes, state.a, slice);
  safe.next = (safe.next & ~kControl) | kQuote;  // its end, and escapes of whatever may follow
  return safe;
}

bool JsonMachine::Loosen(const State& state, Free& free) {
  if ((state.phase != kString && state.phase != kKey) || state.b != 0) {
    return false;
  }
  free = {.state = state};
  if (state.text != 0 && state.text != kFreshText) {
    // Most texts are no beginning of a string met before: then the item is new.
    std::uint32_t at = state.frame;
    while (frames_[at].item_text == 0) {
      at = frames_[at].parent;
    }
    free.state.text = kFreshText;
    free.by_text = true;
    return frames_[at].outer != Outer::kBytes;  // else items within the item are compared as well
  }
  if (state.phase == kKey && state.c != kNone) {
    // Most keys are no name.
    free.state.c = kNone;
    free.by_text = true;
    return state.a != TextStates::kDead;
  }
  return state.a != TextStates::kDead &&
         texts_.Loosen(store_.regexes, state.a, free.state.a, free.chars_max);
}

ByteSet JsonMachine::Apart(const State& state, const State& from) {
  if ((state.phase != kString && state.phase != kKey) || state.b != 0) {
    return ByteSet().set();
  }
  if (state.text != 0 && state.text != kFreshText) {
    return Repeating(state);
  }
  ByteSet out;
  if (state.phase != kKey || state.frame != from.frame) {
    return out.set();  // behind a name: its frame remembers it
  }
  if (state.c == kNone) {
    return out;
  }
  const Names& names = names_[KeysOf(frames_[state.frame].container).names];
  const Names::Node& node = names.nodes[state.c];
  for (std::uint32_t i = 0; i < node.child_count; ++i) {
    std::string first;
    AppendUtf8(first, names.edges[node.child_begin + i].c);
    out.set(static_cast<std::uint8_t>(first[0]));
  }
  out.set('"', node.word);
  out.set('\\', node.child_count > 0);
  return out;
}

ByteSet JsonMachine::Repeating(const State& state) const {
  // The string's bytes so far; an escape may make anything of them.
  const std::size_t bytes_max = 6 * item_string_bytes_max_ + 6;  // of a string all in escapes
  ByteSet out;
  std::string text;
  std::uint32_t at = state.text;
  for (; at > 1 && bytes_[at].byte != '"'; at = bytes_[at].parent) {
    if (bytes_[at].byte == '\\') {
      return out.set();
    }
    text += static_cast<char>(bytes_[at].byte);
    if (text.size() > bytes_max) {
      return out;
    }
  }
  if (at <= 1) {
    return out.set();
  }
  std::reverse(text.begin(), text.end());
  const std::size_t size = text.size();
  for (auto known = item_strings_.lower_bound(text);
       known != item_strings_.end() && known->starts_with(std::string_view(text).substr(0, size));
       known = item_strings_.lower_bound(text)) {
    out.set('\\');
    text.resize(size);
    if (known->size() == size) {
      out.set('"');
      text += '\0';
      continue;
    }
    auto next = static_cast<std::uint8_t>((*known)[size]);
    out.set(next);
    if (next == 0xFF) {
      break;
    }
    text += static_cast<char>(next + 1);
  }
  return out;
}

}  // namespace pixii::text::grammar
