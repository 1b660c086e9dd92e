#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/cluster_key.h"
#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/engine_unit.h"
#include "apps/fleet_host.h"
#include "apps/http_unit.h"
#include "apps/kv_zmq_unit.h"
#include "apps/loop_meter.h"
#include "apps/media_unit.h"
#include "apps/mock_engine.h"
#include "apps/model_command.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "apps/router_flags.h"
#include "apps/serve_folder.h"
#include "apps/supervisor.h"
#include "apps/transfer_agent_maker.h"
#include "apps/video_server.h"
#include "apps/worker_arguments.h"
#include "control/discovery.h"
#include "model/inspect.h"
#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kPortFileBytesMax = 64;
constexpr std::uint32_t kKvEventsMax = 65536;  // changes of the KV cache between two steps

Result<void> CheckTower(const ServeFlags& flags, const EngineFlags& engine) {
  if (engine.vision_tower || flags.encode > 0) {
    return {};
  }
  return Fail(
      Code::kInvalidArgument,
      "vision-tower: without one pictures are looked at by processes of --encode, and there "
      "are none",
      "vision-tower");
}

// Everything a server is made of, built in the order it is used and taken down in the reverse.
class Server final {
 public:
  Server(ServeFlags serve, EngineFlags engine)
      : flags_(std::move(serve)),
        engine_flags_(std::move(engine)),
        registry_(flags_.metrics_prefix) {}

  Result<int> Run(const std::string& model) {
    if (IsMock(flags_) && !flags_.record.empty()) {
      return Fail(Code::kInvalidArgument,
                  "record: does not go with --engine mock, which has no model", "record");
    }
    PX_CHECK_OK(CheckTower(flags_, engine_flags_));
    PX_CHECK_OK(process_.Open(flags_, {.dump = [this] { DumpState(); },
                                       .reload = [this] { http_->Reload(); },
                                       .drain = [this] { return http_->Drain(); }}));
    http_.emplace(process_.loop(), process_.net(), process_.log(), flags_, flags_);
    PX_CHECK_OK(http_->Prepare());
    PX_CHECK_OK(OfferVideos());
    PX_TRY(engine_,
           EngineUnit::Load(process_.loop(), process_.log(),
                            {.model = flags_,
                             .engine = engine_flags_,
                             .mock = flags_,
                             .offline = flags_.offline,
                             .kv_event_count_max = flags_.kv_events_zmq.empty() ? 0 : kKvEventsMax,
                             .kv_event_tokens = !flags_.kv_events_zmq.empty(),
                             .kv_events_consolidated = flags_.kv_events_tiers == "dedup",
                             .turns = turns_ ? &*turns_ : nullptr},
                            model));
    PX_TRY(kv_zmq_, KvZmqUnit::Open(process_, flags_, engine_->link()));
    PX_CHECK_OK(http_->Start(engine_flags_.enable_lora, registry_));
    PX_CHECK_OK(http_->Serve(engine_->TakeServed(), engine_->shared_link()));
    PX_CHECK_OK(ServeVideosBeside());
    engine_->Start();
    http_->AnnounceWhenReady(IsMock(flags_) ? "The engine is a mock: its answers mean nothing.\n"
                                            : "");
    registry_.OnExpose([this] {
      engine_->Export(registry_);
      http_->Export(registry_);
    });
    const LoopMeter meter(process_.loop(), registry_);
    process_.loop().Run();
    const std::size_t cancelled = http_->frontend().cut_count();
    const int exit = http_->exit().value_or(kExitDone);
    http_.reset();
    kv_zmq_.reset();
    engine_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  Result<void> OfferVideos() {
    if (flags_.video_model.empty()) {
      return {};
    }
    PX_TRY(videos_, VideoModelBeside(flags_));
    PX_TRY(frontend::MediaServiceOptions options,
           MediaOptionsOf(flags_, process_.loop(), process_.log()));
    http_->OfferMedia(std::move(options));
    turns_.emplace(flags_.video_share);
    return {};
  }

  Result<void> ServeVideosBeside() {
    if (!videos_) {
      return {};
    }
    if (videos_->name == engine_->name()) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("video-model: both models are called {}; give the first another "
                              "--served-model-name",
                              videos_->name),
                  "video-model");
    }
    PX_TRY(std::unique_ptr<frontend::MediaMaker> maker,
           LoadMediaMaker(process_.loop(), process_.log(), flags_, http_->getters().near_images,
                          engine_flags_, *videos_, &*turns_));
    return http_->ServeMedia(std::move(maker));
  }

  void DumpState() {
    engine_->DumpState(http_->frontend().generation_count(), http_->frontend().connection_count());
  }

  ServeFlags flags_;
  EngineFlags engine_flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::optional<ModelSource> videos_;           // nothing: no second model
  std::optional<kernels::ComputeTurns> turns_;  // of it and the first
  std::unique_ptr<EngineUnit> engine_;
  std::unique_ptr<KvZmqUnit> kv_zmq_;  // null: not published
  std::optional<HttpUnit> http_;
};

// The same with the model in processes of its own.
class FleetServer final {
 public:
  FleetServer(ServeFlags serve, EngineFlags engine)
      : flags_(std::move(serve)),
        engine_flags_(std::move(engine)),
        registry_(flags_.metrics_prefix) {}

  Result<int> Run(const std::string& model) {
    PX_CHECK_OK(CheckRoles());
    if (!flags_.video_model.empty()) {
      return Fail(Code::kUnsupported,
                  "video-model: goes with a model in the server's own process, without --workers, "
                  "--prefill and --decode",
                  "video-model");
    }
    PX_CHECK_OK(process_.Open(
        flags_, {.dump = [this] { DumpState(); },
                 .reload = [this] { http_->Reload(); },
                 .drain = [this] { return http_->Drain([this] { supervisor_->Drain(); }); },
                 .child = [this] { supervisor_->OnChild(); }}));
    http_.emplace(process_.loop(), process_.net(), process_.log(), flags_, flags_);
    PX_CHECK_OK(http_->Prepare());
    cluster_.ns = fmt::format("serve-{}-{:x}", rt::OwnPid(), process_.loop().random().Next());
    PX_TRY(discovery_, OpenDiscovery(process_, cluster_));
    PX_TRY(router::PolicyFile policies, ReadPolicies(flags_));
    fleets_.emplace(
        process_, process_.net(), *http_, registry_,
        FleetHost::Options{.fleet = flags_, .router = flags_, .policies = std::move(policies)});
    PX_CHECK_OK(http_->Start(engine_flags_.enable_lora, registry_,
                             [this] { return fleets_->instances(); }));
    fleets_->Watch(*discovery_, cluster_.ns);
    http_->AnnounceWhenReady(
        flags_.engine == "mock" ? "The engine is a mock: its answers mean nothing.\n" : "");
    PX_CHECK_OK(StartWorkers(model));
    process_.loop().Run();
    const std::size_t cancelled = http_->frontend().cut_count();
    const int exit = http_->exit().value_or(exit_);
    supervisor_.reset();
    http_.reset();
    fleets_.reset();
    discovery_.reset();
    folder_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  /// The processes that are kept, by their role.
  struct Part {
    const char* role;
    std::int64_t replicas;
  };

  std::vector<Part> Parts() const {
    std::vector<Part> parts =
        flags_.prefill > 0
            ? std::vector<Part>{{"prefill", flags_.prefill}, {"decode", flags_.decode}}
            : std::vector<Part>{{"agg", std::max<std::int64_t>(flags_.workers, 1)}};
    if (flags_.encode > 0) {
      parts.push_back({"encode", flags_.encode});
    }
    return parts;
  }

  Result<void> CheckRoles() const {
    if (flags_.workers > 0 && (flags_.prefill > 0 || flags_.decode > 0)) {
      return Fail(Code::kInvalidArgument,
                  "workers: does not go with --prefill and --decode, which say how many there are",
                  "workers");
    }
    if ((flags_.prefill > 0) != (flags_.decode > 0)) {
      const char* const given = flags_.prefill > 0 ? "prefill" : "decode";
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}: needs --{} beside it, 1 or more", given,
                              flags_.prefill > 0 ? "decode" : "prefill"),
                  given);
    }
    PX_CHECK_OK(CheckTower(flags_, engine_flags_));
    return flags_.prefill > 0 ? Result<void>() : CheckPipelined(engine_flags_, "agg");
  }

  // Else its workers would end and be started again for ever.
  Result<void> CheckSees(const std::string& model) const {
    if (flags_.encode == 0) {
      return {};
    }
    PX_TRY(const ModelSource source, ResolveModel(model, flags_.offline));
    PX_TRY(const model::InspectReport report, model::InspectFolder(source.folder));
    if (!report.spec.vision) {
      return Fail(Code::kUnsupported,
                  fmt::format("encode: is for models that see, and {} ({}) reads text alone",
                              source.name, report.spec.architecture),
                  "encode");
    }
    return {};
  }

  Result<void> StartWorkers(const std::string& model) {
    PX_CHECK_OK(CheckSees(model));
    for (const Part& part : Parts()) {
      worker_count_ += part.replicas;
    }
    // Said before the first is started: that the last one's ports are none.
    PX_CHECK_OK(PlacedBehind(flags_, static_cast<std::uint32_t>(worker_count_ - flags_.encode) *
                                         RankCountOf(engine_flags_)));
    PX_TRY(folder_, ServeFolder::Open(CacheFolder() + "/pixii/serve", cluster_.ns));
    cluster_.cluster_key = folder_->PathOf("key");
    PX_CHECK_OK(MakeClusterKey(cluster_.cluster_key));
    supervisor_.emplace(
        process_,
        Supervisor::Options{
            .launch =
                [this, model](const control::KeeperAction& start) {
                  Launch out;
                  out.port_file =
                      folder_->PathOf(fmt::format("{}", static_cast<std::uint64_t>(start.replica)));
                  out.child.arguments =
                      WorkerArguments(FlagsOf(start), EngineOf(start.part), cluster_, model);
                  out.child.arguments.push_back("--port-file=" + out.port_file);
                  out.child.arguments.push_back("--system-port-file=" +
                                                SystemPortFile(start.replica));
                  out.child.arguments.push_back("--role=" + start.part);
                  out.child.shares_output = true;
                  out.child.own_group = true;
                  return out;
                },
            .on_change = [this](const control::ReplicaStatus& replica, std::int32_t pid,
                                const std::string& what) { OnWorker(replica, pid, what); },
            .on_finished = [this] { process_.loop().Stop(); }});
    std::vector<control::KeptPart> parts;
    for (const Part& part : Parts()) {
      parts.push_back({.name = part.role,
                       .version = "1",
                       .replicas = static_cast<std::uint32_t>(part.replicas),
                       .stop_grace = rt::Duration(flags_.drain_timeout)});
    }
    supervisor_->SetParts(std::move(parts));
    return {};
  }

  // Those of role encode are the tower that the others may do without.
  EngineFlags EngineOf(const std::string& part) const {
    EngineFlags engine = engine_flags_;
    engine.vision_tower = engine.vision_tower || part == "encode";
    return engine;
  }

  // A worker that is started anew publishes its KV events where the one before it did.
  ServeFlags FlagsOf(const control::KeeperAction& start) {
    if (start.part == "encode") {  // it has no KV cache
      ServeFlags flags = flags_;
      static_cast<KvZmqFlags&>(flags) = {};
      return flags;
    }
    const control::ReplicaId replica = start.replica;
    std::uint32_t place = 0;
    while (std::ranges::any_of(places_, [&](const auto& one) { return one.second == place; })) {
      ++place;
    }
    places_[replica] = place;
    ServeFlags flags = flags_;
    const Result<KvZmqFlags> placed = PlacedBehind(flags_, place * RankCountOf(engine_flags_));
    if (placed) {  // so it was before
      static_cast<KvZmqFlags&>(flags) = *placed;
    }
    return flags;
  }

  std::string SystemPortFile(control::ReplicaId replica) const {
    return folder_->PathOf(fmt::format("{}-system", static_cast<std::uint64_t>(replica)));
  }

  // Where its health and metrics are, once it has said so; empty: it has not.
  std::string SystemAddress(control::ReplicaId replica) const {
    std::string port = rt::ReadFile(SystemPortFile(replica), kPortFileBytesMax).value_or("");
    while (port.ends_with('\n')) {
      port.pop_back();
    }
    return port.empty() ? port : fmt::format("{}:{}", kChildHost, port);
  }

  void OnWorker(const control::ReplicaStatus& replica, std::int32_t pid, const std::string& what) {
    using State = control::ReplicaStatus::State;
    {
      obs::Event event(process_.log(), obs::EventId::kWorkerProcess);
      event.kv("worker", static_cast<std::uint64_t>(replica.replica))
          .kv("role", replica.part)
          .kv("pid", pid)
          .kv("what", what);
      if (const std::string system = SystemAddress(replica.replica); !system.empty()) {
        event.kv("system", system);
      }
    }
    if (pid == 0) {
      places_.erase(replica.replica);
      (void)rt::RemoveFile(SystemPortFile(replica.replica));
    }
    any_ready_ = any_ready_ || replica.state == State::kReady;
    // Nobody waits for a model that cannot be loaded.
    if (!any_ready_ && pid == 0 && replica.state == State::kStarting &&
        ++failed_starts_ >= worker_count_) {
      exit_ = kExitFailed;
      process_.loop().Stop();
    }
  }

  void DumpState() {
    obs::Event(process_.log(), obs::EventId::kStateDump)
        .kv("requests", http_->frontend().generation_count())
        .kv("connections", http_->frontend().connection_count())
        .kv("workers", fleets_->worker_count());
  }

  ServeFlags flags_;
  EngineFlags engine_flags_;
  ClusterFlags cluster_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::unique_ptr<ServeFolder> folder_;  // null: no worker was started yet
  std::unique_ptr<control::Discovery> discovery_;
  std::optional<FleetHost> fleets_;
  std::optional<HttpUnit> http_;
  std::optional<Supervisor> supervisor_;
  std::map<control::ReplicaId, std::uint32_t> places_;  // of workers that run, from 0
  bool any_ready_ = false;
  std::int64_t worker_count_ = 0;
  std::int64_t failed_starts_ = 0;
  int exit_ = kExitDone;
};

}  // namespace

int RunServe(const Arguments& arguments) {
  ServeFlags serve;
  EngineFlags engine;
  std::string modality;
  return RunModelCommand(
      {.name = "serve",
       .summary = "Answers the OpenAI API with a model.",
       .options = RowsOf(serve),
       .settle = [&](const TrtllmFlags& given) -> Result<void> {
         modality = given.modality;
         return {};
       }},
      engine, arguments, [&](const std::string& model) -> Result<int> {
        if (const std::optional<ModelSource> videos = VideoModel(serve, model)) {
          return ServeVideos(std::move(serve), std::move(engine), *videos);
        }
        if (modality.ends_with("_diffusion")) {
          return Fail(Code::kInvalidArgument,
                      fmt::format("modality: {} is no diffusion model", model), "modality");
        }
        return serve.workers > 0 || serve.prefill > 0 || serve.decode > 0 || serve.encode > 0
                   ? FleetServer(std::move(serve), std::move(engine)).Run(model)
                   : Server(std::move(serve), std::move(engine)).Run(model);
      });
}

}  // namespace pixii::apps
