// Who brings KV blocks that a cache lacks, and takes along those that it gets: slower tiers, a
// hand-over between workers, caches shared with others.
//
// Thread: the engine thread calls every verb. A connector moves bytes on threads of its own, and
// calls the `wake` that it was made with when it wants a Poll.
// Only whole blocks of a chain move. A block is brought only if its bytes are proven to be those of
// its identity (architecture.md, promise 4); every failure is a block that is not brought, and the
// engine computes it. The verbs are those that TensorRT-LLM's connectors have: matched tokens
// (Match), state after allocation (Load), per-step metadata (Published), request finished
// (Finished). docs/kvbm.md
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "base/result.h"
#include "kv/block_identity.h"
#include "kv/block_pool.h"
#include "rt/time.h"
#include "wire/messages/generate.h"

namespace pixii::kv {

/// The whole blocks of one request's tokens, first to last.
struct BlockChain {
  std::shared_ptr<const BlockRoot> root;
  std::vector<Hash128> hashes;      // [block], BlockIdentity::Chain of it and all before
  std::span<const TokenId> tokens;  // [block][block_tokens]
};

/// What a connector is told of a request. All of it lives until Finished has been called.
struct ConnectorRequest {
  RequestId id{};
  const wire::GenerateRequest* request = nullptr;
  const BlockChain* chain = nullptr;
};

/// A block of the cache that somebody has pinned, and where its bytes are.
struct BlockMemory {
  BlockRef ref;
  std::span<std::byte> bytes;  // [block_size_bytes], KvLayout's order
};

/// A block that has become findable.
struct PublishedBlock {
  Hash128 hash;
  Hash128 parent;  // of a first block the root's
  std::shared_ptr<const BlockRoot> root;
  std::uint32_t index = 0;          // in its chain
  std::span<const TokenId> tokens;  // [block_tokens], for the call only
  std::span<const std::byte> bytes;
  BlockPin pin;  // the connector's: bytes stay what they are as long as it lives
};

enum class LoadId : std::uint64_t {};

/// How a Load ended: its first `blocks` targets are proven. Nothing writes to any target any more.
struct LoadEnd {
  LoadId id{};
  std::uint32_t blocks = 0;
  std::optional<Error> error;  // why no more were
};

class Connector {
 public:
  virtual ~Connector() = default;

  /// How many blocks of the chain from `first` on, without a gap, it would bring; those before are
  /// in the cache. No I/O, no wait. `request` is new: this is the first that is heard of it.
  virtual std::uint32_t Match(const ConnectorRequest& request, std::uint32_t first) = 0;

  /// Brings blocks first, first + 1, .. of the chain into `targets`, which stay pinned until Poll
  /// has told the load's end. That happens once, also after errors, before the request's deadline
  /// or a limit of the connector's own.
  virtual void Load(LoadId id, const ConnectorRequest& request, std::uint32_t first,
                    std::span<const BlockMemory> targets) = 0;

  /// Nobody wants it any more: Poll tells its end as soon as nothing writes to its targets.
  virtual void Cancel(LoadId id) = 0;

  /// A step gave blocks, or a load did. Who does not want one drops its pin.
  virtual void Published(std::span<PublishedBlock> blocks) = 0;

  /// A request has ended, or all of its prompt was computed for another worker to go on: `pins` of
  /// the chain's first blocks, in order, are the connector's.
  virtual void Finished(const ConnectorRequest& request, std::vector<BlockPin> pins) = 0;

  /// Called after each step and after `wake`: ends of loads are appended; pins that are not needed
  /// any more are dropped here. Returns when it wants to be called again at the latest.
  virtual rt::Time Poll(rt::Time now, std::vector<LoadEnd>& ended) = 0;

  /// Nothing is pinned and no load runs.
  virtual bool idle() const = 0;
};

}  // namespace pixii::kv
