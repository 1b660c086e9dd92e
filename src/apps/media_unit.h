// What a server that makes videos and pictures is told by flags: the model, where files go, limits.
//
// Thread: the process' loop.
#pragma once

#include <memory>
#include <string>

#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "base/result.h"
#include "frontend/media_maker.h"
#include "frontend/media_service.h"
#include "frontend/model_media.h"
#include "kernels/compute_turns.h"
#include "obs/log.h"
#include "rt/loop.h"

namespace pixii::apps {

/// `loop` and `log` outlive them. Errors: kInvalidArgument naming the flag.
Result<frontend::MediaServiceOptions> MediaOptionsOf(const MediaFlags& flags, rt::Loop& loop,
                                                     obs::Log& log);

/// Loads the pipeline: takes long. `get_image`: of pictures to begin with, on the thread of all
/// jobs. `turns`: of VideoMaker. Errors: those of the folder and of adapters.
Result<std::unique_ptr<frontend::MediaMaker>> LoadMediaMaker(
    rt::Loop& loop, obs::Log& log, const MediaFlags& flags, frontend::ImageGetter get_image,
    const EngineFlags& engine, const ModelSource& source, kernels::ComputeTurns* turns);

}  // namespace pixii::apps
