#include "control/deployment_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "control/kube_compare.h"
#include "control/kube_objects.h"

namespace pixii::control {

namespace {

using wire::Json;

constexpr std::size_t kNameBytesMax = 63;  // of a Service and of a label's value (RFC 1123 label)

// In order of updates: whoever is asked stands before those who ask.
constexpr std::array<std::string_view, 8> kTypes = {"encode", "prefill", "decode",   "worker",
                                                    "router", "epp",     "frontend", "planner"};
constexpr std::array<std::string_view, 6> kSpecFields = {
    "backendFramework", "components", "env", "annotations", "labels", "restart"};
constexpr std::array<std::string_view, 6> kPartFields = {
    "name", "type", "replicas", "podTemplate", "sharedMemorySize", "globalDynamoNamespace"};

tl::unexpected<Error> Wrong(const std::string& field, const std::string& why) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", field, why), field);
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  }
  return out;
}

bool IsPartName(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !text.empty() && text.size() <= kNameBytesMax && plain(text.front()) &&
         plain(text.back()) &&
         std::ranges::all_of(text, [&](char c) { return plain(c) || c == '-'; });
}

Result<void> CheckFields(const Json& object, std::span<const std::string_view> known,
                         const std::string& where) {
  for (const auto& [name, value] : object.object()) {
    if (std::ranges::find(known, name) == known.end()) {
      return Wrong(fmt::format("{}.{}", where, name), "this operator does not know it");
    }
  }
  return {};
}

/// A member of that kind; a default if there is none.
Result<Json> MemberOf(const Json& object, std::string_view name, Json otherwise,
                      const std::string& where) {
  const Json* found = object.Find(name);
  if (found == nullptr || found->is_null()) {
    return otherwise;
  }
  if (found->kind() != otherwise.kind()) {
    return Wrong(fmt::format("{}.{}", where, name), "it has another type");
  }
  return *found;
}

Result<GraphPart> ReadPart(const Json& item, const std::string& where) {
  if (!item.is_object()) {
    return Wrong(where, "no mapping");
  }
  PX_CHECK_OK(CheckFields(item, kPartFields, where));
  GraphPart part;
  PX_TRY(const Json name, MemberOf(item, "name", "", where));
  part.name = name.string();
  if (!IsPartName(part.name)) {
    return Wrong(where + ".name", fmt::format("\"{}\" is no name of 1 to 63 letters, digits and "
                                              "hyphens between them",
                                              part.name));
  }
  PX_TRY(const Json type, MemberOf(item, "type", "", where));
  part.type = type.string();
  if (!part.type.empty() && std::ranges::find(kTypes, part.type) == kTypes.end()) {
    return Wrong(where + ".type",
                 fmt::format("\"{}\" is none of {}", part.type, fmt::join(kTypes, ", ")));
  }
  PX_TRY(const Json replicas, MemberOf(item, "replicas", 1, where));
  part.replicas = replicas.AsInt().value_or(-1);
  if (part.replicas < 0 || part.replicas > kPartReplicasMax) {
    return Wrong(where + ".replicas",
                 fmt::format("{} is not from 0 to {}", replicas.digits(), kPartReplicasMax));
  }
  PX_TRY(part.pod_template, MemberOf(item, "podTemplate", Json::Object{}, where));
  const Json* size = item.Find("sharedMemorySize");
  if (size != nullptr && !size->is_null()) {
    part.shared_memory = size->is_number()   ? size->digits()
                         : size->is_string() ? size->string()
                                             : "";
    const std::optional<double> bytes = KubeQuantity(part.shared_memory);
    if (!bytes || *bytes < 0) {
      return Wrong(where + ".sharedMemorySize",
                   fmt::format("\"{}\" is no quantity of bytes", part.shared_memory));
    }
    if (*bytes == 0) {
      part.shared_memory.clear();
    }
  }
  PX_TRY(const Json global, MemberOf(item, "globalDynamoNamespace", false, where));
  part.global_namespace = global.boolean();
  return part;
}

Result<GraphRestart> ReadRestart(const Json& restart, const DeploymentGraph& graph) {
  const std::string where = "spec.restart";
  GraphRestart out;
  PX_TRY(const Json id, MemberOf(restart, "id", "", where));
  out.id = id.string();
  if (out.id.empty()) {
    return Wrong(where + ".id", "it is required");
  }
  PX_TRY(const Json strategy, MemberOf(restart, "strategy", Json::Object{}, where));
  PX_TRY(const Json type, MemberOf(strategy, "type", "Sequential", where + ".strategy"));
  out.parallel = type.string() == "Parallel";
  if (!out.parallel && type.string() != "Sequential") {
    return Wrong(where + ".strategy.type",
                 fmt::format("\"{}\" is neither Sequential nor Parallel", type.string()));
  }
  PX_TRY(const Json order, MemberOf(strategy, "order", Json::Array{}, where + ".strategy"));
  std::set<std::string> named;
  for (const Json& name : order.array()) {
    out.order.push_back(name.is_string() ? name.string() : "");
    named.insert(out.order.back());
  }
  const bool complete = named.size() == out.order.size() && named.size() == graph.parts.size() &&
                        std::ranges::all_of(graph.parts, [&](const GraphPart& part) {
                          return named.contains(part.name);
                        });
  if (!out.order.empty() && (out.parallel || !complete)) {
    return Wrong(where + ".strategy.order", out.parallel
                                                ? "a parallel restart has none"
                                                : "it must name every component, each once");
  }
  return out;
}

std::size_t RankOf(const GraphPart& part) {
  return static_cast<std::size_t>(std::ranges::find(kTypes, part.type) - kTypes.begin());
}

Result<void> CheckNames(const DeploymentGraph& graph) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < graph.parts.size(); ++i) {
    const GraphPart& part = graph.parts[i];
    const std::string where = fmt::format("spec.components[{}].name", i);
    if (!names.insert(Lower(part.name)).second) {
      return Wrong(where, fmt::format("\"{}\" stands there twice", part.name));
    }
    if (const std::string name = PartObjectName(graph, part); name.size() > kNameBytesMax) {
      return Wrong(where, fmt::format("the name of its objects, {}, has more than {} characters",
                                      name, kNameBytesMax));
    }
  }
  if (std::ranges::count(graph.parts, "epp", &GraphPart::type) > 1) {
    return Wrong("spec.components", "at most one may have type epp");
  }
  return {};
}

}  // namespace

bool IsWorkerType(std::string_view type) {
  return type == "worker" || type == "prefill" || type == "decode" || type == "encode";
}

std::string PartObjectName(const DeploymentGraph& graph, const GraphPart& part) {
  return Lower(fmt::format("{}-{}", graph.name, part.name));
}

std::vector<std::size_t> UpdateOrder(const DeploymentGraph& graph) {
  std::vector<std::size_t> order(graph.parts.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(RankOf(graph.parts[i]), i); });
  return order;
}

Result<DeploymentGraph> ReadDeploymentGraph(const Json& object) {
  DeploymentGraph graph{.name = TextAt(object, {"metadata", "name"}),
                        .space = TextAt(object, {"metadata", "namespace"}),
                        .uid = VersionOf(object).uid,
                        .deleting = FindAt(object, {"metadata", "deletionTimestamp"}) != nullptr,
                        .parts = {}};
  const Json* generation = FindAt(object, {"metadata", "generation"});
  graph.generation = generation == nullptr ? 0 : generation->AsInt().value_or(0);
  const Json* spec = object.Find("spec");
  if (spec == nullptr || !spec->is_object()) {
    return Wrong("spec", "it is required");
  }
  PX_CHECK_OK(CheckFields(*spec, kSpecFields, "spec"));
  PX_TRY(const Json components, MemberOf(*spec, "components", Json::Array{}, "spec"));
  if (components.array().empty() || components.array().size() > kGraphPartsMax) {
    return Wrong("spec.components",
                 fmt::format("{} is not from 1 to {}", components.array().size(), kGraphPartsMax));
  }
  for (std::size_t i = 0; i < components.array().size(); ++i) {
    PX_TRY(GraphPart part, ReadPart(components.array()[i], fmt::format("spec.components[{}]", i)));
    graph.parts.push_back(std::move(part));
  }
  PX_CHECK_OK(CheckNames(graph));
  PX_TRY(const Json env, MemberOf(*spec, "env", Json::Array{}, "spec"));
  graph.env = env.array();
  PX_TRY(graph.annotations, MemberOf(*spec, "annotations", Json::Object{}, "spec"));
  PX_TRY(graph.labels, MemberOf(*spec, "labels", Json::Object{}, "spec"));
  PX_TRY(const Json restart, MemberOf(*spec, "restart", Json::Object{}, "spec"));
  if (!restart.object().empty()) {
    PX_TRY(graph.restart, ReadRestart(restart, graph));
  }
  return graph;
}

}  // namespace pixii::control
