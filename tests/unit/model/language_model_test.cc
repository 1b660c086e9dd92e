#include "model/language_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "model/paged_runner.h"
#include "model/shapes.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"
#include "wire/json.h"

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
  const kernels::KvLayout layout = (*model)->MakeKvLayout(32, kernels::KvDType::kBf16);
  EXPECT_EQ(layout.block_size_bytes(), 3U * 2 * 2 * 32 * 24 * 2);
}

/// Logits of some tokens on the model in `folder`, computed in fp32.
std::vector<float> Logits(const std::string& folder) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model = LanguageModel::Load(
      folder, *operators, {.compute = kernels::ComputeType::kF32, .step_tokens_max = 16});
  if (!model) {
    ADD_FAILURE() << model.error().ToString();
    return {};
  }
  auto runner = PagedRunner::Create(**model, *operators, {});
  RunnerSequence sequence{.tokens = {7, 300, 12, 5, 511}};
  const RunnerChunk chunk{&sequence, 5};
  const auto logits = runner->Step({&chunk, 1});
  EXPECT_TRUE(logits.has_value());
  return logits ? *logits : std::vector<float>();
}

/// `tensor`, fp32, in another dtype. Pre: its values are exact there.
testing::WrittenTensor Narrowed(testing::WrittenTensor tensor, const std::string& dtype) {
  std::string out;
  for (std::size_t at = 0; at < tensor.bytes.size(); at += sizeof(float)) {
    float value = 0.0F;
    std::memcpy(&value, tensor.bytes.data() + at, sizeof(value));
    const std::uint16_t bits =
        dtype == "BF16" ? kernels::Bf16FromFloat(value) : kernels::F16FromFloat(value);
    const float back = dtype == "BF16" ? kernels::FloatFromBf16(bits) : kernels::FloatFromF16(bits);
    EXPECT_EQ(back, value) << tensor.name;
    out.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  }
  tensor.dtype = dtype;
  tensor.bytes = std::move(out);
  return tensor;
}

TEST(LanguageModel, TheSameValuesInAnotherDtypeAndInShardsGiveTheSameBits) {
  const std::string source = pixii::testing::OwnGoldenDir() + "/models/qwen2-bias";
  const auto tensors = testing::ReadSafetensors(source + "/model.safetensors");
  std::vector<testing::WrittenTensor> shards[2];
  wire::Json map(wire::Json::Object{});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    shards[i % 2].push_back(Narrowed(tensors[i], "BF16"));
    map.Set(tensors[i].name, i % 2 == 0 ? "one.safetensors" : "two.safetensors");
  }
  wire::Json index(wire::Json::Object{});
  index.Set("weight_map", std::move(map));
  const testing::TemporaryFolder temporary;
  temporary.Write("config.json", pixii::testing::ReadFileOrFail(source + "/config.json"));
  temporary.Write("one.safetensors", testing::Safetensors(shards[0]));
  temporary.Write("two.safetensors", testing::Safetensors(shards[1], 1));  // misaligned
  temporary.Write("model.safetensors.index.json", index.Dump());
  const std::vector<float> wanted = Logits(source);
  const std::vector<float> ours = Logits(temporary.path());
  ASSERT_EQ(ours.size(), wanted.size());
  EXPECT_EQ(std::memcmp(ours.data(), wanted.data(), wanted.size() * sizeof(float)), 0);
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
    auto model = LanguageModel::Random("tiny", *operators, {.step_tokens_max = 16}, {.seed = seed});
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
