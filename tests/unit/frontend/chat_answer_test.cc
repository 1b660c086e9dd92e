// Chat answers with reasoning and tool calls, through the whole frontend: unary and streamed.
#include "frontend/chat_answer.h"

#include "text/grammar/grammar_library.h"
#include "text/grammar/grammar_matcher.h"
#include "unit/frontend/frontend_fixture.h"

namespace pixii::frontend {
namespace {

using testing::Choice;
using testing::FrontendTest;
using testing::Reply;
using wire::Json;

constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"now"}},)"
    R"({"type":"function","function":{"name":"add","parameters":{"type":"object",)"
    R"("properties":{"a":{"type":"integer"}}}}}])";

constexpr std::string_view kTwoCalls =
    "<think>Hm, `</think>`?</think>Look:\n"
    "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 12345678901234567890}}\n</tool_call>\n"
    "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n";

/// What a client has put together of a stream.
struct Streamed {
  std::string content;
  std::string reasoning;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  std::string finish;
  std::size_t logprobs = 0;
};

Streamed Join(const std::vector<Json>& chunks, std::int64_t index,
              std::string_view reasoning_field = "reasoning_content") {
  Streamed out;
  for (const Json& chunk : chunks) {
    const Json* choices = chunk.Find("choices");
    for (std::size_t i = 0; choices != nullptr && i < choices->array().size(); ++i) {
      const Json& choice = choices->array()[i];
      if (choice.Find("index")->AsInt() != index) {
        continue;
      }
      const Json& delta = *choice.Find("delta");
      const Json* content = delta.Find("content");
      out.content += content == nullptr ? "" : content->string();
      const Json* reasoning = delta.Find(reasoning_field);
      out.reasoning += reasoning == nullptr ? "" : reasoning->string();
      const Json* calls = delta.Find("tool_calls");
      for (std::size_t k = 0; calls != nullptr && k < calls->array().size(); ++k) {
        const Json& call = calls->array()[k];
        EXPECT_EQ(call.Find("index")->AsInt(), static_cast<std::int64_t>(out.calls.size()));
        EXPECT_TRUE(call.Find("id")->string().starts_with("call_"));
        out.calls.emplace_back(call.Find("function")->Find("name")->string(),
                               call.Find("function")->Find("arguments")->string());
      }
      const Json* logprobs = choice.Find("logprobs");
      if (logprobs != nullptr && logprobs->is_object()) {
        out.logprobs += logprobs->Find("content")->array().size();
      }
      const Json* finish = choice.Find("finish_reason");
      out.finish += finish->is_string() ? finish->string() : "";
    }
  }
  return out;
}

class ChatAnswerTest : public FrontendTest {
 protected:
  void Serve(const ChatAnswerOptions& answers, std::string_view reply) {
    worker.mutable_card().context_tokens_max = 2'000;
    worker.reply = reply;
    Result<std::shared_ptr<const ChatAnswers>> made = MakeChatAnswers(answers, *model.text);
    ASSERT_TRUE(made) << made.error().ToString();
    model.chat = *made;
    Start();
  }

  Reply Ask(const std::string& fields = {}) {
    return Chat(std::string(kTools) + (fields.empty() ? "" : "," + fields));
  }
};

ChatAnswerOptions Hermes() { return {.tool_call_parser = "hermes", .reasoning_parser = "qwen3"}; }

TEST_F(ChatAnswerTest, GivesReasoningContentAndCalls) {
  Serve(Hermes(), kTwoCalls);
  Reply reply = Ask();
  ASSERT_EQ(reply.status, 200) << reply.body;
  const Json body = reply.json();
  const Json& message = *Choice(body).Find("message");
  EXPECT_EQ(message.Find("reasoning_content")->string(), "Hm, `</think>`?");
  EXPECT_EQ(message.Find("content")->string(), "Look:\n");
  const Json::Array& calls = message.Find("tool_calls")->array();
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[0].Find("type")->string(), "function");
  EXPECT_EQ(calls[0].Find("function")->Find("arguments")->string(),
            "{\"a\": 12345678901234567890}");
  EXPECT_EQ(calls[1].Find("function")->Find("name")->string(), "now");
  EXPECT_NE(calls[0].Find("id")->string(), calls[1].Find("id")->string());
  EXPECT_EQ(Choice(body).Find("finish_reason")->string(), "tool_calls");
  ExpectQuiet();
}

TEST_F(ChatAnswerTest, AStreamGivesWhatTheUnaryAnswerGivesForEveryChoice) {
  for (std::uint32_t per_turn : {1U, 3U, 7U, 1'000U}) {
    SCOPED_TRACE(per_turn);
    worker.tokens_per_turn = per_turn;
    if (!frontend) {
      Serve(Hermes(), kTwoCalls);
    }
    std::vector<Json> chunks = Ask(R"("stream":true,"n":2,"logprobs":true)").chunks();
    for (std::int64_t index : {0, 1}) {
      Streamed streamed = Join(chunks, index);
      EXPECT_EQ(streamed.reasoning, "Hm, `</think>`?");
      EXPECT_EQ(streamed.content, "Look:\n");
      ASSERT_EQ(streamed.calls.size(), 2U);
      EXPECT_EQ(streamed.calls[0].second, "{\"a\": 12345678901234567890}");
      EXPECT_EQ(streamed.calls[1], (std::pair<std::string, std::string>{"now", "{}"}));
      EXPECT_EQ(streamed.finish, "tool_calls");
      EXPECT_EQ(streamed.logprobs, kTwoCalls.size()) << "no token is lost with its text";
    }
  }
}

TEST_F(ChatAnswerTest, ACallWithoutTextHasNullAsContent) {
  Serve(Hermes(), "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>");
  const Json body = Ask().json();
  EXPECT_TRUE(Choice(body).Find("message")->Find("content")->is_null());
}

TEST_F(ChatAnswerTest, ATruncatedCallEndsWithLengthAndWithoutMarkup) {
  Serve(Hermes(), "Yes.<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>");
  for (int tokens = 5; tokens < 60; tokens += 9) {
    const Json body = Ask("\"max_tokens\":" + std::to_string(tokens)).json();
    EXPECT_EQ(Choice(body).Find("finish_reason")->string(), "length");
    EXPECT_EQ(Choice(body).Find("message")->Find("tool_calls"), nullptr);
    std::string content = Choice(body).Find("message")->Find("content")->string();
    EXPECT_EQ(content.find('{'), std::string::npos) << content;
  }
}

TEST_F(ChatAnswerTest, WithoutParallelCallsTheFirstEndsTheChoice) {
  Serve(Hermes(), kTwoCalls);
  const Json body = Ask(R"("parallel_tool_calls":false)").json();
  EXPECT_EQ(Choice(body).Find("message")->Find("tool_calls")->array().size(), 1U);
  EXPECT_EQ(Choice(body).Find("finish_reason")->string(), "tool_calls");
  EXPECT_EQ(worker.cancels.size(), 1U) << "the engine need not go on";
  ExpectQuiet();
}

TEST_F(ChatAnswerTest, ToolChoiceNoneHidesToolsAndLeavesTextAlone) {
  Serve({.tool_call_parser = "hermes", .reasoning_parser = "none"},
        "<tool_call>{\"name\": \"now\"}</tool_call>");
  const Json body = Ask(R"("tool_choice":"none")").json();
  EXPECT_EQ(Choice(body).Find("finish_reason")->string(), "stop");
  EXPECT_EQ(Choice(body).Find("message")->Find("content")->string(), worker.reply);
}

TEST_F(ChatAnswerTest, ACallThatMustComeIsRefusedWhereItCannotBeEnforced) {
  Serve(Hermes(), "Hello");
  for (std::string choice : {R"("required")", R"({"type":"function","function":{"name":"now"}})",
                             R"({"type":"function","function":{"name":"nothing"}})"}) {
    Reply reply = Ask("\"tool_choice\":" + choice);
    EXPECT_EQ(reply.status, 400) << choice;
    EXPECT_EQ(reply.param(), "tool_choice");
  }
  EXPECT_EQ(Chat(R"("tool_choice":"required")").param(), "tool_choice") << "no tools";
  EXPECT_TRUE(worker.seen.empty());
}

// One token a byte, the end is 257, as FakeText has it.
std::shared_ptr<text::grammar::GrammarLibrary> Grammars() {
  return std::make_shared<text::grammar::GrammarLibrary>([] {
    std::vector<std::string> bytes(260);
    for (std::size_t byte = 0; byte < 256; ++byte) {
      bytes[byte] = std::string(1, static_cast<char>(byte));
    }
    return text::grammar::GrammarVocabulary::FromBytes(std::move(bytes),
                                                       {.eos_ids = {257}, .vocab_size = 260});
  });
}

/// What the worker was told that the last answer must be.
class Told final {
 public:
  Told(const std::shared_ptr<text::grammar::GrammarLibrary>& grammars,
       const std::optional<wire::Constraint>& constraint) {
    EXPECT_TRUE(constraint.has_value());
    if (constraint) {
      runtime_ = std::make_shared<text::grammar::GrammarRuntime>(*grammars->Get(*constraint),
                                                                 *grammars->Vocabulary());
    }
  }

  bool Takes(std::string_view answer) const {
    text::grammar::GrammarMatcher matcher(runtime_);
    return matcher.AcceptBytes(answer) && matcher.CanEnd();
  }

 private:
  std::shared_ptr<text::grammar::GrammarRuntime> runtime_;
};

constexpr std::string_view kNow = "<tool_call>{\"name\":\"now\",\"arguments\":{}}</tool_call>";
constexpr std::string_view kAdd =
    "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 5}}\n</tool_call>";
constexpr std::string_view kAddText =
    "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": \"5\"}}\n</tool_call>";

TEST_F(ChatAnswerTest, CallsThatMustComeAreEnforcedWithTheirArgumentsBehindReasoning) {
  model.grammars = Grammars();
  Serve(Hermes(), "Hello");
  ASSERT_EQ(Ask(R"("tool_choice":"required")").status, 200);
  const Told any(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(any.Takes(kNow));
  EXPECT_TRUE(any.Takes(std::string(kAdd) + "\n" + std::string(kNow)));
  EXPECT_TRUE(any.Takes("<think>I { think <tool_call>.</think>\n\n" + std::string(kAdd)));
  EXPECT_FALSE(any.Takes(kAddText));
  EXPECT_FALSE(any.Takes("Hello"));
  EXPECT_FALSE(any.Takes("<think>only"));
  ASSERT_EQ(Ask(R"("parallel_tool_calls":false,"tool_choice":)"
                R"({"type":"function","function":{"name":"add"}})")
                .status,
            200);
  const Told named(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(named.Takes(kAdd));
  EXPECT_FALSE(named.Takes(kNow));
  EXPECT_FALSE(named.Takes(std::string(kAdd) + std::string(kAdd)));
}

TEST_F(ChatAnswerTest, NothingMayBindATextThatADemandedCallLeavesOut) {
  model.grammars = Grammars();
  Serve(Hermes(), "Hello");
  for (const std::string choice :
       {R"("required")", R"({"type":"function","function":{"name":"add"}})"}) {
    for (const auto& [field, value] : std::vector<std::pair<std::string, std::string>>{
             {"guided_regex", R"("a+")"},
             {"guided_choice", R"(["a"])"},
             {"guided_grammar", R"("root ::= \"a\"")"},
             {"guided_json", R"({"type":"object"})"},
             {"structured_outputs", R"({"regex":"a+"})"}}) {
      const std::string fields = "\"" + field + "\":" + value + ",\"tool_choice\":" + choice;
      const Reply reply = Ask(fields);
      EXPECT_EQ(reply.status, 400) << fields;
      EXPECT_EQ(reply.param(), field == "structured_outputs" ? "structured_outputs.regex" : field);
    }
  }
  EXPECT_TRUE(worker.seen.empty());
}

TEST_F(ChatAnswerTest, AFormOfTheTextMayStandBesideADemandedCall) {
  model.grammars = Grammars();
  Serve(Hermes(), kNow);
  ASSERT_EQ(Ask(R"("response_format":{"type":"json_object"},"tool_choice":"required")").status,
            200);
  const Told told(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(told.Takes(kNow));
  EXPECT_FALSE(told.Takes("{}"));
}

TEST_F(ChatAnswerTest, ArgumentsOfEnforcedCallsAreStreamedInPiecesThatMakeTheWhole) {
  model.grammars = Grammars();
  Serve(Hermes(), kAdd);
  const Json whole = Ask(R"("tool_choice":"required")").json();
  const Json& call = Choice(whole).Find("message")->Find("tool_calls")->array()[0];
  std::string joined;
  std::size_t pieces = 0;
  for (const Json& chunk : Ask(R"("tool_choice":"required","stream":true)").chunks()) {
    const Json* calls = Choice(chunk).Find("delta")->Find("tool_calls");
    if (calls == nullptr) {
      continue;
    }
    const Json& piece = calls->array()[0];
    EXPECT_EQ(piece.Find("index")->AsInt(), 0);
    EXPECT_EQ(piece.Find("id") != nullptr, pieces == 0);
    EXPECT_EQ(piece.Find("function")->Find("name") != nullptr, pieces == 0);
    joined += piece.Find("function")->Find("arguments")->string();
    ++pieces;
  }
  EXPECT_GT(pieces, 3U);
  EXPECT_EQ(joined, call.Find("function")->Find("arguments")->string());
  // Cut off: as far as it came, streamed and whole.
  const Json cut = Ask(R"("tool_choice":"required","max_tokens":45)").json();
  EXPECT_EQ(Choice(cut).Find("finish_reason")->string(), "length");
  const Json& partial = Choice(cut).Find("message")->Find("tool_calls")->array()[0];
  const std::string& part = partial.Find("function")->Find("arguments")->string();
  EXPECT_TRUE(joined.starts_with(part) && part.size() < joined.size()) << part;
}

TEST_F(ChatAnswerTest, StrictToolsAreEnforcedInFreeTextAndOthersAreNot) {
  model.grammars = Grammars();
  Serve(Hermes(), "Hello");
  const std::string tools =
      R"("tools":[{"type":"function","function":{"name":"add","strict":true,"parameters":{)"
      R"("type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":false}}},)"
      R"({"type":"function","function":{"name":"loose","parameters":{"type":"object",)"
      R"("properties":{"a":{"type":"integer"}}}}}])";
  ASSERT_EQ(Chat(tools).status, 200);
  const Told told(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(told.Takes("Hello <there>"));
  EXPECT_TRUE(told.Takes("First: " + std::string(kAdd) + " done"));
  EXPECT_FALSE(told.Takes("First: " + std::string(kAddText)));
  EXPECT_TRUE(told.Takes(R"(<tool_call>{"name":"loose","arguments":{"a":"x"}}</tool_call>)"));
  EXPECT_FALSE(told.Takes(R"(<tool_call>{"name":"other","arguments":{}}</tool_call>)"));
  ASSERT_EQ(Chat(tools + R"(,"response_format":{"type":"json_object"})").status, 200);
  const Told either(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(either.Takes(kAdd));
  EXPECT_TRUE(either.Takes(R"({"x":1})"));
  EXPECT_FALSE(either.Takes("Hello"));
  ASSERT_EQ(Chat(tools + R"(,"tool_choice":"none")").status, 200);
  EXPECT_FALSE(worker.seen.back().constraint.has_value());
}

TEST_F(ChatAnswerTest, AKeywordOfAStrictSchemaThatCannotBeEnforcedIsNamed) {
  model.grammars = Grammars();
  Serve(Hermes(), "Hello");
  Reply reply = Chat(
      R"("tools":[{"type":"function","function":{"name":"ok","strict":true}},)"
      R"({"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object",)"
      R"("properties":{"a":{"type":"string","pattern":"(?<=a)b"}}}}}])");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.param(), "tools[1].function.parameters");
  EXPECT_NE(reply.body.find("pattern"), std::string::npos) << reply.body;
  reply = Ask(R"("tool_choice":{"type":"function","function":{"name":"nothing"}})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(reply.param(), "tool_choice");
  EXPECT_TRUE(worker.seen.empty());
}

TEST_F(ChatAnswerTest, AnAnswerWithASchemaMayThinkFirstUnlessThinkingIsOff) {
  model.grammars = Grammars();
  Serve(Hermes(), "{}");
  const std::string format = R"("response_format":{"type":"json_object"})";
  ASSERT_EQ(Chat(format).status, 200);
  const Told thinking(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(thinking.Takes("<think>{hm</think>\n{}"));
  EXPECT_TRUE(thinking.Takes("{}"));
  EXPECT_FALSE(thinking.Takes("<think>{}"));
  EXPECT_FALSE(thinking.Takes("<think>{hm</think>no"));
  ASSERT_EQ(Chat(format + R"(,"chat_template_kwargs":{"enable_thinking":false})").status, 200);
  const Told off(model.grammars, worker.seen.back().constraint);
  EXPECT_TRUE(off.Takes("{}"));
  EXPECT_FALSE(off.Takes("<think>{hm</think>\n{}"));
}

TEST_F(ChatAnswerTest, TheFieldOfReasoningAndItsInclusionCanBeChosen) {
  ChatAnswerOptions answers = Hermes();
  answers.reasoning_field = "reasoning";
  Serve(answers, "<think>why</think>so");
  const Json body = Chat().json();
  EXPECT_EQ(Choice(body).Find("message")->Find("reasoning")->string(), "why");
  EXPECT_EQ(Choice(body).Find("message")->Find("reasoning_content"), nullptr);
  EXPECT_EQ(Join(Chat(R"("stream":true)").chunks(), 0, "reasoning").reasoning, "why");
  const Json without = Chat(R"("include_reasoning":false)").json();
  EXPECT_EQ(Choice(without).Find("message")->Find("reasoning"), nullptr);
  EXPECT_EQ(Choice(without).Find("message")->Find("content")->string(), "so");
  Reply streamed = Chat(R"("stream":true,"include_reasoning":false)");
  EXPECT_EQ(streamed.body.find("why"), std::string::npos);
}

TEST_F(ChatAnswerTest, StopStringsAreFoundInReasoningAndInContent) {
  Serve(Hermes(), "<think>one END two</think>three");
  const Json body = Chat(R"("stop":["END"])").json();
  EXPECT_EQ(Choice(body).Find("message")->Find("reasoning_content")->string(), "one ");
  EXPECT_EQ(Choice(body).Find("stop_reason")->string(), "END");
  EXPECT_EQ(Choice(body).Find("finish_reason")->string(), "stop");
}

TEST_F(ChatAnswerTest, DispatchEventsComeUnderTheirSwitches) {
  ChatAnswerOptions answers = Hermes();
  answers.tool_call_dispatch = true;
  answers.reasoning_dispatch = true;
  Serve(answers, kTwoCalls);
  std::string body = Ask(R"("stream":true)").body;
  std::size_t first = body.find("event: tool_call_dispatch\ndata: ");
  std::size_t second = body.find("event: tool_call_dispatch\ndata: ", first + 1);
  std::size_t finish = body.find("\"finish_reason\":\"tool_calls\"");
  ASSERT_NE(second, std::string::npos);
  EXPECT_LT(second, finish);
  EXPECT_EQ(body.find("event: tool_call_dispatch", second + 1), std::string::npos);
  EXPECT_NE(body.find("event: reasoning_dispatch\ndata: {\"choice_index\":0,"
                      "\"reasoning_content\":\"Hm, `</think>`?\"}\n\n"),
            std::string::npos)
      << body;
}

TEST_F(ChatAnswerTest, AnUnknownParserIsRefusedAtTheStart) {
  Result<std::shared_ptr<const ChatAnswers>> made =
      MakeChatAnswers({.tool_call_parser = "hermez"}, *model.text);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().param(), "tool_call_parser");
  EXPECT_NE(made.error().detail().find("\"hermes\""), std::string::npos);
}

}  // namespace
}  // namespace pixii::frontend
