// What an engine asks about pictures and films: a model's tower, or a stand-in of the same shape.
//
// Thread: the engine thread, with no step in flight: a tower computes on the model's own device.
#pragma once

#include <cstdint>

#include "base/ids.h"
#include "base/result.h"
#include "model/sequence_media.h"
#include "wire/messages/media.h"

namespace pixii::engine {

class MediaEncoder {
 public:
  virtual ~MediaEncoder() = default;

  struct Shape {
    std::uint32_t tokens = 0;  // rows that Encode gives
    model::MediaGrid grid;
  };

  /// What `item` takes in a prompt. Errors: kUnsupported for a kind that the tower is not shown,
  /// kInvalidArgument or kTooLarge naming what is wrong with its sizes.
  virtual Result<Shape> Measure(const wire::MediaItem& item) const = 0;

  /// What a frontend has to know. Its tokens are words that stand for items wherever words are
  /// asked for (penalties, drafts, plug-ins).
  virtual const wire::VisionCard& card() const = 0;

  /// The text's attention goes both ways among an item's tokens, so one step computes them.
  virtual bool mutual() const = 0;

  /// Features of an item that Measure took. Errors: kModelFault, kResourceExhausted.
  virtual Result<model::VisionFeatures> Encode(const wire::MediaItem& item) = 0;
};

}  // namespace pixii::engine
