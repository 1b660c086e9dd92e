#include "text/tokenizer/word_scanner.h"

#include <array>
#include <cstddef>

#include "text/tokenizer/char_class.h"
#include "text/tokenizer/known_patterns.h"

namespace pixii::text {

namespace {

constexpr CharSet kNoLetters = ~(kWhitespace | kNumbers | kLetters);
constexpr CharSet kUpperLike = SetOf(CharClass::kUpper, CharClass::kLetter, CharClass::kMark);
constexpr CharSet kLowerLike = SetOf(CharClass::kLower, CharClass::kLetter, CharClass::kMark);
constexpr std::size_t kAnyCount = static_cast<std::size_t>(-1);

// A place in a text and the class of the character there.
class Cursor final {
 public:
  Cursor(const char* at, const char* end) : table_(&CharTable::Get()), at_(at), end_(end) {
    Read();
  }

  const char* at() const { return at_; }

  bool AtEnd() const { return at_ == end_; }

  /// Never true at the end.
  bool In(CharSet set) const { return at_ != end_ && Holds(set, char_.char_class); }

  bool IsByte(char byte) const { return at_ != end_ && *at_ == byte; }

  void Step() {
    at_ += char_.bytes;
    Read();
  }

  /// Steps over at most `count` characters of `set`.
  void Skip(CharSet set, std::size_t count = kAnyCount) {
    for (; count > 0 && In(set); --count) {
      Step();
    }
  }

 private:
  void Read() {
    if (at_ != end_) {
      char_ = ReadCharAt(*table_, at_);
    }
  }

  const CharTable* table_;
  const char* at_;
  const char* end_;
  ReadChar char_{};
};

enum class Case : bool { kExact, kIgnored };

// The end of 's, 't, 're, 've, 'm, 'll or 'd at `at`, null if none stands there.
const char* Contraction(const char* at, const char* end, Case letter_case) {
  if (end - at < 2 || *at != '\'') {
    return nullptr;
  }
  auto letter = [&](std::ptrdiff_t i) {
    char c = i < end - at ? at[i] : '\0';
    return letter_case == Case::kIgnored && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return at + 2;
    case 'r':
    case 'v':
      return letter(2) == 'e' ? at + 3 : nullptr;
    case 'l':
      return letter(2) == 'l' ? at + 3 : nullptr;
    case '\xC5':  // U+017F, long s, is an s where case does not count
      return letter_case == Case::kIgnored && letter(2) == '\xBF' ? at + 3 : nullptr;
    default:
      return nullptr;
  }
}

// What the patterns have in common, as options.
struct Rules {
  CharSet letters;             // what words are made of
  CharSet symbols;             // what else is joined to words of its own
  bool lead_space_only;        // " ?" before letters; else [^\r\n\p{L}\p{N}]?
  bool contractions_first;     // an alternative of their own
  bool contractions_after;     // at the end of a word
  Case contraction_case;       //
  bool capitals_begin;         // words begin anew at capitals (o200k)
  std::size_t digits_max;      // of one word
  bool digits_take_space;      // " ?" before digits
  bool symbols_take_newlines;  // [\r\n]* after other characters
  bool symbols_take_slashes;   // [\r\n/]*
  bool newlines_end_space;     // \s*[\r\n]+
};

// \s*[\r\n]+ (if so), \s+(?!\S), \s+: at white space.
template <const Rules& kRules>
const char* SpaceEnd(Cursor cursor) {
  const char* after_newline = nullptr;
  const char* last = cursor.at();  // where the last character of the run begins
  const char* begin = cursor.at();
  while (cursor.In(kWhitespace)) {
    last = cursor.at();
    bool newline = cursor.In(kNewlines);
    cursor.Step();
    if (newline) {
      after_newline = cursor.at();
    }
  }
  if (kRules.newlines_end_space && after_newline != nullptr) {
    return after_newline;
  }
  return cursor.AtEnd() || last == begin ? cursor.at() : last;
}

// [U]*[W]+ or [U]+[W]* at the cursor, U the upper-like and W the lower-like characters. Null if
// neither matches.
inline const char* CapitalizedEnd(Cursor cursor) {
  const char* begin = cursor.at();
  const char* after_lower_like = nullptr;  // behind the last character of the run that is in W too
  while (cursor.In(kUpperLike)) {
    bool both = cursor.In(kLowerLike);
    cursor.Step();
    if (both) {
      after_lower_like = cursor.at();
    }
  }
  if (cursor.In(kLowerLike)) {
    cursor.Skip(kLowerLike);
    return cursor.at();
  }
  if (after_lower_like != nullptr) {
    return after_lower_like;
  }
  return cursor.at() == begin ? nullptr : cursor.at();
}

// Letters with what may stand before them. Null if there are none.
template <const Rules& kRules>
const char* LettersEnd(Cursor cursor) {
  auto run_end = [](Cursor at) -> const char* {
    if constexpr (kRules.capitals_begin) {
      return CapitalizedEnd(at);
    } else {
      at.Skip(kRules.letters);
      return at.at();
    }
  };
  if (cursor.In(kRules.letters)) {
    return run_end(cursor);  // a mark that could lead as well gives the same end
  }
  bool may_lead =
      kRules.lead_space_only ? cursor.IsByte(' ') : !cursor.In(kLetters | kNumbers | kNewlines);
  if (!may_lead) {
    return nullptr;
  }
  cursor.Step();
  return cursor.In(kRules.letters) ? run_end(cursor) : nullptr;
}

template <const Rules& kRules>
const char* NextByRules(const char* at, const char* end) {
  if (kRules.contractions_first) {
    if (const char* after = Contraction(at, end, kRules.contraction_case)) {
      return after;
    }
  }
  Cursor cursor(at, end);
  if (const char* after = LettersEnd<kRules>(cursor)) {
    const char* contraction =
        kRules.contractions_after ? Contraction(after, end, kRules.contraction_case) : nullptr;
    return contraction != nullptr ? contraction : after;
  }
  Cursor first = cursor;
  if (cursor.IsByte(' ')) {
    first.Step();
  }
  if (const Cursor& digits = kRules.digits_take_space ? first : cursor; digits.In(kNumbers)) {
    Cursor run = digits;
    run.Skip(kNumbers, kRules.digits_max);
    return run.at();
  }
  if (first.In(kRules.symbols)) {
    first.Skip(kRules.symbols);
    if (kRules.symbols_take_newlines) {
      while (first.In(kNewlines) || (kRules.symbols_take_slashes && first.IsByte('/'))) {
        first.Step();
      }
    }
    return first.at();
  }
  return SpaceEnd<kRules>(cursor);
}

constexpr Rules kGpt2 = {.letters = kLetters,
                         .symbols = kNoLetters,
                         .lead_space_only = true,
                         .contractions_first = true,
                         .contractions_after = false,
                         .contraction_case = Case::kExact,
                         .capitals_begin = false,
                         .digits_max = kAnyCount,
                         .digits_take_space = true,
                         .symbols_take_newlines = false,
                         .symbols_take_slashes = false,
                         .newlines_end_space = false};

constexpr Rules kLlama3 = {.letters = kLetters,
                           .symbols = kNoLetters,
                           .lead_space_only = false,
                           .contractions_first = true,
                           .contractions_after = false,
                           .contraction_case = Case::kIgnored,
                           .capitals_begin = false,
                           .digits_max = 3,
                           .digits_take_space = false,
                           .symbols_take_newlines = true,
                           .symbols_take_slashes = false,
                           .newlines_end_space = true};

constexpr Rules kQwen2 = [] {
  Rules rules = kLlama3;
  rules.digits_max = 1;
  return rules;
}();

constexpr Rules kQwen3Next = [] {
  Rules rules = kQwen2;
  rules.letters = kLetters | kMarks;
  rules.symbols = kNoLetters & ~kMarks;
  return rules;
}();

constexpr Rules kO200k = {.letters = kUpperLike | kLowerLike,
                          .symbols = kNoLetters,
                          .lead_space_only = false,
                          .contractions_first = false,
                          .contractions_after = true,
                          .contraction_case = Case::kIgnored,
                          .capitals_begin = true,
                          .digits_max = 3,
                          .digits_take_space = false,
                          .symbols_take_newlines = true,
                          .symbols_take_slashes = true,
                          .newlines_end_space = true};

constexpr Rules kTekken = [] {
  Rules rules = kO200k;
  rules.contractions_after = false;
  rules.digits_max = 1;
  return rules;
}();

// Matches of `Match` and the stretches between them. `Match(at, end)` is null where none begins.
template <const char* (*Match)(const char*, const char*)>
const char* NextWithGaps(const char* at, const char* end) {
  if (const char* after = Match(at, end)) {
    return after;
  }
  for (at += ReadCharAt(CharTable::Get(), at).bytes; at != end && Match(at, end) == nullptr;) {
    at += ReadCharAt(CharTable::Get(), at).bytes;
  }
  return at;
}

template <std::size_t kDigitsMax>
const char* MatchNumbers(const char* at, const char* end) {
  Cursor cursor(at, end);
  cursor.Skip(kNumbers, kDigitsMax);
  return cursor.at() == at ? nullptr : cursor.at();
}

bool IsAsciiLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool IsAsciiSymbol(char c) {
  return c > ' ' && c < '\x7F' && !IsAsciiLetter(c) && (c < '0' || c > '9');
}

// DeepSeek V3's third pattern; numbers and control characters are of no match.
const char* MatchDeepseek(const char* at, const char* end) {
  if (IsAsciiSymbol(*at) && end - at > 1 && IsAsciiLetter(at[1])) {
    for (++at; at != end && IsAsciiLetter(*at);) {
      ++at;
    }
    return at;
  }
  constexpr CharSet kSymbols = SetOf(CharClass::kPunctuation, CharClass::kSymbol);
  Cursor cursor(at, end);
  if (!cursor.In(kNewlines | kLetters | kSymbols)) {
    Cursor next = cursor;
    next.Step();
    if (next.In(kLetters | kMarks)) {
      next.Skip(kLetters | kMarks);
      return next.at();
    }
  }
  if (cursor.In(kLetters | kMarks)) {
    cursor.Skip(kLetters | kMarks);
    return cursor.at();
  }
  Cursor first = cursor;
  if (cursor.IsByte(' ')) {
    first.Step();
  }
  if (first.In(kSymbols)) {
    first.Skip(kSymbols);
    first.Skip(kNewlines);
    return first.at();
  }
  return cursor.In(kWhitespace) ? SpaceEnd<kLlama3>(cursor) : nullptr;
}

// [U+4E00-U+9FA5 U+3040-U+309F U+30A0-U+30FF]+, DeepSeek's second pattern.
const char* MatchCjk(const char* at, const char* end) {
  const char* begin = at;
  while (end - at >= 3) {
    auto byte = [&](int i) { return static_cast<unsigned>(static_cast<unsigned char>(at[i])); };
    if (byte(0) < 0xE3 || byte(0) > 0xE9) {
      break;
    }
    unsigned c = (byte(0) & 0xF) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    if ((c < 0x4E00 || c > 0x9FA5) && (c < 0x3040 || c > 0x30FF)) {
      break;
    }
    at += 3;
  }
  return at == begin ? nullptr : at;
}

struct KnownPattern {
  std::string_view text;
  WordScanner scanner;
};

template <const Rules& kRules>
constexpr WordScanner kByRules = {&NextByRules<kRules>, true};

constexpr std::array kKnownPatterns = {
    // GPT-2; as tiktoken writes it.
    KnownPattern{kGpt2Pattern, kByRules<kGpt2>},
    KnownPattern{R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
                 kByRules<kGpt2>},
    // Llama 3, cl100k.
    KnownPattern{kLlama3Pattern, kByRules<kLlama3>},
    KnownPattern{
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
        kByRules<kLlama3>},
    KnownPattern{
        R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)",
        kByRules<kLlama3>},
    // Qwen 2 and 3.
    KnownPattern{kQwen2Pattern, kByRules<kQwen2>},
    // Qwen 3.5.
    KnownPattern{
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
        kByRules<kQwen3Next>},
    // GPT-4o, gpt-oss, Llama 4.
    KnownPattern{kO200kPattern, kByRules<kO200k>},
    // Mistral's Tekken.
    KnownPattern{kTekkenPattern, kByRules<kTekken>},
    // DeepSeek V3 and R1: three patterns, one after another.
    KnownPattern{kDeepseekNumbers, {&NextWithGaps<&MatchNumbers<3>>, false}},
    KnownPattern{kDeepseekCjk, {&NextWithGaps<&MatchCjk>, false}},
    KnownPattern{kDeepseekWords, {&NextWithGaps<&MatchDeepseek>, false}},
    KnownPattern{kOneNumber, {&NextWithGaps<&MatchNumbers<1>>, false}},
    KnownPattern{R"(\p{N}+)", {&NextWithGaps<&MatchNumbers<kAnyCount>>, false}},
};

}  // namespace

WordScanner ScannerOf(std::string_view pattern) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (known.text == pattern) {
      return known.scanner;
    }
  }
  return {};
}

std::vector<std::string_view> ScannedPatterns() {
  std::vector<std::string_view> out;
  for (const KnownPattern& known : kKnownPatterns) {
    out.push_back(known.text);
  }
  return out;
}

WordScanner NumberScanner(bool each) { return ScannerOf(each ? R"(\p{N})" : R"(\p{N}+)"); }

}  // namespace pixii::text
