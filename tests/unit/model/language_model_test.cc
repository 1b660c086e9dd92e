#include "model/language_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/paged_runner.h"
#include "model/shapes.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LanguageModel, SaysWhatItIs) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model = LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/qwen3-qknorm",
                                         *operators, {.step_tokens_max = 16});
  ASSERT_TRUE(model.has_value()) << model.error().ToString();
  const ModelSpec& spec = (*model)->spec();
  EXPECT_EQ(spec.architecture, "Qwen3ForCausalLM");
  EXPECT_EQ(spec.layer_count, 3);
  EXPECT_EQ(spec.hidden_size, 64);
  EXPECT_EQ(spec.vocab_size, 512);
  EXPECT_EQ(spec.kv_head_count, 2);
  EXPECT_EQ(spec.head_dim, 24);
  EXPECT_EQ(spec.context_tokens_max, 512);
  EXPECT_THAT(spec.eos_token_ids, ElementsAre(2));
  EXPECT_EQ(spec.bos_token_id, 1);
  EXPECT_EQ(spec.fingerprint.size(), 32U);
  // 2 tables of 512 x 64, and per layer q, k, v, o, three of 160 x 64, two norms of 64 and two of
  // 24; one last norm.
  const std::uint64_t layer = (192 + 48 + 48 + 192) * 64 + 3 * 160 * 64 + 2 * 64 + 2 * 24;
  EXPECT_EQ(spec.parameter_count, 2 * 512 * 64 + 3 * layer + 64);
  const kernels::KvLayout layout = (*model)->MakeKvLayout(32, kernels::DType::kBf16);
  EXPECT_EQ(layout.block_size_bytes(), 3U * 2 * 2 * 32 * 24 * 2);
}

TEST(LanguageModel, LoadNamesTheFolderThatIsNotThere) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model = LanguageModel::Load("/no/such/folder", *operators, {});
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().code(), Code::kNotFound);
  EXPECT_THAT(model.error().detail(), HasSubstr("/no/such/folder"));
}

TEST(LanguageModel, ContextCanBeCutDown) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model =
      LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/llama-gqa", *operators,
                          {.context_tokens_max = 100, .step_tokens_max = 16});
  ASSERT_TRUE(model.has_value()) << model.error().ToString();
  EXPECT_EQ((*model)->spec().context_tokens_max, 100);
}

TEST(LanguageModel, RandomOnesRunAndRepeat) {
  const auto operators = kernels::MakeReferenceOperators();
  std::vector<std::vector<float>> logits;
  for (const std::uint64_t seed : {1U, 1U, 2U}) {
    auto model = LanguageModel::Random("tiny", *operators, {.step_tokens_max = 16}, seed);
    ASSERT_TRUE(model.has_value()) << model.error().ToString();
    auto runner = PagedRunner::Create(**model, *operators, {});
    ASSERT_TRUE(runner.has_value());
    RunnerSequence sequence{.tokens = {1, 2, 3}};
    const RunnerChunk chunk{&sequence, 3};
    auto step = runner->Step({&chunk, 1});
    ASSERT_TRUE(step.has_value()) << step.error().ToString();
    logits.push_back(*std::move(step));
  }
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_NE(logits[0], logits[2]);
}

TEST(LanguageModel, RandomNamesTheShapesThereAre) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model = LanguageModel::Random("gpt-5", *operators, {});
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().code(), Code::kNotFound);
  EXPECT_THAT(model.error().detail(), HasSubstr("qwen2.5-0.5b"));
}

}  // namespace
}  // namespace pixii::model
