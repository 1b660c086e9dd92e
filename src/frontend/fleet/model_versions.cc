#include "frontend/fleet/model_versions.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "control/instance_codec.h"

namespace pixii::frontend {

VersionKey VersionOf(const wire::ModelCard& card) {
  return {.name = card.name,
          .fingerprint = card.fingerprint,
          .vocab_size = card.vocab_size,
          .block_tokens = card.block_tokens};
}

bool ServesClients(control::WorkerRole role) {
  return role == control::WorkerRole::kAggregated || role == control::WorkerRole::kDecode;
}

void ModelVersions::SetInstance(const control::Instance& instance) {
  const VersionKey key = VersionOf(instance.card);
  const auto known = instances_.find(instance.id);
  if (known != instances_.end() && known->second != key) {
    RemoveInstance(instance.id);
  }
  instances_[instance.id] = key;
  const auto [found, is_new] = versions_.try_emplace(key);
  Version& version = found->second;
  version.born_ms = is_new ? instance.started_ms : std::min(version.born_ms, instance.started_ms);
  version.workers[instance.id] = {.version = key, .role = instance.role, .needs = instance.needs};
}

void ModelVersions::RemoveInstance(control::InstanceId instance) {
  const auto known = instances_.find(instance);
  if (known == instances_.end()) {
    return;
  }
  const auto version = versions_.find(known->second);
  version->second.workers.erase(instance);
  if (version->second.workers.empty()) {
    versions_.erase(version);
  }
  instances_.erase(known);
}

std::optional<std::string> ModelVersions::Missing(const Version& version) {
  std::set<control::WorkerRole> there;
  for (const auto& [id, worker] : version.workers) {
    there.insert(worker.role);
  }
  std::set<std::string_view> missing;
  bool serves = false;
  for (const auto& [id, worker] : version.workers) {
    if (!ServesClients(worker.role)) {
      continue;
    }
    serves = true;
    bool met = worker.needs.empty();
    for (const std::vector<control::WorkerRole>& set : worker.needs) {
      bool whole = true;
      for (const control::WorkerRole role : set) {
        if (!there.contains(role)) {
          whole = false;
          missing.insert(control::NameOf(role));
        }
      }
      met = met || whole;
    }
    if (met) {
      return std::nullopt;
    }
  }
  return serves ? fmt::format("its workers need others that are not there: {}",
                              fmt::join(missing, ", "))
                : "no worker that clients' requests go to is there";
}

VersionChoice ModelVersions::Choose(
    const std::function<VersionState(const VersionKey&)>& state) const {
  VersionChoice out;
  using Rank = std::tuple<bool, std::int64_t, VersionKey>;  // can be sent requests, age, the rest
  std::map<std::string, Rank> best;
  for (const auto& [key, version] : versions_) {
    const VersionState now = state(key);
    if (std::optional<std::string> missing = Missing(version)) {
      out.pending[key.name] = std::move(*missing);
      continue;
    }
    if (!now.ready) {
      out.pending[key.name] =
          now.trouble.empty() ? "its workers are being asked for its texts" : now.trouble;
      continue;
    }
    Rank rank(now.workers > 0, version.born_ms, key);
    const auto [found, is_first] = best.try_emplace(key.name, rank);
    if (is_first || found->second < rank) {
      found->second = std::move(rank);
      out.serving[key.name] = key;
    }
  }
  for (const auto& [name, key] : out.serving) {
    out.pending.erase(name);
  }
  return out;
}

}  // namespace pixii::frontend
