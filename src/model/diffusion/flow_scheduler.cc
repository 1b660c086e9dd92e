#include "model/diffusion/flow_scheduler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/assert.h"
#include "model/config_reader.h"

namespace pixii::model {
namespace {

constexpr std::int32_t kOrderMax = 3;

using Row = std::array<double, kOrderMax>;

double Shifted(double shift, double sigma) { return shift * sigma / (1.0 + (shift - 1.0) * sigma); }

/// x of a x = b, n equations; by elimination with the largest pivot.
Row Solve(std::array<Row, kOrderMax> a, Row b, std::size_t n) {
  for (std::size_t column = 0; column < n; ++column) {
    std::size_t pivot = column;
    for (std::size_t row = column + 1; row < n; ++row) {
      pivot = std::abs(a[row][column]) > std::abs(a[pivot][column]) ? row : pivot;
    }
    std::swap(a[column], a[pivot]);
    std::swap(b[column], b[pivot]);
    for (std::size_t row = column + 1; row < n; ++row) {
      const double factor = a[row][column] / a[column][column];
      for (std::size_t k = column; k < n; ++k) {
        a[row][k] -= factor * a[column][k];
      }
      b[row] -= factor * b[column];
    }
  }
  Row x{};
  for (std::size_t row = n; row-- > 0;) {
    double sum = b[row];
    for (std::size_t k = row + 1; k < n; ++k) {
      sum -= a[row][k] * x[k];
    }
    x[row] = sum / a[row][row];
  }
  return x;
}

class UniPc final : public FlowScheduler {
 public:
  UniPc(SchedulerConfig config, std::int32_t steps) : config_(std::move(config)) {
    const double last = 1.0 / config_.train_timesteps;
    for (std::int32_t i = 0; i < steps; ++i) {
      double sigma = Shifted(config_.shift, 1.0 + (last - 1.0) * i / steps);
      if (i == 0 && std::abs(sigma - 1.0) < kFirstSigmaGap) {
        sigma -= kFirstSigmaGap;  // the logarithm of 1 - sigma is taken
      }
      sigmas_.push_back(static_cast<float>(sigma));
      timesteps_.push_back(static_cast<float>(std::trunc(sigma * config_.train_timesteps)));
    }
    sigmas_.push_back(0.0F);
  }

  void Step(std::span<const float> velocity, std::span<float> sample) override {
    PX_ASSERT(step_ < timesteps_.size() && velocity.size() == sample.size());
    const float sigma = sigmas_[step_];
    std::vector<float> picture(sample.size());
    for (std::size_t i = 0; i < sample.size(); ++i) {
      picture[i] = sample[i] - sigma * velocity[i];
    }
    if (step_ > 0 && !Uncorrected(step_ - 1)) {
      Move({.to = step_, .from = step_ - 1, .order = order_}, &picture, sample);
    }
    pictures_.insert(pictures_.begin(), std::move(picture));
    const auto wanted = static_cast<std::size_t>(config_.solver_order);
    pictures_.resize(std::min(pictures_.size(), wanted));
    order_ = std::min({wanted, timesteps_.size() - step_, step_ + 1});
    begin_.assign(sample.begin(), sample.end());
    Move({.to = step_ + 1, .from = step_, .order = order_}, nullptr, sample);
    ++step_;
  }

 private:
  static constexpr double kFirstSigmaGap = 1e-6;

  struct Stride {
    std::size_t to = 0;  // indices into sigmas_
    std::size_t from = 0;
    std::size_t order = 1;
  };

  bool Uncorrected(std::size_t step) const {
    const std::vector<std::int64_t>& list = config_.uncorrected_steps;
    return std::find(list.begin(), list.end(), static_cast<std::int64_t>(step)) != list.end();
  }

  double Alpha(std::size_t index) const { return 1.0 - double{sigmas_[index]}; }

  double Lambda(std::size_t index) const {
    return std::log(Alpha(index)) - std::log(double{sigmas_[index]});
  }

  /// One UniPC update of begin_, the sample at stride.from, into `out`. pictures_[0] was predicted
  /// there, pictures_[1] a step before. With `arrived`, what was predicted at stride.to, this is
  /// the corrector, else the predictor.
  ///   out = keep begin - alpha phi1 p0 - alpha scale (sum of rho_i (p_i - p0) / ratio_i)
  /// over the older pictures and, of the corrector, `arrived` at ratio 1. The factors of a picture
  /// are gathered first.
  void Move(const Stride& stride, const std::vector<float>* arrived, std::span<float> out) const {
    const double h = Lambda(stride.to) - Lambda(stride.from);
    Row ratios{};
    for (std::size_t i = 1; i < stride.order; ++i) {
      ratios[i - 1] = (Lambda(stride.from - i) - Lambda(stride.from)) / h;
    }
    ratios[stride.order - 1] = 1.0;
    const double phi1 = std::expm1(-h);
    const double scale = config_.bh2 ? phi1 : -h;
    const Row rho = Rho(ratios, stride.order, arrived != nullptr, h, scale);
    const double alpha = Alpha(stride.to);
    std::array<float, kOrderMax> of_older{};
    double of_newest = -alpha * phi1;
    for (std::size_t i = 1; i < stride.order; ++i) {
      const double factor = alpha * scale * rho[i - 1] / ratios[i - 1];
      of_older[i - 1] = static_cast<float>(-factor);
      of_newest += factor;
    }
    const double of_arrived = arrived != nullptr ? -alpha * scale * rho[stride.order - 1] : 0.0;
    of_newest -= of_arrived;
    const auto keep = static_cast<float>(double{sigmas_[stride.to]} / double{sigmas_[stride.from]});
    for (std::size_t e = 0; e < out.size(); ++e) {
      float value = keep * begin_[e] + static_cast<float>(of_newest) * pictures_[0][e];
      for (std::size_t i = 1; i < stride.order; ++i) {
        value += of_older[i - 1] * pictures_[i][e];
      }
      if (arrived != nullptr) {
        value += static_cast<float>(of_arrived) * (*arrived)[e];
      }
      out[e] = value;
    }
  }

  /// Weights of the differences; the predictor of order 2 and the corrector of order 1 take half.
  static Row Rho(const Row& ratios, std::size_t order, bool corrects, double h, double scale) {
    const std::size_t unknowns = corrects ? order : order - 1;
    if (unknowns <= 1) {
      return {0.5};
    }
    std::array<Row, kOrderMax> powers{};
    Row sums{};
    double phi = std::expm1(-h) / -h - 1.0;
    double factorial = 1.0;
    for (std::size_t row = 0; row < order; ++row) {
      for (std::size_t i = 0; i < order; ++i) {
        powers[row][i] = std::pow(ratios[i], static_cast<double>(row));
      }
      sums[row] = phi * factorial / scale;
      factorial *= static_cast<double>(row + 2);
      phi = phi / -h - 1.0 / factorial;
    }
    return Solve(powers, sums, unknowns);
  }

  SchedulerConfig config_;
  std::size_t step_ = 0;
  std::size_t order_ = 1;                     // of the last predictor
  std::vector<std::vector<float>> pictures_;  // predicted, the newest first
  std::vector<float> begin_;                  // where the last predictor began
};

class FlowMatchEuler final : public FlowScheduler {
 public:
  /// Levels are spread between the ends of the shifted training schedule and then shifted once
  /// more: diffusers does so.
  FlowMatchEuler(const SchedulerConfig& config, std::int32_t steps) {
    const auto train = static_cast<float>(config.train_timesteps);
    const auto shift = static_cast<float>(config.shift);
    const auto shifted = [shift](float sigma) {
      return shift * sigma / (1.0F + (shift - 1.0F) * sigma);
    };
    const double high = double{shifted(1.0F)} * config.train_timesteps;
    const double low = double{shifted(1.0F / train)} * config.train_timesteps;
    for (std::int32_t i = 0; i < steps; ++i) {
      const double t = steps == 1 ? high : high + (low - high) * i / (steps - 1);
      const auto sigma = static_cast<float>(Shifted(config.shift, t / config.train_timesteps));
      sigmas_.push_back(sigma);
      timesteps_.push_back(sigma * train);
    }
    sigmas_.push_back(0.0F);
  }

  FlowMatchEuler(const SchedulerConfig& config, const TokenSteps& steps) {
    const auto train = static_cast<float>(config.train_timesteps);
    const double slope =
        (config.max_shift - config.base_shift) / (config.max_tokens - config.base_tokens);
    const double mu =
        slope * static_cast<double>(steps.tokens) + config.base_shift - slope * config.base_tokens;
    const double scale = config.exponential ? std::exp(mu) : mu;
    const double last = 1.0 / steps.steps;
    for (std::int32_t i = 0; i < steps.steps; ++i) {
      const double even = steps.steps == 1 ? 1.0 : 1.0 + (last - 1.0) * i / (steps.steps - 1);
      const double level = double{static_cast<float>(even)};
      const double sigma =
          config.dynamic ? scale / (scale + (1.0 / level - 1.0)) : Shifted(config.shift, level);
      sigmas_.push_back(static_cast<float>(sigma));
      timesteps_.push_back(sigmas_.back() * train);
    }
    sigmas_.push_back(0.0F);
  }

  void Step(std::span<const float> velocity, std::span<float> sample) override {
    PX_ASSERT(step_ < timesteps_.size() && velocity.size() == sample.size());
    const float stride = sigmas_[step_ + 1] - sigmas_[step_];
    for (std::size_t i = 0; i < sample.size(); ++i) {
      sample[i] = sample[i] + stride * velocity[i];
    }
    ++step_;
  }

 private:
  std::size_t step_ = 0;
};

/// Refuses keys whose values change what is computed and are not built.
Result<void> CheckOff(const ConfigReader& reader, std::span<const std::string_view> keys) {
  for (const std::string_view key : keys) {
    PX_TRY(const bool on, reader.Bool(key, false));
    if (on) {
      return reader.Unsupported(key, "must be false");
    }
  }
  return {};
}

Result<void> ParseUniPc(const ConfigReader& reader, SchedulerConfig& out) {
  PX_TRY(const std::string prediction, reader.String("prediction_type", "epsilon"));
  if (prediction != "flow_prediction") {
    return reader.Unsupported("prediction_type", "is not flow_prediction");
  }
  constexpr std::string_view kOff[] = {"thresholding", "use_karras_sigmas",
                                       "use_exponential_sigmas", "use_beta_sigmas",
                                       "use_dynamic_shifting"};
  PX_CHECK_OK(CheckOff(reader, kOff));
  PX_TRY(const bool flow, reader.Bool("use_flow_sigmas", false));
  PX_TRY(const bool predict_x0, reader.Bool("predict_x0", true));
  // The last stride goes to a level without a logarithm, which order 1 alone can take.
  PX_TRY(const bool lower_order_final, reader.Bool("lower_order_final", true));
  if (!flow || !predict_x0 || !lower_order_final) {
    return reader.Unsupported(!flow         ? "use_flow_sigmas"
                              : !predict_x0 ? "predict_x0"
                                            : "lower_order_final",
                              "must be true");
  }
  PX_TRY(const std::string last, reader.String("final_sigmas_type", "zero"));
  if (last != "zero") {
    return reader.Unsupported("final_sigmas_type", "is not zero");
  }
  PX_TRY(out.shift, reader.Number("flow_shift", {1e-3, 1e3}, 1.0));
  PX_TRY(const std::int64_t order, reader.Int("solver_order", {1, kOrderMax}, 2));
  out.solver_order = static_cast<std::int32_t>(order);
  PX_TRY(const std::string type, reader.String("solver_type", "bh2"));
  if (type != "bh1" && type != "bh2") {
    return reader.Unsupported("solver_type", "is not bh1 or bh2");
  }
  out.bh2 = type == "bh2";
  PX_TRY(out.uncorrected_steps, reader.IntOrInts("disable_corrector"));
  return {};
}

Result<void> ParseEuler(const ConfigReader& reader, SchedulerConfig& out) {
  constexpr std::string_view kOff[] = {"use_karras_sigmas", "use_exponential_sigmas",
                                       "use_beta_sigmas", "invert_sigmas", "stochastic_sampling"};
  PX_CHECK_OK(CheckOff(reader, kOff));
  PX_TRY(out.shift, reader.Number("shift", {1e-3, 1e3}, 1.0));
  PX_TRY(out.dynamic, reader.Bool("use_dynamic_shifting", false));
  PX_TRY(const std::string type, reader.String("time_shift_type", "exponential"));
  if (type != "exponential" && type != "linear") {
    return reader.Unsupported("time_shift_type", "is not exponential or linear");
  }
  out.exponential = type == "exponential";
  PX_TRY(out.base_shift, reader.Number("base_shift", {1e-3, 1e2}, out.base_shift));
  PX_TRY(out.max_shift, reader.Number("max_shift", {1e-3, 1e2}, out.max_shift));
  PX_TRY(out.base_tokens, reader.Number("base_image_seq_len", {1.0, 1e9}, out.base_tokens));
  PX_TRY(out.max_tokens, reader.Number("max_image_seq_len", {1.0, 1e9}, out.max_tokens));
  if (!(out.max_tokens > out.base_tokens)) {
    return reader.Bad("max_image_seq_len", "is not above base_image_seq_len");
  }
  return {};
}

}  // namespace

Result<SchedulerConfig> ParseSchedulerConfig(const wire::Json& json, const std::string& file_name) {
  const ConfigReader reader(json, file_name);
  SchedulerConfig out;
  PX_TRY(const std::string name, reader.String("_class_name"));
  PX_TRY(const std::int64_t train, reader.Int("num_train_timesteps", {1, 1'000'000}, 1000));
  out.train_timesteps = static_cast<std::int32_t>(train);
  if (reader.Find("shift_terminal") != nullptr) {
    return reader.Unsupported("shift_terminal", "must be null");
  }
  if (name == "UniPCMultistepScheduler") {
    out.kind = SchedulerConfig::Kind::kUniPc;
    PX_CHECK_OK(ParseUniPc(reader, out));
    return out;
  }
  if (name == "FlowMatchEulerDiscreteScheduler") {
    out.kind = SchedulerConfig::Kind::kFlowMatchEuler;
    PX_CHECK_OK(ParseEuler(reader, out));
    return out;
  }
  return reader.Unsupported("_class_name",
                            "is neither UniPCMultistepScheduler nor "
                            "FlowMatchEulerDiscreteScheduler");
}

std::unique_ptr<FlowScheduler> MakeTokenScheduler(const SchedulerConfig& config,
                                                  const TokenSteps& steps) {
  PX_ASSERT(steps.steps >= 1 && steps.steps <= kDenoiseStepsMax &&
            config.kind == SchedulerConfig::Kind::kFlowMatchEuler);
  return std::make_unique<FlowMatchEuler>(config, steps);
}

std::unique_ptr<FlowScheduler> MakeScheduler(const SchedulerConfig& config, std::int32_t steps) {
  PX_ASSERT(steps >= 1 && steps <= kDenoiseStepsMax && !config.dynamic);
  if (config.kind == SchedulerConfig::Kind::kUniPc) {
    return std::make_unique<UniPc>(config, steps);
  }
  return std::make_unique<FlowMatchEuler>(config, steps);
}

}  // namespace pixii::model
