// Methods of str, list, tuple and dict that templates may call, by name.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "text/jinja/value.h"

namespace pixii::text::jinja {

class Runtime;

enum class MethodKind : std::uint8_t {
  kNone,         // Python's type has no such method
  kSafe,         // `call` is it
  kUnsafe,       // it would change its object: the sandbox refuses it
  kUnsupported,  // Python has it, this engine has not
};

struct MethodLookup {
  MethodKind kind = MethodKind::kNone;
  std::string_view name = {};  // static
  Method::Call call = nullptr;
};

MethodLookup FindMethod(const Value& object, std::string_view name);

/// The parts of FindMethod, one per type.
MethodLookup FindStringMethod(std::string_view name);
MethodLookup FindContainerMethod(Type type, std::string_view name);

}  // namespace pixii::text::jinja
