#include "sim/sim_pods.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "control/deployment_graph.h"
#include "control/graph_objects.h"
#include "sim/kube_objects_check.h"

namespace pixii::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using wire::Json;

constexpr rt::Duration kDrainTimeout = seconds(30);       // pixii's --drain-timeout
constexpr rt::Duration kMigrationPatience = seconds(10);  // pixii's --migration-patience
constexpr rt::Duration kRequestMin = milliseconds(100);
constexpr rt::Duration kRequestMax = seconds(20);
constexpr rt::Duration kNewsMin = milliseconds(20);  // until proxies know a change of endpoints
constexpr rt::Duration kNewsMax = seconds(2);

rt::Duration Between(rt::Loop& loop, rt::Duration low, rt::Duration high) {
  return rt::Duration(loop.random().Between(low.count(), high.count()));
}

std::string VariableOf(const Json& pod, std::string_view name) {
  for (const Json& container : kube::At(pod, {"spec", "containers"})->array()) {
    if (const Json* env = container.Find("env")) {
      for (const Json& variable : env->array()) {
        if (kube::Text(variable, {"name"}) == name) {
          return kube::Text(variable, {"value"});
        }
      }
    }
  }
  return "";
}

}  // namespace

SimPods::SimPods(rt::Loop& loop, kube::ApiServer& server) : loop_(loop), server_(server) {}

SimPods::~SimPods() {
  loop_.CancelTimer(arrival_);
  for (const rt::TimerId news : news_) {
    loop_.CancelTimer(news);
  }
  for (auto& [name, pod] : pods_) {
    loop_.CancelTimer(pod.timer);
  }
  for (auto& [id, request] : open_) {
    loop_.CancelTimer(request.end);
    loop_.CancelTimer(request.patience);
  }
}

// ---- PodHost

void SimPods::Start(const Json& pod) {
  const std::string name = kube::Text(pod, {"metadata", "name"});
  Pod& started = pods_[name];
  started = {.part = kube::Text(pod, {"metadata", "labels", control::kPartLabel}),
             .type = kube::Text(pod, {"metadata", "labels", control::kTypeLabel}),
             .runs = true,
             .requests = {}};
  ++started_;
  const std::string fault = VariableOf(pod, "FAULT");
  if (fault == "crash") {
    started.timer = loop_.RunAt(loop_.Now() + seconds(1), [this, name] { Kill(name); });
    return;
  }
  if (fault == "hang") {
    return;
  }
  const bool is_worker = control::IsWorkerType(started.type);
  started.timer = loop_.RunAt(
      loop_.Now() + Between(loop_, milliseconds(300), seconds(is_worker ? 20 : 3)), [this, name] {
        pods_[name].is_up = true;
        TryWaiting();
      });
}

bool SimPods::Runs(const std::string& pod) {
  const auto found = pods_.find(pod);
  return found != pods_.end() && found->second.runs;
}

bool SimPods::Passes(const std::string& pod, const Json& probe) {
  const auto found = pods_.find(pod);
  if (found == pods_.end() || !found->second.runs) {
    return false;
  }
  if (kube::Text(probe, {"httpGet", "path"}) == "/live") {
    return true;
  }
  if (!Serves(found->second)) {
    return false;
  }
  if (found->second.type != "frontend") {
    return true;
  }
  const std::set<std::string> types = WorkerTypes();
  return !types.empty() && std::ranges::all_of(types, [&](const std::string& type) {
    return std::ranges::any_of(pods_, [&](const auto& entry) {
      return entry.second.type == type && Serves(entry.second);
    });
  });
}

/// SIGTERM: workers leave discovery, frontends answer 503; both finish what they have.
void SimPods::Stop(const std::string& name) {
  Pod& pod = pods_[name];
  if (!pod.runs || pod.draining) {
    return;
  }
  pod.draining = true;
  loop_.CancelTimer(pod.timer);
  pod.timer = rt::TimerId::kNone;
  if (pod.requests.empty()) {
    Ended(name, pod);
    return;
  }
  pod.timer = loop_.RunAt(loop_.Now() + kDrainTimeout, [this, name] { Kill(name); });
}

void SimPods::Ended(const std::string& /*name*/, Pod& pod) {
  pod.runs = false;
  pod.is_up = false;
  loop_.CancelTimer(pod.timer);
  pod.timer = rt::TimerId::kNone;
  if (kick_) {
    kick_();
  }
}

void SimPods::Kill(const std::string& name) {
  const auto found = pods_.find(name);
  if (found == pods_.end() || !found->second.runs) {
    return;
  }
  Pod& pod = found->second;
  Ended(name, pod);
  Lose(name, pod);
}

void SimPods::Forget(const std::string& pod) {
  Kill(pod);
  pods_.erase(pod);
}

/// What was on it goes elsewhere, or fails with a frontend.
void SimPods::Lose(const std::string& worker, Pod& pod) {
  const std::set<std::uint64_t> requests = std::exchange(pod.requests, {});
  for (const std::uint64_t id : requests) {
    Request& request = open_.at(id);
    if (request.frontend == worker) {
      CloseRequest(id);
      Fail(fmt::format("request {} was on frontend {}, which ended", id, worker));
      continue;
    }
    for (auto& [type, on] : request.workers) {
      if (on == worker) {
        on.clear();
      }
    }
    if (request.patience == rt::TimerId::kNone) {
      request.patience = loop_.RunAt(loop_.Now() + kMigrationPatience, [this, id] {
        CloseRequest(id);
        Fail(fmt::format("request {} found no worker to go on with", id));
      });
    }
  }
  TryWaiting();
}

// ---- requests

std::set<std::string> SimPods::WorkerTypes() const {
  // What the graph has, whether or not a pod of it runs.
  std::set<std::string> types;
  server_.state().Each("deployments", [&](const Json& deployment) {
    const std::string type = kube::Text(deployment, {"metadata", "labels", control::kTypeLabel});
    const Json* replicas = kube::At(deployment, {"spec", "replicas"});
    if (control::IsWorkerType(type) && replicas->AsInt().value_or(0) > 0) {
      types.insert(type);
    }
  });
  return types;
}

std::optional<std::string> SimPods::PickWorker(const std::string& type) {
  std::vector<std::string> serving;
  for (const auto& [name, pod] : pods_) {
    if (pod.type == type && Serves(pod)) {
      serving.push_back(name);
    }
  }
  if (serving.empty()) {
    return std::nullopt;
  }
  return serving[loop_.random().Below(serving.size())];
}

void SimPods::TryWaiting() {
  for (auto& [id, request] : open_) {
    bool whole = true;
    for (auto& [type, on] : request.workers) {
      if (!on.empty()) {
        continue;
      }
      if (const std::optional<std::string> worker = PickWorker(type)) {
        on = *worker;
        pods_[on].requests.insert(id);
      }
      whole = whole && !on.empty();
    }
    if (whole) {
      loop_.CancelTimer(request.patience);
      request.patience = rt::TimerId::kNone;
    }
  }
}

void SimPods::CloseRequest(std::uint64_t id) {
  Request request = std::move(open_.at(id));
  open_.erase(id);
  loop_.CancelTimer(request.end);
  loop_.CancelTimer(request.patience);
  const auto leave = [&](const std::string& name) {
    const auto found = pods_.find(name);
    if (found == pods_.end() || found->second.requests.erase(id) == 0) {
      return;
    }
    if (found->second.draining && found->second.requests.empty() && found->second.runs) {
      Ended(name, found->second);
    }
  };
  leave(request.frontend);
  for (const auto& [type, worker] : request.workers) {
    leave(worker);
  }
}

/// Its time is over; what waits for a worker has some of it left.
void SimPods::Finish(std::uint64_t id) {
  Request& request = open_.at(id);
  if (request.patience == rt::TimerId::kNone) {
    CloseRequest(id);
    return;
  }
  request.end = loop_.RunAt(loop_.Now() + kRequestMin, [this, id] { Finish(id); });
}

void SimPods::Fail(const std::string& why) {
  if (on_failure_) {
    on_failure_(why);
  }
}

void SimPods::BeginRequests(double per_second) {
  per_second_ = per_second;
  if (!coming_) {
    coming_ = true;
    Arrive();
  }
}

void SimPods::Arrive() {
  if (!coming_) {
    return;
  }
  arrival_ = loop_.RunAt(loop_.Now() + rt::Duration(static_cast<std::int64_t>(
                                           loop_.random().Exponential(1e9 / per_second_))),
                         [this] { Arrive(); });
  const std::uint64_t id = ++requests_;
  if (endpoints_.empty()) {
    Fail(fmt::format("request {} found no frontend", id));
    return;
  }
  const std::string frontend = *std::next(
      endpoints_.begin(), static_cast<std::ptrdiff_t>(loop_.random().Below(endpoints_.size())));
  const auto found = pods_.find(frontend);
  if (found == pods_.end() || !found->second.runs) {
    Fail(fmt::format("request {} was refused by {}, which has ended", id, frontend));
    return;
  }
  if (!Serves(found->second)) {
    Fail(fmt::format("request {} got 503 of {}, which drains or starts", id, frontend));
    return;
  }
  Request request{.frontend = frontend, .workers = {}};
  for (const std::string& type : WorkerTypes()) {
    const std::optional<std::string> worker = PickWorker(type);
    if (!worker) {
      Fail(fmt::format("request {} got 503: no {} serves", id, type));
      return;
    }
    request.workers[type] = *worker;
  }
  if (request.workers.empty()) {
    Fail(fmt::format("request {} got 503: there are no workers", id));
    return;
  }
  found->second.requests.insert(id);
  for (const auto& [type, worker] : request.workers) {
    pods_[worker].requests.insert(id);
  }
  request.end = loop_.RunAt(loop_.Now() + Between(loop_, kRequestMin, kRequestMax),
                            [this, id] { Finish(id); });
  open_.emplace(id, std::move(request));
}

void SimPods::LookAtEndpoints() {
  std::set<std::string> serving;
  server_.state().Each("pods", [&](const Json& pod) {
    const Json* conditions = kube::At(pod, {"status", "conditions"});
    if (kube::Text(pod, {"metadata", "labels", control::kTypeLabel}) == "frontend" &&
        kube::At(pod, {"metadata", "deletionTimestamp"}) == nullptr && conditions != nullptr &&
        kube::Text(conditions->array().front(), {"status"}) == "True") {
      serving.insert(kube::Text(pod, {"metadata", "name"}));
    }
  });
  if (serving == told_endpoints_) {
    return;
  }
  told_endpoints_ = serving;
  told_at_ = std::max(told_at_, loop_.Now() + Between(loop_, kNewsMin, kNewsMax));
  news_.push_back(loop_.RunAt(told_at_, [this, serving] { endpoints_ = serving; }));
}

std::vector<std::string> SimPods::Running() const {
  std::vector<std::string> out;
  for (const auto& [name, pod] : pods_) {
    if (pod.runs) {
      out.push_back(name);
    }
  }
  return out;
}

}  // namespace pixii::sim
