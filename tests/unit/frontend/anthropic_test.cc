// /v1/messages: bodies, answers, events, errors.
#include "frontend/anthropic.h"

#include "frontend/anthropic_writer.h"
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;

class AnthropicTest : public FrontendTest {
 protected:
  AnthropicTest() { options.anthropic_api = true; }

  Reply Messages(std::string_view more = {}, std::string_view content = "hi") {
    std::string body = R"({"model":"tiny","max_tokens":20,"messages":[{"role":"user","content":)" +
                       Json(content).Dump() + "}]";
    body += more.empty() ? "" : ",";
    body += more;
    return Post("/v1/messages", body + "}");
  }
};

std::vector<wire::SseEvent> Events(std::string_view body) {
  wire::SseParser parser;
  std::vector<wire::SseEvent> out;
  EXPECT_TRUE(parser.Feed(body, out));
  return out;
}

Result<SurfaceRequest> Read(std::string_view text, bool strip = false) {
  return ReadAnthropicRequest(*wire::ParseJson(text), {.strip_preamble = strip});
}

std::string Messages(const Result<SurfaceRequest>& read) {
  return read ? read->body.Find("messages")->Dump() : read.error().ToString();
}

TEST_F(FrontendTest, DoesNotServeAnthropicsMessagesUnlessToldTo) {
  Start();
  Reply reply = Post("/v1/messages", R"({"model":"tiny","max_tokens":1,"messages":[]})");
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(Post("/v1/messages/count_tokens", "{}").status, 404);
}

TEST_F(AnthropicTest, AnswersAMessage) {
  Start();
  Json body = Messages().json();
  EXPECT_TRUE(body.Find("id")->string().starts_with("msg_"));
  EXPECT_EQ(body.Find("type")->string(), "message");
  EXPECT_EQ(body.Find("role")->string(), "assistant");
  EXPECT_EQ(body.Find("content")->Dump(), R"([{"type":"text","text":"Hello!"}])");
  EXPECT_EQ(body.Find("stop_reason")->string(), "end_turn");
  EXPECT_TRUE(body.Find("stop_sequence")->is_null());
  std::int64_t prompt = static_cast<std::int64_t>(worker.seen.at(0).prompt.size());
  EXPECT_EQ(body.Find("usage")->Find("input_tokens")->AsInt(), prompt);
  EXPECT_EQ(body.Find("usage")->Find("output_tokens")->AsInt(), 6);
  ExpectQuiet();
}

TEST_F(AnthropicTest, SaysWhatWasCachedToWhoeverMarksIt) {
  Start();
  Json body =
      Messages(R"("system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}])")
          .json();
  std::int64_t prompt = static_cast<std::int64_t>(worker.seen.at(0).prompt.size());
  EXPECT_EQ(body.Find("usage")->Find("cache_read_input_tokens")->AsInt(), 3);
  EXPECT_EQ(body.Find("usage")->Find("input_tokens")->AsInt(), prompt - 3);
}

TEST_F(AnthropicTest, NamesTheEndOfAnAnswer) {
  Start();
  Json cut = Post("/v1/messages",
                  R"({"model":"tiny","max_tokens":2,"messages":[{"role":"user","content":"x"}]})")
                 .json();
  EXPECT_EQ(cut.Find("stop_reason")->string(), "max_tokens");
  Json stopped = Messages(R"("stop_sequences":["lo"])").json();
  EXPECT_EQ(stopped.Find("stop_reason")->string(), "stop_sequence");
  EXPECT_EQ(stopped.Find("stop_sequence")->string(), "lo");
  EXPECT_EQ(stopped.Find("content")->Dump(), R"([{"type":"text","text":"Hel"}])");
}

TEST_F(AnthropicTest, StreamsEventsInAnthropicsOrder) {
  Start();
  Reply reply = Messages(R"("stream":true)");
  ASSERT_EQ(reply.status, 200) << reply.body;
  std::vector<wire::SseEvent> events = Events(reply.body);
  std::vector<std::string> names;
  std::string text;
  for (const wire::SseEvent& event : events) {
    Json data = *wire::ParseJson(event.data);
    EXPECT_EQ(data.Find("type")->string(), event.event);
    if (event.event == "content_block_delta") {
      EXPECT_EQ(data.Find("delta")->Find("type")->string(), "text_delta");
      text += data.Find("delta")->Find("text")->string();
    }
    if (names.empty() || names.back() != event.event) {
      names.push_back(event.event);
    }
  }
  EXPECT_EQ(names, (std::vector<std::string>{"message_start", "ping", "content_block_start",
                                             "content_block_delta", "content_block_stop",
                                             "message_delta", "message_stop"}));
  EXPECT_EQ(text, "Hello!");
  Json end = *wire::ParseJson(events[events.size() - 2].data);
  EXPECT_EQ(end.Find("delta")->Find("stop_reason")->string(), "end_turn");
  EXPECT_EQ(end.Find("usage")->Find("output_tokens")->AsInt(), 6);
  ExpectQuiet();
}

TEST_F(AnthropicTest, EndsAFailedStreamWithAnErrorEvent) {
  worker.fault = Error(Code::kModelFault, "lost");
  worker.fault_after = 2;
  Start();
  Reply reply = Messages(R"("stream":true)");
  std::vector<wire::SseEvent> events = Events(reply.body);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().event, "error");
  EXPECT_EQ(events.back().data,
            R"({"type":"error","error":{"type":"api_error","message":"lost"}})");
}

TEST_F(AnthropicTest, CountsWhatAMessageWouldSend) {
  Start();
  Reply count =
      Post("/v1/messages/count_tokens",
           R"({"model":"tiny","system":"be","messages":[{"role":"user","content":"hi"}]})");
  ASSERT_EQ(count.status, 200) << count.body;
  Messages(R"("system":"be")");
  EXPECT_EQ(count.json().Find("input_tokens")->AsInt(),
            static_cast<std::int64_t>(worker.seen.at(0).prompt.size()));
}

TEST_F(AnthropicTest, RefusesInAnthropicsDialect) {
  keys = *ApiKeys::Parse("secret-key\n");
  Start();
  const auto type = [](const Reply& reply) {
    Json body = reply.json();
    EXPECT_EQ(body.Find("type")->string(), "error");
    return body.Find("error")->Find("type")->string();
  };
  Reply unknown = Messages();
  EXPECT_EQ(unknown.status, 401);
  EXPECT_EQ(type(unknown), "authentication_error");
  Reply bad =
      Post("/v1/messages", R"({"model":"tiny","messages":[]})", "x-api-key: secret-key\r\n");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(type(bad), "invalid_request_error");
  Reply other =
      Post("/v1/messages",
           R"({"model":"other","max_tokens":1,"messages":[{"role":"user","content":"x"}]})",
           "x-api-key: secret-key\r\nanthropic-version: 2023-06-01\r\n");
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(type(other), "not_found_error");
  worker.refusal = Error(Code::kResourceExhausted, "full");
  Reply full = Post("/v1/messages",
                    R"({"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}]})",
                    "x-api-key: secret-key\r\n");
  EXPECT_EQ(full.status, 529);
  EXPECT_EQ(type(full), "overloaded_error");
  EXPECT_FALSE(full.Field("retry-after").empty());
}

TEST(AnthropicRequest, BringsBlocksIntoTheTemplatesForm) {
  EXPECT_EQ(
      Messages(Read(
          R"({"model":"m","max_tokens":9,"system":[{"type":"text","text":"a"},{"type":"text","text":"b"}],)"
          R"("messages":[{"role":"user","content":"q"},{"role":"assistant","content":[)"
          R"({"type":"thinking","thinking":"t","signature":"x"},{"type":"text","text":"c"},)"
          R"({"type":"tool_use","id":"i","name":"f","input":{"n":1.50}}]},)"
          R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":)"
          R"([{"type":"text","text":"r"}]},{"type":"text","text":"more"}]}]})")),
      R"([{"role":"system","content":"a\nb"},{"role":"user","content":"q"},)"
      R"({"role":"assistant","content":"c","reasoning_content":"t","tool_calls":[{"type":"function",)"
      R"("id":"i","function":{"name":"f","arguments":"{\"n\":1.50}"}}]},)"
      R"({"role":"tool","tool_call_id":"i","content":"r"},{"role":"user","content":"more"}])");
}

TEST(AnthropicRequest, ReadsToolsAndTheirChoice) {
  auto read = Read(R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],)"
                   R"("tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],)"
                   R"("tool_choice":{"type":"auto"}})");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->request.chat.tools.Dump(),
            R"([{"type":"function","function":{"name":"f","description":"d",)"
            R"("parameters":{"type":"object"}}}])");
}

TEST(AnthropicRequest, GoesOnWithAnAssistantsLastMessage) {
  auto read = Read(
      R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"The"}]})");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(read->request.chat.continue_final_message);
  EXPECT_FALSE(read->request.chat.add_generation_prompt);
}

TEST(AnthropicRequest, StripsThePreambleOnlyIfTold) {
  constexpr std::string_view kBody =
      R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],)"
      R"("system":"x-anthropic-billing-header: cc_version=1\nBe brief."})";
  EXPECT_EQ(Messages(Read(kBody, true)),
            R"([{"role":"system","content":"Be brief."},{"role":"user","content":"q"}])");
  EXPECT_NE(Messages(Read(kBody)).find("billing"), std::string::npos);
}

TEST(AnthropicRequest, RefusesByName) {
  const auto param = [](std::string_view more) {
    auto read = Read(R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],)" +
                     std::string(more) + "}");
    return read ? std::string("taken") : std::string(read.error().param());
  };
  EXPECT_EQ(param(R"("foo":1)"), "foo");
  EXPECT_EQ(param(R"("mcp_servers":[])"), "mcp_servers");
  EXPECT_EQ(param(R"("tool_choice":{"type":"maybe"})"), "tool_choice.type");
  EXPECT_EQ(param(R"("tools":[{"name":"f"}])"), "tools[0].input_schema");
  EXPECT_EQ(param(R"("temperature":3)"), "temperature");
  auto read = Read(R"({"model":"m","messages":[{"role":"user","content":"q"}]})");
  EXPECT_EQ(read.error().param(), "max_tokens");
  read = Read(
      R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]})");
  EXPECT_EQ(read.error().param(), "messages[0].content[0].source");
}

std::string Picture(std::string_view data, std::string_view media_type = "image/png") {
  return R"({"type":"image","source":{"type":"base64","media_type":")" + std::string(media_type) +
         R"(","data":")" + std::string(data) + R"("}})";
}

constexpr std::string_view kLinked =
    R"({"type":"image","source":{"type":"url","url":"https://pictures/3"}})";

TEST_F(AnthropicTest, ShowsPicturesInMessagesAndToolResults) {
  ShowPictures();
  Start();
  const std::string turns =
      R"("messages":[{"role":"user","content":[{"type":"text","text":"a"},)" + Picture("2") +
      R"(,{"type":"text","text":"b"}]},)"
      R"({"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]},)"
      R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[)" +
      std::string(kLinked) + R"(,{"type":"text","text":"c"},{"type":"text","text":"d"}]}]}])";
  Reply reply =
      Post("/v1/messages", R"({"model":"tiny","max_tokens":9,"system":"s",)" + turns + "}");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const std::vector<wire::MediaItem>& media = worker.seen.at(0).media;
  ASSERT_EQ(media.size(), 2U);
  EXPECT_EQ(media[0].width, 56U);
  EXPECT_EQ(media[1].width, 84U);
  EXPECT_EQ(reply.json().Find("usage")->Find("input_tokens")->AsInt(),
            static_cast<std::int64_t>(worker.seen[0].prompt.size()));

  Reply count = Post("/v1/messages/count_tokens", R"({"model":"tiny",)" + turns + "}");
  EXPECT_EQ(count.status, 400);
  EXPECT_NE(count.body.find("messages[0].content[1].source.data: "), std::string::npos)
      << count.body;
}

TEST(AnthropicRequest, BringsPicturesIntoTheTemplatesForm) {
  auto read =
      Read(R"({"model":"m","max_tokens":1,"messages":[{"role":"user","content":[)"
           R"({"type":"tool_result","tool_use_id":"t","content":[)" +
           std::string(kLinked) + R"(,{"type":"text","text":"c"},{"type":"text","text":"d"}]},)" +
           Picture("2") + "]}]}");
  EXPECT_EQ(Messages(read),
            R"([{"role":"tool","tool_call_id":"t","content":[{"type":"image_url","image_url":)"
            R"({"url":"https://pictures/3"}},{"type":"text","text":"c\nd"}]},{"role":"user",)"
            R"("content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,2"}}]}])");
}

TEST_F(AnthropicTest, NamesThePictureThatCannotBeShown) {
  ShowPictures();
  Start();
  const auto said = [&](std::string_view block, std::string_view role = "user") {
    return Post("/v1/messages", R"({"model":"tiny","max_tokens":9,"system":"s","messages":[)"
                                R"({"role":"user","content":"q"},{"role":")" +
                                    std::string(role) + R"(","content":[)" + std::string(block) +
                                    "]}]}")
        .body;
  };
  const auto names = [&](const std::string& body, std::string_view field) {
    EXPECT_NE(body.find(std::string(field) + ": "), std::string::npos) << body;
    EXPECT_EQ(body.find("image_url"), std::string::npos) << body;
  };
  names(said(Picture("x")), "messages[1].content[0].source.data");
  names(said(R"({"type":"image","source":{"type":"url","url":"https://pictures/x"}})"),
        "messages[1].content[0].source.url");
  names(said(R"({"type":"tool_result","tool_use_id":"t","content":[)" + Picture("x") + "]}"),
        "messages[1].content[0].content[0].source.data");
  names(said(Picture("2", "image/tiff")), "messages[1].content[0].source.media_type");
  names(said(R"({"type":"image","source":{"type":"file","file_id":"f"}})"),
        "messages[1].content[0].source.type");
  names(said(Picture("2"), "assistant"), "messages[1].content[0].type");
  names(said(R"({"type":"video","source":{"type":"url","url":"https://films/1"}})"),
        "messages[1].content[0].type");
}

TEST_F(AnthropicTest, NamesThePictureThatAModelOfTextIsShown) {
  Start();
  Reply reply = Post("/v1/messages", R"({"model":"tiny","max_tokens":9,"messages":[)"
                                     R"({"role":"user","content":[)" +
                                         Picture("2") + "]}]}");
  EXPECT_NE(reply.body.find("messages[0].content[0].source.data: "), std::string::npos)
      << reply.body;
}

TEST(AnthropicRequest, NamesFieldsAsTheCallerWroteThem) {
  const auto detail = [](std::string_view more) {
    auto read = Read(R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}],)" +
                     std::string(more) + "}");
    return read ? std::string("taken") : read.error().detail();
  };
  EXPECT_TRUE(detail(R"("metadata":{"user_id":5})").starts_with("metadata.user_id: "));
  EXPECT_TRUE(detail(R"("stop_sequences":[5])").starts_with("stop_sequences: "));
  EXPECT_TRUE(
      detail(R"("tools":[{"name":"f","input_schema":5}])").starts_with("tools[0].input_schema: "));
  EXPECT_TRUE(detail(R"("tools":[{"name":"","input_schema":{}}])").starts_with("tools[0].name: "));
}

TEST(AnthropicRequest, TakesNoBlankTextAndNothingItWouldIgnore) {
  const auto param = [](std::string_view content, std::string_view more = "") {
    auto read = Read(R"({"model":"m","max_tokens":9,"messages":[{"role":"user","content":)" +
                     std::string(content) + "}]" + std::string(more) + "}");
    return read ? std::string("taken") : std::string(read.error().param());
  };
  EXPECT_EQ(param(R"([{"type":"text","text":""}])"), "messages[0].content[0].text");
  EXPECT_EQ(param(R"([{"type":"text","text":"a"},{"type":"text","text":" \n\t"}])"),
            "messages[0].content[1].text");
  EXPECT_EQ(param(R"("q")", R"(,"system":[{"type":"text","text":" "}])"), "system[0].text");
  EXPECT_EQ(param(R"(" ")"), "messages[0].content");
  EXPECT_EQ(param("[]"), "messages[0].content");
  const auto then = [&](std::string_view assistant) {
    return param(R"("q"},{"role":"assistant","content":)" + std::string(assistant));
  };
  EXPECT_EQ(then(R"("")"), "taken") << "the start of an answer may be empty";
  EXPECT_EQ(then(R"(""},{"role":"user","content":"more")"), "messages[1].content");
  EXPECT_EQ(param(R"("q")", R"(,"thinking":{"type":"enabled"})"), "thinking.budget_tokens");
  EXPECT_EQ(param(R"([{"type":"text","text":"a","cache_control":{"type":"for ever"}}])"),
            "messages[0].content[0].cache_control");
  EXPECT_EQ(
      param(R"([{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1d"}}])"),
      "messages[0].content[0].cache_control.ttl");
  EXPECT_EQ(
      param(R"([{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}}])"),
      "taken");
  EXPECT_EQ(param(R"("q")", R"(,"thinking":{"type":"adaptive","display":"omitted"})"),
            "thinking.display");
  EXPECT_EQ(param(R"("q")", R"(,"thinking":{"type":"adaptive","display":"summarized"})"), "taken");
}

TEST_F(AnthropicTest, KeepsToAThinkingBudgetWhereTheWorkerCan) {
  Start();
  constexpr std::string_view kThinking = R"("thinking":{"type":"enabled","budget_tokens":1024})";
  EXPECT_EQ(Messages(kThinking).status, 200);
  EXPECT_TRUE(worker.seen.at(0).processors.empty());
  worker.mutable_card().logits_processors = {"thinking_budget"};
  EXPECT_EQ(Messages(kThinking).status, 200);
  ASSERT_EQ(worker.seen.at(1).processors.size(), 1U);
  EXPECT_EQ(wire::ParseJson(worker.seen[1].processors[0].arguments)->Find("budget")->AsInt(), 1024);
  EXPECT_EQ(Messages(R"("thinking":{"type":"enabled","budget_tokens":1})").status, 400);
}

TEST(AnthropicWriter, NamesCallsThatTheModelDidNot) {
  AnthropicWriter writer(false);
  writer.Begin({.id = "1", .model = "m", .tenant = {}});
  const AnswerPart call{.kind = AnswerPart::Kind::kCall, .text = "{}", .name = "f"};
  Json body = *wire::ParseJson(
      writer.Unary(std::vector<Answer>{{.parts = {call, call}, .tokens = {}, .finish = {}}}, {}));
  const Json::Array& blocks = body.Find("content")->array();
  EXPECT_FALSE(blocks.at(0).Find("id")->string().empty());
  EXPECT_NE(blocks.at(0).Find("id")->string(), blocks.at(1).Find("id")->string());
}

TEST(AnthropicWriter, WritesThinkingTextAndCallsAsBlocks) {
  const std::vector<AnswerPart> parts = {
      {.kind = AnswerPart::Kind::kReasoning, .text = "why"},
      {.kind = AnswerPart::Kind::kText, .text = "so"},
      {.kind = AnswerPart::Kind::kCall, .text = R"({"n":1.50})", .name = "f", .id = "i"}};
  AnthropicWriter whole(false);
  whole.Begin({.id = "1", .model = "m", .tenant = {}});
  Json body = *wire::ParseJson(
      whole.Unary(std::vector<Answer>{{.parts = parts, .tokens = {}, .finish = {}}}, {}));
  EXPECT_EQ(body.Find("content")->Dump(),
            R"([{"type":"thinking","thinking":"why","signature":""},{"type":"text","text":"so"},)"
            R"({"type":"tool_use","id":"i","name":"f","input":{"n":1.50}}])");
  EXPECT_EQ(body.Find("stop_reason")->string(), "tool_use");

  AnthropicWriter streamed(false);
  streamed.Begin({.id = "1", .model = "m", .tenant = {}});
  std::string out;
  streamed.AppendStart(out, {});
  for (const AnswerPart& part : parts) {
    streamed.AppendPart(out, part);
  }
  streamed.AppendEnd(out, {}, {});
  std::vector<std::string> starts;
  std::string json;
  for (const wire::SseEvent& event : Events(out)) {
    Json data = *wire::ParseJson(event.data);
    if (event.event == "content_block_start") {
      EXPECT_EQ(data.Find("index")->AsInt(), static_cast<std::int64_t>(starts.size()));
      starts.push_back(data.Find("content_block")->Find("type")->string());
    }
    const Json* delta = data.Find("delta");
    const Json* piece = delta != nullptr ? delta->Find("partial_json") : nullptr;
    json += piece != nullptr ? piece->string() : "";
  }
  EXPECT_EQ(starts, (std::vector<std::string>{"thinking", "text", "tool_use"}));
  EXPECT_EQ(json, R"({"n":1.50})");
}

}  // namespace
}  // namespace pixii::frontend
