#include "model/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "base/assert.h"

namespace pixii::model {
namespace {

using kernels::WeightCode;

constexpr std::array<GgufBlock, 14> kBlocks = {{
    {0, "F32", StoredType::kF32, 1, 4},
    {1, "F16", StoredType::kF16, 1, 2},
    {2, "Q4_0", StoredType::kQ4_0, 32, 18},
    {3, "Q4_1", StoredType::kQ4_1, 32, 20},
    {6, "Q5_0", StoredType::kQ5_0, 32, 22},
    {7, "Q5_1", StoredType::kQ5_1, 32, 24},
    {8, "Q8_0", StoredType::kQ8_0, 32, 34},
    {10, "Q2_K", StoredType::kQ2K, 256, 84},
    {11, "Q3_K", StoredType::kQ3K, 256, 110},
    {12, "Q4_K", StoredType::kQ4K, 256, 144},
    {13, "Q5_K", StoredType::kQ5K, 256, 176},
    {14, "Q6_K", StoredType::kQ6K, 256, 210},
    {30, "BF16", StoredType::kBf16, 1, 2},
    {39, "MXFP4", StoredType::kMxfp4, 32, 17},
}};

/// What a block decodes to: up to 256 codes, a scale and an offset for each group of them.
struct Decoded {
  std::int8_t codes[256];
  float scales[16];
  float offsets[16];
};

using Bytes = const std::uint8_t*;

float HalfAt(Bytes at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  return kernels::FloatFromF16(bits);
}

void SplitNibbles(Bytes packed, std::int8_t* out) {
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<std::int8_t>(packed[j] & 0xF);
    out[j + 16] = static_cast<std::int8_t>(packed[j] >> 4);
  }
}

void DecodeQ4(Bytes in, bool has_min, Decoded& out) {
  SplitNibbles(in + (has_min ? 4 : 2), out.codes);
  out.scales[0] = HalfAt(in);
  out.offsets[0] = has_min ? HalfAt(in + 2) : -8.0F * out.scales[0];
}

void DecodeQ5(Bytes in, bool has_min, Decoded& out) {
  Bytes high = in + (has_min ? 4 : 2);
  std::uint32_t bits = 0;
  std::memcpy(&bits, high, sizeof(bits));
  SplitNibbles(high + 4, out.codes);
  for (unsigned j = 0; j < 32; ++j) {
    out.codes[j] = static_cast<std::int8_t>(out.codes[j] | ((bits >> j & 1U) << 4U));
  }
  out.scales[0] = HalfAt(in);
  out.offsets[0] = has_min ? HalfAt(in + 2) : -16.0F * out.scales[0];
}

void DecodeQ8(Bytes in, Decoded& out) {
  out.scales[0] = HalfAt(in);
  std::memcpy(out.codes, in + 2, 32);
}

void DecodeMxfp4(Bytes in, Decoded& out) {
  SplitNibbles(in + 1, out.codes);
  // 255 is NaN; left to the check of scales.
  out.scales[0] =
      in[0] == 0xFF ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, in[0] - 127);
}

/// Six-bit scale and minimum of group j of Q4_K and Q5_K.
std::pair<int, int> ScaleAndMin(Bytes packed, int j) {
  if (j < 4) {
    return {packed[j] & 63, packed[j + 4] & 63};
  }
  return {(packed[j + 4] & 0xF) | (packed[j - 4] >> 6 << 4),
          (packed[j + 4] >> 4) | (packed[j] >> 6 << 4)};
}

/// Q4_K, and Q5_K with a fifth bit in `high`.
void DecodeQ45K(Bytes in, Bytes high, Bytes low, Decoded& out) {
  const float scale = HalfAt(in);
  const float minimum = HalfAt(in + 2);
  for (int group = 0; group < 8; ++group) {
    const auto [factor, offset] = ScaleAndMin(in + 4, group);
    out.scales[group] = scale * static_cast<float>(factor);
    out.offsets[group] = -(minimum * static_cast<float>(offset));
    Bytes packed = low + group / 2 * 32;
    for (int j = 0; j < 32; ++j) {
      int code = group % 2 == 0 ? packed[j] & 0xF : packed[j] >> 4;
      if (high != nullptr) {
        code |= (high[j] >> group & 1) << 4;
      }
      out.codes[group * 32 + j] = static_cast<std::int8_t>(code);
    }
  }
}

void DecodeQ6K(Bytes in, Decoded& out) {
  Bytes low = in;
  Bytes high = in + 128;
  const auto* factors = reinterpret_cast<const std::int8_t*>(in + 192);
  const float scale = HalfAt(in + 208);
  for (int half = 0; half < 2; ++half, low += 64, high += 32) {
    for (int j = 0; j < 128; ++j) {
      const int quarter = j / 32;
      const int nibble = (low[j % 64] >> (quarter / 2 * 4)) & 0xF;
      const int top = high[j % 32] >> (2 * quarter) & 3;
      out.codes[half * 128 + j] = static_cast<std::int8_t>((nibble | top << 4) - 32);
    }
  }
  for (int group = 0; group < 16; ++group) {
    out.scales[group] = scale * static_cast<float>(factors[group]);
  }
}

void DecodeQ2K(Bytes in, Decoded& out) {
  const float scale = HalfAt(in + 80);
  const float minimum = HalfAt(in + 82);
  for (int group = 0; group < 16; ++group) {
    out.scales[group] = scale * static_cast<float>(in[group] & 0xF);
    out.offsets[group] = -(minimum * static_cast<float>(in[group] >> 4));
  }
  for (int j = 0; j < 256; ++j) {
    const std::uint8_t packed = in[16 + j / 128 * 32 + j % 32];
    out.codes[j] = static_cast<std::int8_t>(packed >> (j % 128 / 32 * 2) & 3);
  }
}

void DecodeQ3K(Bytes in, Decoded& out) {
  Bytes high = in;
  Bytes low = in + 32;
  Bytes packed = in + 96;
  const float scale = HalfAt(in + 108);
  for (int group = 0; group < 16; ++group) {
    const int nibble = packed[group % 8] >> (group / 8 * 4) & 0xF;
    const int top = packed[8 + group % 4] >> (group / 4 * 2) & 3;
    out.scales[group] = scale * static_cast<float>((nibble | top << 4) - 32);
  }
  for (int j = 0; j < 256; ++j) {
    const int code = low[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
    const int lift = high[j % 32] >> (j / 32) & 1;
    out.codes[j] = static_cast<std::int8_t>(code - (lift != 0 ? 0 : 4));
  }
}

void Decode(StoredType type, Bytes in, Decoded& out) {
  switch (type) {
    case StoredType::kQ4_0:
      return DecodeQ4(in, false, out);
    case StoredType::kQ4_1:
      return DecodeQ4(in, true, out);
    case StoredType::kQ5_0:
      return DecodeQ5(in, false, out);
    case StoredType::kQ5_1:
      return DecodeQ5(in, true, out);
    case StoredType::kQ8_0:
      return DecodeQ8(in, out);
    case StoredType::kQ2K:
      return DecodeQ2K(in, out);
    case StoredType::kQ3K:
      return DecodeQ3K(in, out);
    case StoredType::kQ4K:
      return DecodeQ45K(in, nullptr, in + 16, out);
    case StoredType::kQ5K:
      return DecodeQ45K(in, in + 16, in + 48, out);
    case StoredType::kQ6K:
      return DecodeQ6K(in, out);
    case StoredType::kMxfp4:
      return DecodeMxfp4(in, out);
    default:
      PX_ASSERT(false);
  }
}

/// How a type's codes are kept.
struct Form {
  WeightCode code = WeightCode::kInt8;
  std::int64_t group = 32;
  bool offsets = false;
};

Form FormOf(StoredType type) {
  switch (type) {
    case StoredType::kQ4_0:
    case StoredType::kQ4_1:
    case StoredType::kQ4K:
      return {WeightCode::kUint4, 32, true};
    case StoredType::kQ5_0:
    case StoredType::kQ5_1:
    case StoredType::kQ5K:
      return {WeightCode::kInt8, 32, true};
    case StoredType::kQ2K:
      return {WeightCode::kUint4, 16, true};
    case StoredType::kQ3K:
    case StoredType::kQ6K:
      return {WeightCode::kInt8, 16, false};
    case StoredType::kMxfp4:
      return {WeightCode::kFp4E2m1, 32, false};
    default:
      return {WeightCode::kInt8, 32, false};
  }
}

}  // namespace

const GgufBlock* FindGgufBlock(std::uint32_t type) {
  const auto found = std::find_if(kBlocks.begin(), kBlocks.end(),
                                  [&](const GgufBlock& block) { return block.type == type; });
  return found == kBlocks.end() ? nullptr : &*found;
}

const GgufBlock* FindGgufBlock(StoredType stored) {
  const auto found = std::find_if(kBlocks.begin(), kBlocks.end(), [&](const GgufBlock& block) {
    return block.stored == stored && block.elements > 1;
  });
  return found == kBlocks.end() ? nullptr : &*found;
}

std::string GgufBlockNames() {
  std::string out;
  for (const GgufBlock& block : kBlocks) {
    out.append(out.empty() ? "" : ", ").append(block.name);
  }
  return out;
}

std::int64_t PermutedRow(std::int64_t row, std::int64_t head_rows) {
  if (head_rows == 0) {
    return row;
  }
  const std::int64_t half = head_rows / 2;
  const std::int64_t in_head = row % head_rows;
  return row - in_head + in_head % half * 2 + in_head / half;
}

kernels::WeightPart DecodeGgufBlocks(const GgufBlock& block, const std::byte* data,
                                     std::int64_t rows, std::int64_t cols, std::int64_t head_rows,
                                     PartMemory& memory) {
  const Form form = FormOf(block.stored);
  const bool nibbles = form.code != WeightCode::kInt8;
  const std::int64_t blocks = cols / block.elements;
  const std::int64_t groups = cols / form.group;
  const std::int64_t groups_in_block = block.elements / form.group;
  const std::int64_t row_bytes = nibbles ? cols / 2 : cols;
  const std::span<std::byte> codes = memory.Bytes(static_cast<std::size_t>(rows * row_bytes));
  const std::span<float> scales = memory.Floats(static_cast<std::size_t>(rows * groups));
  const std::span<float> offsets =
      memory.Floats(form.offsets ? static_cast<std::size_t>(rows * groups) : 0);
  Decoded decoded;
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto* in = reinterpret_cast<const std::uint8_t*>(data) +
                     PermutedRow(row, head_rows) * blocks * block.size_bytes;
    auto* out = reinterpret_cast<std::uint8_t*>(codes.data()) + row * row_bytes;
    float* scale = scales.data() + row * groups;
    float* offset = form.offsets ? offsets.data() + row * groups : nullptr;
    for (std::int64_t b = 0; b < blocks; ++b, in += block.size_bytes) {
      Decode(block.stored, in, decoded);
      if (nibbles) {
        for (std::int64_t j = 0; j < block.elements; j += 2) {
          *out++ = static_cast<std::uint8_t>(decoded.codes[j] | decoded.codes[j + 1] << 4);
        }
      } else {
        std::memcpy(out, decoded.codes, static_cast<std::size_t>(block.elements));
        out += block.elements;
      }
      scale = std::copy_n(decoded.scales, groups_in_block, scale);
      if (form.offsets) {
        offset = std::copy_n(decoded.offsets, groups_in_block, offset);
      }
    }
  }
  return {.data = codes.data(),
          .rows = rows,
          .cols = cols,
          .code = form.code,
          .scales = scales.data(),
          .offsets = form.offsets ? offsets.data() : nullptr,
          .scale_rows = 1,
          .scale_cols = form.group};
}

}  // namespace pixii::model
