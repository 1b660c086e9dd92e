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
#include "model/quantized_weights.h"

namespace pixii::model {

enum class ParameterKind : std::uint8_t { kEmbedding, kAttention, kMlp, kNorm, kHead };

std::string_view ParameterKindName(ParameterKind kind);

/// A tensor as values: a linear may instead lie in the file as its scheme says, under names of the
/// scheme.
struct ExpectedTensor {
  std::string name;
  std::vector<std::int64_t> shape;  // [rows, cols], [size], or a stack [count, rows, cols]
  ParameterKind kind = ParameterKind::kAttention;
  bool transposed = false;  // of a stack of values: stored as [count, cols, rows]
};

/// Every tensor that `spec` says the checkpoint has, in the order of the computation.
std::vector<ExpectedTensor> ExpectedTensors(const DecoderSpec& spec);

/// `pattern` with "{}" replaced by the layer's index.
std::string LayerName(const std::string& pattern, std::size_t layer);

/// What a checkpoint holds beside a decoder; one of `harmless` that ends in "." stands for all
/// below.
struct BesideTensors {
  std::vector<ExpectedTensor> tensors;
  std::vector<std::string> harmless;
};

/// Checks that the checkpoint holds exactly these tensors in these shapes and readable dtypes,
/// quantised ones with their scales. Errors: kDataCorrupt (missing, other shape), kUnsupported
/// (dtype, a tensor that nothing here would use), with file and offset.
Result<void> CheckTensors(const DecoderSpec& spec, const Checkpoint& checkpoint,
                          const BesideTensors& beside = {});

/// The same of a list: `harmless` may be there besides; one that ends in "." stands for all below.
Result<void> CheckTensors(std::span<const ExpectedTensor> expected,
                          std::span<const std::string> harmless, std::string_view architecture,
                          const Checkpoint& checkpoint);

/// Checks that these are there, whatever else is. Errors as CheckTensors'.
Result<void> CheckPresent(std::span<const ExpectedTensor> expected,
                          const QuantizationSpec& quantization, const Checkpoint& checkpoint);

/// What one tensor looks like to a backend's Prepare: host memory in row-major order, aligned to
/// its element.
class Weights {
 public:
  virtual ~Weights() = default;

  /// Tensor `name` ("….weight") of [rows, cols], as values or as the codes it is stored in; valid
  /// until Release. Errors: kDataCorrupt naming a tensor whose values or scales are not finite
  /// (CheckFinite).
  virtual Result<kernels::WeightPart> Part(const std::string& name, std::int64_t rows,
                                           std::int64_t cols) = 0;

  /// Matrix slice.index of a stack: experts in one tensor, plain or MXFP4. Valid until Release.
  virtual Result<kernels::WeightPart> Slice(const StackedSlice& slice) = 0;

  /// Tensor `name` of [size] as fp32.
  virtual Result<std::vector<float>> Vector(const std::string& name, std::int64_t size) = 0;

  /// Forgets what Part made.
  virtual void Release() = 0;
};

/// Reads from `checkpoint`, which outlives the result. Pre: CheckTensors passed.
std::unique_ptr<Weights> MakeCheckpointWeights(const Checkpoint& checkpoint,
                                               QuantizationSpec quantization);

/// How MakeRandomWeights stores matrices: bf16 values; int8 codes with a scale for each row; int4
/// codes in groups of 128 as `pixii quantize` writes them; blocks of GGUF's Q8_0 and Q4_0.
enum class RandomForm : std::uint8_t { kBf16, kInt8, kInt4, kQ8_0, kQ4_0 };

/// Bytes of a parameter in that form, its share of a row's scales included. `cols` of a row.
double RandomParameterBytes(RandomForm form, std::int64_t cols);

/// Values of mean 0 and deviation about 0.02 by name and seed; norms are 1, biases 0.
std::unique_ptr<Weights> MakeRandomWeights(std::uint64_t seed, RandomForm form = RandomForm::kBf16);

}  // namespace pixii::model
