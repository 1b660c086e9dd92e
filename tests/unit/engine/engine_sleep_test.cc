// Sleep and wake: memory goes and comes, answers stay, and nothing that was cached is believed.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/engine_loop.h"
#include "rt/sim_world.h"
#include "unit/engine/engine_harness.h"

namespace pixii::engine::testing {
namespace {

constexpr MemoryParts kBoth{.kv_cache = true, .weights = true};

TEST(EngineSleep, AnswersAreTheSameAndTheCacheIsForgotten) {
  for (const MemoryParts parts :
       {kBoth, MemoryParts{.kv_cache = true}, MemoryParts{.weights = true}}) {
    Harness harness;
    wire::GenerateRequest request = MakeRequest(1, 40, 10);
    ASSERT_TRUE(harness.Submit(request));
    harness.RunDry();
    harness.ExpectOracle(request);
    ASSERT_TRUE(harness.engine().Release(parts));
    EXPECT_TRUE(harness.engine().asleep());
    EXPECT_EQ(harness.mock().released().weights, parts.weights);
    harness.engine().CheckInvariants();
    request.id = RequestId{2};
    EXPECT_EQ(harness.Submit(request).error().code(), Code::kUnavailable);
    ASSERT_TRUE(harness.engine().Restore(parts));
    EXPECT_FALSE(harness.engine().asleep());
    ASSERT_TRUE(harness.Submit(request));
    harness.RunDry();
    harness.ExpectOracle(request);
    EXPECT_EQ(harness.streams().at(2).cached_tokens > 0, !parts.kv_cache);
  }
}

TEST(EngineSleep, PartsComeBackOneByOne) {
  Harness harness;
  Engine& engine = harness.engine();
  ASSERT_TRUE(engine.Restore(kBoth)) << "it is awake already";
  ASSERT_TRUE(engine.Release({.kv_cache = true}));
  ASSERT_TRUE(engine.Release(kBoth)) << "the rest";
  ASSERT_TRUE(engine.Restore({.weights = true}));
  EXPECT_TRUE(engine.asleep());
  EXPECT_FALSE(harness.Submit(MakeRequest(1, 5, 5)));
  ASSERT_TRUE(engine.Restore(kBoth));
  EXPECT_TRUE(harness.Submit(MakeRequest(1, 5, 5)));
  harness.RunDry();
}

TEST(EngineSleep, FailuresLeaveAStateThatCanBeAskedAgain) {
  Harness harness;
  Engine& engine = harness.engine();
  harness.mock().faults().refuse_release = true;
  EXPECT_EQ(engine.Release(kBoth).error().code(), Code::kUnsupported);
  EXPECT_FALSE(engine.asleep());
  harness.mock().faults().refuse_release = false;
  ASSERT_TRUE(engine.Release(kBoth));
  harness.mock().faults().refuse_restore = true;
  EXPECT_EQ(engine.Restore(kBoth).error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(engine.asleep());
  harness.mock().faults().refuse_restore = false;
  ASSERT_TRUE(engine.Restore(kBoth));
  wire::GenerateRequest request = MakeRequest(1, 5, 5);
  ASSERT_TRUE(harness.Submit(request));
  EXPECT_EQ(engine.Release(kBoth).error().code(), Code::kUnavailable) << "a request is here";
  harness.RunDry();
  harness.ExpectOracle(request);
}

TEST(EngineSleep, AdaptersAreInTheirSlotsAgain) {
  HarnessOptions options;
  options.limits.adapter_slots = 2;
  options.engine.adapters = {.slot_count = 2, .adapters_max = 4};
  Harness harness(options);
  Engine& engine = harness.engine();
  ASSERT_TRUE(engine.LoadAdapter("a", std::make_shared<MockAdapter>("a"), false));
  wire::GenerateRequest request = MakeRequest(1, 12, 6);
  request.adapter = "a";
  ASSERT_TRUE(harness.Submit(request));
  harness.RunDry();
  harness.ExpectOracle(request);
  ASSERT_TRUE(engine.Release(kBoth));
  // Loads and unloads meanwhile wait for the weights.
  ASSERT_TRUE(engine.LoadAdapter("b", std::make_shared<MockAdapter>("b"), false));
  ASSERT_TRUE(engine.Restore(kBoth));
  for (std::uint64_t id : {2U, 3U}) {
    wire::GenerateRequest again = MakeRequest(id, 12, 6);
    again.adapter = id == 2 ? "a" : "b";
    ASSERT_TRUE(harness.Submit(again));
    harness.RunDry();
    harness.ExpectOracle(again);
  }
}

// -- the shell, under virtual time ---------------------------------------------------------------

constexpr std::int64_t kStepNs = 10'000'000;

class EngineLoopSleep : public ::testing::Test {
 protected:
  void SetUp() override {
    HarnessOptions options;
    auto executor = std::make_unique<MockExecutor>(
        MockOptions{.limits = options.limits, .timing = {.step_ns = kStepNs}, .faults = {}});
    auto engine = Engine::Create(options.engine, std::move(executor));
    ASSERT_TRUE(engine);
    loop_ = std::make_unique<EngineLoop>(node_.loop(), std::move(*engine));
    destination_ = loop_->AddDestination([this](StepOutput output) {
      states_.push_back(output.load.state);
      collector_.Take(output.frames);
    });
  }

  void RunFor(int steps) {
    rt::Time end = world_.now() + rt::Duration(std::int64_t{steps} * kStepNs);
    (void)world_.RunUntil([] { return false; }, end);
  }

  MemoryReply Into(std::optional<Result<void>>& out) {
    return [&out](Result<void> result) { out = std::move(result); };
  }

  void Submit(const wire::GenerateRequest& request) { loop_->Submit(destination_, request); }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& node_ = world_.AddNode("worker");
  std::unique_ptr<EngineLoop> loop_;
  DestinationId destination_{};
  Collector collector_;
  std::vector<EngineState> states_;
};

TEST_F(EngineLoopSleep, WhatRunsEndsAndWhatComesIsRefused) {
  wire::GenerateRequest request = MakeRequest(1, 5, 20);
  Submit(request);
  RunFor(5);
  std::optional<Result<void>> released;
  loop_->Release(kBoth, rt::Duration(std::int64_t{1000} * kStepNs), Into(released));
  RunFor(2);
  EXPECT_FALSE(released);
  EXPECT_EQ(states_.back(), EngineState::kDraining);
  Submit(MakeRequest(2, 5, 5));
  RunFor(40);
  ASSERT_TRUE(released && *released);
  EXPECT_EQ(states_.back(), EngineState::kAsleep);
  EXPECT_EQ(collector_.at(1).tokens, MockStream(request, 0, 64, 256).tokens);
  EXPECT_EQ(collector_.at(2).error->code(), Code::kUnavailable);
  Submit(MakeRequest(3, 5, 5));
  RunFor(2);
  EXPECT_EQ(collector_.at(3).error->code(), Code::kUnavailable);
  std::optional<Result<void>> restored;
  loop_->Restore(kBoth, Into(restored));
  RunFor(1);
  ASSERT_TRUE(restored && *restored);
  EXPECT_EQ(states_.back(), EngineState::kAwake);
  Submit(MakeRequest(4, 5, 5));
  RunFor(20);
  EXPECT_EQ(collector_.at(4).finish, wire::FinishReason::kLength);
}

TEST_F(EngineLoopSleep, APatienceThatEndsChangesNothing) {
  wire::GenerateRequest request = MakeRequest(1, 5, 60);
  Submit(request);
  RunFor(3);
  std::optional<Result<void>> released;
  std::optional<Result<void>> second;
  loop_->Release(kBoth, rt::Duration(std::int64_t{10} * kStepNs), Into(released));
  loop_->Release(kBoth, rt::Duration(std::int64_t{10} * kStepNs), Into(second));
  RunFor(15);
  ASSERT_TRUE(released && second);
  EXPECT_EQ(released->error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(second->error().code(), Code::kUnavailable);
  EXPECT_EQ(states_.back(), EngineState::kAwake);
  Submit(MakeRequest(2, 5, 5));
  RunFor(100);
  EXPECT_EQ(collector_.at(1).tokens, MockStream(request, 0, 64, 256).tokens);
  EXPECT_EQ(collector_.at(2).finish, wire::FinishReason::kLength);
}

TEST_F(EngineLoopSleep, ARestoreGivesUpTheReleaseThatWaits) {
  Submit(MakeRequest(1, 5, 60));
  RunFor(3);
  std::optional<Result<void>> released;
  std::optional<Result<void>> restored;
  loop_->Release(kBoth, rt::Duration(std::int64_t{1000} * kStepNs), Into(released));
  RunFor(2);
  loop_->Restore(kBoth, Into(restored));
  RunFor(2);
  ASSERT_TRUE(released && restored);
  EXPECT_EQ(released->error().code(), Code::kCancelled);
  EXPECT_TRUE(*restored);
  RunFor(2000);  // the old patience ends unheard
  EXPECT_EQ(collector_.at(1).finish, wire::FinishReason::kLength);
  EXPECT_EQ(states_.back(), EngineState::kAwake);
}

}  // namespace
}  // namespace pixii::engine::testing
