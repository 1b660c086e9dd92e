// WebM and Matroska: the blocks of the first video track.
//
// Segments and clusters may have no size, as streams are written: they are walked through as if
// their elements lay in the file itself, which needs no stack and ends with the file.
#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "media/film/film_index.h"
#include "media/media_noun.h"

namespace pixii::media {

namespace {

// Element ids, RFC 9559.
enum Id : std::uint32_t {
  kSegment = 0x18538067,
  kCluster = 0x1F43B675,
  kInfo = 0x1549A966,
  kTimestampScale = 0x2AD7B1,
  kDuration = 0x4489,
  kTracks = 0x1654AE6B,
  kTrackEntry = 0xAE,
  kTrackNumber = 0xD7,
  kTrackType = 0x83,
  kCodecId = 0x86,
  kCodecPrivate = 0x63A2,
  kDefaultDuration = 0x23E383,
  kContentEncodings = 0x6D80,
  kVideo = 0xE0,
  kPixelWidth = 0xB0,
  kPixelHeight = 0xBA,
  kColour = 0x55B0,
  kMatrix = 0x55B1,
  kRange = 0x55B9,
  kTimestamp = 0xE7,
  kSimpleBlock = 0xA3,
  kBlockGroup = 0xA0,
  kBlock = 0xA1,
  kReferenceBlock = 0xFB,
};

constexpr std::uint64_t kUnknownSize = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kVideoTrack = 1;
constexpr double kNanoseconds = 1e9;

struct Element {
  std::uint32_t id = 0;
  std::uint64_t size = 0;  // kUnknownSize: none is said
};

/// A number that says its own length, 1 to 8 bytes. kUnknownSize: all its bits are set.
std::uint64_t Vint(ByteReader& reader) {
  const std::uint8_t first = reader.Byte();
  if (first == 0) {
    reader.Skip(std::numeric_limits<std::size_t>::max());  // longer ones are not allowed
    return 0;
  }
  int more = 0;
  while ((first << more & 0x80) == 0) {
    ++more;
  }
  std::uint64_t value = first & (0x7fU >> more);
  bool all = value == (0x7fU >> more);
  for (int i = 0; i < more; ++i) {
    const std::uint8_t byte = reader.Byte();
    value = value << 8 | byte;
    all = all && byte == 0xff;
  }
  return all ? kUnknownSize : value;
}

/// Ids keep the bit that says their length.
std::uint32_t ReadId(ByteReader& reader) {
  const std::uint8_t first = reader.Byte();
  std::uint32_t id = first;
  for (std::uint32_t mark = 0x80; mark > 0x10 && (first & mark) == 0; mark >>= 1) {
    id = id << 8 | reader.Byte();
  }
  if (first < 0x10) {
    reader.Skip(std::numeric_limits<std::size_t>::max());
  }
  return id;
}

/// The elements of one whose size is known.
template <typename Visit>
Result<void> ForEach(Bytes body, const Visit& visit) {
  ByteReader reader(body);
  while (reader.left() > 0) {
    const std::uint32_t id = ReadId(reader);
    const std::uint64_t size = Vint(reader);
    const Bytes inner = size == kUnknownSize ? Bytes() : reader.Take(size);
    if (!reader.ok() || size == kUnknownSize) {
      return Fail(kFilm.Truncated(fmt::format("its element {:x} passes the one around it", id)));
    }
    PX_CHECK_OK(visit(id, inner));
  }
  return {};
}

std::uint64_t Unsigned(Bytes body) {
  std::uint64_t value = 0;
  for (const std::uint8_t byte : body.first(std::min<std::size_t>(body.size(), 8))) {
    value = value << 8 | byte;
  }
  return value;
}

double Float(Bytes body) {
  const std::uint64_t bits = Unsigned(body);
  if (body.size() == 4) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
  }
  return body.size() == 8 ? std::bit_cast<double>(bits) : 0.0;
}

struct Track {
  std::uint64_t number = 0;
  std::uint64_t type = 0;
  std::string codec;
  std::uint64_t frame_ns = 0;
  bool encoded = false;
};

class WebmReader final {
 public:
  WebmReader(Bytes file, std::uint32_t frames_max) : file_(file), frames_max_(frames_max) {}

  Result<FilmIndex> Read() {
    ByteReader reader(file_);
    while (reader.left() > 0 && index_.samples.size() <= frames_max_) {
      const Element element = {.id = ReadId(reader), .size = Vint(reader)};
      if (!reader.ok()) {
        return Fail(kFilm.Truncated("it ends in an element"));
      }
      if (element.id == kSegment || element.id == kCluster) {
        continue;
      }
      const Bytes body = element.size == kUnknownSize ? Bytes() : reader.Take(element.size);
      if (!reader.ok() || element.size == kUnknownSize) {
        return Fail(kFilm.Truncated(fmt::format("its element {:x} passes its end", element.id)));
      }
      PX_CHECK_OK(Take(element.id, body));
    }
    if (!found_) {
      return Fail(kFilm.Unsupported("it has no video track"));
    }
    SetSeconds();
    return std::move(index_);
  }

 private:
  Result<void> Take(std::uint32_t id, Bytes body) {
    switch (id) {
      case kInfo:
        return ForEach(body, [&](std::uint32_t inner, Bytes value) -> Result<void> {
          if (inner == kTimestampScale) {
            tick_ns_ = static_cast<double>(Unsigned(value));
          } else if (inner == kDuration) {
            duration_ = Float(value);
          }
          return {};
        });
      case kTracks:
        return ForEach(body, [&](std::uint32_t inner, Bytes value) {
          return inner == kTrackEntry && !found_ ? TakeTrack(value) : Result<void>();
        });
      case kTimestamp:
        cluster_time_ = static_cast<std::int64_t>(
            std::min<std::uint64_t>(Unsigned(body), std::numeric_limits<std::int64_t>::max() / 2));
        return {};
      case kSimpleBlock:
        return TakeBlock(body, true, true);
      case kBlockGroup: {
        Bytes block;
        bool refers = false;
        PX_CHECK_OK(ForEach(body, [&](std::uint32_t inner, Bytes value) -> Result<void> {
          block = inner == kBlock ? value : block;
          refers = refers || inner == kReferenceBlock;
          return {};
        }));
        return block.empty() ? Result<void>() : TakeBlock(block, false, !refers);
      }
      default:
        return {};
    }
  }

  Result<void> TakeTrack(Bytes body) {
    Track track;
    Bytes video;
    Bytes config;
    PX_CHECK_OK(ForEach(body, [&](std::uint32_t id, Bytes value) -> Result<void> {
      switch (id) {
        case kTrackNumber:
          track.number = Unsigned(value);
          break;
        case kTrackType:
          track.type = Unsigned(value);
          break;
        case kCodecId:
          track.codec.assign(value.begin(), value.end());
          break;
        case kCodecPrivate:
          config = value;
          break;
        case kDefaultDuration:
          track.frame_ns = Unsigned(value);
          break;
        case kContentEncodings:
          track.encoded = true;
          break;
        case kVideo:
          video = value;
          break;
        default:
          break;
      }
      return {};
    }));
    if (track.type != kVideoTrack) {
      return {};
    }
    if (track.encoded) {
      return Fail(kFilm.Unsupported("its frames are compressed or encrypted once more"));
    }
    PX_CHECK_OK(TakeCodec(track.codec, config));
    found_ = true;
    number_ = track.number;
    frame_ns_ = track.frame_ns;
    return ForEach(video, [&](std::uint32_t id, Bytes value) -> Result<void> {
      const auto side = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(Unsigned(value), std::numeric_limits<std::uint32_t>::max()));
      if (id == kPixelWidth) {
        index_.size.width = side;
      } else if (id == kPixelHeight) {
        index_.size.height = side;
      } else if (id == kColour) {
        return ForEach(value, [&](std::uint32_t inner, Bytes number) -> Result<void> {
          if (inner == kMatrix) {
            index_.colors.matrix = MatrixOf(static_cast<std::uint32_t>(Unsigned(number)));
          } else if (inner == kRange) {
            constexpr std::uint64_t kFull = 2;
            index_.colors.full_range = Unsigned(number) == kFull;
          }
          return {};
        });
      }
      return {};
    });
  }

  Result<void> TakeCodec(std::string name, Bytes config) {
    while (!name.empty() && name.back() == '\0') {
      name.pop_back();
    }
    if (name == "V_VP8") {
      index_.codec = FilmCodec::kVp8;
    } else if (name == "V_VP9") {
      index_.codec = FilmCodec::kVp9;
    } else if (name == "V_MJPEG") {
      index_.codec = FilmCodec::kJpeg;
    } else if (name == "V_MPEG4/ISO/AVC") {
      index_.codec = FilmCodec::kH264;
      index_.config = config;
    } else {
      std::ranges::replace_if(name, [](char c) { return c < ' ' || c > '~'; }, '?');
      name.resize(std::min<std::size_t>(name.size(), 40));
      const std::string_view known = name.starts_with("V_MPEGH/ISO/HEVC") ? "HEVC"
                                     : name == "V_AV1"                    ? "AV1"
                                                                          : "of another kind";
      return Fail(CodecUnsupported(fmt::format("{} (\"{}\")", known, name)));
    }
    return {};
  }

  Result<void> TakeBlock(Bytes body, bool simple, bool key) {
    ByteReader reader(body);
    const std::uint64_t track = Vint(reader);
    const auto offset = static_cast<std::int16_t>(reader.Big16());
    const std::uint8_t flags = reader.Byte();
    if (!reader.ok()) {
      return Fail(kFilm.Truncated("a block of it ends early"));
    }
    if (!found_ || track != number_) {
      return {};
    }
    constexpr std::uint8_t kLacing = 0x06;
    if ((flags & kLacing) != 0) {
      return Fail(kFilm.Unsupported("several frames lie in one block"));
    }
    const Bytes frame = body.subspan(reader.at());
    index_.samples.push_back({.at = static_cast<std::uint64_t>(frame.data() - file_.data()),
                              .size = frame.size(),
                              .time = cluster_time_ + offset,
                              .key = simple ? (flags & 0x80) != 0 : key});
    return {};
  }

  void SetSeconds() {
    const auto shown = ShownOrder(index_);
    if (frame_ns_ > 0) {
      index_.seconds =
          static_cast<double>(frame_ns_) / kNanoseconds * static_cast<double>(shown.size());
    } else if (shown.size() > 1) {
      // The last one is shown as long as those before it are on the mean.
      const double between = static_cast<double>(index_.samples[shown.back()].time -
                                                 index_.samples[shown.front()].time) /
                             static_cast<double>(shown.size() - 1);
      index_.seconds = between * tick_ns_ / kNanoseconds * static_cast<double>(shown.size());
    } else if (duration_ > 0.0 && duration_ < 1e15) {
      index_.seconds = duration_ * tick_ns_ / kNanoseconds;
    }
  }

  Bytes file_;
  std::uint32_t frames_max_;
  FilmIndex index_ = {.format = FilmFormat::kWebm};
  bool found_ = false;
  std::uint64_t number_ = 0;
  std::uint64_t frame_ns_ = 0;
  double tick_ns_ = 1e6;
  double duration_ = 0.0;  // ticks
  std::int64_t cluster_time_ = 0;
};

}  // namespace

Result<FilmIndex> ReadWebmIndex(Bytes file, std::uint32_t frames_max) {
  return WebmReader(file, frames_max).Read();
}

}  // namespace pixii::media
