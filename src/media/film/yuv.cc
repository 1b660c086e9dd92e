#include "media/film/yuv.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "media/media_noun.h"

namespace pixii::media {

namespace {

constexpr int kFraction = 16;  // bits

/// What each value of a plane adds.
struct Terms {
  std::array<std::int32_t, 256> luma;
  std::array<std::int32_t, 256> red_of_cr;
  std::array<std::int32_t, 256> green_of_cr;
  std::array<std::int32_t, 256> green_of_cb;
  std::array<std::int32_t, 256> blue_of_cb;
};

struct LumaFactors {
  double red;
  double blue;
};

LumaFactors FactorsOf(ColorMatrix matrix) {
  switch (matrix) {
    case ColorMatrix::kBt709:
      return {0.2126, 0.0722};
    case ColorMatrix::kSmpte240:
      return {0.212, 0.087};
    case ColorMatrix::kBt2020:
      return {0.2627, 0.0593};
    default:
      return {0.299, 0.114};
  }
}

Terms MakeTerms(const FilmColors& colors) {
  const LumaFactors luma = FactorsOf(colors.matrix);
  const double green = 1.0 - luma.red - luma.blue;
  const double luma_scale = colors.full_range ? 1.0 : 255.0 / 219.0;
  const double chroma_scale = colors.full_range ? 1.0 : 255.0 / 224.0;
  const double red_of_cr = 2.0 * (1.0 - luma.red) * chroma_scale;
  const double blue_of_cb = 2.0 * (1.0 - luma.blue) * chroma_scale;
  const auto fixed = [](double value) {
    return static_cast<std::int32_t>(std::lround(value * (1 << kFraction)));
  };
  Terms out;
  for (int i = 0; i < 256; ++i) {
    const double difference = i - 128;
    out.luma[i] = fixed((i - (colors.full_range ? 0 : 16)) * luma_scale) + (1 << (kFraction - 1));
    out.red_of_cr[i] = fixed(difference * red_of_cr);
    out.blue_of_cb[i] = fixed(difference * blue_of_cb);
    out.green_of_cr[i] = fixed(-difference * red_of_cr * luma.red / green);
    out.green_of_cb[i] = fixed(-difference * blue_of_cb * luma.blue / green);
  }
  return out;
}

std::uint8_t Clipped(std::int32_t value) {
  return static_cast<std::uint8_t>(std::clamp(value >> kFraction, 0, 255));
}

}  // namespace

Result<Image> RgbOf(const YuvFrame& frame) {
  if (frame.colors.matrix == ColorMatrix::kRgb) {
    return Fail(kFilm.Unsupported("its planes are red, green and blue"));
  }
  const Terms terms = MakeTerms(frame.colors);
  Image out{.size = frame.size, .rgb = {}};
  out.rgb.resize(frame.size.pixel_count() * kImageChannels);
  for (std::uint32_t y = 0; y < frame.size.height; ++y) {
    const std::int64_t chroma_row = y >> frame.chroma_shift_y;
    const std::uint8_t* luma = frame.y.data + y * frame.y.stride;
    const std::uint8_t* cb = frame.cb.data + chroma_row * frame.cb.stride;
    const std::uint8_t* cr = frame.cr.data + chroma_row * frame.cr.stride;
    std::uint8_t* to = out.row(y);
    for (std::uint32_t x = 0; x < frame.size.width; ++x, to += kImageChannels) {
      const std::uint32_t column = x >> frame.chroma_shift_x;
      const std::int32_t level = terms.luma[luma[x]];
      const std::uint8_t blue = cb[column];
      const std::uint8_t red = cr[column];
      to[0] = Clipped(level + terms.red_of_cr[red]);
      to[1] = Clipped(level + terms.green_of_cr[red] + terms.green_of_cb[blue]);
      to[2] = Clipped(level + terms.blue_of_cb[blue]);
    }
  }
  return out;
}

}  // namespace pixii::media
