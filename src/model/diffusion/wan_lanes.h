// Lanes of a Wan pipeline: texts, and of videos that begin with a picture what the transformer sees
// of it: its features as tokens, and its latents beside the noise.
//
// Thread: as denoise_lanes.h.
// Source: WanImageToVideoPipeline of diffusers: the video encoded is the picture and then grey
// (zeros); a mask of as many channels as a latent stands for frames says which are given.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/diffusion/denoise_lanes.h"
#include "model/diffusion/diffusion_pipeline.h"
#include "model/diffusion/wan_ranks.h"
#include "model/diffusion/wan_vae.h"

namespace pixii::model {

class WanPipeline;

class WanLanes final : public DenoiseLanes {
 public:
  /// `requests` and the pipeline outlive it.
  WanLanes(WanPipeline& pipeline, std::span<const VideoRequest> requests);

  bool ready() const override { return ready_; }

  Result<void> Condition() override;
  Result<void> Begin(std::span<const float> latents, float timestep) override;

  std::int32_t next_block() const override { return pass_.next_block(); }

  Result<void> RunBlock() override;
  Result<void> Finish(std::span<float> velocity) override;

  std::span<const float> time() const override { return pass_.time(); }

  void KeepBegin() override;
  void KeepChange() override;
  void Reuse() override;

  /// [mask and latent channels, volume] of request `index`; empty without pictures.
  std::span<const float> condition(std::size_t index) const;

 private:
  Result<void> EncodeTexts();
  Result<void> EncodePictures();
  Result<void> EncodeFrame();

  std::size_t lane_count() const { return requests_.size() * (guided_ ? 2 : 1); }

  WanPipeline& pipeline_;
  std::span<const VideoRequest> requests_;
  bool guided_;
  kernels::Volume volume_;
  std::size_t latents_size_;  // of one lane
  bool ready_ = false;

  std::unique_ptr<WanRanksText> text_;
  WanRanksPass pass_;

  std::vector<float> conditions_;    // [requests, mask and latent channels, volume]
  std::int32_t frames_encoded_ = 0;  // latent frames of all requests
  VaeStream stream_;                 // of the request at hand
  std::vector<float> seen_;          // [lanes, in channels, volume]
};

}  // namespace pixii::model
