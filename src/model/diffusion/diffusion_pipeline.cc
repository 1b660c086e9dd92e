#include "model/diffusion/diffusion_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "model/config_reader.h"
#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/flux_pipeline.h"
#include "model/diffusion/pipeline_index.h"
#include "model/diffusion/wan_pipeline.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {
namespace {

constexpr char kDefaultsName[] = "generation_config.json";

Result<void> CheckWithin(std::string_view field, std::int64_t value, IntRange range) {
  if (value < range.min || value > range.max) {
    return BadVideoRequest(field,
                           fmt::format("is {}, must be {} to {}", value, range.min, range.max));
  }
  return {};
}

}  // namespace

tl::unexpected<Error> BadVideoRequest(std::string_view field, std::string what) {
  return Fail(Code::kInvalidArgument, fmt::format("{} {}", field, what), std::string(field));
}

Result<void> CheckDiffusionBackend(const std::string& folder, const kernels::Operators& operators) {
  if (!operators.on_host() || !operators.Supports(kernels::OperatorGroup::kDiffusion)) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: diffusion is not built for {}; use a CPU backend", folder,
                            operators.name()),
                "device");
  }
  return {};
}

Result<std::unique_ptr<DiffusionPipeline>> DiffusionPipeline::Load(const std::string& path,
                                                                   kernels::Operators& operators,
                                                                   const PipelineOptions& options) {
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(path));
  PX_TRY(const PipelineIndex index, PipelineIndex::Read(folder));
  const std::string& name = index.class_name();
  if (name == kWanTextClass || name == kWanImageClass) {
    return WanPipeline::Load(path, operators, options);
  }
  if (name == kFluxClass) {
    return FluxPipeline::Load(path, operators, options);
  }
  return index.reader().Unsupported(
      "_class_name",
      fmt::format("is none of {}, {}, {}", kWanTextClass, kWanImageClass, kFluxClass));
}

Result<void> DiffusionPipeline::TakeOptions(const CheckpointFolder& folder,
                                            const PipelineOptions& options) {
  if (folder.Has(kDefaultsName)) {
    PX_TRY(const wire::Json json, ReadPartConfig(folder, kDefaultsName));
    const ConfigReader reader(json, fmt::format("{}/{}", folder.path(), kDefaultsName));
    VideoRequest& request = defaults_.request;
    const auto read = [&](std::string_view key, std::int64_t max,
                          std::int32_t& to) -> Result<void> {
      PX_TRY(const std::int64_t value, reader.Int(key, {1, max}, to));
      to = static_cast<std::int32_t>(value);
      return {};
    };
    PX_CHECK_OK(read("width", kVideoSideMax, request.width));
    PX_CHECK_OK(read("height", kVideoSideMax, request.height));
    PX_CHECK_OK(read("num_frames", kVideoFramesMax, request.frames));
    PX_CHECK_OK(read("num_inference_steps", kDenoiseStepsMax, request.steps));
    PX_CHECK_OK(read("max_sequence_length", kPromptTokensMax, prompt_tokens_));
    PX_TRY(request.guidance_scale,
           reader.Number("guidance_scale", {0.0, 100.0}, request.guidance_scale));
    PX_TRY(defaults_.frames_per_second,
           reader.Number("fps", {0.1, 240.0}, defaults_.frames_per_second));
    PX_TRY(request.negative_prompt, reader.String("negative_prompt", request.negative_prompt));
  }
  if (options.prompt_tokens > 0) {
    prompt_tokens_ = std::min(options.prompt_tokens, kPromptTokensMax);
  }
  tiles_ = options.tiles;
  memory_max_bytes_ = options.memory_max_bytes;
  bf16_ = options.compute != kernels::ComputeType::kF32;
  return {};
}

VideoShape DiffusionPipeline::ShapeOf(const VideoRequest& request) const {
  VideoShape out = request.shape();
  out.guided = out.guided && guides_by_lanes();
  return out;
}

Result<void> DiffusionPipeline::Check(const VideoRequest& request) const {
  const PictureUnits units = this->units();
  PX_CHECK_OK(CheckWithin("width", request.width, {1, kVideoSideMax}));
  PX_CHECK_OK(CheckWithin("height", request.height, {1, kVideoSideMax}));
  PX_CHECK_OK(CheckWithin("num_frames", request.frames, {1, kVideoFramesMax}));
  PX_CHECK_OK(CheckWithin("num_inference_steps", request.steps, {1, kDenoiseStepsMax}));
  if (!(request.guidance_scale >= 0.0 && request.guidance_scale <= 100.0)) {
    return BadVideoRequest("guidance_scale",
                           fmt::format("is {}, must be 0 to 100", request.guidance_scale));
  }

  struct Side {
    std::string_view field;
    std::int32_t value;
    std::int32_t unit;
  };

  for (const Side& side :
       {Side{"width", request.width, units.width}, Side{"height", request.height, units.height}}) {
    if (side.value % side.unit != 0) {
      return BadVideoRequest(side.field,
                             fmt::format("is {}, must be a multiple of {}", side.value, side.unit));
    }
  }
  if (units.frames == 0 && request.frames != 1) {
    return BadVideoRequest(
        "num_frames", fmt::format("is {}, must be 1: the model makes pictures", request.frames));
  }
  if (units.frames > 0 && (request.frames - 1) % units.frames != 0) {
    return BadVideoRequest("num_frames", fmt::format("is {}, must be 1 more than a multiple of {}",
                                                     request.frames, units.frames));
  }
  const kernels::Volume latents = LatentVolume(request.shape());
  PX_CHECK_OK(CheckLatents(latents, ShapeOf(request).guided ? 2 : 1));
  const std::int64_t size = latents.pixels() * latent_channels();
  if (!request.latents.empty() && std::ssize(request.latents) != size) {
    return BadVideoRequest(
        "latents", fmt::format("has {} values, must have {}", request.latents.size(), size));
  }
  const bool has_image = request.image != nullptr;
  if (has_image != takes_image()) {
    return BadVideoRequest("image", has_image
                                        ? "is given, but the model works from words alone"
                                        : "is missing: the model makes videos that begin with one");
  }
  if (has_image &&
      (request.image->size.pixel_count() == 0 ||
       request.image->rgb.size() != request.image->size.pixel_count() * media::kImageChannels)) {
    return BadVideoRequest("image", "is empty, or has another size than its pixels");
  }
  return CheckFields(request);
}

Result<std::unique_ptr<DiffusionRun>> DiffusionPipeline::Start(std::vector<VideoRequest> requests,
                                                               const StepCacheOptions& cache) {
  PX_CHECK_OK(CheckWithin("requests", std::ssize(requests), {1, kRequestsTogetherMax}));
  for (const VideoRequest& request : requests) {
    PX_CHECK_OK(Check(request));
    if (ShapeOf(request) != ShapeOf(requests.front())) {
      return BadVideoRequest("requests",
                             "differ in size, frames, steps or in whether they are guided");
    }
  }
  const VideoShape shape = ShapeOf(requests.front());
  const auto lanes = static_cast<std::int32_t>(requests.size() * (shape.guided ? 2 : 1));
  PX_CHECK_OK(CheckLatents(LatentVolume(shape), lanes));
  const std::uint64_t wanted = WorkingBytes(shape, requests.size());
  if (memory_max_bytes_ != 0 && wanted > memory_max_bytes_) {
    return Fail(Code::kTooLarge,
                fmt::format("{} x {} pixels, {} frames, {} together would take {} bytes, {} are "
                            "there; ask for fewer or smaller pictures",
                            shape.width, shape.height, shape.frames, requests.size(), wanted,
                            memory_max_bytes_),
                "size");
  }
  return std::make_unique<DiffusionRun>(*this, std::move(requests), cache);
}

}  // namespace pixii::model
