#include "frontend/router_api/router_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "frontend/error_body.h"
#include "frontend/field_error.h"
#include "frontend/router_api/answers.h"
#include "frontend/router_api/json_fields.h"
#include "frontend/router_api/waiter.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::uint32_t kRetryAfterSeconds = 1;

Response Failure(const Error& error) {
  Response out = ErrorResponse(error, kRetryAfterSeconds, Dialect::kKserve);
  if (error.code() == Code::kInvalidArgument && error.param() == "selection_id" &&
      error.detail().ends_with("is reserved already")) {
    out.status = 409;
  }
  return out;
}

}  // namespace

struct RouterApi::Route {
  std::string_view method;
  std::string_view path;  // ends with "/" before a name
  std::string_view suffix;
  Answer (RouterApi::*serve)(Call& call);
  bool open = false;  // needs no key
};

const std::vector<RouterApi::Route>& RouterApi::Routes() {
  static const std::vector<Route> kRoutes = {
      {"GET", "/health", "", &RouterApi::Health, true},
      {"GET", "/live", "", &RouterApi::Health, true},
      {"GET", "/ready", "", &RouterApi::Ready, true},
      {"GET", "/metrics", "", &RouterApi::Metrics, true},
      {"POST", "/register", "", &RouterApi::Register},
      {"POST", "/unregister", "", &RouterApi::Unregister},
      {"POST", "/query", "", &RouterApi::Query},
      {"POST", "/query_by_hash", "", &RouterApi::QueryByHash},
      {"GET", "/dump", "", &RouterApi::Dump},
      {"POST", "/register_peer", "", &RouterApi::RegisterPeer},
      {"POST", "/deregister_peer", "", &RouterApi::DeregisterPeer},
      {"GET", "/peers", "", &RouterApi::Peers},
      {"POST", "/reopen_logs", "", &RouterApi::ReopenLogs},
      {"GET", "/workers", "", &RouterApi::Workers},
      {"POST", "/workers", "", &RouterApi::PutWorker},
      {"PATCH", "/workers/", "", &RouterApi::PatchWorker},
      {"DELETE", "/workers/", "", &RouterApi::DeleteWorker},
      {"POST", "/select", "", &RouterApi::Select},
      {"POST", "/select_and_reserve", "", &RouterApi::SelectAndReserve},
      {"POST", "/new", "", &RouterApi::New},
      {"POST", "/mark_prefill", "", &RouterApi::MarkPrefill},
      {"POST", "/mark_free", "", &RouterApi::MarkFree},
      {"POST", "/reservations", "", &RouterApi::Reserve},
      {"POST", "/reservations/", "/prefill_complete", &RouterApi::PrefillComplete},
      {"POST", "/reservations/", "/output_block", &RouterApi::OutputBlock},
      {"DELETE", "/reservations/", "", &RouterApi::DeleteReservation},
      {"GET", "/loads", "", &RouterApi::Loads},
      {"POST", "/potential_loads", "", &RouterApi::PotentialLoads},
      {"POST", "/overlap_scores", "", &RouterApi::OverlapScores},
      {"POST", "/router/explain", "", &RouterApi::Explain},
      {"POST", "/replica_sync/register_peer", "", &RouterApi::RegisterReplica},
      {"POST", "/replica_sync/deregister_peer", "", &RouterApi::DeregisterReplica},
      {"GET", "/replica_sync/peers", "", &RouterApi::Replicas},
  };
  return kRoutes;
}

RouterApi::RouterApi(Parts parts, ApiKeys keys) : parts_(std::move(parts)), keys_(std::move(keys)) {
  parts_.registry.OnExpose([this] {
    Collect();
    if (parts_.on_expose) {
      parts_.on_expose();
    }
  });
}

RouterApi::~RouterApi() = default;

// Later: it may stand below this call.
void RouterApi::Forget(Waiter& waiter) {
  const auto found = waiters_.extract(&waiter);
  if (found) {
    parts_.loop.Post([gone = std::shared_ptr<Waiter>(std::move(found.mapped()))] {});
  }
}

Response RouterApi::Refusal(const wire::HttpFault& fault) {
  return FaultResponse(fault, kRetryAfterSeconds);
}

Result<void> RouterApi::Authorize(const wire::HttpRequest& request) const {
  const ApiKey* const key = keys_.Authenticate(request);
  if (key == nullptr) {
    return Fail(Code::kUnauthenticated, "the key is missing or unknown: Authorization: Bearer KEY");
  }
  if (!key->admin) {
    return Fail(Code::kForbidden, "this key may not ask the router: it is no admin's");
  }
  return {};
}

void RouterApi::Handle(Exchange& exchange) {
  const wire::HttpRequest& request = exchange.request();
  const rt::Time begun = parts_.loop.Now();
  Call call{.exchange = exchange, .name = {}};
  const Route* chosen = nullptr;
  bool path_known = false;
  for (const Route& route : Routes()) {
    std::string_view rest = request.path;
    if (!rest.starts_with(route.path)) {
      continue;
    }
    rest.remove_prefix(route.path.size());
    const bool named = route.path.ends_with('/');
    if (named ? (rest.size() <= route.suffix.size() || !rest.ends_with(route.suffix))
              : !rest.empty()) {
      continue;
    }
    rest.remove_suffix(route.suffix.size());
    if (rest.find('/') != std::string_view::npos) {
      continue;
    }
    path_known = true;
    if (route.method == request.method) {
      call.name = wire::PercentDecode(rest).value_or(std::string(rest));
      chosen = &route;
      break;
    }
  }
  deferred_ = false;
  Answer answer =
      chosen != nullptr ? Serve(*chosen, call)
      : path_known
          ? Answer(Fail(Code::kMethodNotAllowed,
                        fmt::format("{} is no method of {}", request.method, request.path)))
          : Answer(Fail(Code::kNotFound, fmt::format("there is no route {}", request.path)));
  if (deferred_ && answer) {
    return;
  }
  Response response = answer ? std::move(*answer) : Failure(answer.error());
  Count(chosen, response, begun);
  exchange.Respond(std::move(response));
}

RouterApi::Answer RouterApi::Serve(const Route& route, Call& call) {
  if (!route.open) {
    PX_CHECK_OK(Authorize(call.exchange.request()));
  }
  return (this->*route.serve)(call);
}

void RouterApi::Count(const Route* route, const Response& response, rt::Time begun) {
  using obs::MetricId;
  const std::string_view endpoint = route == nullptr ? "other" : route->path;
  obs::Registry& registry = parts_.registry;
  registry
      .GetCounter(MetricId::kIndexerRequestsTotal,
                  {endpoint, route == nullptr ? "other" : route->method})
      .Add();
  registry.GetHistogram(MetricId::kIndexerRequestDurationSeconds, {endpoint})
      .Observe(std::chrono::duration<double>(parts_.loop.Now() - begun).count());
  if (response.status >= 400) {
    registry
        .GetCounter(MetricId::kIndexerErrorsTotal,
                    {endpoint, response.status < 500 ? "4xx" : "5xx"})
        .Add();
  }
}

RouterApi::Answer RouterApi::Health(Call&) { return Done(); }

RouterApi::Answer RouterApi::Ready(Call&) {
  const std::size_t count = SchedulableCount();
  Json out{Json::Object{}};
  out.Set("ready", count > 0);
  out.Set("schedulable_workers", std::uint64_t{count});
  out.Set("workers", WorkerList({}, {}));
  return AnswerOf(out, count > 0 ? 200 : 503);
}

RouterApi::Answer RouterApi::Metrics(Call& call) {
  const obs::Exposition wanted =
      obs::ExpositionFor(call.exchange.request().Field("accept").value_or(std::string_view()));
  Response out;
  out.content_type = obs::ContentTypeOf(wanted);
  out.body = parts_.registry.Expose(wanted);
  return out;
}

void RouterApi::Collect() {
  using obs::MetricId;
  using router::KvListener;
  obs::Registry& registry = parts_.registry;
  std::map<KvListener::Status, std::size_t> listeners{{KvListener::Status::kPending, 0},
                                                      {KvListener::Status::kActive, 0},
                                                      {KvListener::Status::kPaused, 0},
                                                      {KvListener::Status::kFailed, 0}};
  std::size_t workers = parts_.feed == nullptr ? 0 : parts_.feed->workers().size();
  for (const auto& [key, worker] : parts_.catalog.workers()) {
    workers += worker.is_guest ? 0 : 1;
    for (const auto& [rank, listener] : worker.listeners) {
      ++listeners[listener.listener->status()];
    }
  }
  registry.GetGauge(MetricId::kIndexerModels).Set(static_cast<double>(parts_.pools.pools().size()));
  registry.GetGauge(MetricId::kIndexerWorkers).Set(static_cast<double>(workers));
  for (const auto& [status, count] : listeners) {
    registry.GetGauge(MetricId::kIndexerListeners, {router::StatusName(status)})
        .Set(static_cast<double>(count));
  }
}

RouterApi::Answer RouterApi::RegisterReplica(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::string endpoint, Required("endpoint", TextField(body, "endpoint")));
  if (parts_.mesh == nullptr) {
    return Fail(Code::kUnsupported, "replicas are off: --router-replica-sync");
  }
  std::string_view address = endpoint;
  if (address.starts_with("tcp://")) {
    address.remove_prefix(6);
  }
  PX_CHECK_OK(parts_.mesh->SetPeer("peer " + endpoint, std::string(address), std::nullopt));
  replicas_.insert(endpoint);
  return Done(201);
}

RouterApi::Answer RouterApi::DeregisterReplica(Call& call) {
  PX_TRY(const Json body, ObjectOf(call.exchange.request().body));
  PX_TRY(const std::string endpoint, Required("endpoint", TextField(body, "endpoint")));
  if (replicas_.erase(endpoint) == 0) {
    return Fail(Code::kNotFound, fmt::format("{} is no peer", endpoint), "endpoint");
  }
  parts_.mesh->RemovePeer("peer " + endpoint);
  return Done();
}

RouterApi::Answer RouterApi::Replicas(Call&) {
  Json::Array out;
  for (const std::string& endpoint : replicas_) {
    out.emplace_back(endpoint);
  }
  return AnswerOf(Json(std::move(out)));
}

// Which model's workers are meant.
Result<router::Pool*> RouterApi::PoolOf(const Json& body) const {
  PX_TRY(std::optional<std::string> model, TextField(body, "model_name"));
  PX_TRY(std::optional<std::string> group, TextField(body, "routing_group"));
  const auto& pools = parts_.pools.pools();
  const auto same_name = [&](const auto& one) {
    const wire::PoolName& first = pools.begin()->second->name();
    return one.second->name().model == first.model && one.second->name().group == first.group;
  };
  if (!model && !pools.empty() && std::ranges::all_of(pools, same_name)) {  // there is no other
    const wire::PoolName& only = pools.begin()->second->name();
    if (!group || *group == only.group) {
      return parts_.pools.Find(only.model, only.group);
    }
  }
  router::Pool* const pool =
      parts_.pools.Find(model.value_or("default"), group.value_or("default"));
  if (pool == nullptr) {
    return Fail(Code::kNotFound,
                fmt::format("no workers of model {} in group {}", model.value_or("default"),
                            group.value_or("default")),
                "model_name");
  }
  return pool;
}

RouterApi::Answer RouterApi::Select(Call& call) { return Choose(call, ChoiceForm::kSelect); }

RouterApi::Answer RouterApi::SelectAndReserve(Call& call) {
  return Choose(call, ChoiceForm::kReserve);
}

RouterApi::Answer RouterApi::New(Call& call) { return Choose(call, ChoiceForm::kNew); }

}  // namespace pixii::frontend
