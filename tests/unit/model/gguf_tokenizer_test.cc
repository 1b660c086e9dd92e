// A tokenizer that went through a GGUF file gives the ids of the tokenizer.json it came from.
#include "model/gguf_tokenizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "support/golden.h"
#include "text/tokenizer/tokenizer.h"
#include "unit/model/gguf_writer.h"
#include "wire/json.h"

namespace pixii::model {
namespace {

using testing::GgufWriter;
using ::testing::HasSubstr;

const std::vector<std::string>& Texts() {
  static const std::vector<std::string> texts = {
      "",
      " ",
      "Hello, world!",
      "  two  spaces\n\n\tand a tab ",
      "I'll say it's 12345.678, isn't it?",
      "naïve café — Ünïcödé, 日本語のテキスト, русский, 🙂👍🏽",
      "def f(x):\n    return x ** 2  # comment\r\n",
      "<|im_start|>user\nHi<|im_end|>\n",
      "<s>[INST] a [/INST]</s>",
      std::string("a\0b", 3),
      "\xF0\x9F\x98 broken",
  };
  return texts;
}

void ExpectSameIds(const std::string& expected_json, const std::string& bytes) {
  const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf");
  ASSERT_TRUE(file.has_value()) << file.error().ToString();
  const auto json = GgufTokenizer(*file);
  ASSERT_TRUE(json.has_value()) << json.error().ToString();
  const auto expected = text::Tokenizer::FromJson(expected_json, "tokenizer.json");
  const auto actual = text::Tokenizer::FromJson(*json, "m.gguf");
  ASSERT_TRUE(expected.has_value()) << expected.error().ToString();
  ASSERT_TRUE(actual.has_value()) << actual.error().ToString();
  for (const std::string& text : Texts()) {
    const auto ids = (*expected)->Encode(text);
    EXPECT_EQ(*(*actual)->Encode(text), *ids) << text;
    EXPECT_EQ((*actual)->Decode(*ids), (*expected)->Decode(*ids)) << text;
  }
}

/// Pieces by id, types of the added ones, from a tokenizer.json.
struct Vocabulary {
  std::vector<std::string> pieces;
  std::vector<std::int32_t> types;
};

Vocabulary ReadVocabulary(const wire::Json& json) {
  Vocabulary out;
  const auto put = [&](std::int64_t id, const std::string& piece, std::int32_t type) {
    const auto at = static_cast<std::size_t>(id);
    if (out.pieces.size() <= at) {
      out.pieces.resize(at + 1);
      out.types.resize(at + 1, 5);
    }
    out.pieces[at] = piece;
    out.types[at] = type;
  };
  for (const auto& [piece, id] : json.Find("model")->Find("vocab")->object()) {
    const bool byte = piece.size() == 6 && piece.starts_with("<0x");
    put(*id.AsInt(), piece, byte ? 6 : 1);
  }
  for (const wire::Json& token : json.Find("added_tokens")->array()) {
    put(*token.Find("id")->AsInt(), token.Find("content")->string(),
        token.Find("special")->boolean() ? 3 : 4);
  }
  for (std::size_t i = 0; i < out.pieces.size(); ++i) {
    if (out.pieces[i].empty()) {
      out.pieces[i] = fmt::format("[unused {}]", i);
    }
  }
  return out;
}

std::pair<std::string, std::string> MergeOf(const wire::Json& merge) {
  if (merge.is_array()) {
    return {merge.array()[0].string(), merge.array()[1].string()};
  }
  const std::string& text = merge.string();
  const std::size_t space = text.find(' ');
  return {text.substr(0, space), text.substr(space + 1)};
}

std::string ByteLevelGguf(const std::string& tokenizer_json, const std::string& pre) {
  const auto json = wire::ParseJson(tokenizer_json);
  const Vocabulary vocabulary = ReadVocabulary(*json);
  std::vector<std::string> merges;
  for (const wire::Json& merge : json->Find("model")->Find("merges")->array()) {
    const auto [left, right] = MergeOf(merge);
    merges.push_back(left + " " + right);
  }
  return GgufWriter()
      .String("tokenizer.ggml.model", "gpt2")
      .String("tokenizer.ggml.pre", pre)
      .Strings("tokenizer.ggml.tokens", vocabulary.pieces)
      .I32s("tokenizer.ggml.token_type", vocabulary.types)
      .Strings("tokenizer.ggml.merges", merges)
      .Bool("tokenizer.ggml.add_bos_token", false)
      .Bytes();
}

/// Scores that rank pieces as the merges do.
std::string ScoredGguf(const std::string& tokenizer_json) {
  const auto json = wire::ParseJson(tokenizer_json);
  const Vocabulary vocabulary = ReadVocabulary(*json);
  std::unordered_map<std::string, float> rank;
  for (const wire::Json& merge : json->Find("model")->Find("merges")->array()) {
    const auto [left, right] = MergeOf(merge);
    rank.emplace(left + right, -static_cast<float>(rank.size()));
  }
  std::vector<float> scores;
  for (const std::string& piece : vocabulary.pieces) {
    const auto found = rank.find(piece);
    scores.push_back(found == rank.end() ? -1e9F : found->second);
  }
  return GgufWriter()
      .String("tokenizer.ggml.model", "llama")
      .Strings("tokenizer.ggml.tokens", vocabulary.pieces)
      .F32s("tokenizer.ggml.scores", scores)
      .I32s("tokenizer.ggml.token_type", vocabulary.types)
      .U32("tokenizer.ggml.bos_token_id", 1)
      .Bool("tokenizer.ggml.add_bos_token", false)
      .Bytes();
}

TEST(GgufTokenizer, TheBundledModelsTokenizerComesBack) {
  const std::string json = pixii::testing::ReadFileOrFail(pixii::testing::OwnGoldenDir() +
                                                          "/../../models/tiny-chat/tokenizer.json");
  ExpectSameIds(json, ByteLevelGguf(json, "qwen2"));
}

struct GoldenTokenizer {
  const char* name;
  const char* pre;  // null: pieces with scores
};

class GgufGoldenTokenizer : public ::testing::TestWithParam<GoldenTokenizer> {};

TEST_P(GgufGoldenTokenizer, ComesBack) {
  const auto folder = pixii::testing::GoldenDir();
  if (!folder) {
    GTEST_SKIP() << "no golden tokenizers";
  }
  const std::string json = pixii::testing::ReadFileOrFail(*folder + "/tokenizers/" +
                                                          GetParam().name + "/tokenizer.json");
  ExpectSameIds(json,
                GetParam().pre != nullptr ? ByteLevelGguf(json, GetParam().pre) : ScoredGguf(json));
}

INSTANTIATE_TEST_SUITE_P(All, GgufGoldenTokenizer,
                         ::testing::Values(GoldenTokenizer{"llama2", nullptr},
                                           GoldenTokenizer{"mistral-v3", nullptr},
                                           GoldenTokenizer{"llama3", "llama-bpe"},
                                           GoldenTokenizer{"qwen2", "qwen2"},
                                           GoldenTokenizer{"o200k", "gpt-4o"}),
                         [](const auto& test) {
                           std::string name = test.param.name;
                           std::erase(name, '-');
                           return name;
                         });

GgufWriter Letters() {
  return GgufWriter()
      .String("tokenizer.ggml.model", "llama")
      .Strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "▁", "a", "b", "ab"})
      .F32s("tokenizer.ggml.scores", {0, 0, 0, -4, -3, -2, -1})
      .I32s("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 1, 1});
}

Result<std::unique_ptr<const text::Tokenizer>> Load(const GgufWriter& writer) {
  const std::string bytes = writer.Bytes();
  PX_TRY(const GgufFile file, GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf"));
  PX_TRY(const std::string json, GgufTokenizer(file));
  return text::Tokenizer::FromJson(json, "m.gguf");
}

TEST(GgufTokenizer, AddsTheTokensAroundATextThatTheFileAsksFor) {
  const text::EncodeOptions special{.add_special_tokens = true};
  auto writer = Letters();
  const auto both = Load(writer.U32("tokenizer.ggml.bos_token_id", 1)
                             .U32("tokenizer.ggml.eos_token_id", 2)
                             .Bool("tokenizer.ggml.add_eos_token", true));
  ASSERT_TRUE(both.has_value()) << both.error().ToString();
  EXPECT_EQ(*(*both)->Encode("ab", special), (std::vector<TokenId>{1, 3, 6, 2}));
  auto bare = Letters();
  const auto none = Load(bare.Bool("tokenizer.ggml.add_bos_token", false)
                             .Bool("tokenizer.ggml.add_space_prefix", false));
  ASSERT_TRUE(none.has_value()) << none.error().ToString();
  EXPECT_EQ(*(*none)->Encode("ab", special), (std::vector<TokenId>{6}));
}

TEST(GgufTokenizer, RefusesListsThatDoNotFitAndKindsThatAreNotBuilt) {
  const auto detail = [](const GgufWriter& writer) {
    const auto tokenizer = Load(writer);
    return tokenizer ? std::string("accepted") : tokenizer.error().detail();
  };
  EXPECT_THAT(detail(GgufWriter().String("tokenizer.ggml.model", "bert")),
              HasSubstr("tokenizer.ggml.model = \"bert\" is not built"));
  EXPECT_THAT(
      detail(
          GgufWriter().String("tokenizer.ggml.model", "gpt2").String("tokenizer.ggml.pre", "odd")),
      HasSubstr("tokenizer.ggml.pre = \"odd\" is not built"));
  EXPECT_THAT(detail(GgufWriter()
                         .String("tokenizer.ggml.model", "llama")
                         .Strings("tokenizer.ggml.tokens", {"a", "b"})
                         .F32s("tokenizer.ggml.scores", {1})),
              HasSubstr("tokenizer.ggml.scores does not have one entry for each token"));
  EXPECT_THAT(detail(GgufWriter()
                         .String("tokenizer.ggml.model", "llama")
                         .Strings("tokenizer.ggml.tokens", {"a"})
                         .F32s("tokenizer.ggml.scores", {1})
                         .I32s("tokenizer.ggml.token_type", {9})),
              HasSubstr("tokenizer.ggml.token_type is 9 for token 0"));
  auto bos = Letters();
  EXPECT_THAT(detail(bos.U32("tokenizer.ggml.bos_token_id", 99)),
              HasSubstr("is 99, allowed 0 to 6"));
}

// Numbers tell the patterns apart: how many tokens " 1234" of single bytes is.
TEST(GgufTokenizer, EveryNameOfAPreTokenizerCutsAsItsModelDoes) {
  const auto words = [](const char* pre, const std::string& text) {
    std::vector<std::string> pieces;
    for (const char* c : {"\xC4\xA0", "1", "2", "3", "4", "a", ".", "12", "123", "1234",
                          "\xC4\xA0"
                          "1"}) {
      pieces.emplace_back(c);
    }
    const auto tokenizer =
        Load(GgufWriter()
                 .String("tokenizer.ggml.model", "gpt2")
                 .String("tokenizer.ggml.pre", pre)
                 .Strings("tokenizer.ggml.tokens", pieces)
                 .Strings("tokenizer.ggml.merges", {"1 2", "12 3", "123 4", "\xC4\xA0 1"}));
    EXPECT_TRUE(tokenizer.has_value()) << pre << tokenizer.error().ToString();
    return (*tokenizer)->Encode(text)->size();
  };
  for (const char* pre :
       {"llama-bpe", "pixtral", "dbrx", "glm4", "gpt-4o", "kimi-k2", "deepseek-v3"}) {
    EXPECT_EQ(words(pre, "1234"), 2U) << pre;
  }
  for (const char* pre : {"qwen2", "megrez", "starcoder", "command-r", "tekken"}) {
    EXPECT_EQ(words(pre, "1234"), 4U) << pre;
  }
  for (const char* pre : {"gpt-2", "phi-2", "mpt", "bloom"}) {
    EXPECT_EQ(words(pre, "1234"), 1U) << pre;
  }
}

TEST(GgufTokenizer, AWholeTokenizerJsonInTheFileIsTakenAsItIs) {
  const std::string bytes = GgufWriter().String("tokenizer.huggingface.json", "{x}").Bytes();
  EXPECT_EQ(*GgufTokenizer(*GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf")), "{x}");
}

TEST(GgufTokenizer, TheConfigHoldsTemplateAndSpecialTokens) {
  const std::string bytes = Letters()
                                .U32("tokenizer.ggml.bos_token_id", 1)
                                .U32("tokenizer.ggml.eos_token_id", 2)
                                .String("tokenizer.chat_template", "{{ bos_token }}")
                                .Bytes();
  const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf");
  const auto json = wire::ParseJson(*GgufTokenizerConfig(*file));
  EXPECT_EQ(json->Find("bos_token")->string(), "<s>");
  EXPECT_EQ(json->Find("eos_token")->string(), "</s>");
  EXPECT_EQ(json->Find("chat_template")->string(), "{{ bos_token }}");
}

}  // namespace
}  // namespace pixii::model
