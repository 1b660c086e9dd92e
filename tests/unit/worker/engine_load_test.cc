#include "worker/engine_load.h"

#include <gtest/gtest.h>

namespace pixii::worker {
namespace {

TEST(EngineLoad, OfVllmIsTheSumOfItsEngines) {
  const auto load = ReadEngineLoad(EngineKind::kVllm, R"(# HELP vllm:num_requests_running x
vllm:num_requests_running{engine="0",model_name="a}b"} 3.0
vllm:num_requests_running{engine="1",model_name="a"} 4.0
vllm:num_requests_waiting{engine="0"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.25
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="1234"} 1.0
broken{ 5
vllm:num_requests_waiting NaN
)");
  ASSERT_TRUE(load);
  EXPECT_EQ(load->running, 7U);
  EXPECT_EQ(load->queued, 2U);
  EXPECT_EQ(load->cache_used, 0.375);
  EXPECT_EQ(load->block_tokens, 16U);
  EXPECT_EQ(load->block_count, 1234U);
}

TEST(EngineLoad, OfSglang) {
  const auto load = ReadEngineLoad(EngineKind::kSglang,
                                   "sglang:num_running_reqs{m=\"x\"} 5\n"
                                   "sglang:num_queue_reqs 1\nsglang:token_usage 0.1");
  ASSERT_TRUE(load);
  EXPECT_EQ(load->running, 5U);
  EXPECT_EQ(load->queued, 1U);
  EXPECT_EQ(load->cache_used, 0.1);
  EXPECT_FALSE(load->block_tokens);
}

TEST(EngineLoad, OfTrtllmIsThatOfItsLastStep) {
  const auto load =
      ReadEngineLoad(EngineKind::kTrtllm,
                     R"([{"numActiveRequests":9},{"numActiveRequests":2,"numQueuedRequests":1,
          "kvCacheStats":{"maxNumBlocks":100,"usedNumBlocks":25,"tokensPerBlock":32}}])");
  ASSERT_TRUE(load);
  EXPECT_EQ(load->running, 2U);
  EXPECT_EQ(load->queued, 1U);
  EXPECT_EQ(load->cache_used, 0.25);
  EXPECT_EQ(load->block_tokens, 32U);
  EXPECT_FALSE(ReadEngineLoad(EngineKind::kTrtllm, "[]")->running);
  EXPECT_FALSE(ReadEngineLoad(EngineKind::kTrtllm, "{}"));
}

TEST(EngineLoad, OthersSayNothing) {
  EXPECT_FALSE(ReadEngineLoad(EngineKind::kOpenAi, R"({"data":[]})")->running);
}

}  // namespace
}  // namespace pixii::worker
