// Any text as config.json and, after a NUL, generation_config.json: what is accepted must be within
// the stated bounds.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "model/config.h"
#include "model/rotary.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pixii::model;  // NOLINT(google-build-using-namespace): a program of one function
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = text.find('\0');
  const std::string_view generation =
      cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1);
  const auto config = ParseConfig(std::string(text.substr(0, cut)), generation);
  if (!config) {
    PX_ASSERT(!config.error().detail().empty() && config.error().detail().size() < 4096);
    return 0;
  }
  const DecoderSpec& decoder = config->decoder;
  PX_ASSERT(decoder.hidden_size >= 1 && decoder.hidden_size <= kHiddenSizeMax);
  PX_ASSERT(decoder.vocab_size >= 1 && decoder.vocab_size <= kVocabSizeMax);
  PX_ASSERT(!decoder.layers.empty() && decoder.layers.size() <= kLayerCountMax);
  PX_ASSERT(decoder.head_dim >= 2 && decoder.head_dim <= kHeadDimMax && decoder.head_dim % 2 == 0);
  PX_ASSERT(decoder.head_count % decoder.kv_head_count == 0);
  PX_ASSERT(decoder.context_tokens_max >= 1 && decoder.context_tokens_max <= kContextTokensMax);
  for (const LayerSpec& layer : decoder.layers) {
    PX_ASSERT(layer.window_tokens >= 0);
  }
  for (const std::int32_t id : config->eos_token_ids) {
    PX_ASSERT(id >= 0 && id < decoder.vocab_size);
  }
  for (const RopeSpec& rope : {decoder.rope, decoder.window_rope}) {
    const std::int32_t rotary_dim = decoder.rotary_dim(rope);
    PX_ASSERT(rotary_dim >= 2 && rotary_dim % 2 == 0 && rotary_dim <= kHeadDimMax);
    for (const float frequency : InverseFrequencies(rope, rotary_dim, decoder.context_tokens_max)) {
      PX_ASSERT(std::isfinite(frequency) && frequency >= 0.0F);
    }
    PX_ASSERT(AxesOfPairs(rope, static_cast<std::size_t>(rotary_dim) / 2).size() ==
              static_cast<std::size_t>(rotary_dim) / 2);
  }
  if (config->vision) {
    const VisionSpec& tower = *config->vision;
    PX_ASSERT(tower.out_size == decoder.hidden_size);
    PX_ASSERT(tower.head_dim() >= 1 && tower.hidden_size % tower.head_count == 0);
    PX_ASSERT(tower.depth() >= 1 && tower.depth() <= tower.layer_count);
    PX_ASSERT(tower.patch_values() >= 3 && tower.feature_size() >= tower.hidden_size);
    PX_ASSERT(tower.deepstack_layers.size() < decoder.layers.size());
    PX_ASSERT(!ExpectedTensors(tower).empty());
  }
  return 0;
}
