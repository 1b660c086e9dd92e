// nvext and what an operator decides about bodies.
#include "frontend/openai_request.h"

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

Result<OpenAiRequest> Read(std::string_view more, const RequestRules& rules = {}) {
  return ParseOpenAiRequest(*wire::ParseJson(R"({"messages":[{"role":"user","content":"hi"}],)" +
                                             std::string(more) + "}"),
                            Surface::kChat, rules);
}

std::string Param(std::string_view more, const RequestRules& rules = {}) {
  auto read = Read(more, rules);
  return read ? std::string("taken") : std::string(read.error().param());
}

TEST_F(FrontendTest, ShowsNvextOnlyToWhoeverAsksAndOnlyAtTheEnd) {
  Start();
  EXPECT_EQ(Chat().json().Find("nvext"), nullptr);
  constexpr std::string_view kAll =
      R"("nvext":{"extra_fields":["timing","worker_id","stop_reason","unknown"]},"stop":"lo")";
  Json nvext = *Chat(kAll).json().Find("nvext");
  EXPECT_NE(nvext.Find("worker_id")->Find("decode_worker_id"), nullptr);
  EXPECT_EQ(nvext.Find("stop_reason")->string(), "lo");
  EXPECT_GE(nvext.Find("timing")->Find("total_time_ms")->AsDouble().value_or(-1),
            nvext.Find("timing")->Find("ttft_ms")->AsDouble().value_or(1e9));
  std::vector<Json> chunks = Chat(std::string(kAll) + R"(,"stream":true)").chunks();
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].Find("nvext") != nullptr, i + 1 == chunks.size()) << i;
  }
}

TEST_F(FrontendTest, RefusesNvextFieldsWhereAnAnswerHasNoPlaceForThem) {
  Start();
  for (std::string_view wish :
       {R"({"extra_fields":["timing"]})", R"({"annotations":["token_ids"]})"}) {
    const std::string nvext = R"("nvext":)" + std::string(wish) + "}";
    EXPECT_EQ(Post("/v1/responses", R"({"input":"hi",)" + nvext).param(), "nvext");
    const Reply tensors = Post("/v2/models/tiny/generate", R"({"text_input":"hi",)" + nvext);
    EXPECT_EQ(tensors.status, 400) << tensors.body;
  }
  EXPECT_EQ(Post("/v1/responses", R"({"input":"hi","nvext":{"annotations":["other"]}})").status,
            200);
}

TEST_F(FrontendTest, NamesFieldsOfNvextAsTheyWereWritten) {
  Start();
  EXPECT_EQ(Param(R"("nvext":{"top_k":-2})"), "nvext.top_k");
  const Reply reply = Chat(R"("nvext":{"token_data":[99999]})");
  EXPECT_EQ(reply.param(), "nvext.token_data") << reply.body;
}

TEST_F(FrontendTest, SendsAnnotationsAsEventsOfTheirOwn) {
  Start();
  Reply reply = Chat(R"("stream":true,"nvext":{"annotations":["request_id","nobody:knows"]})");
  wire::SseParser parser;
  std::vector<wire::SseEvent> events;
  ASSERT_TRUE(parser.Feed(reply.body, events));
  ASSERT_GT(events.size(), 2U);
  EXPECT_EQ(events[0].event, "request_id");
  EXPECT_EQ(*wire::ParseJson(events[0].data), *wire::ParseJson(events[1].data)->Find("id"));
  EXPECT_EQ(events[1].event, "");
}

TEST_F(FrontendTest, TakesAPromptThatIsGivenAsItIs) {
  Start();
  Chat(R"("nvext":{"token_data":[72,105]})");
  EXPECT_EQ(worker.seen.at(0).prompt, (std::vector<TokenId>{72, 105}));
  Chat(R"("nvext":{"use_raw_prompt":true})");
  EXPECT_EQ(worker.seen.at(1).prompt, (std::vector<TokenId>{256, 'h', 'i'}));
}

TEST_F(FrontendTest, NamesTokensOfLogprobsByTheirIds) {
  Start();
  Json body = Chat(R"("logprobs":true,"max_tokens":1,"return_tokens_as_token_ids":true)").json();
  EXPECT_EQ(testing::Choice(body)
                .Find("logprobs")
                ->Find("content")
                ->array()
                .at(0)
                .Find("token")
                ->string(),
            "token_id:72");
}

TEST_F(FrontendTest, EndsStreamsWithUsageIfTheOperatorSaysSo) {
  options.rules.force_usage = true;
  Start();
  EXPECT_EQ(
      Chat(R"("stream":true)").chunks().back().Find("usage")->Find("completion_tokens")->AsInt(),
      6);
  EXPECT_EQ(Chat().status, 200);
}

TEST(Nvext, ReadsWhatOneProcessHas) {
  EXPECT_EQ(Read(R"("nvext":{"agent_hints":{"priority":5,"osl":9}})")->priority, -5);
  EXPECT_EQ(Param(R"("priority":1,"nvext":{"agent_hints":{"priority":5}})"),
            "nvext.agent_hints.priority");
  EXPECT_EQ(Param(R"("nvext":{"extra_fields":"timing"})"), "nvext.extra_fields");
  EXPECT_EQ(Param(R"("nvext":{"use_raw_prompt":true},"chat_template_kwargs":{"a":1})"),
            "nvext.use_raw_prompt");
  EXPECT_EQ(Param(R"("nvext":{"greed_sampling":1})"), "nvext.greed_sampling");
  EXPECT_EQ(Read(R"("nvext":{"greed_sampling":true})")->temperature, 0);
}

TEST(Nvext, IsDroppedUnreadIfTheOperatorSaysSo) {
  auto read = Read(R"("nvext":{"greed_sampling":true,"foo":[]})", {.ignore_nvext = true});
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_FALSE(read->temperature);
}

TEST(RequestRules, DropUnknownFieldsOnlyIfTheOperatorSaysSo) {
  EXPECT_EQ(Param(R"("foo":1)"), "foo");
  EXPECT_EQ(Param(R"("foo":1,"suffix":"x")", {.ignore_unknown = true}), "taken");
  EXPECT_EQ(Param(R"("temperature":9)", {.ignore_unknown = true}), "temperature");
}

TEST_F(FrontendTest, DropsNvextOfEverySurfaceIfTheOperatorSaysSo) {
  options.rules.ignore_nvext = true;
  options.anthropic_api = true;
  Start();
  constexpr std::string_view kNvext = R"("nvext":{"agent_hints":{"priority":5},"foo":1}})";
  EXPECT_EQ(Post("/v1/responses", R"({"input":"hi",)" + std::string(kNvext)).status, 200);
  EXPECT_EQ(Post("/v1/messages", R"({"model":"tiny","max_tokens":9,"messages":[{"role":"user",)"
                                 R"("content":"hi"}],)" +
                                     std::string(kNvext))
                .status,
            200);
  EXPECT_EQ(Post("/v1/completions", R"({"prompt":"hi",)" + std::string(kNvext)).status, 200);
  ASSERT_EQ(worker.seen.size(), 3U);
  for (const wire::GenerateRequest& request : worker.seen) {
    EXPECT_EQ(request.priority, 0);
  }
}

TEST_F(FrontendTest, ObeysNvextOfMessagesAndResponses) {
  options.anthropic_api = true;
  Start();
  constexpr std::string_view kNvext = R"("nvext":{"agent_hints":{"priority":5},"cache_salt":"s"}})";
  Post("/v1/responses", R"({"input":"hi",)" + std::string(kNvext));
  Post("/v1/messages", R"({"model":"tiny","max_tokens":9,"messages":[{"role":"user",)"
                       R"("content":"hi"}],)" +
                           std::string(kNvext));
  ASSERT_EQ(worker.seen.size(), 2U);
  for (const wire::GenerateRequest& request : worker.seen) {
    EXPECT_EQ(request.priority, 5);
    EXPECT_EQ(request.cache_salt, "s");
  }
  EXPECT_EQ(Post("/v1/responses", R"({"input":"hi","nvext":{"backend_instance_id":1}})").param(),
            "nvext.backend_instance_id");
}

TEST_F(FrontendTest, GivesACacheSaltToTheWorker) {
  Start();
  Chat(R"("cache_salt":"a")");
  Chat(R"("nvext":{"cache_salt":"b"})");
  Chat();
  ASSERT_EQ(worker.seen.size(), 3U);
  EXPECT_EQ(worker.seen[0].cache_salt, "a");
  EXPECT_EQ(worker.seen[1].cache_salt, "b");
  EXPECT_EQ(worker.seen[2].cache_salt, "");
  EXPECT_EQ(Param(R"("cache_salt":"")"), "cache_salt");
  EXPECT_EQ(Param(R"("cache_salt":7)"), "cache_salt");
  EXPECT_EQ(Param(R"("cache_salt":"a","nvext":{"cache_salt":"b"})"), "nvext.cache_salt");
}

}  // namespace
}  // namespace pixii::frontend
