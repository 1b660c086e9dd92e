// KV events as routers exchange them in /dump.
//
// Thread: functions. docs/router_service.md
#pragma once

#include <cstdint>

#include "base/result.h"
#include "wire/json.h"
#include "wire/messages/kv_event.h"

namespace pixii::frontend {

struct WorkerKvEvent {
  std::uint64_t worker = 0;
  wire::KvEvent event;
};

/// {"worker_id", "storage_tier", "event": {"event_id", "dp_rank", "data": {"stored" | "removed": …}
/// | "cleared"}}.
wire::Json EventToJson(const WorkerKvEvent& event);

/// Errors: kInvalidArgument naming the member.
Result<WorkerKvEvent> EventFromJson(const wire::Json& json);

}  // namespace pixii::frontend
