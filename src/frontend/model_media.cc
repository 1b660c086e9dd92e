#include "frontend/model_media.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "frontend/field_error.h"
#include "frontend/media_features.h"
#include "media/film/film_sampling.h"
#include "media/resize.h"
#include "media/tiles.h"

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
  spec.filter = card.filter == wire::MediaFilter::kBilinear  ? media::Filter::kBilinear
                : card.filter == wire::MediaFilter::kBicubic ? media::Filter::kBicubic
                                                             : media::Filter::kLanczos;
  spec.patch_size = card.patch_size;
  spec.merge_size = card.merge_size;
  spec.frames_per_row = card.frames_per_row;
  return spec;
}

namespace {

/// As model::TokenCount, by the card alone.
std::uint32_t TokenCount(const wire::VisionCard& card, const media::PatchSpec& spec,
                         const media::Patches& plan) {
  if (spec.fit == media::Fit::kTiles) {
    const media::TileShape shape{.pinpoints = spec.pinpoints,
                                 .tile_size = spec.size.width,
                                 .patch_size = spec.patch_size,
                                 .tiles_max = card.tiles_max};
    return static_cast<std::uint32_t>(media::PlanTiles(shape, plan.source).tokens());
  }
  return plan.frames *
         (plan.rows * plan.cols / (card.merge_size * card.merge_size) + card.tokens_more);
}

}  // namespace

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

Result<ReadMedia> ModelMedia::ReadImage(const std::string& url) const {
  PX_TRY(media::Image image, get_(url));
  const std::uint64_t decoded = image.size.pixel_count();
  PX_TRY(image, Shrink(std::move(image)));
  PX_TRY(const media::Patches plan, media::PlanPatches(image.size, spec_));
  ReadMedia out{.item = {}, .pixels = decoded};
  wire::MediaItem& item = out.item;
  item.kind = wire::MediaKind::kImage;
  item.count = TokenCount(card_, spec_, plan);
  item.height = image.size.height;
  item.width = image.size.width;
  item.pixels.assign(image.rgb.begin(), image.rgb.end());
  item.digest = wire::MediaDigest(item);
  return out;
}

// A value counts as a pixel: what both cost is memory.
Result<ReadMedia> ModelMedia::ReadFile(const std::string& url) const {
  PX_TRY(const std::string file, get_file_(url));
  PX_TRY(wire::MediaItem item, ReadFeatures(file, url.starts_with("data:") ? "" : url, card_));
  const std::uint64_t values = item.features.size() / sizeof(float);
  return ReadMedia{.item = std::move(item), .pixels = values};
}

namespace {

/// When the frames [begin, end) of a plan are shown, as the reference writes it: the mean of the
/// first and the last one's time, the last frame being repeated to fill the row.
std::string TimeText(const ShownFilm& film, std::size_t begin, std::size_t end) {
  const double fps = film.info.frames_per_second();
  const auto& frames = film.plan.frames;
  const double first = frames[begin] / fps;
  const double last = frames[std::min(end, frames.size()) - 1] / fps;
  return fmt::format("<{:.1f} seconds>", (first + last) / 2.0);
}

/// Frames [begin, end) of `film`.
wire::MediaItem ItemOf(const ShownFilm& film, std::size_t begin, std::size_t end,
                       const wire::VisionCard& card) {
  const media::ImageSize size = film.plan.resizing.size;
  const std::size_t frame_bytes = size.pixel_count() * media::kImageChannels;
  const std::uint32_t block = card.patch_size * card.merge_size;
  const auto frames = static_cast<std::uint32_t>(end - begin);
  wire::MediaItem item{.kind = wire::MediaKind::kVideo, .frames = frames};
  item.count =
      ((frames - 1) / card.frames_per_row + 1) * (size.height / block) * (size.width / block);
  item.height = size.height;
  item.width = size.width;
  const auto* pixels = reinterpret_cast<const char*>(film.rgb.data());
  item.pixels.assign(pixels + begin * frame_bytes, pixels + end * frame_bytes);
  return item;
}

}  // namespace

Result<FilmPlan> PlanFilm(const media::FilmInfo& info, const wire::VisionCard& card,
                          const wire::FilmCard& film) {
  const media::Sampling sampling{
      .frames_per_second = film.frames_per_second,
      .frames = film.frames,
      .frames_min = film.frames_min,
      .frames_max = film.frames_max,
      .multiple = card.frames_per_row,
      .spacing = film.with_ends ? media::Spacing::kEnds : media::Spacing::kFromFirst};
  FilmPlan out;
  PX_TRY(out.frames, media::SampleFrames(info, sampling));
  out.resizing.filter = PatchSpecOf(card).filter;
  const std::uint32_t block = card.patch_size * card.merge_size;
  if (!film.bounds_all_frames) {
    PX_TRY(out.resizing.size, media::SmartSize(info.size, block, film.pixels_min, film.pixels_max));
    return out;
  }
  const std::uint64_t count = out.frames.size();
  std::uint64_t pixels_max = film.pixels_max;
  if (film.shares_bounds) {
    constexpr std::uint64_t kBlocksMax = 768;  // of a frame
    constexpr double kAboveLeast = 1.05;
    pixels_max =
        std::max(std::min(kBlocksMax * block * block, pixels_max / count),
                 static_cast<std::uint64_t>(static_cast<double>(film.pixels_min) * kAboveLeast)) *
        count;
  }
  PX_TRY(out.resizing.size,
         media::SmartFilmSize(info.size, static_cast<std::uint32_t>(count), card.frames_per_row,
                              block, film.pixels_min, pixels_max));
  return out;
}

Result<ReadMedia> ModelMedia::ReadFilm(const std::string& url) const {
  const wire::FilmCard& card = *card_.film;
  PX_TRY(const ShownFilm film,
         get_film_(url, [&](const media::FilmInfo& info) { return PlanFilm(info, card_, card); }));
  const std::size_t count = film.plan.frames.size();
  ReadMedia out{.item = {}, .pixels = film.plan.resizing.size.pixel_count() * count};
  if (!card.timed) {
    out.item = ItemOf(film, 0, count, card_);
    // As long as the frames that were taken are apart on the mean.
    out.item.seconds_per_frame = static_cast<float>(
        film.info.frames / film.info.frames_per_second() / static_cast<double>(count));
    out.item.digest = wire::MediaDigest(out.item);
    return out;
  }
  out.start_mark = card.start_token;
  out.end_mark = card.end_token;
  for (std::size_t begin = 0; begin < count; begin += card_.frames_per_row) {
    const std::size_t end = std::min<std::size_t>(begin + card_.frames_per_row, count);
    wire::MediaItem item = ItemOf(film, begin, end, card_);
    item.digest = wire::MediaDigest(item);
    out.rows.push_back({.words = TimeText(film, begin, end), .item = std::move(item)});
  }
  return out;
}

Result<ReadMedia> ModelMedia::Read(const MediaPart& part) const {
  const bool film = part.kind == wire::MediaKind::kVideo;
  if (film && (!card_.film || !get_film_)) {
    return NotDone(part.where, "this model is shown no videos");
  }
  if (part.is_features && !get_file_) {
    return NotDone(part.where, "embeddings are not taken here");
  }
  Result<ReadMedia> out = film               ? ReadFilm(part.url)
                          : part.is_features ? ReadFile(part.url)
                                             : ReadImage(part.url);
  if (!out) {
    // A picture that is too large is no context that is: no history that is dropped helps.
    const Code code =
        out.error().code() == Code::kTooLarge ? Code::kInvalidArgument : out.error().code();
    return Fail(code, fmt::format("{}: {}", part.where, out.error().detail()), part.where);
  }
  return out;
}

}  // namespace pixii::frontend
