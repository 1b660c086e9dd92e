// Which version of each model gets new requests, decided from the workers there are. Pure.
//
// Thread: a value. docs/running_a_fleet.md
// A version is all that workers must have in common to serve one fleet: the name, the fingerprint
// of weights, the vocabulary that tokens are checked against, and the blocks that prompts are cut
// into to know who has cached them. In a rolling update two versions have workers at a time; the
// newer one gets what is new as soon as it can serve, and the older one ends what it has.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/instance.h"

namespace pixii::frontend {

struct VersionKey {
  std::string name;
  std::string fingerprint;
  std::uint32_t vocab_size = 0;
  std::uint32_t block_tokens = 0;

  auto operator<=>(const VersionKey&) const = default;
};

VersionKey VersionOf(const wire::ModelCard& card);

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
  };

  struct Version {
    std::int64_t born_ms = 0;  // when the first of its workers started that was seen here
    std::map<control::InstanceId, Worker> workers;
  };

  /// The roles that are missing; nothing: none.
  static std::optional<std::string> Missing(const Version& version);

  std::map<VersionKey, Version> versions_;
  std::map<control::InstanceId, VersionKey> instances_;
};

}  // namespace pixii::frontend
