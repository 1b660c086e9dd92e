// A mixture of experts: a router chooses K of them for each token, whose outputs are summed in the
// order of the choice, and a shared expert may stand beside them.
#include "base/assert.h"
#include "kernels/weight_source.h"
#include "model/feed_forward.h"

namespace pixii::model {
namespace {

using kernels::Matrix;

class Experts final : public FeedForward {
 public:
  Experts(const DecoderSpec& spec, std::size_t layer, WeightLoader& loader)
      : spec_(spec),
        experts_(spec.experts),
        layer_(layer),
        operators_(loader.operators()),
        adapters_(loader.adapters()),
        cut_(loader.cut().expert_features),
        shared_cut_(loader.cut().shared_features) {}

  Result<void> Load(WeightLoader& loader) {
    PX_TRY(router_, loader.ExactLinear({.names = {{experts_.router}, experts_.router_bias},
                                        .layer = layer_,
                                        .sizes = {experts_.count},
                                        .cols = spec_.hidden_size}));
    if (!experts_.correction.empty()) {
      PX_TRY(correction_, loader.Vector(LayerName(experts_.correction, layer_), experts_.count));
    }
    const std::int64_t features = SizeOf(cut_.columns);
    const std::int64_t hidden = spec_.hidden_size;
    const std::int64_t halves[] = {features, features};
    gate_up_sites_ = adapters_.AddSites(halves, experts_.count);
    down_sites_ = adapters_.AddSites({&hidden, 1}, experts_.count);
    for (std::int32_t expert = 0; expert < experts_.count; ++expert) {
      PX_CHECK_OK(experts_.stacked_gate_up.empty() ? LoadExpert(expert, loader)
                                                   : LoadStacked(expert, loader));
    }
    if (experts_.shared_intermediate_size > 0) {
      PX_CHECK_OK(LoadShared(loader));
    }
    return {};
  }

  void Run(const Matrix& normed, const Matrix& out, const Scratch& scratch) override {
    const std::int64_t rows = normed.rows;
    const std::int64_t per_token = experts_.route.experts_per_token;
    const std::int64_t features = SizeOf(cut_.columns);
    std::int64_t used = 0;
    const auto take = [&](std::int64_t row_count, std::int64_t cols) {
      const Matrix taken = scratch.At(used, row_count, cols);
      used += row_count * cols;
      return taken;
    };
    const Matrix logits = take(rows, experts_.count);
    const Matrix weights = take(rows, per_token);
    const std::span<std::int32_t> chosen = {static_cast<std::int32_t*>(take(rows, per_token).data),
                                            static_cast<std::size_t>(rows * per_token)};
    const Matrix gate_up = take(rows * per_token, 2 * features);
    const Matrix product = take(rows * per_token, features);
    const Matrix each = take(rows * per_token, spec_.hidden_size);
    adapters_.Run(normed, router_, logits);
    operators_.Route(logits, correction_, experts_.route, chosen, weights);
    if (features > 0) {
      operators_.ExpertLinear(normed, chosen, gate_up_, gate_up);
      if (!adapters_.rows().empty() && adapters_.HasPairs(gate_up_sites_)) {
        SpreadRows(normed, each);
        adapters_.AddExperts(each, chosen, gate_up_sites_, gate_up);
      }
      if (experts_.clamped) {
        operators_.ClampedActivationMul(gate_up, experts_.clamp_alpha, experts_.clamp_limit,
                                        product);
      } else {
        operators_.ActivationMul(gate_up, spec_.activation, product);
      }
      operators_.ExpertLinear(product, chosen, down_, each);
    }
    if (joined()) {
      adapters_.JoinExperts(features > 0, chosen, down_bias_, each);
    }
    if (!adapters_.rows().empty() && adapters_.HasPairs(down_sites_)) {
      const Matrix whole =
          joined() ? adapters_.ranks().Gather(product, experts_.intermediate_size) : product;
      adapters_.AddExperts(whole, chosen, down_sites_, each);
    }
    operators_.CombineExperts(each, weights, out);
    if (experts_.shared_intermediate_size > 0) {
      const std::int64_t shared = SizeOf(shared_cut_.columns);
      const Matrix shared_gate_up = take(rows, 2 * shared);
      const Matrix shared_product = take(rows, shared);
      const Matrix shared_out = take(rows, spec_.hidden_size);
      if (shared > 0) {
        adapters_.Run(normed, shared_gate_up_, shared_gate_up);
        operators_.ActivationMul(shared_gate_up, spec_.activation, shared_product);
      }
      adapters_.Run(shared_product, shared_down_, shared_out);
      if (shared_gate_.weight != nullptr) {
        const Matrix gate = take(rows, 1);
        adapters_.Run(normed, shared_gate_, gate);
        operators_.SigmoidScale(shared_out, gate);
      }
      operators_.Add(out, shared_out);
    }
  }

 private:
  /// Whether the ranks' sums are joined.
  bool joined() const { return cut_.shard_end != 0; }

  /// each[t * K + j] = normed[t]: the rows that expert j of token t reads.
  void SpreadRows(const Matrix& normed, const Matrix& each) {
    spread_.clear();
    for (std::int64_t row = 0; row < each.rows; ++row) {
      spread_.push_back(static_cast<std::int32_t>(row / experts_.route.experts_per_token));
    }
    operators_.GatherRows(normed, spread_, each);
  }

  Result<void> LoadExpert(std::int32_t expert, WeightLoader& loader) {
    const LinearNames gate_up = {
        {ExpertName(experts_.gate, layer_, expert), ExpertName(experts_.up, layer_, expert)}};
    const LinearNames down = {{ExpertName(experts_.down, layer_, expert)}};
    const std::int64_t features = experts_.intermediate_size;
    PX_TRY(auto first, loader.ExpertLinear({.names = gate_up,
                                            .layer = layer_,
                                            .sizes = {features, features},
                                            .cols = spec_.hidden_size,
                                            .rows = RowsOfBoth(cut_)},
                                           gate_up_sites_, expert));
    PX_TRY(auto second, loader.ExpertLinear({.names = down,
                                             .layer = layer_,
                                             .sizes = {spec_.hidden_size},
                                             .cols = features,
                                             .sum = &cut_},
                                            down_sites_, expert));
    gate_up_.push_back(std::move(first));
    down_.push_back(std::move(second));
    return {};
  }

  /// Row `expert` of NAME_bias [count, size].
  Result<std::vector<float>> Bias(const std::string& name, std::int32_t expert, std::int64_t size,
                                  WeightLoader& loader) {
    PX_TRY(const kernels::WeightPart part,
           loader.weights().Part(name + "_bias", experts_.count, size));
    std::vector<float> out(static_cast<std::size_t>(size));
    kernels::ReadRow(part, expert, out.data());
    return out;
  }

  Result<void> LoadStacked(std::int32_t expert, WeightLoader& loader) {
    if (!loader.held()) {
      return {};
    }
    const std::int64_t features = experts_.intermediate_size;
    const std::string gate_up = LayerName(experts_.stacked_gate_up, layer_);
    const std::string down = LayerName(experts_.stacked_down, layer_);
    PX_TRY(const std::vector<float> both, Bias(gate_up, expert, 2 * features, loader));
    PX_TRY(const std::vector<float> down_bias, Bias(down, expert, spec_.hidden_size, loader));
    std::vector<float> halves[2];
    for (std::size_t i = 0; i < both.size(); ++i) {
      halves[i % 2].push_back(both[i]);
    }
    std::vector<kernels::WeightPart> parts;
    for (std::int64_t half = 0; half < 2; ++half) {
      PX_TRY(kernels::WeightPart part, loader.weights().Slice({.name = gate_up,
                                                               .index = expert,
                                                               .count = experts_.count,
                                                               .stored_rows = 2 * features,
                                                               .cols = spec_.hidden_size,
                                                               .row_begin = half,
                                                               .row_step = 2,
                                                               .transposed = true}));
      part.bias = halves[half].data();
      parts.push_back(part);
    }
    kernels::LinearOptions gate_up_rows;
    if (const std::vector<RowRange> rows = RowsOfBoth(cut_); !rows.empty()) {
      const std::int64_t halves_rows[] = {features, features};
      gate_up_rows.rows = InEach(halves_rows, rows);
    }
    std::unique_ptr<kernels::LinearWeight> first;
    std::unique_ptr<kernels::LinearWeight> second;
    const bool any = SizeOf(cut_.columns) > 0;
    if (any) {
      PX_TRY(first, loader.Stacked(parts, gate_up_rows));
    }
    PX_TRY(kernels::WeightPart part, loader.weights().Slice({.name = down,
                                                             .index = expert,
                                                             .count = experts_.count,
                                                             .stored_rows = spec_.hidden_size,
                                                             .cols = features,
                                                             .transposed = true}));
    part.bias = joined() ? nullptr : down_bias.data();
    if (any) {
      PX_TRY(second, loader.Stacked({&part, 1}, SumOptions(cut_)));
    }
    if (joined()) {
      down_bias_.push_back(down_bias);
    }
    gate_up_.push_back(std::move(first));
    down_.push_back(std::move(second));
    return {};
  }

  Result<void> LoadShared(WeightLoader& loader) {
    const std::int64_t features = experts_.shared_intermediate_size;
    PX_TRY(shared_gate_up_, loader.Linear({.names = experts_.shared_gate_up,
                                           .layer = layer_,
                                           .sizes = {features, features},
                                           .cols = spec_.hidden_size,
                                           .rows = RowsOfBoth(shared_cut_)}));
    PX_TRY(shared_down_, loader.Linear({.names = experts_.shared_down,
                                        .layer = layer_,
                                        .sizes = {spec_.hidden_size},
                                        .cols = features,
                                        .sum = &shared_cut_}));
    if (!experts_.shared_gate.empty()) {
      PX_TRY(shared_gate_, loader.ExactLinear({.names = {{experts_.shared_gate}},
                                               .layer = layer_,
                                               .sizes = {1},
                                               .cols = spec_.hidden_size}));
    }
    return {};
  }

  const DecoderSpec& spec_;
  const ExpertsSpec& experts_;
  std::size_t layer_;
  kernels::Operators& operators_;
  AdapterSlots& adapters_;
  const SumCut& cut_;
  const SumCut& shared_cut_;
  AdaptedLinear router_;
  std::span<const float> correction_;
  std::vector<std::unique_ptr<kernels::LinearWeight>> gate_up_;  // [expert]
  std::vector<std::unique_ptr<kernels::LinearWeight>> down_;     // [expert]
  std::vector<std::vector<float>> down_bias_;                    // [expert] where sums are joined
  AdapterSites gate_up_sites_;
  AdapterSites down_sites_;
  AdaptedLinear shared_gate_up_;
  AdaptedLinear shared_down_;
  AdaptedLinear shared_gate_;         // no weight: 1
  std::vector<std::int32_t> spread_;  // the token of each expert's row, of the step at hand
};

}  // namespace

std::string ExpertName(const std::string& pattern, std::size_t layer, std::int32_t expert) {
  std::string out = LayerName(pattern, layer);
  const std::size_t hole = out.find("{e}");
  PX_ASSERT(hole != std::string::npos);
  return out.replace(hole, 3, std::to_string(expert));
}

Result<std::unique_ptr<FeedForward>> MakeExperts(const DecoderSpec& spec, std::size_t layer,
                                                 WeightLoader& loader) {
  auto out = std::make_unique<Experts>(spec, layer, loader);
  PX_CHECK_OK(out->Load(loader));
  return std::unique_ptr<FeedForward>(std::move(out));
}

}  // namespace pixii::model
