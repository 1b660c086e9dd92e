#include "support/kube_objects_check.h"

#include <algorithm>
#include <cctype>

#include "base/utf8.h"
#include "wire/base64.h"

namespace pixii::kube {

namespace {

using wire::Json;

constexpr std::size_t kConfigMapBytesMax = 1 << 20;
constexpr std::size_t kAnnotationBytesMax = 256 * 1024;

bool IsAlphanumeric(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

bool ConsistsOf(std::string_view text, std::string_view others) {
  return std::ranges::all_of(
      text, [&](char c) { return IsAlphanumeric(c) || others.find(c) != std::string_view::npos; });
}

// RFC 1123 subdomain.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 253 && ConsistsOf(text, "-.") &&
         IsAlphanumeric(text.front()) && IsAlphanumeric(text.back()) &&
         std::ranges::none_of(text, [](char c) { return c >= 'A' && c <= 'Z'; });
}

bool IsLabelText(std::string_view text) {
  return text.size() <= 63 && ConsistsOf(text, "-_.") &&
         (text.empty() || (IsAlphanumeric(text.front()) && IsAlphanumeric(text.back())));
}

bool IsLabelKey(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string_view name = slash == std::string_view::npos ? text : text.substr(slash + 1);
  return !name.empty() && IsLabelText(name) &&
         (slash == std::string_view::npos || IsName(text.substr(0, slash)));
}

std::optional<std::string> InvalidMetadata(const Json& object) {
  if (!IsName(Text(object, {"metadata", "name"}))) {
    return "metadata.name: a lowercase RFC 1123 subdomain is required";
  }
  if (const Json* labels = At(object, {"metadata", "labels"}); labels && labels->is_object()) {
    for (const auto& [key, value] : labels->object()) {
      if (!IsLabelKey(key) || !value.is_string() || !IsLabelText(value.string())) {
        return "metadata.labels: '" + key + "' or its value is no label";
      }
    }
  }
  std::size_t bytes = 0;
  if (const Json* notes = At(object, {"metadata", "annotations"}); notes && notes->is_object()) {
    for (const auto& [key, value] : notes->object()) {
      if (!IsLabelKey(key) || !value.is_string()) {
        return "metadata.annotations: '" + key + "' is no annotation";
      }
      bytes += key.size() + value.string().size();
    }
  }
  if (bytes > kAnnotationBytesMax) {
    return "metadata.annotations: too long";
  }
  if (const Json* owners = At(object, {"metadata", "ownerReferences"});
      owners && owners->is_array()) {
    for (const Json& owner : owners->array()) {
      for (const std::string_view member : {"apiVersion", "kind", "name", "uid"}) {
        if (Text(owner, {member}).empty()) {
          return "metadata.ownerReferences: " + std::string(member) + " is required";
        }
      }
    }
  }
  return std::nullopt;
}

std::optional<std::string> InvalidConfigMap(const Json& object) {
  std::size_t bytes = 0;
  for (const std::string_view member : {"data", "binaryData"}) {
    const Json* data = object.Find(member);
    if (data == nullptr || !data->is_object()) {
      continue;
    }
    for (const auto& [key, value] : data->object()) {
      if (key.empty() || key.size() > 253 || !ConsistsOf(key, "-_.") || !value.is_string()) {
        return std::string(member) + ": '" + key + "' cannot be a key";
      }
      std::string content = value.string();
      if (member == "binaryData") {
        const std::optional<std::string> decoded = wire::DecodeBase64(content);
        if (!decoded) {
          return "binaryData: illegal base64 data";
        }
        content = *decoded;
      } else if (!IsValidUtf8(content)) {
        return "data: not UTF-8";
      }
      bytes += content.size();
    }
  }
  if (bytes > kConfigMapBytesMax) {
    return "Too long: must have at most 1048576 bytes";
  }
  return std::nullopt;
}

// "2026-01-31T23:59:59.000001Z"
bool IsMicroTime(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-ddTdd:dd:dd.ddddddZ";
  return text.size() == kShape.size() && std::ranges::equal(text, kShape, [](char c, char shape) {
           return shape == 'd' ? c >= '0' && c <= '9' : c == shape;
         });
}

std::optional<std::string> InvalidLease(const Json& object) {
  const Json* duration = At(object, {"spec", "leaseDurationSeconds"});
  if (duration != nullptr && duration->AsInt().value_or(0) <= 0) {
    return "spec.leaseDurationSeconds: must be greater than 0";
  }
  for (const std::string_view member : {"acquireTime", "renewTime"}) {
    if (At(object, {"spec", member}) != nullptr && !IsMicroTime(Text(object, {"spec", member}))) {
      return "spec." + std::string(member) + ": no MicroTime";
    }
  }
  return std::nullopt;
}

std::optional<bool> MatchesOne(const Json* labels, std::string_view term) {
  const auto find = [&](std::string_view key) {
    return labels == nullptr ? nullptr : labels->Find(key);
  };
  const std::size_t equals = term.find('=');
  if (equals == std::string_view::npos) {
    const bool absent = term.starts_with('!');
    const std::string_view key = term.substr(absent ? 1 : 0);
    return IsLabelKey(key) ? std::optional((find(key) == nullptr) == absent) : std::nullopt;
  }
  const bool differs = equals > 0 && term[equals - 1] == '!';
  const std::string_view key = term.substr(0, differs ? equals - 1 : equals);
  std::string_view value = term.substr(equals + 1);
  value.remove_prefix(value.starts_with('=') ? 1 : 0);
  if (!IsLabelKey(key) || !IsLabelText(value)) {
    return std::nullopt;
  }
  const Json* label = find(key);
  return (label != nullptr && label->is_string() && label->string() == value) != differs;
}

}  // namespace

const Json* At(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* at = &json;
  for (const std::string_view name : path) {
    at = at == nullptr ? nullptr : at->Find(name);
  }
  return at;
}

std::string Text(const Json& json, std::initializer_list<std::string_view> path) {
  const Json* at = At(json, path);
  return at != nullptr && at->is_string() ? at->string() : std::string();
}

void SetMeta(Json& object, std::string_view name, Json value) {
  const Json* there = object.Find("metadata");
  Json metadata = there != nullptr && there->is_object() ? *there : Json(Json::Object{});
  metadata.Set(name, std::move(value));
  object.Set("metadata", std::move(metadata));
}

Json Sorted(const Json& json) {
  if (json.is_array()) {
    Json::Array out;
    for (const Json& item : json.array()) {
      out.push_back(Sorted(item));
    }
    return out;
  }
  if (!json.is_object()) {
    return json;
  }
  Json::Object out;
  for (const auto& [name, value] : json.object()) {
    out.emplace_back(name, Sorted(value));
  }
  std::ranges::sort(out, {}, &wire::JsonMember::first);
  return out;
}

Json MergePatch(const Json& target, const Json& patch) {
  if (!patch.is_object()) {
    return patch;
  }
  Json::Object merged;
  if (target.is_object()) {
    for (const auto& [name, value] : target.object()) {
      if (patch.Find(name) == nullptr) {
        merged.emplace_back(name, value);
      }
    }
  }
  for (const auto& [name, value] : patch.object()) {
    if (!value.is_null()) {
      const Json* before = target.Find(name);
      merged.emplace_back(name, MergePatch(before == nullptr ? Json() : *before, value));
    }
  }
  return merged;
}

std::optional<std::string> Invalid(const Json& object, std::string_view kind) {
  if (std::optional<std::string> wrong = InvalidMetadata(object)) {
    return wrong;
  }
  if (kind == "ConfigMap") {
    return InvalidConfigMap(object);
  }
  return kind == "Lease" ? InvalidLease(object) : std::nullopt;
}

std::optional<bool> Matches(const Json& object, std::string_view selector) {
  const Json* labels = At(object, {"metadata", "labels"});
  bool all = true;
  while (!selector.empty()) {
    const std::size_t comma = selector.find(',');
    const std::optional<bool> one = MatchesOne(labels, selector.substr(0, comma));
    if (!one) {
      return std::nullopt;
    }
    all = all && *one;
    selector.remove_prefix(comma == std::string_view::npos ? selector.size() : comma + 1);
  }
  return all;
}

}  // namespace pixii::kube
