// A DynamoGraphDeployment as the operator understands it. docs/kubernetes.md
//
// Thread: values. Nothing here believes what it reads: the CRD's schema is checked by the server,
// what a schema cannot say is checked here.
// Source: spec of nvidia.com/v1beta1 (facts of Dynamo's DGD and DCD reference pages).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/json.h"

namespace pixii::control {

inline constexpr std::size_t kGraphPartsMax = 25;
inline constexpr std::int64_t kPartReplicasMax = 10'000;

struct GraphPart {
  std::string name;
  std::string type;  // empty: no defaults are known for it
  std::int64_t replicas = 1;
  wire::Json pod_template = wire::Json::Object{};  // as the user wrote it
  std::string shared_memory = {};                  // a quantity; empty: none is mounted
  bool global_namespace = false;
};

struct GraphRestart {
  std::string id;
  bool parallel = false;
  std::vector<std::string> order = {};  // of all parts; empty: the order of updates
};

struct DeploymentGraph {
  std::string name;
  std::string space;  // namespace
  std::string uid;
  std::int64_t generation = 0;
  bool deleting = false;
  std::vector<GraphPart> parts;  // as written
  wire::Json::Array env = {};
  wire::Json annotations = wire::Json::Object{};
  wire::Json labels = wire::Json::Object{};
  std::optional<GraphRestart> restart = {};
};

/// Of type worker, prefill, decode or encode.
bool IsWorkerType(std::string_view type);

/// The name of a part's objects: GRAPH-PART in lower case.
std::string PartObjectName(const DeploymentGraph& graph, const GraphPart& part);

/// Indices of parts, those that others need before these: workers, routers, then all that asks
/// them.
std::vector<std::size_t> UpdateOrder(const DeploymentGraph& graph);

/// Errors: kInvalidArgument naming the field, its value and what is allowed.
Result<DeploymentGraph> ReadDeploymentGraph(const wire::Json& object);

}  // namespace pixii::control
