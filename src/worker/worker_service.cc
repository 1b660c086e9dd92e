#include "worker/worker_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/remote_link.h"
#include "obs/request_labels.h"
#include "wire/messages/codec.h"
#include "worker/append.h"

namespace pixii::worker {

namespace {

bool SameLoad(const wire::WorkerLoad& a, const wire::WorkerLoad& b) {
  return a.state == b.state && a.running == b.running && a.queued == b.queued &&
         a.blocks_used == b.blocks_used && a.blocks_cached == b.blocks_cached &&
         a.blocks_total == b.blocks_total && a.steps == b.steps;
}

// All that a report says but the card.
bool SameReport(const wire::WorkerReport& a, const wire::WorkerReport& b) {
  return SameLoad(a.load, b.load) && std::ranges::equal(a.ranks, b.ranks, SameLoad);
}

/// What `first` and `next` say, in one frame.
void Join(wire::TokenFrame& first, wire::TokenFrame next) {
  Append(first.tokens, next.tokens);
  Append(first.logprobs, next.logprobs);
  Append(first.prompt_logprobs, next.prompt_logprobs);
  Append(first.pooled, next.pooled);
  first.cached_tokens = std::max(first.cached_tokens, next.cached_tokens);
  if (!next.adapter_version.empty()) {
    first.adapter_version = std::move(next.adapter_version);
  }
  first.finish = next.finish;
  first.stop_token = next.stop_token;
  first.stop_logprob = next.stop_logprob;
  if (!next.tokens.empty()) {
    first.state = std::move(next.state);
  }
  if (!next.handover.empty()) {
    first.handover = std::move(next.handover);
  }
  if (!next.early_handover.empty()) {
    first.early_handover = std::move(next.early_handover);
  }
  if (!first.tokens.empty() || first.finish) {
    first.early_handover.clear();  // it comes too late
  }
  if (!next.legs.empty()) {
    first.legs = std::move(next.legs);
  }
  first.dp_rank = first.dp_rank ? first.dp_rank : next.dp_rank;
}

}  // namespace

WorkerService::WorkerService(rt::Loop& loop, rt::Net& net, control::WorkerLink& link,
                             WorkerServiceOptions options)
    : loop_(loop),
      link_(link),
      options_(std::move(options)),
      kv_log_(options_.kv_log),
      kv_epoch_(loop.random().Below(~std::uint64_t{0}) + 1),
      server_(loop, net, options_.mux, *this) {
  if (options_.health) {
    watch_.emplace(loop_, link_, *options_.health, [this] { return RequestId{++last_request_}; });
    watch_->Start();
  }
  tasks_.Start(ReportLoop());
  options_.watches_kv_events = options_.watches_kv_events || options_.plane != nullptr;
  if (options_.watches_kv_events && !WatchKvEvents()) {
    options_.watches_kv_events = false;  // it has none
  }
}

WorkerService::~WorkerService() {
  *alive_ = false;
  tasks_.Clear();
  watch_.reset();
  for (const auto& [request, call] : running_) {
    link_.Cancel({request, std::nullopt});
  }
}

void WorkerService::Announce() {
  for (auto& [id, call] : calls_) {
    if (call.kind == Kind::kReport && call.begun) {
      call.card_due = true;
    }
  }
  SendReports();
}

void WorkerService::Drain() {
  draining_ = true;
  if (watch_) {
    watch_->Stop();
  }
  server_.GoAway();
  SendReports();
}

std::vector<RequestId> WorkerService::RequestsOf(std::string_view caller) const {
  std::vector<RequestId> out;
  for (const auto& [request, call] : running_) {
    if (server_.peer_name(call) == caller) {
      out.push_back(request);
    }
  }
  return out;
}

void WorkerService::OnCall(control::CallId id, std::string_view method,
                           rt::Duration /*deadline_left*/) {
  static constexpr std::pair<std::string_view, Kind> kMethods[] = {
      {control::kGenerateMethod, Kind::kGenerate},     {control::kReportMethod, Kind::kReport},
      {control::kMemoryMethod, Kind::kMemory},         {control::kClearCacheMethod, Kind::kClear},
      {control::kClearTiersMethod, Kind::kClearTiers}, {control::kLoadAdapterMethod, Kind::kLoad},
      {control::kUnloadAdapterMethod, Kind::kUnload},  {control::kModelFilesMethod, Kind::kFiles},
      {control::kKvEventsMethod, Kind::kKvEvents}};
  for (const auto& [name, kind] : kMethods) {
    if (name == method) {
      calls_[id].kind = kind;
      return;
    }
  }
  server_.End(id, Error(Code::kUnsupported, fmt::format("this worker knows no call {}", method)));
}

void WorkerService::OnMessage(control::CallId id, std::string message) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) {
    return;
  }
  Call& call = found->second;
  if (!call.begun) {
    call.begun = true;
    Begin(id, call, message);
    return;
  }
  if (call.kind == Kind::kGenerate) {
    const Result<wire::CancelRequest> cancel = wire::Decode<wire::CancelRequest>(message);
    if (cancel) {
      link_.Cancel({call.request, cancel->choice});
    }
  }
}

void WorkerService::Begin(control::CallId id, Call& call, const std::string& message) {
  Result<void> begun;
  switch (call.kind) {
    case Kind::kGenerate:
      begun = BeginGenerate(id, call, message);
      break;
    case Kind::kReport:
      call.card_due = true;
      SendReport(id, call);
      break;
    case Kind::kMemory:
      begun = BeginMemory(id, message);
      break;
    case Kind::kClear:
      link_.ClearCache(control::CacheDepth::kMemory, FinishWith(id));
      break;
    case Kind::kClearTiers:
      link_.ClearCache(control::CacheDepth::kLasting, FinishWith(id));
      break;
    case Kind::kLoad:
      begun = BeginLoad(id, message);
      break;
    case Kind::kUnload:
      begun = BeginUnload(id, message);
      break;
    case Kind::kFiles:
      begun = BeginFiles(id);
      break;
    case Kind::kKvEvents:
      begun = BeginKvEvents(id, call, message);
      break;
    case Kind::kUnknown:
      break;
  }
  if (!begun) {
    Finish(id, begun.error());
  }
}

Result<void> WorkerService::BeginGenerate(control::CallId id, Call& call,
                                          const std::string& message) {
  ++counts_.requests;
  Result<void> taken = TakeRequest(id, call, message);
  if (options_.meter != nullptr) {
    options_.meter->OnReceived(message.size());
    if (!taken) {
      options_.meter->OnRefused(taken.error());
    }
  }
  if (!taken) {
    return taken;
  }
  // At once, however long the prompt: if this process dies now, the request may be why.
  return server_.Send(id, wire::Encode(wire::TokenFrame{}));
}

// The ids of callers may be equal: the worker gives its own.
Result<void> WorkerService::TakeRequest(control::CallId id, Call& call,
                                        const std::string& message) {
  Result<wire::GenerateRequest> decoded = wire::Decode<wire::GenerateRequest>(message);
  if (!decoded) {
    ++counts_.unreadable;
    return Fail(decoded.error());
  }
  wire::GenerateRequest& request = *decoded;
  request.id = RequestId{++last_request_};
  if (const std::size_t queued = server_.connection_queued_bytes(id);
      queued > options_.connection_bytes_max) {
    ++counts_.refused;
    return Fail(Code::kResourceExhausted,
                fmt::format("{} bytes wait to be read by this caller, {} are allowed", queued,
                            options_.connection_bytes_max));
  }
  if (request.choice_count == 0) {
    ++counts_.refused;
    return Fail(Code::kInvalidArgument, "choice_count: 0, at least 1 is needed", "choice_count");
  }
  call.request = request.id;
  call.live_choices = request.choice_count;
  running_.emplace(request.id, id);
  SayTook(call, request);
  const RequestId own = request.id;
  if (options_.meter != nullptr) {
    options_.meter->OnRequest(request, loop_.Now());
  }
  Result<void> taken = link_.Generate(
      std::move(request), [this, id, alive = std::weak_ptr<bool>(alive_)](wire::TokenFrame frame) {
        if (const auto here = alive.lock(); here && *here) {
          OnFrame(id, std::move(frame));
        }
      });
  if (!taken) {
    running_.erase(own);
    ++counts_.refused;
    if (options_.meter != nullptr) {
      options_.meter->Forget(own);
    }
  }
  return taken;
}

Result<void> WorkerService::BeginMemory(control::CallId id, const std::string& message) {
  PX_TRY(const wire::MemoryRequest request, wire::Decode<wire::MemoryRequest>(message));
  if (request.release) {
    link_.ReleaseMemory(request.tags, rt::Duration(request.patience_ns), FinishWith(id));
  } else {
    link_.ResumeMemory(request.tags, FinishWith(id));
  }
  return {};
}

Result<void> WorkerService::BeginLoad(control::CallId id, const std::string& message) {
  PX_TRY(wire::LoadAdapterRequest request, wire::Decode<wire::LoadAdapterRequest>(message));
  link_.LoadAdapter(std::move(request), AnswerWith(id));
  return {};
}

Result<void> WorkerService::BeginUnload(control::CallId id, const std::string& message) {
  PX_TRY(wire::AdapterName request, wire::Decode<wire::AdapterName>(message));
  link_.UnloadAdapter(std::move(request.name), AnswerWith(id));
  return {};
}

Result<void> WorkerService::BeginFiles(control::CallId id) {
  if (!options_.files) {
    return Fail(Code::kUnsupported, "this worker gives no files");
  }
  PX_TRY(const wire::ModelFiles files, options_.files());
  PX_CHECK_OK(server_.Send(id, wire::Encode(files)));
  Finish(id, std::nullopt);
  return {};
}

void WorkerService::OnGone(control::CallId id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) {
    return;
  }
  if (found->second.kind == Kind::kGenerate && found->second.begun) {
    running_.erase(found->second.request);
    link_.Cancel({found->second.request, std::nullopt});
  }
  calls_.erase(found);
}

void WorkerService::SayTook(Call& call, const wire::GenerateRequest& request) const {
  if (options_.log == nullptr || !options_.log->enabled(obs::EventId::kWorkerTook)) {
    return;
  }
  call.traceparent = request.traceparent;
  call.label = request.label;
  obs::Event event(*options_.log, obs::EventId::kWorkerTook);
  obs::AddLabels(event, call.traceparent, call.label)
      .kv("request", Raw(request.id))
      .kv("attempt", request.attempt)
      .kv("prompt_tokens", request.prompt.size())
      .kv("prefill_only", request.prefill_only);
}

void WorkerService::SayEnded(const Call& call, const wire::TokenFrame& frame) const {
  if (options_.log == nullptr || !options_.log->enabled(obs::EventId::kWorkerEnded)) {
    return;
  }
  constexpr std::string_view kReasons[] = {"stop", "length", "cancelled", "error"};
  obs::Event event(*options_.log, obs::EventId::kWorkerEnded);
  obs::AddLabels(event, call.traceparent, call.label)
      .kv("request", Raw(frame.id))
      .kv("choice", frame.choice)
      .kv("finish", kReasons[static_cast<std::size_t>(*frame.finish)]);
}

void WorkerService::OnFrame(control::CallId id, wire::TokenFrame frame) {
  const RequestId request = frame.id;
  const bool last = frame.finish.has_value();
  if (options_.meter != nullptr) {
    options_.meter->OnFrame(frame, loop_.Now());
  }
  if (last && frame.choice == 0) {  // of a request once, whatever became of its other choices
    counts_.faults += *frame.finish == wire::FinishReason::kError ? 1 : 0;
    counts_.cancelled += *frame.finish == wire::FinishReason::kCancelled ? 1 : 0;
  }
  if (watch_ && (!frame.tokens.empty() || !frame.pooled.empty())) {
    watch_->OnToken();
  }
  const auto found = calls_.find(id);
  if (found == calls_.end()) {
    // Its caller is gone; the request ends by itself.
    return;
  }
  Call& call = found->second;
  if (last) {
    SayEnded(call, frame);
  }
  const bool waits = server_.queued_bytes(id) > options_.stream_bytes_max;
  const auto held = std::ranges::find(call.held, frame.choice, &wire::TokenFrame::choice);
  if (held != call.held.end() && !frame.error) {
    Join(*held, std::move(frame));
  } else if (waits || held != call.held.end()) {
    call.held.push_back(std::move(frame));
  } else if (!SendFrame(id, frame)) {
    return;
  }
  if (last && --call.live_choices == 0) {
    running_.erase(request);
    if (call.held.empty()) {
      Finish(id, std::nullopt);
    }
  }
}

bool WorkerService::SendFrame(control::CallId id, const wire::TokenFrame& frame) {
  std::string message = wire::Encode(frame);
  if (options_.meter != nullptr) {
    options_.meter->OnSent(message.size());
  }
  Result<void> sent = server_.Send(id, std::move(message));
  if (!sent) {
    link_.Cancel({frame.id, std::nullopt});
    Finish(id, sent.error());
  }
  return sent.has_value();
}

Result<void> WorkerService::WatchKvEvents() {
  if (kv_watched_) {
    return {};
  }
  PX_CHECK_OK(link_.WatchKvEvents(
      [this, alive = std::weak_ptr<bool>(alive_)](std::vector<wire::KvEvent> events) {
        if (const auto here = alive.lock(); here && *here) {
          OnKvEvents(std::move(events));
        }
      }));
  kv_watched_ = true;
  return {};
}

Result<void> WorkerService::BeginKvEvents(control::CallId id, Call& call,
                                          const std::string& message) {
  PX_TRY(const wire::KvEventsRequest request, wire::Decode<wire::KvEventsRequest>(message));
  PX_CHECK_OK(WatchKvEvents());
  // One of another log is behind everything.
  call.kv.next_id = request.epoch == kv_epoch_ ? request.from_id : kv_log_.next_id() + 1;
  SendKvEvents(id, call.kv);
  return {};
}

void WorkerService::OnKvEvents(std::vector<wire::KvEvent> events) {
  for (wire::KvEvent& event : events) {
    kv_log_.Add(std::move(event));
  }
  if (std::exchange(kv_events_due_, true)) {
    return;
  }
  loop_.RunAt(loop_.Now() + options_.kv_events_delay, [this, alive = std::weak_ptr<bool>(alive_)] {
    if (const auto here = alive.lock(); here && *here) {
      kv_events_due_ = false;
      TellKvEvents();
    }
  });
}

void WorkerService::TellKvEvents() {
  PublishKvEvents();
  for (auto next = calls_.begin(); next != calls_.end();) {
    auto& [id, call] = *next++;  // it may be finished here
    if (call.kind == Kind::kKvEvents && call.begun) {
      SendKvEvents(id, call.kv);
    }
  }
}

void WorkerService::PublishKvEvents() {
  if (options_.plane == nullptr) {
    return;
  }
  while (plane_next_id_ != kv_log_.next_id()) {
    wire::KvEventBatch batch;
    batch.epoch = kv_epoch_;
    if (auto events = kv_log_.Since(plane_next_id_, options_.kv_blocks_max)) {
      batch.events = std::move(*events);
      plane_next_id_ += batch.events.size();
    } else {
      plane_next_id_ = kv_log_.next_id();  // who listens asks for them
    }
    batch.next_id = plane_next_id_;
    options_.plane->Publish(options_.mux.name, control::EventPlane::Kind::kKvEvents,
                            wire::Encode(batch));
  }
}

// Without it nobody would miss the last events.
void WorkerService::PublishPosition() {
  if (options_.plane == nullptr || !kv_watched_ || loop_.Now() < plane_due_) {
    return;
  }
  plane_due_ = loop_.Now() + options_.plane_period;
  wire::KvEventBatch position;
  position.epoch = kv_epoch_;
  position.next_id = kv_log_.next_id();
  options_.plane->Publish(options_.mux.name, control::EventPlane::Kind::kKvEvents,
                          wire::Encode(position));
}

void WorkerService::PublishLoad(const wire::WorkerReport& report) {
  if (options_.plane != nullptr && !SameReport(report, plane_told_)) {
    plane_told_ = report;
    options_.plane->Publish(options_.mux.name, control::EventPlane::Kind::kLoad,
                            wire::Encode(report));
  }
}

wire::KvEventBatch WorkerService::NextBatch(KvReader& reader) const {
  wire::KvEventBatch batch;
  batch.epoch = kv_epoch_;
  if (!reader.in_dump) {
    if (auto events = kv_log_.Since(reader.next_id, options_.kv_blocks_max)) {
      reader.next_id += events->size();
      batch.events = std::move(*events);
      batch.next_id = reader.next_id;
      return batch;
    }
    reader = {
        .next_id = kv_log_.next_id(), .dump = kv_log_.Dump(), .dump_sent = 0, .in_dump = true};
    batch.dump_begins = true;
  }
  batch.dump = true;
  batch.next_id = reader.next_id;
  for (std::size_t blocks = 0;
       reader.dump_sent < reader.dump.size() && blocks < options_.kv_blocks_max;
       ++reader.dump_sent) {
    blocks += reader.dump[reader.dump_sent].blocks.size();
    batch.events.push_back(std::move(reader.dump[reader.dump_sent]));
  }
  if (reader.dump_sent == reader.dump.size()) {
    batch.dump_ends = true;
    reader.dump = {};
    reader.in_dump = false;
  }
  return batch;
}

// A caller that reads slowly is behind in the log, and at worst gets a dump; nothing is queued.
void WorkerService::SendKvEvents(control::CallId id, KvReader& reader) {
  while (server_.queued_bytes(id) == 0 && (reader.in_dump || reader.next_id != kv_log_.next_id())) {
    Result<void> sent = server_.Send(id, wire::Encode(NextBatch(reader)));
    if (!sent) {
      return Finish(id, sent.error());
    }
  }
}

void WorkerService::OnDrained(control::CallId id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) {
    return;
  }
  if (found->second.kind == Kind::kKvEvents && found->second.begun) {
    return SendKvEvents(id, found->second.kv);
  }
  if (found->second.held.empty()) {
    return;
  }
  const bool all_ended = found->second.live_choices == 0;
  for (const wire::TokenFrame& frame : std::exchange(found->second.held, {})) {
    if (!SendFrame(id, frame)) {
      return;
    }
  }
  if (all_ended) {
    Finish(id, std::nullopt);
  }
}

void WorkerService::Finish(control::CallId id, std::optional<Error> error) {
  calls_.erase(id);
  server_.End(id, std::move(error));
}

control::WorkerLink::MemoryHandler WorkerService::FinishWith(control::CallId id) {
  return [this, id, alive = std::weak_ptr<bool>(alive_)](Result<void> done) {
    if (const auto here = alive.lock(); here && *here) {
      Finish(id, done ? std::optional<Error>() : done.error());
    }
  };
}

control::WorkerLink::AdapterHandler WorkerService::AnswerWith(control::CallId id) {
  return [this, id, alive = std::weak_ptr<bool>(alive_)](Result<wire::AdapterCard> card) {
    if (const auto here = alive.lock(); here && *here) {
      if (card) {
        (void)server_.Send(id, wire::Encode(*card));  // a card is small
      }
      Finish(id, card ? std::optional<Error>() : card.error());
      Announce();
    }
  };
}

void WorkerService::SendReport(control::CallId id, Call& call) {
  wire::WorkerReport report = Report();
  call.told = report;
  if (std::exchange(call.card_due, false)) {
    report.card = link_.card();
  }
  (void)server_.Send(id, wire::Encode(report));  // a report is small
}

wire::WorkerReport WorkerService::Report() {
  wire::WorkerReport report{.card = {}, .load = link_.load(), .ranks = link_.rank_loads()};
  if (report.ranks.size() == 1) {
    report.ranks.clear();
  }
  if (watch_ && report.load.state == wire::WorkerState::kAwake) {
    const bool healthy = watch_->ready();
    if (std::exchange(healthy_, healthy) != healthy && options_.on_health) {
      options_.on_health(healthy, watch_->Describe());
    }
    report.load.state = healthy ? wire::WorkerState::kAwake : wire::WorkerState::kUnhealthy;
  }
  if (draining_ && report.load.state == wire::WorkerState::kAwake) {
    report.load.state = wire::WorkerState::kDraining;
  }
  return report;
}

std::string WorkerService::Describe() {
  if (draining_) {
    return "the worker ends what runs and takes nothing new";
  }
  if (!watch_) {
    return "the worker takes requests";
  }
  (void)watch_->ready();  // it looks at the engine
  return watch_->Describe();
}

void WorkerService::SendReports() {
  const wire::WorkerReport report = Report();
  PublishLoad(report);
  for (auto& [id, call] : calls_) {
    // Who does not read what was sent gets the newest report later.
    if (call.kind == Kind::kReport && call.begun &&
        (call.card_due || !SameReport(report, call.told)) && server_.queued_bytes(id) == 0) {
      SendReport(id, call);
    }
  }
}

rt::Task<void> WorkerService::ReportLoop() {
  while (true) {
    auto pause = loop_.SleepFor(options_.report_period);
    co_await std::move(pause);
    SendReports();
    PublishPosition();
  }
}

}  // namespace pixii::worker
