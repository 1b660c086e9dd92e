// A loaded tower as an engine asks for it: pixels to patches to features.
//
// Thread: the engine thread, with no step in flight (it shares the model's operators).
#pragma once

#include <memory>

#include "engine/media_encoder.h"
#include "media/patches.h"
#include "model/vision_tower.h"

namespace pixii::engine {

class ModelEncoder final : public MediaEncoder {
 public:
  /// `processor`: how the checkpoint wants its pictures. `has_axes`: of the text's positions.
  ModelEncoder(std::unique_ptr<model::VisionTower> tower, media::PatchSpec processor,
               bool has_axes);

  const wire::VisionCard& card() const override { return card_; }

  bool has_axes() const override { return has_axes_; }

  Result<Shape> Measure(const wire::MediaItem& item) const override;
  Result<model::VisionFeatures> Encode(const wire::MediaItem& item) override;

 private:
  std::unique_ptr<model::VisionTower> tower_;
  media::PatchSpec processor_;
  bool has_axes_;
  wire::VisionCard card_;
};

}  // namespace pixii::engine
