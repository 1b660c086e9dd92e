#include "control/engine_watch.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace pixii::control {

namespace {

// Until it is awake and answers.
constexpr rt::Duration kSleepPoll = std::chrono::milliseconds(100);

// Outlives the coroutine that waits for it: the engine may answer late.
struct Answer {
  explicit Answer(rt::Loop& loop) : ended(loop) {}

  rt::Event ended;
  bool token = false;
  std::optional<Error> error;
};

bool IsIdle(const WorkerLoad& load) { return load.running == 0 && load.queued == 0; }

wire::GenerateRequest SmallRequest(RequestId id, const wire::ModelCard& card) {
  wire::GenerateRequest request;
  request.id = id;
  request.model = card.name;
  request.prompt = {card.bos_token_id >= 0 ? card.bos_token_id : 0};
  request.sampling.temperature = 0;
  if (card.task == wire::ModelTask::kGenerate) {
    request.stop.max_tokens = 1;
    request.stop.ignore_eos = true;
  } else {
    request.pool.emplace();
  }
  request.priority = 1;
  request.routing.emplace().anywhere = true;
  return request;
}

}  // namespace

EngineWatch::EngineWatch(rt::Loop& loop, WorkerLink& link, const ReadinessOptions& options,
                         std::function<RequestId()> next_id)
    : loop_(loop),
      link_(link),
      options_(options),
      next_id_(std::move(next_id)),
      readiness_(options, loop.Now()),
      probe_(loop) {}

EngineWatch::~EngineWatch() { tasks_.Clear(); }

void EngineWatch::Start() { tasks_.Start(Run()); }

void EngineWatch::OnToken() { readiness_.OnToken(loop_.Now()); }

void EngineWatch::Probe() {
  readiness_.Observe(link_.load(), loop_.Now());
  probe_.WakeAll();
}

bool EngineWatch::ready() {
  readiness_.Observe(link_.load(), loop_.Now());
  return readiness_.ready(loop_.Now());
}

std::string EngineWatch::Describe() const { return readiness_.Describe(loop_.Now()); }

rt::Task<std::optional<Error>> EngineWatch::Canary() {
  const WorkerLoad before = link_.load();
  const RequestId id = next_id_();
  auto answer = std::make_shared<Answer>(loop_);
  const Result<void> sent =
      link_.Generate(SmallRequest(id, link_.card()), [answer](const wire::TokenFrame& frame) {
        answer->token = answer->token || !frame.tokens.empty() || !frame.pooled.empty();
        if (frame.finish) {
          answer->error = frame.error;
          answer->ended.Set();
        }
      });
  if (!sent) {
    // A full queue is no sign of illness: own traffic proves what a canary would, or the stall
    // limit what it does not.
    const bool full = sent.error().code() == Code::kResourceExhausted;
    if (!full || !IsIdle(before)) {
      co_return full ? std::nullopt : std::optional(sent.error());
    }
    // Full of requests of which it says nothing: it has to begin with them.
    auto beginning = loop_.SleepFor(options_.canary_timeout);
    co_await std::move(beginning);
    const WorkerLoad after = link_.load();
    co_return IsIdle(after) && after.steps == before.steps
        ? std::optional(Error(Code::kDeadlineExceeded, "it is full of requests and begins none"))
        : std::nullopt;
  }
  const bool ended = co_await answer->ended.Wait(loop_.Now() + options_.canary_timeout);
  if (!ended) {
    link_.Cancel({id, std::nullopt});
    // It may wait behind a long prompt: whether that goes on is for the stall limit to say.
    co_return !IsIdle(before)
        ? std::nullopt
        : std::optional(Error(Code::kDeadlineExceeded, "a test request did not end in time"));
  }
  if (answer->error) {
    co_return *answer->error;
  }
  if (!answer->token) {
    co_return Error(Code::kInternal, "a test request gave no result");
  }
  OnToken();
  co_return std::nullopt;
}

rt::Task<void> EngineWatch::Run() {
  while (true) {
    readiness_.Observe(link_.load(), loop_.Now());
    rt::Duration pause = options_.canary_interval / 4;
    if (!stopped_ && readiness_.CanaryDue(loop_.Now())) {
      const std::optional<Error> error = co_await Canary();
      if (error) {
        readiness_.OnCanaryFailed(error->ToString());
        pause = std::min(pause, rt::Duration(std::chrono::seconds(1)));
      }
    }
    if (readiness_.slept()) {
      pause = std::min(pause, kSleepPoll);
    }
    co_await probe_.Wait(loop_.Now() + pause);
  }
}

}  // namespace pixii::control
