#include "frontend/routing_fields.h"

#include <gtest/gtest.h>

#include <string>

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

Result<OpenAiRequest> Read(std::string_view nvext) {
  const std::string body =
      R"({"messages":[{"role":"user","content":"hi"}],"nvext":)" + std::string(nvext) + "}";
  return ParseOpenAiRequest(*wire::ParseJson(body), Surface::kChat);
}

std::string Param(std::string_view nvext) {
  const Result<OpenAiRequest> read = Read(nvext);
  return read ? "taken" : std::string(read.error().param());
}

TEST(RoutingFields, OfNvextAreKeptAsTheyAre) {
  const OpenAiRequest request = *Read(
      R"({"backend_instance_id":9007199254740993,"dp_rank":3,
          "agent_hints":{"osl":9,"strict_priority":2},
          "router_config_override":{"overlap_score_credit":0.5,"assume_kv_reuse":false},
          "routing_constraints":{"required_taints":["a=b"],"preferred_taints":{"c":-1.5}},
          "annotations":["query_instance_id:x"]})");
  EXPECT_EQ(request.routing->worker, 9007199254740993U) << "past what a double holds";
  EXPECT_EQ(request.dp_rank, 3U);
  EXPECT_EQ(request.routing->expected_output_tokens, 9U);
  EXPECT_EQ(request.routing->strict_priority, 2U);
  EXPECT_EQ(request.routing->instead.overlap_credit, 0.5);
  EXPECT_EQ(request.routing->instead.assume_kv_reuse, false);
  EXPECT_FALSE(request.routing->instead.temperature);
  EXPECT_EQ(request.routing->required_taints, std::vector<std::string>{"a=b"});
  ASSERT_EQ(request.routing->preferred_taints.size(), 1U);
  EXPECT_EQ(request.routing->preferred_taints[0].weight, -1.5);
  EXPECT_TRUE(request.nvext.query_worker);
  EXPECT_FALSE(Read(R"({"extra_fields":["timing"]})")->routing);
}

TEST(RoutingFields, OfNvextAreRefusedByName) {
  EXPECT_EQ(Param(R"({"backend_instance_id":0})"), "nvext.backend_instance_id");
  EXPECT_EQ(Param(R"({"decode_worker_id":"7"})"), "nvext.decode_worker_id");
  EXPECT_EQ(Param(R"({"prefill_worker_id":7})"), "nvext.prefill_worker_id");
  EXPECT_EQ(Param(R"({"dp_rank":-1})"), "nvext.dp_rank");
  EXPECT_EQ(Param(R"({"router_config_override":{"router_temperature":-1}})"),
            "nvext.router_config_override.router_temperature");
  EXPECT_EQ(Param(R"({"router_config_override":{"other":1}})"),
            "nvext.router_config_override.other");
  EXPECT_EQ(Param(R"({"routing_constraints":{"required_taints":"a"}})"),
            "nvext.routing_constraints.required_taints");
  EXPECT_EQ(Param(R"({"routing_constraints":{"preferred_taints":{"a":"b"}}})"),
            "nvext.routing_constraints.preferred_taints.a");
}

wire::HttpRequest With(std::vector<wire::HttpField> fields) {
  wire::HttpRequest out;
  out.fields = std::move(fields);
  return out;
}

TEST(RoutingFields, HeadersWinOverTheBody) {
  wire::GenerateRequest request;
  request.routing = wire::RoutingHints{.worker = 1};
  request.dp_rank = 1;
  ASSERT_TRUE(ReadRoutingHeaders(With({{"x-dynamo-worker-instance-id", "12"},
                                       {"x-dynamo-dp-rank", "2"},
                                       {"x-dynamo-request-priority", "-4"},
                                       {"x-dynamo-request-strict-priority", "5"},
                                       {"x-dynamo-session-id", "s-1"},
                                       {"x-dynamo-meta-policy-class", "fast"}}),
                                 request));
  EXPECT_EQ(request.routing->worker, 12U);
  EXPECT_EQ(request.dp_rank, 2U);
  EXPECT_EQ(request.priority, -4);
  EXPECT_EQ(request.routing->strict_priority, 5U);
  EXPECT_EQ(request.session, "s-1");
  EXPECT_EQ(request.routing->policy_class, "fast");
}

TEST(RoutingFields, OlderNamesOfHeadersAreKnown) {
  wire::GenerateRequest request;
  ASSERT_TRUE(ReadRoutingHeaders(With({{"x-worker-instance-id", "12"},
                                       {"x-data-parallel-rank", "2"},
                                       {"x-claude-code-session-id", "c"}}),
                                 request));
  EXPECT_EQ(request.routing->worker, 12U);
  EXPECT_EQ(request.dp_rank, 2U);
  EXPECT_EQ(request.session, "c");
  wire::GenerateRequest plain;
  ASSERT_TRUE(ReadRoutingHeaders(With({{"content-type", "application/json"}}), plain));
  EXPECT_FALSE(plain.routing);
}

TEST(RoutingFields, HeadersAreRefusedByName) {
  for (const auto& [name, value] :
       {std::pair("x-dynamo-worker-instance-id", "0"),
        std::pair("x-dynamo-worker-instance-id", "1x"), std::pair("x-dp-rank", "-1"),
        std::pair("x-dynamo-request-priority", "high"), std::pair("x-dynamo-session-id", ""),
        std::pair("x-dynamo-meta-policy-class", "a b")}) {
    wire::GenerateRequest request;
    const Result<void> read = ReadRoutingHeaders(With({{name, value}}), request);
    ASSERT_FALSE(read) << name << ": " << value;
    EXPECT_EQ(read.error().param(), name);
  }
}

TEST_F(FrontendTest, WithoutARouterARequestCannotChooseItsWorker) {
  Start();
  const auto chat = [this](const std::string& more) {
    return Post("/v1/chat/completions",
                R"({"messages":[{"role":"user","content":"hi"}],)" + more + "}");
  };
  EXPECT_EQ(chat(R"("nvext":{"backend_instance_id":5})").param(), "nvext.backend_instance_id");
  EXPECT_EQ(chat(R"("nvext":{"annotations":["query_instance_id:"]})").status, 400);
  EXPECT_EQ(Post("/router/explain", R"({"token_ids":[1,2]})").status, 400);
  EXPECT_TRUE(worker.seen.empty());
  EXPECT_EQ(chat(R"("nvext":{"dp_rank":1})").status, 200);
  EXPECT_EQ(worker.seen.at(0).dp_rank, 1U);
}

// A worker behind a router: it says where requests would go.
class RoutedTest : public FrontendTest {
 protected:
  RoutedTest() {
    worker.explanation = control::RouteExplanation{
        .mode = "kv",
        .scored = true,
        .block_tokens = 16,
        .prompt_tokens = 3,
        .choice = wire::WorkerRank{7, 1},
        .refusal = {},
        .overlap_tokens = 2,
        .candidates = {{.target = {7, 1}, .standing = "eligible", .terms = {.cost = 1.5}},
                       {.target = {8, 0}, .standing = "busy", .terms = {.cost = 0.5}}}};
  }
};

TEST_F(RoutedTest, AnExplanationHasEveryCandidateAndSendsNothing) {
  Start();
  for (const char* body : {R"({"messages":[{"role":"user","content":"hi"}]})", R"({"prompt":"hi"})",
                           R"({"token_ids":[256,104,105]})"}) {
    const Reply reply = Post("/router/explain", body);
    ASSERT_EQ(reply.status, 200) << reply.body;
    const Json json = reply.json();
    EXPECT_EQ(json.Find("choice")->Find("worker_id")->AsInt(), 7);
    EXPECT_EQ(json.Find("choice")->Find("dp_rank")->AsInt(), 1);
    EXPECT_EQ(json.Find("candidates")->array().size(), 2U);
    EXPECT_EQ(json.Find("candidates")->array()[1].Find("standing")->string(), "busy");
    EXPECT_EQ(json.Find("candidates")->array()[0].Find("terms")->Find("cost")->AsDouble(), 1.5);
  }
  EXPECT_TRUE(worker.seen.empty());
  EXPECT_EQ(worker.explained.size(), 3U);
  EXPECT_EQ(worker.explained[2].prompt, (std::vector<TokenId>{256, 104, 105}));
}

TEST_F(RoutedTest, AQueryIsAnsweredWithTheWorkerAndTheTokens) {
  Start();
  const std::string body =
      R"({"messages":[{"role":"user","content":"hi"}],"nvext":{"annotations":["query_instance_id:"]})";
  const Reply reply = Post("/v1/chat/completions", body + "}");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json nvext = *reply.json().Find("nvext");
  EXPECT_EQ(nvext.Find("worker_id")->Find("decode_worker_id")->AsInt(), 7);
  EXPECT_EQ(nvext.Find("worker_id")->Find("decode_dp_rank")->AsInt(), 1);
  EXPECT_FALSE(nvext.Find("token_ids")->array().empty());
  EXPECT_TRUE(reply.json().Find("choices")->array().empty());
  const auto chunks = Post("/v1/chat/completions", body + R"(,"stream":true})").chunks();
  ASSERT_EQ(chunks.size(), 1U);
  EXPECT_EQ(*chunks[0].Find("nvext"), nvext);
  EXPECT_TRUE(worker.seen.empty());
  worker.explanation->choice.reset();
  worker.explanation->refusal = Error(Code::kResourceExhausted, "all are busy");
  EXPECT_EQ(Post("/v1/chat/completions", body + "}").status, 529);
}

TEST_F(RoutedTest, HeadersReachTheRouterUnlessTheOperatorDropsThem) {
  options.rules.ignore_nvext = true;
  Start();
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"hi","nvext":{"backend_instance_id":5}})").status,
            200);
  EXPECT_FALSE(worker.seen.at(0).routing);
}

}  // namespace
}  // namespace pixii::frontend
