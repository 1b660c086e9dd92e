// Every key of Dynamo's planner is taken with its default; what makes no sense is refused by name.
#include "control/planner_config.h"

#include <gtest/gtest.h>

#include <string>

namespace pixii::control {
namespace {

std::string Refused(const std::string& text) {
  const Result<PlannerConfig> read = ReadPlannerConfig(text, "p.yaml");
  EXPECT_FALSE(read) << text;
  return read ? "" : read.error().detail();
}

TEST(PlannerConfig, DefaultsAreDynamos) {
  const Result<PlannerConfig> read = ReadPlannerConfig("mode: disagg\n", "p.yaml");
  ASSERT_TRUE(read) << read.error().detail();
  EXPECT_EQ(read->backend, "vllm");
  EXPECT_EQ(read->environment, "kubernetes");
  EXPECT_EQ(read->optimization_target, "throughput");
  EXPECT_TRUE(read->enable_throughput_scaling);
  EXPECT_FALSE(read->enable_load_scaling);
  EXPECT_EQ(read->ttft_ms, 500);
  EXPECT_EQ(read->itl_ms, 50);
  EXPECT_EQ(read->max_gpu_budget, 8);
  EXPECT_EQ(read->min_gpu_budget, -1);
  EXPECT_EQ(read->min_endpoint, 1);
  EXPECT_EQ(read->throughput_adjustment_interval_seconds, 180);
  EXPECT_EQ(read->load_adjustment_interval_seconds, 5);
  EXPECT_EQ(read->max_num_fpm_samples, 64);
  EXPECT_EQ(read->fpm_sample_bucket_size, 16);
  EXPECT_EQ(read->load_scaling_down_sensitivity, 80);
  EXPECT_EQ(read->load_min_observations, 5);
  EXPECT_EQ(read->load_predictor, "arima");
  EXPECT_EQ(read->prophet_window_size, 50);
  EXPECT_EQ(read->kalman_q_level, 1.0);
  EXPECT_EQ(read->kalman_q_trend, 0.1);
  EXPECT_EQ(read->kalman_r, 10.0);
  EXPECT_EQ(read->kalman_min_points, 5);
}

TEST(PlannerConfig, JsonIsReadToo) {
  const Result<PlannerConfig> read = ReadPlannerConfig(
      R"({"mode": "agg", "optimization_target": "sla", "ttft_ms": 250, "load_predictor_log1p": true})",
      "p.json");
  ASSERT_TRUE(read) << read.error().detail();
  EXPECT_EQ(read->mode, "agg");
  EXPECT_EQ(read->ttft_ms, 250);
  EXPECT_TRUE(read->load_predictor_log1p);
}

TEST(PlannerConfig, EachWrongValueIsNamedWithItsLine) {
  EXPECT_NE(Refused("mode: agg\nttft: 5\n").find("p.yaml:2"), std::string::npos);
  EXPECT_NE(Refused("ttft_ms: fast\n").find("ttft_ms"), std::string::npos);
  EXPECT_NE(Refused("mode: both\n").find("mode"), std::string::npos);
  EXPECT_NE(Refused("environment: global-planner\n").find("global-planner"), std::string::npos);
  EXPECT_NE(Refused("min_gpu_budget: 9\n").find("max_gpu_budget"), std::string::npos);
  EXPECT_NE(Refused("min_endpoint: 5\n").find("min_endpoint"), std::string::npos);
  EXPECT_NE(Refused("decode_scale_down_kv_rate: 0.95\n").find("decode_scale_down_kv_rate"),
            std::string::npos);
}

}  // namespace
}  // namespace pixii::control
