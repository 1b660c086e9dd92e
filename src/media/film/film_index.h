// Where the frames of a video lie in its file: what demuxers make and decoders read.
//
// Thread: values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "media/film/film_info.h"

namespace pixii::media {

/// How luma and colour differences become RGB.
enum class ColorMatrix : std::uint8_t { kUnknown, kBt601, kBt709, kSmpte240, kBt2020, kRgb };

struct FilmColors {
  ColorMatrix matrix = ColorMatrix::kUnknown;
  bool full_range = false;
};

/// The matrix of an ITU-T H.273 number, which MP4, Matroska and H.264 have in common.
ColorMatrix MatrixOf(std::uint32_t code);

/// An encoded frame.
struct FilmSample {
  std::uint64_t at = 0;    // byte of the file
  std::uint64_t size = 0;  // bytes
  std::int64_t time = 0;   // when it is shown, ticks
  bool key = false;        // can be decoded without those before it
  bool shown = true;
};

struct FilmIndex {
  FilmFormat format = FilmFormat::kMp4;
  FilmCodec codec = FilmCodec::kVp9;
  ImageSize size = {};
  double seconds = 0.0;
  FilmColors colors = {};                // as the container says; a codec's own word counts more
  Bytes config = {};                     // of H.264: avcC
  std::vector<FilmSample> samples = {};  // in the order they are decoded
};

/// The sample indexes of frames that are shown, in the order they are shown.
std::vector<std::uint32_t> ShownOrder(const FilmIndex& index);

/// The index of `file`, with every sample inside of it. Errors: as ReadFilmInfo.
Result<FilmIndex> ReadFilmIndex(Bytes file, const FilmLimits& limits);

/// One reader for each container; at most `frames_max` + 1 samples are gone through. Errors: as
/// ReadFilmInfo, limits of sizes apart.
Result<FilmIndex> ReadMp4Index(Bytes file, std::uint32_t frames_max);
Result<FilmIndex> ReadWebmIndex(Bytes file, std::uint32_t frames_max);
Result<FilmIndex> ReadAviIndex(Bytes file, std::uint32_t frames_max);
Result<FilmIndex> ReadGifIndex(Bytes file, std::uint32_t frames_max);

/// "avc1" as a file has it: what cannot be shown is a question mark.
std::string ShownCode(std::uint32_t four);

/// `codec`: how the container names it.
Error CodecUnsupported(std::string_view codec);

constexpr std::uint32_t Four(const char (&name)[5]) {
  std::uint32_t code = 0;
  for (int i = 0; i < 4; ++i) {
    code = code << 8 | static_cast<std::uint8_t>(name[i]);
  }
  return code;
}

}  // namespace pixii::media
