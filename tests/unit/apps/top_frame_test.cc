#include "apps/top_frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace pixii::apps {
namespace {

constexpr const char* kCluster = R"({"ready":true,"draining":false,"message":"well",)"
                                 R"("requests_in_flight":3,"connections":2,"media_model":null,)"
                                 R"("models":[{"name":"tiny","ready":true,"load":{"running":1,)"
                                 R"("queued":2,"blocks":{"used":5,"cached":5,"total":20}},)"
                                 R"("ranks":[]}],"workers":[{"name":"abc","role":"decode",)"
                                 R"("state":"excluded","reason":"unhealthy","load":null}]})";

TopInput Input() {
  TopInput out;
  out.url = "http://here";
  const Result<wire::Json> cluster = wire::ParseJson(kCluster);
  EXPECT_TRUE(cluster);
  out.cluster = *cluster;
  out.metrics =
      "# TYPE pixii_kv_tier_slots gauge\npixii_kv_tier_slots{model=\"tiny\",tier=\"host\"} 8\n"
      "pixii_kv_tier_blocks{model=\"tiny\",tier=\"host\"} 3\npixii_transfers_total{a=\"b\"} 2\n"
      "pixii_transfers_total{a=\"c\"} 4\npixii_transfers_total_other 100\n";
  return out;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> out;
  std::size_t at = 0;
  for (std::size_t end = text.find('\n'); end != text.npos; end = text.find('\n', at)) {
    out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  EXPECT_EQ(at, text.size()) << "each line has its end";
  return out;
}

TEST(TopFrameTest, SaysWhatModelsWorkersAndTiersDo) {
  const std::string frame = TopFrame(Input(), {.columns = 120, .rows = 40});
  for (const char* part :
       {"requests in flight 3", "well", "tiny", "[#####=====          ] 5/20", "abc", "decode",
        "excluded unhealthy", "host 3/8", "transfers here: 6,"}) {
    EXPECT_NE(frame.find(part), frame.npos) << part << "\n" << frame;
  }
  EXPECT_EQ(frame.find('\x1b'), frame.npos) << "no colours unless they are wanted";
}

TEST(TopFrameTest, FitsTheWindowAndSaysWhatIsLeftOut) {
  const std::size_t whole = Lines(TopFrame(Input(), {.columns = 120, .rows = 40})).size();
  for (std::uint32_t rows = 1; rows < whole; ++rows) {
    const auto lines = Lines(TopFrame(Input(), {.columns = 30, .rows = rows}));
    ASSERT_EQ(lines.size(), rows);
    EXPECT_EQ(lines.back(), "... " + std::to_string(whole - rows + 1) + " lines more");
    EXPECT_TRUE(std::ranges::all_of(lines, [](const auto& line) { return line.size() <= 30; }));
  }
}

TEST(TopFrameTest, ColoursAreOfTroubleAndHeads) {
  TopInput input = Input();
  input.colours = true;
  input.trouble = "nobody answers";
  const std::string frame = TopFrame(input, {.columns = 80, .rows = 40});
  EXPECT_NE(frame.find("\x1b[31mnobody answers\x1b[0m"), frame.npos);
  EXPECT_NE(frame.find("\x1b[1mMODEL"), frame.npos);
  EXPECT_NE(frame.find("\x1b[31mabc"), frame.npos) << "a worker that is not used";
}

TEST(TopFrameTest, WhatDoesNotComeIsEmptyNotAnError) {
  TopInput input;
  EXPECT_FALSE(TopFrame(input, {.columns = 10, .rows = 3}).empty());
  const Result<wire::Json> odd =
      wire::ParseJson(R"({"models":[7,{"name":3,"load":[]}],"workers":5})");
  ASSERT_TRUE(odd);
  input.cluster = *odd;
  EXPECT_FALSE(TopFrame(input, {.columns = 80, .rows = 24}).empty());
}

TEST(TopFrameTest, SumsAreOfOneNameAndOneLabel) {
  const std::string metrics = Input().metrics;
  EXPECT_EQ(MetricSum(metrics, "pixii_transfers_total"), 6);
  EXPECT_EQ(MetricSum(metrics, "pixii_transfers_total", "a=\"c\""), 4);
  EXPECT_EQ(MetricSum(metrics, "pixii_transfers"), 0);
  EXPECT_EQ(MetricSum("", "x"), 0);
}

}  // namespace
}  // namespace pixii::apps
