#include "model/finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

namespace pixii::model {
namespace {

constexpr std::size_t kRun = 8192;  // elements between two looks at the largest

// Of tensors past a size CheckFinite reads one piece of sixteen: reading them whole costs an eighth
// of what loading costs.
constexpr std::size_t kWholeSizeMax = 1 << 20;  // bytes
constexpr std::size_t kPieceSize = 16 << 10;    // bytes
constexpr std::size_t kPieceStride = 16;

/// The values without their signs compare as integers, and the first that is not finite is `kEnd`.
/// Signed integers where that helps: SSE2 has their maximum and not that of unsigned ones.
template <typename Bits, Bits kMagnitude, Bits kEnd>
std::optional<std::size_t> Find(std::span<const std::byte> bytes) {
  const auto magnitude = [data = bytes.data()](std::size_t i) {
    Bits bits = 0;
    std::memcpy(&bits, data + i * sizeof(bits), sizeof(bits));
    return static_cast<Bits>(bits & kMagnitude);
  };
  const std::size_t count = bytes.size() / sizeof(Bits);
  for (std::size_t begin = 0; begin < count; begin += kRun) {
    const std::size_t end = std::min(count, begin + kRun);
    Bits largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      largest = std::max(largest, magnitude(i));
    }
    if (largest < kEnd) {
      continue;
    }
    for (std::size_t i = begin; i < end; ++i) {
      if (magnitude(i) >= kEnd) {
        return i;
      }
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::size_t> FirstNotFinite(StoredType type, std::span<const std::byte> bytes) {
  switch (type) {
    case StoredType::kF32:
      return Find<std::int32_t, 0x7FFFFFFF, 0x7F800000>(bytes);
    case StoredType::kF16:
      return Find<std::int16_t, 0x7FFF, 0x7C00>(bytes);
    case StoredType::kBf16:
      return Find<std::int16_t, 0x7FFF, 0x7F80>(bytes);
    case StoredType::kF8E4m3:
      return Find<std::uint8_t, 0x7F, 0x7F>(bytes);
    default:
      return std::nullopt;  // codes, whose scales are checked where they are read
  }
}

Result<void> CheckFinite(const Checkpoint& checkpoint, const CheckpointTensor& tensor,
                         std::span<const std::byte> bytes) {
  const std::size_t piece = bytes.size() <= kWholeSizeMax ? bytes.size() : kPieceSize;
  for (std::size_t at = 0; at < bytes.size(); at += piece * kPieceStride) {
    const auto values = bytes.subspan(at, std::min(piece, bytes.size() - at));
    if (const auto bad = FirstNotFinite(tensor.stored.type, values)) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{} is NaN or infinite at element {}{}", checkpoint.Place(tensor),
                              at / StoredTypeSize(tensor.stored.type) + *bad,
                              bytes.size() == tensor.bytes.size() ? "" : " of one of its matrices"),
                  tensor.stored.name);
    }
  }
  return {};
}

}  // namespace pixii::model
