// What TieredConnector keeps, for its own files alone.
#pragma once

#include <atomic>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kv/tiers/health_log.h"
#include "kv/tiers/tiered_connector.h"

namespace pixii::kv {

inline constexpr std::int32_t kPriorityMax = 100;

struct TieredConnector::Level {
  Level(TierSetup setup, const TieredConnectorOptions& options)
      : tier(setup.tier),
        has_slots(setup.has_slots),
        is_asked(setup.is_asked),
        forgets_itself(setup.forgets_itself),
        scanning(setup.scan),
        read_only(setup.read_only),
        index(setup.index),
        planner({.frequency_min = options.filter ? 2U : 0U,
                 .batch_blocks = options.batch_blocks,
                 .bytes_in_flight_max = options.bytes_in_flight_max,
                 .block_bytes = options.shape.payload_bytes()}),
        store(std::move(setup.store)),
        runner(std::move(setup.runner)) {}

  bool writable(rt::Time now) const { return !scanning && !read_only && !writes.rests(now); }

  Tier tier;
  bool has_slots;
  bool is_asked;
  bool forgets_itself;
  bool scanning;
  bool read_only;
  bool is_listing = false;
  rt::Time next_list = rt::kNever;  // of what others may have written
  TierIndex index;
  OffloadPlanner planner;        // of the way down to it
  std::uint32_t prefetches = 0;  // jobs that bring blocks from it to the first tier
  std::uint64_t coming = 0;      // bytes of blocks on their way from the cache
  std::unordered_set<Hash128, Hash128Hasher> distrusted;  // while they are written
  TierHealth reads;
  TierHealth writes;
  HealthLog reads_log;
  HealthLog writes_log;
  double block_seconds = 0;           // to bring one, with what it waited for; 0: not known
  std::shared_ptr<BlockStore> store;  // jobs under way hold it
  std::unique_ptr<JobRunner> runner;  // last: its jobs use what stands above
};

/// What a job passes before it moves a block.
struct TieredConnector::Pace {
  std::shared_ptr<TierCounters> counters;
  std::shared_ptr<CopyPacer> pacer;  // null: nothing is waited for
  Tier tier = Tier::kHost;
  std::uint64_t bytes = 0;  // of traffic
  CopyHaste haste = CopyHaste::kLater;

  void Pass() const {
    Add(counters->of(tier).traffic_bytes, bytes);
    if (pacer) {
      pacer->Pass(bytes, haste);
    }
  }
};

/// Shared with the jobs of one load.
struct TieredConnector::LoadTicket {
  rt::Mutex mutex;
  bool wanted PX_GUARDED_BY(mutex) = true;  // targets may be written
  std::atomic<std::uint32_t> first_bad{~0U};
};

struct TieredConnector::LoadItem {
  std::uint32_t number = 0;  // of the target
  TierPlace place;
  WantedBlock wanted;
  std::span<std::byte> target;
  bool is_guess = false;  // nobody knows whether it is there
};

struct TieredConnector::Outcome {
  std::uint32_t number = 0;
  Hash128 hash;
  TierPlace place;
  BlockFault fault = BlockFault::kNone;
  bool brought = false;
  bool is_guess = false;
};

struct TieredConnector::LoadState {
  LoadId id{};
  std::shared_ptr<LoadTicket> ticket = std::make_shared<LoadTicket>();
  std::vector<bool> brought;                                // [target]
  std::unordered_map<const Level*, std::uint32_t> jobs_of;  // under way
  rt::Time began{};
  rt::Time deadline = rt::kNever;
  bool told = false;
};

/// What is being written: to be told of once it is there.
struct TieredConnector::Written {
  Hash128 hash;
  std::optional<PublicBlock> name;
};

struct TieredConnector::UpItem {
  WantedBlock wanted;
  TierPlace from;
  TierPlace to;  // in the first tier
};

struct TieredConnector::DownItem {
  Written block;
  TierPlace from;  // in the first tier
  TierPlace to;
};

}  // namespace pixii::kv
