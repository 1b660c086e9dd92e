#include "model/feed_forward.h"

#include <algorithm>

namespace pixii::model {
namespace {

using kernels::Matrix;

/// down(act(gate) * up).
class GatedFeedForward final : public FeedForward {
 public:
  GatedFeedForward(const DecoderSpec& spec, WeightLoader& loader)
      : features_(SizeOf(loader.cut().features.columns)),
        activation_(spec.activation),
        operators_(loader.operators()),
        adapters_(loader.adapters()) {}

  Result<void> Load(const DecoderSpec& spec, std::size_t layer, WeightLoader& loader) {
    const std::int64_t all = spec.intermediate_size;
    const SumCut& cut = loader.cut().features;
    PX_TRY(gate_up_, loader.Linear({.names = spec.names.gate_up,
                                    .layer = layer,
                                    .sizes = {all, all},
                                    .cols = spec.hidden_size,
                                    .rows = RowsOfBoth(cut)}));
    PX_TRY(down_, loader.Linear({.names = spec.names.down,
                                 .layer = layer,
                                 .sizes = {spec.hidden_size},
                                 .cols = all,
                                 .sum = &cut}));
    return {};
  }

  void Run(const Matrix& normed, const Matrix& out, const Scratch& scratch) override {
    const Matrix gate_up = scratch.At(0, normed.rows, 2 * features_);
    const Matrix product = scratch.At(normed.rows * 2 * features_, normed.rows, features_);
    if (features_ > 0) {
      adapters_.Run(normed, gate_up_, gate_up);
      operators_.ActivationMul(gate_up, activation_, product);
    }
    adapters_.Run(product, down_, out);
  }

 private:
  std::int64_t features_;
  kernels::Activation activation_;
  kernels::Operators& operators_;
  AdapterSlots& adapters_;
  AdaptedLinear gate_up_;
  AdaptedLinear down_;
};

}  // namespace

std::vector<RowRange> RowsOfBoth(const SumCut& cut) {
  return cut.shard_end == 0 ? std::vector<RowRange>()
                            : std::vector<RowRange>{cut.columns, cut.columns};
}

std::int64_t FeedForwardRowFloats(const DecoderSpec& spec) {
  std::int64_t out = spec.any_dense() ? std::int64_t{3} * spec.intermediate_size : 1;
  if (spec.any_experts()) {
    const ExpertsSpec& experts = spec.experts;
    const std::int64_t per_token = experts.route.experts_per_token;
    // Scores, choices and their weights, then each choice's parts, then the shared expert's.
    out = std::max(
        out, experts.count + 2 * per_token +
                 per_token * (std::int64_t{3} * experts.intermediate_size + spec.hidden_size) +
                 std::int64_t{3} * experts.shared_intermediate_size + spec.hidden_size + 1);
  }
  return out;
}

Result<std::unique_ptr<FeedForward>> MakeFeedForward(const DecoderSpec& spec, std::size_t layer,
                                                     WeightLoader& loader) {
  if (spec.layers[layer].experts) {
    return MakeExperts(spec, layer, loader);
  }
  auto out = std::make_unique<GatedFeedForward>(spec, loader);
  PX_CHECK_OK(out->Load(spec, layer, loader));
  return std::unique_ptr<FeedForward>(std::move(out));
}

}  // namespace pixii::model
