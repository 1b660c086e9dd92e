#include "model/config_reader.h"

#include <fmt/format.h>

#include <array>
#include <utility>

namespace pixii::model {
namespace {

constexpr std::size_t kValueQuoteMax = 120;  // bytes of a value repeated in an error

/// Puts quotes around the bare words that Python's json writes and JSON does not know.
std::string QuoteBareNumbers(std::string_view text) {
  constexpr std::array<std::string_view, 3> kWords = {"-Infinity", "Infinity", "NaN"};
  std::string out;
  out.reserve(text.size());
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      out.append(text.substr(i, 2));
      i += 2;
      continue;
    }
    in_string ^= c == '"';
    std::string_view word;
    if (!in_string && (c == '-' || c == 'I' || c == 'N')) {
      for (const std::string_view candidate : kWords) {
        if (text.substr(i).starts_with(candidate)) {
          word = candidate;
          break;
        }
      }
    }
    if (word.empty()) {
      out += c;
      ++i;
    } else {
      out.append("\"").append(word).append("\"");
      i += word.size();
    }
  }
  return out;
}

std::string Shown(const wire::Json* value) {
  if (value == nullptr) {
    return "null";
  }
  std::string text = value->Dump();
  if (text.size() > kValueQuoteMax) {
    text.resize(kValueQuoteMax);
    text += "…";
  }
  return text;
}

}  // namespace

Result<wire::Json> ParseConfigJson(std::string_view text, std::string_view file_name) {
  const wire::JsonLimits limits = {.depth_max = 32, .values_max = 1'000'000};
  auto json = wire::ParseJson(text, limits);
  if (!json && (text.find("NaN") != std::string_view::npos ||
                text.find("Infinity") != std::string_view::npos)) {
    auto tolerant = wire::ParseJson(QuoteBareNumbers(text), limits);
    if (tolerant) {
      json = std::move(tolerant);
    }
  }
  if (!json) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: {}", file_name, json.error().detail()),
                std::string(file_name));
  }
  if (!json->is_object()) {
    return Fail(Code::kDataCorrupt, fmt::format("{}: not a JSON object at byte 0", file_name),
                std::string(file_name));
  }
  return json;
}

const wire::Json* ConfigReader::Find(std::string_view key) const {
  const wire::Json* value = json_->Find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

Result<std::int64_t> ConfigReader::Int(std::string_view key, IntRange range,
                                       std::optional<std::int64_t> fallback) const {
  const wire::Json* value = Find(key);
  if (value == nullptr) {
    if (fallback) {
      return *fallback;
    }
    return Bad(key, "is required");
  }
  const auto number = value->is_number() ? value->AsInt() : std::nullopt;
  if (!number || *number < range.min || *number > range.max) {
    return Bad(key, fmt::format("is not an integer of {} to {}", range.min, range.max));
  }
  return *number;
}

Result<double> ConfigReader::Number(std::string_view key, NumberRange range,
                                    std::optional<double> fallback) const {
  const wire::Json* value = Find(key);
  if (value == nullptr) {
    if (fallback) {
      return *fallback;
    }
    return Bad(key, "is required");
  }
  const auto number = value->is_number() ? value->AsDouble() : std::nullopt;
  if (!number || !(*number >= range.min && *number <= range.max)) {
    return Bad(key, fmt::format("is not a number of {} to {}", range.min, range.max));
  }
  return *number;
}

Result<bool> ConfigReader::Bool(std::string_view key, bool fallback) const {
  const wire::Json* value = Find(key);
  if (value == nullptr) {
    return fallback;
  }
  if (!value->is_bool()) {
    return Bad(key, "is not true or false");
  }
  return value->boolean();
}

Result<std::string> ConfigReader::String(std::string_view key,
                                         std::optional<std::string> fallback) const {
  const wire::Json* value = Find(key);
  if (value == nullptr) {
    if (fallback) {
      return *std::move(fallback);
    }
    return Bad(key, "is required");
  }
  if (!value->is_string()) {
    return Bad(key, "is not a string");
  }
  return value->string();
}

Result<std::vector<std::string>> ConfigReader::Strings(std::string_view key) const {
  std::vector<std::string> out;
  const wire::Json* value = Find(key);
  if (value == nullptr) {
    return out;
  }
  if (!value->is_array()) {
    return Bad(key, "is not a list");
  }
  for (const wire::Json& item : value->array()) {
    if (!item.is_string()) {
      return Bad(key, "holds something that is not a string");
    }
    out.push_back(item.string());
  }
  return out;
}

Result<std::vector<std::int64_t>> ConfigReader::IntOrInts(std::string_view key) const {
  std::vector<std::int64_t> out;
  const wire::Json* value = Find(key);
  if (value == nullptr) {
    return out;
  }
  const auto add = [&](const wire::Json& item) {
    const auto number = item.is_number() ? item.AsInt() : std::nullopt;
    if (number) {
      out.push_back(*number);
    }
    return number.has_value();
  };
  if (!value->is_array()) {
    if (!add(*value)) {
      return Bad(key, "is neither an integer nor a list of them");
    }
    return out;
  }
  for (const wire::Json& item : value->array()) {
    if (!add(item)) {
      return Bad(key, "holds something that is not an integer");
    }
  }
  return out;
}

Result<ConfigReader> ConfigReader::Object(std::string_view key) const {
  const wire::Json* value = Find(key);
  if (value == nullptr || !value->is_object()) {
    return Bad(key, "is not an object");
  }
  return ConfigReader(*value, file_name_, prefix_ + std::string(key) + ".");
}

tl::unexpected<Error> ConfigReader::Unsupported(std::string_view key, std::string_view why) const {
  return Refuse(Code::kUnsupported, key, why);
}

tl::unexpected<Error> ConfigReader::Bad(std::string_view key, std::string_view why) const {
  return Refuse(Code::kInvalidArgument, key, why);
}

tl::unexpected<Error> ConfigReader::Refuse(Code code, std::string_view key,
                                           std::string_view why) const {
  return Fail(
      code, fmt::format("{}: {}{} = {} {}", file_name_, prefix_, key, Shown(json_->Find(key)), why),
      prefix_ + std::string(key));
}

}  // namespace pixii::model
