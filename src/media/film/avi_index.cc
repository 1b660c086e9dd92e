// AVI: the chunks of the first video stream, also where the file goes on in further RIFF lists
// (OpenDML). Indexes are not read: chunks say themselves what they are.
#include <algorithm>

#include "media/film/film_index.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

struct Stream {
  std::uint32_t codec = 0;  // as written
  bool video = false;
  double frame_seconds = 0.0;
  ImageSize size = {};
};

Stream ReadStream(Bytes strl) {
  Stream out;
  ByteReader reader(strl);
  while (reader.left() >= 8) {
    const std::uint32_t id = reader.Big32();
    const std::uint32_t size = reader.Little32();
    ByteReader body(reader.Take(std::min<std::size_t>(size, reader.left())));
    reader.Skip(std::min<std::size_t>(size % 2, reader.left()));
    if (id == Four("strh")) {
      out.video = body.TakeText("vids");
      out.codec = body.Big32();
      body.Skip(12);
      const std::uint32_t scale = body.Little32();
      const std::uint32_t rate = body.Little32();
      out.frame_seconds = rate > 0 ? static_cast<double>(scale) / rate : 0.0;
    } else if (id == Four("strf") && out.video) {
      body.Skip(4);
      out.size.width = body.Little32();
      const std::uint32_t height = body.Little32();
      out.size.height = height >> 31U != 0 ? ~height + 1 : height;  // below zero: top row first
      body.Skip(4);
      out.codec = body.Big32();
    }
  }
  return out;
}

class AviReader final {
 public:
  AviReader(Bytes file, std::uint32_t frames_max) : file_(file), frames_max_(frames_max) {}

  Result<FilmIndex> Read() {
    ByteReader reader(file_);
    while (reader.left() >= 8 && index_.samples.size() <= frames_max_) {
      const std::uint32_t id = reader.Big32();
      const std::uint32_t size = reader.Little32();
      if (id == Four("RIFF") || id == Four("LIST")) {
        const std::uint32_t kind = reader.Big32();
        if (kind == Four("strl")) {
          PX_CHECK_OK(TakeStream(reader, size));
        }
        continue;  // what lies in other lists comes next
      }
      const std::size_t at = reader.at();
      if (size > reader.left()) {
        return Fail(kFilm.Truncated(fmt::format("its chunk \"{}\" of {} bytes has {}",
                                                ShownCode(id), size, reader.left())));
      }
      reader.Skip(size);
      reader.Skip(std::min<std::size_t>(size % 2, reader.left()));
      const std::uint32_t kind = id & 0xffff;
      // An empty chunk stands for the frame before, shown again.
      if (found_ && id >> 16U == number_ &&
          (kind == ('d' << 8 | 'c') || kind == ('d' << 8 | 'b')) && size > 0) {
        index_.samples.push_back({.at = at,
                                  .size = size,
                                  .time = static_cast<std::int64_t>(index_.samples.size()),
                                  .key = true});
      }
    }
    if (!found_) {
      return Fail(kFilm.Unsupported("it has no video stream"));
    }
    index_.seconds = frame_seconds_ * static_cast<double>(index_.samples.size());
    return std::move(index_);
  }

 private:
  Result<void> TakeStream(ByteReader& reader, std::uint32_t size) {
    if (size < 4 || size - 4 > reader.left()) {
      return Fail(kFilm.Truncated("the list of a stream passes its end"));
    }
    const Stream stream = ReadStream(reader.Take(size - 4));
    const std::uint32_t number = streams_++;
    if (!stream.video || found_) {
      return {};
    }
    if (stream.codec != Four("MJPG") && stream.codec != Four("mjpg")) {
      return Fail(kFilm.Unsupported(fmt::format(
          "its codec is \"{}\"; of AVI only JPEG (\"MJPG\") is read", ShownCode(stream.codec))));
    }
    found_ = true;
    number_ = ('0' + number / 10 % 10) << 8 | ('0' + number % 10);
    frame_seconds_ = stream.frame_seconds;
    index_.size = stream.size;
    return {};
  }

  Bytes file_;
  std::uint32_t frames_max_;
  FilmIndex index_ = {.format = FilmFormat::kAvi, .codec = FilmCodec::kJpeg};
  bool found_ = false;
  std::uint32_t streams_ = 0;
  std::uint32_t number_ = 0;  // its two digits
  double frame_seconds_ = 0.0;
};

}  // namespace

Result<FilmIndex> ReadAviIndex(Bytes file, std::uint32_t frames_max) {
  return AviReader(file, frames_max).Read();
}

}  // namespace pixii::media
