// Who helps a frontend's fleets to choose workers: a router of another process, or other frontends
// that tell what they send.
//
// Thread: one loop. docs/router_service.md
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "control/discovery.h"
#include "frontend/fleet/fleet_link.h"
#include "router/service/remote_adviser.h"
#include "router/service/replica_mesh.h"
#include "router/service/route_service.h"

namespace pixii::apps {

class FleetRouting final {
 public:
  struct Options {
    const RemoteRouterFlags& remote;
    const ReplicaFlags& replicas;
    const FleetTlsFlags& tls;  // of replicas, as `net` has it of workers and routers
    std::string ns;
    control::MuxClientOptions client = {};  // but for the address
    rt::Duration request_expiry{};          // of what a replica said that is not heard any more
  };

  /// Routers and replicas are reached by `net`. All outlive it; fleets do not.
  FleetRouting(ProcessUnit& process, rt::Net& net, control::Discovery& discovery, Options options);

  FleetRouting(const FleetRouting&) = delete;
  FleetRouting& operator=(const FleetRouting&) = delete;
  ~FleetRouting();

  /// Before workers are found. Errors: kInvalidArgument naming the flag; those of listening.
  Result<void> Start();

  /// Of a fleet that is about to be made of workers with this card. What it makes lives in
  /// `options`.
  void Prepare(const wire::ModelCard& card, frontend::FleetOptions& options);

  /// The fleet for which Prepare was called last.
  void Begin(frontend::FleetLink& fleet);

  /// Those of discovery that are no workers.
  void OnChange(const control::MembershipChange& change);

 private:
  /// What one fleet has; its options own it.
  struct Seat {
    wire::PoolName pool;
    std::unique_ptr<router::RemoteAdviser> adviser;
    std::unique_ptr<router::ReplicaMesh::Member> member;
  };

  bool asks() const { return !options_.remote.router_url.empty(); }

  void ChooseRouter();
  void TellAddress(Seat& seat) const;

  ProcessUnit& process_;
  rt::Net& net_;
  control::Discovery& discovery_;
  Options options_;
  control::InstanceId self_{};
  std::map<control::InstanceId, std::string> routers_;  // that discovery tells of, and where
  std::optional<rt::Address> address_;                  // of the router that is asked
  std::string peer_;                                    // its name
  std::vector<std::weak_ptr<Seat>> seats_;
  std::shared_ptr<Seat> preparing_;
  std::optional<router::ReplicaMesh> mesh_;
  std::unique_ptr<rt::Net> listen_net_;  // null: replicas are answered in the clear
  std::optional<router::RouteService> service_;
  std::unique_ptr<control::Registration> registration_;
};

}  // namespace pixii::apps
