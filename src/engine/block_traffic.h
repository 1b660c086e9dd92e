// The engine's side of a kv::Connector: requests that wait for blocks, and blocks on their way.
//
// Thread: the engine thread.
// A request's blocks are loaded before it is queued, into blocks that nobody can find yet; proven
// ones are published, and the request finds them as it finds any. So nothing is believed that the
// connector has not proven, and a load that fails costs time alone. Two requests that lack the same
// block wait for one load. Targets are taken and written only between steps: a block that was given
// back may still be written by the step in flight.
// A load begins when its request's turn is near and there is room for all of it; whoever waits for
// that is told to the connector (Expect), which may bring blocks nearer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "engine/executor.h"
#include "engine/scheduler.h"
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

  /// `request` has come; of its chain the first `blocks_wanted` blocks are of use; in the queue it
  /// would stand at `rank`. False: nothing is to be waited for. Else Poll names it once, unless End
  /// comes first.
  bool Begin(kv::ConnectorRequestRef request, std::uint32_t blocks_wanted, const Rank& rank);

  /// The request's prompt is being computed, and `blocks` are the first of its chain by now.
  void Progress(RequestId id, std::span<const kv::BlockPin> blocks);

  /// The request has ended; `blocks` are the first of its chain, none if it did not end well.
  void End(RequestId id, std::span<const kv::BlockPin> blocks);

  /// Begins the loads whose turn has come. Pre: no step is in flight. Appends to what Poll names
  /// requests for which nothing can be loaded any more.
  void StartLoads(const Scheduler& scheduler);

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

  /// As kv::Connector.
  void Clear(bool lasting) { connector_->Clear(lasting); }

  const BlockTrafficCounters& counters() const { return counters_; }

  /// Of the blocks that came for a request that has not ended.
  std::uint64_t brought_bytes(RequestId id) const {
    const auto flight = flights_.find(id);
    return flight == flights_.end() ? 0 : flight->second.brought_bytes;
  }

 private:
  struct Flight {
    kv::ConnectorRequestRef request;
    std::uint32_t blocks_wanted = 0;
    Rank rank;
    std::uint32_t first = 0;  // block that the cache lacked when it came
    bool waits = false;
    bool knows_place = false;  // another worker keeps its blocks for it, for some time
    rt::Time short_of_room_since{};
    kv::LoadId load{};       // that it waits for; 0: none yet
    std::uint32_t told = 0;  // blocks, by Progress
    std::uint64_t brought_bytes = 0;
  };

  struct Load {
    kv::ConnectorRequestRef request;
    Hash128 first_hash;
    std::vector<RequestId> waiting;
    std::vector<kv::BlockPin> found;    // the chain's blocks before the targets
    std::vector<kv::BlockPin> targets;  // the blocks behind them
    kv::ChainPosition position;         // of the last one found
  };

  /// What there was when a load found no room.
  struct Shortage {
    std::uint32_t available = 0;
    std::uint32_t running = 0;
    std::uint32_t targets = 0;
    rt::Time until{};  // the request takes what there is

    /// Nothing has come free since.
    bool LastsWith(const Shortage& now) const {
      return now.available <= available && now.running >= running && now.targets >= targets;
    }
  };

  enum class Try : std::uint8_t {
    kWaits,    // for a load
    kNoRoom,   // yet
    kNothing,  // can be brought
  };

  void Await(RequestId id);
  Try TryLoad(Flight& flight, std::uint32_t running_count);
  bool WaitsForRoom(Flight& flight, std::uint32_t running_count);
  std::uint32_t RoomForLoad(std::uint32_t running_count) const;
  void TellExpected();
  void Publish(Load& load, std::uint32_t count);
  std::span<const TokenId> TokensOf(const kv::BlockChain& chain, std::size_t block) const;

  kv::BlockCache& cache_;
  StepExecutor& executor_;
  std::unordered_map<RequestId, Flight> flights_;    // requests that have not ended
  std::vector<std::pair<Rank, RequestId>> to_load_;  // best rank first
  bool expected_changed_ = false;                    // since the connector was told of to_load_
  std::optional<Shortage> shortage_;                 // that the first of to_load_ found
  rt::Time now_{};
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
