#include "kernels/cpu/cpu_lora.h"

#include <cstring>
#include <vector>

#include "kernels/cpu/memory.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

bool IsBf16(const WeightPart& part) {
  return part.code == WeightCode::kNone && part.dtype == DType::kBf16;
}

void Put(bool bf16, void* data, std::int64_t index, float value) {
  if (bf16) {
    static_cast<std::uint16_t*>(data)[index] = Bf16FromFloat(value);
  } else {
    static_cast<float*>(data)[index] = value;
  }
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
  std::byte* up_at = down_at + static_cast<std::size_t>(rank * inputs) * element;
  std::vector<float> row(static_cast<std::size_t>(std::max(in_features, rank)));
  for (std::int64_t r = 0; r < rank; ++r) {
    ReadRow(down, r, row.data());
    const bool single = r >= rank / kLoraRanks * kLoraRanks;
    const std::int64_t width = single ? 1 : kLoraRanks;  // ranks of the block
    const std::int64_t block = r / width * width * inputs + r % width * 16;
    for (std::int64_t k = 0; k < in_features; ++k) {
      Put(bf16, down_at, block + k / 16 * 16 * width + k % 16, row[static_cast<std::size_t>(k)]);
    }
  }
  for (std::int64_t n = 0; n < out_features; ++n) {
    ReadRow(up, n, row.data());
    const bool last = n >= out_features / kLoraColumns * kLoraColumns;
    const std::int64_t width = last ? 16 : kLoraColumns;  // outputs of the block
    const std::int64_t block = n / width * width * rank + n % width;
    for (std::int64_t r = 0; r < rank; ++r) {
      Put(bf16, up_at, block + r * width, row[static_cast<std::size_t>(r)]);
    }
  }
  lora->view_ = {.down = down_at,
                 .up = up_at,
                 .element = bf16 ? Element::kBf16 : Element::kF32,
                 .rank = rank,
                 .in_features = in_features,
                 .out_features = out_features,
                 .scale = scale};
  return std::unique_ptr<LoraWeight>(std::move(lora));
}

}  // namespace pixii::kernels
