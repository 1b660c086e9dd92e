// Adapters in the models themselves: every family's linears, alone, mixed and against merged
// weights.
#include "model/adapted_linear.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/language_model.h"
#include "model/paged_runner.h"
#include "support/golden.h"
#include "unit/model/checkpoint_writer.h"

namespace pixii::model {
namespace {

using testing::TemporaryFolder;
using testing::WrittenTensor;
using Tokens = std::vector<std::int32_t>;

/// One of every shape of attention, feed-forward and head.
constexpr const char* kModels[] = {"llama-gqa",      "llama-llama3-tied",
                                   "llama-bias-mqa", "mistral-head10",
                                   "qwen2-bias",     "qwen3-qknorm",
                                   "phi3",           "gemma2",
                                   "gemma3",         "mixtral",
                                   "qwen2-moe",      "qwen3-moe",
                                   "gpt-oss",        "deepseek-v2",
                                   "deepseek-v3",    "deepseek-v3-mla",
                                   "qwen3-mean",     "deepseek-v3-no-q-rank",
                                   "qwen3-classes",  "bert-mean",
                                   "bert-classes"};

std::string OwnModel(const std::string& name) {
  return pixii::testing::OwnGoldenDir() + "/models/" + name;
}

struct Pair {
  std::string name;
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::vector<float> down;  // [rank, in]
  std::vector<float> up;    // [out, rank]
};

/// An adapter as numbers.
struct Made {
  std::int64_t rank = 0;
  float scale = 0;
  std::vector<Pair> pairs;
};

/// A pair for each of `linears` that `keep` takes, strong enough to change every answer.
template <class Keep>
Made MakeAdapter(std::span<const AdaptableLinear> linears, std::int64_t rank, std::uint64_t seed,
                 Keep keep) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<float>(random() % 2001) / 1000.0F - 1.0F; };
  Made out{.rank = rank, .scale = 2.0F / static_cast<float>(rank), .pairs = {}};
  for (const AdaptableLinear& linear : linears) {
    if (!keep(linear, random)) {
      continue;
    }
    Pair pair{.name = linear.name,
              .in = linear.in_features,
              .out = linear.out_features,
              .down = {},
              .up = {}};
    const float size = 0.5F / std::sqrt(static_cast<float>(linear.in_features));
    for (std::int64_t i = 0; i < rank * pair.in; ++i) {
      pair.down.push_back(size * uniform());
    }
    for (std::int64_t i = 0; i < rank * pair.out; ++i) {
      pair.up.push_back(0.5F * uniform());
    }
    out.pairs.push_back(std::move(pair));
  }
  return out;
}

constexpr auto kAll = [](const AdaptableLinear&, std::mt19937_64&) { return true; };
constexpr auto kHalf = [](const AdaptableLinear&, std::mt19937_64& random) {
  return random() % 2 == 0;
};

std::string Bytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

LoraAdapter Parsed(const Made& made, std::span<const AdaptableLinear> linears) {
  std::vector<WrittenTensor> tensors;
  for (const Pair& pair : made.pairs) {
    tensors.push_back({.name = "base_model.model." + pair.name + ".lora_A.weight",
                       .shape = {made.rank, pair.in},
                       .bytes = Bytes(pair.down)});
    tensors.push_back({.name = "base_model.model." + pair.name + ".lora_B.weight",
                       .shape = {pair.out, made.rank},
                       .bytes = Bytes(pair.up)});
  }
  const std::string config = fmt::format(R"({{"peft_type": "LORA", "r": {}, "lora_alpha": {}}})",
                                         made.rank, made.scale * static_cast<float>(made.rank));
  auto adapter = LoraAdapter::Parse(config, testing::Safetensors(tensors), linears, {});
  EXPECT_TRUE(adapter.has_value()) << adapter.error().detail();
  return *std::move(adapter);
}

std::vector<float> Values(const WrittenTensor& tensor) {
  std::vector<float> out;
  const std::size_t element = tensor.dtype == "F32" ? 4 : 2;
  for (std::size_t at = 0; at < tensor.bytes.size(); at += element) {
    std::uint32_t bits = 0;
    std::memcpy(element == 4 ? reinterpret_cast<char*>(&bits) : reinterpret_cast<char*>(&bits) + 2,
                tensor.bytes.data() + at, element);
    out.push_back(std::bit_cast<float>(bits));
  }
  return out;
}

/// The checkpoint `name` with scale * up * down added to its weights.
void WriteMerged(const std::string& name, const Made& made, const TemporaryFolder& folder) {
  folder.Write("config.json", pixii::testing::ReadFileOrFail(OwnModel(name) + "/config.json"));
  std::vector<WrittenTensor> tensors =
      testing::ReadSafetensors(OwnModel(name) + "/model.safetensors");
  std::size_t merged = 0;
  for (WrittenTensor& tensor : tensors) {
    for (const Pair& pair : made.pairs) {
      if (tensor.name != pair.name + ".weight") {
        continue;
      }
      ++merged;
      std::vector<float> values = Values(tensor);
      ASSERT_EQ(std::ssize(values), pair.in * pair.out) << pair.name;
      for (std::int64_t n = 0; n < pair.out; ++n) {
        for (std::int64_t k = 0; k < pair.in; ++k) {
          double sum = 0;
          for (std::int64_t r = 0; r < made.rank; ++r) {
            sum += double{pair.up[static_cast<std::size_t>(n * made.rank + r)]} *
                   double{pair.down[static_cast<std::size_t>(r * pair.in + k)]};
          }
          values[static_cast<std::size_t>(n * pair.in + k)] +=
              static_cast<float>(sum * double{made.scale});
        }
      }
      tensor.dtype = "F32";
      tensor.bytes = Bytes(values);
    }
  }
  EXPECT_EQ(merged, made.pairs.size()) << "every linear is a tensor of the checkpoint";
  folder.Write("model.safetensors", testing::Safetensors(tensors));
}

std::unique_ptr<LanguageModel> LoadOrFail(const std::string& folder, kernels::Operators& operators,
                                          kernels::ComputeType compute, std::int32_t slots) {
  auto model = LanguageModel::Load(
      folder, operators, {.compute = compute, .step_tokens_max = 128, .adapter_slots = slots});
  EXPECT_TRUE(model.has_value()) << model.error().ToString();
  return model ? *std::move(model) : nullptr;
}

Tokens RandomTokens(std::size_t count, std::uint64_t seed, std::int32_t vocab_size) {
  std::mt19937_64 random(seed);
  Tokens out(count);
  for (std::int32_t& token : out) {
    token = 1 + static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(vocab_size - 1));
  }
  return out;
}

/// Rows of all sequences run in one step.
std::vector<float> RunOnce(LanguageModel& model, kernels::Operators& operators,
                           std::vector<RunnerSequence> sequences) {
  auto runner = PagedRunner::Create(model, operators, {});
  EXPECT_TRUE(runner.has_value());
  std::vector<RunnerChunk> chunks;
  for (RunnerSequence& sequence : sequences) {
    chunks.push_back({&sequence, static_cast<std::int32_t>(sequence.tokens.size())});
  }
  auto rows = runner->Step(chunks);
  EXPECT_TRUE(rows.has_value()) << rows.error().ToString();
  return rows ? *std::move(rows) : std::vector<float>();
}

void LoadInto(LanguageModel& model, std::int32_t slot, const Made& made) {
  const auto loaded = model.LoadAdapter(slot, Parsed(made, model.adaptable_linears()));
  ASSERT_TRUE(loaded.has_value()) << loaded.error().ToString();
}

class AdaptedModel : public ::testing::TestWithParam<const char*> {};

TEST_P(AdaptedModel, AnswersAsOneWhoseWeightsHoldTheAdapter) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model = LoadOrFail(OwnModel(GetParam()), *operators, kernels::ComputeType::kF32, 2);
  ASSERT_NE(model, nullptr);
  ASSERT_FALSE(model->adaptable_linears().empty());
  const bool tied = std::ranges::none_of(
      testing::ReadSafetensors(OwnModel(GetParam()) + "/model.safetensors"),
      [](const WrittenTensor& tensor) { return tensor.name == "lm_head.weight"; });
  const Made made = MakeAdapter(model->adaptable_linears(), 3, 7,
                                [&](const AdaptableLinear& linear, std::mt19937_64&) {
                                  return !tied || linear.name != "lm_head";
                                });
  const TemporaryFolder folder;
  WriteMerged(GetParam(), made, folder);
  const auto merged = LoadOrFail(folder.path(), *operators, kernels::ComputeType::kF32, 0);
  ASSERT_NE(merged, nullptr);
  LoadInto(*model, 1, made);
  const Tokens tokens = RandomTokens(40, 3, model->spec().vocab_size);
  const auto wanted = RunOnce(*merged, *operators, {{.tokens = tokens}});
  const auto ours = RunOnce(*model, *operators, {{.tokens = tokens, .adapter_slot = 1}});
  const auto base = RunOnce(*model, *operators, {{.tokens = tokens}});
  ASSERT_EQ(ours.size(), wanted.size());
  double error = 0;
  double change = 0;
  double size = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    error = std::max(error, std::abs(double{ours[i]} - double{wanted[i]}));
    change = std::max(change, std::abs(double{ours[i]} - double{base[i]}));
    size = std::max(size, std::abs(double{wanted[i]}));
  }
  EXPECT_LE(error, 2e-5 * size);
  EXPECT_GE(change, 1e-2 * size) << "the adapter says something";
}

TEST_P(AdaptedModel, ARowsBitsDependOnItsOwnAdapterAlone) {
  struct Numerics {
    std::unique_ptr<kernels::Operators> operators;
    kernels::ComputeType compute;
  };

  std::vector<Numerics> all;
  all.push_back({kernels::MakeReferenceOperators(), kernels::ComputeType::kF32});
  all.push_back({*kernels::MakeCpuOperators({.thread_count = 2, .isa = kernels::CpuIsa::kAuto}),
                 kernels::ComputeType::kBf16});
  for (const Numerics& numerics : all) {
    kernels::Operators& operators = *numerics.operators;
    const auto mixed = LoadOrFail(OwnModel(GetParam()), operators, numerics.compute, 4);
    ASSERT_NE(mixed, nullptr);
    std::vector<Made> made;
    for (std::int64_t i = 0; i < 3; ++i) {
      made.push_back(i == 0 ? MakeAdapter(mixed->adaptable_linears(), 2, 1, kAll)
                            : MakeAdapter(mixed->adaptable_linears(), 4 * i - 3, 5, kHalf));
      LoadInto(*mixed, static_cast<std::int32_t>(i == 2 ? 3 : i), made.back());
    }
    std::vector<RunnerSequence> sequences;
    const std::int32_t slots[] = {1, -1, 0, 3, 0, -1, 1};
    for (std::size_t i = 0; i < std::size(slots); ++i) {
      sequences.push_back({.tokens = RandomTokens(1 + i * 5 % 17, i, mixed->spec().vocab_size),
                           .adapter_slot = slots[i]});
    }
    const std::vector<float> together = RunOnce(*mixed, operators, sequences);
    std::size_t at = 0;
    const auto alone = LoadOrFail(OwnModel(GetParam()), operators, numerics.compute, 1);
    for (RunnerSequence sequence : sequences) {
      alone->UnloadAdapter(0);
      if (sequence.adapter_slot >= 0) {
        const std::size_t index =
            sequence.adapter_slot == 3 ? 2 : static_cast<std::size_t>(sequence.adapter_slot);
        LoadInto(*alone, 0, made[index]);
        sequence.adapter_slot = 0;
      }
      const std::vector<float> wanted = RunOnce(*alone, operators, {sequence});
      ASSERT_LE(at + wanted.size(), together.size());
      EXPECT_EQ(std::memcmp(together.data() + at, wanted.data(), wanted.size() * sizeof(float)), 0)
          << operators.name() << " rows from " << at;
      at += wanted.size();
    }
    EXPECT_EQ(at, together.size());
  }
}

TEST_P(AdaptedModel, RanksThatHoldTheModelTogetherGiveTheSameBits) {
  const auto operators = *kernels::MakeCpuOperators({.thread_count = 1});
  const auto load = [&](std::int32_t tensor_count, std::int32_t stage_count) {
    return LanguageModel::Load(
        OwnModel(GetParam()), *operators,
        {.step_tokens_max = 128,
         .adapter_slots = 2,
         .ranks = {.tensor_count = tensor_count, .stage_count = stage_count, .make_operators = [] {
                     return kernels::MakeCpuOperators({.thread_count = 1});
                   }}});
  };
  const auto whole = load(1, 1);
  ASSERT_TRUE(whole.has_value());
  if ((*whole)->spec().whole_texts) {
    GTEST_SKIP() << "encoders are not cut";
  }
  const Made first = MakeAdapter((*whole)->adaptable_linears(), 3, 1, kAll);
  const Made second = MakeAdapter((*whole)->adaptable_linears(), 5, 5, kHalf);
  std::vector<RunnerSequence> sequences;
  for (std::size_t i = 0; i < 5; ++i) {
    sequences.push_back({.tokens = RandomTokens(3 + i * 5, i, (*whole)->spec().vocab_size),
                         .adapter_slot = static_cast<std::int32_t>(i % 3) - 1});
  }
  std::vector<float> wanted;
  for (const auto& [tensor_count, stage_count] :
       {std::pair(1, 1), {2, 1}, {4, 1}, {1, 2}, {2, 2}}) {
    const auto model = load(tensor_count, stage_count);
    ASSERT_TRUE(model.has_value()) << model.error().ToString();
    LoadInto(**model, 0, first);
    LoadInto(**model, 1, second);
    const std::vector<float> rows = RunOnce(**model, *operators, sequences);
    if (wanted.empty()) {
      wanted = rows;
    }
    ASSERT_EQ(rows.size(), wanted.size());
    EXPECT_EQ(std::memcmp(rows.data(), wanted.data(), rows.size() * sizeof(float)), 0)
        << tensor_count << " ranks, " << stage_count << " stages";
  }
}

INSTANTIATE_TEST_SUITE_P(Families, AdaptedModel, ::testing::ValuesIn(kModels),
                         [](const auto& parameters) {
                           std::string name = parameters.param;
                           std::erase(name, '-');
                           return name;
                         });

class AdapterSlotsOfLlama : public ::testing::Test {
 protected:
  std::unique_ptr<kernels::Operators> operators_ = kernels::MakeReferenceOperators();
  std::unique_ptr<LanguageModel> model_ =
      LoadOrFail(OwnModel("llama-gqa"), *operators_, kernels::ComputeType::kF32, 2);
  Tokens tokens_ = RandomTokens(9, 1, 500);
};

TEST_F(AdapterSlotsOfLlama, WhatIsUnloadedOrReplacedIsGone) {
  const Made first = MakeAdapter(model_->adaptable_linears(), 2, 1, kAll);
  const Made second = MakeAdapter(model_->adaptable_linears(), 5, 2, kHalf);
  LoadInto(*model_, 1, second);
  const auto wanted = RunOnce(*model_, *operators_, {{.tokens = tokens_, .adapter_slot = 1}});
  LoadInto(*model_, 0, first);
  const auto other = RunOnce(*model_, *operators_, {{.tokens = tokens_, .adapter_slot = 0}});
  EXPECT_NE(other, wanted);
  LoadInto(*model_, 0, second);
  EXPECT_EQ(RunOnce(*model_, *operators_, {{.tokens = tokens_, .adapter_slot = 0}}), wanted);
  model_->UnloadAdapter(0);
  auto runner = PagedRunner::Create(*model_, *operators_, {});
  RunnerSequence sequence{.tokens = tokens_, .adapter_slot = 0};
  const RunnerChunk chunk{&sequence, 3};
  const auto refused = runner->Step({&chunk, 1});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(refused.error().param(), "adapter_slots");
}

TEST_F(AdapterSlotsOfLlama, ASlotThatIsNotThereAndAnotherModelsAdapterAreRefused) {
  const Made made = MakeAdapter(model_->adaptable_linears(), 2, 1, kAll);
  const LoraAdapter adapter = Parsed(made, model_->adaptable_linears());
  for (const std::int32_t slot : {-1, 2}) {
    EXPECT_EQ(model_->LoadAdapter(slot, adapter).error().param(), "slot");
  }
  const auto other =
      LoadOrFail(OwnModel("qwen3-qknorm"), *operators_, kernels::ComputeType::kF32, 2);
  EXPECT_EQ(other->LoadAdapter(0, adapter).error().code(), Code::kInvalidArgument);
}

TEST_F(AdapterSlotsOfLlama, TheLargestRankRuns) {
  const Made made = MakeAdapter(model_->adaptable_linears(), kernels::kLoraRankMax, 3, kHalf);
  LoadInto(*model_, 0, made);
  const auto base = RunOnce(*model_, *operators_, {{.tokens = tokens_}});
  EXPECT_NE(RunOnce(*model_, *operators_, {{.tokens = tokens_, .adapter_slot = 0}}), base);
}

TEST(AdapterSlots, MoreThanTheModelTakesAreRefusedWhenItIsLoaded) {
  const auto operators = kernels::MakeReferenceOperators();
  const auto model =
      LanguageModel::Load(OwnModel("llama-gqa"), *operators, {.adapter_slots = 5000});
  ASSERT_FALSE(model.has_value());
  EXPECT_EQ(model.error().param(), "adapter_slots");
}

}  // namespace
}  // namespace pixii::model
