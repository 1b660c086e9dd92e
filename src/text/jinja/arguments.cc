#include "text/jinja/arguments.h"

#include <fmt/format.h>

#include <utility>

namespace pixii::text::jinja {

Value ArgumentReader::Take(std::string_view name) {
  if (position_ < args_->positional.size()) {
    return std::move(args_->positional[position_++]);
  }
  for (auto& [key, value] : args_->named) {
    if (key.view() == name && !value.missing()) {
      ++named_used_;
      return std::exchange(value, Value());
    }
  }
  return {};
}

bool ArgumentReader::TakeFlag(std::string_view name, bool fallback) {
  const Value value = Take(name);
  return value.missing() ? fallback : Truthy(value);
}

Result<Value> ArgumentReader::TakeRequired(std::string_view name) {
  Value value = Take(name);
  if (value.missing()) {
    return rt_->Raise("TypeError",
                      fmt::format("{}() missing the required argument '{}'", function_, name));
  }
  return value;
}

Result<std::optional<std::int64_t>> ArgumentReader::TakeInteger(std::string_view name) {
  const Value value = Take(name);
  if (value.missing() || value.is_none()) {
    return std::optional<std::int64_t>();
  }
  if (const auto whole = value.AsInt()) {
    return whole;
  }
  if (value.is_undefined()) {
    return rt_->UseOf(value);
  }
  return rt_->Raise(
      "TypeError", fmt::format("'{}' object cannot be interpreted as an integer", TypeName(value)));
}

Result<std::optional<Str>> ArgumentReader::TakeString(std::string_view name) {
  const Value value = Take(name);
  if (value.missing() || value.is_none()) {
    return std::optional<Str>();
  }
  if (value.is_string()) {
    return std::optional<Str>(value.str());
  }
  return rt_->Raise("TypeError", fmt::format("{}() argument '{}' must be str, not {}", function_,
                                             name, TypeName(value)));
}

Result<void> ArgumentReader::Done() {
  if (position_ < args_->positional.size()) {
    return rt_->Raise("TypeError", fmt::format("{}() takes at most {} arguments ({} given)",
                                               function_, position_, args_->positional.size()));
  }
  if (named_used_ < args_->named.size()) {
    for (const auto& [key, value] : args_->named) {
      if (!value.missing()) {
        return rt_->Raise("TypeError", fmt::format("{}() got an unexpected keyword argument '{}'",
                                                   function_, key.view()));
      }
    }
  }
  return {};
}

}  // namespace pixii::text::jinja
