#include "sim/operator_sim.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "control/kube_compare.h"
#include "control/operator.h"
#include "rt/sim_world.h"
#include "sim/kube_api_server.h"
#include "sim/kube_cluster.h"
#include "sim/kube_objects_check.h"
#include "sim/sim_pods.h"

namespace pixii::sim {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using wire::Json;

constexpr const char* kSpace = "prod";
constexpr const char* kGraph = "llama";
constexpr std::uint16_t kPort = 8001;
constexpr rt::Duration kConvergeMax = minutes(20);
constexpr rt::Duration kQuietTime = seconds(90);     // longer than a resync
constexpr rt::Duration kDeathExplains = minutes(2);  // failures after it
constexpr std::size_t kViolationsMax = 10;

Json Object(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Json out{Json::Object{}};
  for (const auto& [name, value] : members) {
    out.Set(name, value);
  }
  return out;
}

std::int64_t Number(const Json& object, std::initializer_list<std::string_view> path) {
  const Json* found = kube::At(object, path);
  return found == nullptr ? -1 : found->AsInt().value_or(-1);
}

bool IsReady(const Json& pod) {
  const Json* conditions = kube::At(pod, {"status", "conditions"});
  return conditions != nullptr && kube::Text(conditions->array().front(), {"status"}) == "True" &&
         kube::At(pod, {"metadata", "deletionTimestamp"}) == nullptr;
}

// What the user wants, as he would write it.
struct Wish {
  struct Part {
    std::string name;
    std::string type;
    std::int64_t replicas = 1;
    std::string version = "1";
    std::string fault;  // pods of this template crash or hang
  };

  std::vector<Part> parts;
  std::string restart;
  bool parallel = false;
  std::string common = "1";  // of spec.env

  Json ToJson() const {
    Json::Array components;
    for (const Part& part : parts) {
      Json::Array env = {Object({{"name", "VERSION"}, {"value", part.version}})};
      if (!part.fault.empty()) {
        env.push_back(Object({{"name", "FAULT"}, {"value", part.fault}}));
      }
      const Json main = Object(
          {{"name", "main"},
           {"image", "pixii:1"},
           {"env", std::move(env)},
           {"resources", Object({{"limits", Object({{"cpu", "2000m"}, {"memory", "1Gi"}})}})}});
      components.push_back(Object(
          {{"name", part.name},
           {"type", part.type},
           {"replicas", part.replicas},
           {"podTemplate", Object({{"spec", Object({{"containers", Json::Array{main}}})}})}}));
    }
    Json spec = Object({{"components", std::move(components)},
                        {"env", Json::Array{Object({{"name", "COMMON"}, {"value", common}})}}});
    if (!restart.empty()) {
      spec.Set("restart",
               Object({{"id", restart},
                       {"strategy", Object({{"type", parallel ? "Parallel" : "Sequential"}})}}));
    }
    return spec;
  }
};

class Run final {
 public:
  Run(std::uint64_t seed, const OperatorSimOptions& options)
      : options_(options), random_(seed), world_(rt::SimOptions{.seed = seed}) {
    result_.seed = seed;
    result_.rolling = seed % 2 == 0;
  }

  ~Run() {
    for (const std::unique_ptr<Process>& process : processes_) {
      process->node.Kill();
    }
  }

  OperatorSimResult Go() {
    server_.AddResource({.group_version = "nvidia.com/v1beta1",
                         .plural = "dynamographdeployments",
                         .kind = "DynamoGraphDeployment",
                         .has_status = true});
    PX_ASSERT(server_.Start().has_value());
    pods_.OnEnd([this] { cluster_.Kick(); });
    pods_.OnFailure([this](const std::string& why) { OnFailure(why); });
    cluster_.OnRound([this] { OnRound(); });
    cluster_.Start();
    StartOperator();
    if (random_.Chance(0.3)) {
      StartOperator();
    }
    DrawWish();
    Apply();
    if (Converge("the first graph")) {
      RunFor(seconds(3));  // proxies have heard of it
      pods_.BeginRequests(2);
      Script();
      Settle();
      DeleteAll();
    }
    result_.requests = pods_.requests();
    result_.pods = pods_.started();
    result_.virtual_seconds = std::chrono::duration<double>(world_.now() - rt::Time{}).count();
    result_.events = world_.event_count();
    result_.state_hash = world_.state_hash();
    for (const std::unique_ptr<Process>& process : processes_) {
      result_.writes += process->op->writes();
    }
    return std::move(result_);
  }

 private:
  struct Process {
    rt::SimNode& node;
    std::unique_ptr<control::Operator> op;
  };

  // ---- telling

  void Tell(const std::string& line) {
    if (options_.on_story) {
      options_.on_story(fmt::format(
          "{:9.3f} {}", std::chrono::duration<double>(world_.now() - rt::Time{}).count(), line));
    }
  }

  void Violate(const std::string& what) {
    Tell("VIOLATION " + what);
    if (result_.violations.size() < kViolationsMax) {
      result_.violations.push_back(what);
    }
  }

  void Fault(const std::string& name, const std::string& more = "") {
    ++result_.faults[name];
    Tell(fmt::format("fault {} {}", name, more));
  }

  // ---- operators

  void StartOperator() {
    rt::SimNode& node = world_.AddNode(fmt::format("operator-{}", ++operators_));
    node.SetClock(0.99 + 0.02 * random_.Unit(), seconds(random_.Between(0, 7200)));
    control::OperatorOptions options{
        .access = {.server = {.host = "kube", .port = kPort}, .space = kSpace, .token_file = {}},
        .rules = options_.rules,
        .election = {.identity = node.host()}};
    const std::string host = node.host();
    processes_.push_back(std::make_unique<Process>(
        Process{.node = node,
                .op = std::make_unique<control::Operator>(
                    node.loop(), node.net(), options,
                    [this, host](const std::string& line) { Tell(host + " " + line); })}));
    processes_.back()->op->Start();
  }

  void KillOperator() {
    if (processes_.empty()) {
      return;
    }
    const std::size_t which = random_.Below(processes_.size());
    Process& process = *processes_[which];
    result_.writes += process.op->writes();
    process.node.Kill();
    processes_.erase(processes_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  // ---- the user

  kube::Reply Ask(const std::string& method, const std::string& path, const std::string& body) {
    return server_.Handle({.method = method,
                           .path = path,
                           .query = "",
                           .accept = "",
                           .content_type = "application/merge-patch+json",
                           .body = body});
  }

  static std::string Graphs() {
    return fmt::format("/apis/nvidia.com/v1beta1/namespaces/{}/dynamographdeployments", kSpace);
  }

  static std::string GraphPath() { return fmt::format("{}/{}", Graphs(), kGraph); }

  void Apply() {
    ++result_.edits;
    changed_at_ = world_.now();
    const Json* there = server_.state().Find("dynamographdeployments", kSpace, kGraph);
    Json object = there != nullptr ? *there
                                   : Object({{"apiVersion", "nvidia.com/v1beta1"},
                                             {"kind", "DynamoGraphDeployment"},
                                             {"metadata", Object({{"name", kGraph}})}});
    object.Set("spec", wish_.ToJson());
    std::string said;
    for (const Wish::Part& part : wish_.parts) {
      said += fmt::format(" {}={}x v{}{}{}", part.name, part.replicas, part.version,
                          part.fault.empty() ? "" : " ", part.fault);
    }
    Tell("graph" + said + " restart=" + wish_.restart + " env=" + wish_.common);
    const kube::Reply reply = there != nullptr ? Ask("PUT", GraphPath(), object.Dump())
                                               : Ask("POST", Graphs(), object.Dump());
    if (reply.status >= 300) {
      Violate("the graph was refused: " + reply.body.Dump());
    }
  }

  void DrawWish() {
    const auto count = [&] { return random_.Between(1, 3); };
    wish_.parts.push_back(
        {.name = "Frontend", .type = "frontend", .replicas = count(), .fault = {}});
    if (random_.Chance(0.5)) {
      wish_.parts.push_back(
          {.name = "Prefill", .type = "prefill", .replicas = count(), .fault = {}});
      wish_.parts.push_back({.name = "Decode", .type = "decode", .replicas = count(), .fault = {}});
    } else {
      wish_.parts.push_back({.name = "Worker", .type = "worker", .replicas = count(), .fault = {}});
    }
    if (random_.Chance(0.3)) {
      wish_.parts.push_back({.name = "Router", .type = "router", .replicas = 1, .fault = {}});
    }
  }

  void Edit() {
    Wish::Part& part = wish_.parts[random_.Below(wish_.parts.size())];
    switch (random_.Below(8)) {
      case 0:
      case 1:
        part.version = fmt::format("{}", ++versions_);
        part.fault.clear();
        break;
      case 2:
        part.version = fmt::format("{}", ++versions_);
        part.fault = random_.Chance(0.5) ? "crash" : "hang";
        break;
      case 3:
      case 4:
        part.replicas = random_.Between(1, 4);
        break;
      case 5:
        wish_.restart = fmt::format("r{}", ++versions_);
        wish_.parallel = random_.Chance(0.4);
        break;
      case 6:
        wish_.common = fmt::format("{}", ++versions_);  // all are updated
        break;
      default:
        if (control::IsWorkerType(part.type)) {
          part.name = fmt::format("{}{}", part.type, ++versions_);  // one goes, one comes
          part.fault.clear();
        }
    }
    Apply();
  }

  // ---- faults

  void ApiFault() {
    static constexpr std::array<std::string_view, 4> kVerbs = {"create", "update", "list", "get"};
    const std::string verb(kVerbs[random_.Below(kVerbs.size())]);
    const int count = static_cast<int>(random_.Between(1, 4));
    switch (random_.Below(9)) {
      case 0:
        Fault("conflict", verb);
        server_.Inject({.verb = random_.Chance(0.7) ? "update" : "create",
                        .status = 409,
                        .reason = "Conflict",
                        .count = count});
        break;
      case 1:
        Fault("refusal", verb);
        server_.Inject({.verb = verb,
                        .status = random_.Chance(0.5) ? 500 : 429,
                        .reason = "InternalError",
                        .retry_after_s = static_cast<int>(random_.Below(3)),
                        .count = count});
        break;
      case 2:
        Fault("lost answer", verb);
        server_.Inject({.verb = verb, .status = 504, .also_done = true, .count = count});
        break;
      case 3:
        Fault("watch broken");
        server_.EndWatches(kube::WatchEnd::kBroken);
        break;
      case 4:
        Fault("watch expired");
        server_.EndWatches(kube::WatchEnd::kExpired);
        break;
      case 5:
        Fault("history forgotten");
        server_.Compact();
        server_.EndWatches(kube::WatchEnd::kClean);
        break;
      case 6:
        Fault("watch frozen");
        server_.FreezeWatches();
        break;
      case 7:
        Fault("server away");
        server_.Stop();
        RunFor(milliseconds(random_.Between(500, 40'000)));
        PX_ASSERT(server_.Start().has_value());
        break;
      default:
        Fault("server hangs");
        server_.Hang(true);
        RunFor(milliseconds(random_.Between(500, 20'000)));
        server_.Hang(false);
    }
  }

  void OperatorFault() {
    switch (random_.Below(3)) {
      case 0:
        Fault("operator killed");
        KillOperator();
        RunFor(milliseconds(random_.Between(0, 5'000)));
        StartOperator();
        break;
      case 1:
        Fault("operator frozen");
        if (!processes_.empty()) {
          processes_[random_.Below(processes_.size())]->node.Freeze(
              world_.now() + milliseconds(random_.Between(500, 40'000)));
        }
        break;
      default:
        if (processes_.size() < 3) {
          Fault("another operator");
          StartOperator();
        }
    }
  }

  void Death() {
    const std::vector<std::string> running = pods_.Running();
    if (running.empty()) {
      return;
    }
    died_at_ = world_.now();
    const std::string pod = running[random_.Below(running.size())];
    if (random_.Chance(0.5)) {
      Fault("container killed", pod);
      pods_.Kill(pod);
    } else if (random_.Chance(0.5)) {
      Fault("pod deleted", pod);
      Ask("DELETE", fmt::format("/api/v1/namespaces/{}/pods/{}", kSpace, pod), "");
    } else {
      Fault("object spoilt", pod);
      const std::vector<Json> deployments = server_.state().Objects("deployments");
      if (!deployments.empty()) {
        const Json& one = deployments[random_.Below(deployments.size())];
        const std::string path = fmt::format("/apis/apps/v1/namespaces/{}/deployments/{}", kSpace,
                                             kube::Text(one, {"metadata", "name"}));
        if (random_.Chance(0.5)) {
          Ask("DELETE", path, "");
        } else {
          Ask("PATCH", path, R"({"spec":{"replicas":0}})");
        }
      }
    }
    changed_at_ = world_.now();
  }

  // ---- the run

  void RunFor(rt::Duration time) { world_.RunTo(world_.now() + time); }

  void Script() {
    const std::int64_t steps = random_.Between(4, 12);
    for (std::int64_t i = 0; i < steps; ++i) {
      const double drawn = random_.Unit();
      if (drawn < 0.5) {
        Edit();
      } else if (drawn < 0.75) {
        ApiFault();
      } else if (drawn < 0.9 || result_.rolling) {
        OperatorFault();
      } else {
        Death();
      }
      const bool soon = random_.Chance(0.5);
      RunFor(milliseconds(random_.Between(20, soon ? 3'000 : 60'000)));
    }
  }

  void Settle() {
    for (Wish::Part& part : wish_.parts) {
      part.fault.clear();
    }
    Apply();
    Converge("the last graph");
    const std::uint64_t before = Writes();
    RunFor(kQuietTime);
    if (Writes() != before) {
      Violate(fmt::format("{} writes though all was as the graph says", Writes() - before));
    }
    pods_.EndRequests();
    RunFor(seconds(60));
    if (pods_.running_requests() > 0) {
      Violate(fmt::format("{} requests never ended", pods_.running_requests()));
    }
  }

  std::uint64_t Writes() const {
    std::uint64_t writes = 0;
    for (const std::unique_ptr<Process>& process : processes_) {
      writes += process->op->writes();
    }
    return writes;
  }

  void DeleteAll() {
    deleting_ = true;
    Tell("graph deleted");
    Ask("DELETE", GraphPath(), "");
    const auto left = [&] {
      std::size_t objects = 0;
      for (const char* plural :
           {"dynamographdeployments", "deployments", "services", "replicasets", "pods"}) {
        objects += server_.state().Objects(plural).size();
      }
      return objects;
    };
    world_.RunUntil([&] { return left() == 0; }, world_.now() + minutes(5));
    if (left() != 0 || !pods_.Running().empty()) {
      Violate(fmt::format("{} objects and {} containers are left of a deleted graph", left(),
                          pods_.Running().size()));
    }
  }

  bool Converge(const std::string& what) {
    const rt::Time limit = world_.now() + kConvergeMax;
    std::string missing;
    rt::Time look_at{};
    world_.RunUntil(
        [&] {
          if (world_.now() < look_at) {
            return false;
          }
          look_at = world_.now() + milliseconds(200);
          missing = Missing();
          return missing.empty();
        },
        limit);
    if (!missing.empty()) {
      Violate(fmt::format("{} is not reached: {}", what, missing));
      return false;
    }
    const double took = std::chrono::duration<double>(world_.now() - changed_at_).count();
    result_.converged_seconds_max = std::max(result_.converged_seconds_max, took);
    Tell(fmt::format("converged, {:.1f} s after the last change", took));
    return true;
  }

  /// Why it is not as the user wants; empty: it is.
  std::string Missing() const {
    const kube::ApiState& state = server_.state();
    const Json* graph = state.Find("dynamographdeployments", kSpace, kGraph);
    if (graph == nullptr) {
      return "there is no graph";
    }
    if (kube::Text(*graph, {"status", "state"}) != "successful" ||
        Number(*graph, {"status", "observedGeneration"}) !=
            Number(*graph, {"metadata", "generation"})) {
      return "the status is " + (graph->Find("status") == nullptr ? std::string("none")
                                                                  : graph->Find("status")->Dump());
    }
    const std::vector<Json> deployments = state.Objects("deployments");
    std::map<std::string, std::int64_t> pods;
    for (const Json& pod : state.Objects("pods")) {
      const std::string part = kube::Text(pod, {"metadata", "labels", control::kPartLabel});
      const auto wished = std::ranges::find(wish_.parts, part, &Wish::Part::name);
      if (wished == wish_.parts.end() || !IsReady(pod)) {
        return "pod " + kube::Text(pod, {"metadata", "name"});
      }
      const std::string text = pod.Dump();
      if (text.find(fmt::format(R"("name":"VERSION","value":"{}")", wished->version)) ==
          std::string::npos) {
        return "an old pod " + kube::Text(pod, {"metadata", "name"});
      }
      if (!wish_.restart.empty() &&
          kube::Text(pod, {"metadata", "annotations", control::kRestartNote}) != wish_.restart) {
        return "a pod that was not restarted, " + kube::Text(pod, {"metadata", "name"});
      }
      ++pods[part];
    }
    std::size_t services = 0;
    for (const Wish::Part& part : wish_.parts) {
      services += part.type == "frontend" || part.type == "router" ? 1 : 0;
      if (pods[part.name] != part.replicas) {
        return fmt::format("{} has {} pods", part.name, pods[part.name]);
      }
    }
    if (deployments.size() != wish_.parts.size() || state.Objects("services").size() != services) {
      return fmt::format("{} deployments, {} services", deployments.size(),
                         state.Objects("services").size());
    }
    return "";
  }

  // ---- judging

  /// From a death on until, a while later, all is as the graph says: what died may be all that
  /// served of a component whose newest template does not.
  bool DeathExplains() const { return died_at_.has_value(); }

  void OnFailure(const std::string& why) {
    ++result_.failed;
    if (!DeathExplains() && !deleting_) {
      Violate(why);
    } else {
      Tell("failed: " + why);
    }
  }

  void OnRound() {
    pods_.LookAtEndpoints();
    if (died_at_ && world_.now() - *died_at_ >= kDeathExplains && Missing().empty()) {
      died_at_.reset();
    }
    std::map<std::string, std::int64_t> serving;
    server_.state().Each("pods", [&](const Json& pod) {
      if (IsReady(pod)) {
        ++serving[kube::Text(pod, {"metadata", "labels", control::kPartLabel})];
      }
    });
    for (const Wish::Part& part : wish_.parts) {
      std::int64_t& floor = floors_[part.name];
      floor = serving[part.name] >= part.replicas ? part.replicas : std::min(floor, part.replicas);
      if (serving[part.name] < floor && result_.rolling && !deleting_) {
        Violate(fmt::format("{} serves with {} pods of {}", part.name, serving[part.name], floor));
        floor = serving[part.name];
      }
    }
  }

  const OperatorSimOptions& options_;
  OperatorSimResult result_;
  rt::Random random_;
  rt::SimWorld world_;
  rt::SimNode& node_ = world_.AddNode("kube");
  kube::ApiServer server_{
      node_.loop(), node_.net(),
      kube::ServerOptions{.listen = {.host = "0.0.0.0", .port = kPort}, .tokens = {}, .rules = {}}};
  SimPods pods_{node_.loop(), server_};
  kube::KubeCluster cluster_{node_.loop(), server_, pods_, {}};
  std::vector<std::unique_ptr<Process>> processes_;
  std::uint64_t operators_ = 0;
  Wish wish_;
  std::uint64_t versions_ = 1;
  std::map<std::string, std::int64_t> floors_;  // pods that have served, by component
  rt::Time changed_at_{};
  std::optional<rt::Time> died_at_;
  bool deleting_ = false;
};

}  // namespace

OperatorSimResult RunOperatorSim(std::uint64_t seed, const OperatorSimOptions& options) {
  return Run(seed, options).Go();
}

}  // namespace pixii::sim
