// Pictures to VP9, profile 0, by libvpx.
//
// Thread: one owner. One thread encodes, so equal pictures give equal bytes on one version of the
// library.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "media/video/mp4_muxer.h"

namespace pixii::media {

struct Vp9Options {
  PictureSize size;
  std::uint32_t timescale = 16000;
  std::uint32_t picture_duration = 1000;  // ticks
  std::int32_t quality = 20;              // 0 best .. 63 worst, the same for every picture
};

/// Whether the library encodes VP9: it can be built without.
bool HasVp9Encoder();

class Vp9Encoder final {
 public:
  /// Errors: kInvalidArgument for sides or a quality out of range; kUnavailable with the library's
  /// words.
  static Result<Vp9Encoder> Create(const Vp9Options& options);

  Vp9Encoder(Vp9Encoder&&) noexcept;
  Vp9Encoder& operator=(Vp9Encoder&&) noexcept;
  ~Vp9Encoder();

  /// Pre: `picture` has the encoder's size. What is ready goes to samples().
  Result<void> Add(YuvPicture picture);
  /// Writes what the library has held back. Nothing may be added afterwards.
  Result<void> Finish();

  std::vector<VideoSample> TakeSamples();

 private:
  struct State;
  explicit Vp9Encoder(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace pixii::media
