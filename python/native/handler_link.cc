#include "handler_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::python {

namespace {

constexpr rt::Duration kTickPeriod = std::chrono::milliseconds(100);
constexpr std::size_t kKvWaitingMax = 65536;  // batches of events before anybody watches

tl::unexpected<Error> NotTold(const char* what, const char* param) {
  return Fail(Code::kUnsupported,
              fmt::format("{}: this worker's handler is not told of {}", param, what), param);
}

// What a handler's dictionary has no word for is refused, never dropped in silence.
Result<void> CheckRequest(const wire::GenerateRequest& request) {
  const wire::SamplingParams& sampling = request.sampling;
  if (request.pool) {
    return NotTold("vectors or scores", "input");
  }
  if (!request.media.empty() || request.encode_only) {
    return NotTold("pictures", "messages");
  }
  if (request.prefill_only || request.fetch_only) {
    return NotTold("a hand-over", "prefill_only");
  }
  if (request.prompt_logprobs) {
    return NotTold("logprobs of the prompt", "prompt_logprobs");
  }
  if (!request.processors.empty()) {
    return NotTold("logits processors", "logits_processors");
  }
  if (request.processed_logprobs) {
    return NotTold("logprobs of the sampled row", "logprobs_mode");
  }
  if (sampling.top_a != 0.0F || sampling.typical_p != 1.0F || sampling.dry.multiplier != 0.0F ||
      sampling.xtc.probability != 0.0F || sampling.mirostat.on) {
    return NotTold("top_a, typical_p, DRY, XTC or Mirostat", "sampling");
  }
  if (request.constraint && !request.constraint->script.empty()) {
    return NotTold("constraints of tool calls", "tools");
  }
  return {};
}

bool Has(const std::vector<TokenId>& ids, TokenId token) {
  return std::ranges::find(ids, token) != ids.end();
}

}  // namespace

void Inbox::Put(Task task) {
  bool first = false;
  {
    const rt::MutexLock lock(mutex_);
    first = tasks_.empty();
    if (task.kind == Task::Kind::kPing && !first) {
      return;  // one that waits already will do
    }
    tasks_.push_back(std::move(task));
  }
  if (first) {
    wake_();
  }
}

std::vector<Task> Inbox::Take() {
  const rt::MutexLock lock(mutex_);
  ++taken_;
  return std::exchange(tasks_, {});
}

std::size_t Inbox::size() {
  const rt::MutexLock lock(mutex_);
  return tasks_.size();
}

std::uint64_t Inbox::taken_count() {
  const rt::MutexLock lock(mutex_);
  return taken_;
}

HandlerLink::HandlerLink(rt::Loop& loop, Inbox& inbox, HandlerLinkOptions options)
    : loop_(loop), inbox_(inbox), options_(std::move(options)), healthy_(!options_.proves) {
  Tick();
}

HandlerLink::~HandlerLink() {
  *alive_ = false;
  loop_.CancelTimer(tick_);
}

Result<void> HandlerLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (closed_) {
    return Fail(*closed_);
  }
  if (draining_) {
    return Fail(Code::kShuttingDown, "the worker drains");
  }
  PX_CHECK_OK(CheckRequest(request));
  const std::uint32_t count = std::max(1U, request.choice_count);
  if (calls_.size() + count > options_.choices_max) {
    return Fail(Code::kResourceExhausted, fmt::format("{} choices run, more than {} may not",
                                                      calls_.size(), options_.choices_max));
  }
  if (inbox_.size() > 4 * std::size_t{options_.choices_max}) {
    return Fail(Code::kResourceExhausted, "the handlers' side takes nothing from its inbox");
  }
  const rt::Time now = loop_.Now();
  auto held = std::make_shared<Request>();
  held->on_frame = std::move(on_frame);
  held->request = std::make_shared<const wire::GenerateRequest>(std::move(request));
  held->live = count;
  requests_[held->request->id] = held;
  for (std::uint32_t choice = 0; choice < count; ++choice) {
    const CallKey key{++last_key_};
    held->keys.push_back(key);
    Call call{.request = held, .choice = choice, .last = now};
    if (choice < held->request->generated.size()) {
      call.given = static_cast<std::uint32_t>(held->request->generated[choice].size());
    }
    if (held->request->deadline_left_ns > 0) {
      call.deadline = now + rt::Duration(held->request->deadline_left_ns);
    }
    calls_.emplace(key, std::move(call));
    inbox_.Put(
        {.kind = Task::Kind::kBegin, .key = key, .choice = choice, .request = held->request});
  }
  return {};
}

void HandlerLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = requests_.find(cancel.id);
  if (found == requests_.end()) {
    return;
  }
  for (std::uint32_t choice = 0; choice < found->second->keys.size(); ++choice) {
    if (!cancel.choice || *cancel.choice == choice) {
      EndLater(found->second->keys[choice], wire::FinishReason::kCancelled);
    }
  }
}

control::WorkerLoad HandlerLink::load() const {
  control::WorkerLoad load;
  load.state = draining_ || closed_ ? control::WorkerState::kDraining
               : healthy_           ? control::WorkerState::kAwake
                                    : control::WorkerState::kUnhealthy;
  load.running = begun_;
  load.queued = static_cast<std::uint32_t>(calls_.size()) - begun_;
  load.blocks_total = options_.card.block_count;
  load.steps = outputs_ + inbox_.taken_count();
  return load;
}

Result<void> HandlerLink::WatchKvEvents(KvEventHandler on_events) {
  on_kv_events_ = std::move(on_events);
  for (std::vector<wire::KvEvent>& events : std::exchange(kv_waiting_, {})) {
    on_kv_events_(std::move(events));
  }
  return {};
}

void HandlerLink::TellKvEvents(std::vector<wire::KvEvent> events) {
  if (on_kv_events_) {
    on_kv_events_(std::move(events));
  } else if (kv_waiting_.size() < kKvWaitingMax) {
    kv_waiting_.push_back(std::move(events));
  }
}

void HandlerLink::OnOutputs(std::vector<Output> outputs) {
  const std::shared_ptr<bool> alive = alive_;
  for (Output& output : outputs) {
    if (*alive) {
      OnOutput(std::move(output));
    }
  }
}

// Why `output` is none that can be used; nothing: it can.
std::optional<Error> HandlerLink::Fault(const Call& call, const Output& output) const {
  if (output.error) {
    return output.error;
  }
  const auto vocab = static_cast<TokenId>(options_.card.vocab_size);
  for (const TokenId token : output.tokens) {
    if (token < 0 || token >= vocab) {
      return Error(Code::kModelFault,
                   fmt::format("the handler yielded token {}; the vocabulary has 0 .. {}", token,
                               vocab - 1));
    }
  }
  if (!output.logprobs.empty() && output.logprobs.size() != output.tokens.size()) {
    return Error(Code::kModelFault, fmt::format("the handler yielded {} log_probs of {} tokens",
                                                output.logprobs.size(), output.tokens.size()));
  }
  if (call.request->request->top_logprobs >= 0 && output.logprobs.size() != output.tokens.size()) {
    return Error(Code::kModelFault,
                 "the request wants logprobs, and the handler yielded tokens without log_probs");
  }
  if (output.ended && !output.finish) {
    return Error(Code::kModelFault, "the handler ended without a finish_reason");
  }
  return std::nullopt;
}

// As far as the request's own limits go: a handler need not know them.
void HandlerLink::Fill(const Call& call, Output& output, wire::TokenFrame& frame) const {
  const wire::GenerateRequest& request = *call.request->request;
  const wire::StopConditions& stop = request.stop;
  const bool wants_logprobs = request.top_logprobs >= 0;
  std::uint32_t given = call.given;
  for (std::size_t i = 0; i < output.tokens.size() && !frame.finish; ++i) {
    const TokenId token = output.tokens[i];
    const bool is_end = !stop.ignore_eos && Has(stop.eos_token_ids, token);
    if (given >= stop.min_tokens && (is_end || Has(stop.stop_token_ids, token))) {
      frame.finish = wire::FinishReason::kStop;
      frame.stop_token = token;
      if (wants_logprobs) {
        frame.stop_logprob = output.logprobs[i].logprob;
      }
      break;
    }
    frame.tokens.push_back(token);
    if (wants_logprobs) {
      wire::TokenLogprob& one = output.logprobs[i];
      one.top.resize(
          std::min<std::size_t>(one.top.size(), static_cast<std::size_t>(request.top_logprobs)));
      frame.logprobs.push_back(std::move(one));
    }
    if (++given >= stop.max_tokens) {
      frame.finish = wire::FinishReason::kLength;
    }
  }
  if (!frame.finish && output.finish) {
    frame.finish = output.finish;
  }
}

void HandlerLink::OnOutput(Output output) {
  ++outputs_;
  if (proof_ && output.key == *proof_) {
    OnProof(output);
    return;
  }
  const auto found = calls_.find(output.key);
  if (found == calls_.end()) {
    counts_.late += output.ended && output.tokens.empty() ? 0 : 1;
    return;
  }
  Call& call = found->second;
  call.last = loop_.Now();
  if (!call.begun) {
    call.begun = true;
    ++begun_;
  }
  if (std::optional<Error> fault = Fault(call, output)) {
    counts_.faults += 1;
    End(output.key, wire::FinishReason::kError, std::move(fault), true);
    return;
  }
  if (!output.tokens.empty()) {
    proven_at_ = call.last;
    healthy_ = true;
  }
  wire::TokenFrame frame;
  Fill(call, output, frame);
  call.cached = std::max(call.cached, output.cached_tokens);
  if (!call.told_cached && (!frame.tokens.empty() || frame.finish)) {
    frame.cached_tokens = call.cached;
    call.told_cached = true;
  }
  call.given += static_cast<std::uint32_t>(frame.tokens.size());
  if (!frame.tokens.empty() || frame.finish) {
    const bool early = frame.finish && !output.ended && !output.finish;
    const CallKey key = output.key;
    const std::shared_ptr<bool> alive = alive_;
    Give(key, std::move(frame));
    if (early && *alive) {
      inbox_.Put({.kind = Task::Kind::kCancel, .key = key});
    }
  }
}

void HandlerLink::OnProof(const Output& output) {
  if (!output.error && output.tokens.empty() && !output.finish && !output.ended) {
    return;
  }
  healthy_ = !output.error && (!output.tokens.empty() || output.finish.has_value());
  proven_at_ = loop_.Now();
  if (!output.ended) {
    inbox_.Put({.kind = Task::Kind::kCancel, .key = output.key});
  }
  proof_.reset();
}

void HandlerLink::Give(CallKey key, wire::TokenFrame frame) {
  const auto found = calls_.find(key);
  const std::shared_ptr<Request> request = found->second.request;
  frame.id = request->request->id;
  frame.choice = found->second.choice;
  if (frame.finish) {
    begun_ -= found->second.begun ? 1 : 0;
    calls_.erase(found);
    if (--request->live == 0) {
      const auto held = requests_.find(frame.id);
      if (held != requests_.end() && held->second == request) {
        requests_.erase(held);
      }
    }
  }
  request->on_frame(std::move(frame));
}

void HandlerLink::End(CallKey key, wire::FinishReason finish, std::optional<Error> error,
                      bool cancels) {
  if (!calls_.contains(key)) {
    return;
  }
  if (cancels) {
    inbox_.Put({.kind = Task::Kind::kCancel, .key = key});
  }
  wire::TokenFrame frame;
  frame.finish = finish;
  frame.error = std::move(error);
  Give(key, std::move(frame));
}

void HandlerLink::EndLater(CallKey key, wire::FinishReason finish) {
  loop_.Post([this, alive = alive_, key, finish] {
    if (*alive) {
      End(key, finish, std::nullopt, true);
    }
  });
}

void HandlerLink::Close(const Error& error) {
  closed_ = error;
  std::vector<CallKey> keys;
  for (const auto& [key, call] : calls_) {
    keys.push_back(key);
  }
  const std::shared_ptr<bool> alive = alive_;
  for (const CallKey key : keys) {
    if (*alive) {
      End(key, wire::FinishReason::kError, error, true);
    }
  }
}

// Deadlines, silence, health: whatever the handlers' side does, this goes on.
void HandlerLink::Tick() {
  const rt::Time now = loop_.Now();
  std::vector<std::pair<CallKey, Error>> due;
  for (const auto& [key, call] : calls_) {
    if (now >= call.deadline) {
      due.emplace_back(key, Error(Code::kDeadlineExceeded, "the request's time is over"));
    } else if (options_.silence_max > rt::Duration::zero() &&
               now - call.last >= options_.silence_max) {
      due.emplace_back(
          key, Error(Code::kDeadlineExceeded,
                     fmt::format("the handler gave nothing for {} s",
                                 std::chrono::duration<double>(options_.silence_max).count())));
    }
  }
  const std::shared_ptr<bool> alive = alive_;
  for (auto& [key, error] : due) {
    counts_.faults += 1;
    End(key, wire::FinishReason::kError, std::move(error), true);
    if (!*alive) {
      return;
    }
  }
  if (!calls_.empty()) {
    inbox_.Put({.kind = Task::Kind::kPing});
  }
  if (options_.proves) {
    Prove(now);
  }
  tick_ = loop_.RunAt(now + kTickPeriod, [this] { Tick(); });
}

void HandlerLink::Prove(rt::Time now) {
  if (proof_) {
    if (now - proof_begun_ >= options_.prove_timeout) {
      inbox_.Put({.kind = Task::Kind::kCancel, .key = *proof_});
      proof_.reset();
      proven_at_ = now;
      healthy_ = false;
    }
    return;
  }
  const bool first = proven_at_ == rt::Time{};
  const rt::Duration pause =
      healthy_ ? options_.prove_interval
               : std::min<rt::Duration>(options_.prove_interval, std::chrono::seconds(1));
  if (closed_ || draining_ || (!first && now - proven_at_ < pause)) {
    return;
  }
  proof_ = CallKey{++last_key_};
  proof_begun_ = now;
  inbox_.Put({.kind = Task::Kind::kProve, .key = *proof_});
}

}  // namespace pixii::python
