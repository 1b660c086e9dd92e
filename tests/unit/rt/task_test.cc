#include "rt/task.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "rt/loop.h"

namespace pixii::rt {
namespace {

Task<int> Value(int value) { co_return value; }

Task<std::int64_t> Sum(int count) {
  std::int64_t sum = 0;
  for (int i = 0; i < count; ++i) {
    sum += co_await Value(i);
  }
  co_return sum;
}

Task<void> StoreSum(int count, std::int64_t* out) { *out = co_await Sum(count); }

// Keeps whoever waits; the frame's death takes it off.
struct Parking : ListNode {
  auto Park() {
    struct Awaiter : Suspended {
      explicit Awaiter(Parking& parking_in) : parking(parking_in) {}

      bool await_ready() const { return false; }

      void await_suspend(std::coroutine_handle<> awaiting) {
        handle = awaiting;
        parking.PushBack(*this);
      }

      void await_resume() const {}

      Parking& parking;
    };

    return Awaiter(*this);
  }

  void ResumeFirst() {
    auto& first = static_cast<Suspended&>(*next());
    first.Unlink();
    first.handle.resume();
  }
};

Task<void> ParkHolding(Parking& parking, std::shared_ptr<int> held) {
  co_await parking.Park();
  *held += 1;
}

Task<void> ParkInside(Parking& parking, std::shared_ptr<int> held) {
  co_await ParkHolding(parking, held);
  *held += 10;
}

TEST(Task, IsLazyAndReturnsThroughTheWholeChain) {
  std::int64_t sum = -1;
  Task<void> task = StoreSum(5, &sum);
  EXPECT_EQ(sum, -1);
  SpawnedTasks tasks;
  tasks.Start(std::move(task));
  EXPECT_EQ(sum, 10);
  EXPECT_EQ(tasks.count(), 0U);
}

TEST(Task, AMillionReadyAwaitsNeedConstantStack) {
  std::int64_t sum = 0;
  SpawnedTasks tasks;
  tasks.Start(StoreSum(1'000'000, &sum));
  EXPECT_EQ(sum, 999'999LL * 1'000'000 / 2);
}

TEST(Task, ResumesWhereItWaited) {
  Parking parking;
  auto held = std::make_shared<int>(0);
  SpawnedTasks tasks;
  tasks.Start(ParkInside(parking, held));
  EXPECT_EQ(tasks.count(), 1U);
  EXPECT_EQ(*held, 0);
  parking.ResumeFirst();
  EXPECT_EQ(*held, 11);
  EXPECT_EQ(tasks.count(), 0U);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Task, DestroyingAWaitingTaskFreesEveryFrameAndLeavesTheList) {
  Parking parking;
  auto held = std::make_shared<int>(0);
  {
    SpawnedTasks tasks;
    tasks.Start(ParkInside(parking, held));
    tasks.Start(ParkInside(parking, held));
    EXPECT_TRUE(parking.linked());
  }
  EXPECT_FALSE(parking.linked());
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Task, NeverStartedFreesItsArguments) {
  Parking parking;
  auto held = std::make_shared<int>(0);
  {
    Task<void> task = ParkInside(parking, held);
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST(Task, AListThatDiesFirstLeavesItsWaitersHarmless) {
  auto held = std::make_shared<int>(0);
  SpawnedTasks tasks;
  {
    Parking parking;
    tasks.Start(ParkInside(parking, held));
    tasks.Start(ParkInside(parking, held));
  }
  tasks.Clear();
  EXPECT_EQ(held.use_count(), 1);
}

Task<std::unique_ptr<int>> MoveOnly() { co_return std::make_unique<int>(3); }

Task<void> TakeMoveOnly(int* out) {
  std::unique_ptr<int> value = co_await MoveOnly();
  *out = *value;
}

TEST(Task, ReturnsWhatCannotBeCopied) {
  int out = 0;
  SpawnedTasks tasks;
  tasks.Start(TakeMoveOnly(&out));
  EXPECT_EQ(out, 3);
}

}  // namespace
}  // namespace pixii::rt
