// Connections between frontends and workers under TLS, each side with a certificate of its own.
//
// Thread: one loop.
// A frontend believes a worker whose certificate one of its authorities signed for the host of the
// worker's address; a worker believes who shows a certificate of its authorities.
#pragma once

#include <memory>

#include "apps/option_structs.h"
#include "base/result.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::apps {

/// What a worker or a router listens on; null: `inner` itself, in the clear. Errors:
/// kInvalidArgument naming the flag. All outlive it.
Result<std::unique_ptr<rt::Net>> OpenWorkerNet(rt::Loop& loop, rt::Net& inner,
                                               const WorkerTlsFlags& flags);

/// What a frontend reaches workers by; null: `inner` itself. Certificates are read anew for each
/// connection, so that they may be replaced. Errors and lives as above.
Result<std::unique_ptr<rt::Net>> OpenFleetNet(rt::Loop& loop, rt::Net& inner,
                                              const FleetTlsFlags& flags);

/// What a frontend answers its replicas by: with the certificate that it shows workers, to those
/// that have one of the same authorities; null: `inner` itself. Errors and lives as above.
Result<std::unique_ptr<rt::Net>> OpenReplicaNet(rt::Loop& loop, rt::Net& inner,
                                                const FleetTlsFlags& flags);

}  // namespace pixii::apps
