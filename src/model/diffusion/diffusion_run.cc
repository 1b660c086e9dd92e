#include "model/diffusion/diffusion_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.h"
#include "model/diffusion/noise.h"

namespace pixii::model {
namespace {

using Phase = RunProgress::Phase;

constexpr double kDenoiseShare = 0.9;  // of the work, as far as progress goes

}  // namespace

double RunProgress::fraction() const {
  if (phase == Phase::kDone) {
    return 1.0;
  }
  const double in_step = blocks > 0 ? static_cast<double>(block) / blocks : 0.0;
  const double denoised = steps > 0 ? std::min(1.0, (step + in_step) / steps) : 0.0;
  const double decoded =
      latent_frames > 0 ? static_cast<double>(latent_frames_decoded) / latent_frames : 0.0;
  return kDenoiseShare * denoised + (1.0 - kDenoiseShare) * decoded;
}

DiffusionRun::DiffusionRun(DiffusionPipeline& pipeline, std::vector<VideoRequest> requests,
                           const StepCacheOptions& cache)
    : pipeline_(pipeline),
      requests_(std::move(requests)),
      guided_(pipeline.ShapeOf(requests_.front()).guided),
      latent_volume_(pipeline.LatentVolume(requests_.front().shape())),
      latents_size_(static_cast<std::size_t>(pipeline.latent_channels()) *
                    static_cast<std::size_t>(latent_volume_.pixels())),
      scheduler_(pipeline.NewScheduler(requests_.front().shape())),
      cache_(cache, requests_.front().steps),
      lanes_(pipeline.NewLanes(requests_)),
      pictures_(requests_.size()) {
  progress_.steps = requests_.front().steps;
  progress_.blocks = pipeline.block_count();
  progress_.latent_frames = latent_volume_.frames * static_cast<std::int32_t>(requests_.size());
  latents_.resize(requests_.size() * latents_size_);
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const std::span<float> own = std::span(latents_).subspan(i * latents_size_, latents_size_);
    if (requests_[i].latents.empty()) {
      FillNoise(requests_[i].seed, own);
    } else {
      std::copy(requests_[i].latents.begin(), requests_[i].latents.end(), own.begin());
    }
  }
}

std::span<const float> DiffusionRun::latents(std::size_t index) const {
  return std::span(latents_).subspan(index * latents_size_, latents_size_);
}

std::span<const float> DiffusionRun::pictures(std::size_t index) const { return pictures_[index]; }

Result<void> DiffusionRun::Advance() {
  switch (progress_.phase) {
    case Phase::kText:
      return Condition();
    case Phase::kDenoise:
      if (!in_step_) {
        return BeginStep();
      }
      if (lanes_->next_block() < progress_.blocks) {
        PX_CHECK_OK(lanes_->RunBlock());
        progress_.block = lanes_->next_block();
        return {};
      }
      return EndStep();
    case Phase::kDecode:
      return DecodeFrame();
    case Phase::kDone:
      break;
  }
  PX_ASSERT(false);
}

Result<void> DiffusionRun::FinishStep() {
  const RunProgress before = progress_;
  do {
    PX_CHECK_OK(Advance());
  } while (progress_.phase == before.phase && progress_.step == before.step);
  return {};
}

Result<void> DiffusionRun::Condition() {
  PX_CHECK_OK(lanes_->Condition());
  if (lanes_->ready()) {
    progress_.phase = Phase::kDenoise;
  }
  return {};
}

Result<void> DiffusionRun::BeginStep() {
  seen_.clear();
  for (std::size_t i = 0; i < lane_count() / requests_.size(); ++i) {
    seen_.insert(seen_.end(), latents_.begin(), latents_.end());
  }
  PX_CHECK_OK(
      lanes_->Begin(seen_, scheduler_->timesteps()[static_cast<std::size_t>(progress_.step)]));
  in_step_ = true;
  if (!cache_.on()) {
    return {};
  }
  if (cache_.Reuses(progress_.step, lanes_->time())) {
    lanes_->Reuse();
    ++progress_.steps_reused;
  } else {
    lanes_->KeepBegin();
  }
  return {};
}

Result<void> DiffusionRun::EndStep() {
  const bool computed = progress_.block == progress_.blocks;
  if (cache_.on() && computed) {
    lanes_->KeepChange();
  }
  velocity_.resize(seen_.size());
  PX_CHECK_OK(lanes_->Finish(velocity_));
  const std::span<float> velocity = std::span(velocity_).first(latents_.size());
  for (std::size_t i = 0; guided_ && i < velocity.size(); ++i) {
    const auto scale = static_cast<float>(requests_[i / latents_size_].guidance_scale);
    const float without = velocity_[latents_.size() + i];
    velocity[i] = without + scale * (velocity[i] - without);
  }
  scheduler_->Step(velocity, latents_);
  if (!std::all_of(latents_.begin(), latents_.end(), [](float x) { return std::isfinite(x); })) {
    return Fail(Code::kModelFault, fmt::format("step {} of {} gave values that are not finite",
                                               progress_.step + 1, progress_.steps));
  }
  in_step_ = false;
  progress_.block = 0;
  ++progress_.step;
  if (progress_.step == progress_.steps) {
    progress_.phase = Phase::kDecode;
    lanes_.reset();
  }
  return {};
}

Result<void> DiffusionRun::DecodeFrame() {
  PictureVae& vae = pipeline_.vae();
  const std::int32_t index = progress_.latent_frames_decoded / latent_volume_.frames;
  const std::int32_t frame = progress_.latent_frames_decoded % latent_volume_.frames;
  if (frame == 0) {
    decoder_.emplace(vae, pipeline_.tiles(), latent_volume_.height, latent_volume_.width);
  }
  const auto pixels = static_cast<std::size_t>(latent_volume_.frame_pixels());
  const auto frames = static_cast<std::size_t>(latent_volume_.frames);
  const auto channels = static_cast<std::size_t>(vae.latent_channels());
  const std::span<const float> own = latents(static_cast<std::size_t>(index));
  std::vector<float> latent(channels * pixels);
  for (std::size_t channel = 0; channel < channels; ++channel) {
    std::copy_n(own.data() + (channel * frames + static_cast<std::size_t>(frame)) * pixels, pixels,
                latent.data() + channel * pixels);
  }
  vae.Denormalize(latent);
  PX_TRY(const Pictures decoded, decoder_->Decode(latent));
  std::vector<float>& pictures = pictures_[static_cast<std::size_t>(index)];
  for (const float value : decoded.rgb) {
    pictures.push_back(std::clamp(value * 0.5F + 0.5F, 0.0F, 1.0F));
  }
  if (++progress_.latent_frames_decoded == progress_.latent_frames) {
    progress_.phase = Phase::kDone;
    decoder_.reset();
  }
  return {};
}

}  // namespace pixii::model
