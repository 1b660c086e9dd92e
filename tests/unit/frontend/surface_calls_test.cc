// Reasoning and tool calls on the surfaces beside chat completions: whole, streamed, and sent back.
#include "frontend/chat_answer.h"
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

class SurfaceCallsTest : public FrontendTest {
 protected:
  void Serve() {
    options.anthropic_api = true;
    worker.mutable_card().context_tokens_max = 2'000;
    worker.reply =
        "<think>Hm</think>Look:\n<tool_call>\n{\"name\": \"add\", \"arguments\": "
        "{\"a\": 12345678901234567890}}\n</tool_call>";
    model.chat =
        *MakeChatAnswers({.tool_call_parser = "hermes", .reasoning_parser = "qwen3"}, *model.text);
    Start();
  }

  static std::string Message(std::string_view more = {}) {
    return R"({"model":"tiny","max_tokens":500,"messages":[{"role":"user","content":"q"}],)"
           R"("tools":[{"name":"add","input_schema":{"type":"object"}}])" +
           std::string(more) + "}";
  }

  static std::string Response(std::string_view more = {}) {
    return R"({"input":"q","tools":[{"type":"function","name":"add","parameters":)"
           R"({"type":"object"},"strict":false}])" +
           std::string(more) + "}";
  }
};

TEST_F(SurfaceCallsTest, AMessageHasThemAsBlocks) {
  Serve();
  Json body = Post("/v1/messages", Message()).json();
  const Json::Array& blocks = body.Find("content")->array();
  ASSERT_EQ(blocks.size(), 3U) << body.Dump();
  EXPECT_EQ(blocks[0].Find("thinking")->string(), "Hm");
  EXPECT_EQ(blocks[1].Find("text")->string(), "Look:\n");
  EXPECT_EQ(blocks[2].Find("name")->string(), "add");
  EXPECT_EQ(blocks[2].Find("input")->Find("a")->digits(), "12345678901234567890");
  EXPECT_EQ(body.Find("stop_reason")->string(), "tool_use");
}

TEST_F(SurfaceCallsTest, AStreamOfAMessageHasTheSameBlocks) {
  Serve();
  std::vector<std::string> kinds;
  std::string arguments;
  for (const std::string& data : Post("/v1/messages", Message(R"(,"stream":true)")).events()) {
    Json event = *wire::ParseJson(data);
    if (const Json* block = event.Find("content_block"); block != nullptr) {
      kinds.push_back(block->Find("type")->string());
    }
    const Json* delta = event.Find("delta");
    const Json* piece = delta == nullptr ? nullptr : delta->Find("partial_json");
    arguments += piece == nullptr ? "" : piece->string();
  }
  EXPECT_EQ(kinds, (std::vector<std::string>{"thinking", "text", "tool_use"}));
  EXPECT_EQ(arguments, R"({"a": 12345678901234567890})");
}

TEST_F(SurfaceCallsTest, AResponseHasThemAsItemsAndTakesTheResult) {
  Serve();
  Json body = Post("/v1/responses", Response()).json();
  const Json::Array& items = body.Find("output")->array();
  ASSERT_EQ(items.size(), 3U) << body.Dump();
  EXPECT_EQ(items[0].Find("type")->string(), "reasoning");
  EXPECT_EQ(items[1].Find("content")->array().at(0).Find("text")->string(), "Look:\n");
  EXPECT_EQ(items[2].Find("arguments")->string(), R"({"a": 12345678901234567890})");
  EXPECT_EQ(body.Find("usage")->Find("output_tokens_details")->Find("reasoning_tokens")->AsInt(),
            std::string_view("<think>Hm</think>").size());
  Reply next =
      Post("/v1/responses", R"({"previous_response_id":")" + body.Find("id")->string() +
                                R"(","input":[{"type":"function_call_output","call_id":")" +
                                items[2].Find("call_id")->string() + R"(","output":"3"}]})");
  EXPECT_EQ(next.status, 200) << next.body;
}

TEST_F(SurfaceCallsTest, AResponsesTextHasTheLogprobsThatAreIncluded) {
  Serve();
  const Json plain = Post("/v1/responses", Response()).json();
  const auto logprobs = [](const Json& body) {
    const Json& content = body.Find("output")->array().at(1).Find("content")->array().at(0);
    return content.Find("logprobs")->array();
  };
  EXPECT_TRUE(logprobs(plain).empty());
  constexpr std::string_view kMore =
      R"(,"include":["message.output_text.logprobs"],"top_logprobs":2)";
  const Json::Array whole = logprobs(Post("/v1/responses", Response(kMore)).json());
  ASSERT_GE(whole.size(), 6U) << "of Look: and its line end";
  EXPECT_EQ(whole.back().Find("top_logprobs")->array().size(), 2U);
  std::vector<std::string> events =
      Post("/v1/responses", Response(std::string(kMore) + R"(,"stream":true)")).events();
  std::size_t streamed = 0;
  for (const std::string& data : events) {
    const Json event = *wire::ParseJson(data);
    if (event.Find("type")->string() == "response.output_text.delta") {
      streamed += event.Find("logprobs")->array().size();
    }
  }
  EXPECT_EQ(streamed, whole.size());
  EXPECT_EQ(logprobs(*wire::ParseJson(events.back())->Find("response")).size(), whole.size());
}

TEST_F(SurfaceCallsTest, AStreamOfAResponseEndsWithTheSameItems) {
  Serve();
  Json whole = Post("/v1/responses", Response()).json();
  std::vector<std::string> events = Post("/v1/responses", Response(R"(,"stream":true)")).events();
  Json last = *wire::ParseJson(events.back());
  EXPECT_EQ(last.Find("type")->string(), "response.completed");
  const Json::Array& streamed = last.Find("response")->Find("output")->array();
  const Json::Array& items = whole.Find("output")->array();
  ASSERT_EQ(streamed.size(), items.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(streamed[i].Find("type")->string(), items[i].Find("type")->string());
  }
  EXPECT_EQ(streamed[2].Find("arguments")->string(), items[2].Find("arguments")->string());
}

}  // namespace
}  // namespace pixii::frontend
