// Any bytes as features that a client brings in place of a picture: what is taken has a finite
// float for each value of each row, and a grid that is its rows.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/assert.h"
#include "frontend/media_features.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  for (const bool has_axes : {false, true}) {
    const pixii::wire::VisionCard card{
        .image_token = 1, .merge_size = 2, .row_size = 3, .has_axes = has_axes};
    const auto item = pixii::frontend::ReadFeatures(file, "", card);
    if (!item) {
      PX_ASSERT(item.error().detail().size() < 4096);
      continue;
    }
    PX_ASSERT(item->count > 0 && item->height * item->width == item->count);
    PX_ASSERT(item->features.size() == std::size_t{item->count} * 3 * sizeof(float));
    for (std::size_t at = 0; at < item->features.size(); at += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, item->features.data() + at, sizeof value);
      PX_ASSERT(std::isfinite(value));
    }
  }
  return 0;
}
