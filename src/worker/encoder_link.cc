#include "worker/encoder_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/media_items.h"

namespace pixii::worker {

namespace {

constexpr std::uint32_t kProbesMax = 16;

}  // namespace

struct EncoderLink::Made {
  Result<model::VisionFeatures> features = Fail(Code::kCancelled, "nobody waits for it any more");
  bool bad_request = false;  // the features of the next one's pixels may be another matter
};

EncoderLink::EncoderLink(rt::Loop& loop, EncoderLinkOptions options,
                         std::unique_ptr<engine::MediaEncoder> encoder,
                         std::unique_ptr<FeatureStore> store)
    : loop_(loop),
      options_(std::move(options)),
      encoder_(std::move(encoder)),
      store_(std::move(store)),
      tower_(loop, "tower", 1, options_.requests_max + kProbesMax) {}

EncoderLink::~EncoderLink() {
  *alive_ = false;
  for (auto& [digest, job] : jobs_) {
    job.abandoned->store(true);
  }
  for (auto& [id, request] : requests_) {
    loop_.CancelTimer(request.timer);
  }
}

Result<void> EncoderLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (closed_) {
    return Fail(*closed_);
  }
  if (!request.encode_only) {
    if (!request.media.empty() || request.stop.max_tokens != 1 || probes_ == kProbesMax) {
      return Fail(Code::kUnsupported, "this worker encodes pictures and generates nothing");
    }
    Probe(request.id, std::move(on_frame));
    return {};
  }
  if (request.media.size() != 1 || request.choice_count != 1) {
    return Fail(Code::kInvalidArgument,
                fmt::format("encode_only: {} items and {} choices; it is for one of each",
                            request.media.size(), request.choice_count),
                "encode_only");
  }
  if (requests_.contains(request.id)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("request id {} is already running", Raw(request.id)), "id");
  }
  if (requests_.size() >= options_.requests_max) {
    return Fail(Code::kResourceExhausted,
                fmt::format("{} pictures wait or are kept for others, {} are allowed",
                            requests_.size(), options_.requests_max));
  }
  if (!request.media.front().features.empty()) {
    return Fail(Code::kInvalidArgument, "media[0]: it has features and needs no tower", "media");
  }
  const RequestId id = request.id;
  const rt::Duration left(request.deadline_left_ns);
  Request& kept = requests_[id];
  kept.on_frame = std::move(on_frame);
  kept.digest = request.media.front().digest;
  kept.asked = std::make_shared<const wire::GenerateRequest>(std::move(request));
  if (left > rt::Duration::zero()) {
    SetDeadline(id, left);
  }
  Later([this, id] { Start(id); });
  return {};
}

template <class Fn>
void EncoderLink::Later(Fn fn) {
  loop_.Post([fn = std::move(fn), alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      fn();
    }
  });
}

// The watch of this worker: a word from the thread that looks at pictures.
void EncoderLink::Probe(RequestId id, FrameHandler on_frame) {
  ++probes_;
  const bool taken = tower_.Submit([] {},
                                   [this, id, on_frame] {
                                     --probes_;
                                     ++steps_;
                                     wire::TokenFrame frame;
                                     frame.id = id;
                                     frame.tokens = {0};
                                     frame.finish = wire::FinishReason::kLength;
                                     on_frame(std::move(frame));
                                   });
  if (!taken) {
    --probes_;
    Later([id, on_frame] {
      wire::TokenFrame frame;
      frame.id = id;
      frame.finish = wire::FinishReason::kError;
      frame.error = Error(Code::kResourceExhausted, "the tower takes no more pictures");
      on_frame(std::move(frame));
    });
  }
}

void EncoderLink::Start(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) {
    return;  // it was cancelled
  }
  if (Keep(id)) {
    ++counters_.cache_hits;
    return;
  }
  const std::string digest = found->second.digest;
  Job& job = jobs_[digest];
  job.waiting.push_back(id);
  if (job.waiting.size() == 1) {
    Begin(digest);
  }
}

// Gives it the record of what is here. False: nothing is.
bool EncoderLink::Keep(RequestId id) {
  Request& request = requests_.at(id);
  std::optional<std::string> record = store_->Pin(request.digest);
  if (!record) {
    return false;
  }
  request.kept = true;
  request.asked.reset();
  SetDeadline(id, options_.lease);
  wire::TokenFrame frame;
  frame.id = id;
  frame.handover = std::move(*record);
  const FrameHandler on_frame = request.on_frame;
  on_frame(std::move(frame));
  return true;
}

// Has the tower look at the pixels of the first one that waits.
void EncoderLink::Begin(const std::string& digest) {
  Job& job = jobs_.at(digest);
  const auto abandoned = std::make_shared<std::atomic<bool>>(false);
  job.abandoned = abandoned;
  auto made = std::make_shared<Made>();
  const bool taken = tower_.Submit(
      [made, abandoned, encoder = encoder_.get(), asked = requests_.at(job.waiting.front()).asked] {
        if (abandoned->load()) {
          return;
        }
        if (const auto good = engine::CheckMediaItems(asked->prompt, asked->media, *encoder);
            !good) {
          made->features = Fail(good.error());
          made->bad_request = true;
          return;
        }
        made->features = encoder->Encode(asked->media.front());
      },
      [this, digest, made, abandoned] {
        ++steps_;
        const auto found = jobs_.find(digest);
        if (found != jobs_.end() && found->second.abandoned == abandoned) {
          OnMade(digest, *made);
        } else if (made->features) {  // who asked is gone; somebody else may
          (void)store_->Put(digest, *made->features);
          store_->Trim();
        }
      });
  if (!taken) {
    made->features =
        Fail(Code::kResourceExhausted, "the tower takes no more pictures: too many wait");
    OnMade(digest, *made);
  }
}

void EncoderLink::OnMade(const std::string& digest, const Made& made) {
  std::vector<RequestId> waiting = std::move(jobs_.at(digest).waiting);
  jobs_.erase(digest);
  Result<void> stored = made.features ? store_->Put(digest, *made.features)
                                      : Result<void>(Fail(made.features.error()));
  counters_.encoded += made.features ? 1 : 0;
  const std::weak_ptr<bool> alive(alive_);
  if (made.bad_request && waiting.size() > 1) {  // the others brought pixels of their own
    Job& again = jobs_[digest];
    again.waiting.assign(waiting.begin() + 1, waiting.end());
    waiting.resize(1);
    Begin(digest);
  }
  for (const RequestId id : waiting) {
    if (!requests_.contains(id)) {
      continue;
    }
    if (!stored || !Keep(id)) {
      ++counters_.failed;
      End(id, wire::FinishReason::kError,
          stored ? Error(Code::kInternal, "features that were made are not there")
                 : stored.error());
    }
    if (alive.expired()) {
      return;
    }
  }
  store_->Trim();
}

void EncoderLink::SetDeadline(RequestId id, rt::Duration in) {
  Request& request = requests_.at(id);
  loop_.CancelTimer(request.timer);
  request.timer = loop_.RunAt(loop_.Now() + in, [this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here && requests_.contains(id)) {
      requests_.at(id).timer = rt::TimerId::kNone;
      OnDeadline(id);
    }
  });
}

void EncoderLink::OnDeadline(RequestId id) {
  if (requests_.at(id).kept) {
    ++counters_.expired;
    End(id, wire::FinishReason::kLength, std::nullopt);
    return;
  }
  ++counters_.failed;
  End(id, wire::FinishReason::kError,
      Error(Code::kDeadlineExceeded, "the request's deadline passed before its picture was seen"));
}

// It waits for nothing, and nothing is kept for it, any more.
void EncoderLink::Leave(RequestId id) {
  const auto found = requests_.find(id);
  Request& request = found->second;
  loop_.CancelTimer(request.timer);
  if (request.kept) {
    store_->Unpin(request.digest);
  } else if (const auto job = jobs_.find(request.digest); job != jobs_.end()) {
    std::erase(job->second.waiting, id);
    if (job->second.waiting.empty()) {
      job->second.abandoned->store(true);
      jobs_.erase(job);
    }
  }
  requests_.erase(found);
}

void EncoderLink::End(RequestId id, wire::FinishReason finish, std::optional<Error> error) {
  const FrameHandler on_frame = std::move(requests_.at(id).on_frame);
  Leave(id);
  wire::TokenFrame frame;
  frame.id = id;
  frame.finish = finish;
  frame.error = std::move(error);
  on_frame(std::move(frame));
}

// It ends behind this call, as what an engine runs does.
void EncoderLink::Cancel(const wire::CancelRequest& cancel) {
  if (!requests_.contains(cancel.id) || (cancel.choice && *cancel.choice != 0)) {
    return;
  }
  Later([this, id = cancel.id] {
    const auto found = requests_.find(id);
    if (found != requests_.end()) {
      counters_.cancelled += found->second.kept ? 0 : 1;
      End(id, wire::FinishReason::kCancelled, std::nullopt);
    }
  });
}

void EncoderLink::ClearCache(control::CacheDepth /*depth*/, MemoryHandler on_done) {
  store_->Clear();
  on_done({});
}

control::WorkerLoad EncoderLink::load() const {
  control::WorkerLoad load;
  load.state = closed_ ? control::WorkerState::kUnhealthy : control::WorkerState::kAwake;
  load.running = jobs_.empty() ? 0 : 1;
  load.queued = static_cast<std::uint32_t>(jobs_.size()) - load.running;
  load.steps = steps_;
  return load;
}

void EncoderLink::Close(const Error& error) {
  closed_ = error;
  const std::weak_ptr<bool> alive(alive_);
  while (!alive.expired() && !requests_.empty()) {
    End(requests_.begin()->first, wire::FinishReason::kError, error);
  }
}

}  // namespace pixii::worker
