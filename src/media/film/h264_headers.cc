#include "media/film/h264_headers.h"

#include <vector>

#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr std::string_view kStartCode("\0\0\0\1", 4);
constexpr std::uint8_t kSequenceUnit = 7;
constexpr std::uint8_t kUnitMask = 31;
constexpr std::uint32_t kMacroblock = 16;  // pixels
constexpr std::uint32_t kSideMax = 65'536;

/// Bits of a unit, the escaping bytes taken out.
class BitReader final {
 public:
  explicit BitReader(Bytes unit) {
    bytes_.reserve(unit.size());
    std::size_t zeros = 0;
    for (const std::uint8_t byte : unit) {
      if (zeros >= 2 && byte == 3) {
        zeros = 0;
        continue;
      }
      zeros = byte == 0 ? zeros + 1 : 0;
      bytes_.push_back(byte);
    }
  }

  bool ok() const { return ok_; }

  std::uint32_t Bits(int count) {
    std::uint32_t value = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      if (at_ / 8 >= bytes_.size()) {
        ok_ = false;
        return 0;
      }
      value = value << 1 | (bytes_[at_ / 8] >> (7 - at_ % 8) & 1U);
    }
    return value;
  }

  bool Flag() { return Bits(1) != 0; }

  /// Exp-Golomb; past 2^32 it is not ok.
  std::uint32_t Golomb() {
    int zeros = 0;
    while (ok_ && !Flag()) {
      ++zeros;
    }
    if (zeros > 31) {
      ok_ = false;
    }
    return ok_ ? (1U << zeros) - 1 + Bits(zeros) : 0;
  }

  std::int32_t SignedGolomb() {
    const std::uint32_t code = Golomb();
    return code % 2 == 1 ? static_cast<std::int32_t>(code / 2 + 1)
                         : -static_cast<std::int32_t>(code / 2);
  }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

void SkipScalingList(BitReader& bits, int size) {
  std::int32_t last = 8;
  std::int32_t next = 8;
  for (int i = 0; i < size && bits.ok(); ++i) {
    if (next != 0) {
      next = (last + bits.SignedGolomb() + 256) & 255;
    }
    last = next == 0 ? last : next;
  }
}

bool HasChromaFormat(std::uint32_t profile) {
  for (const std::uint32_t high : {100U, 110U, 122U, 244U, 44U, 83U, 86U, 118U, 128U, 138U}) {
    if (profile == high) {
      return true;
    }
  }
  return false;
}

Result<void> ReadChromaFormat(BitReader& bits) {
  const std::uint32_t format = bits.Golomb();
  if (format == 3) {
    bits.Flag();
  }
  const std::uint32_t luma_bits = bits.Golomb() + 8;
  const std::uint32_t chroma_bits = bits.Golomb() + 8;
  if (bits.ok() && format != 1) {
    constexpr std::string_view kNames[] = {"grey", "4:2:0", "4:2:2", "4:4:4"};
    return Fail(kFilm.Unsupported(fmt::format("its H.264 is {}; only 4:2:0 is read",
                                              format < 4 ? kNames[format] : "broken")));
  }
  if (bits.ok() && (luma_bits != 8 || chroma_bits != 8)) {
    return Fail(
        kFilm.Unsupported(fmt::format("its H.264 has {} bits; only 8 are read", luma_bits)));
  }
  bits.Flag();
  if (bits.Flag()) {
    for (int i = 0; i < 8; ++i) {
      if (bits.Flag()) {
        SkipScalingList(bits, i < 6 ? 16 : 64);
      }
    }
  }
  return {};
}

void ReadColors(BitReader& bits, H264Sequence& out) {
  constexpr std::uint32_t kOwnAspect = 255;
  if (bits.Flag() && bits.Bits(8) == kOwnAspect) {
    bits.Bits(32);
  }
  if (bits.Flag()) {
    bits.Flag();
  }
  if (bits.Flag()) {
    bits.Bits(3);
    out.colors.full_range = bits.Flag();
    out.colors_said = true;
    if (bits.Flag()) {
      bits.Bits(16);
      out.colors.matrix = MatrixOf(bits.Bits(8));
    }
  }
}

}  // namespace

Result<H264Sequence> ReadH264Sequence(Bytes unit) {
  BitReader bits(unit);
  bits.Bits(8);
  const std::uint32_t profile = bits.Bits(8);
  bits.Bits(16);
  bits.Golomb();
  if (HasChromaFormat(profile)) {
    PX_CHECK_OK(ReadChromaFormat(bits));
  }
  bits.Golomb();  // bits of frame numbers
  const std::uint32_t order = bits.Golomb();
  if (order == 0) {
    bits.Golomb();
  } else if (order == 1) {
    bits.Flag();
    bits.Golomb();
    bits.Golomb();
    const std::uint32_t count = bits.Golomb();
    for (std::uint32_t i = 0; i < count && bits.ok(); ++i) {
      bits.Golomb();
    }
  }
  bits.Golomb();  // reference frames
  bits.Flag();
  const std::uint64_t columns = std::uint64_t{bits.Golomb()} + 1;
  const std::uint64_t rows = std::uint64_t{bits.Golomb()} + 1;
  if (bits.ok() && !bits.Flag()) {
    return Fail(kFilm.Unsupported("its H.264 is interlaced"));
  }
  bits.Flag();
  std::uint64_t cut[4] = {};  // left, right, top, bottom; two pixels each
  if (bits.Flag()) {
    for (std::uint64_t& side : cut) {
      side = 2 * std::uint64_t{bits.Golomb()};
    }
  }
  H264Sequence out;
  const std::uint64_t width = columns * kMacroblock;
  const std::uint64_t height = rows * kMacroblock;
  if (!bits.ok() || width > kSideMax || height > kSideMax || cut[0] + cut[1] >= width ||
      cut[2] + cut[3] >= height) {
    return Fail(kFilm.Corrupt("its H.264 says no size"));
  }
  out.size = {.width = static_cast<std::uint32_t>(width - cut[0] - cut[1]),
              .height = static_cast<std::uint32_t>(height - cut[2] - cut[3])};
  if (bits.Flag()) {
    ReadColors(bits, out);
  }
  return out;
}

Result<H264Config> ReadH264Config(Bytes config) {
  H264Config out;
  ByteReader reader(config);
  reader.Skip(4);
  out.length_bytes = (reader.Byte() & 3U) + 1;
  for (const bool sequences : {true, false}) {
    const std::uint32_t count = reader.Byte() & (sequences ? 31U : 255U);
    for (std::uint32_t i = 0; i < count; ++i) {
      const Bytes unit = reader.Take(reader.Big16());
      if (!reader.ok() || unit.empty()) {
        return Fail(kFilm.Corrupt("its H.264 parameters end early"));
      }
      if (sequences && i == 0) {
        PX_TRY(const H264Sequence sequence, ReadH264Sequence(unit));
        out.size = sequence.size;
        out.colors = sequence.colors;
        out.colors_said = sequence.colors_said;
      }
      out.parameters.append(kStartCode).append(unit.begin(), unit.end());
    }
  }
  if (!reader.ok()) {
    return Fail(kFilm.Corrupt("its H.264 parameters end early"));
  }
  return out;
}

Result<std::string> WithStartCodes(Bytes sample, const H264Config& config, ImageSize size) {
  std::string out;
  out.reserve(sample.size() + 16);
  ByteReader reader(sample);
  while (reader.left() > 0) {
    std::uint32_t length = 0;
    for (std::uint32_t i = 0; i < config.length_bytes; ++i) {
      length = length << 8 | reader.Byte();
    }
    const Bytes unit = reader.Take(length);
    if (!reader.ok()) {
      return Fail(kFilm.Truncated("a unit of its H.264 passes its frame"));
    }
    if (unit.empty()) {
      continue;
    }
    if ((unit[0] & kUnitMask) == kSequenceUnit) {
      PX_TRY(const H264Sequence sequence, ReadH264Sequence(unit));
      if (sequence.size != size) {
        return Fail(
            kFilm.Unsupported(fmt::format("its frames become {}x{} from {}x{}", sequence.size.width,
                                          sequence.size.height, size.width, size.height)));
      }
    }
    out.append(kStartCode).append(unit.begin(), unit.end());
  }
  return out;
}

}  // namespace pixii::media
