// How a checkpoint wants its pictures: preprocessor_config.json as values that media/patches.h runs
// by.
//
// Thread: pure functions.
#pragma once

#include <string_view>

#include "base/result.h"
#include "media/patches.h"
#include "model/checkpoint_folder.h"
#include "model/vision_spec.h"

namespace pixii::model {

/// preprocessor_config.json, else the image_processor of processor_config.json. Errors: kNotFound
/// without either; those of ParseVisionProcessor.
Result<media::PatchSpec> LoadVisionProcessor(const CheckpointFolder& folder,
                                             const VisionSpec& spec);

/// Errors: kUnsupported naming key and value of what cannot be done exactly, kInvalidArgument for
/// values out of range or that do not fit the tower.
Result<media::PatchSpec> ParseVisionProcessor(std::string_view text, std::string_view file_name,
                                              const VisionSpec& spec);

}  // namespace pixii::model
