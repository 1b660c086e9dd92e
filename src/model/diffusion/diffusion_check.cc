#include "model/diffusion/diffusion_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/check_lines.h"
#include "model/diffusion/diffusion_golden.h"
#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/flux_check.h"
#include "model/diffusion/flux_pipeline.h"
#include "model/diffusion/pipeline_index.h"
#include "model/diffusion/wan_lanes.h"
#include "model/diffusion/wan_pipeline.h"

namespace pixii::model {
namespace {

constexpr char kTensorsName[] = "golden.safetensors";

class DiffusionChecker final {
 public:
  DiffusionChecker(WanPipeline& pipeline, const DiffusionGolden& golden,
                   const CheckOptions& options)
      : pipeline_(pipeline),
        golden_(golden),
        tolerance_(options.tolerance),
        latents_(pipeline.LatentVolume(golden.request.shape())),
        pictures_{golden.request.frames, golden.request.height, golden.request.width} {}

  Result<std::vector<CheckLine>> Run() {
    PX_CHECK_OK(CheckText());
    if (pipeline_.takes_image()) {
      PX_CHECK_OK(CheckImage());
    }
    PX_CHECK_OK(CheckPass());
    PX_CHECK_OK(CheckSteps());
    PX_CHECK_OK(CheckDecoder());
    PX_CHECK_OK(CheckEncoder());
    PX_CHECK_OK(CheckBeside());
    return std::move(lines_);
  }

 private:
  Extents LatentShape() const {
    return {1, pipeline_.vae().config().z_dim, latents_.frames, latents_.height, latents_.width};
  }

  Extents PictureShape(bool frames_first) const {
    return frames_first ? Extents{1, pictures_.frames, 3, pictures_.height, pictures_.width}
                        : Extents{1, 3, pictures_.frames, pictures_.height, pictures_.width};
  }

  void Compare(const std::string& name, std::span<const float> ours,
               std::span<const float> golden) {
    lines_.push_back(CompareValues(name, ours, golden, tolerance_));
  }

  Result<void> CheckText() {
    const std::int64_t tokens = golden_.prompt_tokens;
    const std::int32_t dim = pipeline_.text_encoder().config().d_model;
    PX_TRY(const std::vector<std::int32_t> ids, GoldenIds(golden_.tensors, "text.ids", tokens));
    PX_TRY(const std::vector<std::int32_t> mask, GoldenIds(golden_.tensors, "text.mask", tokens));
    const auto length = static_cast<std::size_t>(std::count(mask.begin(), mask.end(), 1));
    const std::vector<std::int32_t> real(ids.begin(),
                                         ids.begin() + static_cast<std::ptrdiff_t>(length));
    PX_TRY(const std::vector<std::int32_t> ours, pipeline_.Tokenize(golden_.request.prompt));
    lines_.push_back(CompareIntegers("text.ids", ours, real));
    PX_TRY(const std::vector<float> golden,
           GoldenFloats(golden_.tensors, "text.hidden", {1, tokens, dim}));
    PX_TRY(const std::vector<float> hidden, pipeline_.text_encoder().Encode(real));
    // What the golden file has behind the text's end is never used.
    Compare("text.hidden", hidden, std::span(golden).first(hidden.size()));
    return {};
  }

  /// What the transformer sees of the picture that the video begins with.
  Result<void> CheckImage() {
    if (golden_.request.image == nullptr) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: image is missing", kTensorsName), "image");
    }
    if (pipeline_.has_image_encoder()) {
      PX_TRY(const VisionFeatures features, pipeline_.EncodeImage(*golden_.request.image));
      PX_TRY(picture_,
             GoldenFloats(golden_.tensors, "image.hidden", {1, features.rows, features.size}));
      Compare("image.hidden", features.rows_data, picture_);
    }
    const std::vector<VideoRequest> requests = {golden_.request};
    WanLanes lanes(pipeline_, requests);
    while (!lanes.ready()) {
      PX_CHECK_OK(lanes.Condition());
    }
    Extents shape = LatentShape();
    shape[1] += pipeline_.vae().config().time_scale();
    PX_TRY(condition_, GoldenFloats(golden_.tensors, "image.condition", shape));
    Compare("image.condition", lanes.condition(0), condition_);
    return {};
  }

  /// One pass of the transformer over the first latents.
  Result<void> CheckPass() {
    WanTransformer& transformer = pipeline_.transformer();
    const std::int64_t tokens = golden_.prompt_tokens;
    PX_TRY(const std::vector<float> text,
           GoldenFloats(golden_.tensors, "dit.text", {1, tokens, transformer.config().text_dim}));
    PX_TRY(start_, GoldenFloats(golden_.tensors, "latents.start", LatentShape()));
    PX_TRY(const std::vector<float> golden,
           GoldenFloats(golden_.tensors, "dit.out", LatentShape()));
    PX_TRY(WanText lanes, transformer.MakeText(text, 1, golden_.prompt_tokens));
    std::vector<float> seen = start_;
    if (pipeline_.takes_image()) {
      seen.insert(seen.end(), condition_.begin(), condition_.end());
    }
    if (pipeline_.has_image_encoder()) {
      const std::int64_t dim = transformer.config().image_dim;
      PX_CHECK_OK(transformer.AddPictures(
          picture_, static_cast<std::int32_t>(std::ssize(picture_) / dim), lanes));
    }
    WanPass pass;
    transformer.Prepare(latents_, 1, pass);
    transformer.Begin(seen, {&golden_.pass_timestep, 1}, pass);
    while (!transformer.done(pass)) {
      PX_CHECK_OK(transformer.RunBlock(lanes, pass));
    }
    std::vector<float> out(golden.size());
    transformer.Finish(pass, out);
    Compare("dit.out", out, golden);
    return {};
  }

  Result<void> CheckSteps() {
    const std::int64_t steps = golden_.request.steps;
    PX_TRY(const std::vector<float> timesteps,
           GoldenFloats(golden_.tensors, "pipeline.timesteps", {steps}));
    PX_TRY(const std::vector<float> sigmas,
           GoldenFloats(golden_.tensors, "pipeline.sigmas", {steps + 1}));
    const auto scheduler = MakeScheduler(pipeline_.scheduler(), golden_.request.steps);
    Compare("pipeline.timesteps", scheduler->timesteps(), timesteps);
    Compare("pipeline.sigmas", scheduler->sigmas(), sigmas);
    VideoRequest request = golden_.request;
    request.latents = start_;
    PX_TRY(const auto run, pipeline_.Start({request}));
    PX_CHECK_OK(run->FinishStep());  // the texts, or what the video begins with
    for (std::int64_t step = 0; step < steps; ++step) {
      PX_CHECK_OK(run->FinishStep());
      const std::string name = fmt::format("pipeline.latents.{}", step);
      PX_TRY(const std::vector<float> golden, GoldenFloats(golden_.tensors, name, LatentShape()));
      Compare(name, run->latents(0), golden);
    }
    while (!run->done()) {
      PX_CHECK_OK(run->Advance());
    }
    PX_TRY(const std::vector<float> frames,
           GoldenFloats(golden_.tensors, "pipeline.frames", PictureShape(true)));
    Compare("pipeline.frames", ChannelsApart(run->pictures(0), pictures_, true), frames);
    alone_.assign(run->latents(0).begin(), run->latents(0).end());
    return {};
  }

  /// Half of the first latents, decoded as they are.
  Result<void> CheckDecoder() {
    WanVae& vae = pipeline_.vae();
    std::vector<float> latents = start_;
    for (float& value : latents) {
      value *= 0.5F;
    }
    PX_TRY(const std::vector<float> golden,
           GoldenFloats(golden_.tensors, "vae.decoded", PictureShape(false)));
    TiledDecoder decoder(vae, {}, latents_.height, latents_.width);
    std::vector<float> pictures;
    for (std::int32_t frame = 0; frame < latents_.frames; ++frame) {
      const std::vector<float> latent = LatentFrame(latents, frame);
      PX_TRY(const WanVae::Pictures decoded, decoder.Decode(latent));
      pictures.insert(pictures.end(), decoded.rgb.begin(), decoded.rgb.end());
    }
    Compare("vae.decoded", ChannelsApart(pictures, pictures_, false), golden);
    return {};
  }

  Result<void> CheckEncoder() {
    WanVae& vae = pipeline_.vae();
    PX_TRY(const std::vector<float> video,
           GoldenFloats(golden_.tensors, "vae.video", PictureShape(false)));
    PX_TRY(const std::vector<float> golden,
           GoldenFloats(golden_.tensors, "vae.encoded_mean", LatentShape()));
    const std::int64_t pixels = pictures_.frame_pixels();
    VaeStream stream = vae.NewStream();
    for (std::int32_t frame = 0, first = 0; frame < latents_.frames; ++frame) {
      const kernels::Volume chunk = {frame == 0 ? 1 : vae.config().time_scale(), pictures_.height,
                                     pictures_.width};
      std::vector<float> rows(static_cast<std::size_t>(chunk.pixels() * 3));
      for (std::int64_t pixel = 0; pixel < chunk.pixels(); ++pixel) {
        for (std::int64_t channel = 0; channel < 3; ++channel) {
          rows[static_cast<std::size_t>(pixel * 3 + channel)] = video[static_cast<std::size_t>(
              (channel * pictures_.frames + first) * pixels + pixel)];
        }
      }
      PX_TRY(const std::vector<float> mean, vae.Encode(stream, rows, chunk));
      Compare(fmt::format("vae.encoded_mean.{}", frame), mean, LatentFrame(golden, frame));
      first += chunk.frames;
    }
    return {};
  }

  /// The golden request after another one, in one run.
  Result<void> CheckBeside() {
    VideoRequest request = golden_.request;
    request.latents = start_;
    VideoRequest other = golden_.request;
    std::swap(other.prompt, other.negative_prompt);
    other.guidance_scale += 1.0;
    PX_TRY(const auto run, pipeline_.Start({other, request}));
    while (run->progress().phase != RunProgress::Phase::kDecode) {
      PX_CHECK_OK(run->Advance());
    }
    lines_.push_back(CompareBits("latents beside others", run->latents(1), alone_));
    return {};
  }

  /// [channels, height, width] of one frame.
  std::vector<float> LatentFrame(std::span<const float> latents, std::int32_t frame) const {
    const auto pixels = static_cast<std::size_t>(latents_.frame_pixels());
    const auto frames = static_cast<std::size_t>(latents_.frames);
    std::vector<float> out;
    for (std::size_t plane = static_cast<std::size_t>(frame); plane * pixels < latents.size();
         plane += frames) {
      const auto from = latents.begin() + static_cast<std::ptrdiff_t>(plane * pixels);
      out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(pixels));
    }
    return out;
  }

  WanPipeline& pipeline_;
  const DiffusionGolden& golden_;
  double tolerance_;
  kernels::Volume latents_;
  kernels::Volume pictures_;
  std::vector<float> start_;
  std::vector<float> picture_;    // golden features
  std::vector<float> condition_;  // golden masks and latents
  std::vector<float> alone_;      // the golden request's last latents
  std::vector<CheckLine> lines_;
};

}  // namespace

bool IsDiffusionFolder(const std::string& folder) {
  const auto open = CheckpointFolder::Open(folder);
  return open && open->Has("model_index.json");
}

Result<CheckReport> CheckDiffusionFolder(const std::string& folder, kernels::Operators& operators,
                                         const CheckOptions& options) {
  PX_TRY(const CheckpointFolder golden_folder,
         CheckpointFolder::Open(options.golden_folder.empty() ? folder : options.golden_folder));
  PX_TRY(const DiffusionGolden golden, LoadDiffusionGolden(golden_folder));
  PX_TRY(const CheckpointFolder model_folder, CheckpointFolder::Open(folder));
  PX_TRY(const PipelineIndex index, PipelineIndex::Read(model_folder));
  if (index.class_name() == kFluxClass) {
    return CheckFluxFolder(folder, golden, operators, options);
  }
  PX_TRY(const auto pipeline, WanPipeline::Load(folder, operators,
                                                {.compute = kernels::ComputeType::kF32,
                                                 .prompt_tokens = golden.prompt_tokens}));
  PX_CHECK_OK(pipeline->Check(golden.request));
  CheckReport report{.folder = folder, .operators = std::string(operators.name()), .lines = {}};
  DiffusionChecker checker(*pipeline, golden, options);
  PX_TRY(report.lines, checker.Run());
  return report;
}

}  // namespace pixii::model
