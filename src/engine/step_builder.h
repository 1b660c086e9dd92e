// Packs planned chunks into the descriptor that a device reads.
#pragma once

#include <cstdint>
#include <span>

#include "engine/scheduler.h"
#include "kernels/step.h"

namespace pixii::engine {

/// Overwrites `batch`. Logit rows of a chunk: its prompt rows, then its last row if it samples.
void BuildStep(std::span<const Chunk> chunks, std::uint32_t block_tokens,
               kernels::StepBatch& batch);

/// How many logit rows BuildStep gives `chunk`.
inline std::uint32_t LogitRowCount(const Chunk& chunk) {
  return chunk.prompt_rows_count + (chunk.samples ? 1 : 0);
}

}  // namespace pixii::engine
