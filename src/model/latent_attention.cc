// Attention over a latent (MLA), absorbed: queries are brought to the latent's space, so keys and
// values of a token are its latent and one rope key, which alone the cache holds.
#include "kernels/weight_source.h"
#include "model/attention.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

class LatentAttention final : public Attention {
 public:
  LatentAttention(const DecoderSpec& spec, std::size_t layer, const kernels::RotaryTable& rotary,
                  WeightLoader& loader)
      : spec_(spec),
        latent_(spec.latent),
        operators_(loader.operators()),
        adapters_(loader.adapters()),
        cut_(loader.cut()),
        layer_(layer),
        rotary_(rotary),
        options_(MakeAttentionOptions(spec, cut_, layer)) {}

  Result<void> Load(WeightLoader& loader) {
    std::int64_t q_cols = spec_.hidden_size;
    if (latent_.q_rank > 0) {
      PX_TRY(
          q_a_,
          loader.Linear(
              {.names = latent_.q_a, .layer = layer_, .sizes = {latent_.q_rank}, .cols = q_cols}));
      PX_TRY(q_a_norm_, loader.Norm(latent_.q_a_norm, layer_, latent_.q_rank));
      q_cols = latent_.q_rank;
    }
    PX_TRY(q_b_,
           loader.Linear({.names = latent_.q_b,
                          .layer = layer_,
                          .sizes = {spec_.head_count * HeadDim()},
                          .cols = q_cols,
                          .rows = {{cut_.heads.begin * HeadDim(), cut_.heads.end * HeadDim()}}}));
    PX_TRY(kv_a_, loader.Linear({.names = latent_.kv_a,
                                 .layer = layer_,
                                 .sizes = {spec_.key_dim()},
                                 .cols = spec_.hidden_size}));
    PX_TRY(kv_a_norm_, loader.Norm(latent_.kv_a_norm, layer_, latent_.kv_rank));
    return LoadHeads(loader);
  }

  Matrix Run(const Matrix& normed, const kernels::StepView& step, kernels::KvCache& cache,
             const Scratch& scratch) override {
    const std::int64_t rows = normed.rows;
    const std::int64_t heads = cut_.head_count();
    std::int64_t used = 0;
    const auto take = [&](std::int64_t cols) {
      const Matrix out = scratch.At(used, rows, cols);
      used += rows * cols;
      return out;
    };
    const Matrix q_a = take(latent_.q_rank);
    const Matrix q = take(heads * HeadDim());
    const Matrix key = take(spec_.key_dim());
    const Matrix query = take(heads * spec_.key_dim());
    const Matrix mixed = take(heads * latent_.kv_rank);
    const Matrix out = take(heads * latent_.value_dim);
    if (latent_.q_rank > 0) {
      adapters_.Run(normed, q_a_, q_a);
      operators_.RmsNorm(q_a, q_a_norm_, 0.0F, spec_.norm_epsilon, q_a);
    }
    adapters_.Run(latent_.q_rank > 0 ? q_a : normed, q_b_, q);
    adapters_.Run(normed, kv_a_, key);
    const Matrix compressed = key.Columns(0, latent_.kv_rank);
    operators_.RmsNorm(compressed, kv_a_norm_, 0.0F, spec_.norm_epsilon, compressed);
    operators_.Rotary(key.Columns(latent_.kv_rank, latent_.rope_dim), 1, step.positions, rotary_);
    for (std::int64_t head = 0; head < heads; ++head) {
      const Matrix to = query.Columns(head * spec_.key_dim(), spec_.key_dim());
      const Matrix turned = to.Columns(latent_.kv_rank, latent_.rope_dim);
      adapters_.Run(q.Columns(head * HeadDim(), latent_.nope_dim), to_latent_[Index(head)],
                    to.Columns(0, latent_.kv_rank));
      operators_.Copy(q.Columns(head * HeadDim() + latent_.nope_dim, latent_.rope_dim), turned);
      operators_.Rotary(turned, 1, step.positions, rotary_);
    }
    const auto index =
        static_cast<std::int32_t>(layer_) - static_cast<std::int32_t>(cut_.layers.begin);
    operators_.StoreKv(key, compressed, step.slots, index, cache);
    operators_.PagedAttention(query, step, index, cache, options_, mixed);
    for (std::int64_t head = 0; head < heads; ++head) {
      adapters_.Run(mixed.Columns(head * latent_.kv_rank, latent_.kv_rank), to_value_[Index(head)],
                    out.Columns(head * latent_.value_dim, latent_.value_dim));
    }
    return out;
  }

 private:
  static std::size_t Index(std::int64_t value) { return static_cast<std::size_t>(value); }

  std::int64_t HeadDim() const { return std::int64_t{latent_.nope_dim} + latent_.rope_dim; }

  /// Cuts kv_b [heads * (nope + value), kv_rank] into each head's key part, transposed, and value
  /// part; an adapter of kv_b is cut likewise.
  Result<void> LoadHeads(WeightLoader& loader) {
    const std::int64_t rank = latent_.kv_rank;
    const std::int64_t nope = latent_.nope_dim;
    const std::int64_t value = latent_.value_dim;
    const std::string name = LayerName(latent_.kv_b, layer_);
    const std::int64_t all_rows = spec_.head_count * (nope + value);
    if (!loader.held()) {
      adapters_.AddLinear({.name = name, .in_features = rank, .out_features = all_rows}, {});
      return {};
    }
    PX_TRY(const kernels::WeightPart part, loader.weights().Part(name + ".weight", all_rows, rank));
    std::vector<float> all(Index(all_rows * rank));
    for (std::int64_t row = 0; row < part.rows; ++row) {
      kernels::ReadRow(part, row, all.data() + row * rank);
    }
    std::vector<float> transposed(Index(nope * rank));
    std::vector<AdapterPlace> places;
    for (std::int64_t head = cut_.heads.begin; head < cut_.heads.end; ++head) {
      const float* from = all.data() + head * (nope + value) * rank;
      for (std::int64_t row = 0; row < nope; ++row) {
        for (std::int64_t col = 0; col < rank; ++col) {
          transposed[Index(col * nope + row)] = from[row * rank + col];
        }
      }
      const kernels::WeightPart key_part{.data = transposed.data(), .rows = rank, .cols = nope};
      const kernels::WeightPart value_part{.data = from + nope * rank, .rows = value, .cols = rank};
      PX_TRY(auto to_latent, loader.Stacked({&key_part, 1}));
      PX_TRY(auto to_value, loader.Stacked({&value_part, 1}));
      const AdapterSites latent_site = adapters_.AddSites({&rank, 1}, 1);
      const AdapterSites value_site = adapters_.AddSites({&value, 1}, 1);
      const std::int64_t row = head * (nope + value);
      places.push_back(
          {.site = latent_site.first, .row_begin = row, .row_count = nope, .transposed = true});
      places.push_back({.site = value_site.first, .row_begin = row + nope, .row_count = value});
      to_latent_.push_back(
          {.weight = std::move(to_latent), .sites = latent_site, .in_features = nope});
      to_value_.push_back(
          {.weight = std::move(to_value), .sites = value_site, .in_features = rank});
    }
    adapters_.AddLinear({.name = name, .in_features = rank, .out_features = all_rows},
                        std::move(places));
    return {};
  }

  const DecoderSpec& spec_;
  const LatentSpec& latent_;
  kernels::Operators& operators_;
  AdapterSlots& adapters_;
  const ModelCut& cut_;
  std::size_t layer_;
  kernels::RotaryTable rotary_;
  kernels::AttentionOptions options_;
  AdaptedLinear q_a_;
  AdaptedLinear q_b_;
  AdaptedLinear kv_a_;
  std::span<const float> q_a_norm_;
  std::span<const float> kv_a_norm_;
  std::vector<AdaptedLinear> to_latent_;  // [head] nope to kv_rank
  std::vector<AdaptedLinear> to_value_;   // [head] kv_rank to value
};

}  // namespace

Result<std::unique_ptr<Attention>> MakeLatentAttention(const DecoderSpec& spec, std::size_t layer,
                                                       const kernels::RotaryTable& rotary,
                                                       WeightLoader& loader) {
  auto out = std::make_unique<LatentAttention>(spec, layer, rotary, loader);
  PX_CHECK_OK(out->Load(loader));
  return std::unique_ptr<Attention>(std::move(out));
}

}  // namespace pixii::model
