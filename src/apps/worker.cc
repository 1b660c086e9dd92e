#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "apps/attached_unit.h"
#include "apps/cluster_key.h"
#include "apps/cluster_net.h"
#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/encode_unit.h"
#include "apps/engine_unit.h"
#include "apps/feature_unit.h"
#include "apps/handover_unit.h"
#include "apps/kv_zmq_unit.h"
#include "apps/model_command.h"
#include "apps/option_structs.h"
#include "apps/plane_unit.h"
#include "apps/process_unit.h"
#include "apps/system_port.h"
#include "apps/transfer_figures.h"
#include "control/discovery.h"
#include "control/instance_codec.h"
#include "rt/file.h"
#include "rt/file_lock.h"
#include "rt/work_pool.h"
#include "worker/request_meter.h"
#include "worker/worker_service.h"

namespace pixii::apps {

namespace {

constexpr rt::Duration kDrainPoll = std::chrono::milliseconds(5);
constexpr rt::Duration kStandbyPoll = std::chrono::milliseconds(20);
constexpr rt::Duration kCanaryIntervalMin = std::chrono::milliseconds(100);

// What can be said of the flags alone.
Result<void> CheckWorker(const WorkerFlags& flags, const EngineFlags& engine) {
  if (flags.kv_block_size > 0 && flags.kv_block_size != engine.block_size) {
    return Fail(Code::kInvalidArgument,
                fmt::format("kv-block-size: routers would be told of blocks of {} tokens, the "
                            "engine has blocks of {} (--block-size)",
                            flags.kv_block_size, engine.block_size),
                "kv-block-size");
  }
  if (!flags.kv_events_zmq.empty() && !flags.publish_kv_events) {
    return Fail(Code::kInvalidArgument, "kv-events-zmq: does not go with --no-publish-kv-events",
                "kv-events-zmq");
  }
  if (flags.canary_interval > 0 && flags.canary_interval < kCanaryIntervalMin.count()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("canary-interval: {} ns; allowed are 0 (never) and 100ms .. 1h",
                            flags.canary_interval),
                "canary-interval");
  }
  return {};
}

// An engine that frontends of other processes find and use.
class Worker final {
 public:
  Worker(WorkerFlags flags, EngineFlags engine)
      : flags_(std::move(flags)),
        engine_flags_(std::move(engine)),
        registry_(flags_.metrics_prefix),
        system_(process_, flags_, registry_) {}

  Result<int> Run(const std::string& model) {
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = [this] { system_.Reload(); },
                                       .drain =
                                           [this] {
                                             if (!registration_) {
                                               return false;  // nobody knows of it yet
                                             }
                                             process_.loop().Spawn(DrainAndStop());
                                             return true;
                                           }}));
    PX_TRY(const rt::Address address, ListenAddress());
    PX_CHECK_OK(CheckFlags(address));
    PX_CHECK_OK(OpenHandover());
    PX_TRY(tls_net_, OpenWorkerNet(process_.loop(), process_.net(), flags_));
    PX_TRY(discovery_, OpenDiscovery(process_, flags_));
    PX_TRY(plane_, PlaneUnit::Open(process_, flags_, false));
    PX_CHECK_OK(system_.Start(engine_flags_.enable_lora || !flags_.attach.empty()));
    const rt::Time begun = process_.loop().Now();
    PX_TRY(const bool opened, OpenEngine(model));
    if (!opened) {
      return kExitDone;
    }
    const control::InstanceId id = discovery_->NewInstanceId();
    PX_TRY(control::WorkerLink* const served, ServedLink());
    meter_.emplace(registry_, worker::RequestMeterOptions{.ns = flags_.ns,
                                                          .component = flags_.component,
                                                          .endpoint = flags_.endpoint,
                                                          .worker = control::InstanceName(id),
                                                          .model = link().card().name,
                                                          .mode = flags_.role});
    registry_
        .GetGauge(obs::MetricId::kComponentModelLoadTime, {link().card().name, flags_.component})
        .Set(std::chrono::duration<double>(process_.loop().Now() - begun).count());
    service_.emplace(
        process_.loop(), tls_net_ ? *tls_net_ : process_.net(), *served,
        worker::WorkerServiceOptions{
            .mux = {.name = control::InstanceName(id)},
            .files = [this] { return ReadModelFiles(texts()); },
            // Else the first who asks would make everything be told anew to all who listen.
            .watches_kv_events = attached_ != nullptr || kv_zmq_ != nullptr,
            .plane = plane_ ? &plane_->plane() : nullptr,
            .health =
                control::ReadinessOptions{.canary_interval = rt::Duration(flags_.canary_interval),
                                          .canary_timeout = rt::Duration(flags_.canary_timeout),
                                          .stall_limit = rt::Duration(flags_.stall_limit)},
            .meter = &*meter_,
            .log = &process_.log(),
            .on_health = [this](bool healthy, const std::string& why) { OnHealth(healthy, why); }});
    PX_TRY(const rt::Address bound, service_->Start(address));
    if (engine_) {
      engine_->Start();
    }
    PX_TRY(const bool active, BecomeActive());
    if (!active) {
      return kExitDone;
    }
    PX_CHECK_OK(Register(id, bound));
    system_.Show(*service_, link(), registration_->instance(), [this] { Export(); });
    if (!flags_.port_file.empty()) {
      PX_CHECK_OK(rt::WriteFileAtomic(flags_.port_file, fmt::format("{}\n", bound.port), 0644));
    }
    obs::Event(process_.log(), obs::EventId::kWorkerReady)
        .kv("address", bound.ToString())
        .kv("model", link().card().name)
        .kv("instance", fmt::format("{:x}", Raw(registration_->instance().id)));
    process_.loop().Run();
    system_.Close();
    registration_.reset();
    service_.reset();
    features_.reset();
    handover_link_.reset();
    encode_.reset();
    kv_zmq_.reset();
    engine_.reset();
    handover_.reset();
    attached_.reset();
    plane_.reset();
    discovery_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cut_count_);
    return kExitDone;
  }

 private:
  control::WorkerRole role() const {
    return flags_.role == "prefill"  ? control::WorkerRole::kPrefill
           : flags_.role == "decode" ? control::WorkerRole::kDecode
           : flags_.role == "encode" ? control::WorkerRole::kEncode
                                     : control::WorkerRole::kAggregated;
  }

  // What is wrong is said before the model is loaded.
  Result<void> OpenHandover() {
    PX_CHECK_OK(CheckPipelined(engine_flags_, flags_.role));
    PX_TRY(cluster_key_, ReadClusterKey(flags_.cluster_key));
    PX_CHECK_OK(CheckEncodeEndpoint());
    if (!engine_flags_.vision_tower && cluster_key_.empty()) {
      return Fail(
          Code::kInvalidArgument,
          "vision-tower: without one pictures come from workers with role encode, for which "
          "both need --cluster-key FILE",
          "vision-tower");
    }
    if (role() == control::WorkerRole::kAggregated) {
      return {};
    }
    if (cluster_key_.empty()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("role: {} needs --cluster-key FILE, the same secret for all workers "
                              "that KV blocks and features move between; head -c 32 /dev/urandom > "
                              "FILE makes one",
                              flags_.role),
                  "cluster-key");
    }
    if (role() == control::WorkerRole::kEncode) {
      return CheckEncodes();
    }
    if (!flags_.attach.empty()) {
      return {};  // it hands over in its own way
    }
    PX_TRY(handover_,
           HandoverUnit::Open(
               process_.loop(), process_.log(),
               {.role = flags_.role, .host = flags_.worker_host, .cluster_key = cluster_key_},
               engine_flags_));
    return {};
  }

  // Frontends find workers that encode in the namespace, whatever these are called.
  Result<void> CheckEncodeEndpoint() const {
    const std::string_view text = flags_.encode_endpoint;
    if (text.empty()) {
      return {};
    }
    const auto bad = [&](const std::string& why) {
      return Fail(Code::kInvalidArgument, fmt::format("encode-endpoint: \"{}\" {}", text, why),
                  "encode-endpoint");
    };
    constexpr std::string_view kScheme = "dyn://";
    if (!text.starts_with(kScheme) || std::ranges::count(text, '.') != 2 || text.ends_with('.')) {
      return bad("is none: dyn://NAMESPACE.COMPONENT.ENDPOINT");
    }
    const std::string_view ns = text.substr(kScheme.size(), text.find('.') - kScheme.size());
    if (ns != flags_.ns) {
      return bad(fmt::format("is of another namespace than this worker's, {}", flags_.ns));
    }
    if (role() == control::WorkerRole::kEncode) {
      return bad("does not go with --role encode, which encodes itself");
    }
    if (cluster_key_.empty()) {
      return bad("needs --cluster-key FILE, the same secret as of the workers there");
    }
    return {};
  }

  // What stands for an engine that a worker without one does not have.
  Result<void> CheckEncodes() const {
    const auto refuse = [](const char* flag, const char* why) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: does not go with --role encode, which {}", flag, why), flag);
    };
    if (!flags_.attach.empty()) {
      return refuse("attach", "has a tower of its own");
    }
    if (flags_.engine == "mock") {
      return refuse("engine", "looks at pictures, and a mock sees nothing");
    }
    if (!engine_flags_.vision_tower) {
      return refuse("vision-tower", "is nothing but a tower");
    }
    if (!flags_.kv_events_zmq.empty()) {
      return refuse("kv-events-zmq", "has no KV cache");
    }
    return {};
  }

  std::vector<ModelHost::ConnectorMaker> Connectors() {
    if (!handover_) {
      return {};
    }
    return {[this](const kv::BlockGeometry& geometry, std::uint32_t /*rank*/) {
      return handover_->Make(geometry);
    }};
  }

  // As frontends see it: what a prefill worker ends with is held back, and what others have seen of
  // pictures is fetched first.
  Result<control::WorkerLink*> ServedLink() {
    control::WorkerLink* out = &link();
    if (handover_) {
      handover_link_.emplace(process_.loop(), *out, handover_->keeper());
      out = &*handover_link_;
    }
    if (engine_) {
      PX_TRY(features_, FeatureUnit::Open(process_.loop(), process_.log(), *engine_, *out,
                                          flags_.worker_host, cluster_key_, engine_flags_));
    }
    return features_ ? &features_->link() : out;
  }

  void Export() {
    std::vector<AgentFigures> agents;
    if (engine_) {
      engine_->Export(registry_);
    }
    if (encode_) {
      encode_->Export(registry_);
      encode_->AddFigures(agents);
    }
    const std::string& model = link().card().name;
    if (handover_) {
      handover_->Export(model, registry_);
      handover_->AddFigures(agents);
    }
    if (features_) {
      features_->Export(model, registry_);
      features_->AddFigures(agents);
    }
    if (!agents.empty()) {
      figures_.Export(model, agents, registry_);
    }
  }

  // Its own, or one of others. False: it was told to end meanwhile.
  Result<bool> OpenEngine(const std::string& model) {
    if (!flags_.attach.empty()) {
      if (!flags_.kv_events_zmq.empty()) {
        return Fail(Code::kInvalidArgument,
                    "kv-events-zmq: an engine that is attached publishes its own KV events",
                    "kv-events-zmq");
      }
      PX_TRY(attached_, AttachedUnit::Open(process_, flags_, model, cluster_key_));
      return true;
    }
    if (role() == control::WorkerRole::kEncode) {
      encode_ = std::make_unique<EncodeUnit>(process_.loop(), process_.log(),
                                             EncodeUnitOptions{.model = flags_,
                                                               .engine = engine_flags_,
                                                               .offline = flags_.offline,
                                                               .host = flags_.worker_host,
                                                               .cluster_key = cluster_key_});
      PX_TRY(const bool loaded, Load([this, &model] { return encode_->Prepare(model); }));
      if (!loaded) {
        return false;
      }
      PX_CHECK_OK(encode_->Connect());
      return true;
    }
    engine_ = EngineUnit::Make(
        process_.loop(), process_.log(),
        {.model = flags_,
         .engine = engine_flags_,
         .mock = flags_,
         .offline = flags_.offline,
         .kv_event_count_max =
             flags_.publish_kv_events ? static_cast<std::uint32_t>(flags_.kv_event_buffer) : 0,
         .kv_event_tokens = !flags_.kv_events_zmq.empty(),
         .cluster_key = cluster_key_,
         .connectors = Connectors(),
         .shared_blocks = handover_ != nullptr && handover_->shares_memory(),
         .kv_events_consolidated = flags_.kv_events_tiers == "dedup"});
    PX_TRY(const bool loaded, Load([this, &model] { return engine_->Prepare(model); }));
    if (!loaded) {
      return false;
    }
    PX_CHECK_OK(engine_->Connect());
    PX_TRY(kv_zmq_, KvZmqUnit::Open(process_, flags_, engine_->link()));
    return true;
  }

  // With a port to say it by the loop goes on meanwhile: the process lives, and is not ready.
  // False: it was told to end.
  Result<bool> Load(const std::function<Result<void>()>& prepare) {
    if (!system_.listens()) {
      PX_CHECK_OK(prepare());
      return true;
    }
    std::optional<Result<void>> loaded;
    rt::WorkPool loader(process_.loop(), "load", 1, 1);
    if (!loader.Submit([&] { loaded = prepare(); },
                       [&] {
                         done_loading_ = true;
                         process_.loop().Stop();
                       })) {
      return Fail(Code::kInternal, "the engine's loader takes no work");
    }
    process_.loop().Run();
    if (!done_loading_) {
      return false;  // a signal; the loader is waited for, and what it brought goes with it
    }
    PX_CHECK_OK(*loaded);
    return true;
  }

  // Its engine is there; it waits until nobody else takes requests. False: it was told to end.
  Result<bool> BecomeActive() {
    while (!flags_.standby_lock.empty()) {
      Result<rt::FileLock> taken = rt::FileLock::Take(flags_.standby_lock);
      if (taken) {
        lock_.emplace(std::move(*taken));
        break;
      }
      if (taken.error().code() != Code::kUnavailable) {
        return Fail(taken.error().code(), "standby-lock: " + taken.error().detail(),
                    "standby-lock");
      }
      system_.SetWaiting("it stands by: another process holds " + flags_.standby_lock);
      bool passed = false;
      const rt::TimerId timer =
          process_.loop().RunAt(process_.loop().Now() + kStandbyPoll, [this, &passed] {
            passed = true;
            process_.loop().Stop();
          });
      process_.loop().Run();
      if (!passed) {
        process_.loop().CancelTimer(timer);
        return false;
      }
    }
    return true;
  }

  control::WorkerLink& link() {
    if (encode_) {
      return encode_->link();
    }
    return attached_ ? static_cast<control::WorkerLink&>(attached_->link()) : engine_->link();
  }

  ModelTexts texts() const {
    if (encode_) {
      return encode_->texts();
    }
    if (attached_) {
      return {.folder = attached_->folder(), .text_folder = attached_->folder()};
    }
    return {.folder = engine_->folder(),
            .text_folder = engine_->text_folder(),
            .pooling = engine_->pooling()};
  }

  std::size_t outstanding_count() const {
    if (encode_) {
      return encode_->link().outstanding_count();
    }
    return attached_ ? attached_->link().outstanding_count() : engine_->link().outstanding_count();
  }

  void DumpState() {
    if (plane_) {
      plane_->DumpState();
    }
    if (kv_zmq_) {
      kv_zmq_->DumpState();
    }
    if (engine_) {
      engine_->DumpState(service_->request_count(), 0);
    } else if (attached_) {
      attached_->DumpState(service_->request_count());
    } else if (encode_) {
      encode_->DumpState(service_->request_count());
    }
  }

  Result<rt::Address> ListenAddress() const {
    if (flags_.worker_listen.empty()) {
      return rt::Address{.host = flags_.worker_host,
                         .port = static_cast<std::uint16_t>(flags_.worker_port)};
    }
    if (!flags_.worker_listen.starts_with("unix:")) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("worker-listen: \"{}\" must begin with unix:", flags_.worker_listen),
                  "worker-listen");
    }
    return rt::Address{.host = flags_.worker_listen, .port = 0};
  }

  // What would else be found wrong only once the model is loaded.
  Result<void> CheckFlags(const rt::Address& address) {
    PX_CHECK_OK(control::CheckName("namespace", flags_.ns));
    const bool has_name =
        role() == control::WorkerRole::kPrefill || role() == control::WorkerRole::kEncode;
    if (has_name && flags_.component == WorkerFlags().component) {
      flags_.component = control::NameOf(role());
    }
    PX_CHECK_OK(control::CheckName("component", flags_.component));
    PX_CHECK_OK(control::CheckName("endpoint", flags_.endpoint));
    const char* const flag = flags_.worker_listen.empty() ? "worker-host" : "worker-listen";
    PX_CHECK_OK(CheckPublished(flag, address.host));
    if (const Result<std::unique_ptr<rt::Listener>> tried =
            process_.net().Listen(address, rt::ListenOptions{});
        !tried) {
      return Fail(tried.error().code(), fmt::format("{}: {}", flag, tried.error().detail()), flag);
    }
    const std::size_t slash = flags_.port_file.rfind('/');
    if (slash != std::string::npos && slash > 0) {
      const std::string folder = flags_.port_file.substr(0, slash);
      PX_TRY(const std::optional<rt::FileInfo> info, rt::StatFile(folder));
      if (!info || info->kind != rt::FileKind::kFolder) {
        return Fail(Code::kInvalidArgument, fmt::format("port-file: there is no folder {}", folder),
                    "port-file");
      }
    }
    return {};
  }

  void OnHealth(bool healthy, const std::string& why) {
    obs::Event(process_.log(),
               healthy ? obs::EventId::kWorkerHealthy : obs::EventId::kWorkerUnhealthy)
        .kv("why", why);
  }

  Result<void> Register(control::InstanceId id, const rt::Address& bound) {
    PX_TRY(control::Instance instance,
           InstanceOf(flags_, id, bound, link().card(), texts(), process_.loop().WallNow()));
    instance.role = role();
    instance.rank_count = static_cast<std::uint32_t>(link().rank_loads().size());
    PX_TRY(registration_, discovery_->Register(std::move(instance)));
    registration_->TellTrouble(process_.log());
    return {};
  }

  // What runs may end here; what is left then goes on elsewhere.
  rt::Task<void> DrainAndStop() {
    rt::Loop& loop = process_.loop();
    obs::Event(process_.log(), obs::EventId::kServeDraining)
        .kv("running", service_->request_count());
    registration_->Drain();
    service_->Drain();
    lock_.reset();  // who stands by need not wait for what runs here
    const rt::Time deadline = loop.Now() + rt::Duration(flags_.drain_timeout);
    while (service_->request_count() > 0 && loop.Now() < deadline) {
      auto pause = loop.SleepFor(kDrainPoll);
      co_await std::move(pause);
    }
    cut_count_ = outstanding_count();
    const Error ends(Code::kShuttingDown, "the worker ends");
    if (encode_) {
      encode_->link().Close(ends);
    } else {
      attached_ ? attached_->link().Close(ends) : engine_->link().Close(ends);
    }
    discovery_->Close([this] { process_.loop().Stop(); });
  }

  WorkerFlags flags_;
  EngineFlags engine_flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  bool done_loading_ = false;
  std::optional<rt::FileLock> lock_;  // of --standby-lock, as long as it takes requests
  std::unique_ptr<rt::Net> tls_net_;  // null: in the clear
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<PlaneUnit> plane_;        // null: none
  std::string cluster_key_;                 // empty: none
  std::unique_ptr<HandoverUnit> handover_;  // null: the role is agg
  std::unique_ptr<EngineUnit> engine_;      // or
  std::unique_ptr<AttachedUnit> attached_;  // or
  std::unique_ptr<EncodeUnit> encode_;
  std::unique_ptr<KvZmqUnit> kv_zmq_;  // null: not published
  std::optional<worker::HandoverLink> handover_link_;
  std::unique_ptr<FeatureUnit> features_;  // null: nobody encodes for it
  TransferFigures figures_;
  std::optional<worker::RequestMeter> meter_;
  std::optional<worker::WorkerService> service_;
  std::unique_ptr<control::Registration> registration_;
  std::size_t cut_count_ = 0;  // requests that had not ended by the drain timeout
  SystemPort system_;          // shows what stands above
};

}  // namespace

int RunWorker(const Arguments& arguments) {
  WorkerFlags flags;
  EngineFlags engine;
  return RunModelCommand({.name = "worker",
                          .summary = "Runs a model for frontends of other processes.",
                          .options = RowsOf(flags),
                          .settle = [&](const TrtllmFlags& given) -> Result<void> {
                            PX_CHECK_OK(Settle(given, flags));
                            return CheckWorker(flags, engine);
                          }},
                         engine, arguments, [&](const std::string& model) {
                           return Worker(std::move(flags), std::move(engine)).Run(model);
                         });
}

}  // namespace pixii::apps
