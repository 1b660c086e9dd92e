#include <gif_lib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "media/decoders.h"
#include "media/headers.h"
#include "media/image_errors.h"

namespace pixii::media {

namespace {

struct GifFree {
  void operator()(GifFileType* gif) const { (void)::DGifCloseFile(gif, nullptr); }
};

int ReadSome(GifFileType* gif, GifByteType* into, int count) {
  Bytes taken = static_cast<ByteReader*>(gif->UserData)->Take(static_cast<std::size_t>(count));
  std::ranges::copy(taken, into);
  return static_cast<int>(taken.size());
}

Error GifError(const GifFileType& gif, const ByteReader& reader) {
  if (!reader.ok()) {
    return ImageTruncated("its GIF data end before the last row");
  }
  const char* text = ::GifErrorString(gif.Error);
  return ImageCorrupt(text != nullptr ? text : "its GIF data cannot be read");
}

// The rows of a frame in the order they are stored: four passes if it is interlaced.
std::vector<std::uint32_t> RowOrder(std::uint32_t height, bool interlaced) {
  struct Turn {
    std::uint32_t first;
    std::uint32_t step;
  };

  constexpr Turn kPlain[] = {{0, 1}};
  constexpr Turn kInterlaced[] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
  const std::span<const Turn> turns =
      interlaced ? std::span<const Turn>(kInterlaced) : std::span<const Turn>(kPlain);
  std::vector<std::uint32_t> order;
  order.reserve(height);
  for (const Turn& turn : turns) {
    for (std::uint32_t y = turn.first; y < height; y += turn.step) {
      order.push_back(y);
    }
  }
  return order;
}

Palette PaletteOf(const ColorMapObject* colours, int transparent) {
  Palette palette;
  for (int i = 0; i < static_cast<int>(palette.size()); ++i) {
    if (colours == nullptr) {  // without one, an index is a level of grey
      const auto grey = static_cast<std::uint8_t>(i);
      palette[i] = {.red = grey, .green = grey, .blue = grey, .alpha = 255};
    } else if (i < colours->ColorCount) {
      const GifColorType& colour = colours->Colors[i];
      palette[i] = {.red = colour.Red, .green = colour.Green, .blue = colour.Blue, .alpha = 255};
    }
  }
  if (transparent >= 0) {
    palette[transparent].alpha = 0;
  }
  return palette;
}

// Goes on to the first image.
Result<void> FindImage(GifFileType& gif, const ByteReader& reader) {
  while (true) {
    GifRecordType record = UNDEFINED_RECORD_TYPE;
    if (::DGifGetRecordType(&gif, &record) == GIF_ERROR || record == TERMINATE_RECORD_TYPE) {
      return Fail(GifError(gif, reader));
    }
    if (record == IMAGE_DESC_RECORD_TYPE) {
      break;
    }
    int code = 0;
    GifByteType* extension = nullptr;
    bool fails = ::DGifGetExtension(&gif, &code, &extension) == GIF_ERROR;
    while (!fails && extension != nullptr) {
      fails = ::DGifGetExtensionNext(&gif, &extension) == GIF_ERROR;
    }
    if (fails) {
      return Fail(GifError(gif, reader));
    }
  }
  if (::DGifGetImageDesc(&gif) == GIF_ERROR) {
    return Fail(GifError(gif, reader));
  }
  return {};
}

}  // namespace

Result<void> DecodeGif(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out) {
  PX_TRY(const GifFrame frame, ReadGifFrame(file));
  ByteReader reader(file);
  int code = 0;
  const std::unique_ptr<GifFileType, GifFree> gif(::DGifOpen(&reader, ReadSome, &code));
  if (gif == nullptr) {
    const char* text = ::GifErrorString(code);
    return Fail(!reader.ok() ? ImageTruncated("it ends in its header")
                             : ImageCorrupt(text != nullptr ? text : "its header cannot be read"));
  }
  PX_CHECK_OK(FindImage(*gif, reader));
  const GifImageDesc& described = gif->Image;
  if (static_cast<std::uint32_t>(described.Width) != frame.size.width ||
      static_cast<std::uint32_t>(described.Height) != frame.size.height) {
    return Fail(ImageCorrupt("its first frame has two sizes"));
  }
  const Palette palette = PaletteOf(
      described.ColorMap != nullptr ? described.ColorMap : gif->SColorMap, frame.transparent);
  // Around the frame nothing is painted: the transparent colour, or the first one.
  const Pixel around = palette[std::max(frame.transparent, 0)];
  std::vector<Pixel> row(info.size.width, around);
  for (std::uint32_t y = 0; y < info.size.height; ++y) {
    StoreRow(row, rules.alpha, out.row(y));
  }
  std::vector<GifPixelType> indexes(frame.size.width);
  for (const std::uint32_t y : RowOrder(frame.size.height, described.Interlace)) {
    if (::DGifGetLine(gif.get(), indexes.data(), described.Width) == GIF_ERROR) {
      return Fail(GifError(*gif, reader));
    }
    for (std::uint32_t x = 0; x < frame.size.width; ++x) {
      row[frame.left + x] = palette[indexes[x]];
    }
    StoreRow(row, rules.alpha, out.row(frame.top + y));
  }
  return {};
}

}  // namespace pixii::media
