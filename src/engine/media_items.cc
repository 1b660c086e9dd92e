#include "engine/media_items.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

namespace pixii::engine {

namespace {

static_assert(std::endian::native == std::endian::little, "features travel as they lie in memory");

constexpr std::uint32_t kMediaSideMax = 1U << 16U;  // pixels, frames

tl::unexpected<Error> Bad(const std::string& what) {
  return Fail(Code::kInvalidArgument, what, "media");
}

std::vector<float> FloatsOf(const wire::MediaItem& item) {
  std::vector<float> out(item.features.size() / sizeof(float));
  std::memcpy(out.data(), item.features.data(), out.size() * sizeof(float));
  return out;
}

Result<MediaEncoder::Shape> ShapeOfFeatures(const wire::MediaItem& item,
                                            const wire::VisionCard& card) {
  if (!item.pixels.empty()) {
    return Bad("it has pixels and features; one of them says what is seen");
  }
  if (card.row_size == 0) {
    return Fail(Code::kUnsupported, "the model takes no features in place of pixels", "media");
  }
  const std::uint64_t grid = std::uint64_t{item.frames} * item.height * item.width;
  if (item.count > model::kMediaTokensMax || grid != item.count) {
    return Bad(fmt::format("{} x {} x {} tokens are not the {} that it takes, at most {}",
                           item.frames, item.height, item.width, item.count,
                           model::kMediaTokensMax));
  }
  const std::uint64_t wanted = std::uint64_t{item.count} * card.row_size * sizeof(float);
  if (item.features.size() != wanted) {
    return Bad(fmt::format("{} bytes of features are not {} rows of {} floats",
                           item.features.size(), item.count, card.row_size));
  }
  return MediaEncoder::Shape{.tokens = item.count,
                             .grid = {.frames = static_cast<std::int32_t>(item.frames),
                                      .rows = static_cast<std::int32_t>(item.height),
                                      .cols = static_cast<std::int32_t>(item.width)}};
}

Result<void> CheckFeatures(const wire::MediaItem& item, const wire::VisionCard& card,
                           std::size_t index) {
  const std::vector<float> floats = FloatsOf(item);
  const auto bad = std::ranges::find_if(floats, [](float one) { return !std::isfinite(one); });
  if (bad == floats.end()) {
    return {};
  }
  const auto at = static_cast<std::size_t>(bad - floats.begin());
  return Fail(BadItem(index, fmt::format("value {} of row {} of its features is {}",
                                         at % card.row_size, at / card.row_size, *bad)));
}

Result<void> CheckPixels(const wire::MediaItem& item, std::size_t index) {
  const std::uint64_t pixels = std::uint64_t{item.frames} * item.height * item.width;
  if (item.frames == 0 || item.height > kMediaSideMax || item.width > kMediaSideMax ||
      item.frames > kMediaSideMax || item.pixels.size() != 3 * pixels) {
    return Fail(
        BadItem(index, fmt::format("{} bytes are not {} frames of {} x {} pixels",
                                   item.pixels.size(), item.frames, item.width, item.height)));
  }
  return {};
}

// Who was given tokens that are not of these pixels would find another's blocks.
Result<void> CheckDigest(std::span<const TokenId> prompt, const wire::MediaItem& item,
                         std::size_t index) {
  if (item.digest != wire::MediaDigest(item)) {
    return Fail(BadItem(index, "the digest is not that of the pixels"));
  }
  for (std::uint32_t i = 0; i < item.count; ++i) {
    if (prompt[std::size_t{item.begin} + i] != wire::MediaToken(item.digest, i)) {
      return Fail(BadItem(index, fmt::format("token {} of the prompt is not of its digest",
                                             std::size_t{item.begin} + i)));
    }
  }
  return {};
}

}  // namespace

Error BadItem(std::size_t index, std::string_view what) {
  return Error(Code::kInvalidArgument, fmt::format("media[{}]: {}", index, what), "media");
}

Result<MediaEncoder::Shape> ShapeOf(const wire::MediaItem& item, const MediaEncoder& encoder) {
  return item.features.empty() ? encoder.Measure(item) : ShapeOfFeatures(item, encoder.card());
}

Result<std::vector<MediaEncoder::Shape>> CheckMediaItems(std::span<const TokenId> prompt,
                                                         std::span<const wire::MediaItem> media,
                                                         const MediaEncoder& encoder) {
  std::vector<MediaEncoder::Shape> shapes;
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < media.size(); ++i) {
    const wire::MediaItem& item = media[i];
    if (item.begin < end || item.count == 0 ||
        std::uint64_t{item.begin} + item.count > prompt.size()) {
      return Fail(BadItem(
          i, fmt::format("tokens {} to {} are not in the prompt of {}, or another "
                         "item's",
                         item.begin, std::uint64_t{item.begin} + item.count, prompt.size())));
    }
    end = std::uint64_t{item.begin} + item.count;
    if (item.features.empty()) {
      PX_CHECK_OK(CheckPixels(item, i));
    }
    PX_TRY(const MediaEncoder::Shape shape, ShapeOf(item, encoder));
    shapes.push_back(shape);
    if (shape.tokens != item.count) {
      return Fail(
          BadItem(i, fmt::format("it has {} tokens and takes {}", item.count, shape.tokens)));
    }
    if (!item.features.empty()) {
      PX_CHECK_OK(CheckFeatures(item, encoder.card(), i));
    }
    PX_CHECK_OK(CheckDigest(prompt, item, i));
  }
  return shapes;
}

model::VisionFeatures GivenFeatures(const wire::MediaItem& item, const MediaEncoder& encoder) {
  const wire::VisionCard& card = encoder.card();
  const std::int32_t size = static_cast<std::int32_t>(card.row_size / (1 + card.row_levels));
  return model::UnpackFeatures(FloatsOf(item), static_cast<std::int32_t>(item.count), size,
                               static_cast<std::int32_t>(card.row_levels));
}

}  // namespace pixii::engine
