// The fleets behind a frontend: one for each model and version that discovery shows, added and
// taken back as their workers come and go.
//
// Thread: one loop; texts of new models are read on another thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "apps/fleet_routing.h"
#include "apps/http_unit.h"
#include "apps/option_structs.h"
#include "apps/plane_unit.h"
#include "apps/process_unit.h"
#include "control/discovery.h"
#include "frontend/fleet/encode_link.h"
#include "frontend/fleet/fleet_link.h"
#include "frontend/fleet/model_versions.h"
#include "frontend/fleet/prefill_link.h"
#include "frontend/served_model.h"
#include "obs/metrics.h"
#include "router/policy_file.h"
#include "rt/work_pool.h"

namespace pixii::apps {

/// How a frontend's connections to workers are made.
control::MuxClientOptions FleetClientOptions(const FleetFlags& flags);

class FleetHost final {
 public:
  struct Options {
    const FleetFlags& fleet;
    const RouterFlags& router;
    router::PolicyFile policies = {};  // of the flags
    std::string model = {};            // the only one that is served; empty: all
    FleetRouting* routing = nullptr;   // who helps to choose; null: nobody
    PlaneUnit* plane = nullptr;        // where workers publish, too; null: nowhere
  };

  /// Workers are reached by `net`. `http` is started before the first worker is found. All outlive
  /// it.
  FleetHost(ProcessUnit& process, rt::Net& net, HttpUnit& http, obs::Registry& registry,
            Options options);

  FleetHost(const FleetHost&) = delete;
  FleetHost& operator=(const FleetHost&) = delete;
  /// Pre: `http` has stopped.
  ~FleetHost();

  /// From now on workers are found. `discovery` outlives it.
  void Watch(control::Discovery& discovery, std::string_view ns);

  /// All that discovery shows, with what is done with it.
  std::vector<frontend::ShownInstance> instances() const;

  /// That requests can be sent to now.
  std::size_t worker_count() const;

  /// Who places requests of a service that their clients send to its workers themselves; null: it
  /// is served no more.
  frontend::Placer* PlacerOf(frontend::ServiceId service) const;

  /// Requests of all fleets.
  std::size_t outstanding_count() const;

 private:
  struct Fleet {
    // Of one that is served, whole is what clients' requests go to.
    std::shared_ptr<frontend::FleetLink> link;     // of those that answer
    std::shared_ptr<frontend::FleetLink> prefill;  // of those that compute prompts for them
    std::shared_ptr<frontend::FleetLink> encode;   // of those that look at pictures for both
    std::shared_ptr<frontend::PrefillLink> text;   // link and prefill
    std::shared_ptr<frontend::EncodeLink> whole;

    frontend::FleetLink& of(control::WorkerRole role) const {
      return role == control::WorkerRole::kPrefill  ? *prefill
             : role == control::WorkerRole::kEncode ? *encode
                                                    : *link;
    }

    std::size_t outstanding_count() const {
      return link->outstanding_count() + text->outstanding_count() + whole->outstanding_count();
    }

    std::size_t worker_count() const {
      return link->worker_count() + prefill->worker_count() + encode->worker_count();
    }

    std::optional<frontend::ServedModel> texts;
    std::string trouble;  // why there are none
    bool fetching = false;
    std::optional<frontend::ServiceId> service;
  };

  /// Of fleets that are gone, by models that others serve: what is counted never shrinks.
  struct Count {
    frontend::FleetCounters moves;
    std::array<std::uint64_t, frontend::kPrefillPathCount> paths = {};
    frontend::EncodeCounters pictures;

    void Add(const Fleet& fleet);
  };

  using Counters = std::map<std::string, Count>;

  const Fleet* FleetOf(const control::Instance& instance) const;
  /// Whether its fleet took it.
  bool Take(Fleet& fleet, const control::Instance& instance);
  frontend::ShownInstance Show(const control::Instance& instance) const;
  void SayConflicts(std::map<control::InstanceId, std::string> conflicts);
  void ExportStates();
  void OnChanges(const std::vector<control::MembershipChange>& changes);
  void SetInstance(const control::Instance& instance);
  void OnConnection(control::InstanceId instance, bool connected);
  void SettleLater();
  void Settle();
  void Fetch(const frontend::VersionKey& key, Fleet& fleet);
  void TakeTexts(const frontend::VersionKey& key, Result<frontend::ServedModel> texts);
  void Serve(const frontend::VersionKey& key, Fleet& fleet);
  void SweepLater();
  void Sweep();
  frontend::FleetOptions MakeFleetOptions(std::string_view model);
  frontend::FleetOptions MakeEncodeOptions(std::string_view model);
  void MakeFleet(const wire::ModelCard& card, Fleet& fleet);
  void Export();

  ProcessUnit& process_;
  rt::Net& net_;
  HttpUnit& http_;
  obs::Registry& registry_;
  Options options_;
  frontend::ModelVersions versions_;
  std::map<frontend::VersionKey, Fleet> fleets_;
  /// Of roles that serve other workers, whatever version: each is of every fleet that it serves.
  std::map<control::InstanceId, control::Instance> helpers_;
  std::map<control::InstanceId, std::string> conflicts_;  // kept apart, with why
  std::set<std::tuple<std::string, std::string_view, std::string_view>>
      states_told_;  // model, state, reason
  Counters gone_;
  bool settling_ = false;
  rt::TimerId sweep_ = rt::TimerId::kNone;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // on the loop alone
  std::unique_ptr<control::InstanceWatch> watch_;
  rt::WorkPool texts_pool_;
};

}  // namespace pixii::apps
