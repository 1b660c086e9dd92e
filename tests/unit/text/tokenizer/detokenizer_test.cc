#include "text/tokenizer/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "support/golden.h"
#include "unit/text/tokenizer/golden_tokenizers.h"
#include "unit/text/tokenizer/small_tokenizer.h"

namespace pixii::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

std::unique_ptr<const Tokenizer> LoadBytes() {
  auto tokenizer = Tokenizer::FromJson(SmallTokenizer().Dump(), "small");
  EXPECT_TRUE(tokenizer.has_value());
  return std::move(*tokenizer);
}

// Byte tokens for all bytes, and words with the SentencePiece space.
std::unique_ptr<const Tokenizer> LoadByteFallback() {
  wire::Json::Object vocab{{"<s>", 0}, {"\xE2\x96\x81hi", 1}, {"\xE2\x96\x81", 2}, {"x", 3}};
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    vocab.emplace_back(std::string("<0x") + kHex[byte >> 4] + kHex[byte & 15] + ">", 4 + byte);
  }
  auto pattern = [](std::string_view text) {
    return wire::Json(wire::Json::Object{{"String", text}});
  };
  wire::Json decoders = wire::Json::Array{
      wire::Json::Object{
          {"type", "Replace"}, {"pattern", pattern("\xE2\x96\x81")}, {"content", " "}},
      wire::Json::Object{{"type", "ByteFallback"}}, wire::Json::Object{{"type", "Fuse"}},
      wire::Json::Object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}};
  wire::Json json(wire::Json::Object{
      {"added_tokens",
       wire::Json::Array{wire::Json::Object{{"id", 0}, {"content", "<s>"}, {"special", true}}}},
      {"decoder", wire::Json::Object{{"type", "Sequence"}, {"decoders", decoders}}},
      {"model", wire::Json::Object{{"type", "BPE"},
                                   {"byte_fallback", true},
                                   {"vocab", vocab},
                                   {"merges", wire::Json::Array{}}}}});
  auto tokenizer = Tokenizer::FromJson(json.Dump(), "fallback");
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().ToString();
  return std::move(*tokenizer);
}

std::vector<std::string> PushBytes(IncrementalDetokenizer& detokenizer, std::string_view bytes,
                                   int first_id) {
  std::vector<std::string> out;
  for (char byte : bytes) {
    out.push_back(detokenizer.Push(first_id + static_cast<unsigned char>(byte)));
  }
  return out;
}

TEST(IncrementalDetokenizerTest, ACharacterOfManyTokensComesWhole) {
  auto tokenizer = LoadBytes();
  IncrementalDetokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(PushBytes(detokenizer, "\xEC\x82\xBC", 0),
            (std::vector<std::string>{"", "", "\xEC\x82\xBC"}));
  EXPECT_EQ(PushBytes(detokenizer, "\xF0\x9F\x98\x80", 0),
            (std::vector<std::string>{"", "", "", "\xF0\x9F\x98\x80"}));
  EXPECT_EQ(detokenizer.Push(259), "hello");
  EXPECT_EQ(detokenizer.Flush(), "");
}

TEST(IncrementalDetokenizerTest, AnEmojiOfManyCharactersIsNeverHeldBackWhole) {
  auto tokenizer = LoadBytes();
  IncrementalDetokenizer detokenizer(*tokenizer, {});
  std::string family = "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7";
  std::string text;
  for (const std::string& part : PushBytes(detokenizer, family, 0)) {
    EXPECT_EQ(part.find(kReplacement), std::string::npos);
    EXPECT_TRUE(IsValidUtf8(part));
    text += part;
  }
  EXPECT_EQ(text, family);
}

TEST(IncrementalDetokenizerTest, EndingInsideACharacterGivesOneReplacementCharacter) {
  auto tokenizer = LoadBytes();
  IncrementalDetokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(PushBytes(detokenizer, "\xF0\x9F\x98", 0), (std::vector<std::string>{"", "", ""}));
  EXPECT_EQ(detokenizer.Flush(), kReplacement);
}

TEST(IncrementalDetokenizerTest, ALoneContinuationIsReplacedAtOnce) {
  auto tokenizer = LoadBytes();
  IncrementalDetokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(detokenizer.Push(0x80), kReplacement);
  EXPECT_EQ(detokenizer.Push(0xE2), "");
  EXPECT_EQ(detokenizer.Push('a'), std::string(kReplacement) + "a");
}

TEST(IncrementalDetokenizerTest, ByteTokensBecomeACharacterWhenTheirRunEnds) {
  auto tokenizer = LoadByteFallback();
  IncrementalDetokenizer detokenizer(*tokenizer, {});
  EXPECT_EQ(detokenizer.Push(1), "hi");
  EXPECT_EQ(PushBytes(detokenizer, "\xEC\x82\xBC", 4), (std::vector<std::string>{"", "", ""}));
  EXPECT_EQ(detokenizer.Push(1), "\xEC\x82\xBC hi");
  EXPECT_EQ(PushBytes(detokenizer, "\xEC\x82", 4), (std::vector<std::string>{"", ""}));
  EXPECT_EQ(detokenizer.Flush(), std::string(kReplacement) + std::string(kReplacement));
}

TEST(IncrementalDetokenizerTest, AfterAPromptTheFirstSpaceStays) {
  auto tokenizer = LoadByteFallback();
  std::vector<TokenId> prompt{0, 1};
  IncrementalDetokenizer after(*tokenizer, prompt, {.skip_special_tokens = true});
  EXPECT_EQ(after.Push(1), " hi");
  IncrementalDetokenizer alone(*tokenizer, {}, {.skip_special_tokens = true});
  EXPECT_EQ(alone.Push(1), "hi");
  std::vector<TokenId> only_start{0};
  IncrementalDetokenizer after_start(*tokenizer, only_start, {.skip_special_tokens = true});
  EXPECT_EQ(after_start.Push(1), "hi");
}

TEST(IncrementalDetokenizerTest, ACharacterBegunInThePromptIsCompleted) {
  auto bytes = LoadBytes();
  std::vector<TokenId> prompt{'a', 0xEC, 0x82};
  IncrementalDetokenizer detokenizer(*bytes, prompt);
  EXPECT_EQ(detokenizer.Push(0xBC), "\xEC\x82\xBC");
  auto fallback = LoadByteFallback();
  std::vector<TokenId> run{3, 4 + 'a', 4 + 0xEC, 4 + 0x82};
  IncrementalDetokenizer after_run(*fallback, run);
  EXPECT_EQ(after_run.Push(4 + 0xBC), "");
  EXPECT_EQ(after_run.Push(3), "\xEC\x82\xBCx");
}

// Against one that was given every token of the prompt itself.
TEST(IncrementalDetokenizerTest, OnlyTheEndOfAPromptCountsHoweverItIsCut) {
  auto tokenizer = LoadBytes();
  const std::string bytes =
      "\xF0\x9F\x98\x80 \xEC\x82\xBC\xF0\x9F\x98 \x80\xE2\x80\xF0\x9F\x98\x80z";
  for (std::size_t end = 1; end < bytes.size(); ++end) {
    std::vector<TokenId> prompt;
    for (unsigned char byte : bytes.substr(0, end)) {
      prompt.push_back(byte);
      prompt.push_back(100'000);  // without a piece
    }
    IncrementalDetokenizer pushed(*tokenizer, {});
    for (TokenId token : prompt) {
      pushed.Push(token);
    }
    IncrementalDetokenizer started(*tokenizer, prompt);
    for (unsigned char byte : bytes.substr(end)) {
      ASSERT_EQ(started.Push(byte), pushed.Push(byte)) << end;
    }
    EXPECT_EQ(started.Flush(), pushed.Flush());
  }
}

TEST(IncrementalDetokenizerTest, SpecialTokensAreSkippedOnRequest) {
  SmallTokenizer small;
  int end = small.AddToken("<|im_end|>", true);
  auto tokenizer = Tokenizer::FromJson(small.Dump(), "small");
  ASSERT_TRUE(tokenizer.has_value());
  EXPECT_EQ(IncrementalDetokenizer(**tokenizer, {}, {.skip_special_tokens = true}).Push(end), "");
  EXPECT_EQ(IncrementalDetokenizer(**tokenizer, {}).Push(end), "<|im_end|>");
}

class DetokenizerGoldenTest : public ::testing::TestWithParam<const char*> {};

std::string Streamed(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip) {
  IncrementalDetokenizer detokenizer(tokenizer, {}, {.skip_special_tokens = skip});
  std::string text;
  for (TokenId id : ids) {
    std::string part = detokenizer.Push(id);
    EXPECT_TRUE(IsValidUtf8(part));
    text += part;
  }
  return text + detokenizer.Flush();
}

TEST_P(DetokenizerGoldenTest, AStreamGivesTheTextOfTheWhole) {
  auto golden = LoadGoldenTokenizer(GetParam());
  if (!golden) {
    GTEST_SKIP() << "no golden tokenizer " << GetParam();
  }
  for (const GoldenText& line : golden->texts) {
    EXPECT_EQ(Streamed(*golden->tokenizer, line.ids, false), line.decoded);
    EXPECT_EQ(Streamed(*golden->tokenizer, line.ids, true), line.decoded_skip);
  }
}

TEST_P(DetokenizerGoldenTest, RandomTokensStreamToTheTextOfTheWhole) {
  auto golden = LoadGoldenTokenizer(GetParam());
  if (!golden) {
    GTEST_SKIP() << "no golden tokenizer " << GetParam();
  }
  auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const Tokenizer& tokenizer = *golden->tokenizer;
  auto vocab = static_cast<std::uint32_t>(tokenizer.vocab_size());
  for (int round = 0; round < 300; ++round) {
    std::vector<TokenId> ids;
    for (std::uint32_t n = random() % 40; n > 0; --n) {
      // Half of them from the start, where single bytes and special tokens are.
      ids.push_back(
          static_cast<TokenId>(random() % (random() % 2 == 0 ? vocab : std::min(vocab, 600U))));
    }
    bool skip = round % 2 == 0;
    ASSERT_EQ(Streamed(tokenizer, ids, skip), tokenizer.Decode(ids, {.skip_special_tokens = skip}))
        << ::testing::PrintToString(ids);
  }
}

// What is held back must be needed: two continuations exist that make the text differ right there.
TEST_P(DetokenizerGoldenTest, HoldsNoWholeCharacterBackInByteLevelText) {
  auto golden = LoadGoldenTokenizer(GetParam());
  if (!golden || golden->tokenizer->TokenBytes(0).empty()) {
    GTEST_SKIP() << "no golden tokenizer " << GetParam();
  }
  const Tokenizer& tokenizer = *golden->tokenizer;
  if (std::string(GetParam()).starts_with("llama2") ||
      std::string(GetParam()).starts_with("mistral") || std::string(GetParam()).starts_with("t5")) {
    GTEST_SKIP() << "byte fallback holds runs of byte tokens";
  }
  for (const GoldenText& line : golden->texts) {
    IncrementalDetokenizer detokenizer(tokenizer, {});
    std::string bytes;
    std::string sent;
    for (TokenId id : line.ids) {
      bytes += tokenizer.TokenBytes(id);
      sent += detokenizer.Push(id);
      ASSERT_EQ(bytes.size() - Utf8IncompleteTail(bytes), sent.size());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, DetokenizerGoldenTest, ::testing::ValuesIn(kGoldenTokenizers),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace pixii::text
