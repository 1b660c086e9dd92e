#include "frontend/fleet/handover_flight.h"

#include <algorithm>
#include <utility>

namespace pixii::frontend {

HandoverFlight::HandoverFlight(wire::GenerateRequest request, bool fallback)
    : request_(std::move(request)),
      fallback_(fallback),
      choices_(request_.choice_count),
      live_count_(request_.choice_count) {
  request_.generated.resize(request_.choice_count);
  request_.states.resize(request_.choice_count);
}

// A worker or rank that the client named is the one that decodes.
wire::GenerateRequest HandoverFlight::Prefill() const {
  wire::GenerateRequest out = request_;
  out.prefill_only = true;
  out.stop.max_tokens = 1;
  out.stop.min_tokens = std::min<std::uint32_t>(out.stop.min_tokens, 1);
  out.early_handover = !request_.prefill_only;  // else nobody is known yet who would take it
  out.dp_rank.reset();
  if (out.routing) {
    out.routing->worker.reset();
  }
  return out;
}

// What does not decide which blocks these are stays away. A worker that does not know of such
// requests computes one token for nobody.
wire::GenerateRequest HandoverFlight::Fetch(std::string record) const {
  wire::GenerateRequest out = request_;
  out.fetch_only = true;
  out.prefill_only = false;
  out.handover = std::move(record);
  out.choice_count = 1;
  out.generated.clear();
  out.states.clear();
  out.stop = {};
  out.stop.max_tokens = 1;
  out.sampling = {};
  out.top_logprobs = -1;
  out.prompt_logprobs = false;
  out.processors.clear();
  out.constraint.reset();
  if (!out.routing) {
    out.routing.emplace();
  }
  out.routing->instead.track_prefill_tokens = false;
  return out;
}

std::optional<PrefillPath> HandoverFlight::FallBackOf(Code code) {
  switch (code) {
    case Code::kUnavailable:
    case Code::kDisconnected:
    case Code::kShuttingDown:
      return PrefillPath::kUnavailable;
    case Code::kResourceExhausted:
      return PrefillPath::kOverloaded;
    default:
      return std::nullopt;
  }
}

void HandoverFlight::Give(wire::TokenFrame frame, Outcome& outcome) {
  Choice& choice = choices_[frame.choice];
  std::vector<TokenId>& generated = request_.generated[frame.choice];
  generated.insert(generated.end(), frame.tokens.begin(), frame.tokens.end());
  if (!frame.tokens.empty()) {
    request_.states[frame.choice] = frame.state;
  }
  if (!frame.adapter_version.empty()) {
    request_.adapter_version = frame.adapter_version;
  }
  if (std::exchange(choice.has_frame, true)) {  // the second worker's first is not the client's
    frame.cached_tokens = 0;
  }
  if (prompt_logprobs_sent_) {
    frame.prompt_logprobs.clear();
  }
  prompt_logprobs_sent_ |= !frame.prompt_logprobs.empty();
  if (frame.finish) {
    choice.ended = true;
    --live_count_;
  }
  outcome.frames.push_back(std::move(frame));
}

HandoverFlight::Outcome HandoverFlight::OnPrefillFrame(wire::TokenFrame frame) {
  Outcome outcome;
  if (decodes_ || choices_[frame.choice].ended) {
    return outcome;
  }
  if (frame.finish == wire::FinishReason::kError && frame.error && fallback_) {
    if (const std::optional<PrefillPath> path = FallBackOf(frame.error->code())) {
      outcome.fell_back = path;
      return StartDecode(std::move(outcome));
    }
  }
  if (!frame.early_handover.empty() && !request_.prefill_only) {
    outcome.fetch = Fetch(std::move(frame.early_handover));
  }
  frame.early_handover.clear();
  request_.handover = std::move(frame.handover);
  frame.handover.clear();
  Choice& choice = choices_[frame.choice];
  if (frame.finish == wire::FinishReason::kLength) {  // of one token: that is no end of the answer
    choice.prefilled = true;
    frame.finish.reset();
  }
  const bool says_more = frame.finish || !frame.tokens.empty() || !frame.prompt_logprobs.empty();
  if (says_more) {
    Give(std::move(frame), outcome);
  }
  const bool all =
      std::ranges::all_of(choices_, [](const Choice& one) { return one.ended || one.prefilled; });
  if (ended()) {
    outcome.release = true;
  } else if (!request_.handover.empty()) {
    return StartDecode(std::move(outcome));
  } else if (all) {
    if (!request_.prefill_only) {
      outcome.fell_back = PrefillPath::kNoRecord;
    }
    return StartDecode(std::move(outcome));
  }
  return outcome;
}

HandoverFlight::Outcome HandoverFlight::OnPrefillRefused(const Error& error) {
  if (const std::optional<PrefillPath> path = FallBackOf(error.code()); path && fallback_) {
    Outcome outcome;
    outcome.fell_back = path;
    return StartDecode(std::move(outcome));
  }
  return EndAll(wire::FinishReason::kError, error);
}

// The client goes on elsewhere: it has the record, and what is kept stays.
HandoverFlight::Outcome HandoverFlight::EndKept(Outcome outcome) {
  for (std::uint32_t choice = 0; choice < choices_.size(); ++choice) {
    if (!choices_[choice].ended) {
      wire::TokenFrame frame;
      frame.id = request_.id;
      frame.choice = choice;
      frame.finish = wire::FinishReason::kLength;
      frame.handover = std::exchange(request_.handover, {});
      Give(std::move(frame), outcome);
    }
  }
  return outcome;
}

HandoverFlight::Outcome HandoverFlight::StartDecode(Outcome outcome) {
  if (request_.prefill_only && !outcome.fell_back) {
    return EndKept(std::move(outcome));
  }
  request_.prefill_only = false;  // nobody keeps anything
  decodes_ = true;
  released_ = request_.handover.empty();
  outcome.release = released_;
  outcome.decode = request_;
  outcome.decode->prompt_logprobs = request_.prompt_logprobs && !prompt_logprobs_sent_;
  return outcome;
}

std::vector<std::uint32_t> HandoverFlight::ended_choices() const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t choice = 0; choice < choices_.size(); ++choice) {
    if (choices_[choice].ended || choices_[choice].cancelled) {
      out.push_back(choice);
    }
  }
  return out;
}

HandoverFlight::Outcome HandoverFlight::OnDecodeFrame(wire::TokenFrame frame) {
  Outcome outcome;
  const bool goes_on = !frame.tokens.empty();  // so it has the blocks, or has computed them
  if (!choices_[frame.choice].ended) {
    Give(std::move(frame), outcome);
  }
  outcome.release = !std::exchange(released_, released_ || goes_on || ended()) && released_;
  return outcome;
}

HandoverFlight::Outcome HandoverFlight::OnDecodeRefused(const Error& error) {
  return EndAll(wire::FinishReason::kError, error);
}

HandoverFlight::Outcome HandoverFlight::EndAll(wire::FinishReason finish,
                                               const std::optional<Error>& error) {
  Outcome outcome;
  outcome.release = true;
  for (std::uint32_t choice = 0; choice < choices_.size(); ++choice) {
    if (!choices_[choice].ended) {
      wire::TokenFrame frame;
      frame.id = request_.id;
      frame.choice = choice;
      frame.finish = finish;
      frame.error = error;
      Give(std::move(frame), outcome);
    }
  }
  return outcome;
}

void HandoverFlight::OnCancel(std::optional<std::uint32_t> choice) {
  for (std::uint32_t i = 0; i < choices_.size(); ++i) {
    choices_[i].cancelled |= !choice || *choice == i;
  }
}

}  // namespace pixii::frontend
