#include "control/deployment_graph.h"

#include <gtest/gtest.h>

namespace pixii::control {
namespace {

using wire::Json;

Result<DeploymentGraph> Read(const std::string& spec) {
  return ReadDeploymentGraph(*wire::ParseJson(
      R"({"metadata":{"name":"g","namespace":"n","uid":"u","generation":7},"spec":)" + spec + "}"));
}

TEST(DeploymentGraphTest, WhatAUserWritesIsRead) {
  const auto graph = Read(R"({"backendFramework":"vllm","env":[{"name":"A","value":"1"}],
    "restart":{"id":"x","strategy":{"type":"Sequential","order":["F","W"]}},
    "components":[{"name":"F","type":"frontend"},
                  {"name":"W","type":"worker","replicas":3,"sharedMemorySize":"1Gi",
                   "podTemplate":{"spec":{}}}]})");
  ASSERT_TRUE(graph) << graph.error().detail();
  EXPECT_EQ(graph->generation, 7);
  EXPECT_EQ(graph->parts.size(), 2U);
  EXPECT_EQ(graph->parts[0].replicas, 1);
  EXPECT_EQ(graph->parts[1].shared_memory, "1Gi");
  EXPECT_EQ(graph->restart->order.front(), "F");
  EXPECT_EQ(PartObjectName(*graph, graph->parts[1]), "g-w");
}

TEST(DeploymentGraphTest, WhoIsAskedIsUpdatedBeforeThoseWhoAsk) {
  const auto graph = Read(R"({"components":[{"name":"f","type":"frontend"},{"name":"x"},
    {"name":"r","type":"router"},{"name":"w","type":"decode"},{"name":"p","type":"prefill"}]})");
  ASSERT_TRUE(graph);
  std::string order;
  for (const std::size_t i : UpdateOrder(*graph)) {
    order += graph->parts[i].name;
  }
  EXPECT_EQ(order, "pwrfx");
}

TEST(DeploymentGraphTest, ErrorsNameTheFieldAndItsValue) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({})", "spec.components: 0"},
      {R"({"components":[{"name":"a b"}]})", "spec.components[0].name: \"a b\""},
      {R"({"components":[{"name":"a"},{"name":"A"}]})", "spec.components[1].name: \"A\""},
      {R"({"components":[{"name":"a","type":"gpu"}]})", "spec.components[0].type: \"gpu\""},
      {R"({"components":[{"name":"a","replicas":-1}]})", "spec.components[0].replicas: -1"},
      {R"({"components":[{"name":"a","multinode":{}}]})", "spec.components[0].multinode"},
      {R"({"components":[{"name":"a","sharedMemorySize":"much"}]})", "sharedMemorySize: \"much\""},
      {R"({"components":[{"name":"a"}],"topologyConstraint":{}})", "spec.topologyConstraint"},
      {R"({"components":[{"name":"a"}],"restart":{"strategy":{}}})", "spec.restart.id"},
      {R"({"components":[{"name":"a"}],"restart":{"id":"1","strategy":{"order":["b"]}}})",
       "spec.restart.strategy.order"},
      {R"({"components":[{"name":"a","type":"epp"},{"name":"b","type":"epp"}]})", "epp"},
      {R"({"components":[{"name":")" + std::string(63, 'a') + R"("}]})", "63 characters"},
      {R"({"components":7})", "spec.components"},
      {R"(7)", "spec: it is required"}};
  for (const auto& [spec, expected] : cases) {
    const auto graph = Read(spec);
    ASSERT_FALSE(graph) << spec;
    EXPECT_EQ(graph.error().code(), Code::kInvalidArgument);
    EXPECT_NE(graph.error().detail().find(expected), std::string::npos) << graph.error().detail();
  }
}

}  // namespace
}  // namespace pixii::control
