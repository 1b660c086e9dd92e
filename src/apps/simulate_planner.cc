#include "apps/simulate_planner.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/print_figures.h"
#include "apps/trace_inputs.h"
#include "bench/report.h"
#include "rt/file.h"
#include "sim/planner_sim.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kConfigBytesMax = 1 << 20;
constexpr double kAttainmentBar = 0.95;  // of the oracle's
constexpr double kCostBar = 1.15;        // of its worker-hours

Result<sim::PlannerSimOptions> OptionsOf(const TraceFlags& flags, std::uint64_t seed) {
  sim::PlannerSimOptions out;
  out.seed = seed;
  std::string text = "{}";
  if (!flags.planner_config.empty()) {
    PX_TRY(text, rt::ReadFile(flags.planner_config, kConfigBytesMax));
  }
  PX_TRY(out.config, control::ReadPlannerConfig(text, flags.planner_config));
  if (flags.planner_config.empty()) {
    out.config.max_gpu_budget = -1;
    out.config.throughput_adjustment_interval_seconds = 15;
    out.config.load_predictor = "adaptive";
    out.config.scale_down_window_seconds = 120;
  }
  if (flags.ttft_goal > 0) {
    out.config.ttft_ms = static_cast<double>(flags.ttft_goal) / 1e6;
  }
  if (flags.itl_goal > 0) {
    out.config.itl_ms = static_cast<double>(flags.itl_goal) / 1e6;
  }
  // The simulated fleet has workers that do both.
  out.config.mode = "agg";
  out.config.optimization_target = "sla";
  out.config.start_up_seconds = static_cast<double>(flags.start_up) / 1e9;
  sim::FleetModel& fleet = out.fleet;
  fleet.start_up_seconds = out.config.start_up_seconds;
  fleet.sequences_max = static_cast<std::uint32_t>(flags.max_batch);
  fleet.batch_tokens_max = static_cast<std::uint32_t>(flags.max_batched_tokens);
  fleet.kv_tokens = static_cast<std::uint64_t>(flags.kv_blocks * flags.block_size);
  fleet.room = static_cast<std::uint32_t>(flags.room);
  PX_TRY(fleet.timing, SimulatedTiming(flags));
  return out;
}

Result<sim::PlannerLoad> LoadOf(const TraceFlags& flags, std::uint64_t seed) {
  if (flags.trace.empty()) {
    return sim::MakePlannerLoad(flags.load, flags.load_rate,
                                static_cast<double>(flags.load_time) / 1e9, seed);
  }
  PX_TRY(const sim::Trace trace, ReadTraceFile(flags.trace, flags.trace_block_size));
  return sim::LoadOfTrace(trace, static_cast<std::uint32_t>(flags.copies), seed);
}

std::vector<bench::Figure> FiguresOf(const sim::PlannerComparison& all) {
  std::vector<bench::Figure> out;
  const auto put = [&](std::string name, const char* unit, double value) {
    out.push_back(bench::MakeFigure(std::move(name), unit, {value}));
  };
  put("requests", "requests", static_cast<double>(all.planner.requests));
  for (const auto& [name, run] :
       {std::pair{"planner", &all.planner}, std::pair{"oracle", &all.oracle}}) {
    put(fmt::format("{}_attainment", name), "share", run->attainment);
    put(fmt::format("{}_attainment_compared", name), "share", run->attainment_after);
    put(fmt::format("{}_worker_hours", name), "h", run->worker_hours);
    put(fmt::format("{}_workers_max", name), "workers", run->workers_max);
    put(fmt::format("{}_changes", name), "changes", run->changes);
    put(fmt::format("{}_reversals", name), "changes", run->reversals);
    put(fmt::format("{}_reversals_in_10_min_max", name), "changes", run->reversals_10min_max);
    put(fmt::format("{}_ttft_p50", name), "ms", run->ttft_p50_ms);
    put(fmt::format("{}_ttft_p99", name), "ms", run->ttft_p99_ms);
    put(fmt::format("{}_itl_p50", name), "ms", run->itl_p50_ms);
    put(fmt::format("{}_itl_p99", name), "ms", run->itl_p99_ms);
  }
  put("oracle_margin", "ratio", all.oracle_margin);
  put("oracle_target", "share", all.oracle_target);
  put("attainment_of_oracle", "ratio", all.attainment_ratio);
  put("cost_of_oracle", "ratio", all.cost_ratio);
  put("static_attainment_at_equal_cost", "share", all.equal_static);
  for (const char* status : {"met", "budget", "infeasible", "no_room"}) {
    put(fmt::format("said_{}", status), "",
        std::ranges::find(all.planner.statuses, status) != all.planner.statuses.end() ? 1 : 0);
  }
  return out;
}

bool KeepsBars(const sim::PlannerComparison& all) {
  return all.attainment_ratio >= kAttainmentBar && all.cost_ratio <= kCostBar &&
         all.planner.reversals_10min_max <= 1 && all.planner.finite;
}

}  // namespace

int SimulatePlanner(const TraceFlags& flags, std::uint64_t seed, bool json,
                    const config::Parsed& parsed) {
  Result<sim::PlannerSimOptions> options = OptionsOf(flags, seed);
  if (!options) {
    return Complain(options.error());
  }
  Result<sim::PlannerLoad> load = LoadOf(flags, seed);
  if (!load) {
    return Complain(load.error());
  }
  // Of a trace the planner has seen the first half, and is judged by the second.
  sim::PlannerLoad before;
  if (!flags.trace.empty()) {
    before = sim::PartOf(*load, 0, load->seconds / 2);
    load = sim::PartOf(*load, load->seconds / 2, load->seconds);
    options->warm = &before;
  }
  // A crowd is judged from one start-up time on: nobody without foresight is there before.
  if (flags.trace.empty() && flags.load == "flash") {
    options->after = load->seconds / 3 + options->fleet.start_up_seconds;
  }
  const Result<sim::PlannerComparison> all = sim::ComparePlanner(*load, *options);
  if (!all) {
    return Complain(all.error());
  }
  const int exit = PrintFigures(parsed, json, FiguresOf(*all));
  return exit != kExitDone || KeepsBars(*all) ? exit : kExitNotSo;
}

}  // namespace pixii::apps
