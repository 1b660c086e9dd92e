// The side of an shm connection that copies: maps the peer's regions, and reads from and writes to
// them by itself.
//
// Thread: as transport/link.h. Private to the shm transport. docs/formats/transfer.md
#pragma once

#include <memory>

#include "rt/net.h"
#include "transport/cluster_key.h"
#include "transport/link.h"

namespace pixii::transport {

class ShmLink : public Link {
 public:
  /// The agent ends.
  virtual void Shut() = 0;
};

/// Connecting goes on in the background. All references outlive it.
std::shared_ptr<ShmLink> OpenShmLink(AgentContext& context, rt::Net& net, const ClusterKey& key,
                                     rt::Address address, AgentId peer);

}  // namespace pixii::transport
