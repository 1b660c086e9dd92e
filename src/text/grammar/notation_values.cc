// Values of members, in notations that are not JSON.
#include "text/grammar/notation_machine.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/grammar/grammar_vocabulary.h"

namespace pixii::text::grammar {

using wire::ScriptNotation;

namespace {

constexpr std::uint32_t kPhaseMask = 0xF;

struct Word {
  std::string_view text;
  std::string_view json;
  std::uint32_t kind;
};

// Texts that are read as no text where the schema takes what they mean; Python's come last.
constexpr std::array kWords = std::to_array<Word>({{"true", "true", wire::kScriptBool},
                                                   {"false", "false", wire::kScriptBool},
                                                   {"null", "null", wire::kScriptNull},
                                                   {"True", "true", wire::kScriptBool},
                                                   {"False", "false", wire::kScriptBool},
                                                   {"None", "null", wire::kScriptNull}});
constexpr std::size_t kJsonWords = 3;

bool IsWhite(std::uint8_t byte) {
  return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

bool IsNumberByte(std::uint8_t byte) {
  return (byte >= '0' && byte <= '9') || byte == '-' || byte == '+' || byte == '.' || byte == 'e' ||
         byte == 'E';
}

// Kind of JSON that begins so, 0 for none.
std::uint32_t KindOf(std::uint8_t byte) {
  switch (byte) {
    case '{':
      return wire::kScriptObject;
    case '[':
      return wire::kScriptArray;
    case '"':
      return wire::kScriptString;
    case 't':
    case 'f':
      return wire::kScriptBool;
    case 'n':
      return wire::kScriptNull;
    default:
      return byte == '-' || (byte >= '0' && byte <= '9') ? wire::kScriptNumber : 0U;
  }
}

// Places in the words: 1 + bytes of the words before + bytes read - 1; 0: in none of them.
std::uint32_t NextPlace(std::uint32_t place, std::uint32_t start, std::uint32_t kinds,
                        std::uint8_t byte) {
  const bool any = (kinds & wire::kScriptAny) != 0;
  std::uint32_t base = 1;
  for (std::size_t i = 0; i < kWords.size(); ++i) {
    const Word& word = kWords[i];
    const auto size = static_cast<std::uint32_t>(word.text.size());
    if (place == start) {
      const bool meant = any ? i < kJsonWords : (kinds & word.kind) != 0;
      if (meant && static_cast<std::uint8_t>(word.text[0]) == byte) {
        return base;
      }
    } else if (place >= base && place < base + size) {
      const std::uint32_t read = place - base + 1;
      if (read == size) {
        return IsWhite(byte) ? place : 0;
      }
      return static_cast<std::uint8_t>(word.text[read]) == byte ? place + 1 : 0;
    }
    base += size;
  }
  return 0;
}

// The word that is complete at `place`.
const Word* WordAt(std::uint32_t place) {
  std::uint32_t base = 1;
  for (const Word& word : kWords) {
    base += static_cast<std::uint32_t>(word.text.size());
    if (place + 1 == base) {
      return &word;
    }
  }
  return nullptr;
}

}  // namespace

// A value that may be a text or something else: its first byte tells, but for the words.
bool NotationMachine::ValueByte(State& state, Notes notes, std::uint8_t byte) {
  const bool any = (notes.kinds & wire::kScriptAny) != 0;
  const std::uint32_t kind = KindOf(byte);
  constexpr std::uint32_t kStructured =
      wire::kScriptObject | wire::kScriptArray | wire::kScriptNumber;
  if ((kind & kStructured) != 0 && (any || (notes.kinds & kind) != 0)) {
    notes.mode = kPlain;
    Put(state, notes);
    return PlainElement(state, notes, byte);
  }
  // Python's spellings would be read as values, too.
  const bool tuple = byte == '(' && (notes.kinds & wire::kScriptArray) != 0;
  const bool number = (byte == '+' || byte == '.') && (notes.kinds & wire::kScriptNumber) != 0;
  if (IsWhite(byte) || (!any && (tuple || number))) {
    return false;
  }
  notes.mode = kText;
  notes.word = kWordStart;
  State text = state;
  notes.dead = !FeedAll(text, "\"");
  if (!notes.dead) {
    state = text;
  }
  return TextByte(state, notes, byte);
}

// Adds to the text what cannot be a part of its end any more.
bool NotationMachine::Take(State& state, Notes& notes, std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    const bool started = notes.word == kWordStart;
    notes.word = NextPlace(notes.word, kWordStart, notes.kinds, byte);
    if (started && notes.word != 0) {
      // A word that is not allowed leads nowhere.
      const auto word = std::ranges::find_if(
          kWords, [&](const Word& w) { return static_cast<std::uint8_t>(w.text[0]) == byte; });
      State again = json_.ValueAgain(state);
      if (!Allows(again, word->json) && notes.dead) {
        return false;
      }
    }
    if (!notes.dead) {
      State next = state;
      notes.dead = !FeedText(next, byte);
      state = notes.dead ? state : next;
    }
    if (notes.dead && notes.word == 0) {
      return false;
    }
  }
  return true;
}

bool NotationMachine::CanEndText(const State& state, const Notes& notes) {
  const Word* word = notes.word == kWordStart ? nullptr : WordAt(notes.word);
  if (word != nullptr) {
    return Allows(json_.ValueAgain(state), word->json);
  }
  return !notes.dead && Allows(state, "\"");
}

bool NotationMachine::EndText(State& state, const Notes& notes) {
  const Word* word = notes.word == kWordStart ? nullptr : WordAt(notes.word);
  if (word != nullptr) {
    state = json_.ValueAgain(state);
  } else if (notes.dead) {
    return false;
  }
  if (!FeedAll(state, word != nullptr ? word->json : "\"")) {
    return false;
  }
  Put(state, {.mode = tables_->notation == ScriptNotation::kElements ? kMembers : kPlain});
  return true;
}

bool NotationMachine::TextByte(State& state, Notes notes, std::uint8_t byte) {
  const std::string_view end = tables_->text_end;
  const bool framed = tables_->elements.framed;
  std::string read = notes.flag ? "\n" : "";
  read += end.substr(0, notes.at);
  read += static_cast<char>(byte);
  // The longest part that may begin the end is held back, with the line break before it.
  std::string_view held = read;
  while (!held.empty() && !end.starts_with(held) &&
         !(framed && held[0] == '\n' && end.starts_with(held.substr(1)))) {
    held.remove_prefix(1);
  }
  if (!Take(state, notes, std::string_view(read).substr(0, read.size() - held.size()))) {
    return false;
  }
  notes.flag = framed && held.starts_with('\n');
  notes.at = static_cast<std::uint32_t>(held.size() - (notes.flag ? 1 : 0));
  if (notes.at == end.size()) {
    return EndText(state, notes);
  }
  Put(state, notes);
  if (held.empty() || CanEndText(state, notes)) {
    return true;
  }
  State text = state;
  Notes beyond = notes;
  return Take(text, beyond, held);
}

bool NotationMachine::PlainByte(State& state, Notes notes, std::uint8_t byte) {
  return tables_->notation == ScriptNotation::kElements ? PlainElement(state, notes, byte)
                                                        : PlainLiteral(state, notes, byte);
}

// JSON up to the closing tag: `which` 1 once that has begun; the tag stands nowhere inside.
bool NotationMachine::PlainElement(State& state, Notes notes, std::uint8_t byte) {
  const std::string_view end = tables_->text_end;
  const bool ends = static_cast<std::uint8_t>(end[notes.which == 1 ? notes.at : 0]) == byte;
  if (notes.which == 1) {
    ++notes.at;
    Put(state, notes.at == end.size() ? Notes{.mode = kMembers} : notes);
    return ends;
  }
  const std::uint32_t phase = state.phase & kPhaseMask;
  if (json_.AtMemberEnd(WithoutNotes(state), 1)) {
    if (ends) {
      Put(state, {.mode = kPlain, .which = 1, .at = 1});
      return true;
    }
    if (tables_->elements.framed && byte == '\n' && !notes.flag) {
      Put(state, {.mode = kPlain, .flag = true});
      return true;
    }
    if (phase != JsonMachine::kNumber || notes.flag || !IsNumberByte(byte)) {
      return false;
    }
  }
  if (phase == JsonMachine::kValue && json_.DepthOf(state) == 1) {
    const std::uint32_t kind = KindOf(byte);
    const bool taken = (notes.kinds & kind) != 0 ||
                       ((notes.kinds & wire::kScriptAny) != 0 && kind != wire::kScriptString);
    if (kind == 0 || !taken) {
      return false;
    }
  }
  std::string read(end.substr(0, notes.at));
  read += static_cast<char>(byte);
  std::string_view held = read;
  while (!end.starts_with(held)) {
    held.remove_prefix(1);
  }
  notes.at = static_cast<std::uint32_t>(held.size());
  Put(state, notes);
  return notes.at < end.size() && Feed(state, byte);
}

bool NotationMachine::PlainLiteral(State& state, Notes notes, std::uint8_t byte) {
  const std::uint32_t phase = state.phase & kPhaseMask;
  const bool number = phase == JsonMachine::kNumber && IsNumberByte(byte);
  if (!number && json_.AtMemberEnd(WithoutNotes(state), 1)) {
    Put(state, {.mode = kMembers});
    return MemberByte(state, {.mode = kMembers}, byte);
  }
  const bool value = phase == JsonMachine::kValue || phase == JsonMachine::kArrayFirst;
  const bool key = phase == JsonMachine::kObjectFirst || phase == JsonMachine::kObjectNext;
  if (tables_->notation == ScriptNotation::kPython) {
    constexpr std::string_view kPythonNull = "None";
    constexpr std::string_view kNull = "null";
    if (phase == JsonMachine::kLiteral) {
      const bool null = state.a == static_cast<std::uint32_t>(ValueKind::kNull);
      if (null && static_cast<std::uint8_t>(kPythonNull[state.b]) != byte) {
        return false;
      }
      return Feed(state, null ? static_cast<std::uint8_t>(kNull[state.b]) : byte);
    }
    if ((byte == '"' || byte == '\'') && (value || key)) {
      Put(state, {.mode = kQuoted, .which = byte == '"' ? 1U : 0U});
      return FeedAll(state, "\"");
    }
    if (value && (byte == 'T' || byte == 'F' || byte == 'N')) {
      return Feed(state, static_cast<std::uint8_t>(byte - 'A' + 'a'));
    }
    return !(byte >= 'a' && byte <= 'z' && !number) && byte != '"' && Feed(state, byte);
  }
  const std::string_view quote = tables_->text_end;
  if (notes.at > 0 || (value && static_cast<std::uint8_t>(quote[0]) == byte)) {
    if (static_cast<std::uint8_t>(quote[notes.at]) != byte || !Allows(state, "\"")) {
      return false;
    }
    if (++notes.at < quote.size()) {
      Put(state, notes);
      return true;
    }
    Put(state, {.mode = kText, .kinds = wire::kScriptString});
    return FeedAll(state, "\"");
  }
  if (key && !IsWhite(byte) && byte != '}') {
    return BeginKey(state, byte);
  }
  return byte != '"' && Feed(state, byte);
}

// Inside a string of Python's; escapes are those that every reader knows.
bool NotationMachine::QuotedByte(State& state, Notes notes, std::uint8_t byte) {
  constexpr std::string_view kEscapes = "\\'\"nrt";
  constexpr std::string_view kMeant = "\\'\"\n\r\t";
  if (notes.flag) {
    const std::size_t at = kEscapes.find(static_cast<char>(byte));
    notes.flag = false;
    Put(state, notes);
    return at != std::string_view::npos && FeedText(state, static_cast<std::uint8_t>(kMeant[at]));
  }
  if (byte == (notes.which == 1 ? '"' : '\'')) {
    Put(state, {.mode = kPlain});
    return FeedAll(state, "\"");
  }
  if (byte == '\\') {
    notes.flag = true;
    const bool leads = std::ranges::any_of(kMeant, [&](char meant) {
      State copy = state;
      return FeedText(copy, static_cast<std::uint8_t>(meant));
    });
    Put(state, notes);
    return leads;
  }
  return byte >= 0x20 && FeedText(state, byte);
}

Run NotationMachine::TextRun(const State& state, const Notes& notes) {
  Run run = json_.RunOf(WithoutNotes(state));
  const auto end = static_cast<std::uint8_t>(notes.mode == kQuoted ? '\'' : tables_->text_end[0]);
  if (end < 0x80) {
    run.classes &= ~ClassOfAscii(end);
  } else if (end != static_cast<std::uint8_t>(wire::kTokenMark)) {
    run.classes &= ~(kNonAscii | kWideSpace | kPartial);
  }
  return run;
}

Run NotationMachine::RunOf(const State& state) {
  const Notes notes = NotesOf(state);
  const bool text = notes.mode == kText && notes.at == 0 && notes.word == 0 && !notes.dead;
  if (notes.mode == kForeign) {
    return json_.RunOf(WithoutNotes(state));
  }
  return !notes.flag && (text || notes.mode == kQuoted) ? TextRun(state, notes) : Run{};
}

}  // namespace pixii::text::grammar
