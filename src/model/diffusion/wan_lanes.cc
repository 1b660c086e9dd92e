#include "model/diffusion/wan_lanes.h"

#include <algorithm>

#include "base/assert.h"
#include "media/resize.h"
#include "model/diffusion/wan_pipeline.h"

namespace pixii::model {

WanLanes::WanLanes(WanPipeline& pipeline, std::span<const VideoRequest> requests)
    : pipeline_(pipeline),
      requests_(requests),
      guided_(pipeline.ShapeOf(requests.front()).guided),
      volume_(pipeline.LatentVolume(requests.front().shape())),
      latents_size_(static_cast<std::size_t>(pipeline.latent_channels()) *
                    static_cast<std::size_t>(volume_.pixels())) {}

Result<void> WanLanes::Condition() {
  if (text_ == nullptr) {
    PX_CHECK_OK(EncodeTexts());
    ready_ = !pipeline_.takes_image();
    return {};
  }
  if (conditions_.empty()) {
    return EncodePictures();
  }
  return EncodeFrame();
}

Result<void> WanLanes::EncodeTexts() {
  const auto tokens = static_cast<std::size_t>(pipeline_.prompt_tokens());
  const auto dim = static_cast<std::size_t>(pipeline_.text_encoder().config().d_model);
  std::vector<float> rows(lane_count() * tokens * dim);  // zeros behind a text's end
  for (std::size_t lane = 0; lane < lane_count(); ++lane) {
    const VideoRequest& request = requests_[lane % requests_.size()];
    const bool with_prompt = lane < requests_.size();
    PX_TRY(const std::vector<std::int32_t> ids,
           pipeline_.Tokenize(with_prompt ? request.prompt : request.negative_prompt));
    PX_TRY(const std::vector<float> hidden, pipeline_.text_encoder().Encode(ids));
    std::copy(hidden.begin(), hidden.end(),
              rows.begin() + static_cast<std::ptrdiff_t>(lane * tokens * dim));
  }
  const auto lanes = static_cast<std::int32_t>(lane_count());
  PX_TRY(WanRanksText text, pipeline_.ranks().MakeText(rows, lanes, pipeline_.prompt_tokens()));
  text_ = std::make_unique<WanRanksText>(std::move(text));
  pipeline_.ranks().Prepare(volume_, lanes, pass_);
  return {};
}

/// The pictures' features as tokens, and room for their latents with the masks filled in.
Result<void> WanLanes::EncodePictures() {
  if (pipeline_.has_image_encoder()) {
    std::vector<float> rows;
    std::int32_t tokens = 0;
    for (const VideoRequest& request : requests_) {
      PX_TRY(const VisionFeatures features, pipeline_.EncodeImage(*request.image));
      rows.insert(rows.end(), features.rows_data.begin(), features.rows_data.end());
      tokens = features.rows;
    }
    if (guided_) {
      const std::vector<float> once = rows;
      rows.insert(rows.end(), once.begin(), once.end());
    }
    PX_CHECK_OK(pipeline_.ranks().AddPictures(rows, static_cast<std::int32_t>(lane_count()), tokens,
                                              *text_));
  }
  const auto mask_channels = static_cast<std::size_t>(pipeline_.vae().config().time_scale());
  const auto pixels = static_cast<std::size_t>(volume_.pixels());
  const std::size_t own = mask_channels * pixels + latents_size_;
  conditions_.resize(requests_.size() * own);
  for (std::size_t plane = 0; plane < requests_.size() * mask_channels; ++plane) {
    const std::size_t at = plane / mask_channels * own + plane % mask_channels * pixels;
    std::fill_n(conditions_.begin() + static_cast<std::ptrdiff_t>(at), volume_.frame_pixels(),
                1.0F);
  }
  return {};
}

/// The next latent frame of the picture followed by nothing.
Result<void> WanLanes::EncodeFrame() {
  WanVae& vae = pipeline_.vae();
  const auto index = static_cast<std::size_t>(frames_encoded_ / volume_.frames);
  const std::int32_t frame = frames_encoded_ % volume_.frames;
  const VideoRequest& request = requests_[index];
  const kernels::Volume chunk = {frame == 0 ? 1 : vae.config().time_scale(), request.height,
                                 request.width};
  std::vector<float> rows(static_cast<std::size_t>(chunk.pixels() * 3));
  if (frame == 0) {
    stream_ = vae.NewStream();
    PX_TRY(const media::Image image, media::Resize(*request.image,
                                                   {static_cast<std::uint32_t>(request.width),
                                                    static_cast<std::uint32_t>(request.height)},
                                                   media::Filter::kLanczos));
    std::transform(image.rgb.begin(), image.rgb.end(), rows.begin(), [](std::uint8_t byte) {
      return 2.0F * (static_cast<float>(byte) / 255.0F) - 1.0F;
    });
  }
  PX_TRY(std::vector<float> mean, vae.Encode(stream_, rows, chunk));
  vae.Normalize(mean);
  const auto frames = static_cast<std::size_t>(volume_.frames);
  const auto pixels = static_cast<std::size_t>(volume_.frame_pixels());
  const std::size_t mask_size =
      static_cast<std::size_t>(vae.config().time_scale()) * frames * pixels;
  float* own = conditions_.data() + index * (mask_size + latents_size_) + mask_size;
  for (std::size_t channel = 0; channel * pixels < mean.size(); ++channel) {
    std::copy_n(mean.data() + channel * pixels, pixels,
                own + (channel * frames + static_cast<std::size_t>(frame)) * pixels);
  }
  ++frames_encoded_;
  ready_ = static_cast<std::size_t>(frames_encoded_) == frames * requests_.size();
  if (ready_) {
    stream_ = VaeStream();
  }
  return {};
}

std::span<const float> WanLanes::condition(std::size_t index) const {
  const std::size_t own = conditions_.size() / requests_.size();
  return std::span(conditions_).subspan(index * own, own);
}

Result<void> WanLanes::Begin(std::span<const float> latents, float timestep) {
  const std::vector<float> timesteps(lane_count(), timestep);
  if (conditions_.empty()) {
    return pipeline_.ranks().Begin(latents, timesteps, pass_);
  }
  seen_.clear();
  for (std::size_t lane = 0; lane < lane_count(); ++lane) {
    const std::span<const float> noisy = latents.subspan(lane * latents_size_, latents_size_);
    const std::span<const float> given = condition(lane % requests_.size());
    seen_.insert(seen_.end(), noisy.begin(), noisy.end());
    seen_.insert(seen_.end(), given.begin(), given.end());
  }
  return pipeline_.ranks().Begin(seen_, timesteps, pass_);
}

Result<void> WanLanes::RunBlock() { return pipeline_.ranks().RunBlock(*text_, pass_); }

Result<void> WanLanes::Finish(std::span<float> velocity) {
  return pipeline_.ranks().Finish(pass_, velocity);
}

void WanLanes::KeepBegin() {
  for (WanPass& pass : pass_.ranks) {
    pass.KeepBegin();
  }
}

void WanLanes::KeepChange() {
  for (WanPass& pass : pass_.ranks) {
    pass.KeepChange();
  }
}

void WanLanes::Reuse() {
  for (WanPass& pass : pass_.ranks) {
    pass.Reuse(pipeline_.block_count());
  }
}

}  // namespace pixii::model
