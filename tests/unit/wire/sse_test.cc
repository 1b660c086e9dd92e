#include "wire/sse.h"

#include <gtest/gtest.h>

namespace pixii::wire {
namespace {

std::vector<SseEvent> Read(std::string_view bytes, std::size_t piece) {
  SseParser parser;
  std::vector<SseEvent> out;
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    EXPECT_TRUE(parser.Feed(bytes.substr(at, piece), out));
  }
  return out;
}

TEST(Sse, WhatIsWrittenIsReadBackInAnyPieces) {
  std::string out;
  AppendSseData(out, R"({"a":1})");
  out += kSseComment;
  AppendSseEvent(out, "error", "{}");
  out += kSseDone;
  for (std::size_t piece : {1UL, 2UL, 100UL}) {
    auto events = Read(out, piece);
    ASSERT_EQ(events.size(), 3U);
    EXPECT_EQ(events[0].data, R"({"a":1})");
    EXPECT_EQ(events[0].event, "");
    EXPECT_EQ(events[1].event, "error");
    EXPECT_EQ(events[2].data, "[DONE]");
  }
}

TEST(Sse, ReadsEveryLineEndAndJoinsDataLines) {
  auto events = Read("data:a\r\ndata: b\r\r\nid: 7\n\ndata\n\n", 1);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].data, "a\nb");
  EXPECT_EQ(events[1].data, "");
}

TEST(Sse, BoundsAnEvent) {
  SseParser parser(10);
  std::vector<SseEvent> out;
  EXPECT_FALSE(parser.Feed("data: 0123456789", out));
}

}  // namespace
}  // namespace pixii::wire
