// GET /v1/cluster.
#include "frontend/cluster_view.h"
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

const Json& At(const Json& in, std::string_view name) {
  static const Json kNone;
  const Json* found = in.Find(name);
  return found != nullptr ? *found : kNone;
}

TEST_F(FrontendTest, TheClusterShowsTheModelAndItsLoad) {
  worker.blocks_used = 7;
  Start();
  Reply reply = Get("/v1/cluster");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json view = reply.json();
  EXPECT_TRUE(At(view, "ready").boolean());
  EXPECT_EQ(At(view, "requests_in_flight").AsInt(), 0);
  EXPECT_TRUE(At(view, "workers").array().empty());
  ASSERT_EQ(At(view, "models").array().size(), 1U);
  const Json& shown = At(view, "models").array()[0];
  EXPECT_EQ(At(shown, "name").string(), "tiny");
  EXPECT_EQ(At(shown, "names").array().size(), 2U);
  EXPECT_EQ(At(shown, "task").string(), "generate");
  EXPECT_EQ(At(shown, "block_tokens").AsInt(), 16);
  EXPECT_EQ(At(At(At(shown, "load"), "blocks"), "used").AsInt(), 7);
  ASSERT_EQ(At(shown, "ranks").array().size(), 1U);
  EXPECT_EQ(At(At(shown, "ranks").array()[0], "state").string(), "awake");
}

TEST_F(FrontendTest, TheClusterGoesWithTheAdminRoutes) {
  options.admin_api = false;
  Start();
  EXPECT_EQ(Get("/v1/cluster").status, 404);
}

TEST_F(FrontendTest, WhatEndedIsListedFromALookOn) {
  Start();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Post("/v1/completions", R"({"prompt":"a","max_tokens":2})").status, 200);
  }
  const Json all = Get("/v1/requests").json();
  EXPECT_EQ(At(all, "begun").AsInt(), 3);
  EXPECT_EQ(At(all, "ended").AsInt(), 3);
  EXPECT_EQ(At(all, "process").string().size(), 16U);
  ASSERT_EQ(At(all, "data").array().size(), 3U);
  EXPECT_EQ(At(At(all, "data").array()[0], "sequence").AsInt(), 1);
  const Json since = Get("/v1/requests?after=2").json();
  ASSERT_EQ(At(since, "data").array().size(), 1U);
  EXPECT_EQ(At(At(since, "data").array()[0], "sequence").AsInt(), 3);
  for (const char* query : {"?after=", "?after=x", "?before=1", "?after=1x", "?after=-1"}) {
    EXPECT_EQ(Get("/v1/requests" + std::string(query)).status, 400) << query;
  }
}

TEST(ClusterView, ShowsWorkersOfOtherProcessesWithWhatIsDoneWithThem) {
  ClusterView view;
  control::Instance instance;
  instance.id = control::InstanceId{0xabcdef};
  instance.address = "host:1";
  instance.role = control::WorkerRole::kPrefill;
  instance.rank_first = 2;
  instance.rank_count = 2;
  instance.card.name = "tiny";
  view.workers.push_back({.instance = instance, .state = "excluded", .reason = "other_model"});
  wire::WorkerLoad load;
  load.state = wire::WorkerState::kAsleep;
  load.running = 3;
  view.workers.push_back({.instance = instance, .state = "available", .load = load});
  const auto json = wire::ParseJson(ClusterJson(view));
  ASSERT_TRUE(json);
  const Json::Array& workers = At(*json, "workers").array();
  ASSERT_EQ(workers.size(), 2U);
  EXPECT_EQ(At(workers[0], "name").string(), "abcdef");
  EXPECT_EQ(At(workers[0], "role").string(), "prefill");
  EXPECT_EQ(At(workers[0], "state").string(), "excluded");
  EXPECT_EQ(At(workers[0], "reason").string(), "other_model");
  EXPECT_EQ(At(At(workers[0], "ranks"), "first").AsInt(), 2);
  EXPECT_TRUE(At(workers[0], "load").is_null());
  EXPECT_EQ(At(At(workers[1], "load"), "running").AsInt(), 3);
  EXPECT_EQ(At(At(workers[1], "load"), "state").string(), "asleep");
}

}  // namespace
}  // namespace pixii::frontend
