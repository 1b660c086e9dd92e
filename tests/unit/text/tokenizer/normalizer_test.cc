#include "text/tokenizer/normalizer.h"

#include <gtest/gtest.h>

#include <random>

#include "base/utf8.h"
#include "text/tokenizer/unicode.h"

namespace pixii::text {
namespace {

// What the normalizer described by `json` makes of `text`.
std::string Normalized(std::string_view json, std::string text) {
  auto parsed = wire::ParseJson(json);
  EXPECT_TRUE(parsed.has_value());
  auto normalizer = Normalizer::FromJson(*parsed, {"file", "normalizer"});
  EXPECT_TRUE(normalizer.has_value()) << normalizer.error().ToString();
  auto done = (*normalizer)->Apply(text);
  EXPECT_TRUE(done.has_value()) << done.error().ToString();
  return text;
}

TEST(NormalizerTest, NormalFormsComposeAndDecompose) {
  std::string composed = "\xC3\xA9\xEA\xB0\x81";  // é and a Hangul syllable
  std::string decomposed = "e\xCC\x81\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8";
  EXPECT_EQ(Normalized(R"({"type":"NFC"})", decomposed), composed);
  EXPECT_EQ(Normalized(R"({"type":"NFD"})", composed), decomposed);
  EXPECT_EQ(Normalized(R"({"type":"NFKC"})", "\xEF\xAC\x81\xE2\x91\xA0"), "fi1");
  EXPECT_EQ(Normalized(R"({"type":"NFC"})", "\xEF\xAC\x81"), "\xEF\xAC\x81");
}

TEST(NormalizerTest, MarksComeIntoCanonicalOrder) {
  // Cedilla (class 202) goes before acute (class 230), whichever came first.
  EXPECT_EQ(Normalized(R"({"type":"NFD"})", "x\xCC\x81\xCC\xA7"), "x\xCC\xA7\xCC\x81");
  EXPECT_EQ(Normalized(R"({"type":"NFD"})", "x\xCC\x81\xCC\x80"), "x\xCC\x81\xCC\x80");
}

TEST(NormalizerTest, FormsAreStableUnderRepetition) {
  auto seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2'000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) {
      // Letters, marks, Hangul and whatever else.
      constexpr char32_t kBlocks[] = {0x41,   0xC0,   0x300,  0x316,  0x1100,
                                      0x1161, 0xAC00, 0x1E00, 0xFB00, 0x2F800};
      AppendUtf8(text, kBlocks[random() % std::size(kBlocks)] + random() % 40);
    }
    for (const char* form : {"NFC", "NFD", "NFKC", "NFKD"}) {
      std::string json = std::string("{\"type\":\"") + form + "\"}";
      std::string once = Normalized(json, text);
      ASSERT_TRUE(IsValidUtf8(once));
      ASSERT_EQ(Normalized(json, once), once) << form << " of " << ::testing::PrintToString(text);
    }
    ASSERT_EQ(Normalized(R"({"type":"NFC"})", Normalized(R"({"type":"NFD"})", text)),
              Normalized(R"({"type":"NFC"})", text));
  }
}

TEST(NormalizerTest, StepsOfASequenceFollowOneAnother) {
  EXPECT_EQ(Normalized(R"({"type":"Sequence","normalizers":[{"type":"Strip"},{"type":"Lowercase"},
      {"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"Prepend","prepend":"_"}]})",
                       " \tAB \n\n C\xE2\x80\x83"),
            "_ab c");
}

TEST(NormalizerTest, PrependLeavesNothingAlone) {
  EXPECT_EQ(Normalized(R"({"type":"Prepend","prepend":"_"})", ""), "");
}

TEST(NormalizerTest, LowercaseKnowsTheOneLetterThatBecomesTwo) {
  EXPECT_EQ(Normalized(R"({"type":"Lowercase"})", "\xC4\xB0\xC3\x89\xCE\xA3"),
            "i\xCC\x87\xC3\xA9\xCF\x83");
}

TEST(NormalizerTest, BertCleansPadsStripsAndLowers) {
  EXPECT_EQ(Normalized(R"({"type":"BertNormalizer","lowercase":true})",
                       "\xC3\x89t\xC3\xA9\t\x01\xE4\xB8\xAD"
                       "B\xC2\xA0"),
            "ete  \xE4\xB8\xAD b ");
  EXPECT_EQ(Normalized(R"({"type":"BertNormalizer","lowercase":false})", "\xC3\x89"), "\xC3\x89");
}

TEST(NormalizerTest, NmtDropsControlsAndMakesBreaksSpaces) {
  EXPECT_EQ(Normalized(R"({"type":"Nmt"})",
                       "a\tb\x01\x7F\x0B"
                       "c\xE2\x80\x8B\xE2\x96\x81\xEF\xBB\xBF"
                       "d\xC2\xA0\xC2\x8F\r\n"),
            "a bc   d\xC2\xA0  ");
}

TEST(NormalizerTest, StripAccentsDropsMarksOnly) {
  EXPECT_EQ(
      Normalized(R"({"type":"Sequence","normalizers":[{"type":"NFD"},{"type":"StripAccents"}]})",
                 "\xC3\xA9\xC3\xB1o"),
      "eno");
}

TEST(NormalizerTest, AnIllFormedCharsmapIsRefused) {
  for (const char* map : {"", "AAAA", "!!!!", "/////w==", "BAAAAA=="}) {
    auto json =
        wire::Json(wire::Json::Object{{"type", "Precompiled"}, {"precompiled_charsmap", map}});
    auto normalizer = Normalizer::FromJson(json, {"file", "normalizer"});
    ASSERT_FALSE(normalizer.has_value()) << map;
    EXPECT_EQ(normalizer.error().code(), Code::kDataCorrupt);
  }
}

}  // namespace
}  // namespace pixii::text
