// Golden files of diffusion folders: what was asked, and tensors by name. docs/diffusion.md,
// "Golden files".
//
// Thread: values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/convolution.h"
#include "model/checkpoint.h"
#include "model/diffusion/diffusion_pipeline.h"

namespace pixii::model {

/// Of tensors.
using Extents = std::vector<std::int64_t>;

/// What golden.json says, and golden.safetensors.
struct DiffusionGolden {
  Checkpoint tensors;
  VideoRequest request;
  std::int32_t prompt_tokens = 0;
  float pass_timestep = 0.0F;
};

/// Errors: kNotFound, kDataCorrupt, kInvalidArgument naming file and key.
Result<DiffusionGolden> LoadDiffusionGolden(const CheckpointFolder& folder);

/// Tensor `name`, F32 of `shape`. Errors: kDataCorrupt.
Result<std::vector<float>> GoldenFloats(const Checkpoint& tensors, const std::string& name,
                                        const Extents& shape);

/// Tensor `name`, I64 of [1, count]; count -1: however many there are. Errors: kDataCorrupt.
Result<std::vector<std::int32_t>> GoldenIds(const Checkpoint& tensors, const std::string& name,
                                            std::int64_t count);

/// [frames, height, width, 3] to [3, frames, height, width], or with `frames_first` to [frames, 3,
/// height, width].
std::vector<float> ChannelsApart(std::span<const float> pictures, const kernels::Volume& volume,
                                 bool frames_first);

}  // namespace pixii::model
