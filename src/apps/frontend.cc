#include <optional>
#include <utility>

#include "apps/cluster_net.h"
#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/fleet_host.h"
#include "apps/fleet_routing.h"
#include "apps/http_unit.h"
#include "apps/loop_meter.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "apps/router_flags.h"
#include "control/discovery.h"

namespace pixii::apps {

namespace {

// HTTP for workers of other processes.
class FrontendProcess final {
 public:
  explicit FrontendProcess(FrontendFlags flags)
      : flags_(std::move(flags)), registry_(flags_.metrics_prefix) {}

  Result<int> Run() {
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = [this] { http_->Reload(); },
                                       .drain = [this] { return http_->Drain(); }}));
    http_.emplace(process_.loop(), process_.net(), process_.log(), flags_, flags_);
    PX_CHECK_OK(http_->Prepare());
    PX_TRY(fleet_net_, OpenFleetNet(process_.loop(), process_.net(), flags_));
    PX_TRY(discovery_, OpenDiscovery(process_, flags_));
    PX_TRY(plane_, PlaneUnit::Open(process_, flags_, true));
    rt::Net& net = fleet_net_ ? *fleet_net_ : process_.net();
    routing_.emplace(process_, net, *discovery_,
                     FleetRouting::Options{.remote = flags_,
                                           .replicas = flags_,
                                           .tls = flags_,
                                           .ns = flags_.ns,
                                           .client = FleetClientOptions(flags_),
                                           .request_expiry = rt::Duration(flags_.request_expiry)});
    PX_CHECK_OK(routing_->Start());
    PX_TRY(router::PolicyFile policies, ReadPolicies(flags_));
    fleets_.emplace(process_, net, *http_, registry_,
                    FleetHost::Options{.fleet = flags_,
                                       .router = flags_,
                                       .policies = std::move(policies),
                                       .model = flags_.model_name,
                                       .routing = &*routing_,
                                       .plane = plane_.get()});
    PX_CHECK_OK(http_->Start(true, registry_, [this] { return fleets_->instances(); }));
    fleets_->Watch(*discovery_, flags_.ns);
    http_->AnnounceWhenReady("");
    const LoopMeter meter(process_.loop(), registry_);
    process_.loop().Run();
    const int exit = http_->exit().value_or(kExitDone);
    const std::size_t cancelled = http_->frontend().cut_count();
    http_.reset();
    fleets_.reset();
    routing_.reset();
    plane_.reset();
    discovery_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  void DumpState() {
    if (http_->is_started()) {
      obs::Event(process_.log(), obs::EventId::kStateDump)
          .kv("requests", http_->frontend().generation_count())
          .kv("connections", http_->frontend().connection_count())
          .kv("workers", fleets_->worker_count());
    }
  }

  FrontendFlags flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::unique_ptr<rt::Net> fleet_net_;  // null: workers are reached in the clear
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<PlaneUnit> plane_;  // null: none
  std::optional<FleetRouting> routing_;
  std::optional<FleetHost> fleets_;
  std::optional<HttpUnit> http_;
};

}  // namespace

int RunFrontend(const Arguments& arguments) {
  return RunCommand({"frontend", "Answers the OpenAI API with workers of other processes."},
                    FrontendFlags{}, arguments,
                    [](FrontendFlags flags, const config::Parsed& /*parsed*/) {
                      return FrontendProcess(std::move(flags)).Run();
                    });
}

}  // namespace pixii::apps
