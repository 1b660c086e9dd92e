// Step times of the mock against the published formulas, worked out by hand.
#include "engine/mock_timing.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/mock_executor.h"

namespace pixii::engine {
namespace {

constexpr double kMs = 1e6;  // ns

double StepTime(const MockTiming& timing, const MockStep& step) {
  return static_cast<double>(MockStepTime(timing, step));
}

TEST(MockTiming, PrefillOfThePolynomialIsQuadraticInNewTokens) {
  // 4.209989e-07 n^2 + 1.518344e-02 n + 16.50142
  EXPECT_NEAR(PolynomialPrefillMs(0), 16.50142, 1e-9);
  EXPECT_NEAR(PolynomialPrefillMs(1000), 0.4209989 + 15.18344 + 16.50142, 1e-9);
  EXPECT_NEAR(PolynomialPrefillMs(8192), 28.2527580 + 124.3827405 + 16.50142, 1e-6);
}

TEST(MockTiming, DecodeOfThePolynomialFollowsTheShareOfTheCache) {
  // -25.74 p^2 + 54.01 p + 5.74
  EXPECT_NEAR(PolynomialDecodeMs(0), 5.74, 1e-9);
  EXPECT_NEAR(PolynomialDecodeMs(0.5), -6.435 + 27.005 + 5.74, 1e-9);
  EXPECT_NEAR(PolynomialDecodeMs(1), 34.01, 1e-9);
}

TEST(MockTiming, AStepOfBothTakesBothAndNothingOfWhatItLacks) {
  const MockTiming timing{.model = MockTimingModel::kPolynomial};
  const MockStep prefill{.prefill_sequences = 2, .prefill_tokens = 1000, .cache_tokens = 4000};
  const MockStep decode{.decode_sequences = 3, .decode_context_tokens = 2000, .cache_tokens = 4000};
  MockStep both = prefill;
  both.decode_sequences = 3;
  both.decode_context_tokens = 2000;
  EXPECT_NEAR(StepTime(timing, prefill), 32.1058589 * kMs, 10);
  EXPECT_NEAR(StepTime(timing, decode), 26.31 * kMs, 10);
  EXPECT_NEAR(StepTime(timing, both), (32.1058589 + 26.31) * kMs, 10);
  EXPECT_EQ(MockStepTime(timing, {}), 0);
}

TEST(MockTiming, TheShareOfNoCacheAndOfTooMuchContextIsOne) {
  const MockTiming timing{.model = MockTimingModel::kPolynomial};
  EXPECT_NEAR(StepTime(timing, {.decode_sequences = 1, .decode_context_tokens = 7}), 34.01 * kMs,
              10);
  EXPECT_NEAR(
      StepTime(timing,
               {.decode_sequences = 9, .decode_context_tokens = 9000, .cache_tokens = 4000}),
      34.01 * kMs, 10);
}

TEST(MockTiming, SpeedupsDivideAllAndDecodingOnceMore) {
  const MockTiming timing{
      .model = MockTimingModel::kPolynomial, .speedup = 10, .decode_speedup = 2};
  const MockStep both{.prefill_sequences = 1,
                      .prefill_tokens = 1000,
                      .decode_sequences = 1,
                      .decode_context_tokens = 2000,
                      .cache_tokens = 4000};
  EXPECT_NEAR(StepTime(timing, both), (32.1058589 + 26.31 / 2) / 10 * kMs, 10);
}

TEST(MockTiming, LinearTimesAreSumsOverTokens) {
  MockTiming timing{
      .step_ns = 1000, .token_ns = 10, .decode_ns = 400, .context_token_ns = 1, .speedup = 2};
  const MockStep step{.prefill_sequences = 1,
                      .prefill_tokens = 5,
                      .decode_sequences = 2,
                      .decode_context_tokens = 30,
                      .context_tokens = 37};
  EXPECT_EQ(MockStepTime(timing, step), (1000 + 37 + 5 * 10 + 2 * 400) / 2);
  timing.decode_ns.reset();
  EXPECT_EQ(MockStepTime(timing, step), (1000 + 37 + 7 * 10) / 2);
}

constexpr const char* kProfile =
    R"({"prefill_isl": [100, 1000, 3000], "prefill_ttft_ms": [10, 40, 140],
        "decode_active_kv_tokens": [0, 1000], "decode_context_length": [100, 500],
        "decode_itl_ms": [[4, 8], [6, 12]], "about": "ignored"})";

TEST(MockTiming, AProfileIsReadBetweenItsPoints) {
  const Result<MockProfile> profile = ParseMockProfile(kProfile);
  ASSERT_TRUE(profile) << profile.error().ToString();
  EXPECT_DOUBLE_EQ(profile->PrefillMs(1), 10);
  EXPECT_DOUBLE_EQ(profile->PrefillMs(100), 10);
  EXPECT_DOUBLE_EQ(profile->PrefillMs(550), 25);
  EXPECT_DOUBLE_EQ(profile->PrefillMs(1000), 40);
  EXPECT_DOUBLE_EQ(profile->PrefillMs(3000), 140);
  EXPECT_DOUBLE_EQ(profile->PrefillMs(4000), 190);  // 50 ms a thousand go on
  EXPECT_DOUBLE_EQ(profile->DecodeMs(0, 100), 4);
  EXPECT_DOUBLE_EQ(profile->DecodeMs(0, 300), 6);
  EXPECT_DOUBLE_EQ(profile->DecodeMs(500, 300), 7.5);
  EXPECT_DOUBLE_EQ(profile->DecodeMs(1e9, 1e9), 12);
  const MockTiming timing{.model = MockTimingModel::kProfile, .profile = *profile};
  const MockStep step{.prefill_sequences = 1,
                      .prefill_tokens = 550,
                      .decode_sequences = 2,
                      .decode_context_tokens = 500,
                      .cache_tokens = 10'000};
  // 250 tokens of context each: 3/8 of the way from 100 to 500, half of the way from 0 to 1000.
  EXPECT_NEAR(StepTime(timing, step), (25 + (5.5 + 8.25) / 2) * kMs, 10);
}

TEST(MockTiming, AProfileOfOnePointIsThatEverywhere) {
  const Result<MockProfile> profile = ParseMockProfile(
      R"({"prefill_isl": [100], "prefill_ttft_ms": [10], "decode_active_kv_tokens": [5],
          "decode_context_length": [5], "decode_itl_ms": [[3]]})");
  ASSERT_TRUE(profile) << profile.error().ToString();
  EXPECT_DOUBLE_EQ(profile->PrefillMs(1), 10);
  EXPECT_DOUBLE_EQ(profile->PrefillMs(1e6), 10);
  EXPECT_DOUBLE_EQ(profile->DecodeMs(0, 1e6), 3);
}

TEST(MockTiming, WrongProfilesAreRefusedByName) {
  const auto replaced = [](const std::string& from, const std::string& to) {
    std::string text = kProfile;
    return text.replace(text.find(from), from.size(), to);
  };
  const std::pair<std::string, std::string> cases[] = {
      {replaced("[100, 1000, 3000]", "[100, 100, 3000]"), "prefill_isl"},
      {replaced("[100, 1000, 3000]", "[]"), "prefill_isl"},
      {replaced("[10, 40, 140]", "[10, 40]"), "prefill_ttft_ms"},
      {replaced("[10, 40, 140]", "[10, \"40\", 140]"), "prefill_ttft_ms"},
      {replaced("[10, 40, 140]", "[10, -40, 140]"), "prefill_ttft_ms"},
      {replaced("[[4, 8], [6, 12]]", "[[4, 8]]"), "decode_itl_ms"},
      {replaced("[[4, 8], [6, 12]]", "[[4, 8], [6]]"), "decode_itl_ms"},
      {replaced("[[4, 8], [6, 12]]", "7"), "decode_itl_ms"},
      {replaced("decode_context_length", "context"), "decode_context_length"},
      {"[]", ""},
  };
  for (const auto& [text, named] : cases) {
    const Result<MockProfile> profile = ParseMockProfile(text);
    ASSERT_FALSE(profile) << text;
    EXPECT_EQ(profile.error().code(), Code::kInvalidArgument) << text;
    EXPECT_EQ(profile.error().param(), named) << text;
  }
  EXPECT_FALSE(ParseMockProfile("{"));
}

// A step of two: one of three new tokens behind two that are cached, one that decodes.
kernels::StepBatch TwoSequences() {
  kernels::StepBatch batch;
  batch.token_ids = {5, 6, 7, 8};
  batch.positions = {2, 3, 4, 6};
  batch.slots = {2, 3, 4, 14};
  batch.sequences = {
      {.token_begin = 0, .token_count = 3, .context_tokens = 5, .block_begin = 0, .block_count = 2},
      {.token_begin = 3,
       .token_count = 1,
       .context_tokens = 7,
       .block_begin = 2,
       .block_count = 2}};
  batch.block_table = {0, 1, 2, 3};
  batch.logit_rows = {2, 3};
  return batch;
}

TEST(MockTiming, TheExecutorCountsWhatAStepComputes) {
  MockOptions options{.limits = {.vocab_size = 10,
                                 .context_tokens_max = 64,
                                 .block_tokens = 4,
                                 .block_count = 7,
                                 .step_tokens_max = 16,
                                 .step_logit_rows_max = 16}};
  options.timing.model = MockTimingModel::kPolynomial;
  MockExecutor mock(options);
  std::vector<float> logits(20);
  ASSERT_TRUE(mock.Execute(TwoSequences(), logits));
  const double decode = -25.74 * 0.0625 + 54.01 * 0.25 + 5.74;  // 7 tokens of 28
  const double prefill = 4.209989e-07 * 9 + 1.518344e-02 * 3 + 16.50142;
  EXPECT_NEAR(static_cast<double>(mock.virtual_time_ns()), (decode + prefill) * kMs, 10);
}

TEST(MockTiming, WithoutContextTokensFollowFromPositionsAndTimesAreTheSame) {
  MockOptions options{.limits = {.vocab_size = 10,
                                 .context_tokens_max = 64,
                                 .block_tokens = 4,
                                 .block_count = 7,
                                 .step_tokens_max = 16,
                                 .step_logit_rows_max = 16},
                      .timing = {.step_ns = 5, .token_ns = 3}};
  MockExecutor whole(options);
  options.keeps_context = false;
  MockExecutor blind(options);
  std::vector<float> logits(20);
  std::vector<float> again(20);
  kernels::StepBatch batch = TwoSequences();
  ASSERT_TRUE(whole.Execute(batch, logits));
  ASSERT_TRUE(blind.Execute(batch, logits));
  EXPECT_EQ(whole.virtual_time_ns(), blind.virtual_time_ns());
  batch.token_ids = {1, 2, 3, 4};
  batch.block_table = {3, 2, 1, 0};
  ASSERT_TRUE(blind.Execute(batch, again));
  EXPECT_EQ(logits, again);
}

}  // namespace
}  // namespace pixii::engine
