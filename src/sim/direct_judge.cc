#include "sim/direct_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

namespace pixii::sim {

namespace {

bool SameLogprob(const wire::TokenLogprob& a, const wire::TokenLogprob& b) {
  return a.logprob == b.logprob && a.top == b.top;
}

bool BeginsWith(std::span<const wire::TokenLogprob> whole,
                std::span<const wire::TokenLogprob> beginning) {
  return beginning.size() <= whole.size() &&
         std::ranges::equal(whole.first(beginning.size()), beginning, SameLogprob);
}

void JudgeChoice(std::uint32_t number, const DirectPlan& plan, const DirectChoice& got,
                 const DirectChoice& expected, DirectVerdict& verdict) {
  const auto wrong = [&](std::string what) {
    verdict.wrong.push_back(fmt::format("choice {}: {}; got [{}], expected [{}]", number, what,
                                        fmt::join(got.tokens, " "),
                                        fmt::join(expected.tokens, " ")));
  };
  const bool begins = got.tokens.size() <= expected.tokens.size() &&
                      std::equal(got.tokens.begin(), got.tokens.end(), expected.tokens.begin());
  if (!begins) {
    return wrong("other tokens");
  }
  if (!BeginsWith(expected.logprobs, got.logprobs)) {
    return wrong("other logprobs");
  }
  if (!got.finish) {
    return;
  }
  switch (*got.finish) {
    case wire::FinishReason::kStop:
    case wire::FinishReason::kLength:
      if (got.tokens.size() != expected.tokens.size() || got.finish != expected.finish ||
          got.stop_token != expected.stop_token) {
        wrong(fmt::format("ended with {}, expected {}", static_cast<int>(*got.finish),
                          static_cast<int>(*expected.finish)));
      }
      return;
    case wire::FinishReason::kCancelled:
      verdict.cancelled = true;
      if (!plan.cancel_after && !(plan.cancel_choice_after && number == 0)) {
        wrong("nobody cancelled it");
      }
      return;
    case wire::FinishReason::kError:
      if (expected.finish != wire::FinishReason::kError || !expected.error ||
          expected.error->code() != got.error->code()) {
        verdict.error = got.error;
      }
      return;
  }
}

}  // namespace

DirectVerdict JudgeDirectCall(const DirectPlan& plan, const DirectReport& report,
                              const DirectReport& expected) {
  DirectVerdict verdict;
  if (!report.wrong.empty()) {
    verdict.wrong.push_back(report.wrong);
  }
  if (expected.refusal) {
    for (const DirectChoice& choice : report.choices) {
      if (choice.finish && !choice.error) {
        verdict.wrong.push_back("it was taken; a lone engine says " + expected.refusal->ToString());
      } else if (choice.error && choice.error->code() != expected.refusal->code()) {
        verdict.error = choice.error;
      }
    }
    return verdict;
  }
  if (report.refusal) {
    verdict.error = report.refusal;
    return verdict;
  }
  for (std::uint32_t i = 0; i < report.choices.size(); ++i) {
    JudgeChoice(i, plan, report.choices[i], expected.choices[i], verdict);
  }
  if (!report.prompt_logprobs.empty() &&
      (report.prompt_logprobs.size() != expected.prompt_logprobs.size() ||
       !BeginsWith(expected.prompt_logprobs, report.prompt_logprobs))) {
    verdict.wrong.push_back("other logprobs of the prompt");
  }
  return verdict;
}

std::string_view NameOf(Code code) {
  switch (code) {
    case Code::kResourceExhausted:
      return "overloaded";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kDisconnected:
      return "disconnected";
    case Code::kShuttingDown:
      return "shutting_down";
    case Code::kRequestPoisoned:
      return "request_poisoned";
    case Code::kDeadlineExceeded:
      return "deadline_exceeded";
    default:
      return "another";
  }
}

}  // namespace pixii::sim
