#include "apps/bench_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "apps/progress_bar.h"
#include "apps/trace_inputs.h"
#include "bench/http_load.h"
#include "bench/load_figures.h"
#include "bench/load_plan.h"
#include "bench/load_report.h"
#include "bench/server_url.h"
#include "rt/file.h"
#include "rt/loop.h"
#include "rt/net.h"

namespace pixii::apps {

namespace {

// Of the repeat with this seed.
Result<bench::LoadPlan> PlanOf(const BenchServeFlags& flags, std::uint64_t seed) {
  if (!flags.trace.empty()) {
    PX_TRY(const sim::Trace trace, ReadTraceFile(flags.trace, flags.trace_block_size));
    return bench::PlanOfTrace(trace, flags.speed, seed);
  }
  if (flags.rate_end > 0 && flags.rate == 0) {
    return Fail(Code::kInvalidArgument, "rate-end: a rate that goes there needs --rate",
                "rate-end");
  }
  return bench::MakeLoadPlan(
      {.request_count =
           static_cast<std::uint32_t>((flags.requests + flags.turns - 1) / flags.turns),
       .rate_per_second = flags.rate,
       .rate_end = flags.rate_end,
       .arrival = flags.arrival == "constant" ? bench::Arrival::kConstant
                  : flags.arrival == "gamma"  ? bench::Arrival::kGamma
                                              : bench::Arrival::kPoisson,
       .burstiness = flags.burstiness,
       .input_tokens = static_cast<double>(flags.input_tokens),
       .input_stddev = flags.input_stddev,
       .output_tokens = static_cast<double>(flags.output_tokens),
       .output_stddev = flags.output_stddev,
       .shared_prefix_tokens = static_cast<std::uint32_t>(flags.shared_prefix),
       .prefix_groups = static_cast<std::uint32_t>(flags.prefix_groups),
       .seed = seed});
}

// The server that is measured, and the way there.
struct Target {
  bench::ServerUrl url;
  bench::ServerNet net;
};

Result<Target> TargetOf(const BenchServeFlags& flags, rt::Loop& loop) {
  Target out;
  out.url.host = flags.host;
  out.url.port = static_cast<std::uint16_t>(flags.port);
  if (!flags.url.empty()) {
    PX_TRY(out.url, bench::ParseServerUrl(flags.url));
  }
  PX_TRY(out.net, bench::Reach(out.url, flags.ca, loop));
  return out;
}

bench::LoadOptions MakeLoad(const BenchServeFlags& flags, const Target& target,
                            bench::LoadPlan plan) {
  bench::LoadOptions options;
  options.server = target.net.address;
  options.host = target.url.HostField();
  options.base_path = target.url.base_path;
  options.turns = static_cast<std::uint32_t>(flags.turns);
  options.turn_delay = rt::Duration(flags.turn_delay);
  options.model = flags.model;
  options.api_key = flags.api_key;
  options.concurrency = static_cast<std::uint32_t>(flags.concurrency);
  options.plan = std::move(plan);
  return options;
}

// Figures of every repeat by name; their medians are reported.
class ServeFigures final {
 public:
  explicit ServeFigures(bench::LoadGoals goals) : goals_(goals) {}

  Result<void> Add(const bench::LoadResult& load) {
    std::vector<double> first;
    std::vector<double> later_first;  // of later turns
    std::vector<double> token_gaps;
    std::vector<double> delays;
    std::size_t good = 0;
    std::vector<double> gaps;
    std::vector<double> total;
    double tokens = 0;
    std::size_t failed = 0;
    for (const bench::RequestSample& sample : load.samples) {
      if (!sample.error.empty()) {
        ++failed;
        last_error_ = sample.error;
        continue;
      }
      first.push_back(sample.first_token_ms);
      if (sample.turn > 0) {
        later_first.push_back(sample.first_token_ms);
      }
      delays.push_back(sample.send_delay_ms);
      good += bench::IsGood(sample, goals_) ? 1 : 0;
      if (sample.output_tokens > 1) {
        token_gaps.push_back(bench::TokenGapMs(sample));
      }
      gaps.insert(gaps.end(), sample.gaps_ms.begin(), sample.gaps_ms.end());
      total.push_back(sample.total_ms);
      tokens += sample.output_tokens;
    }
    if (total.empty()) {
      return Fail(Code::kUnavailable,
                  fmt::format("every request failed; the last one: {}", last_error_));
    }
    for (auto [percent, q] :
         {std::pair{"p50", 0.5}, std::pair{"p75", 0.75}, std::pair{"p90", 0.9},
          std::pair{"p95", 0.95}, std::pair{"p99", 0.99}, std::pair{"p99.9", 0.999}}) {
      Put(fmt::format("ttft_{}", percent), "ms", bench::Quantile(first, q));
      Put(fmt::format("itl_{}", percent), "ms", bench::Quantile(gaps, q));
      Put(fmt::format("tpot_{}", percent), "ms", bench::Quantile(token_gaps, q));
      Put(fmt::format("latency_{}", percent), "ms", bench::Quantile(total, q));
    }
    Put("ttft_mean", "ms",
        std::accumulate(first.begin(), first.end(), 0.0) / static_cast<double>(first.size()));
    if (!later_first.empty()) {
      Put("ttft_later_turns_p50", "ms", bench::Quantile(later_first, 0.5));
    }
    Put("send_delay_p99", "ms", bench::Quantile(delays, 0.99));
    Put("goodput", "requests/s", static_cast<double>(good) / load.elapsed_s);
    Put("good_share", "ratio",
        static_cast<double>(good) / static_cast<double>(load.samples.size()));
    Put("output_throughput", "tokens/s", tokens / load.elapsed_s);
    Put("request_throughput", "requests/s", static_cast<double>(total.size()) / load.elapsed_s);
    Put("failed_requests", "requests", static_cast<double>(failed));
    output_tokens_ += tokens;
    return {};
  }

  double output_tokens() const { return output_tokens_; }

  std::vector<bench::Figure> Take() const {
    std::vector<bench::Figure> figures;
    for (const Column& column : columns_) {
      figures.push_back(bench::MakeFigure(column.name, column.unit, column.values));
    }
    return figures;
  }

  void Put(const std::string& name, const char* unit, double value) {
    for (Column& column : columns_) {
      if (column.name == name) {
        column.values.push_back(value);
        return;
      }
    }
    columns_.push_back({name, unit, {value}});
  }

 private:
  struct Column {
    std::string name;
    std::string unit;
    std::vector<double> values;
  };

  bench::LoadGoals goals_;
  std::vector<Column> columns_;
  double output_tokens_ = 0;
  std::string last_error_;
};

// User and system seconds of another process so far; nothing if it cannot be seen.
std::optional<double> CpuSecondsOf(std::int64_t pid) {
  constexpr std::uint64_t kStatSizeMax = 4096;  // bytes
  Result<std::string> stat = rt::ReadFile(fmt::format("/proc/{}/stat", pid), kStatSizeMax);
  std::size_t at = stat ? stat->rfind(')') : std::string::npos;
  if (at == std::string::npos) {
    return std::nullopt;
  }
  std::istringstream fields(stat->substr(at + 2));
  std::string skipped;
  for (int i = 3; i < 14;
       ++i) {  // proc(5): utime and stime are fields 14 and 15, in ticks of 10 ms
    fields >> skipped;
  }
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / 100;
}

rt::Task<void> Drive(rt::Loop& loop, rt::Net& net, bench::LoadOptions options, ProgressBar& bar,
                     Result<bench::LoadResult>& out) {
  const double count = static_cast<double>(options.plan->requests.size() * options.turns);
  auto run = bench::RunLoad(loop, net, std::move(options), [&bar, count](std::size_t ended) {
    bar.Show(static_cast<double>(ended) / count);
  });
  out = co_await std::move(run);
  loop.Stop();
}

Result<bench::LoadResult> RunOnce(rt::Loop& loop, rt::Net& net, bench::LoadOptions options) {
  Result<bench::LoadResult> load = Fail(Code::kInternal, "the load did not run");
  ProgressBar bar(fmt::format("requests, {} at a time", options.concurrency));
  loop.Spawn(Drive(loop, net, std::move(options), bar, load));
  loop.Run();
  return load;
}

// All repeats at one concurrency. `exported` gets the last one under AIPerf's names.
Result<std::vector<bench::Figure>> MeasureLoad(const BenchServeFlags& flags, const Target& target,
                                               rt::Loop& loop, wire::Json& exported) {
  PX_TRY(const bench::LoadGoals goals, bench::ParseGoals(flags.slo));
  ServeFigures figures(goals);
  for (std::int64_t repeat = 0; repeat < flags.repeats; ++repeat) {
    // Equal prompts would only measure the prefix cache.
    PX_TRY(bench::LoadPlan plan, PlanOf(flags, static_cast<std::uint64_t>(flags.seed) +
                                                   static_cast<std::uint64_t>(repeat)));
    bench::LoadOptions options = MakeLoad(flags, target, std::move(plan));
    const std::optional<double> cpu_before = CpuSecondsOf(flags.server_pid);
    const double tokens_before = figures.output_tokens();
    PX_TRY(const bench::LoadResult result, RunOnce(loop, target.net.net(), std::move(options)));
    exported = bench::AiperfExport(result, goals);
    PX_CHECK_OK(figures.Add(result));
    const std::optional<double> cpu_after = CpuSecondsOf(flags.server_pid);
    if (cpu_before && cpu_after) {
      figures.Put("server_cpu_per_token", "us",
                  (*cpu_after - *cpu_before) * 1e6 / (figures.output_tokens() - tokens_before));
    }
  }
  return figures.Take();
}

Result<void> WarmUp(const BenchServeFlags& flags, const Target& target, rt::Loop& loop) {
  if (flags.warmup == 0) {
    return {};
  }
  BenchServeFlags warm = flags;
  warm.requests = flags.warmup;
  warm.concurrency = 1;
  warm.turns = 1;
  warm.rate = warm.rate_end = 0;
  warm.trace.clear();
  // With a seed of its own: warm must be the server, not the prompts that are measured.
  PX_TRY(bench::LoadPlan plan, PlanOf(warm, ~static_cast<std::uint64_t>(flags.seed)));
  PX_CHECK_OK(RunOnce(loop, target.net.net(), MakeLoad(warm, target, std::move(plan))));
  return {};
}

// The concurrencies of --sweep; none: that of --concurrency.
Result<std::vector<std::int64_t>> Concurrencies(const BenchServeFlags& flags) {
  constexpr std::int64_t kConcurrencyMax = 100'000;
  std::vector<std::int64_t> out;
  std::string_view rest = flags.sweep;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find(','));
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number < 1 ||
        number > kConcurrencyMax) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("sweep: \"{}\" is not 1 .. {}", word, kConcurrencyMax), "sweep");
    }
    out.push_back(number);
    rest.remove_prefix(std::min(word.size() + 1, rest.size()));
  }
  if (out.empty()) {
    out.push_back(flags.concurrency);
  }
  return out;
}

}  // namespace

Result<std::vector<bench::Figure>> MeasureServe(const BenchServeFlags& flags) {
  PX_TRY(const std::vector<std::int64_t> concurrencies, Concurrencies(flags));
  PX_TRY(const std::unique_ptr<rt::Loop> loop, rt::MakeLoop());
  PX_TRY(const Target target, TargetOf(flags, *loop));
  // What was measured is not lost to a file that nobody can write.
  for (const auto& [flag, file] :
       {std::pair("profile-export", &flags.profile_export), std::pair("html", &flags.html)}) {
    const std::string folder = std::filesystem::path(*file).parent_path();
    if (!folder.empty() && !std::filesystem::is_directory(folder)) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: there is no folder {}", flag, folder),
                  flag);
    }
  }
  PX_CHECK_OK(WarmUp(flags, target, *loop));
  std::vector<bench::Figure> out;
  std::vector<bench::ReportedLoad> loads;
  for (const std::int64_t concurrency : concurrencies) {
    BenchServeFlags one = flags;
    one.concurrency = concurrency;
    // Prompts of a run before it would be cached.
    one.seed = flags.seed + static_cast<std::int64_t>(loads.size()) * flags.repeats;
    wire::Json exported;
    PX_TRY(std::vector<bench::Figure> figures, MeasureLoad(one, target, *loop, exported));
    for (bench::Figure& figure : figures) {
      if (!flags.sweep.empty()) {
        figure.name += fmt::format("@{}", concurrency);
      }
      out.push_back(std::move(figure));
    }
    loads.push_back(
        {.name = fmt::format("{} at a time", concurrency), .load = std::move(exported)});
  }
  if (!flags.profile_export.empty()) {
    PX_CHECK_OK(rt::WriteFileAtomic(flags.profile_export, loads.back().load.Dump() + "\n", 0644));
  }
  if (!flags.html.empty()) {
    PX_TRY(const std::string page, bench::LoadReportHtml(loads));
    PX_CHECK_OK(rt::WriteFileAtomic(flags.html, page, 0644));
  }
  return out;
}

}  // namespace pixii::apps
