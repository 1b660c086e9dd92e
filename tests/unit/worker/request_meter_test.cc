#include "worker/request_meter.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>

#include "obs/metrics.h"

namespace pixii::worker {
namespace {

using wire::FinishReason;

class RequestMeterTest : public testing::Test {
 protected:
  static constexpr rt::Duration kQueued = std::chrono::milliseconds(30);

  static rt::Time At(int milliseconds) {
    return rt::Time(std::chrono::milliseconds(1000 + milliseconds));
  }

  void Request(std::uint64_t id, std::uint32_t choices = 1) {
    wire::GenerateRequest request;
    request.id = RequestId{id};
    request.prompt = {1, 2, 3, 4, 5};
    request.choice_count = choices;
    meter_.OnRequest(request, At(0));
  }

  void Frame(std::uint64_t id, int at, std::size_t tokens, std::optional<FinishReason> finish,
             std::uint32_t choice = 0) {
    wire::TokenFrame frame;
    frame.id = RequestId{id};
    frame.choice = choice;
    frame.tokens.assign(tokens, 7);
    frame.finish = finish;
    frame.cached_tokens = 2;
    if (finish == FinishReason::kError) {
      frame.error = Error(Code::kResourceExhausted, "full");
    }
    if (finish) {
      frame.legs.emplace_back().times.scheduled_ns = kQueued.count();
    }
    meter_.OnFrame(frame, At(at));
  }

  void Expect(const std::string& line) {
    const std::string text = registry_.Expose();
    EXPECT_NE(text.find(line + "\n"), std::string::npos) << line << "\n" << text;
  }

  obs::Registry registry_;
  RequestMeter meter_{
      registry_,
      {.ns = "n", .component = "c", .endpoint = "e", .worker = "w", .model = "m", .mode = "agg"}};
};

constexpr const char* kModel = "{model_name=\"m\",engine_type=\"trtllm\"}";

TEST_F(RequestMeterTest, TheCountsOfARequestsTimesAgree) {
  Request(1, 2);
  Frame(1, 100, 1, std::nullopt);
  Frame(1, 300, 2, FinishReason::kStop);
  Expect("trtllm_num_requests_completed_total" + std::string(kModel) + " 0");
  Frame(1, 400, 1, FinishReason::kLength, 1);
  for (const char* name :
       {"e2e_request_latency_seconds", "time_to_first_token_seconds", "request_queue_time_seconds",
        "request_prefill_time_seconds", "request_decode_time_seconds",
        "request_inference_time_seconds", "prompt_cached_tokens_per_request"}) {
    Expect("trtllm_" + std::string(name) + "_count" + kModel + " 1");
  }
  Expect("trtllm_e2e_request_latency_seconds_sum" + std::string(kModel) + " 0.4");
  Expect("trtllm_time_to_first_token_seconds_sum" + std::string(kModel) + " 0.1");
  Expect("trtllm_request_queue_time_seconds_sum" + std::string(kModel) + " 0.03");
  Expect("trtllm_request_prefill_time_seconds_sum" + std::string(kModel) + " 0.07");
  Expect("trtllm_request_inference_time_seconds_sum" + std::string(kModel) + " 0.37");
  Expect("trtllm_generation_tokens_total" + std::string(kModel) + " 4");
  Expect("trtllm_prompt_tokens_total" + std::string(kModel) + " 5");
  Expect("trtllm_prompt_cached_tokens_total" + std::string(kModel) + " 2");
  Expect(R"(trtllm_request_success_total{model_name="m",engine_type="trtllm",)"
         R"(finished_reason="length"} 1)");
  EXPECT_EQ(meter_.running_count(), 0U);
}

TEST_F(RequestMeterTest, WhatWasCancelledOrFailedIsNoSuccess) {
  Request(1);
  Frame(1, 5, 1, std::nullopt);
  Frame(1, 9, 0, FinishReason::kCancelled);
  Request(2);
  Frame(2, 9, 0, FinishReason::kError);
  Request(3);
  meter_.Forget(RequestId{3});
  Frame(3, 9, 1, FinishReason::kStop);
  meter_.OnRefused(Error(Code::kInvalidArgument, "bad"));
  Expect("trtllm_num_requests_completed_total" + std::string(kModel) + " 2");
  Expect(R"(trtllm_num_aborted_requests_total{model_name="m",disaggregation_mode="agg",)"
         R"(engine_type="trtllm"} 1)");
  Expect(R"(trtllm_request_error_total{model_name="m",engine_type="trtllm",http_code="529"} 1)");
  Expect(R"(trtllm_request_error_total{model_name="m",engine_type="trtllm",http_code="400"} 1)");
  Expect("trtllm_e2e_request_latency_seconds_count" + std::string(kModel) + " 0");
  Expect("trtllm_generation_tokens_total" + std::string(kModel) + " 1");
}

TEST_F(RequestMeterTest, SeriesStandAtZeroFromTheStart) {
  Expect(R"(dynamo_component_request_bytes_total{dynamo_namespace="n",dynamo_component="c",)"
         R"(dynamo_endpoint="e",worker_id="w",model="m"} 0)");
  Expect(R"(trtllm_request_success_total{model_name="m",engine_type="trtllm",)"
         R"(finished_reason="stop"} 0)");
}

}  // namespace
}  // namespace pixii::worker
