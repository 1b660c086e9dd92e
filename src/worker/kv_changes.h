// What an engine says of its cache, as the events that routers hear.
//
// Thread: a function.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/cache_journal.h"
#include "wire/messages/kv_event.h"

namespace pixii::worker {

/// Blocks in a row behind each other, and removals in a row, are one event each. Their ids go on
/// from `next_id`.
std::vector<wire::KvEvent> JoinChanges(std::span<const kv::CacheEvent> changes,
                                       std::uint64_t& next_id);

}  // namespace pixii::worker
