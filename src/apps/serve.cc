#include <csignal>
#include <optional>
#include <utility>

#include "apps/command.h"
#include "apps/engine_unit.h"
#include "apps/http_unit.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/process_unit.h"

namespace pixii::apps {

namespace {

// Everything a server is made of, built in the order it is used and taken down in the reverse.
class Server final {
 public:
  Server(ServeFlags serve, EngineFlags engine)
      : flags_(std::move(serve)),
        engine_flags_(std::move(engine)),
        registry_(flags_.metrics_prefix) {}

  Result<int> Run(const std::string& model) {
    if (flags_.engine == "mock" && !flags_.record.empty()) {
      return Fail(Code::kInvalidArgument,
                  "record: does not go with --engine mock, which has no model", "record");
    }
    PX_CHECK_OK(process_.Open(flags_, [this](int signal) { OnSignal(signal); }));
    http_.emplace(process_.loop(), process_.net(), process_.log(), flags_, flags_);
    PX_CHECK_OK(http_->Prepare());
    PX_TRY(
        engine_,
        EngineUnit::Load(
            process_.loop(), process_.log(),
            {.model = flags_, .engine = engine_flags_, .mock = flags_, .offline = flags_.offline},
            model));
    frontend::ServedModel served = engine_->TakeServed();
    PX_CHECK_OK(http_->UseParsers(served));
    PX_CHECK_OK(
        http_->Start(engine_->link(), std::move(served), engine_flags_.enable_lora, registry_));
    engine_->Start();
    http_->AnnounceWhenReady(
        flags_.engine == "mock" ? "The engine is a mock: its answers mean nothing.\n" : "");
    registry_.OnExpose([this] { engine_->Export(registry_); });
    process_.loop().Run();
    const std::size_t cancelled = engine_->link().outstanding_count();
    const int exit = http_->exit().value_or(kExitDone);
    http_.reset();
    engine_.reset();
    obs::Event(process_.log(), obs::EventId::kServeStopped).kv("cancelled", cancelled);
    return exit;
  }

 private:
  void OnSignal(int signal) {
    const bool serves = http_ && http_->is_started();
    if (signal == SIGUSR1) {
      if (serves) {
        engine_->DumpState(http_->frontend().generation_count(),
                           http_->frontend().connection_count());
      }
    } else if (signal == SIGHUP) {
      if (serves) {
        http_->Reload();
      }
    } else if (!draining_ && serves) {
      draining_ = true;
      process_.loop().Spawn(http_->DrainAndStop());
    } else {
      process_.loop().Stop();  // before there is anything to drain, or asked twice
    }
  }

  ServeFlags flags_;
  EngineFlags engine_flags_;
  obs::Registry registry_;
  ProcessUnit process_;
  std::unique_ptr<EngineUnit> engine_;
  std::optional<HttpUnit> http_;
  bool draining_ = false;
};

}  // namespace

int RunServe(const Arguments& arguments) {
  ServeFlags serve;
  EngineFlags engine;
  config::Command command;
  command.name = "serve";
  command.summary = "Answers the OpenAI API with a model.";
  command.positionals = {
      {.name = "MODEL",
       .help = "folder, bundled name or org/name[@revision]; tiny-chat if none is given",
       .required = false,
       .repeated = false}};
  command.options = RowsOf(serve);
  for (config::Option& option : RowsOf(engine)) {
    command.options.push_back(std::move(option));
  }
  command.takes_engine_args = true;
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  Server server(std::move(serve), std::move(engine));
  Result<int> done = server.Run(parsed.positionals.empty() ? kBundledModel : parsed.positionals[0]);
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
