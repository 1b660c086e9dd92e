#include "model/diffusion/clip_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/config_reader.h"
#include "support/golden.h"
#include "text/tokenizer/tokenizer.h"
#include "unit/model/diffusion/golden_folder.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;

std::vector<std::int64_t> Encode(const text::Tokenizer& tokenizer, const std::string& text) {
  const auto tokens = tokenizer.Join(text, std::nullopt, {.tokens_max = 1U << 20U});
  EXPECT_TRUE(tokens.has_value());
  return {tokens->ids.begin(), tokens->ids.end()};
}

/// The hub's file taken apart into the two that older folders have.
TEST(ClipTokenizer, GivesTheIdsOfTheWholeFile) {
  const auto shared = pixii::testing::GoldenDir();
  const std::string folder = shared.value_or("") + "/tokenizers/clip";
  if (!shared || !std::filesystem::exists(folder)) {
    GTEST_SKIP() << folder << " is not here";
  }
  const std::string whole = pixii::testing::ReadFileOrFail(folder + "/tokenizer.json");
  const wire::Json json = *ParseConfigJson(whole, "tokenizer.json");
  const wire::Json* model = json.Find("model");
  std::string merges = "#version: 0.2\n";
  for (const wire::Json& pair : model->Find("merges")->array()) {
    merges += pair.array()[0].string() + " " + pair.array()[1].string() + "\n";
  }
  const auto made = ClipTokenizerJson(model->Find("vocab")->Dump(), merges, "here");
  ASSERT_TRUE(made.has_value()) << made.error().ToString();
  const auto tokenizer = text::Tokenizer::FromJson(*made, "made");
  ASSERT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  const auto reference = text::Tokenizer::FromJson(whole, "whole");
  for (const char* text : {"a photo of an astronaut riding a horse", "It's  RED,\n50% off!",
                           "naïve café 😀 ½", "don't stop <|endoftext|> now", ""}) {
    EXPECT_EQ(Encode(**tokenizer, text), Encode(**reference, text)) << text;
  }
}

TEST(ClipTokenizer, NamesWhatIsWrong) {
  constexpr char kVocabulary[] = R"({"<|startoftext|>": 0, "a</w>": 1, "<|endoftext|>": 2})";
  EXPECT_TRUE(ClipTokenizerJson(kVocabulary, "#version\n", "here").has_value());
  EXPECT_THAT(ClipTokenizerJson(kVocabulary, "#version\na b\nab\n", "here").error().detail(),
              HasSubstr("here/merges.txt: line 3"));
  EXPECT_THAT(ClipTokenizerJson(R"({"a": 1})", "", "here").error().detail(),
              HasSubstr("<|startoftext|>"));
}

TEST(ClipTokenizer, ReadsEitherForm) {
  const testing::GoldenFolder flux("flux");
  const auto two = CheckpointFolder::Open(flux.path() + "/tokenizer");
  EXPECT_THAT(*ReadClipTokenizer(*two), HasSubstr("RobertaProcessing"));
  flux.Write("tokenizer/tokenizer.json", "{}");
  EXPECT_EQ(*ReadClipTokenizer(*two), "{}");
}

}  // namespace
}  // namespace pixii::model
