#include "kernels/cpu/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/checked.h"

namespace pixii::kernels {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kSizeMax = std::size_t{1} << 47;  // of an address space

tl::unexpected<Error> NoMemory(std::size_t size_bytes) {
  return Fail(Code::kResourceExhausted,
              fmt::format("the system gives no memory for {} bytes", size_bytes));
}

Result<Buffer> AllocateSmall(std::size_t size_bytes) {
  const std::size_t padded = CeilDiv(std::max<std::size_t>(size_bytes, 1), kAlignment) * kAlignment;
  void* data = std::aligned_alloc(kAlignment, padded);
  if (data == nullptr) {
    return NoMemory(size_bytes);
  }
  std::memset(data, 0, padded);
  return Buffer(data, size_bytes, [](void* memory) { std::free(memory); });
}

}  // namespace

Result<Buffer> AllocateHostMemory(std::size_t size_bytes) {
  if (size_bytes < kHugePage) {
    return AllocateSmall(size_bytes);
  }
  if (size_bytes > kSizeMax) {
    return NoMemory(size_bytes);
  }
  // One huge page more than needed, so that an aligned start lies inside; the ends are given back.
  const std::size_t padded = CeilDiv(size_bytes, kHugePage) * kHugePage;
  const std::size_t mapped = padded + kHugePage;
  void* map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) {
    return NoMemory(size_bytes);
  }
  auto* begin = static_cast<std::byte*>(map);
  const std::size_t skip =
      (kHugePage - reinterpret_cast<std::uintptr_t>(map) % kHugePage) % kHugePage;
  if (skip > 0) {
    munmap(begin, skip);
  }
  munmap(begin + skip + padded, kHugePage - skip);
  begin += skip;
  madvise(begin, padded, MADV_HUGEPAGE);  // a wish: without it the memory is only slower
  return Buffer(begin, size_bytes, [padded](void* memory) { munmap(memory, padded); });
}

}  // namespace pixii::kernels
