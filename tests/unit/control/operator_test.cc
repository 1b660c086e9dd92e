// The operator against an API server and a cluster's controllers, with the schema that users
// install.
#include "control/operator.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "rt/sim_world.h"
#include "sim/kube_api_server.h"
#include "sim/kube_cluster.h"
#include "sim/kube_objects_check.h"
#include "sim/sim_pods.h"
#include "support/yaml_json.h"

namespace pixii::control {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using wire::Json;

constexpr const char* kGraphs = "/apis/nvidia.com/v1beta1/namespaces/prod/dynamographdeployments";

class OperatorTest : public testing::Test {
 protected:
  OperatorTest() {
    const Json crd = test::ReadManifest("crds/dynamographdeployments.yaml").front();
    const Json& version = kube::At(crd, {"spec", "versions"})->array().front();
    server_.AddResource(
        {.group_version = "nvidia.com/v1beta1",
         .plural = "dynamographdeployments",
         .kind = "DynamoGraphDeployment",
         .has_status = true,
         .schema = std::make_shared<Json>(*kube::At(version, {"schema", "openAPIV3Schema"}))});
    EXPECT_TRUE(server_.Start());
    pods_.OnEnd([this] { cluster_.Kick(); });
    cluster_.Start();
  }

  ~OperatorTest() override { node_.Kill(); }

  /// What the manifest of the operator lets it do, and no more.
  static kube::Rules DocumentedRules() {
    std::map<std::string, std::set<std::string>> rules;
    for (const Json& object : test::ReadManifest("operator.yaml")) {
      if (kube::Text(object, {"kind"}) != "Role" ||
          kube::Text(object, {"metadata", "name"}) != "pixii-operator") {
        continue;
      }
      for (const Json& rule : object.Find("rules")->array()) {
        for (const Json& resource : rule.Find("resources")->array()) {
          for (const Json& verb : rule.Find("verbs")->array()) {
            rules[resource.string()].insert(verb.string());
          }
        }
      }
    }
    return rules;
  }

  void Start(const std::string& identity = "one") {
    operators_.push_back(std::make_unique<Operator>(
        node_.loop(), node_.net(),
        OperatorOptions{
            .access = {.server = {.host = "kube", .port = 8001}, .space = "prod", .token_file = {}},
            .rules = {},
            .election = {.identity = identity}},
        [this](const std::string& line) { said_ += line + "\n"; }));
    operators_.back()->Start();
  }

  kube::Reply Ask(const std::string& method, const std::string& path, const std::string& body) {
    return server_.Handle({.method = method,
                           .path = path,
                           .query = "",
                           .accept = "",
                           .content_type = "application/merge-patch+json",
                           .body = body});
  }

  void Apply(const std::string& sample) {
    const Json graph = test::ReadManifest("samples/" + sample).front();
    const kube::Reply reply = Ask("POST", kGraphs, graph.Dump());
    EXPECT_EQ(reply.status, 201) << reply.body.Dump();
    name_ = kube::Text(graph, {"metadata", "name"});
  }

  Json Graph() {
    const Json* graph = server_.state().Find("dynamographdeployments", "prod", name_);
    return graph == nullptr ? Json(Json::Object{}) : *graph;
  }

  bool RunUntil(const std::function<bool()>& done) {
    return world_.RunUntil(done, world_.now() + minutes(5)) == rt::SimEnd::kDone;
  }

  bool Comes(const std::string& state) {
    return RunUntil([&] { return kube::Text(Graph(), {"status", "state"}) == state; });
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& kube_ = world_.AddNode("kube");
  rt::SimNode& node_ = world_.AddNode("node");
  kube::ApiServer server_{
      kube_.loop(), kube_.net(),
      kube::ServerOptions{
          .listen = {.host = "0.0.0.0", .port = 8001}, .tokens = {}, .rules = DocumentedRules()}};
  sim::SimPods pods_{kube_.loop(), server_};
  kube::KubeCluster cluster_{kube_.loop(), server_, pods_, {}};
  std::vector<std::unique_ptr<Operator>> operators_;
  std::string name_;
  std::string said_;
};

TEST_F(OperatorTest, SamplesBecomePodsThatServeWithTheRightsOfItsManifest) {
  Start();
  Apply("disaggregated.yaml");
  ASSERT_TRUE(Comes("successful")) << said_ << Graph().Dump();
  EXPECT_EQ(server_.state().Objects("pods").size(), 7U);
  EXPECT_EQ(server_.state().Objects("services").size(), 1U);
  EXPECT_EQ(FindAt(Graph(), {"status", "components", "Decode", "availableReplicas"})->AsInt(), 3);
  const std::uint64_t writes = operators_.front()->writes();
  world_.RunTo(world_.now() + minutes(5));
  EXPECT_EQ(operators_.front()->writes(), writes) << said_;
  Ask("DELETE", kGraphs + ("/" + name_), "");
  EXPECT_TRUE(RunUntil([&] { return server_.state().Objects("pods").empty(); }));
  EXPECT_TRUE(server_.state().Objects("deployments").empty());
}

TEST_F(OperatorTest, ASecondOneTakesOverOnceTheFirstHasEnded) {
  Start("one");
  EXPECT_TRUE(RunUntil([&] { return operators_[0]->works(); }));
  Start("two");
  world_.RunTo(world_.now() + minutes(1));
  EXPECT_FALSE(operators_[1]->leads());
  bool ended = false;
  operators_[0]->Stop([&] { ended = true; });
  ASSERT_TRUE(RunUntil([&] { return ended; }));
  const rt::Time then = world_.now();
  ASSERT_TRUE(RunUntil([&] { return operators_[1]->works(); }));
  EXPECT_LT(world_.now() - then, seconds(5)) << "the Lease was given back";
  Apply("aggregated.yaml");
  EXPECT_TRUE(Comes("successful")) << said_;
}

TEST_F(OperatorTest, AServiceOfSomebodyElseIsLeftAloneAndSaidInTheStatus) {
  EXPECT_EQ(Ask("POST", "/api/v1/namespaces/prod/services",
                R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"qwen-frontend"},
                    "spec":{"ports":[{"port":1}]}})")
                .status,
            201);
  Start();
  Apply("aggregated.yaml");
  ASSERT_TRUE(RunUntil([&] {
    return Graph().Dump().find("Service qwen-frontend: there is one already") != std::string::npos;
  })) << said_;
  const Json* service = server_.state().Find("services", "prod", "qwen-frontend");
  EXPECT_EQ(kube::At(*service, {"spec", "ports"})->array().front().Find("port")->AsInt(), 1);
}

TEST_F(OperatorTest, WithoutTheRightsItSaysWhichAreMissing) {
  kube::Rules rules = DocumentedRules();
  rules->at("deployments").erase("create");
  server_.SetRules(rules);
  Start();
  Apply("aggregated.yaml");
  ASSERT_TRUE(RunUntil([&] {
    return Graph().Dump().find("deployments is forbidden") != std::string::npos;
  })) << said_;
  EXPECT_EQ(kube::Text(Graph(), {"status", "state"}), "failed");
  server_.SetRules(DocumentedRules());
  EXPECT_TRUE(Comes("successful")) << said_;
}

}  // namespace
}  // namespace pixii::control
