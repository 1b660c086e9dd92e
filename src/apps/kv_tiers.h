// The slower tiers behind the KV caches of an engine's ranks, as the flags ask for them.
//
// Thread: made while the engine is; Export on any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "base/result.h"
#include "kv/connector.h"
#include "kv/tiers/block_sealer.h"
#include "kv/tiers/copy_pacer.h"
#include "kv/tiers/object_store.h"
#include "kv/tiers/tier_counters.h"
#include "kv/tiers/tier_journal.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "rt/loop.h"

namespace pixii::apps {

/// Whether any tier is asked for. Errors: kInvalidArgument for flags that contradict each other.
Result<bool> WantsKvTiers(const EngineFlags& flags);

/// Where the secret of the block hashes is. A disk tier has a key of its own in its folder, made at
/// the first start, if no flag names another: without it nothing would be found again. Empty: a
/// fresh one at each start.
Result<std::string> IdentityKeyFile(const EngineFlags& flags);

/// The secret that all who share an object store have without being told: made from the key that
/// signs their requests. Empty: there is none, or a flag names a file.
std::string SharedIdentityKey(const EngineFlags& flags);

/// Errors: kInvalidArgument if blocks would go to a store of others under a key that nobody shares.
Result<void> CheckRemoteStore(const EngineFlags& flags, const std::string& cluster_key);

/// Null without a file. Errors: those of reading it; kInvalidArgument if it is too short.
Result<std::shared_ptr<const kv::BlockSealer>> ReadSealKey(const std::string& path);

class KvTiers final {
 public:
  /// `loop` and `log` outlive it. `journal`: as the engine's options have it for the cache.
  KvTiers(const EngineFlags& flags, const kv::TierJournalOptions& journal, rt::Loop& loop,
          obs::Log& log)
      : flags_(flags), journal_(journal), loop_(loop), log_(log) {}

  /// Of one rank; null: none is asked for. Errors: those of the disk, naming its flag.
  Result<std::unique_ptr<kv::Connector>> Make(const kv::BlockGeometry& geometry,
                                              std::uint32_t rank);

  /// Bytes that all copies read and wrote in memory so far.
  std::uint64_t traffic_bytes() const;

  /// Of the memory, bytes per second, as measured at the start; 0: nobody needed it.
  double bandwidth() const { return bandwidth_; }

  /// Of all ranks together. No effect without tiers.
  void Export(obs::Registry& registry, const std::string& model) const;

 private:
  void MakePacer();
  Result<std::unique_ptr<kv::ObjectService>> MakeService(std::uint32_t rank);

  EngineFlags flags_;
  kv::TierJournalOptions journal_;
  rt::Loop& loop_;  // for the date alone
  obs::Log& log_;
  std::vector<std::shared_ptr<kv::TierCounters>> counters_;  // [rank]
  std::shared_ptr<kv::CopyPacer> pacer_;                     // of all ranks; null: none is wanted
  double bandwidth_ = 0;                                     // bytes per second, measured
};

}  // namespace pixii::apps
