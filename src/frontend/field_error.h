// Errors that blame one field of a request, for all surfaces.
//
// Thread: pure functions.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::frontend {

/// The value is not allowed.
inline tl::unexpected<Error> Bad(std::string_view field, std::string_view detail) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", field, detail), std::string(field));
}

/// The field exists in the API, but is not done here.
inline tl::unexpected<Error> NotDone(std::string_view field, std::string_view detail) {
  return Fail(Code::kUnsupported, fmt::format("{}: {}", field, detail), std::string(field));
}

inline tl::unexpected<Error> Unknown(std::string_view field) {
  return Fail(Code::kInvalidArgument, fmt::format("unknown field {}", field), std::string(field));
}

/// The name of a member in errors; a long key is cut.
inline std::string At(std::string_view at, std::string_view key) {
  return fmt::format("{}.{}", at, key.substr(0, 60));
}

}  // namespace pixii::frontend
