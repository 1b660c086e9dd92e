// How many tokens each worker of a fleet can hold of a request, and so who is too small for which.
//
// Thread: a value. docs/running_a_fleet.md
// Workers of one model may differ in this: a smaller card, another --max-context.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/result.h"
#include "control/instance.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// Prompt and all that it may generate.
std::uint64_t ContextTokensOf(const wire::GenerateRequest& request);

class ContextLimits final {
 public:
  /// Prompt and output of a request that goes there; 0: nobody knows, anything may.
  void SetWorker(control::InstanceId instance, std::uint32_t tokens);
  void RemoveWorker(control::InstanceId instance);

  /// What the largest can hold; 0: there is none, or one has no limit.
  std::uint32_t largest() const { return largest_; }

  /// Workers that a request of so many tokens does not go to. O(1) if all can hold it.
  std::vector<control::InstanceId> TooSmallFor(std::uint64_t tokens) const;

  /// kTooLarge with the largest limit, if none can hold so many; of `pinned` alone, if it is here.
  std::optional<Error> Refusal(std::uint64_t tokens,
                               std::optional<control::InstanceId> pinned) const;

 private:
  void Measure();

  std::map<control::InstanceId, std::uint32_t> workers_;
  std::uint32_t largest_ = 0;
  std::uint32_t least_ = 0;  // of those with a limit; 0: none has one
};

}  // namespace pixii::frontend
