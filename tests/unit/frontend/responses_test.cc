// /v1/responses: bodies, answers, events, the store.
#include "frontend/responses.h"

#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::FrontendTest;
using testing::Reply;
using wire::Json;
using namespace std::chrono_literals;

std::vector<Json> Events(const Reply& reply) {
  std::vector<Json> out;
  for (const std::string& data : reply.events()) {
    out.push_back(*wire::ParseJson(data));
  }
  return out;
}

std::string TextOf(const Json& body) {
  return body.Find("output")->array().at(0).Find("content")->array().at(0).Find("text")->string();
}

Result<SurfaceRequest> Read(std::string_view text) {
  return ReadResponsesRequest(*wire::ParseJson(text), {});
}

TEST_F(FrontendTest, AnswersAResponse) {
  Start();
  Reply reply = Post("/v1/responses", R"({"model":"tiny","input":"hi","instructions":"be"})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  Json body = reply.json();
  EXPECT_TRUE(body.Find("id")->string().starts_with("resp_"));
  EXPECT_EQ(body.Find("object")->string(), "response");
  EXPECT_EQ(body.Find("status")->string(), "completed");
  EXPECT_EQ(TextOf(body), "Hello!");
  EXPECT_EQ(body.Find("instructions")->string(), "be");
  EXPECT_EQ(body.Find("usage")->Find("output_tokens")->AsInt(), 6);
  EXPECT_EQ(body.Find("usage")->Find("input_tokens")->AsInt(),
            static_cast<std::int64_t>(worker.seen.at(0).prompt.size()));
  for (std::string_view field :
       {"created_at", "error", "incomplete_details", "model", "tools", "parallel_tool_calls",
        "metadata", "tool_choice", "temperature", "top_p", "text", "truncation"}) {
    EXPECT_NE(body.Find(field), nullptr) << field;
  }
  Json cut = Post("/v1/responses", R"({"input":"hi","max_output_tokens":2})").json();
  EXPECT_EQ(cut.Find("status")->string(), "incomplete");
  EXPECT_EQ(cut.Find("incomplete_details")->Dump(), R"({"reason":"max_output_tokens"})");
  ExpectQuiet();
}

TEST_F(FrontendTest, StreamsAResponseWithCountedEvents) {
  Start();
  Reply reply = Post("/v1/responses", R"({"input":"hi","stream":true})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  std::vector<Json> events = Events(reply);
  std::string text;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].Find("sequence_number")->AsInt(), static_cast<std::int64_t>(i));
    const std::string& type = events[i].Find("type")->string();
    text += type == "response.output_text.delta" ? events[i].Find("delta")->string() : "";
    if (names.empty() || names.back() != type) {
      names.push_back(type);
    }
  }
  EXPECT_EQ(text, "Hello!");
  EXPECT_EQ(names, (std::vector<std::string>{
                       "response.created", "response.in_progress", "response.output_item.added",
                       "response.content_part.added", "response.output_text.delta",
                       "response.output_text.done", "response.content_part.done",
                       "response.output_item.done", "response.completed"}));
  EXPECT_EQ(TextOf(*events.back().Find("response")), "Hello!");
}

TEST_F(FrontendTest, FailsAResponseInsideItsStream) {
  worker.fault = Error(Code::kModelFault, "lost");
  worker.fault_after = 2;
  Start();
  std::vector<Json> events = Events(Post("/v1/responses", R"({"input":"hi","stream":true})"));
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().Find("type")->string(), "response.failed");
  EXPECT_EQ(events.back().Find("response")->Find("error")->Dump(),
            R"({"code":"server_error","message":"lost"})");
}

TEST_F(FrontendTest, GoesOnWithAPreviousResponse) {
  Start();
  Json first = Post("/v1/responses", R"({"input":"one","instructions":"be"})").json();
  const std::string& id = first.Find("id")->string();
  Json second =
      Post("/v1/responses", R"({"input":"two","previous_response_id":")" + id + R"("})").json();
  EXPECT_EQ(second.Find("previous_response_id")->string(), id);
  FrontendTest::Chat();  // the same conversation by hand
  Post("/v1/chat/completions",
       R"({"messages":[{"role":"user","content":"one"},{"role":"assistant","content":"Hello!"},)"
       R"({"role":"user","content":"two"}]})");
  EXPECT_EQ(worker.seen.at(1).prompt, worker.seen.at(3).prompt)
      << "instructions are not carried over";

  EXPECT_EQ(Get("/v1/responses/" + id).json().Find("id")->string(), id);
  EXPECT_EQ(Get("/v1/responses/" + id + "?stream=false").status, 200);
  EXPECT_EQ(Get("/v1/responses/" + id + "?stream=true").param(), "stream");
  EXPECT_EQ(Get("/v1/responses/" + id + "?stream=false&starting_after=3").param(),
            "starting_after");
  EXPECT_EQ(One(Raw("DELETE", "/v1/responses/" + id)).status, 200);
  EXPECT_EQ(Get("/v1/responses/" + id).status, 404);
  Reply gone = Post("/v1/responses", R"({"input":"x","previous_response_id":")" + id + R"("})");
  EXPECT_EQ(gone.status, 404);
  EXPECT_EQ(gone.param(), "previous_response_id");
}

TEST_F(FrontendTest, StoresNoResponseIfToldNotTo) {
  Start();
  Json body = Post("/v1/responses", R"({"input":"one","store":false})").json();
  EXPECT_EQ(body.Find("store")->boolean(), false);
  EXPECT_EQ(Get("/v1/responses/" + body.Find("id")->string()).status, 404);
}

TEST_F(FrontendTest, KeepsAResponseToItsTenant) {
  keys = *ApiKeys::Parse(R"({"keys":[{"key":"first-key","tenant":"a"},)"
                         R"({"key":"second-key","tenant":"b"}]})");
  Start();
  constexpr std::string_view kFirst = "Authorization: Bearer first-key\r\n";
  constexpr std::string_view kSecond = "Authorization: Bearer second-key\r\n";
  Json body = Post("/v1/responses", R"({"input":"one"})", kFirst).json();
  std::string path = "/v1/responses/" + body.Find("id")->string();
  EXPECT_EQ(Get(path, kFirst).status, 200);
  EXPECT_EQ(Get(path, kSecond).status, 404);
}

TEST_F(FrontendTest, CountsWhatAResponseWouldSend) {
  Start();
  Reply count = Post("/v1/responses/input_tokens", R"({"input":"hi"})");
  ASSERT_EQ(count.status, 200) << count.body;
  EXPECT_EQ(count.json().Find("object")->string(), "response.input_tokens");
  Post("/v1/responses", R"({"input":"hi"})");
  EXPECT_EQ(count.json().Find("input_tokens")->AsInt(),
            static_cast<std::int64_t>(worker.seen.at(0).prompt.size()));
}

TEST(ResponsesRequest, BringsItemsIntoTheTemplatesForm) {
  auto read = Read(
      R"({"instructions":"be","input":[{"role":"user","content":[{"type":"input_text","text":"q"}]},)"
      R"({"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"t"}]},)"
      R"({"type":"function_call","call_id":"c","name":"f","arguments":"{\"n\":1.50}"},)"
      R"({"type":"function_call","call_id":"d","name":"g","arguments":"{}"},)"
      R"({"type":"function_call_output","call_id":"c","output":"7"}]})");
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->body.Find("messages")->Dump(),
            R"([{"role":"system","content":"be"},{"role":"user","content":"q"},)"
            R"({"role":"assistant","content":"","reasoning_content":"t","tool_calls":[)"
            R"({"id":"c","type":"function","function":{"name":"f","arguments":"{\"n\":1.50}"}},)"
            R"({"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]},)"
            R"({"role":"tool","tool_call_id":"c","content":"7"}])");
}

TEST(ResponsesRequest, RefusesByName) {
  const auto param = [](std::string_view more) {
    auto read = Read(R"({"input":"q",)" + std::string(more) + "}");
    return read ? std::string("taken") : std::string(read.error().param());
  };
  EXPECT_EQ(param(R"("foo":1)"), "foo");
  EXPECT_EQ(param(R"("messages":[])"), "messages");
  EXPECT_EQ(param(R"("background":true)"), "background");
  EXPECT_EQ(param(R"("truncation":"auto")"), "truncation");
  EXPECT_EQ(param(R"("max_output_tokens":0)"), "max_output_tokens");
  EXPECT_EQ(param(R"("tools":[{"type":"web_search"}])"), "tools[0].type");
  EXPECT_EQ(param(R"("background":false,"truncation":"disabled","include":[])"), "taken");
  EXPECT_EQ(param(R"("include":["reasoning.encrypted_content"])"), "include");
  EXPECT_EQ(param(R"("include":["message.output_text.logprobs"],"top_logprobs":21)"),
            "top_logprobs");
  EXPECT_EQ(Read("{}").error().param(), "input");
}

TEST(ResponsesRequest, NamesFieldsAsTheCallerWroteThem) {
  const auto said = [](std::string_view more) {
    auto read = Read(R"({"input":"q",)" + std::string(more) + "}");
    return read ? std::string("taken") : read.error().param() + " | " + read.error().detail();
  };
  const auto names = [&](std::string_view more, std::string_view field) {
    const std::string text = said(more);
    EXPECT_TRUE(text.starts_with(std::string(field) + " | ")) << text;
    EXPECT_NE(text.find(field, field.size()), std::string::npos) << text;
    for (std::string_view inner : {"max_completion", "response_format", ".function", "messages"}) {
      EXPECT_EQ(text.find(inner), std::string::npos) << text;
    }
  };
  names(R"("max_output_tokens":0)", "max_output_tokens");
  names(R"("text":{"format":{"type":"xml"}})", "text.format.type");
  names(R"("text":{"format":{"type":"json_schema","name":5,"schema":{}}})", "text.format.name");
  names(R"("text":{"format":{"type":"json_schema","name":"n","schema":5}})", "text.format.schema");
  names(R"("text":{"format":{"type":"json_schema","name":"n","schema":{},"x":1}})",
        "text.format.x");
  names(R"("tools":[{"type":"function","name":"f","parameters":5}])", "tools[0].parameters");
  names(R"("tools":[{"type":"function","name":""}])", "tools[0].name");
  EXPECT_EQ(said(R"("max_output_tokens":3,"min_tokens":5)"),
            "min_tokens | min_tokens: 5 is more than max_output_tokens");
}

TEST(ResponsesRequest, TakesNoMemberOrWordThatItWouldIgnore) {
  const auto param = [](std::string_view fields) {
    auto read = Read("{" + std::string(fields) + "}");
    return read ? std::string("taken") : std::string(read.error().param());
  };
  EXPECT_EQ(param(R"("input":"q","reasoning":{"effort":"huge"})"), "reasoning.effort");
  EXPECT_EQ(param(R"("input":"q","reasoning":{"effort":5})"), "reasoning.effort");
  EXPECT_EQ(param(R"("input":"q","reasoning":{"summary":"long"})"), "reasoning.summary");
  EXPECT_EQ(param(R"("input":"q","reasoning":{"effort":"minimal","summary":"auto"})"), "taken");
  EXPECT_EQ(param(R"("input":"q","tool_choice":{"type":"function","name":"f","x":1})"),
            "tool_choice.x");
  EXPECT_EQ(param(R"("input":"q","tool_choice":{"type":"function"})"), "tool_choice.name");
  EXPECT_EQ(param(R"("instructions":"i","input":[{"role":"tool","content":"c"}])"),
            "input[0].role");
  EXPECT_EQ(
      param(
          R"("input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}","x":1}])"),
      "input[0].x");
  EXPECT_EQ(param(R"("input":[{"type":"function_call_output","call_id":"c","output":"","x":1}])"),
            "input[0].x");
  EXPECT_EQ(param(R"("input":[{"role":"user","content":[)"
                  R"({"type":"input_text","text":"t","annotations":[]}]}])"),
            "input[0].content[0].annotations");
  EXPECT_EQ(param(R"("input":[{"role":"assistant","content":[)"
                  R"({"type":"output_text","text":"t","annotations":[]}]}])"),
            "taken");
  EXPECT_EQ(param(R"("input":[{"type":"reasoning","encrypted_content":"x"}])"),
            "input[0].encrypted_content");
  EXPECT_EQ(
      param(R"("input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}]}])"),
      "input[0].summary");
}

TEST_F(FrontendTest, NamesWhatIsFoundBehindTheReadingOfAResponseToo) {
  Start();
  Reply reply = Post("/v1/responses", R"({"input":"hi","max_output_tokens":100000})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.param(), "max_output_tokens");
  EXPECT_EQ(reply.body.find("max_tokens"), std::string::npos) << reply.body;
  reply = Post("/v1/responses", R"({"input":")" + std::string(5000, 'x') + "\"}");
  EXPECT_EQ(reply.param(), "input") << reply.body;
  reply = Post("/v1/chat/completions",
               R"({"messages":[{"role":"user","content":"q"}],"max_completion_tokens":100000})");
  EXPECT_EQ(reply.param(), "max_completion_tokens");
  EXPECT_EQ(reply.body.find("max_tokens"), std::string::npos) << reply.body;
}

std::string Picture(std::string_view url) {
  return R"({"type":"input_image","image_url":")" + std::string(url) + R"("})";
}

TEST_F(FrontendTest, ShowsThePicturesOfAResponseAndOfThoseBefore) {
  ShowPictures();
  Start();
  const auto content = [](const std::string& parts) {
    return R"({"role":"user","content":[)" + parts + "]}";
  };
  Reply first = Post("/v1/responses", R"({"instructions":"be","input":[)" +
                                          content(R"({"type":"input_text","text":"a"},)" +
                                                  Picture("data:image/png;base64,2") +
                                                  R"(,{"type":"input_text","text":"b"})") +
                                          "]}");
  ASSERT_EQ(first.status, 200) << first.body;
  ASSERT_EQ(worker.seen.size(), 1U);
  ASSERT_EQ(worker.seen[0].media.size(), 1U);
  EXPECT_EQ(worker.seen[0].media[0].width, 56U);
  const std::string id = first.json().Find("id")->string();
  Reply second = Post("/v1/responses", R"({"previous_response_id":")" + id + R"(","input":[)" +
                                           content(Picture("https://pictures/3")) + "]}");
  ASSERT_EQ(second.status, 200) << second.body;
  Reply whole = Post(
      "/v1/chat/completions",
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url",)"
      R"("image_url":{"url":"data:image/png;base64,2"}},{"type":"text","text":"b"}]},)"
      R"({"role":"assistant","content":"Hello!"},{"role":"user","content":[{"type":"image_url",)"
      R"("image_url":{"url":"https://pictures/3"}}]}]})");
  ASSERT_EQ(whole.status, 200) << whole.body;
  ASSERT_EQ(worker.seen.size(), 3U);
  EXPECT_EQ(worker.seen[1].prompt, worker.seen[2].prompt);
  ASSERT_EQ(worker.seen[1].media.size(), 2U);
  EXPECT_EQ(worker.seen[1].media[0].digest, worker.seen[0].media[0].digest);
  EXPECT_EQ(worker.seen[1].media[1].width, 84U);
}

TEST_F(FrontendTest, NamesThePictureOfAResponseThatCannotBeShown) {
  ShowPictures();
  Start();
  const auto post = [&](const std::string& item, std::string_view more = "") {
    return Post("/v1/responses", R"({"input":[{"role":"user","content":"q"},)" + item + "]" +
                                     std::string(more) + "}");
  };
  Reply reply = post(R"({"role":"user","content":[{"type":"input_text","text":"t"},)" +
                         Picture("data:image/png;base64,x") + "]}",
                     R"(,"instructions":"i")");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.param(), "input[1].content[1].image_url") << reply.body;
  EXPECT_EQ(reply.body.find("messages"), std::string::npos) << reply.body;
  reply = post(R"({"type":"function_call_output","call_id":"c","output":[)" +
               Picture("https://pictures/x") + "]}");
  EXPECT_EQ(reply.param(), "input[1].output[0].image_url") << reply.body;
  EXPECT_EQ(post(R"({"type":"function_call_output","call_id":"c","output":[)" +
                 Picture("https://pictures/4") + "]}")
                .status,
            200);
  EXPECT_EQ(worker.seen.at(0).media.at(0).width, 112U);

  const auto param = [&](const std::string& part, std::string_view role = "user") {
    return post(R"({"role":")" + std::string(role) + R"(","content":[)" + part + "]}").param();
  };
  EXPECT_EQ(param(R"({"type":"input_image","file_id":"file-1"})"), "input[1].content[0].file_id");
  EXPECT_EQ(param(R"({"type":"input_image"})"), "input[1].content[0].image_url");
  EXPECT_EQ(param(R"({"type":"input_image","image_url":{"url":"x"}})"),
            "input[1].content[0].image_url");
  EXPECT_EQ(param(R"({"type":"input_image","image_url":"https://pictures/1","detail":"huge"})"),
            "input[1].content[0].detail");
  EXPECT_EQ(param(R"({"type":"input_image","image_url":"https://pictures/1","x":1})"),
            "input[1].content[0].x");
  EXPECT_EQ(param(Picture("https://pictures/1"), "developer"), "input[1].content[0].type");
  EXPECT_EQ(param(R"({"type":"input_video","video_url":"https://films/1"})"),
            "input[1].content[0].type");
  EXPECT_EQ(param(Picture("https://pictures/1"), "assistant"), "input[1].content[0].type");
  reply = Post("/v1/responses/input_tokens",
               R"({"input":[{"role":"user","content":[)" + Picture("https://pictures/1") + "]}]}");
  EXPECT_EQ(reply.param(), "input[0].content[0].image_url");
}

TEST_F(FrontendTest, NamesThePreviousResponseWhosePictureIsGone) {
  ShowPictures();
  bool there = true;
  model.images = [&there, get = model.images](const std::string& url) -> Result<media::Image> {
    return there ? get(url) : Fail(Code::kUnavailable, "is gone");
  };
  Start();
  Reply first = Post("/v1/responses", R"({"input":[{"role":"user","content":[)" +
                                          Picture("https://pictures/1") + "]}]}");
  there = false;
  Reply second = Post("/v1/responses", R"({"input":"and now?","previous_response_id":)" +
                                           first.json().Find("id")->Dump() + "}");
  EXPECT_NE(second.status, 200);
  EXPECT_EQ(second.param(), "previous_response_id") << second.body;
}

TEST_F(FrontendTest, NamesThePictureThatAModelOfTextIsShown) {
  Start();
  Reply reply = Post("/v1/responses", R"({"input":[{"role":"user","content":[)" +
                                          Picture("https://pictures/1") + "]}]}");
  EXPECT_EQ(reply.param(), "input[0].content[0].image_url") << reply.body;
}

TEST(ResponsesWriter, WritesReasoningTextAndCallsAsItems) {
  ResponsesEcho echo{.fields = Json(Json::Object{}), .messages = {}, .store = false};
  ResponsesWriter writer(std::move(echo), nullptr);
  writer.Begin({.id = "1", .model = "m", .tenant = {}});
  std::string out;
  writer.AppendStart(out, {});
  writer.AppendPart(out, {.kind = AnswerPart::Kind::kReasoning, .text = "why"});
  writer.AppendPart(out, {.text = "s"});
  writer.AppendPart(out, {.text = "o"});
  writer.AppendPart(
      out, {.kind = AnswerPart::Kind::kCall, .text = R"({"n":1.50})", .name = "f", .id = "i"});
  writer.AppendEnd(out, {}, {});
  Reply reply;
  reply.body = out;
  Json last = Events(reply).back();
  const Json::Array& items = last.Find("response")->Find("output")->array();
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0].Find("content")->Dump(), R"([{"type":"reasoning_text","text":"why"}])");
  EXPECT_EQ(items[1].Find("content")->array()[0].Find("text")->string(), "so");
  EXPECT_EQ(items[2].Find("arguments")->string(), R"({"n":1.50})");
  EXPECT_EQ(items[2].Find("call_id")->string(), "i");
}

}  // namespace
}  // namespace pixii::frontend
