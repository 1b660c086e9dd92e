// Runs a beam search on a worker: in each round one request a beam, for one more token and the best
// tokens' logprobs. Prompt and beams share KV blocks by the worker's prefix cache.
//
// Thread: the frontend's loop.
// To its owner it behaves as one request of choice_count choices: each gets one frame, with all its
// tokens and its end.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/result.h"
#include "control/worker_link.h"
#include "frontend/beam_search.h"

namespace pixii::frontend {

struct BeamRun {
  wire::GenerateRequest request;  // prompt, rules, processors; choice_count texts are wanted
  BeamOptions options;
};

class BeamRunner final {
 public:
  using FrameHandler = control::WorkerLink::FrameHandler;

  /// `link` outlives it; it outlives its requests: its last frame is given when they have ended.
  BeamRunner(control::WorkerLink& link, std::function<RequestId()> next_id, BeamRun run,
             FrameHandler on_frame);

  BeamRunner(const BeamRunner&) = delete;
  BeamRunner& operator=(const BeamRunner&) = delete;

  /// Errors: those of WorkerLink::Generate; then no frame comes.
  Result<void> Start();
  /// Ends every choice with kCancelled, once the worker has.
  void Cancel();

 private:
  /// Whether a request of the round was taken; `failure_` says why not.
  bool StartRound();
  Error FailureOf(const Error& error) const;
  wire::GenerateRequest RequestFor(const Beam& beam) const;
  void OnFrame(std::size_t beam, wire::TokenFrame frame);
  void CancelOpen();
  void EndRound();
  void GiveTexts();
  void GiveEnd(wire::FinishReason reason, const std::optional<Error>& error);

  control::WorkerLink& link_;
  std::function<RequestId()> next_id_;
  BeamRun run_;
  FrameHandler on_frame_;
  BeamSearch search_;
  std::vector<BeamOffer> offers_;                   // [live beams]
  std::vector<std::optional<RequestId>> open_ids_;  // [live beams]
  std::uint32_t open_count_ = 0;
  std::uint32_t cached_tokens_ = 0;  // of the first request
  bool first_round_ = true;
  bool starting_ = false;
  bool cancelled_ = false;
  std::optional<Error> failure_;
};

}  // namespace pixii::frontend
