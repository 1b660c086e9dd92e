// MP4 files of one video track, everything that describes them in front of the pictures, so that a
// player can begin before the file has arrived.
//
// Thread: pure functions. Output is the same for the same input: no clock, no random source.
// Source: ISO/IEC 14496-12 (boxes), VP Codec ISO Media File Format Binding 1.0 (vp09, vpcC),
// ISO/IEC 23001-8 (colour code points: 1 is BT.709).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "media/video/color.h"

namespace pixii::media {

inline constexpr std::size_t kMp4SizeMax = 0xFFFFFFFF;  // bytes: offsets have 32 bits

struct VideoSample {
  std::string bytes;
  bool key = false;  // can be shown without those before it
};

struct VideoTrack {
  PictureSize size;
  std::uint32_t timescale = 16000;       // ticks of a second
  std::uint32_t sample_duration = 1000;  // ticks of a sample; all are alike
  std::vector<VideoSample> samples;      // VP9, in the order they are shown
};

/// Errors: kInvalidArgument for a track without samples, sides past 65535 or no time; kTooLarge.
Result<std::string> WriteMp4(const VideoTrack& track);

}  // namespace pixii::media
