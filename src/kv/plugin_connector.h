// KV blocks that a plug-in keeps: a connector whose far side is foreign code. docs/kvbm.md
//
// Thread: a Connector's. The plug-in runs on a thread of its own; records are made and proven there
// and on another one, so that a plug-in which hangs holds no pin and delays no engine.
// Nobody knows what it has until it is asked, so Match knows of nothing and Guess hopes. A block is
// brought if it opens as the record that was offered under its key (BlockRecord); all else is
// counted and computed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kv/connector.h"
#include "kv/connector_plugin.h"
#include "kv/tiers/block_record.h"
#include "kv/tiers/hash_sieve.h"
#include "kv/tiers/health_log.h"
#include "kv/tiers/job_runner.h"
#include "kv/tiers/tier_counters.h"
#include "kv/tiers/tier_health.h"
#include "rt/foreign_thread.h"
#include "rt/thread.h"

namespace pixii::kv {

struct PluginConnectorOptions {
  std::uint64_t bytes_in_flight_max = 256ULL << 20;  // records on their way to the plug-in
  std::uint32_t load_blocks_max = 1U << 12;          // of one request
  rt::Duration load_time_max = std::chrono::seconds(5);
  rt::Duration stop_time_max = std::chrono::seconds(2);  // for it to return at the end
  std::uint32_t rank = 0;                                // in what is logged
  obs::Log* log = nullptr;  // hears when it fails and works again; null: nobody does
};

/// Any thread may read.
struct PluginCounters {
  TierCounters::Count offered{0};   // blocks that it was given
  TierCounters::Count brought{0};   // blocks, proven
  TierCounters::Count refused{0};   // blocks not offered: too much on its way
  TierCounters::Count threw{0};     // calls
  TierCounters::Count late{0};      // loads that it did not end in time
  TierCounters::Count degraded{0};  // 1: it fails
  std::array<TierCounters::Count, kFaultCount> faults{};
};

class PluginConnector final : public Connector {
 public:
  PluginConnector(const PluginConnectorOptions& options, std::shared_ptr<ConnectorPlugin> plugin,
                  BlockRecord record, std::shared_ptr<PluginCounters> counters);
  ~PluginConnector() override;

  void Start(rt::Function<void()> wake) override;
  std::uint32_t Match(const ConnectorRequestRef& request, std::uint32_t first) override;
  std::uint32_t Guess(const ConnectorRequestRef& request, std::uint32_t first) override;
  void Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
            std::span<const BlockMemory> targets) override;
  void Cancel(LoadId id) override;
  void Published(std::vector<PublishedBlock> blocks) override;
  void Distrust(std::span<const Hash128> hashes) override;
  void Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) override;
  rt::Time Poll(rt::Time now, std::vector<LoadEnd>& ended) override;
  bool idle() const override;

 private:
  struct Side;    // what the plug-in's thread works with
  struct Ticket;  // shared with the job of one load

  struct LoadState {
    std::shared_ptr<Ticket> ticket;
    rt::Time began{};
    rt::Time deadline = rt::kNever;
    bool told = false;
    bool is_stuck = false;  // its time had passed when it was told
  };

  static bool Bring(Side& side, Ticket& ticket, const ConnectorRequest& request,
                    std::uint32_t first, std::span<const std::span<std::byte>> memory,
                    std::vector<Hash128>& brought);

  bool rests() const { return stuck_ > 0 || health_.rests(now_); }

  void Tell(LoadId id, LoadState& load, std::span<const Hash128> brought,
            std::optional<Error> error);
  void LoadReturned(LoadId id, const std::vector<Hash128>& brought, bool is_well);

  PluginConnectorOptions options_;
  std::shared_ptr<PluginCounters> counters_;
  std::shared_ptr<Mailbox> mailbox_;
  std::shared_ptr<Side> side_;
  std::unordered_map<LoadId, LoadState> loads_;         // until their job has returned
  std::unordered_set<Hash128, Hash128Hasher> brought_;  // and not yet published
  HashSieve distrusted_;                                // for good: it may have kept them
  std::unordered_set<RequestId> told_of_;               // requests that it knows
  std::vector<LoadEnd> ended_;
  std::uint32_t stuck_ = 0;  // loads that were given up and whose job has not returned
  std::size_t copies_ = 0;   // that hold pins
  TierHealth health_;
  HealthLog health_log_;
  rt::Time now_{};
  std::unique_ptr<rt::ForeignThread> foreign_;
  std::unique_ptr<JobThread> copier_;  // last: its jobs use what stands above
};

}  // namespace pixii::kv
