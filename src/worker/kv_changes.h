// What an engine says of its cache, as the events that routers hear.
//
// Thread: a function.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/cache_journal.h"
#include "wire/messages/kv_event.h"
#include "wire/zmq_kv_event.h"

namespace pixii::worker {

/// Blocks in a row behind each other, and removals in a row, are one event each. Their ids go on
/// from `next_id`.
std::vector<wire::KvEvent> JoinChanges(std::span<const kv::CacheEvent> changes,
                                       std::uint64_t& next_id);

/// The same in the terms of engines, with tokens, for those who listen as to any engine: a block's
/// own hash is that of its chain. Pre: `changes` has tokens of `block_tokens` and roots.
std::vector<wire::EngineKvEvent> JoinEngineChanges(const kv::CacheChanges& changes,
                                                   std::uint32_t block_tokens);

}  // namespace pixii::worker
