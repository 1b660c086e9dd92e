#include "control/fleet_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

namespace pixii::control {

namespace {

constexpr int kHalvings = 40;
constexpr int kLittleRounds = 60;
constexpr double kMsPerSecond = 1000;

PoolOutlook At(const EngineModel& engine, const FleetWish& wish, PoolRole role, double rate,
               std::uint32_t workers) {
  return Predict(engine, {.role = role, .rate = rate, .sizes = {&wish.size, 1}}, wish.goal,
                 workers);
}

/// The largest rate, of doubling and halving, for which `holds`.
template <class Holds>
double Largest(const Holds& holds) {
  double low = 0;
  double high = 1e-3;
  while (holds(high) && high < 1e9) {
    low = high;
    high *= 2;
  }
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

/// What so many requests at a time come to (Little's law): rate x their time = concurrency.
double RateOfConcurrency(const EngineModel& engine, const FleetWish& wish, std::uint32_t workers) {
  double low = 0;
  double high = wish.concurrency / std::max(engine.decode_ms(1, 1), 1e-3) * kMsPerSecond;
  for (int i = 0; i < kLittleRounds; ++i) {
    const double rate = (low + high) / 2;
    const PoolOutlook outlook = At(engine, wish, PoolRole::kBoth, rate, workers);
    const double seconds =
        (outlook.ttft_ms + outlook.itl_ms * std::max(wish.size.output - 1, 0.0)) / kMsPerSecond;
    (outlook.busy < 1 && rate * seconds < wish.concurrency ? low : high) = rate;
  }
  return low;
}

/// The fewest workers of a role that keep the goal at this rate, up to `most`.
std::optional<std::uint32_t> Fewest(const EngineModel& engine, const FleetWish& wish, PoolRole role,
                                    double rate, double attainment, std::uint32_t most) {
  for (std::uint32_t workers = 1; workers <= most; ++workers) {
    if (At(engine, wish, role, rate, workers).attainment >= attainment) {
      return workers;
    }
  }
  return std::nullopt;
}

Result<void> Check(const FleetWish& wish) {
  const auto wrong = [](const char* field, const char* what) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: {}", field, what), field);
  };
  if (wish.budget == 0) {
    return wrong("budget", "a fleet has one worker at least");
  }
  if (wish.rate > 0 && wish.concurrency > 0) {
    return wrong("target-concurrency", "is in the place of target-rate; give one of them");
  }
  if (wish.pick == FleetPick::kLoadMatch && wish.rate <= 0 && wish.concurrency <= 0) {
    return wrong("target-rate", "load-match needs it, or target-concurrency");
  }
  return {};
}

void Count(const EngineModel& engine, const FleetWish& wish, FleetAdvice& out) {
  const std::uint32_t workers = std::max(out.workers, 1U);
  out.rate_max = LargestRate(engine, wish, workers);
  if (out.rate <= 0) {
    out.rate = out.rate_max;
  }
  out.outlook = At(engine, wish, PoolRole::kBoth, out.rate, workers);
}

// Prompts apart save workers only where they hold decoding up: then fewer are enough.
void MaybeApart(const EngineModel& engine, const FleetWish& wish, double rate, FleetAdvice& out) {
  // Each half has to keep its own goal so often that both together keep theirs.
  const double half = std::sqrt(wish.attainment);
  const auto prefill = Fewest(engine, wish, PoolRole::kPrefill, rate, half, wish.budget);
  const auto decode = Fewest(engine, wish, PoolRole::kDecode, rate, half, wish.budget);
  if (!prefill || !decode) {
    out.reasons.push_back("prompts and answers apart do not keep the goals within the budget");
    return;
  }
  const std::uint32_t apart = *prefill + *decode;
  const bool fewer = apart <= wish.budget && (!out.meets || apart < out.workers);
  out.reasons.push_back(
      fmt::format("prompts and answers apart: {} and {} workers are enough, {} {} that do both{}",
                  *prefill, *decode, fewer ? "fewer than the" : "no fewer than the", out.workers,
                  fewer ? "" : "; moving KV blocks is not counted"));
  if (!fewer) {
    return;
  }
  const PoolOutlook first = At(engine, wish, PoolRole::kPrefill, rate, *prefill);
  const PoolOutlook then = At(engine, wish, PoolRole::kDecode, rate, *decode);
  out.workers = 0;
  out.prefill = *prefill;
  out.decode = *decode;
  out.meets = true;
  out.outlook = {.attainment = first.attainment * then.attainment,
                 .ttft_ms = first.ttft_ms,
                 .itl_ms = then.itl_ms,
                 .busy = std::max(first.busy, then.busy)};
  out.rate_max = Largest([&](double one) {
    return At(engine, wish, PoolRole::kPrefill, one, *prefill).attainment *
               At(engine, wish, PoolRole::kDecode, one, *decode).attainment >=
           wish.attainment;
  });
}

void Match(const EngineModel& engine, const FleetWish& wish, FleetAdvice& out) {
  const auto rate_of = [&](std::uint32_t workers) {
    return wish.rate > 0 ? wish.rate : RateOfConcurrency(engine, wish, workers);
  };
  out.meets = false;
  for (out.workers = 1; out.workers < wish.budget; ++out.workers) {
    out.rate = rate_of(out.workers);
    if (At(engine, wish, PoolRole::kBoth, out.rate, out.workers).attainment >= wish.attainment) {
      break;
    }
  }
  out.rate = rate_of(out.workers);
  out.meets =
      At(engine, wish, PoolRole::kBoth, out.rate, out.workers).attainment >= wish.attainment;
  Count(engine, wish, out);
  if (wish.concurrency > 0) {
    out.reasons.push_back(fmt::format("{} requests at a time are {:.4g} requests/s with {} workers",
                                      wish.concurrency, out.rate, out.workers));
  }
  if (!out.meets) {
    out.reasons.push_back(
        fmt::format("{:.4g} requests/s are more than the {} workers of the budget carry: {:.4g}",
                    out.rate, out.workers, out.rate_max));
  } else if (out.workers > 1) {
    const PoolOutlook fewer = At(engine, wish, PoolRole::kBoth, out.rate, out.workers - 1);
    out.reasons.push_back(fmt::format(
        "{} workers keep the goals of {:.1f} % at {:.4g} requests/s; {} would keep {:.1f} %",
        out.workers, 100 * out.outlook.attainment, out.rate, out.workers - 1,
        100 * fewer.attainment));
  } else {
    out.reasons.push_back(fmt::format("one worker keeps the goals of {:.1f} % at {:.4g} requests/s",
                                      100 * out.outlook.attainment, out.rate));
  }
  MaybeApart(engine, wish, out.rate, out);
}

}  // namespace

double LargestRate(const EngineModel& engine, const FleetWish& wish, std::uint32_t workers) {
  return Largest([&](double rate) {
    return At(engine, wish, PoolRole::kBoth, rate, workers).attainment >= wish.attainment;
  });
}

Result<FleetAdvice> AdviseFleet(const EngineModel& engine, const FleetWish& wish) {
  PX_CHECK_OK(Check(wish));
  FleetAdvice out;
  const PoolOutlook alone = At(engine, wish, PoolRole::kBoth, 0, 1);
  if (alone.attainment < wish.attainment) {
    out.reasons.push_back(fmt::format(
        "a request alone takes {:.4g} ms to its first token and {:.4g} ms between tokens: no "
        "number of workers keeps {:.4g} ms and {:.4g} ms",
        alone.ttft_ms, alone.itl_ms, wish.goal.ttft_ms, wish.goal.itl_ms));
  }
  switch (wish.pick) {
    case FleetPick::kLoadMatch:
      Match(engine, wish, out);
      break;
    case FleetPick::kDefault:
      out.workers = wish.budget;
      Count(engine, wish, out);
      out.reasons.push_back(
          fmt::format("all {} workers of the budget carry {:.4g} requests/s within the goals",
                      out.workers, out.rate_max));
      break;
    case FleetPick::kAutoscale:
      out.workers = 1;
      Count(engine, wish, out);
      out.reasons.push_back(fmt::format(
          "one worker carries {:.4g} requests/s within the goals; a planner adds up to {}",
          out.rate_max, wish.budget));
      break;
  }
  out.meets = out.meets && alone.attainment >= wish.attainment;
  return out;
}

}  // namespace pixii::control
