// From a picture to the numbers that a vision tower reads: resize, normalise, cut into patches.
//
// Thread: any; pure.
// Layout: a patch is a row of [channel][frame][y][x] values; patches come row by row or, of towers
// that merge, merge block by merge block.
// Source: transformers' image processors of CLIP, SigLIP, Qwen2-VL and LLaVA-OneVision (facts
// only). Resizing is Pillow's (media/resize.h); values are rounded where theirs are, in fp32 after
// a scale in double.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "media/image.h"
#include "media/resize.h"

namespace pixii::media {

inline constexpr double kAspectRatioMax = 200.0;  // of pictures that keep their shape

/// How a picture comes to the size that a tower takes.
enum class Fit : std::uint8_t {
  kExact,  // `size`, whatever the shape
  kCrop,   // the short side to `short_side`, then the centre of `size`
  kSmart,  // sides rounded to whole merge blocks, pixels between two bounds
  kTiles,  // the best of `pinpoints`, padded, cut in tiles of `size`; the whole squeezed comes
           // first
};

struct PatchSpec {
  Fit fit = Fit::kExact;
  ImageSize size;                // of kExact and kCrop the picture's, of kTiles a tile's
  std::uint32_t short_side = 0;  // kCrop
  std::uint64_t pixels_min = 0;  // kSmart
  std::uint64_t pixels_max = 0;
  std::vector<ImageSize> pinpoints;  // kTiles

  Filter filter = Filter::kBicubic;
  double scale = 1.0 / 255.0;  // of a byte, before mean and deviation
  std::array<float, 3> mean = {0.0F, 0.0F, 0.0F};
  std::array<float, 3> deviation = {1.0F, 1.0F, 1.0F};

  std::uint32_t patch_size = 14;     // pixels of a side
  std::uint32_t merge_size = 1;      // patches of a side that are one token
  std::uint32_t frames_per_row = 1;  // a still picture is repeated so often

  friend bool operator==(const PatchSpec&, const PatchSpec&) = default;
};

/// Patches of one item. Tiles are frames.
struct Patches {
  std::uint32_t frames = 0;
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;
  ImageSize source;           // of the picture before it was resized
  std::vector<float> values;  // [frames, rows * cols, 3 * frames_per_row * patch_size^2]
};

/// Sides that are multiples of `factor` and hold pixels_min to pixels_max pixels, of about the same
/// shape. Errors: kInvalidArgument for an empty picture or a ratio past kAspectRatioMax.
Result<ImageSize> SmartSize(ImageSize size, std::uint32_t factor, std::uint64_t pixels_min,
                            std::uint64_t pixels_max);

/// As SmartSize, with bounds for the pixels of all frames of a video, which are brought to a
/// multiple of `frames_per_row`.
Result<ImageSize> SmartFilmSize(ImageSize size, std::uint32_t frames, std::uint32_t frames_per_row,
                                std::uint32_t factor, std::uint64_t pixels_min,
                                std::uint64_t pixels_max);

/// The pinpoint that keeps most of a picture's pixels, of equals the one that wastes least. Pre:
/// there is one.
ImageSize BestPinpoint(ImageSize size, std::span<const ImageSize> pinpoints);

/// What MakePatches would give, by the size alone: frames, rows and cols without values.
Result<Patches> PlanPatches(ImageSize size, const PatchSpec& spec);

/// Errors: kInvalidArgument for a picture that cannot be brought to size; those of Resize.
Result<Patches> MakePatches(const Image& image, const PatchSpec& spec);

/// Frames of one video, of one size, each resized alike; the last one is repeated to fill a row of
/// patches. Pre: fit is kSmart or kExact. Errors: as above; kInvalidArgument where sizes differ or
/// there is no frame.
Result<Patches> MakeVideoPatches(std::span<const Image> frames, const PatchSpec& spec);

}  // namespace pixii::media
