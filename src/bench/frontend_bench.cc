#include "bench/frontend_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "bench/bench_loop.h"
#include "bench/columns.h"
#include "bench/flood.h"
#include "bench/floor_server.h"
#include "bench/http_target.h"

namespace pixii::bench {

namespace {

constexpr std::uint32_t kPipeline = 16;       // requests sent at once by the pipelined cases
constexpr std::uint32_t kTokensOfFirst = 16;  // of each stream where only its first token counts

// As long as what people ask the bundled model; no two are equal, so no prefix is found.
constexpr std::string_view kQuestion =
    "0000000000: Tom has 17 apples and buys 25 more at the market. He gives 8 of them to Anna. "
    "How many apples does Tom have now?";

std::string ChatBody() {
  return fmt::format(R"({{"messages":[{{"role":"user","content":"{}"}}],"max_tokens":1,)"
                     R"("temperature":0,"ignore_eos":true}})",
                     kQuestion);
}

std::string CompletionBody(std::uint32_t tokens, bool stream) {
  return fmt::format(
      R"({{"prompt":"{}","max_tokens":{},"temperature":0,"ignore_eos":true,"stream":{}{}}})",
      kQuestion, tokens, stream,
      stream ? R"(,"stream_options":{"include_usage":true})" : std::string_view());
}

/// One way of loading one server.
enum class Case : std::uint8_t {
  kNginx,
  kNginxPipelined,
  kNginxAlone,
  kFloor,
  kHealth,
  kHealthPipelined,
  kChat,
  kCompletion,
  kFirstTokenAlone,
  kFirstToken,
  kStream,
};

struct NamedCase {
  Case which;
  std::string_view name;  // for --only
};

constexpr NamedCase kCases[] = {
    {Case::kFloor, "floor"},
    {Case::kNginx, "nginx"},
    {Case::kHealth, "health"},
    {Case::kNginxPipelined, "nginx_pipelined"},
    {Case::kHealthPipelined, "health_pipelined"},
    {Case::kChat, "chat"},
    {Case::kCompletion, "completion"},
    {Case::kNginxAlone, "nginx_c1"},
    {Case::kFirstTokenAlone, "ttft_c1"},
    {Case::kFirstToken, "ttft"},
    {Case::kStream, "stream"},
};

bool IsNginx(Case which) {
  return which == Case::kNginx || which == Case::kNginxPipelined || which == Case::kNginxAlone;
}

class FrontendBench final {
 public:
  explicit FrontendBench(const FrontendBenchOptions& options) : options_(options) {}

  Result<FrontendBenchResult> Run() {
    PX_CHECK_OK(CheckOnly());
    PX_TRY(loop_, BenchLoop::Make([this] { Interrupt(); }));
    PX_TRY(mock_, HttpTarget::StartMock(options_.program, options_.model));
    PX_TRY(mock_address_, loop_->WaitFor(*mock_));
    PX_CHECK_OK(StartPeers());
    PX_CHECK_OK(WarmUp());
    for (std::uint32_t round = 0; round < options_.repeats; ++round) {
      PX_CHECK_OK(Round(round));
    }
    constexpr std::pair<std::string_view, std::string_view> kLimits[] = {
        {"health", "nginx"},
        {"health_pipelined", "nginx_pipelined"},
        {"health_cpu", "nginx_cpu"},
    };
    FrontendBenchResult out;
    out.figures = columns_.Figures(kLimits);
    out.nginx_missing = nginx_missing_;
    return out;
  }

 private:
  // Without servers every case ends with an error, and nothing is left behind.
  void Interrupt() {
    for (HttpTarget* target : {mock_.get(), nginx_.get()}) {
      if (target != nullptr) {
        target->Stop();
      }
    }
  }

  Result<void> CheckOnly() const {
    std::string names;
    for (const NamedCase& row : kCases) {
      if (options_.only.empty() || options_.only == row.name) {
        return {};
      }
      names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
    }
    return Fail(Code::kInvalidArgument,
                fmt::format("only: \"{}\" is none of {}", options_.only, names), "only");
  }

  /// nginx and the floor, which answer with the bytes that /health has.
  Result<void> StartPeers() {
    PX_TRY(const FloodResult health, Flood(Case::kHealth, true));
    const std::string& answer = health.last_answer;
    PX_TRY(floor_, FloorServer::Start(answer));
    if (options_.nginx.empty()) {
      nginx_missing_ = "nginx was not asked for";
      return {};
    }
    // A port that was free a moment ago.
    std::uint16_t port = 0;
    {
      PX_TRY(const auto listener, loop_->net().Listen({.host = "127.0.0.1", .port = 0}, {}));
      port = listener->address().port;
    }
    const std::string body = answer.substr(answer.find("\r\n\r\n") + 4);
    Result<std::unique_ptr<HttpTarget>> nginx = HttpTarget::StartNginx(options_.nginx, body, port);
    Result<rt::Address> address =
        nginx ? loop_->WaitFor(**nginx) : Result<rt::Address>(Fail(nginx.error()));
    if (!address) {
      nginx_missing_ = address.error().detail();
      return {};
    }
    nginx_ = std::move(*nginx);
    nginx_address_ = *address;
    return {};
  }

  Result<void> WarmUp() {
    for (const Case which : {Case::kChat, Case::kCompletion, Case::kStream}) {
      PX_TRY(const FloodResult result, Flood(which, false));
      (void)result;
    }
    return {};
  }

  FloodOptions OptionsOf(Case which) const {
    FloodOptions out;
    out.connections = options_.connections;
    const bool pipelined = which == Case::kNginxPipelined || which == Case::kHealthPipelined;
    out.pipeline = pipelined ? kPipeline : 1;
    out.server = mock_address_;
    if (IsNginx(which)) {
      out.server = nginx_address_;
    } else if (which == Case::kFloor) {
      out.server = floor_->address();
    }
    if (which == Case::kNginxAlone || which == Case::kFirstTokenAlone) {
      out.connections = 1;
    }
    switch (which) {
      case Case::kChat:
        out.request = MakeFloodPost(out.server, "/v1/chat/completions", ChatBody());
        break;
      case Case::kCompletion:
        out.request = MakeFloodPost(out.server, "/v1/completions", CompletionBody(1, false));
        break;
      case Case::kFirstTokenAlone:
      case Case::kFirstToken:
        out.request =
            MakeFloodPost(out.server, "/v1/completions", CompletionBody(kTokensOfFirst, true));
        out.stream = true;
        break;
      case Case::kStream:
        out.request = MakeFloodPost(out.server, "/v1/completions",
                                    CompletionBody(options_.output_tokens, true));
        out.stream = true;
        break;
      default:
        out.request = MakeFloodGet(out.server, "/health");
        break;
    }
    return out;
  }

  Result<FloodResult> Flood(Case which, bool once) {
    FloodOptions options = OptionsOf(which);
    options.time = once ? rt::Duration::zero()
                        : std::chrono::duration_cast<rt::Duration>(
                              std::chrono::duration<double>(options_.seconds));
    return loop_->Wait(RunFlood(loop_->loop(), loop_->net(), std::move(options)));
  }

  // Turned around every other time, so that no case always comes behind the same one.
  Result<void> Round(std::uint32_t round) {
    std::vector<NamedCase> cases(std::begin(kCases), std::end(kCases));
    std::erase_if(cases, [&](const NamedCase& row) {
      return (!nginx_ && IsNginx(row.which)) ||
             (!options_.only.empty() && row.name != options_.only);
    });
    if (round % 2 == 1) {
      std::ranges::reverse(cases);
    }
    for (const NamedCase& row : cases) {
      HttpTarget& server = IsNginx(row.which) ? *nginx_ : *mock_;
      const rt::Duration before = server.CpuTime();
      PX_TRY(const FloodResult result, Flood(row.which, false));
      PX_CHECK_OK(Put(row.which, result, server.CpuTime() - before));
    }
    return {};
  }

  Result<void> Put(Case which, const FloodResult& result, rt::Duration cpu) {
    const auto requests = static_cast<double>(result.requests);
    const double per_second = requests / result.elapsed_s;
    const double cpu_us = std::chrono::duration<double, std::micro>(cpu).count();
    const auto rate = [&](std::string_view name) {
      columns_.Put(name, "requests/s", per_second);
      if (which != Case::kFloor) {
        columns_.Put(fmt::format("{}_cpu", name), "us/request", cpu_us / requests);
      }
    };
    const auto first = [&](std::string_view name) {
      columns_.Put(fmt::format("{}_p50", name), "ms", Quantile(result.first_ms, 0.5));
      columns_.Put(fmt::format("{}_p99", name), "ms", Quantile(result.first_ms, 0.99));
    };
    switch (which) {
      case Case::kNginx:
        rate("nginx");
        break;
      case Case::kNginxPipelined:
        rate("nginx_pipelined");
        break;
      case Case::kNginxAlone:
        first("nginx_c1");
        break;
      case Case::kFloor:
        rate("floor");
        break;
      case Case::kHealth:
        rate("health");
        break;
      case Case::kHealthPipelined:
        rate("health_pipelined");
        break;
      case Case::kChat:
        rate("chat_1_token");
        break;
      case Case::kCompletion:
        rate("completion_1_token");
        break;
      case Case::kFirstTokenAlone:
        first("ttft_c1");
        break;
      case Case::kFirstToken:
        first(fmt::format("ttft_c{}", options_.connections));
        break;
      case Case::kStream:
        return PutStream(result, cpu_us);
    }
    return {};
  }

  Result<void> PutStream(const FloodResult& result, double cpu_us) {
    const std::string usage = fmt::format("\"completion_tokens\":{},", options_.output_tokens);
    if (result.last_answer.find(usage) == std::string::npos) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("a stream does not have {} tokens: {}", options_.output_tokens,
                              result.last_answer.substr(0, 500)));
    }
    const double tokens =
        static_cast<double>(result.requests) * static_cast<double>(options_.output_tokens);
    columns_.Put("stream", "tokens/s", tokens / result.elapsed_s);
    columns_.Put("stream_cpu", "us/token", cpu_us / tokens);
    columns_.Put("stream_events", "events/token", static_cast<double>(result.events) / tokens);
    return {};
  }

  FrontendBenchOptions options_;
  std::unique_ptr<BenchLoop> loop_;
  std::unique_ptr<HttpTarget> mock_;
  rt::Address mock_address_;
  std::unique_ptr<FloorServer> floor_;
  std::unique_ptr<HttpTarget> nginx_;  // null: there is none
  rt::Address nginx_address_;
  std::string nginx_missing_;
  Columns columns_;
};

}  // namespace

Result<FrontendBenchResult> BenchFrontend(const FrontendBenchOptions& options) {
  FrontendBench bench(options);
  return bench.Run();
}

}  // namespace pixii::bench
