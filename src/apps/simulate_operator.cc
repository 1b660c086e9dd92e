#include "apps/simulate_operator.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "apps/command.h"
#include "rt/sync.h"
#include "rt/thread.h"
#include "sim/operator_sim.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

struct Totals {
  std::uint64_t runs = 0;
  std::uint64_t bad = 0;
  std::uint64_t rolling = 0;
  std::uint64_t requests = 0;
  std::uint64_t rolling_requests = 0;
  std::uint64_t failed = 0;
  std::uint64_t rolling_failed = 0;
  std::uint64_t edits = 0;
  std::uint64_t pods = 0;
  std::uint64_t writes = 0;
  double virtual_seconds = 0;
  double converged_seconds_max = 0;
  std::map<std::string, std::uint64_t> faults;

  void Add(const sim::OperatorSimResult& one) {
    ++runs;
    bad += one.violations.empty() ? 0 : 1;
    requests += one.requests;
    failed += one.failed;
    if (one.rolling) {
      ++rolling;
      rolling_requests += one.requests;
      rolling_failed += one.failed;
    }
    edits += one.edits;
    pods += one.pods;
    writes += one.writes;
    virtual_seconds += one.virtual_seconds;
    converged_seconds_max = std::max(converged_seconds_max, one.converged_seconds_max);
    for (const auto& [fault, count] : one.faults) {
      faults[fault] += count;
    }
  }

  wire::Json ToJson() const {
    wire::Json out(wire::Json::Object{});
    for (const auto& [name, count] :
         {std::pair("runs", runs), std::pair("failed", bad), std::pair("rolling", rolling),
          std::pair("requests", requests), std::pair("requests_failed", failed),
          std::pair("rolling_requests", rolling_requests),
          std::pair("rolling_requests_failed", rolling_failed), std::pair("edits", edits),
          std::pair("pods", pods), std::pair("writes", writes)}) {
      out.Set(name, count);
    }
    out.Set("virtual_seconds", virtual_seconds);
    out.Set("converged_seconds_max", converged_seconds_max);
    wire::Json counts(wire::Json::Object{});
    for (const auto& [fault, count] : faults) {
      counts.Set(fault, count);
    }
    out.Set("faults", std::move(counts));
    return out;
  }
};

// All seeds, on as many threads as there are jobs.
class OperatorRuns final {
 public:
  explicit OperatorRuns(const SimulateFlags& flags) : flags_(flags) {}

  Totals Run() {
    {
      std::vector<rt::Thread> threads;
      for (std::int64_t job = 1; job < flags_.jobs; ++job) {
        threads.emplace_back("simulate", [this] { Work(); });
      }
      Work();
    }
    const rt::MutexLock lock(mutex_);
    return totals_;
  }

 private:
  void Work() {
    sim::OperatorSimOptions options;
    if (flags_.verbose) {
      options.on_story = [](const std::string& line) { Say("{}\n", line); };
    }
    for (std::int64_t i = next_++; i < flags_.seeds; i = next_++) {
      const sim::OperatorSimResult one =
          sim::RunOperatorSim(static_cast<std::uint64_t>(flags_.seed + i), options);
      const rt::MutexLock lock(mutex_);
      totals_.Add(one);
      for (const std::string& violation : one.violations) {
        Say("seed {}: {}\n", one.seed, violation);
      }
      if (!one.violations.empty()) {
        Say("repeat it with: pixii simulate --scenario operator --seed {} --verbose\n", one.seed);
      }
      if (flags_.until_failure && totals_.bad > 0) {
        next_ = flags_.seeds;
      }
    }
  }

  const SimulateFlags& flags_;
  std::atomic<std::int64_t> next_{0};
  rt::Mutex mutex_;
  Totals totals_ PX_GUARDED_BY(mutex_);
};

}  // namespace

int SimulateOperator(const SimulateFlags& flags) {
  const Totals all = OperatorRuns(flags).Run();
  if (flags.json) {
    Say("{}\n", all.ToJson().Dump());
  } else {
    Say("{} runs, {} failed: {} edits, {} pods, {} writes, {} requests of which {} failed; {} "
        "rolling runs with {} requests of which {} failed; {:.1f} virtual seconds, {:.1f} to "
        "converge at most\n",
        all.runs, all.bad, all.edits, all.pods, all.writes, all.requests, all.failed, all.rolling,
        all.rolling_requests, all.rolling_failed, all.virtual_seconds, all.converged_seconds_max);
    for (const auto& [fault, count] : all.faults) {
      Say("fault {}: {}\n", fault, count);
    }
  }
  return all.bad == 0 ? kExitDone : kExitNotSo;
}

}  // namespace pixii::apps
