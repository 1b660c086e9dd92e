// Whatever a disk, a store or a plug-in gives back for a KV block: it is refused, or a header that
// can be written again; with its sum put right, too, as somebody who means harm would.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/assert.h"
#include "base/hash.h"
#include "kv/tiers/stored_block.h"
#include "wire/lmcache.h"

namespace {

using namespace pixii::kv;  // NOLINT(google-build-using-namespace): all of its verbs

void CheckHeader(std::span<const std::byte> bytes) {
  StoredBlock block;
  if (DecodeHeader(bytes, block) != BlockFault::kNone) {
    return;
  }
  PX_ASSERT(block.root != nullptr && block.tokens.size() == block.shape.block_tokens());
  PX_ASSERT(block.checksums.size() == block.shape.slice_count());
  std::vector<std::byte> again(bytes.size());
  PX_ASSERT(EncodeHeader(block, again));
  StoredBlock back;
  PX_ASSERT(DecodeHeader(again, back) == BlockFault::kNone);
  PX_ASSERT(back.hash == block.hash && back.tokens == block.tokens && back.shape == block.shape);
  const WantedBlock wanted{.hash = block.hash,
                           .parent = block.parent,
                           .root = block.root,
                           .index = block.index,
                           .tokens = block.tokens};
  PX_ASSERT(CompareHeader(back, wanted, block.shape) == BlockFault::kNone);
}

void CheckReply(std::span<const std::byte> bytes) {
  if (bytes.size() < pixii::wire::kLmcacheReplyBytes) {
    return;
  }
  constexpr std::uint64_t kMax = 1000;
  const auto reply =
      pixii::wire::DecodeLmcacheReply(bytes.first<pixii::wire::kLmcacheReplyBytes>(), kMax);
  PX_ASSERT(!reply || reply->length_bytes <= kMax);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  CheckReply(bytes);
  CheckHeader(bytes);
  if (size < 24) {
    return 0;
  }
  std::vector<std::byte> repaired(bytes.begin(), bytes.end());
  const auto header = static_cast<std::uint32_t>(size);
  std::memcpy(repaired.data(), "PXKVBLK\n", 8);
  std::memcpy(repaired.data() + 12, &header, 4);
  const std::uint64_t sum = pixii::Hash64(std::span(repaired).first(size - 8));
  std::memcpy(repaired.data() + size - 8, &sum, 8);
  CheckHeader(repaired);
  return 0;
}
