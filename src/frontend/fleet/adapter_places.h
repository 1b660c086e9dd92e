// Where the adapters of a fleet are, and where one goes that no worker has loaded yet. Pure.
//
// Thread: values.
// Source: highest random weight (Thaler and Ravishankar): each name has its own order of workers,
// so one that comes or goes moves only the adapters that were placed there.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "control/instance.h"
#include "wire/messages/adapters.h"

namespace pixii::frontend {

/// A worker and the adapters that it says requests may name.
struct AdapterWorker {
  control::InstanceId instance{};
  const std::vector<wire::AdapterCard>* adapters = nullptr;
};

/// Workers that a request of `adapter` does not go to: those that have not loaded it; if none has,
/// all but the one where it belongs. Empty: no worker names it, so each may say so.
std::vector<control::InstanceId> NotForAdapter(std::string_view adapter,
                                               std::span<const AdapterWorker> workers);

/// Every adapter of any worker, by name; as a worker has it that has loaded it.
std::vector<wire::AdapterCard> JoinAdapters(std::span<const AdapterWorker> workers);

}  // namespace pixii::frontend
