#include "frontend/fleet/fleet_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/instance_codec.h"
#include "frontend/fleet/route_texts.h"

namespace pixii::frontend {

using control::InstanceId;
using control::RemoteLink;

namespace {

// Between two looks for a worker of a request that none would take.
constexpr rt::Duration kRetryPause = std::chrono::milliseconds(100);

FleetOptions WithTerms(FleetOptions options) {
  options.router.tells_terms =
      options.log != nullptr && options.log->enabled(obs::EventId::kRouterDecision);
  return options;
}

// What the router reads of a card.
bool SameForRouter(const wire::ModelCard& a, const wire::ModelCard& b) {
  return a.block_count == b.block_count && a.batch_tokens_max == b.batch_tokens_max &&
         a.block_tokens == b.block_tokens;
}

}  // namespace

FleetLink::FleetLink(rt::Loop& loop, rt::Net& net, wire::ModelCard card, FleetOptions options)
    : loop_(loop),
      net_(net),
      card_(std::move(card)),
      options_(WithTerms(std::move(options))),
      router_(options_.router, options_.seed) {
  if (options_.registry != nullptr) {
    metrics_.emplace(*options_.registry, card_.name);
    router_.WatchStages([this](router::RouteStage stage) {
      times_.matched = loop_.Now();
      if (stage == router::RouteStage::kHashed) {
        times_.hashed = times_.matched;
      }
    });
  }
}

FleetLink::~FleetLink() {
  *alive_ = false;
  loop_.CancelTimer(timer_);
}

Result<void> FleetLink::SetInstance(const control::Instance& instance) {
  const wire::ModelCard& card = instance.card;
  if (card.name != card_.name || card.fingerprint != card_.fingerprint ||
      card.vocab_size != card_.vocab_size || card.block_tokens != card_.block_tokens) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("worker {:x} serves {} ({}, blocks of {}), the others {} ({}, blocks of "
                    "{})",
                    static_cast<std::uint64_t>(instance.id), card.name, card.fingerprint,
                    card.block_tokens, card_.name, card_.fingerprint, card_.block_tokens),
        "model");
  }
  PX_TRY(rt::Address address, rt::ParseAddress(instance.address));
  Worker& worker = workers_[instance.id];
  const bool same = worker.link && worker.instance.address == instance.address;
  worker.instance = instance;
  worker.listed = true;
  worker.changed = true;
  if (!same) {
    if (worker.link) {
      retired_.push_back(std::move(worker.link));
      SweepLater();
    }
    control::MuxClientOptions client = options_.client;
    client.address = std::move(address);
    client.expected_peer = control::InstanceName(instance.id);
    worker.link = std::make_unique<RemoteLink>(loop_, net_, std::move(client), card,
                                               [this, id = instance.id] { OnWorkerChange(id); });
  }
  OnWorkerChange(instance.id);
  return {};
}

void FleetLink::RemoveInstance(InstanceId instance) {
  const auto found = workers_.find(instance);
  if (found != workers_.end()) {
    found->second.listed = false;
    OnWorkerChange(instance);
    SweepLater();
  }
}

void FleetLink::OnWorkerChange(InstanceId instance) {
  const auto found = workers_.find(instance);
  if (found == workers_.end() || !found->second.link) {  // the link is being made
    return;
  }
  Worker& worker = found->second;
  const bool here = worker.link->state() == RemoteLink::State::kHere;
  if (std::exchange(worker.connected, here) != here && options_.on_connection) {
    options_.on_connection(instance, here);
  }
  const bool takes = here && worker.listed && !worker.instance.draining &&
                     worker.link->load().state == control::WorkerState::kAwake;
  const bool took = std::exchange(worker.routed, takes);
  if (takes) {
    worker.changed = worker.changed || !took;
    TellRouter(worker);
    if (!took) {
      ListenToCache(worker);
      LoadWantedAdapters(worker);
      RetryWaiting();
    }
  } else if (took) {
    router_.RemoveWorker(instance);
  }
  if (took != takes && options_.on_workers) {
    options_.on_workers();
  }
  if (!retired_.empty()) {
    SweepLater();
  }
  JoinAdapterCards();
  Pump();
}

void FleetLink::TellRouter(Worker& worker) {
  const wire::ModelCard& card = worker.link->card();
  if (std::exchange(worker.changed, false) || !SameForRouter(card, worker.instance.card)) {
    worker.instance.card = card;
    router_.SetWorker(worker.instance);
  }
  std::uint32_t rank = worker.instance.rank_first;
  for (const control::WorkerLoad& load : worker.link->rank_loads()) {
    router_.OnLoad(worker.instance.id, rank++, load, loop_.Now());
  }
  if (router_.index() != nullptr && worker.link->kv_unsupported() && options_.log != nullptr &&
      !std::exchange(worker.no_events_said, true)) {
    obs::Event(*options_.log, obs::EventId::kRouterNoEvents)
        .kv("worker", Raw(worker.instance.id))
        .kv("address", worker.instance.address);
  }
}

// Anew each time that the router gets the worker: it knows nothing of it then.
void FleetLink::ListenToCache(Worker& worker) {
  if (router_.index() != nullptr) {
    // A remote link takes every handler; a worker without events never calls it.
    (void)worker.link->WatchKvEvents(
        [this, id = worker.instance.id](const std::vector<wire::KvEvent>& events) {
          router_.OnKvEvents(id, events, loop_.Now());
        });
  }
}

std::vector<AdapterWorker> FleetLink::AdapterWorkers() const {
  std::vector<AdapterWorker> out;
  for (const auto& [id, worker] : workers_) {
    if (worker.routed) {
      out.push_back({.instance = id, .adapters = &worker.link->card().adapters});
    }
  }
  return out;
}

// What requests may name is what any worker has, or was told to have a moment ago.
void FleetLink::JoinAdapterCards() {
  card_.adapters = JoinAdapters(AdapterWorkers());
  for (const auto& [name, wanted] : wanted_adapters_) {
    if (std::ranges::find(card_.adapters, name, &wire::AdapterCard::name) == card_.adapters.end()) {
      card_.adapters.push_back(wanted.card);
    }
  }
}

// A worker that comes gets what the others were told to load; requests go there once it says that
// it has it.
void FleetLink::LoadWantedAdapters(Worker& worker) {
  for (const auto& [name, wanted] : wanted_adapters_) {
    const std::vector<wire::AdapterCard>& has = worker.link->card().adapters;
    const auto found = std::ranges::find(has, name, &wire::AdapterCard::name);
    if (found == has.end() || found->version != wanted.card.version) {
      worker.link->LoadAdapter(wanted.request, [](const Result<wire::AdapterCard>&) {});
    }
  }
}

void FleetLink::FetchFiles(RemoteLink::FilesHandler on_done) {
  for (auto& [id, worker] : workers_) {
    if (worker.routed) {  // one that drains answers no new call
      worker.link->FetchFiles(std::move(on_done));
      return;
    }
  }
  on_done(Fail(Code::kUnavailable, "no worker is there to give them"));
}

std::size_t FleetLink::worker_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(workers_, [](const auto& one) { return one.second.routed; }));
}

bool FleetLink::uses(InstanceId instance) const {
  const auto found = workers_.find(instance);
  return found != workers_.end() && found->second.routed;
}

std::size_t FleetLink::attempt_count() const {
  std::size_t count = std::max(attempts_.size(), router_.outstanding_count());
  for (const auto& [id, worker] : workers_) {
    count = std::max(count, worker.link->outstanding_count());
  }
  for (const auto& link : retired_) {
    count = std::max(count, link->outstanding_count());
  }
  return count;
}

void FleetLink::ExportMetrics() {
  if (metrics_) {
    metrics_->Export(router_, static_cast<std::size_t>(std::ranges::count_if(
                                  workers_, [](const auto& one) { return one.second.listed; })));
  }
}

Result<control::RouteExplanation> FleetLink::ExplainRoute(const wire::GenerateRequest& request) {
  const router::RouteRequest route = Wanted(request);
  return ExplanationOf(router_, router_.Foresee(route, loop_.Now()), route.tokens.size());
}

Result<void> FleetLink::SetBusyThresholds(const control::BusyThresholds& thresholds) {
  router_.SetBusyThresholds(thresholds.decode_blocks, thresholds.prefill_tokens,
                            thresholds.prefill_tokens_frac);
  Pump();
  return {};
}

control::BusyThresholds FleetLink::busy_thresholds() const {
  const router::RouterOptions& options = router_.options();
  return {.decode_blocks = options.active_decode_blocks_threshold,
          .prefill_tokens = options.active_prefill_tokens_threshold,
          .prefill_tokens_frac = options.active_prefill_tokens_threshold_frac};
}

Result<void> FleetLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const RequestId id = request.id;
  auto entry = std::make_shared<Entry>(std::move(request), options_.flight, std::move(on_frame));
  entry->begun = loop_.Now();
  if (const std::int64_t left = entry->flight.request().deadline_left_ns; left > 0) {
    entry->deadline = entry->begun + rt::Duration(left);
    deadlines_.emplace(entry->deadline, id);
  }
  entries_.emplace(id, entry);
  Submit(entry);
  // Not inside this call: its frames must not come before it returns.
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      Pump();
    }
  });
  return {};
}

void FleetLink::Submit(const EntryPtr& entry) {
  entry->attempt = RequestId{++last_attempt_};
  entry->where = Entry::Where::kQueued;
  entry->has_token = false;
  entry->told_worker = false;
  attempts_.emplace(entry->attempt, entry);
  entry->advised = false;
  Route(entry);
}

// A rank without a worker that no worker has is a wish that nobody can grant; of a worker it is an
// order.
router::RouteRequest FleetLink::Wanted(const wire::GenerateRequest& request) const {
  router::RouteRequest out = RouteRequestOf(request);
  const auto has = [&](const auto& one) {
    const control::Instance& instance = one.second.instance;
    return *out.rank >= instance.rank_first &&
           *out.rank - instance.rank_first < instance.rank_count;
  };
  if (out.rank && !out.pinned && std::ranges::none_of(workers_, has)) {
    out.rank.reset();
  }
  return out;
}

router::RouteRequest FleetLink::RouteOf(const Entry& entry) const {
  router::RouteRequest out = Wanted(entry.flight.request());
  if (entry.flight.request().dp_rank && !out.rank && options_.log != nullptr) {
    obs::Event(*options_.log, obs::EventId::kRankUnknown)
        .kv("rank", *entry.flight.request().dp_rank);
  }
  out.id = entry.attempt;
  out.excluded = entry.failed_at;
  if (const std::string& adapter = entry.flight.request().adapter; !adapter.empty()) {
    const std::vector<InstanceId> others = NotForAdapter(adapter, AdapterWorkers());
    out.excluded.insert(out.excluded.end(), others.begin(), others.end());
  }
  return out;
}

void FleetLink::Route(const EntryPtr& entry) {
  router::RouteRequest request = RouteOf(*entry);
  const auto on_advice = [this, attempt = entry->attempt, alive = std::weak_ptr<bool>(alive_)](
                             const std::optional<Result<router::Advice>>& advice) {
    if (const auto here = alive.lock(); here && *here) {
      OnAdvice(attempt, advice);
    }
  };
  if (options_.adviser == nullptr || !options_.adviser->Ask(request, on_advice)) {
    RouteHere(std::move(request));
  }
}

// The own router counts it where the adviser wants it, if that worker is here; else it decides.
void FleetLink::OnAdvice(RequestId attempt, const std::optional<Result<router::Advice>>& advice) {
  const auto found = attempts_.find(attempt);
  if (found == attempts_.end()) {
    return;  // it was cancelled meanwhile
  }
  const EntryPtr entry = found->second;
  const std::weak_ptr<bool> alive(alive_);
  if (advice && !*advice) {
    Send(entry, {.id = attempt, .target = Fail(advice->error())});
  } else {
    router::RouteRequest request = RouteOf(*entry);
    if (advice) {
      const router::Advice& said = **advice;
      const auto worker = workers_.find(said.target.instance);
      entry->advised = worker != workers_.end() && worker->second.routed;
      if (entry->advised) {
        entry->advised_overlap = said.overlap_tokens;
        request.pinned = said.target.instance;
        request.rank = said.target.rank;
      }
    }
    RouteHere(std::move(request));
  }
  if (!alive.expired()) {
    Pump();
  }
}

void FleetLink::RouteHere(router::RouteRequest request) {
  const rt::Time now = loop_.Now();
  times_ = {.begun = now, .hashed = now, .matched = now, .decided = now};
  router_.Submit(std::move(request), now);
  if (metrics_) {
    times_.decided = loop_.Now();
    metrics_->OnRouted(times_);
  }
}

void FleetLink::Say(const router::Dispatch& dispatch) const {
  if (options_.router.tells_terms) {
    obs::Event event(*options_.log, obs::EventId::kRouterDecision);
    event.kv("attempt", Raw(dispatch.id)).kv("mode", ModeName(options_.router.mode));
    if (dispatch.target) {
      event.kv("worker", Raw(dispatch.target->instance))
          .kv("rank", dispatch.target->rank)
          .kv("overlap_tokens", dispatch.overlap_tokens);
    } else {
      event.kv("why", dispatch.target.error().ToString());
    }
    event.kv("candidates", TermsText(dispatch.candidates));
  }
}

void FleetLink::Pump() {
  if (pumping_) {
    return;  // the loop below goes on
  }
  pumping_ = true;
  const std::weak_ptr<bool> alive(alive_);
  while (true) {
    const std::vector<router::Dispatch> dispatches = router_.TakeDispatches(loop_.Now());
    if (dispatches.empty()) {
      break;
    }
    for (const router::Dispatch& dispatch : dispatches) {
      Say(dispatch);
      const auto found = attempts_.find(dispatch.id);
      if (found != attempts_.end()) {
        Send(EntryPtr(found->second), dispatch);
        if (alive.expired()) {
          return;
        }
      }
    }
  }
  pumping_ = false;
  SetTimer();
  if (on_pumped_) {
    on_pumped_();
  }
}

void FleetLink::Send(const EntryPtr& entry, const router::Dispatch& dispatch) {
  if (!dispatch.target) {
    if (std::exchange(entry->advised, false)) {  // as the adviser cannot know: anybody else then
      router_.Withdraw(entry->attempt, loop_.Now());
      RouteHere(RouteOf(*entry));
      return;
    }
    NobodyTakes(entry, dispatch.target.error());
    return;
  }
  if (options_.adviser != nullptr) {
    const std::uint64_t prompt = entry->flight.request().prompt.size();
    const std::uint64_t cached = entry->advised ? entry->advised_overlap : dispatch.overlap_tokens;
    options_.adviser->OnSent(entry->attempt, *dispatch.target, prompt - std::min(prompt, cached));
  }
  Worker& worker = workers_.at(dispatch.target->instance);
  entry->target = *dispatch.target;
  entry->link = worker.link.get();
  entry->where = Entry::Where::kRunning;
  wire::GenerateRequest request = entry->flight.Attempt();
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  const RequestId attempt = entry->attempt;
  request.id = attempt;
  request.routing.reset();
  if (worker.instance.rank_count > 1) {
    request.dp_rank = entry->target.rank;
  }
  Result<void> taken = worker.link->Generate(
      std::move(request),
      [this, entry, attempt, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          OnFrame(entry, attempt, std::move(frame));
        }
      });
  if (!taken) {
    if (taken.error().code() == Code::kResourceExhausted) {
      router_.OnOverloaded(entry->target.instance, loop_.Now());
    }
    Apply(entry, entry->flight.OnRefused(taken.error()));
    return;
  }
  for (const std::uint32_t choice : entry->flight.ended_choices()) {
    worker.link->Cancel({attempt, choice});
  }
}

void FleetLink::OnFrame(const EntryPtr& entry, RequestId attempt, wire::TokenFrame frame) {
  if (entry->attempt != attempt || entry->where != Entry::Where::kRunning) {
    return;  // of a worker that the request has left
  }
  if (!frame.tokens.empty()) {
    if (!std::exchange(entry->has_token, true)) {
      router_.OnFirstToken(attempt, loop_.Now());
      if (options_.adviser != nullptr) {
        options_.adviser->OnFirstToken(attempt);
      }
    }
    const auto count = static_cast<std::uint32_t>(frame.tokens.size());
    router_.OnTokens(attempt, count, loop_.Now());
    if (options_.adviser != nullptr) {
      options_.adviser->OnTokens(attempt, count);
    }
  }
  if (frame.error && frame.error->code() == Code::kResourceExhausted) {
    router_.OnOverloaded(entry->target.instance, loop_.Now());
  }
  if (!std::exchange(entry->told_worker, true)) {
    frame.served_by = {.worker = Raw(entry->target.instance),
                       .rank = frame.dp_rank.value_or(entry->target.rank)};
  }
  const std::weak_ptr<bool> alive(alive_);
  Apply(entry, entry->flight.OnFrame(std::move(frame)));
  if (!alive.expired()) {  // the handler may have destroyed this
    Pump();
  }
}

// The request is not with router or worker any more.
void FleetLink::Leave(const EntryPtr& entry) {
  router_.Withdraw(entry->attempt, loop_.Now());
  if (options_.adviser != nullptr) {
    options_.adviser->Withdraw(entry->attempt);
  }
  attempts_.erase(entry->attempt);
}

void FleetLink::Apply(const EntryPtr& entry, Flight::Outcome outcome) {
  const RequestId id = entry->flight.request().id;
  counters_.moves_too_long += outcome.too_long ? 1 : 0;
  if (entry->flight.ended()) {
    Leave(entry);
    entries_.erase(id);  // first: the handler may send another of this id
    deadlines_.erase({entry->deadline, id});
    const auto worker = workers_.find(entry->target.instance);
    if (!retired_.empty() || (worker != workers_.end() && !worker->second.listed)) {
      SweepLater();
    }
  }
  const std::weak_ptr<bool> alive(alive_);
  for (wire::TokenFrame& frame : outcome.frames) {
    frame.id = id;
    entry->on_frame(std::move(frame));
    if (alive.expired()) {
      return;
    }
  }
  if (!outcome.move) {
    return;
  }
  ++(*outcome.move == Flight::MoveKind::kOngoing ? counters_.moves_ongoing
                                                 : counters_.moves_new_request);
  // What of it goes on there is for nobody.
  entry->link->Cancel({entry->attempt, std::nullopt});
  Leave(entry);
  entry->failed_at.push_back(entry->target.instance);
  entry->give_up = loop_.Now() + options_.patience;
  Submit(entry);
}

void FleetLink::NobodyTakes(const EntryPtr& entry, const Error& error) {
  const bool moved = !entry->failed_at.empty();
  const std::optional<Error>& failure = entry->flight.last_failure();
  const bool all_full = failure && failure->code() == Code::kResourceExhausted;
  if (!moved || (all_full && !entry->flight.begun()) || loop_.Now() >= entry->give_up) {
    Apply(entry, entry->flight.Fail(all_full ? *failure : error));
    return;
  }
  Leave(entry);
  entry->where = Entry::Where::kWaiting;
  entry->wake = std::min(entry->give_up, loop_.Now() + kRetryPause);
  waiting_.emplace(entry->wake, entry->flight.request().id);
}

// Better a worker that failed than none: it may have come back already.
void FleetLink::Retry(const EntryPtr& entry) {
  entry->failed_at.assign(1, InstanceId{});  // it has moved; nobody is excluded
  Submit(entry);
}

// A worker came.
void FleetLink::RetryWaiting() {
  for (const auto& [wake, id] : std::exchange(waiting_, {})) {
    Retry(entries_.at(id));
  }
}

void FleetLink::SetTimer() {
  rt::Time next = router_.next_time();
  for (const auto* times : {&waiting_, &deadlines_}) {
    next = times->empty() ? next : std::min(next, times->begin()->first);
  }
  if (next == timer_at_) {
    return;
  }
  loop_.CancelTimer(timer_);
  timer_at_ = next;
  timer_ = next == rt::kNever ? rt::TimerId::kNone : loop_.RunAt(next, [this] { OnTime(); });
}

// A worker that hangs does not end it by itself.
void FleetLink::EndLate(const EntryPtr& entry) {
  if (entry->where == Entry::Where::kRunning) {
    entry->link->Cancel({entry->attempt, std::nullopt});
  } else {
    waiting_.erase({entry->wake, entry->flight.request().id});
  }
  entry->where = Entry::Where::kQueued;  // what still comes is of an attempt that it has left
  Apply(entry, entry->flight.Fail(Error(Code::kDeadlineExceeded, "the request's deadline passed")));
}

void FleetLink::OnTime() {
  timer_ = rt::TimerId::kNone;
  timer_at_ = rt::kNever;
  const std::weak_ptr<bool> alive(alive_);
  while (!deadlines_.empty() && deadlines_.begin()->first <= loop_.Now()) {
    EndLate(EntryPtr(entries_.at(deadlines_.begin()->second)));
    if (alive.expired()) {
      return;
    }
  }
  while (!waiting_.empty() && waiting_.begin()->first <= loop_.Now()) {
    const EntryPtr entry = entries_.at(waiting_.begin()->second);
    waiting_.erase(waiting_.begin());
    if (loop_.Now() < entry->give_up) {
      Retry(entry);
      continue;
    }
    Apply(entry, entry->flight.Fail(Error(Code::kUnavailable,
                                          "its worker failed, and no other one came in time")));
    if (alive.expired()) {
      return;
    }
  }
  Pump();
}

void FleetLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = entries_.find(cancel.id);
  if (found == entries_.end()) {
    return;
  }
  const EntryPtr entry = found->second;
  entry->flight.OnCancel(cancel.choice);
  if (entry->where == Entry::Where::kRunning) {
    entry->link->Cancel({entry->attempt, cancel.choice});
  } else if (entry->flight.ended_choices().size() == entry->flight.request().choice_count) {
    waiting_.erase({entry->wake, cancel.id});
    Apply(entry, entry->flight.Fail(Error(Code::kCancelled, "it was cancelled")));
    Pump();
  }
}

// Workers and connections that are gone and have nothing left. Later: a link may stand below this
// call.
void FleetLink::SweepLater() {
  if (std::exchange(sweeping_, true)) {
    return;
  }
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      sweeping_ = false;
      std::erase_if(retired_, [](const auto& link) { return link->outstanding_count() == 0; });
      std::erase_if(workers_, [](const auto& one) {
        return !one.second.listed && one.second.link->outstanding_count() == 0;
      });
    }
  });
}

control::WorkerLoad FleetLink::load() const {
  control::WorkerLoad sum;
  bool awake = false;
  bool sleeps = false;
  for (const auto& [id, worker] : workers_) {
    const control::WorkerLoad load = worker.link->load();
    sum.running += load.running;
    sum.queued += load.queued;
    sum.blocks_used += load.blocks_used;
    sum.blocks_cached += load.blocks_cached;
    sum.blocks_total += load.blocks_total;
    sum.steps += load.steps;
    awake |= worker.routed;
    sleeps |= worker.connected && load.state == control::WorkerState::kAsleep;
  }
  sum.state = awake    ? control::WorkerState::kAwake
              : sleeps ? control::WorkerState::kAsleep
                       : control::WorkerState::kUnhealthy;
  return sum;
}

std::vector<RemoteLink*> FleetLink::LinksInUse() {
  std::vector<RemoteLink*> out;
  for (auto& [id, worker] : workers_) {
    if (worker.routed) {
      out.push_back(worker.link.get());
    }
  }
  return out;
}

// Who sleeps gets no requests, and yet must hear that it shall wake up.
std::vector<RemoteLink*> FleetLink::LinksThatMaySleep() {
  std::vector<RemoteLink*> out;
  for (auto& [id, worker] : workers_) {
    const bool here = worker.connected && worker.listed && !worker.instance.draining;
    if (here && !worker.link->goes_away()) {
      out.push_back(worker.link.get());
    }
  }
  return out;
}

// One answer of many: the first error, or what the last one said.
void FleetLink::ForEach(const std::vector<RemoteLink*>& links, MemoryHandler on_done,
                        const std::function<void(RemoteLink&, MemoryHandler)>& call) {
  struct Joined {
    MemoryHandler on_done;
    std::size_t left = 0;
    Result<void> result;
  };

  auto joined = std::make_shared<Joined>();
  joined->on_done = std::move(on_done);
  joined->left = links.size() + 1;
  const auto one = [joined](Result<void> done) {
    if (!done && joined->result) {
      joined->result = std::move(done);
    }
    if (--joined->left == 0) {
      joined->on_done(std::move(joined->result));
    }
  };
  for (RemoteLink* link : links) {
    call(*link, one);
  }
  one({});
}

void FleetLink::ForEveryWorker(AdapterHandler on_done,
                               const std::function<void(RemoteLink&, AdapterHandler)>& call) {
  auto card = std::make_shared<Result<wire::AdapterCard>>(
      Fail(Code::kUnavailable, "no worker is there to do it"));
  ForEach(
      LinksInUse(),
      [card, on_done = std::move(on_done)](Result<void> done) {
        on_done(done ? std::move(*card) : Result<wire::AdapterCard>(Fail(done.error())));
      },
      [card, &call](RemoteLink& link, MemoryHandler one) {
        call(link, [card, one = std::move(one)](Result<wire::AdapterCard> loaded) {
          const Result<void> done = loaded ? Result<void>() : Result<void>(Fail(loaded.error()));
          *card = std::move(loaded);
          one(done);
        });
      });
}

void FleetLink::ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                              MemoryHandler on_done) {
  ForEach(LinksThatMaySleep(), std::move(on_done), [&](RemoteLink& link, MemoryHandler one) {
    link.ReleaseMemory(tags, patience, std::move(one));
  });
}

void FleetLink::ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) {
  ForEach(LinksThatMaySleep(), std::move(on_done),
          [&](RemoteLink& link, MemoryHandler one) { link.ResumeMemory(tags, std::move(one)); });
}

void FleetLink::ClearCache(MemoryHandler on_done) {
  ForEach(LinksInUse(), std::move(on_done),
          [](RemoteLink& link, MemoryHandler one) { link.ClearCache(std::move(one)); });
}

void FleetLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  const AdapterHandler done = [this, request, on_done = std::move(on_done),
                               alive =
                                   std::weak_ptr<bool>(alive_)](Result<wire::AdapterCard> card) {
    const auto here = alive.lock();
    if (card && here && *here) {
      wanted_adapters_[card->name] = {.request = request, .card = *card};
      JoinAdapterCards();
    }
    on_done(std::move(card));
  };
  ForEveryWorker(done, [&](RemoteLink& link, AdapterHandler one) {
    link.LoadAdapter(request, std::move(one));
  });
}

void FleetLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  wanted_adapters_.erase(name);
  ForEveryWorker(std::move(on_done), [&](RemoteLink& link, AdapterHandler one) {
    link.UnloadAdapter(name, std::move(one));
  });
}

}  // namespace pixii::frontend
