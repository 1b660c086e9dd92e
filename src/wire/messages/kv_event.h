// What a worker says of the KV blocks it holds, for routers.
//
// Thread: values. Source: spec/dynamo-core.md B.3, B.4 (fields as Dynamo's routers know them).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
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

/// Asks a worker for its events: those of log `epoch` from `from_id` on.
struct KvEventsRequest {
  std::uint64_t epoch = 0;  // 0: none was heard of
  std::uint64_t from_id = 0;
};

/// Some of them. What the worker does not remember any more, it replaces by what it holds now.
struct KvEventBatch {
  std::uint64_t epoch = 0;   // of one start of one worker
  bool dump = false;         // synthetic kStored of what is held, each with the last event's id
  bool dump_begins = false;  // makes everything before it void
  bool dump_ends = false;
  std::uint64_t next_id = 0;  // of the event behind this batch; in a dump the same in each batch
  std::vector<KvEvent> events;
};

/// What stands in the public hashes' seed for who may share blocks: router and worker agree on it.
inline std::string PublicSalt(std::string_view tenant, std::string_view cache_salt) {
  std::string salt(tenant);
  if (!tenant.empty()) {
    salt += '\n';
  }
  return salt.append(cache_salt);
}

}  // namespace pixii::wire
