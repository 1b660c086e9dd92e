#include "apps/simulate_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "apps/command.h"
#include "apps/print_figures.h"
#include "apps/router_flags.h"
#include "apps/trace_inputs.h"
#include "bench/report.h"
#include "sim/trace_sim.h"

namespace pixii::apps {

namespace {

Result<sim::TraceSimOptions> OptionsOf(const TraceFlags& flags, std::uint64_t seed) {
  sim::TraceSimOptions out;
  out.workers = static_cast<std::uint32_t>(flags.workers);
  out.prefill_workers = static_cast<std::uint32_t>(flags.prefill_workers);
  out.transfer = {.bytes_per_second = static_cast<double>(flags.transfer_bandwidth),
                  .token_bytes = static_cast<std::uint64_t>(flags.kv_token_bytes),
                  .latency = rt::Duration(flags.transfer_latency)};
  out.ttft_goal_ms = static_cast<double>(flags.ttft_goal) / 1e6;
  out.itl_goal_ms = static_cast<double>(flags.itl_goal) / 1e6;
  out.speed = flags.speed;
  out.copies = static_cast<std::uint32_t>(flags.copies);
  out.router = RouterOptionsOf(flags);
  PX_TRY(router::PolicyFile policies, ReadPolicies(flags));
  out.router.policy = std::move(policies.all);
  out.engine.batch_sequences_max = static_cast<std::uint32_t>(flags.max_batch);
  out.engine.batch_tokens_max = static_cast<std::uint32_t>(flags.max_batched_tokens);
  out.block_tokens = static_cast<std::uint32_t>(flags.block_size);
  out.block_count = static_cast<std::uint32_t>(flags.kv_blocks);
  out.event_delay = rt::Duration(flags.event_delay);
  out.seed = seed;
  PX_TRY(out.timing, SimulatedTiming(flags));
  return out;
}

Result<sim::Trace> LoadTrace(const TraceFlags& flags) {
  if (flags.trace.empty()) {
    return Fail(Code::kInvalidArgument, "trace: --trace FILE names the trace to replay", "trace");
  }
  PX_TRY(sim::Trace trace, ReadTraceFile(flags.trace, flags.trace_block_size));
  const auto first = static_cast<std::size_t>(flags.trace_requests);
  if (first > 0 && first < trace.requests.size()) {
    trace.requests.resize(first);
  }
  return trace;
}

std::vector<bench::Figure> FiguresOf(const sim::TraceSimResult& result) {
  std::vector<bench::Figure> out;
  const auto put = [&](std::string name, const char* unit, double value) {
    out.push_back(bench::MakeFigure(std::move(name), unit, {value}));
  };
  put("requests", "requests", static_cast<double>(result.requests));
  put("finished", "requests", static_cast<double>(result.finished));
  put("refused", "requests", static_cast<double>(result.refused));
  put("prompt_tokens", "tokens", static_cast<double>(result.prompt_tokens));
  put("output_tokens", "tokens", static_cast<double>(result.output_tokens));
  for (const auto& [name, values] :
       {std::pair{"ttft", &result.ttft_ms}, {"e2e", &result.e2e_ms}, {"itl", &result.itl_ms}}) {
    put(fmt::format("{}_mean", name), "ms", values->mean);
    put(fmt::format("{}_p50", name), "ms", values->p50);
    put(fmt::format("{}_p90", name), "ms", values->p90);
    put(fmt::format("{}_p99", name), "ms", values->p99);
    put(fmt::format("{}_max", name), "ms", values->max);
  }
  put("request_rate", "requests/s", result.requests_per_second);
  put("output_throughput", "tokens/s", result.output_tokens_per_second);
  put("good_share", "share", result.good_share);
  put("goodput", "requests/s", result.goodput);
  put("hit_rate", "share", result.hit_rate);
  put("oracle_hit_rate", "share", result.oracle_hit_rate);
  put("chosen_hit_rate", "share", result.chosen_hit_rate);
  put("seen_rate", "share", result.seen_rate);
  put("busy_mean", "share", result.busy_mean);
  put("busy_max", "share", result.busy_max);
  put("requests_max_of_mean", "ratio", result.requests_max_of_mean);
  put("computed_max_of_mean", "ratio", result.computed_max_of_mean);
  for (std::size_t i = 0; i < result.waiting_by_slice.size(); ++i) {
    put(fmt::format("waiting_tenth_{}", i + 1), "requests", result.waiting_by_slice[i]);
  }
  put("waiting_max", "requests", result.waiting_max);
  put("preemptions", "sequences", static_cast<double>(result.preemptions));
  put("virtual_time", "s", result.virtual_seconds);
  return out;
}

}  // namespace

int SimulateTrace(const TraceFlags& flags, std::uint64_t seed, bool json,
                  const config::Parsed& parsed) {
  const Result<sim::TraceSimOptions> options = OptionsOf(flags, seed);
  if (!options) {
    return Complain(options.error());
  }
  const Result<sim::Trace> trace = LoadTrace(flags);
  if (!trace) {
    return Complain(trace.error());
  }
  const Result<sim::TraceSimResult> result = sim::RunTraceSim(*trace, *options);
  return result ? PrintFigures(parsed, json, FiguresOf(*result)) : Complain(result.error());
}

}  // namespace pixii::apps
