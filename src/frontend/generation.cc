#include "frontend/generation.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "frontend/error_body.h"
#include "wire/sse.h"

namespace pixii::frontend {

Generation::Choice::Choice(const GenerationPlan& plan, const TextProcessor* text,
                           std::span<const TokenId> prompt)
    : stream(plan.choices, text, prompt),
      logprobs(plan.shape.surface, plan.shape.tokens_as_ids ? nullptr : text,
               plan.shape.top_logprobs) {
  result.prompt = prompt;
}

Generation::Generation(GenerationHost& host, Exchange& exchange, GenerationPlan plan)
    : host_(host), exchange_(&exchange), plan_(std::move(plan)) {
  if (plan_.stream && !plan_.writer) {
    writer_.emplace(plan_.shape, static_cast<std::uint32_t>(plan_.prompts.size()) * n());
  }
  record_.surface = plan_.writer ? plan_.writer->surface() : plan_.shape.surface;
  record_.stream = plan_.stream;
  record_.started = host_.Now();
  if (plan_.trace) {
    record_.trace_id = obs::ToHex(plan_.trace->context.trace);
    record_.ahead = plan_.trace->ahead;
  }
  last_frame_ = record_.started;
  last_comment_ = record_.started;
  parts_.resize(plan_.prompts.size());
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    parts_[i].prompt = std::move(plan_.prompts[i]);
    parts_[i].open.assign(n(), false);
    usage_.prompt_tokens += parts_[i].prompt.size();
    for (std::uint32_t k = 0; k < n(); ++k) {
      choices_.emplace_back(plan_, plan_.tokens_only ? nullptr : host_.text(), parts_[i].prompt);
    }
  }
  record_.prompt_tokens = usage_.prompt_tokens;
  unfinished_ = static_cast<std::uint32_t>(choices_.size());
}

void Generation::Start() {
  exchange_->Watch(this);
  starting_ = true;
  for (std::size_t i = 0; i < parts_.size() && exchange_ != nullptr; ++i) {
    Part& part = parts_[i];
    part.id = host_.NextRequestId();
    if (plan_.skip_engine) {
      for (std::uint32_t k = 0; k < n(); ++k) {
        wire::TokenFrame frame;
        frame.choice = k;
        frame.finish = wire::FinishReason::kLength;
        Deliver(i, frame);
      }
      continue;
    }
    part.sent = true;
    part.open.assign(n(), true);
    engine_open_ += n();
    if (Result<void> sent = Send(i); !sent) {
      part.sent = false;
      part.open.assign(n(), false);
      engine_open_ -= n();
      End(sent.error());
    } else if (!plan_.prototype.generated.empty()) {
      OnFrame(i, TokensBefore());
    }
  }
  starting_ = false;
  MaybeDone();
}

// What another server drew: it is part of this answer.
wire::TokenFrame Generation::TokensBefore() const {
  wire::TokenFrame frame;
  frame.tokens = plan_.prototype.generated.front();
  return frame;
}

// Of the end of an answer, beside its choices.
std::string Generation::MoreMembers(const ChoiceFinish* only) const {
  std::string out = NvextMember(plan_.shape, only, Timing(), served_by_, Recomputed());
  if (plan_.context_only) {
    out += DisaggregatedMember(kept_, Raw(parts_.front().id), served_by_.rank);
  }
  return out;
}

namespace {

// Of what is sent to a worker that nobody chooses.
obs::SpanId OwnSpan(const RequestTrace& trace, std::size_t part) {
  return obs::MakeSpanId(trace.context.trace, ~static_cast<std::uint64_t>(trace.root) - part);
}

}  // namespace

// A fleet says who had it when; of a worker of this process that is known here.
void Generation::TakeLegs(std::size_t index, wire::TokenFrame& frame) {
  for (wire::RequestLeg& leg : std::exchange(frame.legs, {})) {
    if (!plan_.trace) {
      continue;
    }
    if (leg.sent_ns < 0) {
      leg.span = static_cast<std::uint64_t>(OwnSpan(*plan_.trace, index));
      leg.attempt = 1;
      leg.sent_ns = record_.started.time_since_epoch().count();
      leg.ended_ns = host_.Now().time_since_epoch().count();
      if (record_.first_token != rt::kNever) {
        leg.first_frame_ns = record_.first_token.time_since_epoch().count();
      }
      leg.error = frame.error ? std::string(CodeName(frame.error->code())) : std::string();
      std::erase_if(plan_.trace->legs, [&](const auto& one) { return one.span == leg.span; });
    }
    plan_.trace->legs.push_back(std::move(leg));
  }
}

// The same for all surfaces, streamed or not: before anybody takes it out of delta_.
void Generation::NoteAnswer(std::uint32_t choice_index) {
  if (!plan_.trace || !plan_.trace->payload) {
    return;
  }
  std::vector<TraceAnswer>& answers = plan_.trace->payload->answers;
  answers.resize(choices_.size());
  TraceAnswer& out = answers[choice_index];
  out.text += delta_.text;
  for (const text::parsers::ParseEvent& event : delta_.events) {
    using Kind = text::parsers::ParseEvent::Kind;
    if (event.kind == Kind::kCall || (event.kind == Kind::kCallPiece && event.begins)) {
      out.calls.push_back({event.call.id, event.call.name, event.call.arguments});
    } else if (event.kind == Kind::kCallPiece) {
      if (!out.calls.empty()) {
        out.calls.back().arguments += event.call.arguments;
      }
    } else if (event.kind != Kind::kReasoningEnd) {
      (event.kind == Kind::kContent ? out.text : out.reasoning) += event.text;
    }
  }
  if (delta_.finish) {
    out.finish = FinishName(delta_.finish->kind);
  }
}

void Generation::EndTrace() {
  if (!plan_.trace) {
    return;
  }
  RequestTrace& trace = *plan_.trace;
  trace.id = plan_.shape.id;
  trace.model = plan_.shape.model;
  trace.stream = plan_.stream;
  trace.prompt_tokens = record_.prompt_tokens;
  trace.cached_tokens = record_.cached_tokens;
  trace.output_tokens = record_.output_tokens;
  trace.first_token = record_.first_token;
  trace.error = record_.error;
  if (trace.payload && !parts_.empty()) {
    trace.payload->prompt = std::move(parts_.front().prompt);
  }
  host_.OnTraced(std::move(plan_.trace));
}

Result<void> Generation::Send(std::size_t index) {
  Part& part = parts_[index];
  wire::GenerateRequest request = plan_.prototype;
  request.id = part.id;
  request.prompt = part.prompt;
  wire::PutMediaTokens(request.media, request.prompt);
  if (plan_.trace) {
    const obs::TraceContext& context = plan_.trace->context;
    request.traceparent = obs::Traceparent(context, OwnSpan(*plan_.trace, index));
    request.tracestate = context.state;
    request.label = plan_.trace->label;
  }
  auto on_frame = [this, index](wire::TokenFrame frame) { OnFrame(index, std::move(frame)); };
  if (!plan_.beams) {
    return host_.link().Generate(std::move(request), std::move(on_frame));
  }
  part.beams = std::make_unique<BeamRunner>(
      host_.link(), [this] { return host_.NextRequestId(); },
      BeamRun{.request = std::move(request), .options = *plan_.beams}, std::move(on_frame));
  return part.beams->Start();
}

void Generation::OnFrame(std::size_t index, wire::TokenFrame frame) {
  Part& part = parts_[index];
  if (!frame.legs.empty()) {
    TakeLegs(index, frame);
  }
  if (frame.choice >= n() || !part.open[frame.choice]) {
    return;  // a worker that breaks the rules harms nobody
  }
  last_frame_ = host_.Now();
  record_.first_frame = std::min(record_.first_frame, last_frame_);
  if (frame.finish) {
    part.open[frame.choice] = false;
    --engine_open_;
  }
  if (exchange_ != nullptr) {
    if (MustHold(index, frame)) {
      held_tokens_ += frame.tokens.size();
      held_.push_back({index, std::move(frame)});
      if (held_tokens_ > host_.held_tokens_max()) {
        Exchange* exchange = std::exchange(exchange_, nullptr);
        exchange->Abort();
        Answered(Error(Code::kCancelled, "the client reads too slowly"));
        CancelOpen();
      }
    } else {
      Deliver(index, frame);
      DeliverHeld();
      record_.postprocess += host_.Now() - last_frame_;
    }
  }
  MaybeDone();
}

// The prompt's logprobs come with choice 0 and stand first in every choice.
bool Generation::AwaitsPromptLogprobs(std::size_t index, const wire::TokenFrame& frame) const {
  return plan_.echo && plan_.prototype.prompt_logprobs && frame.choice != 0 &&
         parts_[index].prompt_logprobs.empty();
}

bool Generation::MustHold(std::size_t index, const wire::TokenFrame& frame) const {
  if (plan_.stream && (exchange_->congested() || !held_.empty())) {
    return true;  // the client does not read
  }
  return AwaitsPromptLogprobs(index, frame);
}

void Generation::DeliverHeld() {
  auto next = held_.begin();
  while (next != held_.end() && exchange_ != nullptr && !(plan_.stream && exchange_->congested())) {
    if (AwaitsPromptLogprobs(next->part, next->frame)) {
      ++next;  // so do all later frames of its choice
      continue;
    }
    HeldFrame held = std::move(*next);
    held_.erase(next);
    held_tokens_ -= held.frame.tokens.size();
    Deliver(held.part, held.frame);
    next = held_.begin();
  }
}

void Generation::OnRoom() {
  DeliverHeld();
  MaybeDone();
}

void Generation::Deliver(std::size_t index, wire::TokenFrame& frame) {
  Part& part = parts_[index];
  std::uint32_t choice_index = static_cast<std::uint32_t>(index) * n() + frame.choice;
  Choice& choice = choices_[choice_index];
  if (choice.stream.ended()) {
    return;
  }
  if (!part.first_frame_seen && (!frame.tokens.empty() || frame.finish)) {
    part.first_frame_seen = true;
    usage_.cached_tokens += std::min<std::uint64_t>(frame.cached_tokens, part.prompt.size());
  }
  served_by_ = frame.served_by.value_or(served_by_);
  if (plan_.prototype.adapter_version.empty()) {
    plan_.prototype.adapter_version = frame.adapter_version;  // of what is sent from now on
  }
  if (!frame.prompt_logprobs.empty()) {
    part.prompt_logprobs = std::move(frame.prompt_logprobs);
  }
  if (plan_.context_only) {
    kept_.first_gen_tokens.insert(kept_.first_gen_tokens.end(), frame.tokens.begin(),
                                  frame.tokens.end());
    kept_.opaque_state += frame.handover;
  }
  std::size_t token_count = frame.tokens.size();
  bool engine_ended = frame.finish.has_value();
  if (keeps_tokens()) {
    Transcribe(frame, choice);
  }
  if (frame.stop_logprob) {
    choice.logprob_sum += double{*frame.stop_logprob};
    ++choice.logprob_count;
  }
  if (!frame.numerics_id.empty()) {
    AddPart(choice.computed, choice.stream.generated(), frame.numerics_id);
  }
  delta_.Clear();
  if (std::optional<Error> error = choice.stream.Push(frame, delta_)) {
    End(*error);
    return;
  }
  if (token_count > 0) {
    plan_.ticket.Charge(token_count, host_.Now());
    host_.OnTokens(record_, token_count);
    record_.last_token = host_.Now();
    if (record_.first_token == rt::kNever) {
      record_.first_token = record_.last_token;
    }
  }
  bool cancel = delta_.cancel_upstream && part.open[frame.choice];
  std::uint32_t engine_choice = frame.choice;
  bool finished = delta_.finish.has_value();
  if (finished && unfinished_ == 1) {
    SayRecomputed();
  }
  if (finished) {
    if (plan_.trace) {
      plan_.trace->finish_reasons.emplace_back(FinishName(delta_.finish->kind));
    }
    usage_.completion_tokens += choice.stream.generated();
    usage_.reasoning_tokens += choice.stream.reasoning_tokens();
    --unfinished_;
    CloseTranscript(choice, engine_ended);
  }
  NoteAnswer(choice_index);
  if (plan_.stream) {
    Write(index, choice_index);
  } else {
    if (!choice.started) {
      choice.started = true;
      Echo(index, choice, choice.result.text);
    }
    Gather(choice);
  }
  if (unfinished_ == 0) {
    Complete();
  }
  if (cancel) {
    host_.link().Cancel({part.id, engine_choice});
  }
}

// Prepends the prompt's text, and its logprobs, to the choice.
void Generation::Echo(std::size_t index, Choice& choice, std::string& text) {
  if (!plan_.echo) {
    return;
  }
  text += plan_.echo_texts[index];
  const Part& part = parts_[index];
  for (std::size_t i = 0; i < part.prompt_logprobs.size() && i < part.prompt.size(); ++i) {
    choice.logprobs.Add(part.prompt[i], i == 0 ? nullptr : &part.prompt_logprobs[i]);
  }
}

namespace {

// What a step brings, as parts of an answer; takes it out of `delta`. `logprobs` go with the first
// text.
template <class Use>
void ForEachPart(ChoiceDelta& delta, std::string logprobs, const Use& use) {
  using EventKind = text::parsers::ParseEvent::Kind;
  if (!delta.text.empty()) {
    use(AnswerPart{.text = std::move(delta.text), .logprobs = std::exchange(logprobs, {})});
  }
  for (text::parsers::ParseEvent& event : delta.events) {
    switch (event.kind) {
      case EventKind::kReasoning:
        use(AnswerPart{.kind = AnswerPart::Kind::kReasoning, .text = std::move(event.text)});
        break;
      case EventKind::kContent:
        use(AnswerPart{.text = std::move(event.text), .logprobs = std::exchange(logprobs, {})});
        break;
      case EventKind::kCall:
        use(AnswerPart{.kind = AnswerPart::Kind::kCall,
                       .text = std::move(event.call.arguments),
                       .name = std::move(event.call.name),
                       .id = std::move(event.call.id)});
        break;
      case EventKind::kCallPiece:
        use(AnswerPart{.kind = AnswerPart::Kind::kCall,
                       .text = std::move(event.call.arguments),
                       .name = std::move(event.call.name),
                       .id = std::move(event.call.id),
                       .begins = event.begins,
                       .ends = event.ends});
        break;
      case EventKind::kReasoningEnd:
        break;
    }
  }
}

}  // namespace

// Logprobs of the step, and of steps before it that brought no part.
std::string Generation::TakeLogprobs(Choice& choice) {
  if (!plan_.shape.logprobs) {
    return {};
  }
  for (std::size_t i = 0; i < delta_.logprobs.size(); ++i) {
    choice.logprobs.Add(delta_.tokens[i], &delta_.logprobs[i]);
  }
  const std::string entries = choice.logprobs.TakeEntries();
  choice.held_logprobs += choice.held_logprobs.empty() || entries.empty() ? "" : ",";
  choice.held_logprobs += entries;
  const bool waits = delta_.text.empty() && delta_.events.empty();
  return waits ? std::string() : std::exchange(choice.held_logprobs, {});
}

void Generation::GatherAnswer(Choice& choice) {
  ForEachPart(delta_, TakeLogprobs(choice),
              [&](const AnswerPart& part) { JoinPart(choice.answer.parts, part); });
  choice.answer.tokens.insert(choice.answer.tokens.end(), delta_.tokens.begin(),
                              delta_.tokens.end());
  if (delta_.finish) {
    choice.answer.finish = std::move(*delta_.finish);
  }
}

void Generation::WriteAnswer(Choice& choice) {
  std::string& out = exchange_->stream();
  if (!choice.started) {
    choice.started = true;
    plan_.writer->AppendStart(out, usage_);
  }
  if (!delta_.tokens.empty()) {
    plan_.writer->AppendTokens(out, delta_.tokens);
  }
  ForEachPart(delta_, TakeLogprobs(choice),
              [&](const AnswerPart& part) { plan_.writer->AppendPart(out, part); });
  if (delta_.finish) {
    choice.answer.finish = std::move(*delta_.finish);  // written with the usage
  }
}

void Generation::Gather(Choice& choice) {
  if (plan_.writer) {
    GatherAnswer(choice);
    return;
  }
  for (const wire::TokenLogprob& entry : delta_.logprobs) {
    choice.logprob_sum += double{entry.logprob};
    ++choice.logprob_count;
  }
  choice.result.text += delta_.text;
  for (text::parsers::ParseEvent& event : delta_.events) {
    using Kind = text::parsers::ParseEvent::Kind;
    if (event.kind == Kind::kCall || (event.kind == Kind::kCallPiece && event.begins)) {
      choice.result.calls.push_back(std::move(event.call));
    } else if (event.kind == Kind::kCallPiece) {
      choice.result.calls.back().arguments += event.call.arguments;
    } else {
      (event.kind == Kind::kContent ? choice.result.text : choice.result.reasoning) += event.text;
    }
  }
  for (std::size_t i = 0; i < delta_.logprobs.size() && plan_.shape.logprobs; ++i) {
    choice.logprobs.Add(delta_.tokens[i], &delta_.logprobs[i]);
  }
  if (plan_.shape.token_ids) {
    choice.result.tokens.insert(choice.result.tokens.end(), delta_.tokens.begin(),
                                delta_.tokens.end());
  }
  if (delta_.finish) {
    choice.result.finish = std::move(*delta_.finish);
    if (plan_.shape.logprobs) {
      choice.result.logprobs = choice.logprobs.Take();
    }
  }
}

void Generation::Commit() {
  if (committed_) {
    return;
  }
  committed_ = true;
  exchange_->StartStream("text/event-stream; charset=utf-8", plan_.fields);
  if (!plan_.writer) {
    AppendAnnotations(exchange_->stream(), plan_.shape, parts_.front().prompt);
  }
}

AnswerTiming Generation::Timing() const {
  const auto milliseconds = [](rt::Duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
  };
  AnswerTiming out{.total_ms = milliseconds(host_.Now() - record_.started)};
  if (record_.first_token != rt::kNever) {
    out.first_token_ms = milliseconds(record_.first_token - record_.started);
    const std::uint64_t gaps = std::max<std::uint64_t>(usage_.completion_tokens, 1) - 1;
    out.between_tokens_ms = gaps == 0 ? 0
                                      : milliseconds(record_.last_token - record_.first_token) /
                                            static_cast<double>(gaps);
  }
  return out;
}

std::vector<Recomputation> Generation::Recomputed() const {
  std::vector<Recomputation> out;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    if (choices_[i].computed.size() > 1) {
      out.push_back({.choice = static_cast<std::uint32_t>(i), .parts = choices_[i].computed});
    }
  }
  return out;
}

// In the head, while there is none on its way yet; a stream of a form that has no place for it says
// it in a comment.
void Generation::SayRecomputed() {
  const std::vector<Recomputation> recomputed = Recomputed();
  record_.recomputed = !recomputed.empty();
  if (recomputed.empty()) {
    return;
  }
  if (!committed_) {
    plan_.fields.push_back({"x-pixii-recomputed", RecomputedText(recomputed)});
  } else if (plan_.writer) {
    std::string& out = exchange_->stream();
    out += ": {";
    AppendRecomputed(out, recomputed);
    out += "}\n\n";
  }
}

void Generation::Write(std::size_t index, std::uint32_t choice_index) {
  Choice& choice = choices_[choice_index];
  if (!choice.started && delta_.empty()) {
    return;
  }
  Commit();
  if (plan_.writer) {
    WriteAnswer(choice);
    return;
  }
  std::string& out = exchange_->stream();
  if (!choice.started) {
    choice.started = true;
    writer_->AppendStart(out, choice_index, parts_[index].prompt);
    if (plan_.echo) {
      ChoiceDelta echo;
      Echo(index, choice, echo.text);
      writer_->AppendDelta(out, choice_index, echo,
                           plan_.shape.logprobs ? choice.logprobs.Take() : std::string());
    }
  }
  if (!delta_.text.empty() || !delta_.tokens.empty() || !delta_.events.empty()) {
    std::string logprobs;
    if (plan_.shape.logprobs && !delta_.logprobs.empty()) {
      for (std::size_t i = 0; i < delta_.logprobs.size(); ++i) {
        choice.logprobs.Add(delta_.tokens[i], &delta_.logprobs[i]);
      }
      logprobs = choice.logprobs.Take();
    }
    WriteParts(out, choice_index, logprobs);
  }
  if (delta_.finish) {
    const ChoiceFinish* only = choices_.size() == 1 ? &*delta_.finish : nullptr;
    writer_->AppendFinish(out, choice_index, *delta_.finish,
                          unfinished_ == 0 ? MoreMembers(only) : std::string());
  }
}

// Tokens and logprobs go with the first part that they came with.
void Generation::WriteParts(std::string& out, std::uint32_t choice_index,
                            const std::string& logprobs) {
  if (delta_.events.empty()) {
    writer_->AppendDelta(out, choice_index, delta_, logprobs);
    return;
  }
  const ChoiceDelta* tokens = delta_.tokens.empty() ? nullptr : &delta_;
  std::string_view with = logprobs;
  for (const text::parsers::ParseEvent& event : delta_.events) {
    writer_->AppendPart(out, choice_index, event, std::exchange(tokens, nullptr),
                        std::exchange(with, std::string_view()));
  }
}

void Generation::Transcribe(const wire::TokenFrame& frame, Choice& choice) const {
  ChoiceTranscript& transcript = choice.transcript;
  transcript.tokens.insert(transcript.tokens.end(), frame.tokens.begin(), frame.tokens.end());
  for (const wire::TokenLogprob& entry : frame.logprobs) {
    transcript.logprobs.push_back(entry.logprob);
  }
}

// What the engine drew behind a stop string does not count.
void Generation::CloseTranscript(Choice& choice, bool engine_ended) {
  ChoiceTranscript& transcript = choice.transcript;
  std::size_t counted = std::min<std::size_t>(choice.stream.generated(), transcript.tokens.size());
  transcript.ended_by_engine = engine_ended && counted == transcript.tokens.size();
  transcript.tokens.resize(counted);
  transcript.logprobs.resize(std::min(counted, transcript.logprobs.size()));
}

std::vector<ChoiceTranscript> Generation::Transcripts() const {
  std::vector<ChoiceTranscript> out;
  for (const Choice& choice : choices_) {
    out.push_back(choice.transcript);
    out.back().computed = choice.computed;
  }
  return out;
}

// All choices, also those that best_of drops: a repetition draws them too.
void Generation::Record() {
  std::vector<ChoiceTranscript> transcripts = Transcripts();
  RequestRecord record{.id = plan_.shape.id,
                       .surface = plan_.shape.surface,
                       .model = host_.link().card().name,
                       .context_tokens_max = host_.link().card().context_tokens_max,
                       .body = std::move(plan_.recorded_body),
                       .prompts = {},
                       .receipt = MakeReceipt(host_.link().card(), plan_.prototype, transcripts),
                       .choices = std::move(transcripts)};
  for (const Part& part : parts_) {
    record.prompts.push_back(part.prompt);
  }
  host_.OnRecorded(std::move(record));
}

// Of each prompt's choices those with the highest mean logprob, best first; usage counts them all.
void Generation::KeepBest() {
  if (plan_.given_count == n()) {
    return;
  }
  auto mean = [](const Choice& choice) {
    return choice.logprob_sum / std::max<std::uint32_t>(1, choice.logprob_count);
  };
  std::deque<Choice> best;
  for (std::size_t begin = 0; begin < choices_.size(); begin += n()) {
    std::vector<std::size_t> order(n());
    std::iota(order.begin(), order.end(), begin);
    std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(-mean(choices_[i]), i); });
    for (std::uint32_t i = 0; i < plan_.given_count; ++i) {
      best.push_back(std::move(choices_[order[i]]));
    }
  }
  choices_ = std::move(best);
}

void Generation::Complete() {
  Exchange* exchange = std::exchange(exchange_, nullptr);
  // A repetition runs single choices; beams have no draw that it could prove.
  if (!plan_.recorded_body.empty() && !plan_.beams) {
    Record();
  }
  for (std::size_t i = 0; i < choices_.size() && plan_.prompt_logprobs; ++i) {
    const Part& part = parts_[i / n()];
    choices_[i].result.prompt_logprobs =
        PromptLogprobs(part.prompt, part.prompt_logprobs, plan_.shape, host_.text());
  }
  KeepBest();
  std::optional<Receipt> receipt;
  if (plan_.shape.receipt) {
    receipt = MakeReceipt(host_.link().card(), plan_.prototype, Transcripts());
  }
  const Receipt* shown = receipt ? &*receipt : nullptr;
  if (plan_.stream) {
    if (plan_.writer) {
      plan_.writer->AppendEnd(exchange->stream(), choices_.front().answer.finish, usage_);
    } else {
      writer_->AppendEnd(exchange->stream(), usage_, shown);
    }
    Answered(std::nullopt);
    exchange->EndStream();
    return;
  }
  if (plan_.writer) {
    std::vector<Answer> answers;
    for (Choice& choice : choices_) {
      answers.push_back(std::move(choice.answer));
    }
    Answered(std::nullopt);
    exchange->Respond({.body = plan_.writer->Unary(answers, usage_), .fields = plan_.fields});
    return;
  }
  std::vector<FinishedChoice> results;
  results.reserve(choices_.size());
  for (Choice& choice : choices_) {
    results.push_back(std::move(choice.result));
  }
  Answered(std::nullopt);
  exchange->Respond(
      {.body = UnaryBody(plan_.shape, results, usage_, shown,
                         MoreMembers(results.size() == 1 ? &results.front().finish : nullptr)),
       .fields = plan_.fields});
}

void Generation::End(const Error& error) {
  Exchange* exchange = std::exchange(exchange_, nullptr);
  if (exchange == nullptr) {
    return;
  }
  held_.clear();
  Answered(error);
  if (committed_) {
    if (plan_.writer) {
      plan_.writer->AppendError(exchange->stream(), error);
    } else {
      StreamWriter::AppendError(exchange->stream(), error);
    }
    exchange->EndStream();
  } else {
    Response response =
        ErrorResponse(error, host_.retry_after_seconds(), plan_.dialect, host_.overload_status());
    response.fields.insert(response.fields.end(), plan_.fields.begin(), plan_.fields.end());
    exchange->Respond(std::move(response));
  }
  CancelOpen();
  MaybeDone();
}

void Generation::Watch(rt::Time now, rt::Duration keep_alive, rt::Duration timeout) {
  if (exchange_ == nullptr) {
    return;
  }
  if (timeout > rt::Duration::zero() && now - last_frame_ >= timeout) {
    End(Error(Code::kDeadlineExceeded, "the engine brought nothing for too long"));
    return;
  }
  const rt::Time last = std::max(last_frame_, last_comment_);
  if (keep_alive > rt::Duration::zero() && plan_.stream && now - last >= keep_alive &&
      !exchange_->congested()) {
    last_comment_ = now;
    Commit();  // whoever wants signs of life gets the status before the first token
    exchange_->stream() += wire::kSseComment;
  }
}

void Generation::OnClientGone() {
  exchange_ = nullptr;
  held_.clear();
  Answered(Error(Code::kCancelled, "the client hung up"));
  CancelOpen();
  MaybeDone();
}

void Generation::Answered(std::optional<Error> error) {
  record_.error = std::move(error);
  record_.cached_tokens = usage_.cached_tokens;
  record_.output_tokens = 0;
  for (const Choice& choice : choices_) {
    record_.output_tokens += choice.stream.generated();
  }
  host_.OnAnswered(record_);
  if (plan_.trace) {
    plan_.trace->last_frame = last_frame_;
    plan_.trace->answered = host_.Now();
  }
}

void Generation::CancelOpen() {
  for (const Part& part : parts_) {
    if (!part.sent || std::find(part.open.begin(), part.open.end(), true) == part.open.end()) {
      continue;
    }
    if (part.beams) {
      part.beams->Cancel();
    } else {
      host_.link().Cancel({part.id, std::nullopt});
    }
  }
}

void Generation::MaybeDone() {
  if (!starting_ && !done_ && exchange_ == nullptr && engine_open_ == 0) {
    done_ = true;
    EndTrace();
    host_.OnDone(*this);
  }
}

}  // namespace pixii::frontend
