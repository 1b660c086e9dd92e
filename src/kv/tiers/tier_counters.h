// What the tiers of one engine have done, for whoever asks.
//
// Thread: written on the engine thread, read on any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "kv/tiers/stored_block.h"

namespace pixii::kv {

/// Slower tiers come later.
enum class Tier : std::uint8_t {
  kHost,
  kDisk,
  kPeer,  // disk tiers of other processes of this host
  kObject,
};

inline constexpr std::size_t kTierCount = 4;
inline constexpr std::size_t kFaultCount = static_cast<std::size_t>(BlockFault::kChecksum) + 1;

constexpr std::string_view TierName(Tier tier) {
  return tier == Tier::kHost   ? "host"
         : tier == Tier::kDisk ? "disk"
         : tier == Tier::kPeer ? "peer"
                               : "object";
}

struct TierCounters {
  using Count = std::atomic<std::uint64_t>;

  struct Of {
    Count slots{0};    // it has
    Count stored{0};   // blocks that can be found
    Count written{0};  // blocks
    Count written_bytes{0};
    Count brought{0};  // blocks, proven, into the cache
    Count brought_bytes{0};
    Count traffic_bytes{0};  // that its copies read and wrote in memory
    Count prefetched{0};     // blocks, proven, into host memory before their turn
    Count asked{0};          // blocks that requests wanted and no faster tier had
    Count found{0};          // of them
    Count evicted{0};
    Count refused{0};  // blocks not written: no room, or too much on its way
    Count read_failures{0};
    Count write_failures{0};
    Count degraded{0};  // 1: it fails, or may only be read
    std::array<Count, kFaultCount> faults{};
  };

  std::array<Of, kTierCount> tiers;
  Count matched_tokens{0};  // that a slower tier had of prompts
  Count timed_out_loads{0};
  std::atomic<bool> has_host{false};

  Of& of(Tier tier) { return tiers[static_cast<std::size_t>(tier)]; }

  const Of& of(Tier tier) const { return tiers[static_cast<std::size_t>(tier)]; }
};

inline void Add(TierCounters::Count& count, std::uint64_t value = 1) {
  count.fetch_add(value, std::memory_order_relaxed);
}

}  // namespace pixii::kv
