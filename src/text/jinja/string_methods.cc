// Methods of str.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "text/jinja/arguments.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace pixii::text::jinja {

namespace {

Result<Value> NoArguments(Runtime& rt, std::string_view name, CallArgs& args) {
  ArgumentReader reader(rt, name, args);
  PX_CHECK_OK(reader.Done());
  return Value();
}

template <Case kCase>
Result<Value> CaseMethod(Runtime& rt, const Value& self, CallArgs& args) {
  PX_TRY(const Value none, NoArguments(rt, "str method", args));
  return none.missing() ? Cased(rt, self.str(), kCase) : Result<Value>(none);
}

Result<Value> Capitalize(Runtime& rt, const Value& self, CallArgs& args) {
  PX_CHECK_OK(NoArguments(rt, "capitalize", args));
  return Capitalized(rt, self.str());
}

Result<Value> Swapcase(Runtime& rt, const Value& self, CallArgs& args) {
  PX_CHECK_OK(NoArguments(rt, "swapcase", args));
  const Str& text = self.str();
  StrBuilder out(rt.meter());
  for (StrCursor cursor(text); !cursor.done() && !out.failed(); cursor.Next()) {
    std::u32string mapped;
    AppendCased(mapped, cursor.code_point(),
                IsUpper(cursor.code_point()) ? Case::kLower : Case::kUpper);
    for (const char32_t c : mapped) {
      out.Append(c, cursor.untrusted());
    }
  }
  return rt.NewString(out);
}

template <Side kSide>
Result<Value> Strip(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "strip", args);
  PX_TRY(const auto chars, reader.TakeString("chars"));
  PX_CHECK_OK(reader.Done());
  if (!rt.SpendBytes(self.str().size() + (chars ? chars->size() * 4 : 0))) {
    return rt.OutOfSteps();
  }
  return Value(Stripped(self.str(), kSide, chars));
}

/// The part of `text` that str methods' start and end arguments select, and the byte offset of its
/// start.
struct Window {
  Str text;
  std::size_t offset = 0;
  bool valid = true;  // false where start is past the end: not even "" is found there
};

Result<Window> TakeWindow(Runtime& rt, const Str& text, ArgumentReader& reader) {
  PX_TRY(const auto start, reader.TakeInteger("start"));
  PX_TRY(const auto end, reader.TakeInteger("end"));
  if (!start && !end) {
    return Window{text, 0, true};
  }
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  const auto count = static_cast<std::int64_t>(CharacterCount(text));
  const auto clip = [&](std::int64_t at) {
    return at < 0 ? std::max<std::int64_t>(0, at + count) : at;
  };
  const std::int64_t first = clip(start.value_or(0));
  const std::int64_t last = std::min(clip(end.value_or(count)), count);
  if (first > last || first > count) {
    return Window{Str(), 0, false};
  }
  const std::size_t begin = CharacterOffset(text, static_cast<std::size_t>(first));
  return Window{text.Slice(begin, CharacterOffset(text, static_cast<std::size_t>(last))), begin,
                true};
}

template <bool kAtEnd>
Result<Value> HasAffix(Runtime& rt, const Value& self, CallArgs& args) {
  constexpr std::string_view kName = kAtEnd ? "endswith" : "startswith";
  ArgumentReader reader(rt, kName, args);
  PX_TRY(const Value affix, reader.TakeRequired("prefix"));
  PX_TRY(const Window window, TakeWindow(rt, self.str(), reader));
  PX_CHECK_OK(reader.Done());
  const auto matches = [&](const Value& one) {
    const std::string_view text = window.text.view();
    return window.valid && (kAtEnd ? text.ends_with(one.view()) : text.starts_with(one.view()));
  };
  if (affix.is_string()) {
    return Value(matches(affix));
  }
  if (!affix.is(Type::kTuple)) {
    return rt.Raise("TypeError", fmt::format("{} first arg must be str or a tuple of str, not {}",
                                             kName, TypeName(affix)));
  }
  for (const Value& one : affix.As<List>().items) {
    if (!one.is_string()) {
      return rt.Raise("TypeError", fmt::format("tuple for {} must only contain str, not {}", kName,
                                               TypeName(one)));
    }
    if (matches(one)) {
      return Value(true);
    }
  }
  return Value(false);
}

template <bool kAtEnd>
Result<Value> RemoveAffix(Runtime& rt, const Value& self, CallArgs& args) {
  constexpr std::string_view kName = kAtEnd ? "removesuffix" : "removeprefix";
  ArgumentReader reader(rt, kName, args);
  PX_TRY(const Value affix, reader.TakeRequired("affix"));
  PX_CHECK_OK(reader.Done());
  if (!affix.is_string()) {
    return rt.Raise("TypeError",
                    fmt::format("{}() argument must be str, not {}", kName, TypeName(affix)));
  }
  const Str& text = self.str();
  const std::size_t length = affix.str().size();
  if (kAtEnd) {
    return text.view().ends_with(affix.view()) ? Value(text.Slice(0, text.size() - length)) : self;
  }
  return text.view().starts_with(affix.view()) ? Value(text.Slice(length, text.size())) : self;
}

/// Byte offset of the last `needle`, or npos.
Result<std::size_t> FindLast(Runtime& rt, std::string_view text, std::string_view needle) {
  for (std::size_t at = text.size() < needle.size() ? 0 : text.size() - needle.size() + 1;
       at-- > 0;) {
    if ((at & 63) == 0 && !rt.SpendBytes(needle.size())) {
      return rt.OutOfSteps();
    }
    if (text.substr(at).starts_with(needle)) {
      return at;
    }
  }
  return std::string_view::npos;
}

template <bool kLast, bool kRaises>
Result<Value> Find(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "find", args);
  PX_TRY(const Value needle, reader.TakeRequired("sub"));
  PX_TRY(const Window window, TakeWindow(rt, self.str(), reader));
  PX_CHECK_OK(reader.Done());
  if (!needle.is_string()) {
    return rt.Raise("TypeError", fmt::format("must be str, not {}", TypeName(needle)));
  }
  if (!rt.SpendBytes(window.text.size())) {
    return rt.OutOfSteps();
  }
  std::size_t found = std::string_view::npos;
  if (window.valid && kLast) {
    PX_TRY(found, FindLast(rt, window.text.view(), needle.view()));
  } else if (window.valid) {
    found = FindText(window.text.view(), needle.view());
  }
  if (found == std::string_view::npos) {
    return kRaises ? Result<Value>(rt.Raise("ValueError", "substring not found"))
                   : Result<Value>(Value(std::int64_t{-1}));
  }
  return Value::Size(CharacterCount(self.str().Slice(0, window.offset + found)));
}

Result<Value> Count(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "count", args);
  PX_TRY(const Value needle, reader.TakeRequired("sub"));
  PX_TRY(const Window window, TakeWindow(rt, self.str(), reader));
  PX_CHECK_OK(reader.Done());
  if (!needle.is_string()) {
    return rt.Raise("TypeError", fmt::format("must be str, not {}", TypeName(needle)));
  }
  if (!rt.SpendBytes(window.text.size())) {
    return rt.OutOfSteps();
  }
  if (!window.valid) {
    return Value(std::int64_t{0});
  }
  if (needle.str().empty()) {
    return Value::Size(CharacterCount(window.text) + 1);
  }
  std::int64_t count = 0;
  for (std::size_t at = 0;
       (at = FindText(window.text.view(), needle.view(), at)) != std::string_view::npos;
       at += needle.str().size()) {
    ++count;
  }
  return Value(count);
}

Result<Value> Replace(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "replace", args);
  PX_TRY(const Value from, reader.TakeRequired("old"));
  PX_TRY(const Value to, reader.TakeRequired("new"));
  PX_TRY(const auto count, reader.TakeInteger("count"));
  PX_CHECK_OK(reader.Done());
  if (!from.is_string() || !to.is_string()) {
    const Value& wrong = from.is_string() ? to : from;
    return rt.Raise("TypeError", fmt::format("replace() argument {} must be str, not {}",
                                             from.is_string() ? 2 : 1,
                                             wrong.is_none() ? "None" : TypeName(wrong)));
  }
  Str replacement = to.str();
  if (self.str().markup()) {
    PX_TRY(replacement, Escaped(rt, to));
  }
  return Replaced(rt, self.str(), from.str(), replacement, count.value_or(-1));
}

/// Pieces between runs of white space.
Result<Value> SplitOnSpace(Runtime& rt, const Str& text, std::int64_t limit, bool from_right) {
  if (!rt.SpendBytes(text.size() * 4)) {
    return rt.OutOfSteps();
  }
  ListBuilder out(rt);
  Str rest = Stripped(text, from_right ? Side::kRight : Side::kLeft, std::nullopt);
  for (std::int64_t done = 0; !rest.empty() && (limit < 0 || done < limit); ++done) {
    std::size_t begin = 0;
    std::size_t end = rest.size();
    if (from_right) {
      for (StrCursor cursor(rest); !cursor.done(); cursor.Next()) {
        begin = IsSpace(cursor.code_point()) ? cursor.offset() + cursor.bytes().size() : begin;
      }
    } else {
      for (StrCursor cursor(rest); !cursor.done(); cursor.Next()) {
        if (IsSpace(cursor.code_point())) {
          end = cursor.offset();
          break;
        }
      }
    }
    if (!rt.SpendBytes(from_right ? rest.size() * 4 : (end - begin) * 4)) {
      return rt.OutOfSteps();
    }
    PX_CHECK_OK(out.Add(Value(rest.Slice(begin, end))));
    rest = from_right ? Stripped(rest.Slice(0, begin), Side::kRight, std::nullopt)
                      : Stripped(rest.Slice(end, rest.size()), Side::kLeft, std::nullopt);
  }
  if (!rest.empty()) {
    const Str last = Stripped(rest, from_right ? Side::kLeft : Side::kBoth, std::nullopt);
    // A limited split keeps the white space at the far end, as Python does.
    PX_CHECK_OK(out.Add(Value(from_right ? rest : last.empty() ? last : rest)));
  }
  if (from_right) {
    std::reverse(out.items().begin(), out.items().end());
  }
  return out.Finish();
}

template <bool kFromRight>
Result<Value> Split(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "split", args);
  PX_TRY(const auto separator, reader.TakeString("sep"));
  PX_TRY(const auto limit_given, reader.TakeInteger("maxsplit"));
  PX_CHECK_OK(reader.Done());
  const std::int64_t limit = limit_given.value_or(-1);
  const Str& text = self.str();
  if (!separator) {
    return SplitOnSpace(rt, text, limit, kFromRight);
  }
  if (separator->empty()) {
    return rt.Raise("ValueError", "empty separator");
  }
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  ListBuilder out(rt);
  std::size_t begin = 0;
  std::size_t end = text.size();
  for (std::int64_t done = 0; limit < 0 || done < limit; ++done) {
    if constexpr (kFromRight) {
      PX_TRY(const std::size_t found, FindLast(rt, text.view().substr(0, end), separator->view()));
      if (found == std::string_view::npos) {
        break;
      }
      PX_CHECK_OK(out.Add(Value(text.Slice(found + separator->size(), end))));
      end = found;
    } else {
      const std::size_t found = FindText(text.view(), separator->view(), begin);
      if (found == std::string_view::npos) {
        break;
      }
      PX_CHECK_OK(out.Add(Value(text.Slice(begin, found))));
      begin = found + separator->size();
    }
  }
  PX_CHECK_OK(out.Add(Value(text.Slice(begin, end))));
  if (kFromRight) {
    std::reverse(out.items().begin(), out.items().end());
  }
  return out.Finish();
}

template <bool kFromRight>
Result<Value> Partition(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "partition", args);
  PX_TRY(const auto separator, reader.TakeString("sep"));
  PX_CHECK_OK(reader.Done());
  if (!separator || separator->empty()) {
    return rt.Raise(separator ? "ValueError" : "TypeError",
                    separator ? "empty separator" : "must be str, not NoneType");
  }
  const Str& text = self.str();
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  std::size_t found = FindText(text.view(), separator->view());
  if (kFromRight && found != std::string_view::npos) {
    PX_TRY(found, FindLast(rt, text.view(), separator->view()));
  }
  const Value empty{Str()};
  if (found == std::string_view::npos) {
    return kFromRight ? rt.NewList({empty, empty, self}, Type::kTuple)
                      : rt.NewList({self, empty, empty}, Type::kTuple);
  }
  const std::size_t after = found + separator->size();
  return rt.NewList({Value(text.Slice(0, found)), Value(text.Slice(found, after)),
                     Value(text.Slice(after, text.size()))},
                    Type::kTuple);
}

Result<Value> SplitLines(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "splitlines", args);
  const bool keep_ends = reader.TakeFlag("keepends", false);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const std::vector<Str> lines, Lines(rt, self.str(), keep_ends));
  ListBuilder out(rt);
  for (const Str& line : lines) {
    PX_CHECK_OK(out.Add(Value(line)));
  }
  return out.Finish();
}

Result<Value> Join(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "join", args);
  PX_TRY(const Value iterable, reader.TakeRequired("iterable"));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const auto items, Iterate(rt, iterable));
  StrBuilder out(rt.meter());
  for (std::size_t i = 0;; ++i) {
    PX_TRY(Value item, items->Next(rt));
    if (item.missing()) {
      return rt.NewString(out);
    }
    if (self.str().markup()) {
      PX_TRY(item, Escaped(rt, item));
    }
    if (!item.is_string()) {
      return rt.Raise("TypeError", fmt::format("sequence item {}: expected str instance, {} found",
                                               i, TypeName(item)));
    }
    if (!rt.Spend()) {
      return rt.OutOfSteps();
    }
    if (i != 0) {
      out.Append(self.str());
    }
    out.Append(item.str());
    if (out.failed()) {
      return rt.OutOfMemory();
    }
  }
}

Result<Value> Format(Runtime& rt, const Value& self, CallArgs& args) {
  return BraceFormat(rt, self.str(), args);
}

template <Side kPad>
Result<Value> Justify(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "center", args);
  PX_TRY(const auto width, reader.TakeInteger("width"));
  PX_TRY(const auto fill, reader.TakeString("fillchar"));
  PX_CHECK_OK(reader.Done());
  if (!width) {
    return rt.Raise("TypeError", "expected a width");
  }
  return Justified(rt, self.str(), *width, fill.value_or(Str::Literal(" ")), kPad);
}

Result<Value> ZeroFill(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "zfill", args);
  PX_TRY(const auto width, reader.TakeInteger("width"));
  PX_CHECK_OK(reader.Done());
  const Str& text = self.str();
  const bool has_sign = text.view().starts_with('+') || text.view().starts_with('-');
  const std::size_t sign = has_sign ? 1 : 0;
  PX_TRY(const Value digits,
         Justified(rt, text.Slice(sign, text.size()), width.value_or(0) - (has_sign ? 1 : 0),
                   Str::Literal("0"), Side::kLeft));
  StrBuilder out(rt.meter());
  out.Append(text.Slice(0, sign));
  out.Append(digits.str());
  return rt.NewString(out);
}

Result<Value> ExpandTabs(Runtime& rt, const Value& self, CallArgs& args) {
  ArgumentReader reader(rt, "expandtabs", args);
  PX_TRY(const auto given, reader.TakeInteger("tabsize"));
  PX_CHECK_OK(reader.Done());
  const auto size =
      static_cast<std::uint64_t>(std::clamp<std::int64_t>(given.value_or(8), 0, 1'000));
  std::uint64_t column = 0;
  StrBuilder out(rt.meter());
  for (StrCursor cursor(self.str()); !cursor.done() && !out.failed(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    if (c == '\t') {
      const std::uint64_t spaces = size == 0 ? 0 : size - column % size;
      out.Append(std::string(spaces, ' '), cursor.untrusted());
      column += spaces;
    } else {
      column = c == '\n' || c == '\r' ? 0 : column + 1;
      out.Append(cursor.bytes(), cursor.untrusted());
    }
  }
  return rt.NewString(out);
}

/// True if the string is not empty and every character passes.
template <bool (*kTest)(char32_t)>
Result<Value> All(Runtime& rt, const Value& self, CallArgs& args) {
  PX_CHECK_OK(NoArguments(rt, "str method", args));
  if (!rt.SpendBytes(self.str().size() * 4)) {
    return rt.OutOfSteps();
  }
  bool all = !self.str().empty();
  for (StrCursor cursor(self.str()); !cursor.done() && all; cursor.Next()) {
    all = kTest(cursor.code_point());
  }
  return Value(all);
}

bool IsAlphaNumeric(char32_t c) { return IsAlpha(c) || IsNumeric(c); }

Result<Value> IsAsciiText(Runtime& rt, const Value& self, CallArgs& args) {
  PX_CHECK_OK(NoArguments(rt, "isascii", args));
  const std::string_view text = self.view();
  return Value(std::all_of(text.begin(), text.end(),
                           [](char c) { return static_cast<signed char>(c) >= 0; }));
}

Result<Value> IsPrintableText(Runtime& rt, const Value& self, CallArgs& args) {
  PX_TRY(const Value all, All<IsPrintable>(rt, self, args));
  return Value(self.str().empty() || all.boolean());
}

/// Some cased character, and none in the other case.
template <bool kUpper>
Result<Value> IsCase(Runtime& rt, const Value& self, CallArgs& args) {
  PX_CHECK_OK(NoArguments(rt, "str method", args));
  if (!rt.SpendBytes(self.str().size() * 4)) {
    return rt.OutOfSteps();
  }
  bool some = false;
  for (StrCursor cursor(self.str()); !cursor.done(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    if (IsCased(c) && !(kUpper ? IsUpper(c) : IsLower(c))) {
      return Value(false);
    }
    some = some || IsCased(c);
  }
  return Value(some);
}

Result<Value> IsTitle(Runtime& rt, const Value& self, CallArgs& args) {
  PX_CHECK_OK(NoArguments(rt, "istitle", args));
  bool some = false;
  bool inside = false;
  for (StrCursor cursor(self.str()); !cursor.done(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    const bool capital = IsCased(c) && !IsLower(c);
    if ((capital && inside) || (IsLower(c) && !inside)) {
      return Value(false);
    }
    inside = IsCased(c);
    some = some || inside;
  }
  return Value(some);
}

/// The method of Markup: its strings are markup too.
template <Method::Call kCall>
Result<Value> Kept(Runtime& rt, const Value& self, CallArgs& args) {
  PX_TRY(Value out, kCall(rt, self, args));
  return LikeSource(rt, self, std::move(out));
}

struct Row {
  std::string_view name;
  Method::Call call;  // null: not supported
};

constexpr std::array<Row, 47> kMethods = {{
    {"capitalize", Kept<Capitalize>},
    {"casefold", Kept<CaseMethod<Case::kFold>>},
    {"center", Kept<Justify<Side::kBoth>>},
    {"count", Count},
    {"encode", nullptr},
    {"endswith", HasAffix<true>},
    {"expandtabs", Kept<ExpandTabs>},
    {"find", Find<false, false>},
    {"format", Format},
    {"format_map", nullptr},
    {"index", Find<false, true>},
    {"isalnum", All<IsAlphaNumeric>},
    {"isalpha", All<IsAlpha>},
    {"isascii", IsAsciiText},
    {"isdecimal", All<IsDecimal>},
    {"isdigit", All<IsDecimal>},
    {"isidentifier", nullptr},
    {"islower", IsCase<false>},
    {"isnumeric", All<IsNumeric>},
    {"isprintable", IsPrintableText},
    {"isspace", All<IsSpace>},
    {"istitle", IsTitle},
    {"isupper", IsCase<true>},
    {"join", Kept<Join>},
    {"ljust", Kept<Justify<Side::kRight>>},
    {"lower", Kept<CaseMethod<Case::kLower>>},
    {"lstrip", Kept<Strip<Side::kLeft>>},
    {"maketrans", nullptr},
    {"partition", Kept<Partition<false>>},
    {"removeprefix", Kept<RemoveAffix<false>>},
    {"removesuffix", Kept<RemoveAffix<true>>},
    {"replace", Kept<Replace>},
    {"rfind", Find<true, false>},
    {"rindex", Find<true, true>},
    {"rjust", Kept<Justify<Side::kLeft>>},
    {"rpartition", Kept<Partition<true>>},
    {"rsplit", Kept<Split<true>>},
    {"rstrip", Kept<Strip<Side::kRight>>},
    {"split", Kept<Split<false>>},
    {"splitlines", Kept<SplitLines>},
    {"startswith", HasAffix<false>},
    {"strip", Kept<Strip<Side::kBoth>>},
    {"swapcase", Kept<Swapcase>},
    {"title", Kept<CaseMethod<Case::kTitle>>},
    {"translate", nullptr},
    {"upper", Kept<CaseMethod<Case::kUpper>>},
    {"zfill", Kept<ZeroFill>},
}};

}  // namespace

MethodLookup FindStringMethod(std::string_view name) {
  const auto it =
      std::find_if(kMethods.begin(), kMethods.end(), [&](const Row& e) { return e.name == name; });
  if (it == kMethods.end()) {
    return {};
  }
  return {it->call == nullptr ? MethodKind::kUnsupported : MethodKind::kSafe, it->name, it->call};
}

}  // namespace pixii::text::jinja
