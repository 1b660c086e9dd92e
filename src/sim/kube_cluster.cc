#include "sim/kube_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "control/kube_compare.h"
#include "control/kube_objects.h"
#include "sim/kube_objects_check.h"

namespace pixii::kube {

namespace {

using wire::Json;

constexpr const char* kHashLabel = "pod-template-hash";
constexpr const char* kDesiredNote = "deployment.kubernetes.io/desired-replicas";
constexpr std::int64_t kCrashBackoffFactorMax = 30;

std::int64_t Number(const Json& object, std::initializer_list<std::string_view> path,
                    std::int64_t otherwise = 0) {
  const Json* found = At(object, path);
  return found == nullptr ? otherwise : found->AsInt().value_or(otherwise);
}

Json Object(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Json out{Json::Object{}};
  for (const auto& [name, value] : members) {
    out.Set(name, value);
  }
  return out;
}

std::string SetPath(const Json& object) {
  return fmt::format("/apis/apps/v1/namespaces/{}/replicasets/{}",
                     Text(object, {"metadata", "namespace"}), Text(object, {"metadata", "name"}));
}

/// "25%" or 1 of the replicas; shares of a surge are rounded up, of what may be missing down.
std::int64_t Share(const Json* said, std::int64_t replicas, bool up) {
  if (said == nullptr) {
    return 0;
  }
  if (const std::optional<std::int64_t> number = said->AsInt()) {
    return *number;
  }
  const double percent = said->is_string() ? std::atof(said->string().c_str()) : 0;
  const double share = percent * static_cast<double>(replicas) / 100;
  return static_cast<std::int64_t>(up ? std::ceil(share) : std::floor(share));
}

Json OwnerOf(const Json& object, const char* api_version, const char* kind) {
  return Object({{"apiVersion", api_version},
                 {"kind", kind},
                 {"name", Text(object, {"metadata", "name"})},
                 {"uid", Text(object, {"metadata", "uid"})},
                 {"controller", true}});
}

Json Condition(const char* type, bool holds, const char* reason) {
  return Object({{"type", type}, {"status", holds ? "True" : "False"}, {"reason", reason}});
}

bool IsReady(const Json& pod) {
  const Json* conditions = At(pod, {"status", "conditions"});
  return conditions != nullptr && conditions->is_array() &&
         std::ranges::any_of(conditions->array(), [](const Json& one) {
           return Text(one, {"type"}) == "Ready" && Text(one, {"status"}) == "True";
         });
}

bool IsEnding(const Json& pod) { return At(pod, {"metadata", "deletionTimestamp"}) != nullptr; }

const Json* MainOf(const Json& pod) {
  const Json* containers = At(pod, {"spec", "containers"});
  for (const Json& one : containers->array()) {
    if (Text(one, {"name"}) == "main") {
      return &one;
    }
  }
  return &containers->array().front();
}

}  // namespace

KubeCluster::KubeCluster(rt::Loop& loop, ApiServer& server, PodHost& host,
                         KubeClusterOptions options)
    : loop_(loop), server_(server), host_(host), options_(std::move(options)), changed_(loop) {}

void KubeCluster::Start() {
  server_.OnChange([this] { Kick(); });
  tasks_.Start(Loop());
}

void KubeCluster::Kick() {
  changed_since_ = true;
  changed_.WakeAll();
}

rt::Duration KubeCluster::Draw(rt::Duration low, rt::Duration high) {
  return rt::Duration(loop_.random().Between(low.count(), high.count()));
}

rt::Task<void> KubeCluster::Loop() {
  while (true) {
    if (!changed_since_ && loop_.Now() < due_at_) {
      co_await changed_.Wait(due_at_);
      if (changed_since_) {
        auto reacting = loop_.SleepFor(Draw(options_.react_min, options_.react_max));
        co_await std::move(reacting);
      }
      continue;
    }
    changed_since_ = false;
    due_at_ = rt::kNever;
    Round();
    if (on_round_) {
      on_round_();
    }
    co_await loop_.Yield();
  }
}

Json KubeCluster::Ask(const std::string& method, const std::string& path, const Json& body) {
  return server_
      .Handle({.method = method,
               .path = path,
               .query = "",
               .accept = "",
               .content_type = "application/merge-patch+json",
               .body = body.Dump()})
      .body;
}

std::vector<Json> KubeCluster::OwnedBy(std::string_view plural, const Json& owner) const {
  const std::string uid = Text(owner, {"metadata", "uid"});
  return server_.state().Objects(plural, [&](const Json& object) {
    const Json* owners = At(object, {"metadata", "ownerReferences"});
    return owners != nullptr && !owners->array().empty() &&
           Text(owners->array().front(), {"uid"}) == uid;
  });
}

void KubeCluster::Round() {
  for (const Json& deployment : server_.state().Objects("deployments")) {
    KeepDeployment(deployment);
  }
  for (const Json& set : server_.state().Objects("replicasets")) {
    KeepReplicaSet(set);
  }
  std::set<std::string> there;
  for (const Json& pod : server_.state().Objects("pods")) {
    const std::string uid = Text(pod, {"metadata", "uid"});
    there.insert(uid);
    const auto [kept, is_new] = kept_.try_emplace(uid);
    if (is_new) {
      kept->second.space = Text(pod, {"metadata", "namespace"});
      kept->second.name = Text(pod, {"metadata", "name"});
      kept->second.uid = uid;
      kept->second.at = loop_.Now() + Draw(options_.start_min, options_.start_max);
    }
    KeepPod(pod, kept->second);
  }
  std::erase_if(kept_, [&](const auto& entry) {
    const Kept& kept = entry.second;
    if (there.contains(entry.first) && server_.state().Find("pods", kept.space, kept.name)) {
      return false;
    }
    host_.Kill(kept.name);
    host_.Forget(kept.name);
    return true;
  });
}

// ---- the controller of Deployments

Json KubeCluster::NewReplicaSet(const Json& deployment, const std::string& hash) const {
  Json pods = *At(deployment, {"spec", "template"});
  Json metadata = *pods.Find("metadata");
  const Json label = Object({{kHashLabel, hash}});
  metadata.Set("labels", MergePatch(*metadata.Find("labels"), label));
  const Json labels = *metadata.Find("labels");
  pods.Set("metadata", std::move(metadata));
  return Object(
      {{"apiVersion", "apps/v1"},
       {"kind", "ReplicaSet"},
       {"metadata",
        Object({{"name", fmt::format("{}-{}", Text(deployment, {"metadata", "name"}), hash)},
                {"labels", labels},
                {"ownerReferences", Json::Array{OwnerOf(deployment, "apps/v1", "Deployment")}}})},
       {"spec",
        Object(
            {{"replicas", 0},
             {"selector",
              Object({{"matchLabels",
                       MergePatch(*At(deployment, {"spec", "selector", "matchLabels"}), label)}})},
             {"template", std::move(pods)}})}});
}

void KubeCluster::Scale(const Json& set, std::int64_t replicas, std::int64_t desired) {
  if (Number(set, {"spec", "replicas"}) == replicas &&
      Text(set, {"metadata", "annotations", kDesiredNote}) == std::to_string(desired)) {
    return;
  }
  Ask("PATCH", SetPath(set),
      Object({{"metadata",
               Object({{"annotations", Object({{kDesiredNote, std::to_string(desired)}})}})},
              {"spec", Object({{"replicas", replicas}})}}));
}

void KubeCluster::KeepDeployment(const Json& deployment) {
  const std::string hash = control::KubeDigest(*At(deployment, {"spec", "template"})).substr(0, 10);
  const std::int64_t wanted = Number(deployment, {"spec", "replicas"}, 1);
  std::vector<Json> sets = OwnedBy("replicasets", deployment);
  const auto is_new = [&](const Json& set) {
    return Text(set, {"metadata", "labels", kHashLabel}) == hash;
  };
  if (std::ranges::none_of(sets, is_new)) {
    const std::string space = Text(deployment, {"metadata", "namespace"});
    Ask("POST", fmt::format("/apis/apps/v1/namespaces/{}/replicasets", space),
        NewReplicaSet(deployment, hash));
    sets = OwnedBy("replicasets", deployment);
    if (std::ranges::none_of(sets, is_new)) {
      return;  // an older one's is still being collected
    }
  }
  std::ranges::partition(sets, [&](const Json& set) { return !is_new(set); });
  Json& newest = sets.back();
  const std::span<Json> old(sets.data(), sets.size() - 1);

  const Json* rolling = At(deployment, {"spec", "strategy", "rollingUpdate"});
  std::int64_t surge = 0;
  std::int64_t missing = 0;
  if (rolling != nullptr) {
    surge = Share(rolling->Find("maxSurge"), wanted, true);
    missing = Share(rolling->Find("maxUnavailable"), wanted, false);
  }
  missing = surge == 0 && missing == 0 ? 1 : missing;
  const auto replicas_of = [](const Json& set) { return Number(set, {"spec", "replicas"}); };
  const auto available_of = [](const Json& set) {
    return Number(set, {"status", "availableReplicas"});
  };
  std::int64_t total = 0;
  std::int64_t available = 0;
  bool scaled = false;
  for (const Json& set : sets) {
    total += replicas_of(set);
    available += available_of(set);
    const std::string then = Text(set, {"metadata", "annotations", kDesiredNote});
    scaled = scaled || (replicas_of(set) > 0 && then != std::to_string(wanted));
  }
  const bool only_new = total == replicas_of(newest);
  if (scaled && !only_new) {
    // Proportional scaling: each set by its share, the newest takes what is left over.
    const std::int64_t room = (wanted > 0 ? wanted + surge : 0) - total;
    std::int64_t left = room;
    for (Json& set : old) {
      const std::int64_t share = total == 0 ? 0 : replicas_of(set) * room / total;
      left -= share;
      Scale(set, std::max<std::int64_t>(0, replicas_of(set) + share), wanted);
    }
    Scale(newest, std::max<std::int64_t>(0, replicas_of(newest) + left), wanted);
  } else {
    std::int64_t fresh = replicas_of(newest);
    if (fresh > wanted || only_new) {
      fresh = wanted;
    } else if (total < wanted + surge) {
      fresh += std::min(wanted + surge - total, wanted - fresh);
    }
    if (fresh != replicas_of(newest) || scaled) {
      Scale(newest, fresh, wanted);
    } else {
      // Old pods go as far as enough serve: those first that do not.
      const std::int64_t least = wanted - missing;
      const std::int64_t new_missing = replicas_of(newest) - available_of(newest);
      std::int64_t may_go = total - least - new_missing;
      for (Json& set : old) {
        const std::int64_t sick = replicas_of(set) - available_of(set);
        const std::int64_t going =
            std::clamp<std::int64_t>(sick, 0, std::max<std::int64_t>(may_go, 0));
        if (going > 0) {
          may_go -= going;
          const std::int64_t rest = replicas_of(set) - going;
          Scale(set, rest, wanted);
          Json spec = *set.Find("spec");
          spec.Set("replicas", rest);
          set.Set("spec", std::move(spec));
        }
      }
      std::int64_t spare = std::min(available - least, may_go);
      for (Json& set : old) {
        const std::int64_t going = std::clamp<std::int64_t>(spare, 0, replicas_of(set));
        if (going > 0) {
          spare -= going;
          Scale(set, replicas_of(set) - going, wanted);
        }
      }
    }
  }

  std::int64_t pods = 0;
  std::int64_t ready = 0;
  std::size_t emptied = 0;
  for (const Json& set : sets) {
    pods += Number(set, {"status", "replicas"});
    ready += Number(set, {"status", "readyReplicas"});
    const bool empty =
        !is_new(set) && replicas_of(set) == 0 && Number(set, {"status", "replicas"}) == 0;
    if (empty && ++emptied > static_cast<std::size_t>(
                                 Number(deployment, {"spec", "revisionHistoryLimit"}, 10))) {
      Ask("DELETE", SetPath(set), Json(Json::Object{}));
    }
  }
  const std::int64_t updated = Number(newest, {"status", "replicas"});
  const bool complete = updated == wanted && pods == wanted && available == wanted;
  Progress& progress = progress_[Text(deployment, {"metadata", "uid"})];
  const std::string seen = fmt::format("{} {} {} {} {}", hash, updated, pods, ready, wanted);
  if (complete || seen != progress.seen) {
    progress = {.seen = seen, .at = loop_.Now()};
  }
  const rt::Time deadline =
      progress.at +
      std::chrono::seconds(Number(deployment, {"spec", "progressDeadlineSeconds"}, 600));
  const bool late = !complete && loop_.Now() >= deadline;
  if (!complete && !late) {
    DueAt(deadline);
  }
  Json status =
      Object({{"observedGeneration", Number(deployment, {"metadata", "generation"})},
              {"replicas", pods},
              {"updatedReplicas", updated},
              {"readyReplicas", ready},
              {"availableReplicas", available},
              {"unavailableReplicas", std::max<std::int64_t>(0, wanted - available)},
              {"conditions",
               Json::Array{Condition("Available", available >= wanted - missing, "MinimumReplicas"),
                           Condition("Progressing", !late,
                                     late       ? "ProgressDeadlineExceeded"
                                     : complete ? "NewReplicaSetAvailable"
                                                : "ReplicaSetUpdated")}}});
  const std::string path = fmt::format("/apis/apps/v1/namespaces/{}/deployments/{}/status",
                                       Text(deployment, {"metadata", "namespace"}),
                                       Text(deployment, {"metadata", "name"}));
  TellStatus(deployment, path, status);
}

// ---- the controller of ReplicaSets

void KubeCluster::KeepReplicaSet(const Json& set) {
  std::vector<Json> pods = OwnedBy("pods", set);
  std::erase_if(pods, IsEnding);
  const std::string space = Text(set, {"metadata", "namespace"});
  const auto wanted = static_cast<std::size_t>(Number(set, {"spec", "replicas"}));
  const std::size_t there = pods.size();
  for (std::size_t i = there; i < wanted; ++i) {
    Json metadata = *At(set, {"spec", "template", "metadata"});
    metadata.Set("name", fmt::format("{}-{:05x}", Text(set, {"metadata", "name"}), ++last_pod_));
    metadata.Set("ownerReferences", Json::Array{OwnerOf(set, "apps/v1", "ReplicaSet")});
    Ask("POST", fmt::format("/api/v1/namespaces/{}/pods", space),
        Object({{"apiVersion", "v1"},
                {"kind", "Pod"},
                {"metadata", std::move(metadata)},
                {"spec", *At(set, {"spec", "template", "spec"})}}));
  }
  // Those that do not serve go first, then the youngest.
  std::ranges::sort(pods, {}, [](const Json& pod) {
    return std::pair(IsReady(pod), -static_cast<std::int64_t>(control::ResourceNumber(
                                       Text(pod, {"metadata", "uid"}).substr(24))));
  });
  for (std::size_t i = 0; i + wanted < there; ++i) {
    Ask("DELETE",
        fmt::format("/api/v1/namespaces/{}/pods/{}", space, Text(pods[i], {"metadata", "name"})),
        Json(Json::Object{}));
  }
  const std::int64_t ready = std::ranges::count_if(pods, IsReady);
  TellStatus(set, SetPath(set) + "/status",
             Object({{"observedGeneration", Number(set, {"metadata", "generation"})},
                     {"replicas", static_cast<std::int64_t>(there)},
                     {"readyReplicas", ready},
                     {"availableReplicas", ready}}));
}

/// Writes a status that is another one than it was.
void KubeCluster::TellStatus(const Json& object, const std::string& path, const Json& status) {
  const Json* before = object.Find("status");
  if (before == nullptr || Sorted(status) != *before) {
    Ask("PATCH", path, Object({{"status", status}}));
  }
}

// ---- the kubelet

void KubeCluster::SayPod(const Kept& kept, const char* phase) {
  Ask("PATCH", fmt::format("/api/v1/namespaces/{}/pods/{}/status", kept.space, kept.name),
      Object({{"status",
               Object({{"phase", phase},
                       {"conditions", Json::Array{Condition("Ready", kept.ready, "")}},
                       {"containerStatuses",
                        Json::Array{Object({{"name", "main"},
                                            {"ready", kept.ready},
                                            {"started", kept.started},
                                            {"restartCount", std::int64_t{kept.restarts}}})}}})}}));
}

void KubeCluster::Begin(const Json& pod, Kept& kept) {
  const std::uint64_t number = control::ResourceNumber(kept.uid.substr(24));
  const std::string address = options_.address
                                  ? options_.address(number)
                                  : fmt::format("10.0.{}.{}", number / 250, number % 250 + 1);
  if (Text(pod, {"status", "podIP"}).empty()) {
    Ask("PATCH", fmt::format("/api/v1/namespaces/{}/pods/{}/status", kept.space, kept.name),
        Object({{"status", Object({{"podIP", address}})}}));
  }
  kept.phase = Phase::kRunning;
  kept.started = MainOf(pod)->Find("startupProbe") == nullptr;
  kept.ready = kept.started && MainOf(pod)->Find("readinessProbe") == nullptr;
  kept.startup = kept.readiness = kept.liveness = {.next_at = loop_.Now()};
  SayPod(kept, "Running");
  host_.Start(*server_.state().Find("pods", kept.space, kept.name));
}

/// One probe, if it is due. Returns whether it was decided: `passed`, or failed often enough.
bool KubeCluster::Tick(const Json& container, const char* name, Probing& probing, Kept& kept,
                       bool& passed, std::int64_t failures_default) {
  const Json* probe = container.Find(name);
  if (probe == nullptr) {
    return false;
  }
  if (loop_.Now() < probing.next_at) {
    DueAt(probing.next_at);
    return false;
  }
  probing.next_at = loop_.Now() + std::chrono::seconds(Number(*probe, {"periodSeconds"}, 10));
  DueAt(probing.next_at);
  passed = host_.Passes(kept.name, *probe);
  probing.failures = passed ? 0 : probing.failures + 1;
  return passed || probing.failures >= Number(*probe, {"failureThreshold"}, failures_default);
}

void KubeCluster::Probe(const Json& container, Kept& kept) {
  const bool was_ready = kept.ready;
  const bool was_started = kept.started;
  bool passed = false;
  if (!kept.started) {
    if (Tick(container, "startupProbe", kept.startup, kept, passed, 3)) {
      kept.started = passed;
      if (!passed) {
        Restart(kept, true);
        return;
      }
      kept.ready = container.Find("readinessProbe") == nullptr;
    }
  }
  if (kept.started) {
    if (Tick(container, "readinessProbe", kept.readiness, kept, passed, 3)) {
      kept.ready = passed;
    }
    if (Tick(container, "livenessProbe", kept.liveness, kept, passed, 3) && !passed) {
      Restart(kept, true);
      return;
    }
  }
  if (kept.ready != was_ready || kept.started != was_started) {
    SayPod(kept, "Running");
  }
}

/// The container ended, or is ended for what its probes say.
void KubeCluster::Restart(Kept& kept, bool killed) {
  if (killed) {
    host_.Kill(kept.name);
  }
  const std::int64_t factor =
      kept.restarts == 0 ? 0
                         : std::min<std::int64_t>(
                               kCrashBackoffFactorMax,
                               std::int64_t{1} << std::min<std::uint32_t>(kept.restarts - 1, 8));
  ++kept.restarts;
  kept.phase = Phase::kBackingOff;
  kept.at = loop_.Now() + options_.crash_backoff * factor;
  kept.ready = false;
  kept.started = false;
  SayPod(kept, "Running");
  DueAt(kept.at);
}

void KubeCluster::End(const Json& pod, Kept& kept) {
  if (kept.phase != Phase::kEnding) {
    const bool runs = kept.phase == Phase::kRunning && host_.Runs(kept.name);
    const std::int64_t pause =
        Number(*MainOf(pod), {"lifecycle", "preStop", "sleep", "seconds"}, 0);
    kept.phase = Phase::kEnding;
    kept.at = loop_.Now() + std::chrono::seconds(runs ? pause : 0);
    kept.kill_at = loop_.Now() + std::chrono::seconds(
                                     Number(pod, {"metadata", "deletionGracePeriodSeconds"}, 30));
  }
  bool runs = host_.Runs(kept.name);
  if (runs && loop_.Now() >= kept.kill_at) {
    host_.Kill(kept.name);
    runs = false;
  } else if (runs && loop_.Now() >= kept.at && !kept.told_to_end) {
    kept.told_to_end = true;
    host_.Stop(kept.name);
    runs = host_.Runs(kept.name);
  }
  if (!runs) {
    host_.Forget(kept.name);
    Ask("DELETE", fmt::format("/api/v1/namespaces/{}/pods/{}", kept.space, kept.name),
        Object({{"gracePeriodSeconds", 0}}));
    return;
  }
  DueAt(kept.told_to_end ? kept.kill_at : std::min(kept.at, kept.kill_at));
}

void KubeCluster::KeepPod(const Json& pod, Kept& kept) {
  if (IsEnding(pod)) {
    End(pod, kept);
    return;
  }
  const bool waits = kept.phase == Phase::kWaiting || kept.phase == Phase::kBackingOff;
  if (waits && loop_.Now() < kept.at) {
    DueAt(kept.at);
    return;
  }
  if (waits) {
    Begin(pod, kept);
  }
  if (!host_.Runs(kept.name)) {
    Restart(kept, false);
    return;
  }
  Probe(*MainOf(pod), kept);
}

}  // namespace pixii::kube
