// GET /v1/cluster, and the web page at "/".
#include <array>

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

constexpr std::array<PageAsset, 2> kPage = {{
    {.path = "/",
     .content_type = "text/html; charset=utf-8",
     .etag = "\"1\"",
     .plain = "<html>",
     .gzip = "(small)"},
    {.path = "/page/a-b.js",
     .content_type = "text/javascript; charset=utf-8",
     .etag = "\"2\"",
     .plain = "code",
     .gzip = "(c)"},
}};

TEST_F(FrontendTest, ThePageComesCompressedToWhoTakesThat) {
  options.page = kPage;
  Start();
  Reply plain = Get("/");
  EXPECT_EQ(plain.status, 200);
  EXPECT_EQ(plain.body, "<html>");
  EXPECT_EQ(plain.Field("Content-Type"), "text/html; charset=utf-8");
  EXPECT_EQ(plain.Field("Cache-Control"), "no-cache");
  EXPECT_NE(plain.Field("Content-Security-Policy").find("default-src 'none'"),
            std::string_view::npos);
  Reply small = One("GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip\r\n\r\n");
  EXPECT_EQ(small.body, "(small)");
  EXPECT_EQ(small.Field("Content-Encoding"), "gzip");
  Reply script = Get("/page/a-b.js");
  EXPECT_EQ(script.body, "code");
  EXPECT_NE(script.Field("Cache-Control").find("immutable"), std::string_view::npos);
  EXPECT_EQ(Get("/page/a-c.js").status, 404);
}

TEST_F(FrontendTest, WhoHasThePageGetsItNotAgain) {
  options.page = kPage;
  Start();
  Reply reply = One("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"1\"\r\n\r\n");
  EXPECT_EQ(reply.status, 304);
  EXPECT_TRUE(reply.body.empty());
  EXPECT_EQ(One("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \"0\"\r\n\r\n").status, 200);
}

TEST_F(FrontendTest, WithoutAPageTheRootSaysSo) {
  Start();
  Reply reply = Get("/");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(reply.Field("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_NE(reply.body.find("built without npm"), std::string::npos);
}

TEST_F(FrontendTest, ThePageCanBeSwitchedOff) {
  options.page = kPage;
  options.disabled_endpoints = {"page"};
  Start();
  EXPECT_EQ(Get("/").status, 404);
  EXPECT_EQ(Get("/page/a-b.js").status, 404);
  EXPECT_EQ(Get("/health").status, 200);
}

}  // namespace
}  // namespace pixii::frontend
