// What the golden files of every diffusion family have in common, and what is compared with it.
//
// Thread: one caller. Golden form: docs/diffusion.md, "Golden files".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/operators.h"
#include "model/check.h"
#include "model/diffusion/diffusion_golden.h"
#include "model/diffusion/diffusion_pipeline.h"

namespace pixii::model {

class DiffusionChecker {
 public:
  DiffusionChecker(const DiffusionChecker&) = delete;
  DiffusionChecker& operator=(const DiffusionChecker&) = delete;

 protected:
  /// Both outlive it.
  DiffusionChecker(DiffusionPipeline& pipeline, const DiffusionGolden& golden,
                   const CheckOptions& options);
  ~DiffusionChecker() = default;

  const DiffusionGolden& golden() const { return golden_; }

  const kernels::Volume& latents() const { return latents_; }

  const kernels::Volume& pictures() const { return pictures_; }

  /// Of the latents; ReadStart comes first.
  std::span<const float> start() const { return start_; }

  Extents LatentShape() const;

  Result<std::vector<float>> Golden(const std::string& name, const Extents& shape) const {
    return GoldenFloats(golden_.tensors, name, shape);
  }

  void Compare(const std::string& name, std::span<const float> ours, std::span<const float> golden);
  Result<void> Compare(const std::string& name, std::span<const float> ours, const Extents& shape);
  void CompareIds(const std::string& name, std::span<const std::int32_t> ours,
                  std::span<const std::int32_t> golden);

  Result<void> ReadStart();

  /// Noise levels, the latents after each step, and the pictures, which are tensor `name` of
  /// `shape` with frames before channels.
  Result<void> CheckSteps(const std::string& name, const Extents& shape);

  /// Half of the first latents, decoded as they are; `shape` has channels before frames.
  Result<void> CheckDecoder(const Extents& shape);

  /// The golden request after `other`, in one run. CheckSteps comes first.
  Result<void> CheckBeside(const VideoRequest& other);

  /// [channels, height, width] of one frame.
  std::vector<float> LatentFrame(std::span<const float> latents, std::int32_t frame) const;

  std::vector<CheckLine> TakeLines() { return std::move(lines_); }

 private:
  DiffusionPipeline& pipeline_;
  const DiffusionGolden& golden_;
  double tolerance_;
  kernels::Volume latents_;
  kernels::Volume pictures_;
  std::vector<float> start_;
  std::vector<float> alone_;  // the golden request's last latents
  std::vector<CheckLine> lines_;
};

/// A report of what `Checker` says of the folder's `Pipeline`, loaded in fp32.
template <class Pipeline, class Checker>
Result<CheckReport> CheckPipeline(const std::string& folder, const DiffusionGolden& golden,
                                  kernels::Operators& operators, const CheckOptions& options) {
  PX_TRY(const auto pipeline, Pipeline::Load(folder, operators,
                                             {.compute = kernels::ComputeType::kF32,
                                              .prompt_tokens = golden.prompt_tokens}));
  PX_CHECK_OK(pipeline->Check(golden.request));
  CheckReport report{.folder = folder, .operators = std::string(operators.name()), .lines = {}};
  Checker checker(*pipeline, golden, options);
  PX_TRY(report.lines, checker.Run());
  return report;
}

}  // namespace pixii::model
