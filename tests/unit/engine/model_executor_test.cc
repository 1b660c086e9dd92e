#include "engine/model_executor.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "support/golden.h"

namespace pixii::engine {
namespace {

class ModelExecutorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    operators_ = kernels::MakeReferenceOperators();
    auto model = model::LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/llama-gqa",
                                            *operators_, {});
    ASSERT_TRUE(model) << model.error().ToString();
    model_ = std::move(*model);
  }

  std::unique_ptr<kernels::Operators> operators_;
  std::unique_ptr<model::LanguageModel> model_;
};

TEST_F(ModelExecutorTest, TakesItsLimitsFromTheModel) {
  auto executor =
      ModelExecutor::Create(*model_, *operators_, {.block_tokens = 16, .block_count = 8});
  ASSERT_TRUE(executor);
  EXPECT_EQ((*executor)->limits().vocab_size, 512U);
  EXPECT_EQ((*executor)->limits().context_tokens_max, 512U);
  EXPECT_EQ((*executor)->limits().block_count, 8U);
}

TEST_F(ModelExecutorTest, RefusesSizesByName) {
  auto executor =
      ModelExecutor::Create(*model_, *operators_, {.block_tokens = 16, .block_count = 0});
  ASSERT_FALSE(executor);
  EXPECT_EQ(executor.error().param(), "block_count");
  executor = ModelExecutor::Create(*model_, *operators_, {.block_tokens = 513, .block_count = 1});
  ASSERT_FALSE(executor);
  EXPECT_EQ(executor.error().param(), "block_tokens");
}

TEST_F(ModelExecutorTest, RefusesAModelThatCannotGenerate) {
  // The generator's weights without its head: an embedding model.
  const std::string from = pixii::testing::OwnGoldenDir() + "/models/llama-gqa";
  const std::string folder = ::testing::TempDir() + "/bare_llama";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(from + "/model.safetensors", folder + "/model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  std::string config = pixii::testing::ReadFileOrFail(from + "/config.json");
  const std::string generator = "LlamaForCausalLM";
  config.replace(config.find(generator), generator.size(), "LlamaModel");
  std::ofstream(folder + "/config.json") << config;
  auto bare = model::LanguageModel::Load(folder, *operators_, {});
  ASSERT_TRUE(bare) << bare.error().ToString();
  auto executor = ModelExecutor::Create(**bare, *operators_, {.block_count = 8});
  ASSERT_FALSE(executor);
  EXPECT_EQ(executor.error().code(), Code::kUnsupported);
  EXPECT_NE(executor.error().detail().find("cannot generate"), std::string::npos);
  std::filesystem::remove_all(folder);
}

TEST_F(ModelExecutorTest, CountsBlocksByMemoryAndByUse) {
  std::uint64_t block_bytes = model_->MakeKvLayout(16, kernels::KvDType::kBf16).block_size_bytes();
  EXPECT_EQ(BlocksThatFit(*model_, 16, kernels::KvDType::kBf16, block_bytes * 10 + 1, 64), 10U);
  EXPECT_EQ(BlocksThatFit(*model_, 16, kernels::KvDType::kBf16, block_bytes * 1'000'000, 2), 64U);
}

}  // namespace
}  // namespace pixii::engine
