#include "text/tokenizer/tiktoken.h"

#include <gtest/gtest.h>

#include "support/golden.h"
#include "text/tokenizer/byte_alphabet.h"
#include "unit/text/tokenizer/golden_tokenizers.h"
#include "wire/base64.h"

namespace pixii::text {
namespace {

struct Ranks {
  std::string lines;
  TokenizerConfig config;
};

// The golden tokenizer as a rank file and a config.
Ranks RanksOf(const std::string& name) {
  auto root = testing::GoldenDir();
  wire::Json json =
      wire::ParseJson(testing::ReadFileOrFail(*root + "/tokenizers/" + name + "/tokenizer.json"))
          .value();
  Ranks out;
  for (const wire::Json& added : json.Find("added_tokens")->array()) {
    AddedToken token{.id = static_cast<TokenId>(*added.Find("id")->AsInt()),
                     .content = added.Find("content")->string()};
    token.special = added.Find("special")->boolean();
    token.normalized = added.Find("normalized")->boolean();
    out.config.added.push_back(std::move(token));
  }
  for (const auto& [piece, id] : json.Find("model")->Find("vocab")->object()) {
    std::string bytes;
    if (AppendFromByteAlphabet(bytes, piece)) {
      out.lines += wire::EncodeBase64(bytes) + " " + id.Dump() + "\n";
    }
  }
  return out;
}

TEST(TiktokenTest, ARankFileGivesTheIdsOfTheReference) {
  for (const auto& [name, file] : {std::pair("llama3", "folder/tokenizer.model"),
                                   std::pair("o200k", "folder/o200k_base.tiktoken")}) {
    auto golden = LoadGoldenTokenizer(name);
    if (!golden) {
      GTEST_SKIP() << "no golden tokenizers";
    }
    Ranks ranks = RanksOf(name);
    ASSERT_TRUE(LooksLikeTiktoken(ranks.lines));
    auto json = TiktokenToJson(ranks.lines, ranks.config, file);
    ASSERT_TRUE(json.has_value()) << json.error().ToString();
    auto made = Tokenizer::FromJson(*json, file);
    ASSERT_TRUE(made.has_value()) << made.error().ToString();
    for (const GoldenText& text : golden->texts) {
      ASSERT_EQ((*made)->Encode(text.text).value(), text.ids) << text.text;
      ASSERT_EQ((*made)->Decode(text.ids), text.decoded);
    }
  }
}

TEST(TiktokenTest, ThePatternComesFromConfigNameClassOrCount) {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    lines += wire::EncodeBase64(std::string(1, static_cast<char>(byte))) + " " +
             std::to_string(byte) + "\r\n";
  }
  lines += wire::EncodeBase64("12") + " 256\n" + wire::EncodeBase64("123") + " 257\n" +
           wire::EncodeBase64("1234") + " 258\n";
  auto ids = [&](const TokenizerConfig& config, const char* file) {
    auto tokenizer = Tokenizer::FromJson(TiktokenToJson(lines, config, file).value(), file).value();
    return tokenizer->Encode("1234").value().size();
  };
  EXPECT_EQ(ids({}, "a/cl100k_base.tiktoken"), 2U);
  EXPECT_EQ(ids({}, "a/qwen.tiktoken"), 4U);
  EXPECT_EQ(ids({.tokenizer_class = "QWenTokenizer"}, "a/x.tiktoken"), 4U);
  EXPECT_EQ(ids({.tokenizer_class = "TikTokenTokenizer"}, "a/tiktoken.model"), 2U);
  EXPECT_EQ(ids({.pattern = R"(\p{N}+|\D)"}, "a/qwen.tiktoken"), 1U);
  auto unknown = TiktokenToJson(lines, {}, "a/x.tiktoken");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code(), Code::kUnsupported);
}

TEST(TiktokenTest, ABadLineIsNamed) {
  for (const char* line : {"YQ", "YQ x", "YQ -1", " 1", "Y-Q 1", "YQ 99999999", "YQ 0"}) {
    auto json = TiktokenToJson(std::string("YQ== 0\n") + line, {}, "gpt2.tiktoken");
    ASSERT_FALSE(json.has_value()) << line;
    EXPECT_EQ(json.error().code(), Code::kDataCorrupt);
    EXPECT_NE(json.error().detail().find("line 2"), std::string::npos);
  }
  EXPECT_FALSE(LooksLikeTiktoken("\x0A\x0B"));
}

TEST(TiktokenTest, TheConfigSaysWhatStandsAroundATextAndWhichTokensThereAre) {
  auto config = ReadTokenizerConfig(R"({"add_bos_token": true, "bos_token": {"content": "<b>"},
      "eos_token": "<e>", "added_tokens_decoder": {"2": {"content": "<e>", "special": true},
      "1": {"content": "<b>", "special": true, "lstrip": true}}, "pat_str": "."})",
                                    "c.json");
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  ASSERT_EQ(config->added.size(), 2U);
  EXPECT_EQ(config->added[0].id, 1);
  EXPECT_TRUE(config->added[0].lstrip);
  EXPECT_EQ(config->eos_token, "<e>");
  auto json = TiktokenToJson("YQ== 0\n", *config, "x").value();
  auto tokenizer = Tokenizer::FromJson(json, "x").value();
  EXPECT_EQ(tokenizer->Encode("a<e>a", {.add_special_tokens = true}).value(),
            (std::vector<TokenId>{1, 0, 2, 0}));
  for (const char* bad : {"[]", "{", R"({"added_tokens_decoder": {"x": {}}})",
                          R"({"added_tokens_decoder": []})", R"({"add_bos_token": 1})"}) {
    auto refused = ReadTokenizerConfig(bad, "c.json");
    ASSERT_FALSE(refused.has_value()) << bad;
    EXPECT_TRUE(refused.error().detail().starts_with("c.json: "));
  }
}

}  // namespace
}  // namespace pixii::text
