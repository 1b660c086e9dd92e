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
#include "control/lease_store.h"
#include "control/mem_store.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::control {

struct DiscoverySource {
  enum class Kind : std::uint8_t { kMem, kFile, kEtcd } kind = Kind::kMem;
  std::string folder;                  // kFile
  std::vector<rt::Address> endpoints;  // kEtcd
};

/// "mem", "file:DIR", "etcd://HOST:PORT[,HOST:PORT...]". Errors: kInvalidArgument; kUnsupported for
/// "kubernetes".
Result<DiscoverySource> ParseDiscoverySource(std::string_view text);

/// What a store needs; all outlive it. A process opens each store of "mem" on the same hub.
struct StorePlace {
  rt::Loop& loop;
  rt::Net& net;
  std::shared_ptr<MemHub> hub = nullptr;  // kMem; null: one of its own
};

std::unique_ptr<LeaseStore> OpenLeaseStore(const DiscoverySource& source, const StorePlace& place,
                                           LeaseOptions lease);

}  // namespace pixii::control
