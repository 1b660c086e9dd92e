#include "obs/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "obs/histogram_bounds.h"
#include "rt/thread.h"

namespace pixii::obs {
namespace {

TEST(Registry, CollectsBeforeEachExposition) {
  Registry registry;
  int asked = 0;
  registry.OnExpose([&] {
    registry.GetCounter(MetricId::kHttpConnectionsTotal)
        .SetTotal(static_cast<std::uint64_t>(++asked));
  });
  EXPECT_NE(registry.Expose().find("pixii_http_connections_total 1\n"), std::string::npos);
  EXPECT_NE(registry.Expose().find("pixii_http_connections_total 2\n"), std::string::npos);
}

TEST(Registry, WritesPrometheusTextWithEscapedLabels) {
  Registry registry("front");
  registry.GetCounter(MetricId::kOutputTokensTotal, {"a\"b\\c\nd"}).Add(3);
  registry.GetGauge(MetricId::kActiveRequests, {"m"}).Set(2);
  std::string text = registry.Expose();
  EXPECT_NE(text.find("# TYPE front_output_tokens_total "
                      "counter\nfront_output_tokens_total{model=\"a\\\"b\\\\c\\nd\"} 3\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("front_active_requests{model=\"m\"} 2\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("requests_total{"), std::string::npos) << "no series without traffic";
}

TEST(Registry, HistogramBucketsAreCumulativeAndBoundsInclusive) {
  Registry registry;
  Histogram& histogram = registry.GetHistogram(MetricId::kInputSequenceTokens, {"m"});
  histogram.Observe(1);
  histogram.Observe(2, 2);
  histogram.Observe(1e9);
  std::string text = registry.Expose();
  auto has = [&](const std::string& line) {
    return text.find("dynamo_frontend_input_sequence_tokens" + line + "\n") != std::string::npos;
  };
  EXPECT_TRUE(has("_bucket{model=\"m\",le=\"1\"} 1")) << text;
  EXPECT_TRUE(has("_bucket{model=\"m\",le=\"4\"} 3"));
  EXPECT_TRUE(has("_bucket{model=\"m\",le=\"1048576\"} 3"));
  EXPECT_TRUE(has("_bucket{model=\"m\",le=\"+Inf\"} 4"));
  EXPECT_TRUE(has("_sum{model=\"m\"} 1000000005"));
  EXPECT_TRUE(has("_count{model=\"m\"} 4"));
}

TEST(Registry, GaugesOfAModelGoWithItsLastHoldAndCountsStay) {
  Registry registry;
  registry.GetCounter(MetricId::kOutputTokensTotal, {"kept"}).Add();
  registry.GetGauge(MetricId::kWorkerActiveDecodeBlocks, {"m", "0", "decode"}).Set(1);
  auto first = std::make_unique<ModelHold>(registry, "m");
  auto second = std::make_unique<ModelHold>(registry, "m");
  registry.GetCounter(MetricId::kOutputTokensTotal, {"m"}).Add(3);
  registry.GetHistogram(MetricId::kInputSequenceTokens, {"m"}).Observe(3);
  registry.GetGauge(MetricId::kRankRunning, {"m", "1"}).Set(3);
  first.reset();
  EXPECT_NE(registry.Expose().find("output_tokens_total{model=\"m\"} 3\n"), std::string::npos);
  second.reset();
  const std::string text = registry.Expose();
  EXPECT_EQ(text.find("rank_running"), std::string::npos) << text;
  EXPECT_NE(text.find("output_tokens_total{model=\"m\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("input_sequence_tokens_count{model=\"m\"} 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("output_tokens_total{model=\"kept\"} 1\n"), std::string::npos) << text;
  EXPECT_NE(text.find("worker_id=\"m\""), std::string::npos) << "another label";
  const ModelHold again(registry, "m");
  registry.GetCounter(MetricId::kOutputTokensTotal, {"m"}).Add();
  EXPECT_NE(registry.Expose().find("output_tokens_total{model=\"m\"} 4\n"), std::string::npos);
}

TEST(Registry, OpenMetricsIsGivenToWhoAsksForIt) {
  EXPECT_EQ(ExpositionFor("text/plain"), Exposition::kText);
  EXPECT_EQ(ExpositionFor(""), Exposition::kText);
  const Exposition open =
      ExpositionFor("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
  EXPECT_EQ(open, Exposition::kOpenMetrics);
  Registry registry;
  registry.GetCounter(MetricId::kOutputTokensTotal, {"m"}).Add(2);
  registry.GetCounter(MetricId::kKvCacheEventsApplied, {"m", "stored", "ok"}).Add(1);
  registry.GetHistogram(MetricId::kInputSequenceTokens, {"m"}).Observe(3);
  const std::string text = registry.Expose(open);
  const auto has = [&](std::string_view line) { return text.find(line) != std::string::npos; };
  EXPECT_TRUE(
      has("# TYPE dynamo_frontend_output_tokens counter\n"
          "dynamo_frontend_output_tokens_total{model=\"m\"} 2\n"))
      << text;
  EXPECT_TRUE(has("# TYPE dynamo_component_kv_cache_events_applied unknown\n")) << "no _total";
  EXPECT_TRUE(has("_bucket{model=\"m\",le=\"4.0\"} 1\n")) << text;
  EXPECT_TRUE(text.ends_with("\n# EOF\n"));
  EXPECT_EQ(registry.Expose().find("# EOF"), std::string::npos);
}

TEST(Registry, AnExemplarStandsBesideItsBucketInOpenMetricsAlone) {
  Registry registry;
  Histogram& histogram = registry.GetHistogram(MetricId::kInputSequenceTokens, {"m"});
  const std::string trace(32, 'a');
  histogram.Observe(3, Exemplar{.trace_id = trace});
  histogram.Observe(3, Exemplar{.trace_id = "no trace id"});
  histogram.Observe(20, Exemplar{});
  const std::string line = "le=\"4.0\"} 2 # {trace_id=\"" + trace + "\"} 3\n";
  const std::string text = registry.Expose(Exposition::kOpenMetrics);
  EXPECT_NE(text.find(line), std::string::npos) << text;
  EXPECT_EQ(text.find(trace), text.rfind(trace)) << "of one bucket";
  EXPECT_EQ(registry.Expose().find(trace), std::string::npos);
  EXPECT_EQ(histogram.count(), 3U);
}

TEST(Registry, ADroppedSeriesIsGoneAndItsPlaceFree) {
  Registry registry;
  for (int i = 0; i < 10'000; ++i) {
    const std::string value = std::to_string(i);
    registry.GetCounter(MetricId::kOutputTokensTotal, {value}).Add();
    registry.Drop(MetricId::kOutputTokensTotal, {value});
  }
  registry.Drop(MetricId::kOutputTokensTotal, {"never there"});
  EXPECT_EQ(registry.Expose().find("output_tokens_total"), std::string::npos);
}

TEST(Registry, ManyLabelValuesCannotGrowIt) {
  Registry registry;
  for (int i = 0; i < 10'000; ++i) {
    registry.GetCounter(MetricId::kOutputTokensTotal, {"m" + std::to_string(i)}).Add();
  }
  std::string text = registry.Expose();
  EXPECT_LE(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')),
            Registry::kSeriesMax + 3);
  EXPECT_NE(text.find("{model=\"other\"} " + std::to_string(10'000 - Registry::kSeriesMax)),
            std::string::npos);
}

TEST(Registry, CountsOfManyThreadsAddUpWhileItIsRead) {
  Registry registry;
  {
    std::vector<rt::Thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back("counts", [&registry] {
        for (int i = 0; i < 1000; ++i) {
          registry.GetCounter(MetricId::kOutputTokensTotal, {"m"}).Add(2);
          registry.GetGauge(MetricId::kActiveRequests, {"m"}).Add(i % 2 == 0 ? 1 : -1);
          registry.GetHistogram(MetricId::kKvHitRate, {"m"}).Observe(0.25);
        }
      });
    }
    for (int i = 0; i < 20; ++i) {
      (void)registry.Expose();
    }
  }
  EXPECT_EQ(registry.GetCounter(MetricId::kOutputTokensTotal, {"m"}).value(), 8000U);
  EXPECT_EQ(registry.GetGauge(MetricId::kActiveRequests, {"m"}).value(), 0);
  EXPECT_EQ(registry.GetHistogram(MetricId::kKvHitRate, {"m"}).count(), 4000U);
  EXPECT_DOUBLE_EQ(registry.GetHistogram(MetricId::kKvHitRate, {"m"}).sum(), 1000);
}

TEST(RegistryDeathTest, AWrongNumberOfLabelsIsABug) {
  Registry registry;
  EXPECT_DEATH(registry.GetCounter(MetricId::kRequestsTotal, {"m"}), "labels");
}

TEST(Metrics, NamesAreUnique) {
  std::set<std::string> names;
  std::string page = MetricsReference();
  for (std::size_t at = page.find("| `"); at != std::string::npos; at = page.find("| `", at + 1)) {
    std::string name = page.substr(at + 3, page.find('`', at + 3) - at - 3);
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_GT(names.size(), 30U);
}

TEST(HistogramBounds, VariablesReplaceThoseOfTheTable) {
  const std::map<std::string, std::string> set = {{"DYN_HISTOGRAM_TTFT_MIN", "0.01"},
                                                  {"DYN_HISTOGRAM_TTFT_MAX", "10"},
                                                  {"DYN_HISTOGRAM_TTFT_COUNT", "4"},
                                                  {"DYN_HISTOGRAM_CACHED_COUNT", "3"}};
  const auto lookup = [&](const std::string& name) {
    const auto found = set.find(name);
    return found != set.end() ? std::optional(found->second) : std::nullopt;
  };
  ASSERT_TRUE(SetHistogramBounds(lookup));
  Registry registry;
  registry.GetHistogram(MetricId::kTimeToFirstTokenSeconds, {"m"}).Observe(0.5);
  registry.GetHistogram(MetricId::kCachedTokens, {"m"}).Observe(1);
  const std::string text = registry.Expose();
  for (const char* line :
       {"first_token_seconds_bucket{model=\"m\",le=\"0.01\"} 0\n", "le=\"0.1\"} 0\n",
        "le=\"1\"} 1\n", "le=\"10\"} 1\n", "cached_tokens_bucket{model=\"m\",le=\"1000\"} 1\n"}) {
    EXPECT_NE(text.find(line), text.npos) << line << text;
  }
  EXPECT_EQ(text.find("first_token_seconds_bucket{model=\"m\",le=\"0.05\"}"), text.npos);
  ASSERT_TRUE(SetHistogramBounds([](const std::string&) { return std::optional<std::string>(); }));
}

TEST(HistogramBounds, WrongOnesAreNamed) {
  for (const auto& [name, value] : {std::pair{"DYN_HISTOGRAM_ITL_MIN", "no"},
                                    {"DYN_HISTOGRAM_ITL_MIN", "0"},
                                    {"DYN_HISTOGRAM_ITL_MIN", "100"},
                                    {"DYN_HISTOGRAM_REQUEST_DURATION_COUNT", "25"},
                                    {"DYN_HISTOGRAM_REQUEST_DURATION_COUNT", "1"}}) {
    const Result<void> set = SetHistogramBounds(
        [&, key = std::string(name), text = std::string(value)](const std::string& one) {
          return one == key ? std::optional(text) : std::nullopt;
        });
    ASSERT_FALSE(set) << name << value;
    EXPECT_EQ(set.error().param(), name);
  }
  ASSERT_TRUE(SetHistogramBounds([](const std::string&) { return std::optional<std::string>(); }));
}

}  // namespace
}  // namespace pixii::obs
