// The tensor types of GGUF files: their blocks, and how they become codes with scales.
//
// Thread: pure functions. Formulas: docs/formats/gguf.md. Source: the block layouts of the ggml
// project.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kernels/operators.h"
#include "model/part_memory.h"
#include "model/safetensors.h"

namespace pixii::model {

struct GgufBlock {
  std::uint32_t type = 0;  // ggml's number
  std::string_view name;   // "Q4_K"
  StoredType stored = StoredType::kF32;
  std::int64_t elements = 1;
  std::int64_t size_bytes = 4;
};

/// Null if this build does not read the type.
const GgufBlock* FindGgufBlock(std::uint32_t type);
/// Null if `stored` is no type of blocks: plain values.
const GgufBlock* FindGgufBlock(StoredType stored);
/// "F32, F16, …": for people.
std::string GgufBlockNames();

/// How rows lie in the file: 0, in order; else pairs of rotated rows are neighbours in each head of
/// this many rows, and row i of the result is taken from PermutedRow.
std::int64_t PermutedRow(std::int64_t row, std::int64_t head_rows);

/// Codes and scales of [rows, cols] blocks at `data`, in `memory`. Pre: `block` is a type of codes
/// and cols a multiple of its elements. O(rows * cols).
kernels::WeightPart DecodeGgufBlocks(const GgufBlock& block, const std::byte* data,
                                     std::int64_t rows, std::int64_t cols, std::int64_t head_rows,
                                     PartMemory& memory);

}  // namespace pixii::model
