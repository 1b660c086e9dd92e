#include "bench/whole_answer.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::bench {
namespace {

ServerAnswer Stream(std::string body) {
  ServerAnswer answer;
  answer.status = 200;
  answer.fields = {{"Content-Type", "text/event-stream"}};
  answer.body = std::move(body);
  return answer;
}

std::string Chunk(const std::string& choice) {
  return R"(data: {"id":"a","object":"chat.completion.chunk","model":"m","choices":[)" + choice +
         "]}\n\n";
}

TEST(WholeAnswerTest, AStreamIsPutTogether) {
  const Result<WholeAnswer> whole = ReadWhole(
      Stream(Chunk(R"({"index":0,"delta":{"role":"assistant","content":""}})") + ": comment\n\n" +
             Chunk(R"({"index":0,"delta":{"content":"one "}})") +
             Chunk(R"({"index":0,"delta":{"content":"two"}})") +
             Chunk(R"({"index":0,"delta":{},"finish_reason":"stop"})") + "data: [DONE]\n\n"));
  ASSERT_TRUE(whole) << whole.error().detail();
  EXPECT_EQ(whole->choice(0)->text, "one two");
  EXPECT_EQ(whole->choice(0)->role, "assistant");
  EXPECT_EQ(whole->choice(0)->finish, "stop");
  EXPECT_EQ(whole->choice(0)->role_late, 0U);
  EXPECT_EQ(whole->choice(1), nullptr);
  EXPECT_EQ(whole->done_count, 1U);
  EXPECT_EQ(whole->after_done, 0U);
  EXPECT_FALSE(whole->ids_differ);
}

TEST(WholeAnswerTest, WhatIsWrongInAStreamIsCounted) {
  const Result<WholeAnswer> whole = ReadWhole(Stream(
      Chunk(R"({"index":0,"delta":{"content":"a"}})") +
      Chunk(R"({"index":0,"delta":{"role":"assistant"},"finish_reason":"stop"})") +
      Chunk(R"({"index":0,"delta":{"content":"b"},"finish_reason":"stop"})") + "data: [DONE]\n\n" +
      R"(data: {"id":"z","choices":[],"usage":{}})" + "\n\n" + "data: [DONE]\n\n"));
  ASSERT_TRUE(whole) << whole.error().detail();
  EXPECT_EQ(whole->choice(0)->role_late, 1U);
  EXPECT_EQ(whole->choice(0)->finish_count, 2U);
  EXPECT_EQ(whole->choice(0)->after_finish, 1U);
  EXPECT_EQ(whole->done_count, 2U);
  EXPECT_EQ(whole->after_done, 2U);
  EXPECT_TRUE(whole->ids_differ);
  EXPECT_EQ(whole->usage_count, 1U);
}

TEST(WholeAnswerTest, PiecesOfCallsAreJoinedByTheirIndex) {
  const auto piece = [](const std::string& call) {
    return Chunk(R"({"index":0,"delta":{"tool_calls":[)" + call + "]}}");
  };
  const Result<WholeAnswer> whole = ReadWhole(Stream(
      piece(R"({"index":0,"id":"x","type":"function","function":{"name":"f","arguments":""}})") +
      piece(R"({"index":0,"function":{"arguments":"{\"a\""}})") +
      piece(R"({"index":1,"id":"y","type":"function","function":{"name":"g","arguments":"{}"}})") +
      piece(R"({"index":0,"function":{"arguments":":1}"}})")));
  ASSERT_TRUE(whole) << whole.error().detail();
  ASSERT_EQ(whole->choice(0)->calls.size(), 2U);
  EXPECT_EQ(whole->choice(0)->calls[0],
            (WholeCall{.id = "x", .type = "function", .name = "f", .arguments = "{\"a\":1}"}));
  EXPECT_EQ(whole->choice(0)->calls[1].name, "g");
  EXPECT_FALSE(ReadWhole(Stream(piece(R"({"index":5,"id":"x"})"))));
}

TEST(WholeAnswerTest, ErrorsAreNoAnswers) {
  ServerAnswer refused;
  refused.status = 500;
  EXPECT_FALSE(ReadWhole(refused));
  EXPECT_FALSE(ReadWhole(Stream("data: {\"error\":{\"message\":\"x\"}}\n\n")));
  EXPECT_FALSE(ReadWhole(Stream("data: {\n\n")));
  ServerAnswer cut = Stream("");
  cut.failure = "the connection was closed";
  EXPECT_FALSE(ReadWhole(cut));
}

}  // namespace
}  // namespace pixii::bench
