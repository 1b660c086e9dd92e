#include "unit/media/golden_images.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "support/golden.h"

namespace pixii::media {

std::optional<std::string> GoldenImagesDir() {
  const std::optional<std::string> data = testing::DataDir();
  const std::string folder = data.value_or("") + "/images";
  return data && std::filesystem::exists(folder + "/golden.json") ? std::optional(folder)
                                                                  : std::nullopt;
}

wire::Json GoldenImages(const std::string& folder) {
  Result<wire::Json> golden = wire::ParseJson(testing::ReadFileOrFail(folder + "/golden.json"));
  PX_ASSERT(golden.has_value());
  return std::move(*golden);
}

Image ReadNpy(const std::string& path) {
  const std::string bytes = testing::ReadFileOrFail(path);
  PX_ASSERT(bytes.starts_with(std::string_view("\x93NUMPY\x01\x00", 8)) && bytes.size() > 10);
  const std::size_t header =
      static_cast<std::uint8_t>(bytes[8]) + (std::size_t{static_cast<std::uint8_t>(bytes[9])} << 8);
  const std::string text = bytes.substr(10, header);
  const std::size_t shape = text.find("'shape': (");
  PX_ASSERT(shape != std::string::npos);
  char* end = nullptr;
  const unsigned long height = std::strtoul(text.c_str() + shape + 10, &end, 10);
  const unsigned long width = std::strtoul(end + 1, &end, 10);
  Image image{.size = {.width = static_cast<std::uint32_t>(width),
                       .height = static_cast<std::uint32_t>(height)},
              .rgb = {bytes.begin() + static_cast<std::ptrdiff_t>(10 + header), bytes.end()}};
  PX_ASSERT(image.rgb.size() == image.size.pixel_count() * kImageChannels);
  return image;
}

}  // namespace pixii::media
