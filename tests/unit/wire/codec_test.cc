#include "wire/messages/codec.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <utility>

#include "unit/wire/message_filler.h"
#include "wire/messages/fields.h"
#include "wire/msgpack.h"

namespace pixii::wire {
namespace {

template <class Message>
class Codec : public testing::Test {};

TYPED_TEST_SUITE(Codec, Messages);

TYPED_TEST(Codec, EveryFieldComesBack) {
  TypeParam message{};
  Filler().Fill(message);
  const std::string bytes = Encode(message);
  const Result<TypeParam> back = Decode<TypeParam>(bytes);
  ASSERT_TRUE(back) << back.error().ToString();
  EXPECT_EQ(Encode(*back), bytes);
  std::apply(
      [&](const auto&... field) {
        for (const std::string_view name : {field.name...}) {
          EXPECT_NE(bytes.find(name), std::string::npos) << name;
        }
      },
      kFields<TypeParam>);
}

TYPED_TEST(Codec, DefaultsCostNothing) { EXPECT_EQ(Encode(TypeParam{}).size(), 1U); }

TYPED_TEST(Codec, NoCutIsTakenForAMessage) {
  TypeParam message{};
  Filler().Fill(message);
  const std::string bytes = Encode(message);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(Decode<TypeParam>(std::string_view(bytes).substr(0, size)));
  }
  EXPECT_FALSE(Decode<TypeParam>(bytes + "x"));
}

std::string MapOf(std::string_view name, void (*value)(MsgpackWriter&)) {
  std::string out;
  MsgpackWriter writer(out);
  writer.Map(2);
  writer.Text(name);
  value(writer);
  writer.Text("choice");
  writer.Uint(3);
  return out;
}

TEST(Codec, WhatALaterVersionAddsIsLeftOut) {
  const std::string bytes = MapOf("of_a_later_version", [](MsgpackWriter& writer) {
    writer.Map(1);
    writer.Text("nested");
    writer.Array(2);
    writer.Nil();
    writer.Double(1);
  });
  EXPECT_EQ(Decode<TokenFrame>(bytes).value().choice, 3U);
}

TEST(Codec, WhatDoesNotFitIsNamed) {
  const auto detail = [](const std::string& bytes) {
    return Decode<TokenFrame>(bytes).error().detail();
  };
  EXPECT_EQ(detail(MapOf("tokens",
                         [](MsgpackWriter& writer) {
                           writer.Array(2);
                           writer.Int(1);
                           writer.Text("x");
                         })),
            "tokens[1]: msgpack: expected an integer, found a text");
  EXPECT_EQ(detail(MapOf("cached_tokens", [](MsgpackWriter& writer) { writer.Int(1LL << 40); })),
            "cached_tokens: 1099511627776 is not from 0 to 4294967295");
  EXPECT_EQ(detail(MapOf("finish", [](MsgpackWriter& writer) { writer.Int(4); })),
            "finish: 4 is none of the 4 values known here");
}

TEST(Codec, ErrorsKeepTheirCodeByName) {
  const Error error(Code::kModelFault, "not a number", "prompt");
  const Error back = DecodeError(EncodeError(error)).value();
  EXPECT_EQ(back.code(), Code::kModelFault);
  EXPECT_EQ(back.detail(), "not a number");
  EXPECT_EQ(back.param(), "prompt");
  std::string unknown;
  MsgpackWriter writer(unknown);
  writer.Map(1);
  writer.Text("code");
  writer.Text("OfALaterVersion");
  EXPECT_EQ(DecodeError(unknown).value().code(), Code::kInternal);
}

}  // namespace
}  // namespace pixii::wire
