// What an engine, or a worker that only encodes, asks of the pictures and films of a request.
//
// Thread: pure functions.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "engine/media_encoder.h"
#include "model/sequence_media.h"
#include "wire/messages/media.h"

namespace pixii::engine {

/// What `item` takes in a prompt. Errors: MediaEncoder::Measure's; of features in place of pixels
/// kInvalidArgument naming the count, the size or the value that is wrong.
Result<MediaEncoder::Shape> ShapeOf(const wire::MediaItem& item, const MediaEncoder& encoder);

/// Whether `media` stand in `prompt` one behind the other, by tokens that are of their content, and
/// have the sizes that they say: what each of them takes. Errors: kInvalidArgument and kUnsupported
/// naming the item.
Result<std::vector<MediaEncoder::Shape>> CheckMediaItems(std::span<const TokenId> prompt,
                                                         std::span<const wire::MediaItem> media,
                                                         const MediaEncoder& encoder);

/// Item `index` of a request's is not what it says.
Error BadItem(std::size_t index, std::string_view what);

/// The features that `item` has in place of pixels. Pre: ShapeOf took it.
model::VisionFeatures GivenFeatures(const wire::MediaItem& item, const MediaEncoder& encoder);

}  // namespace pixii::engine
