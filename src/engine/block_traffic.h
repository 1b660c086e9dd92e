// The engine's side of a kv::Connector: requests that wait for blocks, and blocks on their way.
//
// Thread: the engine thread.
// A request's blocks are loaded before it is queued, into blocks that nobody can find yet; proven
// ones are published, and the request finds them as it finds any. So nothing is believed that the
// connector has not proven, and a load that fails costs time alone. Two requests that lack the same
// block wait for one load. Targets are taken and written only between steps: a block that was given
// back may still be written by the step in flight.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/hash.h"
#include "engine/executor.h"
#include "kv/block_cache.h"
#include "kv/connector.h"

namespace pixii::engine {

struct BlockTrafficCounters {
  std::uint64_t loads = 0;
  std::uint64_t loaded_blocks = 0;
  std::uint64_t missed_blocks = 0;  // that were to be loaded and were not
};

class BlockTraffic final {
 public:
  /// All outlive this.
  BlockTraffic(kv::BlockCache& cache, StepExecutor& executor,
               std::unique_ptr<kv::Connector> connector);

  BlockTraffic(const BlockTraffic&) = delete;
  BlockTraffic& operator=(const BlockTraffic&) = delete;
  ~BlockTraffic();

  void Start(rt::Function<void()> wake) { connector_->Start(std::move(wake)); }

  /// `request` has come; of its chain the first `blocks_wanted` blocks are of use. False: nothing
  /// is to be waited for. Else Poll names it once, unless End comes first.
  bool Begin(kv::ConnectorRequestRef request, std::uint32_t blocks_wanted);

  /// The request has ended; `blocks` are the first of its chain, none if it did not end well.
  void End(RequestId id, std::span<const kv::BlockPin> blocks);

  /// Begins the loads that Begin decided on. Pre: no step is in flight. Appends to what Poll names
  /// requests for which nothing can be loaded any more.
  void StartLoads();

  /// A step published these; Pre: each has its pin.
  void Published(std::vector<kv::PublishedBlock> blocks);

  /// What these blocks hold is in doubt. Pre: before they are forgotten by the cache.
  void Distrust(std::span<const kv::BlockPin> blocks);

  /// Takes what the connector has done. Appends the requests that need not wait any more.
  void Poll(rt::Time now, std::vector<RequestId>& ready);

  /// When Poll wants to be called at the latest; after the verbs above, soon.
  rt::Time next_poll() const { return next_poll_; }

  /// As kv::Connector.
  bool DrainEvents(kv::CacheChanges& out, bool everything) {
    return connector_->DrainEvents(out, everything);
  }

  bool lost_events() const { return connector_->lost_events(); }

  bool idle() const { return loads_.empty() && connector_->idle(); }

  const BlockTrafficCounters& counters() const { return counters_; }

 private:
  struct Flight {
    kv::ConnectorRequestRef request;
    std::uint32_t blocks_wanted = 0;
    bool waits = false;
    kv::LoadId load{};  // that it waits for; 0: none yet
  };

  struct Load {
    kv::ConnectorRequestRef request;
    Hash128 first_hash;
    std::vector<RequestId> waiting;
    std::vector<kv::BlockPin> found;    // the chain's blocks before the targets
    std::vector<kv::BlockPin> targets;  // the blocks behind them
    kv::ChainPosition position;         // of the last one found
  };

  bool TryLoad(Flight& flight);
  void Publish(Load& load, std::uint32_t count);
  std::span<const TokenId> TokensOf(const kv::BlockChain& chain, std::size_t block) const;

  kv::BlockCache& cache_;
  StepExecutor& executor_;
  std::unordered_map<RequestId, Flight> flights_;  // requests that have not ended
  std::vector<RequestId> to_load_;
  std::vector<RequestId> ready_;
  std::unordered_map<kv::LoadId, Load> loads_;
  std::unordered_map<Hash128, kv::LoadId, Hash128Hasher> coming_;  // [first target of a load]
  std::uint64_t last_load_ = 0;
  std::uint32_t target_count_ = 0;  // of all loads
  std::vector<kv::LoadEnd> ends_;
  std::vector<kv::PublishedBlock> published_;
  rt::Time next_poll_ = rt::kNever;
  BlockTrafficCounters counters_;
  std::unique_ptr<kv::Connector> connector_;  // last: it writes to blocks until it is gone
};

}  // namespace pixii::engine
