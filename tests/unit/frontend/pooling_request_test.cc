#include "frontend/pooling_request.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

Result<PoolingRequest> Parse(std::string_view text, Surface surface) {
  return ParsePoolingRequest(*wire::ParseJson(text), surface);
}

std::string ParamOf(std::string_view text, Surface surface) {
  auto parsed = Parse(text, surface);
  return parsed ? "accepted" : std::string(parsed.error().param());
}

TEST(PoolingRequestTest, InputIsATextIdsOrAListOfEither) {
  auto one = Parse(R"({"input":"a"})", Surface::kEmbeddings);
  ASSERT_TRUE(one);
  EXPECT_EQ(std::get<std::string>(one->inputs.at(0)), "a");
  auto ids = Parse(R"({"input":[3,4]})", Surface::kEmbeddings);
  ASSERT_TRUE(ids);
  ASSERT_EQ(ids->inputs.size(), 1U);
  EXPECT_EQ(std::get<std::vector<TokenId>>(ids->inputs[0]), (std::vector<TokenId>{3, 4}));
  auto lists = Parse(R"({"input":[[3],[4,5]],"token_type_ids":[[0],[0,1]]})", Surface::kClassify);
  ASSERT_TRUE(lists);
  EXPECT_EQ(lists->inputs.size(), 2U);
  EXPECT_EQ(lists->token_types.at(1), (std::vector<std::int32_t>{0, 1}));
  auto mixed = Parse(R"({"input":["a",[4]]})", Surface::kEmbeddings);
  ASSERT_TRUE(mixed);
  EXPECT_EQ(mixed->inputs.size(), 2U);
}

TEST(PoolingRequestTest, RefusalsNameTheField) {
  using enum Surface;
  EXPECT_EQ(ParamOf("{}", kEmbeddings), "input");
  EXPECT_EQ(ParamOf(R"({"input":[]})", kEmbeddings), "input");
  EXPECT_EQ(ParamOf(R"({"input":5})", kEmbeddings), "input");
  EXPECT_EQ(ParamOf(R"({"input":[{}]})", kEmbeddings), "input");
  EXPECT_EQ(ParamOf(R"({"input":"a","encoding_format":"hex"})", kEmbeddings), "encoding_format");
  EXPECT_EQ(ParamOf(R"({"input":"a","dimensions":0})", kEmbeddings), "dimensions");
  EXPECT_EQ(ParamOf(R"({"input":"a","dimensions":2.5})", kEmbeddings), "dimensions");
  EXPECT_EQ(ParamOf(R"({"input":"a","user":7})", kEmbeddings), "user");
  EXPECT_EQ(ParamOf(R"({"input":"a","temperature":0})", kEmbeddings), "temperature");
  EXPECT_EQ(ParamOf(R"({"input":"a","dimensions":4})", kClassify), "dimensions");
  EXPECT_EQ(ParamOf(R"({"input":"a","token_type_ids":[0]})", kEmbeddings), "token_type_ids");
  EXPECT_EQ(ParamOf(R"({"input":[4,5],"token_type_ids":[0]})", kEmbeddings), "token_type_ids");
  EXPECT_EQ(ParamOf(R"({"input":[4],"token_type_ids":[999]})", kEmbeddings), "token_type_ids");
  EXPECT_EQ(ParamOf(R"({"input":"a","truncate_prompt_tokens":0})", kEmbeddings),
            "truncate_prompt_tokens");
  EXPECT_EQ(ParamOf(R"({"text_2":"a"})", kScore), "text_1");
  EXPECT_EQ(ParamOf(R"({"text_1":"a"})", kScore), "text_2");
  EXPECT_EQ(ParamOf(R"({"text_1":["a","b"],"text_2":["a","b","c"]})", kScore), "text_1");
  EXPECT_EQ(ParamOf(R"({"text_1":"a","queries":"b","text_2":"c"})", kScore), "queries");
  EXPECT_EQ(ParamOf(R"({"text_1":"a","text_2":"b","documents":"c"})", kScore), "documents");
  EXPECT_EQ(ParamOf(R"({"input":"a","prompt_name":"q","input_type":"d"})", kEmbeddings),
            "input_type");
  EXPECT_EQ(ParamOf(R"({"queries":["a","b"],"documents":["a","b","c"]})", kScore), "queries");
  EXPECT_EQ(Parse(R"({"queries":["a","b"],"documents":["a","b","c"]})", kScore).error().detail(),
            "queries: has 2 texts for 3 of documents; 1 or as many are allowed");
  EXPECT_EQ(ParamOf(R"({"documents":["a"]})", kRerank), "query");
  EXPECT_EQ(ParamOf(R"({"query":"a"})", kRerank), "documents");
  EXPECT_EQ(ParamOf(R"({"query":"a","documents":"b"})", kRerank), "documents");
  EXPECT_EQ(ParamOf(R"({"query":"a","documents":["b"],"top_n":-1})", kRerank), "top_n");
  EXPECT_EQ(ParamOf(R"({"query":"a","documents":[{"title":"b"}]})", kRerank), "documents");
}

TEST(PoolingRequestTest, DocumentsMayBeObjectsAndNullIsAbsent) {
  auto parsed =
      Parse(R"({"query":"q","documents":["a",{"text":"b"}],"top_n":null,"return_documents":false})",
            Surface::kRerank);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->second, (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(parsed->top_n);
  EXPECT_FALSE(parsed->return_documents);
}

}  // namespace
}  // namespace pixii::frontend
