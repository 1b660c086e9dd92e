#include "model/vision_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

TEST(PatchPlaces, ComeMergeBlockByMergeBlock) {
  const auto places = PatchPlaces({.frames = 1, .rows = 2, .cols = 4}, 2);
  EXPECT_THAT(places,
              ElementsAre(PatchPlace{0, 0}, PatchPlace{0, 1}, PatchPlace{1, 0}, PatchPlace{1, 1},
                          PatchPlace{0, 2}, PatchPlace{0, 3}, PatchPlace{1, 2}, PatchPlace{1, 3}));
}

TEST(PatchPlaces, WithoutMergingComeRowByRow) {
  EXPECT_THAT(PatchPlaces({.frames = 1, .rows = 2, .cols = 2}, 1),
              ElementsAre(PatchPlace{0, 0}, PatchPlace{0, 1}, PatchPlace{1, 0}, PatchPlace{1, 1}));
}

TEST(Windows, AreShorterAtTheRightAndTheBottomAndStayInTheirFrame) {
  const WindowPlan plan = MakeWindows({.frames = 2, .rows = 3, .cols = 3}, 2);
  EXPECT_THAT(plan.sizes, ElementsAre(4, 2, 2, 1, 4, 2, 2, 1));
  EXPECT_THAT(plan.order, ElementsAre(0, 1, 3, 4, 2, 5, 6, 7, 8,  //
                                      9, 10, 12, 13, 11, 14, 15, 16, 17));
}

TEST(Windows, OrderIsUndoneByItsInverse) {
  const WindowPlan plan = MakeWindows({.frames = 1, .rows = 5, .cols = 7}, 4);
  const auto inverse = InverseOrder(plan.order);
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    EXPECT_EQ(plan.order[static_cast<std::size_t>(inverse[i])], static_cast<std::int32_t>(i));
  }
}

TEST(VisionRotary, TurnsHalfOfThePairsByTheRowAndHalfByTheColumn) {
  const std::vector<PatchPlace> places = {{0, 0}, {2, 3}};
  const auto factors = VisionRotary(places, 8, 10000.0);
  ASSERT_EQ(factors.size(), 2U * 2U * 4U);
  EXPECT_THAT(std::span(factors).first(4), ElementsAre(1, 1, 1, 1));
  const std::vector<float> angles = {2.0F, 0.02F, 3.0F, 0.03F};  // frequencies 1 and 1 / 100
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_FLOAT_EQ(factors[4 + i], std::cos(angles[i]));
    EXPECT_FLOAT_EQ(factors[12 + i], std::sin(angles[i]));
  }
}

TEST(StretchPositions, PutsTheTablesCornersOnThePictures) {
  const std::vector<float> table = {0, 1, 2, 10, 11, 12, 20, 21, 22};  // row * 10 + column
  const PatchGrid grid = {.frames = 1, .rows = 5, .cols = 2};
  const auto out = StretchPositions(table, 3, 1, grid, PatchPlaces(grid, 1));
  EXPECT_THAT(out,
              Pointwise(FloatNear(1e-5F), std::vector<float>{0, 2, 5, 7, 10, 12, 15, 17, 20, 22}));
}

TEST(StretchPositions, OfASingleLineIsTheTablesFirst) {
  const std::vector<float> table = {5, 6, 7, 8};
  const PatchGrid grid = {.frames = 1, .rows = 1, .cols = 1};
  EXPECT_THAT(StretchPositions(table, 2, 1, grid, PatchPlaces(grid, 1)), ElementsAre(5));
}

VisionSpec Tiled(std::int32_t tiles_max = 9) {
  VisionSpec spec;
  spec.image_size = 56;
  spec.patch_size = 14;
  spec.tiles.tiles_max = tiles_max;
  spec.tiles.pinpoints = {{56, 112}, {112, 56}, {112, 112}};
  return spec;
}

TEST(TokenCount, OfTilesIsTheirPlans) {
  EXPECT_EQ(TokenCount(Tiled(), {.frames = 5, .rows = 4, .cols = 4}, {90, 70}), 70);
}

TEST(PackTiles, PutsTilesSideBySide) {
  VisionSpec spec = Tiled();
  spec.patch_size = 28;  // 2 x 2 features a tile
  const media::TilePlan plan = PlanTiles(spec, {112, 56});
  ASSERT_EQ(plan.tiles(), 2);
  std::vector<float> features(3 * 4);
  std::iota(features.begin(), features.end(), 0.0F);
  const std::vector<float> newline = {-1.0F};
  EXPECT_THAT(PackTiles(plan, features, newline),
              ElementsAre(0, 1, 2, 3, 4, 5, 8, 9, -1, 6, 7, 10, 11, -1));
}

TEST(PackTiles, ScalesLinearlyBetweenCentres) {
  VisionSpec spec = Tiled(1);
  spec.patch_size = 28;
  const media::TilePlan plan = PlanTiles(spec, {112, 112});  // 4 x 4 features become 2 x 2
  ASSERT_EQ(plan.out_rows, 2);
  std::vector<float> features(5 * 4, 0.0F);
  for (std::size_t tile = 0; tile < 4; ++tile) {
    for (std::size_t cell = 0; cell < 4; ++cell) {
      features[4 + 4 * tile + cell] = static_cast<float>(10 * tile + cell);
    }
  }
  const std::vector<float> newline = {-1.0F};
  const auto out = PackTiles(plan, features, newline);
  // Each is the mean of a tile: 0 + 1.5, 10 + 1.5, …
  EXPECT_THAT(std::span(out).subspan(4), ElementsAre(1.5F, 11.5F, -1, 21.5F, 31.5F, -1));
}

}  // namespace
}  // namespace pixii::model
