#include "sim/kube_schema.h"

#include <fmt/format.h>
#include <regex.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "sim/kube_objects_check.h"

namespace pixii::kube {

namespace {

using wire::Json;
using Faults = std::vector<std::string>;

constexpr std::array<std::string_view, 19> kKeywords = {
    "type",         "properties", "additionalProperties",
    "items",        "required",   "enum",
    "minimum",      "maximum",    "pattern",
    "minLength",    "maxLength",  "minItems",
    "maxItems",     "default",    "description",
    "nullable",     "format",     "maxProperties",
    "minProperties"};
constexpr std::array<std::string_view, 6> kTypes = {"object",  "array",  "string",
                                                    "integer", "number", "boolean"};

bool Says(const Json& schema, std::string_view extension) {
  const Json* found = schema.Find(extension);
  return found != nullptr && found->is_bool() && found->boolean();
}

bool IsIntOrString(const Json& schema) { return Says(schema, "x-kubernetes-int-or-string"); }

bool KeepsUnknown(const Json& schema) {
  return Says(schema, "x-kubernetes-preserve-unknown-fields");
}

std::string Join(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
}

/// The schema of a member, or null; `open`: any member is fine.
const Json* SchemaOf(const Json& schema, std::string_view name) {
  if (const Json* found = At(schema, {"properties", name})) {
    return found;
  }
  const Json* more = schema.Find("additionalProperties");
  return more != nullptr && more->is_object() ? more : nullptr;
}

void CheckStructure(const Json& schema, const std::string& path, Faults& faults) {
  if (!schema.is_object()) {
    faults.push_back(fmt::format("{}: no schema", path));
    return;
  }
  for (const auto& [name, value] : schema.object()) {
    if (!name.starts_with("x-kubernetes-") &&
        std::ranges::find(kKeywords, name) == kKeywords.end()) {
      faults.push_back(fmt::format("{}: {} is not known", path, name));
    }
  }
  const std::string type = Text(schema, {"type"});
  const bool untyped = IsIntOrString(schema) || (type.empty() && KeepsUnknown(schema));
  if (untyped ? !type.empty() : std::ranges::find(kTypes, type) == kTypes.end()) {
    faults.push_back(fmt::format("{}: type \"{}\"", path, type));
  }
  if (schema.Find("properties") != nullptr && schema.Find("additionalProperties") != nullptr) {
    faults.push_back(
        fmt::format("{}: properties and additionalProperties exclude each other", path));
  }
  if (type == "array" && schema.Find("items") == nullptr) {
    faults.push_back(fmt::format("{}: items is required", path));
  }
  if (const Json* properties = schema.Find("properties")) {
    for (const auto& [name, value] : properties->object()) {
      CheckStructure(value, Join(path, name), faults);
    }
  }
  if (const Json* more = schema.Find("additionalProperties"); more && more->is_object()) {
    CheckStructure(*more, path + ".*", faults);
  }
  if (const Json* items = schema.Find("items")) {
    CheckStructure(*items, path + "[]", faults);
  }
  if (const Json* required = schema.Find("required"); required && required->is_array()) {
    for (const Json& name : required->array()) {
      if (!name.is_string() || At(schema, {"properties", name.string()}) == nullptr) {
        faults.push_back(fmt::format("{}: requires what it does not have", path));
      }
    }
  }
}

bool HasType(const Json& value, std::string_view type) {
  return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
         (type == "string" && value.is_string()) || (type == "boolean" && value.is_bool()) ||
         (type == "number" && value.is_number()) ||
         (type == "integer" && value.is_number() && value.AsInt().has_value());
}

bool Fits(const std::string& text, const std::string& pattern) {
  regex_t compiled;
  if (regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
    return false;
  }
  const bool fits = regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  regfree(&compiled);
  return fits;
}

/// A bound of `schema`, where it has one.
void CheckBound(const Json& schema, std::string_view name, double value, bool is_least,
                const std::string& path, Faults& faults) {
  const Json* bound = schema.Find(name);
  const double limit = bound == nullptr ? value : bound->AsDouble().value_or(value);
  if (is_least ? value < limit : value > limit) {
    faults.push_back(fmt::format("{}: {} is beyond {} {}", path, value, name, limit));
  }
}

void CheckValue(const Json& schema, const Json& value, const std::string& path, Faults& faults);

void CheckObject(const Json& schema, const Json& value, const std::string& path, Faults& faults) {
  for (const auto& [name, member] : value.object()) {
    if (const Json* of_member = SchemaOf(schema, name)) {
      CheckValue(*of_member, member, Join(path, name), faults);
    }
  }
  if (const Json* required = schema.Find("required"); required && required->is_array()) {
    for (const Json& name : required->array()) {
      if (value.Find(name.string()) == nullptr) {
        faults.push_back(fmt::format("{}: Required value", Join(path, name.string())));
      }
    }
  }
}

void CheckArray(const Json& schema, const Json& value, const std::string& path, Faults& faults) {
  const auto count = static_cast<double>(value.array().size());
  CheckBound(schema, "minItems", count, true, path, faults);
  CheckBound(schema, "maxItems", count, false, path, faults);
  std::set<std::string> keys;
  for (std::size_t i = 0; i < value.array().size(); ++i) {
    const Json& item = value.array()[i];
    CheckValue(*schema.Find("items"), item, fmt::format("{}[{}]", path, i), faults);
    if (Text(schema, {"x-kubernetes-list-type"}) == "map") {
      std::string key;
      for (const Json& name : schema.Find("x-kubernetes-list-map-keys")->array()) {
        key += Text(item, {name.string()}) + "\n";
      }
      if (!keys.insert(key).second) {
        faults.push_back(fmt::format("{}[{}]: Duplicate value", path, i));
      }
    }
  }
}

void CheckString(const Json& schema, const Json& value, const std::string& path, Faults& faults) {
  const auto size = static_cast<double>(value.string().size());
  CheckBound(schema, "minLength", size, true, path, faults);
  CheckBound(schema, "maxLength", size, false, path, faults);
  const std::string pattern = Text(schema, {"pattern"});
  if (!pattern.empty() && !Fits(value.string(), pattern)) {
    faults.push_back(fmt::format("{}: \"{}\" should match '{}'", path, value.string(), pattern));
  }
}

void CheckValue(const Json& schema, const Json& value, const std::string& path, Faults& faults) {
  if (value.is_null() && Says(schema, "nullable")) {
    return;
  }
  if (IsIntOrString(schema)) {
    if (!value.is_string() && !HasType(value, "integer")) {
      faults.push_back(fmt::format("{}: must be of type integer or string", path));
    }
    return;
  }
  const std::string type = Text(schema, {"type"});
  if (!type.empty() && !HasType(value, type)) {
    faults.push_back(fmt::format("{}: must be of type {}", path, type));
    return;
  }
  if (const Json* words = schema.Find("enum");
      words != nullptr && std::ranges::find(words->array(), value) == words->array().end()) {
    faults.push_back(fmt::format("{}: Unsupported value: {}", path, value.Dump()));
  }
  if (value.is_object()) {
    CheckObject(schema, value, path, faults);
  } else if (value.is_array() && schema.Find("items") != nullptr) {
    CheckArray(schema, value, path, faults);
  } else if (value.is_string()) {
    CheckString(schema, value, path, faults);
  } else if (value.is_number()) {
    CheckBound(schema, "minimum", value.AsDouble().value_or(0), true, path, faults);
    CheckBound(schema, "maximum", value.AsDouble().value_or(0), false, path, faults);
  }
}

void FindUnknown(const Json& schema, const Json& value, const std::string& path, Faults& unknown) {
  if (value.is_array() && schema.Find("items") != nullptr) {
    for (std::size_t i = 0; i < value.array().size(); ++i) {
      FindUnknown(*schema.Find("items"), value.array()[i], fmt::format("{}[{}]", path, i), unknown);
    }
  }
  if (!value.is_object()) {
    return;
  }
  for (const auto& [name, member] : value.object()) {
    if (const Json* of_member = SchemaOf(schema, name)) {
      FindUnknown(*of_member, member, Join(path, name), unknown);
    } else if (!KeepsUnknown(schema)) {
      unknown.push_back(Join(path, name));
    }
  }
}

}  // namespace

Faults NotStructural(const Json& schema) {
  Faults faults;
  CheckStructure(schema, "", faults);
  return faults;
}

Faults SchemaFaults(const Json& schema, const Json& value) {
  Faults faults;
  CheckValue(schema, value, "", faults);
  return faults;
}

Faults UnknownFields(const Json& schema, const Json& value) {
  Faults unknown;
  FindUnknown(schema, value, "", unknown);
  // Every object has these, whatever its schema says.
  std::erase_if(unknown, [](const std::string& path) {
    return path == "apiVersion" || path == "kind" || path.starts_with("metadata");
  });
  return unknown;
}

Json Completed(const Json& schema, const Json& value) {
  if (value.is_array() && schema.Find("items") != nullptr) {
    Json::Array out;
    for (const Json& item : value.array()) {
      out.push_back(Completed(*schema.Find("items"), item));
    }
    return out;
  }
  if (!value.is_object()) {
    return value;
  }
  Json out = Json::Object{};
  for (const auto& [name, member] : value.object()) {
    if (const Json* of_member = SchemaOf(schema, name)) {
      out.Set(name, Completed(*of_member, member));
    } else if (KeepsUnknown(schema)) {
      out.Set(name, member);
    }
  }
  if (const Json* properties = schema.Find("properties")) {
    for (const auto& [name, of_member] : properties->object()) {
      const Json* usual = of_member.Find("default");
      if (usual != nullptr && out.Find(name) == nullptr) {
        out.Set(name, *usual);
      }
    }
  }
  return out;
}

}  // namespace pixii::kube
