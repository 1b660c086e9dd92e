// Quantises a folder of bf16, f16 or f32 weights to int8 or int4, as compressed-tensors stores
// them.
//
// Thread: one caller. docs/formats/quantized_weights.md has the formulas and how scales are chosen.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"

namespace pixii::model {

enum class QuantizeScheme : std::uint8_t {
  kInt8,  // a scale for each output
  kInt4   // a scale for each group of columns of an output
};

struct QuantizeOptions {
  QuantizeScheme scheme = QuantizeScheme::kInt8;
  std::int64_t group_size = 128;                          // columns, kInt4: 32, 64 or 128
  bool head = false;                                      // the output projection too
  std::uint64_t shard_size_max = std::uint64_t{5} << 30;  // bytes of one file
  /// Called after each tensor with the bytes written and to write; may be empty.
  std::function<void(std::uint64_t written, std::uint64_t total)> progress = {};
};

struct QuantizeReport {
  std::int64_t quantized_count = 0;  // linears
  std::int64_t kept_count = 0;       // linears that were left: columns do not fill groups, routers
  std::uint64_t source_bytes = 0;
  std::uint64_t target_bytes = 0;
  double signal_to_noise_db = 0.0;  // of the quantised weights, all together
};

/// Writes folder `target`, which appears whole or not at all, from folder `source`. Errors:
/// kInvalidArgument (a bad option, `target` exists), kUnsupported (`source` is quantised already,
/// or nothing in it can be), those of reading and writing.
Result<QuantizeReport> QuantizeFolder(const std::string& source, const std::string& target,
                                      const QuantizeOptions& options);

/// The scale of `values` (bf16) that gives the least squared error when they are rounded to -8 ..
/// 7; 0 if all are 0. O(values).
float SearchInt4Scale(std::span<const float> values);

}  // namespace pixii::model
