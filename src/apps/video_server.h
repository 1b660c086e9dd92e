// `pixii serve` of a model that makes videos and pictures.
//
// Thread: the process' loop.
#pragma once

#include <optional>
#include <string>

#include "apps/model_source.h"
#include "apps/option_structs.h"
#include "base/result.h"

namespace pixii::apps {

/// Where such a model lies; nothing: `model` is none, or cannot be found.
std::optional<ModelSource> VideoModel(const ServeFlags& flags, const std::string& model);

/// Of --video-model. Errors: kNotFound, the hub's; kInvalidArgument if it makes no videos.
Result<ModelSource> VideoModelBeside(const ServeFlags& flags);

/// The exit status. Errors: those of flags, files and the address.
Result<int> ServeVideos(ServeFlags flags, EngineFlags engine, const ModelSource& source);

}  // namespace pixii::apps
