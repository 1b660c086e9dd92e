// What is wrong with the answer of a direct call, beside what a lone engine says.
//
// Thread: functions without state.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sim/direct_call.h"

namespace pixii::sim {

struct DirectVerdict {
  std::vector<std::string> wrong;  // empty: all is as it has to be, but for `error`
  std::optional<Error> error;      // it ended with; whether it may, faults say
  bool cancelled = false;
};

/// Tokens, logprobs and ends are the expected ones, or the beginning of them where the caller gave
/// up, an error came or the call was lost.
DirectVerdict JudgeDirectCall(const DirectPlan& plan, const DirectReport& report,
                              const DirectReport& expected);

/// As clients of the HTTP surface know the code.
std::string_view NameOf(Code code);

}  // namespace pixii::sim
