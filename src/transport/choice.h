// Which transports an agent has, best first: what a configuration names, or what a probe of both
// sides finds.
//
// Thread: any.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "transport/agent_thread.h"
#include "transport/cluster_key.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"

namespace pixii::transport {

enum class Backend : std::uint8_t {
  kDefault,  // shm where the peer runs on this host and its memory can be mapped, else tcp
  kShm,
  kTcp,
};

/// "default", "shm" or "tcp", in any case. Errors: kInvalidArgument naming all.
Result<Backend> ParseBackend(std::string_view name);

struct ChoiceOptions {
  Backend backend = Backend::kDefault;
  bool encrypted = false;  // tcp within TLS 1.3, by a key derived from the cluster's
  ShmOptions shm = {};
  TcpOptions tcp = {};
};

/// For AgentThread::Start. A transport that cannot be had (a folder for sockets, an address to
/// listen on) stops the start.
AgentThread::Choose ChooseTransports(ClusterKey key, ChoiceOptions options);

}  // namespace pixii::transport
