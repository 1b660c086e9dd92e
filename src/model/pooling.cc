#include "model/pooling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/assert.h"

namespace pixii::model {
namespace {

constexpr double kLengthMin = 1e-12;  // a shorter vector is divided by this

double Apply(PoolActivation activation, double x) {
  switch (activation) {
    case PoolActivation::kIdentity:
      return x;
    case PoolActivation::kTanh:
      return std::tanh(x);
    case PoolActivation::kRelu:
      return x < 0.0 ? 0.0 : x;
    case PoolActivation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case PoolActivation::kSigmoid:
      return 1.0 / (1.0 + std::exp(-x));
  }
  PX_ASSERT(false);
}

void Normalize(std::vector<double>& vector) {
  double squares = 0.0;
  for (const double value : vector) {
    squares += value * value;
  }
  const double length = std::max(std::sqrt(squares), kLengthMin);
  for (double& value : vector) {
    value /= length;
  }
}

std::vector<double> Dense(const PoolStage& stage, const std::vector<double>& in) {
  std::vector<double> out;
  out.reserve(static_cast<std::size_t>(stage.out_features));
  const float* weight = stage.weight.data();
  for (std::size_t row = 0; row < static_cast<std::size_t>(stage.out_features); ++row) {
    double sum = 0.0;
    for (const double value : in) {
      sum += value * double{*weight++};
    }
    out.push_back(Apply(stage.activation, stage.bias.empty() ? sum : sum + stage.bias[row]));
  }
  return out;
}

}  // namespace

Result<Pooler> Pooler::Create(PoolingSpec spec, std::int32_t hidden_size) {
  Pooler pooler;
  PX_ASSERT(!spec.modes.empty() && std::ranges::is_sorted(spec.modes));
  std::int64_t features = std::int64_t{hidden_size} * std::ssize(spec.modes);
  for (const PoolStage& stage : spec.stages) {
    if (stage.normalize) {
      continue;
    }
    if (stage.in_features != features) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("a dense module takes {} features, and the one before it gives {}",
                              stage.in_features, features),
                  "in_features");
    }
    features = stage.out_features;
  }
  const auto only = [&](PoolMode mode) { return spec.modes == std::vector{mode}; };
  pooler.rows_ = only(PoolMode::kCls)         ? PoolRows::kFirst
                 : only(PoolMode::kLastToken) ? PoolRows::kLast
                                              : PoolRows::kAll;
  pooler.spec_ = std::move(spec);
  pooler.hidden_size_ = hidden_size;
  pooler.features_ = static_cast<std::int32_t>(features);
  return pooler;
}

bool Pooler::Has(PoolMode mode) const {
  return std::ranges::find(spec_.modes, mode) != spec_.modes.end();
}

void Pooler::Add(std::span<const float> row, State& state) const {
  PX_ASSERT(std::ssize(row) == hidden_size_);
  ++state.count;
  if (state.count == 1) {
    state.first.assign(row.begin(), row.end());
    state.max = state.first;
    state.sum.assign(row.size(), 0.0);
    state.weighted = state.sum;
  }
  state.last.assign(row.begin(), row.end());
  for (std::size_t i = 0; i < row.size(); ++i) {
    state.sum[i] += double{row[i]};
    state.weighted[i] += double{row[i]} * (state.skipped + state.count);
    state.max[i] = std::max(state.max[i], row[i]);
  }
}

std::vector<float> Pooler::Finish(const State& state) const {
  PX_ASSERT(state.count > 0);
  const double count = state.count;
  std::vector<double> vector;
  const auto append = [&](const auto& values, double divisor) {
    for (const auto value : values) {
      vector.push_back(static_cast<double>(value) / divisor);
    }
  };
  for (const PoolMode mode : spec_.modes) {
    switch (mode) {
      case PoolMode::kCls:
        append(state.first, 1.0);
        break;
      case PoolMode::kMax:
        append(state.max, 1.0);
        break;
      case PoolMode::kMean:
        append(state.sum, count);
        break;
      case PoolMode::kMeanSqrtLen:
        append(state.sum, std::sqrt(count));
        break;
      case PoolMode::kWeightedMean:
        append(state.weighted, count * state.skipped + count * (count + 1.0) / 2.0);
        break;
      case PoolMode::kLastToken:
        append(state.last, 1.0);
        break;
    }
  }
  for (const PoolStage& stage : spec_.stages) {
    if (stage.normalize) {
      Normalize(vector);
    } else {
      vector = Dense(stage, vector);
    }
  }
  return {vector.begin(), vector.end()};
}

}  // namespace pixii::model
