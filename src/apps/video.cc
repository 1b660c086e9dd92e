// `pixii video`: words in, an MP4 file out.
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <memory>
#include <string>
#include <utility>

#include "apps/command.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "media/video/video_file.h"
#include "model/diffusion/diffusion_run.h"
#include "rt/file.h"
#include "rt/process.h"

namespace pixii::apps {
namespace {

constexpr std::uint32_t kFileMode = 0644;

/// "640x480" into the request.
Result<void> ReadSize(std::string_view text, model::VideoRequest& request) {
  if (text.empty()) {
    return {};
  }
  const std::size_t cross = text.find('x');
  const auto read = [](std::string_view digits, std::int32_t& to) {
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), to);
    return problem == std::errc() && end == digits.data() + digits.size();
  };
  if (cross == std::string_view::npos || !read(text.substr(0, cross), request.width) ||
      !read(text.substr(cross + 1), request.height)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--size {} is not WIDTHxHEIGHT, like 832x480", text), "size");
  }
  return {};
}

Result<model::VideoRequest> RequestOf(const VideoFlags& flags, std::string prompt,
                                      const model::VideoDefaults& defaults) {
  model::VideoRequest request = defaults.request;
  request.prompt = std::move(prompt);
  request.seed = static_cast<std::uint64_t>(flags.seed);
  PX_CHECK_OK(ReadSize(flags.size, request));
  if (flags.frames > 0) {
    request.frames = static_cast<std::int32_t>(flags.frames);
  }
  if (flags.steps > 0) {
    request.steps = static_cast<std::int32_t>(flags.steps);
  }
  if (flags.guidance >= 0) {
    request.guidance_scale = flags.guidance;
  }
  if (!flags.negative.empty()) {
    request.negative_prompt = flags.negative;
  }
  return request;
}

Result<model::StepCacheOptions> CacheOf(const VideoFlags& flags) {
  model::StepCacheOptions cache{
      .threshold = flags.step_cache,
      .coefficients = model::StepCacheCoefficients(flags.step_cache_model)};
  if (!flags.step_cache_model.empty() && cache.coefficients.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--step-cache-model {} is neither wan2.1-1.3b nor wan2.1-14b",
                            flags.step_cache_model),
                "step-cache-model");
  }
  return cache;
}

model::TileOptions TilesOf(const VideoFlags& flags) {
  const auto size = static_cast<std::int32_t>(flags.vae_tile);
  return {.size = size, .stride = size / 4 * 3};
}

void ShowProgress(const model::RunProgress& progress) {
  if (isatty(STDERR_FILENO) == 1) {
    SayError("\rstep {} of {}, {:3.0f} %{}", progress.step, progress.steps,
             progress.fraction() * 100,
             progress.phase == model::RunProgress::Phase::kDone ? "\n" : "");
  }
}

/// The MP4 file of a run that is done.
Result<std::string> FileOf(const model::DiffusionRun& run, double frames_per_second,
                           std::int64_t quality) {
  const model::VideoRequest& request = run.requests().front();
  PX_TRY(media::VideoFileWriter writer,
         media::VideoFileWriter::Create({.size = {request.width, request.height},
                                         .frames_per_second = frames_per_second,
                                         .quality = static_cast<std::int32_t>(quality)}));
  const std::span<const float> pictures = run.pictures(0);
  const std::size_t size = pictures.size() / static_cast<std::size_t>(request.frames);
  for (std::size_t at = 0; at < pictures.size(); at += size) {
    PX_CHECK_OK(writer.Add(pictures.subspan(at, size)));
  }
  return writer.Finish();
}

Result<void> MakeVideo(const VideoFlags& flags, const EngineFlags& engine, std::string prompt) {
  PX_TRY(const ModelSource source, ResolveModel(flags.model, true));
  PX_TRY(const std::unique_ptr<kernels::Operators> operators, MakeOperators(engine));
  PX_TRY(const model::StepCacheOptions cache, CacheOf(flags));
  const kernels::ComputeType compute =
      engine.dtype == "fp32" ? kernels::ComputeType::kF32 : kernels::ComputeType::kBf16;
  PX_TRY(const rt::MachineLimits machine, rt::ReadMachineLimits());
  PX_TRY(const auto pipeline,
         model::DiffusionPipeline::Load(source.folder, *operators,
                                        {.compute = compute,
                                         .tiles = TilesOf(flags),
                                         .memory_max_bytes = machine.memory_available_bytes}));
  PX_TRY(model::VideoRequest request, RequestOf(flags, std::move(prompt), pipeline->defaults()));
  PX_TRY(const auto run, pipeline->Start({std::move(request)}, cache));
  while (!run->done()) {
    PX_CHECK_OK(run->Advance());
    ShowProgress(run->progress());
  }
  const double rate = flags.fps > 0 ? flags.fps : pipeline->defaults().frames_per_second;
  PX_TRY(const std::string file, FileOf(*run, rate, flags.quality));
  PX_CHECK_OK(rt::WriteFileAtomic(flags.out, file, kFileMode));
  const model::VideoRequest& made = run->requests().front();
  Say("{}: {} pictures of {} x {}, {} steps ({} reused), {} bytes\n", flags.out, made.frames,
      made.width, made.height, made.steps, run->progress().steps_reused, file.size());
  return {};
}

}  // namespace

int RunVideo(const Arguments& arguments) {
  VideoFlags flags;
  EngineFlags engine;
  config::Command command;
  command.name = "video";
  command.summary = "Makes a video from a text.";
  command.positionals = {
      {.name = "PROMPT", .help = "what to show", .required = true, .repeated = false}};
  command.options = RowsOf(flags);
  for (config::Option& option : RowsOf(engine)) {
    if (option.name == "device" || option.name == "isa" || option.name == "threads" ||
        option.name == "numerics" || option.name == "dtype") {
      command.options.push_back(std::move(option));
    }
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<void> made = MakeVideo(flags, engine, parsed.positionals[0]);
  return made ? kExitDone : Complain(made.error());
}

}  // namespace pixii::apps
