#include "media/film/film_info.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "media/film/film_index.h"
#include "media/film/h264_headers.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

bool HasText(Bytes file, std::size_t at, std::string_view text) {
  return file.size() >= at && ByteReader(file.subspan(at)).TakeText(text);
}

// The container of a file that is no image too; nothing: it is none of those.
std::optional<FilmFormat> ContainerOf(Bytes file) {
  // Old QuickTime files begin with their data or their tables.
  for (const std::string_view box : {"ftyp", "moov", "mdat", "wide", "free", "styp"}) {
    if (HasText(file, 4, box)) {
      return FilmFormat::kMp4;
    }
  }
  if (HasText(file, 0, "\x1a\x45\xdf\xa3")) {
    return FilmFormat::kWebm;
  }
  if (HasText(file, 0, "RIFF") && HasText(file, 8, "AVI ")) {
    return FilmFormat::kAvi;
  }
  return std::nullopt;
}

Result<FilmIndex> ReadContainer(Bytes file, std::uint32_t frames_max) {
  const std::optional<FilmFormat> format = ContainerOf(file);
  if (format == FilmFormat::kMp4) {
    return ReadMp4Index(file, frames_max);
  }
  if (format == FilmFormat::kWebm) {
    return ReadWebmIndex(file, frames_max);
  }
  if (format == FilmFormat::kAvi) {
    return ReadAviIndex(file, frames_max);
  }
  if (HasText(file, 0, "GIF87a") || HasText(file, 0, "GIF89a")) {
    return ReadGifIndex(file, frames_max);
  }
  return Fail(kFilm.Unsupported("its first bytes are not those of MP4, WebM, AVI or GIF"));
}

// VP8 and VP9 have frames that others are predicted from and nobody sees.
bool ShowsFrame(FilmCodec codec, Bytes sample) {
  if (sample.empty()) {
    return false;
  }
  const std::uint32_t first = sample[0];
  if (codec == FilmCodec::kVp8) {
    return (first & 0x10) != 0;
  }
  constexpr std::uint32_t kSuperframe = 0xc0;  // several together, one of them shown
  if (codec != FilmCodec::kVp9 || (sample.back() & 0xe0) == kSuperframe) {
    return true;
  }
  // Two bits of marker, two of profile and one reserved in profile 3; then whether an earlier frame
  // is shown again, the type, and whether this one is shown.
  const std::uint32_t profile = (first >> 5 & 1) | (first >> 3 & 2);
  const std::uint32_t flags = profile == 3 ? first << 1 : first;
  return (flags & 0x08) != 0 || (flags & 0x02) != 0;
}

// What the stream itself says of its size counts more than its container.
Result<void> TakeH264Size(FilmIndex& index) {
  PX_TRY(const H264Config config, ReadH264Config(index.config));
  if (config.size.pixel_count() > 0) {
    index.size = config.size;
  }
  return {};
}

}  // namespace

std::string_view FilmFormatName(FilmFormat format) {
  constexpr std::string_view kNames[] = {"mp4", "webm", "avi", "gif"};
  return kNames[static_cast<std::size_t>(format)];
}

std::string_view FilmCodecName(FilmCodec codec) {
  constexpr std::string_view kNames[] = {"jpeg", "vp8", "vp9", "h264", "gif"};
  return kNames[static_cast<std::size_t>(codec)];
}

bool LooksLikeFilm(Bytes file) { return ContainerOf(file).has_value(); }

ColorMatrix MatrixOf(std::uint32_t code) {
  switch (code) {
    case 0:
      return ColorMatrix::kRgb;
    case 1:
      return ColorMatrix::kBt709;
    case 4:  // FCC differs from it in the third digit
    case 5:
    case 6:
      return ColorMatrix::kBt601;
    case 7:
      return ColorMatrix::kSmpte240;
    case 9:
      return ColorMatrix::kBt2020;
    default:
      return ColorMatrix::kUnknown;
  }
}

std::string ShownCode(std::uint32_t four) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) {
    const auto letter = static_cast<char>(four >> shift & 0xff);
    out += letter >= ' ' && letter <= '~' ? letter : '?';
  }
  return out;
}

Error CodecUnsupported(std::string_view codec) {
  return kFilm.Unsupported(
      fmt::format("its codec is {}; JPEG, VP8, VP9 and H.264 are read", codec));
}

std::vector<std::uint32_t> ShownOrder(const FilmIndex& index) {
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < index.samples.size(); ++i) {
    if (index.samples[i].shown) {
      order.push_back(i);
    }
  }
  std::ranges::sort(order, {},
                    [&](std::uint32_t i) { return std::pair(index.samples[i].time, i); });
  return order;
}

Result<FilmIndex> ReadFilmIndex(Bytes file, const FilmLimits& limits) {
  if (file.empty()) {
    return Fail(Code::kInvalidArgument, "video is empty: it has 0 bytes", kFilm.noun);
  }
  if (file.size() > limits.bytes_max) {
    return Fail(kFilm.TooLarge("it has", file.size(), "bytes", "bytes_max", limits.bytes_max));
  }
  PX_TRY(FilmIndex index, ReadContainer(file, limits.frames_max));
  if (index.codec == FilmCodec::kH264) {
    PX_CHECK_OK(TakeH264Size(index));
  }
  const ImageSize size = index.size;
  if (size.width == 0 || size.height == 0) {
    return Fail(kFilm.Corrupt(fmt::format("its size is {}x{}", size.width, size.height)));
  }
  for (const auto& [name, side] : {std::pair("width", size.width), {"height", size.height}}) {
    if (side > limits.side_max) {
      return Fail(kFilm.TooLarge(name, side, "pixels", "side_max", limits.side_max));
    }
  }
  if (size.pixel_count() > limits.pixels_max) {
    return Fail(kFilm.TooLarge(fmt::format("{}x{} is", size.width, size.height), size.pixel_count(),
                               "pixels", "pixels_max", limits.pixels_max));
  }
  if (index.samples.size() > limits.frames_max) {
    return Fail(kFilm.TooLarge("it has at least", index.samples.size(), "frames", "frames_max",
                               limits.frames_max));
  }
  for (std::size_t i = 0; i < index.samples.size(); ++i) {
    FilmSample& sample = index.samples[i];
    if (sample.at > file.size() || sample.size > file.size() - sample.at) {
      return Fail(kFilm.Truncated(fmt::format("frame {} lies at byte {} to {} of {}", i, sample.at,
                                              sample.at + sample.size, file.size())));
    }
    sample.shown = sample.shown && ShowsFrame(index.codec, file.subspan(sample.at, sample.size));
  }
  if (std::ranges::none_of(index.samples, &FilmSample::shown)) {
    return Fail(kFilm.Corrupt("it shows no frame"));
  }
  return index;
}

Result<FilmInfo> ReadFilmInfo(Bytes file, const FilmLimits& limits) {
  PX_TRY(const FilmIndex index, ReadFilmIndex(file, limits));
  return FilmInfo{.format = index.format,
                  .codec = index.codec,
                  .size = index.size,
                  .frames = static_cast<std::uint32_t>(
                      std::ranges::count_if(index.samples, &FilmSample::shown)),
                  .seconds = index.seconds};
}

}  // namespace pixii::media
