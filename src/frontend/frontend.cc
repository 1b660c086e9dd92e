#include "frontend/frontend.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/media_service.h"

namespace pixii::frontend {

namespace {

constexpr std::size_t kClientRequestIdBytesMax = 256;
constexpr rt::Duration kTickMin = std::chrono::milliseconds(5);

// A label of the client's that goes back to it and into the log: bounded and printable.
Result<std::vector<wire::HttpField>> LabelFields(const wire::HttpRequest& request) {
  std::optional<std::string_view> id = request.Field("x-request-id");
  if (!id) {
    return std::vector<wire::HttpField>();
  }
  bool printable = std::all_of(id->begin(), id->end(), [](char c) { return c >= ' ' && c < 0x7F; });
  if (!printable || id->size() > kClientRequestIdBytesMax) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("x-request-id: {} bytes, allowed are at most {} printable ASCII characters",
                    id->size(), kClientRequestIdBytesMax),
        "x-request-id");
  }
  return std::vector<wire::HttpField>{{"x-request-id", std::string(*id)}};
}

}  // namespace

Frontend::Frontend(FrontendEnvironment environment, const FrontendOptions& options, ApiKeys keys)
    : environment_(std::move(environment)),
      options_(options),
      routes_(ServedRoutes(options)),
      keys_(std::make_shared<const ApiKeys>(std::move(keys))),
      quotas_(*keys_, environment_.loop.Now()),
      responses_(std::make_shared<ResponseStore>(options.responses)),
      registry_(environment_.registry != nullptr ? *environment_.registry : own_registry_),
      traces_(environment_.traces != nullptr ? *environment_.traces : own_traces_),
      next_turns_({.loop = environment_.loop,
                   .registry = registry_,
                   .run = [this](Exchange& exchange,
                                 const std::string& owner) { RunAhead(exchange, owner); },
                   .offload =
                       [this](std::function<void()> work, std::function<void()> done) {
                         Offload(std::move(work), std::move(done));
                       }}),
      last_request_id_(environment_.loop.random().Next() >>
                       8),  // frontends that share a link do not meet
      reap_(environment_.loop),
      idle_(environment_.loop) {
  trace_origin_ = last_request_id_;
}

Frontend::~Frontend() {
  tasks_.Clear();
  batches_.reset();
  files_.reset();
  closing_->store(true, std::memory_order_relaxed);
  media_pool_.reset();
  media_wait_pool_.reset();
  pool_.reset();
  server_.reset();
  media_.reset();  // whose clients are told of by their connections
}

Result<rt::Address> Frontend::Start(const rt::Address& address, const rt::ListenOptions& listen) {
  PX_CHECK_OK(OpenFiles());
  PX_TRY(server_, HttpServer::Listen(environment_.loop, environment_.net, address, listen,
                                     options_.http, *this));
  if (options_.media_threads > 0) {
    media_pool_ = std::make_unique<rt::WorkPool>(
        environment_.loop, "pictures", options_.media_threads, options_.text_queue_length_max);
  }
  if (options_.media_threads > 0 && options_.media_wait_threads > 0) {
    media_wait_pool_ = std::make_unique<rt::WorkPool>(
        environment_.loop, "fetches", options_.media_wait_threads, options_.text_queue_length_max);
  }
  if (options_.text_threads > 0) {
    pool_ = std::make_unique<rt::WorkPool>(environment_.loop, "text", options_.text_threads,
                                           options_.text_queue_length_max);
    for (const auto& service : models_.serving()) {
      WarmUp(service->model());
    }
  }
  tasks_.Start(ReapLoop());
  tasks_.Start(batches_->Run());
  if (TickInterval() > rt::Duration::zero()) {
    tasks_.Start(TickLoop());
  }
  return server_->address();
}

void Frontend::UseKeys(ApiKeys keys) {
  keys_ = std::make_shared<const ApiKeys>(std::move(keys));
  quotas_.Update(*keys_, Now());
}

// Before the first request wants it; one that comes earlier waits for it on such a thread.
void Frontend::WarmUp(const ServedModel& model) {
  if (pool_ && model.grammars) {
    (void)pool_->Submit([grammars = model.grammars] { (void)grammars->Vocabulary(); }, [] {});
  }
}

ServiceId Frontend::Serve(ServedModel model, std::shared_ptr<control::WorkerLink> link) {
  ServiceHost& host = *this;
  ModelService& service = models_.Add(std::make_unique<ModelService>(
      host, ServiceId{++last_service_id_}, std::move(model), std::move(link), registry_));
  WarmUp(service.model());
  service.Start();
  reap_.WakeAll();  // one of its name was retired, perhaps
  return service.id();
}

ServiceId Frontend::Serve(ServedModel model, control::WorkerLink& link) {
  return Serve(std::move(model),
               std::shared_ptr<control::WorkerLink>(std::shared_ptr<void>(), &link));
}

void Frontend::Retire(ServiceId service) {
  models_.Retire(service);
  reap_.WakeAll();
}

bool Frontend::ready() {
  const bool ready =
      !draining_ &&
      (models_.serving().empty() ? media_ != nullptr
                                 : std::ranges::any_of(models_.serving(), [](const auto& service) {
                                     return service->ready();
                                   }));
  ever_ready_ = ever_ready_ || ready;
  return ready;
}

std::string Frontend::readiness() {
  if (models_.serving().empty() && media_) {
    return fmt::format("{} makes videos", media_->model().name);
  }
  if (models_.serving().empty()) {
    return models_.Trouble();
  }
  for (const auto& service : models_.serving()) {
    if (!service->ready() && !ready()) {
      return ever_ready_ && !service->ever_ready()
                 ? fmt::format("{} is served anew and has to answer a test generation first",
                               service->model().name())
                 : service->Describe();
    }
  }
  return "the model answers";
}

std::uint64_t Frontend::cancelled_count() const {
  std::uint64_t out = 0;
  for (const auto& service : models_.serving()) {
    out += service->metrics().cancelled();
  }
  return out;
}

// Paths are compared as they were sent: nothing is decoded or cleaned up, so nothing can be reached
// by two spellings.
void Frontend::Handle(Exchange& exchange) {
  const wire::HttpRequest& request = exchange.request();
  Call call{exchange};
  Result<std::vector<wire::HttpField>> labels = LabelFields(request);
  if (!labels) {
    Refuse(call, labels.error());
    return;
  }
  call.fields = std::move(*labels);
  const Route* found = nullptr;
  bool takes_method = false;
  for (const Route* route : routes_) {
    if (Matches(*route, request) && !takes_method) {
      takes_method =
          request.method == route->method || (request.method == "HEAD" && route->method == "GET");
      found = takes_method || found == nullptr ? route : found;
    }
  }
  if (found == nullptr) {
    Refuse(call, Error(Code::kNotFound, "there is no such route"));
    return;
  }
  call.route = found;
  if (found->access != Access::kOpen) {
    call.key = keys_->Authenticate(request);
    if (call.key == nullptr) {
      Refuse(call, Error(Code::kUnauthenticated,
                         "the API key is missing or unknown; send Authorization: Bearer KEY"));
      return;
    }
    if (found->access == Access::kAdmin && !call.key->admin) {
      Refuse(call, Error(Code::kForbidden, "this route needs an API key with \"admin\": true"));
      return;
    }
  }
  if (!takes_method) {
    std::string allowed = AllowedMethods(request);
    call.fields.push_back({"Allow", allowed});
    Refuse(call, Error(Code::kMethodNotAllowed, fmt::format("this route takes {}", allowed)));
    return;
  }
  (this->*found->handle)(call);
}

Response Frontend::Refusal(const wire::HttpFault& fault) {
  return FaultResponse(fault, options_.retry_after_seconds);
}

void Frontend::Refuse(Call& call, const Error& error) {
  Response response = ErrorResponse(
      error,
      call.retry_after_seconds != 0 ? call.retry_after_seconds : options_.retry_after_seconds,
      call.route != nullptr ? call.route->dialect : Dialect::kOpenAi, options_.overload_status);
  response.close = error.code() == Code::kShuttingDown;
  response.fields.insert(response.fields.end(), call.fields.begin(), call.fields.end());
  call.exchange.Respond(std::move(response));
}

void Frontend::Answer(Call& call, Result<std::string> body) {
  if (!body) {
    Refuse(call, body.error());
    return;
  }
  call.exchange.Respond({.body = std::move(*body), .fields = std::move(call.fields)});
}

void Frontend::AnswerDeleted(Call& call, std::string_view object, std::string_view id) {
  std::string body = R"({"id":)";
  wire::AppendJsonString(body, id);
  body += fmt::format(R"(,"object":"{}","deleted":true}})", object);
  Answer(call, std::move(body));
}

void Frontend::OnDone(ClientWork& work) {
  done_.push_back(&work);
  reap_.WakeAll();
}

void Frontend::Take(ModelService& service, std::unique_ptr<ClientWork> work, bool ahead) {
  service.Hold();
  if (!ahead) {
    service.metrics().OnAdmitted();
  }
  ClientWork* raw = work.get();
  work_.emplace(raw, Work{std::move(work), &service});
}

rt::Task<void> Frontend::ReapLoop() {
  while (true) {
    if (done_.empty()) {
      co_await reap_.Wait(rt::kNever);
    }
    for (ClientWork* work : std::exchange(done_, {})) {
      const auto found = work_.find(work);
      ModelService* service = found->second.service;
      work_.erase(found);
      service->Release();
    }
    models_.Sweep();
    if (work_.empty()) {
      idle_.WakeAll();
    }
  }
}

// Often enough for both times that requests watch; zero: neither is watched.
rt::Duration Frontend::TickInterval() const {
  rt::Duration out = rt::Duration::zero();
  for (rt::Duration watched : {options_.keep_alive_interval, options_.stream_timeout}) {
    if (watched > rt::Duration::zero()) {
      const rt::Duration step = std::max(watched / 4, kTickMin);
      out = out == rt::Duration::zero() ? step : std::min(out, step);
    }
  }
  return out;
}

rt::Task<void> Frontend::TickLoop() {
  while (true) {
    auto sleep = environment_.loop.SleepFor(TickInterval());
    co_await std::move(sleep);
    std::vector<ClientWork*> all;
    for (const auto& [raw, work] : work_) {
      all.push_back(raw);
    }
    for (ClientWork* work : all) {
      work->Watch(Now(), options_.keep_alive_interval, options_.stream_timeout);
    }
  }
}

rt::Task<void> Frontend::Drain(rt::Time deadline) {
  draining_ = true;
  next_turns_.Stop();
  for (const std::unique_ptr<ModelService>& service : models_.serving()) {
    service->StopCanaries();
  }
  if (!server_) {
    co_return;
  }
  server_->BeginDrain();
  const auto busy = [this] {
    return !work_.empty() || preparing_count_ > 0 || (media_ && media_->live_count() > 0);
  };
  while (busy() && Now() < deadline) {
    co_await idle_.Wait(deadline);
  }
  if (media_) {
    cut_count_ += media_->live_count();
    media_->Close();
  }
  std::vector<ClientWork*> left;
  for (const auto& [raw, work] : work_) {
    left.push_back(raw);
  }
  cut_count_ += left.size();
  for (ClientWork* work : left) {
    work->End(Error(Code::kShuttingDown, "the server shuts down"));
  }
  rt::Time close_by = Now() + std::chrono::seconds(2);
  co_await environment_.loop.Yield();  // the last answers are written first
  while (!work_.empty() && Now() < close_by) {
    co_await idle_.Wait(close_by);
  }
  auto batches_idle = batches_->WaitUntilIdle(close_by);
  co_await std::move(batches_idle);
  // What a slow client has not read yet is still its answer.
  rt::Time answered_by = std::max(deadline, close_by);
  co_await server_->WaitUntilAnswered(answered_by);
  rt::Time closed_by = Now() + std::chrono::seconds(1);
  co_await server_->Close(closed_by);
}

}  // namespace pixii::frontend
