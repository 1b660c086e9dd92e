#include "model/diffusion/diffusion_pipeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "model/config_reader.h"
#include "model/diffusion/diffusion_run.h"
#include "model/diffusion/prompt_text.h"

namespace pixii::model {
namespace {

constexpr std::int32_t kPromptTokensDefault = 512;
constexpr char kDefaultsName[] = "generation_config.json";

/// Class of a part in model_index.json ("transformer": ["diffusers", "WanTransformer3DModel"]), or
/// "" if it is null or absent.
std::string PartClass(const ConfigReader& reader, std::string_view part) {
  const wire::Json* value = reader.Find(part);
  if (value == nullptr || !value->is_array() || value->array().size() != 2 ||
      !value->array()[1].is_string()) {
    return {};
  }
  return value->array()[1].string();
}

Result<void> CheckIndex(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  PX_TRY(const std::string name, reader.String("_class_name"));
  if (name != "WanPipeline") {
    return reader.Unsupported("_class_name", "is not WanPipeline");
  }

  struct Part {
    std::string_view name;
    std::string_view wanted;
  };

  for (const Part& part :
       {Part{"text_encoder", "UMT5EncoderModel"}, Part{"transformer", "WanTransformer3DModel"},
        Part{"vae", "AutoencoderKLWan"}, Part{"transformer_2", ""}}) {
    if (PartClass(reader, part.name) != part.wanted) {
      return reader.Unsupported(part.name, part.wanted.empty()
                                               ? std::string("must be null: pipelines of two "
                                                             "transformers are not built")
                                               : fmt::format("is not {}", part.wanted));
    }
  }
  PX_TRY(const bool expand, reader.Bool("expand_timesteps", false));
  if (expand) {
    return reader.Unsupported("expand_timesteps", "must be false");
  }
  return {};
}

/// What the folder says of requests that say nothing.
Result<void> ReadDefaults(const CheckpointFolder& folder, VideoDefaults& out,
                          std::int32_t& prompt_tokens) {
  if (!folder.Has(kDefaultsName)) {
    return {};
  }
  PX_TRY(const wire::Json json, ReadPartConfig(folder, kDefaultsName));
  const ConfigReader reader(json, fmt::format("{}/{}", folder.path(), kDefaultsName));
  VideoRequest& request = out.request;
  const auto read = [&](std::string_view key, std::int64_t max, std::int32_t& to) -> Result<void> {
    PX_TRY(const std::int64_t value, reader.Int(key, {1, max}, to));
    to = static_cast<std::int32_t>(value);
    return {};
  };
  PX_CHECK_OK(read("width", kVideoSideMax, request.width));
  PX_CHECK_OK(read("height", kVideoSideMax, request.height));
  PX_CHECK_OK(read("num_frames", kVideoFramesMax, request.frames));
  PX_CHECK_OK(read("num_inference_steps", kDenoiseStepsMax, request.steps));
  PX_CHECK_OK(read("max_sequence_length", kPromptTokensMax, prompt_tokens));
  PX_TRY(request.guidance_scale,
         reader.Number("guidance_scale", {0.0, 100.0}, request.guidance_scale));
  PX_TRY(out.frames_per_second, reader.Number("fps", {0.1, 240.0}, out.frames_per_second));
  PX_TRY(request.negative_prompt, reader.String("negative_prompt", request.negative_prompt));
  return {};
}

tl::unexpected<Error> BadRequest(std::string_view field, std::string what) {
  return Fail(Code::kInvalidArgument, fmt::format("{} {}", field, what), std::string(field));
}

Result<void> CheckWithin(std::string_view field, std::int64_t value, IntRange range) {
  if (value < range.min || value > range.max) {
    return BadRequest(field, fmt::format("is {}, must be {} to {}", value, range.min, range.max));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<DiffusionPipeline>> DiffusionPipeline::Load(const std::string& path,
                                                                   kernels::Operators& operators,
                                                                   const PipelineOptions& options) {
  if (!operators.on_host() || !operators.Supports(kernels::OperatorGroup::kDiffusion)) {
    return Fail(
        Code::kUnsupported,
        fmt::format("{}: diffusion is not built for {}; use a CPU backend", path, operators.name()),
        "device");
  }
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(path));
  PX_TRY(const wire::Json json, ReadPartConfig(folder, "model_index.json"));
  PX_CHECK_OK(CheckIndex(json, path + "/model_index.json"));
  auto pipeline = std::make_unique<DiffusionPipeline>(CreateOnly{}, operators);
  pipeline->prompt_tokens_ = kPromptTokensDefault;
  PX_CHECK_OK(ReadDefaults(folder, pipeline->defaults_, pipeline->prompt_tokens_));
  if (options.prompt_tokens > 0) {
    pipeline->prompt_tokens_ = std::min(options.prompt_tokens, kPromptTokensMax);
  }
  pipeline->tiles_ = options.tiles;
  pipeline->memory_max_bytes_ = options.memory_max_bytes;
  pipeline->bf16_ = options.compute != kernels::ComputeType::kF32;
  PX_CHECK_OK(pipeline->LoadParts(folder, options));
  return pipeline;
}

Result<void> DiffusionPipeline::LoadParts(const CheckpointFolder& folder,
                                          const PipelineOptions& options) {
  PX_TRY(const CheckpointFolder scheduler, folder.Subfolder("scheduler"));
  PX_TRY(const wire::Json scheduler_json, ReadPartConfig(scheduler, "scheduler_config.json"));
  PX_TRY(scheduler_,
         ParseSchedulerConfig(scheduler_json, scheduler.path() + "/scheduler_config.json"));
  PX_TRY(const CheckpointFolder tokenizer, folder.Subfolder("tokenizer"));
  PX_TRY(const std::string text,
         tokenizer.ReadText("tokenizer.json", text::kTokenizerJsonBytesMax));
  PX_TRY(tokenizer_, text::Tokenizer::FromJson(text, tokenizer.path() + "/tokenizer.json"));
  PX_TRY(const CheckpointFolder encoder, folder.Subfolder("text_encoder"));
  PX_TRY(text_encoder_, Umt5Encoder::Load(encoder, operators_, options.compute));
  PX_TRY(const CheckpointFolder transformer, folder.Subfolder("transformer"));
  PX_TRY(transformer_, WanTransformer::Load(transformer, operators_, options.compute));
  PX_TRY(const CheckpointFolder vae, folder.Subfolder("vae"));
  PX_TRY(vae_, WanVae::Load(vae, operators_, kernels::ComputeType::kF32));
  const WanConfig& config = transformer_->config();
  if (config.text_dim != text_encoder_->config().d_model) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: the transformer wants text of {} features, the text encoder gives "
                            "{}",
                            folder.path(), config.text_dim, text_encoder_->config().d_model));
  }
  if (config.in_channels != vae_->config().z_dim || config.out_channels != vae_->config().z_dim) {
    return Fail(
        Code::kUnsupported,
        fmt::format("{}: the transformer takes {} and gives {} channels of latents, the "
                    "VAE has {}; video from pictures is not built",
                    folder.path(), config.in_channels, config.out_channels, vae_->config().z_dim));
  }
  return {};
}

Result<std::vector<std::int32_t>> DiffusionPipeline::Tokenize(const std::string& prompt) const {
  PX_TRY(const text::TypedTokens tokens,
         tokenizer_->Join(CleanPrompt(prompt), std::nullopt,
                          {.tokens_max = static_cast<std::size_t>(prompt_tokens_)}));
  return std::vector<std::int32_t>(tokens.ids.begin(), tokens.ids.end());
}

kernels::Volume DiffusionPipeline::LatentVolume(const VideoShape& shape) const {
  const VaeConfig& vae = vae_->config();
  return {.frames = (shape.frames - 1) / vae.time_scale() + 1,
          .height = shape.height / vae.space_scale(),
          .width = shape.width / vae.space_scale()};
}

Result<void> DiffusionPipeline::Check(const VideoRequest& request) const {
  const VaeConfig& vae = vae_->config();
  const kernels::Volume& patch = transformer_->config().patch;
  PX_CHECK_OK(CheckWithin("width", request.width, {1, kVideoSideMax}));
  PX_CHECK_OK(CheckWithin("height", request.height, {1, kVideoSideMax}));
  PX_CHECK_OK(CheckWithin("num_frames", request.frames, {1, kVideoFramesMax}));
  PX_CHECK_OK(CheckWithin("num_inference_steps", request.steps, {1, kDenoiseStepsMax}));
  if (!(request.guidance_scale >= 0.0 && request.guidance_scale <= 100.0)) {
    return BadRequest("guidance_scale",
                      fmt::format("is {}, must be 0 to 100", request.guidance_scale));
  }

  struct Side {
    std::string_view field;
    std::int32_t value;
    std::int32_t unit;
  };

  for (const Side& side : {Side{"width", request.width, vae.space_scale() * patch.width},
                           Side{"height", request.height, vae.space_scale() * patch.height}}) {
    if (side.value % side.unit != 0) {
      return BadRequest(side.field,
                        fmt::format("is {}, must be a multiple of {}", side.value, side.unit));
    }
  }
  if ((request.frames - 1) % vae.time_scale() != 0) {
    return BadRequest("num_frames", fmt::format("is {}, must be 1 more than a multiple of {}",
                                                request.frames, vae.time_scale()));
  }
  const kernels::Volume latents = LatentVolume(request.shape());
  PX_CHECK_OK(transformer_->CheckLatents(latents, request.shape().guided ? 2 : 1));
  const std::int64_t size = latents.pixels() * vae.z_dim;
  if (!request.latents.empty() && std::ssize(request.latents) != size) {
    return BadRequest("latents",
                      fmt::format("has {} values, must have {}", request.latents.size(), size));
  }
  return {};
}

std::uint64_t DiffusionPipeline::WorkingBytes(const VideoShape& shape, std::size_t requests) const {
  const WanConfig& config = transformer_->config();
  const VaeConfig& vae = vae_->config();
  const kernels::Volume latents = LatentVolume(shape);
  const double lanes = static_cast<double>(requests) * (shape.guided ? 2.0 : 1.0);
  const double tokens = static_cast<double>(latents.pixels() / config.patch.pixels());
  const double key_bytes = bf16_ ? 2.0 : 4.0;
  // Residual rows, what is added to them, queries and what they gathered; then keys and values.
  const double rows = lanes * tokens * config.dim() * (4.0 * sizeof(float) + 2.0 * key_bytes);
  const double text = lanes * prompt_tokens_ * config.dim() * 2.0 * key_bytes * config.layers;
  // Of each level of the decoder: what two convolutions of every block remember, two frames each;
  // and four volumes of a chunk, of which the largest level's count.
  double remembered = 0.0;
  double largest = 0.0;
  double frames = 1.0;
  for (std::size_t level = 0; level < vae.dim_mult.size(); ++level) {
    const std::size_t mirrored = vae.dim_mult.size() - 1 - level;
    const double channels = static_cast<double>(vae.decoder_base_dim) * vae.dim_mult[mirrored];
    const double scale = static_cast<double>(std::int64_t{1} << level);
    const double values =
        static_cast<double>(latents.frame_pixels()) * scale * scale * channels * sizeof(float);
    remembered += values * 2.0 * 2.0 * (vae.res_blocks + 1);
    largest = std::max(largest, values * 4.0 * (frames + 2.0));
    frames *= mirrored > 0 && vae.temporal_downsample[mirrored - 1] ? 2.0 : 1.0;
  }
  const double pictures = static_cast<double>(requests) * shape.frames * shape.width *
                          shape.height * 3.0 * sizeof(float);
  return static_cast<std::uint64_t>(std::max(rows + text, remembered + largest + pictures));
}

Result<std::unique_ptr<DiffusionRun>> DiffusionPipeline::Start(std::vector<VideoRequest> requests,
                                                               const StepCacheOptions& cache) {
  PX_CHECK_OK(CheckWithin("requests", std::ssize(requests), {1, kRequestsTogetherMax}));
  for (const VideoRequest& request : requests) {
    PX_CHECK_OK(Check(request));
    if (request.shape() != requests.front().shape()) {
      return BadRequest("requests", "differ in size, frames, steps or in whether they are guided");
    }
  }
  const VideoShape shape = requests.front().shape();
  const auto lanes = static_cast<std::int32_t>(requests.size() * (shape.guided ? 2 : 1));
  PX_CHECK_OK(transformer_->CheckLatents(LatentVolume(shape), lanes));
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
