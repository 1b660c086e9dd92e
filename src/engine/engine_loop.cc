#include "engine/engine_loop.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"

namespace pixii::engine {

namespace {

/// A destination whose requests give no frames for this long still hears that steps are made.
constexpr rt::Duration kLoadInterval{50'000'000};

}  // namespace

EngineLoad LoadOf(const Engine& engine) {
  const kv::BlockPool& pool = engine.cache().pool();
  return {.running = engine.scheduler().running_count(),
          .queued = engine.scheduler().queued_count(),
          .blocks_used = pool.pinned_count(),
          .blocks_cached = pool.cached_count(),
          .blocks_total = pool.block_count(),
          .steps = engine.counters().steps,
          .engine = engine.counters(),
          .scheduler = engine.scheduler().counters(),
          .blocks = engine.cache().counters(),
          .sessions = engine.sessions(),
          .adapters_loaded = engine.adapters().loaded_count(),
          .adapters_resident = engine.adapters().resident_count(),
          .adapter_evictions = engine.adapters().evictions(),
          .device_failed = engine.device_failed(),
          .audits = {}};
}

// All state; lives on the loop.
class EngineLoop::Core final : public std::enable_shared_from_this<Core> {
 public:
  Core(rt::Loop& loop, std::unique_ptr<Engine> engine, EngineLoopOptions options)
      : loop_(loop),
        engine_(std::move(engine)),
        audit_(options.audit_rate),
        on_mismatch_(std::move(options.on_mismatch)),
        turns_(options.turns) {}

  void StartConnector() {
    engine_->StartConnector([&loop = loop_, weak = weak_from_this()] {
      loop.Post([weak] {
        if (std::shared_ptr<Core> core = weak.lock()) {
          core->Poll();
        }
      });
    });
  }

  /// Takes a message now, or after the step that virtual time says is running.
  void Take(rt::Function<void(Core&)> message) {
    if (in_virtual_step_) {
      inbox_.push_back(std::move(message));
      return;
    }
    message(*this);
    TellKvEvents();
    Wake();
  }

  void AddDestination(DestinationId id, StepSink sink) { destinations_[id].sink = std::move(sink); }

  void RemoveDestination(DestinationId id) {
    std::vector<RequestId> running;
    for (const auto& [request, route] : routes_) {
      if (route.destination == id) {
        running.push_back(request);
      }
    }
    destinations_.erase(id);
    for (RequestId request : running) {
      engine_->Cancel({.id = request, .choice = std::nullopt});
    }
  }

  void Submit(DestinationId destination, wire::GenerateRequest request) {
    auto found = destinations_.find(destination);
    if (found == destinations_.end()) {
      return;
    }
    RequestId id = request.id;
    std::uint32_t choice_count = request.choice_count;
    StopAudit();
    audit_.Begin(request);
    std::optional<Error> refusal = Refusal();
    const rt::Time now = loop_.Now();
    Result<void> submitted =
        refusal ? Result<void>(Fail(*refusal)) : engine_->Submit(std::move(request), now);
    if (!submitted) {
      audit_.Drop(id);
    }
    if (submitted) {
      routes_.emplace(
          id, Route{.destination = destination, .live_choices = choice_count, .begun = now});
      ++found->second.request_count;
      return;
    }
    StepOutput output{.frames = {}, .load = Load(), .kv_changes = {}};
    for (std::uint32_t choice = 0; choice < choice_count; ++choice) {
      wire::TokenFrame& frame = output.frames.emplace_back();
      frame.id = id;
      frame.choice = choice;
      frame.finish = wire::FinishReason::kError;
      frame.error = submitted.error();
    }
    found->second.sink(std::move(output));
  }

  void Cancel(const wire::CancelRequest& cancel) { engine_->Cancel(cancel); }

  // Those who watch already hear everything again: there are few, and it is rare.
  void WatchKvEvents(DestinationId id) {
    if (const auto found = destinations_.find(id); found != destinations_.end()) {
      watched_ = found->second.watches = true;
      engine_->ResyncKvEvents();
    }
  }

  void ChangeAdapters(Result<void> done, AdapterReply reply) {
    if (done) {
      reply(engine_->adapters().List());
    } else {
      reply(Fail(done.error()));
    }
  }

  Engine& engine() { return *engine_; }

  void Release(const MemoryParts& parts, rt::Duration patience, MemoryReply reply) {
    if (shutdown_ || draining_) {
      reply(Fail(shutdown_ ? *shutdown_
                           : Error(Code::kUnavailable, "another release of memory waits already")));
      return;
    }
    StopAudit();
    draining_ = Draining{.parts = parts, .patience = patience, .reply = std::move(reply)};
    if (SleepIfIdle()) {
      return;
    }
    Announce();
    loop_.RunAt(loop_.Now() + patience, [weak = weak_from_this(), number = ++release_count_] {
      if (std::shared_ptr<Core> core = weak.lock(); core && core->release_count_ == number) {
        core->GiveUpDraining();
      }
    });
  }

  void Restore(const MemoryParts& parts, MemoryReply reply) {
    if (draining_) {
      EndDraining(Fail(Code::kCancelled, "the memory is wanted again; nothing was given back"));
    }
    Result<void> restored = engine_->Restore(parts);
    Announce();
    reply(std::move(restored));
  }

  void Shutdown(const Error& error) {
    shutdown_ = error;
    StopAudit();
    engine_->AbortAll(error);
  }

 private:
  struct Route {
    DestinationId destination{};
    std::uint32_t live_choices = 0;
    rt::Time begun{};
    rt::Time first_token = rt::kNever;  // of all choices
    rt::Time last_token = rt::kNever;
  };

  // What the engine cannot know of a choice's end: when its tokens leave.
  static void Stamp(const Route& route, rt::Time now, wire::TokenFrame& frame) {
    for (wire::RequestLeg& leg : frame.legs) {
      const auto since = [&](rt::Time at) {
        return at == rt::kNever ? std::int64_t{-1} : (at - route.begun).count();
      };
      leg.times.first_token_ns = since(route.first_token);
      leg.times.last_token_ns = since(route.last_token);
      leg.times.ended_ns = since(now);
    }
  }

  struct Draining {
    MemoryParts parts;
    rt::Duration patience{};
    MemoryReply reply;
  };

  struct Destination {
    StepSink sink;
    std::uint32_t request_count = 0;
    bool watches = false;                  // the prefix cache
    std::vector<wire::TokenFrame> frames;  // of the step at hand
    rt::Time last_output{};
  };

  EngineLoad Load() const {
    EngineLoad load = LoadOf(*engine_);
    load.audits = audit_.counters();
    if (audit_.running()) {  // nothing else runs, and it gives way to whoever comes
      load.running = 0;
      load.queued = 0;
    }
    load.steps += looks_;
    load.state = draining_           ? EngineState::kDraining
                 : engine_->asleep() ? EngineState::kAsleep
                                     : EngineState::kAwake;
    return load;
  }

  std::optional<Error> Refusal() const {
    if (shutdown_) {
      return shutdown_;
    }
    if (draining_) {
      return Error(Code::kUnavailable, "the engine is about to sleep and takes no new requests");
    }
    return std::nullopt;
  }

  void Announce() {
    for (auto& [id, destination] : destinations_) {
      destination.sink({.frames = {}, .load = Load(), .kv_changes = {}});
    }
  }

  void TellKvEvents() {
    if (!watched_ || !engine_->DrainKvEvents(kv_changes_)) {
      return;
    }
    for (auto& [id, destination] : destinations_) {
      if (destination.watches) {
        destination.sink({.frames = {}, .load = Load(), .kv_changes = kv_changes_});
      }
    }
    kv_changes_.clear();
  }

  void Poll() {
    engine_->Poll(loop_.Now());
    SleepIfIdle();
    TellKvEvents();
    StartAudit();
    Wake();
    if (!is_stepping_) {
      AnnouncePins();
      ArmPoll();
    }
  }

  // Of an engine at rest: blocks that a connector or a session has let go since the last step.
  void AnnouncePins() {
    const EngineLoad load = Load();
    if (load.blocks_used != told_pinned_ || load.sessions.live != told_sessions_) {
      told_pinned_ = load.blocks_used;
      told_sessions_ = load.sessions.live;
      Announce();
    }
  }

  // Asks for a Poll when the engine wants one at the latest, or when who waits for blocks should
  // hear that it lives.
  void ArmPoll() {
    const rt::Time due = std::min(engine_->next_poll(),
                                  engine_->has_work() ? loop_.Now() + kLoadInterval : rt::kNever);
    if (due >= armed_poll_) {
      return;
    }
    armed_poll_ = due;
    loop_.RunAt(due, [weak = weak_from_this(), due] {
      if (std::shared_ptr<Core> core = weak.lock(); core && core->armed_poll_ == due) {
        core->armed_poll_ = rt::kNever;
        core->Poll();
      }
    });
  }

  // Whether the release that waits is done with.
  bool SleepIfIdle() {
    if (!draining_ || engine_->busy()) {
      return false;
    }
    EndDraining(engine_->Release(draining_->parts));
    return true;
  }

  void GiveUpDraining() {
    EndDraining(
        Fail(Code::kDeadlineExceeded,
             fmt::format("{} still {} after {} s; nothing was given back and requests are taken "
                         "again",
                         engine_->request_count() > 0
                             ? fmt::format("{} requests", engine_->request_count())
                             : "blocks that are kept for other workers or tiers",
                         engine_->request_count() > 0 ? "ran" : "were pinned",
                         std::chrono::duration<double>(draining_->patience).count())));
  }

  void EndDraining(Result<void> result) {
    ++release_count_;  // its time-out is void
    MemoryReply reply = std::move(draining_->reply);
    draining_.reset();
    Announce();
    reply(std::move(result));
  }

  // Something else is to be done.
  void StopAudit() {
    if (audit_.running()) {
      engine_->Cancel({.id = kAuditRequestId, .choice = std::nullopt});
      audit_.Interrupted();
    }
  }

  // Nothing else is to be done.
  void StartAudit() {
    if (engine_->busy() || draining_ || shutdown_ || engine_->asleep()) {
      return;
    }
    if (std::optional<wire::GenerateRequest> request = audit_.Next()) {
      if (!engine_->Submit(std::move(*request), loop_.Now(), true)) {
        audit_.Refused();
      }
    }
  }

  void Wake() {
    if (!is_stepping_ && engine_->has_work() && !engine_->stalled()) {
      is_stepping_ = true;
      PostStep();
    }
  }

  // Posted, not called: what is in the mailbox already comes first.
  void PostStep() {
    loop_.Post([weak = weak_from_this()] {
      if (std::shared_ptr<Core> core = weak.lock()) {
        core->RunStep();
      }
    });
  }

  void RunStep() {
    const StepReport report = [&] {
      const kernels::ComputeTurns::Step turn(turns_);
      return engine_->Step(loop_.Now(), frames_);
    }();
    looks_ += engine_->stalled() ? 1 : 0;
    if (report.virtual_time_ns == 0) {
      FinishStep();
      return;
    }
    in_virtual_step_ = true;
    loop_.RunAt(loop_.Now() + rt::Duration(report.virtual_time_ns), [weak = weak_from_this()] {
      if (std::shared_ptr<Core> core = weak.lock()) {
        core->in_virtual_step_ = false;
        core->FinishStep();
      }
    });
  }

  void FinishStep() {
    TellKvEvents();  // first: who hears of an end finds its blocks known
    Deliver();
    std::vector<rt::Function<void(Core&)>> inbox = std::exchange(inbox_, {});
    for (rt::Function<void(Core&)>& message : inbox) {
      message(*this);
    }
    SleepIfIdle();
    TellKvEvents();
    StartAudit();
    if (engine_->has_work() && !engine_->stalled()) {
      PostStep();
    } else {
      is_stepping_ = false;
      ArmPoll();
    }
  }

  void Deliver() {
    const rt::Time now = frames_.empty() ? rt::Time{} : loop_.Now();
    for (wire::TokenFrame& frame : frames_) {
      if (frame.id == kAuditRequestId) {
        const std::optional<AuditMismatch> mismatch = audit_.TakeRecomputed(frame);
        if (mismatch && on_mismatch_) {
          on_mismatch_(*mismatch);
        }
        if (!audit_.running()) {
          Announce();
        }
        continue;
      }
      audit_.Take(frame);
      auto route = routes_.find(frame.id);
      PX_ASSERT(route != routes_.end());
      auto destination = destinations_.find(route->second.destination);
      if (!frame.tokens.empty()) {
        route->second.last_token = now;
        route->second.first_token = std::min(route->second.first_token, now);
      }
      Stamp(route->second, now, frame);
      bool ended = frame.finish.has_value() && --route->second.live_choices == 0;
      if (destination != destinations_.end()) {
        destination->second.frames.push_back(std::move(frame));
        destination->second.request_count -= ended ? 1 : 0;
      }
      if (ended) {
        routes_.erase(route);
      }
    }
    frames_.clear();
    const rt::Time told = loop_.Now();
    for (auto& [id, destination] : destinations_) {
      bool load_due =
          destination.request_count > 0 && told - destination.last_output >= kLoadInterval;
      if (!destination.frames.empty() || load_due) {
        destination.last_output = told;
        const EngineLoad load = Load();
        told_pinned_ = load.blocks_used;
        told_sessions_ = load.sessions.live;
        destination.sink(
            {.frames = std::exchange(destination.frames, {}), .load = load, .kv_changes = {}});
      }
    }
  }

  rt::Loop& loop_;
  std::unique_ptr<Engine> engine_;
  SelfAudit audit_;
  rt::Function<void(const AuditMismatch&)> on_mismatch_;
  kernels::ComputeTurns* turns_;  // null: nobody else computes
  std::unordered_map<DestinationId, Destination> destinations_;
  std::unordered_map<RequestId, Route> routes_;
  std::vector<wire::TokenFrame> frames_;
  kv::CacheChanges kv_changes_;
  bool watched_ = false;                          // by some destination, once
  std::vector<rt::Function<void(Core&)>> inbox_;  // came during a virtual step
  std::optional<Error> shutdown_;
  std::optional<Draining> draining_;
  std::uint64_t release_count_ = 0;
  std::uint64_t looks_ = 0;   // Steps that found all waiting for blocks
  bool is_stepping_ = false;  // a step is posted or under way
  bool in_virtual_step_ = false;
  rt::Time armed_poll_ = rt::kNever;
  std::uint32_t told_pinned_ = 0;    // blocks, as destinations know
  std::uint32_t told_sessions_ = 0;  // likewise
};

EngineLoop::EngineLoop(rt::Loop& loop, std::unique_ptr<Engine> engine, EngineLoopOptions options)
    : loop_(loop),
      card_(engine->card()),
      sequence_count_max_(engine->sequence_count_max()),
      tells_kv_events_(engine->cache().tells_events()),
      tells_kv_tokens_(engine->cache().tells_tokens()),
      core_(std::make_shared<Core>(loop, std::move(engine), std::move(options))) {
  core_->StartConnector();
}

EngineLoop::~EngineLoop() = default;

void EngineLoop::Post(rt::Function<void(Core&)> message) {
  loop_.Post([weak = std::weak_ptr<Core>(core_), message = std::move(message)]() mutable {
    if (std::shared_ptr<Core> core = weak.lock()) {
      core->Take(std::move(message));
    }
  });
}

DestinationId EngineLoop::AddDestination(StepSink sink) {
  DestinationId id{next_destination_.fetch_add(1, std::memory_order_relaxed)};
  Post([id, sink = std::move(sink)](Core& core) mutable {
    core.AddDestination(id, std::move(sink));
  });
  return id;
}

void EngineLoop::RemoveDestination(DestinationId destination) {
  Post([destination](Core& core) { core.RemoveDestination(destination); });
}

void EngineLoop::Submit(DestinationId destination, wire::GenerateRequest request) {
  Post([destination, request = std::move(request)](Core& core) mutable {
    core.Submit(destination, std::move(request));
  });
}

void EngineLoop::WatchKvEvents(DestinationId destination) {
  Post([destination](Core& core) { core.WatchKvEvents(destination); });
}

void EngineLoop::Cancel(const wire::CancelRequest& cancel) {
  Post([cancel](Core& core) { core.Cancel(cancel); });
}

void EngineLoop::OfferFeatures(std::string digest,
                               std::shared_ptr<const model::VisionFeatures> features) {
  Post([digest = std::move(digest), features = std::move(features)](Core& core) {
    core.engine().OfferFeatures(digest, features);
  });
}

void EngineLoop::LoadAdapter(std::string name, std::shared_ptr<const AdapterWeights> weights,
                             bool pinned, AdapterReply reply) {
  Post([name = std::move(name), weights = std::move(weights), pinned,
        reply = std::move(reply)](Core& core) mutable {
    core.ChangeAdapters(core.engine().LoadAdapter(std::move(name), std::move(weights), pinned),
                        std::move(reply));
  });
}

void EngineLoop::UnloadAdapter(std::string name, AdapterReply reply) {
  Post([name = std::move(name), reply = std::move(reply)](Core& core) mutable {
    core.ChangeAdapters(core.engine().UnloadAdapter(name), std::move(reply));
  });
}

void EngineLoop::Release(const MemoryParts& parts, rt::Duration patience, MemoryReply reply) {
  Post([parts, patience, reply = std::move(reply)](Core& core) mutable {
    core.Release(parts, patience, std::move(reply));
  });
}

void EngineLoop::ClearCache(bool lasting, MemoryReply reply) {
  Post([lasting, reply = std::move(reply)](Core& core) mutable {
    core.engine().ClearCache(lasting);
    reply({});
  });
}

void EngineLoop::Restore(const MemoryParts& parts, MemoryReply reply) {
  Post([parts, reply = std::move(reply)](Core& core) mutable {
    core.Restore(parts, std::move(reply));
  });
}

void EngineLoop::Shutdown(const Error& error) {
  Post([error](Core& core) { core.Shutdown(error); });
}

}  // namespace pixii::engine
