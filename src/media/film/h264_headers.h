// What an H.264 stream says before its pictures: avcC, and of a sequence parameter set the size,
// the kind of samples and their colours.
//
// Thread: any; pure.
// Source: ISO/IEC 14496-15 (avcC), ITU-T H.264 7.3.2.1 and annex E.
#pragma once

#include <string>

#include "media/film/film_index.h"

namespace pixii::media {

struct H264Config {
  std::uint32_t length_bytes = 4;  // in front of each unit of a sample
  std::string parameters = {};     // sets, each behind a start code
  ImageSize size = {};             // of the first one, cut as it says
  FilmColors colors = {};
  bool colors_said = false;
};

/// Errors: kInvalidArgument; kUnsupported for interlaced pictures, other chroma than 4:2:0 and more
/// than 8 bits, which the decoder does not take.
Result<H264Config> ReadH264Config(Bytes config);

/// A sequence parameter set, without its start code.
struct H264Sequence {
  ImageSize size = {};
  FilmColors colors = {};
  bool colors_said = false;
};

Result<H264Sequence> ReadH264Sequence(Bytes unit);

/// `sample` with start codes in place of its lengths. Sequence parameter sets inside of it are read
/// on the way: another size than `size` is kUnsupported, before any decoder sees it.
Result<std::string> WithStartCodes(Bytes sample, const H264Config& config, ImageSize size);

}  // namespace pixii::media
