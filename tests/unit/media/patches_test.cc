#include "media/patches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>

namespace pixii::media {
namespace {

using ::testing::HasSubstr;

Image Gradient(ImageSize size) {
  Image out;
  out.size = size;
  for (std::uint32_t y = 0; y < size.height; ++y) {
    for (std::uint32_t x = 0; x < size.width; ++x) {
      for (std::uint32_t channel = 0; channel < kImageChannels; ++channel) {
        out.rgb.push_back(static_cast<std::uint8_t>((7 * x + 13 * y + 101 * channel) % 256));
      }
    }
  }
  return out;
}

/// Values are the bytes themselves.
PatchSpec Bytes(Fit fit, ImageSize size) {
  PatchSpec spec;
  spec.fit = fit;
  spec.size = size;
  spec.scale = 1.0;
  spec.patch_size = 2;
  return spec;
}

float Byte(const Image& image, std::uint32_t x, std::uint32_t y, std::size_t channel) {
  return image.row(y)[x * kImageChannels + channel];
}

TEST(SmartSize, RoundsSidesToBlocksWithTiesToEven) {
  const auto sized = [](ImageSize size) { return *SmartSize(size, 28, 56 * 56, 1003520); };
  EXPECT_EQ(sized({280, 280}), (ImageSize{280, 280}));
  EXPECT_EQ(sized({294, 294}), (ImageSize{280, 280}));  // 10.5 blocks
  EXPECT_EQ(sized({322, 322}), (ImageSize{336, 336}));  // 11.5 blocks
  EXPECT_EQ(sized({300, 200}), (ImageSize{308, 196}));
}

TEST(SmartSize, KeepsPixelsInBounds) {
  EXPECT_EQ(*SmartSize({4000, 3000}, 28, 56 * 56, 1003520), (ImageSize{1148, 840}));
  EXPECT_EQ(*SmartSize({20, 10}, 28, 56 * 56, 1003520), (ImageSize{84, 56}));
  EXPECT_EQ(*SmartSize({1, 1}, 28, 56 * 56, 1003520), (ImageSize{56, 56}));
}

TEST(SmartSize, RefusesWhatIsNoPicture) {
  const auto thin = SmartSize({40000, 100}, 28, 56 * 56, 1003520);
  ASSERT_FALSE(thin);
  EXPECT_EQ(thin.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(thin.error().detail(), HasSubstr("ratio"));
  EXPECT_FALSE(SmartSize({0, 10}, 28, 56 * 56, 1003520));
}

TEST(MakePatches, GoRowByRowWithoutMerging) {
  const Image image = Gradient({4, 4});
  const Patches patches = *MakePatches(image, Bytes(Fit::kExact, {4, 4}));
  EXPECT_EQ(patches.frames, 1U);
  EXPECT_EQ(patches.rows, 2U);
  EXPECT_EQ(patches.cols, 2U);
  ASSERT_EQ(patches.values.size(), 4U * 12U);
  // The second patch: its first row of red, then of green.
  EXPECT_EQ(patches.values[12], Byte(image, 2, 0, 0));
  EXPECT_EQ(patches.values[13], Byte(image, 3, 0, 0));
  EXPECT_EQ(patches.values[14], Byte(image, 2, 1, 0));
  EXPECT_EQ(patches.values[16], Byte(image, 2, 0, 1));
  EXPECT_EQ(patches.values[24], Byte(image, 0, 2, 0));  // the third is below the first
}

TEST(MakePatches, OfMergeBlocksLieTogetherAndAStillPictureIsRepeated) {
  const Image image = Gradient({8, 8});
  PatchSpec spec = Bytes(Fit::kSmart, {});
  spec.pixels_min = 1;
  spec.pixels_max = 1 << 20;
  spec.merge_size = 2;
  spec.frames_per_row = 2;
  const Patches patches = *MakePatches(image, spec);
  EXPECT_EQ(patches.frames, 1U);
  EXPECT_EQ(patches.rows, 4U);
  const auto patch = [&](std::size_t index) { return patches.values.begin() + 24 * index; };
  EXPECT_EQ(*patch(1), Byte(image, 2, 0, 0));
  EXPECT_EQ(*patch(2), Byte(image, 0, 2, 0));  // below the first, in its block
  EXPECT_EQ(*patch(4), Byte(image, 4, 0, 0));  // the next block
  EXPECT_EQ(*patch(8), Byte(image, 0, 4, 0));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(patch(0)[i], patch(0)[4 + i]);  // the frame again
  }
  EXPECT_EQ(patch(0)[8], Byte(image, 0, 0, 1));
}

TEST(MakePatches, CropTheCentreOfTheShortSide) {
  PatchSpec spec = Bytes(Fit::kCrop, {4, 4});
  spec.short_side = 4;
  const Image image = Gradient({10, 4});  // is not resized
  const Patches patches = *MakePatches(image, spec);
  EXPECT_EQ(patches.values[0], Byte(image, 3, 0, 0));
  EXPECT_EQ(patches.cols, 2U);
}

TEST(MakePatches, ScalesThenTakesMeanAndDeviation) {
  PatchSpec spec = Bytes(Fit::kExact, {2, 2});
  spec.scale = 1.0 / 255.0;
  spec.mean = {0.5F, 0.25F, 0.0F};
  spec.deviation = {0.5F, 0.5F, 2.0F};
  Image image;
  image.size = {2, 2};
  image.rgb.assign(12, 255);
  const Patches patches = *MakePatches(image, spec);
  EXPECT_EQ(patches.values[0], 1.0F);
  EXPECT_EQ(patches.values[4], 1.5F);
  EXPECT_EQ(patches.values[8], 0.5F);
}

TEST(MakePatches, TilesBeginWithTheWholeAndArePaddedInTheMiddle) {
  PatchSpec spec = Bytes(Fit::kTiles, {4, 4});
  spec.pinpoints = {{4, 8}, {8, 4}, {8, 8}};
  const Image image = Gradient({8, 2});
  const Patches patches = *MakePatches(image, spec);
  EXPECT_EQ(patches.frames, 3U);  // 8 x 4 wastes least
  const std::size_t tile = 4 * 12;
  ASSERT_EQ(patches.values.size(), 3 * tile);
  EXPECT_EQ(patches.values[tile], 0.0F);                      // padding above
  EXPECT_EQ(patches.values[tile + 2], Byte(image, 0, 0, 0));  // the picture begins in row 1
  EXPECT_EQ(patches.values[2 * tile + 2], Byte(image, 4, 0, 0));
  EXPECT_EQ(patches.source, image.size);
}

TEST(PlanPatches, SaysByTheSizeWhatMakePatchesGives) {
  PatchSpec smart = Bytes(Fit::kSmart, {});
  smart.pixels_min = 64;
  smart.pixels_max = 400;
  smart.merge_size = 2;
  PatchSpec tiles = Bytes(Fit::kTiles, {4, 4});
  tiles.pinpoints = {{4, 8}, {8, 4}, {8, 8}};
  for (const PatchSpec& spec : {smart, tiles, Bytes(Fit::kExact, {4, 4})}) {
    for (const ImageSize size : {ImageSize{3, 9}, ImageSize{40, 31}, ImageSize{16, 16}}) {
      const Patches plan = *PlanPatches(size, spec);
      const Patches made = *MakePatches(Gradient(size), spec);
      EXPECT_EQ(plan.frames, made.frames);
      EXPECT_EQ(plan.rows, made.rows);
      EXPECT_EQ(plan.cols, made.cols);
      EXPECT_EQ(made.values.size(), std::size_t{made.frames} * made.rows * made.cols * 12);
    }
  }
}

TEST(MakeVideoPatches, PairFramesAndRepeatTheLast) {
  PatchSpec spec = Bytes(Fit::kSmart, {});
  spec.pixels_min = 1;
  spec.pixels_max = 1 << 20;
  spec.frames_per_row = 2;
  std::vector<Image> frames(3, Gradient({4, 4}));
  for (std::uint8_t i = 0; i < 3; ++i) {
    frames[i].rgb[0] = static_cast<std::uint8_t>(100 + i);
  }
  const Patches patches = *MakeVideoPatches(frames, spec);
  EXPECT_EQ(patches.frames, 2U);
  EXPECT_EQ(patches.values[0], 100.0F);
  EXPECT_EQ(patches.values[4], 101.0F);
  const std::size_t second = patches.values.size() / 2;
  EXPECT_EQ(patches.values[second], 102.0F);
  EXPECT_EQ(patches.values[second + 4], 102.0F);
  frames[1] = Gradient({2, 2});
  EXPECT_FALSE(MakeVideoPatches(frames, spec));
  EXPECT_FALSE(MakeVideoPatches({}, spec));
}

TEST(BestPinpoint, KeepsMostPixelsThenWastesLeast) {
  const std::vector<ImageSize> points = {{56, 112}, {112, 56}, {112, 112}};
  EXPECT_EQ(BestPinpoint({90, 70}, points), (ImageSize{112, 112}));
  EXPECT_EQ(BestPinpoint({100, 40}, points), (ImageSize{112, 56}));
  EXPECT_EQ(BestPinpoint({10, 10}, points), (ImageSize{56, 112}));  // the first of equals
}

}  // namespace
}  // namespace pixii::media
