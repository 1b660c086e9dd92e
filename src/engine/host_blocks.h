// Blocks that left the KV cache for a while: bytes, each with a tag and a checksum of its own.
//
// Thread: the engine thread.
// Bytes come back only as what left: under the same tag, with the same checksum. Anything else is
// an error, and whoever asked computes them again (architecture.md, promise 4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/tensor.h"

namespace pixii::engine {

class HostBlocks final {
 public:
  /// `buffer` holds `slot_count` blocks of `block_size_bytes`. Empty: no slots.
  HostBlocks() = default;
  HostBlocks(kernels::Buffer buffer, std::uint32_t slot_count, std::size_t block_size_bytes);

  std::uint32_t slot_count() const { return static_cast<std::uint32_t>(headers_.size()); }

  /// Copies `block` [block_size_bytes] into `slot`. Pre: slot < slot_count().
  void Put(std::uint32_t slot, std::uint64_t tag, std::span<const std::byte> block);

  /// Copies `slot` into `block`. Errors: kDataCorrupt if the slot holds another tag or its bytes
  /// changed; `block` is then undefined.
  Result<void> Get(std::uint32_t slot, std::uint64_t tag, std::span<std::byte> block) const;

  /// Where the bytes of `slot` are.
  std::span<std::byte> bytes(std::uint32_t slot);

 private:
  struct Header {
    std::uint64_t tag = 0;
    std::uint64_t checksum = 0;
  };

  kernels::Buffer buffer_;
  std::size_t block_size_bytes_ = 0;
  std::vector<Header> headers_;  // [slot]
};

}  // namespace pixii::engine
