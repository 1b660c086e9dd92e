#include "model/pooling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace pixii::model {
namespace {

const std::vector<std::vector<float>> kRows = {{1.0F, -2.0F}, {3.0F, 5.0F}, {2.0F, 0.0F}};

std::vector<float> Pool(PoolingSpec spec) {
  const auto pooler = Pooler::Create(std::move(spec), 2);
  EXPECT_TRUE(pooler.has_value()) << pooler.error().ToString();
  Pooler::State state;
  for (const std::vector<float>& row : kRows) {
    pooler->Add(row, state);
  }
  const std::vector<float> out = pooler->Finish(state);
  EXPECT_EQ(std::ssize(out), pooler->features());
  return out;
}

void ExpectNear(const std::vector<float>& ours, const std::vector<double>& exact) {
  ASSERT_EQ(ours.size(), exact.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_NEAR(ours[i], exact[i], 1e-6) << i;
  }
}

TEST(Pooling, EveryModeAloneAndAllSideBySide) {
  const double root = std::sqrt(3.0);
  ExpectNear(Pool({.modes = {PoolMode::kCls}}), {1, -2});
  ExpectNear(Pool({.modes = {PoolMode::kMax}}), {3, 5});
  ExpectNear(Pool({.modes = {PoolMode::kMean}}), {2, 1});
  ExpectNear(Pool({.modes = {PoolMode::kMeanSqrtLen}}), {6 / root, 3 / root});
  ExpectNear(Pool({.modes = {PoolMode::kWeightedMean}}), {13.0 / 6, 8.0 / 6});
  ExpectNear(Pool({.modes = {PoolMode::kLastToken}}), {2, 0});
  ExpectNear(
      Pool({.modes = {PoolMode::kCls, PoolMode::kMax, PoolMode::kMean, PoolMode::kMeanSqrtLen,
                      PoolMode::kWeightedMean, PoolMode::kLastToken}}),
      {1, -2, 3, 5, 2, 1, 6 / root, 3 / root, 13.0 / 6, 8.0 / 6, 2, 0});
}

TEST(Pooling, DenseAndNormalizeFollowInOrder) {
  const PoolStage dense = {.in_features = 2,
                           .out_features = 3,
                           .weight = {1, 0, 0, 1, 1, 1},
                           .bias = {0.5F, 0, 0},
                           .activation = PoolActivation::kIdentity};
  ExpectNear(Pool({.modes = {PoolMode::kMean}, .stages = {dense}}), {2.5, 1, 3});
  const double length = std::sqrt(2.5 * 2.5 + 1 + 9);
  ExpectNear(Pool({.modes = {PoolMode::kMean}, .stages = {dense, {.normalize = true}}}),
             {2.5 / length, 1 / length, 3 / length});
  PoolStage curved = dense;
  curved.activation = PoolActivation::kTanh;
  curved.bias.clear();
  ExpectNear(Pool({.modes = {PoolMode::kMean}, .stages = {curved}}),
             {std::tanh(2.0), std::tanh(1.0), std::tanh(3.0)});
}

TEST(Pooling, SaysWhichRowsItWants) {
  const auto rows = [](std::vector<PoolMode> modes) {
    return Pooler::Create({.modes = std::move(modes)}, 2)->rows();
  };
  EXPECT_EQ(rows({PoolMode::kCls}), PoolRows::kFirst);
  EXPECT_EQ(rows({PoolMode::kLastToken}), PoolRows::kLast);
  EXPECT_EQ(rows({PoolMode::kMean}), PoolRows::kAll);
  EXPECT_EQ(rows({PoolMode::kCls, PoolMode::kLastToken}), PoolRows::kAll);
}

TEST(Pooling, RefusesADenseLayerOfAnotherWidth) {
  const auto pooler =
      Pooler::Create({.stages = {{.in_features = 3, .out_features = 1, .weight = {1, 1, 1}}}}, 2);
  ASSERT_FALSE(pooler.has_value());
  EXPECT_EQ(pooler.error().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace pixii::model
