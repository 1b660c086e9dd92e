#include "media/resize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/digest.h"
#include "media/resample.h"
#include "unit/media/golden_images.h"

namespace pixii::media {
namespace {

constexpr Filter kFilters[] = {Filter::kBilinear, Filter::kBicubic, Filter::kLanczos};

std::string HashOf(const Image& image) {
  return Sha256Hex({reinterpret_cast<const char*>(image.rgb.data()), image.rgb.size()});
}

Image RandomImage(ImageSize size, std::mt19937& random) {
  Image image{.size = size, .rgb = std::vector<std::uint8_t>(size.pixel_count() * kImageChannels)};
  // Few levels, black and white among them: sums overshoot at edges and are clipped.
  std::ranges::generate(image.rgb, [&] { return static_cast<std::uint8_t>(random() % 4 * 85); });
  return image;
}

// One channel of one output position, as the definition reads.
std::uint8_t Naive(const AxisWeights& axis, std::uint32_t position,
                   const std::function<int(std::uint32_t)>& sample) {
  std::int64_t sum = 1 << 21;
  for (std::uint32_t k = 0; k < axis.windows[position].count; ++k) {
    sum += std::int64_t{axis.weights[std::size_t{position} * axis.taps_max + k]} *
           sample(axis.windows[position].first + k);
  }
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(sum >> 22, 0, 255));
}

Image NaiveResize(const Image& image, ImageSize size, Filter filter) {
  Image narrow{.size = {.width = size.width, .height = image.size.height}, .rgb = {}};
  const AxisWeights columns = MakeWeights(image.size.width, size.width, filter, 1);
  const bool across = size.width != image.size.width;
  for (std::uint32_t y = 0; y < image.size.height; ++y) {
    for (std::uint32_t x = 0; x < size.width; ++x) {
      for (std::uint32_t c = 0; c < kImageChannels; ++c) {
        const auto sample = [&](std::uint32_t from) {
          return image.row(y)[from * kImageChannels + c];
        };
        narrow.rgb.push_back(across ? Naive(columns, x, sample) : sample(x));
      }
    }
  }
  if (size.height == image.size.height) {
    return narrow;
  }
  Image out{.size = size, .rgb = {}};
  const AxisWeights rows = MakeWeights(image.size.height, size.height, filter, 1);
  for (std::uint32_t y = 0; y < size.height; ++y) {
    for (std::uint32_t i = 0; i < size.width * kImageChannels; ++i) {
      out.rgb.push_back(Naive(rows, y, [&](std::uint32_t from) { return narrow.row(from)[i]; }));
    }
  }
  return out;
}

TEST(Resize, EveryInstructionSetGivesTheBitsOfThePlainDefinition) {
  std::mt19937 random(7);
  const auto side = [&] {
    return static_cast<std::uint32_t>(1 + random() % (random() % 4 == 0 ? 400 : 40));
  };
  for (int round = 0; round < 300; ++round) {
    const Image image = RandomImage({.width = side(), .height = side()}, random);
    const ImageSize size{.width = side(), .height = side()};
    const Filter filter = kFilters[round % 3];
    SCOPED_TRACE(::testing::Message()
                 << image.size.width << "x" << image.size.height << " to " << size.width << "x"
                 << size.height << " filter " << round % 3);
    const Image expected = NaiveResize(image, size, filter);
    for (const Passes& passes : PassesHere()) {
      Result<Image> resized = ResizeWith(passes, image, size, filter);
      ASSERT_TRUE(resized.has_value());
      EXPECT_EQ(resized->size, size);
      ASSERT_EQ(resized->rgb, expected.rgb);
    }
  }
}

TEST(Resize, WeightsOfEveryPositionSumToOne) {
  for (const Filter filter : kFilters) {
    for (const auto& [in, out] : {std::pair{1000, 7}, {7, 1000}, {336, 224}, {5, 5}, {1, 9}}) {
      const AxisWeights axis = MakeWeights(in, out, filter, 4);
      for (int i = 0; i < out; ++i) {
        std::int64_t sum = 0;
        for (std::uint32_t k = 0; k < axis.taps_max; ++k) {
          sum += axis.weights[i * axis.taps_max + k];
        }
        EXPECT_NEAR(static_cast<double>(sum) / (1 << kWeightBits), 1.0, 1e-4);
        EXPECT_LE(axis.windows[i].first + axis.windows[i].count, static_cast<std::uint32_t>(in));
      }
    }
  }
}

TEST(Resize, SameSizeIsTheSameImage) {
  std::mt19937 random(8);
  const Image image = RandomImage({.width = 31, .height = 17}, random);
  EXPECT_EQ(Resize(image, image.size, Filter::kLanczos)->rgb, image.rgb);
}

TEST(Resize, SizesOutOfRangeAreRefusedByName) {
  std::mt19937 random(9);
  const Image image = RandomImage({.width = 2, .height = 2}, random);
  Result<Image> none = Resize(image, {.width = 0, .height = 4}, Filter::kBicubic);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(none.error().param(), "width");
  Result<Image> wide = Resize(image, {.width = 4, .height = 65'537}, Filter::kBicubic);
  ASSERT_FALSE(wide.has_value());
  EXPECT_EQ(wide.error().param(), "height");
  EXPECT_EQ(wide.error().detail(), "height 65537 of the resized image is not in 1..65536 pixels");
  Result<Image> large = Resize(image, {.width = 65'536, .height = 65'536}, Filter::kBicubic);
  ASSERT_FALSE(large.has_value());
  EXPECT_EQ(large.error().code(), Code::kTooLarge);
}

TEST(Resize, FiltersHaveNames) {
  EXPECT_EQ(FilterOf("bilinear"), Filter::kBilinear);
  EXPECT_EQ(FilterOf("bicubic"), Filter::kBicubic);
  EXPECT_EQ(FilterOf("lanczos"), Filter::kLanczos);
  EXPECT_EQ(FilterOf("nearest"), std::nullopt);
}

// What this resize gave on an image of a formula once it gave all bits of the golden ones: a build
// without the shared data sees a change of bits, too.
TEST(Resize, BitsStayWhatTheyWereWhenTheyWerePillows) {
  Image image{.size = {.width = 97, .height = 61}, .rgb = {}};
  for (std::uint32_t i = 0; i < image.size.pixel_count() * kImageChannels; ++i) {
    image.rgb.push_back(static_cast<std::uint8_t>((i * 2654435761U) >> 24));
  }
  std::string hashes;
  for (const Filter filter : kFilters) {
    for (const ImageSize size :
         {ImageSize{.width = 40, .height = 90}, {.width = 200, .height = 9}}) {
      hashes += HashOf(*Resize(image, size, filter)).substr(0, 8) + " ";
    }
  }
  EXPECT_EQ(hashes, "19123984 94930a88 e2c90d7d d78d53db 953dbf55 634e325e ");
}

TEST(Resize, GoldenImagesComeOutAsPillowMadeThem) {
  const std::optional<std::string> folder = GoldenImagesDir();
  if (!folder) {
    GTEST_SKIP() << "no shared images here";
  }
  int compared = 0;
  const wire::Json golden = GoldenImages(*folder);
  for (const wire::Json& file : golden.Find("files")->array()) {
    const wire::Json* decoded = file.Find("decoded_rgb");
    const wire::Json* npy = decoded != nullptr ? decoded->Find("npy") : nullptr;
    if (npy == nullptr) {
      continue;
    }
    const Image image = ReadNpy(*folder + "/" + npy->string());
    for (const wire::Json& resized : file.Find("resized")->array()) {
      const wire::Json::Array& size = resized.Find("size")->array();
      std::string filter = resized.Find("filter")->string();
      std::ranges::transform(filter, filter.begin(),
                             [](unsigned char c) { return std::tolower(c); });
      Result<Image> ours = Resize(image,
                                  {.width = static_cast<std::uint32_t>(*size[0].AsInt()),
                                   .height = static_cast<std::uint32_t>(*size[1].AsInt())},
                                  *FilterOf(filter));
      ASSERT_TRUE(ours.has_value());
      EXPECT_EQ(HashOf(*ours), resized.Find("sha256")->string())
          << file.Find("file")->string() << " " << resized.Find("target")->string() << " "
          << filter;
      ++compared;
    }
  }
  EXPECT_GE(compared, 60);
}

}  // namespace
}  // namespace pixii::media
