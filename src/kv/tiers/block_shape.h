// How the bytes of a KV block fall into slices: one for each layer, K or V, and head.
//
// Thread: a value. The slices are those of BlockGeometry, in its order.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

namespace pixii::kv {

class BlockShape final {
 public:
  BlockShape() = default;

  BlockShape(std::uint32_t block_tokens, std::vector<std::uint32_t> slices)
      : block_tokens_(block_tokens),
        payload_bytes_(std::accumulate(slices.begin(), slices.end(), std::uint64_t{0})),
        slices_(std::move(slices)) {}

  std::uint32_t block_tokens() const { return block_tokens_; }

  /// Sizes in bytes.
  const std::vector<std::uint32_t>& slices() const { return slices_; }

  std::uint32_t slice_count() const { return static_cast<std::uint32_t>(slices_.size()); }

  /// Of all slices together.
  std::uint64_t payload_bytes() const { return payload_bytes_; }

  friend bool operator==(const BlockShape&, const BlockShape&) = default;

 private:
  std::uint32_t block_tokens_ = 0;
  std::uint64_t payload_bytes_ = 0;
  std::vector<std::uint32_t> slices_;
};

}  // namespace pixii::kv
