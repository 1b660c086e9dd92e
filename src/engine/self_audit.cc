#include "engine/self_audit.h"

#include <algorithm>

namespace pixii::engine {

namespace {

constexpr std::size_t kLiveMax = 64;
constexpr std::size_t kWaitingMax = 16;
constexpr std::uint32_t kInterruptionsMax = 32;

// What a processor does may depend on more than the request; what is pooled has no tokens.
bool CanBeRepeated(const wire::GenerateRequest& request) {
  return request.processors.empty() && !request.pool && !request.fetch_only &&
         request.stop.max_tokens > 0;
}

}  // namespace

void SelfAudit::Begin(const wire::GenerateRequest& request) {
  if (rate_ == 0 || !CanBeRepeated(request) || ++count_ % rate_ != 0) {
    return;
  }
  if (live_.size() >= kLiveMax) {
    ++counters_.given_up;
    return;
  }
  Drawn drawn{.request = request,
              .given = std::vector<Choice>(request.choice_count),
              .live_choices = request.choice_count};
  drawn.request.prompt_logprobs = false;
  drawn.request.top_logprobs = -1;
  drawn.request.deadline_left_ns = 0;
  live_.emplace(request.id, std::move(drawn));
}

void SelfAudit::Take(const wire::TokenFrame& frame) {
  const auto found = live_.find(frame.id);
  if (found == live_.end()) {
    return;
  }
  Drawn& drawn = found->second;
  Choice& choice = drawn.given[frame.choice];
  choice.tokens.insert(choice.tokens.end(), frame.tokens.begin(), frame.tokens.end());
  if (frame.finish) {
    choice.finish = frame.finish;
    if (--drawn.live_choices == 0) {
      Keep(std::move(drawn));
      live_.erase(found);
    }
  }
}

// A choice that its client stopped is compared as far as it got.
void SelfAudit::Keep(Drawn drawn) {
  std::size_t longest = 0;
  for (const Choice& choice : drawn.given) {
    longest = std::max(longest, choice.tokens.size());
    if (choice.finish == wire::FinishReason::kError) {
      return;
    }
  }
  const bool all_ended = std::ranges::none_of(drawn.given, [](const Choice& choice) {
    return choice.finish == wire::FinishReason::kCancelled;
  });
  if (longest == 0) {
    return;
  }
  if (waiting_.size() >= kWaitingMax) {
    ++counters_.given_up;
    return;
  }
  if (!all_ended) {
    std::size_t before = 0;
    for (const std::vector<TokenId>& tokens : drawn.request.generated) {
      before = std::max(before, tokens.size());
    }
    drawn.request.stop.max_tokens =
        std::min(drawn.request.stop.max_tokens, static_cast<std::uint32_t>(before + longest));
  }
  waiting_.push_back(std::move(drawn));
}

std::optional<wire::GenerateRequest> SelfAudit::Next() {
  if (running_ || waiting_.empty()) {
    return std::nullopt;
  }
  running_ = std::move(waiting_.front());
  waiting_.pop_front();
  recomputed_.assign(running_->request.choice_count, {});
  recomputed_live_ = running_->request.choice_count;
  wire::GenerateRequest request = running_->request;
  request.id = kAuditRequestId;
  return request;
}

std::optional<AuditMismatch> SelfAudit::TakeRecomputed(const wire::TokenFrame& frame) {
  if (!running_) {
    return std::nullopt;
  }
  Choice& choice = recomputed_[frame.choice];
  choice.tokens.insert(choice.tokens.end(), frame.tokens.begin(), frame.tokens.end());
  if (!frame.finish) {
    return std::nullopt;
  }
  choice.finish = frame.finish;
  if (frame.finish == wire::FinishReason::kError) {
    recomputed_live_ = 0;
    Refused();
    return std::nullopt;
  }
  if (--recomputed_live_ > 0) {
    return std::nullopt;
  }
  const std::optional<AuditMismatch> mismatch = Compare();
  ++(mismatch ? counters_.mismatches : counters_.equal);
  running_.reset();
  return mismatch;
}

std::optional<AuditMismatch> SelfAudit::Compare() const {
  for (std::uint32_t i = 0; i < recomputed_.size(); ++i) {
    const Choice& given = running_->given[i];
    const Choice& again = recomputed_[i];
    const bool cut = given.finish == wire::FinishReason::kCancelled;
    const std::size_t size =
        cut ? given.tokens.size() : std::max(given.tokens.size(), again.tokens.size());
    for (std::size_t at = 0; at < size; ++at) {
      const TokenId was = at < given.tokens.size() ? given.tokens[at] : -1;
      const TokenId is = at < again.tokens.size() ? again.tokens[at] : -1;
      if (was != is) {
        return AuditMismatch{.request = running_->request.id,
                             .choice = i,
                             .position = static_cast<std::uint32_t>(at),
                             .given = was,
                             .recomputed = is};
      }
    }
  }
  return std::nullopt;
}

void SelfAudit::Interrupted() {
  if (!running_) {
    return;
  }
  Drawn drawn = std::move(*running_);
  running_.reset();
  if (++drawn.interruptions > kInterruptionsMax) {
    ++counters_.given_up;
    return;
  }
  waiting_.push_front(std::move(drawn));
}

void SelfAudit::Refused() {
  if (running_) {
    ++counters_.given_up;
    running_.reset();
  }
}

}  // namespace pixii::engine
