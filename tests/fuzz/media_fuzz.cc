// Any bytes as an image of one format (PX_FUZZ_FORMAT), by every way to decode it: pixels of the
// size that the header gave, or a refusal with a sentence.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "media/decode.h"

#define PX_TEXT_OF_(name) #name
#define PX_TEXT_OF(name) PX_TEXT_OF_(name)

namespace {

using pixii::media::Alpha;
using pixii::media::DecodeOptions;
using pixii::media::DeepGrey;
using pixii::media::FormatName;

// The first bytes that give the format away: a target for each keeps to its own decoder.
std::string_view Signature() {
  constexpr std::string_view kFormat = PX_TEXT_OF(PX_FUZZ_FORMAT);
  if (kFormat == "jpeg") {
    return "\xff\xd8\xff";
  }
  if (kFormat == "png") {
    return "\x89PNG\r\n\x1a\n";
  }
  if (kFormat == "gif") {
    return "GIF89a";
  }
  return kFormat == "bmp" ? "BM" : "RIFF";
}

std::uint32_t Crc32(const std::uint8_t* bytes, std::size_t size) {
  std::uint32_t crc = ~0U;
  for (std::size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xedb88320U : crc >> 1;
    }
  }
  return ~crc;
}

// Checksums of chunks made right, where the last byte of the file asks for it: no mutation would
// come past them else.
void MendPngChecksums(std::vector<std::uint8_t>& file) {
  const auto word = [&](std::size_t at) {
    return std::uint32_t{file[at]} << 24 | std::uint32_t{file[at + 1]} << 16 |
           std::uint32_t{file[at + 2]} << 8 | file[at + 3];
  };
  std::size_t at = 8;
  while (at + 12 <= file.size() && word(at) <= file.size() - at - 12) {
    const std::size_t size = word(at);
    const std::uint32_t crc = Crc32(file.data() + at + 4, size + 4);
    for (int i = 0; i < 4; ++i) {
      file[at + 8 + size + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
    }
    at += size + 12;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::uint8_t> file(data, data + size);
  const std::string_view signature = Signature();
  std::copy_n(signature.begin(), std::min(signature.size(), file.size()), file.begin());
  constexpr std::string_view kWebp = "WEBP";
  if (signature == "RIFF" && file.size() >= 12) {
    std::ranges::copy(kWebp, file.begin() + 8);
  }
  if (signature.ends_with("\x1a\n") && file.size() > 8 && file.back() % 2 == 0) {
    MendPngChecksums(file);
  }
  DecodeOptions options;
  options.limits = {
      .bytes_max = 1 << 20, .side_max = 2'000, .pixels_max = 300'000, .frames_max = 50};
  const auto info = pixii::media::ReadImageInfo(file, options.limits);
  if (info) {
    PX_ASSERT(info->size.pixel_count() >= 1 && info->size.pixel_count() <= 300'000);
    PX_ASSERT(info->frames >= 1 && info->frames <= 50);
    PX_ASSERT(info->orientation >= 1 && info->orientation <= 8);
    PX_ASSERT(FormatName(info->format) == PX_TEXT_OF(PX_FUZZ_FORMAT));
  }
  for (const bool other : {false, true}) {
    if (other) {
      options.exif = true;
      options.pixels = {.alpha = Alpha::kWhite, .deep_grey = DeepGrey::kHigh};
    }
    const auto image = pixii::media::Decode(file, options);
    PX_ASSERT(!image || info);
    if (image) {
      PX_ASSERT(image->size == DecodedSize(*info, options));
      PX_ASSERT(image->rgb.size() == image->size.pixel_count() * 3);
    } else {
      PX_ASSERT(!image.error().detail().empty() && image.error().param() == "image");
    }
  }
  return 0;
}
