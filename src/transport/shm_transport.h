// Transfers between processes of one host by shared memory: the initiator copies, one copy, and the
// peer does nothing.
//
// Thread: as transport/link.h. docs/formats/transfer.md
// A Unix socket carries the handshake and the descriptors of regions that peers ask for; only
// processes of the same user, with the cluster key, get any. Regions whose memory lies in no
// rt::MemoryFile cannot be reached: another transport does it.
#pragma once

#include <string>

#include "rt/net.h"
#include "transport/cluster_key.h"
#include "transport/link.h"

namespace pixii::transport {

inline constexpr std::size_t kShmFolderBytesMax = 60;  // a socket's path has room for 107

struct ShmOptions {
  /// Of the socket. What dead agents left there is removed at start.
  std::string folder = "/tmp";
  bool polled = false;  // nobody waits for wake: peers need not wake this agent
  std::uint32_t connections_max = 1024;
  std::uint32_t strangers_max = 64;
};

/// `net` outlives the agent and is one of the system's.
TransportFactory MakeShmTransport(rt::Net& net, ClusterKey key, ShmOptions options);

}  // namespace pixii::transport
