#include <fmt/format.h>

#include "apps/command.h"
#include "apps/option_structs.h"
#include "config/engine_args.h"
#include "obs/log.h"
#include "obs/metrics.h"

namespace pixii::apps {

namespace {

void Append(std::vector<config::Option>& to, std::vector<config::Option> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

std::string ConfigReference() {
  ServeFlags serve;
  EngineFlags engine;
  ChatFlags chat;
  BenchEngineFlags bench_engine;
  BenchServeFlags bench_serve;
  SimulateFlags simulate;
  ReplayFlags replay;
  BenchTokenizerFlags bench_tokenizer;
  RenderFlags render;
  BenchFrontendFlags bench_frontend;
  WorkerFlags worker;
  FrontendFlags frontend;
  BenchRouterFlags bench_router;
  config::Command commands[12];
  commands[0].name = "serve";
  commands[0].summary = "Answers the OpenAI API with a model.";
  commands[0].positionals = {{.name = "MODEL", .help = "", .required = false, .repeated = false}};
  commands[0].options = RowsOf(serve);
  Append(commands[0].options, RowsOf(engine));
  commands[1].name = "chat";
  commands[1].summary =
      "Answers words in the terminal. It also takes the engine options of `pixii serve`.";
  commands[1].positionals = {{.name = "WORDS", .help = "", .required = false, .repeated = true}};
  commands[1].options = RowsOf(chat);
  commands[2].name = "bench engine";
  commands[2].summary = "Measures the engine with random weights beside the machine's limits.";
  commands[2].options = RowsOf(bench_engine);
  commands[3].name = "bench serve";
  commands[3].summary = "Drives a running server and measures what a client feels.";
  commands[3].options = RowsOf(bench_serve);
  commands[4].name = "simulate";
  commands[4].summary = "Runs the whole server under virtual time, by seed.";
  commands[4].options = RowsOf(simulate);
  commands[5].name = "replay";
  commands[5].summary =
      "Repeats recorded requests. It also takes the engine options of `pixii serve`.";
  commands[5].positionals = {{.name = "RECORD", .help = "", .required = true, .repeated = true}};
  commands[5].options = RowsOf(replay);
  commands[6].name = "bench tokenizer";
  commands[6].summary = "Measures how fast a tokenizer encodes and decodes a text in one thread.";
  commands[6].options = RowsOf(bench_tokenizer);
  commands[7].name = "render";
  commands[7].summary = "Renders a chat template, a JSON context a line.";
  commands[7].options = RowsOf(render);
  commands[8].name = "bench frontend";
  commands[8].summary = "Measures what the front end costs, with a mock engine, beside plain HTTP.";
  commands[8].options = RowsOf(bench_frontend);
  commands[9].name = "worker";
  commands[9].summary =
      "Runs a model for frontends of other processes. It also takes the engine options of `pixii "
      "serve`.";
  commands[9].positionals = {{.name = "MODEL", .help = "", .required = false, .repeated = false}};
  commands[9].options = RowsOf(worker);
  commands[10].name = "frontend";
  commands[10].summary = "Answers the OpenAI API with workers of other processes.";
  commands[10].options = RowsOf(frontend);
  commands[11].name = "bench router";
  commands[11].summary = "Measures the router's index and its decisions while events come.";
  commands[11].options = RowsOf(bench_router);
  std::string out =
      "# Options\n\nGenerated from the tables in `src/apps/`. Precedence: flag, environment, "
      "`--config FILE` (YAML; a section "
      "named after the command, or the top level), default. `--print-config` shows every value "
      "with its source.\n\n";
  for (const config::Command& command : commands) {
    out += config::ReferencePage(command);
  }
  return out;
}

}  // namespace

int RunReference(const Arguments& arguments) {
  std::string name = arguments.size() == 1 ? arguments[0] : "";
  if (name == "config") {
    Say("{}", ConfigReference());
  } else if (name == "engine_yaml") {
    Say("{}", config::EngineArgsReference());
  } else if (name == "metrics") {
    Say("{}", obs::MetricsReference());
  } else if (name == "events") {
    Say("{}", obs::EventsReference());
  } else if (name == "errors") {
    Say("{}", obs::ErrorsReference());
  } else {
    return Complain(
        Error(Code::kInvalidArgument,
              "pixii reference takes one of config, engine_yaml, metrics, events, errors"));
  }
  return kExitDone;
}

}  // namespace pixii::apps
