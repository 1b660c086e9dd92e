// The tensors a decoder wants, and where they come from: a checkpoint, or a generator for benches.
//
// Thread: one caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/checkpoint.h"
#include "model/decoder_spec.h"

namespace pixii::model {

enum class ParameterKind : std::uint8_t { kEmbedding, kAttention, kMlp, kNorm, kHead };

std::string_view ParameterKindName(ParameterKind kind);

struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;  // [rows, cols] or [size]
  ParameterKind kind = ParameterKind::kAttention;
};

/// Every tensor that `spec` says the checkpoint has, in the order of the computation.
std::vector<ExpectedTensor> ExpectedTensors(const DecoderSpec& spec);

/// `pattern` with "{}" replaced by the layer's index.
std::string LayerName(const std::string& pattern, std::size_t layer);

/// Checks that the checkpoint holds exactly these tensors in these shapes and readable dtypes.
/// Errors: kDataCorrupt (missing, other shape), kUnsupported (dtype, a tensor that nothing here
/// would use), with file and offset.
Result<void> CheckTensors(const DecoderSpec& spec, const Checkpoint& checkpoint);

/// What one tensor looks like to a backend's Prepare: host memory in row-major order, aligned to
/// its element.
class Weights {
 public:
  virtual ~Weights() = default;

  /// Tensor `name` of [rows, cols]; valid until Release.
  virtual Result<kernels::WeightPart> Part(const std::string& name, std::int64_t rows,
                                           std::int64_t cols) = 0;

  /// Tensor `name` of [size] as fp32.
  virtual Result<std::vector<float>> Vector(const std::string& name, std::int64_t size) = 0;

  /// Forgets what Part made.
  virtual void Release() = 0;
};

/// Reads from `checkpoint`, which outlives the result. Pre: CheckTensors passed.
std::unique_ptr<Weights> MakeCheckpointWeights(const Checkpoint& checkpoint);

/// bf16 values of mean 0 and deviation 0.02 by name and seed; norms are 1, biases 0.
std::unique_ptr<Weights> MakeRandomWeights(std::uint64_t seed);

}  // namespace pixii::model
