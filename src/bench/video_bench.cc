#include "bench/video_bench.h"

#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <string_view>
#include <utility>

#include "bench/bench_loop.h"
#include "bench/columns.h"
#include "bench/http_load.h"
#include "bench/http_target.h"
#include "rt/http_client.h"
#include "wire/json.h"

namespace pixii::bench {

namespace {

constexpr std::uint32_t kJobsOfPlace = 32;

/// Of video `index`: they differ, so that some are at their steps while others are at their
/// pictures.
std::uint32_t StepsOf(std::uint32_t index) { return 5 + index * 7 % 32; }

constexpr std::uint32_t kInputTokens = 32;
constexpr std::uint32_t kRequestTimeoutMs = 60'000;

rt::Duration Seconds(double seconds) {
  return std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
}

class VideoBench final {
 public:
  explicit VideoBench(const VideoBenchOptions& options)
      : options_(options), client_(rt::MakeCurlClient({.timeout_ms = kRequestTimeoutMs})) {}

  Result<std::vector<Figure>> Run() {
    PX_TRY(loop_, BenchLoop::Make([this] {
             if (server_) {
               server_->Stop();
             }
           }));
    PX_TRY(server_, HttpTarget::StartPixii(
                        {options_.program, "serve", options_.model, "--port", "0", "--video-model",
                         options_.video_model, "--video-share", fmt::format("{}", options_.share),
                         "--media-concurrency", fmt::format("{}", options_.videos), "--media-queue",
                         fmt::format("{}", options_.videos * kJobsOfPlace)}));
    PX_TRY(address_, loop_->WaitFor(*server_));
    Columns warm_up;
    PX_CHECK_OK(Round(0, warm_up));
    Columns columns;
    for (std::uint32_t round = 0; round < options_.repeats; ++round) {
      PX_CHECK_OK(Round(round, columns));
    }
    constexpr std::pair<std::string_view, std::string_view> kLimits[] = {
        {"itl_p50_beside", "itl_p50"},
        {"itl_p99_beside", "itl_p99"},
        {"tokens_beside", "tokens"},
        {"steps_beside", "steps"},
    };
    return columns.Figures(kLimits);
  }

 private:
  // Turned around every other time: a machine that others use changes while this goes on.
  Result<void> Round(std::uint32_t round, Columns& columns) {
    if (round % 2 == 0) {
      PX_CHECK_OK(Chats("", columns));
    }
    PX_TRY(const std::vector<std::string> videos, BeginVideos());
    PX_CHECK_OK(VideosAlone(columns));
    PX_CHECK_OK(Chats("_beside", columns));
    PX_TRY(const double running, Metric("\npixii_media_jobs{", "in_progress"));
    if (running < options_.videos) {
      return Fail(
          Code::kUnavailable,
          fmt::format("{} of {} videos were left at the end of a part of {} s; give shorter "
                      "--seconds",
                      running, options_.videos, options_.seconds));
    }
    for (const std::string& id : videos) {
      PX_CHECK_OK(Ask("DELETE", fmt::format("/v1/videos/{}", id), ""));
    }
    if (round % 2 == 1) {
      PX_CHECK_OK(Chats("", columns));
    }
    return {};
  }

  Result<void> Chats(std::string_view suffix, Columns& columns) {
    LoadOptions load;
    load.server = address_;
    load.request_count = UINT32_MAX;
    load.time = Seconds(options_.seconds);
    load.concurrency = options_.streams;
    load.input_tokens = kInputTokens;
    load.output_tokens = options_.output_tokens;
    load.seed = ++seed_;
    PX_TRY(const double steps_before, Steps());
    PX_TRY(const LoadResult result, loop_->Wait(RunLoad(loop_->loop(), loop_->net(), load)));
    PX_TRY(const double steps, Steps());
    std::vector<double> gaps;
    double tokens = 0;
    for (const RequestSample& sample : result.samples) {
      if (!sample.error.empty()) {
        return Fail(Code::kUnavailable, fmt::format("a stream failed: {}", sample.error));
      }
      gaps.insert(gaps.end(), sample.gaps_ms.begin(), sample.gaps_ms.end());
      tokens += sample.output_tokens;
    }
    columns.Put(fmt::format("itl_p50{}", suffix), "ms", Quantile(gaps, 0.5));
    columns.Put(fmt::format("itl_p99{}", suffix), "ms", Quantile(gaps, 0.99));
    columns.Put(fmt::format("tokens{}", suffix), "tokens/s", tokens / result.elapsed_s);
    if (!suffix.empty()) {
      columns.Put(fmt::format("steps{}", suffix), "steps/s",
                  (steps - steps_before) / result.elapsed_s);
    }
    return {};
  }

  Result<void> VideosAlone(Columns& columns) {
    PX_TRY(const double before, Steps());
    const rt::Time began = loop_->loop().Now();
    PX_CHECK_OK(loop_->Wait(Rest()));
    PX_TRY(const double steps, Steps());
    const double seconds = std::chrono::duration<double>(loop_->loop().Now() - began).count();
    columns.Put("steps", "steps/s", (steps - before) / seconds);
    return {};
  }

  rt::Task<Result<bool>> Rest() {
    auto rest = loop_->loop().SleepFor(Seconds(options_.seconds));
    co_await std::move(rest);
    co_return true;
  }

  Result<std::vector<std::string>> BeginVideos() {
    std::vector<std::string> out;
    for (std::uint32_t i = 0; i < options_.videos * kJobsOfPlace; ++i) {
      PX_TRY(const std::string answer,
             Ask("POST", "/v1/videos",
                 fmt::format(R"({{"prompt":"a red circle moves left","seed":{},)"
                             R"("num_inference_steps":{}}})",
                             i, StepsOf(i))));
      PX_TRY(const wire::Json job, wire::ParseJson(answer));
      const wire::Json* id = job.Find("id");
      if (id == nullptr || !id->is_string()) {
        return Fail(Code::kUnavailable, fmt::format("no job: {}", answer));
      }
      out.push_back(id->string());
    }
    return out;
  }

  /// Of videos, so far.
  Result<double> Steps() { return Metric("\npixii_media_steps_total{", "} "); }

  /// The first of `name` whose labels have `label`; 0 if there is none.
  Result<double> Metric(std::string_view name, std::string_view label) {
    PX_TRY(const std::string metrics, Ask("GET", "/metrics", ""));
    std::size_t at = metrics.find(name);
    while (at != metrics.npos && metrics.find(label, at) > metrics.find('\n', at + 1)) {
      at = metrics.find(name, at + 1);
    }
    const std::size_t space = at == metrics.npos ? at : metrics.find("} ", at);
    double out = 0;
    if (space != metrics.npos) {
      std::from_chars(metrics.data() + space + 2, metrics.data() + metrics.size(), out);
    }
    return out;
  }

  Result<std::string> Ask(const std::string& method, const std::string& path,
                          const std::string& body) {
    rt::HttpFetchRequest request;
    request.url = fmt::format("http://{}{}", address_.ToString(), path);
    request.method = method;
    request.body = body;
    if (!body.empty()) {
      request.headers.emplace_back("content-type", "application/json");
    }
    PX_TRY(const rt::HttpFetchResponse response, client_->Fetch(request));
    if (response.status != 200) {
      return Fail(Code::kUnavailable, fmt::format("{} {}: status {}: {}", method, path,
                                                  response.status, response.body.substr(0, 300)));
    }
    return response.body;
  }

  const VideoBenchOptions options_;
  std::unique_ptr<rt::HttpClient> client_;
  std::unique_ptr<BenchLoop> loop_;
  std::unique_ptr<HttpTarget> server_;
  rt::Address address_;
  std::uint64_t seed_ = 0;
};

}  // namespace

Result<std::vector<Figure>> BenchVideos(const VideoBenchOptions& options) {
  return VideoBench(options).Run();
}

}  // namespace pixii::bench
