#include "apps/fleet_routing.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "apps/cluster_net.h"
#include "apps/cluster_unit.h"
#include "control/instance_codec.h"

namespace pixii::apps {

namespace {

constexpr std::string_view kByDiscovery = "discovery";

}  // namespace

FleetRouting::FleetRouting(ProcessUnit& process, rt::Net& net, control::Discovery& discovery,
                           Options options)
    : process_(process),
      net_(net),
      discovery_(discovery),
      options_(std::move(options)),
      self_(discovery.NewInstanceId()) {}

FleetRouting::~FleetRouting() = default;

Result<void> FleetRouting::Start() {
  if (asks() && options_.remote.router_url != kByDiscovery) {
    Result<rt::Address> address = rt::ParseAddress(options_.remote.router_url);
    if (!address || (address->port == 0 && !address->host.starts_with("unix:"))) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("router-url: \"{}\" is neither discovery nor HOST:PORT of a router's "
                              "--route-port",
                              options_.remote.router_url),
                  "router-url");
    }
    address_ = std::move(*address);
  }
  if (!options_.replicas.replica_sync || asks()) {
    return {};  // a router that is asked counts everything
  }
  PX_CHECK_OK(CheckPublished("replica-host", options_.replicas.replica_host));
  PX_TRY(listen_net_, OpenReplicaNet(process_.loop(), process_.net(), options_.tls));
  mesh_.emplace(process_.loop(), net_,
                router::ReplicaMeshOptions{.self = self_,
                                           .sync = {.peer_expiry = options_.request_expiry},
                                           .client = options_.client});
  service_.emplace(process_.loop(), listen_net_ ? *listen_net_ : process_.net(), nullptr, &*mesh_,
                   router::RouteServiceOptions{.mux = {.name = control::InstanceName(self_)}});
  PX_TRY(const rt::Address bound,
         service_->Start({.host = options_.replicas.replica_host, .port = 0}));
  control::Instance instance;
  instance.id = self_;
  instance.ns = options_.ns;
  instance.component = kFrontendComponent;
  instance.endpoint = router::kReplicaMethod;
  instance.address = bound.ToString();
  PX_TRY(registration_, discovery_.Register(std::move(instance)));
  return {};
}

void FleetRouting::Prepare(const wire::ModelCard& card, frontend::FleetOptions& options) {
  if (!asks() && !mesh_) {
    return;
  }
  preparing_ = std::make_shared<Seat>();
  Seat& seat = *preparing_;
  if (asks()) {
    seat.pool = {.model = card.name, .group = "default", .block_tokens = card.block_tokens};
    seat.adviser = std::make_unique<router::RemoteAdviser>(
        process_.loop(), net_, seat.pool, router::RemoteAdviserOptions{.client = options_.client});
    options.adviser = seat.adviser.get();
    // What it decides without advice, by what it knows itself.
    options.router.mode = router::RouterMode::kLeastLoaded;
    TellAddress(seat);
  } else {
    // Versions of a model are pools of their own.
    seat.pool = {.model = card.name, .group = card.fingerprint, .block_tokens = card.block_tokens};
    options.router.tell_load_changes = true;
  }
  seats_.push_back(preparing_);
}

void FleetRouting::Begin(frontend::FleetLink& fleet) {
  const std::shared_ptr<Seat> seat = std::exchange(preparing_, nullptr);
  if (!seat) {
    return;
  }
  if (mesh_) {
    seat->member = mesh_->Join(seat->pool, fleet.router(), [&fleet] { fleet.OnRouterChanged(); });
  }
  // The fleet owns its seat from now on.
  fleet.OnPumped([seat, &fleet] {
    if (seat->member) {
      seat->member->Tell(fleet.router().TakeLoadChanges());
    }
  });
}

void FleetRouting::OnChange(const control::MembershipChange& change) {
  const control::Instance& instance = change.instance;
  const bool removed = change.kind == control::MembershipChange::Kind::kRemoved;
  if (mesh_ && instance.component == kFrontendComponent &&
      instance.endpoint == router::kReplicaMethod) {
    const std::string name = control::InstanceName(instance.id);
    if (removed) {
      mesh_->RemovePeer(name);
    } else {
      (void)mesh_->SetPeer(name, instance.address,
                           instance.id);  // an address that is none: no peer
    }
  }
  if (options_.remote.router_url == kByDiscovery && instance.endpoint == router::kRouteMethod) {
    if (removed || instance.draining) {
      routers_.erase(instance.id);
    } else {
      routers_[instance.id] = instance.address;
    }
    ChooseRouter();
  }
}

// Frontends spread over routers, and each keeps its own while that is there.
void FleetRouting::ChooseRouter() {
  const auto weight = [this](const auto& router) {
    std::uint64_t x = Raw(router.first) ^ (Raw(self_) * 0x9e3779b97f4a7c15U);
    x = (x ^ (x >> 31U)) * 0xbf58476d1ce4e5b9U;
    return x ^ (x >> 29U);
  };
  const auto best = std::ranges::max_element(routers_, {}, weight);
  const std::string peer = best == routers_.end() ? "" : control::InstanceName(best->first);
  if (peer == peer_) {
    return;
  }
  peer_ = peer;
  address_.reset();
  if (best != routers_.end()) {
    if (Result<rt::Address> address = rt::ParseAddress(best->second)) {
      address_ = std::move(*address);
    }
  }
  std::erase_if(seats_, [](const auto& seat) { return seat.expired(); });
  for (const std::weak_ptr<Seat>& seat : seats_) {
    if (const auto here = seat.lock(); here && here->adviser) {
      TellAddress(*here);
    }
  }
}

void FleetRouting::TellAddress(Seat& seat) const { seat.adviser->SetAddress(address_, peer_); }

}  // namespace pixii::apps
