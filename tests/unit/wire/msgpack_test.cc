#include "wire/msgpack.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace pixii::wire {
namespace {

using namespace std::string_view_literals;

template <class Write>
std::string Written(Write write) {
  std::string out;
  MsgpackWriter writer(out);
  write(writer);
  return out;
}

TEST(Msgpack, IntegersTakeTheirShortestFormAndComeBack) {
  struct Row {
    std::int64_t value;
    std::size_t size;
  };

  for (const auto& [value, size] :
       std::vector<Row>{{0, 1},
                        {127, 1},
                        {128, 2},
                        {255, 2},
                        {256, 3},
                        {65535, 3},
                        {65536, 5},
                        {0xFFFFFFFF, 5},
                        {0x100000000, 9},
                        {std::numeric_limits<std::int64_t>::max(), 9},
                        {-1, 1},
                        {-32, 1},
                        {-33, 2},
                        {-128, 2},
                        {-129, 3},
                        {-32768, 3},
                        {-32769, 5},
                        {std::numeric_limits<std::int32_t>::min(), 5},
                        {-0x80000001LL, 9},
                        {std::numeric_limits<std::int64_t>::min(), 9}}) {
    const std::string bytes = Written([&](MsgpackWriter& writer) { writer.Int(value); });
    EXPECT_EQ(bytes.size(), size) << value;
    EXPECT_EQ(MsgpackReader(bytes).Int().value(), value);
    EXPECT_EQ(MsgpackReader(bytes).Uint().has_value(), value >= 0) << value;
    EXPECT_EQ(MsgpackReader(bytes).Bits().value(), static_cast<std::uint64_t>(value));
  }
  const std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
  const std::string bytes = Written([&](MsgpackWriter& writer) { writer.Uint(top); });
  EXPECT_EQ(MsgpackReader(bytes).Uint().value(), top);
  EXPECT_FALSE(MsgpackReader(bytes).Int()) << "above 2^63 - 1";
}

// Bytes as the specification's table has them.
TEST(Msgpack, FormsAreThoseOfTheSpecification) {
  EXPECT_EQ(Written([](MsgpackWriter& writer) {
              writer.Map(2);
              writer.Text("a");
              writer.Array(3);
              writer.Nil();
              writer.Bool(true);
              writer.Float(1.5F);
              writer.Text("b");
              writer.Bytes("\x01\x02"sv);
            }),
            "\x82\xA1"
            "a\x93\xC0\xC3\xCA\x3F\xC0\x00\x00\xA1"
            "b\xC4\x02\x01\x02"sv);
}

TEST(Msgpack, EveryLengthOfATextComesBack) {
  for (const std::size_t size : {0, 31, 32, 255, 256, 65535, 65536}) {
    const std::string text(size, 'x');
    const std::string as_text = Written([&](MsgpackWriter& writer) { writer.Text(text); });
    const std::string as_bytes = Written([&](MsgpackWriter& writer) { writer.Bytes(text); });
    EXPECT_EQ(MsgpackReader(as_text).Text().value(), text);
    EXPECT_EQ(MsgpackReader(as_bytes).Text().value(), text);
  }
}

TEST(Msgpack, WhatIsLeftOutIsLeftOutWhole) {
  const std::string bytes = Written([](MsgpackWriter& writer) {
    writer.Map(1);
    writer.Text("deep");
    for (int i = 0; i < 100'000; ++i) {
      writer.Array(1);  // no stack for each
    }
    writer.Double(2.5);
    writer.Text("next");
  });
  MsgpackReader reader(bytes);
  ASSERT_TRUE(reader.Skip());
  EXPECT_EQ(reader.Text().value(), "next");
  MsgpackReader extension("\xC7\x03\x05zzz\x07"sv);
  ASSERT_TRUE(extension.Skip());
  EXPECT_EQ(extension.Int().value(), 7);
}

TEST(Msgpack, BytesThatEndTooSoonAreRefused) {
  const std::string bytes = Written([](MsgpackWriter& writer) {
    writer.Array(4);
    writer.Int(-70000);
    writer.Text(std::string(40, 'x'));
    writer.Double(1);
    writer.Map(1);
    writer.Text("k");
    writer.Uint(300);
  });
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(MsgpackReader(std::string_view(bytes).substr(0, size)).Skip()) << size;
  }
  EXPECT_FALSE(MsgpackReader("\xDD\xFF\xFF\xFF\xFF"sv).Array()) << "4 G values in no bytes";
  EXPECT_FALSE(MsgpackReader("\xC1"sv).Skip()) << "a reserved byte";
  EXPECT_FALSE(MsgpackReader("\xA1x"sv).Int()) << "a text";
}

}  // namespace
}  // namespace pixii::wire
