#include "frontend/fleet/flight.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::frontend {

Flight::Flight(wire::GenerateRequest request, FlightOptions options)
    : request_(std::move(request)),
      options_(options),
      choices_(request_.choice_count),
      live_count_(request_.choice_count) {
  request_.generated.resize(request_.choice_count);
  request_.states.resize(request_.choice_count);
  begun_ = std::ranges::any_of(request_.generated, [](const auto& one) { return !one.empty(); });
}

wire::GenerateRequest Flight::Attempt(std::string_view numerics_id) {
  request_.attempt = ++attempt_;
  acknowledged_ = false;
  numerics_id_ = numerics_id;
  for (Choice& choice : choices_) {
    choice.greeted = false;
  }
  wire::GenerateRequest out = request_;
  if (out.pool) {  // nothing is generated, and nobody may say otherwise
    out.generated.clear();
    out.states.clear();
  }
  return out;
}

std::string_view Flight::numerics_id() const {
  for (const Choice& choice : choices_) {
    if (!choice.ended && !choice.numerics_id.empty()) {
      return choice.numerics_id;
    }
  }
  return {};
}

std::vector<std::uint32_t> Flight::ended_choices() const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t choice = 0; choice < choices_.size(); ++choice) {
    if (choices_[choice].ended || choices_[choice].cancelled) {
      out.push_back(choice);
    }
  }
  return out;
}

bool Flight::MayMove(Code code) {
  return code == Code::kUnavailable || code == Code::kDisconnected || code == Code::kShuttingDown ||
         code == Code::kResourceExhausted;
}

Flight::Outcome Flight::OnRefused(const Error& error) {
  return MayMove(error.code()) ? Failed(error) : Fail(error);
}

bool Flight::IsAcknowledgement(const wire::TokenFrame& frame) {
  return frame.tokens.empty() && frame.prompt_logprobs.empty() && frame.pooled.empty() &&
         frame.cached_tokens == 0 && frame.adapter_version.empty() && !frame.dp_rank &&
         frame.handover.empty() && frame.early_handover.empty() && !frame.finish;
}

Flight::Outcome Flight::OnFrame(wire::TokenFrame frame) {
  if (IsAcknowledgement(frame)) {  // whatever choice it names: it is of all
    acknowledged_ = true;
    return {};
  }
  if (!frame.early_handover.empty() && frame.tokens.empty() && !frame.finish) {  // no answer
    acknowledged_ = true;
    Outcome early;
    early.frames.push_back(std::move(frame));
    return early;
  }
  Choice& choice = choices_[frame.choice];
  if (choice.ended) {
    return {};
  }
  if (frame.finish == wire::FinishReason::kError && frame.error && MayMove(frame.error->code())) {
    return Failed(*frame.error);
  }
  acknowledged_ = true;
  begun_ = true;
  frame.numerics_id.clear();
  if (!std::exchange(choice.greeted, true)) {
    frame.numerics_id = numerics_id_;
  }
  std::vector<TokenId>& generated = request_.generated[frame.choice];
  generated.insert(generated.end(), frame.tokens.begin(), frame.tokens.end());
  if (!frame.tokens.empty()) {
    choice.numerics_id = numerics_id_;
    request_.states[frame.choice] = frame.state;
  }
  if (!frame.adapter_version.empty()) {
    request_.adapter_version = frame.adapter_version;
  }
  if (choice.has_frame) {  // another worker's first frame is not the client's
    frame.cached_tokens = 0;
  }
  if (prompt_logprobs_sent_) {
    frame.prompt_logprobs.clear();
  }
  choice.has_frame = true;
  prompt_logprobs_sent_ |= !frame.prompt_logprobs.empty();
  if (frame.finish) {
    choice.ended = true;
    --live_count_;
  }
  Outcome out;
  out.frames.push_back(std::move(frame));
  return out;
}

// Whether it may go to another worker; counts what it costs. A worker that was gone before it had
// the request says nothing about the request, so that is no move; whoever waits has his patience,
// and this has a bound of its own.
bool Flight::MovesOn(bool missed) {
  std::uint32_t& count = missed ? misses_ : moves_;
  const std::uint32_t count_max =
      missed && options_.moves_max > 0 ? options_.misses_max : options_.moves_max;
  if (count >= count_max) {
    return false;
  }
  ++count;
  return true;
}

Flight::Outcome Flight::Failed(const Error& error) {
  const bool acknowledged = std::exchange(acknowledged_, false);
  Outcome out;
  for (std::uint32_t choice = 0; choice < choices_.size(); ++choice) {
    if (choices_[choice].ended) {
      continue;
    }
    if (choices_[choice].cancelled) {
      out.frames.push_back(End(choice, wire::FinishReason::kCancelled, std::nullopt));
    } else if (!request_.pool && request_.stop.max_tokens > 0 &&
               request_.generated[choice].size() >= request_.stop.max_tokens) {
      out.frames.push_back(End(choice, wire::FinishReason::kLength, std::nullopt));
    }
  }
  if (live_count_ == 0) {
    return out;
  }
  last_failure_ = error;
  deaths_ += acknowledged && error.code() == Code::kDisconnected ? 1 : 0;
  Error end = error;  // the answer, if it may not move
  out.missed = !acknowledged && error.code() != Code::kResourceExhausted;
  const bool may_move = MovesOn(out.missed);
  if (may_move && deaths_ >= options_.deaths_max) {
    end = Error(Code::kRequestPoisoned,
                fmt::format("{} workers died while they had this request", deaths_));
  } else if (may_move) {
    out.too_long = options_.tokens_max > 0 && token_count() > options_.tokens_max;
    if (!out.too_long) {
      out.move = begun_ ? MoveKind::kOngoing : MoveKind::kNewRequest;
      return out;
    }
  }
  for (wire::TokenFrame& frame : EndAll(end)) {
    out.frames.push_back(std::move(frame));
  }
  return out;
}

std::vector<wire::TokenFrame> Flight::EndAll(const Error& error) {
  std::vector<wire::TokenFrame> out;
  for (std::uint32_t choice = 0; choice < choices_.size(); ++choice) {
    if (!choices_[choice].ended) {
      out.push_back(choices_[choice].cancelled
                        ? End(choice, wire::FinishReason::kCancelled, std::nullopt)
                        : End(choice, wire::FinishReason::kError, error));
    }
  }
  return out;
}

wire::TokenFrame Flight::End(std::uint32_t choice, wire::FinishReason finish,
                             const std::optional<Error>& error) {
  choices_[choice].ended = true;
  --live_count_;
  wire::TokenFrame frame;
  frame.id = request_.id;
  frame.choice = choice;
  frame.finish = finish;
  frame.error = error;
  return frame;
}

void Flight::OnCancel(std::optional<std::uint32_t> choice) {
  for (std::uint32_t i = 0; i < choices_.size(); ++i) {
    choices_[i].cancelled |= !choice || *choice == i;
  }
}

std::uint64_t Flight::token_count() const {
  std::uint64_t longest = 0;
  for (const std::vector<TokenId>& tokens : request_.generated) {
    longest = std::max<std::uint64_t>(longest, tokens.size());
  }
  return request_.prompt.size() + longest;
}

}  // namespace pixii::frontend
