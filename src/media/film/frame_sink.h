// Where decoders put frames: what was asked for is kept, resized, all else dropped.
//
// Thread: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "media/decode.h"
#include "media/film/film_index.h"

namespace pixii::media {

class FrameSink final {
 public:
  /// `out` has room for `frames`, positions in `order` (ShownOrder), ascending.
  FrameSink(const FilmIndex& index, std::span<const std::uint32_t> order,
            std::span<const std::uint32_t> frames, std::optional<Resizing> resize,
            std::span<std::uint8_t> out);

  /// Whether a frame of samples [begin, end) is asked for.
  bool Wants(std::uint32_t begin, std::uint32_t end) const;

  bool Wants(std::uint32_t sample) const { return Wants(sample, sample + 1); }

  /// The frame of `sample`. Errors: kUnsupported for another size than the film's; those of Resize.
  Result<void> Put(std::uint32_t sample, Image frame);

  /// Errors: kInvalidArgument if a frame that was asked for never came.
  Result<void> Finish() const;

 private:
  struct Slot {
    std::uint32_t sample;
    std::uint32_t place;  // in `out`
    bool filled;
  };

  ImageSize size_;
  std::vector<Slot> slots_;  // by sample
  std::optional<Resizing> resize_;
  std::size_t frame_bytes_;
  std::span<std::uint8_t> out_;
};

/// One decoder for each kind of codec: every wanted frame of `file` goes to `sink`.
Result<void> DecodeVpxFilm(Bytes file, const FilmIndex& index, FrameSink& sink);
Result<void> DecodeH264Film(Bytes file, const FilmIndex& index, FrameSink& sink);
Result<void> DecodeJpegFilm(Bytes file, const FilmIndex& index, FrameSink& sink);
Result<void> DecodeGifFilm(Bytes file, const FilmIndex& index, FrameSink& sink);

/// Calls `decode(begin, end)` for each run of samples from a key frame to the next one of which a
/// frame is wanted.
template <typename DecodeRun>
Result<void> ForWantedRuns(const FilmIndex& index, const FrameSink& sink, const DecodeRun& decode) {
  const auto count = static_cast<std::uint32_t>(index.samples.size());
  for (std::uint32_t begin = 0; begin < count;) {
    std::uint32_t end = begin + 1;
    while (end < count && !index.samples[end].key) {
      ++end;
    }
    if (sink.Wants(begin, end)) {
      PX_CHECK_OK(decode(begin, end));
    }
    begin = end;
  }
  return {};
}

inline Bytes BytesOf(Bytes file, const FilmSample& sample) {
  return file.subspan(sample.at, sample.size);
}

}  // namespace pixii::media
