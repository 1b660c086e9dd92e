#include "frontend/epp/endpoint_picker.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/fleet/model_versions.h"
#include "frontend/local_exchange.h"
#include "rt/net.h"
#include "wire/json.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::string_view kProcess = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
constexpr std::string_view kCheckHealth = "/grpc.health.v1.Health/Check";
constexpr std::string_view kWatchHealth = "/grpc.health.v1.Health/Watch";
constexpr std::string_view kAlive = "liveness";
// What else a gateway asks about, all the same: whether requests can be sent anywhere.
constexpr std::string_view kReadiness[] = {
    "", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor", "inference-extension"};
constexpr rt::Duration kLook = std::chrono::milliseconds(500);  // between two looks at health
constexpr std::size_t kChecksMax = 1024;
constexpr std::uint32_t kStreamBytesMax = 64U << 10U;
constexpr std::uint32_t kRetryAfterSeconds = 1;
constexpr wire::JsonLimits kBodyLimits{.depth_max = 128, .values_max = 2'000'000};

}  // namespace

std::optional<std::string> EndpointOf(std::string_view worker_address, std::uint16_t port) {
  const Result<rt::Address> address = rt::ParseAddress(worker_address);
  if (!address || address->host.empty() || address->host.starts_with("unix:")) {
    return std::nullopt;
  }
  return rt::Address{.host = address->host, .port = port}.ToString();
}

std::optional<std::string> WithTokenData(const std::string& body,
                                         const std::vector<TokenId>& tokens) {
  Result<Json> read = wire::ParseJson(body, kBodyLimits);
  if (!read || !read->is_object()) {
    return std::nullopt;
  }
  Json::Array ids;
  ids.reserve(tokens.size());
  for (const TokenId token : tokens) {
    ids.emplace_back(static_cast<std::int64_t>(token));
  }
  const Json* given = read->Find("nvext");
  Json nvext = given != nullptr && given->is_object() ? *given : Json(Json::Object{});
  nvext.Set("token_data", std::move(ids));
  read->Set("nvext", std::move(nvext));
  return read->Dump();
}

/// A request of a gateway between that and whoever says where it goes.
class EndpointPicker::Stream final : public PlanTaker {
 public:
  Stream(EndpointPicker& picker, std::uint64_t id)
      : picker_(picker), id_(id), proc_(picker.options_.proc) {
    Read();
  }

  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  ~Stream() override { Leave(); }

  const ExtProcStream& proc() const { return proc_; }

  void OnMessage(const std::string& message) {
    reading_ = false;
    if (!finish_) {
      Do(proc_.OnMessage(message));
    }
  }

  void OnEnd() {
    reading_ = true;  // nothing more comes
    if (!finish_) {
      Do(proc_.OnEnd());
    }
  }

  void OnWritten() {
    writing_ = false;
    Pump();
  }

  void OnCancelled() {
    Leave();
    outbox_.clear();
    finish_ = {kGrpcCancelled, "the gateway gave up"};
    Pump();
  }

  /// Nothing runs for it: it only has not been told of anything.
  bool idle() const { return proc_.collecting() || finish_; }

  void GiveUp() {
    if (!finish_) {
      Leave();
      finish_ = {kGrpcUnavailable, "the picker shuts down; ask another"};
      Pump();
    }
  }

 private:
  // PlanTaker
  void Take(PlannedRequest planned, std::function<void(const Error&)> refuse) override {
    Placer* placer = picker_.environment_.placer(planned.service);
    if (placer == nullptr) {
      refuse(Error(Code::kUnavailable, fmt::format("the model {} is served no more", planned.model),
                   "model"));
      return;
    }
    refuse_ = std::move(refuse);
    prompt_tokens_ = planned.request.prompt.size();
    model_ = std::move(planned.model);
    if (planned.whole && picker_.options_.token_data && ReadsTokenData()) {
      tokens_ = planned.request.prompt;
    }
    placed_ = placer->Place(
        std::move(planned.request),
        [this](const control::Instance& instance) {
          return picker_.EndpointFor(*this, instance).has_value();
        },
        [this](const Result<PlacedAt>& at) { OnPlaced(at); });
  }

  bool ReadsTokenData() const {
    const std::string& path = proc_.request().path;
    return path == "/v1/chat/completions" || path == "/v1/completions";
  }

  void OnPlaced(const Result<PlacedAt>& at) {
    const auto refuse = std::exchange(refuse_, nullptr);
    if (!at) {
      placed_.reset();
      refuse(at.error());
      return;
    }
    exchange_.reset();  // its body was read
    std::optional<std::string> body;
    if (!tokens_.empty()) {
      body = WithTokenData(proc_.request().body, std::exchange(tokens_, {}));
    }
    picker_.environment_.registry.GetHistogram(obs::MetricId::kEppCachedTokens, {model_})
        .Observe(static_cast<double>(std::min<std::uint64_t>(at->overlap_tokens, prompt_tokens_)));
    picker_.Count("routed");
    Routed(at->instance, at->rank, std::move(body));
  }

  void Spread() {
    const std::optional<control::Instance> instance = picker_.NextInTurn(*this);
    if (!instance) {
      const Error error(Code::kUnavailable, "no endpoint that this may go to is ready");
      Refuse(ErrorResponse(error, kRetryAfterSeconds));
      return;
    }
    picker_.Count("spread");
    Routed(*instance, std::nullopt, std::nullopt);
  }

  void Routed(const control::Instance& instance, std::optional<std::uint32_t> rank,
              std::optional<std::string> body) {
    RouteChange change;
    change.endpoint = picker_.EndpointFor(*this, instance).value_or("");
    const std::string worker = fmt::format("{}", static_cast<std::uint64_t>(instance.id));
    change.set = {{"x-dynamo-worker-instance-id", worker}, {"x-worker-instance-id", worker}};
    if (rank) {
      change.set.push_back({"x-dynamo-dp-rank", fmt::format("{}", *rank)});
    }
    Do(proc_.OnRouted(change, std::move(body)));
  }

  void Refuse(const Response& response) {
    std::vector<wire::HttpField> fields = response.fields;
    fields.push_back({"content-type", std::string(response.content_type)});
    Do(proc_.OnRefused(response.status, std::move(fields), response.body, "endpoint picker"));
    picker_.Count("refused");
  }

  void Ask() {
    exchange_ = std::make_unique<LocalExchange>(
        proc_.request(), [this] { LookLater(); }, kStreamBytesMax, this);
    picker_.environment_.handler.Handle(*exchange_);
  }

  void LookLater() {
    picker_.environment_.loop.Post(
        [picker = &picker_, alive = std::weak_ptr(picker_.alive_), id = id_] {
          if (alive.expired()) {
            return;
          }
          if (const auto found = picker->streams_.find(id); found != picker->streams_.end()) {
            found->second->Look();
          }
        });
  }

  // The reader has answered: it is not one of those that go anywhere.
  void Look() {
    if (!exchange_ || !exchange_->ended() || finish_) {
      return;
    }
    const std::unique_ptr<LocalExchange> done = std::move(exchange_);
    if (!placed_ && done->response()) {
      Refuse(*done->response());
    }
  }

  void Do(ExtProcStep step) {
    for (std::string& reply : step.replies) {
      outbox_.push_back(std::move(reply));
    }
    if (step.tokens > 0 && placed_) {
      placed_->OnTokens(step.tokens);
    }
    if (step.over) {
      Leave();
    }
    if (step.finish) {
      if (*step.finish == kGrpcInvalidArgument) {
        picker_.Count("broken");
      }
      finish_ = {*step.finish, std::move(step.why)};
    }
    if (step.ask == ExtProcStep::Ask::kRoute) {
      Ask();
    } else if (step.ask == ExtProcStep::Ask::kSpread) {
      Spread();
    }
    Pump();
  }

  // Its worker has nothing more to do for it.
  void Leave() {
    refuse_ = nullptr;
    placed_.reset();
    if (exchange_) {
      exchange_->HangUp();
    }
  }

  // One message at a time, and nothing new is read before all are on their way.
  void Pump() {
    if (writing_ || ended_) {
      return;
    }
    if (!outbox_.empty()) {
      writing_ = true;
      const std::string message = std::move(outbox_.front());
      outbox_.pop_front();
      picker_.host_->Write(id_, message);
    } else if (finish_) {
      ended_ = true;
      picker_.host_->Finish(id_, finish_->first, finish_->second);
    } else {
      Read();
    }
  }

  void Read() {
    if (!std::exchange(reading_, true)) {
      picker_.host_->Read(id_);
    }
  }

  EndpointPicker& picker_;
  const std::uint64_t id_;
  ExtProcStream proc_;
  std::unique_ptr<LocalExchange> exchange_;   // while its body is read
  std::function<void(const Error&)> refuse_;  // while its place is not known
  std::unique_ptr<PlacedRequest> placed_;     // while it counts
  std::string model_;
  std::vector<TokenId> tokens_;  // that go with it
  std::size_t prompt_tokens_ = 0;
  std::deque<std::string> outbox_;
  std::optional<std::pair<int, std::string>> finish_;
  bool reading_ = false;
  bool writing_ = false;
  bool ended_ = false;
};

EndpointPicker::EndpointPicker(Key /*key*/, EndpointPickerEnvironment environment,
                               const EndpointPickerOptions& options)
    : environment_(std::move(environment)),
      options_(options),
      alarm_(environment_.loop, [this] { OnTime(); }),
      streams_open_(environment_.registry.GetGauge(obs::MetricId::kEppStreams)),
      alive_(std::make_shared<bool>(true)) {}

EndpointPicker::~EndpointPicker() = default;

Result<std::unique_ptr<EndpointPicker>> EndpointPicker::Start(
    EndpointPickerEnvironment environment, GrpcLibrary library,
    const EndpointPickerOptions& options) {
  rt::Loop& loop = environment.loop;
  auto out = std::make_unique<EndpointPicker>(Key{}, std::move(environment), options);
  PX_TRY(out->host_, GrpcHost::Start(loop, *out, std::move(library), options.grpc));
  for (const std::string_view result : {"routed", "spread", "refused", "broken"}) {
    out->environment_.registry.GetCounter(obs::MetricId::kEppRequestsTotal, {result});
  }
  return out;
}

void EndpointPicker::Count(std::string_view result) {
  environment_.registry.GetCounter(obs::MetricId::kEppRequestsTotal, {result}).Add();
}

std::optional<std::string> EndpointPicker::EndpointFor(const Stream& stream,
                                                       const control::Instance& instance) const {
  std::optional<std::string> out = EndpointOf(instance.address, options_.endpoint_port);
  if (out && !stream.proc().Allows(*out)) {
    out.reset();
  }
  return out;
}

std::optional<control::Instance> EndpointPicker::NextInTurn(const Stream& stream) {
  std::vector<ShownInstance> may;
  for (ShownInstance& shown : environment_.instances()) {
    if (shown.state == "available" && ServesClients(shown.instance.role) &&
        EndpointFor(stream, shown.instance)) {
      may.push_back(std::move(shown));
    }
  }
  return may.empty() ? std::nullopt : std::optional(may[turn_++ % may.size()].instance);
}

void EndpointPicker::OnGrpcBegin(std::uint64_t id, const std::string& path,
                                 std::vector<wire::HttpField> /*fields*/) {
  const bool health = path == kCheckHealth || path == kWatchHealth;
  if (health && checks_.size() < kChecksMax) {
    checks_[id].watches = path == kWatchHealth;
    host_->Read(id);
  } else if (health) {
    host_->Finish(id, kGrpcResourceExhausted, "too many watch the health of this");
  } else if (path != kProcess) {
    host_->Finish(id, kGrpcUnimplemented, "there is no such method");
  } else if (draining_) {
    host_->Finish(id, kGrpcUnavailable, "the picker shuts down; ask another");
  } else if (streams_.size() >= options_.grpc.calls_max) {
    host_->Finish(id, kGrpcResourceExhausted,
                  fmt::format("{} requests run, which is the limit; try again later",
                              options_.grpc.calls_max));
  } else {
    streams_.emplace(id, std::make_unique<Stream>(*this, id));
    streams_open_.Set(static_cast<double>(streams_.size()));
  }
}

void EndpointPicker::OnGrpcMessage(std::uint64_t id, const std::string& message) {
  if (const auto found = streams_.find(id); found != streams_.end()) {
    found->second->OnMessage(message);
  } else if (const auto check = checks_.find(id); check != checks_.end()) {
    OnCheck(id, check->second, message);
  }
}

void EndpointPicker::OnGrpcEnd(std::uint64_t id) {
  if (const auto found = streams_.find(id); found != streams_.end()) {
    found->second->OnEnd();
  } else if (const auto check = checks_.find(id);
             check != checks_.end() && !std::exchange(check->second.finished, true)) {
    host_->Finish(id, kGrpcInvalidArgument, "the call has no message");
  }
}

void EndpointPicker::OnGrpcWritten(std::uint64_t id) {
  if (const auto found = streams_.find(id); found != streams_.end()) {
    found->second->OnWritten();
  } else if (const auto check = checks_.find(id);
             check != checks_.end() && !check->second.finished) {
    check->second.writing = false;
    if (check->second.watches) {
      TellHealth(id, check->second);
    } else {
      check->second.finished = true;
      host_->Finish(id, kGrpcOk, "");
    }
  }
}

void EndpointPicker::OnGrpcCancelled(std::uint64_t id) {
  if (const auto found = streams_.find(id); found != streams_.end()) {
    found->second->OnCancelled();
  } else if (const auto check = checks_.find(id);
             check != checks_.end() && !std::exchange(check->second.finished, true)) {
    host_->Finish(id, kGrpcCancelled, "");
  }
}

void EndpointPicker::OnGrpcDone(std::uint64_t id) {
  streams_.erase(id);
  streams_open_.Set(static_cast<double>(streams_.size()));
  checks_.erase(id);
  Ended();
}

Health EndpointPicker::HealthOf(std::string_view service) const {
  if (service == kAlive) {
    return Health::kServing;
  }
  if (std::ranges::find(kReadiness, service) == std::end(kReadiness)) {
    return Health::kNoService;
  }
  return !draining_ && environment_.ready() ? Health::kServing : Health::kNotServing;
}

void EndpointPicker::OnCheck(std::uint64_t id, Check& check, const std::string& message) {
  Result<std::string> service = ReadHealthCheck(message);
  const Health health = service ? HealthOf(*service) : Health::kUnknown;
  if (!service || (health == Health::kNoService && !check.watches)) {
    check.finished = true;
    host_->Finish(id, service ? kGrpcNotFound : kGrpcInvalidArgument,
                  service ? "there is no such service" : service.error().detail());
    return;
  }
  check.service = std::move(*service);
  TellHealth(id, check);
  if (check.watches) {
    alarm_.Set(std::min(environment_.loop.Now() + kLook, deadline_));
  }
}

void EndpointPicker::TellHealth(std::uint64_t id, Check& check) {
  const Health health = HealthOf(check.service);
  if (!check.writing && !check.finished && check.told != health) {
    check.told = health;
    check.writing = true;
    host_->Write(id, HealthReply(health));
  }
}

void EndpointPicker::OnTime() {
  bool watched = false;
  for (auto& [id, check] : checks_) {
    if (check.watches && check.told) {
      watched = true;
      TellHealth(id, check);
    }
  }
  if (draining_ && environment_.loop.Now() >= deadline_) {
    deadline_ = rt::kNever;
    for (const auto& [id, stream] : streams_) {
      stream->GiveUp();
    }
    if (const auto on_done = std::exchange(on_done_, nullptr)) {
      on_done();
    }
  }
  alarm_.Set(watched ? std::min(environment_.loop.Now() + kLook, deadline_) : deadline_);
}

void EndpointPicker::Drain(rt::Time deadline, std::function<void()> on_done) {
  draining_ = true;
  deadline_ = deadline;
  on_done_ = std::move(on_done);
  for (const auto& [id, stream] : streams_) {
    if (stream->idle()) {
      stream->GiveUp();
    }
  }
  OnTime();  // who watches hears of it
  host_->Close(deadline);
  environment_.loop.Post([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) {
      Ended();
    }
  });
}

void EndpointPicker::Ended() {
  if (draining_ && streams_.empty()) {
    if (const auto on_done = std::exchange(on_done_, nullptr)) {
      deadline_ = rt::kNever;
      on_done();
    }
  }
}

}  // namespace pixii::frontend
