#include "engine/step_builder.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "kv/block_pool.h"

namespace pixii::engine {
namespace {

TEST(StepBuilder, PacksChunksWithSlotsTablesAndRows) {
  auto pool = *kv::BlockPool::Create({.block_count_max = 8});
  std::vector<TokenId> prompt_a = {10, 11, 12, 13, 14};
  std::vector<TokenId> prompt_b = {20};
  std::vector<Sequence> sequences(2);
  Sequence& a = sequences[0];
  Sequence& b = sequences[1];
  a.prompt = prompt_a;
  b.prompt = prompt_b;
  b.generated = {21, 22};
  for (int i = 0; i < 3; ++i) {
    a.blocks.push_back(std::move(pool->Acquire()->pin));
  }
  for (int i = 0; i < 2; ++i) {
    b.blocks.push_back(std::move(pool->Acquire()->pin));
  }
  std::vector<Chunk> chunks = {
      {.sequence = &a, .begin = 1, .count = 3, .prompt_rows_begin = 2, .prompt_rows_count = 1},
      {.sequence = &b, .begin = 2, .count = 1, .sample_rows = 1}};
  kernels::StepBatch batch;
  for (int repeat = 0; repeat < 2; ++repeat) {  // what was there before does not matter
    BuildStep(chunks, 2, batch);
    EXPECT_EQ(batch.token_ids, (std::vector<std::int32_t>{11, 12, 13, 22}));
    EXPECT_EQ(batch.positions, (std::vector<std::int32_t>{1, 2, 3, 2}));
    auto block = [](const Sequence& sequence, std::size_t i) {
      return static_cast<std::int32_t>(Raw(sequence.blocks[i].id()));
    };
    EXPECT_EQ(batch.slots, (std::vector<std::int32_t>{block(a, 0) * 2 + 1, block(a, 1) * 2,
                                                      block(a, 1) * 2 + 1, block(b, 1) * 2}));
    ASSERT_EQ(batch.sequences.size(), 2U);
    EXPECT_EQ(batch.sequences[0].context_tokens, 4);
    EXPECT_EQ(batch.sequences[0].block_count, 2);  // the third block is for later tokens
    EXPECT_EQ(batch.sequences[1].token_begin, 3);
    EXPECT_EQ(batch.sequences[1].block_begin, 2);
    EXPECT_EQ(batch.block_table,
              (std::vector<std::int32_t>{block(a, 0), block(a, 1), block(b, 0), block(b, 1)}));
    EXPECT_EQ(batch.logit_rows, (std::vector<std::int32_t>{1, 3}));
  }
  EXPECT_EQ(LogitRowCount(chunks[0]), 1U);
  EXPECT_EQ(LogitRowCount(chunks[1]), 1U);
}

}  // namespace
}  // namespace pixii::engine
