#include "frontend/epp/ext_proc_stream.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "frontend/grpc_host.h"
#include "unit/frontend/epp/gateway_messages.h"

namespace pixii::frontend {
namespace {

using testing::BodyMessage;
using testing::BytesField;
using testing::HeadersMessage;
using testing::Modes;
using testing::NumberField;
using testing::TrailersMessage;
using Ask = ExtProcStep::Ask;
using Kind = ExtProcMessage::Kind;

constexpr std::uint64_t kDuplex = 4;
constexpr std::uint64_t kBuffered = 2;
constexpr std::uint64_t kStreamed = 1;

std::string Begin(std::uint64_t mode, std::string_view path = "/v1/completions", bool last = false,
                  std::string_view method = "POST") {
  return HeadersMessage(
             2, {{":method", std::string(method)}, {":path", std::string(path)}, {"a", "b"}},
             last) +
         Modes(mode, mode);
}

std::string Answer(std::string_view type = "text/event-stream", std::string_view status = "200",
                   bool last = false) {
  return HeadersMessage(3, {{":status", std::string(status)}, {"content-type", std::string(type)}},
                        last);
}

const RouteChange kChange{.endpoint = "10.0.0.7:8000", .set = {{"x", "y"}}};

TEST(ExtProcStream, PiecesBothWaysAreAnsweredWhenAllIsThere) {
  ExtProcStream stream({.piece_bytes_max = 4});
  EXPECT_TRUE(stream.OnMessage(Begin(kDuplex, "/v1/completions?x=1")).replies.empty());
  EXPECT_EQ(stream.OnMessage(BodyMessage(4, "{\"a\"", false)).ask, Ask::kNothing);
  EXPECT_EQ(stream.OnMessage(BodyMessage(4, ":12}", true)).ask, Ask::kRoute);
  EXPECT_EQ(stream.request().method, "POST");
  EXPECT_EQ(stream.request().path, "/v1/completions");
  EXPECT_EQ(stream.request().query, "x=1");
  EXPECT_EQ(stream.request().body, "{\"a\":12}");
  EXPECT_EQ(stream.request().Field("a"), "b");
  const ExtProcStep step = stream.OnRouted(kChange, std::nullopt);
  ASSERT_EQ(step.replies.size(), 3U);
  EXPECT_EQ(step.replies[0], HeadersReply(Kind::kRequestHeaders, &kChange));
  EXPECT_EQ(step.replies[1], StreamedBodyReply(Kind::kRequestBody, "{\"a\"", false));
  EXPECT_EQ(step.replies[2], StreamedBodyReply(Kind::kRequestBody, ":12}", true));
}

TEST(ExtProcStream, TrailersComeBehindTheBody) {
  ExtProcStream stream({});
  stream.OnMessage(Begin(kDuplex));
  stream.OnMessage(BodyMessage(4, "{}", false));
  EXPECT_EQ(stream.OnMessage(TrailersMessage(6)).ask, Ask::kRoute);
  const ExtProcStep step = stream.OnRouted(kChange, "{ }");
  ASSERT_EQ(step.replies.size(), 3U);
  EXPECT_EQ(step.replies[1], StreamedBodyReply(Kind::kRequestBody, "{ }", false));
  EXPECT_EQ(step.replies[2], TrailersReply(Kind::kRequestTrailers));
}

TEST(ExtProcStream, AWholeBodyIsAnsweredAtOnceAndReplaced) {
  ExtProcStream stream({});
  EXPECT_EQ(stream.OnMessage(Begin(kBuffered)).replies,
            std::vector{HeadersReply(Kind::kRequestHeaders, nullptr)});
  EXPECT_EQ(stream.OnMessage(BodyMessage(4, "{}", true)).ask, Ask::kRoute);
  const std::string body = "{\"b\":1}";
  EXPECT_EQ(stream.OnRouted(kChange, body).replies,
            std::vector{BodyReply(Kind::kRequestBody, &kChange, &body)});
}

TEST(ExtProcStream, WithoutAPromptInTimeAnyEndpointWillDo) {
  EXPECT_EQ(ExtProcStream({}).OnMessage(Begin(kDuplex, "/v1/models", true, "GET")).ask,
            Ask::kSpread);
  EXPECT_EQ(ExtProcStream({}).OnMessage(Begin(0)).ask, Ask::kSpread);
  ExtProcStream stream({});
  EXPECT_EQ(stream.OnMessage(Begin(kStreamed)).ask, Ask::kSpread);
  EXPECT_EQ(stream.OnRouted(kChange, std::nullopt).replies,
            std::vector{HeadersReply(Kind::kRequestHeaders, &kChange)});
  EXPECT_EQ(stream.OnMessage(BodyMessage(4, "{}", true)).replies,
            std::vector{BodyReply(Kind::kRequestBody, nullptr, nullptr)});
  for (const char* path : {"/v1/embeddings", "/v1/completions/x"}) {
    ExtProcStream other({});
    other.OnMessage(Begin(kDuplex, path));
    EXPECT_EQ(other.OnMessage(BodyMessage(4, "{}", true)).ask, Ask::kSpread) << path;
  }
  ExtProcStream later({});
  later.OnMessage(Begin(kDuplex, "/v1/responses"));
  EXPECT_EQ(later.OnMessage(BodyMessage(4, R"({"previous_response_id":"x"})", true)).ask,
            Ask::kSpread);
}

TEST(ExtProcStream, CountsWhatAnAnswerBringsAndHearsItsEnd) {
  ExtProcStream stream({});
  stream.OnMessage(Begin(kDuplex));
  stream.OnMessage(BodyMessage(4, "{}", true));
  stream.OnRouted(kChange, std::nullopt);
  EXPECT_EQ(stream.OnMessage(Answer()).replies,
            std::vector{HeadersReply(Kind::kResponseHeaders, nullptr)});
  ExtProcStep step = stream.OnMessage(BodyMessage(5, "data: 1\n\ndata: 2\n", false));
  EXPECT_EQ(step.replies,
            std::vector{StreamedBodyReply(Kind::kResponseBody, "data: 1\n\ndata: 2\n", false)});
  EXPECT_EQ(step.tokens, 1U);
  EXPECT_EQ(stream.OnMessage(BodyMessage(5, "\ndata: 3\r\n\r\n", false)).tokens, 2U);
  EXPECT_FALSE(step.over);
  step = stream.OnMessage(BodyMessage(5, "", true));
  EXPECT_TRUE(step.over);
  EXPECT_EQ(stream.OnEnd().finish, kGrpcOk);
}

TEST(ExtProcStream, AWholeAnswerIsOneSignThatThePromptIsDone) {
  for (const auto& [status, tokens] : {std::pair("200", 1U), std::pair("500", 0U)}) {
    ExtProcStream stream({});
    stream.OnMessage(Begin(kBuffered));
    stream.OnMessage(BodyMessage(4, "{}", true));
    stream.OnRouted(kChange, std::nullopt);
    stream.OnMessage(Answer("application/json", status));
    const ExtProcStep step = stream.OnMessage(BodyMessage(5, "{}\n\n{}\n\n", true));
    EXPECT_EQ(step.tokens, tokens);
    EXPECT_TRUE(step.over);
    EXPECT_EQ(step.replies, std::vector{BodyReply(Kind::kResponseBody, nullptr, nullptr)});
  }
}

TEST(ExtProcStream, AnAnswerWithoutABodyOrWithTrailersEndsThere) {
  ExtProcStream stream({});
  stream.OnMessage(Begin(kDuplex, "/x", true));
  stream.OnRouted(kChange, std::nullopt);
  EXPECT_TRUE(stream.OnMessage(Answer("a", "200", true)).over);
  ExtProcStream other({});
  other.OnMessage(Begin(kDuplex, "/x", true));
  other.OnRouted(kChange, std::nullopt);
  EXPECT_FALSE(other.OnMessage(Answer()).over);
  const ExtProcStep step = other.OnMessage(TrailersMessage(7));
  EXPECT_TRUE(step.over);
  EXPECT_EQ(step.replies, std::vector{TrailersReply(Kind::kResponseTrailers)});
}

TEST(ExtProcStream, ABodyHasABound) {
  for (const std::uint64_t mode : {kDuplex, kBuffered}) {
    ExtProcStream stream({.body_bytes_max = 10});
    stream.OnMessage(Begin(mode));
    const ExtProcStep step = stream.OnMessage(BodyMessage(4, "12345678901", false));
    ASSERT_EQ(step.replies.size(), 1U);
    EXPECT_NE(step.replies[0].find("10 bytes"), std::string::npos);
    EXPECT_EQ(step.finish, kGrpcOk);
    EXPECT_TRUE(stream.OnMessage(BodyMessage(4, "1", true)).replies.empty());
  }
}

TEST(ExtProcStream, WhatComesOutOfTurnEndsIt) {
  const std::vector<std::vector<std::string>> wrong = {
      {Begin(kDuplex), Begin(kDuplex)},
      {BodyMessage(4, "", true)},
      {Answer()},
      {TrailersMessage(6)},
      {TrailersMessage(7)},
      {Begin(kDuplex), Answer()},
      {Begin(kDuplex), BodyMessage(4, "", true), BodyMessage(4, "", true)},
      {Begin(kDuplex), BodyMessage(5, "", true)},
      {"\xff"},
      {""},
  };
  for (const auto& messages : wrong) {
    ExtProcStream stream({});
    ExtProcStep last;
    for (const std::string& message : messages) {
      EXPECT_FALSE(last.finish);
      last = stream.OnMessage(message);
    }
    EXPECT_EQ(last.finish, kGrpcInvalidArgument) << &messages - wrong.data();
    EXPECT_TRUE(last.over);
    EXPECT_FALSE(last.why.empty());
  }
}

TEST(ExtProcStream, WhoOnlyObservesIsNotAnswered) {
  ExtProcStream stream({});
  const ExtProcStep step = stream.OnMessage(Begin(kDuplex) + NumberField(10, 1));
  EXPECT_TRUE(step.replies.empty());
  EXPECT_EQ(step.finish, kGrpcOk);
}

// Whatever a gateway says, in whatever order: a question is asked once, what is over stays over,
// and every message that is taken gets a reply where its mode wants one.
TEST(ExtProcStream, HoldsItsWordInAnyOrder) {
  std::mt19937 random(3);
  for (int run = 0; run < 20'000; ++run) {
    ExtProcStream stream({.body_bytes_max = 64, .piece_bytes_max = 8});
    int asked = 0;
    bool over = false;
    for (int i = 0; i < 12; ++i) {
      const std::string piece(random() % 20, 'x');
      const bool last = random() % 2 == 0;
      std::string message;
      switch (random() % 7) {
        case 0:
        case 1:
          message = Begin(random() % 5, "/v1/completions", random() % 8 == 0);
          break;
        case 2:
          message = BodyMessage(4, piece, last);
          break;
        case 3:
          message = Answer();
          break;
        case 4:
          message = BodyMessage(5, piece, last);
          break;
        case 5:
          message = TrailersMessage(6);
          break;
        default:
          message = TrailersMessage(7);
          break;
      }
      ExtProcStep step = stream.OnMessage(message);
      if (over && step.finish) {
        EXPECT_TRUE(step.over);
      }
      if (step.ask != Ask::kNothing) {
        EXPECT_EQ(++asked, 1);
        EXPECT_TRUE(step.replies.empty());
        step = random() % 4 == 0 ? stream.OnRefused(503, {}, "no", "none")
                                 : stream.OnRouted(kChange, std::nullopt);
        EXPECT_FALSE(step.replies.empty());
      }
      over = over || step.finish.has_value();
      if (over) {
        EXPECT_TRUE(stream.OnMessage(Begin(kDuplex)).replies.empty());
      }
    }
  }
}

}  // namespace
}  // namespace pixii::frontend
