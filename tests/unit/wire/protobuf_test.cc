#include "wire/protobuf.h"

#include <gtest/gtest.h>

namespace pixii::wire {
namespace {

TEST(Protobuf, ReadsWhatItWrites) {
  std::string message;
  AppendProtoVarint(message, 1, 150);
  AppendProtoBytes(message, 2, "testing");
  AppendProtoVarint(message, 3, ~0ULL);
  EXPECT_EQ(message.substr(0, 3), "\x08\x96\x01") << "as the encoding guide has it";
  EXPECT_EQ(message.substr(3, 9), "\x12\x07testing");
  ProtoReader reader(message);
  EXPECT_EQ((*reader.Next())->value, 150U);
  const ProtoField text = **reader.Next();
  EXPECT_EQ(text.number, 2U);
  EXPECT_EQ(text.bytes, "testing");
  EXPECT_EQ((*reader.Next())->value, ~0ULL);
  EXPECT_FALSE(*reader.Next());
}

TEST(Protobuf, ReadsFixedNumbersAndPackedLists) {
  using namespace std::string_literals;
  const std::string message = "\x09\x01\0\0\0\0\0\0\x80\x15\x02\0\0\0"s;
  ProtoReader reader(message);
  EXPECT_EQ((*reader.Next())->value, 0x8000000000000001U);
  const ProtoField small = **reader.Next();
  EXPECT_EQ(small.kind, ProtoField::Kind::kFixed32);
  EXPECT_EQ(small.value, 2U);
  std::vector<std::uint64_t> values;
  const ProtoField packed{
      .number = 3, .kind = ProtoField::Kind::kBytes, .bytes = "\x01\x96\x01\x03"};
  EXPECT_TRUE(AppendProtoIntegers(packed, 4, values));
  EXPECT_TRUE(AppendProtoIntegers({.number = 3, .value = 9, .bytes = {}}, 4, values));
  EXPECT_EQ(values, (std::vector<std::uint64_t>{1, 150, 3, 9}));
  EXPECT_FALSE(AppendProtoIntegers(packed, 4, values)) << "past the bound";
}

TEST(Protobuf, RefusesWhatIsCutOrOfNoKind) {
  const auto fails = [](std::string_view message) {
    ProtoReader reader(message);
    while (true) {
      auto field = reader.Next();
      if (!field) {
        return true;
      }
      if (!*field) {
        return false;
      }
    }
  };
  EXPECT_FALSE(fails(""));
  EXPECT_TRUE(fails("\x08"));
  EXPECT_TRUE(fails("\x12\x05x"));
  EXPECT_TRUE(fails("\x0b"));
  EXPECT_TRUE(fails(std::string_view("\0\x01", 2)));
  EXPECT_TRUE(fails("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
  EXPECT_TRUE(fails("\x0d\x01"));
}

}  // namespace
}  // namespace pixii::wire
