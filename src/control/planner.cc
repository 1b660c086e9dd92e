#include "control/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace pixii::control {

namespace {

constexpr std::size_t kRecentMax = 2048;      // requests whose lengths are kept
constexpr std::size_t kSampleMax = 192;       // of them, that the model looks at
constexpr std::uint32_t kUnlimited = 10'000;  // workers, where no budget says less
constexpr double kSeenMin = 20;               // requests ended before their share says anything
constexpr double kRise = 1.03;                // of the correction, an interval
constexpr double kRiseBehind = 1.01;          // with a backlog
constexpr double kCorrectionMax = 2;
constexpr double kCorrectionMin = 0.7;
constexpr double kBacklogShare = 0.5;
constexpr std::size_t kLately = 3;      // intervals
constexpr double kGrowthMax = 1.2;      // of a forecast over what came lately
constexpr double kBusyHopeless = 0.85;  // what a fleet may carry whose goal cannot be kept
// Places of a normal distribution, each standing for a fifth of it.
constexpr std::array<double, 5> kPlaces = {-1.28, -0.52, 0, 0.52, 1.28};

double SecondsOf(rt::Duration time) { return std::chrono::duration<double>(time).count(); }

rt::Duration DurationOf(double seconds) {
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
}

double Finite(double value) { return std::isfinite(value) ? std::max(value, 0.0) : 0; }

}  // namespace

std::string_view StatusName(PlannerDecision::Status status) {
  switch (status) {
    case PlannerDecision::Status::kMet:
      return "met";
    case PlannerDecision::Status::kBudget:
      return "budget";
    case PlannerDecision::Status::kInfeasible:
      return "infeasible";
    case PlannerDecision::Status::kNoRoom:
      return "no_room";
  }
  return "";
}

Planner::Planner(PlannerConfig config, EngineModel prefill, EngineModel decode)
    : config_(std::move(config)), engines_{std::move(prefill), std::move(decode)} {}

Result<Planner> Planner::Create(PlannerConfig config, EngineModel prefill, EngineModel decode) {
  const PredictorOptions options{
      .kind = config.load_predictor,
      .log1p = config.load_predictor_log1p,
      .season_window = static_cast<std::size_t>(config.prophet_window_size),
      .kalman_q_level = config.kalman_q_level,
      .kalman_q_trend = config.kalman_q_trend,
      .kalman_r = config.kalman_r,
      .kalman_min_points = static_cast<std::size_t>(config.kalman_min_points)};
  PX_TRY(std::unique_ptr<Predictor> rate, MakePredictor(options));
  PX_TRY(std::unique_ptr<Predictor> input, MakePredictor(options));
  PX_TRY(std::unique_ptr<Predictor> output, MakePredictor(options));
  Planner out(std::move(config), std::move(prefill), std::move(decode));
  out.rate_ = std::move(rate);
  out.input_ = std::move(input);
  out.output_ = std::move(output);
  return out;
}

rt::Duration Planner::tick() const {
  const bool sla = config_.optimization_target == "sla";
  const bool forecasts =
      sla ? config_.enable_throughput_scaling : config_.optimization_target == "throughput";
  const bool loads = sla ? config_.enable_load_scaling : !forecasts;
  const std::int64_t seconds =
      std::gcd(forecasts ? config_.throughput_adjustment_interval_seconds : 0,
               loads ? config_.load_adjustment_interval_seconds : 0);
  return std::chrono::seconds(std::max<std::int64_t>(seconds, 1));
}

bool Planner::Has(Pool pool) const {
  return pool == Pool::kPrefill ? config_.mode == "disagg" || config_.mode == "prefill"
                                : config_.mode != "prefill";
}

PoolRole Planner::RoleOf(Pool pool) const {
  return config_.mode == "agg"    ? PoolRole::kBoth
         : pool == Pool::kPrefill ? PoolRole::kPrefill
                                  : PoolRole::kDecode;
}

std::uint32_t Planner::Least(Pool pool) const {
  std::int64_t least = config_.min_endpoint;
  if (config_.min_gpu_budget > 0 && pool == Pool::kDecode) {
    // What the other pool leaves of the least that must be there.
    const std::int64_t other =
        Has(Pool::kPrefill) ? std::int64_t{pools_[0].workers} : std::int64_t{0};
    least = std::max(
        least,
        (config_.min_gpu_budget + config_.gpus_per_worker - 1) / config_.gpus_per_worker - other);
  }
  return static_cast<std::uint32_t>(std::max<std::int64_t>(least, 0));
}

std::uint32_t Planner::Most(Pool pool, rt::Time now) const {
  std::int64_t most = kUnlimited;
  if (config_.max_gpu_budget >= 0) {
    most = config_.max_gpu_budget / config_.gpus_per_worker;
    if (config_.mode == "disagg") {
      const PoolState& other = pools_[pool == Pool::kPrefill ? 1 : 0];
      most -= std::max<std::int64_t>(other.workers, config_.min_endpoint);
    }
  }
  const PoolState& state = pools_[static_cast<std::size_t>(pool)];
  if (state.no_room_since &&
      SecondsOf(now - *state.no_room_since) < config_.no_room_patience_seconds) {
    most = std::min<std::int64_t>(most, state.room);
  }
  return static_cast<std::uint32_t>(std::max<std::int64_t>(most, Least(pool)));
}

void Planner::Add(const PlannerObservation& seen) {
  const auto ended = static_cast<double>(seen.ended);
  sum_.seconds += Finite(seen.seconds);
  sum_.arrivals += static_cast<double>(seen.arrivals);
  sum_.ended += ended;
  sum_.kept += ended * std::min(Finite(seen.kept_share), 1.0);
  sum_.ttft_weighted += ended * Finite(seen.ttft_ms);
  sum_.itl_weighted += ended * Finite(seen.itl_ms);
  for (const RequestSize& size : seen.sizes) {
    if (std::isfinite(size.input) && std::isfinite(size.output) && size.input >= 0 &&
        size.output >= 0) {
      recent_.push_back(size);
    }
  }
  while (recent_.size() > kRecentMax) {
    recent_.pop_front();
  }
}

// At the end of an interval: what came, and whether the model was right about it.
void Planner::Learn(const PlannerObservation& seen, rt::Time now) {
  // The same places of the sample each time: a decision depends on what was seen alone.
  sizes_.clear();
  const std::size_t count = std::min(recent_.size(), kSampleMax);
  for (std::size_t i = 0; i < count; ++i) {
    sizes_.push_back(recent_[i * recent_.size() / count]);
  }
  last_rate_ = sum_.seconds > 0 ? sum_.arrivals / sum_.seconds : 0;
  lately_.push_back(last_rate_);
  if (lately_.size() > kLately) {
    lately_.pop_front();
  }
  rate_->Observe(sum_.arrivals);
  if (!sizes_.empty()) {
    double input = 0;
    double output = 0;
    for (const RequestSize& size : sizes_) {
      input += size.input / static_cast<double>(count);
      output += size.output / static_cast<double>(count);
    }
    input_->Observe(input);
    output_->Observe(output);
  }
  // What waits beyond what the goal allows has to be worked off besides.
  const double usual = 2 * last_rate_ * config_.ttft_ms / 1000;
  // Not faster than the pool may shrink again: workers for a backlog stay when it is gone.
  const double horizon = std::max(config_.start_up_seconds + SecondsOf(tick()),
                                  kBacklogShare * config_.reversal_seconds);
  surplus_rate_ = std::max(Finite(seen.waiting) - usual, 0.0) / std::max(horizon, 1.0);
  // While workers start, what is kept says nothing of the model; while a backlog is worked off,
  // little.
  const bool settled =
      !changed_at_ || SecondsOf(now - *changed_at_) > config_.start_up_seconds + SecondsOf(tick());
  const double rise = surplus_rate_ > 0 ? kRiseBehind : kRise;
  if (settled && sum_.ended >= kSeenMin && !sizes_.empty()) {
    const Pool main = Has(Pool::kDecode) ? Pool::kDecode : Pool::kPrefill;
    const double kept = sum_.kept / sum_.ended;
    const double workers = std::max<double>(pools_[static_cast<std::size_t>(main)].workers, 1);
    const double promised = Attainment(main, {.mean = last_rate_, .deviation = 0}, workers);
    const double goal = config_.target_attainment * last_.best_attainment;
    if (kept < goal - 0.02 && promised >= goal) {
      correction_ = std::min(correction_ * rise, kCorrectionMax);
    } else if (kept > goal + 0.01 && promised < kept - 0.02) {
      correction_ = std::max(correction_ * 0.97, kCorrectionMin);
    } else {
      correction_ += 0.02 * (1 - correction_);
    }
    const PoolOutlook expected =
        Predict(EngineOf(main), {.role = RoleOf(main), .rate = last_rate_, .sizes = sizes_}, Goal(),
                workers);
    if (expected.attainment > 0) {
      prefill_correction_ = expected.ttft_ms > 0 && sum_.ttft_weighted > 0
                                ? sum_.ttft_weighted / sum_.ended / expected.ttft_ms
                                : 1;
      decode_correction_ = expected.itl_ms > 0 && sum_.itl_weighted > 0
                               ? sum_.itl_weighted / sum_.ended / expected.itl_ms
                               : 1;
    }
  }
  sum_ = {};
}

// The queueing model expects arrivals that know nothing of each other; what is left of the errors
// is the rate's own.
Forecast Planner::RateAhead(std::size_t steps, double interval) const {
  Forecast out = rate_->Ahead(steps);
  const double own = std::max(out.deviation * out.deviation - out.mean, 0.0);
  return {.mean = out.mean / interval, .deviation = std::sqrt(own) / interval};
}

double Planner::Attainment(Pool pool, const Forecast& rate, double workers) const {
  if (sizes_.empty()) {
    return 1;
  }
  double sum = 0;
  for (const double place : kPlaces) {
    const double one = std::max(rate.mean + place * rate.deviation, 0.0) * correction_;
    sum += Predict(EngineOf(pool), {.role = RoleOf(pool), .rate = one, .sizes = sizes_}, Goal(),
                   workers)
               .attainment;
  }
  return sum / static_cast<double>(kPlaces.size());
}

std::uint32_t Planner::WantedByForecast(Pool pool, PlannerDecision& out, rt::Time now) {
  const std::uint32_t least = std::max(Least(pool), 1U);
  if (sizes_.empty() || out.rate.mean + out.rate.deviation <= 0) {
    return Least(pool);
  }
  const PoolLoad alone{.role = RoleOf(pool), .rate = 0, .sizes = sizes_};
  const double best = Predict(EngineOf(pool), alone, Goal(), 1).attainment;
  out.best_attainment = std::min(out.best_attainment, best);
  const bool hopeless = best < 0.05;
  if (best < config_.target_attainment) {
    out.status = PlannerDecision::Status::kInfeasible;
  }
  const auto holds = [&](std::uint32_t workers) {
    if (!hopeless) {
      return Attainment(pool, out.rate, workers) >= config_.target_attainment * best;
    }
    // Nothing keeps the goal: as many as carry what comes.
    const double rate = (out.rate.mean + out.rate.deviation) * correction_;
    return Predict(EngineOf(pool), {.role = RoleOf(pool), .rate = rate, .sizes = sizes_}, Goal(),
                   workers)
               .busy <= kBusyHopeless;
  };
  std::uint32_t low = least;
  std::uint32_t high = std::max(Most(pool, now), least);
  if (!holds(high)) {
    if (out.status == PlannerDecision::Status::kMet) {
      out.status = PlannerDecision::Status::kBudget;
    }
    return high;
  }
  while (low < high) {
    const std::uint32_t middle = low + (high - low) / 2;
    if (holds(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

std::uint32_t Planner::WantedByFormula(Pool pool, const PlannerDecision& out) const {
  const auto interval = static_cast<double>(config_.throughput_adjustment_interval_seconds);
  const double context = out.mean_input + out.mean_output / 2;
  const double gpus = static_cast<double>(config_.gpus_per_worker);
  const FormulaInput in{
      .requests = out.rate.mean * interval,
      .input_tokens = out.mean_input,
      .output_tokens = out.mean_output,
      .interval_seconds = interval,
      .prefill_throughput = PrefillThroughput(EngineOf(Pool::kPrefill), out.mean_input) / gpus,
      .decode_throughput =
          DecodeThroughput(EngineOf(Pool::kDecode), context, config_.itl_ms / decode_correction_) /
          gpus,
      .prefill_gpus = gpus,
      .decode_gpus = gpus,
      .prefill_correction = prefill_correction_};
  const std::uint32_t prefill = PrefillReplicas(in);
  const std::uint32_t decode = DecodeReplicas(in);
  if (RoleOf(pool) == PoolRole::kBoth) {
    return std::min(prefill + decode, kReplicasUnbounded);  // each spends its time on both
  }
  return pool == Pool::kPrefill ? prefill : decode;
}

std::uint32_t Planner::WantedByLoad(Pool pool, const PoolObserved& seen) const {
  const std::uint32_t now = pools_[static_cast<std::size_t>(pool)].workers;
  int step = 0;
  if (config_.optimization_target == "sla") {
    step = LoadStep(RoleOf(pool), seen.engines, Goal(),
                    static_cast<double>(config_.load_scaling_down_sensitivity) / 100);
  } else {
    const bool prefills = RoleOf(pool) != PoolRole::kDecode;
    const bool decodes = RoleOf(pool) != PoolRole::kPrefill;
    const bool up = (prefills && seen.queued_tokens > config_.prefill_scale_up_queue_tokens) ||
                    (decodes && seen.kv_rate > config_.decode_scale_up_kv_rate);
    const bool down = (!prefills || seen.queued_tokens < config_.prefill_scale_down_queue_tokens) &&
                      (!decodes || seen.kv_rate < config_.decode_scale_down_kv_rate);
    step = up ? 1 : down ? -1 : 0;
  }
  return step < 0 && now == 0 ? 0 : now + static_cast<std::uint32_t>(step);
}

// Workers that were asked for and do not begin are asked for no more, for a while.
void Planner::WatchRoom(Pool pool, const PoolObserved& seen, rt::Time now, PlannerDecision& out) {
  PoolState& state = pools_[static_cast<std::size_t>(pool)];
  if (state.no_room_since &&
      SecondsOf(now - *state.no_room_since) >= config_.no_room_patience_seconds) {
    state.no_room_since.reset();
  }
  if (seen.ready >= state.workers) {
    state.waiting_since.reset();
  } else if (!state.waiting_since) {
    state.waiting_since = now;
  }
  const bool late =
      state.waiting_since && SecondsOf(now - *state.waiting_since) >
                                 config_.start_up_seconds + config_.no_room_patience_seconds;
  if (seen.ready < state.workers && (seen.unschedulable > 0 || late)) {
    const std::uint32_t room =
        late ? seen.ready : std::min(state.workers, seen.ready + seen.starting);
    if (room < state.workers) {
      out.pools[static_cast<std::size_t>(pool)].reason =
          fmt::format("{} of {} found no room; not asked for again within {:.0f} s",
                      state.workers - room, state.workers, config_.no_room_patience_seconds);
      state.workers = std::max(room, Least(pool));
      state.room = state.workers;
      state.no_room_since = now;
      state.waiting_since.reset();
      out.changed = true;
    }
  }
  if (state.no_room_since) {
    out.status = PlannerDecision::Status::kNoRoom;
  }
}

void Planner::Settle(Pool pool, std::uint32_t wanted, rt::Time now, PlannerDecision& out) {
  PoolState& state = pools_[static_cast<std::size_t>(pool)];
  PoolDecision& decision = out.pools[static_cast<std::size_t>(pool)];
  wanted = std::clamp(wanted, Least(pool), Most(pool, now));
  decision.wanted = wanted;
  state.wanted.emplace_back(now, wanted);
  while (SecondsOf(now - state.wanted.front().first) > config_.scale_down_window_seconds) {
    state.wanted.pop_front();
  }
  const auto say = [&](std::string reason) {
    if (decision.reason.empty()) {
      decision.reason = std::move(reason);
    }
  };
  std::uint32_t next = wanted;
  if (wanted < state.workers) {
    for (const auto& [at, count] : state.wanted) {
      next = std::max(next, count);
    }
    next = std::min(next, state.workers);
    if (next == state.workers) {
      say(fmt::format("{} would do now, but {} were wanted within the last {:.0f} s", wanted,
                      state.workers, config_.scale_down_window_seconds));
    }
  }
  if (next == state.workers) {
    say("as it is");
    return;
  }
  const int direction = next > state.workers ? 1 : -1;
  const bool reverses = state.direction != 0 && direction != state.direction;
  if (reverses && state.reversed_at &&
      now - *state.reversed_at < DurationOf(config_.reversal_seconds)) {
    say(fmt::format("{} are wanted, but the pool turned {:.0f} s ago and turns once in {:.0f} s",
                    next, SecondsOf(now - *state.reversed_at), config_.reversal_seconds));
    return;
  }
  if (reverses) {
    state.reversed_at = now;
  }
  state.direction = direction;
  say(direction > 0 ? fmt::format("{} carry what is forecast, {} do not", next, state.workers)
                    : fmt::format("{} are enough, and were for {:.0f} s", next,
                                  config_.scale_down_window_seconds));
  state.workers = next;
  state.waiting_since.reset();
  changed_at_ = now;
  out.changed = true;
}

void Planner::Fill(Pool pool, PlannerDecision& out) const {
  PoolDecision& decision = out.pools[static_cast<std::size_t>(pool)];
  const double workers = pools_[static_cast<std::size_t>(pool)].workers;
  decision.workers = pools_[static_cast<std::size_t>(pool)].workers;
  if (sizes_.empty()) {
    decision.below = decision.at = decision.above = 1;
    return;
  }
  decision.below = workers > 1 ? Attainment(pool, out.rate, workers - 1) : 0;
  decision.at = workers > 0 ? Attainment(pool, out.rate, workers) : 0;
  decision.above = Attainment(pool, out.rate, workers + 1);
  if (workers > 0) {
    const PoolOutlook outlook =
        Predict(EngineOf(pool),
                {.role = RoleOf(pool), .rate = out.rate.mean * correction_, .sizes = sizes_},
                Goal(), workers);
    decision.ttft_ms = outlook.ttft_ms;
    decision.itl_ms = outlook.itl_ms;
  }
}

PlannerDecision Planner::Decide(const PlannerObservation& seen, rt::Time now) {
  PlannerDecision out = last_;
  out.status = PlannerDecision::Status::kMet;
  out.changed = false;
  Add(seen);
  for (const Pool pool : {Pool::kPrefill, Pool::kDecode}) {
    PoolState& state = pools_[static_cast<std::size_t>(pool)];
    const PoolObserved& observed = seen.pools[static_cast<std::size_t>(pool)];
    out.pools[static_cast<std::size_t>(pool)].reason.clear();
    if (Has(pool) && !state.known) {
      state.known = true;
      state.workers = observed.ready + observed.starting;
    }
  }
  const bool sla = config_.optimization_target == "sla";
  const bool by_forecast =
      sla ? config_.enable_throughput_scaling : config_.optimization_target == "throughput";
  const bool by_load = sla ? config_.enable_load_scaling : !by_forecast;
  const auto due = [&](std::optional<rt::Time>& at, std::int64_t seconds) {
    if (at && now - *at < std::chrono::seconds(seconds)) {
      return false;
    }
    at = now;
    return true;
  };
  const bool forecast_due = due(forecast_at_, config_.throughput_adjustment_interval_seconds);
  const bool load_due = due(load_at_, config_.load_adjustment_interval_seconds);
  if (forecast_due && sum_.seconds > 0) {
    Learn(seen, now);
    const auto interval = static_cast<double>(config_.throughput_adjustment_interval_seconds);
    const auto steps = static_cast<std::size_t>(
        std::ceil((config_.start_up_seconds + interval) / interval - 1e-9));
    out.rate = RateAhead(std::max<std::size_t>(steps, 1), interval);
    // What starts now is there for all of the time until then, too.
    out.rate.mean = std::max(out.rate.mean, RateAhead(1, interval).mean);
    // A trend that has just begun is no reason to expect that it goes on for long.
    out.rate.mean = std::min(out.rate.mean, kGrowthMax * *std::ranges::max_element(lately_));
    out.rate.mean += surplus_rate_;
    out.mean_input = input_->Ahead(1).mean;
    out.mean_output = output_->Ahead(1).mean;
    out.best_attainment = 1;
  }
  out.correction = correction_;
  for (const Pool pool : {Pool::kPrefill, Pool::kDecode}) {
    if (!Has(pool)) {
      continue;
    }
    PoolState& state = pools_[static_cast<std::size_t>(pool)];
    const PoolObserved& observed = seen.pools[static_cast<std::size_t>(pool)];
    WatchRoom(pool, observed, now, out);
    std::optional<std::uint32_t> wanted;
    if (by_forecast && forecast_due) {
      wanted = sla ? WantedByForecast(pool, out, now) : WantedByFormula(pool, out);
    }
    // A step only where no other one is under way.
    if (by_load && load_due && observed.ready == state.workers && observed.starting == 0) {
      const std::uint32_t step = WantedByLoad(pool, observed);
      const bool forecasts = by_forecast && !state.wanted.empty();
      wanted = forecasts ? std::max(step, wanted.value_or(state.wanted.back().second)) : step;
    }
    if (wanted) {
      Settle(pool, *wanted, now, out);
    }
    if (state.no_room_since) {
      out.status = PlannerDecision::Status::kNoRoom;
    }
    Fill(pool, out);
  }
  last_ = out;
  return out;
}

}  // namespace pixii::control
