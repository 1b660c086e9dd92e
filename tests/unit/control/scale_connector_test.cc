#include "control/scale_connector.h"

#include <gtest/gtest.h>

#include <optional>

#include "control/scale_keeper.h"
#include "unit/control/store_worlds.h"

namespace pixii::control {
namespace {

using std::chrono::seconds;
using wire::Json;

const PoolComponents kBoth = {"prefill", "decode"};

template <class World>
struct Calls {
  template <class T>
  static rt::Task<void> Into(rt::Task<Result<T>> task, std::optional<Result<T>>& out) {
    out.emplace(co_await std::move(task));
  }

  template <class T>
  Result<T> Do(rt::Task<Result<T>> task) {
    std::optional<Result<T>> out;
    world.loop().Spawn(Into(std::move(task), out));
    // What is known at once is there at once: this is asked inside RunUntil, too.
    EXPECT_TRUE(out.has_value() || world.RunUntil([&] { return out.has_value(); }));
    return std::move(*out);
  }

  Result<ScaleView> Look(ScaleConnector& connector) {
    return Do(connector.Look(world.loop().Now() + seconds(5)));
  }

  Result<void> Scale(ScaleConnector& connector, ScaleOrder order) {
    return Do(connector.Scale(std::move(order), world.loop().Now() + seconds(5)));
  }

  World world;
};

ScaleOrder Order(std::int64_t decision, std::uint32_t prefill, std::uint32_t decode) {
  return {.decision = decision,
          .counts = {{"prefill", prefill}, {"decode", decode}},
          .reason = "because"};
}

// Spec dynamo-core F4.
TEST(StoreConnector, APlannerWaitsUntilItsDecisionIsDone) {
  Calls<MemStoreWorld> calls;
  const auto store = calls.world.Open();
  const auto other = calls.world.Open();
  const auto connector = MakeStoreConnector(
      calls.world.loop(), *store, {.ns = "n", .components = kBoth, .patience = seconds(1800)});
  ASSERT_TRUE(calls.world.RunUntil([&] { return calls.Look(*connector).has_value(); }));
  EXPECT_FALSE(calls.Look(*connector)->asked[0]) << "nobody has said how many there are";
  std::optional<ScaleOrder> heard;
  ScaleDoer doer(*other, "n", [&](const ScaleOrder& order) { heard = order; });
  ASSERT_TRUE(calls.Scale(*connector, Order(5, 2, 3)));
  ASSERT_TRUE(calls.world.RunUntil([&] { return heard.has_value(); }));
  EXPECT_EQ(heard->counts, Order(5, 2, 3).counts);
  EXPECT_TRUE(calls.Look(*connector)->pending);
  EXPECT_EQ(calls.Look(*connector)->asked[1], 3U);
  // An older one being done is not enough.
  ASSERT_TRUE(doer.Say({.decision = 4, .counts = {}, .error = {}}));
  ASSERT_TRUE(calls.world.RunUntil([&] { return heard->done == 4; }));
  EXPECT_TRUE(calls.Look(*connector)->pending);
  ASSERT_TRUE(doer.Say({.decision = 5, .counts = {{"prefill", 2}, {"decode", 3}}, .error = {}}));
  ASSERT_TRUE(calls.world.RunUntil([&] { return heard->done == 5; }))
      << "whoever says it reads that it is known";
  const auto view = calls.Look(*connector);
  EXPECT_FALSE(view->pending);
  EXPECT_EQ(view->asked[0], 2U);
}

TEST(StoreConnector, WhatNobodySaysIsDoneCountsAsDoneAfterItsTime) {
  Calls<MemStoreWorld> calls;
  const auto store = calls.world.Open();
  const auto connector = MakeStoreConnector(
      calls.world.loop(), *store, {.ns = "n", .components = kBoth, .patience = seconds(3)});
  ASSERT_TRUE(calls.world.RunUntil([&] { return calls.Look(*connector).has_value(); }));
  ASSERT_TRUE(calls.Scale(*connector, Order(5, 2, 3)));
  EXPECT_TRUE(calls.Look(*connector)->pending);
  calls.world.world().RunTo(calls.world.world().now() + seconds(4));
  EXPECT_FALSE(calls.Look(*connector)->pending);
}

TEST(StoreConnector, WhereAFleetKeepsCountItsWordIsWaitedForAndItsRefusalTold) {
  Calls<MemStoreWorld> calls;
  const auto store = calls.world.Open();
  const auto other = calls.world.Open();
  const auto connector = MakeStoreConnector(
      calls.world.loop(), *store, {.ns = "n", .components = {"", "decode"}, .needs_report = true});
  EXPECT_FALSE(calls.Look(*connector)) << "nobody is there";
  std::optional<ScaleOrder> heard;
  auto doer =
      std::make_unique<ScaleDoer>(*other, "n", [&](const ScaleOrder& order) { heard = order; });
  ASSERT_TRUE(doer->Say({.decision = 0, .counts = {{"decode", 2}}, .error = {}}));
  ASSERT_TRUE(calls.world.RunUntil([&] { return calls.Look(*connector).has_value(); }));
  EXPECT_EQ(calls.Look(*connector)->asked[1], 2U);
  ASSERT_TRUE(calls.Scale(*connector, {.decision = 1, .counts = {{"decode", 9}}, .reason = ""}));
  ASSERT_TRUE(calls.world.RunUntil([&] { return heard.has_value(); }));
  ASSERT_TRUE(doer->Say({.decision = 1, .counts = {{"decode", 2}}, .error = "no room"}));
  ASSERT_TRUE(calls.world.RunUntil([&] { return heard->done == 1; }));
  const auto view = calls.Look(*connector);
  EXPECT_EQ(view->error, "no room");
  EXPECT_EQ(view->asked[1], 2U);
}

// Spec dynamo-core F.3, H.1.
class KubeConnectorTest : public testing::Test {
 protected:
  KubeConnectorTest() {
    kube::ApiState state = calls_.world.server().Save();
    state.AddResource({.group_version = "nvidia.com/v1beta1",
                       .plural = "dynamographdeployments",
                       .kind = "DynamoGraphDeployment"});
    calls_.world.server().Restore(std::move(state));
    // What the planner's role has to allow, and no more.
    calls_.world.server().SetRules({{{"dynamographdeployments", {"get", "patch"}}}});
    connector_ = MakeKubeConnector(calls_.world.loop(), calls_.world.net(), calls_.world.access(),
                                   "graph", kBoth);
  }

  void Apply(const std::string& components) {
    const std::string body =
        R"({"apiVersion":"nvidia.com/v1beta1","kind":"DynamoGraphDeployment",)"
        R"("metadata":{"name":"graph"},"spec":{"backendFramework":"trtllm","components":)" +
        components + "}}";
    const kube::Reply made = calls_.world.server().Handle(
        {.method = "POST",
         .path = "/apis/nvidia.com/v1beta1/namespaces/" + calls_.world.access().space +
                 "/dynamographdeployments",
         .query = "",
         .accept = "application/json",
         .content_type = "application/json",
         .body = body});
    ASSERT_EQ(made.status, 201) << made.body.Dump();
  }

  Json Components() {
    return *FindAt(calls_.world.server().state().Objects("dynamographdeployments").at(0),
                   {"spec", "components"});
  }

  static constexpr const char* kComponents =
      R"([{"name":"Frontend","type":"frontend","replicas":1},)"
      R"({"name":"P","type":"prefill","replicas":2,"podTemplate":{"spec":{"containers":[{"name":"main"}]}}},)"
      R"({"name":"D","type":"decode"}])";

  Calls<KubeStoreWorld> calls_;
  std::unique_ptr<ScaleConnector> connector_;
};

TEST_F(KubeConnectorTest, ReplicasAreReadByNameOrTypeAndNothingElseIsTouched) {
  Apply(kComponents);
  const auto view = calls_.Look(*connector_);
  ASSERT_TRUE(view) << view.error().detail();
  EXPECT_EQ(view->asked[0], 2U);
  EXPECT_EQ(view->asked[1], 1U) << "the default of a component";
  EXPECT_FALSE(view->pending);
  ASSERT_TRUE(calls_.Scale(*connector_, Order(1, 3, 4)));
  EXPECT_EQ(Components().Dump(),
            R"([{"name":"Frontend","replicas":1,"type":"frontend"},)"
            R"({"name":"P","podTemplate":{"spec":{"containers":[{"name":"main"}]}},"replicas":3,)"
            R"("type":"prefill"},{"name":"D","replicas":4,"type":"decode"}])");
}

TEST_F(KubeConnectorTest, WhatSomebodyElseChangesMeanwhileIsReadAnew) {
  Apply(kComponents);
  calls_.world.server().Inject(
      {.verb = "patch", .plural = "dynamographdeployments", .status = 409, .reason = "Conflict"});
  ASSERT_TRUE(calls_.Scale(*connector_, Order(1, 5, 1)));
  EXPECT_EQ(calls_.Look(*connector_)->asked[0], 5U);
  calls_.world.server().Inject({.verb = "patch",
                                .plural = "dynamographdeployments",
                                .status = 409,
                                .reason = "Conflict",
                                .count = 9});
  EXPECT_EQ(calls_.Scale(*connector_, Order(2, 6, 1)).error().code(), Code::kUnavailable);
}

TEST_F(KubeConnectorTest, ADeploymentThatIsNotThereOrLacksAPoolIsNamed) {
  EXPECT_NE(calls_.Look(*connector_).error().detail().find("graph"), std::string::npos);
  Apply(
      R"([{"name":"Frontend","type":"frontend"},{"name":"A","type":"worker"},{"name":"B","type":"worker"}])");
  const auto view = calls_.Look(*connector_);
  ASSERT_FALSE(view);
  EXPECT_NE(view.error().detail().find("Frontend, A, B"), std::string::npos);
}

}  // namespace
}  // namespace pixii::control
