// BMP is simple enough to be read here: header, palette, rows from the bottom up.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "media/decoders.h"
#include "media/headers.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr std::uint32_t kCoreHeaderBytes = 12;
constexpr std::uint32_t kInfoHeaderBytes = 40;
constexpr std::uint32_t kMaskedHeaderBytes = 52;  // the first with masks of its own
constexpr std::uint32_t kHeaderBytesMax = 124;

enum Compression : std::uint32_t { kNone = 0, kBitFields = 3, kAlphaBitFields = 6 };

// The value of one channel of a pixel, scaled to 0..255.
std::uint8_t Channel(std::uint32_t pixel, std::uint32_t mask) {
  const std::uint32_t largest = mask >> std::countr_zero(mask);
  const std::uint64_t value = (pixel & mask) >> std::countr_zero(mask);
  return static_cast<std::uint8_t>(value * 255 / largest);
}

bool IsContiguous(std::uint32_t mask) {
  return mask != 0 && std::has_single_bit((mask >> std::countr_zero(mask)) + std::uint64_t{1});
}

}  // namespace

Result<BmpLayout> ReadBmpLayout(Bytes file) {
  ByteReader reader(file.subspan(2));
  reader.Skip(8);
  BmpLayout layout{.pixels_at = reader.Little32()};
  const std::uint32_t header_bytes = reader.Little32();
  std::uint32_t compression = kNone;
  std::uint32_t colours = 0;
  if (header_bytes == kCoreHeaderBytes) {
    layout.size.width = reader.Little16();
    layout.size.height = reader.Little16();
    reader.Skip(2);
    layout.bits = reader.Little16();
    layout.palette_entry_bytes = 3;
  } else if (header_bytes >= kInfoHeaderBytes && header_bytes <= kHeaderBytesMax) {
    layout.size.width = reader.Little32();
    const auto height = static_cast<std::int32_t>(reader.Little32());
    layout.top_down = height < 0;
    layout.size.height =
        height < 0 ? 0U - static_cast<std::uint32_t>(height) : static_cast<std::uint32_t>(height);
    reader.Skip(2);
    layout.bits = reader.Little16();
    compression = reader.Little32();
    reader.Skip(12);
    colours = reader.Little32();
    reader.Skip(4);
  } else if (reader.ok()) {
    return Fail(kImage.Unsupported(fmt::format("a BMP header of {} bytes", header_bytes)));
  }
  if (compression != kNone && compression != kBitFields && compression != kAlphaBitFields) {
    return Fail(kImage.Unsupported(fmt::format("BMP compression {}", compression)));
  }
  std::size_t end_of_header = 14 + std::size_t{header_bytes};
  if (compression != kNone) {
    const int masks = compression == kAlphaBitFields || header_bytes > kMaskedHeaderBytes ? 4 : 3;
    for (int i = 0; i < masks; ++i) {
      layout.masks[i] = reader.Little32();
    }
    if (header_bytes == kInfoHeaderBytes) {
      end_of_header += 4 * static_cast<std::size_t>(masks);
    }
  } else if (layout.bits == 16) {
    std::ranges::copy(std::to_array<std::uint32_t>({0x7c00, 0x03e0, 0x001f, 0}), layout.masks);
  } else if (layout.bits == 32) {
    std::ranges::copy(std::to_array<std::uint32_t>({0xff0000, 0x00ff00, 0x0000ff, 0}),
                      layout.masks);
  }
  if (!reader.ok()) {
    return Fail(kImage.Truncated("it ends in its header"));
  }
  const bool indexed = layout.bits == 1 || layout.bits == 4 || layout.bits == 8;
  const bool masked = layout.bits == 16 || layout.bits == 32;
  if (!indexed && !masked && layout.bits != 24) {
    return Fail(kImage.Unsupported(fmt::format("BMP of {} bits for each pixel", layout.bits)));
  }
  if (masked && !std::ranges::all_of(std::span(layout.masks).first(3), IsContiguous)) {
    return Fail(kImage.Unsupported("BMP with masks that are no row of bits"));
  }
  if (layout.masks[3] != 0 && !IsContiguous(layout.masks[3])) {
    return Fail(kImage.Unsupported("BMP with an alpha mask that is no row of bits"));
  }
  if (indexed) {
    const std::uint32_t all = 1U << layout.bits;
    layout.palette_count = colours == 0 ? all : std::min(colours, all);
    layout.palette_at = end_of_header;
  }
  return layout;
}

Result<ImageInfo> ReadBmpHeader(Bytes file) {
  PX_TRY(const BmpLayout layout, ReadBmpLayout(file));
  return ImageInfo{.format = Format::kBmp, .size = layout.size};
}

Result<void> DecodeBmp(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out) {
  PX_TRY(const BmpLayout layout, ReadBmpLayout(file));
  const std::size_t palette_bytes = std::size_t{layout.palette_count} * layout.palette_entry_bytes;
  const std::uint64_t row_bytes = (std::uint64_t{layout.size.width} * layout.bits + 31) / 32 * 4;
  if (layout.palette_at + palette_bytes > file.size() || layout.pixels_at > file.size() ||
      row_bytes * layout.size.height > file.size() - layout.pixels_at) {
    return Fail(
        kImage.Truncated(fmt::format("its pixels need {} bytes", row_bytes * layout.size.height)));
  }
  Palette palette;
  for (std::uint32_t i = 0; i < layout.palette_count; ++i) {
    const Bytes entry =
        file.subspan(layout.palette_at + std::size_t{i} * layout.palette_entry_bytes, 3);
    palette[i] = {.red = entry[2], .green = entry[1], .blue = entry[0], .alpha = 255};
  }
  std::vector<Pixel> row(info.size.width);
  for (std::uint32_t y = 0; y < info.size.height; ++y) {
    const std::uint32_t stored = layout.top_down ? y : info.size.height - 1 - y;
    const Bytes bytes = file.subspan(layout.pixels_at + stored * row_bytes, row_bytes);
    ByteReader reader(bytes);
    for (std::uint32_t x = 0; x < info.size.width; ++x) {
      if (layout.bits < 16) {
        const std::uint32_t per_byte = 8 / layout.bits;
        const std::uint32_t shift = (per_byte - 1 - x % per_byte) * layout.bits;
        row[x] = palette[bytes[x / per_byte] >> shift & ((1U << layout.bits) - 1)];
      } else if (layout.bits == 24) {
        const Bytes pixel = bytes.subspan(std::size_t{x} * 3, 3);
        row[x] = {.red = pixel[2], .green = pixel[1], .blue = pixel[0], .alpha = 255};
      } else {
        const std::uint32_t pixel = layout.bits == 16 ? reader.Little16() : reader.Little32();
        row[x] = {
            .red = Channel(pixel, layout.masks[0]),
            .green = Channel(pixel, layout.masks[1]),
            .blue = Channel(pixel, layout.masks[2]),
            .alpha = layout.masks[3] != 0 ? Channel(pixel, layout.masks[3]) : std::uint8_t{255}};
      }
    }
    StoreRow(row, rules.alpha, out.row(y));
  }
  return {};
}

}  // namespace pixii::media
