#include "obs/trace.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "obs/otlp.h"

namespace pixii::obs {
namespace {

constexpr std::string_view kGiven = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(Traceparent, IsReadAndWrittenAsTheStandardHasIt) {
  const auto context = ParseTraceparent(kGiven);
  ASSERT_TRUE(context);
  EXPECT_EQ(ToHex(context->trace), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(ToHex(context->parent), "00f067aa0ba902b7");
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(Traceparent(*context, context->parent), kGiven);
}

TEST(Traceparent, OfALaterVersionMayHaveMoreBehindIt) {
  const std::string later = "cc" + std::string(kGiven.substr(2));
  EXPECT_TRUE(ParseTraceparent(later + "-what-the-future-will-be-like"));
  EXPECT_FALSE(ParseTraceparent(later + ".what"));
  EXPECT_FALSE(ParseTraceparent(std::string(kGiven) + "-more"));
}

TEST(Traceparent, ThatIsMalformedIsNone) {
  for (const std::string_view text :
       {std::string_view(""),
        std::string_view("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"),
        std::string_view("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string_view("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        std::string_view("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        std::string_view("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
        std::string_view("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string_view("00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01")}) {
    EXPECT_FALSE(ParseTraceparent(text)) << text;
  }
}

TEST(TraceIds, DifferForEachRequestAndSpan) {
  std::set<std::string> traces;
  std::set<std::string> spans;
  for (std::uint64_t count = 0; count < 1000; ++count) {
    const TraceId trace = MakeTraceId(7, count);
    traces.insert(ToHex(trace));
    spans.insert(ToHex(MakeSpanId(trace, 1)));
    spans.insert(ToHex(MakeSpanId(trace, 2)));
  }
  EXPECT_EQ(traces.size(), 1000U);
  EXPECT_EQ(spans.size(), 2000U);
}

TEST(Sampling, TakesTheShareThatIsAskedFor) {
  int taken = 0;
  for (std::uint64_t count = 0; count < 10'000; ++count) {
    taken += IsSampled(MakeTraceId(3, count), 0.25) ? 1 : 0;
  }
  EXPECT_NEAR(taken, 2500, 200);
  EXPECT_TRUE(IsSampled(MakeTraceId(1, 1), 1));
  EXPECT_FALSE(IsSampled(MakeTraceId(1, 1), 0));
}

// The bytes of each field that protobuf's rules give a small message.
TEST(Otlp, WritesASpanAsItsProtobufHasIt) {
  SpanTree tree{.trace = {.high = 0x0102030405060708, .low = 0x090A0B0C0D0E0F10},
                .state = {},
                .begin_unix_ns = 1000,
                .spans = {}};
  tree.spans.push_back({.name = SpanName::kRoute,
                        .id = SpanId{0x1112131415161718},
                        .parent = SpanId{0x2122232425262728},
                        .begin_ns = 1,
                        .end_ns = 2,
                        .attributes = {{"n", std::int64_t{300}}}});
  const std::vector<SpanTree> trees = {tree};
  const std::string bytes = EncodeTraces({.service_name = "s"}, trees);
  const std::string span =
      std::string(
          "\x0A\x10\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10"
          "\x12\x08\x11\x12\x13\x14\x15\x16\x17\x18"
          "\x22\x08\x21\x22\x23\x24\x25\x26\x27\x28"
          "\x2A\x05route\x30\x01",
          18 + 10 + 10 + 9) +
      std::string("\x39\xE9\x03\0\0\0\0\0\0\x41\xEA\x03\0\0\0\0\0\0", 18) +
      std::string("\x4A\x08\x0A\x01n\x12\x03\x18\xAC\x02", 10);
  const std::string scope = std::string("\x0A\x07\x0A\x05pixii", 9);
  const std::string spans = std::string("\x12") + static_cast<char>(span.size()) + span;
  const std::string of_scope =
      std::string("\x12") + static_cast<char>(scope.size() + spans.size()) + scope + spans;
  EXPECT_TRUE(bytes.ends_with(of_scope));
  EXPECT_NE(bytes.find("service.name"), bytes.npos);
}

}  // namespace
}  // namespace pixii::obs
