#include "frontend/fleet/context_limits.h"

#include <fmt/format.h>

#include <algorithm>

namespace pixii::frontend {

std::uint64_t ContextTokensOf(const wire::GenerateRequest& request) {
  return std::uint64_t{request.prompt.size()} + request.stop.max_tokens;
}

void ContextLimits::SetWorker(control::InstanceId instance, std::uint32_t tokens) {
  workers_[instance] = tokens;
  Measure();
}

void ContextLimits::RemoveWorker(control::InstanceId instance) {
  workers_.erase(instance);
  Measure();
}

void ContextLimits::Measure() {
  least_ = 0;
  largest_ = 0;
  bool unlimited = false;
  for (const auto& [instance, tokens] : workers_) {
    unlimited = unlimited || tokens == 0;
    largest_ = std::max(largest_, tokens);
    least_ = tokens == 0 || (least_ > 0 && least_ < tokens) ? least_ : tokens;
  }
  largest_ = unlimited ? 0 : largest_;
}

std::vector<control::InstanceId> ContextLimits::TooSmallFor(std::uint64_t tokens) const {
  std::vector<control::InstanceId> out;
  if (least_ == 0 || tokens <= least_) {
    return out;
  }
  for (const auto& [instance, limit] : workers_) {
    if (limit > 0 && limit < tokens) {
      out.push_back(instance);
    }
  }
  return out;
}

std::optional<Error> ContextLimits::Refusal(std::uint64_t tokens,
                                            std::optional<control::InstanceId> pinned) const {
  const auto named = pinned ? workers_.find(*pinned) : workers_.end();
  const std::uint32_t limit = named != workers_.end() ? named->second : largest_;
  if (limit == 0 || tokens <= limit) {
    return std::nullopt;
  }
  return Error(
      Code::kTooLarge,
      fmt::format("max_tokens: the maximum context length {} is {} tokens, and prompt and "
                  "max_tokens are {}",
                  named != workers_.end() ? "of that worker" : "of any worker", limit, tokens),
      "max_tokens");
}

}  // namespace pixii::frontend
