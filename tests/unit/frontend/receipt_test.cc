#include "frontend/receipt.h"

#include <gtest/gtest.h>

#include <bit>

namespace pixii::frontend {
namespace {

RequestRecord Sample() {
  RequestRecord record{
      .id = "cmpl-1",
      .surface = Surface::kCompletions,
      .model = "tiny",
      .context_tokens_max = 128,
      .body = R"({"prompt":"é\n","n":2})",
      .prompts = {{1, 2, 3}},
      .receipt = {},
      .choices = {{.tokens = {5, 300}, .logprobs = {-0.1F, -1e-20F}, .ended_by_engine = true},
                  {.tokens = {}, .logprobs = {}, .ended_by_engine = false}}};
  wire::ModelCard card;
  card.fingerprint = "abc";
  card.numerics_id = "k1";
  wire::GenerateRequest request;
  request.sampling.seed = UINT64_MAX;
  record.receipt = MakeReceipt(card, request, record.choices);
  return record;
}

TEST(Receipt, HashesTheIdsAsLittleEndianWords) {
  // printf '\005\0\0\0\054\001\0\0' | sha256sum
  EXPECT_EQ(TokenHash(std::vector<TokenId>{5, 300}),
            "dd01409e26630cbd9b958a426e600f641cf833b34055fa6d961216d8c4586f32");
  EXPECT_EQ(TokenHash({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Receipt, SaysModelNumericsSeedAndEachChoice) {
  std::string out;
  AppendReceipt(out, Sample().receipt);
  EXPECT_TRUE(out.starts_with(
      R"({"fingerprint":"abc","numerics_id":"k1","seed":"18446744073709551615","choices":[{"index":0,"tokens":2,"sha256":")"))
      << out;
  EXPECT_NE(out.find(R"({"index":1,"tokens":0,"sha256":"e3b0c4)"), std::string::npos) << out;
}

TEST(Receipt, NamesTheAdapterAndItsVersion) {
  RequestRecord record = Sample();
  record.receipt.adapter = "a";
  record.receipt.adapter_version = "v1";
  std::string out;
  AppendReceipt(out, record.receipt);
  EXPECT_NE(out.find(R"("adapter":{"name":"a","fingerprint":"v1"})"), std::string::npos) << out;
  const auto back = ParseRecord(RecordJson(record));
  ASSERT_TRUE(back.has_value()) << back.error().detail();
  EXPECT_EQ(back->receipt.adapter, "a");
  EXPECT_EQ(back->receipt.adapter_version, "v1");
}

TEST(Receipt, SaysWhichTokensOthersComputed) {
  RequestRecord record = Sample();
  AddPart(record.choices[0].computed, 0, "k2");
  AddPart(record.choices[1].computed, 0, "k2");
  AddPart(record.choices[1].computed, 7, "k2");
  EXPECT_EQ(record.choices[1].computed.size(), 1U) << "with the same bits";
  AddPart(record.choices[1].computed, 9, "k3");
  AddPart(record.choices[1].computed, 9, "k4");  // k3 gave nothing
  wire::ModelCard card;
  card.numerics_id = "k1";
  record.receipt = MakeReceipt(card, {}, record.choices);
  std::string out;
  AppendReceipt(out, record.receipt);
  EXPECT_NE(out.find(R"("numerics_id":"k2","seed")"), std::string::npos) << out;
  EXPECT_TRUE(out.ends_with(
      R"(,"computed":[{"first_token":0,"numerics_id":"k2"},{"first_token":9,"numerics_id":"k4"}]}]})"))
      << out;
  EXPECT_EQ(out.find("computed"), out.rfind("computed")) << "of the other choice nothing is to say";
  const auto back = ParseRecord(RecordJson(record));
  ASSERT_TRUE(back.has_value()) << back.error().detail();
  EXPECT_TRUE(back->receipt.computed[0].empty());
  EXPECT_EQ(back->receipt.computed[1], record.choices[1].computed);
}

TEST(Record, ComesBackAsItWas) {
  const RequestRecord record = Sample();
  const auto back = ParseRecord(RecordJson(record));
  ASSERT_TRUE(back.has_value()) << back.error().detail();
  EXPECT_EQ(back->id, record.id);
  EXPECT_EQ(back->surface, record.surface);
  EXPECT_EQ(back->body, record.body);
  EXPECT_EQ(back->prompts, record.prompts);
  EXPECT_EQ(back->context_tokens_max, 128U);
  EXPECT_EQ(back->receipt.seed, UINT64_MAX);
  EXPECT_EQ(back->receipt.numerics_id, "k1");
  ASSERT_EQ(back->choices.size(), 2U);
  EXPECT_EQ(back->choices[0].tokens, record.choices[0].tokens);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(back->choices[0].logprobs[1]),
            std::bit_cast<std::uint32_t>(-1e-20F));
  EXPECT_TRUE(back->choices[0].ended_by_engine);
}

TEST(Record, BrokenOnesAreRefusedNamingTheField) {
  const std::string good = RecordJson(Sample());
  const auto refused = [&](std::string_view what, std::string_view by, std::string_view field) {
    std::string text = good;
    const std::size_t at = text.find(what);
    ASSERT_NE(at, std::string::npos) << what;
    text.replace(at, what.size(), by);
    const auto record = ParseRecord(text);
    ASSERT_FALSE(record.has_value()) << what;
    EXPECT_EQ(record.error().code(), Code::kDataCorrupt);
    EXPECT_EQ(record.error().param(), field) << record.error().detail();
  };
  refused("\"version\":1", "\"version\":2", "version");
  refused("18446744073709551615", "18446744073709551616", "seed");
  refused("\"seed\":\"", "\"sead\":\"", "seed");
  refused("[5,300]", "[5,301]", "sha256");
  refused("[5,300]", "[5,-1]", "tokens");
  refused("\"completions\"", "\"poems\"", "surface");
  refused("\"prompts\":[[1,2,3]]", "\"prompts\":[[1],[2],[3]]", "choices");
  refused("\"ended_by_engine\":true", "\"ended_by_engine\":1", "ended_by_engine");
  refused("bdcccccd", "bdcccccg", "logprobs");
  EXPECT_FALSE(ParseRecord("").has_value());
  EXPECT_FALSE(ParseRecord("[]").has_value());
}

}  // namespace
}  // namespace pixii::frontend
