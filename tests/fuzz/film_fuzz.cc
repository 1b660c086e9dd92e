// Any bytes as a video: by container (PX_FUZZ_CONTAINER), or as the frames of one codec in a
// container that is whole. Frames of the size that the tables gave, or a refusal with a sentence.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "media/film/film_decode.h"
#include "media/film/film_sampling.h"

#define PX_TEXT_OF_(name) #name
#define PX_TEXT_OF(name) PX_TEXT_OF_(name)

namespace {

using pixii::media::DecodedBytes;
using pixii::media::FilmDecodeOptions;
using pixii::media::FilmInfo;

constexpr std::string_view kKind = PX_TEXT_OF(PX_FUZZ_CONTAINER);

std::string Big(std::uint64_t value, int bytes) {
  std::string out;
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out += static_cast<char>(value >> shift & 0xff);
  }
  return out;
}

std::string Element(std::string_view id, const std::string& body) {
  return std::string(id) + Big(body.size() | std::uint64_t{1} << 56, 8) + body;
}

/// A WebM file of 64x48 whose frames are pieces of `bytes`: each begins with its length.
std::string Wrap(std::string_view bytes) {
  const auto piece = [&]() -> std::string {
    if (bytes.size() < 2) {
      return {};
    }
    const std::size_t size =
        static_cast<unsigned char>(bytes[0]) << 8U | static_cast<unsigned char>(bytes[1]);
    std::string out(bytes.substr(2, size));
    bytes.remove_prefix(std::min(bytes.size(), 2 + size));
    return out;
  };
  const std::string codec = kKind == "vp8" ? "V_VP8" : kKind == "vp9" ? "V_VP9" : "V_MPEG4/ISO/AVC";
  std::string entry = Element("\xd7", "\1") + Element("\x83", "\1") + Element("\x86", codec);
  if (kKind == "h264") {
    entry += Element("\x63\xa2", piece());
  }
  entry += Element("\xe0", Element("\xb0", "\x40") + Element("\xba", "\x30"));
  std::string out = Element("\x1a\x45\xdf\xa3", "") + "\x18\x53\x80\x67\xff" +
                    Element("\x16\x54\xae\x6b", Element("\xae", entry)) + "\x1f\x43\xb6\x75\xff" +
                    Element("\xe7", std::string(1, '\0'));
  for (int time = 0; !bytes.empty() && time < 20; ++time) {
    out += Element("\xa3",
                   "\x81" + Big(time, 2) + (time == 0 ? "\x80" : std::string(1, '\0')) + piece());
  }
  return out;
}

std::vector<std::uint8_t> File(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  const auto begin = [&](std::size_t at, std::string_view text) {
    if (file.size() >= at + text.size()) {
      std::ranges::copy(text, file.begin() + static_cast<std::ptrdiff_t>(at));
    }
  };
  if (kKind == "mp4") {
    begin(4, "ftyp");
  } else if (kKind == "webm") {
    begin(0, "\x1a\x45\xdf\xa3");
  } else if (kKind == "avi") {
    begin(0, "RIFF");
    begin(8, "AVI ");
  } else if (kKind == "gif") {
    begin(0, "GIF89a");
  } else {
    file = Wrap(file);
  }
  return {file.begin(), file.end()};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::uint8_t> file = File(data, size);
  FilmDecodeOptions options{.limits = {.bytes_max = 1 << 20,
                                       .side_max = 1'000,
                                       .pixels_max = 100'000,
                                       .frames_max = 100,
                                       .frame_bytes_max = 4 << 20}};
  const auto info = pixii::media::ReadFilmInfo(file, options.limits);
  if (!info) {
    PX_ASSERT(!info.error().detail().empty() && info.error().param() == "video");
    return 0;
  }
  PX_ASSERT(info->frames >= 1 && info->frames <= 100);
  PX_ASSERT(info->size.pixel_count() >= 1 && info->size.pixel_count() <= 100'000);
  PX_ASSERT(info->frames_per_second() > 0.0);
  const auto frames = pixii::media::SampleFrames(*info, {.frames_max = 6});
  PX_ASSERT(frames && !frames->empty() && frames->back() < info->frames);
  options.frames = *frames;
  const auto bytes = DecodedBytes(*info, options);
  if (!bytes) {
    return 0;
  }
  std::vector<std::uint8_t> out(*bytes);
  const auto decoded = pixii::media::DecodeFilm(file, options, out);
  PX_ASSERT(decoded || !decoded.error().detail().empty());
  return 0;
}
