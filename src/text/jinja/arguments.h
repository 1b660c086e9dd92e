// Reads the arguments of a built-in by position or name, as Python binds them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "text/jinja/runtime.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

/// Arguments come in order: Take("a"), Take("b"), ..., then Done(). Named ones may come in any
/// order.
class ArgumentReader final {
 public:
  ArgumentReader(Runtime& rt, std::string_view function, CallArgs& args)
      : rt_(&rt), function_(function), args_(&args) {}

  /// The next parameter, or a missing value.
  Value Take(std::string_view name);
  /// The same, as a flag by its truth.
  bool TakeFlag(std::string_view name, bool fallback);
  Result<Value> TakeRequired(std::string_view name);
  /// An integer; `none_is_absent`: None counts as not given.
  Result<std::optional<std::int64_t>> TakeInteger(std::string_view name);
  /// A str; nothing if absent or None.
  Result<std::optional<Str>> TakeString(std::string_view name);
  /// Fails if arguments are left over.
  Result<void> Done();

 private:
  Runtime* rt_;
  std::string_view function_;
  CallArgs* args_;
  std::size_t position_ = 0;
  std::size_t named_used_ = 0;
};

}  // namespace pixii::text::jinja
