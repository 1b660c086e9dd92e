// One request that two workers answer: its prompt is computed at the first, the rest at the second.
//
// Thread: a value; decides and does nothing. docs/kv_transfer.md
// The second worker gets the request as one that migrates: the tokens so far stand in it, and
// where the KV blocks of its prompt can be had. It needs none of them: what it does not get it
// computes, so that a death of either worker at any time costs time alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "frontend/fleet/prefill_path.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

class HandoverFlight final {
 public:
  struct Outcome {
    std::vector<wire::TokenFrame> frames;  // for whoever waits, in order
    /// To be sent to a decode worker once the frames are given, and then ended_choices cancelled.
    std::optional<wire::GenerateRequest> decode;
    /// To be sent to the worker that shall decode: blocks come while the prompt is computed.
    std::optional<wire::GenerateRequest> fetch;
    bool release = false;  // the prefill worker need keep nothing any more
    std::optional<PrefillPath> fell_back;
  };

  HandoverFlight(wire::GenerateRequest request, bool fallback);

  /// For the prefill worker.
  wire::GenerateRequest Prefill() const;

  /// For the worker that shall decode, before there is anything to decode: it brings what it can
  /// of the prompt's blocks into its cache, those of `record` too, and says how many are there.
  wire::GenerateRequest Fetch(std::string record) const;

  Outcome OnPrefillFrame(wire::TokenFrame frame);
  Outcome OnPrefillRefused(const Error& error);

  /// No prefill worker is asked.
  Outcome DecodeAlone() { return StartDecode({}); }

  /// Its client left before a worker had it.
  Outcome EndCancelled() { return EndAll(wire::FinishReason::kCancelled, std::nullopt); }

  Outcome OnDecodeFrame(wire::TokenFrame frame);
  Outcome OnDecodeRefused(const Error& error);

  void OnCancel(std::optional<std::uint32_t> choice);

  /// Choices that the decode worker need not go on with.
  std::vector<std::uint32_t> ended_choices() const;

  bool ended() const { return live_count_ == 0; }

  bool decodes() const { return decodes_; }

  const wire::GenerateRequest& request() const { return request_; }

 private:
  struct Choice {
    bool ended = false;
    bool cancelled = false;
    bool prefilled = false;  // it has its first token, others would follow
    bool has_frame = false;
  };

  static std::optional<PrefillPath> FallBackOf(Code code);
  Outcome StartDecode(Outcome outcome);
  Outcome EndKept(Outcome outcome);
  Outcome EndAll(wire::FinishReason finish, const std::optional<Error>& error);
  void Give(wire::TokenFrame frame, Outcome& outcome);

  wire::GenerateRequest request_;  // with all that its client has
  bool fallback_;
  std::vector<Choice> choices_;
  std::uint32_t live_count_;
  bool decodes_ = false;
  bool released_ = false;
  bool prompt_logprobs_sent_ = false;
};

}  // namespace pixii::frontend
