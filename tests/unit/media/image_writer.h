// Files of images made in a test, well formed or not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pixii::media {

struct PngToWrite {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  int bits = 8;
  int colour_type = 2;
  std::vector<std::string> rows = {};  // stored bytes of each, without the filter's
  std::string chunks = {};             // between header and pixels, made by PngChunkText
};

/// A chunk with length and checksum.
std::string PngChunkText(const std::string& type, const std::string& data);

/// With pixels that are not compressed.
std::string PngText(const PngToWrite& png);

std::string BigEndian(std::uint32_t value, int size);
std::string LittleEndian(std::uint32_t value, int size);

struct BmpToWrite {
  std::uint32_t width = 0;
  std::int32_t height = 0;  // negative: from the top down
  std::uint32_t bits = 24;
  std::string palette = {};  // four bytes a colour
  std::string rows = {};     // stored bytes of all, padded
};

std::string BmpText(const BmpToWrite& bmp);

}  // namespace pixii::media
