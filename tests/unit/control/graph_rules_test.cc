#include "control/graph_rules.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "sim/kube_objects_check.h"

namespace pixii::control {
namespace {

using wire::Json;

// A graph, and Deployments as a server and its controllers would leave them.
class GraphRulesTest : public testing::Test {
 protected:
  GraphRulesTest() { Say(R"([{"name":"f","type":"frontend"},{"name":"w","type":"worker"}])"); }

  void Say(const std::string& components, const std::string& more = "") {
    Json spec = *wire::ParseJson(R"({"components":)" + components + more + "}");
    Json metadata = *wire::ParseJson(R"({"name":"g","namespace":"n","uid":"u1"})");
    metadata.Set("generation", ++generation_);
    metadata.Set("resourceVersion", std::to_string(generation_));
    graph_.Set("metadata", std::move(metadata));
    graph_.Set("spec", std::move(spec));
  }

  std::vector<KubeAction> Plan() {
    return PlanGraph({.graph = &graph_,
                      .deployments = &deployments_,
                      .services = &services_,
                      .refused = refused_},
                     options_, {.unix_seconds = wall_, .nanoseconds = 0});
  }

  /// Does what is planned, as a server does; what of it there was, in words.
  std::string Do() {
    std::string said;
    for (const KubeAction& action : Plan()) {
      auto& objects = action.kind == KubeKind::kService ? services_ : deployments_;
      switch (action.verb) {
        case KubeAction::Verb::kCreate:
        case KubeAction::Verb::kReplace: {
          said += (action.verb == KubeAction::Verb::kCreate ? "+" : "~") + action.name + " ";
          Json object = action.object;
          kube::AddDefaults(object, PlaceOf(action.kind).kind);
          const auto before = objects.find(action.name);
          const std::int64_t generation =
              before == objects.end()
                  ? 0
                  : kube::At(before->second, {"metadata", "generation"})->AsInt().value_or(0);
          kube::SetMeta(object, "generation", generation + 1);
          kube::SetMeta(object, "uid", "of-" + action.name);
          objects[action.name] = std::move(object);
          break;
        }
        case KubeAction::Verb::kReplaceStatus:
          graph_.Set("status", *action.object.Find("status"));
          break;
        case KubeAction::Verb::kDelete:
          said += "-" + action.name + " ";
          objects.erase(action.name);
      }
    }
    return said;
  }

  /// The controller is done with a Deployment, or in the middle of it.
  void Roll(const std::string& name, bool complete = true) {
    Json& object = deployments_.at(name);
    const std::int64_t replicas = kube::At(object, {"spec", "replicas"})->AsInt().value_or(0);
    Json status = Json::Object{};
    status.Set("observedGeneration", *kube::At(object, {"metadata", "generation"}));
    status.Set("replicas", complete ? replicas : replicas + 1);
    status.Set("updatedReplicas", complete ? replicas : std::int64_t{1});
    status.Set("readyReplicas", replicas);
    status.Set("availableReplicas", replicas);
    object.Set("status", std::move(status));
  }

  void Settle() {
    Do();
    Roll("g-f");
    Roll("g-w");
    Do();
  }

  std::string State() const { return TextAt(graph_, {"status", "state"}); }

  Json graph_ = Json::Object{};
  std::map<std::string, Json> deployments_;
  std::map<std::string, Json> services_;
  std::map<std::string, std::string> refused_;
  GraphRuleOptions options_;
  std::int64_t generation_ = 0;
  std::int64_t wall_ = 1'800'000'000;
};

TEST_F(GraphRulesTest, AllIsMadeAtOnceAndThenLeftAlone) {
  EXPECT_EQ(Do(), "+g-w +g-f +g-f ") << "two Deployments and the frontend's Service";
  EXPECT_EQ(State(), "pending");
  Roll("g-f");
  Roll("g-w");
  EXPECT_EQ(Do(), "");
  EXPECT_EQ(State(), "successful");
  EXPECT_TRUE(Plan().empty());
  const Json* owner = FindAt(deployments_.at("g-w"), {"metadata", "ownerReferences"});
  EXPECT_EQ(TextAt(owner->array().front(), {"uid"}), "u1");
}

TEST_F(GraphRulesTest, WorkersAreUpdatedBeforeWhoAsksThemAndOneAfterAnother) {
  Settle();
  Say(R"([{"name":"f","type":"frontend"},{"name":"w","type":"worker"}])",
      R"(,"env":[{"name":"A","value":"2"}])");
  EXPECT_EQ(Do(), "~g-w ");
  EXPECT_EQ(Do(), "") << "the controller has not looked yet";
  Roll("g-w", false);
  EXPECT_EQ(Do(), "") << "an old pod is left";
  EXPECT_EQ(TextAt(graph_, {"status", "rollingUpdate", "phase"}), "InProgress");
  Roll("g-w");
  EXPECT_EQ(Do(), "~g-f ");
  Roll("g-f");
  EXPECT_EQ(Do(), "");
  EXPECT_EQ(TextAt(graph_, {"status", "rollingUpdate", "phase"}), "Completed");
  EXPECT_EQ(State(), "successful");
}

TEST_F(GraphRulesTest, AnUpdateThatIsStuckIsReplacedByTheNext) {
  Settle();
  Say(R"([{"name":"f","type":"frontend"},{"name":"w","type":"worker"}])",
      R"(,"env":[{"name":"A","value":"broken"}])");
  EXPECT_EQ(Do(), "~g-w ");
  Roll("g-w", false);
  EXPECT_EQ(Do(), "");
  Say(R"([{"name":"f","type":"frontend"},{"name":"w","type":"worker"}])",
      R"(,"env":[{"name":"A","value":"mended"}])");
  EXPECT_EQ(Do(), "~g-w ");
}

TEST_F(GraphRulesTest, ReplicasChangeAtOnceAlsoDuringAnUpdate) {
  Settle();
  Say(R"([{"name":"f","type":"frontend","replicas":4},{"name":"w","type":"worker"}])",
      R"(,"env":[{"name":"A","value":"2"}])");
  EXPECT_EQ(Do(), "~g-w ~g-f ");
  EXPECT_EQ(FindAt(deployments_.at("g-f"), {"spec", "replicas"})->AsInt(), 4);
  EXPECT_EQ(deployments_.at("g-f").Dump().find(R"("value":"2")"), std::string::npos)
      << "its template waits for its turn";
}

TEST_F(GraphRulesTest, WhatSomebodySpoilsIsMended) {
  Settle();
  Json spec = *deployments_.at("g-w").Find("spec");
  spec.Set("replicas", 0);
  deployments_.at("g-w").Set("spec", std::move(spec));
  EXPECT_EQ(Do(), "~g-w ");
  EXPECT_EQ(FindAt(deployments_.at("g-w"), {"spec", "replicas"})->AsInt(), 1);
  services_.clear();
  EXPECT_EQ(Do(), "+g-f ");
}

TEST_F(GraphRulesTest, ARestartReplacesPodsInTheOrderThatItSaysAndOnce) {
  Settle();
  const std::string parts = R"([{"name":"f","type":"frontend"},{"name":"w","type":"worker"}])";
  Say(parts, R"(,"restart":{"id":"1","strategy":{"order":["f","w"]}})");
  EXPECT_EQ(Do(), "~g-f ");
  EXPECT_EQ(TextAt(graph_, {"status", "restart", "phase"}), "Restarting");
  Roll("g-f");
  EXPECT_EQ(Do(), "~g-w ");
  Roll("g-w");
  Do();
  EXPECT_EQ(TextAt(graph_, {"status", "restart", "phase"}), "Completed");
  Say(parts);
  EXPECT_EQ(Do(), "") << "taking the wish back restarts nothing";
  Say(parts, R"(,"restart":{"id":"2","strategy":{"type":"Parallel"}})");
  EXPECT_EQ(Do(), "~g-w ~g-f ");
}

TEST_F(GraphRulesTest, WhatLeavesTheGraphEndsOnceItsSuccessorServes) {
  Settle();
  Say(R"([{"name":"f","type":"frontend"},{"name":"w2","type":"worker"}])");
  EXPECT_EQ(Do(), "+g-w2 ");
  EXPECT_EQ(Do(), "");
  Roll("g-w2");
  EXPECT_EQ(Do(), "-g-w ");
}

TEST_F(GraphRulesTest, WhatIsNotTheGraphsIsLeftAlone) {
  Do();
  kube::SetMeta(deployments_.at("g-w"), "ownerReferences",
                *wire::ParseJson(R"([{"uid":"somebody"}])"));
  EXPECT_EQ(Do(), "");
  EXPECT_EQ(State(), "failed");
  EXPECT_NE(graph_.Dump().find("Deployment g-w is not this graph's"), std::string::npos);
  kube::SetMeta(graph_, "deletionTimestamp", "2026-01-31T00:00:00Z");
  EXPECT_TRUE(Plan().empty());
}

TEST_F(GraphRulesTest, AGraphThatCannotBeIsSaidToBeSoAndWhatRunsStays) {
  Settle();
  Say(R"([{"name":"f","type":"frontend","multinode":{}}])");
  EXPECT_EQ(Do(), "");
  EXPECT_EQ(deployments_.size(), 2U);
  EXPECT_EQ(State(), "failed");
  EXPECT_NE(graph_.Dump().find("spec.components[0].multinode"), std::string::npos);
  EXPECT_TRUE(Plan().empty());
}

TEST_F(GraphRulesTest, RefusalsAreInTheStatus) {
  refused_[RefusalKey(KubeKind::kDeployment, "g-w")] = "exceeded quota";
  Do();
  EXPECT_EQ(State(), "failed");
  EXPECT_NE(graph_.Dump().find("Deployment g-w: exceeded quota"), std::string::npos);
}

TEST_F(GraphRulesTest, ConditionsSayWhenTheyTurnedAndOfWhichGeneration) {
  Do();
  const auto condition = [&](std::string_view type) {
    for (const Json& one : FindAt(graph_, {"status", "conditions"})->array()) {
      if (TextAt(one, {"type"}) == type) {
        return one;
      }
    }
    return Json();
  };
  EXPECT_EQ(TextAt(condition("Available"), {"status"}), "False");
  const std::string then = TextAt(condition("Available"), {"lastTransitionTime"});
  wall_ += 100;
  Roll("g-w");
  Do();
  EXPECT_EQ(TextAt(condition("Available"), {"lastTransitionTime"}), then) << "still no frontend";
  Roll("g-f");
  Do();
  EXPECT_EQ(TextAt(condition("Available"), {"status"}), "True");
  EXPECT_EQ(TextAt(condition("Available"), {"lastTransitionTime"}),
            KubeTime({.unix_seconds = wall_}));
  EXPECT_EQ(condition("DynamoComponentReady").Find("observedGeneration")->AsInt(), generation_);
}

}  // namespace
}  // namespace pixii::control
