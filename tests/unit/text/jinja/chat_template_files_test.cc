#include "text/jinja/chat_template_files.h"

#include <gtest/gtest.h>

namespace pixii::text {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

TEST(ChatTemplateFiles, ASingleTemplateIsTheDefault) {
  const auto loaded =
      LoadChatTemplates({.tokenizer_config_json = R"({"chat_template": "T", "bos_token": "<s>"})"});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->templates, (Pairs{{"default", "T"}}));
  EXPECT_EQ(loaded->special_tokens, (Pairs{{"bos_token", "<s>"}}));
  EXPECT_EQ(*loaded->Choose(true), "T");
}

TEST(ChatTemplateFiles, AListOffersATemplateForTools) {
  const auto loaded = LoadChatTemplates({.tokenizer_config_json = R"({"chat_template": [
      {"name": "default", "template": "D"}, {"name": "tool_use", "template": "U"}]})"});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(*loaded->Choose(false), "D");
  EXPECT_EQ(*loaded->Choose(true), "U");
}

TEST(ChatTemplateFiles, TheJinjaFileWins) {
  const auto loaded = LoadChatTemplates({.tokenizer_config_json = R"({"chat_template": "T"})",
                                         .chat_template_jinja = "J",
                                         .chat_template_json = R"({"chat_template": "S"})"});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(*loaded->Choose(false), "J");
}

TEST(ChatTemplateFiles, TheJsonFileWinsOverTheConfig) {
  const auto loaded = LoadChatTemplates({.tokenizer_config_json = R"({"chat_template": "T"})",
                                         .chat_template_json = R"({"chat_template": "S"})"});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(*loaded->Choose(false), "S");
}

TEST(ChatTemplateFiles, TokensMayBeObjectsOrNull) {
  const auto loaded = LoadChatTemplates(
      {.tokenizer_config_json = R"({"bos_token": {"content": "<b>", "lstrip": false},
      "eos_token": null, "pad_token": "<p>", "extra_special_tokens": {"image_token": "<i>"}})"});
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(loaded->special_tokens,
            (Pairs{{"bos_token", "<b>"}, {"pad_token", "<p>"}, {"image_token", "<i>"}}));
  EXPECT_EQ(loaded->Choose(false), nullptr);
}

TEST(ChatTemplateFiles, BadFilesAreNamed) {
  for (const std::string_view text :
       {"{", "[]", R"({"chat_template": 1})", R"({"chat_template": [{"name": "x"}]})",
        R"({"bos_token": 5})"}) {
    const auto loaded = LoadChatTemplates({.tokenizer_config_json = text});
    ASSERT_FALSE(loaded.has_value()) << text;
    EXPECT_EQ(loaded.error().code(), Code::kDataCorrupt);
    EXPECT_NE(loaded.error().detail().find("tokenizer_config.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace pixii::text
