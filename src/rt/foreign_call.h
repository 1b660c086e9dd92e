// Calls into code that is not of this program, whose exceptions end where it was called.
//
// Thread: any; no state.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pixii::rt {

/// Runs `body`. What it throws is an error with `code` that says that `who` threw.
template <class Body>
Result<void> CallForeign(Code code, std::string_view who, Body body) {
  try {
    body();
    return {};
  } catch (const std::exception& thrown) {
    return Fail(code, std::string(who) + " threw: " + thrown.what());
  } catch (...) {
    return Fail(code, std::string(who) + " threw something that is no std::exception");
  }
}

}  // namespace pixii::rt
