#include "model/rotary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace pixii::model {
namespace {

TEST(Rotary, PlainFrequenciesFallFromOneByPowersOfTheta) {
  const auto frequencies = InverseFrequencies({.theta = 10000.0}, 8, 64);
  ASSERT_EQ(frequencies.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(frequencies[i], std::pow(10000.0, -static_cast<double>(i) / 4.0), 1e-7);
  }
}

TEST(Rotary, Llama3KeepsShortWavesAndStretchesLongOnes) {
  const RopeSpec rope = {.kind = RopeKind::kLlama3,
                         .theta = 500000.0,
                         .factor = 8.0,
                         .original_context_tokens = 8192,
                         .low_freq_factor = 1.0,
                         .high_freq_factor = 4.0};
  const auto plain = InverseFrequencies({.theta = 500000.0}, 128, 64);
  const auto scaled = InverseFrequencies(rope, 128, 64);
  EXPECT_EQ(scaled.front(), plain.front());
  EXPECT_FLOAT_EQ(scaled.back(), plain.back() / 8.0F);
  // In between the ratio falls steadily from 1 to 1/8, and some pair is strictly inside.
  bool inside = false;
  float ratio_before = 1.0F;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const float ratio = scaled[i] / plain[i];
    EXPECT_LE(ratio, ratio_before + 1e-6F);
    inside |= ratio < 0.99F && ratio > 0.13F;
    ratio_before = ratio;
  }
  EXPECT_TRUE(inside);
}

TEST(Rotary, LongRopeChoosesByTheLoadedContext) {
  const RopeSpec rope = {.kind = RopeKind::kLongRope,
                         .theta = 100.0,
                         .original_context_tokens = 64,
                         .short_factors = {1.0, 2.0},
                         .long_factors = {4.0, 8.0}};
  EXPECT_FLOAT_EQ(InverseFrequencies(rope, 4, 64)[1], 0.05F);
  EXPECT_FLOAT_EQ(InverseFrequencies(rope, 4, 65)[1], 0.0125F);
}

TEST(Rotary, DynamicRaisesThetaOnlyPastTheOriginalContext) {
  const RopeSpec rope = {
      .kind = RopeKind::kDynamic, .theta = 100.0, .factor = 2.0, .original_context_tokens = 64};
  EXPECT_EQ(InverseFrequencies(rope, 4, 64), InverseFrequencies({.theta = 100.0}, 4, 64));
  // Stretched by 2 * 128 / 64 - 1 = 3, to the power 4 / 2.
  EXPECT_FLOAT_EQ(InverseFrequencies(rope, 4, 128)[1], 1.0F / 30.0F);
}

TEST(Rotary, LinearDividesEveryFrequencyAndYarnOnlyTheSlow) {
  const auto plain = InverseFrequencies({.theta = 10000.0}, 64, 64);
  const auto linear =
      InverseFrequencies({.kind = RopeKind::kLinear, .theta = 10000.0, .factor = 4.0}, 64, 64);
  const RopeSpec yarn = {
      .kind = RopeKind::kYarn, .theta = 10000.0, .factor = 4.0, .original_context_tokens = 64};
  const auto blended = InverseFrequencies(yarn, 64, 64);
  EXPECT_FLOAT_EQ(linear.front(), plain.front() / 4.0F);
  EXPECT_FLOAT_EQ(linear.back(), plain.back() / 4.0F);
  EXPECT_FLOAT_EQ(blended.front(), plain.front());
  EXPECT_FLOAT_EQ(blended.back(), plain.back() / 4.0F);
}

TEST(Rotary, SectionsStandOneBehindTheOther) {
  const RopeSpec rope = {.sections = {2, 3, 3}};
  EXPECT_THAT(AxesOfPairs(rope, 8), ::testing::ElementsAre(0, 0, 1, 1, 1, 2, 2, 2));
  EXPECT_THAT(AxesOfPairs({}, 3), ::testing::ElementsAre(0, 0, 0));
}

TEST(Rotary, InterleavedSectionsTakeEveryThirdPairAsFarAsTheyReach) {
  const RopeSpec rope = {.sections = {4, 3, 1}, .sections_interleaved = true};
  EXPECT_THAT(AxesOfPairs(rope, 8), ::testing::ElementsAre(0, 1, 2, 0, 1, 0, 0, 1));
  // The last of a section may lie past the pairs: it is left out.
  const RopeSpec past = {.sections = {2, 3, 3}, .sections_interleaved = true};
  EXPECT_THAT(AxesOfPairs(past, 8), ::testing::ElementsAre(0, 1, 2, 0, 1, 2, 0, 1));
}

TEST(Rotary, TablesHoldCosineAndSineOfTheAngle) {
  const std::vector<float> frequencies = {1.0F, 0.125F};
  std::vector<float> cos(6);
  std::vector<float> sin(6);
  FillRotaryTable(frequencies, 3, 1.0, cos, sin);
  EXPECT_EQ(cos[0], 1.0F);
  EXPECT_EQ(sin[1], 0.0F);
  EXPECT_FLOAT_EQ(cos[4], std::cos(2.0F));
  EXPECT_FLOAT_EQ(sin[5], std::sin(0.25F));
}

}  // namespace
}  // namespace pixii::model
