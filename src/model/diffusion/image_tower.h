// The image encoder of a diffusion pipeline: CLIP's vision model up to its last block but one.
//
// Thread: one caller.
// Source: transformers' CLIPVisionModel (hidden_states[-2]) and CLIPImageProcessor, as diffusers'
// WanImageToVideoPipeline uses them.
#pragma once

#include <memory>

#include "base/result.h"
#include "media/image.h"
#include "media/patches.h"
#include "model/checkpoint_folder.h"
#include "model/vision_tower.h"

namespace pixii::model {

struct ImageTower {
  std::unique_ptr<VisionTower> tower;
  media::PatchSpec patches;
};

/// `encoder` holds config.json and weights, `processor` preprocessor_config.json. Errors: those of
/// their files, with their places.
Result<ImageTower> LoadImageTower(const CheckpointFolder& encoder,
                                  const CheckpointFolder& processor, kernels::Operators& operators,
                                  kernels::ComputeType compute);

/// Features of a picture of any size, class token first. Errors: those of resizing and of the
/// tower.
Result<VisionFeatures> RunImageTower(VisionTower& tower, const media::PatchSpec& patches,
                                     const media::Image& image);

}  // namespace pixii::model
