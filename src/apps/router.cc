#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/access_log_writer.h"
#include "apps/cluster_net.h"
#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/option_structs.h"
#include "apps/plane_unit.h"
#include "apps/process_unit.h"
#include "apps/router_flags.h"
#include "control/discovery.h"
#include "control/http_call.h"
#include "control/instance_codec.h"
#include "frontend/fleet/model_versions.h"
#include "frontend/http_server.h"
#include "frontend/router_api/router_api.h"
#include "router/service/catalog.h"
#include "router/service/mux_listener.h"
#include "router/service/replica_mesh.h"
#include "router/service/reservations.h"
#include "router/service/route_service.h"
#include "router/service/worker_feed.h"
#include "router/service/zmq_listener.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kKeyFileSizeMax = 1 << 20;               // bytes
constexpr rt::Duration kPeerPatience = std::chrono::seconds(5);  // for a peer's whole dump
constexpr rt::Duration kCloseTime = std::chrono::seconds(1);     // of connections at the end
constexpr std::string_view kComponent = "router";

// "ID=ENDPOINT" or "ID:RANK=ENDPOINT".
Result<router::Registered> ReadWorker(const std::string& text, const RouterProcessFlags& flags) {
  const std::size_t equals = text.find('=');
  std::string_view name = std::string_view(text).substr(0, std::min(equals, text.size()));
  std::string_view rank = "0";
  if (const std::size_t colon = name.find(':'); colon != std::string_view::npos) {
    rank = name.substr(colon + 1);
    name = name.substr(0, colon);
  }
  const auto number = [](std::string_view digits) -> std::optional<std::uint64_t> {
    std::uint64_t out = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return error == std::errc() && end == digits.data() + digits.size() ? std::optional(out)
                                                                        : std::nullopt;
  };
  const std::optional<std::uint64_t> id = number(name);
  const std::optional<std::uint64_t> rank_number = number(rank);
  if (equals == std::string::npos || !id || !rank_number ||
      *rank_number >= router::Catalog::kRankCountMax) {
    return Fail(Code::kInvalidArgument,
                fmt::format("workers: \"{}\" is neither ID=ENDPOINT nor ID:RANK=ENDPOINT", text),
                "workers");
  }
  router::Registered out;
  out.id = router::InstanceId{*id};
  out.pool = {.model = flags.model_name,
              .group = flags.routing_group,
              .block_tokens = static_cast<std::uint32_t>(flags.block_size)};
  out.rank_first = static_cast<std::uint32_t>(*rank_number);
  out.kv_endpoints[out.rank_first] = text.substr(equals + 1);
  return out;
}

// Decides for frontends and others where requests go.
class RouterProcess final {
 public:
  explicit RouterProcess(RouterProcessFlags flags)
      : flags_(std::move(flags)), registry_(flags_.metrics_prefix) {}

  Result<int> Run() {
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = [this] { Reload(); },
                                       .drain =
                                           [this] {
                                             process_.loop().Spawn(Stop());
                                             return true;
                                           }}));
    PX_TRY(frontend::ApiKeys keys, ReadKeys());
    PX_CHECK_OK(CheckPublished("route-host", flags_.route_host));
    for (const std::string& url : SplitList(flags_.peers)) {
      PX_CHECK_OK(AddressOfUrl("peers", url));
    }
    PX_TRY(reach_net_, OpenFleetNet(process_.loop(), process_.net(), flags_));
    PX_TRY(listen_net_, OpenWorkerNet(process_.loop(), process_.net(), flags_));
    PX_TRY(discovery_, OpenDiscovery(process_, flags_));
    PX_TRY(plane_, PlaneUnit::Open(process_, flags_, true));
    const control::InstanceId self = discovery_->NewInstanceId();
    if (flags_.replica_sync) {
      mesh_.emplace(process_.loop(), reach_net(), MeshOptions(self));
    }
    PX_TRY(router::PolicyFile policies, ReadPolicies(flags_));
    pools_.emplace(process_.loop(), RouterOptionsOf(flags_), mesh_ ? &*mesh_ : nullptr,
                   std::move(policies));
    feed_.emplace(process_.loop(), reach_net(), *pools_, FeedOptions());
    catalog_.emplace(
        *pools_,
        [this](const router::KvListenerSpec& spec, router::KvEventsHandler on_events) {
          return Listen(spec, on_events);
        },
        [this](router::InstanceId id) { return feed_->workers().contains(id); });
    reservations_.emplace(process_.loop(), *pools_, router::ReservationsOptions{});
    api_.emplace(frontend::RouterApi::Parts{.loop = process_.loop(),
                                            .pools = *pools_,
                                            .feed = &*feed_,
                                            .catalog = *catalog_,
                                            .reservations = *reservations_,
                                            .mesh = mesh_ ? &*mesh_ : nullptr,
                                            .registry = registry_,
                                            .on_expose =
                                                [this] {
                                                  if (plane_) {
                                                    plane_->Export(registry_);
                                                  }
                                                },
                                            .reopen_logs =
                                                [this] {
                                                  if (access_log_) {
                                                    access_log_->Reopen();
                                                  }
                                                }},
                 std::move(keys));
    service_.emplace(process_.loop(), listen_net_ ? *listen_net_ : process_.net(), &*pools_,
                     mesh_ ? &*mesh_ : nullptr,
                     router::RouteServiceOptions{.mux = {.name = control::InstanceName(self)}});
    PX_CHECK_OK(Begin(self));
    process_.loop().Run();
    server_.reset();
    registration_.reset();
    watch_.reset();
    service_.reset();
    api_.reset();
    reservations_.reset();
    catalog_.reset();
    feed_.reset();
    pools_.reset();
    mesh_.reset();
    plane_.reset();
    discovery_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", 0);
    return exit_;
  }

 private:
  rt::Net& reach_net() { return reach_net_ ? *reach_net_ : process_.net(); }

  Result<frontend::ApiKeys> ReadKeys() const {
    if (flags_.api_key_file.empty()) {
      return frontend::ApiKeys();
    }
    PX_TRY(const std::string text, rt::ReadFile(flags_.api_key_file, kKeyFileSizeMax));
    return frontend::ApiKeys::Parse(text);
  }

  control::MuxClientOptions ClientOptions() const {
    control::MuxClientOptions client;
    client.mux.name = std::string(kComponent);
    client.mux.dead_after = rt::Duration(flags_.worker_dead_after);
    client.mux.ping_after = rt::Duration(flags_.worker_dead_after) / 4;
    return client;
  }

  router::ReplicaMeshOptions MeshOptions(control::InstanceId self) const {
    return {.self = self,
            .sync = {.peer_expiry = rt::Duration(flags_.request_expiry)},
            .client = ClientOptions()};
  }

  router::WorkerFeedOptions FeedOptions() {
    return {
        .client = ClientOptions(),
        .plane = plane_ ? &plane_->plane() : nullptr,
        .on_connection = [this](control::InstanceId instance,
                                bool connected) { watch_->SetConnected(instance, connected); },
        .on_going_away = [this](control::InstanceId instance) { watch_->SetGoingAway(instance); },
        .log = &process_.log()};
  }

  Result<std::unique_ptr<router::KvListener>> Listen(const router::KvListenerSpec& spec,
                                                     router::KvEventsHandler on_events) {
    if (spec.endpoint.starts_with(router::kMuxScheme)) {
      return router::ListenToMux(process_.loop(), reach_net(), ClientOptions(), spec,
                                 std::move(on_events));
    }
    return router::ListenToZmq(process_.loop(), process_.net(), spec, std::move(on_events));
  }

  Result<void> Begin(control::InstanceId self) {
    catalog_->CloseGate();
    for (const std::string& text : SplitList(flags_.workers)) {
      PX_TRY(const router::Registered said, ReadWorker(text, flags_));
      if (Result<void> added = catalog_->AddListener(said); !added) {
        return Fail(added.error().code(),
                    fmt::format("workers: \"{}\": {}", text, added.error().detail()), "workers");
      }
    }
    std::string peer_key;
    if (!flags_.peer_key_file.empty()) {
      PX_TRY(peer_key, rt::ReadFile(flags_.peer_key_file, kKeyFileSizeMax));
      peer_key.erase(peer_key.find_last_not_of(" \r\n\t") + 1);
    }
    PX_TRY(const rt::Address bound,
           service_->Start(
               {.host = flags_.route_host, .port = static_cast<std::uint16_t>(flags_.route_port)}));
    watch_ = discovery_->Watch(
        flags_.ns,
        [this](const std::vector<control::MembershipChange>& changes) { OnChanges(changes); });
    process_.loop().Spawn(Recover(self, bound, std::move(peer_key)));
    return {};
  }

  // First what a peer knows, then everything else.
  rt::Task<void> Recover(control::InstanceId self, rt::Address route, std::string peer_key) {
    bool recovered = false;
    for (const std::string& url : SplitList(flags_.peers)) {
      api_->peers().insert(url);
      if (recovered) {
        continue;
      }
      auto asking = AskPeer(url, peer_key);
      Result<std::size_t> count = co_await std::move(asking);
      recovered = count.has_value();
      if (recovered) {
        obs::Event(process_.log(), obs::EventId::kRouterRecovered)
            .kv("peer", url)
            .kv("events", *count);
      } else {
        obs::Event(process_.log(), obs::EventId::kRouterNotRecovered)
            .kv("peer", url)
            .kv("why", count.error().ToString());
      }
    }
    catalog_->OpenGate();
    const Result<void> begun = Serve(self, route);
    if (!begun) {
      exit_ = Complain(begun.error());
      process_.loop().Stop();
    }
  }

  rt::Task<Result<std::size_t>> AskPeer(std::string url, std::string key) {
    PX_CO_TRY(rt::Address address, AddressOfUrl("peers", url));
    control::HttpCall call;
    call.address = std::move(address);
    call.method = "GET";
    call.target = "/dump";
    if (!key.empty()) {
      call.fields.push_back({"Authorization", "Bearer " + key});
    }
    auto calling =
        control::CallHttp(process_.net(), std::move(call), process_.loop().Now() + kPeerPatience);
    PX_CO_TRY(const control::HttpAnswer answer, co_await std::move(calling));
    if (answer.status != 200) {
      co_return Fail(Code::kUnavailable, fmt::format("it answers {}", answer.status));
    }
    co_return frontend::ImportDump(answer.body, *catalog_);
  }

  Result<void> Serve(control::InstanceId self, const rt::Address& route) {
    frontend::HttpServerOptions options;
    options.limits.body_bytes_max = static_cast<std::uint64_t>(flags_.body_limit);
    PX_TRY(options.on_answered,
           AccessLogWriter::Open(flags_, process_.loop(), process_.log(), access_log_));
    PX_TRY(server_, frontend::HttpServer::Listen(
                        process_.loop(), process_.net(),
                        {.host = flags_.host, .port = static_cast<std::uint16_t>(flags_.port)}, {},
                        options, *api_));
    control::Instance instance;
    instance.id = self;
    instance.ns = flags_.ns;
    instance.component = kComponent;
    instance.endpoint = router::kRouteMethod;
    instance.address = route.ToString();
    PX_TRY(registration_, discovery_->Register(std::move(instance)));
    if (!flags_.port_file.empty()) {
      PX_CHECK_OK(rt::WriteFileAtomic(flags_.port_file,
                                      fmt::format("{}\n", server_->address().port), 0644));
    }
    obs::Event(process_.log(), obs::EventId::kRouterReady)
        .kv("address", server_->address().ToString())
        .kv("route", route.ToString());
    return {};
  }

  void OnChanges(const std::vector<control::MembershipChange>& changes) {
    for (const control::MembershipChange& change : changes) {
      const control::Instance& instance = change.instance;
      const bool removed = change.kind == control::MembershipChange::Kind::kRemoved;
      if (!control::IsWorker(instance)) {
        if (mesh_ && instance.component == kComponent) {
          const std::string name = control::InstanceName(instance.id);
          if (removed) {
            mesh_->RemovePeer(name);
          } else {
            (void)mesh_->SetPeer(name, instance.address, instance.id);
          }
        }
      } else if (!frontend::ServesClients(instance.role)) {
        // Frontends choose those that compute prompts for others themselves.
      } else if (removed) {
        feed_->RemoveInstance(instance.id);
      } else if (Result<void> taken = feed_->SetInstance(instance); !taken) {
        obs::Event(process_.log(), obs::EventId::kWorkerRefused)
            .kv("address", instance.address)
            .kv("why", taken.error().ToString());
      }
    }
  }

  void Reload() {
    if (access_log_) {
      access_log_->Reopen();
    }
    Result<frontend::ApiKeys> keys = ReadKeys();
    if (keys) {
      api_->SetKeys(std::move(*keys));
      obs::Event(process_.log(), obs::EventId::kServeReloaded).kv("what", "api keys");
    } else {
      obs::Event(process_.log(), obs::EventId::kServeReloadFailed)
          .kv("why", keys.error().ToString());
    }
  }

  void DumpState() {
    obs::Event(process_.log(), obs::EventId::kStateDump)
        .kv("pools", pools_->pools().size())
        .kv("workers", feed_->workers().size() + catalog_->workers().size())
        .kv("callers", service_->caller_count())
        .kv("reserved", reservations_->reserved_count());
  }

  rt::Task<void> Stop() {
    obs::Event(process_.log(), obs::EventId::kServeDraining)
        .kv("running", service_->caller_count());
    if (registration_) {
      registration_->Withdraw();
    }
    service_->Drain();
    if (server_) {
      auto closing = server_->Close(process_.loop().Now() + kCloseTime);
      co_await std::move(closing);
    }
    discovery_->Close([this] { process_.loop().Stop(); });
  }

  RouterProcessFlags flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::unique_ptr<rt::Net> reach_net_;   // null: workers and routers are reached in the clear
  std::unique_ptr<rt::Net> listen_net_;  // null: frontends are answered so
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<PlaneUnit> plane_;  // null: none
  std::optional<router::ReplicaMesh> mesh_;
  std::optional<router::PoolBook> pools_;
  std::unique_ptr<control::InstanceWatch> watch_;
  std::optional<router::WorkerFeed> feed_;
  std::optional<router::Catalog> catalog_;
  std::optional<router::Reservations> reservations_;
  std::optional<frontend::RouterApi> api_;
  std::optional<router::RouteService> service_;
  std::unique_ptr<control::Registration> registration_;
  std::unique_ptr<AccessLogWriter> access_log_;  // null: there is none
  std::unique_ptr<frontend::HttpServer> server_;
  int exit_ = kExitDone;
};

}  // namespace

int RunRouter(const Arguments& arguments) {
  return RunCommand({"router", "Decides where requests go, for frontends and for others."},
                    RouterDefaults(), arguments,
                    [](RouterProcessFlags flags, const config::Parsed& /*parsed*/) {
                      return RouterProcess(std::move(flags)).Run();
                    });
}

}  // namespace pixii::apps
