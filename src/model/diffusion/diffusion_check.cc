#include "model/diffusion/diffusion_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/diffusion/diffusion_checker.h"
#include "model/diffusion/diffusion_golden.h"
#include "model/diffusion/flux_check.h"
#include "model/diffusion/flux_pipeline.h"
#include "model/diffusion/pipeline_index.h"
#include "model/diffusion/wan_lanes.h"
#include "model/diffusion/wan_pipeline.h"

namespace pixii::model {
namespace {

constexpr char kTensorsName[] = "golden.safetensors";

class WanChecker final : public DiffusionChecker {
 public:
  WanChecker(WanPipeline& pipeline, const DiffusionGolden& golden, const CheckOptions& options)
      : DiffusionChecker(pipeline, golden, options), pipeline_(pipeline) {}

  Result<std::vector<CheckLine>> Run() {
    PX_CHECK_OK(CheckText());
    if (pipeline_.takes_image()) {
      PX_CHECK_OK(CheckImage());
    }
    PX_CHECK_OK(CheckPass());
    PX_CHECK_OK(CheckSteps("pipeline.frames", PictureShape(true)));
    PX_CHECK_OK(CheckDecoder(PictureShape(false)));
    PX_CHECK_OK(CheckEncoder());
    VideoRequest other = golden().request;
    std::swap(other.prompt, other.negative_prompt);
    other.guidance_scale += 1.0;
    PX_CHECK_OK(CheckBeside(other));
    return TakeLines();
  }

 private:
  Extents PictureShape(bool frames_first) const {
    return frames_first ? Extents{1, pictures().frames, 3, pictures().height, pictures().width}
                        : Extents{1, 3, pictures().frames, pictures().height, pictures().width};
  }

  Result<void> CheckText() {
    const std::int64_t tokens = golden().prompt_tokens;
    const std::int32_t dim = pipeline_.text_encoder().config().d_model;
    PX_TRY(const std::vector<std::int32_t> ids, GoldenIds(golden().tensors, "text.ids", tokens));
    PX_TRY(const std::vector<std::int32_t> mask, GoldenIds(golden().tensors, "text.mask", tokens));
    const auto length = static_cast<std::size_t>(std::count(mask.begin(), mask.end(), 1));
    const std::vector<std::int32_t> real(ids.begin(),
                                         ids.begin() + static_cast<std::ptrdiff_t>(length));
    PX_TRY(const std::vector<std::int32_t> ours, pipeline_.Tokenize(golden().request.prompt));
    CompareIds("text.ids", ours, real);
    PX_TRY(const std::vector<float> golden, Golden("text.hidden", {1, tokens, dim}));
    PX_TRY(const std::vector<float> hidden, pipeline_.text_encoder().Encode(real));
    // What the golden file has behind the text's end is never used.
    Compare("text.hidden", hidden, std::span(golden).first(hidden.size()));
    return {};
  }

  /// What the transformer sees of the picture that the video begins with.
  Result<void> CheckImage() {
    if (golden().request.image == nullptr) {
      return Fail(Code::kDataCorrupt, fmt::format("{}: image is missing", kTensorsName), "image");
    }
    if (pipeline_.has_image_encoder()) {
      PX_TRY(const VisionFeatures features, pipeline_.EncodeImage(*golden().request.image));
      PX_TRY(picture_, Golden("image.hidden", {1, features.rows, features.size}));
      Compare("image.hidden", features.rows_data, picture_);
    }
    const std::vector<VideoRequest> requests = {golden().request};
    WanLanes lanes(pipeline_, requests);
    while (!lanes.ready()) {
      PX_CHECK_OK(lanes.Condition());
    }
    Extents shape = LatentShape();
    shape[1] += pipeline_.vae().config().time_scale();
    PX_TRY(condition_, Golden("image.condition", shape));
    Compare("image.condition", lanes.condition(0), condition_);
    return {};
  }

  /// One pass of the transformer over the first latents.
  Result<void> CheckPass() {
    WanTransformer& transformer = pipeline_.transformer();
    const std::int64_t tokens = golden().prompt_tokens;
    PX_TRY(const std::vector<float> text,
           Golden("dit.text", {1, tokens, transformer.config().text_dim}));
    PX_CHECK_OK(ReadStart());
    PX_TRY(WanText lanes, transformer.MakeText(text, 1, golden().prompt_tokens));
    std::vector<float> seen(start().begin(), start().end());
    if (pipeline_.takes_image()) {
      seen.insert(seen.end(), condition_.begin(), condition_.end());
    }
    if (pipeline_.has_image_encoder()) {
      const std::int64_t dim = transformer.config().image_dim;
      PX_CHECK_OK(transformer.AddPictures(
          picture_, static_cast<std::int32_t>(std::ssize(picture_) / dim), lanes));
    }
    WanPass pass;
    transformer.Prepare(latents(), 1, pass);
    transformer.Begin(seen, {&golden().pass_timestep, 1}, pass);
    while (!transformer.done(pass)) {
      PX_CHECK_OK(transformer.RunBlock(lanes, pass));
    }
    std::vector<float> out(start().size());
    transformer.Finish(pass, out);
    return Compare("dit.out", out, LatentShape());
  }

  Result<void> CheckEncoder() {
    WanVae& vae = pipeline_.vae();
    PX_TRY(const std::vector<float> video, Golden("vae.video", PictureShape(false)));
    PX_TRY(const std::vector<float> golden, Golden("vae.encoded_mean", LatentShape()));
    const std::int64_t pixels = pictures().frame_pixels();
    VaeStream stream = vae.NewStream();
    for (std::int32_t frame = 0, first = 0; frame < latents().frames; ++frame) {
      const kernels::Volume chunk = {frame == 0 ? 1 : vae.config().time_scale(), pictures().height,
                                     pictures().width};
      std::vector<float> rows(static_cast<std::size_t>(chunk.pixels() * 3));
      for (std::int64_t pixel = 0; pixel < chunk.pixels(); ++pixel) {
        for (std::int64_t channel = 0; channel < 3; ++channel) {
          rows[static_cast<std::size_t>(pixel * 3 + channel)] = video[static_cast<std::size_t>(
              (channel * pictures().frames + first) * pixels + pixel)];
        }
      }
      PX_TRY(const std::vector<float> mean, vae.Encode(stream, rows, chunk));
      Compare(fmt::format("vae.encoded_mean.{}", frame), mean, LatentFrame(golden, frame));
      first += chunk.frames;
    }
    return {};
  }

  WanPipeline& pipeline_;
  std::vector<float> picture_;    // golden features
  std::vector<float> condition_;  // golden masks and latents
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
  return CheckPipeline<WanPipeline, WanChecker>(folder, golden, operators, options);
}

}  // namespace pixii::model
