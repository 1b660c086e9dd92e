#include "frontend/trace_record.h"

#include <gtest/gtest.h>

#include <string>

#include "frontend/next_turns.h"
#include "wire/json.h"
#include "wire/msgpack.h"

namespace pixii::frontend {
namespace {

using wire::Json;

rt::Time At(std::int64_t ms) { return rt::Time(std::chrono::milliseconds(1000 + ms)); }

RequestTrace Ended() {
  RequestTrace trace;
  trace.context.trace = {.high = 1, .low = 2};
  trace.id = "chatcmpl-1";
  trace.label = "mine";
  trace.model = "tiny";
  trace.path = "/v1/chat/completions";
  trace.session = {.id = "s1", .parent = "s0", .is_final = true};
  trace.wall = {.unix_seconds = 1'700'000'000, .nanoseconds = 0};
  trace.begun = At(0);
  trace.first_token = At(20);
  trace.last_frame = At(60);
  trace.answered = At(80);
  trace.prompt_tokens = 5;
  trace.cached_tokens = 2;
  trace.output_tokens = 5;
  trace.finish_reasons = {"tool_calls"};
  trace.legs.push_back({.phase = wire::RequestLeg::Phase::kWhole, .worker = 9, .rank = 1});
  return trace;
}

Json Parsed(const std::string& line) {
  EXPECT_EQ(line.find('\n'), line.npos);
  Result<Json> json = wire::ParseJson(line);
  EXPECT_TRUE(json) << line;
  return json ? std::move(*json) : Json(Json::Object{});
}

TEST(TraceRecord, AnEndHasSizesTimesSessionAndHashesAndNoText) {
  const TracePayload payload{
      .body = R"({"messages": "secret"})",
      .prompt = {1, 2, 3, 4, 5},
      .answers = {{.text = "secret",
                   .reasoning = {},
                   .calls = {{.id = "call-1", .name = "search", .arguments = "secret"}},
                   .finish = "tool_calls"}}};
  const std::string line = EndRecord(Ended(), &payload, 2);
  EXPECT_EQ(line.find("secret"), line.npos);
  const Json record = Parsed(line);
  EXPECT_EQ(record.Find("schema")->string(), "dynamo.request.trace.v1");
  EXPECT_EQ(record.Find("event_time_unix_ms")->AsInt(), 1'700'000'000'080);
  const Json& context = *record.Find("agent_context");
  EXPECT_EQ(context.Dump(), R"({"session_id":"s1","parent_session_id":"s0","session_final":true})");
  const Json& request = *record.Find("request");
  EXPECT_EQ(request.Find("ttft_ms")->AsDouble(), 20);
  EXPECT_EQ(request.Find("avg_itl_ms")->AsDouble(), 10);
  EXPECT_EQ(request.Find("kv_hit_rate")->AsDouble(), 0.4);
  EXPECT_EQ(request.Find("worker")->Find("decode_worker_id")->AsInt(), 9);
  EXPECT_EQ(request.Find("finish_reason_metadata")->Dump(),
            R"({"finish_reason":"tool_calls","tool_calls":[{"id":"call-1","name":"search"}]})");
  const Json& replay = *request.Find("replay");
  EXPECT_EQ(replay.Find("input_length")->AsInt(), 5);
  EXPECT_EQ(replay.Find("input_sequence_hashes")->array().size(), 3U);
}

TEST(TraceRecord, HashesSayTheBlockAndAllBeforeIt) {
  const auto hashes = [](std::vector<TokenId> prompt) {
    const TracePayload payload{.body = {}, .prompt = std::move(prompt), .answers = {}};
    const Json record = Parsed(EndRecord(Ended(), &payload, 2));
    std::vector<std::string> out;
    for (const Json& one :
         record.Find("request")->Find("replay")->Find("input_sequence_hashes")->array()) {
      out.push_back(one.digits());
    }
    return out;
  };
  const auto first = hashes({1, 2, 3, 4});
  const auto longer = hashes({1, 2, 3, 4, 5});
  const auto other = hashes({9, 2, 3, 4});
  EXPECT_EQ(first[0], longer[0]);
  EXPECT_EQ(first[1], longer[1]);
  EXPECT_NE(first[0], other[0]);
  EXPECT_NE(first[1], other[1]) << "equal blocks behind other ones are not equal";
}

TEST(TraceRecord, APayloadIsOnOneLineWhateverTheBodyWas) {
  const TracePayload payload{
      .body = "{\n \"model\": \"m\"\n}",
      .prompt = {},
      .answers = {{.text = "yes", .reasoning = "hm", .calls = {}, .finish = "stop"}}};
  const Json record = Parsed(PayloadRecord(Ended(), payload));
  EXPECT_EQ(record.Find("event_type")->string(), "request_payload");
  const Json& all = *record.Find("payload");
  EXPECT_EQ(all.Find("request")->Dump(), R"({"model":"m"})");
  EXPECT_EQ(
      all.Find("response")->Dump(),
      R"({"choices":[{"message":{"role":"assistant","content":"yes","reasoning_content":"hm"},"finish_reason":"stop"}]})");
}

constexpr std::string_view kTool =
    R"({"event_type":"tool_end","event_time_unix_ms":5,"event_source":"x","agent_context":{"session_id":"s"},"tool":{"tool_call_id":"c","tool_class":"search","duration_ms":3.5}})";

TEST(TraceRecord, AToolsEventIsCheckedAndSaysWhoseItIs) {
  const Result<std::string> line = ToolRecord(kTool);
  ASSERT_TRUE(line);
  EXPECT_EQ(Parsed(*line).Find("event_source")->string(), "harness");
  for (const auto& [from, to, param] :
       {std::tuple("tool_end", "request_end", "event_type"),
        std::tuple("\"event_time_unix_ms\":5", "\"event_time_unix_ms\":-5", "event_time_unix_ms"),
        std::tuple("\"session_id\":\"s\"", "\"session_id\":\"\"", "agent_context.session_id"),
        std::tuple("\"tool_call_id\":\"c\"", "\"x\":1", "tool.tool_call_id"),
        std::tuple("\"tool\":", "\"tools\":", "tool")}) {
    std::string wrong(kTool);
    wrong.replace(wrong.find(from), std::string_view(from).size(), to);
    const Result<std::string> refused = ToolRecord(wrong);
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().param(), param);
  }
  EXPECT_FALSE(ToolRecord("{\"a\":\"" + std::string(70'000, 'a') + "\"}"));
}

TEST(TraceRecord, MessagePackIsReadTheSameAndBelievedNothing) {
  std::string bytes;
  wire::MsgpackWriter writer(bytes);
  writer.Map(4);
  writer.Text("event_type");
  writer.Text("tool_error");
  writer.Text("event_time_unix_ms");
  writer.Int(7);
  writer.Text("agent_context");
  writer.Map(1);
  writer.Text("session_id");
  writer.Text("s");
  writer.Text("tool");
  writer.Map(3);
  writer.Text("tool_call_id");
  writer.Text("c");
  writer.Text("tool_class");
  writer.Text("search");
  writer.Text("ok");
  writer.Bool(false);
  ASSERT_TRUE(ToolRecordOfMsgpack(bytes)) << ToolRecordOfMsgpack(bytes).error().detail();
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(ToolRecordOfMsgpack(std::string_view(bytes).substr(0, size))) << size;
  }
  EXPECT_FALSE(ToolRecordOfMsgpack(bytes + bytes));
  EXPECT_FALSE(ToolRecordOfMsgpack(std::string(1000, '\x91'))) << "nested too deep";
}

TEST(NextTurns, ATurnIsTheConversationWithItsAnswerForOneToken) {
  const TraceAnswer answer{.text = "Let me see.",
                           .reasoning = "the user wants",
                           .calls = {{.id = "call-1", .name = "search", .arguments = "{}"}},
                           .finish = "tool_calls"};
  const Result<std::string> next = MakeNextTurn(
      R"({"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"max_completion_tokens":9,"n":1,
          "tools":[{"type":"function"}],"tool_choice":"required","response_format":{"type":"json_object"},
          "nvext":{"agent_hints":{"speculative_prefill":true},"cache_salt":"x"}})",
      answer);
  ASSERT_TRUE(next);
  EXPECT_EQ(
      *next,
      R"({"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"Let me see.","tool_calls":[{"id":"call-1","type":"function","function":{"name":"search","arguments":"{}"}}]}],"tools":[{"type":"function"}],"nvext":{"cache_salt":"x"},"max_tokens":1})");
  EXPECT_FALSE(MakeNextTurn(R"({"messages":[]})", {})) << "nothing was answered";
  EXPECT_FALSE(MakeNextTurn(R"({"prompt":"a"})", answer));
}

}  // namespace
}  // namespace pixii::frontend
