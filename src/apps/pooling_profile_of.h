// How the frontend uses a checkpoint that reads texts.
#pragma once

#include "base/result.h"
#include "frontend/pooling_profile.h"
#include "model/checkpoint_folder.h"
#include "model/language_model.h"

namespace pixii::apps {

/// Of a generator that is no reranker: nothing is read. Errors: those of LoadSentenceConfig.
Result<frontend::PoolingProfile> PoolingProfileOf(const model::CheckpointFolder& folder,
                                                  const model::ModelSpec& spec);

}  // namespace pixii::apps
