#include "frontend/epp/ext_proc_proto.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "unit/frontend/epp/gateway_messages.h"

namespace pixii::frontend {
namespace {

using testing::BytesField;
using testing::HeadersMessage;
using testing::NumberField;
using testing::Pair;

TEST(ExtProcProto, ReadsHeadersWithTheirModesAndEndpoints) {
  const std::string list = BytesField(1, BytesField(3, "10.0.0.1:8000")) +
                           BytesField(1, BytesField(3, " 10.0.0.2:8000 , [::1]:80,"));
  const std::string space =
      BytesField(1, Pair("x-gateway-destination-endpoint-subset", BytesField(6, list)));
  const std::string message = HeadersMessage(2, {{":method", "POST"}, {"X-Tall", "1"}}, true) +
                              BytesField(8, BytesField(1, Pair("envoy.lb.subset_hint", space)) +
                                                BytesField(1, Pair("another", "\xff"))) +
                              BytesField(11, NumberField(1, 2) + NumberField(2, 4));
  const auto read = ReadExtProcMessage(message);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->kind, ExtProcMessage::Kind::kRequestHeaders);
  ASSERT_EQ(read->headers.size(), 2U);
  EXPECT_EQ(read->headers[1].name, "x-tall");
  EXPECT_TRUE(read->end_of_stream);
  EXPECT_EQ(read->subset, (std::vector<std::string>{"10.0.0.1:8000", "10.0.0.2:8000", "[::1]:80"}));
  EXPECT_EQ(read->request_body, BodyMode::kBuffered);
  EXPECT_EQ(read->response_body, BodyMode::kFullDuplex);
}

TEST(ExtProcProto, AnEmptySubsetIsNotNone) {
  const std::string space =
      BytesField(1, Pair("x-gateway-destination-endpoint-subset", BytesField(6, "")));
  const auto read = ReadExtProcMessage(
      HeadersMessage(2, {}) + BytesField(8, BytesField(1, Pair("envoy.lb.subset_hint", space))));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->subset, std::vector<std::string>());
  EXPECT_FALSE(ReadExtProcMessage(HeadersMessage(2, {}))->subset);
}

TEST(ExtProcProto, TextsAndBytesOfHeadersAreBothRead) {
  const std::string text = BytesField(1, BytesField(1, BytesField(1, "a") + BytesField(2, "text")));
  const auto read = ReadExtProcMessage(BytesField(3, text));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->kind, ExtProcMessage::Kind::kResponseHeaders);
  EXPECT_EQ(read->headers.at(0).value, "text");
}

TEST(ExtProcProto, RefusesWhatNobodyMeans) {
  EXPECT_FALSE(ReadExtProcMessage(HeadersMessage(2, {{"", "value"}})));
  EXPECT_FALSE(ReadExtProcMessage(HeadersMessage(2, {{"a", "b\r\nc: d"}})));
  EXPECT_FALSE(ReadExtProcMessage(BytesField(11, NumberField(1, 9))));
  EXPECT_FALSE(ReadExtProcMessage("\x12\x7f"));
  std::vector<wire::HttpField> many(600, {"a", "b"});
  EXPECT_FALSE(ReadExtProcMessage(HeadersMessage(2, many)));
  EXPECT_EQ(ReadExtProcMessage("")->kind, ExtProcMessage::Kind::kNothing);
}

TEST(ExtProcProto, StatusesThatGatewaysDoNotKnowBecomeOnesThatTheyDo) {
  const auto code = [](int status) {
    const std::string reply = ImmediateReply(status, {}, "", "");
    return static_cast<unsigned char>(reply.at(reply.find("\x0a\x03\x08") + 3)) % 128 +
           128 * static_cast<unsigned char>(reply.at(reply.find("\x0a\x03\x08") + 4));
  };
  EXPECT_EQ(code(429), 429);
  EXPECT_EQ(code(503), 503);
  EXPECT_EQ(code(529), 503);
  EXPECT_EQ(code(499), 400);
}

// Any bytes are a message or a refusal, and what is read has the bounds that are promised.
TEST(ExtProcProto, SurvivesBrokenMessages) {
  std::mt19937 random(7);
  const std::string space =
      BytesField(1, Pair("x-gateway-destination-endpoint-subset",
                         BytesField(6, BytesField(1, BytesField(3, "a:1,b:2")))));
  const std::string whole = HeadersMessage(2, {{":path", "/v1/completions"}, {"a", "b"}}, true) +
                            BytesField(4, BytesField(1, "{}") + NumberField(2, 1)) +
                            BytesField(8, BytesField(1, Pair("envoy.lb.subset_hint", space))) +
                            BytesField(11, NumberField(1, 4));
  std::size_t read_count = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::string broken = whole;
    for (int changes = static_cast<int>(random() % 4); changes >= 0; --changes) {
      broken[random() % broken.size()] = static_cast<char>(random());
    }
    broken.resize(random() % (broken.size() + 1));
    const auto read = ReadExtProcMessage(broken);
    if (!read) {
      EXPECT_EQ(read.error().code(), Code::kInvalidArgument);
      continue;
    }
    ++read_count;
    EXPECT_LE(read->headers.size(), 512U);
    EXPECT_LE(read->body.size(), broken.size());
  }
  EXPECT_GT(read_count, 1000U);
}

TEST(ExtProcProto, SaysWhichServiceAHealthCheckAsksAbout) {
  EXPECT_EQ(*ReadHealthCheck(""), "");
  EXPECT_EQ(*ReadHealthCheck(BytesField(1, "readiness")), "readiness");
  EXPECT_FALSE(ReadHealthCheck("\x0a\x05"));
  EXPECT_EQ(HealthReply(Health::kServing), "\x08\x01");
}

}  // namespace
}  // namespace pixii::frontend
