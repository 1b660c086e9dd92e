#include "frontend/model_media.h"

#include <fmt/format.h>

#include <utility>

#include "frontend/field_error.h"
#include "media/resize.h"

namespace pixii::frontend {

media::PatchSpec PatchSpecOf(const wire::VisionCard& card) {
  media::PatchSpec spec;
  spec.fit = card.fit == wire::MediaFit::kExact   ? media::Fit::kExact
             : card.fit == wire::MediaFit::kCrop  ? media::Fit::kCrop
             : card.fit == wire::MediaFit::kSmart ? media::Fit::kSmart
                                                  : media::Fit::kTiles;
  spec.size = {.width = card.width, .height = card.height};
  spec.short_side = card.short_side;
  spec.pixels_min = card.pixels_min;
  spec.pixels_max = card.pixels_max;
  for (std::size_t i = 0; i + 1 < card.pinpoints.size(); i += 2) {
    spec.pinpoints.push_back({.width = card.pinpoints[i], .height = card.pinpoints[i + 1]});
  }
  spec.filter = card.filter == 0   ? media::Filter::kBilinear
                : card.filter == 1 ? media::Filter::kBicubic
                                   : media::Filter::kLanczos;
  spec.patch_size = card.patch_size;
  spec.merge_size = card.merge_size;
  spec.frames_per_row = card.frames_per_row;
  return spec;
}

std::optional<TokenId> ModelMedia::Placeholder(wire::MediaKind kind) const {
  const TokenId token = kind == wire::MediaKind::kImage ? card_.image_token : card_.video_token;
  return token >= 0 ? std::optional(token) : std::nullopt;
}

// Workers bring a picture to size themselves; one that has it already stays as it is, so large ones
// travel small.
Result<media::Image> ModelMedia::Shrink(media::Image image) const {
  if (spec_.fit != media::Fit::kSmart) {
    return image;
  }
  PX_TRY(const media::ImageSize size,
         media::SmartSize(image.size, spec_.patch_size * spec_.merge_size, spec_.pixels_min,
                          spec_.pixels_max));
  return size.pixel_count() < image.size.pixel_count() ? media::Resize(image, size, spec_.filter)
                                                       : Result<media::Image>(std::move(image));
}

Result<ReadMedia> ModelMedia::Read(const MediaPart& part) const {
  if (part.kind != wire::MediaKind::kImage) {
    return NotDone(part.where, "films are not shown to models here");
  }
  if (card_.fit == wire::MediaFit::kTiles) {
    return NotDone(part.where, "models that cut pictures in tiles are not shown any here");
  }
  const auto read = [&]() -> Result<ReadMedia> {
    PX_TRY(media::Image image, get_(part.url));
    const std::uint64_t decoded = image.size.pixel_count();
    PX_TRY(image, Shrink(std::move(image)));
    PX_TRY(const media::Patches plan, media::PlanPatches(image.size, spec_));
    ReadMedia out{.item = {}, .pixels = decoded};
    wire::MediaItem& item = out.item;
    item.kind = part.kind;
    item.count = plan.frames * (plan.rows * plan.cols / (card_.merge_size * card_.merge_size) +
                                card_.tokens_more);
    item.height = image.size.height;
    item.width = image.size.width;
    item.pixels.assign(image.rgb.begin(), image.rgb.end());
    item.digest = wire::MediaDigest(item);
    return out;
  };
  Result<ReadMedia> out = read();
  if (!out) {
    // A picture that is too large is no context that is: no history that is dropped helps.
    const Code code =
        out.error().code() == Code::kTooLarge ? Code::kInvalidArgument : out.error().code();
    return Fail(code, fmt::format("{}: {}", part.where, out.error().detail()), part.where);
  }
  return out;
}

}  // namespace pixii::frontend
