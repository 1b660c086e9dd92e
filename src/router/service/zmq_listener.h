// KV events that an engine publishes over ZeroMQ.
//
// Thread: one loop.
#pragma once

#include <memory>

#include "base/result.h"
#include "router/service/kv_listener.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::router {

/// `spec.endpoint` and `spec.replay_endpoint` are addresses as ZeroMQ writes them. Errors:
/// kInvalidArgument.
Result<std::unique_ptr<KvListener>> ListenToZmq(rt::Loop& loop, rt::Net& net,
                                                const KvListenerSpec& spec,
                                                KvEventsHandler on_events);

}  // namespace pixii::router
