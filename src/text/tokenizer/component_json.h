// Reads the small parts of tokenizer.json: a place for messages, and fields with types and
// defaults.
//
// Thread: pure functions over values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::text {

/// Where in which file a value stands, for messages: "tokenizer.json: normalizer.normalizers[2]:
/// ...".
struct JsonPlace {
  std::string file;
  std::string path;

  JsonPlace Member(std::string_view name) const;
  JsonPlace Item(std::size_t index) const;

  tl::unexpected<Error> Refuse(std::string_view what, Code code = Code::kDataCorrupt) const;
  /// The component exists in Hugging Face's format, but is not built here.
  tl::unexpected<Error> Unsupported(std::string_view what) const;
};

/// The member `key` of `object`, `fallback` if it is absent or null. Errors: kDataCorrupt on
/// another type.
Result<bool> BoolField(const wire::Json& object, std::string_view key, bool fallback,
                       const JsonPlace& place);
Result<std::string> StringField(const wire::Json& object, std::string_view key,
                                std::string_view fallback, const JsonPlace& place);
/// Errors: kDataCorrupt also if the integer is outside [low, high].
Result<std::int64_t> IntField(const wire::Json& object, std::string_view key, std::int64_t fallback,
                              std::int64_t low, std::int64_t high, const JsonPlace& place);
/// The member must be there and an array.
Result<const wire::Json::Array*> ArrayField(const wire::Json& object, std::string_view key,
                                            const JsonPlace& place);
/// The "type" of a component. Errors: kDataCorrupt if `component` is no object or has no type.
Result<std::string> ComponentType(const wire::Json& component, const JsonPlace& place);

/// A search pattern: {"String": "..."} or {"Regex": "..."}.
struct PatternJson {
  std::string text;
  bool is_regex = false;
};

Result<PatternJson> PatternField(const wire::Json& object, std::string_view key,
                                 const JsonPlace& place);

}  // namespace pixii::text
