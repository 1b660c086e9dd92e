#include "model/diffusion/diffusion_checker.h"

#include <fmt/format.h>

#include "model/check_lines.h"
#include "model/diffusion/diffusion_run.h"

namespace pixii::model {

DiffusionChecker::DiffusionChecker(DiffusionPipeline& pipeline, const DiffusionGolden& golden,
                                   const CheckOptions& options)
    : pipeline_(pipeline),
      golden_(golden),
      tolerance_(options.tolerance),
      latents_(pipeline.LatentVolume(golden.request.shape())),
      pictures_{golden.request.frames, golden.request.height, golden.request.width} {}

Extents DiffusionChecker::LatentShape() const {
  return {1, pipeline_.latent_channels(), latents_.frames, latents_.height, latents_.width};
}

void DiffusionChecker::Compare(const std::string& name, std::span<const float> ours,
                               std::span<const float> golden) {
  lines_.push_back(CompareValues(name, ours, golden, tolerance_));
}

Result<void> DiffusionChecker::Compare(const std::string& name, std::span<const float> ours,
                                       const Extents& shape) {
  PX_TRY(const std::vector<float> golden, Golden(name, shape));
  Compare(name, ours, std::span(golden));
  return {};
}

void DiffusionChecker::CompareIds(const std::string& name, std::span<const std::int32_t> ours,
                                  std::span<const std::int32_t> golden) {
  lines_.push_back(CompareIntegers(name, ours, golden));
}

Result<void> DiffusionChecker::ReadStart() {
  PX_TRY(start_, Golden("latents.start", LatentShape()));
  return {};
}

Result<void> DiffusionChecker::CheckSteps(const std::string& name, const Extents& shape) {
  const std::int64_t steps = golden_.request.steps;
  const auto scheduler = pipeline_.NewScheduler(golden_.request.shape());
  PX_CHECK_OK(Compare("pipeline.timesteps", scheduler->timesteps(), {steps}));
  PX_CHECK_OK(Compare("pipeline.sigmas", scheduler->sigmas(), {steps + 1}));
  VideoRequest request = golden_.request;
  request.latents = start_;
  PX_TRY(const auto run, pipeline_.Start({request}));
  PX_CHECK_OK(run->FinishStep());  // the texts, or what the video begins with
  for (std::int64_t step = 0; step < steps; ++step) {
    PX_CHECK_OK(run->FinishStep());
    PX_CHECK_OK(Compare(fmt::format("pipeline.latents.{}", step), run->latents(0), LatentShape()));
  }
  while (!run->done()) {
    PX_CHECK_OK(run->Advance());
  }
  alone_.assign(run->latents(0).begin(), run->latents(0).end());
  return Compare(name, ChannelsApart(run->pictures(0), pictures_, true), shape);
}

Result<void> DiffusionChecker::CheckDecoder(const Extents& shape) {
  std::vector<float> halves = start_;
  for (float& value : halves) {
    value *= 0.5F;
  }
  TiledDecoder decoder(pipeline_.vae(), {}, latents_.height, latents_.width);
  std::vector<float> rgb;
  for (std::int32_t frame = 0; frame < latents_.frames; ++frame) {
    const std::vector<float> latent = LatentFrame(halves, frame);
    PX_TRY(const Pictures decoded, decoder.Decode(latent));
    rgb.insert(rgb.end(), decoded.rgb.begin(), decoded.rgb.end());
  }
  return Compare("vae.decoded", ChannelsApart(rgb, pictures_, false), shape);
}

Result<void> DiffusionChecker::CheckBeside(const VideoRequest& other) {
  VideoRequest request = golden_.request;
  request.latents = start_;
  PX_TRY(const auto run, pipeline_.Start({other, request}));
  while (run->progress().phase != RunProgress::Phase::kDecode) {
    PX_CHECK_OK(run->Advance());
  }
  lines_.push_back(CompareBits("latents beside others", run->latents(1), alone_));
  return {};
}

std::vector<float> DiffusionChecker::LatentFrame(std::span<const float> latents,
                                                 std::int32_t frame) const {
  const auto pixels = static_cast<std::size_t>(latents_.frame_pixels());
  const auto frames = static_cast<std::size_t>(latents_.frames);
  std::vector<float> out;
  for (std::size_t plane = static_cast<std::size_t>(frame); plane * pixels < latents.size();
       plane += frames) {
    const auto from = latents.begin() + static_cast<std::ptrdiff_t>(plane * pixels);
    out.insert(out.end(), from, from + static_cast<std::ptrdiff_t>(pixels));
  }
  return out;
}

}  // namespace pixii::model
