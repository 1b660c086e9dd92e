// The Kubernetes objects of a graph's component: its Deployment, with all that a pod needs to
// start, be seen and end without a lost request, and the Service of those that are asked from
// outside.
//
// Thread: pure functions. docs/kubernetes.md says for each field why it is there.
// Source: Kubernetes documentation: "Deployments", "Pod Lifecycle" (termination of pods, probes),
// "Container Lifecycle Hooks", "Configure a Security Context", "Labels and Selectors", "Owners and
// Dependents", "Downward API", "Well-Known Labels".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/deployment_graph.h"
#include "rt/time.h"
#include "wire/json.h"

namespace pixii::control {

inline constexpr std::string_view kManagedByLabel = "app.kubernetes.io/managed-by";
inline constexpr std::string_view kManagedBy = "pixii-operator";
/// Of objects that the operator made.
inline constexpr std::string_view kManagedSelector = "app.kubernetes.io/managed-by=pixii-operator";
inline constexpr std::string_view kGraphLabel = "nvidia.com/dynamo-graph-deployment-name";
inline constexpr std::string_view kPartLabel = "nvidia.com/dynamo-component";
inline constexpr std::string_view kTypeLabel = "nvidia.com/dynamo-component-type";
inline constexpr std::string_view kTemplateNote = "pixii.dev/template";     // of a Deployment
inline constexpr std::string_view kRestartNote = "pixii.dev/restarted-by";  // of a pod template
inline constexpr std::string_view kMainContainer = "main";
inline constexpr std::int64_t kFrontendPort = 8000;
inline constexpr std::int64_t kSystemPort = 9090;
inline constexpr std::int64_t kRouterPort = 8090;
inline constexpr std::int64_t kEppPort = 9002;

struct GraphObjectOptions {
  std::string image = "pixii:latest";  // of main containers that name none
  std::string service_account = {};    // of pods that name none; empty: the namespace's default
  /// A pod that is to end serves on for so long: until then every proxy has heard of it.
  std::int64_t pre_stop_seconds = 5;
  std::int64_t stop_grace_seconds = 60;  // preStop included
  std::string max_surge = "25%";
  std::string max_unavailable = "0";
  std::int64_t progress_deadline_seconds = 3600;  // models take long to load
};

/// DYN_NAMESPACE of the part's pods.
std::string DynamoNamespaceOf(const DeploymentGraph& graph, const GraphPart& part);

/// The pods' template. `restart_id`: of the restart that the part has had, if any.
wire::Json MakePodTemplate(const DeploymentGraph& graph, const GraphPart& part,
                           const GraphObjectOptions& options, std::string_view restart_id);

wire::Json MakeDeployment(const DeploymentGraph& graph, const GraphPart& part,
                          const GraphObjectOptions& options, std::string_view restart_id);

/// Nothing for parts that are found by discovery alone.
std::optional<wire::Json> MakeService(const DeploymentGraph& graph, const GraphPart& part);

}  // namespace pixii::control
