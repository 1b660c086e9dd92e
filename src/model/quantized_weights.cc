#include "model/quantized_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "kernels/weight_source.h"
#include "model/gguf_blocks.h"

namespace pixii::model {
namespace {

using kernels::WeightCode;
using kernels::WeightPart;

/// Bit offsets of AWQ's nibbles: nibble i of a word belongs to output 8 * word + kAwqOutput[i].
constexpr std::array<std::int64_t, 8> kAwqOutput = {0, 2, 4, 6, 1, 3, 5, 7};

/// fp32 scales, all finite.
Result<std::span<float>> ReadScales(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                                    PartMemory& memory) {
  const std::size_t count = tensor.stored.size_bytes / StoredTypeSize(tensor.stored.type);
  const std::span<float> out = memory.Floats(count);
  WidenTo(tensor, out);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: scale {} is {}", checkpoint.Place(tensor), i, out[i]),
                  tensor.stored.name);
    }
  }
  return out;
}

std::uint32_t WordAt(const CheckpointTensor& tensor, std::int64_t index) {
  std::uint32_t word = 0;
  std::memcpy(&word, tensor.bytes.data() + index * 4, sizeof(word));
  return word;
}

/// Groups of each column by g_idx; nothing if they are runs of `group` columns as without it.
Result<std::optional<std::vector<std::int32_t>>> ReadOrder(const Checkpoint& checkpoint,
                                                           const CheckpointTensor& tensor,
                                                           std::int64_t group,
                                                           std::int64_t group_count) {
  std::vector<std::int32_t> out(tensor.stored.size_bytes / sizeof(std::int32_t));
  std::memcpy(out.data(), tensor.bytes.data(), out.size() * sizeof(std::int32_t));
  bool plain = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (out[i] < 0 || out[i] >= group_count) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}: column {} is of group {}, there are {}",
                              checkpoint.Place(tensor), i, out[i], group_count),
                  tensor.stored.name);
    }
    plain = plain && out[i] == static_cast<std::int64_t>(i) / group;
  }
  return plain ? std::optional<std::vector<std::int32_t>>() : std::move(out);
}

/// Decodes a part whose columns belong to groups in any order: no run of columns shares a scale.
Result<WeightPart> Scatter(const WeightPart& part, const std::vector<std::int32_t>& order,
                           PartMemory& memory) {
  const std::span<float> values = memory.Floats(static_cast<std::size_t>(part.rows * part.cols));
  const float one = 1.0F;
  WeightPart codes = part;
  codes.scales = &one;
  codes.offsets = nullptr;
  codes.scale_rows = part.rows;
  codes.scale_cols = part.cols;
  const std::int64_t groups = kernels::ScaleColumns(part);
  for (std::int64_t row = 0; row < part.rows; ++row) {
    float* out = values.data() + row * part.cols;
    kernels::ReadRow(codes, row, out);
    const std::int64_t at = row / part.scale_rows * groups;
    for (std::int64_t i = 0; i < part.cols; ++i) {
      const std::int64_t group = at + order[static_cast<std::size_t>(i)];
      out[i] = out[i] * part.scales[group] + (part.offsets == nullptr ? 0.0F : part.offsets[group]);
    }
  }
  return WeightPart{
      .data = values.data(), .dtype = kernels::DType::kF32, .rows = part.rows, .cols = part.cols};
}

/// The part with g_idx applied, if there is one.
Result<WeightPart> Order(const Checkpoint& checkpoint, const StoredLinear& linear,
                         const WeightPart& part, PartMemory& memory) {
  if (linear.order == nullptr) {
    return part;
  }
  PX_TRY(const auto order,
         ReadOrder(checkpoint, *linear.order, part.scale_cols, kernels::ScaleColumns(part)));
  return order ? Scatter(part, *order, memory) : Result<WeightPart>(part);
}

/// A part of this scheme without data: block sizes filled in.
WeightPart EmptyPart(const WeightScheme& scheme, WeightCode code, std::int64_t rows,
                     std::int64_t cols) {
  return {.rows = rows,
          .cols = cols,
          .code = code,
          .scale_rows = scheme.scale_rows == 0 ? rows : scheme.scale_rows,
          .scale_cols = scheme.scale_cols == 0 ? cols : scheme.scale_cols};
}

Result<WeightPart> MakeByteCodes(const Checkpoint& checkpoint, const StoredLinear& linear,
                                 std::int64_t rows, std::int64_t cols, PartMemory& memory) {
  const bool fp8 = linear.scheme->kind == QuantKind::kFp8;
  WeightPart part =
      EmptyPart(*linear.scheme, fp8 ? WeightCode::kFp8E4m3 : WeightCode::kInt8, rows, cols);
  part.data = linear.codes->bytes.data();
  PX_TRY(const auto scales, ReadScales(checkpoint, *linear.scales, memory));
  part.scales = scales.data();
  if (linear.zeros != nullptr) {
    const std::span<float> offsets = memory.Floats(scales.size());
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const auto zero = static_cast<float>(std::to_integer<std::int8_t>(linear.zeros->bytes[i]));
      offsets[i] = -zero * scales[i];
    }
    part.offsets = offsets.data();
  }
  return part;
}

/// Zero of scale (row, group), as an unsigned code.
std::uint32_t PackedZero(const StoredLinear& linear, std::int64_t row, std::int64_t group,
                         std::int64_t group_count) {
  const std::int32_t bits = linear.scheme->bits;
  const std::uint32_t half = 1U << (static_cast<unsigned>(bits) - 1);
  if (linear.zeros == nullptr) {
    return half;
  }
  if (linear.zeros->stored.type == StoredType::kI8) {
    const auto zero = std::to_integer<std::int8_t>(
        linear.zeros->bytes[static_cast<std::size_t>(row * group_count + group)]);
    return static_cast<std::uint32_t>(zero + static_cast<std::int32_t>(half));
  }
  const std::int64_t per_word = 32 / bits;
  const std::uint32_t word = WordAt(*linear.zeros, row / per_word * group_count + group);
  return word >> static_cast<unsigned>(row % per_word * bits) &
         ((1U << static_cast<unsigned>(bits)) - 1);
}

Result<WeightPart> MakePacked(const Checkpoint& checkpoint, const StoredLinear& linear,
                              std::int64_t rows, std::int64_t cols, PartMemory& memory) {
  const bool nibbles = linear.scheme->bits == 4;
  WeightPart part =
      EmptyPart(*linear.scheme, nibbles ? WeightCode::kUint4 : WeightCode::kInt8, rows, cols);
  const std::int64_t word_bytes = CeilDiv(cols, nibbles ? 8 : 4) * 4;
  const std::int64_t row_bytes = kernels::RowSizeBytes(part);
  const std::byte* source = linear.codes->bytes.data();
  part.data = source;
  if (word_bytes != row_bytes || !nibbles) {
    const std::span<std::byte> copy = memory.Bytes(static_cast<std::size_t>(rows * row_bytes));
    // Eight-bit codes are stored with 128 added.
    const std::byte flip{static_cast<unsigned char>(nibbles ? 0 : 0x80)};
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::byte* in = source + row * word_bytes;
      std::transform(in, in + row_bytes, copy.begin() + row * row_bytes,
                     [flip](std::byte byte) { return byte ^ flip; });
    }
    part.data = copy.data();
  }
  PX_TRY(const auto scales, ReadScales(checkpoint, *linear.scales, memory));
  part.scales = scales.data();
  if (nibbles || linear.zeros != nullptr) {
    const std::span<float> offsets = memory.Floats(scales.size());
    const std::int64_t groups = kernels::ScaleColumns(part);
    const std::int32_t bias = nibbles ? 0 : 128;  // what the codes lost above
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const std::uint32_t zero = PackedZero(linear, at / groups, at % groups, groups);
      offsets[i] = static_cast<float>(bias - static_cast<std::int32_t>(zero)) * scales[i];
    }
    part.offsets = offsets.data();
  }
  return Order(checkpoint, linear, part, memory);
}

/// Scales [groups, rows] and zeros [groups, rows / per_word] as [rows, groups].
Result<void> ReadGroups(const Checkpoint& checkpoint, const StoredLinear& linear, std::int64_t rows,
                        std::int64_t code_bias, WeightPart& part, PartMemory& memory) {
  const WeightScheme& scheme = *linear.scheme;
  PX_TRY(const auto stored, ReadScales(checkpoint, *linear.scales, memory));
  const std::span<float> scales = memory.Floats(stored.size());
  const std::span<float> offsets = memory.Floats(stored.size());
  const std::int64_t groups = kernels::ScaleColumns(part);
  const std::int64_t per_word = 32 / scheme.bits;
  const bool awq = scheme.kind == QuantKind::kAwq;
  const std::uint32_t mask = (1U << static_cast<unsigned>(scheme.bits)) - 1;
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::int64_t block = 0; block < rows / per_word; ++block) {
      const std::uint32_t word = WordAt(*linear.zeros, group * (rows / per_word) + block);
      for (std::int64_t lane = 0; lane < per_word; ++lane) {
        const std::uint32_t stored_zero = word >> static_cast<unsigned>(lane * scheme.bits) & mask;
        const std::int64_t zero = std::int64_t{stored_zero} + (scheme.zero_plus_one ? 1 : 0);
        const std::int64_t row =
            block * per_word + (awq ? kAwqOutput[static_cast<std::size_t>(lane)] : lane);
        const float scale = stored[static_cast<std::size_t>(group * rows + row)];
        const auto at = static_cast<std::size_t>(row * groups + group);
        scales[at] = scale;
        offsets[at] = static_cast<float>(code_bias - zero) * scale;
      }
    }
  }
  part.scales = scales.data();
  part.offsets = offsets.data();
  return {};
}

/// GPTQ packs down the columns, so a row's codes are a column of words: a transposition.
void UnpackGptq(const StoredLinear& linear, std::int64_t rows, std::int64_t cols,
                std::span<std::byte> out) {
  constexpr std::int64_t kTile = 16;
  const std::int32_t bits = linear.scheme->bits;
  const std::int64_t words = cols * bits / 32;
  const std::int64_t row_bytes = bits == 8 ? cols : cols / 2;
  for (std::int64_t row_begin = 0; row_begin < rows; row_begin += kTile) {
    const std::int64_t row_end = std::min(rows, row_begin + kTile);
    for (std::int64_t at = 0; at < words; ++at) {
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        const std::uint32_t word = WordAt(*linear.codes, at * rows + row);
        std::byte* to = out.data() + row * row_bytes;
        if (bits == 2) {  // each pair of bits becomes a nibble
          std::uint64_t wide = 0;
          for (unsigned lane = 0; lane < 16; ++lane) {
            wide |= std::uint64_t{word >> 2 * lane & 3U} << 4 * lane;
          }
          std::memcpy(to + at * 8, &wide, sizeof(wide));
        } else {
          const std::uint32_t signed_word = bits == 8 ? word ^ 0x80808080U : word;
          std::memcpy(to + at * 4, &signed_word, sizeof(signed_word));
        }
      }
    }
  }
}

/// AWQ packs along the rows, in its own order.
void UnpackAwq(const StoredLinear& linear, std::int64_t rows, std::int64_t cols,
               std::span<std::byte> out) {
  const std::int64_t row_bytes = CeilDiv(cols, 2);
  const std::int64_t words = rows / 8;
  for (std::int64_t col = 0; col < cols; col += 2) {
    for (std::int64_t at = 0; at < words; ++at) {
      const std::uint32_t even = WordAt(*linear.codes, col * words + at);
      const std::uint32_t odd = col + 1 < cols ? WordAt(*linear.codes, (col + 1) * words + at) : 0U;
      for (unsigned lane = 0; lane < 8; ++lane) {
        const std::uint32_t byte = (even >> 4 * lane & 0xFU) | (odd >> 4 * lane & 0xFU) << 4U;
        out[static_cast<std::size_t>((at * 8 + kAwqOutput[lane]) * row_bytes + col / 2)] =
            static_cast<std::byte>(byte);
      }
    }
  }
}

Result<WeightPart> MakeGptqOrAwq(const Checkpoint& checkpoint, const StoredLinear& linear,
                                 std::int64_t rows, std::int64_t cols, PartMemory& memory) {
  const WeightScheme& scheme = *linear.scheme;
  WeightPart part =
      EmptyPart(scheme, scheme.bits == 8 ? WeightCode::kInt8 : WeightCode::kUint4, rows, cols);
  const std::span<std::byte> codes =
      memory.Bytes(static_cast<std::size_t>(rows * kernels::RowSizeBytes(part)));
  if (scheme.kind == QuantKind::kGptq) {
    UnpackGptq(linear, rows, cols, codes);
  } else {
    UnpackAwq(linear, rows, cols, codes);
  }
  part.data = codes.data();
  PX_CHECK_OK(ReadGroups(checkpoint, linear, rows, scheme.bits == 8 ? 128 : 0, part, memory));
  return Order(checkpoint, linear, part, memory);
}

/// Values whose rows lie in pairs of each head, in order.
WeightPart UnpermutePlain(const CheckpointTensor& tensor, std::int64_t rows, std::int64_t cols,
                          PartMemory& memory) {
  const kernels::DType dtype = *AsWeightType(tensor.stored.type);
  const auto row_bytes = static_cast<std::size_t>(cols) * kernels::SizeOf(dtype);
  const std::span<std::byte> copy = memory.Bytes(tensor.bytes.size());
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t from = PermutedRow(row, tensor.head_rows);
    std::memcpy(copy.data() + static_cast<std::size_t>(row) * row_bytes,
                tensor.bytes.data() + static_cast<std::size_t>(from) * row_bytes, row_bytes);
  }
  return {.data = copy.data(), .dtype = dtype, .rows = rows, .cols = cols};
}

Result<WeightPart> MakeBlocks(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                              const GgufBlock& block, std::int64_t rows, std::int64_t cols,
                              PartMemory& memory) {
  const WeightPart part =
      DecodeGgufBlocks(block, tensor.bytes.data(), rows, cols, tensor.head_rows, memory);
  const std::int64_t count = kernels::ScaleRows(part) * kernels::ScaleColumns(part);
  for (const float* values : {part.scales, part.offsets}) {
    for (std::int64_t i = 0; values != nullptr && i < count; ++i) {
      if (!std::isfinite(values[i])) {
        return Fail(Code::kDataCorrupt,
                    fmt::format("{}: scale {} is {}", checkpoint.Place(tensor), i, values[i]),
                    tensor.stored.name);
      }
    }
  }
  return part;
}

WeightPart MakePlain(const CheckpointTensor& tensor, std::int64_t rows, std::int64_t cols,
                     PartMemory& memory) {
  const kernels::DType dtype = *AsWeightType(tensor.stored.type);
  const std::byte* data = tensor.bytes.data();
  if (reinterpret_cast<std::uintptr_t>(data) % kernels::SizeOf(dtype) != 0) {
    // Old writers did not pad the header.
    const std::span<std::byte> copy = memory.Bytes(tensor.bytes.size());
    std::memcpy(copy.data(), data, tensor.bytes.size());
    data = copy.data();
  }
  return {.data = data, .dtype = dtype, .rows = rows, .cols = cols};
}

/// Rows of `size` bytes each, every `step`-th.
const std::byte* GatherRows(const std::byte* first, std::int64_t count, std::int64_t step,
                            std::int64_t size, PartMemory& memory) {
  if (step == 1) {
    return first;
  }
  const std::span<std::byte> out = memory.Bytes(static_cast<std::size_t>(count * size));
  for (std::int64_t i = 0; i < count; ++i) {
    std::memcpy(out.data() + i * size, first + i * step * size, static_cast<std::size_t>(size));
  }
  return out.data();
}

Result<WeightPart> MakeMxfp4Slice(const Checkpoint& checkpoint, const StoredStack& stack,
                                  const StackedSlice& slice, PartMemory& memory) {
  const std::int64_t groups = slice.cols / kMxfp4Group;
  const std::int64_t row_bytes = slice.cols / 2;
  const std::int64_t first = slice.index * slice.stored_rows + slice.row_begin;
  const std::int64_t rows = slice.rows();
  const std::span<float> scales = memory.Floats(static_cast<std::size_t>(rows * groups));
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto at = static_cast<std::size_t>((first + row * slice.row_step) * groups + group);
      const auto exponent = std::to_integer<int>(stack.scales->bytes[at]);
      if (exponent == 0xFF) {
        return Fail(Code::kDataCorrupt,
                    fmt::format("{}: scale {} is NaN", checkpoint.Place(*stack.scales), at),
                    slice.name);
      }
      scales[static_cast<std::size_t>(row * groups + group)] = std::ldexp(1.0F, exponent - 127);
    }
  }
  return WeightPart{.data = GatherRows(stack.values->bytes.data() + first * row_bytes, rows,
                                       slice.row_step, row_bytes, memory),
                    .rows = rows,
                    .cols = slice.cols,
                    .code = WeightCode::kFp4E2m1,
                    .scales = scales.data(),
                    .scale_rows = 1,
                    .scale_cols = kMxfp4Group};
}

}  // namespace

void WidenTo(const CheckpointTensor& tensor, std::span<float> out) {
  const std::byte* data = tensor.bytes.data();
  if (tensor.stored.type == StoredType::kF32) {
    std::memcpy(out.data(), data, out.size_bytes());
    return;
  }
  if (tensor.stored.type == StoredType::kF8E8m0) {
    std::transform(tensor.bytes.begin(), tensor.bytes.end(), out.begin(), [](std::byte byte) {
      const int exponent = std::to_integer<int>(byte);
      return exponent == 0xFF ? std::numeric_limits<float>::quiet_NaN()
                              : std::ldexp(1.0F, exponent - 127);
    });
    return;
  }
  PX_ASSERT(AsWeightType(tensor.stored.type).has_value());
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
    out[i] = tensor.stored.type == StoredType::kBf16 ? kernels::FloatFromBf16(bits)
                                                     : kernels::FloatFromF16(bits);
  }
}

Result<kernels::WeightPart> MakePart(const Checkpoint& checkpoint, const StoredLinear& linear,
                                     std::int64_t rows, std::int64_t cols, PartMemory& memory) {
  if (linear.scheme == nullptr) {
    const GgufBlock* block = FindGgufBlock(linear.codes->stored.type);
    if (block != nullptr) {
      return MakeBlocks(checkpoint, *linear.codes, *block, rows, cols, memory);
    }
    if (linear.codes->head_rows != 0) {
      return UnpermutePlain(*linear.codes, rows, cols, memory);
    }
    return MakePlain(*linear.codes, rows, cols, memory);
  }
  switch (linear.scheme->kind) {
    case QuantKind::kFp8:
    case QuantKind::kInt8:
      return MakeByteCodes(checkpoint, linear, rows, cols, memory);
    case QuantKind::kPacked:
      return MakePacked(checkpoint, linear, rows, cols, memory);
    case QuantKind::kGptq:
    case QuantKind::kAwq:
      return MakeGptqOrAwq(checkpoint, linear, rows, cols, memory);
    case QuantKind::kMxfp4:
      break;
  }
  PX_ASSERT(false);
}

Result<kernels::WeightPart> MakeSlice(const Checkpoint& checkpoint, const StoredStack& stack,
                                      const StackedSlice& slice, PartMemory& memory) {
  PX_ASSERT(slice.index >= 0 && slice.index < slice.count && slice.row_begin >= 0 &&
            slice.row_begin < slice.stored_rows && slice.row_step >= 1);
  if (stack.scales != nullptr) {
    return MakeMxfp4Slice(checkpoint, stack, slice, memory);
  }
  const kernels::DType dtype = *AsWeightType(stack.values->stored.type);
  const auto size = static_cast<std::int64_t>(kernels::SizeOf(dtype));
  const std::int64_t rows = slice.rows();
  const std::byte* matrix =
      stack.values->bytes.data() + slice.index * slice.stored_rows * slice.cols * size;
  WeightPart part{.dtype = dtype, .rows = rows, .cols = slice.cols};
  if (!slice.transposed) {
    part.data = GatherRows(matrix + slice.row_begin * slice.cols * size, rows, slice.row_step,
                           slice.cols * size, memory);
    return part;
  }
  const std::span<std::byte> out = memory.Bytes(static_cast<std::size_t>(rows * slice.cols * size));
  constexpr std::int64_t kTile = 32;
  for (std::int64_t begin = 0; begin < rows; begin += kTile) {
    for (std::int64_t col = 0; col < slice.cols; ++col) {
      for (std::int64_t row = begin; row < std::min(rows, begin + kTile); ++row) {
        const std::int64_t from = slice.row_begin + row * slice.row_step;
        std::memcpy(out.data() + (row * slice.cols + col) * size,
                    matrix + (col * slice.stored_rows + from) * size,
                    static_cast<std::size_t>(size));
      }
    }
  }
  part.data = out.data();
  return part;
}

}  // namespace pixii::model
