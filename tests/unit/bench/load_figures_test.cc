#include "bench/load_figures.h"

#include <gtest/gtest.h>

#include "rt/random.h"

namespace pixii::bench {
namespace {

RequestSample Sample(double first_ms, double total_ms, std::uint32_t tokens) {
  RequestSample sample;
  sample.first_token_ms = first_ms;
  sample.total_ms = total_ms;
  sample.output_tokens = tokens;
  sample.input_tokens = 10;
  return sample;
}

TEST(LoadFiguresTest, GoalsAreReadAndWrongOnesAreNamed) {
  const Result<LoadGoals> goals = ParseGoals("ttft:500,itl:12.5");
  ASSERT_TRUE(goals);
  EXPECT_EQ(goals->ttft_ms, 500);
  EXPECT_EQ(goals->itl_ms, 12.5);
  EXPECT_TRUE(std::isinf(goals->e2e_ms));
  EXPECT_TRUE(std::isinf(ParseGoals("")->ttft_ms));
  for (const char* wrong : {"ttft", "ttft:", "ttft:0", "ttft:1x", "tpot:5", "itl:1,itl:2", "e2e:-1",
                            "e2e:nan", "ttft:1;itl:2"}) {
    const Result<LoadGoals> got = ParseGoals(wrong);
    ASSERT_FALSE(got) << wrong;
    EXPECT_EQ(got.error().param(), "slo");
  }
}

TEST(LoadFiguresTest, ARequestIsGoodAtItsLimitsAndNotBehindThem) {
  const LoadGoals goals = {.ttft_ms = 100, .itl_ms = 10, .e2e_ms = 200};
  EXPECT_TRUE(IsGood(Sample(100, 200, 11), goals));
  EXPECT_FALSE(IsGood(Sample(100.1, 200, 11), goals));
  EXPECT_FALSE(IsGood(Sample(100, 200, 10), goals));  // 100 ms for nine gaps
  EXPECT_FALSE(IsGood(Sample(100, 200.1, 12), goals));
  EXPECT_TRUE(IsGood(Sample(90, 90, 1), goals));
  RequestSample failed = Sample(1, 1, 1);
  failed.error = "it broke";
  EXPECT_FALSE(IsGood(failed, {}));
}

double Value(const wire::Json& json, std::string_view metric, std::string_view key) {
  const wire::Json* found = json.Find(metric);
  return found == nullptr || found->Find(key) == nullptr ? -1 : *found->Find(key)->AsDouble();
}

TEST(LoadFiguresTest, TheExportHasAiperfsNamesAndUnits) {
  LoadResult load;
  load.elapsed_s = 2;
  load.samples = {Sample(10, 110, 11), Sample(30, 30, 1), Sample(20, 60, 5)};
  load.samples.emplace_back().error = "status 503";
  const wire::Json json = AiperfExport(load, {.ttft_ms = 25});
  EXPECT_EQ(Value(json, "time_to_first_token", "p50"), 20);
  EXPECT_EQ(Value(json, "time_to_first_token", "count"), 3);
  EXPECT_EQ(Value(json, "inter_token_latency", "avg"), 10);
  EXPECT_EQ(Value(json, "inter_token_latency", "count"), 2);
  EXPECT_EQ(Value(json, "request_latency", "max"), 110);
  EXPECT_EQ(Value(json, "output_token_throughput", "avg"), 17.0 / 2);
  EXPECT_EQ(Value(json, "request_throughput", "avg"), 1.5);
  EXPECT_EQ(Value(json, "good_request_count", "avg"), 2);
  EXPECT_EQ(Value(json, "goodput", "avg"), 1);
  EXPECT_EQ(Value(json, "error_request_count", "avg"), 1);
  EXPECT_EQ(json.Find("time_to_first_token")->Find("unit")->string(), "ms");
}

wire::Json RunOf(double scale, std::uint64_t seed) {
  rt::Random random(seed);
  LoadResult load;
  load.elapsed_s = 1;
  for (int i = 0; i < 400; ++i) {
    const double first = scale * (50 + random.Exponential(10));
    load.samples.push_back(Sample(first, first + scale * (100 + random.Exponential(10)), 11));
  }
  return AiperfExport(load, {});
}

TEST(LoadFiguresTest, LoadsAreToldApartWhereTheyDiffer) {
  const auto verdicts = [](const wire::Json& first, const wire::Json& second) {
    std::vector<std::string> out;
    for (const LoadComparison& row : CompareLoads(first, second).value()) {
      out.emplace_back(row.verdict());
    }
    return out;
  };
  EXPECT_EQ(verdicts(RunOf(1, 1), RunOf(1, 1)), std::vector<std::string>(12, "not told apart"));
  EXPECT_EQ(verdicts(RunOf(1, 1), RunOf(2, 2)), std::vector<std::string>(12, "worse"));
  EXPECT_EQ(verdicts(RunOf(1, 1), RunOf(0.5, 2)), std::vector<std::string>(12, "better"));
  const Result<std::vector<LoadComparison>> none =
      CompareLoads(RunOf(1, 1), wire::Json(wire::Json::Object{}));
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().detail().find("second"), std::string::npos);
}

}  // namespace
}  // namespace pixii::bench
