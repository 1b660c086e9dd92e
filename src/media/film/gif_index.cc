// GIF animations: how many pictures there are, and for how long each is shown.
#include "media/film/film_index.h"
#include "media/headers.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr std::uint8_t kImageBlock = 0x2c;
constexpr std::uint8_t kExtensionBlock = 0x21;
constexpr std::uint8_t kGraphicControl = 0xf9;
constexpr std::uint8_t kHasColours = 0x80;
// What browsers make of pictures that say to be shown for no time.
constexpr std::uint32_t kDelayLeast = 2;     // hundredths of a second; shorter is taken as
constexpr std::uint32_t kDelayDefault = 10;  // this

std::size_t ColourTableBytes(std::uint8_t flags) {
  return (flags & kHasColours) != 0 ? std::size_t{3} << ((flags & 7) + 1) : 0;
}

void SkipSubBlocks(ByteReader& reader) {
  while (const std::uint8_t size = reader.Byte()) {
    reader.Skip(size);
  }
}

}  // namespace

Result<FilmIndex> ReadGifIndex(Bytes file, std::uint32_t frames_max) {
  const Result<GifFrame> first = ReadGifFrame(file);
  if (!first) {
    return Fail(kFilm.Corrupt(first.error().detail()));
  }
  FilmIndex index{.format = FilmFormat::kGif, .codec = FilmCodec::kGif, .size = first->canvas};
  ByteReader reader(file.subspan(6));
  reader.Skip(4);
  const std::uint8_t flags = reader.Byte();
  reader.Skip(2 + ColourTableBytes(flags));
  std::uint32_t delay = 0;
  std::int64_t time = 0;
  while (reader.ok() && index.samples.size() <= frames_max) {
    const std::size_t at = 6 + reader.at();
    const std::uint8_t block = reader.Byte();
    if (block == kExtensionBlock) {
      if (reader.Byte() == kGraphicControl) {
        ByteReader control = reader;
        control.Skip(2);
        delay = control.Little16();
      }
      SkipSubBlocks(reader);
    } else if (block == kImageBlock) {
      reader.Skip(8);
      const std::uint8_t image_flags = reader.Byte();
      reader.Skip(ColourTableBytes(image_flags) + 1);
      SkipSubBlocks(reader);
      if (!reader.ok()) {
        return Fail(kFilm.Truncated(fmt::format("it ends in picture {}", index.samples.size())));
      }
      index.samples.push_back(
          {.at = at, .size = 6 + reader.at() - at, .time = time, .key = index.samples.empty()});
      time += delay < kDelayLeast ? kDelayDefault : delay;
      delay = 0;
    } else {
      break;  // the trailer, or bytes that are no block
    }
  }
  constexpr double kHundredths = 100.0;
  index.seconds = static_cast<double>(time) / kHundredths;
  return index;
}

}  // namespace pixii::media
