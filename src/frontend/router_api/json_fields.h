// Members of a JSON body by name and type. Absent and null are the same; what is not asked for is
// not looked at.
//
// Thread: functions. Errors of all: kInvalidArgument naming the member.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/json.h"

namespace pixii::frontend {

/// A request's body. Errors: also those of ParseJson.
Result<wire::Json> ObjectOf(std::string_view text);

/// A member that is an object; nullptr: it is not there.
Result<const wire::Json*> ObjectField(const wire::Json& body, std::string_view name);

Result<std::optional<std::string>> TextField(const wire::Json& body, std::string_view name);
Result<std::optional<bool>> BoolField(const wire::Json& body, std::string_view name);
Result<std::optional<double>> RealField(const wire::Json& body, std::string_view name);

/// A whole number of 64 bits; a negative one as its two's complement: other systems write hashes
/// so.
Result<std::optional<std::uint64_t>> WordField(const wire::Json& body, std::string_view name);

/// A whole number from `min` to `max`.
Result<std::optional<std::uint64_t>> CountField(const wire::Json& body, std::string_view name,
                                                std::uint64_t min, std::uint64_t max);

Result<std::optional<std::vector<std::uint64_t>>> WordsField(const wire::Json& body,
                                                             std::string_view name);
Result<std::optional<std::vector<TokenId>>> TokensField(const wire::Json& body,
                                                        std::string_view name);
Result<std::optional<std::vector<std::string>>> TextsField(const wire::Json& body,
                                                           std::string_view name);

/// Member names "0", "17": numbers.
Result<std::uint32_t> RankOfKey(std::string_view field, std::string_view key);

/// It must be there.
template <class T>
Result<T> Required(std::string_view name, Result<std::optional<T>> value) {
  if (!value) {
    return Fail(value.error());
  }
  if (!*value) {
    return Fail(Code::kInvalidArgument, std::string(name) + ": is missing", std::string(name));
  }
  return std::move(**value);
}

}  // namespace pixii::frontend
