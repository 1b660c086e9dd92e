// Routing, mixing and gates of the operator set, for backends on the host's memory: plain loops,
// one row at a time.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/assert.h"
#include "kernels/host_operators.h"

namespace pixii::kernels {
namespace {

float Sigmoid(float x) { return 1.0F / (1.0F + std::exp(-x)); }

void Softmax(std::span<float> values) {
  const float largest = *std::max_element(values.begin(), values.end());
  float sum = 0.0F;
  for (float& value : values) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (float& value : values) {
    value /= sum;
  }
}

constexpr float kLowest = -std::numeric_limits<float>::infinity();

float GroupScore(std::span<const float> scores, bool by_two) {
  float first = kLowest;
  float second = kLowest;
  for (const float score : scores) {
    if (score > first) {
      second = first;
      first = score;
    } else if (score > second) {
      second = score;
    }
  }
  return by_two && scores.size() > 1 ? first + second : first;
}

/// Scores outside the best groups become 0.
void KeepGroups(const RouteOptions& options, std::span<float> choice) {
  const auto count = static_cast<std::size_t>(options.group_count);
  const std::size_t size = choice.size() / count;
  std::vector<float> groups(count);
  std::vector<bool> kept(count);
  for (std::size_t group = 0; group < count; ++group) {
    groups[group] = GroupScore(choice.subspan(group * size, size), options.group_by_two);
  }
  for (std::int32_t i = 0; i < options.groups_kept; ++i) {
    std::size_t best = count;
    for (std::size_t group = 0; group < count; ++group) {
      if (!kept[group] && (best == count || groups[group] > groups[best])) {
        best = group;
      }
    }
    kept[best] = true;
  }
  for (std::size_t i = 0; i < choice.size(); ++i) {
    choice[i] = kept[i / size] ? choice[i] : 0.0F;
  }
}

}  // namespace

void HostOperators::Route(const Matrix& logits, std::span<const float> correction,
                          const RouteOptions& options, std::span<std::int32_t> experts,
                          const Matrix& weights) {
  const std::int64_t per_token = options.experts_per_token;
  PX_ASSERT(weights.rows == logits.rows && weights.cols == per_token);
  PX_ASSERT(std::ssize(experts) == logits.rows * per_token && per_token >= 1 &&
            per_token <= logits.cols);
  PX_ASSERT(correction.empty() || std::ssize(correction) == logits.cols);
  PX_ASSERT(options.group_count >= 1 && logits.cols % options.group_count == 0 &&
            options.groups_kept >= 1 && options.groups_kept <= options.group_count);
  std::vector<float> scores(static_cast<std::size_t>(logits.cols));
  std::vector<float> choice(scores.size());
  std::vector<bool> taken(scores.size());
  for (std::int64_t t = 0; t < logits.rows; ++t) {
    std::copy_n(logits.f32(t), logits.cols, scores.data());
    if (options.scoring == RouteOptions::Scoring::kSoftmax) {
      Softmax(scores);
    } else if (options.scoring == RouteOptions::Scoring::kSigmoid) {
      std::transform(scores.begin(), scores.end(), scores.begin(), Sigmoid);
    }
    choice = scores;
    for (std::size_t e = 0; e < correction.size(); ++e) {
      choice[e] += correction[e];
    }
    if (options.group_count > 1) {
      KeepGroups(options, choice);
    }
    taken.assign(taken.size(), false);
    float* row = weights.f32(t);
    float sum = 0.0F;
    for (std::int64_t j = 0; j < per_token; ++j) {
      std::size_t best = choice.size();
      for (std::size_t e = 0; e < choice.size(); ++e) {
        if (!taken[e] && (best == choice.size() || choice[e] > choice[best])) {
          best = e;
        }
      }
      taken[best] = true;
      experts[static_cast<std::size_t>(t * per_token + j)] = static_cast<std::int32_t>(best);
      row[j] = scores[best];
      sum += row[j];
    }
    if (options.scoring == RouteOptions::Scoring::kSoftmaxOfChosen) {
      Softmax({row, static_cast<std::size_t>(per_token)});
    }
    for (std::int64_t j = 0; j < per_token; ++j) {
      row[j] =
          (options.normalize ? row[j] / (sum + options.normalize_epsilon) : row[j]) * options.scale;
    }
  }
}

void HostOperators::CombineExperts(const Matrix& in, const Matrix& weights, const Matrix& out) {
  PX_ASSERT(in.rows == out.rows * weights.cols && weights.rows == out.rows && in.cols == out.cols);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    float* row = out.f32(t);
    std::fill_n(row, out.cols, 0.0F);
    for (std::int64_t j = 0; j < weights.cols; ++j) {
      const float weight = weights.f32(t)[j];
      const float* from = in.f32(t * weights.cols + j);
      for (std::int64_t f = 0; f < out.cols; ++f) {
        row[f] = std::fma(weight, from[f], row[f]);
      }
    }
  }
}

void HostOperators::ClampedActivationMul(const Matrix& gate_up, float alpha, float limit,
                                         const Matrix& out) {
  PX_ASSERT(gate_up.rows == out.rows && gate_up.cols == 2 * out.cols);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    for (std::int64_t f = 0; f < out.cols; ++f) {
      const float gate_in = gate_up.f32(t)[f];
      const float up_in = gate_up.f32(t)[out.cols + f];
      const float gate = gate_in > limit ? limit : gate_in;  // NaN stays NaN
      const float up = up_in > limit ? limit : up_in < -limit ? -limit : up_in;
      out.f32(t)[f] = (up + 1.0F) * (gate * Sigmoid(alpha * gate));
    }
  }
}

void HostOperators::SoftCap(const Matrix& x, float cap) {
  PX_ASSERT(cap > 0.0F);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t f = 0; f < x.cols; ++f) {
      x.f32(t)[f] = cap * std::tanh(x.f32(t)[f] / cap);
    }
  }
}

void HostOperators::Copy(const Matrix& in, const Matrix& out) {
  PX_ASSERT(in.rows == out.rows && in.cols == out.cols);
  for (std::int64_t t = 0; t < in.rows; ++t) {
    std::memcpy(out.f32(t), in.f32(t), static_cast<std::size_t>(in.cols) * sizeof(float));
  }
}

void HostOperators::SigmoidScale(const Matrix& x, const Matrix& gate) {
  PX_ASSERT(gate.rows == x.rows && gate.cols == 1);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const float factor = Sigmoid(gate.f32(t)[0]);
    for (std::int64_t f = 0; f < x.cols; ++f) {
      x.f32(t)[f] *= factor;
    }
  }
}

std::int64_t CheckExperts(const Matrix& in, std::span<const std::int32_t> experts,
                          std::span<const std::unique_ptr<LinearWeight>> weights,
                          const Matrix& out) {
  PX_ASSERT(out.rows == std::ssize(experts) && !weights.empty());
  PX_ASSERT(in.rows == 0 ? out.rows == 0 : out.rows % in.rows == 0);
  for (const std::int32_t expert : experts) {
    PX_ASSERT(expert >= 0 && expert < std::ssize(weights));
  }
  return in.rows == 0 ? 1 : out.rows / in.rows;
}

}  // namespace pixii::kernels
