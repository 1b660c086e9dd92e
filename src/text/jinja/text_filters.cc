// Filters over text.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/utf8.h"
#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/operators.h"
#include "text/jinja/text.h"

namespace pixii::text::jinja {

namespace {

template <Case kCase>
Result<Value> CaseFilter(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "filter", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  PX_TRY(Value out, Cased(rt, text, kCase));
  return LikeSource(rt, input, std::move(out));
}

Result<Value> Capitalize(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "capitalize", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  PX_TRY(Value out, Capitalized(rt, text));
  return LikeSource(rt, input, std::move(out));
}

/// Unlike str.title: words begin after white space, a hyphen or an opening bracket.
Result<Value> Title(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "title", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  if (!rt.SpendBytes(text.size() * 4)) {
    return rt.OutOfSteps();
  }
  StrBuilder out(rt.meter());
  bool begin = true;
  for (StrCursor cursor(text); !cursor.done() && !out.failed(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    std::u32string mapped;
    AppendCased(mapped, c, begin ? Case::kUpper : Case::kLower);
    for (const char32_t m : mapped) {
      out.Append(m, cursor.untrusted());
    }
    begin = IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  }
  return rt.NewString(out);
}

Result<Value> Trim(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "trim", args);
  PX_TRY(const auto chars, reader.TakeString("chars"));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  if (!rt.SpendBytes(text.size() + (chars ? chars->size() * 4 : 0))) {
    return rt.OutOfSteps();
  }
  return Value(Stripped(text, Side::kBoth, chars));
}

Result<Value> Replace(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "replace", args);
  PX_TRY(const Value from, reader.TakeRequired("old"));
  PX_TRY(const Value to, reader.TakeRequired("new"));
  PX_TRY(const auto count, reader.TakeInteger("count"));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  PX_TRY(const Str old_text, ToStr(rt, from));
  PX_TRY(const Str new_text, ToStr(rt, to));
  return Replaced(rt, text.AsPlain(), old_text, new_text, count.value_or(-1));
}

Result<Value> Center(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "center", args);
  PX_TRY(const auto width, reader.TakeInteger("width"));
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  PX_TRY(Value out, Justified(rt, text, width.value_or(80), Str::Literal(" "), Side::kBoth));
  return LikeSource(rt, input, std::move(out));
}

Result<Value> Indent(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "indent", args);
  const Value width = reader.Take("width");
  const bool first = reader.TakeFlag("first", false);
  const bool blank = reader.TakeFlag("blank", false);
  PX_CHECK_OK(reader.Done());
  if (!input.is_string()) {
    return input.is_undefined()
               ? rt.UseOf(input)
               : rt.Raise("TypeError",
                          fmt::format("unsupported operand type(s) for +=: '{}' and 'str'",
                                      TypeName(input)));
  }
  Str indention;
  if (width.is_string()) {
    indention = width.str();
  } else {
    const auto spaces = width.missing() ? std::optional<std::int64_t>(4) : width.AsInt();
    if (!spaces || *spaces > 1'000'000) {
      return rt.Raise("TypeError", "indent needs a width in spaces, up to 1000000, or a string");
    }
    indention = Str::Literal(
        std::string(static_cast<std::size_t>(std::max<std::int64_t>(0, *spaces)), ' '));
  }
  StrBuilder quirk(
      rt.meter());  // Jinja appends a newline first, so that the last line end survives splitlines
  quirk.Append(input.str());
  quirk.Append("\n");
  PX_TRY(const Value terminated, rt.NewString(quirk));
  PX_TRY(const std::vector<Str> lines, Lines(rt, terminated.str(), false));
  StrBuilder out(rt.meter());
  for (std::size_t i = 0; i < lines.size() && !out.failed(); ++i) {
    if (i != 0) {
      out.Append("\n");
    }
    if (i == 0 ? first : blank || !lines[i].empty()) {
      out.Append(indention);
    }
    out.Append(lines[i]);
  }
  PX_TRY(Value indented, rt.NewString(out));
  return LikeSource(rt, input, std::move(indented));
}

Result<Value> Truncate(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "truncate", args);
  PX_TRY(const auto length_given, reader.TakeInteger("length"));
  const bool kill_words = reader.TakeFlag("killwords", false);
  PX_TRY(const auto end_given, reader.TakeString("end"));
  PX_TRY(const auto leeway, reader.TakeInteger("leeway"));
  PX_CHECK_OK(reader.Done());
  if (!input.is_string()) {
    return rt.Raise("TypeError", fmt::format("object of type '{}' has no len()", TypeName(input)));
  }
  const Str& text = input.str();
  const Str end = end_given.value_or(Str::Literal("..."));
  const std::int64_t length = length_given.value_or(255);
  const auto end_length = static_cast<std::int64_t>(CharacterCount(end));
  if (length < end_length || leeway.value_or(0) < 0) {
    return rt.Raise("AssertionError",
                    fmt::format("expected length >= {}, got {}", end_length, length));
  }
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  if (static_cast<std::int64_t>(CharacterCount(text)) - length <= leeway.value_or(5)) {
    return input;
  }
  Str kept = text.Slice(0, CharacterOffset(text, static_cast<std::size_t>(length - end_length)));
  if (!kill_words) {
    const std::size_t space = kept.view().rfind(' ');
    kept = space == std::string_view::npos ? kept : kept.Slice(0, space);
  }
  StrBuilder out(rt.meter());
  out.Append(kept);
  if (text.markup()) {
    PX_TRY(const Str escaped, Escaped(rt, Value(end)));
    out.Append(escaped);
  } else {
    out.Append(end);
  }
  PX_TRY(Value truncated, rt.NewString(out));
  return LikeSource(rt, input, std::move(truncated));
}

Result<Value> WordCount(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "wordcount", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(const Str text, ToStr(rt, input));
  if (!rt.SpendBytes(text.size() * 4)) {
    return rt.OutOfSteps();
  }
  std::int64_t words = 0;
  bool inside = false;
  for (StrCursor cursor(text); !cursor.done(); cursor.Next()) {
    const bool word = IsWord(cursor.code_point());
    words += word && !inside ? 1 : 0;
    inside = word;
  }
  return Value(words);
}

Result<Value> Format(Runtime& rt, const Value& input, CallArgs& args) {
  PX_TRY(const Str text, ToStr(rt, input));
  if (!args.positional.empty() && !args.named.empty()) {
    return rt.Raise("FilterArgumentError",
                    "can't handle positional and keyword arguments at the same time");
  }
  if (args.named.empty()) {
    PX_TRY(const Value tuple, rt.NewList(std::move(args.positional), Type::kTuple));
    return PercentFormat(rt, text, tuple);
  }
  std::vector<Entry> entries;
  for (auto& [name, value] : args.named) {
    entries.emplace_back(Value(name), std::move(value));
  }
  PX_TRY(const Value dict, rt.NewDict(std::move(entries)));
  return PercentFormat(rt, text, dict);
}

Result<Value> Escape(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "escape", args);
  PX_CHECK_OK(reader.Done());
  PX_TRY(Str text, Escaped(rt, input));
  return Value(std::move(text));
}

/// `in_query`: a space is a plus and a slash is quoted.
void AppendQuotedUrl(StrBuilder& out, const Str& text, bool in_query) {
  text.ForEachPiece([&](std::string_view piece, bool untrusted) {
    for (const char c : piece) {
      const bool plain =
          (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
          std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !in_query);
      const std::string quoted =
          c == ' ' && in_query ? "+" : fmt::format("%{:02X}", static_cast<unsigned char>(c));
      out.Append(plain ? std::string(1, c) : quoted, untrusted);
    }
  });
}

Result<Value> UrlEncode(Runtime& rt, const Value& input, CallArgs& args) {
  ArgumentReader reader(rt, "urlencode", args);
  PX_CHECK_OK(reader.Done());
  StrBuilder out(rt.meter());
  const bool pairs = input.is(Type::kDict) || input.is_list_or_tuple() || input.is(Type::kDictView);
  if (!pairs) {
    PX_TRY(const Str text, ToStr(rt, input));
    if (!rt.SpendBytes(text.size() * 8)) {
      return rt.OutOfSteps();
    }
    AppendQuotedUrl(out, text, false);
    return rt.NewString(out);
  }
  std::vector<Value> items;
  if (input.is(Type::kDict)) {
    PX_TRY(const Value view, rt.New<DictView>(DictView::Part::kItems, input.object()));
    PX_TRY(items, Items(rt, view));
  } else {
    PX_TRY(items, Items(rt, input));
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    PX_TRY(const std::vector<Value> pair, Items(rt, items[i]));
    if (pair.size() != 2) {
      return rt.Raise("ValueError", "urlencode needs pairs");
    }
    PX_TRY(const Str key, ToStr(rt, pair[0]));
    PX_TRY(const Str value, ToStr(rt, pair[1]));
    if (!rt.SpendBytes((key.size() + value.size()) * 8)) {
      return rt.OutOfSteps();
    }
    out.Append(i == 0 ? "" : "&");
    AppendQuotedUrl(out, key, true);
    out.Append("=");
    AppendQuotedUrl(out, value, true);
  }
  return rt.NewString(out);
}

struct Row {
  std::string_view name;
  FilterCall call;
};

constexpr Row kFilters[] = {
    {"capitalize", Capitalize},
    {"center", Center},
    {"e", Escape},
    {"escape", Escape},
    {"format", Format},
    {"indent", Indent},
    {"lower", CaseFilter<Case::kLower>},
    {"replace", Replace},
    {"title", Title},
    {"trim", Trim},
    {"truncate", Truncate},
    {"upper", CaseFilter<Case::kUpper>},
    {"urlencode", UrlEncode},
    {"wordcount", WordCount},
};

}  // namespace

FilterCall FindTextFilter(std::string_view name) {
  const Row* row = std::find_if(std::begin(kFilters), std::end(kFilters),
                                [&](const Row& r) { return r.name == name; });
  return row == std::end(kFilters) ? nullptr : row->call;
}

}  // namespace pixii::text::jinja
