#include "worker/attached_link.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/hash.h"
#include "wire/sse.h"

namespace pixii::worker {

namespace {

constexpr std::size_t kRefusalBytesMax = 64 * 1024;  // of what an engine says in place of an answer
constexpr std::size_t kEventBytesMax = 4U << 20;     // of one event of its answer
constexpr rt::Duration kLastWords = std::chrono::seconds(1);  // of an answer that has ended
constexpr rt::Duration kCallTimeout = std::chrono::seconds(5);
constexpr rt::Duration kAdapterTimeout = std::chrono::seconds(120);
constexpr std::uint32_t kFailedPollsMax = 2;  // in a row, before the engine counts as away

std::uint64_t IdOf(std::string_view text) {
  return Hash64(std::as_bytes(std::span<const char>(text.data(), text.size()))) | 1U;
}

}  // namespace

AttachedLink::AttachedLink(rt::Loop& loop, rt::Net& net, AttachedOptions options)
    : loop_(loop),
      net_(net),
      options_(std::move(options)),
      key_(options_.role.key),
      drained_(options_.card.block_tokens) {
  tasks_.Start(LoadLoop());
}

AttachedLink::~AttachedLink() {
  *alive_ = false;
  tasks_.Clear();
  for (const auto& [id, request] : requests_) {
    request->choices.clear();  // they hold it
  }
}

control::HttpCall AttachedLink::CallOf(std::string method, std::string_view target,
                                       std::string body) const {
  control::HttpCall call{.address = options_.address,
                         .method = std::move(method),
                         .target = fmt::format("{}{}", options_.path_prefix, target),
                         .host = options_.host,
                         .fields = {},
                         .body = std::move(body)};
  if (!call.body.empty()) {
    call.fields.push_back({"Content-Type", "application/json"});
  }
  if (!options_.api_key.empty()) {
    call.fields.push_back({"Authorization", fmt::format("Bearer {}", options_.api_key)});
  }
  return call;
}

control::HttpCall AttachedLink::CallOf(const Outstanding& request, EngineCall call) const {
  control::HttpCall out = CallOf("POST", call.target, std::move(call.body));
  out.fields.insert(out.fields.end(), request.trace.begin(), request.trace.end());
  return out;
}

Result<std::string> AttachedLink::AdapterVersionOf(const wire::GenerateRequest& request) const {
  if (request.adapter.empty()) {
    return std::string();
  }
  const auto& adapters = options_.card.adapters;
  const auto found = std::ranges::find(adapters, request.adapter, &wire::AdapterCard::name);
  if (found == adapters.end()) {
    return Fail(Code::kNotFound, fmt::format("adapter {} is not loaded", request.adapter), "model");
  }
  if (!request.adapter_version.empty() && request.adapter_version != found->version) {
    return Fail(Code::kUnavailable,
                fmt::format("adapter {} has another version here", request.adapter));
  }
  return found->version;
}

Result<void> AttachedLink::Generate(wire::GenerateRequest request, FrameHandler on_frame) {
  if (closed_ || draining_) {
    return Fail(closed_ ? *closed_
                        : Error(Code::kShuttingDown, "the worker takes no new requests"));
  }
  if (!here_) {
    return Fail(Code::kUnavailable, "the engine behind this worker does not answer");
  }
  if (request.choice_count == 0 || requests_.contains(request.id)) {
    return Fail(Code::kInvalidArgument, "a request without choices, or one that runs already");
  }
  if (request.choice_count > options_.outstanding_max - live_choices_) {
    return Fail(Code::kResourceExhausted, fmt::format("{} choices run at the engine, {} may",
                                                      live_choices_, options_.outstanding_max));
  }
  PX_TRY(std::string version, AdapterVersionOf(request));
  PX_TRY(std::vector<EngineCall> calls, CallsOf(request));
  auto outstanding = std::make_shared<Outstanding>();
  outstanding->id = request.id;
  outstanding->on_frame = std::move(on_frame);
  outstanding->adapter_version = std::move(version);
  if (request.deadline_left_ns > 0) {
    outstanding->deadline = loop_.Now() + rt::Duration(request.deadline_left_ns);
  }
  for (const auto& [name, value] :
       {std::pair("traceparent", &request.traceparent),
        std::pair("tracestate", &request.tracestate), std::pair("x-request-id", &request.label)}) {
    if (!value->empty()) {
      outstanding->trace.push_back({name, *value});
    }
  }
  outstanding->wants_logprobs = request.top_logprobs >= 0;
  outstanding->live_choices = request.choice_count;
  live_choices_ += request.choice_count;
  requests_.emplace(request.id, outstanding);
  for (std::uint32_t i = 0; i < request.choice_count; ++i) {
    outstanding->choices.push_back(std::make_shared<Choice>(options_.dialect, request, i));
    outstanding->choices.back()->request = outstanding;
  }
  if (Prefills(request)) {
    StartPrefill(outstanding, request, std::move(calls));
    return {};
  }
  for (std::uint32_t i = 0; i < request.choice_count; ++i) {
    const ChoicePtr choice = outstanding->choices[i];
    const std::size_t done = i < request.generated.size() ? request.generated[i].size() : 0;
    if (done >= request.stop.max_tokens) {
      EndLater(choice, wire::FinishReason::kLength, std::nullopt);
    } else {
      tasks_.Start(Run(choice, std::move(calls[i])));
    }
  }
  return {};
}

void AttachedLink::Cancel(const wire::CancelRequest& cancel) {
  const auto found = requests_.find(cancel.id);
  if (found == requests_.end()) {
    return;
  }
  for (const ChoicePtr& choice : found->second->choices) {
    if (!cancel.choice || *cancel.choice == choice->number) {
      EndLater(choice, wire::FinishReason::kCancelled, std::nullopt);
    }
  }
}

void AttachedLink::Close(const Error& error) {
  closed_ = error;
  for (const auto& [id, request] : requests_) {
    for (const ChoicePtr& choice : request->choices) {
      EndLater(choice, wire::FinishReason::kError, error);
    }
  }
}

// Not inside a call of whoever waits for it. The engine sees its connection close, and gives up.
void AttachedLink::EndLater(const ChoicePtr& choice, wire::FinishReason finish,
                            std::optional<Error> error) {
  loop_.Post([this, choice, finish, error = std::move(error),
              alive = std::weak_ptr<bool>(alive_)]() mutable {
    if (const auto here = alive.lock(); here && *here) {
      End(choice, finish, std::move(error));
      if (choice->stream != nullptr) {
        choice->stream->Close();
      }
    }
  });
}

void AttachedLink::End(const ChoicePtr& choice, wire::FinishReason finish,
                       std::optional<Error> error) {
  if (choice->ended) {
    return;
  }
  wire::TokenFrame frame;
  frame.finish = finish;
  frame.error = std::move(error);
  Give(choice, std::move(frame));
}

void AttachedLink::Give(const ChoicePtr& choice, wire::TokenFrame frame) {
  const std::shared_ptr<Outstanding> request = choice->request;
  frame.id = request->id;
  frame.choice = choice->number;
  if (std::exchange(choice->first_frame, false)) {
    frame.adapter_version = request->adapter_version;
  }
  if (frame.finish) {
    choice->ended = true;
    --live_choices_;
    if (--request->live_choices == 0) {
      requests_.erase(request->id);
      request->choices.clear();  // they hold it
    }
  }
  request->on_frame(std::move(frame));
}

rt::Task<void> AttachedLink::Run(ChoicePtr choice, EngineCall call) {
  co_await loop_.Yield();  // no frame comes inside Generate
  auto streaming = Stream(choice, std::move(call));
  const Result<void> streamed = co_await std::move(streaming);
  choice->stream = nullptr;
  if (!choice->ended) {
    End(choice, wire::FinishReason::kError,
        WhyEnded(*choice, streamed ? Error(Code::kDisconnected,
                                           "the engine's answer broke off without an end")
                                   : streamed.error()));
  }
}

// The deadline of the request, or the engine's silence.
Error AttachedLink::WhyEnded(const Choice& choice, const Error& error) const {
  if (error.code() == Code::kDeadlineExceeded) {
    return loop_.Now() >= choice.request->deadline
               ? Error(Code::kDeadlineExceeded, "the deadline passed before the engine had ended")
               : Error(Code::kUnavailable, "the engine behind this worker says nothing");
  }
  return error;
}

rt::Task<Result<void>> AttachedLink::Stream(ChoicePtr choice, EngineCall call) {
  if (choice->ended) {
    co_return Result<void>();
  }
  const rt::Time deadline = choice->request->deadline;
  auto sending = control::SendHttp(net_, CallOf(*choice->request, std::move(call)),
                                   std::min(deadline, loop_.Now() + options_.connect_timeout));
  Result<std::unique_ptr<control::HttpStream>> sent = co_await std::move(sending);
  if (!sent) {
    here_ = false;  // until it answers again
    co_return Fail(
        sent.error().code() == Code::kDeadlineExceeded ? Code::kUnavailable : sent.error().code(),
        fmt::format("the engine cannot be reached: {}", sent.error().detail()));
  }
  const std::unique_ptr<control::HttpStream> stream = std::move(*sent);
  if (choice->ended) {
    co_return Result<void>();
  }
  choice->stream = stream.get();
  auto head = stream->ReadHead(std::min(deadline, loop_.Now() + options_.silence_max));
  Result<void> answered = co_await std::move(head);
  const bool refused = answered && stream->status() != 200;
  if (answered && !choice->ended && !refused) {
    auto reading = ReadAnswer(choice, *stream);
    answered = co_await std::move(reading);
  } else if (answered && !choice->ended) {
    auto reading = ReadRefusal(*stream, std::min(deadline, loop_.Now() + kCallTimeout));
    Error refusal = co_await std::move(reading);
    answered = Fail(std::move(refusal));
  }
  choice->stream = nullptr;
  if (!answered && answered.error().code() == Code::kUnavailable && !refused) {
    co_return Fail(Code::kDisconnected, answered.error().detail());  // it had the request
  }
  co_return answered;
}

rt::Task<Error> AttachedLink::ReadRefusal(control::HttpStream& stream, rt::Time deadline) {
  std::string body;
  while (body.size() < kRefusalBytesMax) {
    auto reading = stream.Read(deadline);
    const Result<std::string> piece = co_await std::move(reading);
    if (!piece || piece->empty()) {
      break;
    }
    body += *piece;
  }
  co_return EngineRefusal(stream.status(), body);
}

// Until the engine says that this is all; an answer that has ended gets a moment for its last
// words.
rt::Task<Result<void>> AttachedLink::ReadAnswer(ChoicePtr choice, control::HttpStream& stream) {
  wire::SseParser parser(kEventBytesMax);
  rt::Time last_words = rt::kNever;
  while (true) {
    const rt::Time silent = loop_.Now() + options_.silence_max;
    auto reading = stream.Read(std::min({choice->request->deadline, silent, last_words}));
    const Result<std::string> piece = co_await std::move(reading);
    if (!piece || piece->empty()) {
      co_return piece ? Result<void>() : Result<void>(Fail(piece.error()));
    }
    std::vector<wire::SseEvent> events;
    PX_CO_CHECK_OK(parser.Feed(*piece, events));
    for (const wire::SseEvent& event : events) {
      ++events_;
      if (choice->ended) {
        if (event.data == "[DONE]") {
          co_return Result<void>();
        }
        continue;
      }
      PX_CO_TRY(EnginePiece said, choice->reader.Read(event.data));
      if (said.is_last) {
        co_return Result<void>();
      }
      OnPiece(choice, std::move(said));
    }
    if (choice->ended && last_words == rt::kNever) {
      last_words = loop_.Now() + kLastWords;
    }
  }
}

void AttachedLink::OnPiece(const ChoicePtr& choice, EnginePiece piece) {
  if (piece.tokens.empty() && !piece.finish) {
    return;
  }
  wire::TokenFrame frame;
  frame.tokens = std::move(piece.tokens);
  if (choice->request->wants_logprobs) {
    frame.logprobs = std::move(piece.logprobs);
    frame.stop_logprob = piece.stop_logprob;
  }
  frame.finish = piece.finish;
  frame.stop_token = piece.stop_token;
  if (choice->first_frame) {
    frame.cached_tokens = piece.cached_tokens.value_or(0);
  }
  Give(choice, std::move(frame));
}

control::WorkerLoad AttachedLink::load() const {
  control::WorkerLoad load;
  load.state = !here_      ? control::WorkerState::kAsleep
               : draining_ ? control::WorkerState::kDraining
                           : control::WorkerState::kAwake;
  load.running = load_.running.value_or(live_choices_);
  load.queued = load_.queued.value_or(0);
  load.blocks_total = options_.card.block_count;
  load.blocks_used = static_cast<std::uint32_t>(load_.cache_used.value_or(0) * load.blocks_total);
  load.steps = events_;
  return load;
}

rt::Task<void> AttachedLink::LoadLoop() {
  const EngineKind kind = options_.dialect.kind;
  while (true) {
    auto calling =
        control::CallHttp(net_, CallOf("GET", LoadTarget(kind), {}), loop_.Now() + kCallTimeout);
    const Result<control::HttpAnswer> answer = co_await std::move(calling);
    const bool good = answer && answer->status == 200;
    failed_polls_ = good ? 0 : failed_polls_ + 1;
    here_ = good || (here_ && failed_polls_ < kFailedPollsMax);
    if (good) {
      if (Result<EngineLoad> load = ReadEngineLoad(kind, answer->body)) {
        load_ = *load;
      }
    }
    auto pause = loop_.SleepFor(options_.load_period);
    co_await std::move(pause);
  }
}

void AttachedLink::Hear(std::vector<wire::KvEvent> events) {
  if (on_kv_events_) {
    on_kv_events_(std::move(events));
  }
}

// Whoever comes later hears everything anew.
Result<void> AttachedLink::WatchKvEvents(KvEventHandler on_events) {
  if (options_.kv_events.empty() && !options_.drains_kv_events) {
    return Fail(Code::kUnsupported, "this worker was not told where its engine tells of KV blocks");
  }
  on_kv_events_ = std::move(on_events);
  kv_sources_.clear();
  if (options_.drains_kv_events && kv_watches_++ == 0) {
    tasks_.Start(DrainLoop());
  }
  for (const control::ZmqKvSourceOptions& source : options_.kv_events) {
    kv_sources_.push_back(std::make_unique<control::ZmqKvSource>(
        loop_, net_, source,
        [this](std::vector<wire::KvEvent> events) { Hear(std::move(events)); }));
  }
  return {};
}

rt::Task<void> AttachedLink::DrainLoop() {
  while (true) {
    auto calling =
        control::CallHttp(net_, CallOf("POST", "/kv_cache_events", {}), loop_.Now() + kCallTimeout);
    const Result<control::HttpAnswer> answer = co_await std::move(calling);
    if (answer && answer->status == 200) {
      std::vector<wire::KvEvent> events;
      (void)drained_.Read(answer->body, events);  // what cannot be read the events say, too
      if (!events.empty()) {
        Hear(std::move(events));
      }
    }
    auto pause = loop_.SleepFor(options_.drain_period);
    co_await std::move(pause);
  }
}

void AttachedLink::ClearCache(control::CacheDepth depth, MemoryHandler on_done) {
  const EngineKind kind = options_.dialect.kind;
  if (kind != EngineKind::kVllm && kind != EngineKind::kSglang) {
    on_done(Fail(Code::kUnsupported, "the engine behind this worker cannot be told to forget"));
    return;
  }
  if (depth != control::CacheDepth::kMemory) {
    on_done(Fail(Code::kUnsupported,
                 "the tiers of the engine behind this worker are its own; only its cache can be "
                 "cleared"));
    return;
  }
  tasks_.Start(CallForNothing(
      CallOf("POST", kind == EngineKind::kVllm ? "/reset_prefix_cache" : "/flush_cache", {}),
      std::move(on_done)));
}

rt::Task<void> AttachedLink::CallForNothing(control::HttpCall call, MemoryHandler on_done) {
  auto calling = control::CallHttp(net_, std::move(call), loop_.Now() + kCallTimeout);
  const Result<control::HttpAnswer> answer = co_await std::move(calling);
  Result<void> done;
  if (!answer) {
    done = Fail(answer.error());
  } else if (answer->status != 200) {
    done = Fail(EngineRefusal(answer->status, answer->body));
  }
  on_done(std::move(done));
}

void AttachedLink::LoadAdapter(wire::LoadAdapterRequest request, AdapterHandler on_done) {
  const EngineKind kind = options_.dialect.kind;
  const auto& adapters = options_.card.adapters;
  if (kind != EngineKind::kVllm && kind != EngineKind::kSglang) {
    on_done(
        Fail(Code::kUnsupported, "the engine behind this worker loads no adapters", "lora_name"));
    return;
  }
  if (std::ranges::find(adapters, request.name, &wire::AdapterCard::name) != adapters.end()) {
    on_done(Fail(Code::kInvalidArgument,
                 fmt::format("adapter {} is loaded already; unload it first", request.name),
                 "lora_name"));
    return;
  }
  wire::AdapterCard card;
  card.name = request.name;
  card.source = request.source;
  card.pinned = request.pinned;
  card.version = fmt::format("{:016x}", IdOf(request.name + "\n" + request.source));
  card.id = IdOf(card.version);
  tasks_.Start(ChangeAdapter(std::move(card), true, std::move(on_done)));
}

void AttachedLink::UnloadAdapter(std::string name, AdapterHandler on_done) {
  const auto& adapters = options_.card.adapters;
  const auto found = std::ranges::find(adapters, name, &wire::AdapterCard::name);
  if (found == adapters.end()) {
    on_done(Fail(Code::kNotFound, fmt::format("adapter {} is not loaded", name), "lora_name"));
    return;
  }
  tasks_.Start(ChangeAdapter(*found, false, std::move(on_done)));
}

rt::Task<void> AttachedLink::ChangeAdapter(wire::AdapterCard card, bool load,
                                           AdapterHandler on_done) {
  wire::Json body{wire::Json::Object{}};
  body.Set("lora_name", card.name);
  if (load) {
    body.Set("lora_path", card.source);
  }
  const std::string target =
      fmt::format("{}/{}_lora_adapter", options_.dialect.kind == EngineKind::kVllm ? "/v1" : "",
                  load ? "load" : "unload");
  auto calling =
      control::CallHttp(net_, CallOf("POST", target, body.Dump()), loop_.Now() + kAdapterTimeout);
  const Result<control::HttpAnswer> answer = co_await std::move(calling);
  if (!answer || answer->status != 200) {
    on_done(answer ? Fail(EngineRefusal(answer->status, answer->body)) : Fail(answer.error()));
    co_return;
  }
  ForgetAdapter(card.name);
  if (load) {
    auto& adapters = options_.card.adapters;
    adapters.insert(std::ranges::upper_bound(adapters, card.name, {}, &wire::AdapterCard::name),
                    card);
  }
  on_done(card);
}

void AttachedLink::ForgetAdapter(std::string_view name) {
  std::erase_if(options_.card.adapters,
                [name](const wire::AdapterCard& card) { return card.name == name; });
}

}  // namespace pixii::worker
