#include "text/grammar/pattern.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "base/utf8.h"

namespace pixii::text::grammar {

namespace {

struct Ast {
  enum class Kind : std::uint8_t { kSet, kSequence, kChoice, kRepeat, kStart, kEnd, kLook };

  Kind kind = Kind::kSequence;
  bool negative = false;    // kLook
  bool contextual = false;  // an anchor or look-ahead is somewhere inside
  bool anchored = false;    // a ^ is somewhere inside
  std::uint32_t min = 0;
  std::uint32_t max = 0;
  CharSet set;
  std::vector<Ast> parts;
};

CharSet Digits() { return {{'0', '9'}}; }

CharSet WordCharacters() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }

CharSet Spaces() {
  return {{'\t', '\r'},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
          {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
}

CharSet LineEnds() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }

void Append(CharSet& set, const CharSet& more) { set.insert(set.end(), more.begin(), more.end()); }

class Parser final {
 public:
  explicit Parser(std::string_view pattern) : text_(pattern) {}

  Result<Ast> Parse() {
    PX_TRY(Ast all, Choice(0));
    if (at_ != text_.size()) {
      return Bad("unmatched )");
    }
    return all;
  }

 private:
  tl::unexpected<Error> Bad(std::string_view what) const {
    return Fail(Code::kInvalidArgument,
                fmt::format("pattern: {} at byte {}", what, std::min(at_, text_.size())));
  }

  tl::unexpected<Error> Refuse(std::string_view what) const {
    return Fail(Code::kUnsupported,
                fmt::format("pattern: {} at byte {}", what, std::min(at_, text_.size())));
  }

  bool More() const { return at_ < text_.size(); }

  char Peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  bool Take(std::string_view word) {
    if (text_.substr(std::min(at_, text_.size())).starts_with(word)) {
      at_ += word.size();
      return true;
    }
    return false;
  }

  static void Inherit(Ast& outer, const Ast& inner) {
    outer.contextual = outer.contextual || inner.contextual;
    outer.anchored = outer.anchored || inner.anchored;
  }

  Result<Ast> Choice(int depth) {
    if (depth > kPatternDepthMax) {
      return Fail(Code::kTooLarge,
                  fmt::format("pattern: groups nested deeper than {}", kPatternDepthMax));
    }
    Ast out;
    out.kind = Ast::Kind::kChoice;
    do {
      PX_TRY(Ast part, Sequence(depth));
      Inherit(out, part);
      out.parts.push_back(std::move(part));
    } while (Take("|"));
    if (out.parts.size() == 1) {
      return std::move(out.parts[0]);
    }
    return out;
  }

  Result<Ast> Sequence(int depth) {
    Ast out;
    while (More() && Peek() != '|' && Peek() != ')') {
      PX_TRY(Ast part, Quantified(depth));
      Inherit(out, part);
      out.parts.push_back(std::move(part));
    }
    return out;
  }

  Result<Ast> Quantified(int depth) {
    PX_TRY(Ast atom, Atom(depth));
    std::uint32_t min = 0;
    std::uint32_t max = 0;
    if (Take("*")) {
      max = kUnbounded;
    } else if (Take("+")) {
      min = 1;
      max = kUnbounded;
    } else if (Take("?")) {
      max = 1;
    } else if (Peek() == '{') {
      PX_TRY(bool counted, Counts(min, max));
      if (!counted) {
        return atom;
      }
    } else {
      return atom;
    }
    Take("?");  // lazy: the same texts match
    if (Peek() == '+' || Peek() == '*' || Peek() == '?') {
      return Bad("nothing to repeat");
    }
    if (atom.kind == Ast::Kind::kStart || atom.kind == Ast::Kind::kEnd ||
        atom.kind == Ast::Kind::kLook) {
      return Refuse("a repeated anchor or look-ahead");
    }
    Ast out;
    out.kind = Ast::Kind::kRepeat;
    out.min = min;
    out.max = max;
    Inherit(out, atom);
    out.parts.push_back(std::move(atom));
    return out;
  }

  // {n}, {n,} or {n,m}. False: a brace that stands for itself (annex B).
  Result<bool> Counts(std::uint32_t& min, std::uint32_t& max) {
    std::size_t begin = at_;
    ++at_;
    std::optional<std::uint32_t> low = Number();
    if (!low) {
      if (Peek() == ',') {
        at_ = begin;
        return Refuse("{,n}, which dialects read differently; write {0,n}");
      }
      at_ = begin;
      return false;  // it can only stand for itself
    }
    min = *low;
    max = *low;
    if (Take(",")) {
      max = kUnbounded;
      if (Peek() != '}') {
        std::optional<std::uint32_t> high = Number();
        if (!high) {
          at_ = begin;
          return Bad("a brace that counts nothing; write \\{");
        }
        max = *high;
      }
    }
    if (!Take("}")) {
      at_ = begin;
      return Bad("a brace that counts nothing; write \\{");
    }
    if (min > max) {
      return Bad("counts out of order");
    }
    return true;
  }

  std::optional<std::uint32_t> Number() {
    std::uint64_t value = 0;
    std::size_t begin = at_;
    while (More() && Peek() >= '0' && Peek() <= '9') {
      value = std::min<std::uint64_t>(value * 10 + static_cast<std::uint64_t>(Peek() - '0'),
                                      kUnbounded - 1);
      ++at_;
    }
    if (at_ == begin) {
      return std::nullopt;
    }
    return static_cast<std::uint32_t>(value);
  }

  static Ast Characters(CharSet set) {
    Ast out;
    out.kind = Ast::Kind::kSet;
    NormalizeSet(set);
    out.set = std::move(set);
    return out;
  }

  static Ast Mark(Ast::Kind kind) {
    Ast out;
    out.kind = kind;
    out.contextual = true;
    out.anchored = kind == Ast::Kind::kStart;
    return out;
  }

  Result<Ast> Atom(int depth) {
    char c = Peek();
    switch (c) {
      case '(':
        return Group(depth);
      case '[':
        ++at_;
        return Class();
      case '.':
        ++at_;
        return Characters(ComplementSet(LineEnds()));
      case '^':
        ++at_;
        return Mark(Ast::Kind::kStart);
      case '$':
        ++at_;
        return Mark(Ast::Kind::kEnd);
      case '*':
      case '+':
      case '?':
        return Bad("nothing to repeat");
      case '\\': {
        ++at_;
        PX_TRY(CharSet set, Escape(false));
        return Characters(std::move(set));
      }
      default: {
        PX_TRY(char32_t point, Literal());
        return Characters({{point, point}});
      }
    }
  }

  Result<char32_t> Literal() {
    std::string_view rest = text_.substr(at_);
    std::size_t size = Utf8SequenceLength(rest);
    if (size == 0) {
      return Bad("ill-formed UTF-8");
    }
    at_ += size;
    return DecodeUtf8(rest);
  }

  Result<Ast> Group(int depth) {
    ++at_;
    bool look = false;
    bool negative = false;
    if (Take("?:")) {
    } else if (Take("?=")) {
      look = true;
    } else if (Take("?!")) {
      look = negative = true;
    } else if (Peek() == '?' && Peek(1) == '<' && (Peek(2) == '=' || Peek(2) == '!')) {
      return Refuse("look-behind");
    } else if (Take("?<") || Take("?P<")) {
      std::size_t close = text_.find('>', at_);
      if (close == std::string_view::npos) {
        return Bad("a group name that does not end");
      }
      at_ = close + 1;
    } else if (Peek() == '?') {
      return Refuse("a group that sets flags");
    }
    PX_TRY(Ast inner, Choice(depth + 1));
    if (!Take(")")) {
      return Bad("unmatched (");
    }
    if (!look) {
      return inner;
    }
    Ast out = Mark(Ast::Kind::kLook);
    out.negative = negative;
    Inherit(out, inner);
    out.parts.push_back(std::move(inner));
    return out;
  }

  Result<Ast> Class() {
    bool negated = Take("^");
    CharSet set;
    while (true) {
      if (!More()) {
        return Bad("unmatched [");
      }
      if (Take("]")) {
        break;
      }
      PX_TRY(CharSet low, ClassAtom());
      bool range = Peek() == '-' && Peek(1) != ']' && at_ + 1 < text_.size();
      bool single = low.size() == 1 && low[0].low == low[0].high;
      if (!range || !single) {
        Append(set, low);
        continue;
      }
      std::size_t dash = at_;
      ++at_;
      PX_TRY(CharSet high, ClassAtom());
      if (high.size() != 1 || high[0].low != high[0].high) {
        Append(set, low);  // annex B: [a-\d] is a, -, \d
        set.push_back({'-', '-'});
        Append(set, high);
        continue;
      }
      if (high[0].low < low[0].low) {
        at_ = dash;
        return Bad("a range out of order");
      }
      set.push_back({low[0].low, high[0].low});
    }
    NormalizeSet(set);
    if (negated) {
      set = ComplementSet(set);
    } else {
      CharSet no_surrogates = ComplementSet(ComplementSet(set));
      set = std::move(no_surrogates);
    }
    return Characters(std::move(set));
  }

  Result<CharSet> ClassAtom() {
    if (Take("\\")) {
      return Escape(true);
    }
    PX_TRY(char32_t point, Literal());
    return CharSet{{point, point}};
  }

  std::optional<std::uint32_t> Hex(std::size_t digits) {
    if (at_ + digits > text_.size()) {
      return std::nullopt;
    }
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      char c = text_[at_ + i];
      int digit = c >= '0' && c <= '9'   ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : -1;
      if (digit < 0) {
        return std::nullopt;
      }
      value = value * 16 + static_cast<std::uint32_t>(digit);
    }
    at_ += digits;
    return value;
  }

  Result<CharSet> Unicode() {
    std::uint32_t value = 0;
    if (Take("{")) {
      std::size_t close = text_.find('}', at_);
      if (close == std::string_view::npos || close == at_ || close - at_ > 6) {
        return Bad("\\u{} without a code point");
      }
      std::optional<std::uint32_t> hex = Hex(close - at_);
      if (!hex || *hex > kCodePointMax) {
        return Bad("\\u{} without a code point");
      }
      ++at_;
      value = *hex;
    } else {
      std::optional<std::uint32_t> hex = Hex(4);
      if (!hex) {
        return Bad("\\u without four hexadecimal digits");
      }
      value = *hex;
      if (value >= 0xD800 && value < 0xDC00 && Take("\\u")) {
        std::optional<std::uint32_t> low = Hex(4);
        if (!low || *low < 0xDC00 || *low > 0xDFFF) {
          return Bad("half of a surrogate pair");
        }
        value = 0x10000 + ((value - 0xD800) << 10) + (*low - 0xDC00);
      }
    }
    return CharSet{{value, value}};
  }

  Result<CharSet> Property(bool negated) {
    if (!Take("{")) {
      return Bad("\\p without {");
    }
    std::size_t close = text_.find('}', at_);
    if (close == std::string_view::npos) {
      return Bad("\\p{ that does not end");
    }
    PX_TRY(CharSet set, UnicodeProperty(text_.substr(at_, close - at_)));
    at_ = close + 1;
    return negated ? ComplementSet(set) : set;
  }

  Result<CharSet> Escape(bool in_class) {
    if (!More()) {
      return Bad("a \\ at the end");
    }
    char c = Peek();
    ++at_;
    auto one = [](char32_t x) { return CharSet{{x, x}}; };
    switch (c) {
      case 'd':
        return Digits();
      case 'D':
        return ComplementSet(Digits());
      case 'w':
        return WordCharacters();
      case 'W':
        return ComplementSet(WordCharacters());
      case 's':
        return Spaces();
      case 'S':
        return ComplementSet(Spaces());
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'p':
      case 'P':
        return Property(c == 'P');
      case 'u':
        return Unicode();
      case 'x': {
        std::optional<std::uint32_t> hex = Hex(2);
        if (!hex) {
          return Bad("\\x without two hexadecimal digits");
        }
        return one(*hex);
      }
      case 'c': {
        char letter = Peek();
        if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z'))) {
          return Bad("\\c without a letter");
        }
        ++at_;
        return one(static_cast<char32_t>(letter) % 32);
      }
      case 'b':
        if (in_class) {
          return one('\b');
        }
        return Refuse("\\b, a word boundary");
      case 'B':
        return Refuse("\\B, no word boundary");
      case 'k':
        return Refuse("a back-reference");
      case '0':
        if (Peek() >= '0' && Peek() <= '9') {
          return Refuse("an octal escape");
        }
        return one(0);
      default:
        break;
    }
    if (c >= '1' && c <= '9') {
      return Refuse("a back-reference");
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      return Refuse(fmt::format("the escape \\{}, which ECMA-262 does not know", c));
    }
    --at_;
    PX_TRY(char32_t point, Literal());
    return one(point);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// Words of a tree without anchors and look-ahead.
RegexId Words(RegexStore& store, const Ast& ast) {
  switch (ast.kind) {
    case Ast::Kind::kSet:
      return store.Set(ast.set);
    case Ast::Kind::kSequence: {
      RegexId out = RegexStore::kEpsilon;
      for (auto part = ast.parts.rbegin(); part != ast.parts.rend(); ++part) {
        out = store.Concat(Words(store, *part), out);
      }
      return out;
    }
    case Ast::Kind::kChoice: {
      std::vector<RegexId> parts;
      for (const Ast& part : ast.parts) {
        parts.push_back(Words(store, part));
      }
      return store.Alt(std::move(parts));
    }
    case Ast::Kind::kRepeat:
      return store.Repeat(Words(store, ast.parts[0]), ast.min, ast.max);
    default:
      return RegexStore::kNothing;
  }
}

// What a place in the text is known to be.
enum class Before : std::uint8_t { kStart, kInside, kEither };

class TextBuilder final {
 public:
  explicit TextBuilder(RegexStore& store) : store_(store) {}

  /// The texts `ast` then `rest`, where `rest` is a language of texts.
  Result<RegexId> Build(const Ast& ast, RegexId rest, Before before) {
    if (!ast.contextual) {
      return store_.Concat(Words(store_, ast), rest);
    }
    switch (ast.kind) {
      case Ast::Kind::kSequence:
        return Sequence(ast, rest, before);
      case Ast::Kind::kChoice: {
        std::vector<RegexId> parts;
        for (const Ast& part : ast.parts) {
          PX_TRY(RegexId one, Build(part, rest, before));
          parts.push_back(one);
        }
        return store_.Alt(std::move(parts));
      }
      case Ast::Kind::kRepeat: {
        if (ast.max != 1) {
          return Fail(Code::kUnsupported, "pattern: an anchor or look-ahead inside a repetition");
        }
        PX_TRY(RegexId once, Build(ast.parts[0], rest, before));
        return ast.min == 1 ? once : store_.Alt({once, rest});
      }
      case Ast::Kind::kStart:
        if (before == Before::kEither) {
          return Fail(Code::kUnsupported, "pattern: a ^ behind what may be empty");
        }
        return before == Before::kStart ? rest : RegexStore::kNothing;
      case Ast::Kind::kEnd:
        return store_.AcceptsEnd(rest) ? store_.end() : RegexStore::kNothing;
      case Ast::Kind::kLook: {
        PX_TRY(RegexId ahead, Build(ast.parts[0], store_.full(), before));
        return store_.And({rest, ast.negative ? store_.Not(ahead) : ahead});
      }
      default:
        return RegexStore::kNothing;
    }
  }

 private:
  Result<RegexId> Sequence(const Ast& ast, RegexId rest, Before before) {
    std::vector<Before> places;
    for (const Ast& part : ast.parts) {
      places.push_back(before);
      before = After(part, before);
    }
    for (std::size_t i = ast.parts.size(); i > 0; --i) {
      PX_TRY(rest, Build(ast.parts[i - 1], rest, places[i - 1]));
    }
    return rest;
  }

  // Where one stands after `part`.
  Before After(const Ast& part, Before before) {
    switch (part.kind) {
      case Ast::Kind::kSet:
        return Before::kInside;
      case Ast::Kind::kSequence:
        for (const Ast& inner : part.parts) {
          before = After(inner, before);
        }
        return before;
      case Ast::Kind::kChoice: {
        Before out = After(part.parts[0], before);
        for (const Ast& inner : part.parts) {
          out = After(inner, before) == out ? out : Before::kEither;
        }
        return out;
      }
      case Ast::Kind::kRepeat: {
        Before once = After(part.parts[0], before);
        return part.min > 0 || once == before ? once : Before::kEither;
      }
      default:
        return before;
    }
  }

  RegexStore& store_;
};

struct NamedCategory {
  std::string_view name;
  std::string_view short_name;
};

constexpr std::array kCategoryNames = std::to_array<NamedCategory>({
    {"Letter", "L"},
    {"Uppercase_Letter", "Lu"},
    {"Lowercase_Letter", "Ll"},
    {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"},
    {"Other_Letter", "Lo"},
    {"Mark", "M"},
    {"Nonspacing_Mark", "Mn"},
    {"Spacing_Mark", "Mc"},
    {"Enclosing_Mark", "Me"},
    {"Number", "N"},
    {"Decimal_Number", "Nd"},
    {"digit", "Nd"},
    {"Letter_Number", "Nl"},
    {"Other_Number", "No"},
    {"Punctuation", "P"},
    {"punct", "P"},
    {"Connector_Punctuation", "Pc"},
    {"Dash_Punctuation", "Pd"},
    {"Open_Punctuation", "Ps"},
    {"Close_Punctuation", "Pe"},
    {"Initial_Punctuation", "Pi"},
    {"Final_Punctuation", "Pf"},
    {"Other_Punctuation", "Po"},
    {"Symbol", "S"},
    {"Math_Symbol", "Sm"},
    {"Currency_Symbol", "Sc"},
    {"Modifier_Symbol", "Sk"},
    {"Other_Symbol", "So"},
    {"Separator", "Z"},
    {"Space_Separator", "Zs"},
    {"Line_Separator", "Zl"},
    {"Paragraph_Separator", "Zp"},
    {"Other", "C"},
    {"Control", "Cc"},
    {"cntrl", "Cc"},
    {"Format", "Cf"},
    {"Private_Use", "Co"},
    {"Unassigned", "Cn"},
});

}  // namespace

Result<CharSet> UnicodeProperty(std::string_view name) {
  for (std::string_view prefix : {"General_Category=", "gc="}) {
    if (name.starts_with(prefix)) {
      name.remove_prefix(prefix.size());
    }
  }
  if (name == "ASCII") {
    return CharSet{{0, 0x7F}};
  }
  if (name == "Any") {
    return ComplementSet({});
  }
  std::string_view wanted;
  for (const NamedCategory& category : kCategoryNames) {
    if (name == category.name || name == category.short_name) {
      wanted = category.short_name;
    }
  }
  if (wanted.empty()) {
    return Fail(Code::kUnsupported,
                fmt::format("pattern: the Unicode property {}", name.substr(0, 60)));
  }
  CharSet out;
  for (char32_t c = 0; c <= kCodePointMax; ++c) {
    if (c == 0xD800) {
      c = 0xE000;
    }
    std::string_view category = utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
    if (category.starts_with(wanted)) {
      if (!out.empty() && out.back().high + 1 == c) {
        out.back().high = c;
      } else {
        out.push_back({c, c});
      }
    }
  }
  return out;
}

Result<RegexId> ParsePattern(RegexStore& store, std::string_view pattern, PatternMode mode) {
  if (pattern.size() > kPatternBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("pattern: longer than {} bytes", kPatternBytesMax));
  }
  PX_TRY(const Ast ast, Parser(pattern).Parse());
  TextBuilder builder(store);
  RegexId out = RegexStore::kNothing;
  if (mode == PatternMode::kWhole) {
    PX_TRY(out, builder.Build(ast, store.end(), Before::kStart));
  } else if (!ast.anchored) {
    PX_TRY(RegexId here, builder.Build(ast, store.full(), Before::kInside));
    out = store.Concat(store.Repeat(store.any(), 0, kUnbounded), here);
  } else {
    PX_TRY(RegexId first, builder.Build(ast, store.full(), Before::kStart));
    PX_TRY(RegexId later, builder.Build(ast, store.full(), Before::kInside));
    RegexId some = store.Repeat(store.any(), 1, kUnbounded);
    out = store.Alt({first, store.Concat(some, later)});
  }
  if (store.fuel.exhausted) {
    return Fail(Code::kTooLarge, "pattern: its automaton is past the budget");
  }
  return out;
}

Result<RegexId> ParseTerminal(RegexStore& store, std::string_view pattern) {
  if (pattern.size() > kPatternBytesMax) {
    return Fail(Code::kTooLarge, fmt::format("pattern: longer than {} bytes", kPatternBytesMax));
  }
  PX_TRY(const Ast ast, Parser(pattern).Parse());
  if (ast.contextual) {
    return Fail(Code::kUnsupported, "pattern: an anchor or look-ahead inside a terminal");
  }
  return Words(store, ast);
}

}  // namespace pixii::text::grammar
