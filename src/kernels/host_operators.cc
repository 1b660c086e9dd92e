#include "kernels/host_operators.h"

#include <cstring>
#include <vector>

#include "base/assert.h"

namespace pixii::kernels {

void HostOperators::Upload(std::span<const std::byte> from, void* to) {
  std::memcpy(to, from.data(), from.size());
}

void HostOperators::Download(const void* from, std::span<std::byte> to) {
  if (from != to.data()) {
    std::memcpy(to.data(), from, to.size());
  }
}

void HostOperators::FindNonFinite(const Matrix& in, std::span<std::int32_t> flags) {
  PX_ASSERT(in.rows == std::ssize(flags));
  constexpr std::uint32_t kExponent = 0x7F800000;  // all ones: infinity or NaN
  for (std::int64_t row = 0; row < in.rows; ++row) {
    const float* values = in.f32(row);
    std::uint32_t bad = 0;
    for (std::int64_t i = 0; i < in.cols; ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, values + i, sizeof(bits));
      bad |= static_cast<std::uint32_t>((bits & kExponent) == kExponent);
    }
    flags[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(bad);
  }
}

Result<Buffer> AllocateFilled(Operators& operators, std::size_t size_bytes,
                              const std::function<void(void* host)>& fill) {
  PX_TRY(Buffer buffer, operators.Allocate(size_bytes));
  if (operators.on_host()) {
    fill(buffer.data());
    return buffer;
  }
  std::vector<std::byte> host(size_bytes);
  fill(host.data());
  operators.Upload(host, buffer.data());
  return buffer;
}

}  // namespace pixii::kernels
