#include "sim/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace pixii::sim {
namespace {

using std::chrono::milliseconds;

TEST(Trace, MooncakeLinesAreReadInTheOrderOfTime) {
  const Result<Trace> trace = ReadTrace(
      "{\"timestamp\": 5000, \"input_length\": 20, \"output_length\": 3, \"hash_ids\": [7, 8]}\n"
      "\n"
      "{\"created_time\": 2000.5, \"input_tokens\": 16, \"output_tokens\": 0, \"more\": {}}\r\n"
      "{\"timestamp\": 5000, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": []}",
      16);
  ASSERT_TRUE(trace) << trace.error().ToString();
  ASSERT_EQ(trace->requests.size(), 3U);
  EXPECT_EQ(trace->block_tokens, 16U);
  EXPECT_EQ(trace->requests[0].at, rt::Duration{});
  EXPECT_EQ(trace->requests[0].output_tokens, 1U);
  EXPECT_TRUE(trace->requests[0].hash_ids.empty());
  EXPECT_EQ(trace->requests[1].at, std::chrono::microseconds(2'999'500));
  EXPECT_EQ(trace->requests[1].input_tokens, 20U);
  EXPECT_EQ(trace->requests[1].output_tokens, 3U);
  EXPECT_EQ(trace->requests[1].hash_ids, (std::vector<std::uint64_t>{7, 8}));
  EXPECT_EQ(trace->requests[2].input_tokens, 1U);
}

TEST(Trace, AzureLinesAreReadAcrossMidnight) {
  const Result<Trace> trace = ReadTrace(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
      "2023-12-31 23:59:59.9799600,4808,10\r\n"
      "2024-01-01 00:00:01.0319600,3180,8",
      512);
  ASSERT_TRUE(trace) << trace.error().ToString();
  ASSERT_EQ(trace->requests.size(), 2U);
  EXPECT_EQ(trace->requests[0].input_tokens, 4808U);
  EXPECT_EQ(trace->requests[0].output_tokens, 10U);
  EXPECT_EQ(trace->requests[1].at, milliseconds(1052));
  EXPECT_EQ(trace->requests[1].output_tokens, 8U);
}

TEST(Trace, AWrongLineIsNamed) {
  const std::string good = R"({"timestamp": 1, "input_length": 5, "output_length": 1})";
  const std::string lines[] = {
      "{",
      "[]",
      R"({"input_length": 5, "output_length": 1})",
      R"({"timestamp": -1, "input_length": 5, "output_length": 1})",
      R"({"timestamp": 1, "input_length": 0, "output_length": 1})",
      R"({"timestamp": 1, "input_length": 5, "output_length": 99999999999})",
      R"({"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": [1, 2]})",
      R"({"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": ["a"]})",
      R"({"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": 3})"};
  for (const std::string& line : lines) {
    const Result<Trace> trace = ReadTrace(good + "\n" + line, 16);
    ASSERT_FALSE(trace) << line;
    EXPECT_NE(trace.error().detail().find("line 2"), std::string::npos) << line;
  }
  const std::string head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
  for (const std::string line :
       {"2023-13-16 18:17:03,1,1", "2023-11-16 18:17:03,1", "2023-11-16,1,1",
        "2023-11-16 18:17:03,1,x", "2023-11-16 18:17:03.5s,1,1", "2023-11-16 18:17:03,1,-1"}) {
    const Result<Trace> trace = ReadTrace(head + line, 16);
    ASSERT_FALSE(trace) << line;
    EXPECT_NE(trace.error().detail().find("line 2"), std::string::npos) << line;
  }
  EXPECT_FALSE(ReadTrace("", 16));
  EXPECT_FALSE(ReadTrace(head, 16));
}

TEST(Trace, EqualHashIdsOfACopyAreEqualTokens) {
  const TraceRequest request{
      .at = {}, .input_tokens = 20, .output_tokens = 1, .hash_ids = {5, 6, 7}};
  TraceRequest other = request;
  other.hash_ids = {5, 9, 7};
  const std::vector<TokenId> a = TracePrompt(request, 0, 8, 0, 64);
  const std::vector<TokenId> b = TracePrompt(other, 1, 8, 0, 64);
  ASSERT_EQ(a.size(), 20U);
  EXPECT_TRUE(std::ranges::all_of(a, [](TokenId token) { return token >= 0 && token < 64; }));
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 8, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 8, a.begin() + 16, b.begin() + 8));
  EXPECT_TRUE(std::equal(a.begin() + 16, a.end(), b.begin() + 16));
  EXPECT_NE(a, TracePrompt(request, 0, 8, 1, 64));
  TraceRequest longer = request;
  longer.input_tokens = 24;  // more of the last block
  EXPECT_TRUE(std::equal(a.begin(), a.end(), TracePrompt(longer, 2, 8, 0, 64).begin()));
}

TEST(Trace, WithoutHashIdsPromptsShareNothing) {
  const TraceRequest request{.at = {}, .input_tokens = 16, .output_tokens = 1, .hash_ids = {}};
  const std::vector<TokenId> a = TracePrompt(request, 0, 8, 0, 64);
  EXPECT_EQ(a, TracePrompt(request, 0, 8, 0, 64));
  EXPECT_NE(a, TracePrompt(request, 1, 8, 0, 64));
  EXPECT_FALSE(std::equal(a.begin(), a.begin() + 8, a.begin() + 8));
}

}  // namespace
}  // namespace pixii::sim
