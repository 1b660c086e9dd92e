#include "media/patches.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace pixii::media {
namespace {

tl::unexpected<Error> Bad(std::string what) {
  return Fail(Code::kInvalidArgument, std::move(what), "image");
}

/// What a byte of each channel becomes.
using Levels = std::array<std::array<float, 256>, kImageChannels>;

Levels MakeLevels(const PatchSpec& spec) {
  Levels out;
  for (std::size_t channel = 0; channel < kImageChannels; ++channel) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const auto scaled = static_cast<float>(static_cast<double>(byte) * spec.scale);
      out[channel][byte] = (scaled - spec.mean[channel]) / spec.deviation[channel];
    }
  }
  return out;
}

/// Appends the patches of frames that make one row of patches together.
void CutPatches(std::span<const Image* const> frames, const PatchSpec& spec, const Levels& levels,
                std::vector<float>& out) {
  const std::uint32_t patch = spec.patch_size;
  const std::uint32_t block = patch * spec.merge_size;
  const ImageSize size = frames[0]->size;
  const auto cut = [&](std::uint32_t top, std::uint32_t left) {
    for (std::size_t channel = 0; channel < kImageChannels; ++channel) {
      for (const Image* frame : frames) {
        for (std::uint32_t y = top; y < top + patch; ++y) {
          const std::uint8_t* pixel = frame->row(y) + left * kImageChannels + channel;
          for (std::uint32_t x = 0; x < patch; ++x, pixel += kImageChannels) {
            out.push_back(levels[channel][*pixel]);
          }
        }
      }
    }
  };
  for (std::uint32_t top = 0; top + block <= size.height; top += block) {
    for (std::uint32_t left = 0; left + block <= size.width; left += block) {
      for (std::uint32_t i = 0; i < spec.merge_size * spec.merge_size; ++i) {
        cut(top + i / spec.merge_size * patch, left + i % spec.merge_size * patch);
      }
    }
  }
}

/// A picture of `size` from (x, y) of `image` on; black where there is none.
Image Window(const Image& image, std::int64_t x, std::int64_t y, ImageSize size) {
  Image out;
  out.size = size;
  out.rgb.resize(size.pixel_count() * kImageChannels);
  const std::int64_t begin = std::max<std::int64_t>(x, 0);
  const std::int64_t end = std::min<std::int64_t>(x + size.width, image.size.width);
  for (std::uint32_t row = 0; row < size.height && begin < end; ++row) {
    const std::int64_t from = y + row;
    if (from >= 0 && from < image.size.height) {
      std::copy_n(image.row(static_cast<std::uint32_t>(from)) +
                      begin * static_cast<std::int64_t>(kImageChannels),
                  (end - begin) * static_cast<std::int64_t>(kImageChannels),
                  out.row(row) + (begin - x) * static_cast<std::int64_t>(kImageChannels));
    }
  }
  return out;
}

/// The size that keeps the shape and lies inside `frame`, touching two of its sides.
ImageSize Inside(ImageSize size, ImageSize frame) {
  const double by_width = static_cast<double>(frame.width) / size.width;
  const double by_height = static_cast<double>(frame.height) / size.height;
  const auto scaled = [](std::uint32_t side, double factor, std::uint32_t most) {
    return std::min(static_cast<std::uint32_t>(std::ceil(side * factor)), most);
  };
  if (by_width < by_height) {
    return {frame.width, scaled(size.height, by_width, frame.height)};
  }
  return {scaled(size.width, by_height, frame.width), frame.height};
}

/// The short side to `short_side`, the long one by the same factor, rounded down.
ImageSize ByShortSide(ImageSize size, std::uint32_t short_side) {
  const auto longer = [&](std::uint32_t side, std::uint32_t shorter) {
    return static_cast<std::uint32_t>(std::uint64_t{short_side} * side / shorter);
  };
  return size.width <= size.height ? ImageSize{short_side, longer(size.height, size.width)}
                                   : ImageSize{longer(size.width, size.height), short_side};
}

Result<void> CheckSize(ImageSize size) {
  if (size.width == 0 || size.height == 0) {
    return Bad(fmt::format("a picture of {} x {} pixels is empty", size.width, size.height));
  }
  return {};
}

/// The frames that the tower sees of one picture.
Result<std::vector<Image>> FitImage(const Image& image, const PatchSpec& spec) {
  std::vector<Image> out;
  switch (spec.fit) {
    case Fit::kExact: {
      PX_TRY(Image resized, Resize(image, spec.size, spec.filter));
      out.push_back(std::move(resized));
      return out;
    }
    case Fit::kCrop: {
      PX_TRY(const Image resized,
             Resize(image, ByShortSide(image.size, spec.short_side), spec.filter));
      const auto margin = [](std::uint32_t whole, std::uint32_t part) {
        return (std::int64_t{whole} - part) >> 1;  // rounds down, below zero too
      };
      out.push_back(Window(resized, margin(resized.size.width, spec.size.width),
                           margin(resized.size.height, spec.size.height), spec.size));
      return out;
    }
    case Fit::kSmart: {
      PX_TRY(const ImageSize size, SmartSize(image.size, spec.patch_size * spec.merge_size,
                                             spec.pixels_min, spec.pixels_max));
      PX_TRY(Image resized, Resize(image, size, spec.filter));
      out.push_back(std::move(resized));
      return out;
    }
    case Fit::kTiles: {
      PX_TRY(Image whole, Resize(image, spec.size, spec.filter));
      out.push_back(std::move(whole));
      const ImageSize best = BestPinpoint(image.size, spec.pinpoints);
      const ImageSize inside = Inside(image.size, best);
      PX_TRY(const Image resized, Resize(image, inside, spec.filter));
      const std::int64_t left = (best.width - inside.width) / 2;
      const std::int64_t top = (best.height - inside.height) / 2;
      for (std::uint32_t y = 0; y < best.height; y += spec.size.height) {
        for (std::uint32_t x = 0; x < best.width; x += spec.size.width) {
          out.push_back(Window(resized, x - left, y - top, spec.size));
        }
      }
      return out;
    }
  }
  return Bad("no such fit");
}

}  // namespace

namespace {

// `volume`: frames that share the bounds, as they are and rounded to rows of patches.
struct Volume {
  double frames = 1.0;
  double rounded = 1.0;
};

Result<ImageSize> FitBounds(ImageSize source, double height, double width, const Volume& volume,
                            std::uint32_t factor, std::uint64_t pixels_min,
                            std::uint64_t pixels_max) {
  const double ratio = std::max(height, width) / std::min(height, width);
  if (!(ratio <= kAspectRatioMax)) {
    return Bad(fmt::format("a picture of {} x {} pixels has a ratio above {}", source.width,
                           source.height, kAspectRatioMax));
  }
  const auto most = static_cast<double>(pixels_max);
  const auto least = static_cast<double>(pixels_min);
  // nearbyint takes the even one of two equally near, as the reference does.
  double rows = std::nearbyint(height / factor) * factor;
  double cols = std::nearbyint(width / factor) * factor;
  if (volume.rounded * rows * cols > most) {
    const double shrink = std::sqrt(volume.frames * height * width / most);
    rows = std::max<double>(factor, std::floor(height / shrink / factor) * factor);
    cols = std::max<double>(factor, std::floor(width / shrink / factor) * factor);
  } else if (volume.rounded * rows * cols < least) {
    const double grow = std::sqrt(least / (volume.frames * height * width));
    rows = std::ceil(height * grow / factor) * factor;
    cols = std::ceil(width * grow / factor) * factor;
  }
  if (rows < factor || cols < factor || rows > kResizeSideMax || cols > kResizeSideMax) {
    return Bad(fmt::format("a picture of {} x {} pixels cannot be brought to {} to {} pixels",
                           source.width, source.height, pixels_min, pixels_max));
  }
  return ImageSize{static_cast<std::uint32_t>(cols), static_cast<std::uint32_t>(rows)};
}

}  // namespace

Result<ImageSize> SmartSize(ImageSize size, std::uint32_t factor, std::uint64_t pixels_min,
                            std::uint64_t pixels_max) {
  PX_CHECK_OK(CheckSize(size));
  return FitBounds(size, size.height, size.width, {}, factor, pixels_min, pixels_max);
}

Result<ImageSize> SmartFilmSize(ImageSize size, std::uint32_t frames, std::uint32_t frames_per_row,
                                std::uint32_t factor, std::uint64_t pixels_min,
                                std::uint64_t pixels_max) {
  PX_CHECK_OK(CheckSize(size));
  double height = size.height;
  double width = size.width;
  if (height < factor || width < factor) {
    const double grow = std::max(factor / height, factor / width);
    height = std::floor(height * grow);
    width = std::floor(width * grow);
  }
  // One frame is repeated to fill a row.
  const double count = std::max(frames, frames_per_row);
  const Volume volume{.frames = count,
                      .rounded = std::nearbyint(count / frames_per_row) * frames_per_row};
  return FitBounds(size, height, width, volume, factor, pixels_min, pixels_max);
}

ImageSize BestPinpoint(ImageSize size, std::span<const ImageSize> pinpoints) {
  ImageSize best = pinpoints.front();
  std::uint64_t best_used = 0;
  std::uint64_t best_waste = 0;
  for (const ImageSize& point : pinpoints) {
    const double factor = std::min(static_cast<double>(point.width) / size.width,
                                   static_cast<double>(point.height) / size.height);
    const auto width = static_cast<std::uint64_t>(size.width * factor);
    const auto height = static_cast<std::uint64_t>(size.height * factor);
    const std::uint64_t used = std::min(width * height, size.pixel_count());
    const std::uint64_t waste = point.pixel_count() - used;
    if (used > best_used || (used == best_used && waste < best_waste)) {
      best = point;
      best_used = used;
      best_waste = waste;
    }
  }
  return best;
}

Result<Patches> PlanPatches(ImageSize size, const PatchSpec& spec) {
  PX_CHECK_OK(CheckSize(size));
  Patches out;
  out.frames = 1;
  out.source = size;
  ImageSize fitted = spec.size;
  if (spec.fit == Fit::kSmart) {
    PX_TRY(fitted,
           SmartSize(size, spec.patch_size * spec.merge_size, spec.pixels_min, spec.pixels_max));
  } else if (spec.fit == Fit::kTiles) {
    const ImageSize best = BestPinpoint(size, spec.pinpoints);
    out.frames += best.width / spec.size.width * (best.height / spec.size.height);
  }
  out.rows = fitted.height / spec.patch_size;
  out.cols = fitted.width / spec.patch_size;
  return out;
}

Result<Patches> MakePatches(const Image& image, const PatchSpec& spec) {
  PX_TRY(Patches out, PlanPatches(image.size, spec));
  PX_TRY(const std::vector<Image> frames, FitImage(image, spec));
  const Levels levels = MakeLevels(spec);
  const std::size_t row =
      kImageChannels * std::size_t{spec.frames_per_row} * spec.patch_size * spec.patch_size;
  out.values.reserve(std::size_t{out.frames} * out.rows * out.cols * row);
  for (const Image& frame : frames) {
    const std::vector<const Image*> same(spec.frames_per_row, &frame);
    CutPatches(same, spec, levels, out.values);
  }
  return out;
}

Result<Patches> MakeVideoPatches(std::span<const Image> frames, const PatchSpec& spec) {
  if (frames.empty()) {
    return Bad("a video has no frames");
  }
  PX_TRY(Patches out, PlanPatches(frames[0].size, spec));
  std::vector<Image> fitted;
  for (const Image& frame : frames) {
    if (frame.size != frames[0].size) {
      return Bad("the frames of a video differ in size");
    }
    PX_TRY(std::vector<Image> one, FitImage(frame, spec));
    fitted.push_back(std::move(one[0]));
  }
  const std::size_t count = spec.frames_per_row;
  const Levels levels = MakeLevels(spec);
  out.frames = 0;
  for (std::size_t begin = 0; begin < fitted.size(); begin += count, ++out.frames) {
    std::vector<const Image*> together;
    for (std::size_t i = 0; i < count; ++i) {
      together.push_back(&fitted[std::min(begin + i, fitted.size() - 1)]);
    }
    CutPatches(together, spec, levels, out.values);
  }
  return out;
}

}  // namespace pixii::media
