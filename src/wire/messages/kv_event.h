// What a worker says of the KV blocks it holds, for routers.
//
// Thread: values. Source: spec/dynamo-core.md B.3, B.4 (fields as Dynamo's routers know them).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace pixii::wire {

enum class KvTier : std::uint8_t { kDevice, kHost, kDisk, kExternal };

/// A block by the public hashes: of its own tokens, and of the chain up to it.
struct KvBlock {
  std::uint64_t block_hash = 0;   // the chain's, or the engine's own opaque one
  std::uint64_t tokens_hash = 0;  // of its tokens alone
};

/// One change of what a rank of a worker holds. Ids of a rank go up by one from 0; a gap means that
/// events were lost.
struct KvEvent {
  enum class Kind : std::uint8_t {
    kStored,   // `blocks`, in a row behind `parent`
    kRemoved,  // `removed`
    kCleared,  // everything of this rank
  };

  std::uint64_t id = 0;
  std::uint32_t rank = 0;
  KvTier tier = KvTier::kDevice;
  Kind kind = Kind::kStored;
  std::optional<std::uint64_t> parent;  // block_hash of the block before; nothing: the root
  std::vector<KvBlock> blocks;
  std::vector<std::uint64_t> removed;  // block_hash of each
};

}  // namespace pixii::wire
