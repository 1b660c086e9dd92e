#include "model/diffusion/wan_pipeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "model/diffusion/image_tower.h"
#include "model/diffusion/pipeline_index.h"
#include "model/diffusion/prompt_text.h"
#include "model/diffusion/wan_lanes.h"
#include "model/diffusion/weight_reader.h"

namespace pixii::model {
namespace {

Result<void> CheckIndex(const PipelineIndex& index) {
  constexpr PipelineIndex::Part kParts[] = {{"text_encoder", "UMT5EncoderModel"},
                                            {"transformer", "WanTransformer3DModel"},
                                            {"vae", "AutoencoderKLWan"},
                                            {"transformer_2", ""}};
  PX_CHECK_OK(index.Require(kParts));
  PX_TRY(const bool expand, index.reader().Bool("expand_timesteps", false));
  if (expand) {
    return index.reader().Unsupported("expand_timesteps", "must be false");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<WanPipeline>> WanPipeline::Load(const std::string& path,
                                                       kernels::Operators& operators,
                                                       const PipelineOptions& options) {
  PX_CHECK_OK(CheckDiffusionBackend(path, operators));
  PX_TRY(const CheckpointFolder folder, CheckpointFolder::Open(path));
  PX_TRY(const PipelineIndex index, PipelineIndex::Read(folder));
  PX_CHECK_OK(CheckIndex(index));
  auto pipeline = std::make_unique<WanPipeline>(CreateOnly{}, operators);
  pipeline->takes_image_ = index.class_name() == kWanImageClass;
  PX_CHECK_OK(pipeline->TakeOptions(folder, options));
  if (pipeline->takes_image_ && !index.PartClass("image_encoder").empty()) {
    constexpr PipelineIndex::Part kEncoder[] = {{"image_encoder", "CLIPVisionModel"}};
    PX_CHECK_OK(index.Require(kEncoder));
    PX_CHECK_OK(pipeline->LoadImageEncoder(folder, options));
  }
  PX_CHECK_OK(pipeline->LoadParts(folder, options));
  PX_CHECK_OK(pipeline->CheckFit(folder));
  return pipeline;
}

Result<void> WanPipeline::LoadParts(const CheckpointFolder& folder,
                                    const PipelineOptions& options) {
  PX_TRY(LoraMerger loras, LoraMerger::Open(options.loras));
  PX_TRY(const CheckpointFolder scheduler, folder.Subfolder("scheduler"));
  PX_TRY(const wire::Json scheduler_json, ReadPartConfig(scheduler, "scheduler_config.json"));
  PX_TRY(scheduler_,
         ParseSchedulerConfig(scheduler_json, scheduler.path() + "/scheduler_config.json"));
  if (scheduler_.dynamic) {
    return ConfigReader(scheduler_json, scheduler.path() + "/scheduler_config.json")
        .Unsupported("use_dynamic_shifting", "must be false");
  }
  PX_TRY(const CheckpointFolder tokenizer, folder.Subfolder("tokenizer"));
  PX_TRY(const std::string text,
         tokenizer.ReadText("tokenizer.json", text::kTokenizerJsonBytesMax));
  PX_TRY(tokenizer_, text::Tokenizer::FromJson(text, tokenizer.path() + "/tokenizer.json"));
  PX_TRY(const CheckpointFolder encoder, folder.Subfolder("text_encoder"));
  PX_TRY(text_encoder_, Umt5Encoder::Load(encoder, operators_, options.compute, &loras));
  PX_TRY(const CheckpointFolder transformer, folder.Subfolder("transformer"));
  PX_TRY(ranks_, WanRanks::Create(operators_, options.ranks,
                                  [&](kernels::Operators& operators, const WanPlace& place) {
                                    return WanTransformer::Load(transformer, operators,
                                                                options.compute, place, &loras);
                                  }));
  PX_TRY(const CheckpointFolder vae, folder.Subfolder("vae"));
  PX_TRY(vae_, WanVae::Load(vae, operators_, kernels::ComputeType::kF32));
  return loras.CheckAllUsed();
}

Result<void> WanPipeline::LoadImageEncoder(const CheckpointFolder& folder,
                                           const PipelineOptions& options) {
  PX_TRY(const CheckpointFolder encoder, folder.Subfolder("image_encoder"));
  PX_TRY(const CheckpointFolder processor, folder.Subfolder("image_processor"));
  PX_TRY(ImageTower tower, LoadImageTower(encoder, processor, operators_, options.compute));
  image_encoder_ = std::move(tower.tower);
  image_patches_ = tower.patches;
  return {};
}

/// Whether the parts fit each other.
Result<void> WanPipeline::CheckFit(const CheckpointFolder& folder) const {
  const WanConfig& config = ranks_->first().config();
  if (config.text_dim != text_encoder_->config().d_model) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: the transformer wants text of {} features, the text encoder gives "
                            "{}",
                            folder.path(), config.text_dim, text_encoder_->config().d_model));
  }
  const std::int32_t z = vae_->config().z_dim;
  // Beside the noise the picture's latents, and for each of a latent's frames whether it is given.
  const std::int32_t wanted = takes_image_ ? 2 * z + vae_->config().time_scale() : z;
  if (config.in_channels != wanted || config.out_channels != z) {
    return Fail(Code::kUnsupported,
                fmt::format("{}: the transformer takes {} and gives {} channels of latents; with a "
                            "VAE of {} this pipeline takes {} and gives {}",
                            folder.path(), config.in_channels, config.out_channels, z, wanted, z));
  }
  const std::int32_t features = has_image_encoder() ? image_encoder_->spec().hidden_size : 0;
  if (config.image_dim != features) {
    return Fail(Code::kDataCorrupt,
                fmt::format("{}: the transformer wants pictures of {} features, the image encoder "
                            "gives {}",
                            folder.path(), config.image_dim, features),
                "image_dim");
  }
  return {};
}

Result<std::vector<std::int32_t>> WanPipeline::Tokenize(const std::string& prompt) const {
  PX_TRY(const text::TypedTokens tokens,
         tokenizer_->Join(CleanPrompt(prompt), std::nullopt,
                          {.tokens_max = static_cast<std::size_t>(prompt_tokens_)}));
  return std::vector<std::int32_t>(tokens.ids.begin(), tokens.ids.end());
}

Result<VisionFeatures> WanPipeline::EncodeImage(const media::Image& image) {
  PX_ASSERT(has_image_encoder());
  return RunImageTower(*image_encoder_, image_patches_, image);
}

PictureUnits WanPipeline::units() const {
  const VaeConfig& vae = vae_->config();
  const kernels::Volume& patch = ranks_->first().config().patch;
  return {.width = vae.space_scale() * patch.width,
          .height = vae.space_scale() * patch.height,
          .frames = vae.time_scale()};
}

kernels::Volume WanPipeline::LatentVolume(const VideoShape& shape) const {
  const VaeConfig& vae = vae_->config();
  return {.frames = (shape.frames - 1) / vae.time_scale() + 1,
          .height = shape.height / vae.space_scale(),
          .width = shape.width / vae.space_scale()};
}

std::unique_ptr<FlowScheduler> WanPipeline::NewScheduler(const VideoShape& shape) const {
  return MakeScheduler(scheduler_, shape.steps);
}

std::unique_ptr<DenoiseLanes> WanPipeline::NewLanes(std::span<const VideoRequest> requests) {
  return std::make_unique<WanLanes>(*this, requests);
}

std::uint64_t WanPipeline::WorkingBytes(const VideoShape& shape, std::size_t requests) const {
  const WanConfig& config = ranks_->first().config();
  const VaeConfig& vae = vae_->config();
  const kernels::Volume latents = LatentVolume(shape);
  const double lanes = static_cast<double>(requests) * (shape.guided ? 2.0 : 1.0);
  const double tokens = static_cast<double>(latents.pixels() / config.patch.pixels());
  const double key_bytes = bf16_ ? 2.0 : 4.0;
  // Residual rows, what is added to them, queries and what they gathered; then keys and values.
  // Ranks that swap tokens for heads keep queries, keys and values on both sides and on the way.
  const double swapped = ranks_->sequence_count() > 1 ? 10.0 * sizeof(float) : 0.0;
  const double rows =
      lanes * tokens * config.dim() * (4.0 * sizeof(float) + 2.0 * key_bytes + swapped);
  const double text = lanes * prompt_tokens_ * config.dim() * 2.0 * key_bytes * config.layers *
                      ranks_->sequence_count();
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

}  // namespace pixii::model
