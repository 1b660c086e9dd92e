#include "unit/media/image_writer.h"

#include <algorithm>

namespace pixii::media {

namespace {

std::uint32_t Crc(const std::string& bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xedb88320U : crc >> 1;
    }
  }
  return ~crc;
}

std::uint32_t Adler(const std::string& bytes) {
  std::uint32_t low = 1;
  std::uint32_t high = 0;
  for (const char byte : bytes) {
    low = (low + static_cast<std::uint8_t>(byte)) % 65521;
    high = (high + low) % 65521;
  }
  return high << 16 | low;
}

}  // namespace

std::string BigEndian(std::uint32_t value, int size) {
  std::string out;
  for (int i = size - 1; i >= 0; --i) {
    out.push_back(static_cast<char>(value >> (8 * i) & 0xff));
  }
  return out;
}

std::string LittleEndian(std::uint32_t value, int size) {
  std::string out = BigEndian(value, size);
  std::ranges::reverse(out);
  return out;
}

std::string PngChunkText(const std::string& type, const std::string& data) {
  return BigEndian(static_cast<std::uint32_t>(data.size()), 4) + type + data +
         BigEndian(Crc(type + data), 4);
}

std::string PngText(const PngToWrite& png) {
  std::string plain;
  for (const std::string& row : png.rows) {
    plain += '\0' + row;
  }
  std::string packed("\x78\x01", 2);
  constexpr std::size_t kBlockMax = 65'535;
  for (std::size_t at = 0; at < plain.size() || at == 0; at += kBlockMax) {
    const std::string block = plain.substr(at, kBlockMax);
    packed.push_back(at + kBlockMax >= plain.size() ? '\1' : '\0');
    packed += LittleEndian(static_cast<std::uint32_t>(block.size()), 2);
    packed += LittleEndian(~static_cast<std::uint32_t>(block.size()) & 0xffff, 2);
    packed += block;
  }
  packed += BigEndian(Adler(plain), 4);
  const std::string header = BigEndian(png.width, 4) + BigEndian(png.height, 4) +
                             static_cast<char>(png.bits) + static_cast<char>(png.colour_type) +
                             std::string(3, '\0');
  return "\x89PNG\r\n\x1a\n" + PngChunkText("IHDR", header) + png.chunks +
         PngChunkText("IDAT", packed) + PngChunkText("IEND", "");
}

std::string BmpText(const BmpToWrite& bmp) {
  const auto begin = static_cast<std::uint32_t>(54 + bmp.palette.size());
  return "BM" + LittleEndian(static_cast<std::uint32_t>(begin + bmp.rows.size()), 4) +
         LittleEndian(0, 4) + LittleEndian(begin, 4) + LittleEndian(40, 4) +
         LittleEndian(bmp.width, 4) + LittleEndian(static_cast<std::uint32_t>(bmp.height), 4) +
         LittleEndian(1, 2) + LittleEndian(bmp.bits, 2) + LittleEndian(0, 4) + LittleEndian(0, 4) +
         LittleEndian(0, 4) + LittleEndian(0, 4) +
         LittleEndian(static_cast<std::uint32_t>(bmp.palette.size() / 4), 4) + LittleEndian(0, 4) +
         bmp.palette + bmp.rows;
}

}  // namespace pixii::media
