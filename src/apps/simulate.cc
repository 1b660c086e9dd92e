#include <fmt/format.h>

#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/model_host.h"
#include "apps/model_source.h"
#include "apps/simulate_operator.h"
#include "apps/simulate_planner.h"
#include "apps/simulate_trace.h"
#include "rt/thread.h"
#include "sim/cluster_sim.h"
#include "sim/server_sim.h"

namespace pixii::apps {

namespace {

// One seed in so many runs on the real model where both are asked for: it is slower by far.
constexpr std::uint64_t kModelEvery = 100;

// Read by the handler of SIGABRT: an assertion must name the seed that reached it.
thread_local std::uint64_t running_seed = 0;
std::atomic<const char*> running_scenario{""};

void NameSeed(int) {
  char text[120];
  int size = std::snprintf(text, sizeof(text),
                           "pixii: repeat it with: pixii simulate --scenario %s --seed %llu\n",
                           running_scenario.load(), static_cast<unsigned long long>(running_seed));
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, static_cast<std::size_t>(size));
}

struct Totals {
  std::uint64_t runs = 0;
  std::uint64_t failed = 0;
  std::uint64_t requests = 0;
  std::uint64_t finished = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t refused = 0;
  std::uint64_t excused = 0;
  std::uint64_t tokens = 0;
  std::uint64_t preemptions = 0;
  std::uint64_t prefix_hit_tokens = 0;
  std::uint64_t moves = 0;
  std::map<std::string, std::uint64_t> handovers;
  std::map<std::string, std::uint64_t> left;  // held at the ends
  std::map<std::string, std::uint64_t> faults;
  std::map<std::string, std::uint64_t> errors;
  std::uint64_t unexplained = 0;
  double virtual_seconds = 0;
  double load_seconds = 0;
  double requests_per_s_min = 0;  // of any run

  void Add(const sim::SimResult& result) {
    ++runs;
    failed += result.violations.empty() ? 0 : 1;
    unexplained += result.unexplained;
    requests += result.requests;
    finished += result.finished;
    cancelled += result.cancelled;
    refused += result.refused;
    excused += result.failed;
    tokens += result.tokens;
    preemptions += result.preemptions;
    prefix_hit_tokens += result.prefix_hit_tokens;
    moves += result.moves;
    for (const auto& [end, count] : result.handovers) {
      handovers[end] += count;
    }
    for (const auto& [name, count] : result.left) {
      left[name] += count;
    }
    for (const auto& [fault, count] : result.faults) {
      faults[fault] += count;
    }
    for (const auto& [error, count] : result.errors) {
      errors[error] += count;
    }
    virtual_seconds += result.virtual_seconds;
    if (result.load_seconds > 0) {
      const double rate = static_cast<double>(result.requests) / result.load_seconds;
      requests_per_s_min = load_seconds == 0 ? rate : std::min(requests_per_s_min, rate);
      load_seconds += result.load_seconds;
    }
  }

  static wire::Json CountsOf(const std::map<std::string, std::uint64_t>& counts) {
    wire::Json out(wire::Json::Object{});
    for (const auto& [name, count] : counts) {
      out.Set(name, count);
    }
    return out;
  }

  wire::Json ToJson() const {
    wire::Json out(wire::Json::Object{});
    out.Set("runs", runs);
    out.Set("failed", failed);
    out.Set("requests", requests);
    out.Set("finished", finished);
    out.Set("cancelled", cancelled);
    out.Set("refused", refused);
    out.Set("errors_explained", excused);
    out.Set("unexplained", unexplained);
    out.Set("tokens", tokens);
    out.Set("preemptions", preemptions);
    out.Set("prefix_hit_tokens", prefix_hit_tokens);
    out.Set("moves", moves);
    if (!handovers.empty()) {
      out.Set("handovers", CountsOf(handovers));
    }
    if (!left.empty()) {
      out.Set("left", CountsOf(left));
    }
    out.Set("faults", CountsOf(faults));
    out.Set("errors", CountsOf(errors));
    if (load_seconds > 0) {
      out.Set("requests_per_s", static_cast<double>(requests) / load_seconds);
      out.Set("requests_per_s_min", requests_per_s_min);
    }
    out.Set("virtual_seconds", virtual_seconds);
    return out;
  }
};

// The bundled model, loaded when the first seed wants it. Engines take from it what does not
// change.
class ModelEngines final {
 public:
  Result<sim::SimEngine> Make(std::uint64_t seed) {
    if (!lonely_) {
      PX_TRY(ModelSource source, ResolveModel(kBundledModel, true));
      folder_ = source.folder;
      PX_TRY(lonely_host_, ModelHost::Load(folder_, Flags(1, 64)));
      PX_TRY(std::unique_ptr<engine::Engine> lonely, lonely_host_->MakeEngine());
      lonely_ = std::move(lonely);
    }
    // Chunks, batch and memory differ from the lonely engine's: the answer must not.
    PX_TRY(host_, ModelHost::Load(folder_, Flags(static_cast<std::int64_t>(1 + seed % 16),
                                                 8 + static_cast<std::int64_t>(seed % 40))));
    PX_TRY(std::unique_ptr<engine::Engine> engine, host_->MakeEngine());
    return sim::MakeModelEngine(std::move(engine), lonely_, host_->spec().eos_token_ids);
  }

 private:
  static EngineFlags Flags(std::int64_t batch, std::int64_t batched_tokens) {
    EngineFlags flags;
    flags.max_batch = batch;
    flags.max_batched_tokens = std::max(batch, batched_tokens);
    flags.max_context = 256;
    flags.kv_memory = std::int64_t{4} << 20;
    flags.threads = 1;
    return flags;
  }

  std::string folder_;
  std::unique_ptr<ModelHost> lonely_host_;
  std::unique_ptr<ModelHost> host_;
  std::shared_ptr<engine::Engine> lonely_;
};

// All seeds, on as many threads as there are jobs: a run knows nothing of the others.
class Runs final {
 public:
  explicit Runs(const SimulateFlags& flags) : flags_(flags), next_(0) {}

  Result<Totals> Run() {
    {
      std::vector<rt::Thread> threads;
      for (std::int64_t job = 1; job < flags_.jobs; ++job) {
        threads.emplace_back("simulate", [this] { Work(); });
      }
      Work();
    }
    const rt::MutexLock lock(mutex_);
    if (error_) {
      return Fail(*error_);
    }
    return totals_;
  }

 private:
  void Work() {
    ModelEngines models;
    for (std::int64_t i = next_++; i < flags_.seeds; i = next_++) {
      const auto seed = static_cast<std::uint64_t>(flags_.seed + i);
      running_seed = seed;
      Result<sim::SimResult> result = RunOne(seed, models);
      const rt::MutexLock lock(mutex_);
      if (!result) {
        error_ = result.error();
        return;
      }
      totals_.Add(*result);
      Report(*result);
      if (flags_.until_failure && totals_.failed > 0) {
        next_ = flags_.seeds;
      }
    }
  }

  Result<sim::SimResult> RunOne(std::uint64_t seed, ModelEngines& models) const {
    if (flags_.scenario != "server") {
      sim::ClusterSimOptions options;
      options.disaggregated = flags_.scenario == "disaggregated";
      if (flags_.verbose) {
        options.on_story = [](const std::string& line) { Say("{}\n", line); };
      }
      if (flags_.hours > 0) {
        options.long_run = LongRunOf(flags_);
        options.on_hour = [json = flags_.json](int hours, std::uint64_t requests) {
          if (!json) {
            Say("{} h: {} requests\n", hours, requests);
            std::fflush(stdout);  // somebody waits
          }
        };
      }
      return sim::RunClusterSim(seed, options);
    }
    const bool model =
        flags_.engine == "model" || (flags_.engine == "mixed" && seed % kModelEvery == 0);
    PX_TRY(sim::SimEngine engine, model ? models.Make(seed) : sim::MakeMockEngine(seed));
    return sim::RunServerSim(seed, std::move(engine));
  }

  static sim::LongRun LongRunOf(const SimulateFlags& flags) {
    return {.workers = static_cast<std::uint32_t>(flags.workers),
            .time = rt::Duration(static_cast<std::int64_t>(flags.hours * 3.6e12)),
            .requests_per_s = flags.rate,
            .faults_per_hour = flags.faults_per_hour};
  }

  void Report(const sim::SimResult& result) const {
    if (flags_.verbose || !result.violations.empty()) {
      Say("seed {}: {} requests, {} finished, {} cancelled, {} refused, {} tokens, {} events, "
          "state {:016x}\n",
          result.seed, result.requests, result.finished, result.cancelled, result.refused,
          result.tokens, result.events, result.state_hash);
    }
    for (const std::string& violation : result.violations) {
      Say("seed {}: {}\n", result.seed, violation);
    }
    if (!result.violations.empty()) {
      Say("repeat it with: pixii simulate --scenario {} --seed {} --verbose\n", flags_.scenario,
          result.seed);
    }
  }

  const SimulateFlags& flags_;
  std::atomic<std::int64_t> next_;
  rt::Mutex mutex_;
  Totals totals_ PX_GUARDED_BY(mutex_);
  std::optional<Error> error_ PX_GUARDED_BY(mutex_);
};

}  // namespace

int RunSimulate(const Arguments& arguments) {
  SimulateFlags flags;
  config::Command command;
  command.name = "simulate";
  command.summary =
      "Runs the whole server under virtual time; exit status 1 if an oracle is violated.";
  command.options = RowsOf(flags);
  TraceFlags trace;
  for (config::Option& option : RowsOf(trace)) {
    command.options.push_back(std::move(option));
  }
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  if (flags.scenario == "trace") {
    return SimulateTrace(trace, static_cast<std::uint64_t>(flags.seed), flags.json, parsed);
  }
  if (flags.scenario == "planner") {
    return SimulatePlanner(trace, static_cast<std::uint64_t>(flags.seed), flags.json, parsed);
  }
  if (flags.scenario == "operator") {
    return SimulateOperator(flags);
  }
  if (flags.hours > 0 && flags.scenario == "server") {
    return Complain(Error(Code::kInvalidArgument,
                          fmt::format("--hours {}: scenario server has no long run; cluster and "
                                      "disaggregated have",
                                      flags.hours)));
  }
  std::signal(SIGABRT, NameSeed);
  running_scenario = flags.scenario.c_str();
  Runs runs(flags);
  Result<Totals> done = runs.Run();
  if (!done) {
    return Complain(done.error());
  }
  const Totals& totals = *done;
  if (flags.json) {
    Say("{}\n", totals.ToJson().Dump());
  } else {
    Say("{} runs, {} failed: {} requests, {} finished, {} cancelled, {} refused, {} errors "
        "explained, {} tokens, {} preemptions, {} prefix hit tokens, {} moves, {:.1f} virtual "
        "seconds\n",
        totals.runs, totals.failed, totals.requests, totals.finished, totals.cancelled,
        totals.refused, totals.excused, totals.tokens, totals.preemptions, totals.prefix_hit_tokens,
        totals.moves, totals.virtual_seconds);
    for (const auto& [end, count] : totals.handovers) {
      Say("handover {}: {}\n", end, count);
    }
    for (const auto& [name, count] : totals.left) {
      Say("left {}: {}\n", name, count);
    }
    for (const auto& [fault, count] : totals.faults) {
      Say("fault {}: {}\n", fault, count);
    }
    for (const auto& [error, count] : totals.errors) {
      Say("error {}: {}\n", error, count);
    }
  }
  return totals.failed == 0 ? kExitDone : kExitNotSo;
}

}  // namespace pixii::apps
