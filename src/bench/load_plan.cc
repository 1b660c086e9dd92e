#include "bench/load_plan.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "base/hash.h"
#include "rt/random.h"

namespace pixii::bench {

namespace {

constexpr double kTokensMax = 1 << 24;  // of a prompt, of an answer

// By Box and Muller.
double Normal(rt::Random& random) {
  const double radius = std::sqrt(-2 * std::log(1 - random.Unit()));
  return radius * std::cos(2 * std::numbers::pi * random.Unit());
}

// With this shape and scale 1. By Marsaglia and Tsang (2000); below shape 1 through the next one.
double Gamma(rt::Random& random, double shape) {
  if (shape < 1) {
    const double power = std::pow(1 - random.Unit(), 1 / shape);
    return Gamma(random, shape + 1) * power;
  }
  const double d = shape - 1.0 / 3;
  const double c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = Normal(random);
    const double v = std::pow(1 + c * x, 3);
    if (v > 0 && std::log(1 - random.Unit()) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return d * v;
    }
  }
}

double Gap(rt::Random& random, const LoadPlanOptions& options, double rate) {
  switch (options.arrival) {
    case Arrival::kConstant:
      return 1 / rate;
    case Arrival::kGamma:
      return Gamma(random, options.burstiness) / (options.burstiness * rate);
    case Arrival::kPoisson:
      break;
  }
  return random.Exponential(1 / rate);
}

std::uint32_t Length(rt::Random& random, double mean, double stddev) {
  const double drawn = stddev > 0 ? mean + stddev * Normal(random) : mean;
  return static_cast<std::uint32_t>(std::clamp(std::round(drawn), 1.0, kTokensMax));
}

}  // namespace

LoadPlan MakeLoadPlan(const LoadPlanOptions& options) {
  // Lengths and gaps have generators of their own: another rate leaves the prompts as they are.
  rt::Random gaps(options.seed);
  rt::Random lengths = gaps.Fork();
  LoadPlan plan;
  plan.timed = options.rate_per_second > 0;
  plan.seed = options.seed;
  double at_s = 0;
  const double last = std::max(1.0, static_cast<double>(options.request_count) - 1);
  for (std::uint32_t i = 0; i < options.request_count; ++i) {
    PlannedRequest& request = plan.requests.emplace_back();
    request.index = i;
    if (plan.timed) {
      const double end = options.rate_end > 0 ? options.rate_end : options.rate_per_second;
      const double rate =
          options.rate_per_second + (end - options.rate_per_second) * static_cast<double>(i) / last;
      at_s += Gap(gaps, options, rate);
      request.at = std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(at_s));
    }
    request.input_tokens = Length(lengths, options.input_tokens, options.input_stddev);
    request.output_tokens = Length(lengths, options.output_tokens, options.output_stddev);
    request.prefix_tokens = std::min(options.shared_prefix_tokens, request.input_tokens);
    request.prefix_group = static_cast<std::uint32_t>(lengths.Below(options.prefix_groups));
  }
  return plan;
}

LoadPlan PlanOfTrace(const sim::Trace& trace, double speed, std::uint64_t seed) {
  LoadPlan plan;
  plan.timed = true;
  plan.block_tokens = trace.block_tokens;
  plan.seed = seed;
  for (const sim::TraceRequest& row : trace.requests) {
    PlannedRequest& request = plan.requests.emplace_back();
    request.index = plan.requests.size() - 1;
    request.at = std::chrono::duration_cast<rt::Duration>(row.at / speed);
    request.input_tokens = row.input_tokens;
    request.output_tokens = row.output_tokens;
    request.hash_ids = row.hash_ids;
  }
  return plan;
}

std::vector<TokenId> LoadPlan::Prompt(const PlannedRequest& request,
                                      std::uint32_t vocab_size) const {
  if (!request.hash_ids.empty()) {
    return sim::TracePrompt({.at = request.at,
                             .input_tokens = request.input_tokens,
                             .output_tokens = request.output_tokens,
                             .hash_ids = request.hash_ids},
                            request.index, block_tokens, seed, vocab_size);
  }
  std::vector<TokenId> out;
  out.reserve(request.input_tokens);
  for (std::uint32_t i = 0; i < request.input_tokens; ++i) {
    const bool shared = i < request.prefix_tokens;
    const std::uint64_t key[] = {seed, shared ? 0 : request.index + 1,
                                 shared ? request.prefix_group : 0, i};
    out.push_back(static_cast<TokenId>(Hash64(std::as_bytes(std::span(key))) % vocab_size));
  }
  return out;
}

}  // namespace pixii::bench
