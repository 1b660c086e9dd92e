// What a request says about its worker: fields of nvext, and headers, which win over them.
//
// Thread: pure functions. Source: names of spec/dynamo-core.md A.9, 0.3.
#pragma once

#include <string_view>

#include "base/result.h"
#include "wire/http.h"
#include "wire/json.h"
#include "wire/messages/generate.h"

namespace pixii::frontend {

/// An id of a worker as answers and /router/explain give it: a number from 1 to 2^63 - 1. Errors
/// name `field`.
Result<std::uint64_t> ReadWorkerId(std::string_view field, const wire::Json& value);

/// An object of the router's options for this request alone. Errors name the member.
Result<wire::RouteOverride> ReadRouteOverride(std::string_view field, const wire::Json& value);

/// {"required_taints": ["a"], "preferred_taints": {"b": 0.5}}. Errors name the member.
Result<void> ReadRoutingConstraints(std::string_view field, const wire::Json& value,
                                    wire::RoutingHints& hints);

/// Worker, rank, priority, session and class by their headers, today's names before older ones.
/// Errors name the header.
Result<void> ReadRoutingHeaders(const wire::HttpRequest& headers, wire::GenerateRequest& request);

}  // namespace pixii::frontend
