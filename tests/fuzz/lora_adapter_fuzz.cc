// Any bytes as adapter_config.json and, after a NUL, adapter_model.safetensors: what is accepted
// fits the model's linears.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "model/lora_adapter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pixii::model;  // NOLINT(google-build-using-namespace): a program of one function
  static const AdaptableLinear kLinears[] = {{"a", 2, 3}, {"b.c", 1, 1}};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = text.find('\0');
  const std::string_view weights =
      cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1);
  const auto adapter = LoraAdapter::Parse(text.substr(0, cut), weights, kLinears, {});
  if (!adapter) {
    PX_ASSERT(!adapter.error().detail().empty() && adapter.error().detail().size() < 8192);
    return 0;
  }
  for (const LoraPair& pair : adapter->pairs()) {
    const AdaptableLinear& linear = kLinears[pair.linear];
    PX_ASSERT(pair.down.cols == linear.in_features && pair.up.rows == linear.out_features);
    PX_ASSERT(pair.down.rows == pair.up.cols && pair.down.rows <= adapter->rank_max());
  }
  return 0;
}
