#include <algorithm>
#include <vector>

#include "media/decoders.h"
#include "media/gif_stream.h"
#include "media/headers.h"
#include "media/media_noun.h"

namespace pixii::media {

Result<void> DecodeGif(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out) {
  PX_TRY(const GifFrame frame, ReadGifFrame(file));
  PX_TRY(GifStream gif, GifStream::Open(file));
  PX_TRY(const std::optional<GifPicture> picture, gif.Next());
  if (!picture) {
    return Fail(kImage.Corrupt("it has no image"));
  }
  if (picture->size != frame.size) {
    return Fail(kImage.Corrupt("its first frame has two sizes"));
  }
  // Around the frame nothing is painted: the transparent colour, or the first one.
  const Pixel around = picture->palette[std::max(picture->transparent, 0)];
  std::vector<Pixel> row(info.size.width, around);
  for (std::uint32_t y = 0; y < info.size.height; ++y) {
    StoreRow(row, rules.alpha, out.row(y));
  }
  return gif.ReadRows([&](std::uint32_t y, std::span<const std::uint8_t> indexes) {
    for (std::uint32_t x = 0; x < frame.size.width; ++x) {
      row[frame.left + x] = picture->palette[indexes[x]];
    }
    StoreRow(row, rules.alpha, out.row(frame.top + y));
  });
}

}  // namespace pixii::media
