// Packs planned chunks into the descriptor that a device reads.
#pragma once

#include <cstdint>
#include <span>

#include "engine/scheduler.h"
#include "kernels/step.h"

namespace pixii::engine {

/// Makes it a step of nothing; its memory stays.
void ClearBatch(kernels::StepBatch& batch);

/// Overwrites `batch`. Logit rows of a chunk: its prompt rows, then those it samples from. A token
/// that the step in flight has yet to give stands as 0 until PatchTokens.
void BuildStep(std::span<const Chunk> chunks, std::uint32_t block_tokens,
               kernels::StepBatch& batch);

/// Puts in the tokens that were not there when BuildStep made `batch` of the same chunks.
void PatchTokens(std::span<const Chunk> chunks, kernels::StepBatch& batch);

/// How many logit rows BuildStep gives `chunk`.
inline std::uint32_t LogitRowCount(const Chunk& chunk) {
  return chunk.prompt_rows_count + chunk.sample_rows;
}

}  // namespace pixii::engine
