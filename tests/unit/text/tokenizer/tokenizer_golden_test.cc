// Every text of the golden files gives the ids and texts that Hugging Face's library gave.
#include <gtest/gtest.h>

#include <filesystem>

#include "support/golden.h"
#include "unit/text/tokenizer/golden_tokenizers.h"

namespace pixii::text {
namespace {

std::string Show(const std::vector<TokenId>& ids) { return ::testing::PrintToString(ids); }

class TokenizerGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerGoldenTest, EveryTextGivesTheIdsOfTheReference) {
  auto golden = LoadGoldenTokenizer(GetParam());
  if (!golden) {
    GTEST_SKIP() << "no golden tokenizer " << GetParam();
  }
  for (const GoldenText& line : golden->texts) {
    auto ids = golden->tokenizer->Encode(line.text);
    ASSERT_TRUE(ids.has_value()) << ids.error().ToString();
    EXPECT_EQ(Show(*ids), Show(line.ids)) << ::testing::PrintToString(line.text);
    auto special = golden->tokenizer->Encode(line.text, {.add_special_tokens = true});
    ASSERT_TRUE(special.has_value()) << special.error().ToString();
    EXPECT_EQ(Show(*special), Show(line.ids_special)) << ::testing::PrintToString(line.text);
  }
}

TEST_P(TokenizerGoldenTest, EveryListOfIdsGivesTheTextOfTheReference) {
  auto golden = LoadGoldenTokenizer(GetParam());
  if (!golden) {
    GTEST_SKIP() << "no golden tokenizer " << GetParam();
  }
  for (const GoldenText& line : golden->texts) {
    EXPECT_EQ(golden->tokenizer->Decode(line.ids), line.decoded);
    EXPECT_EQ(golden->tokenizer->Decode(line.ids, {.skip_special_tokens = true}),
              line.decoded_skip);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGoldenTest, ::testing::ValuesIn(kGoldenTokenizers),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase_if(name, [](char c) {
                             return !std::isalnum(static_cast<unsigned char>(c));
                           });
                           return name;
                         });

}  // namespace
}  // namespace pixii::text
