#include "wire/json.h"

#include <gtest/gtest.h>

namespace pixii::wire {
namespace {

TEST(Json, KeepsOrderAndDigits) {
  const char* text =
      R"({"z":12345678901234567890123,"a":[1.50,-0,1e400,true,null],"s":"\u00e9\n\"\\"})";
  auto value = ParseJson(text);
  ASSERT_TRUE(value) << value.error().ToString();
  EXPECT_EQ(value->Dump(),
            "{\"z\":12345678901234567890123,\"a\":[1.50,-0,1e400,true,null],\"s\":"
            "\"\u00e9\\n\\\"\\\\\"}");
  EXPECT_EQ(value->Find("z")->AsInt(), std::nullopt);
  EXPECT_EQ(value->Find("a")->array()[1].AsInt(), 0);
  EXPECT_EQ(value->Find("a")->array()[2].AsDouble(), std::nullopt);
}

TEST(Json, RefusesDuplicateKeysHoweverTheyAreSpelled) {
  EXPECT_FALSE(ParseJson(R"({"a":1,"\u0061":2})"));
  std::string many = "{";
  for (int i = 0; i < 100; ++i) {
    many += "\"k" + std::to_string(i) + "\":0,";
  }
  EXPECT_TRUE(ParseJson(many + "\"x\":0}"));
  EXPECT_FALSE(ParseJson(many + "\"k50\":0}"));
}

TEST(Json, NamesDepthAndOffset) {
  auto deep = ParseJson(std::string(200, '[') + std::string(200, ']'), {.depth_max = 100});
  ASSERT_FALSE(deep);
  EXPECT_NE(deep.error().detail().find("deeper than 100"), std::string::npos)
      << deep.error().detail();
  auto trailing = ParseJson("{} x");
  ASSERT_FALSE(trailing);
  EXPECT_NE(trailing.error().detail().find("at byte 3"), std::string::npos)
      << trailing.error().detail();
}

TEST(Json, WritesInvalidUtf8AsReplacement) {
  std::string out;
  AppendJsonString(out, "a\xFF\x01z");
  EXPECT_EQ(out, "\"a\xEF\xBF\xBD\\u0001z\"");
}

TEST(Json, DoublesRoundTripAndNonFiniteIsNull) {
  EXPECT_EQ(Json(0.1).Dump(), "0.1");
  EXPECT_EQ(Json(3.0).Dump(), "3.0");
  EXPECT_EQ(Json(1.0 / 0.0).Dump(), "null");
}

}  // namespace
}  // namespace pixii::wire
