// One engine step as the device sees it: packed arrays, uploaded together, no pointers into
// scheduler state.
//
// T = tokens of the step, S = sequences in it, R = rows whose logits are wanted.
// Source: architecture.md section 6 (packed descriptor, no host synchronisation inside a step).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
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

/// Rows of one sequence that see each other both ways, as those of a picture do where the model was
/// trained so: each sees the positions from `position_begin` to that of the last of them, whatever
/// a window says, beside those before it that it sees anyway. Rows before the first that belong to
/// them were computed with them and are in the cache.
struct MutualRows {
  std::int32_t row_begin = 0;
  std::int32_t row_count = 0;       // >= 1
  std::int32_t position_begin = 0;  // at most that of row_begin

  std::int32_t row_end() const { return row_begin + row_count; }
};

struct StepBatch {
  std::vector<std::int32_t> token_ids;    // [T]
  std::vector<std::int32_t> positions;    // [T] absolute, 0 .. context - 1
  std::vector<std::int32_t> token_types;  // [T] of an encoder; empty: all 0
  std::vector<std::int32_t>
      slots;  // [T] block * block_tokens + offset: where this token's K and V go
  std::vector<StepSequence> sequences;    // [S] in row order, without gaps
  std::vector<std::int32_t> block_table;  // block ids of all sequences, one run each
  std::vector<std::int32_t> logit_rows;   // [R] rows of T, ascending
  /// [T] slot of the adapter that a row is computed with, -1: none; empty: all none.
  std::vector<std::int32_t> adapter_slots;
  /// [T, hidden_size] of a draft head: the target's states of the tokens before; else empty.
  std::vector<float> hidden_rows;

  // Images and what else is not text (model/sequence_media.h fills these in).
  /// [E] rows of T whose embeddings are given, ascending; token_ids of them are in the vocabulary
  /// and otherwise mean nothing.
  std::vector<std::int32_t> embedded_rows;
  std::vector<float> embeddings;  // [E, hidden_size]
  /// [E, levels, hidden_size], added to those rows after layer `level`; empty: nothing is.
  std::vector<float> layer_embeddings;
  /// [T, 3] time, height and width by which a row turns; empty: all three are its position.
  std::vector<std::int32_t> rope_positions;
  /// Ascending, not overlapping; all other rows see what comes before them.
  std::vector<MutualRows> mutual_rows;
};

/// A step where a backend's operators read it (Operators::UploadStep): the same arrays in the
/// backend's memory. Sizes are counts of rows that operators run, never fewer than the batch's.
///
/// A device may pad the rows, so that few shapes occur and a recorded step can be replayed. A
/// padding row has token 0 and position 0, its slot and sequence are -1: nothing of it is stored or
/// attended to, and its values are finite and mean nothing. A padding logit row is row 0.
struct StepView {
  StepView() = default;

  /// The host's own arrays, without padding.
  StepView(const StepBatch& batch)  // NOLINT(google-explicit-constructor): a batch is a view
      : token_ids(batch.token_ids),
        positions(batch.positions),
        slots(batch.slots),
        sequences(batch.sequences),
        block_table(batch.block_table),
        logit_rows(batch.logit_rows),
        adapter_slots(batch.adapter_slots),
        hidden_rows(batch.hidden_rows),
        embedded_rows(batch.embedded_rows),
        embeddings(batch.embeddings),
        layer_embeddings(batch.layer_embeddings),
        mutual_rows(batch.mutual_rows) {}

  std::span<const std::int32_t> token_ids;  // [rows]
  std::span<const std::int32_t> positions;  // [rows]
  std::span<const std::int32_t> slots;      // [rows]
  std::span<const StepSequence> sequences;
  std::span<const std::int32_t> block_table;
  std::span<const std::int32_t> logit_rows;     // [logit rows]
  std::span<const std::int32_t> adapter_slots;  // [rows]; empty: no row has an adapter
  std::span<const float> hidden_rows;           // [rows, hidden_size]; on the host only
  std::span<const std::int32_t> row_sequences;  // [rows] index into sequences; empty on the host
  // As StepBatch's; on the host only.
  std::span<const std::int32_t> embedded_rows;
  std::span<const float> embeddings;
  std::span<const float> layer_embeddings;
  std::span<const MutualRows> mutual_rows;
  /// [rows, rotary_dim / 2] cosines, then as many sines, of rows that turn by three positions; and
  /// 0, 1, … to look them up by. Empty: rows turn by `positions`. On the host only.
  std::span<const float> rope_factors;
  std::span<const std::int32_t> row_numbers;
};

/// What a recorded step depends on beside the values in its StepView: equal keys, equal work.
struct StepKey {
  const void* owner = nullptr;  // whose function runs: a model
  const void* cache = nullptr;  // memory of the KV cache
  std::size_t rows = 0;
  std::size_t logit_rows = 0;
  bool every_row = false;  // logit rows are all rows, so nothing is gathered

  bool operator==(const StepKey&) const = default;
};

}  // namespace pixii::kernels
