// Pictures that requests name: from a URL to pixels, fetched by policy and decoded in a sandboxed
// child process.
//
// Thread: the getter is called by threads that may wait.
#pragma once

#include "apps/option_structs.h"
#include "frontend/model_media.h"
#include "media/url_policy.h"

namespace pixii::apps {

/// Where a server's pictures may come from. Errors: kInvalidArgument naming the flag that is wrong.
Result<media::SourcePolicy> SourcePolicyOf(const HttpFlags& flags);

/// Keeps its children as long as a copy of it lives. Errors of a call: those of media::Source and
/// DecoderPool.
frontend::ImageGetter MakeImageGetter(media::SourcePolicy policy);

}  // namespace pixii::apps
