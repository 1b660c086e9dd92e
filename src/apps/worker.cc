#include <csignal>
#include <memory>
#include <optional>
#include <utility>

#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/engine_unit.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "control/discovery.h"
#include "control/instance_codec.h"
#include "rt/file.h"
#include "worker/worker_service.h"

namespace pixii::apps {

namespace {

constexpr rt::Duration kDrainPoll = std::chrono::milliseconds(5);

// An engine that frontends of other processes find and use.
class Worker final {
 public:
  Worker(WorkerFlags flags, EngineFlags engine)
      : flags_(std::move(flags)), engine_flags_(std::move(engine)) {}

  Result<int> Run(const std::string& model) {
    PX_CHECK_OK(process_.Open(flags_, [this](int signal) { OnSignal(signal); }));
    PX_TRY(const rt::Address address, ListenAddress());
    PX_TRY(discovery_, OpenDiscovery(process_, flags_));
    PX_TRY(
        engine_,
        EngineUnit::Load(
            process_.loop(), process_.log(),
            {.model = flags_, .engine = engine_flags_, .mock = flags_, .offline = flags_.offline},
            model));
    const control::InstanceId id = discovery_->NewInstanceId();
    service_.emplace(
        process_.loop(), process_.net(), engine_->link(),
        worker::WorkerServiceOptions{.mux = {.name = control::InstanceName(id)}, .files = [this] {
                                       return ReadModelFiles(engine_->folder());
                                     }});
    PX_TRY(const rt::Address bound, service_->Start(address));
    engine_->Start();
    PX_CHECK_OK(Register(id, bound));
    if (!flags_.port_file.empty()) {
      PX_CHECK_OK(rt::WriteFileAtomic(flags_.port_file, fmt::format("{}\n", bound.port), 0644));
    }
    obs::Event(process_.log(), obs::EventId::kWorkerReady)
        .kv("address", bound.ToString())
        .kv("model", engine_->name())
        .kv("instance", fmt::format("{:x}", Raw(registration_->instance().id)));
    process_.loop().Run();
    const std::size_t cancelled = engine_->link().outstanding_count();
    registration_.reset();
    service_.reset();
    engine_.reset();
    discovery_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return kExitDone;
  }

 private:
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

  Result<void> Register(control::InstanceId id, const rt::Address& bound) {
    control::Instance instance;
    instance.id = id;
    instance.ns = flags_.ns;
    instance.component = flags_.component;
    instance.endpoint = flags_.endpoint;
    instance.address = bound.ToString();
    instance.card = engine_->link().card();
    PX_TRY(registration_, discovery_->Register(std::move(instance)));
    return {};
  }

  void OnSignal(int signal) {
    if (signal == SIGUSR1) {
      if (service_) {
        engine_->DumpState(service_->request_count(), 0);
      }
    } else if (signal != SIGHUP) {
      if (draining_ || !registration_) {
        process_.loop().Stop();
        return;
      }
      draining_ = true;
      process_.loop().Spawn(DrainAndStop());
    }
  }

  // What runs may end here; what is left then goes on elsewhere.
  rt::Task<void> DrainAndStop() {
    rt::Loop& loop = process_.loop();
    obs::Event(process_.log(), obs::EventId::kServeDraining)
        .kv("running", service_->request_count());
    registration_->Drain();
    service_->Drain();
    const rt::Time deadline = loop.Now() + rt::Duration(flags_.drain_timeout);
    while (service_->request_count() > 0 && loop.Now() < deadline) {
      auto pause = loop.SleepFor(kDrainPoll);
      co_await std::move(pause);
    }
    engine_->link().Close(Error(Code::kShuttingDown, "the worker ends"));
    discovery_->Close([this] { process_.loop().Stop(); });
  }

  WorkerFlags flags_;
  EngineFlags engine_flags_;
  ProcessUnit process_;
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<EngineUnit> engine_;
  std::optional<worker::WorkerService> service_;
  std::unique_ptr<control::Registration> registration_;
  bool draining_ = false;
};

}  // namespace

int RunWorker(const Arguments& arguments) {
  WorkerFlags flags;
  EngineFlags engine;
  config::Command command;
  command.name = "worker";
  command.summary = "Runs a model for frontends of other processes.";
  command.positionals = {
      {.name = "MODEL",
       .help = "folder, bundled name or org/name[@revision]; tiny-chat if none is given",
       .required = false,
       .repeated = false}};
  command.options = RowsOf(flags);
  for (config::Option& option : RowsOf(engine)) {
    command.options.push_back(std::move(option));
  }
  command.takes_engine_args = true;
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Worker worker(std::move(flags), std::move(engine));
  Result<int> done = worker.Run(parsed.positionals.empty() ? kBundledModel : parsed.positionals[0]);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
