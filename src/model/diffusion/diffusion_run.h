// One run of a diffusion pipeline: the texts, the steps block by block, the pictures. Whoever
// drives it may stop after any piece, let others run, or drop it.
//
// Thread: one caller, that of its pipeline, which outlives it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/diffusion/denoise_lanes.h"
#include "model/diffusion/diffusion_pipeline.h"
#include "model/diffusion/step_cache.h"

namespace pixii::model {

/// How far a run is.
struct RunProgress {
  enum class Phase : std::uint8_t { kText, kDenoise, kDecode, kDone };

  Phase phase = Phase::kText;
  std::int32_t step = 0;  // steps done
  std::int32_t steps = 0;
  std::int32_t block = 0;  // of the step at hand
  std::int32_t blocks = 0;
  std::int32_t steps_reused = 0;           // whose blocks did not run
  std::int32_t latent_frames_decoded = 0;  // of all requests together
  std::int32_t latent_frames = 0;

  /// 0 to 1: steps are nine tenths of it, pictures the rest.
  double fraction() const;
};

class DiffusionRun final {
 public:
  /// Made by DiffusionPipeline::Start.
  DiffusionRun(DiffusionPipeline& pipeline, std::vector<VideoRequest> requests,
               const StepCacheOptions& cache);

  /// Does the next piece of work: the texts (or what a video begins with), a block of the
  /// transformer, the end of a step, or a latent frame's pictures. Pre: progress().phase is not
  /// kDone. Errors: kModelFault where values are no longer finite; kResourceExhausted; the text
  /// encoder's. The run is over after an error.
  Result<void> Advance();

  /// Advances to the end of the phase or step at hand.
  Result<void> FinishStep();

  const RunProgress& progress() const { return progress_; }

  bool done() const { return progress_.phase == RunProgress::Phase::kDone; }

  /// Of request `index` [channels, latent frames, height, width], as far as the steps are.
  std::span<const float> latents(std::size_t index) const;

  /// Pictures of request `index` so far: [frames, height, width, 3] in 0 .. 1.
  std::span<const float> pictures(std::size_t index) const;

  std::span<const VideoRequest> requests() const { return requests_; }

 private:
  Result<void> Condition();
  Result<void> BeginStep();
  Result<void> EndStep();
  Result<void> DecodeFrame();

  std::size_t lane_count() const { return requests_.size() * (guided_ ? 2 : 1); }

  DiffusionPipeline& pipeline_;
  std::vector<VideoRequest> requests_;
  bool guided_;
  kernels::Volume latent_volume_;
  std::size_t latents_size_;  // of one request
  std::unique_ptr<FlowScheduler> scheduler_;
  StepCache cache_;
  RunProgress progress_;

  std::unique_ptr<DenoiseLanes> lanes_;  // until the steps are done
  bool in_step_ = false;
  std::vector<float> latents_;           // [requests, latents]
  std::vector<float> seen_;              // [lanes, latents]: with each prompt, then without it
  std::vector<float> velocity_;          // likewise
  std::optional<TiledDecoder> decoder_;  // of the request at hand
  std::vector<std::vector<float>> pictures_;
};

}  // namespace pixii::model
