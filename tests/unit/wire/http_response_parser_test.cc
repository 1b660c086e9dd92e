#include "wire/http_response_parser.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::wire {
namespace {

TEST(HttpResponseParserTest, ABodyComesAsItsPiecesDo) {
  HttpResponseParser parser;
  std::string unread;
  const auto feed = [&](std::string_view bytes) {
    unread += bytes;
    const auto used = parser.Feed(unread);
    ASSERT_TRUE(used) << used.error().detail();
    unread.erase(0, *used);
  };
  feed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  ASSERT_TRUE(parser.head_complete());
  EXPECT_EQ(parser.status(), 200);
  EXPECT_EQ(parser.TakeBody(), "abc");
  EXPECT_FALSE(parser.complete());
  feed("2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(parser.TakeBody(), "de");
  EXPECT_TRUE(parser.complete());
}

TEST(HttpResponseParserTest, AnEndInsideOrBeforeAResponseIsAnError) {
  for (const std::string_view begin :
       {"", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"}) {
    HttpResponseParser parser;
    if (!begin.empty()) {
      ASSERT_TRUE(parser.Feed(begin));
    }
    const auto ended = parser.FeedEnd();
    ASSERT_FALSE(ended) << begin;
    EXPECT_EQ(ended.error().code(), Code::kUnavailable);
  }
}

TEST(HttpResponseParserTest, TheEndOfTheConnectionMayEndTheBody) {
  HttpResponseParser parser;
  ASSERT_TRUE(parser.Feed("HTTP/1.1 200 OK\r\n\r\nabc"));
  ASSERT_TRUE(parser.FeedEnd());
  EXPECT_EQ(parser.TakeBody(), "abc");
}

// Its end comes in pieces, and nothing before it.
TEST(HttpResponseParserTest, AnEmptyChunkedBodyMayEndByteByByte) {
  HttpResponseParser parser(1024);
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  ASSERT_EQ(parser.Feed(head).value(), head.size());
  std::string unread;
  for (const char byte : std::string_view("0\r\n\r\n")) {
    EXPECT_FALSE(parser.complete());
    unread += byte;
    const Result<std::size_t> used = parser.Feed(unread);
    ASSERT_TRUE(used);
    unread.erase(0, *used);
  }
  EXPECT_TRUE(parser.complete());
  EXPECT_EQ(parser.TakeBody(), "");
}

}  // namespace
}  // namespace pixii::wire
