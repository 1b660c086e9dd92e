#include "model/diffusion/weight_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/diffusion/wan_vae.h"
#include "unit/model/diffusion/tiny_wan.h"

namespace pixii::model {
namespace {

using testing::CpuOperators;
using ::testing::HasSubstr;
using testing::TinyWan;
using testing::WrittenTensor;

Error LoadBroken(const std::function<void(std::vector<WrittenTensor>&)>& change) {
  const TinyWan folder;
  folder.ChangeWeights("vae", change);
  const auto open = CheckpointFolder::Open(folder.path() + "/vae");
  const auto operators = CpuOperators();
  const auto loaded = WanVae::Load(*open, *operators, kernels::ComputeType::kF32);
  EXPECT_FALSE(loaded.has_value());
  return loaded ? Error(Code::kInternal, "") : loaded.error();
}

TEST(WeightReader, NamesATensorThatIsMissing) {
  const Error error = LoadBroken([](std::vector<WrittenTensor>& tensors) { tensors.pop_back(); });
  EXPECT_EQ(error.code(), Code::kDataCorrupt);
  EXPECT_THAT(error.detail(), HasSubstr("decoder.conv_out.bias of shape [3] is missing"));
}

TEST(WeightReader, NamesATensorOfAnotherShape) {
  const Error error = LoadBroken([](std::vector<WrittenTensor>& tensors) {
    std::swap(tensors[0].shape[0], tensors[0].shape[1]);  // encoder.conv_in
  });
  EXPECT_EQ(error.code(), Code::kDataCorrupt);
  EXPECT_THAT(error.detail(), HasSubstr("has shape [3, 4, 3, 3, 3], config.json asks for [4, 3"));
}

TEST(WeightReader, RefusesATensorThatNothingWouldUse) {
  const Error error = LoadBroken([](std::vector<WrittenTensor>& tensors) {
    tensors.push_back(
        {.name = "decoder.more", .shape = {1}, .bytes = std::string(sizeof(float), '\0')});
  });
  EXPECT_EQ(error.code(), Code::kUnsupported);
  EXPECT_THAT(error.detail(), HasSubstr("decoder.more"));
}

TEST(WeightReader, RefusesValuesThatAreNotFinite) {
  const Error error = LoadBroken([](std::vector<WrittenTensor>& tensors) {
    tensors[0].bytes.replace(0, 4, "\xFF\xFF\xFF\x7F");
  });
  EXPECT_EQ(error.code(), Code::kDataCorrupt);
  EXPECT_THAT(error.detail(), HasSubstr("encoder.conv_in.weight"));
}

}  // namespace
}  // namespace pixii::model
