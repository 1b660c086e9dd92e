// /busy_threshold and /clear_kv_blocks.
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;

TEST_F(FrontendTest, RefusesWorkPastTheBusyThreshold) {
  Start();
  EXPECT_EQ(Get("/busy_threshold").body, R"({"thresholds":[]})");
  Reply set = Post("/busy_threshold", R"({"model":"tiny","active_decode_blocks_threshold":0.5})");
  ASSERT_EQ(set.status, 200) << set.body;
  EXPECT_EQ(set.json().Find("active_decode_blocks_threshold")->AsDouble(), 0.5);
  EXPECT_EQ(Get("/busy_threshold").json().Find("thresholds")->array().size(), 1U);
  worker.blocks_used = 32;
  EXPECT_EQ(Chat().status, 200);
  worker.blocks_used = 33;
  EXPECT_EQ(Chat().status, 529);
}

TEST_F(FrontendTest, SaysWhatIsWrongWithABusyThreshold) {
  Start();
  EXPECT_EQ(Post("/busy_threshold", R"({"model":7})").status, 422);
  EXPECT_EQ(Post("/busy_threshold", "{").status, 400);
  EXPECT_EQ(
      Post("/busy_threshold", R"({"model":"tiny","active_decode_blocks_threshold":2})").status,
      400);
  Reply other =
      Post("/busy_threshold", R"({"model":"other","active_decode_blocks_threshold":0.5})");
  EXPECT_EQ(other.status, 404);
  EXPECT_TRUE(other.json().Find("error")->is_string());
  Reply read = Post("/busy_threshold", R"({"model":"other"})");
  EXPECT_EQ(read.status, 200);
  EXPECT_TRUE(read.json().Find("active_decode_blocks_threshold")->is_null());
  EXPECT_EQ(One("POST /busy_threshold HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
                "Content-Length: 2\r\n\r\n{}")
                .status,
            415);
}

TEST_F(FrontendTest, ClearsTheCacheAndSaysWhere) {
  Start();
  Reply reply = Post("/clear_kv_blocks", "");
  EXPECT_EQ(reply.status, 200);
  ASSERT_EQ(reply.json().Find("cleared_workers")->array().size(), 1U);
  EXPECT_EQ(reply.json().Find("cleared_workers")->array()[0].Find("model")->string(), "tiny");
  EXPECT_TRUE(reply.json().Find("failed_workers")->array().empty());
  EXPECT_EQ(worker.clear_count, 1U);
  EXPECT_EQ(worker.cleared_depth, control::CacheDepth::kMemory);
}

TEST_F(FrontendTest, ClearsWhatLastsIfAskedTo) {
  Start();
  EXPECT_EQ(Post("/clear_kv_blocks", R"({"tiers": "all"})").status, 200);
  EXPECT_EQ(worker.cleared_depth, control::CacheDepth::kLasting);
  EXPECT_EQ(Post("/clear_kv_blocks", R"({"tiers": "memory"})").status, 200);
  EXPECT_EQ(worker.cleared_depth, control::CacheDepth::kMemory);
  for (const char* body : {R"({"tiers": "disk"})", R"({"tiers": 1})", R"({"tier": "all"})"}) {
    EXPECT_EQ(Post("/clear_kv_blocks", body).status, 400) << body;
  }
  EXPECT_EQ(worker.clear_count, 2U);
}

TEST_F(FrontendTest, HasNoAdministrationIfToldSo) {
  options.admin_api = false;
  Start();
  EXPECT_EQ(Get("/busy_threshold").status, 404);
  EXPECT_EQ(Post("/clear_kv_blocks", "").status, 404);
}

TEST_F(FrontendTest, AdministersForAdministratorsOnly) {
  keys = *ApiKeys::Parse(R"({"keys":[{"key":"plain-key"},{"key":"admin-key","admin":true}]})");
  Start();
  EXPECT_EQ(Post("/clear_kv_blocks", "", "Authorization: Bearer plain-key\r\n").status, 403);
  EXPECT_EQ(Post("/clear_kv_blocks", "", "Authorization: Bearer admin-key\r\n").status, 200);
}

}  // namespace
}  // namespace pixii::frontend
