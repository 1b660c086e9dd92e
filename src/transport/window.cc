#include "transport/window.h"

#include <algorithm>
#include <cstring>

namespace pixii::transport {

bool IsOpen(const RegionView& view, const Descriptor& descriptor, Access access) {
  if (descriptor.offset > view.memory.size() ||
      descriptor.size_bytes > view.memory.size() - descriptor.offset ||
      descriptor.generation > kGenerationMax) {
    return false;
  }
  const auto wanted = static_cast<std::uint64_t>(access);
  const std::uint64_t end = descriptor.offset + std::max<std::uint64_t>(descriptor.size_bytes, 1);
  const std::uint64_t last = (end - 1) / view.window_bytes;
  for (std::uint64_t window = descriptor.offset / view.window_bytes; window <= last; ++window) {
    if (window >= view.words.size()) {
      return false;
    }
    const std::uint64_t word = view.words[window].load(std::memory_order_seq_cst);
    if (word >> 2U != descriptor.generation || (word & wanted) != wanted) {
      return false;
    }
  }
  return true;
}

bool CopyFrom(const RegionView& view, const Descriptor& from, std::byte* to) {
  if (!IsOpen(view, from, Access::kRead)) {
    return false;
  }
  std::memcpy(to, view.memory.data() + from.offset, from.size_bytes);
  // What was copied before a window closed is whole; the copy may not be seen after this look.
  std::atomic_thread_fence(std::memory_order_acquire);
  return IsOpen(view, from, Access::kRead);
}

bool CopyTo(const RegionView& view, const Descriptor& to, const std::byte* from, WriteLane& lane) {
  for (std::uint64_t done = 0; done < to.size_bytes || done == 0;) {
    const std::uint64_t size = std::min<std::uint64_t>(to.size_bytes - done, kCopyBytesMax);
    const LaneTurn turn(lane, view.key);
    if (!IsOpen(view,
                {.region = to.region,
                 .offset = to.offset + done,
                 .size_bytes = size,
                 .generation = to.generation},
                Access::kWrite)) {
      return false;
    }
    std::memcpy(view.memory.data() + to.offset + done, from + done, size);
    if (size == 0) {
      break;
    }
    done += size;
  }
  return true;
}

}  // namespace pixii::transport
