// Members of an object and their names, in notations that are not JSON.
#include "text/grammar/notation_machine.h"

#include <algorithm>
#include <utility>

namespace pixii::text::grammar {

using wire::ScriptNotation;

namespace {

constexpr std::uint32_t kUnnamed = 0xFFFFF;  // the place of names that are not declared
constexpr std::uint32_t kGapMax = 8;         // bytes of white space between members

bool IsWhite(std::uint8_t byte) {
  return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

bool IsNameByte(std::uint8_t byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
         (byte >= '0' && byte <= '9') || byte == '_' || byte == '-' || byte == '.' ||
         (byte >= 0x80 && byte != static_cast<std::uint8_t>(wire::kTokenMark));
}

// Python's names, and what a key may begin with elsewhere.
bool BeginsNameByte(std::uint8_t byte) {
  return IsNameByte(byte) && byte != '-' && byte != '.' && !(byte >= '0' && byte <= '9');
}

// Bits of State::phase.
constexpr std::uint32_t kPhaseBits = 4;
constexpr std::uint32_t kModeAt = 4;
constexpr std::uint32_t kWhichAt = 8;
constexpr std::uint32_t kAtAt = 10;    // kName: 20 bits, else 8
constexpr std::uint32_t kWordAt = 18;  // 5 bits
constexpr std::uint32_t kKindsAt = 23;
constexpr std::uint32_t kFlagAt = 30;
constexpr std::uint32_t kDeadAt = 31;

}  // namespace

NotationMachine::Notes NotationMachine::NotesOf(const State& state) {
  const std::uint32_t bits = state.phase;
  Notes out;
  out.mode = static_cast<Mode>((bits >> kModeAt) & 0xF);
  if (out.mode == kName) {
    out.at = (bits >> kAtAt) & kUnnamed;
    return out;
  }
  out.which = (bits >> kWhichAt) & 3;
  out.at = (bits >> kAtAt) & 0xFF;
  out.word = (bits >> kWordAt) & 0x1F;
  out.kinds = (bits >> kKindsAt) & 0x7F;
  out.flag = (bits >> kFlagAt & 1) != 0;
  out.dead = (bits >> kDeadAt & 1) != 0;
  return out;
}

void NotationMachine::Put(State& state, const Notes& notes) {
  state.phase = (state.phase & 0xF) | static_cast<std::uint32_t>(notes.mode) << kModeAt;
  if (notes.mode == kName) {
    state.phase |= notes.at << kAtAt;
    return;
  }
  state.phase |= notes.which << kWhichAt | notes.at << kAtAt | notes.word << kWordAt |
                 notes.kinds << kKindsAt | (notes.flag ? 1U : 0U) << kFlagAt |
                 (notes.dead ? 1U : 0U) << kDeadAt;
}

NotationMachine::NotationMachine(JsonMachine json, const wire::Script& script)
    : json_(std::move(json)) {
  static_assert(JsonMachine::kPhaseEnd <= 1U << kPhaseBits);
  auto tables = std::make_shared<Tables>();
  const wire::ScriptElements& tags = script.elements;
  tables->notation = script.notation;
  tables->elements = tags;
  switch (script.notation) {
    case ScriptNotation::kElements: {
      const std::string end = tags.value_opener + (tags.framed ? "\n" : "");
      tables->ends = {tags.parameter_opener, tags.end};
      tables->text_end = tags.value_closer;
      if (tags.kinds) {
        tables->leads = {tags.name_closer + " string=\"true\">" + end,
                         tags.name_closer + " string=\"false\">" + end};
        tables->lead_texts = {true, false};
      } else {
        const std::string begin = tags.name_closer + (tags.attributes ? ">" : "");
        tables->leads = {begin + end};
        if (!tags.value_opener.empty()) {
          tables->leads.push_back(begin + "\n" + end);
        }
      }
      break;
    }
    case ScriptNotation::kPython:
      tables->leads = {"="};
      break;
    case ScriptNotation::kBareKeys:
      tables->leads = {":"};
      tables->text_end = tags.quote;
      break;
    case ScriptNotation::kJson:
      break;
  }
  for (const wire::ScriptValue& value : script.values) {
    tables->roots.push_back(value.any_kind ? kForeignRoot
                                           : static_cast<std::uint32_t>(tables->names.size()));
    tables->others.push_back(value.other_kinds);
    tables->names.push_back({.root = true});
    for (const wire::ScriptMember& member : value.members) {
      std::size_t at = tables->roots.back() == kForeignRoot ? 0 : tables->roots.back();
      for (const char c : member.name) {
        const auto byte = static_cast<std::uint8_t>(c);
        auto& next = tables->names[at].next;
        const auto known =
            std::ranges::find(next, byte, &std::pair<std::uint8_t, std::uint32_t>::first);
        if (known != next.end()) {
          at = known->second;
          continue;
        }
        next.emplace_back(byte, static_cast<std::uint32_t>(tables->names.size()));
        tables->names.emplace_back();
        at = tables->names.size() - 1;
      }
      tables->names[at].kinds = member.kinds;
    }
  }
  tables_ = std::move(tables);
}

State NotationMachine::StartOf(std::uint32_t root) {
  State out = json_.StartOf(root);
  const bool foreign = tables_->roots[root] == kForeignRoot;
  if (!foreign) {
    FeedAll(out, "{");
  }
  Put(out, {.mode = foreign ? kForeign : kMembers});
  return out;
}

bool NotationMachine::Feed(State& state, std::uint8_t byte) {
  const std::uint32_t notes = state.phase & ~0xFU;
  state.phase &= 0xF;
  const bool taken = json_.Step(state, byte);
  state.phase |= notes;
  return taken;
}

bool NotationMachine::FeedAll(State& state, std::string_view json) {
  return std::ranges::all_of(json,
                             [&](char c) { return Feed(state, static_cast<std::uint8_t>(c)); });
}

bool NotationMachine::FeedText(State& state, std::uint8_t byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  switch (byte) {
    case '"':
      return FeedAll(state, "\\\"");
    case '\\':
      return FeedAll(state, "\\\\");
    case '\n':
      return FeedAll(state, "\\n");
    case '\r':
      return FeedAll(state, "\\r");
    case '\t':
      return FeedAll(state, "\\t");
    default:
      break;
  }
  if (byte >= 0x20) {
    return Feed(state, byte);
  }
  return FeedAll(state, "\\u00") && Feed(state, static_cast<std::uint8_t>(kDigits[byte >> 4])) &&
         Feed(state, static_cast<std::uint8_t>(kDigits[byte & 15]));
}

bool NotationMachine::FeedText(State& state, std::string_view text) {
  return std::ranges::all_of(text,
                             [&](char c) { return FeedText(state, static_cast<std::uint8_t>(c)); });
}

bool NotationMachine::Step(State& state, std::uint8_t byte) {
  const Notes notes = NotesOf(state);
  switch (notes.mode) {
    case kMembers:
      return MemberByte(state, notes, byte);
    case kName:
      return NameByte(state, notes, byte);
    case kLead:
      return LeadByte(state, notes, byte);
    case kValue:
      return ValueByte(state, notes, byte);
    case kText:
      return TextByte(state, notes, byte);
    case kPlain:
      return PlainByte(state, notes, byte);
    case kQuoted:
      return QuotedByte(state, notes, byte);
    case kForeign:
      return Feed(state, byte);
    case kEnded:
      break;
  }
  return false;
}

bool NotationMachine::CanEnd(const State& state) {
  const Notes notes = NotesOf(state);
  if (notes.mode == kForeign) {
    return json_.CanEnd(WithoutNotes(state));
  }
  return notes.mode == kEnded;
}

// The alternative of which `notes.at` bytes were read goes on with `byte`, or one that begins
// alike.
template <class Allowed>
bool NotationMachine::Follow(const std::vector<std::string>& texts, Notes& notes, std::uint8_t byte,
                             Allowed allowed) const {
  const std::string_view read = std::string_view(texts[notes.which]).substr(0, notes.at);
  for (std::uint32_t i = 0; i < texts.size(); ++i) {
    if (texts[i].starts_with(read) && texts[i].size() > notes.at &&
        static_cast<std::uint8_t>(texts[i][notes.at]) == byte && allowed(i)) {
      notes.which = i;
      ++notes.at;
      return true;
    }
  }
  return false;
}

bool NotationMachine::EndMembers(State& state) {
  if (!FeedAll(state, "}")) {
    return false;
  }
  Put(state, {.mode = kEnded});
  return true;
}

// Behind the quote that begins a key.
void NotationMachine::BeginName(State& state) {
  const bool outermost = tables_->notation == ScriptNotation::kElements;
  Put(state, {.mode = kName, .at = outermost ? tables_->roots[json_.RootOf(state)] : kUnnamed});
}

bool NotationMachine::MemberByte(State& state, Notes notes, std::uint8_t byte) {
  const bool first = (state.phase & 0xF) == JsonMachine::kObjectFirst;
  if (tables_->notation != ScriptNotation::kElements) {
    const bool comma = (state.phase & 0xF) == JsonMachine::kObjectNext;
    const bool ended = !first && !comma;
    const char close = tables_->notation == ScriptNotation::kPython ? ')' : '}';
    if (IsWhite(byte)) {
      ++notes.at;
      Put(state, notes);
      return notes.at <= kGapMax;
    }
    if (byte == static_cast<std::uint8_t>(close) && !comma) {
      return EndMembers(state);
    }
    if (ended) {
      Put(state, {.mode = kMembers});
      return byte == ',' && Feed(state, ',');
    }
    return BeginKey(state, byte);
  }
  if (notes.at == 0 && IsWhite(byte)) {
    ++notes.word;
    Put(state, notes);
    return notes.word <= kGapMax;
  }
  const std::string_view next = first ? "\"" : ",\"";
  const bool read = Follow(tables_->ends, notes, byte, [&](std::uint32_t i) {
    return Allows(state, i == 0 ? next : std::string_view("}"));
  });
  if (!read) {
    return false;
  }
  if (notes.at < tables_->ends[notes.which].size()) {
    Put(state, notes);
    return true;
  }
  if (notes.which == 1) {
    return EndMembers(state);
  }
  BeginName(state);
  return FeedAll(state, next);
}

// A key without a tag before it.
bool NotationMachine::BeginKey(State& state, std::uint8_t byte) {
  if (!BeginsNameByte(byte) || !FeedAll(state, "\"")) {
    return false;
  }
  BeginName(state);
  return Feed(state, byte);
}

bool NotationMachine::NameByte(State& state, Notes notes, std::uint8_t byte) {
  const NameNode* node = notes.at == kUnnamed ? nullptr : &tables_->names[notes.at];
  if (IsNameByte(byte)) {
    notes.at = kUnnamed;
    for (std::size_t i = 0; node != nullptr && i < node->next.size(); ++i) {
      notes.at = node->next[i].first == byte ? node->next[i].second : notes.at;
    }
    Put(state, notes);
    return Feed(state, byte);
  }
  if ((node != nullptr && node->root) || !FeedAll(state, "\":")) {
    return false;
  }
  const std::uint32_t declared = node == nullptr ? 0 : node->kinds;
  Notes lead{.mode = kLead};
  lead.kinds = declared != 0 ? declared : tables_->others[json_.RootOf(state)];
  return LeadByte(state, lead, byte);
}

bool NotationMachine::LeadByte(State& state, Notes notes, std::uint8_t byte) {
  const bool read = Follow(tables_->leads, notes, byte, [&](std::uint32_t i) {
    return tables_->lead_texts.empty() || !tables_->lead_texts[i] || Allows(state, "\"");
  });
  if (!read) {
    return false;
  }
  if (notes.at < tables_->leads[notes.which].size()) {
    Put(state, notes);
    return true;
  }
  return BeginValue(state, notes, notes.which);
}

bool NotationMachine::BeginValue(State& state, const Notes& notes, std::uint32_t lead) {
  Notes value{.mode = kPlain};
  if (tables_->notation == ScriptNotation::kElements) {
    value.mode = kValue;
    value.kinds = notes.kinds;
    if (!tables_->lead_texts.empty()) {
      value.mode = tables_->lead_texts[lead] ? kText : kPlain;
      value.kinds = tables_->lead_texts[lead] ? wire::kScriptString : 0x7F;
    } else if (notes.kinds == wire::kScriptString) {
      value.mode = kText;
    } else if ((notes.kinds & (wire::kScriptString | wire::kScriptAny)) == 0) {
      value.mode = kPlain;
    }
    if (value.mode == kText && !FeedAll(state, "\"")) {
      return false;
    }
  }
  Put(state, value);
  return true;
}

}  // namespace pixii::text::grammar
