// A prefill on one parallel layout, its blocks cut anew, the decode on another: the same bits as on
// one. spec/trtllm-backend.md A2.2's pairs and random ones.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "engine/model_executor.h"
#include "kv/reshard.h"
#include "support/golden.h"

namespace pixii::engine {
namespace {

struct Layout {
  std::int32_t tensor_count = 1;
  std::int32_t stage_count = 1;
  std::uint32_t block_tokens = 16;
};

constexpr std::uint32_t kBlocks = 40;

/// A model by some ranks, and the executor of its steps.
struct Worker {
  std::unique_ptr<kernels::Operators> operators = *kernels::MakeCpuOperators({.thread_count = 1});
  std::unique_ptr<model::LanguageModel> model;
  std::unique_ptr<ModelExecutor> executor;

  Worker(const std::string& name, const Layout& layout, kernels::KvDType dtype) {
    auto loaded = model::LanguageModel::Load(
        pixii::testing::OwnGoldenDir() + "/models/" + name, *operators,
        {.context_tokens_max = 256,
         .step_tokens_max = 256,
         .ranks = {
             .tensor_count = layout.tensor_count,
             .stage_count = layout.stage_count,
             .make_operators = [] { return kernels::MakeCpuOperators({.thread_count = 1}); }}});
    EXPECT_TRUE(loaded) << loaded.error().ToString();
    model = std::move(*loaded);
    auto made = ModelExecutor::Create(*model, *operators,
                                      {.block_tokens = layout.block_tokens,
                                       .block_count = kBlocks * 16 / layout.block_tokens,
                                       .step_tokens_max = 256,
                                       .kv_dtype = dtype});
    EXPECT_TRUE(made) << made.error().ToString();
    executor = std::move(*made);
  }

  /// Block of the cache that holds a request's `index`-th: shuffled, so that a mistake shows.
  std::uint32_t BlockOf(std::uint32_t index) const {
    const std::uint32_t count = executor->limits().block_count;
    return (index * 7 + 3) % count;
  }

  /// Logits of the last of `tokens`, of which those before `first` are in the cache.
  std::vector<float> Run(const std::vector<std::int32_t>& tokens, std::int32_t first) {
    const auto block_tokens = static_cast<std::int32_t>(executor->limits().block_tokens);
    const auto end = static_cast<std::int32_t>(tokens.size());
    kernels::StepBatch batch;
    for (std::int32_t position = first; position < end; ++position) {
      batch.token_ids.push_back(tokens[static_cast<std::size_t>(position)]);
      batch.positions.push_back(position);
      const auto block =
          static_cast<std::int32_t>(BlockOf(static_cast<std::uint32_t>(position / block_tokens)));
      batch.slots.push_back(block * block_tokens + position % block_tokens);
    }
    for (std::int32_t index = 0; index * block_tokens < end; ++index) {
      batch.block_table.push_back(
          static_cast<std::int32_t>(BlockOf(static_cast<std::uint32_t>(index))));
    }
    batch.sequences = {{.token_count = end - first,
                        .context_tokens = end,
                        .block_count = static_cast<std::int32_t>(batch.block_table.size())}};
    batch.logit_rows = {end - first - 1};
    std::vector<float> logits(executor->limits().row_size);
    const Result<void> ran = executor->Execute(batch, logits);
    EXPECT_TRUE(ran) << ran.error().ToString();
    return logits;
  }
};

/// Tokens [0, count) of `from`'s cache to `to`'s.
void MoveBlocks(const Worker& from, const Worker& to, std::uint32_t count) {
  const kv::LayoutRecord source = from.executor->block_layout().value();
  const kv::LayoutRecord target = to.executor->block_layout().value();
  ASSERT_TRUE(kv::CheckLayout(source)) << kv::CheckLayout(source).error().ToString();
  const kv::Reshard reshard = kv::Reshard::Create(source, target).value();
  for (std::uint32_t rank = 0; rank < target.rank_count(); ++rank) {
    std::vector<kv::BlockCopy> copies;
    reshard.Append(rank, {0, count}, copies);
    for (const kv::BlockCopy& copy : copies) {
      const auto source_block = from.executor->block_bytes(from.BlockOf(copy.source_block));
      const auto target_block = to.executor->block_bytes(to.BlockOf(copy.target_block));
      reshard.Move(source_block.subspan(
                       source.rank_offset_bytes(copy.source_rank) + copy.source_offset_bytes,
                       copy.source_size_bytes),
                   target_block.subspan(
                       target.rank_offset_bytes(copy.target_rank) + copy.target_offset_bytes,
                       copy.target_size_bytes));
    }
  }
}

std::vector<std::int32_t> Prompt(std::size_t size) {
  std::mt19937 random(static_cast<std::uint32_t>(size));
  std::vector<std::int32_t> out(size);
  for (std::int32_t& token : out) {
    token = 1 + static_cast<std::int32_t>(random() % 199);
  }
  return out;
}

void ExpectOneAnswer(const std::string& model, const Layout& prefill, const Layout& decode,
                     kernels::KvDType dtype = kernels::KvDType::kBf16) {
  SCOPED_TRACE(fmt::format("{} {}: tp {} pp {} block {} to tp {} pp {} block {}", model,
                           kernels::KvDTypeName(dtype), prefill.tensor_count, prefill.stage_count,
                           prefill.block_tokens, decode.tensor_count, decode.stage_count,
                           decode.block_tokens));
  Worker alone(model, {}, dtype);
  Worker source(model, prefill, dtype);
  Worker target(model, decode, dtype);
  std::vector<std::int32_t> tokens = Prompt(75);
  const std::vector<float> first = alone.Run(tokens, 0);
  EXPECT_EQ(source.Run(tokens, 0), first);
  MoveBlocks(source, target, 75);
  for (std::int32_t i = 0; i < 3; ++i) {
    tokens.push_back(17 + i);
    const auto at = static_cast<std::int32_t>(tokens.size()) - 1;
    const std::vector<float> wanted = alone.Run(tokens, at);
    const std::vector<float> got = target.Run(tokens, at);
    ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0) << i;
  }
}

TEST(MovedBlocks, ADecodeGoesOnWhateverTheLayouts) {
  const Layout tp1{};
  const Layout tp2{.tensor_count = 2};
  const Layout tp4{.tensor_count = 4};  // of two KV heads: duplicated
  const Layout pp2{.stage_count = 2};
  for (const char* model : {"llama-gqa", "deepseek-v3-mla"}) {
    ExpectOneAnswer(model, tp1, tp2);
    ExpectOneAnswer(model, tp2, tp1);
    ExpectOneAnswer(model, tp2, pp2);
    ExpectOneAnswer(model, pp2, tp1);
    ExpectOneAnswer(model, tp4, tp1);
  }
}

TEST(MovedBlocks, ADecodeGoesOnBetweenRandomPairs) {
  const char* const kModels[] = {"llama-gqa", "gpt-oss-odd", "deepseek-v2", "qwen3-moe-plain",
                                 "gemma3"};
  const kernels::KvDType kDtypes[] = {kernels::KvDType::kBf16, kernels::KvDType::kInt8,
                                      kernels::KvDType::kF32, kernels::KvDType::kFp8E4m3};
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937 random(seed);
    const auto draw = [&] {
      return Layout{.tensor_count = 1 << random() % 4,
                    .stage_count = 1 + static_cast<std::int32_t>(random() % 2),
                    .block_tokens = 4U << random() % 4};
    };
    const Layout prefill = draw();
    const Layout decode = draw();
    ExpectOneAnswer(kModels[seed % std::size(kModels)], prefill, decode,
                    kDtypes[seed / 5 % std::size(kDtypes)]);
  }
}

TEST(MovedBlocks, ALayoutSaysWhatTheCacheIs) {
  for (const Layout& layout : {Layout{}, Layout{.tensor_count = 4, .stage_count = 2}}) {
    for (const kernels::KvDType dtype : {kernels::KvDType::kBf16, kernels::KvDType::kInt8}) {
      const Worker worker("gpt-oss-odd", layout, dtype);
      const kv::LayoutRecord record = worker.executor->block_layout().value();
      ASSERT_TRUE(kv::CheckLayout(record));
      EXPECT_EQ(kv::ElementTypeName(record.dtype), kernels::KvDTypeName(dtype));
      EXPECT_EQ(record.rank_offset_bytes(record.rank_count()),
                worker.executor->limits().block_size_bytes);
      std::uint64_t sum = 0;
      for (const std::uint32_t size : worker.executor->block_slices()) {
        sum += size;
      }
      EXPECT_EQ(sum, worker.executor->limits().block_size_bytes);
    }
  }
}

}  // namespace
}  // namespace pixii::engine
