#include "model/diffusion/clip_text_encoder.h"

#include <gtest/gtest.h>

#include "unit/model/diffusion/golden_folder.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(PooledLength, EndsAtTheFirstEndToken) {
  ClipTextConfig config;
  config.end_token = 9;
  EXPECT_EQ(PooledLength(config, Ids{0, 4, 9, 12, 9}), 3U);
  EXPECT_EQ(PooledLength(config, Ids{0, 4}), 1U) << "none: the first row, as the reference has it";
  config.end_token = 2;  // of old configs: the largest id
  EXPECT_EQ(PooledLength(config, Ids{0, 4, 12, 2, 12}), 3U);
}

TEST(ClipTextEncoder, SeesWhatStandsBeforeTheEndAndItsOrder) {
  const testing::GoldenFolder folder("flux");
  const auto open = CheckpointFolder::Open(folder.path() + "/text_encoder");
  const auto operators = testing::CpuOperators();
  const auto encoder =
      std::move(*ClipTextEncoder::Load(*open, *operators, kernels::ComputeType::kF32));
  const std::int32_t end = encoder->config().vocab_size - 1;
  const std::vector<float> one = *encoder->Pool(Ids{0, 5, 7, end});
  EXPECT_EQ(one, *encoder->Pool(Ids{0, 5, 7, end, 3})) << "behind the end";
  EXPECT_NE(one, *encoder->Pool(Ids{0, 7, 5, end}));
  EXPECT_FALSE(encoder->Pool(Ids{}).has_value());
  EXPECT_FALSE(encoder->Pool(Ids{0, end + 1}).has_value());
  EXPECT_FALSE(encoder->Pool(Ids{0, -1}).has_value());
  EXPECT_FALSE(encoder->Pool(Ids(13, 3)).has_value()) << "longer than its positions";
}

}  // namespace
}  // namespace pixii::model
