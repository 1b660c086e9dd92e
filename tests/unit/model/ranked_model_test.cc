// A model that ranks hold together gives one rank's bits: every family, every cut.
#include "model/ranked_model.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>

#include "model/check.h"
#include "model/paged_runner.h"
#include "support/golden.h"

namespace pixii::model {
namespace {

using Tokens = std::vector<std::int32_t>;

struct Cut {
  std::int32_t tensor_count = 1;
  std::int32_t stage_count = 1;
};

std::string NameOf(const Cut& cut) {
  return fmt::format("tp{}_pp{}", cut.tensor_count, cut.stage_count);
}

struct Backend {
  std::string name;
  kernels::ComputeType compute = kernels::ComputeType::kF32;

  std::unique_ptr<kernels::Operators> Make(std::int32_t threads) const {
    return name == "ref" ? kernels::MakeReferenceOperators()
                         : *kernels::MakeCpuOperators({.thread_count = threads});
  }
};

LoadOptions OptionsOf(const Backend& backend, const Cut& cut) {
  return {.compute = backend.compute,
          .context_tokens_max = 128,
          .step_tokens_max = 160,
          .step_logit_rows_max = 160,
          .ranks = {.tensor_count = cut.tensor_count,
                    .stage_count = cut.stage_count,
                    .make_operators = [backend]() -> Result<std::unique_ptr<kernels::Operators>> {
                      return backend.Make(1);
                    }}};
}

/// Everything that a model said: results and, on request, its stream at every layer.
struct Said {
  std::vector<float> rows;
  std::vector<std::vector<float>> hidden;

  bool operator==(const Said& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(rows, other.rows) && std::ranges::equal(hidden, other.hidden, same);
  }
};

/// Three sequences in chunks side by side, so that rows, contexts and blocks differ; once observed.
Said Hear(LanguageModel& model, kernels::Operators& operators, kernels::KvDType kv_dtype) {
  auto runner = PagedRunner::Create(model, operators, {.kv_dtype = kv_dtype});
  EXPECT_TRUE(runner.has_value());
  std::mt19937_64 random(3);
  std::vector<RunnerSequence> sequences(3);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    for (std::size_t t = 0; t < 21 + 13 * i; ++t) {
      sequences[i].tokens.push_back(static_cast<std::int32_t>(
          random() % static_cast<std::uint64_t>(model.spec().vocab_size)));
    }
  }
  Said out;
  const HiddenObserver observer = [&](std::int32_t index, const kernels::Matrix& rows) {
    out.hidden.resize(std::max(out.hidden.size(), static_cast<std::size_t>(index) + 1));
    for (std::int64_t row = 0; row < rows.rows; ++row) {
      out.hidden[static_cast<std::size_t>(index)].insert(
          out.hidden[static_cast<std::size_t>(index)].end(), rows.f32(row),
          rows.f32(row) + rows.cols);
    }
  };
  for (std::int32_t step = 0;; ++step) {
    std::vector<RunnerChunk> chunks;
    for (RunnerSequence& sequence : sequences) {
      const std::int32_t left = static_cast<std::int32_t>(sequence.tokens.size()) - sequence.done;
      if (left > 0) {
        chunks.push_back({&sequence, std::min(left, step == 0 ? 17 : 1 + step % 5)});
      }
    }
    if (chunks.empty()) {
      return out;
    }
    const auto rows = runner->Step(chunks, step == 1 ? &observer : nullptr);
    EXPECT_TRUE(rows.has_value()) << rows.error().ToString();
    if (!rows) {
      return out;
    }
    out.rows.insert(out.rows.end(), rows->begin(), rows->end());
  }
}

void ExpectOneAnswer(const std::function<Result<std::unique_ptr<LanguageModel>>(
                         kernels::Operators&, const LoadOptions&)>& load,
                     const Backend& backend, std::span<const Cut> cuts,
                     kernels::KvDType kv_dtype = kernels::KvDType::kF32) {
  const auto operators = backend.Make(1);
  const auto whole = load(*operators, OptionsOf(backend, {}));
  ASSERT_TRUE(whole.has_value()) << whole.error().ToString();
  const Said wanted = Hear(**whole, *operators, kv_dtype);
  ASSERT_FALSE(wanted.rows.empty());
  for (const Cut& cut : cuts) {
    SCOPED_TRACE(backend.name + " " + NameOf(cut));
    const auto ranked = load(*operators, OptionsOf(backend, cut));
    ASSERT_TRUE(ranked.has_value()) << ranked.error().ToString();
    EXPECT_TRUE(Hear(**ranked, *operators, kv_dtype) == wanted);
  }
}

std::vector<std::string> Decoders() {
  std::vector<std::string> out;
  for (const auto& entry :
       std::filesystem::directory_iterator(pixii::testing::OwnGoldenDir() + "/models")) {
    const std::string name = entry.path().filename().string();
    const std::string config =
        pixii::testing::ReadFileOrFail(entry.path().string() + "/config.json");
    if (config.find("ert") == std::string::npos) {  // of the BERT kind: encoders
      out.push_back(name);
    }
  }
  std::ranges::sort(out);
  return out;
}

class RankedDecoder : public ::testing::TestWithParam<std::string> {};

TEST_P(RankedDecoder, HasTheBitsOfOneRank) {
  const std::string folder = pixii::testing::OwnGoldenDir() + "/models/" + GetParam();
  const auto load = [&](kernels::Operators& operators, const LoadOptions& options) {
    return LanguageModel::Load(folder, operators, options);
  };
  const Cut all[] = {{2, 1}, {4, 1}, {8, 1}, {1, 2}, {2, 2}, {4, 2}};
  ExpectOneAnswer(load, {"cpu", kernels::ComputeType::kBf16}, all, kernels::KvDType::kBf16);
  const Cut some[] = {{2, 1}, {4, 2}};
  ExpectOneAnswer(load, {"ref", kernels::ComputeType::kF32}, some);
}

INSTANTIATE_TEST_SUITE_P(Models, RankedDecoder, ::testing::ValuesIn(Decoders()),
                         [](const auto& parameters) {
                           std::string name = parameters.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class RankedGolden : public ::testing::TestWithParam<Cut> {};

TEST_P(RankedGolden, ThirdPartyModelsAreReproduced) {
  const auto golden = pixii::testing::GoldenDir();
  if (!golden) {
    GTEST_SKIP() << "no golden models here";
  }
  int checked = 0;
  for (const char* name : {"deepseek-v3-mla", "gemma2", "gpt-oss", "llama-gqa", "llama3-rope",
                           "mistral-window", "mixtral", "phi3", "qwen2-bias", "qwen2-5-vl",
                           "qwen3-moe", "qwen3-qknorm", "qwen3-vl", "stories260K"}) {
    const std::string folder = *golden + "/models/" + name;
    if (!std::filesystem::exists(folder + "/golden.safetensors")) {
      continue;
    }
    SCOPED_TRACE(name);
    const Backend backend{"cpu", kernels::ComputeType::kF32};
    const auto operators = backend.Make(1);
    const auto report =
        CheckFolder(folder, *operators, {.ranks = OptionsOf(backend, GetParam()).ranks});
    ASSERT_TRUE(report.has_value()) << report.error().ToString();
    EXPECT_TRUE(report->passed()) << report->ToText();
    ++checked;
  }
  EXPECT_GE(checked, 11);
}

INSTANTIATE_TEST_SUITE_P(Cuts, RankedGolden,
                         ::testing::Values(Cut{2, 1}, Cut{4, 1}, Cut{1, 2}, Cut{2, 2}, Cut{4, 2}),
                         [](const auto& parameters) { return NameOf(parameters.param); });

TEST(RankedModel, QuantisedWeightsAndCachesHaveTheBitsOfOneRank) {
  const Cut cuts[] = {{2, 1}, {4, 2}, {8, 1}};
  for (const RandomForm form :
       {RandomForm::kInt8, RandomForm::kInt4, RandomForm::kQ8_0, RandomForm::kQ4_0}) {
    SCOPED_TRACE(static_cast<int>(form));
    const auto load = [&](kernels::Operators& operators, const LoadOptions& options) {
      return LanguageModel::Random("tiny-chat", operators, options, {.form = form});
    };
    ExpectOneAnswer(load, {"cpu", kernels::ComputeType::kInt8}, cuts, kernels::KvDType::kInt8);
    ExpectOneAnswer(load, {"cpu", kernels::ComputeType::kBf16}, {cuts, 1},
                    kernels::KvDType::kFp8E4m3);
  }
  const auto tiny = [&](kernels::Operators& operators, const LoadOptions& options) {
    return LanguageModel::Random("tiny", operators, options, {.form = RandomForm::kInt4});
  };
  ExpectOneAnswer(tiny, {"ref", kernels::ComputeType::kInt8}, cuts);
}

class RankedLlama : public ::testing::Test {
 protected:
  std::unique_ptr<RankedModel> Load(const Cut& cut) {
    auto model = LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/llama-gqa",
                                     *operators_, OptionsOf(backend_, cut));
    EXPECT_TRUE(model.has_value()) << model.error().ToString();
    return std::unique_ptr<RankedModel>(dynamic_cast<RankedModel*>(model->release()));
  }

  Backend backend_{"ref", kernels::ComputeType::kF32};
  std::unique_ptr<kernels::Operators> operators_ = backend_.Make(1);
};

TEST_F(RankedLlama, ABlockIsTheRanksPartsAndTheCutsSayWhatTheyAre) {
  const auto model = Load({4, 3});
  const kernels::KvLayout layout = model->MakeKvLayout(16, kernels::KvDType::kF32);
  EXPECT_EQ(layout.layer_count, 3);
  EXPECT_EQ(layout.kv_head_count, 2);
  // One of two KV heads on each of four ranks: twice what one rank alone would hold.
  EXPECT_EQ(layout.block_size_bytes(), 2U * 3 * 2 * 2 * 16 * 8 * 4);
  const KvCuts cuts = model->kv_cuts();
  ASSERT_EQ(cuts.stage_layers.size(), 3U);
  EXPECT_EQ(cuts.stage_layers[1].begin, 1);
  EXPECT_EQ(cuts.stage_layers[1].end, 2);
  ASSERT_EQ(cuts.rank_heads.size(), 4U);
  EXPECT_EQ(cuts.rank_heads[1].end, 1);
  EXPECT_EQ(cuts.rank_heads[2].begin, 1);
}

TEST_F(RankedLlama, ARankThatFailsFailsTheStepForAllAndTheNextOneRuns) {
  for (const Cut cut : {Cut{4, 1}, Cut{1, 3}, Cut{2, 2}}) {
    const auto model = Load(cut);
    const Said wanted = Hear(*model, *operators_, kernels::KvDType::kF32);
    const std::int32_t ranks = cut.tensor_count * cut.stage_count;
    for (std::int32_t failing = 0; failing < ranks; ++failing) {
      SCOPED_TRACE(fmt::format("{} rank {}", NameOf(cut), failing));
      model->SetProbe([failing](std::int32_t rank) -> Result<void> {
        if (rank == failing) {
          return Fail(Code::kResourceExhausted, fmt::format("rank {} has had enough", rank));
        }
        return {};
      });
      auto runner = PagedRunner::Create(*model, *operators_, {});
      RunnerSequence sequence{.tokens = {1, 2, 3}};
      const RunnerChunk chunk{&sequence, 3};
      const auto rows = runner->Step({&chunk, 1});
      ASSERT_FALSE(rows.has_value());
      EXPECT_EQ(rows.error().detail(), fmt::format("rank {} has had enough", failing));
      model->SetProbe({});
      EXPECT_TRUE(Hear(*model, *operators_, kernels::KvDType::kF32) == wanted);
    }
  }
}

TEST_F(RankedLlama, ABadBatchIsRefusedByAllAndFaultyRowsAreNamedOnce) {
  const auto model = Load({2, 2});
  kernels::KvCache cache;
  cache.layout = model->MakeKvLayout(16, kernels::KvDType::kF32);
  cache.block_count = 2;
  cache.buffer = *operators_->Allocate(2 * cache.layout.block_size_bytes());
  kernels::StepBatch batch;
  batch.token_ids = {1, 2};
  batch.positions = {0, 1};
  batch.slots = {0, 1};
  batch.sequences = {{.token_count = 2, .context_tokens = 2, .block_count = 1}};
  batch.block_table = {0};
  batch.logit_rows = {0, 1};
  std::vector<float> logits(2 * 512);
  batch.token_ids[1] = 512;
  const auto refused = model->Forward(batch, cache, logits, nullptr);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  batch.token_ids[1] = 2;
  ASSERT_TRUE(model->Forward(batch, cache, logits, nullptr));
  // A value in the cache that is not finite: the first token's V in the second stage, rank 1.
  const std::size_t part = cache.layout.block_size_bytes() / 4;
  std::memset(static_cast<std::byte*>(cache.buffer.data()) + 3 * part, 0xFF, part);
  kernels::StepBatch next;
  next.token_ids = {3};
  next.positions = {2};
  next.slots = {2};
  next.sequences = {{.token_count = 1, .context_tokens = 3, .block_count = 1}};
  next.block_table = {0};
  next.logit_rows = {0};
  const auto faulty = model->Forward(next, cache, std::span(logits).first(512), nullptr);
  ASSERT_FALSE(faulty);
  EXPECT_EQ(faulty.error().code(), Code::kModelFault);
  EXPECT_EQ(faulty.error().detail(),
            "1 of 1 rows of logits hold values that are not finite, the first is row 0");
  EXPECT_THAT(model->faulty_logit_rows(), ::testing::ElementsAre(0));
}

TEST_F(RankedLlama, CutsThatCannotBeAreRefusedWithTheModelsOwnNumber) {
  const auto detail = [&](const Cut& cut) {
    const auto model = LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/llama-gqa",
                                           *operators_, OptionsOf(backend_, cut));
    return model ? std::string("fine") : model.error().param() + "|" + model.error().detail();
  };
  EXPECT_EQ(detail({3, 1}),
            "tensor-parallel-size|tensor-parallel-size is 3; sums are cut into 8 shards, so it is "
            "1, 2, 4 or 8");
  EXPECT_EQ(detail({1, 4}),
            "pipeline-parallel-size|pipeline-parallel-size is 4; the model has 3 layers, so it is "
            "1 to 3");
  const auto encoder = LanguageModel::Load(pixii::testing::OwnGoldenDir() + "/models/bert-mean",
                                           *operators_, OptionsOf(backend_, {2, 1}));
  ASSERT_FALSE(encoder.has_value());
  EXPECT_EQ(encoder.error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace pixii::model
