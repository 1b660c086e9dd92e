#include "model/vision_tower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "model/config.h"
#include "support/golden.h"

namespace pixii::model {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kText = R"("text_config": {"head_dim": 16, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 512, "max_position_embeddings": 256})";

/// Windows of 2 x 2 merged cells.
std::string Qwen25() {
  return std::string(R"({"architectures": ["Qwen2_5_VLForConditionalGeneration"],
  "image_token_id": 500, )") +
         std::string(kText) + R"(, "vision_config": {"depth": 2, "hidden_size": 32,
    "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 32, "window_size": 16,
    "patch_size": 4, "fullatt_block_indexes": [1]}})";
}

std::string Qwen3() {
  return std::string(R"({"architectures": ["Qwen3VLForConditionalGeneration"],
  "image_token_id": 500, )") +
         std::string(kText) + R"(, "vision_config": {"depth": 3, "hidden_size": 32,
    "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4,
    "num_position_embeddings": 9, "deepstack_visual_indexes": [0, 1]}})";
}

std::string OneVision() {
  return std::string(R"({"architectures": ["LlavaOnevisionForConditionalGeneration"],
  "image_token_index": 500, "image_grid_pinpoints": [[8, 16], [16, 8], [16, 16]], )") +
         std::string(kText) + R"(, "vision_config": {"model_type": "siglip_vision_model",
    "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 2,
    "image_size": 8, "patch_size": 4}})";
}

class Tower {
 public:
  explicit Tower(const std::string& config, std::int64_t patches_max = 65536) {
    auto parsed = ParseConfig(config, "");
    EXPECT_TRUE(parsed) << parsed.error().ToString();
    operators_ = kernels::MakeReferenceOperators();
    const auto weights = MakeRandomWeights(7);
    auto made =
        VisionTower::Create(*parsed->vision, *weights, *operators_,
                            {.compute = kernels::ComputeType::kF32, .patches_max = patches_max});
    EXPECT_TRUE(made) << made.error().ToString();
    tower_ = *std::move(made);
  }

  VisionTower& operator*() { return *tower_; }

  std::vector<float> Pixels(const PatchGrid& grid, float phase = 0.0F) const {
    std::vector<float> out(
        static_cast<std::size_t>(grid.patches() * tower_->spec().patch_values()));
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = std::sin(phase + 0.37F * static_cast<float>(i % 1013));
    }
    return out;
  }

  VisionFeatures Encode(const PatchGrid& grid, std::span<const float> patches,
                        media::ImageSize source = {}) {
    auto out = tower_->Encode({grid, patches, source});
    EXPECT_TRUE(out) << out.error().ToString();
    return out ? *std::move(out) : VisionFeatures{};
  }

 private:
  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<VisionTower> tower_;
};

TEST(VisionTower, FramesOfAVideoDoNotSeeEachOther) {
  for (const std::string& config : {Qwen25(), Qwen3()}) {
    Tower tower(config);
    const PatchGrid one = {.frames = 1, .rows = 6, .cols = 10};
    const PatchGrid two = {.frames = 2, .rows = 6, .cols = 10};
    std::vector<float> both = tower.Pixels(one, 1.0F);
    const std::vector<float> second = tower.Pixels(one, 2.0F);
    const VisionFeatures first = tower.Encode(one, both);
    const VisionFeatures other = tower.Encode(one, second);
    both.insert(both.end(), second.begin(), second.end());
    const VisionFeatures together = tower.Encode(two, both);
    std::vector<float> expected = first.rows_data;
    expected.insert(expected.end(), other.rows_data.begin(), other.rows_data.end());
    EXPECT_EQ(together.rows_data, expected);
    expected = first.layers_data;
    expected.insert(expected.end(), other.layers_data.begin(), other.layers_data.end());
    EXPECT_EQ(together.layers_data, expected);
  }
}

TEST(VisionTower, AWindowsBlockReachesTheOthersOnlyThroughTheFullOne) {
  // With windows alone a change in the last cell stays in its window.
  std::string config = Qwen25();
  const auto at = config.find("[1]");
  config.replace(at, 3, "[]");
  Tower windows(config);
  Tower full(Qwen25());
  const PatchGrid grid = {.frames = 1, .rows = 8, .cols = 8};
  std::vector<float> changed = windows.Pixels(grid);
  std::fill(changed.end() - 4 * 96, changed.end(), 0.25F);  // the last cell
  const auto rows_that_differ = [&](Tower& tower) {
    const VisionFeatures before = tower.Encode(grid, tower.Pixels(grid));
    const VisionFeatures after = tower.Encode(grid, changed);
    std::vector<std::int32_t> out;
    for (std::int32_t row = 0; row < before.rows; ++row) {
      const auto begin = before.rows_data.begin() + std::int64_t{row} * before.size;
      if (!std::equal(begin, begin + before.size,
                      after.rows_data.begin() + std::int64_t{row} * before.size)) {
        out.push_back(row);
      }
    }
    return out;
  };
  EXPECT_THAT(rows_that_differ(windows), ::testing::ElementsAre(10, 11, 14, 15));
  EXPECT_THAT(rows_that_differ(full), ::testing::SizeIs(16));
}

TEST(VisionTower, BitsDoNotFollowFromThePictureBefore) {
  Tower tower(Qwen3());
  const PatchGrid small = {.frames = 1, .rows = 2, .cols = 4};
  const PatchGrid large = {.frames = 1, .rows = 12, .cols = 14};
  const VisionFeatures fresh = tower.Encode(small, tower.Pixels(small));
  tower.Encode(large, tower.Pixels(large, 3.0F));
  const VisionFeatures again = tower.Encode(small, tower.Pixels(small));
  EXPECT_EQ(fresh.rows_data, again.rows_data);
  EXPECT_EQ(fresh.layers_data, again.layers_data);
  EXPECT_EQ(fresh.rows, 2);
  EXPECT_EQ(fresh.levels, 2);
  EXPECT_EQ(fresh.layers_data.size(), 2U * 2U * 32U);
}

TEST(VisionTower, PacksTilesWithANewlineBehindEachRow) {
  Tower tower(OneVision());
  const PatchGrid grid = {.frames = 5, .rows = 2, .cols = 2};
  const VisionFeatures out = tower.Encode(grid, tower.Pixels(grid), {16, 16});
  EXPECT_EQ(out.rows, 4 + 4 * 5);
  const auto row = [&](std::size_t index) {
    return std::vector<float>(out.rows_data.begin() + static_cast<std::int64_t>(index) * 32,
                              out.rows_data.begin() + static_cast<std::int64_t>(index + 1) * 32);
  };
  EXPECT_EQ(row(4 + 4), std::vector<float>(32, 1.0F));  // as random weights fill vectors
  EXPECT_EQ(row(4 + 4), row(4 + 9));
  EXPECT_NE(row(4), row(5));
}

TEST(VisionTower, RefusesGridsAndValuesThatDoNotFit) {
  Tower tower(Qwen25(), 32);
  const auto refused = [&](const PatchGrid& grid, std::size_t values) {
    const std::vector<float> patches(values);
    const auto out = (*tower).Encode({grid, patches});
    return out ? std::string("accepted") : out.error().ToString();
  };
  EXPECT_THAT(refused({1, 3, 4}, 12 * 96), HasSubstr("no multiple of 2"));
  EXPECT_THAT(refused({1, 0, 4}, 0), HasSubstr("are not in 1 to"));
  EXPECT_THAT(refused({0, 2, 4}, 0), HasSubstr("frames"));
  EXPECT_THAT(refused({1, 2, 4}, 7), HasSubstr("7 values"));
  EXPECT_THAT(refused({1, 6, 6}, 36 * 96), HasSubstr("at most 32"));
  Tower tiles(OneVision());
  const std::vector<float> patches = tiles.Pixels({2, 2, 2});
  EXPECT_FALSE((*tiles).Encode({{2, 2, 2}, patches, {16, 16}}));
  EXPECT_FALSE((*tiles).Encode({{2, 2, 2}, patches}));
}

TEST(VisionTower, NamesAValueThatIsNotFinite) {
  Tower tower(Qwen25());
  const PatchGrid grid = {.frames = 1, .rows = 2, .cols = 2};
  std::vector<float> patches = tower.Pixels(grid);
  patches[5] = INFINITY;
  const auto out = (*tower).Encode({grid, patches});
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code(), Code::kModelFault);
}

TEST(VisionTower, AFolderOfTextHasNone) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto tower =
      VisionTower::Load(pixii::testing::OwnGoldenDir() + "/models/llama-gqa", *operators, {});
  ASSERT_FALSE(tower);
  EXPECT_EQ(tower.error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::model
