// How many workers there should be: from what comes and how it is served, with reasons. Pure.
//
// Thread: a value; decides and does nothing. docs/planner.md, ADR 34
// Source: spec/dynamo-core.md F.1 (steps, keys), F.2 (formulas).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "control/planner_config.h"
#include "control/planner_model.h"
#include "control/planner_predict.h"
#include "control/planner_spread.h"
#include "rt/time.h"

namespace pixii::control {

/// Index of a pool of equal workers. A fleet whose workers do both has the second alone.
enum class Pool : std::uint8_t { kPrefill, kDecode };
inline constexpr std::size_t kPoolCount = 2;

struct PoolObserved {
  std::uint32_t ready = 0;
  std::uint32_t starting = 0;
  std::uint32_t unschedulable = 0;           // asked for, and there is no room for them
  std::vector<EngineEstimate> engines = {};  // of ready ones that run, for the rules of load
  double queued_tokens = 0;                  // of an engine on average
  double kv_rate = 0;                        // share of the cache in use, of an engine on average
};

struct PlannerObservation {
  double seconds = 0;  // since the observation before
  std::uint64_t arrivals = 0;
  std::vector<RequestSize> sizes;  // of requests that came or ended: all or a sample
  std::uint64_t ended = 0;
  double kept_share = 0;  // of them, that kept the goal; with `ended` of 0 nothing
  double ttft_ms = 0;     // mean of them; 0: unknown
  double itl_ms = 0;      // likewise
  double waiting = 0;     // requests without a token
  std::array<PoolObserved, kPoolCount> pools;
};

struct PoolDecision {
  std::uint32_t workers = 0;  // from now on
  std::uint32_t wanted = 0;   // that the load asks for, before rules on changes
  double below = 0;           // attainment that is expected of one worker fewer than `workers`
  double at = 0;              // of these
  double above = 0;           // of one more
  double ttft_ms = 0;         // expected of these
  double itl_ms = 0;
  std::string reason;
};

struct PlannerDecision {
  enum class Status : std::uint8_t {
    kMet,         // what is asked for is expected to keep the goal
    kBudget,      // the largest fleet allowed is expected not to
    kInfeasible,  // not even a request alone keeps it often enough
    kNoRoom,      // workers that were asked for found no room; they are asked for no more
  } status = Status::kMet;

  std::array<PoolDecision, kPoolCount> pools;
  bool changed = false;  // any count is another than before
  Forecast rate;         // requests per second, when what starts now is there
  double mean_input = 0;
  double mean_output = 0;
  double best_attainment = 1;  // of a request alone, by the lengths that come
  double correction = 1;       // of the model by what was seen: above 1 it promises too much
};

std::string_view StatusName(PlannerDecision::Status status);

class Planner final {
 public:
  /// `prefill`, `decode`: the engines of the pools; of one that does both, both are the same.
  /// Errors: kInvalidArgument of the config.
  static Result<Planner> Create(PlannerConfig config, EngineModel prefill, EngineModel decode);

  /// How often Decide wants to be called.
  rt::Duration tick() const;

  /// `now` rises. What comes between two decisions on the forecast is added up.
  PlannerDecision Decide(const PlannerObservation& seen, rt::Time now);

  /// What came in an interval before the first decision: forecasts and bursts are learnt from it,
  /// as load_predictor_warmup_trace has it. `sizes`: of what came, all or a sample.
  void Warm(double arrivals, std::span<const RequestSize> sizes);

  const PlannerConfig& config() const { return config_; }

 private:
  struct PoolState {
    bool known = false;  // the first observation says how many there are
    std::uint32_t workers = 0;
    std::optional<rt::Time> waiting_since;  // for workers that start
    std::optional<rt::Time> no_room_since;
    std::uint32_t room = 0;  // if no_room_since: so many found room
    int direction = 0;       // of the last change
    std::optional<rt::Time> reversed_at;
    std::deque<std::pair<rt::Time, std::uint32_t>> wanted;  // lately
  };

  /// Of an interval between two forecasts.
  struct Sum {
    double seconds = 0;
    double arrivals = 0;
    double ended = 0;
    double kept = 0;
    double ttft_weighted = 0;
    double itl_weighted = 0;
  };

  Planner(PlannerConfig config, EngineModel prefill, EngineModel decode);

  bool Has(Pool pool) const;
  PoolRole RoleOf(Pool pool) const;

  const EngineModel& EngineOf(Pool pool) const { return engines_[static_cast<std::size_t>(pool)]; }

  LatencyGoal Goal() const { return {.ttft_ms = config_.ttft_ms, .itl_ms = config_.itl_ms}; }

  std::uint32_t Least(Pool pool) const;
  std::uint32_t Most(Pool pool, rt::Time now) const;
  void Add(const PlannerObservation& seen);
  void Remember(std::span<const RequestSize> sizes);
  void Learn(const PlannerObservation& seen, rt::Time now);
  void LearnLoad();
  Forecast Foresee();
  void LearnErrors();
  Forecast RateAhead(std::size_t steps, double interval) const;
  double Attainment(Pool pool, double rate, double workers, double late = 0) const;
  std::uint32_t WantedByForecast(Pool pool, PlannerDecision& out, rt::Time now);
  std::uint32_t Smallest(Pool pool, double rate, std::uint32_t most, double late) const;
  std::uint32_t WantedByFormula(Pool pool, const PlannerDecision& out) const;
  std::uint32_t WantedByLoad(Pool pool, const PoolObserved& seen) const;
  void WatchRoom(Pool pool, const PoolObserved& seen, rt::Time now, PlannerDecision& out);
  double DownWindow(const PoolState& state, std::uint32_t wanted) const;
  void Settle(Pool pool, std::uint32_t wanted, rt::Time now, PlannerDecision& out);
  double Stuck(const PoolState& state, rt::Time now) const;
  void Fill(Pool pool, PlannerDecision& out) const;

  PlannerConfig config_;
  std::array<EngineModel, kPoolCount> engines_;
  std::unique_ptr<Predictor> rate_;
  std::unique_ptr<Predictor> input_;
  std::unique_ptr<Predictor> output_;
  std::deque<RequestSize> recent_;
  std::vector<RequestSize> sizes_;  // of the model: a sample of recent_
  std::array<PoolState, kPoolCount> pools_;
  Sum sum_;
  std::optional<rt::Time> forecast_at_;
  std::optional<rt::Time> load_at_;
  std::optional<rt::Time> changed_at_;
  PlannerDecision last_;
  double last_rate_ = 0;
  std::deque<double> lately_;  // rates, the oldest first
  double surplus_rate_ = 0;    // requests that wait, to be worked off
  LoadSpread spread_;
  std::array<double, 3> bursts_ = {1, 1, 1};  // within an interval, equally likely
  std::vector<double> ratios_;                // of spread_, over as long as a request lasts
  std::deque<double> forecasts_;  // rates, of the last intervals, for one each that is not over yet
  std::deque<double> errors_;     // what came over what was forecast
  std::deque<double> late_errors_;  // likewise, for when a pool that turns may turn again
  std::vector<double> places_;      // of errors, equally likely ones
  std::vector<double> late_places_;
  std::size_t clear_ = 0;  // intervals since anything waited for too long
  double correction_ = 1;
  double prefill_correction_ = 1;
  double decode_correction_ = 1;
};

}  // namespace pixii::control
