#include "sim/direct_call.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace pixii::sim {

DirectCall::DirectCall(DirectPlan plan) : plan_(std::move(plan)) {
  report_.choices.resize(plan_.request.choice_count);
  live_ = plan_.request.choice_count;
}

void DirectCall::Start(rt::Loop& loop, control::WorkerLink& link) {
  const auto self = shared_from_this();
  Result<void> taken = link.Generate(
      plan_.request, [self](wire::TokenFrame frame) { self->OnFrame(std::move(frame)); });
  if (!taken) {
    report_.refusal = taken.error();
    report_.ended = true;
    return;
  }
  // The timers die with the loop, before the link.
  const RequestId id = plan_.request.id;
  if (plan_.cancel_after) {
    loop.RunAt(loop.Now() + *plan_.cancel_after, [self, id, &link, &loop] {
      if (!self->report_.ended) {
        self->report_.cancelled = loop.Now();
        link.Cancel({.id = id, .choice = std::nullopt});
      }
    });
  }
  if (plan_.cancel_choice_after) {
    loop.RunAt(loop.Now() + *plan_.cancel_choice_after, [self, id, &link] {
      if (!self->report_.ended) {
        link.Cancel({.id = id, .choice = 0});
      }
    });
  }
}

void DirectCall::Wrong(std::string what) {
  if (report_.wrong.empty()) {
    report_.wrong = std::move(what);
  }
}

void DirectCall::OnFrame(wire::TokenFrame frame) {
  if (frame.id != plan_.request.id || frame.choice >= report_.choices.size()) {
    return Wrong("a frame of another request or choice");
  }
  DirectChoice& choice = report_.choices[frame.choice];
  if (choice.finish) {
    return Wrong(fmt::format("a frame after the end of choice {}", frame.choice));
  }
  if (plan_.request.top_logprobs >= 0 ? frame.logprobs.size() != frame.tokens.size()
                                      : !frame.logprobs.empty()) {
    Wrong(fmt::format("{} logprobs of {} tokens", frame.logprobs.size(), frame.tokens.size()));
  }
  if (!frame.prompt_logprobs.empty()) {
    if (!report_.prompt_logprobs.empty()) {
      Wrong("the prompt's logprobs came twice");
    }
    report_.prompt_logprobs = std::move(frame.prompt_logprobs);
  }
  if (frame.choice == 0) {
    report_.cached_tokens += frame.cached_tokens;
  }
  std::ranges::copy(frame.tokens, std::back_inserter(choice.tokens));
  std::ranges::move(frame.logprobs, std::back_inserter(choice.logprobs));
  if (!frame.finish) {
    return;
  }
  choice.finish = frame.finish;
  choice.stop_token = frame.stop_token;
  choice.error = std::move(frame.error);
  if ((choice.finish == wire::FinishReason::kError) != choice.error.has_value()) {
    Wrong("an error without an end, or an end without its error");
  }
  report_.ended = --live_ == 0;
}

}  // namespace pixii::sim
