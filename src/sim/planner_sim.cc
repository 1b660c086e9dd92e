#include "sim/planner_sim.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <set>
#include <tuple>

#include "rt/random.h"

namespace pixii::sim {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kSecondsPerHour = 3600;
constexpr double kStandingSeconds = 900;  // of a load that stands still, for the oracle
constexpr double kRateWindow = 60;        // to either side of an instant of a trace
constexpr double kObservedMost = 256;     // lengths that an observation holds
constexpr double kOracleMargins[] = {1, 1.1, 1.2, 1.3, 1.5, 2, 3, 4};
constexpr double kTargetMin = 0.05;
constexpr std::uint32_t kOracleTableMax = 96;  // workers

double SecondsOf(rt::Duration time) { return std::chrono::duration<double>(time).count(); }

struct Ask {
  double at = 0;
  std::uint32_t input = 0;
  std::uint32_t output = 0;
  double first_token = -1;
};

/// One engine, a step at a time.
class Engine final {
 public:
  explicit Engine(const FleetModel& fleet) : fleet_(fleet) {}

  void Take(std::uint32_t index, const Ask& ask) {
    waiting_.push_back({index, ask.input});
    waiting_tokens_ += ask.input;
  }

  bool idle() const { return waiting_.empty() && running_.empty(); }

  /// What a router compares.
  double load() const {
    return static_cast<double>(waiting_tokens_) + 0.1 * static_cast<double>(context_tokens_);
  }

  double waiting_tokens() const { return static_cast<double>(waiting_tokens_); }

  double kv_rate() const {
    return static_cast<double>(reserved_) / static_cast<double>(fleet_.kv_tokens);
  }

  std::size_t without_token() const { return waiting_.size(); }

  /// Plans a step; how long it takes. Pre: not idle.
  double Begin(const std::vector<Ask>& asks) {
    engine::MockStep step;
    step.decode_sequences = static_cast<std::uint32_t>(running_.size());
    step.decode_context_tokens = context_tokens_;
    step.cache_tokens = fleet_.kv_tokens;
    std::uint64_t budget =
        fleet_.batch_tokens_max - std::min(fleet_.batch_tokens_max, step.decode_sequences);
    prompts_done_.clear();
    while (!waiting_.empty() && budget > 0) {
      Waiting& head = waiting_.front();
      const Ask& ask = asks[head.index];
      if (!head.admitted) {
        const std::uint64_t needs = ask.input + ask.output;
        const bool full = running_.size() + prompts_done_.size() >= fleet_.sequences_max ||
                          reserved_ + needs > fleet_.kv_tokens;
        // A request larger than the cache runs alone: it must end some time.
        if (full && !(running_.empty() && prompts_done_.empty())) {
          break;
        }
        reserved_ += needs;
        head.admitted = true;
      }
      const std::uint64_t chunk = std::min<std::uint64_t>(budget, head.left);
      head.left -= chunk;
      waiting_tokens_ -= chunk;
      budget -= chunk;
      step.prefill_tokens += chunk;
      ++step.prefill_sequences;
      if (head.left > 0) {
        break;
      }
      prompts_done_.push_back(head.index);
      waiting_.pop_front();
    }
    step.context_tokens = step.decode_context_tokens + step.prefill_tokens;
    decoding_ = running_.size();
    return static_cast<double>(engine::MockStepTime(fleet_.timing, step)) / 1e9;
  }

  /// The step is over. `on_end` gets requests that have their last token.
  void End(double now, std::vector<Ask>& asks, const std::function<void(std::uint32_t)>& on_end) {
    ++steps_;
    context_tokens_ += decoding_;
    while (!running_.empty() && running_.top().first == steps_) {
      const std::uint32_t index = running_.top().second;
      running_.pop();
      context_tokens_ -= asks[index].input + asks[index].output;
      reserved_ -= asks[index].input + asks[index].output;
      on_end(index);
    }
    for (const std::uint32_t index : prompts_done_) {
      Ask& ask = asks[index];
      ask.first_token = now;
      if (ask.output <= 1) {
        reserved_ -= ask.input + ask.output;
        on_end(index);
        continue;
      }
      running_.emplace(steps_ + ask.output - 1, index);
      context_tokens_ += ask.input + 1;
    }
    prompts_done_.clear();
  }

 private:
  struct Waiting {
    std::uint32_t index = 0;
    std::uint64_t left = 0;
    bool admitted = false;
  };

  using EndsAt = std::pair<std::uint64_t, std::uint32_t>;  // step, request

  const FleetModel& fleet_;
  std::deque<Waiting> waiting_;
  std::priority_queue<EndsAt, std::vector<EndsAt>, std::greater<>> running_;
  std::vector<std::uint32_t> prompts_done_;
  std::uint64_t steps_ = 0;
  std::uint64_t context_tokens_ = 0;
  std::uint64_t waiting_tokens_ = 0;
  std::uint64_t reserved_ = 0;
  std::size_t decoding_ = 0;
};

struct Worker {
  explicit Worker(const FleetModel& fleet) : engine(fleet) {}

  Engine engine;
  double asked_at = 0;
  double ready_at = 0;
  bool ready = false;
  bool leaving = false;
  bool gone = false;
  bool stepping = false;
};

double Quantile(std::vector<double>& values, double share) {
  if (values.empty()) {
    return 0;
  }
  const auto at = static_cast<std::size_t>(share * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(at));
  return values[at];
}

class Simulation final {
 public:
  Simulation(const FleetModel& fleet, const PlannerLoad& load, const control::LatencyGoal& goal,
             const FleetPolicy& policy, double after)
      : fleet_(fleet), goal_(goal), policy_(policy), after_(after), seconds_(load.seconds) {
    for (const TraceRequest& request : load.trace.requests) {
      asks_.push_back({.at = SecondsOf(request.at),
                       .input = request.input_tokens,
                       .output = request.output_tokens});
    }
  }

  FleetRun Run() {
    asked_ = policy_.first;
    for (std::uint32_t i = 0; i < policy_.first; ++i) {
      StartWorker(0, 0);
    }
    out_.timeline.emplace_back(0, asked_);
    double tick = policy_.tick_seconds;
    std::size_t next = 0;
    while (ended_ < asks_.size() || tick <= seconds_) {
      const double arrival = next < asks_.size() ? asks_[next].at : kNever;
      const double event = events_.empty() ? kNever : std::get<0>(events_.top());
      if (arrival == kNever && event == kNever && tick > seconds_) {
        break;  // what is left waits for workers that never come
      }
      if (tick <= arrival && tick <= event) {
        now_ = tick;
        tick += policy_.tick_seconds;
        Tick();
        if (now_ > seconds_ + 2 * kSecondsPerHour) {
          break;  // a fleet that never catches up
        }
      } else if (arrival <= event) {
        now_ = arrival;
        Arrive(static_cast<std::uint32_t>(next++));
      } else {
        now_ = event;
        Happen();
      }
    }
    return Finish();
  }

 private:
  enum class What : std::uint8_t { kReady, kStepEnd };
  using Event = std::tuple<double, std::uint64_t, std::uint32_t, What>;

  void Push(double at, std::uint32_t worker, What what) {
    events_.emplace(at, serial_++, worker, what);
  }

  void StartWorker(double asked_at, double delay) {
    workers_.emplace_back(fleet_);
    workers_.back().asked_at = asked_at;
    workers_.back().ready_at = asked_at + delay;
    Push(asked_at + delay, static_cast<std::uint32_t>(workers_.size() - 1), What::kReady);
  }

  void Leave(Worker& worker) {
    worker.leaving = true;
    if (worker.engine.idle()) {
      End(worker);
    }
  }

  void End(Worker& worker) {
    worker.gone = true;
    worked_ += now_ - worker.asked_at;
  }

  std::uint32_t Present() const {
    return static_cast<std::uint32_t>(std::ranges::count_if(
        workers_, [](const Worker& one) { return !one.gone && !one.leaving; }));
  }

  std::uint32_t ReadyCount() const {
    return static_cast<std::uint32_t>(std::ranges::count_if(
        workers_, [](const Worker& one) { return one.ready && !one.gone && !one.leaving; }));
  }

  void SetCount(std::uint32_t count) {
    asked_ = count;
    std::uint32_t present = Present();
    const auto all = static_cast<std::uint32_t>(
        std::ranges::count_if(workers_, [](const Worker& one) { return !one.gone; }));
    std::uint32_t room = fleet_.room > all ? fleet_.room - all : 0;
    while (present < count && room > 0) {
      StartWorker(now_, fleet_.start_up_seconds);
      ++present;
      --room;
    }
    if (present < count) {
      ++out_.refused_starts;
    }
    while (present > count) {
      // Those that start go first, then those with least to do.
      Worker* least = nullptr;
      for (Worker& one : workers_) {
        const bool better = least == nullptr || (least->ready && !one.ready) ||
                            (least->ready == one.ready && one.engine.load() < least->engine.load());
        if (!one.gone && !one.leaving && better) {
          least = &one;
        }
      }
      Leave(*least);
      --present;
    }
    out_.workers_max = std::max(out_.workers_max, Present());
  }

  void Tick() {
    control::PlannerObservation seen;
    seen.seconds = policy_.tick_seconds;
    seen.arrivals = arrivals_;
    const auto stride =
        static_cast<std::size_t>(std::ceil(static_cast<double>(sizes_.size()) / kObservedMost));
    for (std::size_t i = 0; i < sizes_.size(); i += std::max<std::size_t>(stride, 1)) {
      seen.sizes.push_back(sizes_[i]);
    }
    seen.ended = ended_lately_;
    if (ended_lately_ > 0) {
      const auto count = static_cast<double>(ended_lately_);
      seen.kept_share = static_cast<double>(kept_lately_) / count;
      seen.ttft_ms = ttft_lately_ / count;
      seen.itl_ms = itl_lately_ / count;
    }
    control::PoolObserved& pool = seen.pools[static_cast<std::size_t>(control::Pool::kDecode)];
    pool.ready = ReadyCount();
    pool.starting = Present() - pool.ready;
    pool.unschedulable = asked_ > Present() ? asked_ - Present() : 0;
    double waiting = static_cast<double>(homeless_.size());
    for (const Worker& one : workers_) {
      if (one.gone || !one.ready) {
        continue;
      }
      waiting += static_cast<double>(one.engine.without_token());
      if (!one.leaving) {
        pool.queued_tokens += one.engine.waiting_tokens() / pool.ready;
        pool.kv_rate += one.engine.kv_rate() / pool.ready;
      }
    }
    seen.waiting = waiting;
    arrivals_ = ended_lately_ = kept_lately_ = 0;
    ttft_lately_ = itl_lately_ = 0;
    sizes_.clear();
    const std::uint32_t count = policy_.decide(seen, now_);
    if (count != asked_) {
      const int direction = count > asked_ ? 1 : -1;
      ++out_.changes;
      if (direction_ != 0 && direction != direction_) {
        reversals_.push_back(now_);
      }
      direction_ = direction;
      out_.timeline.emplace_back(now_, count);
    }
    SetCount(count);
  }

  void Arrive(std::uint32_t index) {
    ++arrivals_;
    sizes_.push_back(
        {static_cast<double>(asks_[index].input), static_cast<double>(asks_[index].output)});
    Route(index);
  }

  void Route(std::uint32_t index) {
    std::optional<std::uint32_t> best;
    for (std::uint32_t i = 0; i < workers_.size(); ++i) {
      const Worker& one = workers_[i];
      if (one.ready && !one.gone && !one.leaving &&
          (!best || one.engine.load() < workers_[*best].engine.load())) {
        best = i;
      }
    }
    if (!best) {
      homeless_.push_back(index);
      return;
    }
    workers_[*best].engine.Take(index, asks_[index]);
    Step(*best);
  }

  void Step(std::uint32_t index) {
    Worker& worker = workers_[index];
    if (worker.stepping || worker.engine.idle()) {
      return;
    }
    worker.stepping = true;
    Push(now_ + std::max(worker.engine.Begin(asks_), 1e-6), index, What::kStepEnd);
  }

  void Happen() {
    const auto [at, serial, index, what] = events_.top();
    events_.pop();
    Worker& worker = workers_[index];
    if (what == What::kReady) {
      if (worker.gone || worker.leaving) {
        return;
      }
      worker.ready = true;
      std::deque<std::uint32_t> homeless;
      std::swap(homeless, homeless_);
      for (const std::uint32_t request : homeless) {
        Route(request);
      }
      return;
    }
    worker.stepping = false;
    worker.engine.End(now_, asks_, [this](std::uint32_t request) { Ended(request); });
    if (worker.leaving && worker.engine.idle()) {
      End(worker);
      return;
    }
    Step(index);
  }

  void Ended(std::uint32_t index) {
    const Ask& ask = asks_[index];
    const double ttft = (ask.first_token - ask.at) * 1000;
    const double itl =
        ask.output > 1 ? (now_ - ask.first_token) * 1000 / static_cast<double>(ask.output - 1) : 0;
    const bool kept = ttft <= goal_.ttft_ms && itl <= goal_.itl_ms;
    ++ended_;
    out_.kept += kept ? 1 : 0;
    kept_after_ += kept && ask.at >= after_ ? 1 : 0;
    ++ended_lately_;
    kept_lately_ += kept ? 1 : 0;
    ttft_lately_ += ttft;
    itl_lately_ += itl;
    ttfts_.push_back(ttft);
    itls_.push_back(itl);
  }

  FleetRun Finish() {
    now_ = std::max(now_, seconds_);
    for (const Worker& one : workers_) {
      worked_ += one.gone ? 0 : std::max(std::min(now_, seconds_) - one.asked_at, 0.0);
    }
    out_.requests = asks_.size();
    const auto count = static_cast<double>(asks_.size());
    const auto after = static_cast<double>(
        std::ranges::count_if(asks_, [this](const Ask& ask) { return ask.at >= after_; }));
    out_.attainment = count > 0 ? static_cast<double>(out_.kept) / count : 1;
    out_.attainment_after = after > 0 ? static_cast<double>(kept_after_) / after : 1;
    out_.worker_hours = worked_ / kSecondsPerHour;
    out_.reversals = static_cast<std::uint32_t>(reversals_.size());
    for (const double begin : reversals_) {
      const auto within = std::ranges::count_if(
          reversals_, [&](double at) { return at >= begin && at < begin + 600 - 1e-6; });
      out_.reversals_10min_max =
          std::max(out_.reversals_10min_max, static_cast<std::uint32_t>(within));
    }
    out_.ttft_p50_ms = Quantile(ttfts_, 0.5);
    out_.ttft_p99_ms = Quantile(ttfts_, 0.99);
    out_.itl_p50_ms = Quantile(itls_, 0.5);
    out_.itl_p99_ms = Quantile(itls_, 0.99);
    return std::move(out_);
  }

  const FleetModel& fleet_;
  control::LatencyGoal goal_;
  const FleetPolicy& policy_;
  double after_;
  double seconds_;
  std::vector<Ask> asks_;
  std::deque<Worker> workers_;
  std::deque<std::uint32_t> homeless_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t serial_ = 0;
  double now_ = 0;
  double worked_ = 0;
  std::uint32_t asked_ = 0;
  int direction_ = 0;
  std::vector<double> reversals_;
  std::size_t ended_ = 0;
  std::uint64_t kept_after_ = 0;
  // Since the last tick.
  std::uint64_t arrivals_ = 0;
  std::uint64_t ended_lately_ = 0;
  std::uint64_t kept_lately_ = 0;
  double ttft_lately_ = 0;
  double itl_lately_ = 0;
  std::vector<control::RequestSize> sizes_;
  std::vector<double> ttfts_;
  std::vector<double> itls_;
  FleetRun out_;
};

TraceRequest MadeRequest(double at, rt::Random& random) {
  // Sums of exponentials: lengths spread about as those of chats do.
  const double input = 200 + random.Exponential(900) + random.Exponential(900);
  const double output = 20 + random.Exponential(120) + random.Exponential(110);
  return {.at = std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(at)),
          .input_tokens = static_cast<std::uint32_t>(std::min(input, 30'000.0)),
          .output_tokens = static_cast<std::uint32_t>(std::min(output, 4'000.0))};
}

/// The smallest fleet for a rate, by simulating loads that stand still.
class Oracle final {
 public:
  Oracle(const FleetModel& fleet, const PlannerLoad& load, const control::LatencyGoal& goal,
         double target, std::uint64_t seed)
      : fleet_(fleet), load_(load), goal_(goal), seed_(seed) {
    best_ = Kept(1, 0.02);
    target_ = target * best_;
  }

  double target() const { return target_; }

  std::uint32_t Smallest(double rate) {
    if (target_ < kTargetMin) {
      return 1;  // no fleet keeps the goal
    }
    while (capacity_.size() < kOracleTableMax && (capacity_.empty() || capacity_.back() < rate)) {
      capacity_.push_back(Capacity(static_cast<std::uint32_t>(capacity_.size()) + 1));
    }
    const auto at = std::ranges::lower_bound(capacity_, rate);
    return static_cast<std::uint32_t>(at - capacity_.begin()) + 1;
  }

 private:
  // Of a fleet at a rate that stands still.
  double Kept(std::uint32_t workers, double rate) const {
    rt::Random random(seed_ ^ 0x5eed);
    PlannerLoad still;
    still.seconds = std::max(kStandingSeconds, 40 / rate);
    for (double at = random.Exponential(1 / rate); at < still.seconds;
         at += random.Exponential(1 / rate)) {
      TraceRequest request = load_.trace.requests[random.Below(load_.trace.requests.size())];
      request.at = std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(at));
      request.hash_ids.clear();
      still.trace.requests.push_back(std::move(request));
    }
    FleetPolicy fixed{.tick_seconds = still.seconds + 1,
                      .first = workers,
                      .decide = [workers](const auto&, double) { return workers; }};
    return RunFleet(fleet_, still, goal_, fixed, kStandingSeconds / 10).attainment_after;
  }

  // Of more workers by the last ones' step, which hardly changes: every fourth is measured.
  double Capacity(std::uint32_t workers) {
    const double last = capacity_.empty() ? 0 : capacity_.back();
    const std::size_t count = capacity_.size();
    if (workers > 6 && workers % 4 != 0) {
      return last + (last - capacity_[count - 4]) / 3;
    }
    double low = last;
    double high = last == 0 ? 1 : last * (static_cast<double>(workers) + 1) / (workers - 1) + 0.5;
    while (last == 0 && Kept(workers, high) >= target_) {
      low = high;
      high *= 2;
    }
    for (int round = 0; round < 7; ++round) {
      const double middle = (low + high) / 2;
      (Kept(workers, middle) >= target_ ? low : high) = middle;
    }
    return low;
  }

  const FleetModel& fleet_;
  const PlannerLoad& load_;
  control::LatencyGoal goal_;
  std::uint64_t seed_;
  double best_ = 0;
  double target_ = 0;
  std::vector<double> capacity_;  // requests per second of 1, 2, ... workers
};

/// Between the static fleets whose cost is just below and just above.
double StaticAt(const std::vector<FleetRun>& statics, double hours) {
  for (std::size_t i = 0; i < statics.size(); ++i) {
    if (statics[i].worker_hours < hours) {
      continue;
    }
    if (i == 0) {
      return 0;  // even one worker costs more
    }
    const FleetRun& below = statics[i - 1];
    const FleetRun& above = statics[i];
    const double part = (hours - below.worker_hours) / (above.worker_hours - below.worker_hours);
    return below.attainment_after + part * (above.attainment_after - below.attainment_after);
  }
  return statics.empty() ? 0 : statics.back().attainment_after;
}

}  // namespace

control::EngineModel EngineModelOf(const FleetModel& fleet) {
  const auto timing = fleet.timing;
  const std::uint64_t cache = fleet.kv_tokens;
  control::EngineModel out;
  out.prefill_ms = [timing, cache](double tokens) {
    engine::MockStep step{.prefill_sequences = 1,
                          .prefill_tokens = static_cast<std::uint64_t>(std::max(tokens, 0.0))};
    step.cache_tokens = cache;
    return static_cast<double>(engine::MockStepTime(timing, step)) / 1e6;
  };
  out.decode_ms = [timing, cache](double kv, double context) {
    engine::MockStep step;
    step.decode_sequences =
        static_cast<std::uint32_t>(std::max(1.0, context > 0 ? kv / context : 1.0));
    step.decode_context_tokens = static_cast<std::uint64_t>(std::max(kv, 0.0));
    step.cache_tokens = cache;
    return static_cast<double>(engine::MockStepTime(timing, step)) / 1e6;
  };
  out.kv_tokens = static_cast<double>(cache);
  out.sequences_max = fleet.sequences_max;
  out.batch_tokens_max = fleet.batch_tokens_max;
  return out;
}

Result<PlannerLoad> MakePlannerLoad(const std::string& kind, double base_rate, double seconds,
                                    std::uint64_t seed) {
  PlannerLoad out;
  out.seconds = seconds;
  const double third = seconds / 3;
  if (kind == "constant") {
    out.rate = [=](double) { return base_rate; };
  } else if (kind == "step") {
    out.rate = [=](double at) { return at < third || at >= 2 * third ? base_rate : 3 * base_rate; };
  } else if (kind == "ramp") {
    out.rate = [=](double at) {
      return base_rate * (1 + 3 * std::max(0.0, 1 - std::abs(2 * at / seconds - 1)));
    };
  } else if (kind == "flash") {
    out.rate = [=](double at) {
      return at >= third && at < third + 600 ? 6 * base_rate : base_rate;
    };
  } else if (kind == "zero") {
    out.rate = [=](double at) { return at >= third && at < 2 * third ? 0 : base_rate; };
  } else {
    return Fail(Code::kInvalidArgument,
                "load: " + kind + " is none of constant, step, ramp, flash and zero", "load");
  }
  // Thinned arrivals at the largest rate.
  rt::Random random(seed);
  const double most = 6 * base_rate;
  for (double at = random.Exponential(1 / most); at < seconds; at += random.Exponential(1 / most)) {
    if (random.Unit() * most < out.rate(at)) {
      out.trace.requests.push_back(MadeRequest(at, random));
    }
  }
  return out;
}

PlannerLoad LoadOfTrace(const Trace& trace, std::uint32_t copies, std::uint64_t seed) {
  PlannerLoad out;
  if (trace.requests.empty()) {
    out.rate = [](double) { return 0.0; };
    return out;
  }
  rt::Random random(seed);
  const rt::Duration first = trace.requests.front().at;
  const rt::Duration last = trace.requests.back().at;
  const auto tenth = static_cast<std::uint64_t>((last - first).count() / 10 + 1);
  std::vector<rt::Duration> delays;
  for (std::uint32_t copy = 0; copy < copies; ++copy) {
    delays.emplace_back(copies > 1 ? random.Below(tenth) : 0);
  }
  // From when all of them have begun until the first one ends: that they come and go is not the
  // trace's.
  const rt::Duration from = first + std::ranges::max(delays);
  const rt::Duration to = last + std::ranges::min(delays);
  std::vector<TraceRequest> all;
  for (const rt::Duration delay : delays) {
    for (const TraceRequest& request : trace.requests) {
      const rt::Duration at = request.at + delay;
      if (at >= from && at <= to) {
        all.push_back({.at = at - from,
                       .input_tokens = request.input_tokens,
                       .output_tokens = request.output_tokens});
      }
    }
  }
  std::ranges::sort(all, {}, [](const TraceRequest& one) {
    return std::tuple(one.at, one.input_tokens, one.output_tokens);
  });
  std::vector<double> times;
  for (const TraceRequest& request : all) {
    times.push_back(SecondsOf(request.at));
  }
  out.seconds = SecondsOf(to - from);
  const double seconds = out.seconds;
  out.trace.requests = std::move(all);
  out.rate = [times = std::move(times), seconds](double at) {
    const double begin = std::max(at - kRateWindow, 0.0);
    const double end = std::min(at + kRateWindow, seconds);
    const auto count =
        std::ranges::upper_bound(times, end) - std::ranges::lower_bound(times, begin);
    return end > begin ? static_cast<double>(count) / (end - begin) : 0;
  };
  return out;
}

PlannerLoad PartOf(const PlannerLoad& load, double from, double to) {
  PlannerLoad out;
  out.seconds = to - from;
  const auto begin = std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(from));
  for (const TraceRequest& request : load.trace.requests) {
    const double at = SecondsOf(request.at);
    if (at >= from && at < to) {
      out.trace.requests.push_back({.at = request.at - begin,
                                    .input_tokens = request.input_tokens,
                                    .output_tokens = request.output_tokens});
    }
  }
  out.rate = [rate = load.rate, from](double at) { return rate(at + from); };
  return out;
}

void WarmUp(control::Planner& planner, const PlannerLoad& load) {
  const auto interval =
      static_cast<double>(planner.config().throughput_adjustment_interval_seconds);
  std::vector<control::RequestSize> sizes;
  double end = interval;
  for (const TraceRequest& request : load.trace.requests) {
    for (; SecondsOf(request.at) >= end; end += interval) {
      planner.Warm(static_cast<double>(sizes.size()), sizes);
      sizes.clear();
    }
    sizes.push_back(
        {static_cast<double>(request.input_tokens), static_cast<double>(request.output_tokens)});
  }
}

FleetRun RunFleet(const FleetModel& fleet, const PlannerLoad& load,
                  const control::LatencyGoal& goal, const FleetPolicy& policy, double after) {
  return Simulation(fleet, load, goal, policy, after).Run();
}

Result<PlannerComparison> ComparePlanner(const PlannerLoad& load,
                                         const PlannerSimOptions& options) {
  if (load.trace.requests.empty()) {
    return Fail(Code::kInvalidArgument, "load: it has no requests", "load");
  }
  const control::LatencyGoal goal{.ttft_ms = options.config.ttft_ms,
                                  .itl_ms = options.config.itl_ms};
  const control::EngineModel engine = EngineModelOf(options.fleet);
  PX_TRY(control::Planner planner, control::Planner::Create(options.config, engine, engine));
  if (options.warm != nullptr) {
    WarmUp(planner, *options.warm);
  }
  PlannerComparison out;
  Oracle oracle(options.fleet, load, goal, options.config.target_attainment, options.seed);
  out.oracle_target = oracle.target();
  const double tick = SecondsOf(planner.tick());
  // Both begin with what the load of the first minute needs.
  const std::uint32_t first = oracle.Smallest(load.rate(tick));
  std::set<std::string> statuses;
  bool finite = true;
  out.planner = RunFleet(
      options.fleet, load, goal,
      {.tick_seconds = tick,
       .first = first,
       .decide =
           [&](const control::PlannerObservation& seen, double now) {
             const control::PlannerDecision decision =
                 planner.Decide(seen, rt::Time(std::chrono::duration_cast<rt::Duration>(
                                          std::chrono::duration<double>(now))));
             const control::PoolDecision& pool = decision.pools[1];
             statuses.emplace(control::StatusName(decision.status));
             for (const double figure :
                  {pool.at, pool.below, pool.above, pool.ttft_ms, pool.itl_ms, decision.rate.mean,
                   decision.rate.deviation, decision.mean_input, decision.correction}) {
               finite = finite && std::isfinite(figure);
             }
             return pool.workers;
           }},
      options.after);
  out.planner.statuses.assign(statuses.begin(), statuses.end());
  out.planner.finite = finite;
  // In hindsight the cheapest of its margins that keeps the goal for the whole load, or else the
  // one that keeps it most often.
  const auto better = [&](const FleetRun& a, const FleetRun& b) {
    const bool a_keeps = a.attainment_after >= out.oracle_target;
    const bool b_keeps = b.attainment_after >= out.oracle_target;
    return a_keeps != b_keeps ? a_keeps
           : a_keeps          ? a.worker_hours < b.worker_hours
                              : a.attainment_after > b.attainment_after;
  };
  for (const double margin : kOracleMargins) {
    FleetRun run =
        RunFleet(options.fleet, load, goal,
                 {.tick_seconds = tick,
                  .first = first,
                  .decide =
                      [&](const control::PlannerObservation& seen, double now) {
                        const double rate = load.rate(now);
                        const double usual = 2 * rate * goal.ttft_ms / 1000;
                        const double backlog = std::max(seen.waiting - usual, 0.0);
                        const double horizon = options.fleet.start_up_seconds + tick;
                        return std::min(oracle.Smallest(margin * rate + backlog / horizon),
                                        options.fleet.room);
                      }},
                 options.after);
    if (out.oracle_margin == 0 || better(run, out.oracle)) {
      out.oracle = std::move(run);
      out.oracle_margin = margin;
    }
  }
  for (std::uint32_t workers = 1; workers <= out.planner.workers_max; ++workers) {
    out.statics.push_back(RunFleet(options.fleet, load, goal,
                                   {.tick_seconds = tick,
                                    .first = workers,
                                    .decide = [workers](const auto&, double) { return workers; }},
                                   options.after));
    if (out.statics.back().worker_hours > out.planner.worker_hours) {
      break;  // dearer ones are no equals
    }
  }
  out.attainment_ratio = out.oracle.attainment_after > 0
                             ? out.planner.attainment_after / out.oracle.attainment_after
                             : 1;
  out.cost_ratio =
      out.oracle.worker_hours > 0 ? out.planner.worker_hours / out.oracle.worker_hours : 1;
  out.equal_static = StaticAt(out.statics, out.planner.worker_hours);
  return out;
}

}  // namespace pixii::sim
