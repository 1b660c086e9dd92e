#include "frontend/field_names.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace pixii::frontend {

namespace {

constexpr std::string_view kAnyIndex = "[]";
constexpr std::string_view kUnknown = "unknown field ";

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsOfPath(char c) {
  return IsLetter(c) || IsDigit(c) || c == '_' || c == '.' || c == '[' || c == ']';
}

// "[12]" off the front of `field`; empty: it does not begin with an index.
std::string_view TakeIndex(std::string_view& field) {
  std::size_t size = field.starts_with('[') ? 1 : 0;
  while (size > 0 && size < field.size() && IsDigit(field[size])) {
    ++size;
  }
  if (size < 2 || size == field.size() || field[size] != ']') {
    return {};
  }
  const std::string_view index = field.substr(0, size + 1);
  field.remove_prefix(index.size());
  return index;
}

// `field` by `name`; nothing if it is another field.
std::optional<std::string> Apply(const FieldName& name, std::string_view field) {
  std::vector<std::string_view> indexes;
  std::string_view inner = name.inner;
  while (!inner.empty()) {
    if (inner.starts_with(kAnyIndex)) {
      indexes.push_back(TakeIndex(field));
      if (indexes.back().empty()) {
        return std::nullopt;
      }
      inner.remove_prefix(kAnyIndex.size());
    } else if (field.empty() || field.front() != inner.front()) {
      return std::nullopt;
    } else {
      inner.remove_prefix(1);
      field.remove_prefix(1);
    }
  }
  if (!field.empty() && field.front() != '.' && field.front() != '[') {
    return std::nullopt;
  }
  std::string out;
  std::string_view outer = name.outer;
  for (std::string_view index : indexes) {
    const std::size_t place = outer.find(kAnyIndex);
    if (place == std::string_view::npos) {
      break;
    }
    out.append(outer.substr(0, place)).append(index);
    outer.remove_prefix(place + kAnyIndex.size());
  }
  return out.append(outer).append(field);
}

// From an opening double quote to behind its closing one, or to the end.
std::size_t QuotedSize(std::string_view text) {
  std::size_t size = 1;
  while (size < text.size() && text[size] != '"') {
    size += text[size] == '\\' ? 2 : 1;
  }
  return std::min(size + 1, text.size());
}

// A path, without the full stop that ends a sentence.
std::size_t PathSize(std::string_view text) {
  std::size_t size = 0;
  while (size < text.size() && IsOfPath(text[size])) {
    ++size;
  }
  while (size > 0 && text[size - 1] == '.') {
    --size;
  }
  return size;
}

}  // namespace

std::string FieldNames::Of(std::string_view field) const {
  std::string out(field);
  std::size_t longest = 0;
  for (const FieldName& name : names_) {
    if (name.inner.size() > longest) {
      if (std::optional<std::string> named = Apply(name, field)) {
        out = std::move(*named);
        longest = name.inner.size();
      }
    }
  }
  return out;
}

std::string FieldNames::Sentence(std::string_view text) const {
  std::string out;
  while (!text.empty()) {
    std::size_t size = 1;
    if (text.front() == '"') {
      size = QuotedSize(text);
      out += text.substr(0, size);
    } else if (IsLetter(text.front()) || text.front() == '_') {
      size = PathSize(text);
      const std::string_view word = text.substr(0, size);
      out += word.find_first_of("_.[") != std::string_view::npos ? Of(word) : std::string(word);
    } else {
      out += text.front();
    }
    text.remove_prefix(size);
  }
  return out;
}

Error FieldNames::InCallersWords(const Error& error) const {
  std::string_view rest = error.detail();
  const std::string_view param = error.param();
  std::string outer = Of(param);
  std::string detail;
  if (rest.starts_with(kUnknown)) {
    const bool quoted = rest.substr(kUnknown.size()).starts_with('"');
    const std::string_view shown = rest.substr(kUnknown.size() + (quoted ? 1 : 0));
    if (!param.empty() && shown.starts_with(param)) {
      detail = std::string(rest.substr(0, rest.size() - shown.size())) + outer;
      rest = shown.substr(param.size());
    }
  } else if (!param.empty() && rest.starts_with(param) &&
             rest.substr(param.size()).starts_with(':')) {
    detail = outer;
    rest.remove_prefix(param.size());
  }
  detail += Sentence(rest);
  return Error(error.code(), std::move(detail), std::move(outer));
}

FieldNames FieldNames::Then(const FieldNames& outer) const {
  FieldNames out;
  for (const FieldName& name : names_) {
    out.Add({.inner = name.inner, .outer = outer.Of(name.outer)});
  }
  out.names_.insert(out.names_.end(), outer.names_.begin(), outer.names_.end());
  return out;
}

}  // namespace pixii::frontend
