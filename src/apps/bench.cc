#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "apps/bench_kv.h"
#include "apps/bench_serve.h"
#include "apps/command.h"
#include "apps/load_tokenizer.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/print_figures.h"
#include "bench/adapter_bench.h"
#include "bench/cluster_bench.h"
#include "bench/diffusion_bench.h"
#include "bench/engine_bench.h"
#include "bench/frontend_bench.h"
#include "bench/load_figures.h"
#include "bench/load_report.h"
#include "bench/media_bench.h"
#include "bench/report.h"
#include "bench/router_bench.h"
#include "bench/tokenizer_bench.h"
#include "bench/transfer_bench.h"
#include "bench/video_bench.h"
#include "model/checkpoint_folder.h"
#include "model/vision_processor.h"
#include "model/vision_tower.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "rt/net.h"
#include "rt/process.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kExportBytesMax = std::uint64_t{1} << 30;

using Figures = Result<std::vector<bench::Figure>>;

Result<wire::Json> ReadExport(const std::string& path) {
  PX_TRY(const std::string text, rt::ReadFile(path, kExportBytesMax));
  Result<wire::Json> json = wire::ParseJson(text);
  return json ? std::move(json)
              : Fail(Code::kInvalidArgument, fmt::format("{}: {}", path, json.error().detail()));
}

Result<int> CompareFiles(const std::string& first, const std::string& second) {
  PX_TRY(const wire::Json base, ReadExport(first));
  PX_TRY(const wire::Json other, ReadExport(second));
  PX_TRY(const std::vector<bench::LoadComparison> rows, bench::CompareLoads(base, other));
  Say("{:<26} {:>12} {:>12}  {:<24}  {}\n", "ms", "first", "second", "second / first, 95 %", "");
  for (const bench::LoadComparison& row : rows) {
    Say("{:<26} {:>12.3f} {:>12.3f}  {:<24}  {}\n", row.name, row.first, row.second,
        fmt::format("{:.3f} .. {:.3f}", row.ratio_low, row.ratio_high), row.verdict());
  }
  return kExitDone;
}

Result<int> WriteReport(const std::vector<std::string>& paths, const std::string& target) {
  if (target.empty()) {
    return Fail(Code::kInvalidArgument, "out: --out FILE names the page to write", "out");
  }
  std::vector<bench::ReportedLoad> loads;
  for (const std::string& path : paths) {
    PX_TRY(wire::Json load, ReadExport(path));
    loads.push_back({.name = path.substr(path.rfind('/') + 1), .load = std::move(load)});
  }
  PX_TRY(const std::string page, bench::LoadReportHtml(loads));
  PX_CHECK_OK(rt::WriteFileAtomic(target, page, 0644));
  return kExitDone;
}

int RunReport(const Arguments& arguments) {
  std::string target;
  config::Command command;
  command.name = "bench report";
  command.summary = "Draws files of bench serve --profile-export in one HTML page.";
  command.options = {{.name = "out",
                      .field = config::TextField{&target, {}},
                      .unit = {},
                      .visibility = config::Visibility::kUser,
                      .help = "the page",
                      .environment_aliases = {},
                      .flag_aliases = {}}};
  command.positionals = {
      {.name = "FILE", .help = "of one run", .required = true, .repeated = true}};
  const auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<int> done = WriteReport(parsed.positionals, target);
  return done ? *done : Complain(done.error());
}

int RunCompare(const Arguments& arguments) {
  config::Command command;
  command.name = "bench compare";
  command.summary =
      "Says whether the second of two files of bench serve --profile-export is better, worse or "
      "not told apart.";
  command.positionals = {{.name = "FIRST", .help = "file to compare with", .required = true},
                         {.name = "SECOND", .help = "file that is compared", .required = true}};
  const auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<int> done = CompareFiles(parsed.positionals[0], parsed.positionals[1]);
  return done ? *done : Complain(done.error());
}

Figures MeasureEngine(const BenchEngineFlags& flags) {
  bench::EngineBenchOptions options;
  options.shape = flags.shape;
  options.form = flags.dtype == "int8"   ? model::RandomForm::kInt8
                 : flags.dtype == "int4" ? model::RandomForm::kInt4
                 : flags.dtype == "q8_0" ? model::RandomForm::kQ8_0
                 : flags.dtype == "q4_0" ? model::RandomForm::kQ4_0
                                         : model::RandomForm::kBf16;
  options.compute = flags.dtype == "fp32"   ? kernels::ComputeType::kF32
                    : flags.dtype == "bf16" ? kernels::ComputeType::kBf16
                                            : kernels::ComputeType::kInt8;
  std::int64_t threads = flags.threads;
  if (flags.tensor_parallel_size > 1) {
    PX_TRY(const rt::MachineLimits machine, rt::ReadMachineLimits());
    threads = std::max<std::int64_t>(
        (threads == 0 ? std::int64_t{machine.cpu_count} : threads) / flags.tensor_parallel_size, 1);
  }
  options.cpu = CpuOptionsOf(flags.isa, threads);
  options.ranks = {
      .tensor_count = static_cast<std::int32_t>(flags.tensor_parallel_size),
      .stage_count = static_cast<std::int32_t>(flags.pipeline_parallel_size),
      .make_operators = [cpu = options.cpu] { return kernels::MakeCpuOperators(cpu); }};
  options.repeats = static_cast<std::uint32_t>(flags.repeats);
  return flags.adapters == 0
             ? bench::BenchEngine(options)
             : bench::BenchAdapters({.engine = options,
                                     .adapter_count = static_cast<std::uint32_t>(flags.adapters),
                                     .rank = static_cast<std::uint32_t>(flags.rank)});
}

constexpr std::uint64_t kImageBytesMax = std::uint64_t{64} << 20;

Figures MeasureMedia(const BenchMediaFlags& flags) {
  bench::MediaBenchOptions options{.repeats = static_cast<std::uint32_t>(flags.repeats)};
  if (!flags.image.empty()) {
    PX_TRY(options.jpeg, rt::ReadFile(flags.image, kImageBytesMax));
  }
  PX_TRY(const ModelSource source, ResolveModel(flags.model, false));
  PX_TRY(const std::unique_ptr<kernels::Operators> operators, MakeOperators({}));
  PX_TRY(const std::unique_ptr<model::VisionTower> tower,
         model::VisionTower::Load(source.folder, *operators, {}));
  PX_TRY(const model::CheckpointFolder folder, model::CheckpointFolder::Open(source.folder));
  PX_TRY(options.processor, model::LoadVisionProcessor(folder, tower->spec()));
  return bench::BenchMedia(*tower, options);
}

Figures MeasureDiffusion(const BenchDiffusionFlags& flags) {
  PX_TRY(const ModelSource source, ResolveModel(flags.model, true));
  return bench::BenchDiffusion({.folder = source.folder,
                                .only = flags.only,
                                .cpu = CpuOptionsOf(flags.isa, flags.threads),
                                .frames = static_cast<std::int32_t>(flags.frames),
                                .vae_width = static_cast<std::int32_t>(flags.vae_width),
                                .vae_height = static_cast<std::int32_t>(flags.vae_height),
                                .repeats = static_cast<std::uint32_t>(flags.repeats)});
}

Figures MeasureVideos(const BenchVideosFlags& flags) {
  PX_TRY(const ModelSource model, ResolveModel(flags.model, false));
  PX_TRY(const ModelSource videos, ResolveModel(flags.video_model, false));
  PX_TRY(std::string program, rt::RealPath("/proc/self/exe"));
  return bench::BenchVideos({.program = std::move(program),
                             .model = model.folder,
                             .video_model = videos.folder,
                             .share = flags.share,
                             .videos = static_cast<std::uint32_t>(flags.videos),
                             .streams = static_cast<std::uint32_t>(flags.streams),
                             .output_tokens = static_cast<std::uint32_t>(flags.output_tokens),
                             .seconds = flags.seconds,
                             .repeats = static_cast<std::uint32_t>(flags.repeats)});
}

Figures MeasureTokenizer(const BenchTokenizerFlags& flags) {
  if (flags.text.empty()) {
    return Fail(Code::kInvalidArgument, "--text FILE names the text to encode", "text");
  }
  PX_TRY(const std::unique_ptr<const text::Tokenizer> tokenizer, LoadTokenizer(flags.model));
  PX_TRY(const std::string text, rt::ReadFile(flags.text, text::kEncodeTextBytesMax));
  return bench::BenchTokenizer(*tokenizer, text,
                               {.repeats = static_cast<std::uint32_t>(flags.repeats)});
}

Figures MeasureFrontend(const BenchFrontendFlags& flags) {
  bench::FrontendBenchOptions options;
  PX_TRY(const ModelSource source, ResolveModel(flags.model, false));
  PX_TRY(options.program, rt::RealPath("/proc/self/exe"));
  options.model = source.folder;
  options.nginx = flags.nginx;
  options.only = flags.only;
  options.seconds = flags.seconds;
  options.repeats = static_cast<std::uint32_t>(flags.repeats);
  options.connections = static_cast<std::uint32_t>(flags.connections);
  options.output_tokens = static_cast<std::uint32_t>(flags.output_tokens);
  PX_TRY(bench::FrontendBenchResult result, bench::BenchFrontend(options));
  if (!result.nginx_missing.empty()) {
    SayError("pixii: without nginx: {}\n", result.nginx_missing);
  }
  return std::move(result.figures);
}

Figures MeasureRouter(const BenchRouterFlags& flags) {
  return bench::BenchRouter({.blocks = static_cast<std::uint64_t>(flags.blocks),
                             .workers = static_cast<std::uint32_t>(flags.workers),
                             .prompt_blocks = static_cast<std::uint32_t>(flags.prompt_blocks),
                             .copies = static_cast<std::uint32_t>(flags.copies),
                             .decisions_per_s = flags.rate,
                             .seconds = flags.seconds,
                             .seed = static_cast<std::uint64_t>(flags.seed)});
}

Figures MeasureCluster(const BenchClusterFlags& flags) {
  PX_TRY(const ModelSource source, ResolveModel(flags.model, false));
  PX_TRY(std::string program, rt::RealPath("/proc/self/exe"));
  return bench::BenchCluster({.program = std::move(program),
                              .model = source.folder,
                              .frontends = static_cast<std::uint32_t>(flags.frontends),
                              .workers = static_cast<std::uint32_t>(flags.workers),
                              .router = flags.router == "process" ? bench::BenchedRouter::kProcess
                                        : flags.router == "own"   ? bench::BenchedRouter::kOwn
                                                                  : bench::BenchedRouter::kBoth,
                              .router_mode = flags.router_mode,
                              .load = flags.load,
                              .rate = flags.rate,
                              .seconds = flags.seconds,
                              .repeats = static_cast<std::uint32_t>(flags.repeats),
                              .input_tokens = static_cast<std::uint32_t>(flags.input_tokens),
                              .output_tokens = static_cast<std::uint32_t>(flags.output_tokens),
                              .stream_tokens = static_cast<std::uint32_t>(flags.stream_tokens),
                              .connections = static_cast<std::uint32_t>(flags.connections),
                              .step_time = rt::Duration(flags.step_time)});
}

Figures MeasureTransfer(const BenchTransferFlags& flags) {
  return bench::BenchTransfers({.repeats = static_cast<std::uint32_t>(flags.repeats),
                                .blocks = static_cast<std::uint32_t>(flags.blocks),
                                .block_bytes = static_cast<std::uint64_t>(flags.block_bytes),
                                .scale = flags.scale,
                                .only = flags.only == "all" ? "" : flags.only,
                                .folder = flags.folder,
                                .tools = flags.tools});
}

template <class Flags>
int RunMeasurement(CommandTitle title, Figures (*measure)(const Flags&),
                   const Arguments& arguments) {
  return RunCommand(std::move(title), Flags{}, arguments,
                    [measure](const Flags& flags, const config::Parsed& parsed) -> Result<int> {
                      PX_TRY(std::vector<bench::Figure> figures, measure(flags));
                      return PrintFigures(parsed, flags.json, std::move(figures));
                    });
}

}  // namespace

int RunBench(const Arguments& arguments) {
  const std::string what = arguments.empty() ? std::string() : arguments[0];
  const Arguments rest(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end());
  if (what == "serve") {
    return RunMeasurement(
        {"bench serve",
         "Drives a running server with streamed completions; prints what a client feels."},
        MeasureServe, rest);
  }
  if (what == "report") {
    return RunReport(rest);
  }
  if (what == "compare") {
    return RunCompare(rest);
  }
  if (what == "engine") {
    return RunMeasurement(
        {"bench engine",
         "Measures prefill and decode with random weights beside this machine's limits, measured "
         "in the same run."},
        MeasureEngine, rest);
  }
  if (what == "frontend") {
    return RunMeasurement(
        {"bench frontend",
         "Measures what the front end costs: a server of its own with a mock engine beside plain "
         "HTTP, in turns, on the same cores as the load."},
        MeasureFrontend, rest);
  }
  if (what == "diffusion") {
    return RunMeasurement(
        {"bench diffusion",
         "Measures a step of Wan's transformer and its VAE beside this machine's multiply-add "
         "peak, measured in the same run."},
        MeasureDiffusion, rest);
  }
  if (what == "media") {
    return RunMeasurement(
        {"bench media",
         "Measures what a picture costs before a model sees it, beside libjpeg-turbo's own "
         "decoding, and what kept features save."},
        MeasureMedia, rest);
  }
  if (what == "videos") {
    return RunMeasurement(
        {"bench videos",
         "Measures what streams of chat feel of videos that are made in the same process, beside "
         "the same streams alone, in turns."},
        MeasureVideos, rest);
  }
  if (what == "tokenizer") {
    return RunMeasurement(
        {"bench tokenizer",
         "Measures how fast a tokenizer encodes and decodes a text in one thread."},
        MeasureTokenizer, rest);
  }
  if (what == "grammar") {
    return RunBenchGrammar(rest);
  }
  if (what == "kv") {
    return RunMeasurement(
        {"bench kv",
         "Measures how soon a conversation that the cache has no room for goes on: computed again, "
         "from host memory and from disk, in turns."},
        BenchKv, rest);
  }
  if (what == "router") {
    return RunMeasurement(
        {"bench router",
         "Measures the router: look-ups and stores of its index, what a block weighs, and how long "
         "a decision takes while events come."},
        MeasureRouter, rest);
  }
  if (what == "cluster") {
    return RunMeasurement(
        {"bench cluster",
         "Measures what frontends, router and workers as processes on loopback add to a request, "
         "beside one server with the same mock engine, in turns."},
        MeasureCluster, rest);
  }
  if (what == "transfer") {
    return RunMeasurement(
        {"bench transfer",
         "Measures transfers of memory between two agents over each back end, beside a copy of "
         "memory or a bare socket, in turns."},
        MeasureTransfer, rest);
  }
  return Complain(Error(Code::kInvalidArgument,
                        "pixii bench takes one of: cluster, compare, diffusion, engine, frontend, "
                        "grammar, kv, media, report, router, "
                        "serve, tokenizer, transfer, videos"));
}

}  // namespace pixii::apps
