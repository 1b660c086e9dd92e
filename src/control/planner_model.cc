#include "control/planner_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

namespace pixii::control {

namespace {

constexpr double kMsPerSecond = 1000;
constexpr double kHopelessMs = 1e9;
constexpr int kFixedPointRounds = 60;

double Normal(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

/// Probability that all of `servers` are busy (Erlang C), as Sakasegawa has it for real numbers.
double WaitShare(double busy, double servers) {
  return std::clamp(std::pow(busy, std::sqrt(2 * (servers + 1)) - 1), 0.0, 1.0);
}

std::uint32_t Ceil(double value) {
  if (!std::isfinite(value) || value >= kReplicasUnbounded) {
    return kReplicasUnbounded;
  }
  return static_cast<std::uint32_t>(std::max(std::ceil(value - 1e-9), 0.0));
}

struct Moments {
  double input = 0;
  double output = 0;
  double context = 0;  // tokens x steps that a request keeps its context for
  double square = 0;   // mean square of input
  double prompt_ms = 0;
  double prompt_square = 0;  // mean square of prompt_ms
};

Moments MomentsOf(const EngineModel& engine, std::span<const RequestSize> sizes) {
  Moments out;
  const auto count = static_cast<double>(sizes.size());
  for (const RequestSize& size : sizes) {
    const double prompt = PromptMs(engine, size.input);
    out.input += size.input / count;
    out.output += size.output / count;
    out.context += size.output * (size.input + size.output / 2) / count;
    out.square += size.input * size.input / count;
    out.prompt_ms += prompt / count;
    out.prompt_square += prompt * prompt / count;
  }
  return out;
}

/// Steps of an engine that takes `rate` requests a millisecond, when they have settled.
struct Steady {
  double step_ms = 0;    // on average, with the prompts that come in between
  double decode_ms = 0;  // of it, the part of decoding
  double batch = 0;      // sequences that decode
  double prompt_ms = 0;  // of a step that computes prompts, the part of these
  double jump_ms = 0;    // likewise, as its square has it
  double wave_ms = 0;    // by which the part of decoding goes up and down
  bool holds = true;     // false: it cannot keep up
};

Steady Settle(const EngineModel& engine, const Moments& mean, double rate, bool prefills) {
  Steady out;
  const auto context_of = [&](double step) { return rate * step * mean.context; };
  const double typical = mean.output > 0 ? mean.context / mean.output : 0;
  // Of prompts computed together: full steps, or one that is not.
  const auto together_ms = [&](double tokens) {
    return tokens > engine.batch_tokens_max
               ? tokens / engine.batch_tokens_max * engine.prefill_ms(engine.batch_tokens_max)
               : engine.prefill_ms(tokens);
  };
  // Prompts differ: they take longer than as many of mean length.
  const double uneven = mean.prompt_ms / std::max(together_ms(mean.input), 1e-9);
  double step = engine.decode_ms(typical, typical);
  for (int round = 0; round < kFixedPointRounds; ++round) {
    const double kv = context_of(step);
    out.decode_ms = engine.decode_ms(std::min(std::max(kv, typical), engine.kv_tokens), typical);
    double extra = 0;
    if (prefills && rate > 0) {
      const double share = 1 - std::exp(-rate * step);  // of steps that have prompts come
      out.prompt_ms = uneven * together_ms(rate * step / share * mean.input);
      extra = share * out.prompt_ms;
    }
    step += 0.5 * (std::min(out.decode_ms + extra, kHopelessMs) - step);
  }
  out.step_ms = step;
  out.batch = rate * step * mean.output;
  out.holds = context_of(step) <= engine.kv_tokens && out.batch <= engine.sequences_max &&
              (!prefills || rate * step * mean.input <= engine.batch_tokens_max);
  out.jump_ms = mean.prompt_ms > 0
                    ? out.prompt_ms * mean.prompt_square / (mean.prompt_ms * mean.prompt_ms)
                    : 0;
  // The batch is never the mean one, and goes up and down too slowly for a request's own mean to
  // smooth it.
  const double kv = std::min(context_of(step), engine.kv_tokens);
  const double more = std::min(kv * (1 + 1 / std::sqrt(out.batch + 1)), engine.kv_tokens);
  out.wave_ms = engine.decode_ms(more, typical) - engine.decode_ms(kv, typical);
  return out;
}

/// Probability that no more than `most` come where `mean` are expected (Poisson, between whole
/// numbers too; Wilson and Hilferty's approximation).
double AtMost(double most, double mean) {
  const double k = most + 1;
  return k <= 0 ? 0 : Normal(3 * std::sqrt(k) * (1 - 1 / (9 * k) - std::cbrt(mean / k)));
}

/// Share of requests of one size that keep the goal between tokens: few prompts come meanwhile, and
/// the batch goes up and down.
double KeepsItl(const EngineModel& engine, const Steady& steady, const RequestSize& size,
                double goal_ms, double dispersion) {
  constexpr std::array<std::pair<double, double>, 3> kPlaces = {
      {{-1.732, 1.0 / 6}, {0, 2.0 / 3}, {1.732, 1.0 / 6}}};  // of a normal distribution
  const double tokens = size.output - 1;
  // What comes during a step is computed in the next one: what came during the last step of its
  // own prompt delays a request's second token, what comes during its last step does not.
  const double chunk = std::fmod(size.input, engine.batch_tokens_max);
  const double own_ms = steady.prompt_ms > 0 ? engine.prefill_ms(chunk) : 0;
  const double exposed_ms = own_ms + steady.decode_ms + (tokens - 1) * steady.step_ms;
  const double extra = exposed_ms * (1 - steady.decode_ms / steady.step_ms);
  const double jump = steady.jump_ms * dispersion;
  double out = 0;
  for (const auto& [place, weight] : kPlaces) {
    const double decode = steady.decode_ms + place * steady.wave_ms;
    const double room = tokens * (goal_ms - decode);
    if (room < 0) {
      continue;
    }
    out += weight * (jump > 0 && extra > 0 ? AtMost(room / jump, extra / jump) : 1);
  }
  return out;
}

}  // namespace

double PromptMs(const EngineModel& engine, double input_tokens) {
  const double whole = std::floor(input_tokens / engine.batch_tokens_max);
  const double rest = input_tokens - whole * engine.batch_tokens_max;
  return whole * engine.prefill_ms(engine.batch_tokens_max) +
         (rest > 0 || whole == 0 ? engine.prefill_ms(rest) : 0);
}

PoolOutlook Predict(const EngineModel& engine, const PoolLoad& load, const LatencyGoal& goal,
                    double workers) {
  PoolOutlook out;
  if (load.sizes.empty()) {
    return out;
  }
  const bool prefills = load.role != PoolRole::kDecode;
  const bool decodes = load.role != PoolRole::kPrefill;
  const Moments mean = MomentsOf(engine, load.sizes);
  const double rate = std::max(load.rate, 0.0) / workers / kMsPerSecond;  // of one engine, 1/ms
  const Steady steady = decodes ? Settle(engine, mean, rate, prefills) : Steady{};
  // A full step is what an engine does at its limit: a prompt costs its share of it.
  const double full = engine.prefill_ms(engine.batch_tokens_max) + steady.decode_ms;
  const double token_ms = full / engine.batch_tokens_max;
  double wait_share = 0;
  double wait_rate = 0;  // of the exponential tail, 1/ms
  if (prefills) {
    out.busy = rate * mean.input * token_ms;
    if (out.busy < 1) {
      const double service = mean.input * token_ms;
      const double spread = mean.input > 0 ? mean.square / (mean.input * mean.input) : 1;
      wait_share = WaitShare(out.busy, workers);
      wait_rate = service > 0
                      ? workers * (1 - out.busy) * 2 / ((spread + load.dispersion - 1) * service)
                      : kHopelessMs;
    }
  }
  if (decodes) {
    const double by_batch = steady.batch / engine.sequences_max;
    const double by_cache = rate * steady.step_ms * mean.context / engine.kv_tokens;
    out.busy = std::max({out.busy, by_batch, by_cache});
  }
  if (out.busy >= 1 || !steady.holds) {
    return {.attainment = 0,
            .ttft_ms = kHopelessMs,
            .itl_ms = kHopelessMs,
            .busy = std::max(out.busy, 1.0)};
  }
  const double residual = prefills && decodes ? steady.step_ms / 2 : 0;
  out.itl_ms = steady.step_ms;
  double kept = 0;
  for (const RequestSize& size : load.sizes) {
    double both = 1;
    if (prefills) {
      const double chunks = std::ceil(std::max(size.input, 1.0) / engine.batch_tokens_max);
      const double own = PromptMs(engine, size.input) + chunks * steady.decode_ms + residual;
      const double left = goal.ttft_ms - own;
      both *= left < 0 ? 0 : 1 - wait_share * std::exp(-wait_rate * left);
      out.ttft_ms += own + (wait_rate > 0 ? wait_share / wait_rate : 0);
    }
    if (decodes && size.output > 1) {
      both *= KeepsItl(engine, steady, size, goal.itl_ms, load.dispersion);
    }
    kept += both;
  }
  const auto count = static_cast<double>(load.sizes.size());
  out.attainment = std::clamp(kept / count, 0.0, 1.0);
  out.ttft_ms /= count;
  return out;
}

std::uint32_t PrefillReplicas(const FormulaInput& in) {
  const double load =
      in.requests * in.input_tokens / in.interval_seconds * std::min(1.0, in.prefill_correction);
  return load <= 0 ? 0 : Ceil(load / in.prefill_throughput / in.prefill_gpus);
}

std::uint32_t DecodeReplicas(const FormulaInput& in) {
  const double load = in.requests * in.output_tokens / in.interval_seconds;
  return load <= 0 ? 0 : Ceil(load / in.decode_throughput / in.decode_gpus);
}

double CorrectedItlGoal(double goal_ms, double actual_ms, double expected_ms) {
  const double correction = expected_ms > 0 && actual_ms > 0 ? actual_ms / expected_ms : 1;
  return goal_ms / correction;
}

double DecodeThroughput(const EngineModel& engine, double context, double itl_ms) {
  const double most =
      std::floor(std::min(engine.sequences_max, engine.kv_tokens / std::max(context, 1.0)));
  double best = 0;
  for (double batch = 1; batch <= most; ++batch) {
    const double step = engine.decode_ms(batch * context, context);
    if (step <= itl_ms && step > 0) {
      best = std::max(best, batch / step * kMsPerSecond);
    }
  }
  return best;
}

double PrefillThroughput(const EngineModel& engine, double input_tokens) {
  const double took = PromptMs(engine, input_tokens);
  return took > 0 ? input_tokens / took * kMsPerSecond : 0;
}

int LoadStep(PoolRole role, std::span<const EngineEstimate> engines, const LatencyGoal& goal,
             double sensitivity) {
  if (engines.empty()) {
    return 0;
  }
  const auto all = [&](auto value, double bound, bool above) {
    return std::ranges::all_of(engines, [&](const EngineEstimate& one) {
      return above ? value(one) > bound : value(one) < bound;
    });
  };
  const auto ttft = [](const EngineEstimate& one) { return one.ttft_ms; };
  const auto itl = [](const EngineEstimate& one) { return one.itl_ms; };
  const bool prefills = role != PoolRole::kDecode;
  const bool decodes = role != PoolRole::kPrefill;
  if ((prefills && all(ttft, goal.ttft_ms, true)) || (decodes && all(itl, goal.itl_ms, true))) {
    return 1;
  }
  const bool idle = (!prefills || all(ttft, goal.ttft_ms * sensitivity, false)) &&
                    (!decodes || all(itl, goal.itl_ms * sensitivity, false));
  return idle ? -1 : 0;
}

void StepLine::Add(double tokens, double wall_ms, std::size_t samples_max) {
  if (!(wall_ms > 0) || !std::isfinite(wall_ms) || !std::isfinite(tokens) || samples_max == 0) {
    return;
  }
  if (points_.size() < samples_max) {
    points_.push_back({tokens, wall_ms});
    return;
  }
  next_ %= samples_max;
  points_[next_++] = {tokens, wall_ms};
}

double StepLine::WallMs(double tokens) const {
  if (points_.empty()) {
    return 0;
  }
  const auto count = static_cast<double>(points_.size());
  double x = 0;
  double y = 0;
  for (const Point& point : points_) {
    x += point.tokens / count;
    y += point.wall_ms / count;
  }
  double xx = 0;
  double xy = 0;
  for (const Point& point : points_) {
    xx += (point.tokens - x) * (point.tokens - x);
    xy += (point.tokens - x) * (point.wall_ms - y);
  }
  const double slope = xx > 0 ? std::max(xy / xx, 0.0) : 0;
  return std::max(y + slope * (tokens - x), 0.0);
}

double StepLine::QueueMs(double queued_tokens, double chunk_tokens) const {
  double out = 0;
  for (double left = queued_tokens; left > 0; left -= chunk_tokens) {
    out += WallMs(std::min(left, chunk_tokens));
  }
  return out;
}

}  // namespace pixii::control
