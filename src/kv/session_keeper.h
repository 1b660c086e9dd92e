// Blocks of live sessions: those of a session's last turn are evicted behind all others, for its
// next turn begins with them. docs/agents.md
//
// Thread: one owner (the engine thread). No clock.
// Nothing is reserved: a block that is kept still gives way before a request has to wait, so that
// sessions that are never ended cost the rest of the cache at most its warmest `blocks_max` blocks.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kv/block_cache.h"
#include "rt/time.h"

namespace pixii::kv {

struct SessionKeeperOptions {
  std::uint32_t blocks_max = 0;                     // of all sessions; 0: nothing is kept
  std::uint32_t sessions_max = 4096;                // live at a time
  rt::Duration lifetime = std::chrono::minutes(5);  // since the last turn ended
};

struct SessionCounters {
  std::uint32_t live = 0;    // sessions whose blocks are kept now
  std::uint32_t blocks = 0;  // of them; one of two sessions counts twice
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;      // by their last request
  std::uint64_t expired = 0;    // by their lifetime
  std::uint64_t displaced = 0;  // by others, for want of blocks_max or sessions_max
};

class SessionKeeper final {
 public:
  /// `cache` outlives it.
  SessionKeeper(const SessionKeeperOptions& options, BlockCache& cache)
      : options_(options), cache_(cache) {}

  SessionKeeper(const SessionKeeper&) = delete;
  SessionKeeper& operator=(const SessionKeeper&) = delete;

  /// A turn ended, whose first blocks these are, in order; those of the turn before are let go.
  /// What `blocks_max` does not hold of them is not kept.
  void Keep(std::string_view session, std::span<const BlockPin> blocks, rt::Time now);

  /// Its last turn ended. No effect if nothing is kept for it.
  void End(std::string_view session);

  /// Lets go what nobody has used for `lifetime`.
  void Expire(rt::Time now);

  /// When Expire would; kNever: nothing is kept.
  rt::Time next_expiry() const;

  /// Lets go of everything.
  void Clear();

  const SessionCounters& counters() const { return counters_; }

 private:
  struct Session {
    std::string name;
    std::vector<BlockRef> blocks;
    rt::Time until{};
  };

  using Sessions = std::list<Session>;

  void Remove(Sessions::iterator session);

  const SessionKeeperOptions options_;
  BlockCache& cache_;
  Sessions by_use_;  // least recently used first, which is the order of `until`, too
  std::unordered_map<std::string_view, Sessions::iterator> sessions_;  // keys are names in by_use_
  SessionCounters counters_;
};

}  // namespace pixii::kv
