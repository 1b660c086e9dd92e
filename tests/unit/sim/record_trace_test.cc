#include "sim/record_trace.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>

#include "sim/trace.h"

namespace pixii::sim {
namespace {

std::string Line(std::string_view id, std::string_view session, std::string_view parent,
                 int received, int ended, std::string_view hashes, int length, int block = 4) {
  return fmt::format(
      R"({{"schema":"dynamo.request.trace.v1","event_type":"request_end","event_time_unix_ms":{},"agent_context":{{"session_id":"{}"{}}},"request":{{"request_id":"{}","request_received_ms":{},"output_tokens":3,"replay":{{"trace_block_size":{},"input_length":{},"input_sequence_hashes":[{}]}}}}}})"
      "\n",
      ended, session, parent.empty() ? "" : fmt::format(R"(,"parent_session_id":"{}")", parent), id,
      received, block, length, hashes);
}

std::string ErrorOf(const std::string& text) {
  Records records;
  const Result<void> added = AddRecords(text, "file", records);
  return added ? "" : added.error().detail();
}

TEST(RecordTrace, RequestsBecomeATraceThatIsReadAgain) {
  Records records;
  // Written as they ended; hashes past what a signed number holds, and one line in an envelope.
  const std::string second = Line("b", "s", "", 1500, 1700, "18446744073709551615,7", 6);
  ASSERT_TRUE(AddRecords("{\"timestamp\":1,\"event\":" + second.substr(0, second.size() - 1) +
                             "}\n\n" + Line("a", "s", "", 1000, 1800, "18446744073709551615", 4),
                         "file", records));
  ASSERT_TRUE(AddRecords(R"({"event_type":"request_end","request":{"request_id":"refused"}})",
                         "other", records));
  EXPECT_EQ(records.left_out, 1U);
  EXPECT_EQ(records.block_tokens, 4U);
  const Result<std::string> text = ToMooncake(std::move(records), false);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text,
            "{\"timestamp\":0,\"input_length\":4,\"output_length\":3,\"hash_ids\":[0]}\n"
            "{\"timestamp\":500,\"input_length\":6,\"output_length\":3,\"hash_ids\":[0,1]}\n");
  const Result<Trace> trace = ReadTrace(*text, 4);
  ASSERT_TRUE(trace) << trace.error().detail();
  EXPECT_EQ(trace->requests.size(), 2U);
  std::vector<TokenId> longer = TracePrompt(trace->requests[1], 1, 4, 0, 100);
  longer.resize(4);
  EXPECT_EQ(TracePrompt(trace->requests[0], 0, 4, 0, 100), longer);
}

TEST(RecordTrace, ATurnWaitsForTheOneBeforeItAndForTools) {
  Records records;
  ASSERT_TRUE(AddRecords(
      Line("a", "s", "", 1000, 1100, "1", 4) + Line("b", "s", "", 1500, 1600, "1", 4) +
          Line("child", "s2", "s", 1120, 1200, "2", 4) +
          R"({"event_type":"tool_end","event_time_unix_ms":1450,"agent_context":{"session_id":"s"},"tool":{"started_at_unix_ms":1150,"ended_at_unix_ms":1450}})"
          "\n"
          R"({"event_type":"tool_start","event_time_unix_ms":1150})"
          "\n",
      "file", records));
  const Result<std::string> text = ToMooncake(std::move(records), true);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find(R"("request_id":"b","session_id":"s","wait_for":["a"],"delay":100)"),
            text->npos)
      << *text;
  EXPECT_NE(text->find(R"("tool_wait_ms":300)"), text->npos) << *text;
  EXPECT_NE(text->find(R"("session_id":"s2","parent_session_id":"s","wait_for":["a"],"delay":20)"),
            text->npos)
      << *text;
  EXPECT_TRUE(ReadTrace(*text, 4));
}

TEST(RecordTrace, WhatIsNoRecordIsRefusedWithItsLine) {
  EXPECT_NE(ErrorOf("\n{\"a\":1}\n").find("file: line 2: event_type"), std::string::npos);
  EXPECT_NE(ErrorOf("[]").find("line 1"), std::string::npos);
  EXPECT_NE(ErrorOf(Line("a", "s", "", 1, 2, "1,2,3", 4)).find("input_sequence_hashes"),
            std::string::npos);
  EXPECT_NE(ErrorOf(Line("a", "s", "", 1, 2, "1", 4) + Line("b", "s", "", 1, 2, "1", 4, 8))
                .find("trace_block_size is 8, before it was 4"),
            std::string::npos);
  EXPECT_FALSE(ToMooncake({}, false));
  Records nobody;
  ASSERT_TRUE(AddRecords(Line("a", "", "", 1, 2, "1", 4), "file", nobody));
  EXPECT_FALSE(ToMooncake(nobody, true));
}

}  // namespace
}  // namespace pixii::sim
