#include "frontend/disaggregated_params.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::frontend {
namespace {

Result<DisaggregatedParams> Read(const std::string& text) {
  const Result<wire::Json> json = wire::ParseJson(text);
  EXPECT_TRUE(json) << text;
  return ReadDisaggregatedParams("disaggregated_params", *json);
}

TEST(DisaggregatedParams, WhatAContextOnlyAnswerSaysIsReadByTheOther) {
  DisaggregatedParams said;
  said.first_gen_tokens = {7};
  said.opaque_state = std::string("PXHO\x01 and more\xff", 15);
  const std::string member = DisaggregatedMember(said, 5, 1);
  const Result<wire::Json> json = wire::ParseJson("{" + member.substr(1) + "}");
  ASSERT_TRUE(json) << member;
  wire::Json params = *json->Find("disaggregated_params");
  EXPECT_EQ(params.Find("request_type")->string(), "context_only");
  for (const char* name :
       {"first_gen_log_probs", "first_gen_logits", "draft_tokens", "ctx_info_endpoint"}) {
    ASSERT_NE(params.Find(name), nullptr) << name;
    EXPECT_TRUE(params.Find(name)->is_null());
  }
  EXPECT_EQ(params.Find("ctx_request_id")->digits(), "5");
  EXPECT_EQ(params.Find("ctx_dp_rank")->digits(), "1");
  params.Set("request_type", "generation_only");
  const Result<DisaggregatedParams> read = ReadDisaggregatedParams("disaggregated_params", params);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_TRUE(read->generation_only);
  EXPECT_EQ(read->first_gen_tokens, std::vector<TokenId>{7});
  EXPECT_EQ(read->opaque_state, said.opaque_state);
}

TEST(DisaggregatedParams, TypesMayBeWrittenInCapitals) {
  EXPECT_TRUE(Read(R"({"request_type": "CONTEXT_ONLY"})")->context_only);
  const Result<DisaggregatedParams> whole = Read(R"({"request_type": "context_and_generation"})");
  ASSERT_TRUE(whole);
  EXPECT_FALSE(whole->context_only || whole->generation_only);
}

TEST(DisaggregatedParams, WhatIsWrongIsNamed) {
  const auto param = [](const std::string& text) {
    const Result<DisaggregatedParams> read = Read(text);
    EXPECT_FALSE(read) << text;
    return read ? std::string() : std::string(read.error().param());
  };
  EXPECT_EQ(param("3"), "disaggregated_params");
  EXPECT_EQ(param("{}"), "disaggregated_params.request_type");
  EXPECT_EQ(param(R"({"request_type": "both"})"), "disaggregated_params.request_type");
  EXPECT_EQ(param(R"({"request_type": "generation_only"})"),
            "disaggregated_params.first_gen_tokens");
  EXPECT_EQ(param(R"({"request_type": "context_only", "opaque_state": "?"})"),
            "disaggregated_params.opaque_state");
  EXPECT_EQ(param(R"({"request_type": "context_only", "schedule_style": 1})"),
            "disaggregated_params.schedule_style");
  EXPECT_EQ(param(R"({"request_type": "context_only", "draft_tokens": [3]})"),
            "disaggregated_params.draft_tokens");
  EXPECT_EQ(param(R"({"request_type": "context_only", "multimodal_hashes": [[1]]})"),
            "disaggregated_params.multimodal_hashes");
  EXPECT_EQ(param(R"({"request_type": "context_only", "oddity": 1})"),
            "disaggregated_params.oddity");
}

}  // namespace
}  // namespace pixii::frontend
