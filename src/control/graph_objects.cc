#include "control/graph_objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <utility>
#include <vector>

#include "control/kube_compare.h"
#include "control/kube_objects.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::string_view kSurgeNote = "nvidia.com/deployment-rolling-update-max-surge";
constexpr std::string_view kUnavailableNote =
    "nvidia.com/deployment-rolling-update-max-unavailable";
constexpr std::string_view kScratchFolder = "/var/lib/pixii";  // all that a pod writes but /tmp
constexpr std::int64_t kStartSecondsMax = 3600;                // a model's loading
constexpr std::int64_t kStartPeriod = 5;
constexpr std::int64_t kReadyPeriod = 3;
constexpr std::int64_t kLivePeriod = 10;
constexpr std::int64_t kLiveFailures = 6;

Json Members(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Json out{Json::Object{}};
  for (const auto& [name, value] : members) {
    out.Set(name, value);
  }
  return out;
}

// What a type of part is: the command that it runs, and where it answers.
struct PartKind {
  std::string_view type;
  std::string_view command;    // of this program; also in names of its variables
  std::string_view role = {};  // of a worker
  std::int64_t port = 0;       // of the Service; 0: it has none
  std::string_view port_name = {};
  std::int64_t probe_port = 0;  // 0: no probes are known
  std::string_view ready_path = "/health";
};

constexpr std::array<PartKind, 8> kPartKinds = {{
    {.type = "frontend",
     .command = "frontend",
     .port = kFrontendPort,
     .port_name = "http",
     .probe_port = kFrontendPort},
    {.type = "router",
     .command = "router",
     .port = kRouterPort,
     .port_name = "http",
     .probe_port = kRouterPort,
     .ready_path = "/ready"},
    {.type = "worker", .command = "worker", .probe_port = kSystemPort},
    {.type = "prefill", .command = "worker", .role = "prefill", .probe_port = kSystemPort},
    {.type = "decode", .command = "worker", .role = "decode", .probe_port = kSystemPort},
    {.type = "encode", .command = "worker", .role = "encode", .probe_port = kSystemPort},
    {.type = "planner", .command = "planner"},
    {.type = "epp", .command = "epp", .port = kEppPort, .port_name = "grpc"},
}};

const PartKind* KindOf(const GraphPart& part) {
  const auto found = std::ranges::find(kPartKinds, part.type, &PartKind::type);
  return found == kPartKinds.end() ? nullptr : &*found;
}

Json Variable(std::string_view name, std::string value) {
  return Members({{"name", name}, {"value", std::move(value)}});
}

// "Expose Pod Information to Containers Through Environment Variables".
Json FieldVariable(std::string_view name, std::string_view path) {
  return Members(
      {{"name", name}, {"valueFrom", Members({{"fieldRef", Members({{"fieldPath", path}})}})}});
}

std::string UpperCase(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  }
  return out;
}

/// What every pod of the part is told, before what its user says.
Json::Array InjectedVariables(const DeploymentGraph& graph, const GraphPart& part) {
  Json::Array out = {Variable("DYN_NAMESPACE", DynamoNamespaceOf(graph, part)),
                     Variable("DYN_DISCOVERY_BACKEND", "kubernetes"),
                     Variable("DYN_PARENT_DGD_K8S_NAME", graph.name),
                     Variable("DYN_PARENT_DGD_K8S_NAMESPACE", graph.space),
                     Variable("DYN_COMPONENT", part.name),
                     FieldVariable("POD_NAME", "metadata.name"),
                     FieldVariable("POD_NAMESPACE", "metadata.namespace"),
                     FieldVariable("POD_UID", "metadata.uid"),
                     FieldVariable("POD_IP", "status.podIP")};
  const PartKind* kind = KindOf(part);
  if (kind == nullptr) {
    return out;
  }
  const std::string prefix = "PIXII_" + UpperCase(kind->command) + "_";
  out.push_back(Variable(prefix + "DISCOVERY", "kubernetes"));
  out.push_back(Variable("XDG_CACHE_HOME", std::string(kScratchFolder) + "/cache"));
  if (kind->type == "frontend") {
    out.push_back(Variable("DYN_HTTP_HOST", "0.0.0.0"));
    out.push_back(Variable("DYN_HTTP_PORT", std::to_string(kFrontendPort)));
    return out;
  }
  // The kubelet's probes and other pods come to the pod's own address.
  out.push_back(Variable("DYN_SYSTEM_PORT", std::to_string(kSystemPort)));
  out.push_back(FieldVariable("DYN_SYSTEM_HOST", "status.podIP"));
  if (kind->type == "router") {
    out.push_back(Variable(prefix + "HOST", "0.0.0.0"));
    out.push_back(FieldVariable(prefix + "ROUTE_HOST", "status.podIP"));
  } else if (IsWorkerType(kind->type)) {
    out.push_back(FieldVariable(prefix + "WORKER_HOST", "status.podIP"));
    if (!kind->role.empty()) {
      out.push_back(Variable(prefix + "ROLE", std::string(kind->role)));
    }
  }
  return out;
}

/// Lists of things with names: later ones win over earlier ones of their name.
Json::Array JoinByName(Json::Array before, const Json::Array& after) {
  std::erase_if(before, [&](const Json& item) {
    return std::ranges::any_of(
        after, [&](const Json& one) { return TextAt(one, {"name"}) == TextAt(item, {"name"}); });
  });
  before.insert(before.end(), after.begin(), after.end());
  return before;
}

Json::Array ListAt(const Json& object, std::string_view name) {
  const Json* found = object.Find(name);
  return found != nullptr && found->is_array() ? found->array() : Json::Array{};
}

void SetUnlessThere(Json& object, std::string_view name, Json value) {
  if (object.Find(name) == nullptr) {
    object.Set(name, std::move(value));
  }
}

/// Likewise, and joined where both are mappings; what is there wins.
void FillIn(Json& object, std::string_view name, const Json& value) {
  const Json* found = object.Find(name);
  object.Set(name, found == nullptr ? value : Overlay(value, *found));
}

Json HttpProbe(std::string_view path, std::int64_t port, std::int64_t period,
               std::int64_t failures) {
  return Members({{"httpGet", Members({{"path", path}, {"port", port}})},
                  {"periodSeconds", period},
                  {"timeoutSeconds", std::min<std::int64_t>(period, 5)},
                  {"failureThreshold", failures}});
}

/// "Configure Liveness, Readiness and Startup Probes": the others wait for the startup probe, so
/// that a model may take its time; a pod that does not take requests is not killed for it.
void AddProbes(Json& container, const PartKind& kind) {
  if (kind.probe_port == 0) {
    return;
  }
  SetUnlessThere(
      container, "startupProbe",
      HttpProbe("/live", kind.probe_port, kStartPeriod, kStartSecondsMax / kStartPeriod));
  SetUnlessThere(container, "readinessProbe",
                 HttpProbe(kind.ready_path, kind.probe_port, kReadyPeriod, 1));
  SetUnlessThere(container, "livenessProbe",
                 HttpProbe("/live", kind.probe_port, kLivePeriod, kLiveFailures));
}

void AddPorts(Json& container, const PartKind& kind) {
  Json::Array ports;
  if (kind.port > 0) {
    ports.push_back(Members({{"name", kind.port_name}, {"containerPort", kind.port}}));
  }
  if (kind.type != "frontend") {
    ports.push_back(Members({{"name", "system"}, {"containerPort", kSystemPort}}));
  }
  container.Set("ports", JoinByName(std::move(ports), ListAt(container, "ports")));
}

/// "Pod Security Standards", restricted.
Json RestrictedContainer() {
  return Members({{"allowPrivilegeEscalation", false},
                  {"readOnlyRootFilesystem", true},
                  {"capabilities", Members({{"drop", Json::Array{"ALL"}}})}});
}

void AddVolumes(Json& spec, Json& container, const GraphPart& part) {
  Json::Array volumes = {Members({{"name", "pixii-scratch"}, {"emptyDir", Json::Object{}}}),
                         Members({{"name", "pixii-tmp"}, {"emptyDir", Json::Object{}}})};
  Json::Array mounts = {Members({{"name", "pixii-scratch"}, {"mountPath", kScratchFolder}}),
                        Members({{"name", "pixii-tmp"}, {"mountPath", "/tmp"}})};
  if (!part.shared_memory.empty()) {
    volumes.push_back(Members(
        {{"name", "pixii-shm"},
         {"emptyDir", Members({{"medium", "Memory"}, {"sizeLimit", part.shared_memory}})}}));
    mounts.push_back(Members({{"name", "pixii-shm"}, {"mountPath", "/dev/shm"}}));
  }
  // A folder that the user mounts something at is the user's.
  const Json::Array own = ListAt(container, "volumeMounts");
  std::erase_if(mounts, [&](const Json& mount) {
    return std::ranges::any_of(own, [&](const Json& one) {
      return TextAt(one, {"mountPath"}) == TextAt(mount, {"mountPath"});
    });
  });
  spec.Set("volumes", JoinByName(std::move(volumes), ListAt(spec, "volumes")));
  container.Set("volumeMounts", JoinByName(std::move(mounts), own));
}

Json MainContainer(const DeploymentGraph& graph, const GraphPart& part,
                   const GraphObjectOptions& options, Json container) {
  container.Set("name", kMainContainer);
  SetUnlessThere(container, "image", options.image);
  Json::Array variables = JoinByName(InjectedVariables(graph, part), graph.env);
  container.Set("env", JoinByName(std::move(variables), ListAt(container, "env")));
  FillIn(container, "securityContext", RestrictedContainer());
  if (options.pre_stop_seconds > 0) {
    // "Termination of Pods": the kubelet ends a pod while proxies still hear that it does.
    SetUnlessThere(
        container, "lifecycle",
        Members(
            {{"preStop", Members({{"sleep", Members({{"seconds", options.pre_stop_seconds}})}})}}));
  }
  if (const PartKind* kind = KindOf(part)) {
    if (ListAt(container, "command").empty() && ListAt(container, "args").empty()) {
      container.Set("args", Json::Array{kind->command});
    }
    AddProbes(container, *kind);
    AddPorts(container, *kind);
  }
  return container;
}

Json LabelsOf(const DeploymentGraph& graph, const GraphPart& part) {
  Json labels = Members({{kManagedByLabel, kManagedBy},
                         {kGraphLabel, graph.name},
                         {kPartLabel, part.name},
                         {"nvidia.com/dynamo-namespace", DynamoNamespaceOf(graph, part)}});
  if (!part.type.empty()) {
    labels.Set(kTypeLabel, part.type);
  }
  return labels;
}

/// A Deployment's selector cannot change: of names alone.
Json SelectorOf(const DeploymentGraph& graph, const GraphPart& part) {
  return Members({{kGraphLabel, graph.name}, {kPartLabel, part.name}});
}

Json MetadataOf(const DeploymentGraph& graph, const GraphPart& part) {
  Json owner = Members({{"apiVersion", PlaceOf(KubeKind::kGraph).api_version},
                        {"kind", PlaceOf(KubeKind::kGraph).kind},
                        {"name", graph.name},
                        {"uid", graph.uid},
                        {"controller", true},
                        {"blockOwnerDeletion", true}});
  return Members({{"name", PartObjectName(graph, part)},
                  {"namespace", graph.space},
                  {"labels", Overlay(graph.labels, LabelsOf(graph, part))},
                  {"annotations", graph.annotations},
                  {"ownerReferences", Json::Array{std::move(owner)}}});
}

/// "1" is a number of pods, "25%" a share of them: what the API takes is an integer or a text.
Json IntegerOrShare(const std::string& text) {
  std::int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end ? Json(number) : Json(text);
}

std::string NoteOr(const Json& notes, std::string_view name, const std::string& otherwise) {
  const std::string said = TextAt(notes, {name});
  return said.empty() ? otherwise : said;
}

}  // namespace

std::string DynamoNamespaceOf(const DeploymentGraph& graph, const GraphPart& part) {
  return part.global_namespace ? "dynamo" : fmt::format("{}-{}", graph.space, graph.name);
}

Json MakePodTemplate(const DeploymentGraph& graph, const GraphPart& part,
                     const GraphObjectOptions& options, std::string_view restart_id) {
  Json out = part.pod_template;
  Json metadata = Json::Object{};
  FillIn(metadata, "labels", graph.labels);
  FillIn(metadata, "annotations", graph.annotations);
  if (const Json* own = out.Find("metadata")) {
    metadata = Overlay(metadata, *own);
  }
  // What selects pods cannot be overridden.
  metadata.Set("labels", Overlay(*metadata.Find("labels"), LabelsOf(graph, part)));
  if (!restart_id.empty()) {
    metadata.Set("annotations",
                 Overlay(*metadata.Find("annotations"), Members({{kRestartNote, restart_id}})));
  }
  out.Set("metadata", std::move(metadata));

  const Json* own_spec = out.Find("spec");
  Json spec = own_spec != nullptr && own_spec->is_object() ? *own_spec : Json(Json::Object{});
  Json::Array containers = ListAt(spec, "containers");
  auto main = std::ranges::find_if(
      containers, [](const Json& one) { return TextAt(one, {"name"}) == kMainContainer; });
  if (main == containers.end()) {
    main = containers.insert(containers.begin(), Json::Object{});
  }
  *main = MainContainer(graph, part, options, *main);
  AddVolumes(spec, *main, part);
  spec.Set("containers", std::move(containers));
  SetUnlessThere(spec, "terminationGracePeriodSeconds", options.stop_grace_seconds);
  FillIn(spec, "securityContext",
         Members({{"runAsNonRoot", true},
                  {"runAsUser", 1000},
                  {"fsGroup", 1000},
                  {"seccompProfile", Members({{"type", "RuntimeDefault"}})}}));
  if (!options.service_account.empty()) {
    SetUnlessThere(spec, "serviceAccountName", options.service_account);
  }
  out.Set("spec", std::move(spec));
  return out;
}

Json MakeDeployment(const DeploymentGraph& graph, const GraphPart& part,
                    const GraphObjectOptions& options, std::string_view restart_id) {
  Json pods = MakePodTemplate(graph, part, options, restart_id);
  const Json* notes = FindAt(pods, {"metadata", "annotations"});
  const Json rolling =
      Members({{"maxSurge", IntegerOrShare(NoteOr(*notes, kSurgeNote, options.max_surge))},
               {"maxUnavailable",
                IntegerOrShare(NoteOr(*notes, kUnavailableNote, options.max_unavailable))}});
  Json metadata = MetadataOf(graph, part);
  metadata.Set("annotations",
               Overlay(graph.annotations, Members({{kTemplateNote, KubeDigest(pods)}})));
  const KubePlace place = PlaceOf(KubeKind::kDeployment);
  return Members(
      {{"apiVersion", place.api_version},
       {"kind", place.kind},
       {"metadata", std::move(metadata)},
       {"spec",
        Members({{"replicas", part.replicas},
                 {"selector", Members({{"matchLabels", SelectorOf(graph, part)}})},
                 {"strategy", Members({{"type", "RollingUpdate"}, {"rollingUpdate", rolling}})},
                 {"progressDeadlineSeconds", options.progress_deadline_seconds},
                 {"template", std::move(pods)}})}});
}

std::optional<Json> MakeService(const DeploymentGraph& graph, const GraphPart& part) {
  const PartKind* kind = KindOf(part);
  if (kind == nullptr || kind->port == 0) {
    return std::nullopt;
  }
  const KubePlace place = PlaceOf(KubeKind::kService);
  return Members(
      {{"apiVersion", place.api_version},
       {"kind", place.kind},
       {"metadata", MetadataOf(graph, part)},
       {"spec", Members({{"selector", SelectorOf(graph, part)},
                         {"ports", Json::Array{Members({{"name", kind->port_name},
                                                        {"port", kind->port},
                                                        {"targetPort", kind->port}})}}})}});
}

}  // namespace pixii::control
