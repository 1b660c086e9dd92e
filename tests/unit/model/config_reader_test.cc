#include "model/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace pixii::model {
namespace {

using ::testing::HasSubstr;

wire::Json ParseOrFail(const std::string& text) {
  auto json = ParseConfigJson(text, "c.json");
  EXPECT_TRUE(json.has_value()) << json.error().ToString();
  return json ? *std::move(json) : wire::Json();
}

TEST(ConfigReader, ReadsTypedValues) {
  const wire::Json json = ParseOrFail(
      R"({"i": 5, "f": 1e-5, "b": true, "s": "x", "l": ["a", "b"], "e": [2, 3], "n": null})");
  const ConfigReader config(json, "c.json");
  EXPECT_EQ(*config.Int("i", {1, 9}), 5);
  EXPECT_EQ(*config.Number("f", {0, 1}), 1e-5);
  EXPECT_EQ(*config.Number("i", {0, 9}), 5.0);
  EXPECT_EQ(*config.Bool("b", false), true);
  EXPECT_EQ(*config.String("s"), "x");
  EXPECT_EQ(config.Strings("l")->size(), 2U);
  EXPECT_EQ(*config.IntOrInts("e"), (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(*config.IntOrInts("i"), (std::vector<std::int64_t>{5}));
}

TEST(ConfigReader, TakesTheDefaultForAbsentAndNull) {
  const wire::Json json = ParseOrFail(R"({"n": null})");
  const ConfigReader config(json, "c.json");
  EXPECT_EQ(*config.Int("n", {1, 9}, 7), 7);
  EXPECT_EQ(*config.Int("absent", {1, 9}, 7), 7);
  EXPECT_TRUE(config.Has("n"));
  EXPECT_FALSE(config.Has("absent"));
  EXPECT_EQ(config.Int("n", {1, 9}).error().code(), Code::kInvalidArgument);
}

TEST(ConfigReader, ErrorsNameFileKeyValueAndRange) {
  const wire::Json json =
      ParseOrFail(R"({"rope": {"factor": -3}, "i": 1.5, "huge": 99999999999999999999})");
  const ConfigReader config(json, "c.json");
  const auto rope = config.Object("rope");
  ASSERT_TRUE(rope.has_value());
  const auto factor = rope->Number("factor", {1, 10});
  ASSERT_FALSE(factor.has_value());
  EXPECT_EQ(factor.error().detail(), "c.json: rope.factor = -3 is not a number of 1 to 10");
  EXPECT_EQ(factor.error().param(), "rope.factor");
  EXPECT_THAT(config.Int("i", {1, 9}).error().detail(),
              HasSubstr("i = 1.5 is not an integer of 1 to 9"));
  EXPECT_FALSE(config.Int("huge", {1, 9}).has_value());
  EXPECT_FALSE(config.Object("i").has_value());
  EXPECT_FALSE(config.Bool("i", false).has_value());
  EXPECT_FALSE(config.String("i").has_value());
  EXPECT_FALSE(config.Strings("i").has_value());
}

TEST(ConfigReader, LetsPythonsBareNumbersThroughWhereNobodyReadsThem) {
  const wire::Json json =
      ParseOrFail(R"({"a": NaN, "b": [Infinity, -Infinity, -1], "c": "NaN, \"Infinity", "d": 4})");
  const ConfigReader config(json, "c.json");
  EXPECT_EQ(*config.Int("d", {1, 9}), 4);
  EXPECT_EQ(*config.String("c"), "NaN, \"Infinity");
  const auto number = config.Number("a", {0, 1}, 0.5);
  ASSERT_FALSE(number.has_value());
  EXPECT_THAT(number.error().detail(), HasSubstr("a = \"NaN\" is not a number"));
}

TEST(ConfigReader, RefusesBrokenJsonNamingTheOffset) {
  for (const char* text :
       {"", "{", "[1]", "7", "{\"a\": NaNa}", "{\"a\": nan}", "{\"a\":1}x", "{\"a\":1,\"a\":2}"}) {
    const auto json = ParseConfigJson(text, "c.json");
    ASSERT_FALSE(json.has_value()) << text;
    EXPECT_EQ(json.error().code(), Code::kDataCorrupt) << text;
    EXPECT_THAT(json.error().detail(), HasSubstr("c.json: ")) << text;
    EXPECT_THAT(json.error().detail(), HasSubstr("at byte ")) << text;
  }
}

TEST(ConfigReader, ShortensLongValuesInErrors) {
  const wire::Json json = ParseOrFail("{\"s\": \"" + std::string(100000, 'x') + "\"}");
  EXPECT_LT(ConfigReader(json, "c.json").Int("s", {1, 9}).error().detail().size(), 400U);
}

}  // namespace
}  // namespace pixii::model
