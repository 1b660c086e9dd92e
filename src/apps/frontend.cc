#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
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
#include "frontend/epp/endpoint_picker.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::int64_t kMessageRoom = 4 << 20;  // for headers, and pieces of answers
constexpr std::int64_t kMessageBytesMax = std::numeric_limits<std::int32_t>::max();

frontend::ExtProcOptions ExtProcOptionsOf(const HttpFlags& http, const PickerFlags& flags) {
  frontend::ExtProcOptions out;
  out.body_mode = flags.body_mode == "streamed"   ? frontend::BodyMode::kStreamed
                  : flags.body_mode == "buffered" ? frontend::BodyMode::kBuffered
                  : flags.body_mode == "none"     ? frontend::BodyMode::kNone
                                                  : frontend::BodyMode::kFullDuplex;
  out.body_bytes_max = static_cast<std::uint64_t>(http.body_limit);
  return out;
}

// HTTP for workers of other processes; and for gateways, where their requests should go.
class FrontendProcess final {
 public:
  /// `picker`: what gateways are answered by; nothing: they are not.
  explicit FrontendProcess(FrontendFlags flags, std::optional<PickerFlags> picker = std::nullopt)
      : flags_(std::move(flags)),
        picker_flags_(std::move(picker)),
        registry_(flags_.metrics_prefix) {}

  Result<int> Run() {
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = [this] { http_->Reload(); },
                                       .drain = [this] { return Drain(); }}));
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
    PX_CHECK_OK(AnswerGateways());
    fleets_->Watch(*discovery_, flags_.ns);
    PX_CHECK_OK(AnnounceHttp());
    http_->AnnounceWhenReady("");
    const LoopMeter meter(process_.loop(), registry_);
    process_.loop().Run();
    const int exit = http_->exit().value_or(kExitDone);
    const std::size_t cancelled = http_->frontend().cut_count();
    picker_.reset();
    http_.reset();
    fleets_.reset();
    routing_.reset();
    plane_.reset();
    announced_.reset();
    discovery_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  Result<void> AnswerGateways() {
    if (!picker_flags_) {
      return {};
    }
    const PickerFlags& flags = *picker_flags_;
    PX_TRY(frontend::GrpcLibrary library, frontend::LoadGrpcLibrary({}));
    PX_TRY(frontend::GrpcOptions grpc,
           GrpcOptionsOf(flags_, flags.ext_proc_host.empty() ? flags_.host : flags.ext_proc_host,
                         flags.ext_proc_port));
    grpc.calls_max = static_cast<std::uint32_t>(flags.streams_max);
    // A body that is too large is told so, and answers come in pieces of any size.
    grpc.message_bytes_max = static_cast<std::uint32_t>(
        std::min<std::int64_t>(2 * flags_.body_limit + kMessageRoom, kMessageBytesMax));
    PX_TRY(picker_, frontend::EndpointPicker::Start(
                        {.loop = process_.loop(),
                         .handler = http_->frontend().handler(),
                         .registry = registry_,
                         .placer =
                             [this](std::uint64_t service) {
                               return fleets_->PlacerOf(frontend::ServiceId{service});
                             },
                         .instances = [this] { return fleets_->instances(); },
                         .ready = [this] { return http_->frontend().ready(); }},
                        std::move(library),
                        {.grpc = std::move(grpc),
                         .proc = ExtProcOptionsOf(flags_, flags),
                         .endpoint_port = static_cast<std::uint16_t>(flags.endpoint_port),
                         .token_data = flags.token_data}));
    if (!flags.ext_proc_port_file.empty()) {
      PX_CHECK_OK(rt::WriteFileAtomic(flags.ext_proc_port_file,
                                      fmt::format("{}\n", picker_->port()), 0644));
    }
    return {};
  }

  // What gateways were told of runs elsewhere, and its end is heard here.
  bool Drain() {
    if (!picker_ || !http_->is_started()) {
      return http_->Drain();
    }
    picker_->Drain(process_.loop().Now() + rt::Duration(flags_.drain_timeout),
                   [this] { http_->Drain(); });
    return true;
  }

  Result<void> AnnounceHttp() {
    if (!flags_.announce_http) {
      return {};
    }
    PX_CHECK_OK(CheckPublished("host", flags_.host));
    control::Instance instance;
    instance.ns = flags_.ns.empty() ? instance.ns : flags_.ns;
    instance.component = kFrontendComponent;
    instance.endpoint = flags_.tls_cert.empty() ? kHttpEndpoint : kHttpsEndpoint;
    instance.address = http_->address().ToString();
    PX_TRY(announced_, discovery_->Register(std::move(instance)));
    return {};
  }

  void DumpState() {
    if (http_->is_started()) {
      obs::Event(process_.log(), obs::EventId::kStateDump)
          .kv("requests", http_->frontend().generation_count())
          .kv("connections", http_->frontend().connection_count())
          .kv("workers", fleets_->worker_count())
          .kv("streams", picker_ ? picker_->stream_count() : 0);
    }
  }

  FrontendFlags flags_;
  std::optional<PickerFlags> picker_flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::unique_ptr<rt::Net> fleet_net_;  // null: workers are reached in the clear
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<control::Registration> announced_;  // null: nobody is told
  std::unique_ptr<PlaneUnit> plane_;                  // null: none
  std::optional<FleetRouting> routing_;
  std::optional<FleetHost> fleets_;
  std::optional<HttpUnit> http_;
  std::unique_ptr<frontend::EndpointPicker> picker_;  // null: gateways are not answered
};

}  // namespace

int RunFrontend(const Arguments& arguments) {
  return RunCommand({"frontend", "Answers the OpenAI API with workers of other processes."},
                    FrontendFlags{}, arguments,
                    [](FrontendFlags flags, const config::Parsed& /*parsed*/) {
                      return FrontendProcess(std::move(flags)).Run();
                    });
}

int RunEpp(const Arguments& arguments) {
  return RunCommand({"epp", "Tells gateways which endpoint gets a request (ext-proc)."},
                    EppDefaults(), arguments, [](EppFlags flags, const config::Parsed& /*parsed*/) {
                      PickerFlags picker = flags;
                      return FrontendProcess(std::move(flags), std::move(picker)).Run();
                    });
}

}  // namespace pixii::apps
