#include "kernels/cpu/cpu_lora.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "kernels/cpu/memory.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

bool IsBf16(const WeightPart& part) {
  return part.code == WeightCode::kNone && part.dtype == DType::kBf16;
}

/// Row `row` as it is stored; a part need not be aligned.
template <class Stored>
void CopyRow(const WeightPart& part, std::int64_t row, std::vector<Stored>& out) {
  out.resize(static_cast<std::size_t>(part.cols));
  if constexpr (std::is_same_v<Stored, float>) {
    ReadRow(part, row, out.data());
  } else {
    const std::size_t size_bytes = out.size() * sizeof(Stored);
    std::memcpy(
        out.data(),
        static_cast<const std::byte*>(part.data) + static_cast<std::size_t>(row) * size_bytes,
        size_bytes);
  }
}

/// down as LoraView has it; `to` is zeroed.
template <class Stored>
void PackDown(const WeightPart& down, Stored* to) {
  std::vector<Stored> from;
  const std::int64_t padded = (down.cols + 15) / 16 * 16;
  for (std::int64_t r = 0; r < down.rows; ++r) {
    CopyRow(down, r, from);
    const bool single = r >= down.rows / kLoraRanks * kLoraRanks;
    const std::int64_t width = single ? 1 : kLoraRanks;  // ranks of the block
    Stored* block = to + r / width * width * padded + r % width * 16;
    for (std::int64_t k = 0; k < down.cols; k += 16) {
      std::copy_n(from.data() + k, std::min<std::int64_t>(16, down.cols - k), block + k * width);
    }
  }
}

/// up as LoraView has it; `to` is zeroed.
template <class Stored>
void PackUp(const WeightPart& up, Stored* to) {
  std::vector<Stored> from;
  for (std::int64_t n = 0; n < up.rows; ++n) {
    CopyRow(up, n, from);
    const bool last = n >= up.rows / kLoraColumns * kLoraColumns;
    const std::int64_t width = last ? 16 : kLoraColumns;  // outputs of the block
    Stored* block = to + n / width * width * up.cols + n % width;
    for (std::int64_t r = 0; r < up.cols; ++r) {
      block[r * width] = from[static_cast<std::size_t>(r)];
    }
  }
}

template <class Stored>
void PackBoth(const WeightPart& down, const WeightPart& up, void* to) {
  const std::int64_t padded = (down.cols + 15) / 16 * 16;
  PackDown(down, static_cast<Stored*>(to));
  PackUp(up, static_cast<Stored*>(to) + down.rows * padded);
}

}  // namespace

Result<std::unique_ptr<LoraWeight>> CpuLora::Pack(const WeightPart& down, const WeightPart& up,
                                                  float scale) {
  const std::int64_t rank = down.rows;
  const std::int64_t in_features = down.cols;
  const std::int64_t out_features = up.rows;
  const bool bf16 = IsBf16(down) && IsBf16(up);
  const std::size_t element = bf16 ? sizeof(std::uint16_t) : sizeof(float);
  const std::int64_t inputs = (in_features + 15) / 16 * 16;
  const std::int64_t outputs = (out_features + 15) / 16 * 16;
  auto lora = std::make_unique<CpuLora>(in_features, out_features, rank);
  PX_TRY(lora->buffer_,
         AllocateHostMemory(static_cast<std::size_t>(rank * (inputs + outputs)) * element));
  auto* down_at = static_cast<std::byte*>(lora->buffer_.data());
  if (bf16) {
    PackBoth<std::uint16_t>(down, up, down_at);
  } else {
    PackBoth<float>(down, up, down_at);
  }
  lora->view_ = {.down = down_at,
                 .up = down_at + static_cast<std::size_t>(rank * inputs) * element,
                 .element = bf16 ? Element::kBf16 : Element::kF32,
                 .rank = rank,
                 .in_features = in_features,
                 .out_features = out_features,
                 .scale = scale};
  return std::unique_ptr<LoraWeight>(std::move(lora));
}

}  // namespace pixii::kernels
