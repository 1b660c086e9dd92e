#include <algorithm>

#include "media/headers.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr std::uint8_t kImageBlock = 0x2c;
constexpr std::uint8_t kExtensionBlock = 0x21;
constexpr std::uint8_t kGraphicControl = 0xf9;
constexpr std::uint8_t kHasColours = 0x80;

std::size_t ColourTableBytes(std::uint8_t flags) {
  return (flags & kHasColours) != 0 ? std::size_t{3} << ((flags & 7) + 1) : 0;
}

void SkipSubBlocks(ByteReader& reader) {
  while (const std::uint8_t size = reader.Byte()) {
    reader.Skip(size);
  }
}

struct GifWalk {
  GifFrame first;
  std::uint32_t frames = 0;
};

// Goes through the blocks, up to `frames_max` + 1 images; a file that ends early has those before.
Result<GifWalk> Walk(Bytes file, std::uint32_t frames_max) {
  GifWalk walk;
  ByteReader reader(file.subspan(6));
  walk.first.canvas.width = reader.Little16();
  walk.first.canvas.height = reader.Little16();
  const std::uint8_t flags = reader.Byte();
  reader.Skip(2 + ColourTableBytes(flags));
  while (reader.ok() && walk.frames <= frames_max) {
    const std::uint8_t block = reader.Byte();
    if (block == kExtensionBlock) {
      if (reader.Byte() == kGraphicControl && walk.frames == 0) {
        ByteReader control = reader;
        if (control.Byte() >= 4) {
          const std::uint8_t control_flags = control.Byte();
          control.Skip(2);
          const std::uint8_t index = control.Byte();
          walk.first.transparent = (control_flags & 1) != 0 ? index : -1;
        }
      }
      SkipSubBlocks(reader);
    } else if (block == kImageBlock) {
      const std::uint32_t left = reader.Little16();
      const std::uint32_t top = reader.Little16();
      const std::uint32_t width = reader.Little16();
      const std::uint32_t height = reader.Little16();
      const std::uint8_t image_flags = reader.Byte();
      if (!reader.ok()) {
        break;
      }
      if (walk.frames == 0) {
        walk.first.left = left;
        walk.first.top = top;
        walk.first.size = {.width = width, .height = height};
        walk.first.canvas.width = std::max(walk.first.canvas.width, left + width);
        walk.first.canvas.height = std::max(walk.first.canvas.height, top + height);
      }
      ++walk.frames;
      reader.Skip(ColourTableBytes(image_flags) + 1);
      SkipSubBlocks(reader);
    } else {
      break;  // the trailer, or bytes that are no block
    }
  }
  if (walk.frames == 0) {
    return Fail(reader.ok() ? kImage.Corrupt("it has no image")
                            : kImage.Truncated("it ends before its first image"));
  }
  if (walk.first.size.pixel_count() == 0) {
    return Fail(kImage.Corrupt("its first frame is empty"));
  }
  return walk;
}

}  // namespace

Result<GifFrame> ReadGifFrame(Bytes file) {
  PX_TRY(const GifWalk walk, Walk(file, 0));
  return walk.first;
}

Result<ImageInfo> ReadGifHeader(Bytes file, std::uint32_t frames_max) {
  PX_TRY(const GifWalk walk, Walk(file, frames_max));
  return ImageInfo{.format = Format::kGif, .size = walk.first.canvas, .frames = walk.frames};
}

}  // namespace pixii::media
