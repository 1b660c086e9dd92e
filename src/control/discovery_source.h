// Where a process finds the others, as --discovery names it.
//
// Thread: values; a store belongs to the loop it was opened for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "control/kube_client.h"
#include "control/lease_store.h"
#include "control/mem_store.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::control {

struct DiscoverySource {
  enum class Kind : std::uint8_t { kMem, kFile, kEtcd, kKubernetes } kind = Kind::kMem;
  std::string folder;                  // kFile
  std::vector<rt::Address> endpoints;  // kEtcd
  KubeAccess kube;                     // kKubernetes

  /// The cluster is the one that this process runs in: UsePod is to be called.
  bool wants_pod() const { return kind == Kind::kKubernetes && kube.server.host.empty(); }
};

/// "mem", "file:DIR", "etcd://HOST:PORT[,HOST:PORT...]", "kubernetes",
/// "kubernetes://HOST:PORT[/NAMESPACE]". Errors: kInvalidArgument.
Result<DiscoverySource> ParseDiscoverySource(std::string_view text);

/// What Kubernetes gives every process of a pod.
struct PodSurroundings {
  std::string host;    // KUBERNETES_SERVICE_HOST
  std::string port;    // KUBERNETES_SERVICE_PORT
  std::string folder;  // with the files token, ca.crt and namespace
};

inline constexpr std::string_view kServiceAccountFolder =
    "/var/run/secrets/kubernetes.io/serviceaccount";

/// Makes `source` that of the pod's cluster: HTTPS, believed only with a certificate of ca.crt for
/// the host. Errors: kInvalidArgument naming what is missing.
Result<void> UsePod(DiscoverySource& source, const PodSurroundings& pod);

/// What a store needs; all outlive it. A process opens each store of "mem" on the same hub.
struct StorePlace {
  rt::Loop& loop;
  rt::Net& net;
  std::shared_ptr<MemHub> hub = nullptr;  // kMem; null: one of its own
};

std::unique_ptr<LeaseStore> OpenLeaseStore(const DiscoverySource& source, const StorePlace& place,
                                           LeaseOptions lease);

}  // namespace pixii::control
