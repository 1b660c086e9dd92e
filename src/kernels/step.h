// One engine step as the device sees it: packed arrays, uploaded together, no pointers into
// scheduler state.
//
// T = tokens of the step, S = sequences in it, R = rows whose logits are wanted.
// Source: architecture.md section 6 (packed descriptor, no host synchronisation inside a step).
#pragma once

#include <cstdint>
#include <vector>

namespace pixii::kernels {

/// A run of new tokens of one sequence. Prefill chunks and decode tokens look alike.
struct StepSequence {
  std::int32_t token_begin = 0;  // first row in StepBatch::token_ids
  std::int32_t token_count = 0;  // >= 1
  std::int32_t context_tokens =
      0;  // tokens in the KV cache once this step has stored its own: last position + 1
  std::int32_t block_begin = 0;  // first entry in StepBatch::block_table
  std::int32_t block_count = 0;  // ceil(context_tokens / block_tokens)
};

struct StepBatch {
  std::vector<std::int32_t> token_ids;  // [T]
  std::vector<std::int32_t> positions;  // [T] absolute, 0 .. context - 1
  std::vector<std::int32_t>
      slots;  // [T] block * block_tokens + offset: where this token's K and V go
  std::vector<StepSequence> sequences;    // [S] in row order, without gaps
  std::vector<std::int32_t> block_table;  // block ids of all sequences, one run each
  std::vector<std::int32_t> logit_rows;   // [R] rows of T, ascending
};

}  // namespace pixii::kernels
