#include "engine/model_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rt/memory_file.h"
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

TEST_F(ModelExecutorTest, BlocksThatAreSharedLieInAFileAndGoWithTheCache) {
  auto plain = ModelExecutor::Create(*model_, *operators_, {.block_tokens = 16, .block_count = 8});
  ASSERT_TRUE(plain);
  EXPECT_EQ((*plain)->block_file(), nullptr);
  auto made = ModelExecutor::Create(*model_, *operators_,
                                    {.block_tokens = 16, .block_count = 8, .shared = true});
  ASSERT_TRUE(made) << made.error().ToString();
  ModelExecutor& executor = **made;
  const std::shared_ptr<const rt::MemoryFile> file = executor.block_file();
  ASSERT_NE(file, nullptr);
  for (std::uint32_t block = 0; block < 8; ++block) {
    const std::span<std::byte> bytes = executor.block_bytes(block);
    EXPECT_EQ(bytes.data(), file->bytes().data() + block * bytes.size());
    std::ranges::fill(bytes, std::byte{7});
  }
  const std::byte* const there = executor.block_bytes(7).data();
  ASSERT_TRUE(executor.Release({.kv_cache = true}));
  EXPECT_TRUE(executor.block_bytes(7).empty());
  EXPECT_EQ(*there, std::byte{0}) << "whoever has it mapped sees that it is gone";
  ASSERT_TRUE(executor.Restore({.kv_cache = true}));
  EXPECT_EQ(executor.block_bytes(7).data(), there) << "peers' mappings stay good";
  EXPECT_EQ(executor.block_file(), file);
}

TEST_F(ModelExecutorTest, AModelThatReadsTextsHasAPooler) {
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
  ASSERT_TRUE(executor) << executor.error().ToString();
  EXPECT_EQ((*executor)->limits().task, wire::ModelTask::kEmbed);
  EXPECT_EQ((*executor)->limits().row_size,
            static_cast<std::uint32_t>((*bare)->spec().hidden_size));
  EXPECT_FALSE((*executor)->limits().whole_texts);
  ASSERT_NE((*executor)->pooler(), nullptr);
  EXPECT_EQ((*executor)->pooler()->rows(), PoolRows::kAll);  // the mean, where no file says more
  auto generating = ModelExecutor::Create(*model_, *operators_, {.block_count = 8});
  ASSERT_TRUE(generating);
  EXPECT_EQ((*generating)->pooler(), nullptr);
  std::filesystem::remove_all(folder);
}

// Loads its folder again; counts.
class Reloader final : public ModelReload {
 public:
  Reloader(std::unique_ptr<model::LanguageModel>& model, kernels::Operators& operators)
      : model_(model), operators_(operators) {}

  void Unload() override {
    ++unloads;
    model_.reset();
  }

  Result<model::LanguageModel*> Load() override {
    if (fails) {
      return Fail(Code::kUnavailable, "the disk is away");
    }
    PX_TRY(model_, model::LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/llama-gqa",
                                              operators_, {}));
    return model_.get();
  }

  int unloads = 0;
  bool fails = false;

 private:
  std::unique_ptr<model::LanguageModel>& model_;
  kernels::Operators& operators_;
};

// The logits of a prompt's last row.
std::vector<float> LogitsOf(ModelExecutor& executor) {
  kernels::StepBatch batch;
  batch.token_ids = {1, 2, 3};
  batch.positions = {0, 1, 2};
  batch.slots = {16, 17, 18};
  batch.block_table = {1};
  batch.sequences = {{.token_begin = 0,
                      .token_count = 3,
                      .context_tokens = 3,
                      .block_begin = 0,
                      .block_count = 1}};
  batch.logit_rows = {2};
  std::vector<float> logits(executor.limits().vocab_size);
  Result<void> executed = executor.Execute(batch, logits);
  EXPECT_TRUE(executed) << executed.error().ToString();
  return logits;
}

TEST_F(ModelExecutorTest, ReleasedAndRestoredItGivesTheSameBits) {
  Reloader reloader(model_, *operators_);
  auto made = ModelExecutor::Create(
      *model_, *operators_,
      {.block_tokens = 16, .block_count = 8, .host_memory_bytes = 1 << 20, .reload = &reloader});
  ASSERT_TRUE(made);
  ModelExecutor& executor = **made;
  const std::vector<float> before = LogitsOf(executor);
  for (const MemoryParts parts : {MemoryParts{.kv_cache = true, .weights = true},
                                  MemoryParts{.kv_cache = true}, MemoryParts{.weights = true}}) {
    int unloads = reloader.unloads;
    ASSERT_TRUE(executor.Release(parts));
    EXPECT_EQ(reloader.unloads - unloads, parts.weights ? 1 : 0);
    EXPECT_EQ(model_ == nullptr, parts.weights);
    ASSERT_TRUE(executor.Restore(parts));
    EXPECT_EQ(LogitsOf(executor), before);
  }
  // What cannot be loaded can be asked for again.
  const MemoryParts both{.kv_cache = true, .weights = true};
  ASSERT_TRUE(executor.Release(both));
  reloader.fails = true;
  EXPECT_EQ(executor.Restore(both).error().code(), Code::kUnavailable);
  reloader.fails = false;
  ASSERT_TRUE(executor.Restore(both));
  EXPECT_EQ(LogitsOf(executor), before);
}

TEST_F(ModelExecutorTest, WithoutAWayToLoadAgainWeightsStayWhereTheyAre) {
  auto executor = ModelExecutor::Create(*model_, *operators_, {.block_count = 8});
  ASSERT_TRUE(executor);
  const std::vector<float> before = LogitsOf(**executor);
  EXPECT_EQ((*executor)->Release({.kv_cache = true, .weights = true}).error().code(),
            Code::kUnsupported);
  EXPECT_EQ(LogitsOf(**executor), before);
}

TEST_F(ModelExecutorTest, CountsBlocksByMemoryAndByUse) {
  std::uint64_t block_bytes = model_->MakeKvLayout(16, kernels::KvDType::kBf16).block_size_bytes();
  EXPECT_EQ(BlocksThatFit(*model_, 16, kernels::KvDType::kBf16, block_bytes * 10 + 1, 64), 10U);
  EXPECT_EQ(BlocksThatFit(*model_, 16, kernels::KvDType::kBf16, block_bytes * 1'000'000, 2), 64U);
}

}  // namespace
}  // namespace pixii::engine
