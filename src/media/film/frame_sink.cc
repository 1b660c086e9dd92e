#include "media/film/frame_sink.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "media/media_noun.h"

namespace pixii::media {

FrameSink::FrameSink(const FilmIndex& index, std::span<const std::uint32_t> order,
                     std::span<const std::uint32_t> frames, std::optional<Resizing> resize,
                     std::span<std::uint8_t> out)
    : size_(index.size),
      resize_(resize),
      frame_bytes_((resize ? resize->size : index.size).pixel_count() * kImageChannels),
      out_(out) {
  PX_ASSERT(out.size() == frame_bytes_ * frames.size());
  for (std::uint32_t place = 0; place < frames.size(); ++place) {
    slots_.push_back({.sample = order[frames[place]], .place = place, .filled = false});
  }
  std::ranges::sort(slots_, {},
                    [](const Slot& slot) { return std::pair(slot.sample, slot.place); });
}

bool FrameSink::Wants(std::uint32_t begin, std::uint32_t end) const {
  const auto found = std::ranges::lower_bound(slots_, begin, {}, &Slot::sample);
  return found != slots_.end() && found->sample < end;
}

Result<void> FrameSink::Put(std::uint32_t sample, Image frame) {
  if (frame.size != size_) {
    return Fail(kFilm.Unsupported(fmt::format("frame {} is {}x{}, the video {}x{}", sample,
                                              frame.size.width, frame.size.height, size_.width,
                                              size_.height)));
  }
  auto [slot, end] = std::ranges::equal_range(slots_, sample, {}, &Slot::sample);
  if (slot != end && resize_) {
    PX_TRY(frame, Resize(frame, resize_->size, resize_->filter));
  }
  for (; slot != end; ++slot) {
    std::ranges::copy(frame.rgb, out_.begin() + static_cast<std::ptrdiff_t>(slot->place) *
                                                    static_cast<std::ptrdiff_t>(frame_bytes_));
    slot->filled = true;
  }
  return {};
}

Result<void> FrameSink::Finish() const {
  const auto missing = std::ranges::find(slots_, false, &Slot::filled);
  if (missing != slots_.end()) {
    return Fail(kFilm.Corrupt(fmt::format("frame {} of it shows nothing", missing->sample)));
  }
  return {};
}

}  // namespace pixii::media
