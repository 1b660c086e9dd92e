#include "worker/ranked_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "control/joined_answers.h"

namespace pixii::worker {

using control::JoinedAnswers;

namespace {

constexpr rt::Duration kPatienceMax = std::chrono::hours(24);

RankPlacementOptions PlacementOf(RankPlacementOptions options,
                                 const std::vector<std::unique_ptr<LocalLink>>& ranks) {
  options.rank_count = static_cast<std::uint32_t>(ranks.size());
  options.rank_places = ranks.front()->card().batch_sequences_max;
  return options;
}

void Add(const engine::EngineLoad& rank, engine::EngineLoad& sum) {
  control::AddLoad(rank, sum);
  sum.engine.steps += rank.engine.steps;
  sum.engine.sampled_tokens += rank.engine.sampled_tokens;
  sum.engine.faults += rank.engine.faults;
  sum.engine.retried_chunks += rank.engine.retried_chunks;
  sum.engine.steps_ahead += rank.engine.steps_ahead;
  sum.engine.failed_requests += rank.engine.failed_requests;
  sum.engine.expired_requests += rank.engine.expired_requests;
  sum.engine.cancelled_requests += rank.engine.cancelled_requests;
  sum.engine.drafts += rank.engine.drafts;
  sum.engine.drafted_tokens += rank.engine.drafted_tokens;
  sum.engine.accepted_tokens += rank.engine.accepted_tokens;
  sum.audits.equal += rank.audits.equal;
  sum.audits.mismatches += rank.audits.mismatches;
  sum.audits.given_up += rank.audits.given_up;
  sum.scheduler.preemptions += rank.scheduler.preemptions;
  sum.scheduler.cached_tokens += rank.scheduler.cached_tokens;
  sum.scheduler.computed_tokens += rank.scheduler.computed_tokens;
  sum.scheduler.swapped_out_blocks += rank.scheduler.swapped_out_blocks;
  sum.scheduler.swapped_in_blocks += rank.scheduler.swapped_in_blocks;
  sum.scheduler.swap_refusals += rank.scheduler.swap_refusals;
  sum.scheduler.swap_failures += rank.scheduler.swap_failures;
  sum.scheduler.prefix_waits += rank.scheduler.prefix_waits;
  sum.blocks.lookup_hits += rank.blocks.lookup_hits;
  sum.blocks.lookup_misses += rank.blocks.lookup_misses;
  sum.blocks.evictions += rank.blocks.evictions;
  sum.blocks.published += rank.blocks.published;
  sum.blocks.duplicates += rank.blocks.duplicates;
  sum.blocks.collisions += rank.blocks.collisions;
  sum.sessions.live += rank.sessions.live;
  sum.sessions.blocks += rank.sessions.blocks;
  sum.sessions.begun += rank.sessions.begun;
  sum.sessions.ended += rank.sessions.ended;
  sum.sessions.expired += rank.sessions.expired;
  sum.sessions.displaced += rank.sessions.displaced;
  sum.adapter_evictions += rank.adapter_evictions;
}

}  // namespace

RankedLink::RankedLink(rt::Loop& loop, std::vector<std::unique_ptr<LocalLink>> ranks,
                       RankedLinkOptions options)
    : loop_(loop),
      options_(std::move(options)),
      placement_(PlacementOf(options_.placement, ranks)),
      ranks_(std::move(ranks)) {}

RankedLink::~RankedLink() {
  *alive_ = false;
  for (const RoutePtr& route : waiting_) {
    loop_.CancelTimer(route->timer);
  }
}

Result<void> RankedLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (closed_) {
    return Fail(*closed_);
  }
  if (routes_.contains(request.id)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("request id {} is already running", Raw(request.id)), "id");
  }
  if (request.dp_rank && !placement_.exists(*request.dp_rank)) {
    if (options_.on_unknown_rank) {
      options_.on_unknown_rank(*request.dp_rank);
    }
    request.dp_rank.reset();
  }
  if (request.dp_rank_wait_ns < 0 && options_.mode == RankMode::kNone) {
    request.dp_rank.reset();
  } else if (request.dp_rank_wait_ns < 0 && options_.mode == RankMode::kRelaxed) {
    request.dp_rank_wait_ns = options_.max_wait.count();
  }
  auto route = std::make_shared<Route>();
  route->on_frame = std::move(on_frame);
  route->since = loop_.Now();
  route->live = request.choice_count;
  route->ended.resize(request.choice_count);
  route->cancelled.resize(request.choice_count);
  route->begun.resize(request.choice_count);
  route->request = std::move(request);
  route->request.generated.resize(route->ended.size());
  route->request.states.resize(route->ended.size());
  const RankPlacement::Decision decision = Place(*route);
  if (decision.kind == RankPlacement::Decision::Kind::kNobody) {
    return Fail(Code::kUnavailable, "every rank of this worker has failed");
  }
  if (decision.kind == RankPlacement::Decision::Kind::kGo) {
    PX_CHECK_OK(Send(route, decision.rank));
    routes_.emplace(route->request.id, route);
    return {};
  }
  if (waiting_.size() >= options_.waiting_max) {
    return Fail(Code::kResourceExhausted,
                fmt::format("{} requests wait for a place at a rank", waiting_.size()));
  }
  routes_.emplace(route->request.id, route);
  Wait(route);
  return {};
}

RankPlacement::Decision RankedLink::Place(const Route& route) {
  const wire::GenerateRequest& request = route.request;
  RankPlacement::Wish wish{.rank = request.dp_rank,
                           .wait = {},
                           .session = request.session,
                           .sequences = request.choice_count};
  if (request.dp_rank_wait_ns >= 0) {
    wish.wait = rt::Duration(request.dp_rank_wait_ns);
  }
  return placement_.Place(wish, loop_.Now() - route.since);
}

// What it has cost to wait, or to begin elsewhere, is taken off its deadline.
Result<void> RankedLink::Send(const RoutePtr& route, std::uint32_t rank) {
  wire::GenerateRequest request = route->request;
  const std::uint32_t choices = request.choice_count;
  if (std::ranges::all_of(request.generated, &std::vector<TokenId>::empty)) {
    request.generated.clear();
    request.states.clear();
  }
  request.prompt_logprobs = request.prompt_logprobs && !route->prompt_said;
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns -= (loop_.Now() - route->since).count();
    if (request.deadline_left_ns <= 0) {
      return Fail(Code::kDeadlineExceeded, "the request's deadline passed");
    }
  }
  PX_CHECK_OK(ranks_[rank]->Generate(
      std::move(request),
      [this, route, rank](wire::TokenFrame frame) { TakeFrame(route, rank, std::move(frame)); }));
  route->rank = rank;
  route->lost = 0;
  placement_.Take(rank, choices);
  for (std::uint32_t choice = 0; choice < choices; ++choice) {
    if (route->ended[choice] || route->cancelled[choice]) {
      ranks_[rank]->Cancel({.id = route->request.id, .choice = choice});
    }
  }
  return {};
}

void RankedLink::Wait(const RoutePtr& route) {
  waiting_.push_back(route);
  rt::Duration patience = std::min(kPatienceMax, rt::Duration(route->request.dp_rank_wait_ns));
  if (route->request.deadline_left_ns > 0) {
    patience = std::min(patience, rt::Duration(route->request.deadline_left_ns));
  }
  route->timer = loop_.RunAt(route->since + patience, [this, route] {
    route->timer = rt::TimerId::kNone;
    SendWaiting();
  });
}

// Whoever has a place now, or waited for long enough, goes.
void RankedLink::SendWaiting() {
  const auto late = [this](const Route& route) {
    const std::int64_t deadline = route.request.deadline_left_ns;
    return deadline > 0 && loop_.Now() - route.since >= rt::Duration(deadline);
  };
  while (true) {
    RankPlacement::Decision decision;
    const auto found = std::ranges::find_if(waiting_, [&](const RoutePtr& route) {
      decision = Place(*route);
      return decision.kind != RankPlacement::Decision::Kind::kWait || late(*route);
    });
    if (found == waiting_.end()) {
      return;
    }
    const RoutePtr route = *found;
    waiting_.erase(found);  // first: sending it may change the list
    loop_.CancelTimer(route->timer);
    Result<void> sent = Fail(Code::kUnavailable, "every rank of this worker has failed");
    if (late(*route)) {
      sent = Fail(Code::kDeadlineExceeded, "the request's deadline passed");
    } else if (decision.kind == RankPlacement::Decision::Kind::kGo) {
      sent = Send(route, decision.rank);
    }
    if (!sent) {
      EndLater(route, sent.error());
    }
  }
}

// Not inside the call that found it out.
void RankedLink::EndLater(const RoutePtr& route, const Error& error) {
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_), route, error] {
    if (!alive.expired()) {
      EndAll(route, error);
    }
  });
}

void RankedLink::TakeFrame(const RoutePtr& held, std::uint32_t rank, wire::TokenFrame frame) {
  const RoutePtr route = held;  // its handler may end what holds it
  const std::uint32_t choice = frame.choice;
  const bool freed = frame.finish.has_value();
  if (freed) {
    placement_.Free(rank, 1);
  }
  if (route->ended[choice] || IsLost(route, rank, frame)) {
    return;
  }
  wire::GenerateRequest& request = route->request;
  std::vector<TokenId>& generated = request.generated[choice];
  generated.insert(generated.end(), frame.tokens.begin(), frame.tokens.end());
  if (!frame.tokens.empty()) {
    request.states[choice] = frame.state;
  }
  if (!frame.adapter_version.empty()) {
    request.adapter_version = frame.adapter_version;
  }
  if (route->begun[choice]) {
    frame.cached_tokens = 0;  // of another rank's beginning
  } else {
    frame.dp_rank = rank;
  }
  route->begun[choice] = true;
  route->prompt_said = route->prompt_said || !frame.prompt_logprobs.empty();
  if (freed) {
    route->ended[choice] = true;
    if (--route->live == 0) {
      Forget(route);  // first: the handler may send another of this id
    }
    SendWaiting();
  }
  const FrameHandler on_frame = route->on_frame;
  on_frame(std::move(frame));
}

// Whether the choice goes on at another rank, because this one died under it.
bool RankedLink::IsLost(const RoutePtr& route, std::uint32_t rank, const wire::TokenFrame& frame) {
  if (frame.finish != wire::FinishReason::kError || !frame.error ||
      frame.error->code() != Code::kUnavailable || closed_ ||
      !ranks_[rank]->engine_load().device_failed) {
    return false;
  }
  MarkDead(rank, *frame.error);
  if (++route->lost == route->live) {
    Move(route, *frame.error);
  }
  return true;
}

void RankedLink::Move(const RoutePtr& route, const Error& why) {
  route->rank.reset();
  for (std::uint32_t choice = 0; choice < route->ended.size(); ++choice) {
    if (!route->ended[choice] && route->cancelled[choice]) {
      End(route, choice, wire::FinishReason::kCancelled, std::nullopt);
    }
  }
  if (route->live == 0) {
    return;
  }
  const RankPlacement::Decision decision = Place(*route);
  if (decision.kind == RankPlacement::Decision::Kind::kGo) {
    if (Result<void> sent = Send(route, decision.rank); !sent) {
      EndAll(route, sent.error());
    }
  } else {
    EndAll(route, why);
  }
}

void RankedLink::MarkDead(std::uint32_t rank, const Error& why) {
  if (placement_.dead(rank)) {
    return;
  }
  placement_.MarkDead(rank);
  if (options_.on_dead_rank) {
    options_.on_dead_rank(rank, why);
  }
  if (on_kv_events_) {
    wire::KvEvent gone;
    gone.rank = rank;
    gone.kind = wire::KvEvent::Kind::kCleared;
    on_kv_events_({gone});
  }
  if (on_engine_kv_events_) {
    wire::EngineKvEvent gone;
    gone.kind = wire::EngineKvEvent::Kind::kCleared;
    on_engine_kv_events_(rank, {gone});
  }
  // Later: this is called from a rank's handler.
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) {
      SendWaiting();
    }
  });
}

void RankedLink::End(const RoutePtr& route, std::uint32_t choice, wire::FinishReason finish,
                     const std::optional<Error>& error) {
  route->ended[choice] = true;
  if (--route->live == 0) {
    Forget(route);
  }
  wire::TokenFrame frame;
  frame.id = route->request.id;
  frame.choice = choice;
  frame.finish = finish;
  frame.error = error;
  const FrameHandler on_frame = route->on_frame;
  on_frame(std::move(frame));
}

void RankedLink::EndAll(const RoutePtr& route, const Error& error) {
  for (std::uint32_t choice = 0; choice < route->ended.size(); ++choice) {
    if (!route->ended[choice]) {
      const bool cancelled = route->cancelled[choice];
      End(route, choice, cancelled ? wire::FinishReason::kCancelled : wire::FinishReason::kError,
          cancelled ? std::nullopt : std::optional(error));
    }
  }
}

void RankedLink::Forget(const RoutePtr& route) {
  const auto found = routes_.find(route->request.id);
  if (found != routes_.end() && found->second == route) {
    routes_.erase(found);
  }
}

void RankedLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = routes_.find(cancel.id);
  if (found == routes_.end()) {
    return;
  }
  const RoutePtr route = found->second;
  for (std::uint32_t choice = 0; choice < route->ended.size(); ++choice) {
    if (!cancel.choice || *cancel.choice == choice) {
      route->cancelled[choice] = true;
    }
  }
  if (route->rank) {
    ranks_[*route->rank]->Cancel(cancel);
    return;
  }
  const bool all = std::ranges::all_of(route->cancelled, [](bool one) { return one; });
  if (all && std::erase(waiting_, route) > 0) {
    loop_.CancelTimer(route->timer);
    EndLater(route, Error(Code::kCancelled, "it was cancelled while it waited"));
  }
}

void RankedLink::ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                               MemoryHandler on_done) {
  const auto answers = std::make_shared<JoinedAnswers<void>>(
      ranks_.size(),
      [this, tags, on_done = std::move(on_done)](const std::vector<Result<void>>& released) {
        const Result<void>* failure = control::FirstFailure(released);
        if (failure == nullptr) {
          on_done({});
          return;
        }
        const Error why = failure->error();
        const auto resumed = std::make_shared<JoinedAnswers<void>>(
            ranks_.size(),
            [on_done, why](const std::vector<Result<void>>&) { on_done(Fail(why)); });
        for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
          ranks_[rank]->ResumeMemory(tags, resumed->At(rank));
        }
      });
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank]->ReleaseMemory(tags, patience, answers->At(rank));
  }
}

void RankedLink::ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) {
  const auto answers = std::make_shared<JoinedAnswers<void>>(
      ranks_.size(), control::AllOrFirstFailure(std::move(on_done)));
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank]->ResumeMemory(tags, answers->At(rank));
  }
}

void RankedLink::ClearCache(control::CacheDepth depth, MemoryHandler on_done) {
  const auto answers = std::make_shared<JoinedAnswers<void>>(
      ranks_.size(), control::AllOrFirstFailure(std::move(on_done)));
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank]->ClearCache(depth, answers->At(rank));
  }
}

Result<void> RankedLink::WatchKvEvents(KvEventHandler on_events) {
  on_kv_events_ = std::move(on_events);
  for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    PX_CHECK_OK(ranks_[rank]->WatchKvEvents([this, rank](std::vector<wire::KvEvent> events) {
      if (placement_.dead(rank)) {
        return;
      }
      for (wire::KvEvent& event : events) {
        event.rank = rank;
      }
      on_kv_events_(std::move(events));
    }));
  }
  return {};
}

Result<void> RankedLink::WatchEngineKvEvents(EngineKvHandler on_events) {
  on_engine_kv_events_ = std::move(on_events);
  for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    PX_CHECK_OK(ranks_[rank]->WatchEngineKvEvents(
        [this, rank](std::uint32_t /*own*/, std::vector<wire::EngineKvEvent> events) {
          if (!placement_.dead(rank)) {
            on_engine_kv_events_(rank, std::move(events));
          }
        }));
  }
  return {};
}

std::vector<control::WorkerLoad> RankedLink::rank_loads() const {
  std::vector<control::WorkerLoad> loads;
  for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
    control::WorkerLoad& load = loads.emplace_back(ranks_[rank]->load());
    load.state = placement_.dead(rank) ? control::WorkerState::kDead : load.state;
  }
  for (const RoutePtr& route : waiting_) {
    loads[*route->request.dp_rank].queued += route->live;
  }
  return loads;
}

// Awake while any rank is.
control::WorkerLoad RankedLink::load() const {
  control::WorkerLoad sum;
  bool awake = false;
  for (const control::WorkerLoad& load : rank_loads()) {
    awake = awake || load.state == control::WorkerState::kAwake;
    sum.state = load.state;
    control::AddLoad(load, sum);
  }
  sum.state = awake ? control::WorkerState::kAwake : sum.state;
  return sum;
}

void RankedLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  const auto answers = std::make_shared<JoinedAnswers<wire::AdapterCard>>(
      ranks_.size(), [this, name = request.name,
                      on_done = std::move(on_done)](std::vector<Result<wire::AdapterCard>> loaded) {
        const Result<wire::AdapterCard>* failure = control::FirstFailure(loaded);
        for (std::size_t rank = 0; failure != nullptr && rank < ranks_.size(); ++rank) {
          if (loaded[rank]) {
            ranks_[rank]->UnloadAdapter(name, [](const Result<wire::AdapterCard>&) {});
          }
        }
        on_done(failure == nullptr ? loaded.front() : *failure);
      });
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank]->LoadAdapter(request, answers->At(rank));
  }
}

void RankedLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  const auto answers = std::make_shared<JoinedAnswers<wire::AdapterCard>>(
      ranks_.size(),
      [on_done = std::move(on_done)](const std::vector<Result<wire::AdapterCard>>& unloaded) {
        const Result<wire::AdapterCard>* failure = control::FirstFailure(unloaded);
        on_done(failure == nullptr ? unloaded.front() : *failure);
      });
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
    ranks_[rank]->UnloadAdapter(name, answers->At(rank));
  }
}

engine::EngineLoad RankedLink::engine_load() const {
  engine::EngineLoad sum = ranks_.front()->engine_load();  // adapters are the same at all
  for (std::size_t rank = 1; rank < ranks_.size(); ++rank) {
    Add(ranks_[rank]->engine_load(), sum);
  }
  return sum;
}

void RankedLink::Drain() {
  if (!closed_) {
    closed_ = Error(Code::kShuttingDown, "the worker drains and takes no new requests");
  }
}

void RankedLink::Close(const Error& error) {
  closed_ = error;
  for (const RoutePtr& route : std::exchange(waiting_, std::list<RoutePtr>())) {
    loop_.CancelTimer(route->timer);
    EndAll(route, error);
  }
  for (const std::unique_ptr<LocalLink>& rank : ranks_) {
    rank->Close(error);
  }
}

}  // namespace pixii::worker
