#include "kernels/ref/reference_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/assert.h"
#include "kernels/host_operators.h"
#include "kernels/weight_source.h"

namespace pixii::kernels {
namespace {

// Codes of a token's head reach to the largest code there is; heads below kSmallest are zeros, so
// that no scale is denormal.
constexpr float kInt8Largest = 127.0F;
constexpr float kFp8Largest = 448.0F;
constexpr float kSmallest = 0x1p-100F;

/// A head of `dim` values of one token at `token` of a slice.
struct TokenPlace {
  std::byte* slice;
  const KvLayout& layout;
  std::int32_t dim;
  std::int32_t token;

  std::byte* data() const { return slice + std::int64_t{token} * dim * SizeOf(layout.dtype); }

  float* scale() const {
    return reinterpret_cast<float*>(slice + layout.scales_offset_bytes(dim)) + token;
  }
};

/// The scale of one token's head: largest magnitude / largest code, NaN if a value is not finite.
float ScaleOf(const float* values, std::int32_t dim, float code_largest) {
  float largest = 0.0F;
  for (std::int32_t d = 0; d < dim; ++d) {
    if (!std::isfinite(values[d])) {
      return std::numeric_limits<float>::quiet_NaN();
    }
    largest = std::max(largest, std::abs(values[d]));
  }
  return largest < kSmallest ? 0.0F : largest / code_largest;
}

/// Nearest code, ties to even: value / scale rounded; zero where there is no scale to divide by.
std::uint8_t CodeOf(float value, float scale, KvDType dtype) {
  const float scaled = scale > 0.0F ? value / scale : 0.0F;
  if (dtype == KvDType::kInt8) {
    const float code = std::clamp(std::nearbyint(scaled), -kInt8Largest, kInt8Largest);
    return static_cast<std::uint8_t>(static_cast<std::int8_t>(code));
  }
  return Fp8E4m3FromFloat(std::clamp(scaled, -kFp8Largest, kFp8Largest));
}

void StoreHead(const float* values, const TokenPlace& place) {
  const KvDType dtype = place.layout.dtype;
  std::byte* data = place.data();
  if (HasScales(dtype)) {
    const float scale =
        ScaleOf(values, place.dim, dtype == KvDType::kInt8 ? kInt8Largest : kFp8Largest);
    *place.scale() = scale;
    for (std::int32_t d = 0; d < place.dim; ++d) {
      data[d] = static_cast<std::byte>(CodeOf(values[d], scale, dtype));
    }
    return;
  }
  for (std::int32_t d = 0; d < place.dim; ++d) {
    if (dtype == KvDType::kF32) {
      reinterpret_cast<float*>(data)[d] = values[d];
    } else {
      reinterpret_cast<std::uint16_t*>(data)[d] =
          dtype == KvDType::kBf16 ? Bf16FromFloat(values[d]) : F16FromFloat(values[d]);
    }
  }
}

float LoadElement(const TokenPlace& place, std::int32_t element) {
  const std::byte* data = place.data();
  switch (place.layout.dtype) {
    case KvDType::kF32:
      return reinterpret_cast<const float*>(data)[element];
    case KvDType::kBf16:
      return FloatFromBf16(reinterpret_cast<const std::uint16_t*>(data)[element]);
    case KvDType::kF16:
      return FloatFromF16(reinterpret_cast<const std::uint16_t*>(data)[element]);
    case KvDType::kFp8E4m3:
      return FloatFromFp8E4m3(static_cast<std::uint8_t>(data[element])) * *place.scale();
    case KvDType::kInt8:
      return static_cast<float>(static_cast<std::int8_t>(data[element])) * *place.scale();
  }
  PX_ASSERT(false);
}

TokenPlace KeyPlace(const KvCache& cache, std::int32_t block, std::int32_t layer, std::int32_t head,
                    std::int32_t token) {
  const KvLayout& layout = cache.layout;
  return {cache.block(block) + layout.key_offset_bytes(layer) +
              head * layout.slice_size_bytes(layout.key_dim),
          layout, layout.key_dim, token};
}

TokenPlace ValuePlace(const KvCache& cache, std::int32_t block, std::int32_t layer,
                      std::int32_t head, std::int32_t token) {
  const KvLayout& layout = cache.layout;
  if (layout.value_in_key) {
    return KeyPlace(cache, block, layer, head, token);
  }
  return {cache.block(block) + layout.value_offset_bytes(layer) +
              head * layout.slice_size_bytes(layout.value_dim),
          layout, layout.value_dim, token};
}

/// One query row against positions [begin, end) of one sequence and kv head.
struct AttentionRow {
  const KvCache& cache;
  std::span<const std::int32_t> block_table;
  std::int32_t layer;
  std::int32_t kv_head;
  const AttentionOptions& options;

  TokenPlace At(decltype(&KeyPlace) place, std::int32_t position) const {
    const std::int32_t block_tokens = cache.layout.block_tokens;
    const std::int32_t block = block_table[static_cast<std::size_t>(position / block_tokens)];
    return place(cache, block, layer, kv_head, position % block_tokens);
  }

  /// `bias`: what is added at position 0 and, one behind the other, at those after it; or null.
  float Score(const float* query, std::int32_t position, const float* bias) const {
    const TokenPlace key = At(KeyPlace, position);
    float dot = 0.0F;
    for (std::int32_t d = 0; d < options.key_dim; ++d) {
      dot = std::fma(query[d], LoadElement(key, d), dot);
    }
    const float score = dot * options.scale + (bias != nullptr ? bias[position] : 0.0F);
    return options.soft_cap > 0.0F ? options.soft_cap * std::tanh(score / options.soft_cap) : score;
  }

  void Run(const float* query, std::int32_t begin, std::int32_t end, const float* sink,
           const float* bias, float* out) const {
    std::vector<float> weights;
    float largest = sink != nullptr ? *sink : -std::numeric_limits<float>::infinity();
    for (std::int32_t position = begin; position < end; ++position) {
      weights.push_back(Score(query, position, bias));
      largest = std::max(largest, weights.back());
    }
    float sum = sink != nullptr ? std::exp(*sink - largest) : 0.0F;
    for (float& weight : weights) {
      weight = std::exp(weight - largest);
      sum += weight;
    }
    for (std::int32_t d = 0; d < options.value_dim; ++d) {
      float value = 0.0F;
      for (std::int32_t position = begin; position < end; ++position) {
        value = std::fma(weights[static_cast<std::size_t>(position - begin)],
                         LoadElement(At(ValuePlace, position), d), value);
      }
      out[d] = value / sum;
    }
  }
};

}  // namespace

void ReferenceStoreKv(const Matrix& k, const Matrix& v, std::span<const std::int32_t> slots,
                      std::int32_t layer, KvCache& cache) {
  const KvLayout& layout = cache.layout;
  PX_ASSERT(k.rows == std::ssize(slots) && layer >= 0 && layer < layout.layer_count);
  PX_ASSERT(k.cols == std::int64_t{layout.kv_head_count} * layout.key_dim);
  PX_ASSERT(layout.value_in_key ||
            (v.rows == k.rows && v.cols == std::int64_t{layout.kv_head_count} * layout.value_dim));
  for (std::int64_t t = 0; t < k.rows; ++t) {
    const std::int32_t slot = slots[static_cast<std::size_t>(t)];
    PX_ASSERT(slot >= 0 && slot / layout.block_tokens < cache.block_count);
    const std::int32_t block = slot / layout.block_tokens;
    const std::int32_t token = slot % layout.block_tokens;
    for (std::int32_t g = 0; g < layout.kv_head_count; ++g) {
      StoreHead(k.f32(t) + std::int64_t{g} * layout.key_dim,
                KeyPlace(cache, block, layer, g, token));
      if (!layout.value_in_key) {
        StoreHead(v.f32(t) + std::int64_t{g} * layout.value_dim,
                  ValuePlace(cache, block, layer, g, token));
      }
    }
  }
}

void ReferencePagedAttention(const Matrix& q, const StepView& batch, std::int32_t layer,
                             const KvCache& cache, const AttentionOptions& options,
                             const Matrix& out) {
  CheckAttention(q, batch, cache.layout, options, out);
  const std::int32_t group = options.head_count / options.kv_head_count;
  for (const StepSequence& sequence : batch.sequences) {
    const std::span<const std::int32_t> block_table =
        std::span(batch.block_table)
            .subspan(static_cast<std::size_t>(sequence.block_begin),
                     static_cast<std::size_t>(sequence.block_count));
    for (std::int32_t i = 0; i < sequence.token_count; ++i) {
      const std::int32_t position = sequence.context_tokens - sequence.token_count + i;
      const std::int32_t window = options.window_tokens;
      std::int32_t begin = window > 0 ? std::max(0, position - window + 1) : 0;
      std::int32_t end = position + 1;
      if (options.bidirectional) {
        end = window > 0 ? std::min(position + window, sequence.context_tokens)
                         : sequence.context_tokens;
      }
      const std::int64_t t = sequence.token_begin + i;
      for (const MutualRows& rows : batch.mutual_rows) {
        if (rows.row_begin <= t && t < rows.row_end()) {
          begin = std::min(begin, rows.position_begin);
          end = position + rows.row_end() - static_cast<std::int32_t>(t);
        }
      }
      for (std::int32_t h = 0; h < options.head_count; ++h) {
        const AttentionRow row{cache, block_table, layer, h / group, options};
        const float* bias = nullptr;
        if (options.position_bias != nullptr) {
          const std::int64_t reach = options.bias_reach;
          bias = options.position_bias + h * (2 * reach - 1) + reach - 1 - position;
        }
        row.Run(q.f32(t) + std::int64_t{h} * options.key_dim, begin, end,
                options.sinks != nullptr ? options.sinks + h : nullptr, bias,
                out.f32(t) + std::int64_t{h} * options.value_dim);
      }
    }
  }
}

}  // namespace pixii::kernels
