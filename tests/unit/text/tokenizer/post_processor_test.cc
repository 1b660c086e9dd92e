#include "text/tokenizer/post_processor.h"

#include <gtest/gtest.h>

#include "text/tokenizer/tokenizer.h"
#include "unit/text/tokenizer/small_tokenizer.h"

namespace pixii::text {
namespace {

using Ids = std::vector<TokenId>;
using Types = std::vector<std::int32_t>;

PostProcessor From(std::string_view json) {
  auto out = PostProcessor::FromJson(*wire::ParseJson(json), {"tokenizer.json", "post_processor"});
  EXPECT_TRUE(out) << out.error().ToString();
  return *out;
}

std::string RefusalOf(std::string_view json) {
  auto out = PostProcessor::FromJson(*wire::ParseJson(json), {"tokenizer.json", "post_processor"});
  return out ? "accepted" : std::string(out.error().detail());
}

constexpr std::string_view kTemplate =
    R"({"type":"TemplateProcessing",
        "single":[{"SpecialToken":{"id":"C","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
                  {"SpecialToken":{"id":"S","type_id":0}}],
        "pair":[{"SpecialToken":{"id":"C","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
                {"SpecialToken":{"id":"S","type_id":0}},{"Sequence":{"id":"B","type_id":1}},
                {"SpecialToken":{"id":"S","type_id":1}}],
        "special_tokens":{"C":{"id":"C","ids":[101]},"S":{"id":"S","ids":[102,103]}}})";

TEST(PostProcessorTest, ATemplateJoinsAPairWithItsTypes) {
  PostProcessor processor = From(kTemplate);
  auto pair = processor.ApplyPair(true, {1, 2}, {3});
  ASSERT_TRUE(pair);
  EXPECT_EQ(pair->ids, (Ids{101, 1, 2, 102, 103, 3, 102, 103}));
  EXPECT_EQ(pair->types, (Types{0, 0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(processor.AddedCount(true), 5U);
  EXPECT_EQ(processor.AddedCount(false), 3U);
  auto bare = processor.ApplyPair(false, {1, 2}, {3});
  EXPECT_EQ(bare->ids, (Ids{1, 2, 3}));
  EXPECT_EQ(bare->types, (Types{0, 0, 1}));
  TypedTokens single = processor.ApplyTyped(true, {7});
  EXPECT_EQ(single.ids, (Ids{101, 7, 102, 103}));
  EXPECT_EQ(single.types, (Types{0, 0, 0, 0}));
}

TEST(PostProcessorTest, BertAndRobertaJoinAsTheyDo) {
  auto bert = From(R"({"type":"BertProcessing","sep":["S",2],"cls":["C",1]})");
  auto pair = bert.ApplyPair(true, {5}, {6, 7});
  EXPECT_EQ(pair->ids, (Ids{1, 5, 2, 6, 7, 2}));
  EXPECT_EQ(pair->types, (Types{0, 0, 0, 1, 1, 1}));
  auto roberta = From(
      R"({"type":"RobertaProcessing","sep":["S",2],"cls":["C",1],"trim_offsets":true,"add_prefix_space":false})");
  pair = roberta.ApplyPair(true, {5}, {6, 7});
  EXPECT_EQ(pair->ids, (Ids{1, 5, 2, 2, 6, 7, 2}));
  EXPECT_EQ(pair->types, Types(7, 0));
  EXPECT_EQ(roberta.AddedCount(true), 4U);
  Ids ids{5};
  roberta.Apply(true, ids);
  EXPECT_EQ(ids, (Ids{1, 5, 2}));
}

TEST(PostProcessorTest, WithoutOneATextFollowsTheOther) {
  PostProcessor none;
  auto pair = none.ApplyPair(true, {5}, {6});
  EXPECT_EQ(pair->ids, (Ids{5, 6}));
  EXPECT_EQ(pair->types, (Types{0, 1}));
  PostProcessor level = From(R"({"type":"ByteLevel"})");
  EXPECT_EQ(level.ApplyPair(true, {5}, {6})->ids, (Ids{5, 6}));
}

TEST(PostProcessorTest, WhatIsNotSaidOrWrongIsRefused) {
  PostProcessor no_pair = From(
      R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{}})");
  auto pair = no_pair.ApplyPair(true, {5}, {6});
  ASSERT_FALSE(pair);
  EXPECT_EQ(pair.error().code(), Code::kUnsupported);
  EXPECT_NE(RefusalOf(R"({"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}]})")
                .find("sequence A"),
            std::string::npos);
  EXPECT_NE(
      RefusalOf(R"({"type":"TemplateProcessing","single":[],"pair":[{"Sequence":{"id":"C"}}]})")
          .find("pair[0]"),
      std::string::npos);
  EXPECT_NE(
      RefusalOf(
          R"({"type":"TemplateProcessing","single":[],"pair":[{"Sequence":{"id":"A","type_id":300}}]})")
          .find("type_id"),
      std::string::npos);
  EXPECT_NE(RefusalOf(R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"X"}}]})")
                .find("special_tokens lacks"),
            std::string::npos);
}

class JoinTest : public ::testing::Test {
 protected:
  JoinTest() {
    SmallTokenizer file({});
    cls_ = file.AddToken("[CLS]", true);
    sep_ = file.AddToken("[SEP]", true);
    wire::Json processor(
        wire::Json::Object{{"type", "BertProcessing"},
                           {"sep", wire::Json::Array{wire::Json("[SEP]"), wire::Json(sep_)}},
                           {"cls", wire::Json::Array{wire::Json("[CLS]"), wire::Json(cls_)}}});
    file.post_processor = std::move(processor);
    auto made = Tokenizer::FromJson(file.Dump(), "tokenizer.json");
    EXPECT_TRUE(made) << made.error().ToString();
    tokenizer_ = std::move(*made);
  }

  // Bytes of the result, "C" and "S" for the special tokens.
  std::string Shape(std::string_view first, std::optional<std::string_view> second,
                    const JoinOptions& options) {
    auto joined = tokenizer_->Join(first, second, options);
    EXPECT_TRUE(joined);
    EXPECT_EQ(joined->ids.size(), joined->types.size());
    std::string out;
    for (TokenId id : joined->ids) {
      out += id == cls_ ? "C" : id == sep_ ? "S" : tokenizer_->TokenBytes(id);
    }
    return out;
  }

  TokenId cls_ = 0;
  TokenId sep_ = 0;
  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_F(JoinTest, CutsTheLongerTextFirstAndKeepsTheModelsTokens) {
  EXPECT_EQ(Shape("abc", "defgh", {}), "CabcSdefghS");
  EXPECT_EQ(Shape("abc", "defgh", {.tokens_max = 11}), "CabcSdefghS");
  EXPECT_EQ(Shape("abc", "defgh", {.tokens_max = 9}), "CabcSdefS");
  EXPECT_EQ(Shape("abcdefgh", "xy", {.tokens_max = 8}), "CabcSxyS");
  EXPECT_EQ(Shape("abcdef", "uvwxyz", {.tokens_max = 8}), "CabSuvwS");
  EXPECT_EQ(Shape("abcdef", "uvwxyz", {.tokens_max = 3}), "CSS");
  EXPECT_EQ(Shape("abcdef", std::nullopt, {.tokens_max = 4}), "CabS");
  EXPECT_EQ(Shape("abcdef", std::nullopt, {.tokens_max = 1}), "CS");
  EXPECT_EQ(Shape("ab", "c", {.add_special_tokens = false}), "abc");
}

TEST_F(JoinTest, ControlTokensInTheTextCountOnlyIfAskedFor) {
  EXPECT_EQ(Shape("a[SEP]b", std::nullopt, {.parse_special = true}), "CaSbS");
  EXPECT_EQ(Shape("a[SEP]b", std::nullopt, {}), "Ca[SEP]bS");
}

}  // namespace
}  // namespace pixii::text
