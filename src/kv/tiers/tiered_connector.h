// Slower tiers behind the cache of an engine: host memory, a disk, an object store. docs/kvbm.md
//
// Thread: every verb on the engine thread, where all decisions are made; each tier does its I/O on
// a runner of its own, which tells what came of it through a mailbox.
// Blocks go down when they are computed: to the first tier at once, to those behind it when they
// are used again (OffloadFilter). They come back proven or not at all: to the cache when a
// request's turn is near, to host memory while it waits for that (PrefetchPlanner).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "kv/connector.h"
#include "kv/tiers/block_store.h"
#include "kv/tiers/copy_pacer.h"
#include "kv/tiers/hash_sieve.h"
#include "kv/tiers/job_runner.h"
#include "kv/tiers/offload_planner.h"
#include "kv/tiers/prefetch_planner.h"
#include "kv/tiers/tier_counters.h"
#include "kv/tiers/tier_health.h"
#include "kv/tiers/tier_index.h"
#include "kv/tiers/tier_journal.h"
#include "obs/log.h"
#include "rt/thread.h"

namespace pixii::kv {

struct TieredConnectorOptions {
  BlockShape shape;
  bool filter = true;                                // blocks go past the first tier if used twice
  std::uint32_t batch_blocks = 16;                   // of one job
  std::uint64_t bytes_in_flight_max = 256ULL << 20;  // to each tier
  std::uint64_t prefetch_bytes_max = 64ULL
                                     << 20;  // on their way to host memory; 0: none come early
  std::uint32_t prefetch_batches_max = 2;    // jobs of one tier at a time
  std::uint32_t load_blocks_max = 1U << 16;  // of one request
  rt::Duration load_time_max = std::chrono::seconds(5);
  rt::Duration decay_period = std::chrono::minutes(10);  // of frequencies and priorities
  std::uint32_t filter_blocks_max = 1U << 20;            // whose frequency is remembered
  rt::Duration list_period = std::chrono::minutes(1);    // of tiers that others write to
  TierJournalOptions journal = {};
  std::shared_ptr<CopyPacer> pacer = nullptr;  // of all copies; none: they go as fast as they can
  obs::Log* log = nullptr;  // hears of tiers that fail and work again; null: nobody does
  std::uint32_t rank = 0;   // as the log names it
};

struct TierSetup {
  Tier tier = Tier::kHost;
  TierIndexOptions index;
  std::unique_ptr<BlockStore> store;
  std::unique_ptr<JobRunner> runner;
  bool scan = false;      // something may stand there from before
  bool has_slots = true;  // false: places are names, and others may have written there
  bool is_asked = false;  // it cannot list them: what others have written shows when it is read
  bool forgets_itself = false;             // what is not remembered any more is left to it
  BlockFault foreign = BlockFault::kNone;  // why what stood there was thrown away
  bool read_only = false;
};

class TieredConnector final : public Connector {
 public:
  /// `tiers` fastest first, one at least.
  TieredConnector(const TieredConnectorOptions& options, std::vector<TierSetup> tiers,
                  std::shared_ptr<TierCounters> counters);
  /// Waits for the jobs that run.
  ~TieredConnector() override;

  void Start(rt::Function<void()> wake) override;
  std::uint32_t Match(const ConnectorRequestRef& request, std::uint32_t first) override;
  std::uint32_t Guess(const ConnectorRequestRef& request, std::uint32_t first) override;
  void Load(LoadId id, const ConnectorRequestRef& request, std::uint32_t first,
            std::span<const BlockMemory> targets) override;
  void Expect(std::span<const ExpectedRequest> waiting) override;
  void Cancel(LoadId id) override;
  void Clear(bool lasting) override;
  void Published(std::vector<PublishedBlock> blocks) override;
  void Distrust(std::span<const Hash128> hashes) override;
  void Finished(const ConnectorRequestRef& request, std::vector<BlockPin> pins) override;
  rt::Time Poll(rt::Time now, std::vector<LoadEnd>& ended) override;
  bool DrainEvents(CacheChanges& out, bool everything) override;

  bool lost_events() const override { return journal_.lost(); }

  bool idle() const override;

  /// Which blocks of `hashes` some tier has, also behind one that none has.
  std::vector<bool> Find(std::span<const Hash128> hashes) const;

  /// Asserts that indexes and work under way agree.
  void CheckInvariants() const;

 private:
  struct Level;
  struct LoadState;
  struct LoadTicket;
  struct LoadItem;
  struct Outcome;
  struct DownItem;
  struct UpItem;
  struct Pace;
  struct Written;

  struct Place {
    Level* level = nullptr;
    TierPlace place;
  };

  std::optional<Place> Locate(const Hash128& hash) const;
  Level* WhoMayHave(const Hash128& hash) const;
  void Use(const BlockChain& chain);
  std::uint32_t CountFound(const ConnectorRequest& request, std::uint32_t first, bool is_counted,
                           bool guesses);
  void CountAsked(const std::optional<Place>& place);
  std::optional<Place> Assume(const BlockChain& chain, std::uint32_t number);
  std::uint32_t BlocksInTime(const Level& level) const;

  // tiered_prefetch.cc
  WantedBlock WantedOf(const BlockChain& chain, std::uint32_t number) const;
  void PumpUp();
  void PostPrefetch(Level& level, std::vector<UpItem> items);
  void Prefetched(Level& level, const std::vector<UpItem>& items,
                  const std::vector<BlockFault>& faults);

  // tiered_writes.cc
  void WriteFromCache(Level& level, const PublishedBlock& block,
                      const std::optional<PublicBlock>& name, const std::shared_ptr<BlockPin>& pin);
  std::optional<PublicBlock> Name(const PublishedBlock& block);
  void CacheWritten(Level& level, const TierPlace& place, const Written& written,
                    const Result<void>& result);
  std::optional<TierPlace> Reserve(Level& level, const TierBlock& block);
  void OfferDown(const Hash128& hash);
  void PumpDown(Level& level);
  void WentDown(Level& level, const std::vector<DownItem>& items,
                const std::vector<Result<void>>& results);
  void Settle(Level& level, const TierPlace& place, const Written& written,
              const Result<void>& result);
  void Scan(Level& level);
  void Adopt(Level& level, const BlockStore::Found& found);

  static void Take(LoadTicket& ticket, const LoadItem& item, const BlockShape& shape,
                   BlockFault fault, const StoredBlock& block, std::span<const std::byte> payload,
                   Outcome& outcome);
  void JobEnded(LoadId id, Level& level, const std::vector<Outcome>& outcomes);
  void Account(Level& level, const Outcome& outcome);
  void Failed(Level& level, const Hash128& hash, const TierPlace& place, BlockFault fault);
  Pace PaceOf(const Level& level, std::uint64_t passes, CopyHaste haste) const;
  void Forget(Level& level, const Hash128& hash, const TierPlace& place);
  void EndLoad(LoadState& load, std::optional<Error> error);
  void CountStored(Level& level);

  TieredConnectorOptions options_;
  std::shared_ptr<TierCounters> counters_;
  std::shared_ptr<Mailbox> mailbox_;
  OffloadFilter filter_;
  PrefetchPlanner prefetches_;
  PublicNames names_;
  TierJournal journal_;
  std::unordered_set<RequestId> live_;  // whose use of blocks is counted already
  std::unordered_map<LoadId, std::unique_ptr<LoadState>> loads_;
  std::vector<LoadEnd> ended_;
  std::size_t cache_writes_ = 0;  // that hold pins
  HashSieve doubted_;             // what nobody can take back is not asked for
  rt::Time now_{};
  rt::Time next_decay_ = rt::kNever;
  std::vector<std::unique_ptr<Level>> levels_;  // last: their jobs use what stands above
};

}  // namespace pixii::kv
