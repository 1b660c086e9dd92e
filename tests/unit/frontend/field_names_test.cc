#include "frontend/field_names.h"

#include <gtest/gtest.h>

namespace pixii::frontend {
namespace {

const FieldNames& Names() {
  static const FieldNames kNames({{"max_tokens", "max_output_tokens"},
                                  {"response_format", "text.format"},
                                  {"response_format.json_schema", "text.format"},
                                  {"tools[].function", "tools[]"},
                                  {"tools[].function.parameters", "tools[].input_schema"},
                                  {"user", "metadata.user_id"}});
  return kNames;
}

std::string Said(std::string detail, std::string param) {
  return Names()
      .InCallersWords(Error(Code::kInvalidArgument, std::move(detail), std::move(param)))
      .detail();
}

TEST(FieldNames, AFieldIsNamedByTheLongestThatFits) {
  EXPECT_EQ(Names().Of("max_tokens"), "max_output_tokens");
  EXPECT_EQ(Names().Of("response_format.type"), "text.format.type");
  EXPECT_EQ(Names().Of("response_format.json_schema.schema"), "text.format.schema");
  EXPECT_EQ(Names().Of("tools[12].function.parameters"), "tools[12].input_schema");
  EXPECT_EQ(Names().Of("tools[3].function.name"), "tools[3].name");
}

TEST(FieldNames, OtherFieldsAreLeftAlone) {
  for (const char* field : {"max_tokens_per_doc", "tools", "tools[].function", "tools[x].function",
                            "tools[1", "users", "", "temperature"}) {
    EXPECT_EQ(Names().Of(field), field);
  }
}

TEST(FieldNames, SentencesSpeakOfFieldsAsTheCallerWroteThem) {
  EXPECT_EQ(Said("min_tokens: 5 is more than max_tokens", "min_tokens"),
            "min_tokens: 5 is more than max_output_tokens");
  EXPECT_EQ(Said("max_tokens: the context has 8 tokens and max_tokens is 9.", "max_tokens"),
            "max_output_tokens: the context has 8 tokens and max_output_tokens is 9.");
  EXPECT_EQ(Said("unknown field response_format.x", "response_format.x"),
            "unknown field text.format.x");
  EXPECT_EQ(Said("unknown field \"user\"", "user"), "unknown field \"metadata.user_id\"");
  EXPECT_EQ(Said("user: 5 is not a string", "user"), "metadata.user_id: 5 is not a string");
}

TEST(FieldNames, ValuesAndPlainWordsStay) {
  EXPECT_EQ(Said("stop: \"max_tokens \\\" max_tokens\" is too long", "stop"),
            "stop: \"max_tokens \\\" max_tokens\" is too long");
  EXPECT_EQ(Said("messages[0].role: 1 is none of system, user", "messages[0].role"),
            "messages[0].role: 1 is none of system, user");
  EXPECT_EQ(Said("open \"max_tokens", ""), "open \"max_tokens");
}

TEST(FieldNames, TheParamIsNamedToo) {
  const Error error = Names().InCallersWords(Error(
      Code::kUnsupported, "tools[0].function.parameters: no", "tools[0].function.parameters"));
  EXPECT_EQ(error.param(), "tools[0].input_schema");
  EXPECT_EQ(error.detail(), "tools[0].input_schema: no");
  EXPECT_EQ(error.code(), Code::kUnsupported);
}

TEST(FieldNames, NamesOfNamesAreTheOutermost) {
  const FieldNames both =
      FieldNames({{"top_k", "nvext.top_k"}, {"limit", "max_tokens"}})
          .Then(FieldNames({{"nvext", "parameters.nvext"}, {"max_tokens", "max_output_tokens"}}));
  EXPECT_EQ(both.Of("top_k"), "parameters.nvext.top_k");
  EXPECT_EQ(both.Of("limit"), "max_output_tokens");
  EXPECT_EQ(both.Of("max_tokens"), "max_output_tokens");
}

}  // namespace
}  // namespace pixii::frontend
