// JSON as a value: objects keep their order, numbers keep their digits, duplicate keys are refused.
//
// Thread: values. Source: RFC 8259; the parser is Boost.JSON's basic_parser, seen by json.cc alone.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace pixii::wire {

class Json;
using JsonMember = std::pair<std::string, Json>;

class Json final {
 public:
  enum class Kind : std::uint8_t { kNull, kBool, kNumber, kString, kArray, kObject };
  using Array = std::vector<Json>;
  using Object = std::vector<JsonMember>;

  Json() = default;

  Json(bool value) : value_(value) {}  // NOLINT(google-explicit-constructor): literals read as JSON

  Json(std::string value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  Json(std::string_view value)
      : value_(std::string(value)) {}  // NOLINT(google-explicit-constructor)

  Json(const char* value) : value_(std::string(value)) {}  // NOLINT(google-explicit-constructor)

  Json(Array value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  Json(Object value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  Json(std::int64_t value);   // NOLINT(google-explicit-constructor)
  Json(int value);            // NOLINT(google-explicit-constructor)
  Json(std::uint64_t value);  // NOLINT(google-explicit-constructor)
  Json(double value);         // NOLINT(google-explicit-constructor) shortest digits that round-trip

  /// A number with exactly these digits. Pre: `digits` is a JSON number.
  static Json Number(std::string digits);

  Kind kind() const { return static_cast<Kind>(value_.index()); }

  bool is_null() const { return kind() == Kind::kNull; }

  bool is_bool() const { return kind() == Kind::kBool; }

  bool is_number() const { return kind() == Kind::kNumber; }

  bool is_string() const { return kind() == Kind::kString; }

  bool is_array() const { return kind() == Kind::kArray; }

  bool is_object() const { return kind() == Kind::kObject; }

  /// Pre (asserted): the kind matches.
  bool boolean() const;
  const std::string& string() const;
  const Array& array() const;
  const Object& object() const;
  Array& array();
  Object& object();
  /// The digits as they stood in the text, for example "1.50" or "12345678901234567890".
  const std::string& digits() const;

  /// The number as an integer; nothing if it has a fraction or exponent that is not integral, or
  /// does not fit.
  std::optional<std::int64_t> AsInt() const;
  /// The nearest double; nothing if this is no number or it is past the range of double.
  std::optional<double> AsDouble() const;
  /// True if the digits have neither fraction nor exponent: Python would parse them as int.
  bool IsIntegerLiteral() const;

  /// Member `key` of an object, or null if this is no object or has no such key. O(members).
  const Json* Find(std::string_view key) const;
  /// Appends or replaces a member. Pre: this is an object or null (which becomes one).
  Json& Set(std::string_view key, Json value);

  /// Compact text: no spaces, UTF-8 kept as it is, control characters escaped.
  std::string Dump() const;

  friend bool operator==(const Json&, const Json&) = default;

 private:
  struct Digits {
    std::string text;
    friend bool operator==(const Digits&, const Digits&) = default;
  };

  std::variant<std::monostate, bool, Digits, std::string, Array, Object> value_;
};

struct JsonLimits {
  std::uint32_t depth_max = 128;          // nested arrays and objects
  std::uint64_t values_max = 16'000'000;  // values of the whole document
};

/// Parses exactly one JSON text. Errors: kInvalidArgument with the byte offset and what was met
/// there; refused: trailing bytes, duplicate keys (escaped ones too), invalid UTF-8, lone
/// surrogates, a byte-order mark.
Result<Json> ParseJson(std::string_view text, const JsonLimits& limits = {});

/// Appends `text` as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD.
void AppendJsonString(std::string& out, std::string_view text);

}  // namespace pixii::wire
