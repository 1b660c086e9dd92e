// Wan 2.1: video from words (WanPipeline), or from words and the picture it begins with
// (WanImageToVideoPipeline).
//
// Thread: as diffusion_pipeline.h. Source: diffusers' pipelines of these names (order of work,
// defaults, what the picture becomes).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "media/patches.h"
#include "model/diffusion/diffusion_pipeline.h"
#include "model/diffusion/umt5_encoder.h"
#include "model/diffusion/wan_ranks.h"
#include "model/diffusion/wan_vae.h"
#include "model/vision_tower.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::model {

inline constexpr char kWanTextClass[] = "WanPipeline";
inline constexpr char kWanImageClass[] = "WanImageToVideoPipeline";

class PipelineIndex;

class WanPipeline final : public DiffusionPipeline {
  struct CreateOnly {};

 public:
  /// Errors: as DiffusionPipeline::Load.
  static Result<std::unique_ptr<WanPipeline>> Load(const std::string& folder,
                                                   kernels::Operators& operators,
                                                   const PipelineOptions& options);

  WanPipeline(CreateOnly /*unused*/, kernels::Operators& operators)
      : DiffusionPipeline(operators) {}

  PictureUnits units() const override;

  bool takes_image() const override { return takes_image_; }

  kernels::Volume LatentVolume(const VideoShape& shape) const override;

  /// Rows of the transformer, keys and values, or the decoder's largest pictures.
  std::uint64_t WorkingBytes(const VideoShape& shape, std::size_t requests) const override;

  std::int32_t block_count() const override { return ranks_->first().config().layers; }

  std::int32_t latent_channels() const override { return vae_->config().z_dim; }

  std::unique_ptr<FlowScheduler> NewScheduler(const VideoShape& shape) const override;
  std::unique_ptr<DenoiseLanes> NewLanes(std::span<const VideoRequest> requests) override;

  WanVae& vae() override { return *vae_; }

  /// The prompt's ids, with the end token and at most prompt_tokens of them.
  Result<std::vector<std::int32_t>> Tokenize(const std::string& prompt) const;

  /// A picture's features, [rows, image_dim of the transformer]. Pre: has_image_encoder().
  Result<VisionFeatures> EncodeImage(const media::Image& image);

  bool has_image_encoder() const { return image_encoder_ != nullptr; }

  Umt5Encoder& text_encoder() { return *text_encoder_; }

  /// Of one rank: the whole one's config, and all of it where there are no others.
  WanTransformer& transformer() { return ranks_->first(); }

  WanRanks& ranks() { return *ranks_; }

 private:
  bool guides_by_lanes() const override { return true; }

  Result<void> CheckLatents(const kernels::Volume& latents, std::int32_t lanes) const override {
    return ranks_->first().CheckLatents(latents, lanes);
  }

  Result<void> CheckFields(const VideoRequest& /*request*/) const override { return {}; }

  Result<void> LoadParts(const CheckpointFolder& folder, const PipelineOptions& options);
  Result<void> LoadImageEncoder(const CheckpointFolder& folder, const PipelineOptions& options);
  Result<void> CheckFit(const CheckpointFolder& folder) const;

  bool takes_image_ = false;
  std::unique_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<Umt5Encoder> text_encoder_;
  std::unique_ptr<WanRanks> ranks_;
  std::unique_ptr<WanVae> vae_;
  std::unique_ptr<VisionTower> image_encoder_;  // of pipelines from pictures; may be null
  media::PatchSpec image_patches_;
};

}  // namespace pixii::model
