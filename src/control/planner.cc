#include "control/planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "control/planner_demand.h"

namespace pixii::control {

namespace {

constexpr std::size_t kRecentMax = 2048;      // requests whose lengths are kept
constexpr std::uint32_t kUnlimited = 10'000;  // workers, where no budget says less
constexpr double kLearn = 0.1;                // of the correction, an interval that all missed
constexpr double kForget = 0.01;              // of it, an interval
constexpr double kCorrectionMax = 1.3;
constexpr double kCorrectionMin = 0.9;
constexpr double kBacklogShare = 0.25;
constexpr std::size_t kErrorsMax = 40;  // intervals
constexpr double kErrorPrior = 0.05;
constexpr double kLateErrorPrior = 0.15;
constexpr double kWaitUsual = 0.25;  // of what the goal allows: what waits if there is no backlog
constexpr double kErrorMost = 0.25;  // that a forecast is insured against; more is a jump
constexpr double kLateErrorMost = 0.5;  // likewise, of one for when a pool may turn again
constexpr double kSavedUsual = 0.33;    // of the workers, that are waited for as long as is said
constexpr double kWindowLeast = 0.25;   // of the window, where more can be saved
constexpr double kWindowMost = 4;       // likewise, less
constexpr double kSlack = 0.02;         // of attainment
constexpr double kThird = 1.2247;   // deviations: three such places vary as a normal distribution
constexpr double kLastsMax = 8;     // intervals
constexpr std::size_t kLately = 4;  // intervals
constexpr double kGrowthMax = 1.2;  // of a forecast over what came lately
constexpr double kHopeless = 0.05;  // of requests that keep the goal alone; fewer: no fleet does
constexpr double kBusyHopeless = 0.85;  // what a fleet may carry whose goal cannot be kept

double SecondsOf(rt::Duration time) { return std::chrono::duration<double>(time).count(); }

rt::Duration DurationOf(double seconds) {
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
}

double Finite(double value) { return std::isfinite(value) ? std::max(value, 0.0) : 0; }

/// Intervals until what is asked for now is there.
std::size_t LeadOf(const PlannerConfig& config) {
  const auto interval = static_cast<double>(config.throughput_adjustment_interval_seconds);
  return std::max<std::size_t>(
      static_cast<std::size_t>(std::ceil((config.start_up_seconds + interval) / interval - 1e-9)),
      1);
}

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
    : config_(std::move(config)),
      engines_{std::move(prefill), std::move(decode)},
      spread_(LeadOf(config_)),
      ratios_{1},
      places_(PlacesOf({}, 0, kErrorPrior)),
      late_places_(PlacesOf({}, 0, kLateErrorPrior)) {}

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
  Remember(seen.sizes);
}

void Planner::Remember(std::span<const RequestSize> sizes) {
  for (const RequestSize& size : sizes) {
    if (std::isfinite(size.input) && std::isfinite(size.output) && size.input >= 0 &&
        size.output >= 0) {
      recent_.push_back(size);
    }
  }
  while (recent_.size() > kRecentMax) {
    recent_.pop_front();
  }
}

// At the end of an interval: what came.
void Planner::LearnLoad() {
  sizes_ = SampleOf(recent_);
  last_rate_ = sum_.seconds > 0 ? sum_.arrivals / sum_.seconds : 0;
  lately_.push_back(last_rate_);
  if (lately_.size() > kLately) {
    lately_.pop_front();
  }
  rate_->Observe(sum_.arrivals);
  spread_.Observe(sum_.arrivals);
  const double lasts = last_.mean_output *
                       last_.pools[static_cast<std::size_t>(Pool::kDecode)].itl_ms / 1000 /
                       std::max(sum_.seconds, 1.0);
  ratios_ = spread_.Ratios(static_cast<std::size_t>(std::clamp(lasts, 1.0, kLastsMax)));
  // Within an interval it goes on as from intervals to their halves, down to what a request lasts.
  const double halves = std::log2(std::max(
      std::min(sum_.seconds, 1 / std::max(lasts / std::max(sum_.seconds, 1.0), 1e-3)), 1.0));
  const double sigma = std::sqrt(std::log1p(halves * spread_.Roughness()));
  for (std::size_t i = 0; i < bursts_.size(); ++i) {
    bursts_[i] = std::exp((static_cast<double>(i) - 1) * kThird * sigma - sigma * sigma / 2);
  }
  if (!sizes_.empty()) {
    double input = 0;
    double output = 0;
    const auto count = static_cast<double>(sizes_.size());
    for (const RequestSize& size : sizes_) {
      input += size.input / count;
      output += size.output / count;
    }
    input_->Observe(input);
    output_->Observe(output);
  }
}

// Likewise: what waits, and whether the model was right about what was kept.
void Planner::Learn(const PlannerObservation& seen, rt::Time now) {
  LearnLoad();
  // What waits beyond what the goal allows has to be worked off besides.
  const double usual = 2 * last_rate_ * config_.ttft_ms / 1000;
  // Not faster than the pool may shrink again: workers for a backlog stay when it is gone.
  const double horizon = std::max(config_.start_up_seconds + SecondsOf(tick()),
                                  kBacklogShare * config_.reversal_seconds);
  surplus_rate_ = std::max(Finite(seen.waiting) - usual, 0.0) / std::max(horizon, 1.0);
  const bool behind = Finite(seen.waiting) > kWaitUsual * last_rate_ * config_.ttft_ms / 1000 + 2;
  clear_ = behind ? 0 : clear_ + 1;
  // While workers start, what is kept says nothing of the model; while a backlog is worked off,
  // little.
  const bool settled =
      !changed_at_ || SecondsOf(now - *changed_at_) > config_.start_up_seconds + SecondsOf(tick());
  if (settled && sum_.ended > 0 && !sizes_.empty()) {
    const Pool main = Has(Pool::kDecode) ? Pool::kDecode : Pool::kPrefill;
    const double workers = std::max<double>(pools_[static_cast<std::size_t>(main)].workers, 1);
    // What ends just after a backlog came when there was one.
    if (clear_ > kLately) {
      const double rate = std::accumulate(lately_.begin(), lately_.end(), 0.0) /
                          static_cast<double>(lately_.size());
      const PoolLoad came{.role = RoleOf(main), .rate = rate * correction_, .sizes = sizes_};
      const double missed =
          Predict(EngineOf(main), came, Goal(), workers).attainment - sum_.kept / sum_.ended;
      correction_ =
          std::clamp(correction_ * std::exp(kLearn * missed) + kForget * (1 - correction_),
                     kCorrectionMin, kCorrectionMax);
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

// Of the rate when what starts now is there. Once an interval.
Forecast Planner::Foresee() {
  LearnErrors();
  const auto interval = static_cast<double>(config_.throughput_adjustment_interval_seconds);
  Forecast out = RateAhead(LeadOf(config_), interval);
  // What starts now is there for all of the time until then, too.
  out.mean = std::max(out.mean, RateAhead(1, interval).mean);
  // A trend that has just begun is no reason to expect that it goes on for long.
  out.mean = std::min(out.mean, kGrowthMax * *std::ranges::max_element(lately_));
  forecasts_.push_back(out.mean);
  return out;
}

void Planner::Warm(double arrivals, std::span<const RequestSize> sizes) {
  sum_ = {.seconds = static_cast<double>(config_.throughput_adjustment_interval_seconds),
          .arrivals = Finite(arrivals)};
  Remember(sizes);
  LearnLoad();
  Foresee();
  last_.mean_output = output_->Ahead(1).mean;
  sum_ = {};
}

// The queueing model expects arrivals that know nothing of each other; what is left of the errors
// is the rate's own.
Forecast Planner::RateAhead(std::size_t steps, double interval) const {
  Forecast out = rate_->Ahead(steps);
  const double own = std::max(out.deviation * out.deviation - out.mean, 0.0);
  return {.mean = out.mean / interval, .deviation = std::sqrt(own) / interval};
}

// Of all requests, those of a burst counted as often as there are: what comes scatters around the
// rate as it did, and what a burst leaves undone comes on top of what follows.
double Planner::Attainment(Pool pool, double rate, double workers, double late) const {
  if (sizes_.empty()) {
    return 1;
  }
  Curve curve(EngineOf(pool), {.role = RoleOf(pool), .sizes = sizes_}, Goal(), workers);
  double kept = 0;
  double all = 0;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const double place = places_[i] + late * (late_places_[i] - places_[i]);
    const double level = rate * std::max(place, 0.0) * correction_;
    double behind = 0;
    for (const double ratio : ratios_) {
      const double comes = level * ratio;
      double busy = 0;
      for (const double burst : bursts_) {
        const Curve::Point point = curve.At(comes * burst + behind);
        kept += comes * burst * point.attainment;
        all += comes * burst;
        busy += point.busy / static_cast<double>(bursts_.size());
      }
      behind = (comes + behind) * (1 - 1 / std::max(busy, 1.0));
    }
  }
  return all > 0 ? kept / all : 1;
}

// How far off forecasts were when their time came: of the average around it, not of each interval.
void Planner::LearnErrors() {
  const std::size_t lead = LeadOf(config_);
  const auto stuck = std::max(
      static_cast<std::size_t>(config_.reversal_seconds /
                               static_cast<double>(config_.throughput_adjustment_interval_seconds)),
      lead);
  const std::size_t half = std::min(lead, kLately);
  const double came = std::accumulate(lately_.begin(), lately_.end(), 0.0) /
                      static_cast<double>(std::max<std::size_t>(lately_.size(), 1));
  const auto learn = [&](std::deque<double>& errors, std::size_t steps, double most) {
    if (forecasts_.size() < steps + half || lately_.size() < half) {
      return;
    }
    const double forecast = forecasts_[forecasts_.size() - steps - half / 2];
    // More is a jump: nobody is insured against those.
    if (forecast > 0 && std::abs(came / forecast - 1) <= most) {
      errors.push_back(came / forecast);
    }
    if (errors.size() > kErrorsMax) {
      errors.pop_front();
    }
  };
  learn(errors_, lead, kErrorMost);
  learn(late_errors_, stuck, kLateErrorMost);
  while (forecasts_.size() > stuck + 2 * kLately) {
    forecasts_.pop_front();
  }
  // What an average of so few intervals scatters by is no error of the forecast.
  const double noise = spread_.Variance() / static_cast<double>(half);
  places_ = PlacesOf(errors_, noise, kErrorPrior);
  late_places_ = PlacesOf(late_errors_, noise, kLateErrorPrior);
}

std::uint32_t Planner::WantedByForecast(Pool pool, PlannerDecision& out, rt::Time now) {
  const std::uint32_t least = std::max(Least(pool), 1U);
  if (sizes_.empty() || out.rate.mean + out.rate.deviation <= 0) {
    return Least(pool);
  }
  const PoolLoad alone{.role = RoleOf(pool), .rate = 0, .sizes = sizes_};
  const double best = Predict(EngineOf(pool), alone, Goal(), 1).attainment;
  out.best_attainment = std::min(out.best_attainment, best);
  if (best < config_.target_attainment) {
    out.status = PlannerDecision::Status::kInfeasible;
  }
  const std::uint32_t most = std::max(Most(pool, now), least);
  const std::uint32_t wanted = Smallest(pool, out.rate.mean, most, 0);
  if (wanted > most) {
    if (out.status == PlannerDecision::Status::kMet) {
      out.status = PlannerDecision::Status::kBudget;
    }
    return most;
  }
  const PoolState& state = pools_[static_cast<std::size_t>(pool)];
  if (wanted >= state.workers) {
    // Not for next to nothing: what is seen scatters, and who grew cannot shrink at once.
    return best >= kHopeless && wanted > state.workers && state.workers >= least &&
                   Attainment(pool, out.rate.mean, state.workers) >=
                       (config_.target_attainment - kSlack) * best
               ? state.workers
               : wanted;
  }
  const double late = Stuck(state, now);
  return late > 0
             ? std::clamp(Smallest(pool, out.rate.mean, state.workers, late), wanted, state.workers)
             : wanted;
}

// Of which the model expects enough; one more than `most` if there is none.
std::uint32_t Planner::Smallest(Pool pool, double rate, std::uint32_t most, double late) const {
  const PoolLoad alone{.role = RoleOf(pool), .rate = 0, .sizes = sizes_};
  const double best = Predict(EngineOf(pool), alone, Goal(), 1).attainment;
  const bool hopeless = best < kHopeless;
  const auto holds = [&](std::uint32_t workers) {
    if (!hopeless) {
      return Attainment(pool, rate, workers, late) >= config_.target_attainment * best;
    }
    // Nothing keeps the goal: as many as carry what comes.
    return Predict(EngineOf(pool),
                   {.role = RoleOf(pool), .rate = rate * correction_, .sizes = sizes_}, Goal(),
                   workers)
               .busy <= kBusyHopeless;
  };
  // Near what there is: each question costs a little.
  std::uint32_t low = std::max(Least(pool), 1U);
  std::uint32_t high = std::max(pools_[static_cast<std::size_t>(pool)].workers, low);
  while (high < most && !holds(high)) {
    low = high + 1;
    high = std::min(high + std::max(high / 2, 1U), most);
  }
  if (high >= most) {
    high = most;
    if (!holds(high)) {
      return most + 1;
    }
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

// Who shrinks and cannot grow again for a while plans for as long: 1 for all of reversal_seconds.
double Planner::Stuck(const PoolState& state, rt::Time now) const {
  if (state.direction >= 0 || config_.reversal_seconds <= 0) {
    return config_.reversal_seconds > 0 ? 1 : 0;
  }
  const double left =
      state.reversed_at ? 1 - SecondsOf(now - *state.reversed_at) / config_.reversal_seconds : 0;
  return std::sqrt(std::max(left, 0.0));
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

// Who turns to shrink cannot grow again for a while: it waits until what it could have saved is
// worth that, the longer the less there is to save.
double Planner::DownWindow(const PoolState& state, std::uint32_t wanted) const {
  const double saved = 1 - static_cast<double>(wanted) / std::max<double>(state.workers, 1);
  const double stretch = std::clamp(kSavedUsual / std::max(saved, 1e-6), kWindowLeast,
                                    state.direction > 0 ? kWindowMost : 1.0);
  return config_.scale_down_window_seconds * stretch;
}

void Planner::Settle(Pool pool, std::uint32_t wanted, rt::Time now, PlannerDecision& out) {
  PoolState& state = pools_[static_cast<std::size_t>(pool)];
  PoolDecision& decision = out.pools[static_cast<std::size_t>(pool)];
  wanted = std::clamp(wanted, Least(pool), Most(pool, now));
  decision.wanted = wanted;
  state.wanted.emplace_back(now, wanted);
  while (SecondsOf(now - state.wanted.front().first) >
         kWindowMost * config_.scale_down_window_seconds) {
    state.wanted.pop_front();
  }
  const auto say = [&](std::string reason) {
    if (decision.reason.empty()) {
      decision.reason = std::move(reason);
    }
  };
  std::uint32_t next = wanted;
  if (wanted < state.workers) {
    const double window = DownWindow(state, wanted);
    for (const auto& [at, count] : state.wanted) {
      next = SecondsOf(now - at) <= window ? std::max(next, count) : next;
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
  decision.below = workers > 1 ? Attainment(pool, out.rate.mean, workers - 1) : 0;
  decision.at = workers > 0 ? Attainment(pool, out.rate.mean, workers) : 0;
  decision.above = Attainment(pool, out.rate.mean, workers + 1);
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
    out.rate = Foresee();
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
