#include "media/video/avi_muxer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace pixii::media {
namespace {

constexpr std::uint32_t kHasIndex = 0x10;  // of avih's flags
constexpr std::uint32_t kKeyFrame = 0x10;  // of an index entry's
constexpr std::string_view kPictureId = "00dc";

/// Numbers with the small end first.
std::string Little(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>(value >> (8 * i) & 0xFF);
  }
  return out;
}

std::string Words(std::initializer_list<std::uint64_t> values) {
  std::string out;
  for (const std::uint64_t value : values) {
    out += Little(value, 4);
  }
  return out;
}

/// Chunks begin at even places.
void AppendChunk(std::string& out, std::string_view id, std::string_view content) {
  out += id;
  out += Little(content.size(), 4);
  out += content;
  out.append(content.size() % 2, '\0');
}

std::string List(std::string_view id, std::string_view type, std::string_view content) {
  std::string out;
  AppendChunk(out, id, std::string(type) + std::string(content));
  return out;
}

std::string Headers(const JpegTrack& track, std::uint64_t count, std::uint64_t largest) {
  const auto width = static_cast<std::uint64_t>(track.size.width);
  const auto height = static_cast<std::uint64_t>(track.size.height);
  const std::uint64_t period = std::uint64_t{track.scale} * 1'000'000 / track.rate;
  const std::uint64_t rate = largest * track.rate / track.scale;  // bytes a second at most
  std::string out;
  AppendChunk(out, "avih",
              Words({period, rate, 0, kHasIndex, count, 0, 1, largest, width, height, 0, 0, 0, 0}));
  std::string stream;
  AppendChunk(stream, "strh",
              "vidsMJPG" + Words({0, 0, 0, track.scale, track.rate, 0, count, largest}) +
                  Words({0xFFFFFFFF, 0}) + Little(0, 2) + Little(0, 2) + Little(width, 2) +
                  Little(height, 2));
  AppendChunk(stream, "strf",
              Words({40, width, height}) + Little(1, 2) + Little(24, 2) + "MJPG" +
                  Words({width * height * 3, 0, 0, 0, 0}));
  return List("LIST", "hdrl", out + List("LIST", "strl", stream));
}

}  // namespace

Result<std::string> WriteAvi(const JpegTrack& track, std::span<const std::string> pictures) {
  if (pictures.empty() || track.rate == 0 || track.scale == 0 || track.size.width < 1 ||
      track.size.height < 1) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("no AVI file of {} pictures of {} x {}, {} in {} seconds", pictures.size(),
                    track.size.width, track.size.height, track.rate, track.scale));
  }
  std::uint64_t largest = 0;
  std::uint64_t sum = 0;
  for (const std::string& picture : pictures) {
    largest = std::max<std::uint64_t>(largest, picture.size());
    sum += picture.size() + 1 + 8 + 16;  // with its header and index entry
  }
  if (sum > kAviSizeMax) {
    return Fail(Code::kTooLarge, fmt::format("the video would have {} bytes, an AVI file holds {}",
                                             sum, kAviSizeMax));
  }
  std::string movie;
  std::string index;
  for (const std::string& picture : pictures) {
    index += kPictureId;  // from the list's type on
    index += Words({kKeyFrame, 4 + movie.size(), picture.size()});
    AppendChunk(movie, kPictureId, picture);
  }
  std::string content = Headers(track, pictures.size(), largest) + List("LIST", "movi", movie);
  AppendChunk(content, "idx1", index);
  return List("RIFF", "AVI ", content);
}

}  // namespace pixii::media
