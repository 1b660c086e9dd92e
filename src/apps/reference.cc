#include <fmt/format.h>

#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/command_lines.h"
#include "apps/media_command.h"
#include "apps/option_structs.h"
#include "apps/trtllm_flags.h"
#include "apps/version.h"
#include "config/engine_args.h"
#include "obs/log.h"
#include "obs/metrics.h"
#include "obs/trace.h"

namespace pixii::apps {

namespace {

void Append(std::vector<config::Option>& to, std::vector<config::Option> from) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

std::string ConfigPage(const std::vector<config::Command>& commands) {
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

/// What `page` makes of the commands that have a table; the options' targets live as long as the
/// call.
std::string OfCommands(
    const std::function<std::string(const std::vector<config::Command>& commands)>& page) {
  ServeFlags serve;
  EngineFlags engine;
  ChatFlags chat;
  BenchEngineFlags bench_engine;
  ConformanceFlags conformance;
  BenchServeFlags bench_serve;
  SimulateFlags simulate;
  TraceFlags trace;
  ReplayFlags replay;
  BenchKvFlags bench_kv;
  BenchDiffusionFlags bench_diffusion;
  BenchMediaFlags bench_media;
  BenchVideosFlags bench_videos;
  BenchTokenizerFlags bench_tokenizer;
  RenderFlags render;
  VideoFlags video;
  VideoFlags image;
  BenchFrontendFlags bench_frontend;
  WorkerFlags worker;
  TrtllmFlags trtllm;
  FrontendFlags frontend;
  EppFlags epp = EppDefaults();
  RouterProcessFlags router = RouterDefaults();
  PlannerFlags planner;
  ScaleFlags scale;
  ProfileFlags profile;
  BenchRouterFlags bench_router;
  BenchClusterFlags bench_cluster;
  BenchTransferFlags bench_transfer;
  UpFlags up;
  OperatorFlags kept;
  MediaCommandFlags media;
  std::vector<config::Command> commands;
  const auto add = [&](std::string name, std::string summary, std::vector<config::Option> options,
                       std::vector<config::Positional> positionals = {}) {
    config::Command& command = commands.emplace_back();
    command.name = std::move(name);
    command.summary = std::move(summary);
    command.options = std::move(options);
    command.positionals = std::move(positionals);
  };
  std::vector<config::Option> serve_options = RowsOf(serve);
  Append(serve_options, RowsOf(engine));
  add("serve", "Answers the OpenAI API with a model.", std::move(serve_options),
      {{.name = "MODEL", .help = "", .required = false, .repeated = false}});
  add("chat", "Answers words in the terminal. It also takes the engine options of `pixii serve`.",
      RowsOf(chat), {{.name = "WORDS", .help = "", .required = false, .repeated = true}});
  add("bench engine", "Measures the engine with random weights beside the machine's limits.",
      RowsOf(bench_engine));
  add("bench serve", "Drives a running server and measures what a client feels.",
      RowsOf(bench_serve));
  add("conformance", "Asks any OpenAI-compatible server what it should do.", RowsOf(conformance),
      {{.name = "URL", .help = "", .required = false, .repeated = false}});
  std::vector<config::Option> simulate_options = RowsOf(simulate);
  Append(simulate_options, RowsOf(trace));
  add("simulate", "Runs the whole server under virtual time, by seed.",
      std::move(simulate_options));
  add("replay", "Repeats recorded requests. It also takes the engine options of `pixii serve`.",
      RowsOf(replay), {{.name = "RECORD", .help = "", .required = true, .repeated = true}});
  add("bench kv", "Measures how soon conversations go on from each tier of KV blocks.",
      RowsOf(bench_kv));
  add("bench diffusion",
      "Measures a step of Wan's transformer and its VAE beside this machine's multiply-add peak.",
      RowsOf(bench_diffusion));
  add("bench media",
      "Measures what a picture costs before a model sees it, beside libjpeg-turbo's own decoding.",
      RowsOf(bench_media));
  add("bench videos",
      "Measures what streams of chat feel of videos that are made in the same process.",
      RowsOf(bench_videos));
  add("bench tokenizer", "Measures how fast a tokenizer encodes and decodes a text in one thread.",
      RowsOf(bench_tokenizer));
  add("render", "Renders a chat template, a JSON context a line.", RowsOf(render));
  add("video",
      "Makes a video from a text. It also takes --device, --isa, --threads, --numerics, --dtype, "
      "--dit-cfg-size, --dit-ulysses-size and --tensor-parallel-size of `pixii serve`.",
      RowsOf(video), {{.name = "PROMPT", .help = "", .required = true, .repeated = false}});
  add("image",
      "Makes a picture from a text. It also takes the flags of `pixii serve` that `pixii video` "
      "takes.",
      PictureRowsOf(image), {{.name = "PROMPT", .help = "", .required = true, .repeated = false}});
  add("bench frontend", "Measures what the front end costs, with a mock engine, beside plain HTTP.",
      RowsOf(bench_frontend));
  std::vector<config::Option> worker_options = RowsOf(worker);
  std::vector<config::Option> trtllm_options = RowsOf(engine);
  const std::size_t engine_count = trtllm_options.size();
  AddRows(trtllm, trtllm_options);
  trtllm_options.erase(trtllm_options.begin(),
                       trtllm_options.begin() + static_cast<std::ptrdiff_t>(engine_count));
  Append(worker_options, std::move(trtllm_options));
  add("worker",
      "Runs a model for frontends of other processes. It also takes the engine options of `pixii "
      "serve`.",
      std::move(worker_options),
      {{.name = "MODEL", .help = "", .required = false, .repeated = false}});
  add("frontend", "Answers the OpenAI API with workers of other processes.", RowsOf(frontend));
  add("epp",
      "Tells a gateway of the Gateway API which endpoint gets a request, over Envoy's external "
      "processing. It is a frontend, too.",
      RowsOf(epp));
  add("router", "Decides where requests go, for frontends and for others.", RowsOf(router));
  add("planner", "Decides how many workers a fleet has, and has that changed.", RowsOf(planner));
  add("scale", "Waits for a planner's decisions and says when they are done: wait, complete ID.",
      RowsOf(scale),
      {{.name = "VERB", .help = "", .required = true, .repeated = false},
       {.name = "ID", .help = "", .required = false, .repeated = false}});
  add("profile",
      "Measures an engine on this host and recommends a fleet. It also takes the engine options of "
      "`pixii serve`.",
      RowsOf(profile), {{.name = "MODEL", .help = "", .required = true, .repeated = false}});
  add("up", "Runs the processes that a graph file says, and keeps them running.", RowsOf(up),
      {{.name = "GRAPH", .help = "", .required = true, .repeated = false}});
  add("operator", "Keeps the DynamoGraphDeployments of a Kubernetes namespace.", RowsOf(kept));
  add("media",
      "Decodes an image file in a sandbox, resizes it, writes its RGB bytes and prints its size "
      "as JSON.",
      RowsOf(media), {{.name = "FILE", .help = "", .required = true, .repeated = false}});
  add("bench router", "Measures the router's index and its decisions while events come.",
      RowsOf(bench_router));
  add("bench cluster", "Measures what a cluster of processes adds to a request, beside one server.",
      RowsOf(bench_cluster));
  add("bench transfer",
      "Measures transfers of memory between agents, beside what the machine gives.",
      RowsOf(bench_transfer));
  return page(commands);
}

}  // namespace

int RunReference(const Arguments& arguments) {
  std::string name = arguments.size() == 1 ? arguments[0] : "";
  const std::vector<config::CommandLine> lines = CommandLines();
  if (arguments.size() == 2 && arguments[0] == "completion") {
    const std::optional<config::Shell> shell = config::ShellOf(arguments[1]);
    if (!shell) {
      return Complain(Error(
          Code::kInvalidArgument,
          fmt::format("pixii reference completion takes bash, zsh or fish, not {}", arguments[1])));
    }
    Say("{}", OfCommands([&](const std::vector<config::Command>& commands) {
          return config::CompletionScript(
              *shell, {.version = kVersion, .lines = lines, .commands = commands});
        }));
  } else if (name == "man") {
    Say("{}", OfCommands([&](const std::vector<config::Command>& commands) {
          return config::ManPage({.version = kVersion, .lines = lines, .commands = commands});
        }));
  } else if (name == "config") {
    Say("{}", OfCommands(ConfigPage));
  } else if (name == "engine_yaml") {
    Say("{}", config::EngineArgsReference());
  } else if (name == "metrics") {
    Say("{}", obs::MetricsReference());
  } else if (name == "events") {
    Say("{}", obs::EventsReference());
  } else if (name == "errors") {
    Say("{}", obs::ErrorsReference());
  } else if (name == "spans") {
    Say("{}", obs::SpansReference());
  } else {
    return Complain(Error(
        Code::kInvalidArgument,
        "pixii reference takes one of config, engine_yaml, metrics, events, errors, spans, man, "
        "completion SHELL"));
  }
  return kExitDone;
}

}  // namespace pixii::apps
