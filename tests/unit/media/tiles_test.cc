#include "media/tiles.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::media {
namespace {

TilePlan Plan(ImageSize source, std::uint32_t tiles_max = 9) {
  static const std::vector<ImageSize> pinpoints = {{56, 112}, {112, 56}, {112, 112}};
  return PlanTiles(
      {.pinpoints = pinpoints, .tile_size = 56, .patch_size = 14, .tiles_max = tiles_max}, source);
}

TEST(Tiles, CutThePaddingAndPutANewlineBehindEachRow) {
  const TilePlan plan = Plan({90, 70});
  EXPECT_EQ(plan.tile_rows, 2);
  EXPECT_EQ(plan.tile_cols, 2);
  EXPECT_EQ(plan.row_begin, 1);
  EXPECT_EQ(plan.row_count, 6);
  EXPECT_EQ(plan.col_count, 8);
  EXPECT_EQ(plan.tokens(), 16 + 6 * (8 + 1));
}

TEST(Tiles, OfAHighPictureCutColumns) {
  const TilePlan plan = Plan({70, 90});
  EXPECT_EQ(plan.col_begin, 1);
  EXPECT_EQ(plan.col_count, 6);
  EXPECT_EQ(plan.row_count, 8);
}

TEST(Tiles, WithoutALimitStayAsTheyAre) { EXPECT_EQ(Plan({112, 112}, 0).tokens(), 16 + 8 * 9); }

TEST(Tiles, AreScaledDownPastTheirLimit) {
  const TilePlan plan = Plan({112, 112}, 1);
  EXPECT_EQ(plan.row_count, 8);
  EXPECT_EQ(plan.out_rows, 4);  // by sqrt(64 / 16)
  EXPECT_EQ(plan.out_cols, 4);
  EXPECT_EQ(plan.tokens(), 16 + 4 * 5);
}

}  // namespace
}  // namespace pixii::media
