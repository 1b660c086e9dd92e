#include "kernels/weight_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/assert.h"

namespace pixii::kernels {

ShardPlan MakeShardPlan(std::int64_t k, std::int32_t k_shards) {
  if (k_shards == 1) {
    return {.k = k, .size = k, .count = 1};
  }
  return {.k = k, .size = CeilDiv(CeilDiv(k, k_shards), 2) * 2, .count = k_shards};
}

ShardPlan MakeShardPlan(std::int64_t k, const LinearOptions& options) {
  const ShardPlan whole = MakeShardPlan(k, options.k_shards);
  if (options.shard_end == 0) {
    return whole;
  }
  const std::int64_t column = whole.Begin(options.shard_begin);
  return {.k = whole.End(options.shard_end - 1) - column,
          .size = whole.size,
          .count = options.shard_end - options.shard_begin,
          .column = column};
}

std::vector<PartRow> RowsOf(std::span<const WeightPart> parts, const LinearOptions& options) {
  std::vector<PartRow> out;
  std::int64_t first = 0;  // row of the stack where the part begins
  for (const WeightPart& part : parts) {
    const auto add = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = std::max<std::int64_t>(begin - first, 0);
           row < std::min(end - first, part.rows); ++row) {
        out.push_back({&part, row});
      }
    };
    if (options.rows.empty()) {
      add(first, first + part.rows);
    }
    for (const RowRange& range : options.rows) {
      add(range.begin, range.end);
    }
    first += part.rows;
  }
  return out;
}

namespace {

constexpr std::array<float, 256> MakeFp8Table() {
  std::array<float, 256> out{};
  for (unsigned bits = 0; bits < 256; ++bits) {
    const unsigned exponent = bits >> 3U & 0xFU;
    const unsigned mantissa = bits & 7U;
    float magnitude = static_cast<float>(mantissa) * 0x1p-9F;
    if ((bits & 0x7FU) == 0x7FU) {
      magnitude = std::numeric_limits<float>::quiet_NaN();
    } else if (exponent != 0) {
      magnitude = std::bit_cast<float>((exponent + 120U) << 23U | mantissa << 20U);  // 127 - 7
    }
    out[bits] = (bits & 0x80U) != 0 ? -magnitude : magnitude;
  }
  return out;
}

constexpr std::array<float, 256> kFp8Table = MakeFp8Table();
constexpr std::array<float, 16> kFp4Table = {0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,
                                             4.0F,  6.0F,  -0.0F, -0.5F, -1.0F, -1.5F,
                                             -2.0F, -3.0F, -4.0F, -6.0F};

/// Codes [begin, end) of one row as floats.
void ReadCodes(WeightCode code, const unsigned char* bytes, std::int64_t begin, std::int64_t end,
               float* out) {
  const auto nibble = [&](std::int64_t i) { return bytes[i / 2] >> (i % 2 * 4) & 0xF; };
  switch (code) {
    case WeightCode::kInt8:
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] = static_cast<float>(static_cast<signed char>(bytes[i]));
      }
      return;
    case WeightCode::kFp8E4m3:
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] = kFp8Table[bytes[i]];
      }
      return;
    case WeightCode::kUint4:
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] = static_cast<float>(nibble(i));
      }
      return;
    case WeightCode::kFp4E2m1:
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] = kFp4Table[static_cast<std::size_t>(nibble(i))];
      }
      return;
    case WeightCode::kNone:
      break;
  }
  PX_ASSERT(false);
}

void ReadCodedRow(const WeightPart& part, std::int64_t row, float* out) {
  const auto* bytes = static_cast<const unsigned char*>(part.data) + row * RowSizeBytes(part);
  const std::int64_t scale_at = row / part.scale_rows * ScaleColumns(part);
  for (std::int64_t begin = 0, group = 0; begin < part.cols; begin += part.scale_cols, ++group) {
    const std::int64_t end = std::min(part.cols, begin + part.scale_cols);
    ReadCodes(part.code, bytes, begin, end, out);
    const float scale = part.scales[scale_at + group];
    if (part.offsets == nullptr) {
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] *= scale;
      }
      continue;
    }
    const float offset = part.offsets[scale_at + group];
    for (std::int64_t i = begin; i < end; ++i) {
      out[i] = out[i] * scale + offset;
    }
  }
}

Result<void> CheckCodes(const WeightPart& part, std::size_t index) {
  if (part.code == WeightCode::kNone) {
    return {};
  }
  if (part.scales == nullptr) {
    return Fail(Code::kInvalidArgument,
                fmt::format("weight part {} has codes but no scales", index), "parts");
  }
  for (const std::int64_t extent : {part.scale_rows, part.scale_cols}) {
    if (extent < 1 || extent > kWeightExtentMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight part {} has scale blocks of [{}, {}], each must be 1 .. {}",
                              index, part.scale_rows, part.scale_cols, kWeightExtentMax),
                  "parts");
    }
  }
  return {};
}

}  // namespace

float FloatFromFp8E4m3(std::uint8_t bits) { return kFp8Table[bits]; }

std::uint8_t Fp8E4m3FromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint32_t>(bits >> 24U & 0x80U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) {
    return static_cast<std::uint8_t>(sign | 0x7FU);
  }
  if (magnitude < 0x3C800000U) {  // below 2^-6: multiples of 2^-9
    // Adding 2^14 aligns them with the end of the fp32 mantissa and rounds to even.
    const float aligned = std::bit_cast<float>(magnitude) + 0x1p14F;
    return static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(aligned) - 0x46800000U));
  }
  const std::uint32_t nearest_even = 0x7FFFFU + ((magnitude >> 20U) & 1U);
  const std::uint32_t rebiased = magnitude - (120U << 23U);  // 127 - 7
  return static_cast<std::uint8_t>(sign | std::min((rebiased + nearest_even) >> 20U, 0x7EU));
}

float FloatFromFp4E2m1(std::uint8_t bits) { return kFp4Table[bits & 0xFU]; }

std::int64_t RowSizeBytes(const WeightPart& part) {
  switch (part.code) {
    case WeightCode::kNone:
      return part.cols * static_cast<std::int64_t>(SizeOf(part.dtype));
    case WeightCode::kInt8:
    case WeightCode::kFp8E4m3:
      return part.cols;
    case WeightCode::kUint4:
    case WeightCode::kFp4E2m1:
      return CeilDiv(part.cols, 2);
  }
  PX_ASSERT(false);
}

namespace {

/// What `options` want of `rows` stacked rows.
Result<void> CheckShare(const LinearOptions& options, std::int64_t rows) {
  const std::int32_t shards = options.shard_end - options.shard_begin;
  const bool all = options.shard_begin == 0 && options.shard_end == 0;
  if (!all && (options.shard_begin < 0 || options.shard_end > options.k_shards ||
               (shards != 1 && shards != 2 && shards != 4 && shards != 8) ||
               options.shard_begin % shards != 0)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("shards {} to {} are no share of {}", options.shard_begin,
                            options.shard_end, options.k_shards),
                "shard_begin");
  }
  std::int64_t last = 0;
  for (const RowRange& range : options.rows) {
    if (range.begin < last || range.end <= range.begin || range.end > rows) {
      return Fail(
          Code::kInvalidArgument,
          fmt::format("rows {} to {} are not in {} to {}", range.begin, range.end, last, rows),
          "rows");
    }
    last = range.end;
  }
  return {};
}

}  // namespace

Result<void> CheckParts(std::span<const WeightPart> parts, const LinearOptions& options) {
  if (options.k_shards != 1 && options.k_shards != 8) {
    return Fail(Code::kInvalidArgument,
                fmt::format("k_shards is {}, must be 1 or 8", options.k_shards), "k_shards");
  }
  if (parts.empty()) {
    return Fail(Code::kInvalidArgument, "a linear needs at least one weight part", "parts");
  }
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const WeightPart& part = parts[i];
    if (part.data == nullptr) {
      return Fail(Code::kInvalidArgument, fmt::format("weight part {} has no data", i), "parts");
    }
    if (part.rows < 1 || part.rows > kWeightExtentMax || part.cols < 1 ||
        part.cols > kWeightExtentMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight part {} has shape [{}, {}], each must be 1 .. {}", i,
                              part.rows, part.cols, kWeightExtentMax),
                  "parts");
    }
    PX_CHECK_OK(CheckCodes(part, i));
    if (part.cols != parts.front().cols) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight part {} has {} columns, part 0 has {}", i, part.cols,
                              parts.front().cols),
                  "parts");
    }
    rows += part.rows;
    if (rows > kWeightExtentMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("weight parts have more than {} rows together", kWeightExtentMax),
                  "parts");
    }
  }
  return CheckShare(options, rows);
}

Result<void> CheckLoraParts(const WeightPart& down, const WeightPart& up, float scale) {
  PX_CHECK_OK(CheckParts({&down, 1}, {}));
  PX_CHECK_OK(CheckParts({&up, 1}, {}));
  if (down.rows > kLoraRankMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("the pair has rank {}, must be 1 .. {}", down.rows, kLoraRankMax),
                "rank");
  }
  if (up.cols != down.rows) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("the pair's second half has {} columns, its first {} rows", up.cols, down.rows),
        "rank");
  }
  if (!std::isfinite(scale)) {
    return Fail(Code::kInvalidArgument, "the pair's scale is not finite", "scale");
  }
  return {};
}

void ReadRow(const WeightPart& part, std::int64_t row, float* out) {
  if (part.code != WeightCode::kNone) {
    ReadCodedRow(part, row, out);
    return;
  }
  const auto cols = static_cast<std::size_t>(part.cols);
  const auto* bytes = static_cast<const unsigned char*>(part.data) +
                      static_cast<std::size_t>(row) * cols * SizeOf(part.dtype);
  // A mapped checkpoint need not align its tensors.
  if (part.dtype == DType::kF32) {
    std::memcpy(out, bytes, cols * sizeof(float));
    return;
  }
  const bool bf16 = part.dtype == DType::kBf16;
  for (std::size_t i = 0; i < cols; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, bytes + i * sizeof(bits), sizeof(bits));
    out[i] = bf16 ? FloatFromBf16(bits) : FloatFromF16(bits);
  }
}

WeightPart SliceRows(const WeightPart& part, const RowRange& rows, std::vector<float>& scales) {
  PX_ASSERT(rows.begin >= 0 && rows.begin < rows.end && rows.end <= part.rows);
  WeightPart out = part;
  out.rows = rows.end - rows.begin;
  out.data = static_cast<const std::byte*>(part.data) + rows.begin * RowSizeBytes(part);
  if (part.bias != nullptr) {
    out.bias = part.bias + rows.begin;
  }
  if (part.code == WeightCode::kNone) {
    return out;
  }
  // A slice may begin inside a block of scales, so each row gets its own.
  const std::int64_t columns = ScaleColumns(part);
  scales.clear();
  for (const float* from : {part.scales, part.offsets}) {
    for (std::int64_t row = rows.begin; from != nullptr && row < rows.end; ++row) {
      const float* first = from + row / part.scale_rows * columns;
      scales.insert(scales.end(), first, first + columns);
    }
  }
  out.scale_rows = 1;
  out.scales = scales.data();
  out.offsets = part.offsets != nullptr ? scales.data() + out.rows * columns : nullptr;
  return out;
}

}  // namespace pixii::kernels
