#include "engine/threaded_executor.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine_harness.h"

namespace pixii::engine::testing {
namespace {

// Computes only once its caller did something after Begin: a step that ran in Begin, or on the
// caller's thread in Wait, would never end.
class WaitingExecutor final : public StepExecutor {
 public:
  ExecutorLimits limits() const override { return {.vocab_size = 7}; }

  Result<void> Execute(const kernels::StepBatch& /*batch*/, std::span<float> logits) override {
    rt::MutexLock lock(mutex_);
    while (!released_) {
      changed_.Wait(mutex_);
    }
    logits[0] = 42;
    return Fail(Code::kModelFault, "as it was told");
  }

  void ReleaseStep() {
    rt::MutexLock lock(mutex_);
    released_ = true;
    changed_.NotifyAll();
  }

 private:
  rt::Mutex mutex_;
  rt::CondVar changed_;
  bool released_ PX_GUARDED_BY(mutex_) = false;
};

TEST(ThreadedExecutor, AStepRunsWhileItsCallerGoesOnAndItsResultComesFromWait) {
  auto inner = std::make_unique<WaitingExecutor>();
  WaitingExecutor& waiting = *inner;
  ThreadedExecutor executor(std::move(inner));
  EXPECT_TRUE(executor.overlaps());
  EXPECT_EQ(executor.limits().vocab_size, 7U);
  kernels::StepBatch batch;
  std::vector<float> logits(1);
  executor.Begin(batch, logits);
  waiting.ReleaseStep();
  Result<void> result = executor.Wait();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().detail(), "as it was told");
  EXPECT_EQ(logits[0], 42);
  EXPECT_FALSE(executor.Execute(batch, logits));  // and again
}

TEST(ThreadedExecutor, AnEngineMayGoWhileAStepRuns) {
  HarnessOptions options;
  options.threaded = true;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(MakeRequest(1, 20, 50)));
  harness.Step();
  EXPECT_TRUE(harness.engine().in_flight());
}

TEST(ThreadedExecutor, AnEngineOverItPlansAheadAndGivesTheSameTokens) {
  HarnessOptions options;
  options.threaded = true;
  Harness harness(options);
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    requests.push_back(
        MakeRequest(id, 10 + static_cast<std::uint32_t>(id), 30, static_cast<TokenId>(id)));
    ASSERT_TRUE(harness.Submit(requests.back()));
  }
  harness.RunDry();
  for (const wire::GenerateRequest& request : requests) {
    harness.ExpectOracle(request);
  }
  EXPECT_GT(harness.engine().counters().steps_ahead, harness.engine().counters().steps / 2);
}

TEST(ThreadedExecutor, ACancelFreesBlocksWhileTheStepRunsAndItsResultIsDropped) {
  HarnessOptions options;
  options.threaded = true;
  Harness harness(options);
  ASSERT_TRUE(harness.Submit(MakeRequest(1, 20, 50)));
  harness.Step();
  ASSERT_TRUE(harness.engine().in_flight());
  std::size_t tokens = harness.streams().at(1).tokens.size();
  harness.engine().Cancel({.id = RequestId{1}, .choice = std::nullopt});
  EXPECT_EQ(harness.engine().cache().pool().pinned_count(), 0U);
  harness.RunDry();
  EXPECT_EQ(harness.streams().at(1).finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(harness.streams().at(1).tokens.size(), tokens);
}

}  // namespace
}  // namespace pixii::engine::testing
