// What a video file says of its frames before any is decoded: container, codec, size, how many
// frames it shows and for how long.
//
// Own code that reads tables and no pixels, so that limits hold before a decoder runs or memory is
// taken. Container and codec are told by content, never by name or type.
//
// Thread: any; pure.
// Source: ISO/IEC 14496-12 and -15 (MP4, fragments, avcC), VP Codec ISO Media File Format Binding,
// RFC 8794 and RFC 9559 (EBML, Matroska), AVI as Windows and OpenDML document it, GIF89a.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "media/byte_reader.h"
#include "media/image.h"

namespace pixii::media {

enum class FilmFormat : std::uint8_t { kMp4, kWebm, kAvi, kGif };
enum class FilmCodec : std::uint8_t { kJpeg, kVp8, kVp9, kH264, kGif };

/// "mp4", "webm", "avi" or "gif".
std::string_view FilmFormatName(FilmFormat format);
/// "jpeg", "vp8", "vp9", "h264" or "gif".
std::string_view FilmCodecName(FilmCodec codec);

struct FilmLimits {
  std::uint64_t bytes_max = std::uint64_t{64} << 20;         // of the file
  std::uint32_t side_max = 8'192;                            // pixels
  std::uint64_t pixels_max = std::uint64_t{16} << 20;        // width * height
  std::uint32_t frames_max = 20'000;                         // of the file
  std::uint64_t frame_bytes_max = std::uint64_t{256} << 20;  // of all frames that are asked for
};

struct FilmInfo {
  FilmFormat format = FilmFormat::kMp4;
  FilmCodec codec = FilmCodec::kVp9;
  ImageSize size = {};       // of every frame
  std::uint32_t frames = 0;  // that are shown; at least 1
  double seconds = 0.0;      // that they are shown for; 0: the file does not say

  /// Frames of a second; 24 where the file does not say, as transformers takes it.
  double frames_per_second() const {
    constexpr double kUnknown = 24.0;
    return seconds > 0.0 ? frames / seconds : kUnknown;
  }

  friend bool operator==(const FilmInfo&, const FilmInfo&) = default;
};

/// Whether `file` begins as a video that is no image too (a GIF is both).
bool LooksLikeFilm(Bytes file);

/// Reads the tables of `file`. Errors, param "video": kInvalidArgument if it is empty, truncated,
/// corrupt or shows no frame, kUnsupported naming the container or codec, kTooLarge naming the
/// limit that it is past.
Result<FilmInfo> ReadFilmInfo(Bytes file, const FilmLimits& limits);

}  // namespace pixii::media
