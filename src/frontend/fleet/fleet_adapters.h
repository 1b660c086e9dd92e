// The adapters of a fleet: what its workers say that they have, and what clients had loaded at all
// of them.
//
// Thread: a value.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/instance.h"
#include "frontend/fleet/adapter_places.h"
#include "wire/messages/adapters.h"

namespace pixii::frontend {

class FleetAdapters final {
 public:
  /// A worker that requests go to has these.
  void SetWorker(control::InstanceId instance, std::vector<wire::AdapterCard> has);
  void RemoveWorker(control::InstanceId instance);

  /// Clients loaded it at the workers there are; `card`: as one of them said then.
  void Want(wire::LoadAdapterRequest request, wire::AdapterCard card);
  /// Clients took it back.
  void Unwant(const std::string& name);

  /// What a worker lacks of what clients had loaded; it may have come later. Pre: SetWorker.
  std::vector<wire::LoadAdapterRequest> MissingAt(control::InstanceId instance) const;

  /// What requests may name: what any worker has, or was told to have a moment ago.
  std::vector<wire::AdapterCard> Joined() const;

  /// Workers that a request of `adapter` does not go to.
  std::vector<control::InstanceId> NotFor(std::string_view adapter) const;

  /// Workers that a request of `adapter` does not go to that has begun with it already: where none
  /// names it, all. Whoever had it is gone, and each of these would say that there is none.
  std::vector<control::InstanceId> NotForBegun(std::string_view adapter) const;

 private:
  struct Wanted {
    wire::LoadAdapterRequest request;
    wire::AdapterCard card;
  };

  std::vector<AdapterWorker> Workers() const;

  std::map<control::InstanceId, std::vector<wire::AdapterCard>> workers_;
  std::map<std::string, Wanted> wanted_;  // by name
};

}  // namespace pixii::frontend
