// Frames of videos as models get them: RGB, all of one size.
//
// Decodes in this process: for what is trusted, for tests, and for the child that decodes in a
// sandbox (media/decoder_pool.h). One thread decodes; from key frame to key frame only what a frame
// that is asked for needs.
//
// Thread: any; pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"
#include "media/decode.h"
#include "media/film/film_info.h"

namespace pixii::media {

struct FilmDecodeOptions {
  std::span<const std::uint32_t> frames = {};  // which of those that are shown, ascending
  std::optional<Resizing> resize = {};
  FilmLimits limits = {};
};

/// The size of each frame that DecodeFilm gives.
ImageSize DecodedSize(const FilmInfo& info, const FilmDecodeOptions& options);

/// Bytes that DecodeFilm writes. Errors: kInvalidArgument for frames that the video does not show,
/// none, or in another order, and a size that nothing is resized to; kTooLarge past
/// frame_bytes_max.
Result<std::uint64_t> DecodedBytes(const FilmInfo& info, const FilmDecodeOptions& options);

/// Writes [frames, height, width, 3] to `out`. Errors: as ReadFilmInfo, before anything is decoded,
/// and DecodedBytes; kInvalidArgument if a frame is corrupt; kUnsupported if frames change their
/// size, or hold what no decoder here takes. Pre: `out` has DecodedBytes.
Result<void> DecodeFilm(Bytes file, const FilmDecodeOptions& options, std::span<std::uint8_t> out);

}  // namespace pixii::media
