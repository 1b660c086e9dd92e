// The agent that moves KV blocks, as the flags say: which transports, in which order.
//
// Thread: any, once at start.
#pragma once

#include <string>
#include <string_view>

#include "apps/option_structs.h"
#include "base/result.h"
#include "kv/handover_connector.h"
#include "obs/log.h"

namespace pixii::apps {

struct TransferParts {
  std::string host;         // that peers reach this process at
  std::string key;          // the cluster's secret
  EngineFlags flags;        // those of kv-transfer
  obs::Log* log = nullptr;  // outlives the agent
};

/// Whether this build can do what --kv-transfer asks for. Errors: kUnsupported naming it, with what
/// there is; kInvalidArgument.
Result<void> CheckTransfer(const EngineFlags& flags);

/// Errors: kInvalidArgument if blocks shall be offered early by a worker whose role offers none.
Result<void> CheckPipelined(const EngineFlags& flags, std::string_view role);

/// Whether peers of this host may read KV blocks from this process's memory.
bool SharesMemory(const EngineFlags& flags);

/// An agent that peers reach at `parts.host`.
kv::AgentMaker MakerOf(TransferParts parts);

}  // namespace pixii::apps
