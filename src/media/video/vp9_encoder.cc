#include "media/video/vp9_encoder.h"

#include <fmt/format.h>
#include <vpx/vp8cx.h>
#include <vpx/vpx_encoder.h>

#include <utility>

#include "base/assert.h"

namespace pixii::media {
namespace {

constexpr std::int32_t kSideMax = 16384;
constexpr int kSpeed = 4;  // libvpx: 0 slowest .. 8
constexpr unsigned kPicturesBetweenKeys = 128;
constexpr std::int32_t kQualityMax = 63;

tl::unexpected<Error> Broken(vpx_codec_ctx_t& context, std::string_view what) {
  const char* detail = vpx_codec_error_detail(&context);
  return Fail(Code::kUnavailable,
              fmt::format("libvpx could not {}: {}{}{}", what, vpx_codec_error(&context),
                          detail != nullptr ? ", " : "", detail != nullptr ? detail : ""));
}

}  // namespace

bool HasVp9Encoder() {
  vpx_codec_enc_cfg_t config;
  return vpx_codec_enc_config_default(vpx_codec_vp9_cx(), &config, 0) == VPX_CODEC_OK;
}

struct Vp9Encoder::State {
  Vp9Options options;
  vpx_codec_ctx_t context{};
  bool open = false;
  std::int64_t pictures = 0;
  std::vector<VideoSample> samples;

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  ~State() {
    if (open) {
      vpx_codec_destroy(&context);
    }
  }

  /// A null picture says that there are no more.
  Result<bool> Encode(const vpx_image_t* image) {
    if (vpx_codec_encode(&context, image, pictures * options.picture_duration,
                         options.picture_duration, 0, VPX_DL_GOOD_QUALITY) != VPX_CODEC_OK) {
      return Broken(context, fmt::format("encode picture {}", pictures));
    }
    bool some = false;
    vpx_codec_iter_t at = nullptr;
    while (const vpx_codec_cx_pkt_t* packet = vpx_codec_get_cx_data(&context, &at)) {
      if (packet->kind == VPX_CODEC_CX_FRAME_PKT) {
        samples.push_back({.bytes = std::string(static_cast<const char*>(packet->data.frame.buf),
                                                packet->data.frame.sz),
                           .key = (packet->data.frame.flags & VPX_FRAME_IS_KEY) != 0});
        some = true;
      }
    }
    return some;
  }
};

Vp9Encoder::Vp9Encoder(std::unique_ptr<State> state) : state_(std::move(state)) {}

Vp9Encoder::Vp9Encoder(Vp9Encoder&&) noexcept = default;
Vp9Encoder& Vp9Encoder::operator=(Vp9Encoder&&) noexcept = default;
Vp9Encoder::~Vp9Encoder() = default;

Result<Vp9Encoder> Vp9Encoder::Create(const Vp9Options& options) {
  const PictureSize& size = options.size;
  if (size.width < 1 || size.width > kSideMax || size.height < 1 || size.height > kSideMax ||
      options.quality < 0 || options.quality > kQualityMax || options.timescale == 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("no VP9 of {} x {} at quality {}: sides are 1 to {}, quality 0 to {}",
                            size.width, size.height, options.quality, kSideMax, kQualityMax));
  }
  vpx_codec_enc_cfg_t config;
  if (vpx_codec_enc_config_default(vpx_codec_vp9_cx(), &config, 0) != VPX_CODEC_OK) {
    return Fail(Code::kUnavailable, "libvpx has no VP9 encoder");
  }
  const auto quality = static_cast<unsigned>(options.quality);
  config.g_w = static_cast<unsigned>(size.width);
  config.g_h = static_cast<unsigned>(size.height);
  config.g_timebase = {1, static_cast<int>(options.timescale)};
  config.g_threads = 1;
  config.g_lag_in_frames = 0;  // a picture in, a sample out
  config.rc_end_usage = VPX_Q;
  config.kf_max_dist = kPicturesBetweenKeys;
  auto state = std::make_unique<State>();
  state->options = options;
  if (vpx_codec_enc_init(&state->context, vpx_codec_vp9_cx(), &config, 0) != VPX_CODEC_OK) {
    return Broken(state->context, "open its encoder");
  }
  state->open = true;
  const bool set =
      vpx_codec_control(&state->context, VP8E_SET_CPUUSED, kSpeed) == VPX_CODEC_OK &&
      vpx_codec_control(&state->context, VP8E_SET_CQ_LEVEL, quality) == VPX_CODEC_OK &&
      vpx_codec_control(&state->context, VP9E_SET_COLOR_SPACE, VPX_CS_BT_709) == VPX_CODEC_OK &&
      vpx_codec_control(&state->context, VP9E_SET_COLOR_RANGE, VPX_CR_STUDIO_RANGE) == VPX_CODEC_OK;
  if (!set) {
    return Broken(state->context, "take its settings");
  }
  return Vp9Encoder(std::move(state));
}

Result<void> Vp9Encoder::Add(YuvPicture picture) {
  PX_ASSERT(picture.size == state_->options.size);
  vpx_image_t image{};
  image.fmt = VPX_IMG_FMT_I420;
  image.cs = VPX_CS_BT_709;
  image.range = VPX_CR_STUDIO_RANGE;
  image.w = image.d_w = static_cast<unsigned>(picture.size.width);
  image.h = image.d_h = static_cast<unsigned>(picture.size.height);
  image.x_chroma_shift = 1;
  image.y_chroma_shift = 1;
  image.bit_depth = 8;
  image.bps = 12;
  image.planes[VPX_PLANE_Y] = picture.y();
  image.planes[VPX_PLANE_U] = picture.cb();
  image.planes[VPX_PLANE_V] = picture.cr();
  image.stride[VPX_PLANE_Y] = picture.size.width;
  image.stride[VPX_PLANE_U] = image.stride[VPX_PLANE_V] = picture.chroma_width();
  PX_TRY(const bool some, state_->Encode(&image));
  static_cast<void>(some);
  ++state_->pictures;
  return {};
}

Result<void> Vp9Encoder::Finish() {
  bool some = true;
  while (some) {
    PX_TRY(some, state_->Encode(nullptr));
  }
  return {};
}

std::vector<VideoSample> Vp9Encoder::TakeSamples() { return std::exchange(state_->samples, {}); }

}  // namespace pixii::media
