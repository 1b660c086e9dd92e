// Pictures and videos that requests name: from a URL to pixels, fetched by policy and decoded in a
// sandboxed child process.
//
// Thread: the getters are called by threads that may wait.
#pragma once

#include <memory>

#include "apps/option_structs.h"
#include "frontend/model_media.h"
#include "media/url_policy.h"
#include "obs/metrics.h"

namespace pixii::apps {

/// Where a server's pictures may come from. Errors: kInvalidArgument naming the flag that is wrong.
Result<media::SourcePolicy> SourcePolicyOf(const HttpFlags& flags);

/// What came of all that was asked for so far. Threads of requests write it.
class MediaFigures;

struct MediaGetters {
  frontend::ImageGetter images;  // Errors: those of media::Source and DecoderPool
  frontend::FileGetter files;    // Errors: those of media::Source
  frontend::FilmGetter films;    // Errors: those of media::Source and DecoderPool
  /// As `images`, of what is at hand: who calls it waits for no other server.
  frontend::ImageGetter near_images;
  std::shared_ptr<MediaFigures> figures;
};

/// All have the same decoding children, which are kept as long as a copy of one lives that decodes.
MediaGetters MakeMediaGetters(media::SourcePolicy policy);

void Export(const MediaFigures& figures, obs::Registry& registry);

}  // namespace pixii::apps
