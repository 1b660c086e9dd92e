// A checkpoint's tower as an engine asks for it: pixels to patches to features.
//
// Thread: the engine thread, with no step in flight: the tower computes with the model's operators.
// Ranks of attention DP share a tower; StepExecutor::BetweenSteps keeps them apart.
#pragma once

#include <memory>

#include "engine/media_encoder.h"
#include "media/patches.h"
#include "model/video_processor.h"
#include "model/vision_tower.h"

namespace pixii::engine {

class ModelEncoder final : public MediaEncoder {
 public:
  /// `tower`: null where pictures come encoded, by workers that do nothing else; then Encode fails
  /// with kUnavailable. `processor`: how the checkpoint wants its pictures; `videos`: nothing: it
  /// is shown none.
  ModelEncoder(model::VisionSpec spec, std::shared_ptr<model::VisionTower> tower,
               media::PatchSpec processor, std::optional<model::VideoProcessor> videos);

  const wire::VisionCard& card() const override { return card_; }

  bool mutual() const override { return spec_.mutual_rows; }

  Result<Shape> Measure(const wire::MediaItem& item) const override;
  Result<model::VisionFeatures> Encode(const wire::MediaItem& item) override;

 private:
  Result<Shape> MeasureFilm(const wire::MediaItem& item) const;
  Result<model::VisionFeatures> EncodeFilm(const wire::MediaItem& item);

  model::VisionSpec spec_;
  std::shared_ptr<model::VisionTower> tower_;  // null: there is none here
  media::PatchSpec processor_;
  std::optional<model::VideoProcessor> videos_;
  wire::VisionCard card_;
};

}  // namespace pixii::engine
