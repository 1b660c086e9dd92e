#include "frontend/fleet/fleet_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/instance_codec.h"
#include "frontend/fleet/route_texts.h"
#include "obs/request_labels.h"
#include "obs/trace.h"

namespace pixii::frontend {

using control::InstanceId;
using control::RemoteLink;

namespace {

// Between two looks for a worker of a request that none would take.
constexpr rt::Duration kRetryPause = std::chrono::milliseconds(100);
// Between two looks whether who is gone may be forgotten.
constexpr rt::Duration kSweepPause = std::chrono::milliseconds(500);

std::int64_t SteadyNs(rt::Time at) { return at.time_since_epoch().count(); }

wire::RequestLeg::Phase PhaseOf(const wire::GenerateRequest& request) {
  using Phase = wire::RequestLeg::Phase;
  return request.fetch_only          ? Phase::kFetch
         : request.prefill_only      ? Phase::kPrefill
         : !request.handover.empty() ? Phase::kDecode
                                     : Phase::kWhole;
}

FleetOptions WithTerms(FleetOptions options) {
  options.router.tells_terms =
      options.log != nullptr && options.log->enabled(obs::EventId::kRouterDecision);
  return options;
}

}  // namespace

FleetLink::FleetLink(rt::Loop& loop, rt::Net& net, wire::ModelCard card, FleetOptions options)
    : loop_(loop),
      net_(net),
      card_(std::move(card)),
      options_(WithTerms(std::move(options))),
      router_(options_.router, options_.seed),
      alarm_(loop, [this] { OnTime(); }) {
  if (options_.registry != nullptr) {
    metrics_.emplace(*options_.registry, card_.name,
                     options_.router.mode == router::RouterMode::kKv);
    router_.WatchStages([this](router::RouteStage stage) {
      times_.matched = loop_.Now();
      if (stage == router::RouteStage::kHashed) {
        times_.hashed = times_.matched;
      }
    });
  }
}

FleetLink::~FleetLink() { *alive_ = false; }

Result<void> FleetLink::SetInstance(const control::Instance& instance) {
  const wire::ModelCard& card = instance.card;
  if (options_.adopts_block_size &&
      std::ranges::none_of(workers_, [](const auto& one) { return one.second.listed; })) {
    card_.block_tokens = card.block_tokens;
  }
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
  auto found = workers_.find(instance.id);
  if (found == workers_.end()) {
    auto linked = std::make_unique<router::LinkedWorker>(
        router::LinkedWorkerParts{.loop = loop_,
                                  .net = net_,
                                  .router = router_,
                                  .client = options_.client,
                                  .on_change = [this](InstanceId id) { OnWorkerChange(id); },
                                  .on_connection = options_.on_connection,
                                  .on_going_away = options_.on_going_away,
                                  .plane = options_.plane,
                                  .log = options_.log});
    PX_CHECK_OK(linked->SetInstance(instance));
    workers_[instance.id].linked = std::move(linked);
  } else {
    PX_TRY(std::unique_ptr<RemoteLink> old, found->second.linked->SetInstance(instance));
    found->second.listed = true;
    if (old) {
      retired_.push_back(std::move(old));
      SweepLater();
    }
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
  if (found == workers_.end()) {  // it is being made
    return;
  }
  Worker& worker = found->second;
  router::LinkedWorker& linked = *worker.linked;
  const bool takes = worker.listed && !linked.instance().draining &&
                     linked.link().load().state == control::WorkerState::kAwake;
  const router::LinkedWorker::Change change = linked.Update(takes);
  if (change.left) {
    adapters_.RemoveWorker(instance);
    limits_.RemoveWorker(instance);
  } else if (change.came || change.card) {
    adapters_.SetWorker(instance, linked.link().card().adapters);
    limits_.SetWorker(instance, linked.link().card().context_tokens_max);
  }
  if (change.came) {
    // Requests go there once it says that it has them.
    for (wire::LoadAdapterRequest& request : adapters_.MissingAt(instance)) {
      linked.link().LoadAdapter(std::move(request), [](const Result<wire::AdapterCard>&) {});
    }
    RetryWaiting();
  }
  if (!retired_.empty()) {
    SweepLater();
  }
  if (change.came || change.left || change.card) {
    RefreshCard();
  }
  if ((change.came || change.left) && options_.on_workers) {
    options_.on_workers();
  }
  Pump();
}

// What clients are told that they may ask for, of the workers that are there now.
void FleetLink::RefreshCard() {
  card_.adapters = adapters_.Joined();
  if (limits_.largest() > 0) {
    card_.context_tokens_max = limits_.largest();
  }
}

void FleetLink::FetchFiles(RemoteLink::FilesHandler on_done) {
  for (auto& [id, worker] : workers_) {
    if (worker.linked->routed()) {  // one that drains answers no new call
      worker.linked->link().FetchFiles(std::move(on_done));
      return;
    }
  }
  on_done(Fail(Code::kUnavailable, "no worker is there to give them"));
}

bool FleetLink::has_worker() const {
  return std::ranges::any_of(workers_, [](const auto& one) { return one.second.linked->routed(); });
}

std::size_t FleetLink::worker_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(workers_, [](const auto& one) { return one.second.linked->routed(); }));
}

std::vector<std::pair<InstanceId, control::WorkerLoad>> FleetLink::loads() const {
  std::vector<std::pair<InstanceId, control::WorkerLoad>> out;
  for (const auto& [id, worker] : workers_) {
    if (worker.linked->routed()) {
      out.emplace_back(id, worker.linked->link().load());
    }
  }
  return out;
}

bool FleetLink::uses(InstanceId instance) const {
  const auto found = workers_.find(instance);
  return found != workers_.end() && found->second.linked->routed();
}

std::string_view FleetLink::WhyNot(InstanceId instance) const {
  const auto found = workers_.find(instance);
  if (found == workers_.end() || !found->second.linked->connected()) {
    return "unreachable";
  }
  router::LinkedWorker& linked = *found->second.linked;
  switch (linked.link().load().state) {
    case control::WorkerState::kAsleep:
      return "asleep";
    case control::WorkerState::kUnhealthy:
    case control::WorkerState::kDead:
      return "unhealthy";
    case control::WorkerState::kDraining:
      return "draining";
    case control::WorkerState::kAwake:
      break;
  }
  return linked.instance().draining ? "draining" : linked.routed() ? "" : "unreachable";
}

std::size_t FleetLink::attempt_count() const {
  std::size_t count = std::max(attempts_.size(), router_.outstanding_count());
  for (const auto& [id, worker] : workers_) {
    count = std::max(count, worker.linked->link().outstanding_count());
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
  const router::RouteRequest route = RouteOf(request, false);
  control::RouteExplanation out =
      ExplanationOf(router_, router_.Foresee(route, loop_.Now()), route.tokens.size());
  out.asks_router = options_.adviser != nullptr;
  return out;
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
  return GenerateAt(std::move(request), std::nullopt, std::move(on_frame));
}

std::optional<router::Target> FleetLink::TargetOf(RequestId id) const {
  const auto found = entries_.find(id);
  return found != entries_.end() && found->second->where == Entry::Where::kRunning
             ? std::optional(found->second->target)
             : std::nullopt;
}

Result<void> FleetLink::GenerateAt(wire::GenerateRequest request,
                                   std::optional<router::Target> first, FrameHandler on_frame) {
  auto entry = std::make_shared<Entry>(std::move(request), options_.flight, std::move(on_frame));
  entry->first = first;
  Begin(entry);
  return {};
}

void FleetLink::Begin(const EntryPtr& entry) {
  const RequestId id = entry->flight.request().id;
  entry->begun = loop_.Now();
  if (const std::int64_t left = entry->flight.request().deadline_left_ns; left > 0) {
    deadlines_.Set(id, entry->begun + rt::Duration(left));
  }
  entries_.emplace(id, entry);
  if (entry->flight.begun()) {  // it comes from elsewhere, with tokens that its client has
    entry->give_up = loop_.Now() + options_.patience;
  }
  if (metrics_) {
    metrics_->OnStarted(entry->flight.request().prompt.size());
  }
  Submit(entry);
  // Not inside this call: its frames must not come before it returns.
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      Pump();
    }
  });
}

class FleetLink::PlacedHere final : public PlacedRequest {
 public:
  PlacedHere(FleetLink& link, RequestId id) : link_(link), alive_(link.alive_), id_(id) {}

  PlacedHere(const PlacedHere&) = delete;
  PlacedHere& operator=(const PlacedHere&) = delete;

  ~PlacedHere() override {
    if (!alive_.expired()) {
      link_.EndPlaced(id_);
    }
  }

  void OnTokens(std::uint32_t count) override {
    if (!alive_.expired()) {
      link_.OnPlacedTokens(id_, count);
    }
  }

 private:
  FleetLink& link_;
  std::weak_ptr<bool> alive_;
  RequestId id_;
};

// As one that is generated, up to where that would be sent.
std::unique_ptr<PlacedRequest> FleetLink::Place(wire::GenerateRequest request, Filter may_have,
                                                PlacedHandler on_placed) {
  const RequestId id = request.id;
  auto handler = std::make_shared<PlacedHandler>(std::move(on_placed));
  auto entry = std::make_shared<Entry>(
      std::move(request), options_.flight, [handler](const wire::TokenFrame& frame) {
        if (const PlacedHandler tell = std::exchange(*handler, nullptr); tell && frame.error) {
          tell(Fail(*frame.error));
        }
      });
  entry->may_have = std::move(may_have);
  entry->on_placed = std::move(handler);
  auto out = std::make_unique<PlacedHere>(*this, id);
  Begin(entry);
  return out;
}

void FleetLink::TellPlace(const EntryPtr& entry, const router::Dispatch& dispatch) {
  const std::uint32_t overlap = entry->advised ? entry->advised_overlap : dispatch.overlap_tokens;
  entry->sent = loop_.Now();
  if (metrics_) {
    const auto prompt =
        static_cast<double>(std::max<std::size_t>(entry->flight.request().prompt.size(), 1));
    metrics_->OnSent(entry->sent - entry->begun, rt::Duration::zero(),
                     std::min(1.0, overlap / prompt));
  }
  if (const PlacedHandler tell = std::exchange(*entry->on_placed, nullptr)) {
    tell(PlacedAt{.instance = workers_.at(entry->target.instance).linked->instance(),
                  .rank = entry->target.rank,
                  .overlap_tokens = overlap});
  }
}

void FleetLink::OnPlacedTokens(RequestId id, std::uint32_t count) {
  const auto found = entries_.find(id);
  if (found != entries_.end() && found->second->where == Entry::Where::kRunning && count > 0) {
    CountTokens(*found->second, count);
    Pump();
  }
}

void FleetLink::EndPlaced(RequestId id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) {
    return;  // its deadline ended it, or it was refused
  }
  const EntryPtr entry = found->second;
  *entry->on_placed = nullptr;
  waiting_.Remove(id);
  deadlines_.Remove(id);
  if (metrics_) {
    metrics_->OnEnded(entry->output_tokens);
  }
  Leave(entry);
  entries_.erase(found);
  Pump();
}

void FleetLink::Submit(const EntryPtr& entry) {
  entry->attempt = RequestId{++last_attempt_};
  entry->where = Entry::Where::kQueued;
  entry->has_token = false;
  entry->told_worker = false;
  attempts_.emplace(entry->attempt, entry);
  entry->advised = false;
  entry->leg = {.attempt = entry->leg.attempt, .routed_ns = SteadyNs(loop_.Now())};
  Route(entry);
}

// A rank without a worker that no worker has is a wish that nobody can grant; of a worker it is an
// order.
router::RouteRequest FleetLink::Wanted(const wire::GenerateRequest& request) const {
  router::RouteRequest out = RouteRequestOf(request);
  const auto has = [&](const auto& one) {
    const control::Instance& instance = one.second.linked->instance();
    return *out.rank >= instance.rank_first &&
           *out.rank - instance.rank_first < instance.rank_count;
  };
  if (out.rank && !out.pinned && std::ranges::none_of(workers_, has)) {
    out.rank.reset();
  }
  return out;
}

router::RouteRequest FleetLink::RouteOf(const Entry& entry) const {
  const wire::GenerateRequest& request = entry.flight.request();
  router::RouteRequest out = RouteOf(request, !entry.failed_at.empty());
  if (request.dp_rank && !out.rank && options_.log != nullptr) {
    obs::Event(*options_.log, obs::EventId::kRankUnknown).kv("rank", *request.dp_rank);
  }
  out.id = entry.attempt;
  out.excluded.insert(out.excluded.end(), entry.failed_at.begin(), entry.failed_at.end());
  const std::vector<InstanceId> others = OfOtherNumerics(entry);
  out.excluded.insert(out.excluded.end(), others.begin(), others.end());
  for (const auto& [id, worker] : workers_) {
    if (entry.may_have && !entry.may_have(worker.linked->instance())) {
      out.excluded.push_back(id);
    }
  }
  return out;
}

// Who cannot serve it is no candidate.
router::RouteRequest FleetLink::RouteOf(const wire::GenerateRequest& request, bool moved) const {
  router::RouteRequest out = Wanted(request);
  out.excluded = limits_.TooSmallFor(ContextTokensOf(request));
  if (!request.adapter.empty()) {
    const std::vector<InstanceId> others =
        moved ? adapters_.NotForBegun(request.adapter) : adapters_.NotFor(request.adapter);
    out.excluded.insert(out.excluded.end(), others.begin(), others.end());
  }
  return out;
}

// Workers that would go on with other bits than what the client has, as long as one goes on with
// the same: there the answer is the one that would have come.
std::vector<InstanceId> FleetLink::OfOtherNumerics(const Entry& entry) const {
  const std::string_view known = entry.flight.numerics_id();
  std::vector<InstanceId> out;
  bool same = false;
  for (const auto& [id, worker] : workers_) {
    if (known.empty() || entry.any_numerics || !worker.linked->routed()) {
      continue;
    }
    if (worker.linked->instance().card.numerics_id != known) {
      out.push_back(id);
    } else {
      same = same || std::ranges::find(entry.failed_at, id) == entry.failed_at.end();
    }
  }
  return same ? out : std::vector<InstanceId>();
}

void FleetLink::Route(const EntryPtr& entry) {
  router::RouteRequest request = RouteOf(*entry);
  if (const std::optional<router::Target> first = std::exchange(entry->first, std::nullopt);
      first && !request.pinned && uses(first->instance)) {
    entry->advised = true;
    entry->advised_overlap = 0;
    request.pinned = first->instance;
    request.rank = first->rank;
    RouteHere(std::move(request));
    return;
  }
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
  // One that knows no worker may know less than this side: another version's alone, or none yet.
  const bool knows_nobody = advice && !*advice && advice->error().code() == Code::kUnavailable;
  if (advice && !*advice && !knows_nobody) {
    Send(entry, {.id = attempt, .target = Fail(advice->error())});
  } else {
    router::RouteRequest request = RouteOf(*entry);
    if (advice && *advice) {
      const router::Advice& said = **advice;
      const auto worker = workers_.find(said.target.instance);
      entry->advised = worker != workers_.end() && worker->second.linked->routed();
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

// From here on it is at a worker, which knows its span.
void FleetLink::OpenLeg(Entry& entry, wire::GenerateRequest& request) const {
  wire::RequestLeg& leg = entry.leg;
  leg.phase = PhaseOf(request);
  leg.worker = Raw(entry.target.instance);
  leg.rank = entry.target.rank;
  ++leg.attempt;
  leg.sent_ns = SteadyNs(loop_.Now());
  if (const auto context = obs::ParseTraceparent(request.traceparent)) {
    const obs::SpanId span = obs::MakeSpanId(
        context->trace, static_cast<std::uint64_t>(context->parent) +
                            (static_cast<std::uint64_t>(leg.phase) << 32U | leg.attempt) + 1);
    leg.span = static_cast<std::uint64_t>(span);
    request.traceparent = obs::Traceparent(*context, span);
    entry.leg_open = true;
  }
}

void FleetLink::CloseLeg(Entry& entry, const Error* error, bool moved) const {
  if (!std::exchange(entry.leg_open, false)) {
    return;
  }
  entry.leg.ended_ns = SteadyNs(loop_.Now());
  entry.leg.error = error != nullptr ? std::string(CodeName(error->code())) : std::string();
  entry.leg.moved = moved;
  entry.legs.push_back(entry.leg);
}

void FleetLink::Say(const router::Dispatch& dispatch) const {
  if (options_.router.tells_terms) {
    obs::Event event(*options_.log, obs::EventId::kRouterDecision);
    if (const auto found = attempts_.find(dispatch.id); found != attempts_.end()) {
      const wire::GenerateRequest& request = found->second->flight.request();
      obs::AddLabels(event, request.traceparent, request.label);
    }
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

void FleetLink::SayMoved(Entry& entry) const {
  const std::optional<InstanceId> from = std::exchange(entry.moves_from, std::nullopt);
  if (options_.log == nullptr || !from) {
    return;
  }
  const std::optional<Error>& why = entry.flight.last_failure();
  const wire::GenerateRequest& request = entry.flight.request();
  obs::Event event(*options_.log, obs::EventId::kRequestMoved);
  obs::AddLabels(event, request.traceparent, request.label)
      .kv("request", Raw(entry.flight.request().id))
      .kv("model", card_.name)
      .kv("from", control::InstanceName(*from))
      .kv("to", control::InstanceName(entry.target.instance))
      .kv("begun", entry.flight.begun())
      .kv("why", why ? why->ToString() : std::string());
}

// Of one that workers failed; others end as their worker or their client said.
void FleetLink::SayFailed(const Entry& entry, const Flight::Outcome& outcome) const {
  const auto failed = std::ranges::find(outcome.frames, wire::FinishReason::kError,
                                        [](const wire::TokenFrame& frame) {
                                          return frame.finish.value_or(wire::FinishReason::kStop);
                                        });
  if (options_.log == nullptr || !entry.flight.last_failure() || failed == outcome.frames.end()) {
    return;
  }
  const wire::GenerateRequest& request = entry.flight.request();
  obs::Event event(*options_.log, obs::EventId::kRequestFailed);
  obs::AddLabels(event, request.traceparent, request.label)
      .kv("request", Raw(entry.flight.request().id))
      .kv("model", card_.name)
      .kv("instance", control::InstanceName(entry.target.instance))
      .kv("why", failed->error ? failed->error->ToString() : std::string())
      .kv("worker_said", entry.flight.last_failure()->ToString());
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
  alarm_.Set(std::min({router_.next_time(), waiting_.next(), deadlines_.next()}));
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
  entry->target = *dispatch.target;
  if (entry->on_placed) {
    entry->where = Entry::Where::kRunning;
    TellPlace(entry, dispatch);
    return;
  }
  Worker& worker = workers_.at(dispatch.target->instance);
  entry->link = &worker.linked->link();
  entry->where = Entry::Where::kRunning;
  SayMoved(*entry);
  wire::GenerateRequest request = entry->flight.Attempt(worker.linked->instance().card.numerics_id);
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  OpenLeg(*entry, request);
  const RequestId attempt = entry->attempt;
  const std::size_t prompt_tokens = request.prompt.size();
  request.id = attempt;
  request.routing.reset();
  if (worker.linked->instance().rank_count > 1) {
    request.dp_rank = entry->target.rank;
  }
  entry->sent = loop_.Now();
  Result<void> taken = worker.linked->link().Generate(
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
  if (metrics_) {
    const auto prompt = static_cast<double>(std::max<std::size_t>(prompt_tokens, 1));
    metrics_->OnSent(entry->sent - entry->begun, loop_.Now() - entry->sent,
                     std::min(1.0, dispatch.overlap_tokens / prompt));
  }
  for (const std::uint32_t choice : entry->flight.ended_choices()) {
    worker.linked->link().Cancel({attempt, choice});
  }
}

void FleetLink::OnFrame(const EntryPtr& entry, RequestId attempt, wire::TokenFrame frame) {
  if (entry->attempt != attempt || entry->where != Entry::Where::kRunning) {
    return;  // of a worker that the request has left
  }
  if (!frame.tokens.empty()) {
    CountTokens(*entry, static_cast<std::uint32_t>(frame.tokens.size()));
  }
  if (!frame.tokens.empty() && entry->leg.first_frame_ns < 0) {
    entry->leg.first_frame_ns = SteadyNs(loop_.Now());
  }
  for (wire::RequestLeg& leg : std::exchange(frame.legs, {})) {
    entry->leg.times = leg.times;
  }
  if (!frame.handover.empty()) {
    CloseLeg(*entry, nullptr, false);  // what it has left to do is to keep blocks
  }
  if (frame.error && frame.error->code() == Code::kResourceExhausted) {
    router_.OnOverloaded(entry->target.instance, loop_.Now());
  }
  if (!Flight::IsAcknowledgement(frame) &&
      (frame.early_handover.empty() || !frame.tokens.empty()) &&
      !std::exchange(entry->told_worker, true)) {
    frame.served_by = {.worker = Raw(entry->target.instance),
                       .rank = frame.dp_rank.value_or(entry->target.rank)};
  }
  const std::weak_ptr<bool> alive(alive_);
  Apply(entry, entry->flight.OnFrame(std::move(frame)));
  if (!alive.expired()) {  // the handler may have destroyed this
    Pump();
  }
}

void FleetLink::CountTokens(Entry& entry, std::uint32_t count) {
  const rt::Time now = loop_.Now();
  if (metrics_ && !entry.has_token) {
    metrics_->OnFirstToken(entry.target, entry.flight.request().prompt.size(), now - entry.begun,
                           now - entry.sent);
  } else if (metrics_) {
    metrics_->OnTokens(entry.target, now - entry.last_token, count);
  }
  entry.last_token = now;
  entry.output_tokens += count;
  if (!std::exchange(entry.has_token, true)) {
    router_.OnFirstToken(entry.attempt, now);
    if (options_.adviser != nullptr) {
      options_.adviser->OnFirstToken(entry.attempt);
    }
  }
  router_.OnTokens(entry.attempt, count, now);
  if (options_.adviser != nullptr) {
    options_.adviser->OnTokens(entry.attempt, count);
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
  SayFailed(*entry, outcome);
  if (outcome.move) {
    CloseLeg(*entry, &*entry->flight.last_failure(), true);
  } else if (entry->flight.ended()) {
    const auto failed = std::ranges::find_if(
        outcome.frames, [](const wire::TokenFrame& frame) { return frame.error.has_value(); });
    CloseLeg(*entry, failed != outcome.frames.end() ? &*failed->error : nullptr, false);
  }
  if (!outcome.frames.empty() && !entry->legs.empty()) {
    outcome.frames.back().legs = std::exchange(entry->legs, {});
  }
  if (entry->flight.ended()) {
    if (metrics_) {
      metrics_->OnEnded(entry->output_tokens);
    }
    Leave(entry);
    entries_.erase(id);  // first: the handler may send another of this id
    deadlines_.Remove(id);
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
  entry->moves_from = entry->target.instance;
  if (!outcome.missed || entry->give_up == rt::Time{}) {
    entry->give_up = loop_.Now() + options_.patience;  // not anew with each that was gone already
  }
  entry->any_numerics = false;
  Submit(entry);
}

void FleetLink::NobodyTakes(const EntryPtr& entry, const Error& error) {
  if (!OfOtherNumerics(*entry).empty()) {  // better computed anew than not at all
    Leave(entry);
    entry->any_numerics = true;
    Submit(entry);
    return;
  }
  const bool moved = !entry->failed_at.empty() || entry->flight.begun();
  const wire::GenerateRequest& request = entry->flight.request();
  if (!moved && error.code() == Code::kUnavailable) {  // else a large one may come in time
    const std::optional<std::uint64_t> pinned =
        request.routing ? request.routing->worker : std::nullopt;
    if (const std::optional<Error> refusal = limits_.Refusal(
            ContextTokensOf(request), pinned ? std::optional(InstanceId{*pinned}) : std::nullopt)) {
      Apply(entry, entry->flight.Fail(*refusal));
      return;
    }
  }
  const std::optional<Error>& failure = entry->flight.last_failure();
  const bool all_full = failure && failure->code() == Code::kResourceExhausted;
  if (!moved || (all_full && !entry->flight.begun()) || loop_.Now() >= entry->give_up) {
    Apply(entry, entry->flight.Fail(all_full ? *failure : error));
    return;
  }
  Leave(entry);
  entry->busy = error.code() == Code::kResourceExhausted ? std::optional(error) : std::nullopt;
  entry->where = Entry::Where::kWaiting;
  waiting_.Set(entry->flight.request().id, std::min(entry->give_up, loop_.Now() + kRetryPause));
}

// Better a worker that failed than none: it may have come back already.
void FleetLink::Retry(const EntryPtr& entry) {
  entry->failed_at.assign(1, InstanceId{});  // it has moved; nobody is excluded
  entry->any_numerics = false;
  Submit(entry);
}

// A worker came.
void FleetLink::RetryWaiting() {
  for (const RequestId id : waiting_.TakeAll()) {
    Retry(entries_.at(id));
  }
}

// A worker that hangs does not end it by itself.
void FleetLink::EndLate(const EntryPtr& entry) {
  if (entry->where == Entry::Where::kRunning) {
    if (entry->link != nullptr) {
      entry->link->Cancel({entry->attempt, std::nullopt});
    }
  } else {
    waiting_.Remove(entry->flight.request().id);
  }
  entry->where = Entry::Where::kQueued;  // what still comes is of an attempt that it has left
  Apply(entry, entry->flight.Fail(Error(Code::kDeadlineExceeded, "the request's deadline passed")));
}

void FleetLink::OnTime() {
  const std::weak_ptr<bool> alive(alive_);
  while (const std::optional<RequestId> late = deadlines_.TakeDue(loop_.Now())) {
    EndLate(EntryPtr(entries_.at(*late)));
    if (alive.expired()) {
      return;
    }
  }
  while (const std::optional<RequestId> waiting = waiting_.TakeDue(loop_.Now())) {
    const EntryPtr entry = entries_.at(*waiting);
    if (loop_.Now() < entry->give_up) {
      Retry(entry);
      continue;
    }
    Apply(entry, entry->flight.Fail(entry->busy.value_or(Error(
                     Code::kUnavailable, "its worker failed, and no other one came in time"))));
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
    waiting_.Remove(cancel.id);
    Apply(entry, entry->flight.Fail(Error(Code::kCancelled, "it was cancelled")));
    Pump();
  }
}

// Workers and connections that are gone and have nothing left. Later: a link may stand below this
// call.
// Those who are gone, once nobody waits for an answer of theirs.
void FleetLink::Sweep() {
  sweeping_ = false;
  std::erase_if(retired_, [](const auto& link) { return link->idle(); });
  std::erase_if(workers_, [](const auto& one) {
    return !one.second.listed && one.second.linked->link().idle();
  });
  const bool left = !retired_.empty() || std::ranges::any_of(workers_, [](const auto& one) {
    return !one.second.listed;
  });
  if (left) {
    SweepLater(kSweepPause);
  }
}

void FleetLink::SweepLater(rt::Duration pause) {
  if (std::exchange(sweeping_, true)) {
    return;
  }
  loop_.RunAt(loop_.Now() + pause, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      Sweep();
    }
  });
}

control::WorkerLoad FleetLink::load() const {
  control::WorkerLoad sum;
  bool awake = false;
  bool sleeps = false;
  for (const auto& [id, worker] : workers_) {
    const control::WorkerLoad load = worker.linked->link().load();
    control::AddLoad(load, sum);
    awake |= worker.linked->routed();
    sleeps |= worker.linked->connected() && load.state == control::WorkerState::kAsleep;
  }
  sum.state = awake    ? control::WorkerState::kAwake
              : sleeps ? control::WorkerState::kAsleep
                       : control::WorkerState::kUnhealthy;
  return sum;
}

std::vector<RemoteLink*> FleetLink::LinksInUse() {
  std::vector<RemoteLink*> out;
  for (auto& [id, worker] : workers_) {
    if (worker.linked->routed()) {
      out.push_back(&worker.linked->link());
    }
  }
  return out;
}

// Who sleeps gets no requests, and yet must hear that it shall wake up.
std::vector<RemoteLink*> FleetLink::LinksThatMaySleep() {
  std::vector<RemoteLink*> out;
  for (auto& [id, worker] : workers_) {
    router::LinkedWorker& linked = *worker.linked;
    const bool here = linked.connected() && worker.listed && !linked.instance().draining;
    if (here && !linked.link().goes_away()) {
      out.push_back(&linked.link());
    }
  }
  return out;
}

template <class T>
void FleetLink::Ask(const std::vector<RemoteLink*>& links,
                    typename control::JoinedAnswers<T>::Then then,
                    const std::function<void(RemoteLink&, std::function<void(Result<T>)>)>& ask) {
  if (links.empty()) {
    then({});
    return;
  }
  const auto answers = std::make_shared<control::JoinedAnswers<T>>(links.size(), std::move(then));
  for (std::size_t i = 0; i < links.size(); ++i) {
    ask(*links[i], answers->At(i));
  }
}

void FleetLink::AskEveryWorkerForCard(AdapterHandler on_done,
                                      const std::function<void(RemoteLink&, AdapterHandler)>& ask) {
  using Card = wire::AdapterCard;
  Ask<Card>(
      LinksInUse(),
      [on_done = std::move(on_done)](const std::vector<Result<Card>>& cards) {
        const Result<Card>* const failure = control::FirstFailure(cards);
        on_done(failure != nullptr ? *failure
                : cards.empty()
                    ? Result<Card>(Fail(Code::kUnavailable, "no worker is there to do it"))
                    : cards.back());
      },
      ask);
}

void FleetLink::ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                              MemoryHandler on_done) {
  Ask<void>(LinksThatMaySleep(), control::AllOrFirstFailure(std::move(on_done)),
            [&](RemoteLink& link, MemoryHandler one) {
              link.ReleaseMemory(tags, patience, std::move(one));
            });
}

void FleetLink::ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) {
  Ask<void>(LinksThatMaySleep(), control::AllOrFirstFailure(std::move(on_done)),
            [&](RemoteLink& link, MemoryHandler one) { link.ResumeMemory(tags, std::move(one)); });
}

void FleetLink::ClearCache(control::CacheDepth depth, MemoryHandler on_done) {
  Ask<void>(LinksInUse(), control::AllOrFirstFailure(std::move(on_done)),
            [&](RemoteLink& link, MemoryHandler one) { link.ClearCache(depth, std::move(one)); });
}

void FleetLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  const AdapterHandler done = [this, request, on_done = std::move(on_done),
                               alive =
                                   std::weak_ptr<bool>(alive_)](Result<wire::AdapterCard> card) {
    const auto here = alive.lock();
    if (card && here && *here) {
      adapters_.Want(request, *card);
      card_.adapters = adapters_.Joined();
    }
    on_done(std::move(card));
  };
  AskEveryWorkerForCard(done, [&](RemoteLink& link, AdapterHandler one) {
    link.LoadAdapter(request, std::move(one));
  });
}

void FleetLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  adapters_.Unwant(name);
  card_.adapters = adapters_.Joined();
  AskEveryWorkerForCard(std::move(on_done), [&](RemoteLink& link, AdapterHandler one) {
    link.UnloadAdapter(name, std::move(one));
  });
}

}  // namespace pixii::frontend
