// KV events of a `pixii worker` that discovery does not tell of, over its own connection.
//
// Thread: one loop.
#pragma once

#include <memory>

#include "base/result.h"
#include "control/mux_client.h"
#include "router/service/kv_listener.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::router {

inline constexpr std::string_view kMuxScheme = "pixii://";

/// `spec.endpoint` begins with kMuxScheme. `client`: but for the address. Errors: kInvalidArgument.
Result<std::unique_ptr<KvListener>> ListenToMux(rt::Loop& loop, rt::Net& net,
                                                control::MuxClientOptions client,
                                                const KvListenerSpec& spec,
                                                KvEventsHandler on_events);

}  // namespace pixii::router
