#include "frontend/fleet/context_limits.h"

#include <gtest/gtest.h>

#include <vector>

namespace pixii::frontend {
namespace {

using control::InstanceId;
using Ids = std::vector<InstanceId>;

TEST(ContextLimitsTest, WhoIsTooSmallIsNoCandidate) {
  ContextLimits limits;
  EXPECT_TRUE(limits.TooSmallFor(1'000'000).empty()) << "nobody is there";
  limits.SetWorker(InstanceId{1}, 4096);
  limits.SetWorker(InstanceId{2}, 512);
  limits.SetWorker(InstanceId{3}, 64);
  EXPECT_EQ(limits.largest(), 4096U);
  EXPECT_EQ(limits.TooSmallFor(64), Ids{});
  EXPECT_EQ(limits.TooSmallFor(65), Ids{InstanceId{3}});
  EXPECT_EQ(limits.TooSmallFor(513), (Ids{InstanceId{2}, InstanceId{3}}));
  limits.SetWorker(InstanceId{2}, 64);  // it says so anew
  EXPECT_EQ(limits.TooSmallFor(65), (Ids{InstanceId{2}, InstanceId{3}}));
  limits.RemoveWorker(InstanceId{1});
  EXPECT_EQ(limits.largest(), 64U);
}

TEST(ContextLimitsTest, WhatNobodyCanHoldIsRefusedWithTheLargestLimit) {
  ContextLimits limits;
  EXPECT_FALSE(limits.Refusal(10, std::nullopt)) << "that nobody is there is another error";
  limits.SetWorker(InstanceId{1}, 512);
  limits.SetWorker(InstanceId{2}, 64);
  EXPECT_FALSE(limits.Refusal(512, std::nullopt));
  const std::optional<Error> refusal = limits.Refusal(513, std::nullopt);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->code(), Code::kTooLarge);
  EXPECT_EQ(refusal->param(), "max_tokens");
  EXPECT_NE(refusal->detail().find("512"), std::string::npos) << refusal->detail();
  EXPECT_TRUE(limits.Refusal(65, InstanceId{2})) << "it must go there";
  EXPECT_FALSE(limits.Refusal(65, InstanceId{1}));
}

TEST(ContextLimitsTest, AWorkerThatNamesNoLimitHasNone) {
  ContextLimits limits;
  limits.SetWorker(InstanceId{1}, 0);
  limits.SetWorker(InstanceId{2}, 64);
  EXPECT_EQ(limits.TooSmallFor(65), Ids{InstanceId{2}});
  EXPECT_EQ(limits.largest(), 0U);
  EXPECT_FALSE(limits.Refusal(65, std::nullopt));
}

TEST(ContextLimitsTest, ARequestNeedsRoomForItsPromptAndAllThatItMayGenerate) {
  wire::GenerateRequest request;
  request.prompt = {1, 2, 3};
  request.stop.max_tokens = 10;
  EXPECT_EQ(ContextTokensOf(request), 13U);
}

}  // namespace
}  // namespace pixii::frontend
