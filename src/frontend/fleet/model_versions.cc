#include "frontend/fleet/model_versions.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "control/instance_codec.h"

namespace pixii::frontend {

namespace {

constexpr const char* kBlockSize = "kv_cache_block_size";

}  // namespace

Settings SettingsOf(const control::Instance& instance) {
  const wire::ModelCard& card = instance.card;
  std::vector<std::string> processors = card.logits_processors;
  std::ranges::sort(processors);
  return {{kBlockSize, fmt::format("{}", card.block_tokens)},
          {"vocab_size", fmt::format("{}", card.vocab_size)},
          {"bos_token_id", fmt::format("{}", card.bos_token_id)},
          {"eos_token_ids", fmt::format("{}", fmt::join(card.eos_token_ids, " "))},
          {"task", fmt::format("{} of {} values, {} token types", static_cast<int>(card.task),
                               card.feature_count, card.token_type_count)},
          {"texts", instance.texts},
          {"logits_processors", fmt::format("{}", fmt::join(processors, " "))}};
}

std::string Difference(const Settings& said, const Settings& others) {
  for (std::size_t i = 0; i < said.size() && i < others.size(); ++i) {
    if (said[i] != others[i]) {
      return fmt::format("{} is \"{}\", where most workers have \"{}\"", said[i].first,
                         said[i].second, others[i].second);
    }
  }
  return {};
}

VersionKey VersionOf(const control::Instance& instance) {
  return {.name = instance.card.name,
          .fingerprint = instance.card.fingerprint,
          .settings = SettingsOf(instance)};
}

bool ComputesFor(const VersionKey& prefill, const VersionKey& decode) {
  const auto but_block_size = [](Settings settings) {
    std::erase_if(settings, [](const auto& one) { return one.first == kBlockSize; });
    return settings;
  };
  return prefill.name == decode.name && prefill.fingerprint == decode.fingerprint &&
         but_block_size(prefill.settings) == but_block_size(decode.settings);
}

bool EncodesFor(const VersionKey& encode, const VersionKey& version) {
  return encode.name == version.name && encode.fingerprint == version.fingerprint;
}

bool Helps(const control::Instance& instance, const VersionKey& version) {
  const VersionKey own = VersionOf(instance);
  return instance.role == control::WorkerRole::kEncode ? EncodesFor(own, version)
                                                       : ComputesFor(own, version);
}

bool ServesClients(control::WorkerRole role) {
  return role == control::WorkerRole::kAggregated || role == control::WorkerRole::kDecode;
}

void ModelVersions::SetInstance(const control::Instance& instance) {
  const VersionKey key = VersionOf(instance);
  const auto known = instances_.find(instance.id);
  if (known != instances_.end() && known->second != key) {
    RemoveInstance(instance.id);
  }
  instances_[instance.id] = key;
  const auto [found, is_new] = versions_.try_emplace(key);
  Version& version = found->second;
  version.born_ms = is_new ? instance.started_ms : std::min(version.born_ms, instance.started_ms);
  version.workers[instance.id] = {.version = key,
                                  .role = instance.role,
                                  .needs = instance.needs,
                                  .takes_new = ServesClients(instance.role) && !instance.draining};
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

// Workers of other roles may have other settings: nobody sends them what was meant for these.
std::optional<std::string> ModelVersions::Missing(const VersionKey& key,
                                                  const Version& version) const {
  std::set<control::WorkerRole> there;
  for (const auto& [other, same_weights] : versions_) {
    if (other.name == key.name && other.fingerprint == key.fingerprint) {
      for (const auto& [id, worker] : same_weights.workers) {
        there.insert(worker.role);
      }
    }
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
  // Can be sent requests, workers that take new ones, age, the rest.
  using GroupRank = std::tuple<bool, std::size_t, std::int64_t, Settings>;
  using Group = std::pair<GroupRank, const VersionKey*>;
  std::map<std::pair<std::string, std::string>, Group> groups;  // by name and fingerprint
  for (const auto& [key, version] : versions_) {
    const VersionState now = state(key);
    if (std::optional<std::string> missing = Missing(key, version)) {
      out.pending[key.name] = std::move(*missing);
      continue;
    }
    if (!now.ready) {
      out.pending[key.name] =
          now.trouble.empty() ? "its workers are being asked for its texts" : now.trouble;
      continue;
    }
    const auto takers = static_cast<std::size_t>(std::ranges::count_if(
        version.workers, [](const auto& one) { return one.second.takes_new; }));
    GroupRank rank(now.workers > 0, takers, -version.born_ms, key.settings);
    const auto [found, is_first] = groups.try_emplace({key.name, key.fingerprint}, rank, &key);
    if (!is_first && found->second.first < rank) {
      found->second = {std::move(rank), &key};
    }
  }
  using Rank = std::tuple<bool, std::int64_t, std::string>;  // can be sent requests, age, the rest
  std::map<std::string, Rank> best;
  for (const auto& [name_and_fingerprint, group] : groups) {
    const VersionKey& key = *group.second;
    const std::int64_t born_ms = versions_.at(key).born_ms;
    Rank rank(std::get<0>(group.first), born_ms, key.fingerprint);
    const auto [found, is_first] = best.try_emplace(key.name, rank);
    if (is_first || found->second < rank) {
      found->second = std::move(rank);
      out.serving[key.name] = key;
    }
  }
  for (const auto& [name, key] : out.serving) {
    out.pending.erase(name);
    AddConflicts(key, out.conflicts);
  }
  return out;
}

// Those of the same weights that `serving` cannot be joined by.
void ModelVersions::AddConflicts(const VersionKey& serving,
                                 std::map<control::InstanceId, std::string>& out) const {
  for (const auto& [key, version] : versions_) {
    if (key.name == serving.name && key.fingerprint == serving.fingerprint && key != serving) {
      for (const auto& [id, worker] : version.workers) {
        if (!ServesClients(worker.role)) {
          continue;
        }
        out.emplace(id, Difference(key.settings, serving.settings));
      }
    }
  }
}

}  // namespace pixii::frontend
