#include "model/paged_runner.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::model {

Result<PagedRunner> PagedRunner::Create(LanguageModel& model, kernels::Operators& operators,
                                        const Options& options) {
  PagedRunner runner(model, options);
  kernels::KvCache& cache = runner.cache_;
  cache.layout = model.MakeKvLayout(options.block_tokens, options.kv_dtype);
  cache.block_count = options.block_count;
  const auto block_count = static_cast<std::size_t>(options.block_count);
  PX_TRY(cache.buffer, operators.Allocate(block_count * cache.layout.block_size_bytes()));
  runner.free_blocks_.resize(block_count);
  std::iota(runner.free_blocks_.begin(), runner.free_blocks_.end(), 0);
  std::mt19937_64 random(options.seed);
  std::shuffle(runner.free_blocks_.begin(), runner.free_blocks_.end(), random);
  return runner;
}

Result<std::vector<float>> PagedRunner::Step(std::span<const RunnerChunk> chunks,
                                             const HiddenObserver* observer) {
  const ModelSpec& spec = model_.spec();
  const bool first_only = spec.task == ModelTask::kClassify && spec.pool_rows == PoolRows::kFirst;
  kernels::StepBatch batch;
  for (const RunnerChunk& chunk : chunks) {
    RunnerSequence& sequence = *chunk.sequence;
    PX_ASSERT(chunk.count > 0 &&
              static_cast<std::size_t>(sequence.done + chunk.count) <= sequence.tokens.size());
    const std::int32_t context = sequence.done + chunk.count;
    const std::int32_t block_count = CeilDiv(context, options_.block_tokens);
    while (static_cast<std::int32_t>(sequence.blocks.size()) < block_count) {
      if (free_blocks_.empty()) {
        return Fail(Code::kResourceExhausted, "the runner has no free KV block");
      }
      sequence.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    batch.sequences.push_back({.token_begin = static_cast<std::int32_t>(batch.token_ids.size()),
                               .token_count = chunk.count,
                               .context_tokens = context,
                               .block_begin = static_cast<std::int32_t>(batch.block_table.size()),
                               .block_count = block_count});
    batch.block_table.insert(batch.block_table.end(), sequence.blocks.begin(),
                             sequence.blocks.begin() + block_count);
    for (std::int32_t position = sequence.done; position < context; ++position) {
      if (!first_only || position == 0) {
        batch.logit_rows.push_back(static_cast<std::int32_t>(batch.token_ids.size()));
      }
      if (spec.token_type_count > 0) {
        batch.token_types.push_back(sequence.token_types.empty()
                                        ? 0
                                        : sequence.token_types[static_cast<std::size_t>(position)]);
      }
      batch.token_ids.push_back(sequence.tokens[static_cast<std::size_t>(position)]);
      batch.positions.push_back(position);
      batch.adapter_slots.push_back(sequence.adapter_slot);
      const std::int32_t block =
          sequence.blocks[static_cast<std::size_t>(position / options_.block_tokens)];
      batch.slots.push_back(block * options_.block_tokens + position % options_.block_tokens);
    }
    AddMedia(sequence.media, sequence.done, chunk.count, batch);
  }
  std::vector<float> logits(batch.logit_rows.size() * static_cast<std::size_t>(spec.row_size));
  PX_CHECK_OK(model_.Forward(batch, cache_, logits, observer));
  for (const RunnerChunk& chunk : chunks) {
    chunk.sequence->done += chunk.count;
  }
  return logits;
}

void PagedRunner::Release(RunnerSequence& sequence) {
  free_blocks_.insert(free_blocks_.end(), sequence.blocks.begin(), sequence.blocks.end());
  sequence.blocks.clear();
  sequence.done = 0;
}

std::int32_t ArgMax(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace pixii::model
