// Who brings KV blocks that a cache lacks, and takes along those that it gets: slower tiers, a
// hand-over between workers, caches shared with others.
//
// Thread: the engine thread calls every verb. A connector moves bytes on threads of its own, and
// calls `wake` when it wants a Poll. Its destructor ends them; nothing is written afterwards.
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
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/ids.h"
#include "base/result.h"
#include "kv/block_identity.h"
#include "kv/block_pool.h"
#include "kv/cache_journal.h"
#include "kv/layout_record.h"
#include "rt/function.h"
#include "rt/time.h"

namespace pixii::rt {
class MemoryFile;
}

namespace pixii::kv {

/// The blocks of a cache, for who reads and writes their bytes.
struct BlockGeometry {
  std::uint32_t block_count = 0;
  std::uint32_t block_tokens = 0;
  std::uint64_t block_size_bytes = 0;
  /// Sizes, in order, of the (layer, K or V, head) slices of a block, bytes: what checksums are of.
  std::vector<std::uint32_t> slices;
  std::optional<LayoutRecord> layout = {};  // what they are; nothing where that is not known
  std::string model_fingerprint;
  std::string numerics_id;
  std::string kv_dtype;
  std::string identity_key = {};  // of the blocks' hashes
  /// Where the blocks lie, if peers of this host can map it.
  std::shared_ptr<const rt::MemoryFile> memory = {};
};

/// The whole blocks of one request's tokens, first to last.
struct BlockChain {
  std::shared_ptr<const BlockRoot> root;
  std::vector<Hash128> hashes;  // [block], BlockIdentity::Chain of it and all before
  std::vector<TokenId> tokens;  // [block][block_tokens]
};

/// What a connector is told of a request.
struct ConnectorRequest {
  RequestId id{};
  std::string tenant;
  std::int32_t priority = 0;  // higher first
  rt::Time deadline = rt::kNever;
  BlockChain chain;
  bool prefill_only = false;    // another worker goes on with its blocks
  std::string handover;         // where another worker has them; empty: none has
  bool early_handover = false;  // another worker takes them while they are computed
  // For lines about it in the log: wire::GenerateRequest's.
  std::string traceparent = {};
  std::string label = {};
};

using ConnectorRequestRef = std::shared_ptr<const ConnectorRequest>;

/// A request that waits for its turn, and the first of its blocks that it lacked when it came.
struct ExpectedRequest {
  ConnectorRequestRef request;
  std::uint32_t first = 0;
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
  std::uint32_t index = 0;      // in its chain
  std::vector<TokenId> tokens;  // [block_tokens]
  std::span<std::byte> bytes;   // to be read
  BlockPin pin;                 // the connector's: bytes stay what they are as long as it lives
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

  /// Called before all else. `wake` may be called by any thread.
  virtual void Start(rt::Function<void()> wake) = 0;

  /// How many blocks of the chain from `first` on, without a gap, it would bring; those before are
  /// in the cache. No I/O, no wait. It may be asked again of the same request.
  virtual std::uint32_t Match(const ConnectorRequestRef& request, std::uint32_t first) = 0;

  /// How many it may have where nobody's Match knows of one: a Load finds out. No I/O, no wait.
  virtual std::uint32_t Guess(const ConnectorRequestRef& /*request*/, std::uint32_t /*first*/) {
    return 0;
  }

  /// Brings blocks first, first + 1, .. of the chain into `targets`, which stay pinned until Poll
  /// has told the load's end. That happens once, also after errors, before the request's deadline
  /// or a limit of the connector's own.
  virtual void Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
                    std::span<const BlockMemory> targets) = 0;

  /// These wait for their turn, soonest first, and for nothing from here yet: what they will need
  /// may be brought nearer meanwhile. Each call replaces the last one.
  virtual void Expect(std::span<const ExpectedRequest> /*waiting*/) {}

  /// Nobody wants it any more: Poll tells its end as soon as nothing writes to its targets.
  virtual void Cancel(LoadId id) = 0;

  /// A step gave blocks, or a load did. Who does not want one drops its pin.
  virtual void Published(std::vector<PublishedBlock> blocks) = 0;

  /// The request's prompt is being computed, and its chain's blocks `first`, `first` + 1, .. are
  /// whole now; those before were told earlier. `pins` of them are the connector's.
  virtual void Progress(const ConnectorRequestRef& /*request*/, std::uint32_t /*first*/,
                        std::vector<BlockPin> /*pins*/) {}

  /// What blocks with these hashes hold is in doubt: nobody may find it any more.
  virtual void Distrust(std::span<const Hash128> hashes) = 0;

  /// Nobody finds any block that this process's memory holds any more; if `lasting`, nor what it
  /// has put into files and stores. Blocks on their way may still arrive.
  virtual void Clear(bool /*lasting*/) {}

  /// The request has ended; `pins` of the chain's first blocks, in order, are the connector's.
  /// None if it did not end well.
  virtual void Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) = 0;

  /// Called after each step and after `wake`: ends of loads are appended; pins that are not needed
  /// any more are dropped here. Returns when it wants to be called again at the latest.
  virtual rt::Time Poll(rt::Time now, std::vector<LoadEnd>& ended) = 0;

  /// Appends which blocks tiers of its own have and have not any more since the last call; or all
  /// that they have, because whoever listens has forgotten `everything`. Whether there was any.
  virtual bool DrainEvents(CacheChanges& /*out*/, bool /*everything*/) { return false; }

  /// Changes were lost: the next DrainEvents must be of everything.
  virtual bool lost_events() const { return false; }

  /// Nothing is pinned and no load runs.
  virtual bool idle() const = 0;
};

}  // namespace pixii::kv
