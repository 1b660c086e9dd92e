#include "text/jinja/text.h"

#include <algorithm>
#include <string>

#include "base/utf8.h"
#include "text/jinja/operators.h"

namespace pixii::text::jinja {

namespace {

/// Appends the characters of `mapped` with one provenance.
void AppendMapped(StrBuilder& out, const std::u32string& mapped, bool untrusted) {
  std::string bytes;
  for (const char32_t c : mapped) {
    AppendUtf8(bytes, c);
  }
  out.Append(bytes, untrusted);
}

/// Final sigma: Python lowers a sigma at the end of a word to ς.
bool IsFinalSigma(std::string_view text, std::size_t at) {
  std::size_t before = at;
  while (before > 0 && (static_cast<unsigned char>(text[--before]) & 0xC0) == 0x80) {
  }
  const std::string_view after = text.substr(at + 2);
  const bool cased_before = at > 0 && IsCased(DecodeUtf8(text.substr(before)));
  return cased_before && (after.empty() || !IsCased(DecodeUtf8(after)));
}

}  // namespace

Str Stripped(const Str& text, Side side, const std::optional<Str>& chars) {
  const std::string_view bytes = text.view();
  if (!chars) {
    const std::string_view right = side == Side::kLeft ? bytes : TrimRight(bytes);
    const std::string_view left = side == Side::kRight ? right : TrimLeft(right);
    const auto begin = left.empty() ? 0 : static_cast<std::size_t>(left.data() - bytes.data());
    return text.Slice(begin, begin + left.size());
  }
  const std::string_view set = chars->view();
  const auto in_set = [&](std::string_view character) {
    return set.find(character) != std::string_view::npos;
  };
  std::size_t begin = 0;
  std::size_t end = bytes.size();
  while (side != Side::kRight && begin < end) {
    const std::size_t length = std::max<std::size_t>(1, Utf8SequenceLength(bytes.substr(begin)));
    if (!in_set(bytes.substr(begin, length))) {
      break;
    }
    begin += length;
  }
  while (side != Side::kLeft && end > begin) {
    std::size_t at = end - 1;
    while (at > begin && (static_cast<unsigned char>(bytes[at]) & 0xC0) == 0x80) {
      --at;
    }
    if (!in_set(bytes.substr(at, end - at))) {
      break;
    }
    end = at;
  }
  return text.Slice(begin, end);
}

Result<Value> Cased(Runtime& rt, const Str& text, Case wanted) {
  if (!rt.SpendBytes(text.size() * 2)) {
    return rt.OutOfSteps();
  }
  StrBuilder out(rt.meter());
  if (text.ascii() && wanted != Case::kTitle) {
    text.ForEachPiece([&](std::string_view piece, bool untrusted) {
      std::string mapped(piece);
      const bool up = wanted == Case::kUpper;
      std::transform(mapped.begin(), mapped.end(), mapped.begin(), [up](char c) {
        const bool change = up ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z';
        return change ? static_cast<char>(c ^ 32) : c;
      });
      out.Append(mapped, untrusted);
    });
    return rt.NewString(out);
  }
  bool word = false;  // inside a run of cased characters, which is what str.title calls a word
  std::u32string mapped;
  for (StrCursor cursor(text); !cursor.done() && !out.failed(); cursor.Next()) {
    const char32_t c = cursor.code_point();
    mapped.clear();
    const Case here = wanted == Case::kTitle && word ? Case::kLower : wanted;
    if (here == Case::kLower && c == 0x3A3 && IsFinalSigma(text.view(), cursor.offset())) {
      mapped.push_back(0x3C2);
    } else {
      AppendCased(mapped, c, here);
    }
    AppendMapped(out, mapped, cursor.untrusted());
    word = IsCased(c);
  }
  return rt.NewString(out);
}

Result<Value> Capitalized(Runtime& rt, const Str& text) {
  const std::size_t first = CharacterOffset(text, 1);
  PX_TRY(const Value head, Cased(rt, text.Slice(0, first), Case::kTitle));
  PX_TRY(const Value tail, Cased(rt, text.Slice(first, text.size()), Case::kLower));
  StrBuilder out(rt.meter());
  out.Append(head.str());
  out.Append(tail.str());
  return rt.NewString(out);
}

Result<Value> Replaced(Runtime& rt, const Str& text, const Str& from, const Str& to,
                       std::int64_t count) {
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  const auto limit = count < 0 ? UINT64_MAX : static_cast<std::uint64_t>(count);
  std::uint64_t done = 0;
  StrBuilder out(rt.meter());
  if (from.empty()) {  // between all characters
    for (StrCursor cursor(text); !cursor.done() && !out.failed(); cursor.Next()) {
      if (done < limit) {
        out.Append(to);
        ++done;
      }
      out.Append(cursor.bytes(), cursor.untrusted());
    }
    if (done < limit) {
      out.Append(to);
    }
    return rt.NewString(out);
  }
  std::size_t at = 0;
  while (done < limit && !out.failed()) {
    const std::size_t found = FindText(text.view(), from.view(), at);
    if (found == std::string_view::npos) {
      break;
    }
    if (!rt.Spend()) {
      return rt.OutOfSteps();
    }
    out.Append(text.Slice(at, found));
    out.Append(to);
    at = found + from.size();
    ++done;
  }
  if (done == 0) {
    return Value(text);
  }
  out.Append(text.Slice(at, text.size()));
  return rt.NewString(out);
}

Result<Str> Escaped(Runtime& rt, const Value& value) {
  PX_TRY(const Str text, ToStr(rt, value));
  if (text.markup()) {
    return text;
  }
  if (!rt.SpendBytes(text.size())) {
    return rt.OutOfSteps();
  }
  StrBuilder out(rt.meter());
  text.ForEachPiece([&](std::string_view piece, bool untrusted) {
    while (!piece.empty()) {
      const std::size_t plain = std::min(piece.find_first_of("&<>'\""), piece.size());
      out.Append(piece.substr(0, plain), untrusted);
      piece.remove_prefix(plain);
      if (!piece.empty()) {
        const char c = piece[0];
        out.Append(c == '&'   ? "&amp;"
                   : c == '<' ? "&lt;"
                   : c == '>' ? "&gt;"
                   : c == '"' ? "&#34;"
                              : "&#39;",
                   untrusted);
        piece.remove_prefix(1);
      }
    }
  });
  if (out.failed()) {
    return rt.OutOfMemory();
  }
  return out.Finish().AsMarkup();
}

Result<Value> LikeSource(Runtime& rt, const Value& source, Value result) {
  if (!source.is_string() || !source.str().markup()) {
    return result;
  }
  if (result.is_string()) {
    return Value(result.str().AsMarkup());
  }
  if (!result.is_list_or_tuple()) {
    return result;
  }
  std::vector<Value> items = result.As<List>().items;
  for (Value& item : items) {
    item = item.is_string() ? Value(item.str().AsMarkup()) : item;
  }
  return rt.NewList(std::move(items), result.type());
}

Result<std::vector<Str>> Lines(Runtime& rt, const Str& text, bool keep_ends) {
  if (!rt.SpendBytes(text.size() * 4)) {
    return rt.OutOfSteps();
  }
  const std::string_view bytes = text.view();
  std::vector<Str> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[at]);
    const bool candidate = byte < 0x20 || byte == 0xC2 || byte == 0xE2;
    const std::size_t end = candidate ? LineEndLength(bytes.substr(at)) : 0;
    if (end == 0) {
      ++at;
      continue;
    }
    if (!rt.Spend() || out.size() * sizeof(Str) > rt.meter().left()) {
      return rt.OutOfMemory();
    }
    out.push_back(text.Slice(begin, keep_ends ? at + end : at));
    at += end;
    begin = at;
  }
  if (begin < bytes.size()) {
    out.push_back(text.Slice(begin, bytes.size()));
  }
  return out;
}

Result<Value> Justified(Runtime& rt, const Str& text, std::int64_t width, const Str& fill,
                        Side pad) {
  const auto length = static_cast<std::int64_t>(CharacterCount(text));
  if (CharacterCount(fill) != 1) {
    return rt.Raise("TypeError", "The fill character must be exactly one character long");
  }
  if (width <= length) {
    return Value(text);
  }
  const auto missing = static_cast<std::uint64_t>(width - length);
  if (missing > rt.meter().left() / fill.size()) {
    return rt.OutOfMemory();
  }
  // CPython's rule for an odd rest: left when the width is odd.
  const std::uint64_t half = missing / 2 + (missing & static_cast<std::uint64_t>(width) & 1);
  const std::uint64_t left = pad == Side::kLeft ? missing : pad == Side::kRight ? 0 : half;
  StrBuilder out(rt.meter());
  for (std::uint64_t i = 0; i < left; ++i) {
    out.Append(fill);
  }
  out.Append(text);
  for (std::uint64_t i = left; i < missing; ++i) {
    out.Append(fill);
  }
  return rt.NewString(out);
}

}  // namespace pixii::text::jinja
