#include "frontend/router_api/json_fields.h"

#include <charconv>

#include "frontend/field_error.h"

namespace pixii::frontend {

using wire::Json;

namespace {

const Json* Member(const Json& body, std::string_view name) {
  const Json* const member = body.Find(name);
  return member == nullptr || member->is_null() ? nullptr : member;
}

std::optional<std::uint64_t> Word(const Json& value) {
  if (!value.is_number()) {
    return std::nullopt;
  }
  const std::string& digits = value.digits();
  const char* const end = digits.data() + digits.size();
  std::uint64_t word = 0;
  if (const auto read = std::from_chars(digits.data(), end, word);
      read.ec == std::errc() && read.ptr == end) {
    return word;
  }
  std::int64_t negative = 0;
  if (const auto read = std::from_chars(digits.data(), end, negative);
      read.ec == std::errc() && read.ptr == end) {
    return static_cast<std::uint64_t>(negative);
  }
  return std::nullopt;
}

}  // namespace

Result<Json> ObjectOf(std::string_view text) {
  PX_TRY(Json body, wire::ParseJson(text));
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body is no JSON object");
  }
  return body;
}

Result<const Json*> ObjectField(const Json& body, std::string_view name) {
  const Json* const value = Member(body, name);
  if (value != nullptr && !value->is_object()) {
    return Bad(name, "is no object");
  }
  return value;
}

Result<std::optional<std::string>> TextField(const Json& body, std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<std::string>();
  }
  if (!value->is_string()) {
    return Bad(name, "is no text");
  }
  return std::optional(value->string());
}

Result<std::optional<bool>> BoolField(const Json& body, std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<bool>();
  }
  if (!value->is_bool()) {
    return Bad(name, "is neither true nor false");
  }
  return std::optional(value->boolean());
}

Result<std::optional<double>> RealField(const Json& body, std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<double>();
  }
  const std::optional<double> number = value->AsDouble();
  if (!number) {
    return Bad(name, "is no number");
  }
  return number;
}

Result<std::optional<std::uint64_t>> WordField(const Json& body, std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<std::uint64_t>();
  }
  const std::optional<std::uint64_t> word = Word(*value);
  if (!word) {
    return Bad(name, "is no whole number of 64 bits");
  }
  return word;
}

Result<std::optional<std::uint64_t>> CountField(const Json& body, std::string_view name,
                                                std::uint64_t min, std::uint64_t max) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<std::uint64_t>();
  }
  const std::optional<std::int64_t> number = value->is_number() ? value->AsInt() : std::nullopt;
  if (!number || *number < 0 || static_cast<std::uint64_t>(*number) < min ||
      static_cast<std::uint64_t>(*number) > max) {
    return Bad(name, fmt::format("is no whole number from {} to {}", min, max));
  }
  return std::optional(static_cast<std::uint64_t>(*number));
}

Result<std::optional<std::vector<std::uint64_t>>> WordsField(const Json& body,
                                                             std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<std::vector<std::uint64_t>>();
  }
  if (!value->is_array()) {
    return Bad(name, "is no list");
  }
  std::vector<std::uint64_t> out;
  for (const Json& item : value->array()) {
    const std::optional<std::uint64_t> word = Word(item);
    if (!word) {
      return Bad(name, "has what is no whole number of 64 bits");
    }
    out.push_back(*word);
  }
  return std::optional(std::move(out));
}

Result<std::optional<std::vector<TokenId>>> TokensField(const Json& body, std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<std::vector<TokenId>>();
  }
  if (!value->is_array()) {
    return Bad(name, "is no list");
  }
  std::vector<TokenId> out;
  for (const Json& item : value->array()) {
    const std::optional<std::int64_t> token = item.is_number() ? item.AsInt() : std::nullopt;
    if (!token || *token < 0 || *token > 0x7fffffff) {
      return Bad(name, "has what is no token id");
    }
    out.push_back(static_cast<TokenId>(*token));
  }
  return std::optional(std::move(out));
}

Result<std::optional<std::vector<std::string>>> TextsField(const Json& body,
                                                           std::string_view name) {
  const Json* const value = Member(body, name);
  if (value == nullptr) {
    return std::optional<std::vector<std::string>>();
  }
  if (!value->is_array()) {
    return Bad(name, "is no list");
  }
  std::vector<std::string> out;
  for (const Json& item : value->array()) {
    if (!item.is_string()) {
      return Bad(name, "has what is no text");
    }
    out.push_back(item.string());
  }
  return std::optional(std::move(out));
}

Result<std::uint32_t> RankOfKey(std::string_view field, std::string_view key) {
  std::uint32_t rank = 0;
  const auto read = std::from_chars(key.data(), key.data() + key.size(), rank);
  if (read.ec != std::errc() || read.ptr != key.data() + key.size()) {
    return Bad(field, "has a key that is no rank");
  }
  return rank;
}

}  // namespace pixii::frontend
