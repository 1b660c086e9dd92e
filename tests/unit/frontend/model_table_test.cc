// Several models behind one frontend, coming and going.
#include "frontend/model_table.h"

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FakeText;
using testing::FakeWorker;
using testing::Reply;

class ModelTableTest : public testing::FrontendTest {
 protected:
  ModelTableTest() {
    other.mutable_card().name = "other";
    other.mutable_card().fingerprint = "g";
    other.reply = "Other!";
  }

  ServiceId ServeOther() {
    return frontend->Serve(
        {.names = {"other"}, .text = std::make_shared<FakeText>(), .defaults = {}, .created = 5},
        std::shared_ptr<control::WorkerLink>(&other,
                                             [this](control::WorkerLink*) { let_go = true; }));
  }

  void TearDown() override { frontend.reset(); }

  Reply Complete(std::string_view model, std::string_view more = {}) {
    std::string body = R"({"prompt":"hi")";
    if (!model.empty()) {
      body += R"(,"model":)" + wire::Json(model).Dump();
    }
    return Post("/v1/completions", body + std::string(more) + "}");
  }

  std::string Text(const Reply& reply) {
    return reply.status == 200 ? reply.json().Find("choices")->array()[0].Find("text")->string()
                               : std::to_string(reply.status);
  }

  std::vector<std::string> Listed() {
    std::vector<std::string> out;
    const wire::Json list = Get("/v1/models").json();
    for (const wire::Json& model : list.Find("data")->array()) {
      out.push_back(model.Find("id")->string());
    }
    return out;
  }

  // A model is listed once it has answered a test request.
  bool WaitForModels(std::size_t count) {
    for (int i = 0; i < 100; ++i) {
      if (Listed().size() == count) {
        return true;
      }
    }
    return false;
  }

  FakeWorker other{server.loop()};
  bool let_go = false;
};

TEST_F(ModelTableTest, RequestsGoToTheModelThatTheyName) {
  Start();
  ServeOther();
  ASSERT_TRUE(WaitForModels(2));
  EXPECT_EQ(Text(Complete("tiny")), "Hello!");
  EXPECT_EQ(Text(Complete("alias")), "Hello!");
  EXPECT_EQ(Text(Complete("other")), "Other!");
  EXPECT_EQ(Complete("third").status, 404);
  const Reply nobody = Complete("");
  EXPECT_EQ(nobody.status, 400);
  EXPECT_EQ(nobody.json().Find("error")->Find("param")->string(), "model");
  EXPECT_EQ(Post("/v1/completions", R"({"model":7,"prompt":"hi"})").status, 400);
  EXPECT_EQ(Post("/v1/completions", R"({"model":"other")").status, 400);
  EXPECT_EQ(Get("/v1/models/other").json().Find("created")->AsInt(), 5);
  EXPECT_EQ(Get("/v1/models/third").status, 404);
  ExpectQuiet();
}

TEST_F(ModelTableTest, EachModelHasItsOwnAdaptersLimitsAndTexts) {
  other.mutable_card().adapters.push_back(
      {.name = "poet", .source = "/p", .version = "v", .id = 1});
  other.mutable_card().context_tokens_max = 4;
  options.adapter_api = true;
  Start();
  ServeOther();
  ASSERT_TRUE(WaitForModels(3));
  EXPECT_EQ(Complete("poet", R"(,"max_tokens":9)").status, 400);
  EXPECT_EQ(Text(Complete("poet", R"(,"max_tokens":1)")), "O");
  EXPECT_EQ(other.seen.back().adapter, "poet");
  const Reply count = Post("/tokenize", R"({"model":"other","prompt":"hi"})");
  EXPECT_EQ(count.json().Find("max_model_len")->AsInt(), 4);
  const std::string load = R"({"lora_name":"bard","source":{"uri":"file:///b"})";
  EXPECT_EQ(Post("/v1/loras", load + "}").status, 400) << "whose?";
  EXPECT_EQ(Post("/v1/loras", load + R"(,"base_model_name":"other"})").status, 200);
  EXPECT_EQ(other.loads.size(), 1U);
  EXPECT_TRUE(worker.loads.empty());
  EXPECT_EQ(Get("/v1/loras").json().Find("count")->AsInt(), 2);
  EXPECT_EQ(One(Raw("DELETE", "/v1/loras/bard")).status, 200);
  EXPECT_EQ(One(Raw("DELETE", "/v1/loras/bard")).status, 404);
  EXPECT_EQ(
      Post("/busy_threshold", R"({"model":"other","active_decode_blocks_threshold":0})").status,
      200);
  other.blocks_used = 1;
  EXPECT_EQ(Complete("other", R"(,"max_tokens":1)").status, 529);
  EXPECT_EQ(Text(Complete("tiny")), "Hello!");
}

TEST_F(ModelTableTest, AModelThatGoesEndsWhatItHas) {
  Start();
  const ServiceId id = ServeOther();
  ASSERT_TRUE(WaitForModels(2));
  other.automatic = false;
  Session session;
  tasks.Start(Talk(session, Raw("POST", "/v1/completions", R"({"model":"other","prompt":"hi"})"), 1,
                   false, false));
  ASSERT_TRUE(Until([&] { return other.open.size() == 1; }));
  frontend->Retire(id);
  EXPECT_EQ(Listed(), (std::vector<std::string>{"tiny"}));
  EXPECT_EQ(Complete("other").status, 404);
  EXPECT_FALSE(let_go);
  const RequestId running = other.open.begin()->first;
  other.Emit(running, 0, "late");
  other.End(running, 0, wire::FinishReason::kStop);
  ASSERT_TRUE(Until([&] { return session.done; }));
  EXPECT_EQ(Text(session.replies.at(0)), "late");
  EXPECT_TRUE(Until([&] { return let_go; }));
  frontend->Retire(id);  // once is enough
}

TEST_F(ModelTableTest, AnotherVersionTakesTheNameOver) {
  Start();
  ASSERT_EQ(Text(Complete("tiny")), "Hello!");
  frontend->Serve({.names = {"tiny"}, .text = std::make_shared<FakeText>(), .defaults = {}}, other);
  EXPECT_EQ(Text(Complete("tiny")), "Other!");
  ASSERT_TRUE(WaitForModels(1));
  EXPECT_EQ(Listed(), (std::vector<std::string>{"tiny"}));
}

TEST_F(ModelTableTest, AFrontendWithoutModelsSaysSo) {
  FrontendEnvironment environment{.loop = server.loop(), .net = server.net()};
  frontend.emplace(environment, options, keys);
  const auto bound = frontend->Start({.host = "server", .port = 8000});
  ASSERT_TRUE(bound);
  address = {.host = "server", .port = bound->port};
  EXPECT_EQ(Complete("other").status, 503) << "it may come";
  EXPECT_EQ(Get("/health").status, 503);
  EXPECT_TRUE(Listed().empty());
  frontend->SetPending({{"other", "it loads"}});
  const Reply waits = Complete("other");
  EXPECT_EQ(waits.status, 503);
  EXPECT_NE(waits.body.find("it loads"), std::string::npos);
  frontend->SetPending({});
  const ServiceId id = ServeOther();
  ASSERT_TRUE(Until([&] { return frontend->ready(); }));
  EXPECT_EQ(Get("/health").status, 200);
  EXPECT_EQ(Text(Complete("")), "Other!") << "the only one is meant";
  frontend->Retire(id);
  EXPECT_EQ(Complete("other").status, 404);
  EXPECT_EQ(Get("/ready").status, 503);
  EXPECT_TRUE(Until([&] { return let_go; }));
}

TEST_F(ModelTableTest, HealthShowsTheWorkers) {
  control::Instance instance;
  instance.id = control::InstanceId{7};
  instance.address = "w:1";
  instance.card.name = "other";
  const std::vector<ShownInstance> shown = {
      {.instance = instance,
       .state = "excluded",
       .reason = "config_conflict",
       .detail = "kv_cache_block_size is \"32\", where most workers have \"16\""}};
  FrontendEnvironment environment{
      .loop = server.loop(), .net = server.net(), .instances = [&] { return shown; }};
  frontend.emplace(environment, options, keys);
  const auto bound = frontend->Start({.host = "server", .port = 8000});
  ASSERT_TRUE(bound);
  address = {.host = "server", .port = bound->port};
  ServeOther();
  ASSERT_TRUE(Until([&] { return frontend->ready(); }));
  const wire::Json health = Get("/health").json();
  EXPECT_EQ(health.Find("endpoints")->Dump(), R"(["dyn://dynamo.backend.generate"])");
  ASSERT_EQ(health.Find("instances")->array().size(), 1U);
  const wire::Json& one = health.Find("instances")->array()[0];
  EXPECT_EQ(one.Find("instance_id")->AsInt(), 7);
  EXPECT_EQ(one.Find("state")->string(), "excluded");
  EXPECT_EQ(one.Find("reason")->string(), "config_conflict");
  EXPECT_EQ(one.Find("message")->string(), shown[0].detail);
}

TEST(PeekModelTest, AgreesWithTheParser) {
  for (const char* body :
       {R"({"model":"a"})", R"( { "x" : [ {"model":"no"}, "model" ] , "model" : "a" } )",
        R"({"messages":[{"role":"user","content":"\"model\":\"no\" {[\\"}],"model":"a\"\u00e9"})",
        R"({"mod\u0065l":"a"})", R"({"model":null})", R"({"model":7})", R"({})", R"([])",
        R"("model")", R"({"a":{"model":"no"}})", R"({"a":"model","b":"x"})"}) {
    const Result<wire::Json> parsed = wire::ParseJson(body);
    ASSERT_TRUE(parsed) << body;
    const wire::Json* model = parsed->is_object() ? parsed->Find("model") : nullptr;
    const std::optional<std::string> expected =
        model != nullptr && model->is_string() ? std::optional(model->string()) : std::nullopt;
    EXPECT_EQ(PeekModel(body), expected) << body;
  }
}

TEST(PeekModelTest, SurvivesWhatIsNoJson) {
  for (const char* body : {"", " ", "{", "}", "{\"", "{\"model", "{\"model\"",
                           "{\"model\":", "{\"model\":\"", "{\"model\":\"a", "{\"model\" 1", "]}{",
                           "{]]]]", "\\", "{\"model\":\"\\", "{\"model\":\"\\x\"}"}) {
    EXPECT_EQ(PeekModel(body), std::nullopt) << body;
  }
}

}  // namespace
}  // namespace pixii::frontend
