// Every block type of GGUF against its definition, element by element, on random bytes.
#include "model/gguf_blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "kernels/weight_source.h"

namespace pixii::model {
namespace {

using Block = const std::uint8_t*;

float Half(Block at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, 2);
  return kernels::FloatFromF16(bits);
}

int Nibble(Block bytes, int i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

int FifthBit(Block bytes, int i) { return bytes[i / 8] >> (i % 8) & 1; }

/// Six bits each: eight scales, then eight minima, spread over twelve bytes.
int SixBits(Block bytes, int i) {
  const int group = i % 8;
  const bool minimum = i >= 8;
  if (group < 4) {
    return bytes[group + (minimum ? 4 : 0)] & 63;
  }
  const int low = minimum ? bytes[group + 4] >> 4 : bytes[group + 4] & 15;
  return low + 16 * (bytes[group - (minimum ? 0 : 4)] >> 6);
}

struct Definition {
  std::uint32_t type;
  std::vector<int> half_offsets;  // where f16 numbers lie
  std::function<float(Block, int)> value;
};

const std::vector<Definition>& Definitions() {
  static const std::vector<Definition> all = {
      {2, {0}, [](Block b, int i) { return Half(b) * static_cast<float>(Nibble(b + 2, i) - 8); }},
      {3,
       {0, 2},
       [](Block b, int i) { return Half(b) * static_cast<float>(Nibble(b + 4, i)) + Half(b + 2); }},
      {6,
       {0},
       [](Block b, int i) {
         return Half(b) * static_cast<float>(Nibble(b + 6, i) + 16 * FifthBit(b + 2, i) - 16);
       }},
      {7,
       {0, 2},
       [](Block b, int i) {
         return Half(b) * static_cast<float>(Nibble(b + 8, i) + 16 * FifthBit(b + 4, i)) +
                Half(b + 2);
       }},
      {8,
       {0},
       [](Block b, int i) {
         return Half(b) * static_cast<float>(static_cast<std::int8_t>(b[2 + i]));
       }},
      {10,
       {80, 82},
       [](Block b, int i) {
         const int code = b[16 + i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3;
         return Half(b + 80) * static_cast<float>(b[i / 16] & 15) * static_cast<float>(code) -
                Half(b + 82) * static_cast<float>(b[i / 16] >> 4);
       }},
      {11,
       {108},
       [](Block b, int i) {
         const int code = (b[32 + i / 128 * 32 + i % 32] >> (2 * (i % 128 / 32)) & 3) +
                          4 * (b[i % 32] >> (i / 32) & 1) - 4;
         const int group = i / 16;
         const int low = group < 8 ? b[96 + group] & 15 : b[96 + group - 8] >> 4;
         const int high = b[104 + group % 4] >> (2 * (group / 4)) & 3;
         return Half(b + 108) * static_cast<float>(low + 16 * high - 32) * static_cast<float>(code);
       }},
      {12,
       {0, 2},
       [](Block b, int i) {
         const int byte = b[16 + i / 64 * 32 + i % 32];
         const int code = i % 64 < 32 ? byte & 15 : byte >> 4;
         return Half(b) * static_cast<float>(SixBits(b + 4, i / 32)) * static_cast<float>(code) -
                Half(b + 2) * static_cast<float>(SixBits(b + 4, 8 + i / 32));
       }},
      {13,
       {0, 2},
       [](Block b, int i) {
         const int byte = b[48 + i / 64 * 32 + i % 32];
         const int code =
             (i % 64 < 32 ? byte & 15 : byte >> 4) + 16 * (b[16 + i % 32] >> (i / 32) & 1);
         return Half(b) * static_cast<float>(SixBits(b + 4, i / 32)) * static_cast<float>(code) -
                Half(b + 2) * static_cast<float>(SixBits(b + 4, 8 + i / 32));
       }},
      {14,
       {208},
       [](Block b, int i) {
         const int in_half = i % 128;
         const int byte = b[i / 128 * 64 + in_half % 64];
         const int low = in_half < 64 ? byte & 15 : byte >> 4;
         const int high = b[128 + i / 128 * 32 + i % 32] >> (2 * (in_half / 32)) & 3;
         return Half(b + 208) * static_cast<float>(static_cast<std::int8_t>(b[192 + i / 16])) *
                static_cast<float>(low + 16 * high - 32);
       }},
      {39,
       {},
       [](Block b, int i) {
         constexpr float kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
         const int code = Nibble(b + 1, i);
         const float magnitude = std::ldexp(kValues[code & 7], b[0] - 127);
         return code < 8 ? magnitude : -magnitude;
       }},
  };
  return all;
}

TEST(GgufBlocks, EveryTypeDecodesAsItIsDefined) {
  std::mt19937 random(3);
  for (const Definition& definition : Definitions()) {
    const GgufBlock* block = FindGgufBlock(definition.type);
    ASSERT_NE(block, nullptr) << definition.type;
    constexpr std::int64_t kRows = 6;
    const std::int64_t cols = 2 * block->elements;
    const std::int64_t block_count = kRows * 2;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(block_count * block->size_bytes));
    for (std::uint8_t& byte : bytes) {
      byte = static_cast<std::uint8_t>(random());
    }
    for (std::int64_t i = 0; i < block_count; ++i) {
      std::uint8_t* at = bytes.data() + i * block->size_bytes;
      for (const int offset : definition.half_offsets) {
        at[offset + 1] = static_cast<std::uint8_t>(0x20 + at[offset + 1] % 0x1C);  // finite, > 0
      }
      if (definition.half_offsets.empty()) {
        at[0] = static_cast<std::uint8_t>(100 + at[0] % 50);
      }
    }
    for (const std::int64_t head_rows : {0, 6}) {
      PartMemory memory;
      const auto part = DecodeGgufBlocks(*block, reinterpret_cast<const std::byte*>(bytes.data()),
                                         kRows, cols, head_rows, memory);
      ASSERT_TRUE(kernels::CheckParts({&part, 1}, {}).has_value());
      std::vector<float> row(static_cast<std::size_t>(cols));
      for (std::int64_t r = 0; r < kRows; ++r) {
        kernels::ReadRow(part, r, row.data());
        // Rows of a head of six lie as 0, 3, 1, 4, 2, 5.
        const std::int64_t from = head_rows == 0 ? r : (r < 3 ? 2 * r : 2 * (r - 3) + 1);
        for (std::int64_t i = 0; i < cols; ++i) {
          const Block at = bytes.data() + (from * 2 + i / block->elements) * block->size_bytes;
          const float expected = definition.value(at, static_cast<int>(i % block->elements));
          ASSERT_FLOAT_EQ(row[static_cast<std::size_t>(i)], expected)
              << block->name << " row " << r << " element " << i;
        }
      }
    }
  }
}

TEST(GgufBlocks, UnknownTypesAreNotFound) {
  EXPECT_EQ(FindGgufBlock(std::uint32_t{4}), nullptr);
  EXPECT_EQ(FindGgufBlock(std::uint32_t{16}), nullptr);
  EXPECT_EQ(FindGgufBlock(StoredType::kF16), nullptr);
}

}  // namespace
}  // namespace pixii::model
