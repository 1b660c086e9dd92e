#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>
#include <vector>

#include "media/decoders.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr std::size_t kRgbaBytes = 4;

struct AnimationFree {
  void operator()(WebPAnimDecoder* decoder) const { ::WebPAnimDecoderDelete(decoder); }
};

void StoreRgba(const std::uint8_t* rgba, Alpha alpha, Image& out) {
  std::vector<Pixel> row(out.size.width);
  for (std::uint32_t y = 0; y < out.size.height; ++y) {
    for (Pixel& pixel : row) {
      pixel = {.red = rgba[0], .green = rgba[1], .blue = rgba[2], .alpha = rgba[3]};
      rgba += kRgbaBytes;
    }
    StoreRow(row, alpha, out.row(y));
  }
}

Result<void> DecodeFirstFrame(Bytes file, Alpha alpha, Image& out) {
  WebPAnimDecoderOptions options;
  if (::WebPAnimDecoderOptionsInit(&options) == 0) {
    return Fail(Code::kInternal, "libwebpdemux is another version than its header");
  }
  options.color_mode = MODE_RGBA;
  const WebPData data{.bytes = file.data(), .size = file.size()};
  const std::unique_ptr<WebPAnimDecoder, AnimationFree> decoder(
      ::WebPAnimDecoderNew(&data, &options));
  WebPAnimInfo info;
  std::uint8_t* rgba = nullptr;
  int timestamp = 0;
  if (decoder == nullptr || ::WebPAnimDecoderGetInfo(decoder.get(), &info) == 0 ||
      info.canvas_width != out.size.width || info.canvas_height != out.size.height ||
      ::WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp) == 0) {
    return Fail(kImage.Corrupt("the first frame of its WebP animation cannot be decoded"));
  }
  StoreRgba(rgba, alpha, out);
  return {};
}

Error WebpError(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
      return kImage.Truncated("its WebP data end before the last row");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return kImage.Unsupported("a WebP feature that libwebp does not decode");
    case VP8_STATUS_OUT_OF_MEMORY:
      return kImage.TakesMemory("libwebp");
    default:
      return kImage.Corrupt(
          fmt::format("its WebP data are refused with status {}", static_cast<int>(status)));
  }
}

}  // namespace

Result<void> DecodeWebp(Bytes file, const ImageInfo& info, const PixelRules& rules, Image& out) {
  WebPDecoderConfig config;
  if (::WebPInitDecoderConfig(&config) == 0) {
    return Fail(Code::kInternal, "libwebp is another version than its header");
  }
  if (const VP8StatusCode status = ::WebPGetFeatures(file.data(), file.size(), &config.input);
      status != VP8_STATUS_OK) {
    return Fail(WebpError(status));
  }
  if (config.input.has_animation != 0) {
    return DecodeFirstFrame(file, rules.alpha, out);
  }
  if (static_cast<std::uint32_t>(config.input.width) != info.size.width ||
      static_cast<std::uint32_t>(config.input.height) != info.size.height) {
    return Fail(kImage.Corrupt("its headers differ about its size"));
  }
  const bool blends = config.input.has_alpha != 0 && rules.alpha != Alpha::kDrop;
  std::vector<std::uint8_t> rgba(blends ? info.size.pixel_count() * kRgbaBytes : 0);
  const std::size_t pixel_bytes = blends ? kRgbaBytes : kImageChannels;
  config.output.colorspace = blends ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = blends ? rgba.data() : out.rgb.data();
  config.output.u.RGBA.stride = static_cast<int>(info.size.width * pixel_bytes);
  config.output.u.RGBA.size = info.size.pixel_count() * pixel_bytes;
  const VP8StatusCode status = ::WebPDecode(file.data(), file.size(), &config);
  ::WebPFreeDecBuffer(&config.output);
  if (status != VP8_STATUS_OK) {
    return Fail(WebpError(status));
  }
  if (blends) {
    StoreRgba(rgba.data(), rules.alpha, out);
  }
  return {};
}

}  // namespace pixii::media
