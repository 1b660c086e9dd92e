// Typed, bounded reads from config.json: every refusal names file, key, value and what is allowed.
//
// Thread: values; a ConfigReader borrows the Json it reads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::model {

inline constexpr std::uint64_t kConfigSizeMax = std::uint64_t{4} << 20;  // bytes of config.json

/// Parses a config as Python's json would: bare NaN, Infinity and -Infinity are let through as the
/// strings "NaN", …, harmless where nobody reads them and refused with their key where a number is
/// wanted. Errors: kDataCorrupt with the byte offset.
Result<wire::Json> ParseConfigJson(std::string_view text, std::string_view file_name);

struct IntRange {
  std::int64_t min;
  std::int64_t max;
};

struct NumberRange {
  double min;
  double max;
};

/// One JSON object of a config. A key that is absent or null takes the default; without one it is
/// an error.
class ConfigReader final {
 public:
  /// `json` outlives the reader. `prefix`: "" or "rope_scaling.", for errors.
  ConfigReader(const wire::Json& json, std::string file_name, std::string prefix = {})
      : json_(&json), file_name_(std::move(file_name)), prefix_(std::move(prefix)) {}

  /// The member, or null if it is absent or null.
  const wire::Json* Find(std::string_view key) const;

  /// Whether the key stands in the object, null or not.
  bool Has(std::string_view key) const { return json_->Find(key) != nullptr; }

  Result<std::int64_t> Int(std::string_view key, IntRange range,
                           std::optional<std::int64_t> fallback = {}) const;
  Result<double> Number(std::string_view key, NumberRange range,
                        std::optional<double> fallback = {}) const;
  Result<bool> Bool(std::string_view key, bool fallback) const;
  Result<std::string> String(std::string_view key, std::optional<std::string> fallback = {}) const;
  Result<std::vector<std::string>> Strings(std::string_view key) const;
  /// An integer or a list of them; empty if absent.
  Result<std::vector<std::int64_t>> IntOrInts(std::string_view key) const;
  /// Reader of an object member. Pre: Find(key) is not null.
  Result<ConfigReader> Object(std::string_view key) const;

  /// kUnsupported naming file, key, value and `why`.
  tl::unexpected<Error> Unsupported(std::string_view key, std::string_view why) const;
  /// kInvalidArgument likewise.
  tl::unexpected<Error> Bad(std::string_view key, std::string_view why) const;

  const std::string& file_name() const { return file_name_; }

 private:
  tl::unexpected<Error> Refuse(Code code, std::string_view key, std::string_view why) const;

  const wire::Json* json_;
  std::string file_name_;
  std::string prefix_;
};

}  // namespace pixii::model
