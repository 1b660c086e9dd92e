#include "text/tokenizer/component_json.h"

#include <fmt/format.h>

namespace pixii::text {

JsonPlace JsonPlace::Member(std::string_view name) const {
  return {file, path.empty() ? std::string(name) : fmt::format("{}.{}", path, name)};
}

JsonPlace JsonPlace::Item(std::size_t index) const {
  return {file, fmt::format("{}[{}]", path, index)};
}

tl::unexpected<Error> JsonPlace::Refuse(std::string_view what, Code code) const {
  return Fail(code, path.empty() ? fmt::format("{}: {}", file, what)
                                 : fmt::format("{}: {}: {}", file, path, what));
}

tl::unexpected<Error> JsonPlace::Unsupported(std::string_view what) const {
  return Refuse(fmt::format("{} is not supported", what), Code::kUnsupported);
}

namespace {

// Null if the member is absent or null.
const wire::Json* Present(const wire::Json& object, std::string_view key) {
  const wire::Json* value = object.Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

}  // namespace

Result<bool> BoolField(const wire::Json& object, std::string_view key, bool fallback,
                       const JsonPlace& place) {
  const wire::Json* value = Present(object, key);
  if (value == nullptr) {
    return fallback;
  }
  if (!value->is_bool()) {
    return place.Member(key).Refuse("must be true or false");
  }
  return value->boolean();
}

Result<std::string> StringField(const wire::Json& object, std::string_view key,
                                std::string_view fallback, const JsonPlace& place) {
  const wire::Json* value = Present(object, key);
  if (value == nullptr) {
    return std::string(fallback);
  }
  if (!value->is_string()) {
    return place.Member(key).Refuse("must be a string");
  }
  return value->string();
}

Result<std::int64_t> IntField(const wire::Json& object, std::string_view key, std::int64_t fallback,
                              std::int64_t low, std::int64_t high, const JsonPlace& place) {
  const wire::Json* value = Present(object, key);
  if (value == nullptr) {
    return fallback;
  }
  auto integer = value->AsInt();
  if (!integer || *integer < low || *integer > high) {
    return place.Member(key).Refuse(fmt::format("is {}, must be an integer in {} to {}",
                                                value->Dump().substr(0, 40), low, high));
  }
  return *integer;
}

Result<const wire::Json::Array*> ArrayField(const wire::Json& object, std::string_view key,
                                            const JsonPlace& place) {
  const wire::Json* value = object.Find(key);
  if (value == nullptr || !value->is_array()) {
    return place.Member(key).Refuse("must be a list");
  }
  return &value->array();
}

Result<std::string> ComponentType(const wire::Json& component, const JsonPlace& place) {
  const wire::Json* type = component.Find("type");
  if (type == nullptr || !type->is_string()) {
    return place.Refuse("must be an object with a \"type\"");
  }
  return type->string();
}

Result<PatternJson> PatternField(const wire::Json& object, std::string_view key,
                                 const JsonPlace& place) {
  const wire::Json* value = object.Find(key);
  if (value != nullptr) {
    for (bool is_regex : {false, true}) {
      const wire::Json* text = value->Find(is_regex ? "Regex" : "String");
      if (text != nullptr && text->is_string() && !text->string().empty()) {
        return PatternJson{text->string(), is_regex};
      }
    }
  }
  return place.Member(key).Refuse("must be {\"String\": ...} or {\"Regex\": ...}, not empty");
}

}  // namespace pixii::text
