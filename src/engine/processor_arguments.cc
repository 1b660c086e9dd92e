#include "engine/processor_arguments.h"

#include <algorithm>

#include <fmt/format.h>

namespace pixii::engine {

namespace {

tl::unexpected<Error> Refused(std::string_view name, std::string detail) {
  return Fail(Code::kInvalidArgument, fmt::format("{} {}", name, detail), std::string(name));
}

}  // namespace

const wire::Json* ArgumentReader::Take(std::string_view name) {
  read_.push_back(name);
  const wire::Json* value = object_.Find(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Result<void> ArgumentReader::Number(std::string_view name, const NumberRange& range, double& out) {
  const wire::Json* value = Take(name);
  if (value == nullptr) {
    return {};
  }
  std::optional<double> number = value->AsDouble();
  if (!number || *number < range.low || *number > range.high) {
    return Refused(name, fmt::format("is {}; allowed is {} to {}", value->Dump().substr(0, 60),
                                     range.low, range.high));
  }
  out = *number;
  return {};
}

Result<void> ArgumentReader::Integer(std::string_view name, const NumberRange& range,
                                     std::uint32_t& out) {
  const wire::Json* value = Take(name);
  if (value == nullptr) {
    return {};
  }
  std::optional<std::int64_t> number = value->AsInt();
  if (!number || static_cast<double>(*number) < range.low ||
      static_cast<double>(*number) > range.high) {
    return Refused(name, fmt::format("is {}; allowed is an integer from {} to {}",
                                     value->Dump().substr(0, 60), range.low, range.high));
  }
  out = static_cast<std::uint32_t>(*number);
  return {};
}

Result<void> ArgumentReader::Bool(std::string_view name, bool& out) {
  const wire::Json* value = Take(name);
  if (value == nullptr) {
    return {};
  }
  if (!value->is_bool()) {
    return Refused(name, "is neither true nor false");
  }
  out = value->boolean();
  return {};
}

Result<void> ArgumentReader::Text(std::string_view name, std::string& out) {
  const wire::Json* value = Take(name);
  if (value == nullptr) {
    return {};
  }
  if (!value->is_string()) {
    return Refused(name, "is not a string");
  }
  out = value->string();
  return {};
}

Result<std::vector<TokenId>> ArgumentReader::ReadTokens(std::string_view name,
                                                        const wire::Json& list,
                                                        std::uint32_t vocab_size) {
  if (!list.is_array() || list.array().size() > kTokensMax) {
    return Refused(name, fmt::format("must be a list of at most {} token ids", kTokensMax));
  }
  std::vector<TokenId> out;
  for (const wire::Json& item : list.array()) {
    std::optional<std::int64_t> id = item.AsInt();
    if (!id || *id < 0 || *id >= std::int64_t{vocab_size}) {
      return Refused(name, fmt::format("has {}; the vocabulary has {} tokens",
                                       item.Dump().substr(0, 60), vocab_size));
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return out;
}

Result<void> ArgumentReader::Tokens(std::string_view name, std::uint32_t vocab_size,
                                    std::vector<TokenId>& out) {
  const wire::Json* value = Take(name);
  if (value == nullptr) {
    return {};
  }
  PX_TRY(out, ReadTokens(name, *value, vocab_size));
  return {};
}

Result<void> ArgumentReader::TokenLists(std::string_view name, std::uint32_t vocab_size,
                                        std::vector<std::vector<TokenId>>& out) {
  const wire::Json* value = Take(name);
  if (value == nullptr) {
    return {};
  }
  if (!value->is_array() || value->array().size() > kTokensMax) {
    return Refused(name,
                   fmt::format("must be a list of at most {} lists of token ids", kTokensMax));
  }
  for (const wire::Json& item : value->array()) {
    PX_TRY(std::vector<TokenId> tokens, ReadTokens(name, item, vocab_size));
    if (tokens.empty()) {
      return Refused(name, "has an empty list");
    }
    out.push_back(std::move(tokens));
  }
  return {};
}

Result<void> ArgumentReader::Finish() const {
  for (const wire::JsonMember& member : object_.object()) {
    if (std::ranges::find(read_, std::string_view(member.first)) == read_.end()) {
      std::string known;
      for (std::string_view name : read_) {
        known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
      }
      return Refused(member.first.substr(0, 60),
                     fmt::format("is unknown; known are: {}", known.empty() ? "none" : known));
    }
  }
  return {};
}

}  // namespace pixii::engine
