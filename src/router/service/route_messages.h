// Requests as routers see them and as they travel.
//
// Thread: functions.
#pragma once

#include "router/route_request.h"
#include "wire/messages/route.h"

namespace pixii::router {

/// Its id is the request's own. `block_tokens` > 0: of a block.
wire::RouteAsk AskOf(const RouteRequest& request, std::uint32_t block_tokens);

/// Its id is left to the caller.
RouteRequest RequestOf(wire::RouteAsk ask);

}  // namespace pixii::router
