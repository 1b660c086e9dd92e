// The pictures of a served model: from a URL to the pixels that its workers are sent, and how many
// tokens they take.
//
// Thread: immutable, shared by threads; Read waits.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "frontend/media_reader.h"
#include "media/image.h"
#include "media/patches.h"

namespace pixii::frontend {

/// Gets and decodes what a client names. Errors: of fetching and of decoding, without a param.
using ImageGetter = std::function<Result<media::Image>(const std::string& url)>;

/// How the tower behind `card` resizes; numbers that only a tower needs are left out.
media::PatchSpec PatchSpecOf(const wire::VisionCard& card);

class ModelMedia final : public MediaReader {
 public:
  ModelMedia(wire::VisionCard card, ImageGetter get)
      : card_(std::move(card)), spec_(PatchSpecOf(card_)), get_(std::move(get)) {}

  std::optional<TokenId> Placeholder(wire::MediaKind kind) const override;
  Result<ReadMedia> Read(const MediaPart& part) const override;

 private:
  Result<media::Image> Shrink(media::Image image) const;

  wire::VisionCard card_;
  media::PatchSpec spec_;
  ImageGetter get_;
};

}  // namespace pixii::frontend
