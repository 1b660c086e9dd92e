#include "model/diffusion/step_cache.h"

#include <gtest/gtest.h>

namespace pixii::model {
namespace {

std::vector<bool> Decide(const StepCacheOptions& options, const std::vector<float>& embeddings) {
  StepCache cache(options, static_cast<std::int32_t>(embeddings.size()));
  std::vector<bool> out;
  for (std::size_t i = 0; i < embeddings.size(); ++i) {
    const float both[] = {embeddings[i], -embeddings[i]};
    out.push_back(cache.Reuses(static_cast<std::int32_t>(i), both));
  }
  return out;
}

using Bits = std::vector<bool>;

TEST(StepCache, SumsChangesUntilTheThreshold) {
  // Changes of a tenth each: two fit below a quarter, the third starts anew.
  const std::vector<float> embeddings = {1.0F, 1.1F, 1.21F, 1.331F, 1.4641F, 1.61051F, 1.771561F};
  EXPECT_EQ(Decide({.threshold = 0.25}, embeddings),
            (Bits{false, true, true, false, true, true, false}));
  EXPECT_EQ(Decide({.threshold = 0.05}, embeddings), Bits(7, false));
}

TEST(StepCache, ComputesTheFirstStepsAndTheLast) {
  const std::vector<float> same(6, 1.0F);
  EXPECT_EQ(Decide({.threshold = 1.0}, same), (Bits{false, true, true, true, true, false}));
  EXPECT_EQ(Decide({.threshold = 1.0, .steps_first = 3}, same),
            (Bits{false, false, false, true, true, false}));
  EXPECT_EQ(Decide({.threshold = 0.0}, same), Bits(6, false));
}

TEST(StepCache, PutsChangesThroughThePolynomial) {
  const std::vector<float> embeddings = {1.0F, 1.1F, 1.21F, 1.331F, 1.4641F};
  // 10 x^2 of a tenth is a tenth; 100 x is ten.
  EXPECT_EQ(Decide({.threshold = 0.15, .coefficients = {10.0, 0.0, 0.0}}, embeddings),
            (Bits{false, true, false, true, false}));
  EXPECT_EQ(Decide({.threshold = 0.15, .coefficients = {100.0, 0.0}}, embeddings), Bits(5, false));
  // What comes out below 0 counts by its size.
  EXPECT_EQ(Decide({.threshold = 0.15, .coefficients = {-100.0, 0.0}}, embeddings), Bits(5, false));
}

TEST(StepCache, KnowsTheModelsItWasFittedTo) {
  EXPECT_EQ(StepCacheCoefficients("wan2.1-1.3b").size(), 5U);
  EXPECT_EQ(StepCacheCoefficients("wan2.1-14b").size(), 5U);
  EXPECT_TRUE(StepCacheCoefficients("flux").empty());
}

}  // namespace
}  // namespace pixii::model
