// The header of each format; ReadImageInfo picks one and checks what it says.
#pragma once

#include "media/image_info.h"

namespace pixii::media {

Result<ImageInfo> ReadJpegHeader(Bytes file);
Result<ImageInfo> ReadPngHeader(Bytes file);
Result<ImageInfo> ReadWebpHeader(Bytes file, std::uint32_t frames_max);
Result<ImageInfo> ReadGifHeader(Bytes file, std::uint32_t frames_max);
Result<ImageInfo> ReadBmpHeader(Bytes file);

inline constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";

struct PngChunk {
  std::uint32_t type = 0;  // four letters, the first in the highest byte
  Bytes data;
  Bytes whole;  // with length, type and checksum
};

constexpr std::uint32_t PngType(const char (&name)[5]) {
  std::uint32_t type = 0;
  for (int i = 0; i < 4; ++i) {
    type = type << 8 | static_cast<std::uint8_t>(name[i]);
  }
  return type;
}

/// The next chunk. Errors: truncated.
Result<PngChunk> NextPngChunk(ByteReader& reader);

/// Where the first image of a GIF lies, and what stands before it.
struct GifFrame {
  ImageSize canvas;  // the screen, or more where the frame passes its edge
  std::uint32_t left = 0;
  std::uint32_t top = 0;
  ImageSize size = {};
  int transparent = -1;  // index of the colour that is not painted; -1: none
};

Result<GifFrame> ReadGifFrame(Bytes file);

/// What stands before the pixels of a BMP.
struct BmpLayout {
  ImageSize size = {};
  bool top_down = false;
  std::uint32_t bits = 0;       // of a pixel: 1, 4, 8, 16, 24 or 32
  std::uint32_t masks[4] = {};  // red, green, blue, alpha; of 16 and 32 bits
  std::size_t palette_at = 0;
  std::uint32_t palette_count = 0;
  std::uint32_t palette_entry_bytes = 4;
  std::size_t pixels_at = 0;
};

Result<BmpLayout> ReadBmpLayout(Bytes file);

}  // namespace pixii::media
