#include "engine/model_encoder.h"

#include <algorithm>
#include <utility>

#include "model/vision_layout.h"

namespace pixii::engine {

namespace {

wire::MediaFit FitOf(media::Fit fit) {
  switch (fit) {
    case media::Fit::kExact:
      return wire::MediaFit::kExact;
    case media::Fit::kCrop:
      return wire::MediaFit::kCrop;
    case media::Fit::kSmart:
      return wire::MediaFit::kSmart;
    case media::Fit::kTiles:
      break;
  }
  return wire::MediaFit::kTiles;
}

wire::VisionCard MakeCard(const model::VisionSpec& spec, const media::PatchSpec& processor) {
  wire::VisionCard card{.image_token = spec.tokens.image,
                        .fit = FitOf(processor.fit),
                        .width = processor.size.width,
                        .height = processor.size.height,
                        .short_side = processor.short_side,
                        .pixels_min = processor.pixels_min,
                        .pixels_max = processor.pixels_max,
                        .filter = static_cast<std::uint32_t>(processor.filter),
                        .patch_size = processor.patch_size,
                        .merge_size = processor.merge_size,
                        .frames_per_row = processor.frames_per_row,
                        .tokens_more = spec.has_class_token() && !spec.drop_first ? 1U : 0U,
                        .tiles_max = static_cast<std::uint32_t>(spec.tiles.tiles_max)};
  for (const media::ImageSize& size : processor.pinpoints) {
    card.pinpoints.push_back(size.width);
    card.pinpoints.push_back(size.height);
  }
  return card;
}

media::ImageSize SizeOf(const wire::MediaItem& item) {
  return {.width = item.width, .height = item.height};
}

model::PatchGrid GridOf(const media::Patches& patches) {
  return {.frames = static_cast<std::int32_t>(patches.frames),
          .rows = static_cast<std::int32_t>(patches.rows),
          .cols = static_cast<std::int32_t>(patches.cols)};
}

}  // namespace

ModelEncoder::ModelEncoder(std::unique_ptr<model::VisionTower> tower, media::PatchSpec processor,
                           bool has_axes)
    : tower_(std::move(tower)),
      processor_(std::move(processor)),
      has_axes_(has_axes),
      card_(MakeCard(tower_->spec(), processor_)) {}

Result<MediaEncoder::Shape> ModelEncoder::Measure(const wire::MediaItem& item) const {
  if (item.kind != wire::MediaKind::kImage || item.frames != 1) {
    return Fail(Code::kUnsupported, "the model is shown pictures, not films", "media");
  }
  PX_TRY(const media::Patches plan, media::PlanPatches(SizeOf(item), processor_));
  const model::PatchGrid grid = GridOf(plan);
  PX_CHECK_OK(model::CheckGrid(tower_->spec(), grid));
  return Shape{
      .tokens = static_cast<std::uint32_t>(model::TokenCount(tower_->spec(), grid, SizeOf(item))),
      .grid = tower_->spec().media_grid(grid)};
}

Result<model::VisionFeatures> ModelEncoder::Encode(const wire::MediaItem& item) {
  media::Image image{.size = SizeOf(item), .rgb = {}};
  image.rgb.assign(item.pixels.begin(), item.pixels.end());
  PX_TRY(const media::Patches patches, media::MakePatches(image, processor_));
  return tower_->Encode(
      {.grid = GridOf(patches), .patches = patches.values, .source = SizeOf(item)});
}

}  // namespace pixii::engine
