#include "model/attention.h"

#include <cmath>

namespace pixii::model {
namespace {

using kernels::Matrix;

class GroupedAttention final : public Attention {
 public:
  GroupedAttention(const DecoderSpec& spec, std::size_t layer, const kernels::RotaryTable& rotary,
                   WeightLoader& loader)
      : spec_(spec),
        operators_(loader.operators()),
        adapters_(loader.adapters()),
        cut_(loader.cut()),
        layer_(layer),
        rotary_(rotary),
        options_(MakeAttentionOptions(spec, cut_, layer)) {}

  Result<void> Load(WeightLoader& loader) {
    const WeightNames& names = spec_.names;
    PX_TRY(qkv_, loader.Linear({.names = names.qkv,
                                .layer = layer_,
                                .sizes = {spec_.q_size(), spec_.kv_size(), spec_.kv_size()},
                                .cols = spec_.hidden_size,
                                .rows = OwnRows()}));
    PX_TRY(q_norm_, loader.Norm(names.q_norm, layer_, spec_.head_dim));
    PX_TRY(k_norm_, loader.Norm(names.k_norm, layer_, spec_.head_dim));
    if (!names.sinks.empty()) {
      PX_TRY(const auto sinks, loader.Vector(LayerName(names.sinks, layer_), spec_.head_count));
      options_.sinks = sinks.empty() ? nullptr : sinks.data() + cut_.heads.begin;
    }
    return {};
  }

  Matrix Run(const Matrix& normed, const kernels::StepView& step, kernels::KvCache& cache,
             const Scratch& scratch) override {
    const std::int32_t heads = options_.head_count;
    const std::int32_t kv_heads = options_.kv_head_count;
    const std::int64_t q_size = std::int64_t{heads} * spec_.head_dim;
    const std::int64_t kv_size = std::int64_t{kv_heads} * spec_.head_dim;
    const Matrix qkv = scratch.At(0, normed.rows, q_size + 2 * kv_size);
    const Matrix q = qkv.Columns(0, q_size);
    const Matrix k = qkv.Columns(q_size, kv_size);
    const Matrix v = qkv.Columns(q_size + kv_size, kv_size);
    const Matrix out = scratch.At(normed.rows * qkv.cols, normed.rows, q_size);
    adapters_.Run(normed, qkv_, qkv);
    if (spec_.qk_norm()) {
      const float offset = spec_.norm_offset;
      operators_.HeadRmsNorm(q, heads, q_norm_, offset, spec_.norm_epsilon);
      operators_.HeadRmsNorm(k, kv_heads, k_norm_, offset, spec_.norm_epsilon);
    }
    if (spec_.layers[layer_].rope) {
      const bool own = !step.rope_factors.empty();
      const kernels::RotaryTable rotary = own ? RowsOwn(step) : rotary_;
      const auto positions = own ? step.row_numbers : step.positions;
      operators_.Rotary(q, heads, positions, rotary);
      operators_.Rotary(k, kv_heads, positions, rotary);
    }
    const auto index =
        static_cast<std::int32_t>(layer_) - static_cast<std::int32_t>(cut_.layers.begin);
    operators_.StoreKv(k, v, step.slots, index, cache);
    operators_.PagedAttention(q, step, index, cache, options_, out);
    return out;
  }

 private:
  /// A table that has one entry for each row of the step.
  kernels::RotaryTable RowsOwn(const kernels::StepView& step) const {
    const float* cos = step.rope_factors.data();
    return {.cos = cos,
            .sin = cos + step.rope_factors.size() / 2,
            .position_max = static_cast<std::int32_t>(step.row_numbers.size()),
            .rotary_dim = rotary_.rotary_dim,
            .interleaved = rotary_.interleaved};
  }

  /// Of q, k and v; all of them where nothing is cut.
  std::vector<RowRange> OwnRows() const {
    if (cut_.share.tensor_count == 1) {
      return {};
    }
    const std::int64_t dim = spec_.head_dim;
    const RowRange q = {cut_.heads.begin * dim, cut_.heads.end * dim};
    const RowRange kv = {cut_.kv_heads.begin * dim, cut_.kv_heads.end * dim};
    return {q, kv, kv};
  }

  const DecoderSpec& spec_;
  kernels::Operators& operators_;
  AdapterSlots& adapters_;
  const ModelCut& cut_;
  std::size_t layer_;
  kernels::RotaryTable rotary_;
  kernels::AttentionOptions options_;
  AdaptedLinear qkv_;
  std::span<const float> q_norm_;
  std::span<const float> k_norm_;
};

}  // namespace

kernels::AttentionOptions MakeAttentionOptions(const DecoderSpec& spec, const ModelCut& cut,
                                               std::size_t layer) {
  const float scale = spec.attention_scale > 0.0F
                          ? spec.attention_scale
                          : 1.0F / std::sqrt(static_cast<float>(spec.head_dim));
  return {.head_count = static_cast<std::int32_t>(cut.head_count()),
          .kv_head_count = static_cast<std::int32_t>(cut.kv_head_count()),
          .key_dim = spec.key_dim(),
          .value_dim = spec.value_dim(),
          .scale = scale,
          .window_tokens = spec.layers[layer].window_tokens,
          .soft_cap = spec.attention_soft_cap,
          .sinks = nullptr};
}

std::int64_t AttentionRowFloats(const DecoderSpec& spec) {
  if (!spec.is_latent()) {
    return std::int64_t{2} * spec.q_size() + 2 * spec.kv_size();
  }
  const LatentSpec& latent = spec.latent;
  const std::int64_t heads = spec.head_count;
  return latent.q_rank + heads * (latent.nope_dim + latent.rope_dim) + spec.key_dim() +
         heads * (spec.key_dim() + latent.kv_rank + latent.value_dim);
}

Result<std::unique_ptr<Attention>> MakeAttention(const DecoderSpec& spec, std::size_t layer,
                                                 const kernels::RotaryTable& rotary,
                                                 WeightLoader& loader) {
  if (spec.is_latent()) {
    return MakeLatentAttention(spec, layer, rotary, loader);
  }
  auto out = std::make_unique<GroupedAttention>(spec, layer, rotary, loader);
  PX_CHECK_OK(out->Load(loader));
  return std::unique_ptr<Attention>(std::move(out));
}

}  // namespace pixii::model
