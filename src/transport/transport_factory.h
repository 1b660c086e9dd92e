// How an agent's transports are made: each from its options, on the agent's loop.
//
// Thread: the agent's loop. Private to the folder.
#pragma once

#include <memory>
#include <utility>

#include "base/result.h"
#include "rt/net.h"
#include "transport/cluster_key.h"
#include "transport/link.h"

namespace pixii::transport {

/// Of an `AnyTransport` that is made with (context, net, key, options) and whose Begin says whether
/// it can be reached.
template <class AnyTransport, class Options>
TransportFactory FactoryOf(rt::Net& net, ClusterKey key, Options options) {
  return [&net, key = std::move(key), options = std::move(options)](
             AgentContext& context) -> Result<std::unique_ptr<Transport>> {
    auto transport = std::make_unique<AnyTransport>(context, net, key, options);
    PX_CHECK_OK(transport->Begin());
    return transport;
  };
}

}  // namespace pixii::transport
