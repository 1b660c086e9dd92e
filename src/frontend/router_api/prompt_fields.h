// Requests of the selection service as routers see them.
//
// Thread: functions. docs/router_service.md
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "router/route_request.h"
#include "wire/json.h"

namespace pixii::frontend {

/// `token_ids` (or `tokens`) with `lora_name` and `cache_salt` (or `cache_namespace`), or
/// `block_hashes` or `sequence_hashes` with `isl_tokens`. Errors: kInvalidArgument naming the
/// field.
Result<router::HashedPrompt> PromptFields(const wire::Json& body, std::uint32_t block_tokens);

/// The prompt, and all that says where it may go. `known`: all workers there are, for
/// `allowed_worker_ids`. Errors: likewise.
Result<router::RouteRequest> SelectionFields(const wire::Json& body, std::uint32_t block_tokens,
                                             const std::vector<router::InstanceId>& known);

}  // namespace pixii::frontend
