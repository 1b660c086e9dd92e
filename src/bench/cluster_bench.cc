#include "bench/cluster_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "bench/bench_loop.h"
#include "bench/columns.h"
#include "bench/flood.h"
#include "bench/http_load.h"
#include "bench/http_target.h"
#include "rt/sync.h"

namespace pixii::bench {

namespace {

constexpr rt::Duration kJoinPatience = std::chrono::seconds(30);  // until all workers are found
constexpr rt::Duration kJoinPoll = std::chrono::milliseconds(20);
constexpr double kCapacitySeconds = 1.5;  // of the load that tells what can be taken

double Microseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

/// The workers that a frontend's metrics name.
double WorkersIn(std::string_view metrics) {
  constexpr std::string_view kName = "\ndynamo_frontend_model_workers{";
  double out = 0;
  for (std::size_t at = metrics.find(kName); at != metrics.npos; at = metrics.find(kName, at + 1)) {
    const std::size_t value = metrics.find("} ", at);
    if (value == metrics.npos) {
      break;
    }
    out += std::strtod(std::string(metrics.substr(value + 2, 20)).c_str(), nullptr);
  }
  return out;
}

/// Of one round of one side.
struct Side {
  std::vector<double> first_ms;
  std::vector<double> total_ms;
  double requests_per_second = 0;
};

class ClusterBench final {
 public:
  explicit ClusterBench(const ClusterBenchOptions& options) : options_(options) {}

  Result<std::vector<Figure>> Run() {
    PX_TRY(loop_, BenchLoop::Make([this] { Interrupt(); }));
    PX_CHECK_OK(Start());
    PX_TRY(const double rate, Rate());
    for (std::uint32_t round = 0; round < options_.repeats; ++round) {
      // Turned around every other time, so that neither side always comes behind the other.
      const bool cluster_first = round % 2 == 1;
      Side sides[2];  // direct, cluster
      for (const bool cluster : {cluster_first, !cluster_first}) {
        PX_TRY(sides[cluster ? 1 : 0], Latencies(cluster, rate));
        PX_CHECK_OK(Stream(cluster));
      }
      PutRound(sides[0], sides[1]);
    }
    return columns_.Figures();
  }

 private:
  void Interrupt() {
    if (direct_) {
      direct_->Stop();
    }
    for (const auto& group : {&frontends_, &workers_}) {
      std::ranges::for_each(*group, [](const auto& one) { one->Stop(); });
    }
  }

  std::vector<std::string> MockFlags() const {
    return {"--engine",
            "mock",
            "--max-batch",
            "256",
            "--mock-step-time",
            fmt::format(
                "{}us",
                std::chrono::duration_cast<std::chrono::microseconds>(options_.step_time).count())};
  }

  Result<void> Start() {
    PX_TRY(discovery_, BenchFolder::Make());
    const std::string discovery = "file:" + discovery_.path();
    const auto with_mock = [&](std::vector<std::string> arguments) {
      std::ranges::copy(MockFlags(), std::back_inserter(arguments));
      return arguments;
    };
    PX_TRY(direct_, HttpTarget::StartPixii(
                        with_mock({options_.program, "serve", options_.model, "--port", "0"})));
    for (std::uint32_t i = 0; i < options_.workers; ++i) {
      PX_TRY(auto worker,
             HttpTarget::StartPixii(with_mock(
                 {options_.program, "worker", options_.model, "--discovery", discovery})));
      workers_.push_back(std::move(worker));
    }
    for (std::uint32_t i = 0; i < options_.frontends; ++i) {
      PX_TRY(auto frontend,
             HttpTarget::StartPixii({options_.program, "frontend", "--port", "0", "--discovery",
                                     discovery, "--router-mode", options_.router_mode}));
      frontends_.push_back(std::move(frontend));
    }
    PX_TRY(direct_address_, loop_->WaitFor(*direct_));
    for (const auto& frontend : frontends_) {
      PX_TRY(const rt::Address address, loop_->WaitFor(*frontend));
      frontend_addresses_.push_back(address);
      PX_CHECK_OK(loop_->Wait(AllJoined(address)));
    }
    return {};
  }

  // Until the frontend knows every worker.
  rt::Task<Result<bool>> AllJoined(rt::Address address) {
    const rt::Time deadline = loop_->loop().Now() + kJoinPatience;
    while (loop_->loop().Now() < deadline) {
      FloodOptions options;
      options.server = address;
      options.request = MakeFloodGet(address, "/metrics");
      auto get = RunFlood(loop_->loop(), loop_->net(), std::move(options));
      PX_CO_TRY(const FloodResult result, co_await std::move(get));
      if (WorkersIn(result.last_answer) >= options_.workers) {
        co_return true;
      }
      auto pause = loop_->loop().SleepFor(kJoinPoll);
      co_await std::move(pause);
    }
    co_return Fail(Code::kUnavailable, "a frontend has not found every worker");
  }

  // Requests a second of each round: so much of what the cluster takes.
  Result<double> Rate() {
    PX_CHECK_OK(Load(true, options_.rate, 0.3));  // code, caches and connections are warm
    PX_CHECK_OK(Load(false, options_.rate, 0.3));
    PX_TRY(const Side direct, Load(false, 0, kCapacitySeconds));
    PX_TRY(const Side cluster, Load(true, 0, kCapacitySeconds));
    columns_.Put("direct_capacity", "requests/s", direct.requests_per_second);
    columns_.Put("cluster_capacity", "requests/s", cluster.requests_per_second);
    const double rate =
        options_.rate > 0 ? options_.rate : options_.load * cluster.requests_per_second;
    columns_.Put("rate", "requests/s", rate);
    return rate;
  }

  Result<Side> Latencies(bool cluster, double rate) {
    return Load(cluster, rate, options_.seconds);
  }

  // At `rate`, Poisson, or at 0 as fast as answers come; about so many seconds.
  Result<Side> Load(bool cluster, double rate, double seconds) {
    std::vector<rt::Address> servers{direct_address_};
    if (cluster) {
      servers = frontend_addresses_;
    }
    const auto parts = static_cast<std::uint32_t>(servers.size());
    std::vector<LoadOptions> loads;
    for (const rt::Address& server : servers) {
      LoadOptions& one = loads.emplace_back();
      one.server = server;
      one.rate_per_second = rate / parts;
      one.concurrency = rate > 0 ? 256 : std::max(options_.connections / parts, 1U);
      one.input_tokens = options_.input_tokens;
      one.output_tokens = options_.output_tokens;
      one.seed = next_seed_++;
      one.time = std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
      one.request_count = ~std::uint32_t{0};
    }
    return loop_->Wait(RunLoads(std::move(loads)));
  }

  rt::Task<Result<Side>> RunLoads(std::vector<LoadOptions> loads) {
    std::vector<std::optional<Result<LoadResult>>> results(loads.size());
    rt::Gate gate(loop_->loop());
    for (std::size_t i = 0; i < loads.size(); ++i) {
      PX_CO_TRY(rt::Gate::Pass pass, gate.Enter());
      loop_->loop().Spawn(RunOne(std::move(loads[i]), results[i], std::move(pass)));
    }
    auto all = gate.Close();
    co_await std::move(all);
    Side out;
    for (std::optional<Result<LoadResult>>& result : results) {
      if (!*result) {
        co_return Fail(result->error());
      }
      const LoadResult& load = **result;
      for (const RequestSample& sample : load.samples) {
        if (!sample.error.empty()) {
          co_return Fail(Code::kUnavailable, "a request failed: " + sample.error);
        }
        out.first_ms.push_back(sample.first_token_ms);
        out.total_ms.push_back(sample.total_ms);
      }
      out.requests_per_second += static_cast<double>(load.samples.size()) / load.elapsed_s;
    }
    co_return out;
  }

  rt::Task<void> RunOne(LoadOptions load, std::optional<Result<LoadResult>>& out,
                        rt::Gate::Pass pass) {
    auto run = RunLoad(loop_->loop(), loop_->net(), std::move(load));
    out.emplace(co_await std::move(run));
    (void)pass;
  }

  rt::Duration CpuOf(const std::vector<std::unique_ptr<HttpTarget>>& group) const {
    rt::Duration out{};
    for (const auto& one : group) {
      out += one->CpuTime();
    }
    return out;
  }

  // Streams as fast as they go; CPU of each hop over their tokens.
  Result<void> Stream(bool cluster) {
    const rt::Duration frontends = CpuOf(frontends_);
    const rt::Duration workers = CpuOf(workers_);
    const rt::Duration direct = direct_->CpuTime();
    const std::string body = fmt::format(
        R"({{"prompt":"{}: tell me a story","max_tokens":{},"temperature":0,"ignore_eos":true,)"
        R"("stream":true}})",
        std::string(FloodRequest::kDigits, '0'), options_.stream_tokens);
    double requests = 0;
    double seconds = 0;
    for (const rt::Address& server :
         cluster ? frontend_addresses_ : std::vector<rt::Address>{direct_address_}) {
      FloodOptions flood;
      flood.server = server;
      flood.request = MakeFloodPost(server, "/v1/completions", body);
      flood.connections = options_.connections;
      flood.stream = true;
      const double share = cluster ? static_cast<double>(frontend_addresses_.size()) : 1;
      flood.time = std::chrono::duration_cast<rt::Duration>(
          std::chrono::duration<double>(options_.seconds / share / 2));
      PX_TRY(const FloodResult result,
             loop_->Wait(RunFlood(loop_->loop(), loop_->net(), std::move(flood))));
      requests += static_cast<double>(result.requests);
      seconds += result.elapsed_s;
    }
    const double tokens = requests * options_.stream_tokens;
    const auto put = [&](std::string_view name, rt::Duration cpu) {
      columns_.Put(name, "us/token", Microseconds(cpu) / tokens);
    };
    columns_.Put(cluster ? "cluster_stream" : "direct_stream", "tokens/s", tokens / seconds);
    if (cluster) {
      put("frontend_cpu", CpuOf(frontends_) - frontends);
      put("worker_cpu", CpuOf(workers_) - workers);
    } else {
      put("direct_cpu", direct_->CpuTime() - direct);
    }
    return {};
  }

  void PutRound(const Side& direct, const Side& cluster) {
    for (const auto& [what, member] :
         {std::pair{"ttft", &Side::first_ms}, {"latency", &Side::total_ms}}) {
      for (const auto& [percent, q] : {std::pair{"p50", 0.5}, {"p99", 0.99}}) {
        const double alone = Quantile(direct.*member, q);
        const double through = Quantile(cluster.*member, q);
        columns_.Put(fmt::format("direct_{}_{}", what, percent), "ms", alone);
        columns_.Put(fmt::format("cluster_{}_{}", what, percent), "ms", through);
        columns_.Put(fmt::format("added_{}_{}", what, percent), "ms", through - alone);
      }
    }
    columns_.Put("direct_rate", "requests/s", direct.requests_per_second);
    columns_.Put("cluster_rate", "requests/s", cluster.requests_per_second);
  }

  ClusterBenchOptions options_;
  std::unique_ptr<BenchLoop> loop_;
  BenchFolder discovery_;
  std::unique_ptr<HttpTarget> direct_;
  std::vector<std::unique_ptr<HttpTarget>> workers_;
  std::vector<std::unique_ptr<HttpTarget>> frontends_;
  rt::Address direct_address_;
  std::vector<rt::Address> frontend_addresses_;
  std::uint64_t next_seed_ = 1;
  Columns columns_;
};

}  // namespace

Result<std::vector<Figure>> BenchCluster(const ClusterBenchOptions& options) {
  if (options.frontends == 0 || options.workers == 0 || options.repeats == 0) {
    return Fail(Code::kInvalidArgument, "the bench needs frontends, workers and rounds");
  }
  ClusterBench bench(options);
  return bench.Run();
}

}  // namespace pixii::bench
