#include <wels/codec_api.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "media/film/frame_sink.h"
#include "media/film/h264_headers.h"
#include "media/film/yuv.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

struct CloseDecoder {
  void operator()(ISVCDecoder* decoder) const {
    decoder->Uninitialize();
    ::WelsDestroyDecoder(decoder);
  }
};

using Decoder = std::unique_ptr<ISVCDecoder, CloseDecoder>;

Result<Decoder> Open() {
  ISVCDecoder* made = nullptr;
  if (::WelsCreateDecoder(&made) != 0 || made == nullptr) {
    return Fail(Code::kUnavailable, "openh264 gives no decoder", kFilm.noun);
  }
  Decoder decoder(made);
  int quiet = WELS_LOG_QUIET;
  decoder->SetOption(DECODER_OPTION_TRACE_LEVEL, &quiet);
  SDecodingParam how{};
  how.uiTargetDqLayer = 0xff;
  how.eEcActiveIdc = ERROR_CON_DISABLE;  // a broken frame is an error, not a guess
  how.sVideoProperty.eVideoBsType = VIDEO_BITSTREAM_AVC;
  how.sVideoProperty.size = sizeof how.sVideoProperty;
  if (decoder->Initialize(&how) != 0) {
    return Fail(Code::kUnavailable, "openh264 does not start", kFilm.noun);
  }
  return decoder;
}

/// Frames of one run, which come in the order they are shown.
class Run final {
 public:
  Run(Bytes file, const FilmIndex& index, const H264Config& config, FrameSink& sink)
      : file_(file), index_(index), config_(config), sink_(sink) {}

  Result<void> Decode(std::uint32_t begin, std::uint32_t end) {
    PX_TRY(const Decoder decoder, Open());
    order_.resize(end - begin);
    std::iota(order_.begin(), order_.end(), begin);
    std::ranges::sort(order_, {},
                      [&](std::uint32_t i) { return std::pair(index_.samples[i].time, i); });
    next_ = 0;
    std::string units = config_.parameters;
    for (std::uint32_t i = begin; i < end; ++i) {
      PX_TRY(const std::string own,
             WithStartCodes(BytesOf(file_, index_.samples[i]), config_, index_.size));
      units += own;
      unsigned char* planes[3] = {};
      SBufferInfo info{};
      const DECODING_STATE state =
          decoder->DecodeFrameNoDelay(reinterpret_cast<const unsigned char*>(units.data()),
                                      static_cast<int>(units.size()), planes, &info);
      units.clear();
      if (state != dsErrorFree) {
        return Fail(kFilm.Corrupt(
            fmt::format("frame {}: openh264 says {:#x}", i, static_cast<unsigned>(state))));
      }
      PX_CHECK_OK(Take(planes, info));
    }
    int left = 0;
    decoder->GetOption(DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, &left);
    for (int i = 0; i < left; ++i) {
      unsigned char* planes[3] = {};
      SBufferInfo info{};
      decoder->FlushFrame(planes, &info);
      PX_CHECK_OK(Take(planes, info));
    }
    if (next_ != order_.size()) {
      return Fail(kFilm.Corrupt(
          fmt::format("of frames {} to {} openh264 shows {}", begin, end - 1, next_)));
    }
    return {};
  }

 private:
  Result<void> Take(unsigned char* const* planes, const SBufferInfo& info) {
    if (info.iBufferStatus != 1) {
      return {};
    }
    if (next_ == order_.size()) {
      return Fail(kFilm.Corrupt("it shows more frames than it has"));
    }
    const std::uint32_t sample = order_[next_++];
    if (!sink_.Wants(sample)) {
      return {};
    }
    const SSysMEMBuffer& buffer = info.UsrData.sSystemBuffer;
    if (buffer.iWidth <= 0 || buffer.iHeight <= 0 || buffer.iFormat != videoFormatI420) {
      return Fail(kFilm.Corrupt(fmt::format("frame {} has no planes", sample)));
    }
    YuvFrame frame{.size = {.width = static_cast<std::uint32_t>(buffer.iWidth),
                            .height = static_cast<std::uint32_t>(buffer.iHeight)},
                   .y = {planes[0], buffer.iStride[0]},
                   .cb = {planes[1], buffer.iStride[1]},
                   .cr = {planes[2], buffer.iStride[1]},
                   .colors = config_.colors_said ? config_.colors : index_.colors};
    if (frame.colors.matrix == ColorMatrix::kUnknown) {
      frame.colors.matrix = index_.colors.matrix;
    }
    PX_TRY(Image image, RgbOf(frame));
    return sink_.Put(sample, std::move(image));
  }

  Bytes file_;
  const FilmIndex& index_;
  const H264Config& config_;
  FrameSink& sink_;
  std::vector<std::uint32_t> order_;  // samples of the run as they are shown
  std::size_t next_ = 0;
};

}  // namespace

Result<void> DecodeH264Film(Bytes file, const FilmIndex& index, FrameSink& sink) {
  PX_TRY(const H264Config config, ReadH264Config(index.config));
  return ForWantedRuns(index, sink, [&](std::uint32_t begin, std::uint32_t end) {
    return Run(file, index, config, sink).Decode(begin, end);
  });
}

}  // namespace pixii::media
