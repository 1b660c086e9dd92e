#include <algorithm>
#include <csignal>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "apps/cluster_unit.h"
#include "apps/command.h"
#include "apps/http_unit.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"
#include "apps/router_flags.h"
#include "control/discovery.h"
#include "frontend/fleet/fleet_link.h"

namespace pixii::apps {

namespace {

// What the router could do if the messages for it were there.
Result<void> CheckRouterFlags(const RouterFlags& flags) {
  if (flags.kv_events) {
    return Fail(Code::kUnsupported,
                "router-kv-events: workers do not tell yet what they have cached; without it that "
                "is guessed from what was routed",
                "router-kv-events");
  }
  if (flags.mode == "direct") {
    return Fail(Code::kUnsupported, "router-mode: direct needs requests that name their worker",
                "router-mode");
  }
  return {};
}

// HTTP for workers of other processes.
class FrontendProcess final {
 public:
  explicit FrontendProcess(FrontendFlags flags)
      : flags_(std::move(flags)), registry_(flags_.metrics_prefix) {}

  Result<int> Run() {
    PX_CHECK_OK(CheckRouterFlags(flags_));
    PX_CHECK_OK(process_.Open(flags_, [this](int signal) { OnSignal(signal); }));
    http_.emplace(process_.loop(), process_.net(), process_.log(), flags_, flags_);
    PX_CHECK_OK(http_->Prepare());
    PX_TRY(discovery_, OpenDiscovery(process_, flags_));
    watch_ = discovery_->Watch(
        flags_.ns,
        [this](const std::vector<control::MembershipChange>& changes) { OnChanges(changes); });
    process_.loop().Run();
    const int exit = http_->exit().value_or(exit_);
    const std::size_t cancelled = fleet_ ? fleet_->outstanding_count() : 0;
    http_.reset();
    fleet_.reset();
    watch_.reset();
    discovery_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  void OnChanges(const std::vector<control::MembershipChange>& changes) {
    for (const control::MembershipChange& change : changes) {
      if (change.kind == control::MembershipChange::Kind::kRemoved) {
        if (fleet_) {
          fleet_->RemoveInstance(change.instance.id);
        }
        continue;
      }
      if (!flags_.model_name.empty() && change.instance.card.name != flags_.model_name) {
        continue;
      }
      if (!fleet_) {
        fleet_.emplace(process_.loop(), process_.net(), change.instance.card, MakeFleetOptions());
      }
      if (Result<void> taken = fleet_->SetInstance(change.instance); !taken) {
        obs::Event(process_.log(), obs::EventId::kWorkerRefused)
            .kv("address", change.instance.address)
            .kv("why", taken.error().ToString());
      }
    }
  }

  // The first worker that can be reached gives the model's texts.
  void OnConnection(control::InstanceId instance, bool connected) {
    watch_->SetConnected(instance, connected);
    if (connected && !http_->is_started() && !fetching_) {
      fetching_ = true;
      fleet_->FetchFiles([this](Result<wire::ModelFiles> files) {
        fetching_ = false;
        if (!files && files.error().code() == Code::kDisconnected) {
          return;  // the next connection is asked
        }
        const Result<void> begun = files ? Begin(*files) : Result<void>(Fail(files.error()));
        if (!begun) {
          exit_ = Complain(begun.error());
          process_.loop().Stop();
        }
      });
    }
  }

  Result<void> Begin(const wire::ModelFiles& files) {
    PX_TRY(frontend::ServedModel served, ServedModelOf(files, fleet_->card().name));
    served.created = process_.loop().WallNow().unix_seconds;
    PX_CHECK_OK(http_->UseParsers(served));
    PX_CHECK_OK(http_->Start(*fleet_, std::move(served), true, registry_));
    http_->AnnounceWhenReady("");
    registry_.OnExpose([this] { Export(); });
    return {};
  }

  frontend::FleetOptions MakeFleetOptions() {
    frontend::FleetOptions options;
    options.flight.moves_max = static_cast<std::uint32_t>(flags_.migration_limit);
    options.flight.tokens_max = static_cast<std::uint32_t>(flags_.migration_max_seq_len);
    options.patience = rt::Duration(flags_.migration_patience);
    options.client.mux.name = "frontend";
    options.client.mux.dead_after = rt::Duration(flags_.worker_dead_after);
    options.client.mux.ping_after = rt::Duration(flags_.worker_dead_after) / 4;
    options.router = RouterOptionsOf(flags_);
    options.seed = process_.loop().random().Next();
    options.on_connection = [this](control::InstanceId instance, bool connected) {
      OnConnection(instance, connected);
    };
    return options;
  }

  void Export() {
    using obs::MetricId;
    const frontend::FleetCounters& counters = fleet_->counters();
    const std::string& model = fleet_->card().name;
    registry_.GetCounter(MetricId::kModelMigrationTotal, {model, "new_request"})
        .SetTotal(counters.moves_new_request);
    registry_.GetCounter(MetricId::kModelMigrationTotal, {model, "ongoing_request"})
        .SetTotal(counters.moves_ongoing);
    registry_.GetCounter(MetricId::kModelMigrationMaxSeqLenExceededTotal, {model})
        .SetTotal(counters.moves_too_long);
    registry_.GetGauge(MetricId::kModelMigrationLimit, {model})
        .Set(static_cast<double>(flags_.migration_limit));
    registry_.GetGauge(MetricId::kModelWorkers, {model})
        .Set(static_cast<double>(fleet_->worker_count()));
    registry_.GetCounter(MetricId::kErrorEventsTotal).SetTotal(process_.log().error_count());
  }

  void OnSignal(int signal) {
    const bool serves = http_ && http_->is_started();
    if (signal == SIGHUP) {
      if (serves) {
        http_->Reload();
      }
    } else if (signal == SIGUSR1) {
      if (serves) {
        obs::Event(process_.log(), obs::EventId::kStateDump)
            .kv("requests", http_->frontend().generation_count())
            .kv("connections", http_->frontend().connection_count())
            .kv("workers", fleet_->worker_count());
      }
    } else if (!draining_ && serves) {
      draining_ = true;
      process_.loop().Spawn(http_->DrainAndStop());
    } else {
      process_.loop().Stop();
    }
  }

  FrontendFlags flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::unique_ptr<control::Discovery> discovery_;
  std::unique_ptr<control::InstanceWatch> watch_;
  std::optional<frontend::FleetLink> fleet_;
  std::optional<HttpUnit> http_;
  bool draining_ = false;
  bool fetching_ = false;
  int exit_ = kExitDone;
};

}  // namespace

int RunFrontend(const Arguments& arguments) {
  FrontendFlags flags;
  config::Command command;
  command.name = "frontend";
  command.summary = "Answers the OpenAI API with workers of other processes.";
  command.options = RowsOf(flags);
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  FrontendProcess frontend(std::move(flags));
  Result<int> done = frontend.Run();
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
