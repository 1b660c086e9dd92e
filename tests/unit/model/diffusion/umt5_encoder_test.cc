#include "model/diffusion/umt5_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using ::testing::HasSubstr;
using testing::TinyWan;

TEST(RelativeBucket, GrowsByTheLogarithmInEachDirection) {
  // As T5 counts for 32 buckets up to 128: exact below 8, then four to the double.
  EXPECT_EQ(RelativeBucket(0, 32, 128), 0);
  EXPECT_EQ(RelativeBucket(-7, 32, 128), 7);
  EXPECT_EQ(RelativeBucket(7, 32, 128), 23);
  EXPECT_EQ(RelativeBucket(-8, 32, 128), 8);
  EXPECT_EQ(RelativeBucket(-15, 32, 128), 9);
  EXPECT_EQ(RelativeBucket(-16, 32, 128), 10);
  EXPECT_EQ(RelativeBucket(-32, 32, 128), 12);
  EXPECT_EQ(RelativeBucket(64, 32, 128), 30);
  EXPECT_EQ(RelativeBucket(-127, 32, 128), 15);
  EXPECT_EQ(RelativeBucket(5000, 32, 128), 31);
}

Result<std::unique_ptr<Umt5Encoder>> LoadText(const TinyWan& folder,
                                              kernels::Operators& operators) {
  auto open = CheckpointFolder::Open(folder.path() + "/text_encoder");
  return Umt5Encoder::Load(*open, operators, kernels::ComputeType::kF32);
}

TEST(Umt5Encoder, LooksBothWaysAndAtDistances) {
  const TinyWan folder;
  const auto operators = CpuOperators();
  auto encoder = std::move(*LoadText(folder, *operators));
  const std::vector<float> rows = *encoder->Encode(std::vector<std::int32_t>{3, 5, 6, 7, 1});
  ASSERT_EQ(rows.size(), 5U * 16U);
  // The first row sees the last token; equal tokens at other distances give other rows.
  const std::vector<float> other = *encoder->Encode(std::vector<std::int32_t>{3, 5, 6, 8, 1});
  EXPECT_NE(rows[0], other[0]);
  const std::vector<float> turned = *encoder->Encode(std::vector<std::int32_t>{3, 6, 5, 7, 1});
  EXPECT_NE(rows[0], turned[0]);
}

TEST(Umt5Encoder, HasABiasOfItsOwnInEveryLayer) {
  const auto operators = CpuOperators();
  std::vector<std::vector<float>> results;
  for (const char* layer : {"none", "encoder.block.0.", "encoder.block.1."}) {
    const TinyWan folder;
    folder.ChangeWeights("text_encoder", [&](std::vector<testing::WrittenTensor>& tensors) {
      for (testing::WrittenTensor& tensor : tensors) {
        if (tensor.name.starts_with(layer) && tensor.name.find("relative") != std::string::npos) {
          tensor.bytes.assign(tensor.bytes.size(), '\0');
        }
      }
    });
    auto encoder = std::move(*LoadText(folder, *operators));
    results.push_back(*encoder->Encode(std::vector<std::int32_t>{3, 5, 1}));
  }
  EXPECT_NE(results[0], results[1]);
  EXPECT_NE(results[0], results[2]);
  EXPECT_NE(results[1], results[2]);
}

TEST(Umt5Encoder, RefusesTextsItCannotRead) {
  const TinyWan folder;
  const auto operators = CpuOperators();
  auto encoder = std::move(*LoadText(folder, *operators));
  for (const std::vector<std::int32_t>& ids :
       {std::vector<std::int32_t>{},
        {9},
        {-1},
        std::vector<std::int32_t>(kPromptTokensMax + 1, 3)}) {
    const auto rows = encoder->Encode(ids);
    ASSERT_FALSE(rows.has_value());
    EXPECT_EQ(rows.error().code(), Code::kInvalidArgument);
    EXPECT_EQ(rows.error().param(), "prompt");
  }
}

TEST(Umt5Encoder, RefusesOtherFamilies) {
  const auto operators = CpuOperators();
  const TinyWan plain;
  plain.Replace("text_encoder/config.json", "gated-gelu", "relu");
  auto encoder = LoadText(plain, *operators);
  ASSERT_FALSE(encoder.has_value());
  EXPECT_EQ(encoder.error().code(), Code::kUnsupported);
  EXPECT_THAT(encoder.error().detail(), HasSubstr("feed_forward_proj"));
}

}  // namespace
}  // namespace pixii::model
