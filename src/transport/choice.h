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
#include "transport/fabric_transport.h"
#include "transport/shm_transport.h"
#include "transport/tcp_transport.h"

namespace pixii::transport {

enum class Backend : std::uint8_t {
  kDefault,  // shm where the peer runs on this host and its memory can be mapped, else tcp
  kShm,
  kTcp,
  kUcx,
  kLibfabric,
};

/// "default", "shm", "tcp", "ucx" or "libfabric", in any case. Errors: kInvalidArgument naming all.
Result<Backend> ParseBackend(std::string_view name);

struct ChoiceOptions {
  Backend backend = Backend::kDefault;
  bool encrypted = false;  // tcp within TLS 1.3, by a key derived from the cluster's
  ShmOptions shm = {};
  TcpOptions tcp = {};
  FabricOptions fabric = {};  // its kind is the back end's
};

/// For AgentThread::Start. A transport that cannot be had stops the start: an address to listen on;
/// where it is named, a folder for sockets, too.
AgentThread::Choose ChooseTransports(ClusterKey key, ChoiceOptions options);

}  // namespace pixii::transport
