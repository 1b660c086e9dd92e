// Sleep and wake by HTTP.
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend::testing {
namespace {

constexpr std::string_view kRelease = "/engine/control/release_memory_occupation";
constexpr std::string_view kResume = "/engine/control/resume_memory_occupation";

class ControlRoutesTest : public FrontendTest {
 protected:
  static std::string Text(const Reply& reply, std::string_view name) {
    wire::Json body = reply.json();
    const wire::Json* found = body.Find(name);
    return found != nullptr && found->is_string() ? found->string() : "";
  }
};

TEST_F(ControlRoutesTest, TheWorkerIsAskedAndReadinessFollows) {
  Start();
  Reply reply = Post(kRelease, R"({"tags":["kv_cache"],"timeout_s":1.5})");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(Text(reply, "status"), "ok");
  ASSERT_EQ(worker.memory_calls.size(), 1U);
  EXPECT_TRUE(worker.memory_calls[0].release);
  EXPECT_TRUE(worker.memory_calls[0].tags.kv_cache);
  EXPECT_FALSE(worker.memory_calls[0].tags.weights);
  EXPECT_EQ(worker.memory_calls[0].patience, 1500ms);
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_EQ(Get("/live").status, 200);
  // An empty body and no body mean both parts.
  EXPECT_EQ(Text(Post(kResume, "{}"), "status"), "ok");
  EXPECT_EQ(Text(Post(kRelease, ""), "status"), "ok");
  EXPECT_TRUE(worker.memory_calls[2].tags.kv_cache && worker.memory_calls[2].tags.weights);
  EXPECT_EQ(worker.memory_calls[2].patience, 30s);
  EXPECT_EQ(Text(Post(kResume, ""), "status"), "ok");
  EXPECT_TRUE(Until([&] { return frontend->ready(); }, 2s)) << "a test generation follows at once";
}

TEST_F(ControlRoutesTest, AFailureHasStatusMessageAndTypedError) {
  Start();
  worker.memory_refusal = Error(Code::kDeadlineExceeded, "2 requests still ran");
  Reply reply = Post(kRelease, "{}");
  EXPECT_EQ(reply.status, 504);
  EXPECT_EQ(Text(reply, "status"), "error");
  EXPECT_EQ(Text(reply, "message"), "2 requests still ran");
  EXPECT_NE(reply.json().Find("error"), nullptr);
  EXPECT_TRUE(frontend->ready());
}

TEST_F(ControlRoutesTest, WhatIsWrongIsRefusedBeforeTheWorkerHearsOfIt) {
  Start();
  for (auto [body, param] : {std::pair{R"({"tags":[]})", "tags"},
                             {R"({"tags":["kv"]})", "tags"},
                             {R"({"tags":[1]})", "tags"},
                             {R"({"tags":{}})", "tags"},
                             {R"({"timeout_s":-1})", "timeout_s"},
                             {R"({"timeout_s":1e9})", "timeout_s"},
                             {R"({"timeout_s":"5"})", "timeout_s"},
                             {R"({"timeout":5})", "timeout"}}) {
    for (std::string_view route : {kRelease, kResume}) {
      Reply reply = Post(route, body);
      EXPECT_EQ(reply.status, 400) << body;
      EXPECT_EQ(reply.param(), param);
    }
  }
  EXPECT_EQ(Post(kRelease, "[").status, 400);
  EXPECT_EQ(Get(kRelease).status, 405);
  EXPECT_TRUE(worker.memory_calls.empty());
}

TEST_F(ControlRoutesTest, AKeyIsNeededWhereKeysAre) {
  auto parsed = ApiKeys::Parse("secret-key-0001\n");
  ASSERT_TRUE(parsed);
  keys = std::move(*parsed);
  Start();
  EXPECT_EQ(Post(kRelease, "{}").status, 401);
  EXPECT_EQ(Post(kRelease, "{}", "Authorization: Bearer secret-key-0001\r\n").status, 200);
}

TEST_F(ControlRoutesTest, SwitchedOffItIsNotDone) {
  options.engine_control = false;
  Start();
  EXPECT_EQ(Post(kRelease, "{}").status, 400);
  EXPECT_TRUE(worker.memory_calls.empty());
}

TEST_F(ControlRoutesTest, AClientThatLeavesIsForgottenAndTheWorkGoesOn) {
  Start();
  worker.hold_memory = true;
  Session session;
  tasks.Start(Talk(session, Raw("POST", kRelease, "{}"), 1, false, false));
  ASSERT_TRUE(Until([&] { return worker.memory_calls.size() == 1; }));
  tasks.Clear();
  session.stream.reset();
  EXPECT_TRUE(Until([&] { return frontend->connection_count() == 0; }, 30s));
  worker.memory_calls[0].on_done({});
  EXPECT_EQ(Get("/live").status, 200);
}

}  // namespace
}  // namespace pixii::frontend::testing
