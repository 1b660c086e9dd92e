// `pixii video` and `pixii image`: words in, an MP4 file or a picture out.
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/dit_ranks.h"
#include "apps/image_render.h"
#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "apps/supervisor.h"
#include "media/decoder_child.h"
#include "media/decoder_pool.h"
#include "media/encode.h"
#include "media/video/video_file.h"
#include "model/diffusion/diffusion_run.h"
#include "rt/file.h"
#include "rt/process.h"

namespace pixii::apps {
namespace {

constexpr std::uint32_t kFileMode = 0644;
constexpr std::int32_t kPictureQuality = 90;                      // of JPEG and WebP
constexpr std::uint64_t kImageFileMax = std::uint64_t{64} << 20;  // bytes

/// Decoded in a process that can do nothing else.
Result<std::shared_ptr<const media::Image>> ReadPicture(const std::string& path) {
  PX_TRY(const std::string file, rt::ReadFile(path, kImageFileMax));
  media::DecoderPool pool(
      {.command = {kOwnProgram, std::string(media::kDecoderCommand)}, .children_max = 1});
  PX_TRY(media::Image image,
         pool.Decode({reinterpret_cast<const std::uint8_t*>(file.data()), file.size()},
                     {.exif = true}));
  return std::make_shared<const media::Image>(std::move(image));
}

Result<std::vector<model::LoraFile>> LorasOf(const VideoFlags& flags) {
  std::vector<model::LoraFile> out;
  for (const std::string& text : flags.lora) {
    PX_TRY(model::LoraFile file, model::ParseLoraFile(text));
    out.push_back(std::move(file));
  }
  return out;
}

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
  if (!flags.image.empty()) {
    PX_TRY(request.image, ReadPicture(flags.image));
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

/// As the file's name says.
Result<media::VideoContainer> ContainerOf(const std::string& path) {
  if (path.ends_with(".mp4")) {
    return media::VideoContainer::kMp4;
  }
  if (path.ends_with(".webm")) {
    return media::VideoContainer::kWebm;
  }
  if (path.ends_with(".avi")) {
    return media::VideoContainer::kAvi;
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("--out {} does not end in .mp4, .webm or .avi", path), "out");
}

/// Said before hours of work, not behind them.
Result<void> CheckFolder(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  PX_TRY(const std::optional<rt::FileInfo> info, rt::StatFile(folder));
  if (!info || info->kind != rt::FileKind::kFolder) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--out {}: there is no folder {}", path, folder), "out");
  }
  return {};
}

/// The file of a run that is done.
Result<std::string> FileOf(const model::DiffusionRun& run, double frames_per_second,
                           media::VideoContainer container, const VideoFlags& flags) {
  const model::VideoRequest& request = run.requests().front();
  PX_TRY(media::VideoFileWriter writer,
         media::VideoFileWriter::Create({.size = {request.width, request.height},
                                         .frames_per_second = frames_per_second,
                                         .quality = static_cast<std::int32_t>(flags.quality),
                                         .container = container}));
  const std::span<const float> pictures = run.pictures(0);
  const std::size_t size = pictures.size() / static_cast<std::size_t>(request.frames);
  for (std::size_t at = 0; at < pictures.size(); at += size) {
    PX_CHECK_OK(writer.Add(pictures.subspan(at, size)));
  }
  return writer.Finish();
}

/// The picture of a run that is done, in the format that the file's name says.
Result<std::string> PictureOf(const model::DiffusionRun& run, media::ImageFileFormat format) {
  const model::VideoRequest& request = run.requests().front();
  media::Image image{.size = {static_cast<std::uint32_t>(request.width),
                              static_cast<std::uint32_t>(request.height)},
                     .rgb = {}};
  for (const float value : run.pictures(0)) {
    image.rgb.push_back(media::ByteFromUnit(value));
  }
  return media::EncodeImage(image, format, kPictureQuality);
}

Result<media::ImageFileFormat> FormatOf(const std::string& path) {
  if (path.ends_with(".png")) {
    return media::ImageFileFormat::kPng;
  }
  if (path.ends_with(".jpg") || path.ends_with(".jpeg")) {
    return media::ImageFileFormat::kJpeg;
  }
  if (path.ends_with(".webp")) {
    return media::ImageFileFormat::kWebp;
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("--out {} does not end in .png, .jpg, .jpeg or .webp", path), "out");
}

/// A run that is done, and what it needs to be looked at.
struct Made {
  std::unique_ptr<kernels::Operators> operators;
  std::unique_ptr<model::DiffusionPipeline> pipeline;
  std::unique_ptr<model::DiffusionRun> run;
};

Result<Made> Make(const VideoFlags& flags, const EngineFlags& engine, std::string prompt) {
  Made made;
  PX_TRY(const ModelSource source, ResolveModel(flags.model, true));
  PX_TRY(made.operators, MakePipelineOperators(engine));
  PX_TRY(const model::StepCacheOptions cache, CacheOf(flags));
  const kernels::ComputeType compute =
      engine.dtype == "fp32" ? kernels::ComputeType::kF32 : kernels::ComputeType::kBf16;
  PX_TRY(std::vector<model::LoraFile> loras, LorasOf(flags));
  PX_TRY(const rt::MachineLimits machine, rt::ReadMachineLimits());
  PX_TRY(made.pipeline,
         model::DiffusionPipeline::Load(source.folder, *made.operators,
                                        {.compute = compute,
                                         .tiles = TilesOf(flags),
                                         .loras = std::move(loras),
                                         .memory_max_bytes = machine.memory_available_bytes,
                                         .ranks = DitRanksOf(engine)}));
  PX_TRY(model::VideoRequest request,
         RequestOf(flags, std::move(prompt), made.pipeline->defaults()));
  PX_TRY(made.run, made.pipeline->Start({std::move(request)}, cache));
  while (!made.run->done()) {
    PX_CHECK_OK(made.run->Advance());
    ShowProgress(made.run->progress());
  }
  return made;
}

Result<void> Write(const VideoFlags& flags, const model::DiffusionRun& run,
                   const std::string& file) {
  PX_CHECK_OK(rt::WriteFileAtomic(flags.out, file, kFileMode));
  const model::VideoRequest& made = run.requests().front();
  Say("{}: {} pictures of {} x {}, {} steps ({} reused), {} bytes\n", flags.out, made.frames,
      made.width, made.height, made.steps, run.progress().steps_reused, file.size());
  return {};
}

/// What is wrong whatever the model is.
Result<void> CheckFlags(const VideoFlags& flags, std::string_view prompt) {
  if (prompt.empty()) {
    return Fail(Code::kInvalidArgument, "PROMPT is empty; say what to show", "PROMPT");
  }
  if (flags.fps > 0) {
    PX_CHECK_OK(media::CheckFrameRate(flags.fps));
  }
  if (flags.step_cache == 0 && !flags.step_cache_model.empty()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--step-cache-model {} changes nothing without --step-cache",
                            flags.step_cache_model),
                "step-cache-model");
  }
  return CheckFolder(flags.out);
}

Result<void> MakeVideo(const VideoFlags& flags, const EngineFlags& engine, std::string prompt) {
  PX_TRY(const media::VideoContainer container, ContainerOf(flags.out));
  PX_CHECK_OK(CheckFlags(flags, prompt));
  PX_TRY(const Made made, Make(flags, engine, std::move(prompt)));
  const double rate = flags.fps > 0 ? flags.fps : made.pipeline->defaults().frames_per_second;
  PX_TRY(const std::string file, FileOf(*made.run, rate, container, flags));
  return Write(flags, *made.run, file);
}

Result<void> MakePicture(const VideoFlags& flags, const EngineFlags& engine, std::string prompt) {
  PX_TRY(const media::ImageFileFormat format, FormatOf(flags.out));
  PX_CHECK_OK(CheckFlags(flags, prompt));
  PX_TRY(const Made made, Make(flags, engine, std::move(prompt)));
  PX_TRY(const std::string file, PictureOf(*made.run, format));
  return Write(flags, *made.run, file);
}

using Maker = Result<void> (*)(const VideoFlags& flags, const EngineFlags& engine,
                               std::string prompt);

/// Reads `command`'s flags and runs `maker`.
int RunMaker(config::Command command, VideoFlags& flags, const Arguments& arguments, Maker maker) {
  EngineFlags engine;
  command.positionals = {
      {.name = "PROMPT", .help = "what to show", .required = true, .repeated = false}};
  for (config::Option& option : RowsOf(engine)) {
    if (option.name == "device" || option.name == "isa" || option.name == "threads" ||
        option.name == "numerics" || option.name == "dtype" || option.name == "dit-cfg-size" ||
        option.name == "dit-ulysses-size" || option.name == "tensor-parallel-size") {
      command.options.push_back(std::move(option));
    }
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  const Result<void> made = maker(flags, engine, parsed.positionals[0]);
  return made ? kExitDone : Complain(made.error());
}

}  // namespace

int RunVideo(const Arguments& arguments) {
  VideoFlags flags;
  config::Command command;
  command.name = "video";
  command.summary = "Makes a video from a text.";
  command.options = RowsOf(flags);
  return RunMaker(std::move(command), flags, arguments, MakeVideo);
}

int RunImage(const Arguments& arguments) {
  if (!arguments.empty() && arguments[0] == "render") {
    return RunImageRender({arguments.begin() + 1, arguments.end()});
  }
  VideoFlags flags;
  config::Command command;
  command.name = "image";
  command.summary = "Makes a picture from a text.";
  command.options = PictureRowsOf(flags);
  return RunMaker(std::move(command), flags, arguments, MakePicture);
}

}  // namespace pixii::apps
