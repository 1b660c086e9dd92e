// Which version of each model gets new requests, decided from the workers there are. Pure.
//
// Thread: a value. docs/running_a_fleet.md
// A version is a name and a fingerprint of weights: its workers answer alike. In a rolling update
// two versions have workers at a time; the newer one gets what is new as soon as it can serve, and
// the older one ends what it has. Workers of one version whose settings contradict each other are
// kept apart: those that most workers have get what is new, so that one that was started wrongly
// harms nobody.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/instance.h"

namespace pixii::frontend {

/// What workers that serve together must have in common besides their weights: names and values,
/// in order.
using Settings = std::vector<std::pair<std::string, std::string>>;

Settings SettingsOf(const control::Instance& instance);

/// The first setting that differs, with both values; empty: none does.
std::string Difference(const Settings& said, const Settings& others);

struct VersionKey {
  std::string name;
  std::string fingerprint;
  Settings settings = {};

  auto operator<=>(const VersionKey&) const = default;
};

VersionKey VersionOf(const control::Instance& instance);

/// Whether a prefill worker of `prefill` computes prompts for workers of `decode`: blocks may be of
/// another size, for they are cut anew where they arrive.
bool ComputesFor(const VersionKey& prefill, const VersionKey& decode);

/// Whether a worker with role encode looks at pictures for workers of `version`: what it makes of
/// them depends on the weights alone.
bool EncodesFor(const VersionKey& encode, const VersionKey& version);

/// Whether a worker that serves others serves those of `version`.
bool Helps(const control::Instance& instance, const VersionKey& version);

/// Whether clients' requests go to it, and not only other workers'.
bool ServesClients(control::WorkerRole role);

/// What a version has besides its workers.
struct VersionState {
  bool ready = false;       // its texts are here
  std::string trouble;      // why they are not; empty: they are being asked for
  std::size_t workers = 0;  // that requests can be sent to now
};

struct VersionChoice {
  std::map<std::string, VersionKey> serving;   // by name
  std::map<std::string, std::string> pending;  // name to why it cannot serve yet
  /// Workers kept apart from those of their version that serve, to what contradicts them.
  std::map<control::InstanceId, std::string> conflicts = {};
};

class ModelVersions final {
 public:
  void SetInstance(const control::Instance& instance);
  void RemoveInstance(control::InstanceId instance);

  /// Whether it has any worker.
  bool Knows(const VersionKey& key) const { return versions_.contains(key); }

  /// The newest version of each name that is ready, has workers for all it needs, and can be sent
  /// requests; if none can, the newest that is ready.
  VersionChoice Choose(const std::function<VersionState(const VersionKey&)>& state) const;

 private:
  struct Worker {
    VersionKey version;
    control::WorkerRole role{};
    std::vector<std::vector<control::WorkerRole>> needs;
    bool takes_new = false;  // requests of clients
  };

  struct Version {
    std::int64_t born_ms = 0;  // when the first of its workers started that was seen here
    std::map<control::InstanceId, Worker> workers;
  };

  /// The roles that are missing; nothing: none.
  std::optional<std::string> Missing(const VersionKey& key, const Version& version) const;

  void AddConflicts(const VersionKey& serving,
                    std::map<control::InstanceId, std::string>& out) const;

  std::map<VersionKey, Version> versions_;
  std::map<control::InstanceId, VersionKey> instances_;
};

}  // namespace pixii::frontend
