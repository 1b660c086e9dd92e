// Transfers through UCX or libfabric: one-sided reads of memory that its owner has given the keys
// of, to whoever has proved to have the cluster key.
//
// Thread: as transport/link.h. docs/kv_transfer.md, docs/formats/transfer.md
#pragma once

#include <cstdint>
#include <string>

#include "rt/net.h"
#include "transport/cluster_key.h"
#include "transport/fabric.h"
#include "transport/link.h"

namespace pixii::transport {

struct FabricOptions {
  FabricKind kind = FabricKind::kUcx;
  rt::Address listen{.host = "127.0.0.1", .port = 0};  // for the control connections
  std::string advertised_host;                         // what peers connect to; empty: that
  std::uint32_t connections_max = 1024;                // of peers
  std::uint32_t strangers_max = 64;                    // that have not proved to have the key
  std::string library_path;                            // empty: beside the program
};

/// `net` and the loop are real, and outlive the agent. Errors of the factory: kUnsupported naming
/// the package if the library is missing; kUnavailable with what it says.
TransportFactory MakeFabricTransport(rt::Net& net, ClusterKey key, FabricOptions options);

}  // namespace pixii::transport
