// FLUX.1: pictures from words (FluxPipeline).
//
// Thread: as diffusion_pipeline.h. Source: diffusers' FluxPipeline (order of work, defaults): rows
// of text are T5's, padding included; one vector is CLIP's; guidance is told to the transformer, so
// that there are no lanes without the prompt.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/diffusion/clip_text_encoder.h"
#include "model/diffusion/diffusion_pipeline.h"
#include "model/diffusion/flux_transformer.h"
#include "model/diffusion/kl_vae.h"
#include "model/diffusion/umt5_encoder.h"
#include "text/tokenizer/tokenizer.h"

namespace pixii::model {

inline constexpr char kFluxClass[] = "FluxPipeline";

class FluxPipeline final : public DiffusionPipeline {
  struct CreateOnly {};

 public:
  /// Errors: as DiffusionPipeline::Load.
  static Result<std::unique_ptr<FluxPipeline>> Load(const std::string& folder,
                                                    kernels::Operators& operators,
                                                    const PipelineOptions& options);

  FluxPipeline(CreateOnly /*unused*/, kernels::Operators& operators)
      : DiffusionPipeline(operators) {}

  PictureUnits units() const override;

  bool takes_image() const override { return false; }

  kernels::Volume LatentVolume(const VideoShape& shape) const override;
  std::uint64_t WorkingBytes(const VideoShape& shape, std::size_t requests) const override;

  std::int32_t block_count() const override { return transformer_->block_count(); }

  std::int32_t latent_channels() const override { return vae_->latent_channels(); }

  std::unique_ptr<FlowScheduler> NewScheduler(const VideoShape& shape) const override;
  std::unique_ptr<DenoiseLanes> NewLanes(std::span<const VideoRequest> requests) override;

  KlVae& vae() override { return *vae_; }

  /// Ids for T5: the end token, then padding up to prompt_tokens.
  Result<std::vector<std::int32_t>> TokenizeRows(const std::string& prompt) const;
  /// Ids for CLIP.
  Result<std::vector<std::int32_t>> TokenizePooled(const std::string& prompt) const;

  Umt5Encoder& text_encoder() { return *text_encoder_; }

  ClipTextEncoder& pooled_encoder() { return *pooled_encoder_; }

  FluxTransformer& transformer() { return *transformer_; }

 private:
  bool guides_by_lanes() const override { return false; }

  Result<void> CheckLatents(const kernels::Volume& latents, std::int32_t lanes) const override {
    return transformer_->CheckLatents(latents, lanes, prompt_tokens_);
  }

  Result<void> CheckFields(const VideoRequest& request) const override;
  Result<void> LoadParts(const CheckpointFolder& folder, const PipelineOptions& options);
  Result<void> CheckFit(const CheckpointFolder& folder) const;

  std::unique_ptr<const text::Tokenizer> tokenizer_;         // T5's
  std::unique_ptr<const text::Tokenizer> pooled_tokenizer_;  // CLIP's
  std::unique_ptr<Umt5Encoder> text_encoder_;
  std::unique_ptr<ClipTextEncoder> pooled_encoder_;
  std::unique_ptr<FluxTransformer> transformer_;
  std::unique_ptr<KlVae> vae_;
};

}  // namespace pixii::model
