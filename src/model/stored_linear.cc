#include "model/stored_linear.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace pixii::model {
namespace {

using Shape = std::vector<std::int64_t>;

constexpr std::string_view kWeightSuffix = ".weight";

std::string ShapeText(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

/// Finds the tensors of one module and checks them; the first failure is kept.
class Finder final {
 public:
  Finder(const Checkpoint& checkpoint, std::string module)
      : checkpoint_(checkpoint), module_(std::move(module)) {}

  const std::string& module() const { return module_; }

  bool Has(std::string_view suffix) const { return Find(suffix) != nullptr; }

  const CheckpointTensor* Find(std::string_view suffix) const {
    return checkpoint_.Find(module_ + std::string(suffix));
  }

  /// The tensor, of one of `types` and one of `shapes`.
  Result<const CheckpointTensor*> Want(std::string_view suffix,
                                       std::initializer_list<StoredType> types,
                                       std::initializer_list<Shape> shapes) const {
    const CheckpointTensor* tensor = Find(suffix);
    if (tensor == nullptr) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: tensor {}{} of shape {} is missing",
                              fmt::join(checkpoint_.file_names(), ", "), module_, suffix,
                              ShapeText(*shapes.begin())),
                  module_);
    }
    if (std::find(types.begin(), types.end(), tensor->stored.type) == types.end()) {
      return Fail(Code::kUnsupported,
                  fmt::format("{} has dtype {}, which its scheme does not have there",
                              checkpoint_.Place(*tensor), StoredTypeName(tensor->stored.type)),
                  module_);
    }
    if (std::find(shapes.begin(), shapes.end(), tensor->stored.shape) == shapes.end()) {
      return Fail(
          Code::kDataCorrupt,
          fmt::format("{} has shape {}, config.json asks for {}", checkpoint_.Place(*tensor),
                      ShapeText(tensor->stored.shape), ShapeText(*shapes.begin())),
          module_);
    }
    return tensor;
  }

  /// The stored shape where it is that of a convolution's kernels [rows, a, b, …] of `cols` values
  /// each, which are rows of a matrix; else [rows, cols].
  Shape KernelShape(std::string_view suffix, std::int64_t rows, std::int64_t cols) const {
    const CheckpointTensor* tensor = Find(suffix);
    if (tensor == nullptr || tensor->stored.shape.size() < 3 || tensor->stored.shape[0] != rows) {
      return {rows, cols};
    }
    std::int64_t values = 1;
    for (std::size_t i = 1; i < tensor->stored.shape.size() && values <= cols; ++i) {
      values *= tensor->stored.shape[i];
    }
    return values == cols ? tensor->stored.shape : Shape{rows, cols};
  }

  tl::unexpected<Error> Unsupported(std::string_view what) const {
    return Fail(Code::kUnsupported, fmt::format("{}: {}", module_, what), module_);
  }

 private:
  const Checkpoint& checkpoint_;
  std::string module_;
};

constexpr std::initializer_list<StoredType> kScaleTypes = {StoredType::kF32, StoredType::kF16,
                                                           StoredType::kBf16};

std::int64_t ScaleRows(const WeightScheme& scheme, std::int64_t rows) {
  return scheme.scale_rows == 0 ? 1 : CeilDiv(rows, scheme.scale_rows);
}

std::int64_t ScaleCols(const WeightScheme& scheme, std::int64_t cols) {
  return scheme.scale_cols == 0 ? 1 : CeilDiv(cols, scheme.scale_cols);
}

/// Shapes a scale of [rows, cols] may have in the file: one scale is also [1] or [].
Result<const CheckpointTensor*> WantScales(const Finder& finder, std::string_view suffix,
                                           std::initializer_list<StoredType> types,
                                           std::int64_t rows, std::int64_t cols) {
  if (rows == 1 && cols == 1) {
    return finder.Want(suffix, types, {{1}, {}, {1, 1}});
  }
  if (cols == 1) {
    return finder.Want(suffix, types, {{rows, 1}, {rows}});
  }
  return finder.Want(suffix, types, {{rows, cols}});
}

/// Companions of any scheme that are read by nobody here.
void CollectUnused(const Finder& finder, StoredLinear& linear) {
  for (const std::string_view suffix :
       {".input_scale", ".output_scale", ".weight_shape", ".input_zero_point", ".activation_scale",
        ".input_scale_ub"}) {
    if (finder.Has(suffix)) {
      linear.unused.push_back(finder.module() + std::string(suffix));
    }
  }
}

Result<void> FindFloat8(const Finder& finder, std::int64_t rows, std::int64_t cols,
                        StoredLinear& out) {
  PX_TRY(out.codes, finder.Want(".weight", {StoredType::kF8E4m3}, {{rows, cols}}));
  const bool inverse = finder.Has(".weight_scale_inv");
  PX_TRY(out.scales,
         WantScales(finder, inverse ? ".weight_scale_inv" : ".weight_scale",
                    {StoredType::kF32, StoredType::kF16, StoredType::kBf16, StoredType::kF8E8m0},
                    ScaleRows(*out.scheme, rows), ScaleCols(*out.scheme, cols)));
  return {};
}

Result<void> FindInt8(const Finder& finder, std::int64_t rows, std::int64_t cols,
                      StoredLinear& out) {
  const std::int64_t scale_rows = ScaleRows(*out.scheme, rows);
  const std::int64_t scale_cols = ScaleCols(*out.scheme, cols);
  PX_TRY(out.codes, finder.Want(".weight", {StoredType::kI8}, {{rows, cols}}));
  PX_TRY(out.scales, WantScales(finder, ".weight_scale", kScaleTypes, scale_rows, scale_cols));
  if (!out.scheme->symmetric) {
    PX_TRY(out.zeros,
           WantScales(finder, ".weight_zero_point", {StoredType::kI8}, scale_rows, scale_cols));
  }
  return {};
}

Result<void> CheckStoredShape(const Checkpoint& checkpoint, const Finder& finder, std::int64_t rows,
                              std::int64_t cols) {
  PX_TRY(const CheckpointTensor* shape,
         finder.Want(".weight_shape", {StoredType::kI64, StoredType::kI32}, {{2}}));
  std::array<std::int64_t, 2> stored{};
  for (std::size_t i = 0; i < 2; ++i) {
    if (shape->stored.type == StoredType::kI64) {
      std::memcpy(&stored[i], shape->bytes.data() + i * 8, 8);
    } else {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, shape->bytes.data() + i * 4, 4);
      stored[i] = narrow;
    }
  }
  if (stored[0] != rows || stored[1] != cols) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{} says [{}, {}], config.json asks for [{}, {}]",
                            checkpoint.Place(*shape), stored[0], stored[1], rows, cols),
                finder.module());
  }
  return {};
}

Result<void> FindPacked(const Checkpoint& checkpoint, const Finder& finder, std::int64_t rows,
                        std::int64_t cols, StoredLinear& out) {
  const WeightScheme& scheme = *out.scheme;
  if (scheme.scale_rows > 1) {
    return finder.Unsupported("packed codes with scales per block of rows are not built");
  }
  const std::int64_t per_word = 32 / scheme.bits;
  const std::int64_t scale_rows = ScaleRows(scheme, rows);
  const std::int64_t scale_cols = ScaleCols(scheme, cols);
  PX_TRY(out.codes,
         finder.Want(".weight_packed", {StoredType::kI32}, {{rows, CeilDiv(cols, per_word)}}));
  PX_TRY(out.scales, WantScales(finder, ".weight_scale", kScaleTypes, scale_rows, scale_cols));
  PX_CHECK_OK(CheckStoredShape(checkpoint, finder, rows, cols));
  if (!scheme.symmetric) {
    const CheckpointTensor* zeros = finder.Find(".weight_zero_point");
    if (zeros != nullptr && zeros->stored.type == StoredType::kI8) {
      PX_TRY(out.zeros,
             WantScales(finder, ".weight_zero_point", {StoredType::kI8}, scale_rows, scale_cols));
    } else {
      PX_TRY(out.zeros, finder.Want(".weight_zero_point", {StoredType::kI32},
                                    {{CeilDiv(scale_rows, per_word), scale_cols}}));
    }
  }
  if (finder.Has(".weight_g_idx")) {
    PX_TRY(out.order, finder.Want(".weight_g_idx", {StoredType::kI32}, {{cols}}));
  }
  return {};
}

Result<void> FindGptqOrAwq(const Finder& finder, std::int64_t rows, std::int64_t cols,
                           StoredLinear& out) {
  const WeightScheme& scheme = *out.scheme;
  const std::int64_t per_word = 32 / scheme.bits;
  const std::int64_t groups = ScaleCols(scheme, cols);
  const bool gptq = scheme.kind == QuantKind::kGptq;
  if (rows % per_word != 0 || (gptq && cols % per_word != 0)) {
    return finder.Unsupported(
        fmt::format("[{}, {}] does not fill words of {} codes", rows, cols, per_word));
  }
  PX_TRY(out.codes,
         finder.Want(".qweight", {StoredType::kI32},
                     {gptq ? Shape{cols / per_word, rows} : Shape{cols, rows / per_word}}));
  PX_TRY(out.zeros, finder.Want(".qzeros", {StoredType::kI32}, {{groups, rows / per_word}}));
  PX_TRY(out.scales, finder.Want(".scales", kScaleTypes, {{groups, rows}}));
  // Some writers give every linear a bias; one of zeros changes nothing.
  const CheckpointTensor* bias = finder.Find(".bias");
  if (bias != nullptr && std::all_of(bias->bytes.begin(), bias->bytes.end(),
                                     [](std::byte byte) { return byte == std::byte{0}; })) {
    out.unused.push_back(bias->stored.name);
  }
  if (finder.Has(".g_idx")) {
    PX_TRY(out.order, finder.Want(".g_idx", {StoredType::kI32}, {{cols}}));
  }
  return {};
}

/// Whether the file holds the module as `kind` stores it.
bool IsStoredAs(const Finder& finder, QuantKind kind) {
  const CheckpointTensor* weight = finder.Find(kWeightSuffix);
  switch (kind) {
    case QuantKind::kFp8:
      return weight != nullptr && weight->stored.type == StoredType::kF8E4m3;
    case QuantKind::kInt8:
      return weight != nullptr && weight->stored.type == StoredType::kI8;
    case QuantKind::kPacked:
      return finder.Has(".weight_packed");
    case QuantKind::kGptq:
    case QuantKind::kAwq:
      return finder.Has(".qweight");
    case QuantKind::kMxfp4:
      return false;  // stacks only
  }
  PX_ASSERT(false);
}

Result<void> FindQuantized(const Checkpoint& checkpoint, const Finder& finder, std::int64_t rows,
                           std::int64_t cols, StoredLinear& out) {
  switch (out.scheme->kind) {
    case QuantKind::kFp8:
      return FindFloat8(finder, rows, cols, out);
    case QuantKind::kInt8:
      return FindInt8(finder, rows, cols, out);
    case QuantKind::kPacked:
      return FindPacked(checkpoint, finder, rows, cols, out);
    case QuantKind::kGptq:
    case QuantKind::kAwq:
      return FindGptqOrAwq(finder, rows, cols, out);
    case QuantKind::kMxfp4:
      break;  // IsStoredAs says no
  }
  PX_ASSERT(false);
}

}  // namespace

Result<StoredLinear> FindLinear(const QuantizationSpec& quantization, const Checkpoint& checkpoint,
                                const std::string& name, std::int64_t rows, std::int64_t cols) {
  const bool is_weight = name.ends_with(kWeightSuffix);
  const Finder finder(checkpoint,
                      is_weight ? name.substr(0, name.size() - kWeightSuffix.size()) : name);
  StoredLinear out;
  const WeightScheme* scheme = is_weight ? quantization.SchemeOf(finder.module()) : nullptr;
  if (scheme == nullptr || !IsStoredAs(finder, scheme->kind)) {
    const std::string_view suffix = is_weight ? kWeightSuffix : "";
    PX_TRY(out.codes,
           finder.Want(suffix,
                       {StoredType::kF32, StoredType::kF16, StoredType::kBf16, StoredType::kQ4_0,
                        StoredType::kQ4_1, StoredType::kQ5_0, StoredType::kQ5_1, StoredType::kQ8_0,
                        StoredType::kQ2K, StoredType::kQ3K, StoredType::kQ4K, StoredType::kQ5K,
                        StoredType::kQ6K, StoredType::kMxfp4},
                       {{rows, cols}, finder.KernelShape(suffix, rows, cols)}));
    if (out.codes->head_rows != 0 && rows % out.codes->head_rows != 0) {
      return finder.Unsupported(
          fmt::format("{} rows are no multiple of heads of {}", rows, out.codes->head_rows));
    }
    return out;
  }
  if (quantization.Ignores(finder.module())) {
    return finder.Unsupported("is stored quantised, although quantization_config excludes it");
  }
  out.scheme = scheme;
  CollectUnused(finder, out);
  PX_CHECK_OK(FindQuantized(checkpoint, finder, rows, cols, out));
  return out;
}

Result<StoredStack> FindStack(const QuantizationSpec& quantization, const Checkpoint& checkpoint,
                              const StackedSlice& slice) {
  const Finder finder(checkpoint, slice.name);
  StoredStack out;
  const WeightScheme* scheme = quantization.SchemeOf(slice.name);
  if (scheme == nullptr || scheme->kind != QuantKind::kMxfp4 || !finder.Has("_blocks")) {
    const Shape shape = slice.transposed ? Shape{slice.count, slice.cols, slice.stored_rows}
                                         : Shape{slice.count, slice.stored_rows, slice.cols};
    PX_TRY(out.values,
           finder.Want("", {StoredType::kF32, StoredType::kF16, StoredType::kBf16}, {shape}));
    return out;
  }
  const std::int64_t groups = slice.cols / kMxfp4Group;
  if (slice.cols % kMxfp4Group != 0) {
    return finder.Unsupported(
        fmt::format("{} columns are no multiple of {}", slice.cols, kMxfp4Group));
  }
  PX_TRY(out.values, finder.Want("_blocks", {StoredType::kU8},
                                 {{slice.count, slice.stored_rows, groups, kMxfp4Group / 2}}));
  PX_TRY(out.scales, finder.Want("_scales", {StoredType::kU8, StoredType::kF8E8m0},
                                 {{slice.count, slice.stored_rows, groups}}));
  return out;
}

}  // namespace pixii::model
