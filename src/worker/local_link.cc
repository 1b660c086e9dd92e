#include "worker/local_link.h"

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "rt/inbox.h"
#include "worker/append.h"
#include "worker/kv_changes.h"
#include "worker/kv_consolidator.h"

namespace pixii::worker {

namespace {

/// Of an engine that is faster than those who listen: what follows a step, told with it. Not if
/// the engine's state changed, which is told each time.
bool Follow(engine::StepOutput& last, engine::StepOutput& next) {
  if (last.load.state != next.load.state) {
    return false;
  }
  last.load = next.load;
  Append(last.frames, next.frames);
  Append(last.kv_changes.events, next.kv_changes.events);
  Append(last.kv_changes.tokens, next.kv_changes.tokens);
  Append(last.kv_changes.roots, next.kv_changes.roots);
  return true;
}

}  // namespace

// The requests under way; lives on the frontend's loop.
class LocalLink::Core final {
 public:
  using Resend = std::function<void(wire::GenerateRequest)>;

  /// `resend` takes requests back whose adapter gave way to others before they came.
  Core(Resend resend, std::function<void(engine::EngineState)> on_state, bool consolidates)
      : resend_(std::move(resend)), on_state_(std::move(on_state)), consolidates_(consolidates) {}

  /// `again`: to be sent once more if the engine does not have its adapter.
  void Add(const wire::GenerateRequest& request, FrameHandler on_frame, bool again) {
    auto outstanding = std::make_shared<Outstanding>();
    outstanding->on_frame = std::move(on_frame);
    outstanding->ended.resize(request.choice_count);
    outstanding->live_choices = request.choice_count;
    if (again) {
      outstanding->again = request;
    }
    sequences_ += request.choice_count;
    requests_.emplace(request.id, std::move(outstanding));
  }

  /// The request is not at the engine until SetSent.
  void SetWaiting(RequestId id) { requests_.at(id)->waits = true; }

  /// What was cancelled meanwhile, to be told to the engine behind the request.
  std::vector<wire::CancelRequest> SetSent(RequestId id) {
    Outstanding& outstanding = *requests_.at(id);
    outstanding.waits = false;
    return std::exchange(outstanding.cancels, {});
  }

  /// Whether `cancel` is kept for SetSent.
  bool KeepsCancel(const wire::CancelRequest& cancel) {
    Outstanding& outstanding = *requests_.at(cancel.id);
    if (outstanding.waits) {
      outstanding.cancels.push_back(cancel);
    }
    return outstanding.waits;
  }

  /// Every choice that has not ended ends with `error`.
  void EndWith(RequestId id, const Error& error) {
    std::shared_ptr<Outstanding> outstanding = requests_.at(id);
    outstanding->again.reset();
    outstanding->refusals_left = 0;
    for (std::uint32_t choice = 0; choice < outstanding->ended.size(); ++choice) {
      if (!outstanding->ended[choice]) {
        wire::TokenFrame frame;
        frame.id = id;
        frame.choice = choice;
        frame.finish = wire::FinishReason::kError;
        frame.error = error;
        Give(std::move(frame));
      }
    }
  }

  void Take(engine::StepOutput output) {
    const bool changed = output.load.state != load_.state;
    load_ = output.load;
    if (changed && on_state_) {
      on_state_(load_.state);
    }
    if (on_kv_events_ && !output.kv_changes.events.empty()) {
      on_kv_events_(JoinChanges(output.kv_changes.events, next_kv_event_));
    }
    if (on_engine_kv_events_ && !output.kv_changes.events.empty()) {
      std::vector<wire::EngineKvEvent> events = JoinEngineChanges(
          consolidates_ ? consolidator_.Merge(output.kv_changes, block_tokens_) : output.kv_changes,
          block_tokens_);
      if (!events.empty()) {
        on_engine_kv_events_(std::move(events));
      }
    }
    for (wire::TokenFrame& frame : output.frames) {
      Give(std::move(frame));
    }
  }

  void WatchKvEvents(KvEventHandler on_events) { on_kv_events_ = std::move(on_events); }

  void WatchEngineKvEvents(std::uint32_t block_tokens, EngineKvHandler on_events) {
    block_tokens_ = block_tokens;
    on_engine_kv_events_ = [on_events = std::move(on_events)](auto events) {
      on_events(0, std::move(events));
    };
  }

  void EndAll(const Error& error) {
    closed_ = error;
    while (!requests_.empty()) {
      EndWith(requests_.begin()->first, error);
    }
  }

  bool contains(RequestId id) const { return requests_.contains(id); }

  std::size_t size() const { return requests_.size(); }

  std::uint32_t sequences() const { return sequences_; }

  const engine::EngineLoad& load() const { return load_; }

  void set_closed(const Error& error) { closed_ = error; }

  const std::optional<Error>& closed() const { return closed_; }

 private:
  struct Outstanding {
    FrameHandler on_frame;
    std::vector<bool> ended;  // [choice]
    std::uint32_t live_choices = 0;
    std::optional<wire::GenerateRequest> again;
    std::uint32_t refusals_left = 0;  // frames of the engine's refusal that nobody gets
    bool waits = false;               // for its adapter
    std::vector<wire::CancelRequest> cancels;
  };

  /// The engine does not have the adapter: whether the request is sent again instead.
  bool IsSentAgain(Outstanding& outstanding, const wire::TokenFrame& frame) {
    if (!frame.error || frame.error->code() != Code::kNotFound || frame.error->param() != "model") {
      return false;
    }
    if (outstanding.refusals_left > 0) {
      --outstanding.refusals_left;
      return true;
    }
    if (!outstanding.again) {
      return false;
    }
    outstanding.refusals_left = static_cast<std::uint32_t>(outstanding.ended.size()) - 1;
    resend_(*std::exchange(outstanding.again, std::nullopt));
    return true;
  }

  // A frame for a request or choice that ended here (Close) came too late and is dropped.
  void Give(wire::TokenFrame frame) {
    auto found = requests_.find(frame.id);
    if (found == requests_.end() || frame.choice >= found->second->ended.size() ||
        found->second->ended[frame.choice]) {
      return;
    }
    // Held across the call: the handler may close the link or start and cancel others.
    std::shared_ptr<Outstanding> outstanding = found->second;
    if (IsSentAgain(*outstanding, frame)) {
      return;
    }
    outstanding->again.reset();
    if (frame.finish) {
      outstanding->ended[frame.choice] = true;
      --sequences_;
      if (--outstanding->live_choices == 0) {
        requests_.erase(found);
      }
    }
    outstanding->on_frame(std::move(frame));
  }

  Resend resend_;
  std::function<void(engine::EngineState)> on_state_;
  std::unordered_map<RequestId, std::shared_ptr<Outstanding>> requests_;
  std::uint32_t sequences_ = 0;  // choices not ended
  engine::EngineLoad load_;
  std::optional<Error> closed_;
  KvEventHandler on_kv_events_;
  std::function<void(std::vector<wire::EngineKvEvent>)> on_engine_kv_events_;
  std::uint32_t block_tokens_ = 0;
  std::uint64_t next_kv_event_ = 0;
  KvConsolidator consolidator_;
  bool consolidates_;
};

LocalLink::LocalLink(rt::Loop& frontend_loop, engine::EngineLoop& engine, LocalLinkOptions options)
    : frontend_loop_(frontend_loop),
      engine_(engine),
      card_(engine.card()),
      core_(std::make_shared<Core>(
          [this](wire::GenerateRequest request) { SendWhenLoaded(std::move(request)); },
          std::move(options.on_state), options.consolidates_kv_events)),
      adapters_(frontend_loop, engine, std::move(options.adapters), card_) {
  card_.name = std::move(options.name);
  card_.eos_token_ids = std::move(options.eos_token_ids);
  card_.bos_token_id = options.bos_token_id;
  auto inbox = rt::Inbox<engine::StepOutput>::Make(
      frontend_loop, [weak = std::weak_ptr<Core>(core_)](std::vector<engine::StepOutput> outputs) {
        for (engine::StepOutput& output : outputs) {
          if (std::shared_ptr<Core> core = weak.lock()) {
            core->Take(std::move(output));
          }
        }
      });
  destination_ = engine_.AddDestination([inbox = std::move(inbox)](engine::StepOutput output) {
    inbox->Put(std::move(output), &Follow);
  });
}

LocalLink::~LocalLink() { engine_.RemoveDestination(destination_); }

Result<void> LocalLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (core_->closed()) {
    return Fail(*core_->closed());
  }
  if (core_->contains(request.id)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("request id {} is already running", Raw(request.id)), "id");
  }
  if (request.choice_count == 0) {
    return Fail(Code::kInvalidArgument, "n is 0; at least 1 is needed", "n");
  }
  // The engine would refuse it too, but only after a way there and back.
  std::uint32_t limit = engine_.sequence_count_max();
  if (request.choice_count > limit || core_->sequences() > limit - request.choice_count) {
    return Fail(
        Code::kResourceExhausted,
        fmt::format(
            "{} sequences run or wait and {} more do not fit the engine's {} (batch and queue)",
            core_->sequences(), request.choice_count, limit));
  }
  core_->Add(request, std::move(on_frame), adapters_.InCatalogue(request.adapter));
  if (adapters_.MustLoad(request.adapter)) {
    SendWhenLoaded(std::move(request));
  } else {
    engine_.Submit(destination_, std::move(request));
  }
  return {};
}

void LocalLink::SendWhenLoaded(wire::GenerateRequest request) {
  core_->SetWaiting(request.id);
  std::string name = request.adapter;
  auto held = std::make_shared<wire::GenerateRequest>(std::move(request));
  adapters_.WhenLoaded(name, [this, held](const Result<void>& loaded) {
    const RequestId id = held->id;
    if (!core_->contains(id)) {
      return;  // the link was closed
    }
    const std::vector<wire::CancelRequest> cancels = core_->SetSent(id);
    if (!loaded) {
      core_->EndWith(id, loaded.error());
      return;
    }
    engine_.Submit(destination_, std::move(*held));
    for (const wire::CancelRequest& cancel : cancels) {
      engine_.Cancel(cancel);
    }
  });
}

void LocalLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  adapters_.Load(std::move(request), std::move(on_done));
}

void LocalLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  adapters_.Unload(std::move(name), std::move(on_done));
}

void LocalLink::Cancel(const wire::CancelRequest& cancel) {
  if (core_->contains(cancel.id) && !core_->KeepsCancel(cancel)) {
    engine_.Cancel(cancel);
  }
}

// Comes back on the frontend's loop, if the link is still there.
engine::MemoryReply LocalLink::ReplyTo(MemoryHandler on_done) {
  return [loop = &frontend_loop_, weak = std::weak_ptr<Core>(core_),
          on_done = std::move(on_done)](Result<void> result) {
    loop->Post([weak, on_done, result = std::move(result)] {
      if (!weak.expired()) {
        on_done(result);
      }
    });
  };
}

void LocalLink::ReleaseMemory(const control::MemoryTags& tags, rt::Duration patience,
                              MemoryHandler on_done) {
  engine_.Release({.kv_cache = tags.kv_cache, .weights = tags.weights}, patience,
                  ReplyTo(std::move(on_done)));
}

void LocalLink::ResumeMemory(const control::MemoryTags& tags, MemoryHandler on_done) {
  engine_.Restore({.kv_cache = tags.kv_cache, .weights = tags.weights},
                  ReplyTo(std::move(on_done)));
}

void LocalLink::ClearCache(control::CacheDepth depth, MemoryHandler on_done) {
  engine_.ClearCache(depth == control::CacheDepth::kLasting, ReplyTo(std::move(on_done)));
}

namespace {

control::WorkerState StateOf(engine::EngineState state) {
  switch (state) {
    case engine::EngineState::kAwake:
      return control::WorkerState::kAwake;
    case engine::EngineState::kDraining:
      return control::WorkerState::kDraining;
    case engine::EngineState::kAsleep:
      return control::WorkerState::kAsleep;
  }
  return control::WorkerState::kAwake;
}

}  // namespace

Result<void> LocalLink::WatchKvEvents(KvEventHandler on_events) {
  if (!engine_.tells_kv_events()) {
    return Fail(Code::kUnsupported, "this worker was told to publish no KV events");
  }
  core_->WatchKvEvents(std::move(on_events));
  engine_.WatchKvEvents(destination_);
  return {};
}

Result<void> LocalLink::WatchEngineKvEvents(EngineKvHandler on_events) {
  if (!engine_.tells_kv_tokens()) {
    return Fail(Code::kUnsupported, "this worker's engine tells no tokens of its KV blocks");
  }
  core_->WatchEngineKvEvents(card_.block_tokens, std::move(on_events));
  engine_.WatchKvEvents(destination_);
  return {};
}

control::WorkerLoad LocalLink::load() const {
  const engine::EngineLoad& load = core_->load();
  return {.state = StateOf(load.state),
          .running = load.running,
          .queued = load.queued,
          .blocks_used = load.blocks_used,
          .blocks_cached = load.blocks_cached,
          .blocks_total = card_.block_count,  // known before the first step
          .steps = load.steps};
}

engine::EngineLoad LocalLink::engine_load() const { return core_->load(); }

void LocalLink::Drain() {
  if (!core_->closed()) {
    core_->set_closed(Error(Code::kShuttingDown, "the worker drains and takes no new requests"));
  }
}

void LocalLink::Close(const Error& error) {
  engine_.RemoveDestination(destination_);
  core_->EndAll(error);
}

std::size_t LocalLink::outstanding_count() const { return core_->size(); }

}  // namespace pixii::worker
