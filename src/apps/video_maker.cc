#include "apps/video_maker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "media/encode.h"
#include "media/video/video_file.h"
#include "rt/process.h"

namespace pixii::apps {

namespace {

using frontend::MediaFormat;
using frontend::MediaKind;
using frontend::MediaSpec;
using frontend::MediaTurn;

model::VideoRequest RequestOf(const MediaSpec& spec, std::uint32_t index) {
  return {.prompt = spec.prompt,
          .negative_prompt = spec.negative_prompt,
          .width = spec.width,
          .height = spec.height,
          .frames = spec.frames,
          .steps = spec.steps,
          .guidance_scale = spec.guidance_scale,
          .seed = spec.seed + index};
}

std::shared_ptr<const media::Image> AnyImage() {
  static const auto image =
      std::make_shared<const media::Image>(media::Image{.size = {1, 1}, .rgb = {0, 0, 0}});
  return image;
}

std::vector<model::VideoRequest> RequestsOf(const MediaSpec& spec) {
  std::vector<model::VideoRequest> out;
  for (std::uint32_t i = 0; i < spec.count; ++i) {
    out.push_back(RequestOf(spec, i));
  }
  return out;
}

media::ImageFileFormat FileFormat(MediaFormat format) {
  return format == MediaFormat::kJpeg   ? media::ImageFileFormat::kJpeg
         : format == MediaFormat::kWebp ? media::ImageFileFormat::kWebp
                                        : media::ImageFileFormat::kPng;
}

media::VideoContainer Container(MediaFormat format) {
  return format == MediaFormat::kWebm  ? media::VideoContainer::kWebm
         : format == MediaFormat::kAvi ? media::VideoContainer::kAvi
                                       : media::VideoContainer::kMp4;
}

Result<std::string> ImageFile(std::span<const float> picture, const MediaSpec& spec) {
  media::Image image{
      .size = {static_cast<std::uint32_t>(spec.width), static_cast<std::uint32_t>(spec.height)},
      .rgb = {}};
  image.rgb.reserve(picture.size());
  for (const float value : picture) {
    image.rgb.push_back(media::ByteFromUnit(value));
  }
  return media::EncodeImage(image, FileFormat(spec.format), spec.quality);
}

}  // namespace

Result<std::unique_ptr<VideoMaker>> VideoMaker::Load(rt::Loop& loop, const std::string& folder,
                                                     std::unique_ptr<kernels::Operators> operators,
                                                     const Options& options) {
  auto out = std::unique_ptr<VideoMaker>(
      new VideoMaker(loop, std::move(operators), options));  // tidy: new the constructor is private
  PX_TRY(out->pipeline_,
         model::DiffusionPipeline::Load(
             folder, *out->operators_,
             {.compute = options.compute, .loras = options.loras, .ranks = options.ranks}));
  out->get_image_ = options.get_image;
  PX_ASSERT(out->get_image_ || !out->pipeline_->takes_image());
  const model::VideoDefaults& defaults = out->pipeline_->defaults();
  const model::VideoRequest& request = defaults.request;
  PX_TRY(const rt::MachineLimits machine, rt::ReadMachineLimits());
  out->job_bytes_max_ = machine.memory_available_bytes / options.jobs_together;
  out->model_ = {.name = options.name,
                 .created = loop.WallNow().unix_seconds,
                 .defaults = {.negative_prompt = request.negative_prompt,
                              .width = request.width,
                              .height = request.height,
                              .frames = request.frames,
                              .steps = request.steps,
                              .guidance_scale = request.guidance_scale,
                              .frames_per_second = defaults.frames_per_second,
                              .format = media::DefaultContainer() == media::VideoContainer::kAvi
                                            ? MediaFormat::kAvi
                                            : MediaFormat::kMp4},
                 .frames_unit = std::max(1, out->pipeline_->units().frames),
                 .takes_image = out->pipeline_->takes_image()};
  return out;
}

// What it looks at does not change while runs go on.
Result<void> VideoMaker::Check(const MediaSpec& spec) const {
  model::VideoRequest request = RequestOf(spec, 0);
  if (spec.input_reference != nullptr) {
    request.image = AnyImage();  // of any size; the client's is decoded when the job begins
  }
  PX_CHECK_OK(pipeline_->Check(request));
  const std::uint64_t wanted = pipeline_->WorkingBytes(request.shape(), spec.count);
  if (wanted > job_bytes_max_) {
    return Fail(
        Code::kTooLarge,
        fmt::format("size: {} x {} pixels and {} frames or pictures would take {} bytes of "
                    "memory, a job may take {}",
                    spec.width, spec.height, static_cast<std::uint32_t>(spec.frames) * spec.count,
                    wanted, job_bytes_max_),
        "size");
  }
  return {};
}

void VideoMaker::Turn(const std::string& job, const MediaSpec& spec, OnTurn done) {
  interrupted_.store(false, std::memory_order_relaxed);
  auto out = std::make_shared<Result<MediaTurn>>();
  const bool taken = pool_.Submit([this, out, job, spec] { *out = DoTurn(job, spec); },
                                  [out, done] { done(std::move(*out)); });
  PX_ASSERT(taken);  // one turn at a time, and fewer jobs than kQueueMax
}

void VideoMaker::Drop(const std::string& job) {
  const bool taken = pool_.Submit([this, job] { runs_.erase(job); }, [] {});
  PX_ASSERT(taken);
}

Result<std::unique_ptr<model::DiffusionRun>> VideoMaker::Begin(const MediaSpec& spec) {
  std::vector<model::VideoRequest> requests = RequestsOf(spec);
  if (spec.input_reference != nullptr) {
    Result<media::Image> image = get_image_(*spec.input_reference);
    if (!image) {
      return Fail(image.error().code(), "input_reference: " + image.error().detail(),
                  "input_reference");
    }
    const auto shared = std::make_shared<const media::Image>(*std::move(image));
    for (model::VideoRequest& request : requests) {
      request.image = shared;
    }
  }
  return pipeline_->Start(std::move(requests));
}

Result<MediaTurn> VideoMaker::DoTurn(const std::string& job, const MediaSpec& spec) {
  const kernels::ComputeTurns::Pieces pieces(turns_);
  const auto turn = [&]() -> Result<MediaTurn> {
    std::unique_ptr<model::DiffusionRun>& run = runs_[job];
    if (!run) {
      PX_TRY(run, Begin(spec));
    }
    if (const Result<void> advanced = AdvanceStep(*run); !advanced) {
      const Error& error = advanced.error();
      return error.param() == "image"
                 ? Fail(error.code(), fmt::format("input_reference: {}", error.detail()),
                        "input_reference")
                 : Fail(error);
    }
    MediaTurn out{.steps_done = static_cast<std::uint32_t>(run->progress().step),
                  .progress = run->progress().fraction(),
                  .done = run->done(),
                  .files = {}};
    if (out.done) {
      PX_CHECK_OK(Encode(*run, spec, out));
    }
    return out;
  };
  Result<MediaTurn> out = turn();
  if (!out || out->done) {
    runs_.erase(job);
  }
  return out;
}

// A step of the language model goes first, whatever backend computes.
Result<void> VideoMaker::BeforePiece() const {
  if (turns_ != nullptr) {
    turns_->Pass();
  }
  if (interrupted_.load(std::memory_order_relaxed)) {
    return Fail(Code::kCancelled, "the job was cancelled");
  }
  return {};
}

// To the end of a step, of the text, or of a latent frame's pictures.
Result<void> VideoMaker::AdvanceStep(model::DiffusionRun& run) const {
  const model::RunProgress before = run.progress();
  const auto same = [&] {
    const model::RunProgress& now = run.progress();
    return now.phase == before.phase && now.step == before.step &&
           now.latent_frames_decoded == before.latent_frames_decoded;
  };
  do {
    PX_CHECK_OK(BeforePiece());
    PX_CHECK_OK(run.Advance());
  } while (same());
  return {};
}

Result<void> VideoMaker::Encode(const model::DiffusionRun& run, const MediaSpec& spec,
                                MediaTurn& turn) const {
  if (spec.kind == MediaKind::kImage) {
    for (std::uint32_t i = 0; i < spec.count; ++i) {
      PX_TRY(std::string file, ImageFile(run.pictures(i), spec));
      turn.files.push_back(std::move(file));
    }
    return {};
  }
  PX_TRY(media::VideoFileWriter writer,
         media::VideoFileWriter::Create({.size = {spec.width, spec.height},
                                         .frames_per_second = spec.frames_per_second,
                                         .container = Container(spec.format)}));
  const std::span<const float> pictures = run.pictures(0);
  const std::size_t size = pictures.size() / static_cast<std::size_t>(spec.frames);
  for (std::size_t at = 0; at < pictures.size(); at += size) {
    PX_CHECK_OK(BeforePiece());
    PX_CHECK_OK(writer.Add(pictures.subspan(at, size)));
  }
  PX_TRY(std::string file, writer.Finish());
  turn.files.push_back(std::move(file));
  return {};
}

}  // namespace pixii::apps
