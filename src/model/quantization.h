// How a checkpoint's linears are quantised: what config.json's quantization_config says, as values.
//
// Thread: values. docs/formats/quantized_weights.md has each scheme's formula.
// Source: the configs of compressed-tensors, AutoGPTQ/GPTQModel, AutoAWQ, DeepSeek-V3, gpt-oss.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config_reader.h"

namespace pixii::text {
class Regex;
}

namespace pixii::model {

/// Which tensors hold a linear `X` of [rows, cols] and how they are read.
enum class QuantKind : std::uint8_t {
  kFp8,     // X.weight F8_E4M3, X.weight_scale or X.weight_scale_inv
  kInt8,    // X.weight I8, X.weight_scale, X.weight_zero_point
  kPacked,  // compressed-tensors: X.weight_packed, X.weight_scale, X.weight_zero_point, …
  kGptq,    // X.qweight, X.qzeros, X.scales, X.g_idx
  kAwq,     // X.qweight, X.qzeros, X.scales
  kMxfp4,   // stacked experts: X_blocks, X_scales
};

struct WeightScheme {
  QuantKind kind = QuantKind::kInt8;
  std::int32_t bits = 8;  // of a code: 8, 4 or (kGptq) 2
  /// What one scale covers; 0 = all rows, all columns. Group size 128: {1, 128}.
  std::int64_t scale_rows = 1;
  std::int64_t scale_cols = 0;
  bool symmetric = true;       // no zero points are stored
  bool zero_plus_one = false;  // kGptq: the stored zero is one less than the real one
};

/// The name of a module, or of many: a regular expression matched at its beginning.
struct ModulePattern {
  std::string text;
  std::shared_ptr<const text::Regex> regex;  // null: `text` is the whole name

  bool Matches(std::string_view module) const;
};

struct TargetedScheme {
  std::vector<ModulePattern> targets;  // empty: every linear
  WeightScheme scheme;
};

struct QuantizationSpec {
  std::string method;  // as config.json names it; empty: nothing is quantised
  std::vector<TargetedScheme> schemes;
  std::vector<ModulePattern> ignored;  // modules that must not be stored quantised

  /// The scheme of a linear: that of the first target naming it, else that of every linear; null if
  /// there is none.
  const WeightScheme* SchemeOf(std::string_view module) const;
  bool Ignores(std::string_view module) const;
};

/// Reads quantization_config or compression_config; a config without them gives an empty spec.
/// Errors: kUnsupported naming key, value and reason for whatever is not exactly understood;
/// kInvalidArgument for values out of range.
Result<QuantizationSpec> ReadQuantization(const ConfigReader& config);

}  // namespace pixii::model
