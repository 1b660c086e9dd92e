#include <vpx/vp8dx.h>
#include <vpx/vpx_decoder.h>

#include "media/film/frame_sink.h"
#include "media/film/yuv.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

const vpx_codec_iface_t* InterfaceOf(FilmCodec codec) {
  return codec == FilmCodec::kVp8 ? ::vpx_codec_vp8_dx() : ::vpx_codec_vp9_dx();
}

class Decoder final {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  ~Decoder() {
    if (open_) {
      ::vpx_codec_destroy(&context_);
    }
  }

  Result<void> Open(FilmCodec codec) {
    const vpx_codec_dec_cfg_t config{.threads = 1, .w = 0, .h = 0};
    if (::vpx_codec_dec_init(&context_, InterfaceOf(codec), &config, 0) != VPX_CODEC_OK) {
      return Fail(Code::kUnavailable, "libvpx gives no decoder", kFilm.noun);
    }
    open_ = true;
    return {};
  }

  vpx_codec_ctx_t* get() { return &context_; }

 private:
  vpx_codec_ctx_t context_ = {};
  bool open_ = false;
};

ColorMatrix MatrixOfVpx(vpx_color_space_t space) {
  switch (space) {
    case VPX_CS_BT_601:
    case VPX_CS_SMPTE_170:
      return ColorMatrix::kBt601;
    case VPX_CS_BT_709:
      return ColorMatrix::kBt709;
    case VPX_CS_SMPTE_240:
      return ColorMatrix::kSmpte240;
    case VPX_CS_BT_2020:
      return ColorMatrix::kBt2020;
    case VPX_CS_SRGB:
      return ColorMatrix::kRgb;
    default:
      return ColorMatrix::kUnknown;
  }
}

Result<Image> ImageOf(const vpx_image_t& image, const FilmIndex& index) {
  if ((image.fmt & VPX_IMG_FMT_HIGHBITDEPTH) != 0 || image.bit_depth > 8) {
    return Fail(
        kFilm.Unsupported(fmt::format("its VP9 has {} bits; only 8 are read", image.bit_depth)));
  }
  YuvFrame frame{.size = {.width = image.d_w, .height = image.d_h},
                 .y = {image.planes[VPX_PLANE_Y], image.stride[VPX_PLANE_Y]},
                 .cb = {image.planes[VPX_PLANE_U], image.stride[VPX_PLANE_U]},
                 .cr = {image.planes[VPX_PLANE_V], image.stride[VPX_PLANE_V]},
                 .chroma_shift_x = image.x_chroma_shift,
                 .chroma_shift_y = image.y_chroma_shift};
  // VP8 has one colour space, and says nothing of it here.
  frame.colors.matrix =
      index.codec == FilmCodec::kVp8 ? ColorMatrix::kBt601 : MatrixOfVpx(image.cs);
  frame.colors.full_range = image.range == VPX_CR_FULL_RANGE;
  if (frame.colors.matrix == ColorMatrix::kUnknown) {
    frame.colors.matrix = index.colors.matrix;
  }
  return RgbOf(frame);
}

/// Refuses another size before the decoder takes memory for it.
Result<void> CheckKeySize(Bytes sample, const FilmIndex& index, std::uint32_t number) {
  vpx_codec_stream_info_t info{};
  info.sz = sizeof info;
  const bool known =
      ::vpx_codec_peek_stream_info(InterfaceOf(index.codec), sample.data(),
                                   static_cast<unsigned>(sample.size()), &info) == VPX_CODEC_OK;
  if (known && info.is_kf != 0 && info.w != 0 &&
      (info.w != index.size.width || info.h != index.size.height)) {
    return Fail(kFilm.Unsupported(fmt::format("frame {} is {}x{}, the video {}x{}", number, info.w,
                                              info.h, index.size.width, index.size.height)));
  }
  return {};
}

Result<void> DecodeRun(Bytes file, const FilmIndex& index, std::uint32_t begin, std::uint32_t end,
                       FrameSink& sink) {
  Decoder decoder;
  PX_CHECK_OK(decoder.Open(index.codec));
  for (std::uint32_t i = begin; i < end && sink.Wants(i, end); ++i) {
    const Bytes sample = BytesOf(file, index.samples[i]);
    PX_CHECK_OK(CheckKeySize(sample, index, i));
    if (::vpx_codec_decode(decoder.get(), sample.data(), static_cast<unsigned>(sample.size()),
                           nullptr, 0) != VPX_CODEC_OK) {
      return Fail(kFilm.Corrupt(fmt::format("frame {}: {}", i, ::vpx_codec_error(decoder.get()))));
    }
    const vpx_image_t* shown = nullptr;
    vpx_codec_iter_t at = nullptr;
    while (const vpx_image_t* image = ::vpx_codec_get_frame(decoder.get(), &at)) {
      shown = image;
    }
    if (shown != nullptr && sink.Wants(i)) {
      PX_TRY(Image image, ImageOf(*shown, index));
      PX_CHECK_OK(sink.Put(i, std::move(image)));
    }
  }
  return {};
}

}  // namespace

Result<void> DecodeVpxFilm(Bytes file, const FilmIndex& index, FrameSink& sink) {
  return ForWantedRuns(index, sink, [&](std::uint32_t begin, std::uint32_t end) {
    return DecodeRun(file, index, begin, end, sink);
  });
}

}  // namespace pixii::media
