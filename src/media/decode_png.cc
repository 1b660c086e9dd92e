#include <spng.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "media/decoders.h"
#include "media/headers.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

struct ContextFree {
  void operator()(spng_ctx* context) const { ::spng_ctx_free(context); }
};

Error PngError(int code) {
  switch (code) {
    case SPNG_IO_EOF:
    case SPNG_EIDAT_TOO_SHORT:
      return kImage.Truncated("its PNG data end before the last row");
    case SPNG_EMEM:
      return kImage.TakesMemory("libspng");
    default:
      return kImage.Corrupt(::spng_strerror(code));
  }
}

#define PX_PNG(call)               \
  do {                             \
    if (const int code = (call)) { \
      return Fail(PngError(code)); \
    }                              \
  } while (false)

// The chunks that pixels need, and no others: text, profiles and what else a file may carry are
// never inflated.
Result<std::vector<std::uint8_t>> PixelChunks(Bytes file) {
  std::vector<std::uint8_t> kept(file.begin(), file.begin() + kPngSignature.size());
  kept.reserve(file.size());
  ByteReader reader(file.subspan(kPngSignature.size()));
  bool has_pixels = false;
  while (reader.left() > 0) {
    Result<PngChunk> chunk = NextPngChunk(reader);
    if (!chunk) {
      return Fail(chunk.error());
    }
    const bool pixels = chunk->type == PngType("IDAT");
    if (pixels || chunk->type == PngType("IHDR") || chunk->type == PngType("PLTE") ||
        chunk->type == PngType("tRNS") || chunk->type == PngType("IEND")) {
      kept.insert(kept.end(), chunk->whole.begin(), chunk->whole.end());
      has_pixels = has_pixels || pixels;
    }
    if (chunk->type == PngType("IEND")) {
      break;
    }
  }
  if (!has_pixels) {
    return Fail(kImage.Truncated("it has no pixels"));
  }
  return kept;
}

// Reads the samples of one stored row.
class Samples final {
 public:
  Samples(const std::uint8_t* row, std::uint32_t bits) : row_(row), bits_(bits) {}

  std::uint32_t Next() {
    const std::size_t index = next_++;
    if (bits_ == 8) {
      return row_[index];
    }
    if (bits_ == 16) {
      std::uint16_t value = 0;  // in the order of this machine
      std::memcpy(&value, row_ + index * 2, sizeof value);
      return value;
    }
    const std::size_t bit = index * bits_;
    return row_[bit / 8] >> (8 - bits_ - bit % 8) & ((1U << bits_) - 1);
  }

  std::uint8_t NextByte() { return static_cast<std::uint8_t>(bits_ == 16 ? Next() >> 8 : Next()); }

 private:
  const std::uint8_t* row_;
  std::uint32_t bits_;
  std::size_t next_ = 0;
};

struct PngPixels {
  spng_ihdr header = {};
  Palette palette;
  bool keyed = false;  // one colour is transparent
  spng_trns key = {};
  DeepGrey deep_grey = DeepGrey::kClip;

  Pixel Next(Samples& samples) const;
};

Pixel PngPixels::Next(Samples& samples) const {
  Pixel pixel;
  switch (header.color_type) {
    case SPNG_COLOR_TYPE_INDEXED:
      return palette[samples.Next()];
    case SPNG_COLOR_TYPE_GRAYSCALE: {
      const std::uint32_t grey = samples.Next();
      const std::uint32_t all = (1U << header.bit_depth) - 1;
      std::uint32_t level = grey * 255 / all;  // 255 / all is whole up to 8 bits
      if (header.bit_depth == 16) {
        level = deep_grey == DeepGrey::kHigh ? grey >> 8 : std::min(grey, 255U);
      }
      pixel.red = pixel.green = pixel.blue = static_cast<std::uint8_t>(level);
      pixel.alpha = keyed && grey == key.gray ? 0 : 255;
      return pixel;
    }
    case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA:
      pixel.red = pixel.green = pixel.blue = samples.NextByte();
      pixel.alpha = samples.NextByte();
      return pixel;
    case SPNG_COLOR_TYPE_TRUECOLOR: {
      const std::uint32_t red = samples.Next();
      const std::uint32_t green = samples.Next();
      const std::uint32_t blue = samples.Next();
      const std::uint32_t shift = header.bit_depth == 16 ? 8 : 0;
      pixel.red = static_cast<std::uint8_t>(red >> shift);
      pixel.green = static_cast<std::uint8_t>(green >> shift);
      pixel.blue = static_cast<std::uint8_t>(blue >> shift);
      pixel.alpha = keyed && red == key.red && green == key.green && blue == key.blue ? 0 : 255;
      return pixel;
    }
    default:
      pixel.red = samples.NextByte();
      pixel.green = samples.NextByte();
      pixel.blue = samples.NextByte();
      pixel.alpha = samples.NextByte();
      return pixel;
  }
}

}  // namespace

Result<void> DecodePng(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out) {
  PX_TRY(const std::vector<std::uint8_t> chunks, PixelChunks(file));
  const std::unique_ptr<spng_ctx, ContextFree> context(::spng_ctx_new(0));
  spng_ctx* png = context.get();
  PX_PNG(::spng_set_image_limits(png, info.size.width, info.size.height));
  PX_PNG(::spng_set_png_buffer(png, chunks.data(), chunks.size()));
  PngPixels pixels;
  pixels.deep_grey = rules.deep_grey;
  PX_PNG(::spng_get_ihdr(png, &pixels.header));
  spng_plte colours = {};
  if (pixels.header.color_type == SPNG_COLOR_TYPE_INDEXED) {
    PX_PNG(::spng_get_plte(png, &colours));
  }
  const int keyed = ::spng_get_trns(png, &pixels.key);
  if (keyed != 0 && keyed != SPNG_ECHUNKAVAIL) {
    return Fail(PngError(keyed));
  }
  pixels.keyed = keyed == 0;
  for (std::uint32_t i = 0; i < colours.n_entries; ++i) {
    const bool has_alpha = pixels.keyed && i < pixels.key.n_type3_entries;
    pixels.palette[i] = {.red = colours.entries[i].red,
                         .green = colours.entries[i].green,
                         .blue = colours.entries[i].blue,
                         .alpha = has_alpha ? pixels.key.type3_alpha[i] : std::uint8_t{255}};
  }
  std::size_t stored_bytes = 0;
  PX_PNG(::spng_decoded_image_size(png, SPNG_FMT_PNG, &stored_bytes));
  const std::size_t row_bytes = stored_bytes / info.size.height;
  const bool interlaced = pixels.header.interlace_method != SPNG_INTERLACE_NONE;
  // Interlaced rows come in turns, so all are kept; others one at a time.
  std::vector<std::uint8_t> stored(interlaced ? stored_bytes : row_bytes);
  if (interlaced) {
    PX_PNG(::spng_decode_image(png, stored.data(), stored.size(), SPNG_FMT_PNG, 0));
  } else {
    PX_PNG(::spng_decode_image(png, nullptr, 0, SPNG_FMT_PNG, SPNG_DECODE_PROGRESSIVE));
  }
  const bool as_is = pixels.header.color_type == SPNG_COLOR_TYPE_TRUECOLOR &&
                     pixels.header.bit_depth == 8 && !pixels.keyed;
  std::vector<Pixel> row(info.size.width);
  for (std::uint32_t y = 0; y < info.size.height; ++y) {
    const std::uint8_t* from = stored.data() + (interlaced ? y * row_bytes : 0);
    if (!interlaced) {
      const int code = ::spng_decode_row(png, stored.data(), stored.size());
      if (code != 0 && (code != SPNG_EOI || y + 1 != info.size.height)) {
        return Fail(PngError(code));
      }
    }
    if (as_is) {
      std::memcpy(out.row(y), from, out.row_bytes());
      continue;
    }
    Samples samples(from, pixels.header.bit_depth);
    for (Pixel& pixel : row) {
      pixel = pixels.Next(samples);
    }
    StoreRow(row, rules.alpha, out.row(y));
  }
  return {};
}

#undef PX_PNG

}  // namespace pixii::media
