#include "engine/watermark.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace pixii::engine {
namespace {

TEST(Watermark, TheGreenShareIsGamma) {
  for (double gamma : {0.1, 0.25, 0.5, 0.9}) {
    WatermarkKey key{.secret = WatermarkSecret("k"), .gamma = gamma, .context = 1};
    std::vector<TokenId> before = {17};
    std::uint64_t context = WatermarkContext(key, before);
    int green = 0;
    for (TokenId id = 0; id < 50'000; ++id) {
      green += IsGreen(key, context, id) ? 1 : 0;
    }
    EXPECT_NEAR(green / 50'000.0, gamma, 0.01);
  }
}

TEST(Watermark, RandomTextScoresAsChance) {
  std::mt19937_64 random(5);
  WatermarkKey key{.secret = WatermarkSecret("k"), .gamma = 0.25, .context = 1};
  double sum = 0;
  double squares = 0;
  constexpr int kTexts = 400;
  for (int i = 0; i < kTexts; ++i) {
    std::vector<TokenId> text;
    for (int t = 0; t < 300; ++t) {
      text.push_back(static_cast<TokenId>(random() % 30'000));
    }
    double z = DetectWatermark(key, text).z;
    sum += z;
    squares += z * z;
  }
  EXPECT_NEAR(sum / kTexts, 0, 0.2);
  EXPECT_NEAR(squares / kTexts, 1, 0.25);
}

TEST(Watermark, AllGreenGivesTheZOfItsFormulaAndRepeatsCountOnce) {
  WatermarkKey key{.secret = WatermarkSecret("k"), .gamma = 0.5, .context = 1};
  std::vector<TokenId> text = {0};
  while (text.size() < 101) {
    TokenId next = static_cast<TokenId>(text.size() * 7);
    while (!IsGreen(key, WatermarkContext(key, text), next)) {
      ++next;
    }
    text.push_back(next);
  }
  WatermarkScore score = DetectWatermark(key, text);
  EXPECT_EQ(score.scored, 100U);
  EXPECT_EQ(score.green, 100U);
  EXPECT_DOUBLE_EQ(score.z, 10.0);
  std::vector<TokenId> twice = text;
  twice.insert(twice.end(), text.begin() + 1, text.end());
  EXPECT_LE(DetectWatermark(key, twice).scored, 101U);
  EXPECT_EQ(DetectWatermark(key, std::vector<TokenId>{1}).scored, 0U);
}

}  // namespace
}  // namespace pixii::engine
