// What every model asks of a step before it runs it.
//
// Thread: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "kernels/step.h"
#include "model/language_model.h"

namespace pixii::model {

struct StepBounds {
  std::int32_t vocab_size = 0;
  std::int32_t row_size = 0;  // floats of one row of the result
  std::int32_t context_tokens_max = 0;
  std::int32_t step_tokens_max = 0;
  std::int32_t step_logit_rows_max = 0;
  std::int32_t block_tokens = 0;
  std::int32_t block_count = 0;
};

/// `options` with context_tokens_max set. Errors: kInvalidArgument naming the option out of range.
Result<LoadOptions> CheckLoadOptions(const LoadOptions& options, std::int32_t context_tokens_max);

/// kInvalidArgument naming the batch's field.
tl::unexpected<Error> BadStep(std::string_view field, std::string_view what);

/// Whether a backend can run `batch` for `result_size` floats of rows: sizes agree, all indices are
/// in range, sequences cover the rows. Errors: those of BadStep.
Result<void> CheckStep(const kernels::StepBatch& batch, const StepBounds& bounds,
                       std::size_t result_size);

/// Whether what `batch` gives besides text fits its rows: embeddings of `hidden_size`, whole levels
/// of those added, three positions a row, mutual rows inside of sequences. Pre: CheckStep took it.
/// Errors: those of BadStep.
Result<void> CheckEmbedded(const kernels::StepBatch& batch, std::size_t hidden_size);

/// kModelFault unless `faulty_rows` of the `row_count` rows of a result is empty.
Result<void> CheckFaultyRows(std::span<const std::int32_t> faulty_rows, std::size_t row_count);

}  // namespace pixii::model
