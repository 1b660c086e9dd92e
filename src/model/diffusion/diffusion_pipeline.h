// Pictures and video from words: a diffusers folder, and runs through it that can be stopped at any
// block. What families differ in is said by virtual functions; wan_pipeline.h and flux_pipeline.h
// have them.
//
// Thread: one caller for a pipeline and its runs. Runs may take turns: between two calls of
// Advance() any other run of the pipeline may advance, or the run may be dropped (cancelled).
// Numerics: what a request gives depends on its own words, sizes and seed alone: not on the
// requests beside it, on other runs, or on the count of threads. Source: diffusers' pipelines
// (order of work, defaults).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "media/image.h"
#include "model/checkpoint_folder.h"
#include "model/diffusion/denoise_lanes.h"
#include "model/diffusion/flow_scheduler.h"
#include "model/diffusion/lora_merger.h"
#include "model/diffusion/picture_vae.h"
#include "model/diffusion/step_cache.h"
#include "model/diffusion/tiled_decoder.h"
#include "model/diffusion/wan_ranks.h"

namespace pixii::model {

inline constexpr std::int32_t kVideoSideMax = 8192;  // pixels
inline constexpr std::int32_t kVideoFramesMax = 4096;
inline constexpr std::int32_t kRequestsTogetherMax = 64;

/// What a request has in common with those it may be computed beside.
struct VideoShape {
  std::int32_t width = 832;
  std::int32_t height = 480;
  std::int32_t frames = 81;
  std::int32_t steps = 50;
  bool guided = true;  // guidance_scale above 1: each step is computed with and without the prompt

  bool operator==(const VideoShape&) const = default;
};

struct VideoRequest {
  std::string prompt;
  std::string negative_prompt;
  std::int32_t width = 832;
  std::int32_t height = 480;
  std::int32_t frames = 81;
  std::int32_t steps = 50;
  double guidance_scale = 5.0;
  std::uint64_t seed = 0;
  /// [channels, frames, height, width] of latents to begin with; empty: noise by `seed`.
  std::vector<float> latents = {};
  /// What the video begins with, of any size; of pipelines that make videos of pictures alone.
  std::shared_ptr<const media::Image> image = nullptr;

  VideoShape shape() const { return {width, height, frames, steps, guidance_scale > 1.0}; }
};

/// What a folder's generation_config.json says of requests that say nothing: a model trained at
/// other sizes brings its own.
struct VideoDefaults {
  VideoRequest request;
  double frames_per_second = 16.0;
};

struct PipelineOptions {
  kernels::ComputeType compute = kernels::ComputeType::kF32;  // of text encoder and transformer
  /// Rows of text that the transformer sees; 0: the folder's, or 512.
  std::int32_t prompt_tokens = 0;
  TileOptions tiles = {};            // of the VAE's decoder
  std::vector<LoraFile> loras = {};  // merged into the weights, one after the other
  /// What a run may take beside the weights (WorkingBytes); 0: no bound.
  std::uint64_t memory_max_bytes = 0;
  WanRankOptions ranks = {};  // that hold the transformer together; of Wan alone
};

/// What requests' sizes are multiples of.
struct PictureUnits {
  std::int32_t width = 16;   // pixels
  std::int32_t height = 16;  // pixels
  /// Frames are 1 more than a multiple of it; 0: one alone, the model makes pictures.
  std::int32_t frames = 4;
};

class DiffusionRun;

class DiffusionPipeline {
 public:
  /// `operators` outlives the pipeline. Errors: kUnsupported if the backend has no kDiffusion or
  /// the folder holds something else; those of its files, with their places.
  static Result<std::unique_ptr<DiffusionPipeline>> Load(const std::string& folder,
                                                         kernels::Operators& operators,
                                                         const PipelineOptions& options);

  virtual ~DiffusionPipeline() = default;

  const VideoDefaults& defaults() const { return defaults_; }

  /// What the request has in common with others; guided only where lanes without the prompt guide.
  VideoShape ShapeOf(const VideoRequest& request) const;

  /// Errors: kInvalidArgument naming the field, its value and what is allowed; kTooLarge.
  Result<void> Check(const VideoRequest& request) const;

  /// A run of requests of equal shapes side by side. Nothing is computed yet. Errors: those of
  /// Check; kInvalidArgument if the shapes differ or there are none or too many; kTooLarge if they
  /// would take more than memory_max_bytes.
  Result<std::unique_ptr<DiffusionRun>> Start(std::vector<VideoRequest> requests,
                                              const StepCacheOptions& cache = {});

  std::int32_t prompt_tokens() const { return prompt_tokens_; }

  const SchedulerConfig& scheduler() const { return scheduler_; }

  const TileOptions& tiles() const { return tiles_; }

  // What families differ in.

  virtual PictureUnits units() const = 0;

  /// Whether videos begin with a picture that requests bring: all of them, or none.
  virtual bool takes_image() const = 0;

  /// The latents' extents of pictures of these.
  virtual kernels::Volume LatentVolume(const VideoShape& shape) const = 0;

  /// About what a run of so many requests takes at most, its pictures included.
  virtual std::uint64_t WorkingBytes(const VideoShape& shape, std::size_t requests) const = 0;

  virtual std::int32_t block_count() const = 0;

  virtual std::int32_t latent_channels() const = 0;

  virtual std::unique_ptr<FlowScheduler> NewScheduler(const VideoShape& shape) const = 0;

  /// Lanes of these requests, of which nothing is computed yet. Pre: Check passed; shapes are
  /// equal.
  virtual std::unique_ptr<DenoiseLanes> NewLanes(std::span<const VideoRequest> requests) = 0;

  virtual PictureVae& vae() = 0;

 protected:
  explicit DiffusionPipeline(kernels::Operators& operators) : operators_(operators) {}

  /// Takes the options and what the folder says of requests that say nothing; defaults_ and
  /// prompt_tokens_ are the family's before.
  Result<void> TakeOptions(const CheckpointFolder& folder, const PipelineOptions& options);

  /// Whether guidance is by lanes without the prompt.
  virtual bool guides_by_lanes() const = 0;

  /// Whether the transformer takes so many lanes of latents. Errors: kInvalidArgument, kTooLarge.
  virtual Result<void> CheckLatents(const kernels::Volume& latents, std::int32_t lanes) const = 0;

  /// Checks of fields that the family does not have.
  virtual Result<void> CheckFields(const VideoRequest& request) const = 0;

  kernels::Operators& operators_;
  SchedulerConfig scheduler_;
  VideoDefaults defaults_;
  std::int32_t prompt_tokens_ = 512;
  TileOptions tiles_;
  std::uint64_t memory_max_bytes_ = 0;
  bool bf16_ = false;
};

/// Refuses backends that diffusion is not built for. Errors: kUnsupported.
Result<void> CheckDiffusionBackend(const std::string& folder, const kernels::Operators& operators);

/// kInvalidArgument: "FIELD WHAT".
tl::unexpected<Error> BadVideoRequest(std::string_view field, std::string what);

}  // namespace pixii::model
