#include "control/graph_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "control/kube_compare.h"

namespace pixii::control {

namespace {

using wire::Json;

std::int64_t NumberAt(const Json& object, std::initializer_list<std::string_view> path,
                      std::int64_t otherwise = 0) {
  const Json* found = FindAt(object, path);
  return found == nullptr ? otherwise : found->AsInt().value_or(otherwise);
}

/// Whether the graph, this very one, controls the object ("Owners and Dependents").
bool IsOwnedBy(const Json& object, const std::string& uid) {
  const Json* owners = FindAt(object, {"metadata", "ownerReferences"});
  return owners != nullptr && owners->is_array() &&
         std::ranges::any_of(owners->array(),
                             [&](const Json& owner) { return TextAt(owner, {"uid"}) == uid; });
}

const Json* ByName(const std::map<std::string, Json>& objects, const std::string& name) {
  const auto found = objects.find(name);
  return found == objects.end() ? nullptr : &found->second;
}

Json ConditionOf(const Json& status, std::string_view type) {
  const Json* conditions = status.Find("conditions");
  if (conditions != nullptr && conditions->is_array()) {
    for (const Json& one : conditions->array()) {
      if (TextAt(one, {"type"}) == type) {
        return one;
      }
    }
  }
  return Json::Object{};
}

struct Said {
  std::string_view type;
  bool holds = false;
  std::string reason;
  std::string message;
};

/// "API conventions": lastTransitionTime is when the status turned, not when it was last said.
Json MakeCondition(const Json& before, const Said& said, std::int64_t generation,
                   const std::string& now) {
  const std::string status = said.holds ? "True" : "False";
  const Json last = ConditionOf(before, said.type);
  const bool turned = TextAt(last, {"status"}) != status;
  Json out{Json::Object{}};
  out.Set("type", said.type);
  out.Set("status", status);
  out.Set("observedGeneration", generation);
  out.Set("lastTransitionTime", turned ? now : TextAt(last, {"lastTransitionTime"}));
  out.Set("reason", said.reason);
  out.Set("message", said.message);
  return out;
}

/// A part and what there is of it.
struct Part {
  const GraphPart* wish = nullptr;
  std::string name;             // of its objects
  const Json* there = nullptr;  // its Deployment; null: none
  bool foreign = false;         // it is somebody else's
  Json wanted;                  // the Deployment
  bool old_template = false;
  bool old_otherwise = false;  // replicas, strategy, labels
  bool restarts = false;       // the template differs by a restart
  Rollout rollout;

  bool is_complete() const {
    return there != nullptr && !foreign && !old_template && rollout.complete();
  }
};

class Planner final {
 public:
  Planner(const GraphSeen& seen, const GraphRuleOptions& options, rt::WallTime now)
      : seen_(seen), options_(options), now_(KubeTime(now)) {
    const Json* status = seen.graph->Find("status");
    before_ = status != nullptr && status->is_object() ? *status : Json(Json::Object{});
  }

  std::vector<KubeAction> Run() {
    Result<DeploymentGraph> graph = ReadDeploymentGraph(*seen_.graph);
    if (!graph) {
      SayInvalid(graph.error());
      return std::move(actions_);
    }
    graph_ = std::move(*graph);
    if (graph_.deleting) {
      return {};  // the garbage collector takes what it owned
    }
    Look();
    Update();
    for (const Part& part : parts_) {
      KeepService(part);
    }
    RemoveOthers();
    SayStatus();
    return std::move(actions_);
  }

 private:
  // ---- looking

  GraphObjectOptions ObjectOptions() const {
    GraphObjectOptions out = options_.objects;
    if (!options_.keeps_capacity) {
      out.max_unavailable = "1";
      out.max_surge = "0";
    }
    return out;
  }

  /// Parts in the order of updates; of a restart: in the order that it says.
  std::vector<std::size_t> OrderNow() const {
    std::vector<std::size_t> order = UpdateOrder(graph_);
    if (!graph_.restart || graph_.restart->order.empty() || !RestartIsDue()) {
      return order;
    }
    std::ranges::sort(order, {}, [&](std::size_t i) {
      return std::ranges::find(graph_.restart->order, graph_.parts[i].name) -
             graph_.restart->order.begin();
    });
    return order;
  }

  bool RestartIsDue() const {
    return graph_.restart && (TextAt(before_, {"restart", "observedID"}) != graph_.restart->id ||
                              TextAt(before_, {"restart", "phase"}) != "Completed");
  }

  void Look() {
    for (const std::size_t i : OrderNow()) {
      Part part;
      part.wish = &graph_.parts[i];
      part.name = PartObjectName(graph_, *part.wish);
      part.there = ByName(*seen_.deployments, part.name);
      part.foreign = part.there != nullptr && !IsOwnedBy(*part.there, graph_.uid);
      // A restart that was taken back stays as it is: ids are never unsaid.
      const std::string had =
          part.there == nullptr
              ? ""
              : TextAt(*part.there, {"spec", "template", "metadata", "annotations", kRestartNote});
      const std::string id = graph_.restart ? graph_.restart->id : had;
      part.wanted = MakeDeployment(graph_, *part.wish, ObjectOptions(), id);
      if (part.there != nullptr && !part.foreign) {
        Compare(part, had != id);
      }
      parts_.push_back(std::move(part));
    }
  }

  static void Compare(Part& part, bool restarts) {
    const Json& there = *part.there;
    const std::string digest = TextAt(part.wanted, {"metadata", "annotations", kTemplateNote});
    part.old_template =
        TextAt(there, {"metadata", "annotations", kTemplateNote}) != digest ||
        !Covers(*FindAt(there, {"spec", "template"}), *FindAt(part.wanted, {"spec", "template"}));
    part.restarts = restarts && part.old_template;
    Json rest = part.wanted;
    Json spec = *rest.Find("spec");
    spec.Set("template", Json());
    rest.Set("spec", std::move(spec));
    Json notes = *FindAt(rest, {"metadata", "annotations"});
    notes.Set(kTemplateNote, Json());
    Json metadata = *rest.Find("metadata");
    metadata.Set("annotations", std::move(notes));
    rest.Set("metadata", std::move(metadata));
    part.old_otherwise = !CoversButNull(there, rest);
    part.rollout = RolloutOf(there);
  }

  /// Fields that are null in `wanted` are not looked at.
  static bool CoversButNull(const Json& there, const Json& wanted) {
    Json known = Json::Object{};
    for (const auto& [name, value] : wanted.object()) {
      const Json* found = there.Find(name);
      if (value.is_null()) {
        continue;
      }
      if (value.is_object() && found != nullptr && found->is_object()) {
        if (!CoversButNull(*found, value)) {
          return false;
        }
        continue;
      }
      known.Set(name, value);
    }
    return Covers(there, known);
  }

  // ---- Deployments

  void Update() {
    bool may_begin = true;
    for (Part& part : parts_) {
      if (part.foreign) {
        continue;
      }
      if (part.there == nullptr) {
        Create(KubeKind::kDeployment, part.name, part.wanted, "made");
        continue;
      }
      const bool at_once = graph_.restart && graph_.restart->parallel && part.restarts;
      const bool begins =
          part.old_template && (may_begin || at_once || !options_.one_after_another);
      if (begins) {
        Replace(part, part.wanted, part.restarts ? "restarted" : "updated");
      } else if (part.old_otherwise) {
        Json object = part.wanted;  // as it runs now, how many shall
        Json spec = *object.Find("spec");
        spec.Set("template", *FindAt(*part.there, {"spec", "template"}));
        object.Set("spec", std::move(spec));
        Json metadata = *object.Find("metadata");
        Json notes = *metadata.Find("annotations");
        notes.Set(kTemplateNote, TextAt(*part.there, {"metadata", "annotations", kTemplateNote}));
        metadata.Set("annotations", std::move(notes));
        object.Set("metadata", std::move(metadata));
        Replace(part, object, fmt::format("set to {} replicas", part.wish->replicas));
      }
      may_begin =
          may_begin && !part.old_template && !part.old_otherwise && !part.rollout.holds_others();
    }
  }

  /// PUT with the version that was seen: whoever wrote meanwhile wins, and we look again. Labels
  /// and annotations of others stay.
  void Replace(const Part& part, const Json& wanted, std::string why) {
    Json object = *part.there;
    object.Set("apiVersion", *wanted.Find("apiVersion"));
    object.Set("kind", *wanted.Find("kind"));
    object.Set("metadata", Overlay(*part.there->Find("metadata"), *wanted.Find("metadata")));
    object.Set("spec", *wanted.Find("spec"));
    actions_.push_back({.verb = KubeAction::Verb::kReplace,
                        .kind = KubeKind::kDeployment,
                        .name = part.name,
                        .object = std::move(object),
                        .why = std::move(why)});
  }

  void Create(KubeKind kind, const std::string& name, Json object, std::string why) {
    actions_.push_back({.verb = KubeAction::Verb::kCreate,
                        .kind = kind,
                        .name = name,
                        .object = std::move(object),
                        .why = std::move(why)});
  }

  // ---- Services

  void KeepService(const Part& part) {
    const std::optional<Json> wanted = MakeService(graph_, *part.wish);
    if (!wanted) {
      return;
    }
    services_.insert(part.name);
    const Json* there = ByName(*seen_.services, part.name);
    if (there == nullptr) {
      Create(KubeKind::kService, part.name, *wanted, "made");
    } else if (IsOwnedBy(*there, graph_.uid) && !Covers(*there, *wanted)) {
      // clusterIP and what else the server gave it stay ("Service", immutable fields).
      actions_.push_back({.verb = KubeAction::Verb::kReplace,
                          .kind = KubeKind::kService,
                          .name = part.name,
                          .object = Overlay(*there, *wanted),
                          .why = "updated"});
    }
  }

  // ---- what left the graph

  void RemoveOthers() {
    const bool all_serve =
        std::ranges::all_of(parts_, [](const Part& part) { return part.is_complete(); });
    const auto remove = [&](KubeKind kind, const std::map<std::string, Json>& objects,
                            const std::set<std::string>& kept) {
      for (const auto& [name, object] : objects) {
        if (!kept.contains(name) && IsOwnedBy(object, graph_.uid)) {
          actions_.push_back({.verb = KubeAction::Verb::kDelete,
                              .kind = kind,
                              .name = name,
                              .version = {.uid = VersionOf(object).uid},
                              .why = "removed"});
        }
      }
    };
    std::set<std::string> names;
    for (const Part& part : parts_) {
      names.insert(part.name);
    }
    if (all_serve || !options_.old_waits_for_new) {
      remove(KubeKind::kDeployment, *seen_.deployments, names);
      remove(KubeKind::kService, *seen_.services, services_);
    }
  }

  // ---- status

  void SayInvalid(const Error& error) {
    const std::int64_t generation = NumberAt(*seen_.graph, {"metadata", "generation"});
    Json status = before_;  // what runs stays, and stays known
    status.Set("observedGeneration", generation);
    status.Set("state", "failed");
    const Json available = ConditionOf(before_, "Available");
    Json::Array conditions;
    if (!available.object().empty()) {
      conditions.push_back(available);
    }
    conditions.push_back(MakeCondition(
        before_,
        {.type = "DynamoComponentReady", .reason = "InvalidSpec", .message = error.detail()},
        generation, now_));
    status.Set("conditions", std::move(conditions));
    WriteStatus(std::move(status), "refused: " + error.detail());
  }

  std::vector<std::string> Refusals() const {
    std::vector<std::string> out;
    for (const Part& part : parts_) {
      for (const KubeKind kind : {KubeKind::kDeployment, KubeKind::kService}) {
        const auto found = seen_.refused.find(RefusalKey(kind, part.name));
        if (found != seen_.refused.end()) {
          out.push_back(fmt::format("{} {}: {}", PlaceOf(kind).kind, part.name, found->second));
        }
      }
      if (part.foreign) {
        out.push_back(fmt::format("Deployment {} is not this graph's", part.name));
      }
    }
    return out;
  }

  Json PartStatus(const Part& part) const {
    Json out{Json::Object{}};
    out.Set("componentKind", "Deployment");
    out.Set("componentName", part.name);
    out.Set("replicas", part.rollout.total);
    out.Set("updatedReplicas", part.old_template ? 0 : part.rollout.updated);
    out.Set("readyReplicas", part.rollout.ready);
    out.Set("availableReplicas", part.rollout.available);
    return out;
  }

  void SayStatus() {
    const std::vector<std::string> refusals = Refusals();
    std::vector<std::string> absent;   // without a pod that serves
    std::vector<std::string> waiting;  // not complete
    bool failed = !refusals.empty();
    Json components{Json::Object{}};
    Json::Array updated;
    for (const Part& part : parts_) {
      const std::string& name = part.wish->name;
      components.Set(name, PartStatus(part));
      if (part.wish->replicas > 0 && part.rollout.available == 0) {
        absent.push_back(name);
      }
      if (part.is_complete()) {
        updated.emplace_back(name);
      } else {
        waiting.push_back(name);
      }
      failed = failed || (part.rollout.failed && !part.old_template);
    }
    Json status{Json::Object{}};
    status.Set("observedGeneration", graph_.generation);
    status.Set("state", failed ? "failed" : waiting.empty() ? "successful" : "pending");
    status.Set(
        "conditions",
        Json::Array{
            MakeCondition(before_,
                          {.type = "Available",
                           .holds = absent.empty(),
                           .reason = absent.empty() ? "AllComponentsServe" : "ComponentsAbsent",
                           .message = absent.empty() ? "every component has a pod that serves"
                                                     : fmt::format("no pod serves of {}",
                                                                   fmt::join(absent, ", "))},
                          graph_.generation, now_),
            MakeCondition(
                before_,
                {.type = "DynamoComponentReady",
                 .holds = waiting.empty() && refusals.empty(),
                 .reason = !refusals.empty()  ? "Refused"
                           : !waiting.empty() ? (failed ? "DeadlineExceeded" : "Progressing")
                                              : "AllComponentsReady",
                 .message = !refusals.empty() ? fmt::format("{}", fmt::join(refusals, "; "))
                            : !waiting.empty()
                                ? fmt::format("not complete: {}", fmt::join(waiting, ", "))
                                : "all pods are as the graph says, and serve"},
                graph_.generation, now_)});
    status.Set("components", std::move(components));
    if (Json rolling = RollingStatus(waiting, std::move(updated)); !rolling.object().empty()) {
      status.Set("rollingUpdate", std::move(rolling));
    }
    if (Json restart = RestartStatus(); !restart.object().empty()) {
      status.Set("restart", std::move(restart));
    }
    WriteStatus(std::move(status), waiting.empty() ? "all is as the graph says" : "");
  }

  /// From the first part whose pods are replaced to the last.
  Json RollingStatus(const std::vector<std::string>& waiting, Json::Array updated) const {
    const Json* last = before_.Find("rollingUpdate");
    Json out = last != nullptr && last->is_object() ? *last : Json(Json::Object{});
    const std::string phase = TextAt(out, {"phase"});
    const bool runs = phase == "Pending" || phase == "InProgress";
    const bool begins = std::ranges::any_of(
        parts_, [](const Part& part) { return part.there != nullptr && part.old_template; });
    if (!runs && !begins) {
      return out;
    }
    if (!runs) {
      out = Json::Object{};
      out.Set("startTime", now_);
    }
    const bool over = waiting.empty();
    out.Set("phase", over ? "Completed" : runs ? "InProgress" : "Pending");
    out.Set("updatedComponents", std::move(updated));
    if (over) {
      out.Set("endTime", now_);
    }
    return out;
  }

  Json RestartStatus() const {
    const Json* last = before_.Find("restart");
    Json out = last != nullptr && last->is_object() ? *last : Json(Json::Object{});
    if (!graph_.restart) {
      return out;
    }
    Json::Array moving;
    for (const Part& part : parts_) {
      if (!part.is_complete()) {
        moving.emplace_back(part.wish->name);
      }
    }
    if (TextAt(out, {"observedID"}) == graph_.restart->id &&
        TextAt(out, {"phase"}) == "Completed") {
      return out;
    }
    out = Json::Object{};
    out.Set("observedID", graph_.restart->id);
    out.Set("phase", moving.empty() ? "Completed" : "Restarting");
    if (!moving.empty()) {
      out.Set("inProgress", std::move(moving));
    }
    return out;
  }

  void WriteStatus(Json status, std::string why) {
    if (KubeDigest(status) == KubeDigest(before_)) {
      return;
    }
    const bool same_state = TextAt(status, {"state"}) == TextAt(before_, {"state"});
    const KubePlace place = PlaceOf(KubeKind::kGraph);
    Json object = *seen_.graph;
    object.Set("apiVersion", place.api_version);
    object.Set("kind", place.kind);
    object.Set("status", std::move(status));
    actions_.push_back({.verb = KubeAction::Verb::kReplaceStatus,
                        .kind = KubeKind::kGraph,
                        .name = TextAt(*seen_.graph, {"metadata", "name"}),
                        .object = std::move(object),
                        .why = same_state ? "" : std::move(why)});
  }

  const GraphSeen& seen_;
  const GraphRuleOptions& options_;
  std::string now_;
  Json before_;
  DeploymentGraph graph_;
  std::vector<Part> parts_;  // in the order of updates
  std::set<std::string> services_;
  std::vector<KubeAction> actions_;
};

}  // namespace

std::string RefusalKey(KubeKind kind, std::string_view name) {
  return fmt::format("{}/{}", PlaceOf(kind).plural, name);
}

std::string KubeTime(rt::WallTime time) { return KubeMicroTime(time).substr(0, 19) + "Z"; }

Rollout RolloutOf(const Json& deployment) {
  Rollout out{.observed = NumberAt(deployment, {"status", "observedGeneration"}, -1) >=
                          NumberAt(deployment, {"metadata", "generation"}),
              .replicas = NumberAt(deployment, {"spec", "replicas"}, 1),
              .total = NumberAt(deployment, {"status", "replicas"}),
              .updated = NumberAt(deployment, {"status", "updatedReplicas"}),
              .ready = NumberAt(deployment, {"status", "readyReplicas"}),
              .available = NumberAt(deployment, {"status", "availableReplicas"})};
  const Json* status = deployment.Find("status");
  const Json progressing = ConditionOf(status == nullptr ? Json() : *status, "Progressing");
  out.failed = out.observed && TextAt(progressing, {"status"}) == "False";
  return out;
}

std::vector<KubeAction> PlanGraph(const GraphSeen& seen, const GraphRuleOptions& options,
                                  rt::WallTime now) {
  return Planner(seen, options, now).Run();
}

}  // namespace pixii::control
