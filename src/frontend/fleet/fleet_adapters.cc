#include "frontend/fleet/fleet_adapters.h"

#include <algorithm>
#include <utility>

namespace pixii::frontend {

void FleetAdapters::SetWorker(control::InstanceId instance, std::vector<wire::AdapterCard> has) {
  workers_[instance] = std::move(has);
}

void FleetAdapters::RemoveWorker(control::InstanceId instance) { workers_.erase(instance); }

void FleetAdapters::Want(wire::LoadAdapterRequest request, wire::AdapterCard card) {
  const std::string name = card.name;
  wanted_[name] = {.request = std::move(request), .card = std::move(card)};
}

void FleetAdapters::Unwant(const std::string& name) { wanted_.erase(name); }

std::vector<wire::LoadAdapterRequest> FleetAdapters::MissingAt(control::InstanceId instance) const {
  const std::vector<wire::AdapterCard>& has = workers_.at(instance);
  std::vector<wire::LoadAdapterRequest> out;
  for (const auto& [name, wanted] : wanted_) {
    const auto found = std::ranges::find(has, name, &wire::AdapterCard::name);
    if (found == has.end() || found->version != wanted.card.version) {
      out.push_back(wanted.request);
    }
  }
  return out;
}

std::vector<AdapterWorker> FleetAdapters::Workers() const {
  std::vector<AdapterWorker> out;
  for (const auto& [instance, has] : workers_) {
    out.push_back({.instance = instance, .adapters = &has});
  }
  return out;
}

std::vector<wire::AdapterCard> FleetAdapters::Joined() const {
  std::vector<wire::AdapterCard> out = JoinAdapters(Workers());
  for (const auto& [name, wanted] : wanted_) {
    if (std::ranges::find(out, name, &wire::AdapterCard::name) == out.end()) {
      out.push_back(wanted.card);
    }
  }
  return out;
}

std::vector<control::InstanceId> FleetAdapters::NotFor(std::string_view adapter) const {
  return NotForAdapter(adapter, Workers());
}

std::vector<control::InstanceId> FleetAdapters::NotForBegun(std::string_view adapter) const {
  const bool is_named = std::ranges::any_of(workers_, [&](const auto& one) {
    return std::ranges::find(one.second, adapter, &wire::AdapterCard::name) != one.second.end();
  });
  if (is_named) {
    return NotFor(adapter);
  }
  std::vector<control::InstanceId> out;
  for (const auto& [instance, has] : workers_) {
    out.push_back(instance);
  }
  return out;
}

}  // namespace pixii::frontend
