#include "frontend/fleet/fleet_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/instance_codec.h"

namespace pixii::frontend {

using control::InstanceId;
using control::RemoteLink;

namespace {

// Between two looks for a worker of a request that none would take.
constexpr rt::Duration kRetryPause = std::chrono::milliseconds(100);

}  // namespace

FleetLink::FleetLink(rt::Loop& loop, rt::Net& net, wire::ModelCard card, FleetOptions options)
    : loop_(loop),
      net_(net),
      card_(std::move(card)),
      options_(std::move(options)),
      router_(options_.router, options_.seed) {}

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
  Worker& worker = workers_[instance.id];
  const bool same = worker.link && worker.instance.address == instance.address;
  worker.instance = instance;
  worker.listed = true;
  if (!same) {
    control::MuxClientOptions client = options_.client;
    PX_TRY(client.address, rt::ParseAddress(instance.address));
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
  if (found == workers_.end() || !found->second.link) {
    return;
  }
  Worker& worker = found->second;
  const bool here = worker.link->state() == RemoteLink::State::kHere;
  if (std::exchange(worker.connected, here) != here && options_.on_connection) {
    options_.on_connection(instance, here);
  }
  const bool takes = here && worker.listed && !worker.instance.draining &&
                     worker.link->load().state == control::WorkerState::kAwake;
  if (takes) {
    const bool is_new = !std::exchange(worker.routed, true);
    if (is_new) {
      control::Instance known = worker.instance;
      known.card = worker.link->card();
      router_.SetWorker(known);
    }
    router_.OnLoad(instance, worker.instance.rank_first, worker.link->load(), loop_.Now());
    if (is_new) {
      RetryWaiting();
    }
  } else if (std::exchange(worker.routed, false)) {
    router_.RemoveWorker(instance);
  }
  Pump();
}

void FleetLink::FetchFiles(RemoteLink::FilesHandler on_done) {
  for (auto& [id, worker] : workers_) {
    if (worker.connected) {
      worker.link->FetchFiles(std::move(on_done));
      return;
    }
  }
  on_done(Fail(Code::kUnavailable, "there is no connection to any worker"));
}

std::size_t FleetLink::worker_count() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(workers_, [](const auto& one) { return one.second.routed; }));
}

Result<void> FleetLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const RequestId id = request.id;
  auto entry = std::make_shared<Entry>(std::move(request), options_.flight, std::move(on_frame));
  entry->begun = loop_.Now();
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
  const wire::GenerateRequest& request = entry->flight.request();
  entry->attempt = RequestId{++last_attempt_};
  entry->where = Entry::Where::kQueued;
  entry->has_token = false;
  attempts_.emplace(entry->attempt, entry);
  router::RouteRequest route;
  route.id = entry->attempt;
  route.tokens = request.prompt;
  if (request.choice_count == 1) {
    route.tokens.insert(route.tokens.end(), request.generated[0].begin(),
                        request.generated[0].end());
  }
  route.adapter = request.adapter;
  route.salt = request.cache_salt;
  route.excluded = entry->failed_at;
  route.priority_jump_s = std::max(request.priority, 0);
  route.expected_output_tokens = request.stop.max_tokens;
  router_.Submit(std::move(route), loop_.Now());
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
}

void FleetLink::Send(const EntryPtr& entry, const router::Dispatch& dispatch) {
  if (!dispatch.target) {
    NobodyTakes(entry, dispatch.target.error());
    return;
  }
  const InstanceId instance = dispatch.target->instance;
  Worker& worker = workers_.at(instance);
  entry->instance = instance;
  entry->where = Entry::Where::kRunning;
  wire::GenerateRequest request = entry->flight.Attempt();
  if (request.deadline_left_ns > 0) {
    request.deadline_left_ns =
        std::max<std::int64_t>(request.deadline_left_ns - (loop_.Now() - entry->begun).count(), 1);
  }
  const RequestId attempt = entry->attempt;
  request.id = attempt;
  Result<void> taken = worker.link->Generate(
      std::move(request),
      [this, entry, attempt, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          OnFrame(entry, attempt, std::move(frame));
        }
      });
  if (!taken) {
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
    }
    router_.OnTokens(attempt, static_cast<std::uint32_t>(frame.tokens.size()), loop_.Now());
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
  attempts_.erase(entry->attempt);
}

void FleetLink::Apply(const EntryPtr& entry, Flight::Outcome outcome) {
  const RequestId id = entry->flight.request().id;
  counters_.moves_too_long += outcome.too_long ? 1 : 0;
  if (entry->flight.ended()) {
    Leave(entry);
    entries_.erase(id);  // first: the handler may send another of this id
    SweepLater();
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
  workers_.at(entry->instance).link->Cancel({entry->attempt, std::nullopt});
  Leave(entry);
  entry->failed_at.push_back(entry->instance);
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
  const rt::Time next = waiting_.empty() ? router_.next_time()
                                         : std::min(router_.next_time(), waiting_.begin()->first);
  if (next == timer_at_) {
    return;
  }
  loop_.CancelTimer(timer_);
  timer_at_ = next;
  timer_ = next == rt::kNever ? rt::TimerId::kNone : loop_.RunAt(next, [this] { OnTime(); });
}

void FleetLink::OnTime() {
  timer_ = rt::TimerId::kNone;
  timer_at_ = rt::kNever;
  const std::weak_ptr<bool> alive(alive_);
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
    workers_.at(entry->instance).link->Cancel({entry->attempt, cancel.choice});
  } else if (entry->flight.ended_choices().size() == entry->flight.request().choice_count) {
    waiting_.erase({entry->wake, cancel.id});
    Apply(entry, entry->flight.Fail(Error(Code::kCancelled, "it was cancelled")));
    Pump();
  }
}

// Workers that are gone and have nothing left. Later: a link may stand below this call.
void FleetLink::SweepLater() {
  if (std::exchange(sweeping_, true)) {
    return;
  }
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      sweeping_ = false;
      std::erase_if(workers_, [](const auto& one) {
        return !one.second.listed && one.second.link->outstanding_count() == 0;
      });
    }
  });
}

control::WorkerLoad FleetLink::load() const {
  control::WorkerLoad sum;
  bool awake = false;
  for (const auto& [id, worker] : workers_) {
    const control::WorkerLoad load = worker.link->load();
    sum.running += load.running;
    sum.queued += load.queued;
    sum.blocks_used += load.blocks_used;
    sum.blocks_cached += load.blocks_cached;
    sum.blocks_total += load.blocks_total;
    sum.steps += load.steps;
    awake |= worker.routed;
  }
  sum.state = awake ? control::WorkerState::kAwake : control::WorkerState::kAsleep;
  return sum;
}

// One answer of many: the first error, or what the last one said.
void FleetLink::ForEveryWorker(MemoryHandler on_done,
                               const std::function<void(RemoteLink&, MemoryHandler)>& call) {
  struct Joined {
    MemoryHandler on_done;
    std::size_t left = 0;
    Result<void> result;
  };

  auto joined = std::make_shared<Joined>();
  joined->on_done = std::move(on_done);
  joined->left = worker_count() + 1;
  const auto one = [joined](Result<void> done) {
    if (!done && joined->result) {
      joined->result = std::move(done);
    }
    if (--joined->left == 0) {
      joined->on_done(std::move(joined->result));
    }
  };
  for (auto& [id, worker] : workers_) {
    if (worker.routed) {
      call(*worker.link, one);
    }
  }
  one({});
}

void FleetLink::ForEveryWorker(AdapterHandler on_done,
                               const std::function<void(RemoteLink&, AdapterHandler)>& call) {
  auto card = std::make_shared<Result<wire::AdapterCard>>(
      Fail(Code::kUnavailable, "no worker is there to do it"));
  ForEveryWorker(
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
  ForEveryWorker(std::move(on_done), [&](RemoteLink& link, MemoryHandler one) {
    link.ReleaseMemory(tags, patience, std::move(one));
  });
}

void FleetLink::ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) {
  ForEveryWorker(std::move(on_done), [&](RemoteLink& link, MemoryHandler one) {
    link.ResumeMemory(tags, std::move(one));
  });
}

void FleetLink::ClearCache(MemoryHandler on_done) {
  ForEveryWorker(std::move(on_done),
                 [](RemoteLink& link, MemoryHandler one) { link.ClearCache(std::move(one)); });
}

void FleetLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  ForEveryWorker(std::move(on_done), [&](RemoteLink& link, AdapterHandler one) {
    link.LoadAdapter(request, std::move(one));
  });
}

void FleetLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  ForEveryWorker(std::move(on_done), [&](RemoteLink& link, AdapterHandler one) {
    link.UnloadAdapter(name, std::move(one));
  });
}

}  // namespace pixii::frontend
