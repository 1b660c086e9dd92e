#include "media/film/film_decode.h"

#include <algorithm>
#include <utility>

#include "media/film/film_index.h"
#include "media/film/frame_sink.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

Result<std::uint64_t> CheckFrames(ImageSize size, std::uint64_t shown,
                                  const FilmDecodeOptions& options) {
  const auto& frames = options.frames;
  if (frames.empty() || !std::ranges::is_sorted(frames) || frames.back() >= shown) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} frames up to {} cannot be taken from the {} of a video",
                            frames.size(), frames.empty() ? 0 : frames.back(), shown),
                kFilm.noun);
  }
  if (options.resize) {
    size = options.resize->size;
    if (size.width < 1 || size.width > kResizeSideMax || size.height < 1 ||
        size.height > kResizeSideMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("{}x{} of the resized frames is not within 1..{} pixels a side",
                              size.width, size.height, kResizeSideMax),
                  "size");
    }
  }
  const std::uint64_t bytes = size.pixel_count() * kImageChannels * frames.size();
  if (bytes > options.limits.frame_bytes_max) {
    return Fail(kFilm.TooLarge(
        fmt::format("{} frames of {}x{} are", frames.size(), size.width, size.height), bytes,
        "bytes", "frame_bytes_max", options.limits.frame_bytes_max));
  }
  return bytes;
}

}  // namespace

ImageSize DecodedSize(const FilmInfo& info, const FilmDecodeOptions& options) {
  return options.resize ? options.resize->size : info.size;
}

Result<std::uint64_t> DecodedBytes(const FilmInfo& info, const FilmDecodeOptions& options) {
  return CheckFrames(info.size, info.frames, options);
}

Result<void> DecodeJpegFilm(Bytes file, const FilmIndex& index, FrameSink& sink) {
  for (std::uint32_t i = 0; i < index.samples.size(); ++i) {
    if (!sink.Wants(i)) {
      continue;
    }
    const ImageLimits limits{.side_max = std::max(index.size.width, index.size.height),
                             .pixels_max = index.size.pixel_count()};
    const Bytes bytes = BytesOf(file, index.samples[i]);
    Result<ImageInfo> info = ReadImageInfo(bytes, limits);
    if (info && info->format != Format::kJpeg) {
      return Fail(kFilm.Corrupt(fmt::format("frame {} is no JPEG", i)));
    }
    Result<Image> frame = info ? Decode(bytes, {.limits = limits}) : Fail(info.error());
    if (!frame) {
      return Fail(frame.error().code(),
                  fmt::format("video is corrupt: frame {}: {}", i, frame.error().detail()),
                  kFilm.noun);
    }
    PX_CHECK_OK(sink.Put(i, std::move(*frame)));
  }
  return {};
}

Result<void> DecodeFilm(Bytes file, const FilmDecodeOptions& options, std::span<std::uint8_t> out) {
  PX_TRY(const FilmIndex index, ReadFilmIndex(file, options.limits));
  const std::vector<std::uint32_t> order = ShownOrder(index);
  PX_TRY(const std::uint64_t bytes, CheckFrames(index.size, order.size(), options));
  if (bytes != out.size()) {
    return Fail(Code::kInternal, "frames have another size than their video says");
  }
  FrameSink sink(index, order, options.frames, options.resize, out);
  const auto decode = [&]() -> Result<void> {
    switch (index.codec) {
      case FilmCodec::kJpeg:
        return DecodeJpegFilm(file, index, sink);
      case FilmCodec::kVp8:
      case FilmCodec::kVp9:
        return DecodeVpxFilm(file, index, sink);
      case FilmCodec::kH264:
        return DecodeH264Film(file, index, sink);
      case FilmCodec::kGif:
        break;
    }
    return DecodeGifFilm(file, index, sink);
  };
  PX_CHECK_OK(decode());
  return sink.Finish();
}

}  // namespace pixii::media
