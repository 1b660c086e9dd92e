// Transfers over TCP, or TLS over TCP: any memory, any host.
//
// Thread: as transport/link.h. docs/formats/transfer.md
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "rt/net.h"
#include "transport/cluster_key.h"
#include "transport/link.h"

namespace pixii::transport {

struct TcpOptions {
  rt::Address listen{.host = "127.0.0.1", .port = 0};
  std::string advertised_host;  // what peers connect to; empty: that of `listen`
  bool checksums = true;        // made if either side wants them
  /// The net encrypts (rt/tls.h): both sides must, so it is a transport of its own, "tls".
  bool encrypted = false;
  std::uint32_t connections_max = 4096;  // of peers
  std::uint32_t strangers_max = 64;      // that have not proved to have the key
};

/// `net` outlives the agent.
TransportFactory MakeTcpTransport(rt::Net& net, ClusterKey key, TcpOptions options);

}  // namespace pixii::transport
