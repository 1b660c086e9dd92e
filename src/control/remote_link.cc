#include "control/remote_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "wire/messages/codec.h"

namespace pixii::control {

RemoteLink::RemoteLink(rt::Loop& loop, rt::Net& net, MuxClientOptions options, wire::ModelCard card,
                       std::function<void()> on_change)
    : loop_(loop),
      on_change_(std::move(on_change)),
      card_(card),
      known_card_(std::move(card)),
      client_(loop, net, WithGoingAway(std::move(options)),
              [this](bool connected) { OnConnected(connected); }) {}

RemoteLink::~RemoteLink() {
  *alive_ = false;
  loop_.CancelTimer(plane_timer_);
  if (plane_ != nullptr) {
    plane_->Forget(plane_name_, *this);
  }
}

void RemoteLink::UsePlane(EventPlane& plane, std::string worker) {
  plane_ = &plane;
  plane_name_ = std::move(worker);
  plane.Listen(plane_name_, *this);
}

// Its report says so, too, but may wait behind others or behind what is not read yet.
MuxClientOptions RemoteLink::WithGoingAway(MuxClientOptions options) {
  options.on_going_away = [this] {
    if (state_ == State::kHere) {
      MarkDraining();
      const auto on_change = on_change_;  // it may destroy this
      on_change();
    }
  };
  return options;
}

void RemoteLink::MarkDraining() {
  const auto mark = [](WorkerLoad& load) {
    load.state = load.state == WorkerState::kAwake ? WorkerState::kDraining : load.state;
  };
  mark(load_);
  std::ranges::for_each(rank_loads_, mark);
}

void RemoteLink::OnConnected(bool connected) {
  kv_call_.reset();
  kv_unsupported_ = false;
  trouble_.clear();
  if (!connected) {
    SetAway({});
    return;
  }
  // If this call fails the connection is gone again, which is heard of anyway.
  (void)client_.Call(kReportMethod, {}, {},
                     {.on_message = [this](const std::string& message) { OnReport(message); },
                      .on_end =
                          [this](const std::optional<Error>& error) {
                            if (client_.connected()) {
                              SetAway("the worker reports no more" +
                                      (error ? ": " + error->detail() : std::string()));
                            }
                          }});
}

void RemoteLink::SetAway(std::string trouble) {
  trouble_ = std::move(trouble);
  if (std::exchange(state_, State::kAway) == State::kHere) {
    const auto on_change = on_change_;  // it may destroy this
    on_change();
  }
}

// What the peer is that the worker is not; nothing: it is the worker.
std::string RemoteLink::Mismatch(const wire::ModelCard& card) const {
  const auto differs = [](std::string_view what, const auto& known, const auto& said) {
    return known == std::decay_t<decltype(known)>{} || known == said
               ? std::string()
               : fmt::format("another worker is at this address: its {} is {}, not {}", what, said,
                             known);
  };
  std::string out = differs("name", known_card_.name, card.name);
  out += out.empty() ? differs("fingerprint", known_card_.fingerprint, card.fingerprint) : "";
  out += out.empty() ? differs("numerics_id", known_card_.numerics_id, card.numerics_id) : "";
  out += out.empty() ? differs("block_tokens", known_card_.block_tokens, card.block_tokens) : "";
  return out;
}

void RemoteLink::OnReport(const std::string& message) {
  Result<wire::WorkerReport> report = wire::Decode<wire::WorkerReport>(message);
  if (!report) {
    SetAway("the worker's report cannot be read: " + report.error().detail());
    return;
  }
  if (report->card) {
    if (std::string mismatch = Mismatch(*report->card); !mismatch.empty()) {
      SetAway(std::move(mismatch));
      return;
    }
    card_ = std::move(*report->card);
    ++card_number_;
    state_ = State::kHere;
    trouble_.clear();
  }
  if (state_ == State::kAway) {
    return;  // load of what is not this worker
  }
  load_ = report->load;
  rank_loads_ = std::move(report->ranks);
  if (client_.peer_goes_away()) {
    MarkDraining();
  }
  const std::shared_ptr<bool> alive = alive_;
  if (load_.state == WorkerState::kUnhealthy) {
    AbandonAll(Error(Code::kDisconnected, "the worker's engine does not answer"));
    if (!*alive) {
      return;
    }
  }
  const auto on_change = on_change_;  // it may destroy this
  on_change();
  if (*alive) {
    AskForKvEvents();
  }
}

// What runs there gets no further: it ends here, and the worker need not go on with it.
void RemoteLink::AbandonAll(const Error& error) {
  const std::shared_ptr<bool> alive = alive_;
  std::vector<Request> all;
  all.reserve(requests_.size());
  for (const auto& [id, request] : requests_) {
    all.push_back(request);
  }
  for (const Request& request : all) {
    client_.Cancel(request->call);
    EndAll(request, error);
    if (!*alive) {
      return;  // whoever heard of the end took the link away
    }
  }
}

Result<void> RemoteLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  const RequestId id = request.id;
  if (requests_.contains(id)) {
    return Fail(Code::kInvalidArgument, fmt::format("request id {} is already running", Raw(id)),
                "id");
  }
  if (request.choice_count == 0 || request.choice_count > kChoiceCountMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("n is {}; 1 to {} are allowed", request.choice_count, kChoiceCountMax),
                "n");
  }
  if (state_ == State::kAway) {
    return Fail(Code::kUnavailable, trouble());
  }
  auto outstanding = std::make_shared<Outstanding>();
  outstanding->id = id;
  outstanding->on_frame = std::move(on_frame);
  outstanding->ended.resize(request.choice_count);
  outstanding->live_choices = request.choice_count;
  outstanding->prompt_size = request.prompt.size();
  PX_TRY(outstanding->call,
         client_.Call(
             kGenerateMethod, rt::Duration(request.deadline_left_ns), wire::Encode(request),
             {.on_message = [this, outstanding](
                                const std::string& message) { OnFrame(outstanding, message); },
              .on_end =
                  [this, outstanding](const std::optional<Error>& error) {
                    EndAll(outstanding,
                           error ? *error
                                 : Error(Code::kDisconnected, "the worker ended the call early"));
                  }}));
  requests_.emplace(id, std::move(outstanding));
  return {};
}

// Nothing that a worker sends may surprise those who read its frames.
Result<wire::TokenFrame> RemoteLink::ReadFrame(const Outstanding& request,
                                               const std::string& message) const {
  PX_TRY(wire::TokenFrame frame, wire::Decode<wire::TokenFrame>(message));
  const auto known = [this](TokenId token) {
    return token >= 0 &&
           (card_.vocab_size == 0 || static_cast<std::uint32_t>(token) < card_.vocab_size);
  };
  if (frame.choice >= request.ended.size()) {
    return Fail(Code::kDataCorrupt, fmt::format("choice {}", frame.choice));
  }
  if (!std::ranges::all_of(frame.tokens, known) ||
      (frame.stop_token && !known(*frame.stop_token))) {
    return Fail(Code::kDataCorrupt, "a token that is not in the vocabulary");
  }
  if (!frame.logprobs.empty() && frame.logprobs.size() != frame.tokens.size()) {
    return Fail(Code::kDataCorrupt, fmt::format("{} logprobs of {} tokens", frame.logprobs.size(),
                                                frame.tokens.size()));
  }
  if (frame.prompt_logprobs.size() > request.prompt_size) {
    return Fail(Code::kDataCorrupt, fmt::format("{} logprobs of a prompt of {} tokens",
                                                frame.prompt_logprobs.size(), request.prompt_size));
  }
  for (const auto* logprobs : {&frame.logprobs, &frame.prompt_logprobs}) {
    for (const wire::TokenLogprob& one : *logprobs) {
      if (!std::ranges::all_of(one.top, [&](const auto& top) { return known(top.first); })) {
        return Fail(Code::kDataCorrupt, "a logprob of a token that is not in the vocabulary");
      }
    }
  }
  if (frame.state.size() > wire::kStateBytesMax) {
    return Fail(Code::kDataCorrupt, fmt::format("a state of {} bytes", frame.state.size()));
  }
  if (frame.finish == wire::FinishReason::kError && !frame.error) {
    frame.error =
        Error(Code::kInternal, "the worker ended the choice with an error, but said none");
  }
  frame.id = request.id;
  return frame;
}

void RemoteLink::OnFrame(const Request& held, const std::string& message) {
  const Request request = held;  // what holds it may go inside its handler
  if (request->live_choices == 0) {
    return;
  }
  Result<wire::TokenFrame> frame = ReadFrame(*request, message);
  if (!frame) {
    client_.Cancel(request->call);
    EndAll(request, Error(Code::kDisconnected, "the worker sent a frame that cannot be read: " +
                                                   frame.error().detail()));
    return;
  }
  if (request->ended[frame->choice]) {
    return;
  }
  if (frame->finish) {
    request->ended[frame->choice] = true;
    if (--request->live_choices == 0) {
      Forget(request);  // first: the handler may send another of this id
    }
  }
  request->on_frame(std::move(*frame));
}

void RemoteLink::Forget(const Request& request) {
  const auto found = requests_.find(request->id);
  if (found != requests_.end() && found->second == request) {
    requests_.erase(found);
  }
}

void RemoteLink::EndAll(const Request& held, const Error& error) {
  const Request request = held;
  request->live_choices = 0;
  Forget(request);
  const std::shared_ptr<bool> alive = alive_;
  for (std::uint32_t choice = 0; *alive && choice < request->ended.size(); ++choice) {
    if (!request->ended[choice]) {
      request->ended[choice] = true;
      wire::TokenFrame frame;
      frame.id = request->id;
      frame.choice = choice;
      frame.finish = wire::FinishReason::kError;
      frame.error = error;
      request->on_frame(std::move(frame));
    }
  }
}

Result<void> RemoteLink::WatchKvEvents(KvEventHandler on_events) {
  on_kv_events_ = std::move(on_events);
  kv_reader_.Restart();  // the new handler hears everything
  if (kv_call_) {
    client_.Cancel(*std::exchange(kv_call_, std::nullopt));
  }
  AskForKvEvents();
  return {};
}

// Called with every report, too: a call that failed is made again soon.
void RemoteLink::AskForKvEvents() {
  if (!on_kv_events_ || kv_unsupported_ || state_ == State::kAway) {
    return;
  }
  const bool needed = kv_reader_.NeedsWorker(loop_.Now());
  if (kv_call_ && !needed) {
    client_.Cancel(*std::exchange(kv_call_, std::nullopt));
  }
  if (kv_call_ || !needed) {
    return;
  }
  auto called =
      client_.Call(kKvEventsMethod, {}, wire::Encode(kv_reader_.Request()),
                   {.on_message = [this](const std::string& message) { OnKvEvents(message); },
                    .on_end =
                        [this](const std::optional<Error>& error) {
                          kv_call_.reset();
                          kv_unsupported_ = error && error->code() == Code::kUnsupported;
                        }});
  if (called) {
    kv_call_ = *called;
  }
}

void RemoteLink::OnKvEvents(const std::string& message) {
  Result<wire::KvEventBatch> batch = wire::Decode<wire::KvEventBatch>(message);
  std::vector<wire::KvEvent> heard;
  if (!batch) {
    kv_reader_.CountGap();
  }
  if (!batch || !kv_reader_.OnAnswer(std::move(*batch), heard)) {
    client_.Cancel(*std::exchange(kv_call_, std::nullopt));
  }
  AskForKvEvents();
  TellKvEvents(std::move(heard));
}

void RemoteLink::TellKvEvents(std::vector<wire::KvEvent> heard) {
  if (!heard.empty()) {
    const KvEventHandler on_events = on_kv_events_;  // it may destroy this, or replace itself
    on_events(std::move(heard));
  }
}

// What is said of a worker that is not here may be of another one.
void RemoteLink::OnPlane(EventPlane::Kind kind, std::string_view message) {
  if (state_ == State::kAway) {
    return;
  }
  if (kind == EventPlane::Kind::kLoad) {
    OnPlaneLoad(message);
  } else if (on_kv_events_) {
    OnPlaneKvEvents(message);
  }
}

void RemoteLink::OnPlaneKvEvents(std::string_view message) {
  Result<wire::KvEventBatch> batch = wire::Decode<wire::KvEventBatch>(message);
  std::vector<wire::KvEvent> heard;
  const std::uint64_t gaps = kv_reader_.counters().plane_gaps;
  if (!batch || !kv_reader_.OnPlane(std::move(*batch), loop_.Now(), heard)) {
    plane_->CountMalformed();
  }
  plane_->CountKvEvents(heard.size(), kv_reader_.counters().plane_gaps - gaps);
  AskForKvEvents();
  if (plane_timer_ == rt::TimerId::kNone && !kv_reader_.NeedsWorker(loop_.Now())) {
    WatchPlane();
  }
  TellKvEvents(std::move(heard));
}

// A worker that has nothing to do may have told its last events to nobody.
void RemoteLink::WatchPlane() {
  plane_timer_ = loop_.RunAt(kv_reader_.silent_at(), [this] {
    plane_timer_ = rt::TimerId::kNone;
    if (loop_.Now() < kv_reader_.silent_at()) {
      WatchPlane();
    } else {
      AskForKvEvents();
    }
  });
}

// Numbers alone: whether the worker takes requests it says itself.
void RemoteLink::OnPlaneLoad(std::string_view message) {
  Result<wire::WorkerReport> report = wire::Decode<wire::WorkerReport>(message);
  if (!report || report->ranks.size() != rank_loads_.size()) {
    plane_->CountMalformed();
    return;
  }
  if (report->load.steps < load_.steps) {
    return;  // it was under way for longer than what the worker said itself
  }
  report->load.state = load_.state;
  load_ = report->load;
  for (std::size_t rank = 0; rank < rank_loads_.size(); ++rank) {
    report->ranks[rank].state = rank_loads_[rank].state;
    rank_loads_[rank] = report->ranks[rank];
  }
  const auto on_change = on_change_;  // it may destroy this
  on_change();
}

void RemoteLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = requests_.find(cancel.id);
  if (found != requests_.end()) {
    client_.Send(found->second->call, wire::Encode(cancel));
  }
}

void RemoteLink::CallForNothing(std::string_view method, std::string message,
                                MemoryHandler on_done) {
  const auto shared = std::make_shared<MemoryHandler>(std::move(on_done));
  auto called =
      client_.Call(method, {}, std::move(message),
                   {.on_message = [](const std::string&) {},
                    .on_end =
                        [shared](std::optional<Error> error) {
                          (*shared)(error ? Result<void>(Fail(std::move(*error))) : Result<void>());
                        }});
  if (!called) {
    (*shared)(Fail(called.error()));
  }
}

void RemoteLink::ReleaseMemory(const MemoryTags& tags, rt::Duration patience,
                               MemoryHandler on_done) {
  CallForNothing(kMemoryMethod, wire::Encode(wire::MemoryRequest{tags, true, patience.count()}),
                 std::move(on_done));
}

void RemoteLink::ResumeMemory(const MemoryTags& tags, MemoryHandler on_done) {
  CallForNothing(kMemoryMethod, wire::Encode(wire::MemoryRequest{tags, false, 0}),
                 std::move(on_done));
}

void RemoteLink::ClearCache(CacheDepth depth, MemoryHandler on_done) {
  CallForNothing(depth == CacheDepth::kMemory ? kClearCacheMethod : kClearTiersMethod, {},
                 std::move(on_done));
}

template <class Message>
void RemoteLink::CallForOne(std::string_view method, std::string message,
                            std::function<void(Result<Message>)> on_done) {
  struct Waiting {
    std::function<void(Result<Message>)> on_done;
    Result<Message> answer = Fail(Code::kDisconnected, "the worker said nothing");
  };

  const auto waiting = std::make_shared<Waiting>();
  waiting->on_done = std::move(on_done);
  ++asked_;
  auto called =
      client_.Call(method, {}, std::move(message),
                   {.on_message =
                        [waiting](const std::string& answer) {
                          waiting->answer = wire::Decode<Message>(answer);
                        },
                    .on_end =
                        [this, waiting, alive = alive_](std::optional<Error> error) {
                          asked_ -= *alive ? 1 : 0;
                          waiting->on_done(error ? Result<Message>(Fail(std::move(*error)))
                                                 : std::move(waiting->answer));
                        }});
  if (!called) {
    --asked_;
    waiting->on_done(Fail(called.error()));
  }
}

void RemoteLink::FetchFiles(FilesHandler on_done) {
  CallForOne<wire::ModelFiles>(kModelFilesMethod, {}, std::move(on_done));
}

void RemoteLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  CallForOne<wire::AdapterCard>(kLoadAdapterMethod, wire::Encode(request), std::move(on_done));
}

void RemoteLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  CallForOne<wire::AdapterCard>(
      kUnloadAdapterMethod, wire::Encode(wire::AdapterName{std::move(name)}), std::move(on_done));
}

}  // namespace pixii::control
