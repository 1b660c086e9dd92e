// Which tensors of a checkpoint hold a linear, plain or quantised: found, and their shapes checked.
//
// Thread: pure functions; results borrow the checkpoint and the quantization spec.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/quantization.h"

namespace pixii::model {

inline constexpr std::int64_t kMxfp4Group = 32;  // elements of one scale

/// The tensors of one linear of [rows, cols], shapes and dtypes checked.
struct StoredLinear {
  const WeightScheme* scheme = nullptr;      // null: `codes` holds plain values or GGUF blocks
  const CheckpointTensor* codes = nullptr;   // weight, weight_packed or qweight
  const CheckpointTensor* scales = nullptr;  // null only without a scheme
  const CheckpointTensor* zeros = nullptr;   // null: symmetric
  const CheckpointTensor* order = nullptr;   // g_idx; null: groups are runs of columns
  std::vector<std::string> unused;           // companions that change nothing here
};

/// Finds the linear whose plain tensor would be `name` ("….weight"). What the file holds decides
/// whether it is quantised, `quantization` says how. Errors with file, offset and tensor:
/// kDataCorrupt (missing, other shape), kUnsupported (a dtype or form that nothing here reads).
Result<StoredLinear> FindLinear(const QuantizationSpec& quantization, const Checkpoint& checkpoint,
                                const std::string& name, std::int64_t rows, std::int64_t cols);

/// One matrix of a tensor that stacks several: `rows` rows from `row_begin` in steps of `row_step`
/// of matrix `index` of [count, stored_rows, cols].
struct StackedSlice {
  std::string name;  // of the plain tensor; MXFP4 lies in name_blocks and name_scales
  std::int64_t index = 0;
  std::int64_t count = 1;
  std::int64_t stored_rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_begin = 0;
  std::int64_t row_step = 1;
  bool transposed = false;  // a plain tensor is stored as [count, cols, stored_rows]

  std::int64_t rows() const { return (stored_rows - row_begin + row_step - 1) / row_step; }
};

struct StoredStack {
  const CheckpointTensor* values = nullptr;  // plain values or MXFP4 blocks
  const CheckpointTensor* scales = nullptr;  // null: plain
};

/// As FindLinear, for the whole stack. Only count, stored_rows, cols and transposed are read.
Result<StoredStack> FindStack(const QuantizationSpec& quantization, const Checkpoint& checkpoint,
                              const StackedSlice& slice);

}  // namespace pixii::model
