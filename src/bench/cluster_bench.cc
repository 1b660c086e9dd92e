#include "bench/cluster_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
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

double CountOf(std::string_view text, std::string_view word) {
  double out = 0;
  for (std::size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    ++out;
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
    if (options_.router != BenchedRouter::kOwn) {
      PX_CHECK_OK(Measure(true));
    }
    if (options_.router != BenchedRouter::kProcess) {
      PX_CHECK_OK(Measure(false));
    }
    return columns_.Figures();
  }

 private:
  // Frontends that ask one router's process, or that have routers of their own; never both at a
  // time, for each that listens costs the workers.
  Result<void> Measure(bool asks_router) {
    prefix_ = asks_router ? "" : "own_";
    PX_CHECK_OK(StartFrontends(asks_router));
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
    frontends_.clear();
    frontend_addresses_.clear();
    router_.clear();
    return {};
  }

  void Put(std::string_view name, std::string_view unit, double value) {
    columns_.Put(prefix_ + std::string(name), unit, value);
  }

  void Interrupt() {
    if (direct_) {
      direct_->Stop();
    }
    for (const auto& group : {&frontends_, &workers_, &router_}) {
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
    const std::string discovery = Discovery();
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
    PX_TRY(direct_address_, loop_->WaitFor(*direct_));
    return {};
  }

  std::string Discovery() const { return "file:" + discovery_.path(); }

  Result<void> StartFrontends(bool asks_router) {
    const auto with_mode = [&](std::vector<std::string> arguments) {
      for (const char* word : {"--port", "0", "--discovery"}) {
        arguments.emplace_back(word);
      }
      arguments.push_back(Discovery());
      arguments.emplace_back("--router-mode");
      arguments.push_back(options_.router_mode);
      return arguments;
    };
    if (asks_router) {
      PX_TRY(auto router, HttpTarget::StartPixii(with_mode({options_.program, "router"})));
      router_.push_back(std::move(router));
      PX_TRY(const rt::Address address, loop_->WaitFor(*router_[0]));
      PX_CHECK_OK(loop_->Wait(AllJoined(address, "/loads", [](std::string_view loads) {
        return CountOf(loads, "\"worker_id\"");
      })));
    }
    for (std::uint32_t i = 0; i < options_.frontends; ++i) {
      std::vector<std::string> arguments = {options_.program, "frontend"};
      if (asks_router) {  // what is cached where is the router's to know
        arguments.insert(arguments.end(),
                         {"--port", "0", "--discovery", Discovery(), "--router-url", "discovery"});
      } else {
        arguments = with_mode(std::move(arguments));
      }
      PX_TRY(auto frontend, HttpTarget::StartPixii(std::move(arguments)));
      frontends_.push_back(std::move(frontend));
    }
    for (const auto& frontend : frontends_) {
      PX_TRY(const rt::Address address, loop_->WaitFor(*frontend));
      frontend_addresses_.push_back(address);
      PX_CHECK_OK(loop_->Wait(AllJoined(address, "/metrics", &WorkersIn)));
    }
    return {};
  }

  // Until whoever is there knows every worker; `count` reads that from its answer.
  rt::Task<Result<bool>> AllJoined(rt::Address address, std::string path,
                                   std::function<double(std::string_view)> count) {
    const rt::Time deadline = loop_->loop().Now() + kJoinPatience;
    while (loop_->loop().Now() < deadline) {
      FloodOptions options;
      options.server = address;
      options.request = MakeFloodGet(address, path);
      auto get = RunFlood(loop_->loop(), loop_->net(), std::move(options));
      PX_CO_TRY(const FloodResult result, co_await std::move(get));
      if (count(result.last_answer) >= options_.workers) {
        co_return true;
      }
      auto pause = loop_->loop().SleepFor(kJoinPoll);
      co_await std::move(pause);
    }
    co_return Fail(Code::kUnavailable, "a process has not found every worker");
  }

  // Requests a second of each round: so much of what the cluster takes.
  Result<double> Rate() {
    PX_CHECK_OK(Load(true, options_.rate, 0.3));  // code, caches and connections are warm
    PX_CHECK_OK(Load(false, options_.rate, 0.3));
    PX_TRY(const Side direct, Load(false, 0, kCapacitySeconds));
    PX_TRY(const Side cluster, Load(true, 0, kCapacitySeconds));
    Put("direct_capacity", "requests/s", direct.requests_per_second);
    Put("cluster_capacity", "requests/s", cluster.requests_per_second);
    const double rate =
        options_.rate > 0 ? options_.rate : options_.load * cluster.requests_per_second;
    Put("rate", "requests/s", rate);
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
    const rt::Duration router = CpuOf(router_);
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
      Put(name, "us/token", Microseconds(cpu) / tokens);
    };
    Put(cluster ? "cluster_stream" : "direct_stream", "tokens/s", tokens / seconds);
    if (cluster) {
      put("frontend_cpu", CpuOf(frontends_) - frontends);
      if (!router_.empty()) {
        put("router_cpu", CpuOf(router_) - router);
      }
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
        Put(fmt::format("direct_{}_{}", what, percent), "ms", alone);
        Put(fmt::format("cluster_{}_{}", what, percent), "ms", through);
        Put(fmt::format("added_{}_{}", what, percent), "ms", through - alone);
      }
    }
    Put("direct_rate", "requests/s", direct.requests_per_second);
    Put("cluster_rate", "requests/s", cluster.requests_per_second);
  }

  ClusterBenchOptions options_;
  std::unique_ptr<BenchLoop> loop_;
  BenchFolder discovery_;
  std::unique_ptr<HttpTarget> direct_;
  std::vector<std::unique_ptr<HttpTarget>> workers_;
  std::vector<std::unique_ptr<HttpTarget>> frontends_;
  std::vector<std::unique_ptr<HttpTarget>> router_;  // one, while frontends ask it
  std::string prefix_;                               // of figures of what runs now
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
