#include "model/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/paged_runner.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Tokens = std::vector<std::int32_t>;

std::string OwnModel(const std::string& name) {
  return pixii::testing::OwnGoldenDir() + "/models/" + name;
}

std::unique_ptr<LanguageModel> LoadOrFail(const std::string& folder, kernels::Operators& operators,
                                          const LoadOptions& options = {}) {
  auto model = LanguageModel::Load(folder, operators, options);
  EXPECT_TRUE(model.has_value()) << model.error().ToString();
  return model ? *std::move(model) : nullptr;
}

PagedRunner RunnerOrFail(LanguageModel& model, kernels::Operators& operators,
                         const PagedRunner::Options& options = {}) {
  auto runner = PagedRunner::Create(model, operators, options);
  EXPECT_TRUE(runner.has_value()) << runner.error().ToString();
  return *std::move(runner);
}

Tokens RandomTokens(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Tokens out(count);
  for (std::int32_t& token : out) {
    token = static_cast<std::int32_t>(random() % 512);
  }
  return out;
}

/// Logits of all positions, in one step.
std::vector<float> RunWhole(PagedRunner& runner, const Tokens& tokens) {
  RunnerSequence sequence{.tokens = tokens};
  const RunnerChunk chunk{&sequence, static_cast<std::int32_t>(tokens.size())};
  auto logits = runner.Step({&chunk, 1});
  EXPECT_TRUE(logits.has_value()) << logits.error().ToString();
  runner.Release(sequence);
  return logits ? *std::move(logits) : std::vector<float>();
}

struct Numerics {
  std::string backend;
  kernels::ComputeType compute;
  kernels::KvDType kv_dtype;
};

class DecoderBits : public ::testing::TestWithParam<Numerics> {
 protected:
  std::unique_ptr<kernels::Operators> operators_ =
      GetParam().backend == "ref"
          ? kernels::MakeReferenceOperators()
          : *kernels::MakeCpuOperators({.thread_count = 2, .isa = kernels::CpuIsa::kAuto});
};

TEST_P(DecoderBits, DoNotDependOnChunksNeighboursOrBlockSize) {
  const std::uint64_t seed = 11;
  for (const char* name :
       {"qwen3-qknorm", "mistral-window", "qwen3-moe", "gpt-oss", "gemma2", "deepseek-v3-mla"}) {
    const auto model = LoadOrFail(OwnModel(name), *operators_,
                                  {.compute = GetParam().compute, .step_tokens_max = 200});
    ASSERT_NE(model, nullptr);
    PagedRunner whole_runner =
        RunnerOrFail(*model, *operators_, {.block_tokens = 32, .kv_dtype = GetParam().kv_dtype});
    PagedRunner runner = RunnerOrFail(
        *model, *operators_, {.block_tokens = 16, .kv_dtype = GetParam().kv_dtype, .seed = 5});
    const std::vector<Tokens> prompts = {RandomTokens(70, 1), RandomTokens(1, 2),
                                         RandomTokens(37, 3)};
    std::vector<RunnerSequence> sequences;
    std::vector<std::vector<float>> logits(prompts.size());
    for (const Tokens& prompt : prompts) {
      sequences.push_back({.tokens = prompt});
    }
    std::mt19937_64 random(seed);
    while (true) {
      std::vector<RunnerChunk> chunks;
      for (RunnerSequence& sequence : sequences) {
        const auto left = static_cast<std::int32_t>(sequence.tokens.size()) - sequence.done;
        if (left > 0) {
          chunks.push_back(
              {&sequence, 1 + static_cast<std::int32_t>(
                                  random() % static_cast<std::uint64_t>(std::min(left, 40)))});
        }
      }
      if (chunks.empty()) {
        break;
      }
      const auto step = runner.Step(chunks);
      ASSERT_TRUE(step.has_value()) << step.error().ToString();
      auto at = step->begin();
      for (const RunnerChunk& chunk : chunks) {
        auto& out = logits[static_cast<std::size_t>(chunk.sequence - sequences.data())];
        out.insert(out.end(), at, at + chunk.count * 512);
        at += chunk.count * 512;
      }
    }
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const std::vector<float> whole = RunWhole(whole_runner, prompts[i]);
      ASSERT_EQ(logits[i].size(), whole.size());
      EXPECT_EQ(std::memcmp(logits[i].data(), whole.data(), whole.size() * sizeof(float)), 0)
          << name << " prompt " << i << " seed " << seed;
    }
  }
}

TEST_P(DecoderBits, StayCloseToTheReferenceInFp32) {
  const auto exact_operators = kernels::MakeReferenceOperators();
  for (const char* name : {"llama3-rope", "qwen2-bias"}) {
    const auto exact = LoadOrFail(OwnModel(name), *exact_operators,
                                  {.compute = kernels::ComputeType::kF32, .step_tokens_max = 64});
    const auto model = LoadOrFail(OwnModel(name), *operators_,
                                  {.compute = GetParam().compute, .step_tokens_max = 64});
    ASSERT_TRUE(exact != nullptr && model != nullptr);
    PagedRunner exact_runner = RunnerOrFail(*exact, *exact_operators);
    PagedRunner runner = RunnerOrFail(*model, *operators_, {.kv_dtype = GetParam().kv_dtype});
    const Tokens tokens = RandomTokens(50, 9);
    const std::vector<float> wanted = RunWhole(exact_runner, tokens);
    const std::vector<float> ours = RunWhole(runner, tokens);
    ASSERT_EQ(ours.size(), wanted.size());
    double error_max = 0.0;
    double wanted_max = 0.0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      error_max = std::max(error_max, std::abs(double{ours[i]} - double{wanted[i]}));
      wanted_max = std::max(wanted_max, std::abs(double{wanted[i]}));
    }
    const bool rounds = GetParam().compute == kernels::ComputeType::kBf16 ||
                        GetParam().kv_dtype != kernels::KvDType::kF32;
    const bool fp8 = GetParam().kv_dtype == kernels::KvDType::kFp8E4m3;  // three bits of mantissa
    const bool int8 = GetParam().kv_dtype == kernels::KvDType::kInt8;
    EXPECT_LE(error_max / wanted_max, fp8 ? 0.15 : int8 ? 5e-2 : rounds ? 3e-2 : 1e-5) << name;
  }
}

std::vector<Numerics> AllNumerics() {
  std::vector<Numerics> out;
  for (const char* backend : {"ref", "cpu"}) {
    for (const auto compute : {kernels::ComputeType::kF32, kernels::ComputeType::kBf16}) {
      for (const auto kv : {kernels::KvDType::kF32, kernels::KvDType::kBf16,
                            kernels::KvDType::kFp8E4m3, kernels::KvDType::kInt8}) {
        out.push_back({backend, compute, kv});
      }
    }
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(All, DecoderBits, ::testing::ValuesIn(AllNumerics()),
                         [](const auto& parameters) {
                           const Numerics& numerics = parameters.param;
                           return numerics.backend +
                                  (numerics.compute == kernels::ComputeType::kF32 ? "_f32"
                                                                                  : "_bf16") +
                                  "_kv_" + std::string(kernels::KvDTypeName(numerics.kv_dtype));
                         });

class DecoderStep : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ =
        LoadOrFail(OwnModel("llama-gqa"), *operators_,
                   {.context_tokens_max = 64, .step_tokens_max = 32, .step_logit_rows_max = 8});
    ASSERT_NE(model_, nullptr);
    cache_.layout = model_->MakeKvLayout(16, kernels::KvDType::kF32);
    cache_.block_count = 8;
    cache_.buffer = *operators_->Allocate(8 * cache_.layout.block_size_bytes());
  }

  /// Tokens 0 .. count - 1 of one sequence in blocks 3 and 5.
  static kernels::StepBatch Batch(std::int32_t count, std::vector<std::int32_t> logit_rows) {
    kernels::StepBatch batch;
    for (std::int32_t i = 0; i < count; ++i) {
      batch.token_ids.push_back(i);
      batch.positions.push_back(i);
      batch.slots.push_back((i < 16 ? 3 : 5) * 16 + i % 16);
    }
    batch.block_table = count > 16 ? Tokens{3, 5} : Tokens{3};
    batch.sequences = {{0, count, count, 0, static_cast<std::int32_t>(batch.block_table.size())}};
    batch.logit_rows = std::move(logit_rows);
    return batch;
  }

  Result<std::vector<float>> Forward(const kernels::StepBatch& batch) {
    std::vector<float> logits(batch.logit_rows.size() * 512);
    PX_CHECK_OK(model_->Forward(batch, cache_, logits));
    return logits;
  }

  std::unique_ptr<kernels::Operators> operators_ = kernels::MakeReferenceOperators();
  std::unique_ptr<LanguageModel> model_;
  kernels::KvCache cache_;
};

TEST_F(DecoderStep, ChosenLogitRowsHaveTheBitsOfAllRows) {
  std::vector<float> all;
  for (const std::int32_t begin : {0, 8, 16}) {
    Tokens rows;
    for (std::int32_t i = begin; i < begin + 8; ++i) {
      rows.push_back(i);
    }
    const auto part = Forward(Batch(24, rows));
    ASSERT_TRUE(part.has_value()) << part.error().ToString();
    all.insert(all.end(), part->begin(), part->end());
  }
  const auto some = Forward(Batch(24, {2, 17, 23}));
  ASSERT_TRUE(some.has_value());
  std::size_t at = 0;
  for (const int row : {2, 17, 23}) {
    EXPECT_EQ(std::memcmp(some->data() + at, all.data() + row * 512, 512 * sizeof(float)), 0)
        << row;
    at += 512;
  }
}

TEST_F(DecoderStep, AStepWithoutLogitRowsStoresKeysAndValuesAllTheSame) {
  ASSERT_TRUE(Forward(Batch(24, {23})).has_value());
  std::vector<std::byte> wanted(cache_.block(5),
                                cache_.block(5) + cache_.layout.block_size_bytes());
  std::memset(cache_.buffer.data(), 0, cache_.buffer.size_bytes());
  const auto none = Forward(Batch(24, {}));
  ASSERT_TRUE(none.has_value()) << none.error().ToString();
  EXPECT_EQ(std::memcmp(cache_.block(5), wanted.data(), wanted.size()), 0);
}

TEST_F(DecoderStep, ObserverSeesEveryLayerAndChangesNothing) {
  const kernels::StepBatch batch = Batch(8, {7});
  const auto plain = Forward(batch);
  ASSERT_TRUE(plain.has_value());
  Tokens indices;
  const HiddenObserver observer = [&](std::int32_t index, const kernels::Matrix& rows) {
    indices.push_back(index);
    EXPECT_EQ(rows.rows, 8);
    EXPECT_EQ(rows.cols, 64);
  };
  std::vector<float> logits(512);
  ASSERT_TRUE(model_->Forward(batch, cache_, logits, &observer).has_value());
  EXPECT_THAT(indices, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(std::memcmp(logits.data(), plain->data(), 512 * sizeof(float)), 0);
}

TEST_F(DecoderStep, GivenEmbeddingsStandForTokens) {
  std::vector<float> embedded;
  const HiddenObserver keep = [&](std::int32_t index, const kernels::Matrix& rows) {
    if (index == 0) {
      embedded.assign(rows.f32(), rows.f32() + rows.rows * rows.cols);
    }
  };
  const kernels::StepBatch wanted = Batch(24, {5, 6, 23});
  std::vector<float> logits(3 * 512);
  ASSERT_TRUE(model_->Forward(wanted, cache_, logits, &keep).has_value());
  kernels::StepBatch given = wanted;
  given.embedded_rows = {3, 4, 9, 20};
  for (const std::int32_t row : given.embedded_rows) {
    given.token_ids[static_cast<std::size_t>(row)] = 0;
    given.embeddings.insert(given.embeddings.end(), embedded.begin() + row * 64,
                            embedded.begin() + (row + 1) * 64);
  }
  const auto ours = Forward(given);
  ASSERT_TRUE(ours.has_value()) << ours.error().ToString();
  EXPECT_EQ(std::memcmp(ours->data(), logits.data(), logits.size() * sizeof(float)), 0);
  given.embeddings[70] += 1.0F;
  EXPECT_NE(std::memcmp(Forward(given)->data(), logits.data(), logits.size() * sizeof(float)), 0);
}

TEST_F(DecoderStep, LayerEmbeddingsAreAddedAfterTheirLayers) {
  kernels::StepBatch batch = Batch(8, {7});
  batch.embedded_rows = {2, 3};
  batch.embeddings.assign(2 * 64, 0.5F);
  const auto streams = [&] {
    std::vector<std::vector<float>> out;
    const HiddenObserver keep = [&](std::int32_t, const kernels::Matrix& rows) {
      out.emplace_back(rows.f32(), rows.f32() + rows.rows * rows.cols);
    };
    std::vector<float> logits(512);
    EXPECT_TRUE(model_->Forward(batch, cache_, logits, &keep).has_value());
    return out;
  };
  const auto plain = streams();
  batch.layer_embeddings.assign(2 * 2 * 64, 0.0F);  // [row, level, hidden]
  batch.layer_embeddings[2 * 64] = 3.0F;            // row 3 after layer 0
  batch.layer_embeddings[64 + 1] = 5.0F;            // row 2 after layer 1
  const auto added = streams();
  EXPECT_EQ(plain[0], added[0]);
  EXPECT_NEAR(added[1][3 * 64] - plain[1][3 * 64], 3.0F, 1e-4F);
  EXPECT_EQ(added[1][2 * 64 + 1], plain[1][2 * 64 + 1]);
  EXPECT_NEAR(added[2][2 * 64 + 1] - plain[2][2 * 64 + 1], 5.0F, 1e-4F);
  EXPECT_NE(added[2][7 * 64], plain[2][7 * 64]);  // a row behind sees row 3
  EXPECT_EQ(added[2][1 * 64], plain[2][1 * 64]);
}

TEST(Decoder, EqualPositionsOnAllAxesHaveTheBitsOfOne) {
  const auto config = ParseConfig(R"({"architectures": ["Qwen3ForCausalLM"], "hidden_size": 32,
      "intermediate_size": 48, "vocab_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
      "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64,
      "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3], "mrope_interleaved": true}})",
                                  "");
  ASSERT_TRUE(config.has_value()) << config.error().ToString();
  const auto operators = kernels::MakeReferenceOperators();
  const auto weights = MakeRandomWeights(3);
  auto model = Decoder::Create(config->decoder, *MakeTextSpec(*config), *weights, *operators,
                               {.compute = kernels::ComputeType::kF32});
  ASSERT_TRUE(model.has_value()) << model.error().ToString();
  kernels::KvCache cache;
  cache.layout = (*model)->MakeKvLayout(16, kernels::KvDType::kF32);
  cache.block_count = 1;
  cache.buffer = *operators->Allocate(cache.layout.block_size_bytes());
  kernels::StepBatch batch;
  for (std::int32_t i = 0; i < 9; ++i) {
    batch.token_ids.push_back(7 * i);
    batch.positions.push_back(i);
    batch.slots.push_back(i);
  }
  batch.block_table = {0};
  batch.sequences = {{0, 9, 9, 0, 1}};
  batch.logit_rows = {4, 8};
  const auto forward = [&] {
    std::vector<float> logits(2 * 64);
    EXPECT_TRUE((*model)->Forward(batch, cache, logits).has_value());
    return logits;
  };
  const std::vector<float> one = forward();
  for (const std::int32_t position : batch.positions) {
    batch.rope_positions.insert(batch.rope_positions.end(), 3, position);
  }
  EXPECT_EQ(forward(), one);
  batch.rope_positions[3 * 4 + 2] = 9;  // the width of row 4
  const std::vector<float> other = forward();
  EXPECT_NE(other, one);
  batch.rope_positions[0] = 64;
  std::vector<float> logits(2 * 64);
  const auto past = (*model)->Forward(batch, cache, logits);
  ASSERT_FALSE(past.has_value());
  EXPECT_THAT(past.error().detail(), HasSubstr("rope_positions"));
}

struct BadBatch {
  std::string field;
  std::function<void(kernels::StepBatch&)> edit;
};

TEST_F(DecoderStep, RefusesABatchThatCannotBeRunNamingTheField) {
  const std::vector<BadBatch> cases = {
      {"token_ids", [](auto& batch) { batch = Batch(0, {}); }},
      {"token_ids",
       [](auto& batch) {
         batch = Batch(24, {23}), batch.token_ids.resize(33), batch.positions.resize(33),
         batch.slots.resize(33);
       }},
      {"token_ids", [](auto& batch) { batch.token_ids[3] = 512; }},
      {"token_ids", [](auto& batch) { batch.token_ids[3] = -1; }},
      {"positions", [](auto& batch) { batch.positions.pop_back(); }},
      {"positions", [](auto& batch) { batch.positions[3] = 4; }},
      {"slots", [](auto& batch) { batch.slots[0] = 8 * 16; }},
      {"slots", [](auto& batch) { batch.slots[0] = -1; }},
      {"block_table", [](auto& batch) { batch.block_table[0] = 8; }},
      {"block_count", [](auto& batch) { batch.sequences[0].block_count = 1; }},
      {"block_count", [](auto& batch) { batch.sequences[0].block_begin = 1; }},
      {"context_tokens", [](auto& batch) { batch.sequences[0].context_tokens = 23; }},
      {"context_tokens", [](auto& batch) { batch.sequences[0].context_tokens = 65; }},
      {"sequences", [](auto& batch) { batch.sequences.clear(); }},
      {"sequences", [](auto& batch) { batch.sequences[0].token_begin = 1; }},
      {"sequences", [](auto& batch) { batch.sequences[0].token_count = 25; }},
      {"logit_rows", [](auto& batch) { batch.logit_rows = {24}; }},
      {"logit_rows", [](auto& batch) { batch.logit_rows = {5, 5}; }},
      {"logit_rows", [](auto& batch) { batch.logit_rows = {0, 1, 2, 3, 4, 5, 6, 7, 8}; }},
      {"embedded_rows", [](auto& batch) { batch.embedded_rows = {24}; }},
      {"embedded_rows", [](auto& batch) { batch.embedded_rows = {5, 5}; }},
      {"embeddings", [](auto& batch) { batch.embedded_rows = {5}, batch.embeddings.resize(63); }},
      {"embeddings", [](auto& batch) { batch.embeddings.resize(64); }},
      {"layer_embeddings",
       [](auto& batch) {
         batch.embedded_rows = {5}, batch.embeddings.resize(64), batch.layer_embeddings.resize(65);
       }},
      {"layer_embeddings", [](auto& batch) { batch.layer_embeddings.resize(64); }},
      {"layer_embeddings",
       [](auto& batch) {  // as many levels as layers
         batch.embedded_rows = {5}, batch.embeddings.resize(64),
         batch.layer_embeddings.resize(3 * 64);
       }},
      {"rope_positions", [](auto& batch) { batch.rope_positions.resize(3 * 24); }},
      {"rope_positions", [](auto& batch) { batch.rope_positions.resize(3 * 23); }},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    kernels::StepBatch batch = Batch(24, {23});
    cases[i].edit(batch);
    const auto done = Forward(batch);
    ASSERT_FALSE(done.has_value()) << "case " << i;
    EXPECT_EQ(done.error().code(), Code::kInvalidArgument) << "case " << i;
    EXPECT_THAT(done.error().detail(), HasSubstr(cases[i].field)) << "case " << i;
  }
  EXPECT_TRUE(Forward(Batch(24, {23})).has_value()) << "the model goes on";
}

TEST_F(DecoderStep, NamesTheRowsOfASequenceWhoseLogitsAreNotFinite) {
  // Two sequences of four tokens; the second one's cache holds a NaN at a position it has seen.
  kernels::StepBatch batch;
  for (std::int32_t sequence = 0; sequence < 2; ++sequence) {
    for (std::int32_t i = 0; i < 4; ++i) {
      batch.token_ids.push_back(i + 1);
      batch.positions.push_back(i + 1);
      batch.slots.push_back(sequence * 16 + i + 1);
    }
    batch.sequences.push_back({sequence * 4, 4, 5, sequence, 1});
    batch.block_table.push_back(sequence);
  }
  batch.logit_rows = {3, 7};
  const auto clean = Forward(batch);
  ASSERT_TRUE(clean.has_value()) << clean.error().ToString();
  EXPECT_THAT(model_->faulty_logit_rows(), IsEmpty());

  auto* poisoned = reinterpret_cast<float*>(cache_.block(1));
  poisoned[0] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> logits(2 * 512);
  const auto done = model_->Forward(batch, cache_, logits);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), Code::kModelFault);
  EXPECT_THAT(model_->faulty_logit_rows(), ElementsAre(1));
  EXPECT_EQ(std::memcmp(logits.data(), clean->data(), 512 * sizeof(float)), 0)
      << "the healthy row is as before";

  std::memset(cache_.block(1), 0, cache_.layout.block_size_bytes());
  EXPECT_TRUE(Forward(batch).has_value());
  EXPECT_THAT(model_->faulty_logit_rows(), IsEmpty());
}

TEST(Decoder, RefusesOptionsOutOfRange) {
  const auto operators = kernels::MakeReferenceOperators();
  for (const LoadOptions& options :
       {LoadOptions{.context_tokens_max = 513}, LoadOptions{.context_tokens_max = -1},
        LoadOptions{.step_tokens_max = 0}, LoadOptions{.step_logit_rows_max = 0},
        LoadOptions{.step_tokens_max = 1 << 21}}) {
    const auto model = LanguageModel::Load(OwnModel("llama-gqa"), *operators, options);
    ASSERT_FALSE(model.has_value());
    EXPECT_EQ(model.error().code(), Code::kInvalidArgument);
    EXPECT_FALSE(model.error().param().empty());
  }
}

TEST(Decoder, AContextPastThePositionsIsRefusedWithValueAndLimit) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model =
      LanguageModel::Load(OwnModel("llama-gqa"), *operators, {.context_tokens_max = 513});
  ASSERT_FALSE(model.has_value());
  EXPECT_THAT(model.error().detail(),
              ::testing::HasSubstr("context_tokens_max = 513 is not in 1 to 512"));
}

TEST(Decoder, RunsAFusedProjectionLikeItsParts) {
  // The same weights stored as one tensor of stacked rows: what fused families (Phi-3) bring.
  const auto operators = kernels::MakeReferenceOperators();
  const auto folder = CheckpointFolder::Open(OwnModel("llama-gqa"));
  auto config = LoadConfig(*folder);
  ASSERT_TRUE(config.has_value());
  DecoderSpec fused = config->decoder;
  fused.names.qkv = {{"model.layers.{}.self_attn.qkv_proj"}};
  fused.names.gate_up = {{"model.layers.{}.mlp.gate_up_proj"}};
  std::vector<testing::WrittenTensor> tensors =
      testing::ReadSafetensors(OwnModel("llama-gqa") + "/model.safetensors");
  const auto stack = [&](const std::string& prefix, const std::vector<std::string>& parts,
                         const std::string& name) {
    testing::WrittenTensor whole{.name = prefix + name + ".weight"};
    for (const std::string& part : parts) {
      const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& tensor) {
        return tensor.name == prefix + part + ".weight";
      });
      whole.shape = {whole.shape.empty() ? found->shape[0] : whole.shape[0] + found->shape[0],
                     found->shape[1]};
      whole.bytes += found->bytes;
      tensors.erase(found);
    }
    tensors.push_back(whole);
  };
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    stack(prefix + ".self_attn.", {"q_proj", "k_proj", "v_proj"}, "qkv_proj");
    stack(prefix + ".mlp.", {"gate_proj", "up_proj"}, "gate_up_proj");
  }
  const testing::TemporaryFolder temporary;
  temporary.Write("model.safetensors", testing::Safetensors(tensors));
  const auto fused_folder = CheckpointFolder::Open(temporary.path());
  const auto checkpoint = Checkpoint::Open(*fused_folder);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().ToString();
  const auto checked = CheckTensors(fused, *checkpoint);
  ASSERT_TRUE(checked.has_value()) << checked.error().ToString();
  const auto weights = MakeCheckpointWeights(*checkpoint, {});
  const ModelSpec spec = *MakeModelSpec(*config, *checkpoint);
  const LoadOptions options = {.compute = kernels::ComputeType::kF32, .step_tokens_max = 64};
  auto fused_model = Decoder::Create(fused, spec, *weights, *operators, options);
  ASSERT_TRUE(fused_model.has_value()) << fused_model.error().ToString();
  const auto plain_model = LoadOrFail(OwnModel("llama-gqa"), *operators, options);
  PagedRunner fused_runner = RunnerOrFail(**fused_model, *operators);
  PagedRunner plain_runner = RunnerOrFail(*plain_model, *operators);
  const Tokens tokens = RandomTokens(33, 4);
  EXPECT_EQ(RunWhole(fused_runner, tokens), RunWhole(plain_runner, tokens));
}

TEST(Decoder, TellsHowMuchOfItsWeightsIsReady) {
  const auto operators = kernels::MakeReferenceOperators();
  std::vector<double> heard;
  LoadOptions options;
  options.progress = [&](double done) { heard.push_back(done); };
  const auto model = LoadOrFail(OwnModel("llama-gqa"), *operators, options);
  ASSERT_EQ(heard.size(), static_cast<std::size_t>(model->spec().layer_count));
  EXPECT_TRUE(std::ranges::is_sorted(heard));
  EXPECT_GT(heard.front(), 0);
  EXPECT_LT(heard.back(), 1);
}

TEST(Decoder, WithoutAHeadGivesTheLastHiddenStatesWhetherRowsAreDroppedOrNot) {
  const auto operators = kernels::MakeReferenceOperators();
  const testing::TemporaryFolder folder;
  const std::string from = OwnModel("llama3-rope");
  std::string config = pixii::testing::ReadFileOrFail(from + "/config.json");
  const std::string generator = "LlamaForCausalLM";
  config.replace(config.find(generator), generator.size(), "LlamaModel");
  folder.Write("config.json", config);
  // Saved bare: no "model." before the names, no head.
  auto tensors = testing::ReadSafetensors(from + "/model.safetensors");
  std::erase_if(tensors, [](const auto& tensor) { return tensor.name == "lm_head.weight"; });
  for (auto& tensor : tensors) {
    ASSERT_TRUE(tensor.name.starts_with("model."));
    tensor.name.erase(0, 6);
  }
  folder.Write("model.safetensors", testing::Safetensors(tensors));
  const auto model = LoadOrFail(folder.path(), *operators,
                                {.compute = kernels::ComputeType::kF32, .step_tokens_max = 64});
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->spec().task, ModelTask::kEmbed);
  ASSERT_EQ(model->spec().row_size, model->spec().hidden_size);
  PagedRunner runner = RunnerOrFail(*model, *operators);
  const Tokens tokens = RandomTokens(21, 8);
  std::vector<float> normed;
  const HiddenObserver keep = [&](std::int32_t index, const kernels::Matrix& rows) {
    if (index == model->spec().layer_count) {
      normed.assign(rows.f32(), rows.f32() + rows.rows * rows.cols);
    }
  };
  RunnerSequence sequence{.tokens = tokens};
  const RunnerChunk chunk{&sequence, static_cast<std::int32_t>(tokens.size())};
  const auto observed = runner.Step({&chunk, 1}, &keep);
  ASSERT_TRUE(observed.has_value()) << observed.error().ToString();
  runner.Release(sequence);
  EXPECT_EQ(*observed, normed);
  EXPECT_EQ(RunWhole(runner, tokens), normed);
}

}  // namespace
}  // namespace pixii::model
