// A tower for the mock executor, and pictures that it takes.
#pragma once

#include <bit>
#include <memory>
#include <string>
#include <utility>

#include "engine/media_encoder.h"
#include "wire/messages/generate.h"

namespace pixii::engine::testing {

inline constexpr TokenId kWord = 63;  // stands for a picture where words are asked for

/// Takes a row of pixels as one token each; the mock reads their tokens from the features.
class FakeEncoder final : public MediaEncoder {
 public:
  /// `mutual`: steps take an item whole, as the mock does not mind.
  explicit FakeEncoder(std::shared_ptr<std::uint32_t> encoded, bool mutual = false)
      : encoded_(std::move(encoded)), mutual_(mutual) {}

  const wire::VisionCard& card() const override { return card_; }

  bool mutual() const override { return mutual_; }

  Result<Shape> Measure(const wire::MediaItem& item) const override {
    if (item.height != 1) {
      return Fail(Code::kInvalidArgument, "the height is not 1", "media");
    }
    return Shape{.tokens = item.width,
                 .grid = {.rows = 1, .cols = static_cast<std::int32_t>(item.width)}};
  }

  Result<model::VisionFeatures> Encode(const wire::MediaItem& item) override {
    ++*encoded_;
    if (item.pixels[0] == 'x') {
      return Fail(Code::kModelFault, "a row is not finite");
    }
    model::VisionFeatures out{.rows = static_cast<std::int32_t>(item.count), .size = 1};
    for (std::uint32_t i = 0; i < item.count; ++i) {
      out.rows_data.push_back(std::bit_cast<float>(wire::MediaToken(item.digest, i)));
    }
    return out;
  }

 private:
  wire::VisionCard card_{.image_token = kWord, .row_size = 1};
  std::shared_ptr<std::uint32_t> encoded_;
  bool mutual_;
};

/// A picture of `count` pixels at `begin` of the prompt.
inline void Show(wire::GenerateRequest& request, std::uint32_t begin, std::uint32_t count,
                 char colour) {
  wire::MediaItem item{.begin = begin,
                       .count = count,
                       .height = 1,
                       .width = count,
                       .pixels = std::string(3 * std::size_t{count}, colour)};
  item.digest = wire::MediaDigest(item);
  request.media.push_back(item);
  wire::PutMediaTokens(request.media, request.prompt);
}

}  // namespace pixii::engine::testing
