// A GGUF file gives what the folder it was made from gives.
#include "model/gguf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/config.h"
#include "model/language_model.h"
#include "model/paged_runner.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"
#include "unit/model/gguf_writer.h"
#include "wire/json.h"

namespace pixii::model {
namespace {

using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

Result<std::vector<float>> Logits(const std::string& path, kernels::ComputeType compute) {
  const auto operators = kernels::MakeReferenceOperators();
  PX_TRY(const auto model,
         LanguageModel::Load(path, *operators, {.compute = compute, .step_tokens_max = 16}));
  PX_TRY(auto runner, PagedRunner::Create(*model, *operators, {}));
  const std::int32_t last = model->spec().vocab_size - 1;
  RunnerSequence sequence{.tokens = {7, last / 2, 12, 5, last}};
  const RunnerChunk chunk{&sequence, 5};
  return runner.Step({&chunk, 1});
}

class GgufOfGolden : public ::testing::TestWithParam<const char*> {
 public:
  static std::string Folder() { return pixii::testing::OwnGoldenDir() + "/models/" + GetParam(); }
};

/// qwen2-moe without its dense layers, which these files cannot say.
void WriteSparseLayersOnly(const TemporaryFolder& out) {
  const std::string source = pixii::testing::OwnGoldenDir() + "/models/qwen2-moe/";
  auto config = wire::ParseJson(pixii::testing::ReadFileOrFail(source + "config.json"));
  config->Set("num_hidden_layers", 2);
  config->Set("decoder_sparse_step", 1);
  config->Set("layer_types", wire::Json::Array{"full_attention", "full_attention"});
  out.Write("config.json", config->Dump());
  std::vector<testing::WrittenTensor> kept;
  for (testing::WrittenTensor& tensor : testing::ReadSafetensors(source + "model.safetensors")) {
    const std::size_t layer = tensor.name.find("layers.");
    if (layer != std::string::npos) {
      char& digit = tensor.name[layer + 7];
      if (digit % 2 == 0) {
        continue;
      }
      digit = digit == '1' ? '0' : '1';
    }
    kept.push_back(std::move(tensor));
  }
  out.Write("model.safetensors", testing::Safetensors(kept));
}

TEST(GgufModel, SharedExpertsAndTheirGatesAreThoseOfTheFolder) {
  const TemporaryFolder folder;
  WriteSparseLayersOnly(folder);
  const auto expected = Logits(folder.path(), kernels::ComputeType::kF32);
  ASSERT_TRUE(expected.has_value()) << expected.error().ToString();
  const TemporaryFolder temporary;
  temporary.Write("model.gguf", testing::GgufOfFolder(folder.path(), testing::EncodeF32).Bytes());
  const auto actual = Logits(temporary.path() + "/model.gguf", kernels::ComputeType::kF32);
  ASSERT_TRUE(actual.has_value()) << actual.error().ToString();
  EXPECT_EQ(*actual, *expected);
}

TEST_P(GgufOfGolden, GivesTheSameBitsAsTheFolder) {
  const TemporaryFolder temporary;
  const auto expected = Logits(Folder(), kernels::ComputeType::kF32);
  ASSERT_TRUE(expected.has_value()) << expected.error().ToString();
  temporary.Write("model.gguf", testing::GgufOfFolder(Folder(), testing::EncodeF32).Bytes());
  const auto actual = Logits(temporary.path() + "/model.gguf", kernels::ComputeType::kF32);
  ASSERT_TRUE(actual.has_value()) << actual.error().ToString();
  EXPECT_EQ(*actual, *expected);
}

TEST_P(GgufOfGolden, GivesTheSameBitsInBf16) {
  const TemporaryFolder temporary;
  temporary.Write("model.gguf", testing::GgufOfFolder(Folder(), testing::EncodeBf16).Bytes(2));
  const auto expected = Logits(Folder(), kernels::ComputeType::kBf16);
  ASSERT_TRUE(expected.has_value()) << expected.error().ToString();
  const auto actual = Logits(temporary.path() + "/model.gguf", kernels::ComputeType::kBf16);
  ASSERT_TRUE(actual.has_value()) << actual.error().ToString();
  // Embeddings are not rounded by bf16 compute, but by this file: close, not equal.
  double difference = 0.0;
  double power = 0.0;
  for (std::size_t i = 0; i < expected->size(); ++i) {
    difference += std::pow(double{(*actual)[i]} - double{(*expected)[i]}, 2);
    power += std::pow(double{(*expected)[i]}, 2);
  }
  EXPECT_LT(difference, 1e-3 * power);
}

TEST_P(GgufOfGolden, BlocksGiveTheBitsOfTheValuesTheyStandFor) {
  const TemporaryFolder temporary;
  temporary.Write("model.gguf", testing::GgufOfFolder(Folder(), testing::EncodeQ8).Bytes());
  temporary.Write("values.gguf",
                  testing::GgufOfFolder(Folder(), [](const auto& values) {
                    return testing::EncodeF32(testing::DecodeQ8(testing::EncodeQ8(values).bytes));
                  }).Bytes());
  const auto expected = Logits(temporary.path() + "/values.gguf", kernels::ComputeType::kF32);
  ASSERT_TRUE(expected.has_value()) << expected.error().ToString();
  const auto actual = Logits(temporary.path() + "/model.gguf", kernels::ComputeType::kF32);
  ASSERT_TRUE(actual.has_value()) << actual.error().ToString();
  EXPECT_EQ(*actual, *expected);
}

INSTANTIATE_TEST_SUITE_P(Models, GgufOfGolden,
                         ::testing::Values("llama-gqa", "mistral-window", "qwen2-bias",
                                           "qwen3-qknorm", "mixtral", "qwen3-moe", "phi3",
                                           "gemma2"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

GgufWriter Llama() {
  GgufWriter out;
  out.String("general.architecture", "llama")
      .U32("llama.block_count", 1)
      .U32("llama.embedding_length", 8)
      .U32("llama.feed_forward_length", 8)
      .U32("llama.context_length", 64)
      .U32("llama.attention.head_count", 2)
      .Tensor("token_embd.weight", 0, {4, 8}, std::string(128, '\0'));
  return out;
}

Result<ModelConfig> Config(const GgufWriter& writer) {
  const std::string bytes = writer.Bytes();
  PX_TRY(const GgufFile file, GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf"));
  PX_TRY(std::string text, GgufConfig(file));
  return ParseConfig(std::move(text), "");
}

std::string Refusal(const GgufWriter& writer) {
  const auto config = Config(writer);
  return config ? "accepted" : config.error().detail();
}

TEST(GgufModel, KeysBecomeTheDecodersSizes) {
  const auto config = Config(Llama()
                                 .F32("llama.rope.freq_base", 5e5F)
                                 .U32("tokenizer.ggml.eos_token_id", 2)
                                 .U32("tokenizer.ggml.eot_token_id", 3));
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_EQ(config->decoder.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config->decoder.vocab_size, 4);
  EXPECT_EQ(config->decoder.head_dim, 4);
  EXPECT_TRUE(config->decoder.tied_head);
  EXPECT_EQ(config->decoder.rope.theta, 5e5);
  EXPECT_EQ(config->eos_token_ids, (std::vector<std::int32_t>{2, 3}));
}

TEST(GgufModel, FrequencyFactorsOfLlama3AreRecognisedAndOthersRefused) {
  // theta 500000 over 8 dimensions of a head of 8: by the formula, in double.
  GgufWriter writer = Llama();
  writer.U32("llama.attention.key_length", 8).F32("llama.rope.freq_base", 5e5F);
  const auto factor = [](int i) {
    const double frequency = std::pow(5e5, -i / 4.0);
    const double turns = 8192 * frequency / (2 * M_PI);
    const double smooth = (turns - 1) / 3;
    return static_cast<float>(turns < 1   ? 32.0
                              : turns > 4 ? 1.0
                                          : 1 / ((1 - smooth) / 32 + smooth));
  };
  std::vector<float> factors = {factor(0), factor(1), factor(2), factor(3)};
  ASSERT_EQ(factors[3], 32.0F);  // at least one frequency is scaled whole
  GgufWriter right = writer;
  const auto config =
      Config(right.Tensor("rope_freqs.weight", 0, {4}, testing::EncodeF32(factors).bytes));
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  EXPECT_EQ(config->decoder.rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(config->decoder.rope.factor, 32.0);
  factors[0] = 2.0F;
  EXPECT_THAT(
      Refusal(writer.Tensor("rope_freqs.weight", 0, {4}, testing::EncodeF32(factors).bytes)),
      HasSubstr("rope_freqs.weight has factor 2 of frequency 0"));
}

TEST(GgufModel, RefusesWhatItDoesNotUnderstandByKey) {
  EXPECT_THAT(Refusal(GgufWriter().String("general.architecture", "mamba")),
              HasSubstr("general.architecture = \"mamba\" is not built"));
  EXPECT_THAT(Refusal(GgufWriter()), HasSubstr("general.architecture is absent"));
  EXPECT_THAT(Refusal(Llama().F32("llama.logit_scale", 2.0F)),
              HasSubstr("llama.logit_scale is a key this build does not know"));
  EXPECT_THAT(Refusal(Llama().U32("split.count", 3)), HasSubstr("split.count = 3"));
  EXPECT_THAT(
      Refusal(
          Llama().String("llama.rope.scaling.type", "su").F32("llama.rope.scaling.factor", 4.0F)),
      HasSubstr("llama.rope.scaling.type = \"su\""));
  EXPECT_THAT(Refusal(Llama().String("llama.rope.scaling.type", "zzz")),
              HasSubstr("llama.rope.scaling.type = \"zzz\""));
}

TEST(GgufModel, RefusesSizesThatDisagreeNamingKeyValueAndLimit) {
  for (const std::uint32_t rotary : {0U, 3U, 6U}) {
    EXPECT_THAT(Refusal(Llama().U32("llama.rope.dimension_count", rotary)),
                HasSubstr("llama.rope.dimension_count = " + std::to_string(rotary) +
                          " is not an even number from 2 to the head's size, 4"));
  }
  EXPECT_EQ(Refusal(Llama().U32("llama.rope.dimension_count", 4)), "accepted");
  const std::vector<std::string> three = {"a", "b", "c"};
  const std::vector<std::string> four = {"a", "b", "c", "d"};
  EXPECT_THAT(Refusal(Llama().U32("llama.vocab_size", 5)),
              HasSubstr("llama.vocab_size = 5 differs from the 4 rows of token_embd.weight"));
  EXPECT_THAT(Refusal(Llama().U32("llama.vocab_size", 4).Strings("tokenizer.ggml.tokens", three)),
              HasSubstr("llama.vocab_size = 4 differs from the 3 of tokenizer.ggml.tokens"));
  EXPECT_EQ(Refusal(Llama().U32("llama.vocab_size", 4).Strings("tokenizer.ggml.tokens", four)),
            "accepted");
}

TEST(GgufModel, RefusesATensorWithoutAPlace) {
  const std::string bytes = Llama().Tensor("blk.0.odd.weight", 0, {1}, "1234").Bytes();
  const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf");
  const auto names = GgufTensorNames(*file);
  ASSERT_FALSE(names.has_value());
  EXPECT_THAT(names.error().detail(), HasSubstr("tensor \"blk.0.odd.weight\" has no place"));
}

TEST(GgufModel, StacksOfExpertsAreTheExpertsOfTheFolder) {
  GgufWriter writer = Llama();
  writer.U32("llama.expert_count", 2)
      .U32("llama.expert_used_count", 1)
      .Tensor("blk.0.ffn_up_exps.weight", 0, {2, 8, 8}, std::string(512, 'a'));
  const std::string bytes = writer.Bytes();
  const auto file = GgufFile::Parse(std::as_bytes(std::span(bytes)), "m.gguf");
  const auto names = GgufTensorNames(*file);
  ASSERT_TRUE(names.has_value()) << names.error().ToString();
  ASSERT_EQ(names->size(), 3U);
  EXPECT_EQ((*names)[2].name, "model.layers.0.block_sparse_moe.experts.1.w3.weight");
  EXPECT_EQ((*names)[2].index, 1);
}

}  // namespace
}  // namespace pixii::model
