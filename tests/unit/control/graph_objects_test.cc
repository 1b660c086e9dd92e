#include "control/graph_objects.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "control/kube_compare.h"
#include "control/kube_objects.h"
#include "sim/kube_objects_check.h"
#include "support/yaml_json.h"

namespace pixii::control {
namespace {

using wire::Json;

DeploymentGraph GraphOf(const std::string& file) {
  Json object = test::ReadManifest("samples/" + file).front();
  kube::SetMeta(object, "namespace", "prod");
  kube::SetMeta(object, "uid", "1234");
  return ReadDeploymentGraph(object).value();
}

const GraphPart& PartOf(const DeploymentGraph& graph, std::string_view type) {
  return *std::ranges::find(graph.parts, type, &GraphPart::type);
}

Json MainOf(const Json& pods) {
  for (const Json& one : FindAt(pods, {"spec", "containers"})->array()) {
    if (TextAt(one, {"name"}) == "main") {
      return one;
    }
  }
  return {};
}

std::string VariableOf(const Json& container, std::string_view name) {
  std::string out = "absent";
  int count = 0;
  for (const Json& one : container.Find("env")->array()) {
    if (TextAt(one, {"name"}) == name) {
      ++count;
      out = one.Find("value") != nullptr ? TextAt(one, {"value"})
                                         : TextAt(one, {"valueFrom", "fieldRef", "fieldPath"});
    }
  }
  EXPECT_LE(count, 1) << name;
  return out;
}

TEST(GraphObjectsTest, PodsAreToldWhoTheyAreAndWhereToListen) {
  const DeploymentGraph graph = GraphOf("disaggregated.yaml");
  const Json prefill = MainOf(MakePodTemplate(graph, PartOf(graph, "prefill"), {}, ""));
  EXPECT_EQ(VariableOf(prefill, "DYN_NAMESPACE"), "prod-llama");
  EXPECT_EQ(VariableOf(prefill, "DYN_DISCOVERY_BACKEND"), "kubernetes");
  EXPECT_EQ(VariableOf(prefill, "PIXII_WORKER_DISCOVERY"), "kubernetes");
  EXPECT_EQ(VariableOf(prefill, "DYN_PARENT_DGD_K8S_NAME"), "llama");
  EXPECT_EQ(VariableOf(prefill, "DYN_SYSTEM_PORT"), "9090");
  EXPECT_EQ(VariableOf(prefill, "PIXII_WORKER_WORKER_HOST"), "status.podIP");
  EXPECT_EQ(VariableOf(prefill, "PIXII_WORKER_ROLE"), "prefill");
  EXPECT_EQ(VariableOf(prefill, "PIXII_WORKER_CLUSTER_KEY"), "/etc/pixii/cluster-key")
      << "spec.env";
  const Json frontend = MainOf(MakePodTemplate(graph, PartOf(graph, "frontend"), {}, ""));
  EXPECT_EQ(VariableOf(frontend, "DYN_HTTP_PORT"), "8000");
  EXPECT_EQ(VariableOf(frontend, "PIXII_WORKER_ROLE"), "absent");
}

TEST(GraphObjectsTest, WhatAUserSaysWins) {
  DeploymentGraph graph = GraphOf("aggregated.yaml");
  GraphPart part = PartOf(graph, "worker");
  part.pod_template = *wire::ParseJson(R"({"metadata":{"labels":{"team":"x",
      "nvidia.com/dynamo-component":"stolen"}},
    "spec":{"terminationGracePeriodSeconds":900,"securityContext":{"runAsUser":7},
      "containers":[{"name":"side","image":"s"},
        {"name":"main","image":"mine","command":["python3"],
         "env":[{"name":"DYN_NAMESPACE","value":"own"}],
         "readinessProbe":{"exec":{"command":["true"]}},
         "lifecycle":{"preStop":{"exec":{"command":["bye"]}}},
         "securityContext":{"readOnlyRootFilesystem":false},
         "volumeMounts":[{"name":"mine","mountPath":"/tmp"}]}]}})");
  const Json pods = MakePodTemplate(graph, part, {}, "");
  const Json main = MainOf(pods);
  EXPECT_EQ(VariableOf(main, "DYN_NAMESPACE"), "own");
  EXPECT_EQ(TextAt(main, {"image"}), "mine");
  EXPECT_EQ(main.Find("args"), nullptr) << "a command of the user's has its own arguments";
  EXPECT_NE(FindAt(main, {"readinessProbe", "exec"}), nullptr);
  EXPECT_EQ(FindAt(main, {"lifecycle", "preStop", "sleep"}), nullptr);
  EXPECT_FALSE(FindAt(main, {"securityContext", "readOnlyRootFilesystem"})->boolean());
  EXPECT_FALSE(FindAt(main, {"securityContext", "allowPrivilegeEscalation"})->boolean());
  EXPECT_EQ(FindAt(pods, {"spec", "securityContext", "runAsUser"})->AsInt(), 7);
  EXPECT_TRUE(FindAt(pods, {"spec", "securityContext", "runAsNonRoot"})->boolean());
  EXPECT_EQ(FindAt(pods, {"spec", "terminationGracePeriodSeconds"})->AsInt(), 900);
  EXPECT_EQ(main.Find("volumeMounts")->array().size(), 2U) << "/tmp is the user's";
  EXPECT_EQ(TextAt(pods, {"metadata", "labels", "team"}), "x");
  EXPECT_EQ(TextAt(pods, {"metadata", "labels", kPartLabel}), "Worker")
      << "what selects pods is not a user's";
}

TEST(GraphObjectsTest, ServersTakeThemAndCompletedTheyAreStillAsWanted) {
  for (const char* file : {"aggregated.yaml", "disaggregated.yaml"}) {
    const DeploymentGraph graph = GraphOf(file);
    for (const GraphPart& part : graph.parts) {
      const Json wanted = MakeDeployment(graph, part, {}, "r1");
      Json stored = wanted;
      kube::AddDefaults(stored, "Deployment");
      EXPECT_EQ(kube::Invalid(stored, "Deployment").value_or(""), "");
      EXPECT_NE(stored, wanted);
      EXPECT_TRUE(Covers(stored, wanted)) << part.name;
      EXPECT_EQ(TextAt(wanted, {"spec", "template", "metadata", "annotations", kRestartNote}),
                "r1");
      if (std::optional<Json> service = MakeService(graph, part)) {
        kube::AddDefaults(*service, "Service");
        EXPECT_EQ(kube::Invalid(*service, "Service").value_or(""), "");
      } else {
        EXPECT_NE(part.type, "frontend");
      }
    }
  }
}

TEST(GraphObjectsTest, AnUpdateKeepsAllPodsThatServeUnlessNotesSayOtherwise) {
  const DeploymentGraph graph = GraphOf("disaggregated.yaml");
  const Json frontend = MakeDeployment(graph, PartOf(graph, "frontend"), {}, "");
  EXPECT_EQ(FindAt(frontend, {"spec", "strategy", "rollingUpdate", "maxUnavailable"})->AsInt(), 0);
  EXPECT_EQ(TextAt(frontend, {"spec", "strategy", "rollingUpdate", "maxSurge"}), "25%");
  const Json prefill = MakeDeployment(graph, PartOf(graph, "prefill"), {}, "");
  EXPECT_EQ(FindAt(prefill, {"spec", "strategy", "rollingUpdate", "maxSurge"})->AsInt(), 1);
  const Json main = MainOf(*FindAt(prefill, {"spec", "template"}));
  EXPECT_EQ(FindAt(main, {"lifecycle", "preStop", "sleep", "seconds"})->AsInt(), 5);
  EXPECT_EQ(TextAt(main, {"readinessProbe", "httpGet", "path"}), "/health");
  EXPECT_EQ(TextAt(main, {"livenessProbe", "httpGet", "path"}), "/live");
}

}  // namespace
}  // namespace pixii::control
