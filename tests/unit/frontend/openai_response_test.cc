#include "frontend/openai_response.h"

#include <gtest/gtest.h>

#include <cmath>

#include "unit/frontend/fake_text.h"
#include "wire/sse.h"

namespace pixii::frontend {
namespace {

using wire::Json;

ResponseShape Shape(Surface surface) {
  return {
      .surface = surface, .id = "x-1", .created = 7, .model = "m\"1", .system_fingerprint = "fp_0"};
}

std::vector<Json> Events(const std::string& text, bool* done = nullptr) {
  wire::SseParser parser;
  std::vector<wire::SseEvent> events;
  EXPECT_TRUE(parser.Feed(text, events));
  EXPECT_FALSE(parser.mid_event());
  std::vector<Json> out;
  for (const wire::SseEvent& event : events) {
    if (event.data == "[DONE]") {
      if (done != nullptr) {
        *done = true;
      }
      continue;
    }
    auto json = wire::ParseJson(event.data);
    EXPECT_TRUE(json) << event.data << json.error().ToString();
    out.push_back(std::move(*json));
  }
  return out;
}

TEST(OpenAiResponse, UnaryChatIsOpenAis) {
  FinishedChoice choice;
  choice.text = "he said \"hi\"\n";
  choice.finish = {FinishKind::kStop, std::string("END")};
  std::string body =
      UnaryBody(Shape(Surface::kChat), {&choice, 1},
                {.prompt_tokens = 3, .completion_tokens = 2, .cached_tokens = 1}, nullptr);
  EXPECT_EQ(
      body,
      R"({"id":"x-1","object":"chat.completion","created":7,"model":"m\"1","system_fingerprint":"fp_0",)"
      R"("choices":[{"index":0,"message":{"role":"assistant","content":"he said \"hi\"\n","refusal":null},)"
      R"("logprobs":null,"finish_reason":"stop","stop_reason":"END"}],"usage":{"prompt_tokens":3,)"
      R"("completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}}})");
  EXPECT_TRUE(wire::ParseJson(body));
}

TEST(OpenAiResponse, StreamsBeginWithTheRoleAndEndOnce) {
  ResponseShape shape = Shape(Surface::kChat);
  shape.include_usage = true;
  StreamWriter writer(shape, 2);
  std::string out;
  writer.AppendStart(out, 1, {});
  ChoiceDelta delta;
  delta.text = "hi";
  writer.AppendDelta(out, 1, delta, "");
  writer.AppendFinish(out, 1, {FinishKind::kLength, {}});
  writer.AppendEnd(out, {.prompt_tokens = 1, .completion_tokens = 1, .cached_tokens = 0}, nullptr);
  bool done = false;
  std::vector<Json> events = Events(out, &done);
  EXPECT_TRUE(done);
  ASSERT_EQ(events.size(), 4U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(events[i].Find("object")->string(), "chat.completion.chunk");
    EXPECT_TRUE(events[i].Find("usage")->is_null());
    EXPECT_EQ(events[i].Find("choices")->array()[0].Find("index")->AsInt(), 1);
  }
  EXPECT_EQ(events[0].Find("choices")->array()[0].Find("delta")->Find("role")->string(),
            "assistant");
  EXPECT_EQ(events[1].Find("choices")->array()[0].Find("delta")->Find("content")->string(), "hi");
  EXPECT_EQ(events[2].Find("choices")->array()[0].Find("finish_reason")->string(), "length");
  EXPECT_TRUE(events[3].Find("choices")->array().empty());
  EXPECT_EQ(events[3].Find("usage")->Find("total_tokens")->AsInt(), 2);
}

TEST(OpenAiResponse, TokenIdsStandInEveryChunk) {
  ResponseShape shape = Shape(Surface::kCompletions);
  shape.token_ids = true;
  StreamWriter writer(shape, 1);
  std::string out;
  std::vector<TokenId> prompt = {1, 2};
  writer.AppendStart(out, 0, prompt);
  ChoiceDelta delta;
  delta.tokens = {5, 6};
  writer.AppendDelta(out, 0, delta, "");
  writer.AppendFinish(out, 0, {});
  std::vector<Json> events = Events(out);
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].Find("choices")->array()[0].Find("prompt_token_ids")->Dump(), "[1,2]");
  EXPECT_EQ(events[1].Find("choices")->array()[0].Find("token_ids")->Dump(), "[5,6]");
  EXPECT_EQ(events[2].Find("choices")->array()[0].Find("token_ids")->Dump(), "[]");
}

TEST(OpenAiResponse, AnErrorIsWhatOpenAisClientsLookFor) {
  std::string out;
  StreamWriter::AppendError(out, Error(Code::kModelFault, "the model threw"));
  std::vector<Json> events = Events(out);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].Find("error")->Find("message")->string(), "the model threw");
  EXPECT_EQ(events[0].Find("error")->Find("type")->string(), "server_error");
  EXPECT_EQ(events[0].Find("code")->AsInt(), 500);
}

TEST(OpenAiResponse, PromptLogprobsNameEachTokenAndTheLikeliest) {
  testing::FakeText text;
  const std::vector<TokenId> prompt = {'x', 'a', 'c'};
  const std::vector<wire::TokenLogprob> logprobs = {
      {}, {-0.5F, {{'a', -0.5F}, {'b', -1.0F}}}, {-4.0F, {{'a', -0.5F}, {'b', -1.0F}}}};
  ResponseShape shape;
  shape.prompt_top_logprobs = 1;
  EXPECT_EQ(PromptLogprobs(prompt, logprobs, shape, &text),
            R"([null,{"97":{"logprob":-0.5,"rank":1,"decoded_token":"a"}},)"
            R"({"99":{"logprob":-4,"rank":null,"decoded_token":"c"},)"
            R"("97":{"logprob":-0.5,"rank":1,"decoded_token":"a"}}])");
}

TEST(OpenAiResponse, LogprobsHaveTokensBytesAndAlternatives) {
  testing::FakeText text;
  LogprobWriter chat(Surface::kChat, &text, 20);
  wire::TokenLogprob logprob{-0.5F, {{'a', -0.5F}, {'b', -1.25F}}};
  chat.Add('a', &logprob);
  EXPECT_EQ(
      chat.Take(),
      R"({"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,)"
      R"("bytes":[97]},{"token":"b","logprob":-1.25,"bytes":[98]}]}],"refusal":null})");
  LogprobWriter plain(Surface::kCompletions, &text, 20);
  plain.Add('x', nullptr);
  plain.Add('a', &logprob);
  EXPECT_EQ(
      plain.Take(),
      R"({"tokens":["x","a"],"token_logprobs":[null,-0.5],"top_logprobs":[null,{"a":-0.5,"b":-1.25}],)"
      R"("text_offset":[0,1]})");
  plain.Add('b', &logprob);
  EXPECT_NE(plain.Take().find(R"("text_offset":[2])"), std::string::npos);
  wire::TokenLogprob never{-INFINITY, {}};
  LogprobWriter least(Surface::kChat, nullptr, 20);
  least.Add(7, &never);
  EXPECT_EQ(
      least.Take(),
      R"({"content":[{"token":"token_id:7","logprob":-9999,"bytes":null,"top_logprobs":[]}],"refusal":null})");
}

}  // namespace
}  // namespace pixii::frontend
