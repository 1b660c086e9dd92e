#include "wire/http.h"

#include <gtest/gtest.h>

#include "support/golden.h"
#include "wire/http_response_parser.h"
#include "wire/json.h"

namespace pixii::wire {
namespace {

struct Outcome {
  int status = 0;  // of the fault; 0: none
  std::vector<HttpRequest> requests;
  std::string rest;
};

// Feeds `bytes` as a connection does, `piece` bytes at a time.
Outcome Parse(std::string_view bytes, std::size_t piece, const HttpLimits& limits = {}) {
  Outcome out;
  HttpRequestParser parser(limits);
  while (!bytes.empty() || !out.rest.empty()) {
    std::size_t take = std::min(piece, bytes.size());
    out.rest.append(bytes.substr(0, take));
    bytes.remove_prefix(take);
    while (true) {
      auto used = parser.Feed(out.rest);
      if (!used) {
        out.status = used.error().status;
        return out;
      }
      out.rest.erase(0, *used);
      if (!parser.complete()) {
        break;
      }
      out.requests.push_back(parser.Take());
    }
    if (bytes.empty()) {
      break;
    }
  }
  return out;
}

int StatusOf(std::string_view bytes, const HttpLimits& limits = {}) {
  int whole = Parse(bytes, bytes.size(), limits).status;
  EXPECT_EQ(whole, Parse(bytes, 1, limits).status)
      << "pieces change the verdict on: " << bytes.substr(0, 200);
  return whole;
}

TEST(HttpRequestParser, ReadsARequestInAnyPieces) {
  std::string_view bytes =
      "POST /v1/x?a=1 HTTP/1.1\r\nHost: h\r\nX-A:  one two \t\r\nContent-Length: 5\r\n\r\nhelloGET "
      "/ HTTP/1.1\r\nHost: "
      "h\r\n\r\n";
  for (std::size_t piece : {1UL, 2UL, 7UL, 1000UL}) {
    Outcome got = Parse(bytes, piece);
    ASSERT_EQ(got.requests.size(), 2U) << piece;
    EXPECT_EQ(got.requests[0].method, "POST");
    EXPECT_EQ(got.requests[0].path, "/v1/x");
    EXPECT_EQ(got.requests[0].query, "a=1");
    EXPECT_EQ(got.requests[0].Field("x-a"), "one two");
    EXPECT_EQ(got.requests[0].body, "hello");
    EXPECT_TRUE(got.requests[0].keep_alive);
    EXPECT_EQ(got.requests[1].method, "GET");
    EXPECT_TRUE(got.rest.empty());
  }
}

TEST(HttpRequestParser, ReadsChunkedBodiesAndDropsTrailers) {
  std::string_view bytes =
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
      "Chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nHost: "
      "evil\r\n\r\n";
  for (std::size_t piece : {1UL, 3UL, 1000UL}) {
    Outcome got = Parse(bytes, piece);
    ASSERT_EQ(got.requests.size(), 1U) << piece << " status " << got.status;
    EXPECT_EQ(got.requests[0].body, "abc0123456789");
    EXPECT_EQ(got.requests[0].fields.size(), 2U);
  }
}

TEST(HttpRequestParser, RefusesWhatTwoReadersCouldReadDifferently) {
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"), 400);  // obs-fold
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\n X: a\r\nHost: h\r\n\r\n"), 400);       // indented
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\n\r\n"), 400);                           // no Host
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"), 400);     // two Hosts
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\nHost: h\n\n"), 400);                      // bare LF
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\rX: y\r\n\r\n"), 400);          // bare CR
  EXPECT_EQ(StatusOf(std::string_view("GET / HTTP/1.1\r\nHost: h\0\r\n\r\n", 29)), 400);  // NUL
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), 400);  // space, colon
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n"), 501);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n"),
            501);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                     "chunked\r\nTransfer-Encoding: cow\r\n\r\n"),
            501);
  EXPECT_EQ(StatusOf("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(
      StatusOf(
          "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
      400);
  for (const char* length : {"+5", "-1", "0x5", "5, 5", "", "5 5"}) {
    EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::string(length) +
                       "\r\n\r\nhello"),
              400)
        << length;
  }
  EXPECT_EQ(
      StatusOf("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\nhello"),
      413);
  EXPECT_EQ(StatusOf("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
  EXPECT_EQ(StatusOf("GET / HTTP/1.x\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GE(T / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET  / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET host:80 HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nExpect: cake\r\n\r\n"), 417);
  EXPECT_EQ(StatusOf("\x16\x03\x01\x02"), 400);  // a TLS hello is refused at its first byte
}

TEST(HttpRequestParser, RefusesBrokenChunks) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char* size : {"-1", "0x10", "g", "+3", ""}) {
    EXPECT_EQ(StatusOf(head + size + "\r\nabc\r\n0\r\n\r\n"), 400) << size;
  }
  EXPECT_NE(StatusOf(head + "FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"), 0);
  EXPECT_NE(StatusOf(head + "10000000000000003\r\nabc\r\n0\r\n\r\n"), 0);
  EXPECT_EQ(StatusOf(head + "2\r\nabc\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(Parse(head + "5;" + std::string(65536, 'x'), 4096).status, 400);
}

TEST(HttpRequestParser, TheLimitOfAChunksLineDoesNotDependOnPieces) {
  HttpLimits limits;
  for (std::uint32_t over = 0; over <= 1; ++over) {
    std::string trailer = "x:" + std::string(limits.chunk_head_bytes_max - 2 + over, 'a');
    std::string bytes = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" +
                        trailer + "\r\n\r\n";
    EXPECT_EQ(StatusOf(bytes, limits), over == 0 ? 0 : 400) << over;
  }
}

TEST(HttpRequestParser, SurvivesTheChunksOnWhichBeastAborts) {
  EXPECT_EQ(
      StatusOf(
          "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nabc\r\n0\r\n\r\n"),
      400);
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(StatusOf(head + "3 ;a=\"b\"\r\nabc\r\n00\r\n\r\n"), 0);
  EXPECT_EQ(StatusOf(head + "3\nabc\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + " 3\r\nabc\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "3\r\nabcX\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "0\r\nno colon\r\n\r\n"), 400);
}

TEST(HttpRequestParser, NamesEachLimit) {
  HttpLimits limits{
      .target_bytes_max = 100, .head_bytes_max = 1000, .field_count_max = 3, .body_bytes_max = 10};
  EXPECT_EQ(StatusOf("GET /" + std::string(200, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", limits),
            414);
  EXPECT_EQ(
      StatusOf("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(2000, 'a') + "\r\n\r\n", limits),
      431);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB:\r\nC:\r\n\r\n", limits), 431);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n", limits), 413);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789", limits),
            0);
  std::string chunked =
      "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n";
  EXPECT_EQ(StatusOf(chunked + "3\r\nabc\r\n0\r\n\r\n", limits), 413);
}

TEST(HttpRequestParser, TinyChunksCostNoMoreThanTheirBody) {
  std::string bytes = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 600'000; ++i) {
    bytes += "1\r\nA\r\n";
  }
  bytes += "0\r\n\r\n";
  HttpRequestParser parser({});
  std::string_view rest = bytes;
  std::string unread;
  while (!parser.complete()) {
    ASSERT_FALSE(rest.empty());
    unread.append(rest.substr(0, 16384));
    rest.remove_prefix(std::min<std::size_t>(16384, rest.size()));
    auto used = parser.Feed(unread);
    ASSERT_TRUE(used) << used.error().detail;
    unread.erase(0, *used);
  }
  HttpRequest request = parser.Take();
  EXPECT_EQ(request.body.size(), 600'000U);
  EXPECT_LE(request.body.capacity(), 2'000'000U);
}

TEST(HttpRequestParser, KnowsWhenTheConnectionStays) {
  auto keeps = [](std::string head) {
    return Parse(head + "\r\n\r\n", 1000).requests.at(0).keep_alive;
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: h"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: keep-alive"));
}

TEST(HttpRequestParser, AbsoluteFormIsItsPath) {
  EXPECT_EQ(Parse("GET http://a.b/v1/m?q HTTP/1.1\r\nHost: x\r\n\r\n", 1000).requests.at(0).path,
            "/v1/m");
  EXPECT_EQ(Parse("GET http://a.b HTTP/1.1\r\nHost: x\r\n\r\n", 1000).requests.at(0).path, "/");
}

TEST(HttpResponse, WhatIsWrittenIsReadBack) {
  std::string out(kHttpContinue);
  AppendHttpHead(out, {.status = 200,
                       .content_type = "text/event-stream",
                       .content_length = {},
                       .chunked = true,
                       .keep_alive = true,
                       .minor_version = 1,
                       .fields = {{"X-A", "b"}}});
  std::size_t begin = BeginHttpChunk(out);
  out += std::string(300, 'x');
  EndHttpChunk(out, begin);
  begin = BeginHttpChunk(out);
  EndHttpChunk(out, begin);  // empty: must not end the body
  begin = BeginHttpChunk(out);
  out += "end";
  EndHttpChunk(out, begin);
  out += kHttpLastChunk;
  for (std::size_t piece : {1UL, 5UL, 10'000UL}) {
    HttpResponseParser parser;
    std::string unread;
    std::string body;
    for (std::size_t at = 0; at < out.size(); at += piece) {
      unread += out.substr(at, piece);
      auto used = parser.Feed(unread);
      ASSERT_TRUE(used) << used.error().ToString();
      unread.erase(0, *used);
      body += parser.TakeBody();
    }
    ASSERT_TRUE(parser.complete());
    EXPECT_EQ(parser.status(), 200);
    EXPECT_EQ(parser.interim_count(), 1U);
    EXPECT_EQ(parser.Field("x-a"), "b");
    EXPECT_EQ(body, std::string(300, 'x') + "end");
  }
}

TEST(PercentDecode, RefusesBrokenSequencesAndNul) {
  EXPECT_EQ(PercentDecode("a%2Fb%20"), "a/b ");
  EXPECT_FALSE(PercentDecode("%2"));
  EXPECT_FALSE(PercentDecode("%zz"));
  EXPECT_FALSE(PercentDecode("%00"));
}

// The shared set's verdicts, as far as one parser decides them. The server's side of them:
// tests/unit/frontend.
TEST(HttpRequestParser, HoldsTheSharedCases) {
  auto data = pixii::testing::DataDir();
  if (!data) {
    GTEST_SKIP() << "no shared data folder";
  }
  auto cases = ParseJson(pixii::testing::ReadFileOrFail(*data + "/http/cases.json"));
  ASSERT_TRUE(cases) << cases.error().ToString();
  int count = 0;
  for (const Json& entry : cases->Find("cases")->array()) {
    std::string bytes;
    for (const Json& file : entry.Find("send")->array()) {
      bytes += pixii::testing::ReadFileOrFail(*data + "/http/" + file.Find("file")->string());
    }
    const std::string& id = entry.Find("id")->string();
    Outcome whole = Parse(bytes, bytes.size());
    Outcome pieces = Parse(bytes, 13);
    EXPECT_EQ(whole.status, pieces.status) << id;
    for (const HttpRequest& request : whole.requests) {
      EXPECT_NE(request.path, "/smuggled") << id;
    }
    const std::string& outcome = entry.Find("outcome")->string();
    bool app_decides = id == "method_unknown" || id == "huge_target";
    if (outcome == "handler") {
      EXPECT_EQ(whole.status, 0) << id;
    } else if (outcome == "reject" && !app_decides) {
      EXPECT_NE(whole.status, 0) << id;
    }
    if (whole.status != 0) {
      bool listed = false;
      for (const Json& status : entry.Find("status")->array()) {
        listed = listed || status.AsInt() == whole.status;
      }
      EXPECT_TRUE(listed) << id << " got " << whole.status;
    }
    ++count;
  }
  EXPECT_EQ(count, 44);
}

}  // namespace
}  // namespace pixii::wire
