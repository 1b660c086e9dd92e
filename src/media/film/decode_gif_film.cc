#include <algorithm>
#include <optional>
#include <vector>

#include "media/film/frame_sink.h"
#include "media/gif_stream.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

// Pictures may pass the canvas, which the first one made: what does is not shown.
struct Place {
  std::uint32_t left;
  std::uint32_t top;
  std::uint32_t right;
  std::uint32_t bottom;
};

Place PlaceOf(const GifPicture& picture, ImageSize canvas) {
  const std::uint32_t left = std::min(picture.left, canvas.width);
  const std::uint32_t top = std::min(picture.top, canvas.height);
  return {.left = left,
          .top = top,
          .right = left + std::min(picture.size.width, canvas.width - left),
          .bottom = top + std::min(picture.size.height, canvas.height - top)};
}

void Fill(Image& canvas, const Place& place, const Pixel& colour) {
  const std::vector<Pixel> row(place.right - place.left, colour);
  for (std::uint32_t y = place.top; y < place.bottom; ++y) {
    StoreRow(row, Alpha::kDrop, canvas.row(y) + std::size_t{place.left} * kImageChannels);
  }
}

Error OfFrame(std::uint32_t number, const Error& error) {
  return {error.code(), fmt::format("video is corrupt: frame {}: {}", number, error.detail()),
          kFilm.noun};
}

}  // namespace

// As Pillow shows them: pictures are painted on one another, transparent colours of later ones
// leave what is below, and what is wiped becomes the transparent or the background colour.
Result<void> DecodeGifFilm(Bytes file, const FilmIndex& index, FrameSink& sink) {
  Result<GifStream> gif = GifStream::Open(file);
  if (!gif) {
    return Fail(OfFrame(0, gif.error()));
  }
  Image canvas{.size = index.size, .rgb = {}};
  canvas.rgb.resize(index.size.pixel_count() * kImageChannels);
  const auto count = static_cast<std::uint32_t>(index.samples.size());
  for (std::uint32_t i = 0; i < count && sink.Wants(i, count); ++i) {
    const Result<std::optional<GifPicture>> next = gif->Next();
    if (!next) {
      return Fail(OfFrame(i, next.error()));
    }
    if (!*next) {
      return Fail(kFilm.Corrupt(fmt::format("frame {} is missing", i)));
    }
    const GifPicture& picture = **next;
    const Place place = PlaceOf(picture, canvas.size);
    if (i == 0) {
      Fill(canvas, {.left = 0, .top = 0, .right = canvas.size.width, .bottom = canvas.size.height},
           picture.palette[std::max(picture.transparent, 0)]);
    }
    const std::optional<Image> before =
        picture.disposal == GifDisposal::kPrevious ? std::optional(canvas) : std::nullopt;
    const Result<void> read =
        gif->ReadRows([&](std::uint32_t y, std::span<const std::uint8_t> indexes) {
          if (place.top + y >= place.bottom) {
            return;
          }
          std::uint8_t* to = canvas.row(place.top + y) + std::size_t{place.left} * kImageChannels;
          for (std::uint32_t x = 0; x < place.right - place.left; ++x, to += kImageChannels) {
            const Pixel& colour = picture.palette[indexes[x]];
            if (colour.alpha != 0 || i == 0) {
              to[0] = colour.red;
              to[1] = colour.green;
              to[2] = colour.blue;
            }
          }
        });
    if (!read) {
      return Fail(OfFrame(i, read.error()));
    }
    if (sink.Wants(i)) {
      PX_CHECK_OK(sink.Put(i, canvas));
    }
    if (before) {
      canvas = *before;
    } else if (picture.disposal == GifDisposal::kRestore) {
      Fill(canvas, place,
           picture.palette[picture.transparent >= 0 ? static_cast<std::size_t>(picture.transparent)
                                                    : gif->background()]);
    }
  }
  return {};
}

}  // namespace pixii::media
