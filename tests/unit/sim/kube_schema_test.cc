#include "sim/kube_schema.h"

#include <gtest/gtest.h>

#include "sim/kube_objects_check.h"
#include "support/yaml_json.h"

namespace pixii::kube {
namespace {

using wire::Json;

Json SchemaOfGraphs() {
  const Json crd = test::ReadManifest("crds/dynamographdeployments.yaml").front();
  return *At(At(crd, {"spec", "versions"})->array().front(), {"schema", "openAPIV3Schema"});
}

Json Sample(const std::string& name) { return test::ReadManifest("samples/" + name).front(); }

TEST(KubeSchemaTest, TheCustomResourceDefinitionIsOneThatServersTake) {
  const Json crd = test::ReadManifest("crds/dynamographdeployments.yaml").front();
  EXPECT_EQ(Text(crd, {"metadata", "name"}),
            Text(crd, {"spec", "names", "plural"}) + "." + Text(crd, {"spec", "group"}));
  for (const std::string& fault : NotStructural(SchemaOfGraphs())) {
    ADD_FAILURE() << fault;
  }
}

TEST(KubeSchemaTest, SamplesAreRightAndWhole) {
  const Json schema = SchemaOfGraphs();
  for (const char* name : {"aggregated.yaml", "disaggregated.yaml"}) {
    const Json sample = Sample(name);
    EXPECT_EQ(SchemaFaults(schema, sample), std::vector<std::string>()) << name;
    EXPECT_EQ(UnknownFields(schema, sample), std::vector<std::string>()) << name;
  }
}

TEST(KubeSchemaTest, BrokenGraphsAreRefusedByPath) {
  const Json schema = SchemaOfGraphs();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"components":[]})", "spec.components: 0 is beyond minItems"},
      {R"({})", "spec.components: Required value"},
      {R"({"components":[{"type":"worker"}]})", "spec.components[0].name: Required value"},
      {R"({"components":[{"name":"a","replicas":-1}]})", "spec.components[0].replicas: -1"},
      {R"({"components":[{"name":"a","replicas":"2"}]})", "must be of type integer"},
      {R"({"components":[{"name":"a","replicas":1.5}]})", "must be of type integer"},
      {R"({"components":[{"name":"-a"}]})", "spec.components[0].name: \"-a\" should match"},
      {R"({"components":[{"name":"a","type":"gpu"}]})", "Unsupported value: \"gpu\""},
      {R"({"components":[{"name":"a"},{"name":"a"}]})", "spec.components[1]: Duplicate value"},
      {R"({"components":[{"name":"a"}],"restart":{}})", "spec.restart.id: Required value"},
      {R"({"components":[{"name":"a"}],"env":[{"value":"x"}]})", "spec.env[0].name"},
      {R"({"components":[{"name":"a","sharedMemorySize":true}]})", "integer or string"},
      {R"({"components":[{"name":"a","podTemplate":{"spec":{"containers":[{}]}}}]})",
       "spec.components[0].podTemplate.spec.containers[0].name: Required value"},
  };
  for (const auto& [spec, expected] : cases) {
    Json graph = Sample("aggregated.yaml");
    graph.Set("spec", *wire::ParseJson(spec));
    const std::vector<std::string> faults = SchemaFaults(schema, graph);
    ASSERT_FALSE(faults.empty()) << spec;
    EXPECT_NE(faults.front().find(expected), std::string::npos) << faults.front();
  }
}

TEST(KubeSchemaTest, WhatASchemaDoesNotKnowIsDroppedButForPods) {
  Json graph = Sample("aggregated.yaml");
  graph.Set("spec", *wire::ParseJson(R"({"components":[{"name":"a","replica":2,
      "podTemplate":{"spec":{"hostNetwork":true}}}]})"));
  EXPECT_EQ(UnknownFields(SchemaOfGraphs(), graph),
            std::vector<std::string>{"spec.components[0].replica"});
  const Json kept = Completed(SchemaOfGraphs(), graph);
  const Json& part = At(kept, {"spec", "components"})->array().front();
  EXPECT_EQ(part.Find("replica"), nullptr);
  EXPECT_TRUE(At(part, {"podTemplate", "spec", "hostNetwork"})->boolean());
}

TEST(KubeSchemaTest, SchemasThatServersRefuseAreToldApart) {
  for (const char* schema :
       {R"({"properties":{}})", R"({"type":"array"})", R"({"type":"object","required":["x"]})",
        R"({"type":"object","properties":{"a":{}},"additionalProperties":{"type":"string"}})",
        R"({"type":"object","$ref":"x"})",
        R"({"type":"string","x-kubernetes-int-or-string":true})"}) {
    EXPECT_FALSE(NotStructural(*wire::ParseJson(schema)).empty()) << schema;
  }
}

TEST(KubeSchemaTest, DefaultsAreFilledIn) {
  const Json schema =
      *wire::ParseJson(R"({"type":"object","properties":{"a":{"type":"integer","default":3}}})");
  EXPECT_EQ(Completed(schema, Json(Json::Object{})).Dump(), R"({"a":3})");
}

}  // namespace
}  // namespace pixii::kube
