// Text to video: a diffusers folder of Wan, and runs through it that can be stopped at any block.
//
// Thread: one caller for a pipeline and its runs. Runs may take turns: between two calls of
// Advance() any other run of the pipeline may advance, or the run may be dropped (cancelled).
// Numerics: what a request gives depends on its own words, sizes and seed alone: not on the
// requests beside it, on other runs, or on the count of threads. Source: diffusers' WanPipeline
// (order of work, defaults).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/diffusion/flow_scheduler.h"
#include "model/diffusion/step_cache.h"
#include "model/diffusion/tiled_decoder.h"
#include "model/diffusion/umt5_encoder.h"
#include "model/diffusion/wan_transformer.h"
#include "model/diffusion/wan_vae.h"
#include "text/tokenizer/tokenizer.h"

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
  TileOptions tiles = {};  // of the VAE's decoder
  /// What a run may take beside the weights (WorkingBytes); 0: no bound.
  std::uint64_t memory_max_bytes = 0;
};

class DiffusionRun;

class DiffusionPipeline final {
  struct CreateOnly {};

 public:
  /// `operators` outlives the pipeline. Errors: kUnsupported if the backend has no kDiffusion or
  /// the folder holds something else; those of its files, with their places.
  static Result<std::unique_ptr<DiffusionPipeline>> Load(const std::string& folder,
                                                         kernels::Operators& operators,
                                                         const PipelineOptions& options);

  DiffusionPipeline(CreateOnly /*unused*/, kernels::Operators& operators) : operators_(operators) {}

  const VideoDefaults& defaults() const { return defaults_; }

  /// The prompt's ids, with the end token and at most prompt_tokens of them.
  Result<std::vector<std::int32_t>> Tokenize(const std::string& prompt) const;

  /// Errors: kInvalidArgument naming the field, its value and what is allowed; kTooLarge.
  Result<void> Check(const VideoRequest& request) const;

  /// A run of requests of equal shapes side by side. Nothing is computed yet. Errors: those of
  /// Check; kInvalidArgument if the shapes differ or there are none or too many; kTooLarge if they
  /// would take more than memory_max_bytes.
  Result<std::unique_ptr<DiffusionRun>> Start(std::vector<VideoRequest> requests,
                                              const StepCacheOptions& cache = {});

  /// About what a run of so many requests takes at most, its pictures included: rows of the
  /// transformer, keys and values, or the decoder's largest pictures.
  std::uint64_t WorkingBytes(const VideoShape& shape, std::size_t requests) const;

  /// The latents' extents of pictures of these.
  kernels::Volume LatentVolume(const VideoShape& shape) const;

  std::int32_t prompt_tokens() const { return prompt_tokens_; }

  Umt5Encoder& text_encoder() { return *text_encoder_; }

  WanTransformer& transformer() { return *transformer_; }

  WanVae& vae() { return *vae_; }

  const SchedulerConfig& scheduler() const { return scheduler_; }

  const TileOptions& tiles() const { return tiles_; }

 private:
  Result<void> LoadParts(const CheckpointFolder& folder, const PipelineOptions& options);

  kernels::Operators& operators_;
  std::unique_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<Umt5Encoder> text_encoder_;
  std::unique_ptr<WanTransformer> transformer_;
  std::unique_ptr<WanVae> vae_;
  SchedulerConfig scheduler_;
  VideoDefaults defaults_;
  std::int32_t prompt_tokens_ = 512;
  TileOptions tiles_;
  std::uint64_t memory_max_bytes_ = 0;
  bool bf16_ = false;
};

}  // namespace pixii::model
