#include "engine/step_builder.h"

#include "base/assert.h"
#include "base/checked.h"
#include "engine/adapter_store.h"
#include "engine/sequence.h"
#include "model/sequence_media.h"
#include "wire/messages/media.h"

namespace pixii::engine {

namespace {

void AppendChunk(const Chunk& chunk, std::uint32_t block_tokens, kernels::StepBatch& batch) {
  const Sequence& sequence = *chunk.sequence;
  kernels::StepSequence& out = batch.sequences.emplace_back();
  std::uint32_t first_row = static_cast<std::uint32_t>(batch.token_ids.size());
  std::uint32_t end = chunk.begin + chunk.count;
  std::uint32_t block_count = CeilDiv(end, block_tokens);
  PX_ASSERT(block_count <= sequence.blocks.size());
  out.token_begin = static_cast<std::int32_t>(first_row);
  out.token_count = static_cast<std::int32_t>(chunk.count);
  out.context_tokens = static_cast<std::int32_t>(end);
  out.block_begin = static_cast<std::int32_t>(batch.block_table.size());
  out.block_count = static_cast<std::int32_t>(block_count);
  for (std::uint32_t i = 0; i < block_count; ++i) {
    batch.block_table.push_back(static_cast<std::int32_t>(Raw(sequence.blocks[i].id())));
  }
  for (std::uint32_t position = chunk.begin; position < end; ++position) {
    std::uint32_t block = Raw(sequence.blocks[position / block_tokens].id());
    const TokenId token = sequence.planned_token(position);
    batch.token_ids.push_back(wire::IsMediaToken(token) ? 0 : token);
    if (!sequence.token_types.empty()) {
      batch.token_types.resize(batch.token_ids.size());  // texts without types before it: all 0
      batch.token_types.back() = sequence.token_types[position];
    }
    batch.positions.push_back(static_cast<std::int32_t>(position));
    batch.slots.push_back(
        static_cast<std::int32_t>(block * block_tokens + position % block_tokens));
  }
  model::AddMedia(sequence.media, static_cast<std::int32_t>(chunk.begin),
                  static_cast<std::int32_t>(chunk.count), batch);
  if (sequence.adapter != nullptr) {
    batch.adapter_slots.resize(first_row, -1);
    batch.adapter_slots.resize(batch.token_ids.size(), sequence.adapter->slot);
  }
  for (std::uint32_t i = 0; i < chunk.prompt_rows_count; ++i) {
    batch.logit_rows.push_back(
        static_cast<std::int32_t>(first_row + chunk.prompt_rows_begin - chunk.begin + i));
  }
  for (std::uint32_t i = chunk.sample_rows; i > 0; --i) {
    batch.logit_rows.push_back(static_cast<std::int32_t>(first_row + chunk.count - i));
  }
}

}  // namespace

void ClearBatch(kernels::StepBatch& batch) {
  batch.token_ids.clear();
  batch.positions.clear();
  batch.token_types.clear();
  batch.slots.clear();
  batch.sequences.clear();
  batch.block_table.clear();
  batch.logit_rows.clear();
  batch.adapter_slots.clear();
  batch.hidden_rows.clear();
  batch.embedded_rows.clear();
  batch.embeddings.clear();
  batch.layer_embeddings.clear();
  batch.rope_positions.clear();
  batch.mutual_rows.clear();
}

void BuildStep(std::span<const Chunk> chunks, std::uint32_t block_tokens,
               kernels::StepBatch& batch) {
  ClearBatch(batch);
  for (const Chunk& chunk : chunks) {
    AppendChunk(chunk, block_tokens, batch);
  }
  if (!batch.adapter_slots.empty()) {
    batch.adapter_slots.resize(batch.token_ids.size(), -1);
  }
  if (!batch.token_types.empty()) {
    batch.token_types.resize(batch.token_ids.size());
  }
}

void PatchTokens(std::span<const Chunk> chunks, kernels::StepBatch& batch) {
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    // Only the newest token can have been missing.
    const Chunk& chunk = chunks[i];
    std::uint32_t last = chunk.begin + chunk.count - 1;
    auto row = static_cast<std::size_t>(batch.sequences[i].token_begin) + chunk.count - 1;
    batch.token_ids[row] = chunk.sequence->token(last);
  }
}

}  // namespace pixii::engine
