// A caller of the simulation that stands where a surface of the frontend does: one request through
// its worker link, with everything that a request may ask for, and a judgement of the frames.
//
// Thread: its frontend's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/worker_link.h"
#include "rt/loop.h"
#include "wire/messages/generate.h"

namespace pixii::sim {

struct DirectPlan {
  wire::GenerateRequest request;
  std::optional<rt::Duration> cancel_after = {};         // all of it
  std::optional<rt::Duration> cancel_choice_after = {};  // choice 0
};

struct DirectChoice {
  std::vector<TokenId> tokens;
  std::vector<wire::TokenLogprob> logprobs;
  std::optional<wire::FinishReason> finish;
  std::optional<TokenId> stop_token;
  std::optional<Error> error;
};

struct DirectReport {
  std::vector<DirectChoice> choices;  // [n]
  std::vector<wire::TokenLogprob> prompt_logprobs;
  std::uint32_t cached_tokens = 0;  // of choice 0
  std::optional<Error> refusal;     // Generate said it
  std::string wrong;                // empty: every frame was one that may come
  bool ended = false;               // all of it
  rt::Time cancelled = rt::kNever;  // by its loop's clock
};

class DirectCall final : public std::enable_shared_from_this<DirectCall> {
 public:
  explicit DirectCall(DirectPlan plan);

  /// On the frontend's loop. `link` may go before the call has ended; then nothing more comes.
  void Start(rt::Loop& loop, control::WorkerLink& link);

  const DirectPlan& plan() const { return plan_; }

  const DirectReport& report() const { return report_; }

 private:
  void OnFrame(wire::TokenFrame frame);
  void Wrong(std::string what);

  DirectPlan plan_;
  DirectReport report_;
  std::uint32_t live_ = 0;
};

}  // namespace pixii::sim
