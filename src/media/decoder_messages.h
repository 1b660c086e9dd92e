// What a DecoderPool and its children say to each other: one message each way for an image. Both
// ends are the same program, so these are plain structs.
#pragma once

#include <cstdint>

#include "media/decode.h"
#include "media/film/film_info.h"

namespace pixii::media {

inline constexpr std::uint32_t kJobMagic = 0x3150584a;     // "JXP1"
inline constexpr std::uint32_t kAnswerMagic = 0x31505841;  // "AXP1"

/// The file lies at the start of the shared memory, of a video the numbers of its frames (32 bits
/// each) at frames_at; the pixels shall lie behind.
struct DecodeJob {
  std::uint32_t magic = kJobMagic;
  PixelRules pixels = {};
  bool exif = false;
  bool resizes = false;
  Resizing resize = {};
  ImageLimits limits = {};
  FilmLimits film_limits = {};
  std::uint32_t frames = 0;  // of a video; 0: the file is an image
  std::uint64_t frames_at = 0;
  std::uint64_t arena_bytes = 0;  // of the shared memory; another one than before came with this
  std::uint64_t file_bytes = 0;
  std::uint64_t pixels_at = 0;
  std::uint64_t pixels_bytes = 0;
};

inline constexpr std::size_t kAnswerDetailMax = 400;  // bytes

struct DecodeAnswer {
  std::uint32_t magic = kAnswerMagic;
  bool failed = false;
  std::uint32_t code = 0;  // of an Error
  std::uint32_t detail_bytes = 0;
  char detail[kAnswerDetailMax] = {};
};

}  // namespace pixii::media
