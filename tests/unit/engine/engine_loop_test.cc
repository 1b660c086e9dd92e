// The engine's shell under virtual time.
#include "engine/engine_loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine_harness.h"
#include "rt/sim_world.h"

namespace pixii::engine::testing {
namespace {

constexpr std::int64_t kStepNs = 10'000'000;

class EngineLoopTest : public ::testing::Test {
 protected:
  struct Delivery {
    rt::Time time;
    StepOutput output;
  };

  void SetUp() override { Make({}); }

  void Make(EngineLoopOptions loop_options) {
    HarnessOptions options;
    auto engine = Engine::Create(
        options.engine,
        std::make_unique<MockExecutor>(
            MockOptions{.limits = options.limits, .timing = {.step_ns = kStepNs}, .faults = {}}));
    ASSERT_TRUE(engine);
    loop_.reset();
    loop_ = std::make_unique<EngineLoop>(node_.loop(), std::move(*engine), std::move(loop_options));
    destination_ = AddDestination(deliveries_);
  }

  DestinationId AddDestination(std::vector<Delivery>& into) {
    return loop_->AddDestination(
        [this, &into](StepOutput output) { into.push_back({world_.now(), std::move(output)}); });
  }

  void Run() {
    EXPECT_TRUE(world_.RunUntilQuiescent(world_.now() + rt::Duration(std::int64_t{100} * kStepNs)));
  }

  static std::vector<TokenId> TokensOf(const std::vector<Delivery>& deliveries, std::uint64_t id) {
    std::vector<TokenId> tokens;
    for (const Delivery& delivery : deliveries) {
      for (const wire::TokenFrame& frame : delivery.output.frames) {
        if (frame.id == RequestId{id}) {
          tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
        }
      }
    }
    return tokens;
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& node_ = world_.AddNode("worker");
  std::unique_ptr<EngineLoop> loop_;
  DestinationId destination_{};
  std::vector<Delivery> deliveries_;
};

TEST_F(EngineLoopTest, EachStepTakesItsVirtualTimeAndSendsOneBatch) {
  for (std::uint64_t id = 1; id <= 5; ++id) {
    loop_->Submit(destination_, MakeRequest(id, 5, 8));
  }
  Run();
  ASSERT_GE(deliveries_.size(), 8U);
  ASSERT_LE(deliveries_.size(), 10U);
  for (std::size_t i = 1; i < deliveries_.size(); ++i) {
    EXPECT_GE(deliveries_[i].time - deliveries_[i - 1].time, rt::Duration(kStepNs));
  }
  EXPECT_GE(deliveries_[3].output.frames.size(), 4U);
  for (std::uint64_t id = 1; id <= 5; ++id) {
    EXPECT_EQ(TokensOf(deliveries_, id), MockStream(MakeRequest(id, 5, 8), 0, 64, 256).tokens);
  }
  EXPECT_EQ(deliveries_.back().output.load.running, 0U);
  EXPECT_EQ(deliveries_.back().output.load.blocks_used, 0U);
}

TEST_F(EngineLoopTest, WhoeverElseComputesHaltsForEachStep) {
  kernels::ComputeTurns turns(0.25);
  Make({.turns = &turns});
  std::atomic<bool> begun = false;
  std::atomic<bool> stop = false;
  std::thread video([&] {
    const kernels::ComputeTurns::Pieces pieces(&turns);
    begun.store(true);
    while (!stop.load()) {
      turns.Pass();
    }
  });
  while (!begun.load()) {
    std::this_thread::yield();
  }
  loop_->Submit(destination_, MakeRequest(1, 5, 8));
  Run();
  stop.store(true);
  video.join();
  EXPECT_GT(turns.halted_count(), 0U);
  EXPECT_EQ(TokensOf(deliveries_, 1), MockStream(MakeRequest(1, 5, 8), 0, 64, 256).tokens);
}

TEST_F(EngineLoopTest, EachDestinationGetsItsOwnRequestsOnly) {
  std::vector<Delivery> others;
  DestinationId other = AddDestination(others);
  loop_->Submit(destination_, MakeRequest(1, 5, 8));
  loop_->Submit(other, MakeRequest(2, 5, 8));
  Run();
  EXPECT_EQ(TokensOf(deliveries_, 1).size(), 8U);
  EXPECT_TRUE(TokensOf(deliveries_, 2).empty());
  EXPECT_EQ(TokensOf(others, 2).size(), 8U);
  EXPECT_TRUE(TokensOf(others, 1).empty());
}

TEST_F(EngineLoopTest, ACancelDuringAStepTakesEffectWithItsEnd) {
  loop_->Submit(destination_, MakeRequest(1, 5, 50));
  world_.RunAt(world_.now() + rt::Duration(kStepNs * 7 / 2),
               [this] { loop_->Cancel({.id = RequestId{1}, .choice = std::nullopt}); });
  Run();
  // Three steps had ended, the fourth was running; it still counts, a fifth is never begun.
  EXPECT_EQ(TokensOf(deliveries_, 1).size(), 4U);
  EXPECT_EQ(deliveries_.back().output.frames.back().finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(deliveries_.back().output.load.steps, 4U);
}

TEST_F(EngineLoopTest, ARefusalIsAnErrorFrameForEveryChoice) {
  wire::GenerateRequest request = MakeRequest(1, 5, 8);
  request.choice_count = 3;
  request.prompt.clear();
  loop_->Submit(destination_, request);
  Run();
  ASSERT_EQ(deliveries_.size(), 1U);
  ASSERT_EQ(deliveries_[0].output.frames.size(), 3U);
  for (std::uint32_t choice = 0; choice < 3; ++choice) {
    EXPECT_EQ(deliveries_[0].output.frames[choice].choice, choice);
    EXPECT_EQ(deliveries_[0].output.frames[choice].error->param(), "prompt");
  }
}

TEST_F(EngineLoopTest, ARemovedDestinationsRequestsAreCancelled) {
  loop_->Submit(destination_, MakeRequest(1, 5, 50));
  std::vector<Delivery> others;
  DestinationId other = AddDestination(others);
  loop_->Submit(other, MakeRequest(2, 5, 12));
  world_.RunAt(world_.now() + rt::Duration(kStepNs * 9 / 2),
               [this] { loop_->RemoveDestination(destination_); });
  Run();
  EXPECT_LE(TokensOf(deliveries_, 1).size(), 5U);
  EXPECT_EQ(TokensOf(others, 2).size(), 12U);
  EXPECT_EQ(others.back().output.load.blocks_used, 0U);
}

TEST_F(EngineLoopTest, ShutdownEndsWhatRunsAndRefusesTheRest) {
  loop_->Submit(destination_, MakeRequest(1, 5, 50));
  world_.RunAt(world_.now() + rt::Duration(kStepNs * 5 / 2), [this] {
    loop_->Shutdown(Error(Code::kShuttingDown, "bye"));
    loop_->Submit(destination_, MakeRequest(2, 5, 50));
  });
  Run();
  int ends = 0;
  for (const Delivery& delivery : deliveries_) {
    for (const wire::TokenFrame& frame : delivery.output.frames) {
      if (frame.finish) {
        ASSERT_TRUE(frame.error);
        EXPECT_EQ(frame.error->code(), Code::kShuttingDown);
        ++ends;
      }
    }
  }
  EXPECT_EQ(ends, 2);
}

TEST_F(EngineLoopTest, ALongPromptIsHeardOfThoughItGivesNoFrames) {
  HarnessOptions options;
  wire::GenerateRequest request = MakeRequest(1, 200, 1);
  options.engine.batch_tokens_max = 16;
  auto engine = Engine::Create(
      options.engine,
      std::make_unique<MockExecutor>(
          MockOptions{.limits = options.limits, .timing = {.step_ns = 2 * kStepNs}, .faults = {}}));
  EngineLoop slow(node_.loop(), std::move(*engine));
  std::vector<Delivery> heard;
  DestinationId id = slow.AddDestination(
      [&](StepOutput output) { heard.push_back({world_.now(), std::move(output)}); });
  slow.Submit(id, request);
  Run();
  ASSERT_GE(heard.size(), 4U);  // 13 steps of 20 ms, every 50 ms or with a frame
  for (std::size_t i = 1; i < heard.size(); ++i) {
    EXPECT_GT(heard[i].output.load.steps, heard[i - 1].output.load.steps);
  }
}

TEST_F(EngineLoopTest, NothingIsDeliveredAfterItIsGone) {
  loop_->Submit(destination_, MakeRequest(1, 5, 50));
  world_.RunTo(world_.now() + rt::Duration(kStepNs * 5 / 2));
  std::size_t before = deliveries_.size();
  loop_.reset();
  Run();
  EXPECT_EQ(deliveries_.size(), before);
}

}  // namespace
}  // namespace pixii::engine::testing
