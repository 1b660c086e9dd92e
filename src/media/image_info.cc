#include "media/image_info.h"

#include <algorithm>

#include "media/headers.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

bool StartsWith(Bytes file, std::string_view text) { return ByteReader(file).TakeText(text); }

Result<ImageInfo> ReadHeader(Bytes file, std::uint32_t frames_max) {
  if (StartsWith(file, "\xff\xd8\xff")) {
    return ReadJpegHeader(file);
  }
  if (StartsWith(file, kPngSignature)) {
    return ReadPngHeader(file);
  }
  if (StartsWith(file, "GIF87a") || StartsWith(file, "GIF89a")) {
    return ReadGifHeader(file, frames_max);
  }
  if (StartsWith(file, "RIFF") && file.size() >= 12 && StartsWith(file.subspan(8), "WEBP")) {
    return ReadWebpHeader(file, frames_max);
  }
  if (StartsWith(file, "BM")) {
    return ReadBmpHeader(file);
  }
  return Fail(kImage.Unsupported("its first bytes are not those of JPEG, PNG, WebP, GIF or BMP"));
}

}  // namespace

std::string_view FormatName(Format format) {
  constexpr std::string_view kNames[] = {"jpeg", "png", "webp", "gif", "bmp"};
  return kNames[static_cast<std::size_t>(format)];
}

Result<ImageInfo> ReadImageInfo(Bytes file, const ImageLimits& limits) {
  if (file.empty()) {
    return Fail(Code::kInvalidArgument, "image is empty: it has 0 bytes", kImage.noun);
  }
  if (file.size() > limits.bytes_max) {
    return Fail(kImage.TooLarge("it has", file.size(), "bytes", "bytes_max", limits.bytes_max));
  }
  PX_TRY(const ImageInfo info, ReadHeader(file, limits.frames_max));
  const ImageSize size = info.size;
  if (size.width == 0 || size.height == 0) {
    return Fail(kImage.Corrupt(fmt::format("its size is {}x{}", size.width, size.height)));
  }
  for (const auto& [name, side] : {std::pair("width", size.width), {"height", size.height}}) {
    if (side > limits.side_max) {
      return Fail(kImage.TooLarge(name, side, "pixels", "side_max", limits.side_max));
    }
  }
  if (size.pixel_count() > limits.pixels_max) {
    return Fail(kImage.TooLarge(fmt::format("{}x{} is", size.width, size.height),
                                size.pixel_count(), "pixels", "pixels_max", limits.pixels_max));
  }
  if (info.frames > limits.frames_max) {
    return Fail(
        kImage.TooLarge("it has at least", info.frames, "frames", "frames_max", limits.frames_max));
  }
  return info;
}

std::uint8_t ExifOrientation(Bytes tiff) {
  constexpr std::uint32_t kOrientationTag = 0x0112;
  constexpr std::size_t kEntryBytes = 12;
  ByteReader reader(tiff);
  const bool little = reader.TakeText(std::string_view("II\x2a\0", 4));
  if (!little && !reader.TakeText(std::string_view("MM\0\x2a", 4))) {
    return 1;
  }
  const std::uint32_t at = little ? reader.Little32() : reader.Big32();
  if (!reader.ok() || at > tiff.size()) {
    return 1;
  }
  reader = ByteReader(tiff.subspan(at));
  const std::uint32_t count = little ? reader.Little16() : reader.Big16();
  for (std::uint32_t i = 0; i < count && reader.left() >= kEntryBytes; ++i) {
    ByteReader entry(reader.Take(kEntryBytes));
    if ((little ? entry.Little16() : entry.Big16()) == kOrientationTag) {
      entry.Skip(6);  // type and count: whatever they say, the value is a small number
      const std::uint32_t value = little ? entry.Little16() : entry.Big16();
      return value >= 1 && value <= 8 ? static_cast<std::uint8_t>(value) : 1;
    }
  }
  return 1;
}

}  // namespace pixii::media
