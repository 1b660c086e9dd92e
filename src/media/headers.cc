#include "media/headers.h"

#include <algorithm>

#include "media/media_noun.h"

namespace pixii::media {

namespace {

// JPEG markers, T.81 table B.1.
constexpr std::uint8_t kStartOfScan = 0xda;
constexpr std::uint8_t kEndOfImage = 0xd9;
constexpr std::uint8_t kExifSegment = 0xe1;

bool IsFrameHeader(std::uint8_t marker) {
  return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

bool HasNoLength(std::uint8_t marker) {
  return marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8);
}

// The checksum of PNG chunks: CRC-32 as of zlib, without a table, for a header's few bytes.
std::uint32_t Crc32(Bytes bytes) {
  std::uint32_t crc = 0xffff'ffff;
  for (const std::uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ (0xedb8'8320U & (0U - (crc & 1U)));
    }
  }
  return ~crc;
}

}  // namespace

Result<ImageInfo> ReadJpegHeader(Bytes file) {
  ImageInfo info{.format = Format::kJpeg};
  ByteReader reader(file.subspan(2));
  bool sized = false;
  while (reader.ok()) {
    // Fill bytes may stand before a marker, and stray ones after a segment.
    std::uint8_t byte = reader.Byte();
    while (reader.ok() && byte != 0xff) {
      byte = reader.Byte();
    }
    while (reader.ok() && byte == 0xff) {
      byte = reader.Byte();
    }
    if (!reader.ok() || byte == kEndOfImage || byte == kStartOfScan) {
      break;
    }
    if (byte == 0 || HasNoLength(byte)) {
      continue;
    }
    const std::uint32_t length = reader.Big16();
    if (reader.ok() && length < 2) {
      return Fail(kImage.Corrupt(fmt::format("a segment has length {}", length)));
    }
    const Bytes segment = reader.Take(length - 2);
    ByteReader inner(segment);
    if (IsFrameHeader(byte) && !sized) {
      inner.Skip(1);  // precision
      info.size.height = inner.Big16();
      info.size.width = inner.Big16();
      sized = inner.ok();
    } else if (byte == kExifSegment && info.orientation == 1 &&
               inner.TakeText(std::string_view("Exif\0\0", 6))) {
      info.orientation = ExifOrientation(segment.subspan(inner.at()));
    }
  }
  if (sized) {
    return info;
  }
  return Fail(reader.ok() ? kImage.Corrupt("it has no frame header")
                          : kImage.Truncated("it ends before its frame header"));
}

Result<PngChunk> NextPngChunk(ByteReader& reader) {
  ByteReader probe = reader;
  const std::uint32_t length = probe.Big32();
  const std::uint32_t type = probe.Big32();
  const Bytes data = probe.Take(length);
  probe.Skip(4);
  if (!probe.ok()) {
    return Fail(kImage.Truncated("a chunk passes its end"));
  }
  return PngChunk{.type = type, .data = data, .whole = reader.Take(std::size_t{length} + 12)};
}

Result<ImageInfo> ReadPngHeader(Bytes file) {
  ImageInfo info{.format = Format::kPng};
  ByteReader reader(file.subspan(kPngSignature.size()));
  PX_TRY(const PngChunk header, NextPngChunk(reader));
  if (header.type != PngType("IHDR") || header.data.size() != 13) {
    return Fail(kImage.Corrupt("its first chunk is no header"));
  }
  const std::uint32_t stored = ByteReader(header.whole.last(4)).Big32();
  if (const std::uint32_t crc = Crc32(header.whole.subspan(4, 17)); crc != stored) {
    return Fail(kImage.Corrupt(
        fmt::format("the checksum of its header is {:08x}, not {:08x}", stored, crc)));
  }
  ByteReader fields(header.data);
  info.size.width = fields.Big32();
  info.size.height = fields.Big32();
  // What the rest says is of use only if it is there: a cut file is found when it is decoded.
  while (reader.left() > 0) {
    const Result<PngChunk> chunk = NextPngChunk(reader);
    if (!chunk || chunk->type == PngType("IEND")) {
      break;
    }
    if (chunk->type == PngType("acTL")) {
      info.frames = std::max<std::uint32_t>(ByteReader(chunk->data).Big32(), 1);
    } else if (chunk->type == PngType("eXIf")) {
      info.orientation = ExifOrientation(chunk->data);
    }
  }
  return info;
}

Result<ImageInfo> ReadWebpHeader(Bytes file, std::uint32_t frames_max) {
  ImageInfo info{.format = Format::kWebp};
  ByteReader reader(file.subspan(12));
  bool sized = false;
  std::uint32_t animated_frames = 0;
  while (reader.left() >= 8 && animated_frames <= frames_max) {
    const Bytes name = reader.Take(4);
    const std::string_view type(reinterpret_cast<const char*>(name.data()), name.size());
    const std::uint32_t length = reader.Little32();
    const std::size_t begin = 12 + reader.at();
    const Bytes data = file.subspan(begin, std::min<std::size_t>(length, file.size() - begin));
    ByteReader fields(data);
    if (type == "VP8X" && !sized) {
      fields.Skip(4);
      info.size.width = fields.Little24() + 1;
      info.size.height = fields.Little24() + 1;
      sized = fields.ok();
    } else if (type == "VP8 " && !sized) {
      fields.Skip(3);
      if (fields.TakeText("\x9d\x01\x2a")) {
        info.size.width = fields.Little16() & 0x3fff;
        info.size.height = fields.Little16() & 0x3fff;
        sized = fields.ok();
      }
    } else if (type == "VP8L" && !sized) {
      if (fields.TakeText("\x2f")) {
        const std::uint32_t bits = fields.Little32();
        info.size.width = (bits & 0x3fff) + 1;
        info.size.height = (bits >> 14 & 0x3fff) + 1;
        sized = fields.ok();
      }
    } else if (type == "ANMF") {
      ++animated_frames;
    } else if (type == "EXIF") {
      (void)fields.TakeText(std::string_view("Exif\0\0", 6));  // some writers begin as in JPEG
      info.orientation = ExifOrientation(data.subspan(fields.at()));
    }
    if (length % 2 + std::size_t{length} > reader.left()) {
      break;
    }
    reader.Skip(std::size_t{length} + length % 2);
  }
  if (!sized) {
    return Fail(kImage.Truncated("it ends before the size of its image"));
  }
  info.frames = std::max<std::uint32_t>(animated_frames, 1);
  return info;
}

}  // namespace pixii::media
