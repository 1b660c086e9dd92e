#include "frontend/beam_runner.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace pixii::frontend {

BeamRunner::BeamRunner(control::WorkerLink& link, std::function<RequestId()> next_id, BeamRun run,
                       FrameHandler on_frame)
    : link_(link),
      next_id_(std::move(next_id)),
      run_(std::move(run)),
      on_frame_(std::move(on_frame)),
      search_(run_.options) {}

Result<void> BeamRunner::Start() {
  if (!StartRound()) {
    return Fail(*failure_);
  }
  return {};
}

// Greedy, for one token, and nothing ends it early: the offers decide.
wire::GenerateRequest BeamRunner::RequestFor(const Beam& beam) const {
  wire::GenerateRequest request = run_.request;
  request.choice_count = 1;
  if (!beam.tokens.empty()) {
    request.generated = {beam.tokens};
    request.states = {beam.state};
  }
  request.sampling.temperature = 0;
  request.stop.max_tokens = static_cast<std::uint32_t>(beam.tokens.size()) + 1;
  request.stop.min_tokens = 0;
  request.stop.ignore_eos = true;
  request.stop.stop_token_ids.clear();
  request.top_logprobs =
      std::max(static_cast<std::int32_t>(2 * run_.options.width), run_.options.top_logprobs);
  request.processed_logprobs = true;  // what rules and processors exclude is no offer
  return request;
}

bool BeamRunner::StartRound() {
  std::size_t count = search_.live().size();
  offers_.assign(count, {});
  open_ids_.assign(count, std::nullopt);
  starting_ = true;
  for (std::size_t i = 0; i < count && !failure_; ++i) {
    wire::GenerateRequest request = RequestFor(search_.live()[i]);
    request.id = next_id_();
    open_ids_[i] = request.id;
    ++open_count_;
    Result<void> sent = link_.Generate(
        std::move(request), [this, i](wire::TokenFrame frame) { OnFrame(i, std::move(frame)); });
    if (!sent) {
      open_ids_[i].reset();
      --open_count_;
      failure_ = FailureOf(sent.error());
    }
  }
  starting_ = false;
  if (failure_ && open_count_ > 0) {
    CancelOpen();
  }
  return open_count_ > 0;
}

// Every round asks for the adapter anew. Once the first has had it, what the client asked for was
// there: an adapter that went ends the search as one that was replaced does.
Error BeamRunner::FailureOf(const Error& error) const {
  if (first_round_ || error.code() != Code::kNotFound || run_.request.adapter.empty()) {
    return error;
  }
  return {Code::kUnavailable,
          fmt::format("the adapter \"{}\" was unloaded during the beam search; load it and ask "
                      "again",
                      run_.request.adapter),
          "model"};
}

void BeamRunner::OnFrame(std::size_t beam, wire::TokenFrame frame) {
  if (!open_ids_[beam]) {
    return;
  }
  if (first_round_) {
    cached_tokens_ = std::max(cached_tokens_, frame.cached_tokens);
    run_.request.adapter_version = frame.adapter_version;  // later rounds have the same or none
  }
  if (!frame.logprobs.empty()) {
    offers_[beam] = {std::move(frame.logprobs.back().top), std::move(frame.state)};
  }
  if (!frame.finish) {
    return;
  }
  open_ids_[beam].reset();
  --open_count_;
  cancelled_ |= *frame.finish == wire::FinishReason::kCancelled && !failure_;
  if (*frame.finish == wire::FinishReason::kError && !failure_) {
    failure_ = FailureOf(
        frame.error.value_or(Error(Code::kInternal, "the worker failed without a reason")));
    CancelOpen();
  }
  if (open_count_ == 0 && !starting_) {
    EndRound();
  }
}

void BeamRunner::Cancel() {
  cancelled_ = true;
  CancelOpen();
}

void BeamRunner::CancelOpen() {
  for (const std::optional<RequestId>& id : open_ids_) {
    if (id) {
      link_.Cancel({*id, std::nullopt});
    }
  }
}

void BeamRunner::EndRound() {
  first_round_ = false;
  if (!failure_ && !cancelled_) {
    search_.Advance(offers_);
    if (search_.done()) {
      GiveTexts();
      return;
    }
    if (StartRound()) {
      return;
    }
  }
  if (failure_) {
    GiveEnd(wire::FinishReason::kError, failure_);
  } else {
    GiveEnd(wire::FinishReason::kCancelled, std::nullopt);
  }
}

void BeamRunner::GiveTexts() {
  std::vector<Beam> texts = search_.TakeBest(run_.request.choice_count);
  if (texts.size() < run_.request.choice_count) {
    GiveEnd(
        wire::FinishReason::kError,
        Error(Code::kInvalidArgument,
              fmt::format("the beam search found {} texts of the {} asked for: nothing else may "
                          "be said",
                          texts.size(), run_.request.choice_count)));
    return;
  }
  FrameHandler handler = on_frame_;  // the last call may end this
  for (std::uint32_t choice = 0; choice < texts.size(); ++choice) {
    wire::TokenFrame frame;
    frame.id = run_.request.id;
    frame.choice = choice;
    frame.tokens = std::move(texts[choice].tokens);
    frame.logprobs = std::move(texts[choice].logprobs);
    frame.cached_tokens = cached_tokens_;
    frame.adapter_version = run_.request.adapter_version;
    frame.stop_token = texts[choice].end_token;
    frame.finish = frame.stop_token ? wire::FinishReason::kStop : wire::FinishReason::kLength;
    handler(std::move(frame));
  }
}

void BeamRunner::GiveEnd(wire::FinishReason reason, const std::optional<Error>& error) {
  FrameHandler handler = on_frame_;
  std::uint32_t count = run_.request.choice_count;
  RequestId id = run_.request.id;
  for (std::uint32_t choice = 0; choice < count; ++choice) {
    wire::TokenFrame frame;
    frame.id = id;
    frame.choice = choice;
    frame.finish = reason;
    frame.error = error;
    handler(std::move(frame));
  }
}

}  // namespace pixii::frontend
