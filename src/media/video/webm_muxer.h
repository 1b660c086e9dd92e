// WebM files of one video track, everything that describes them and where to jump to in front of
// the pictures.
//
// Thread: pure functions. Output is the same for the same input: no clock, no random source.
// Source: RFC 8794 (EBML), RFC 9559 (Matroska), the WebM container guidelines (times in
// milliseconds, doc type, V_VP9), ISO/IEC 23001-8 (colour code points: 1 is BT.709).
#pragma once

#include <string>

#include "base/result.h"
#include "media/video/mp4_muxer.h"

namespace pixii::media {

/// Errors: kInvalidArgument for a track without samples, whose first cannot stand alone, of no
/// sides or no time.
Result<std::string> WriteWebm(const VideoTrack& track);

}  // namespace pixii::media
