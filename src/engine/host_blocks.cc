#include "engine/host_blocks.h"

#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/hash.h"

namespace pixii::engine {

HostBlocks::HostBlocks(kernels::Buffer buffer, std::uint32_t slot_count,
                       std::size_t block_size_bytes)
    : buffer_(std::move(buffer)), block_size_bytes_(block_size_bytes), headers_(slot_count) {
  PX_ASSERT(buffer_.size_bytes() >= slot_count * block_size_bytes);
}

std::span<std::byte> HostBlocks::bytes(std::uint32_t slot) {
  PX_ASSERT(slot < slot_count());
  return {static_cast<std::byte*>(buffer_.data()) + slot * block_size_bytes_, block_size_bytes_};
}

void HostBlocks::Put(std::uint32_t slot, std::uint64_t tag, std::span<const std::byte> block) {
  PX_ASSERT(block.size() == block_size_bytes_);
  std::memcpy(bytes(slot).data(), block.data(), block.size());
  headers_[slot] = {.tag = tag, .checksum = Hash64(block, tag)};
}

Result<void> HostBlocks::Get(std::uint32_t slot, std::uint64_t tag,
                             std::span<std::byte> block) const {
  PX_ASSERT(slot < slot_count() && block.size() == block_size_bytes_);
  const Header& header = headers_[slot];
  if (header.tag != tag) {
    return Fail(Code::kDataCorrupt,
                fmt::format("host slot {} holds block tag {}, not {}", slot, header.tag, tag));
  }
  // The copy is what is checked: a bit that flips on the way is seen too.
  std::memcpy(block.data(),
              static_cast<const std::byte*>(buffer_.data()) + slot * block_size_bytes_,
              block.size());
  if (Hash64(block, tag) != header.checksum) {
    return Fail(Code::kDataCorrupt,
                fmt::format("the bytes of host slot {} changed since they were put there", slot));
  }
  return {};
}

}  // namespace pixii::engine
