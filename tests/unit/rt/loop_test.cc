#include "rt/loop.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "rt/thread.h"

namespace pixii::rt {
namespace {

std::unique_ptr<Loop> NewLoop() { return MakeLoop().value(); }

TEST(Loop, RunsPostsInTheOrderTheyCameAndNeverInsidePost) {
  auto loop = NewLoop();
  std::vector<int> order;
  loop->Post([&] {
    loop->Post([&] {
      order.push_back(3);
      loop->Stop();
    });
    order.push_back(1);
  });
  loop->Post([&] { order.push_back(2); });
  EXPECT_TRUE(order.empty());
  loop->Run();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(Loop, PostsOfManyThreadsAllArriveAndEachKeepsItsOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 20'000;
  auto loop = NewLoop();
  std::vector<int> last(kThreads, -1);
  int left = kThreads * kPosts;
  bool ordered = true;
  std::vector<Thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back("poster", [&, t] {
      for (int i = 0; i < kPosts; ++i) {
        loop->Post([&, t, i] {
          ordered = ordered && last[t] == i - 1;
          last[t] = i;
          if (--left == 0) {
            loop->Stop();
          }
        });
      }
    });
  }
  loop->Run();
  EXPECT_EQ(left, 0);
  EXPECT_TRUE(ordered);
}

TEST(Loop, RunsTimersInOrderOfTimeThenOfSettingAndNotEarly) {
  auto loop = NewLoop();
  const Time start = loop->Now();
  std::vector<int> order;
  loop->RunAt(start + 3ms, [&] {
    order.push_back(3);
    EXPECT_GE(loop->Now(), start + 3ms);
    loop->Stop();
  });
  loop->RunAt(start + 1ms, [&] {
    order.push_back(1);
    EXPECT_GE(loop->Now(), start + 1ms);
  });
  loop->RunAt(start + 1ms, [&] { order.push_back(2); });
  loop->RunAt(kNever, [&] { order.push_back(99); });
  loop->Run();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(Loop, ACancelledTimerDoesNotRunAndIsDestroyedAtOnce) {
  auto loop = NewLoop();
  auto held = std::make_shared<int>(0);
  const TimerId id = loop->RunAt(loop->Now(), [held] { *held = 1; });
  loop->RunAt(loop->Now() + 1ms, [&] { loop->Stop(); });
  loop->CancelTimer(id);
  EXPECT_EQ(held.use_count(), 1);
  loop->CancelTimer(id);
  loop->Run();
  EXPECT_EQ(*held, 0);
}

TEST(Loop, ATimerMayCancelAnotherThatIsDueToo) {
  auto loop = NewLoop();
  bool second_ran = false;
  TimerId second = TimerId::kNone;
  const Time when = loop->Now();
  loop->RunAt(when, [&] { loop->CancelTimer(second); });
  second = loop->RunAt(when, [&] { second_ran = true; });
  loop->RunAt(when, [&] { loop->Stop(); });
  loop->Run();
  EXPECT_FALSE(second_ran);
}

TEST(Loop, TimersThatSetTimersForNowDoNotStarvePosts) {
  auto loop = NewLoop();
  bool posted_ran = false;
  Function<void()> again;
  again = [&] {
    if (!posted_ran) {
      loop->RunAt(loop->Now(), [&] { again(); });
    }
  };
  again();
  loop->Post([&] {
    posted_ran = true;
    loop->Stop();
  });
  loop->Run();
  EXPECT_TRUE(posted_ran);
}

TEST(Loop, StopBeforeRunEndsTheNextRunAndTheLoopRunsAgain) {
  auto loop = NewLoop();
  loop->Stop();
  loop->Run();
  bool ran = false;
  loop->Post([&] {
    ran = true;
    loop->Stop();
  });
  loop->Run();
  EXPECT_TRUE(ran);
}

Task<void> SleepThen(Loop& loop, Duration duration, std::shared_ptr<int> out) {
  co_await loop.SleepFor(duration);
  *out += 1;
  loop.Stop();
}

TEST(Loop, SpawnStartsAtOnceAndCountsUntilTheEnd) {
  auto loop = NewLoop();
  auto out = std::make_shared<int>(0);
  loop->Spawn(SleepThen(*loop, 1ms, out));
  EXPECT_EQ(loop->spawned_count(), 1U);
  loop->Run();
  EXPECT_EQ(*out, 1);
  EXPECT_EQ(loop->spawned_count(), 0U);
}

TEST(Loop, DestroyedWithSleepersPostsAndTimersLeavesNothing) {
  auto held = std::make_shared<int>(0);
  {
    auto loop = NewLoop();
    loop->Spawn(SleepThen(*loop, 1h, held));
    loop->Post([held] { *held += 1; });
    loop->RunAt(loop->Now() + 1h, [held] { *held += 1; });
    EXPECT_EQ(held.use_count(), 4);
  }
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(*held, 0);
}

Task<void> YieldUntil(Loop& loop, const bool& flag, int* yields) {
  while (!flag) {
    ++*yields;
    co_await loop.Yield();
  }
  loop.Stop();
}

TEST(Loop, ATaskThatYieldsForEverStarvesNobody) {
  auto loop = NewLoop();
  bool timer_ran = false;
  int yields = 0;
  loop->Spawn(YieldUntil(*loop, timer_ran, &yields));
  loop->RunAt(loop->Now() + 1ms, [&] { timer_ran = true; });
  loop->Run();
  EXPECT_TRUE(timer_ran);
  EXPECT_GE(yields, 1);
}

TEST(Loop, WallClockIsThisCentury) {
  auto loop = NewLoop();
  EXPECT_GT(loop->WallNow().unix_seconds, 1'700'000'000);
  EXPECT_LT(loop->WallNow().nanoseconds, 1'000'000'000);
}

}  // namespace
}  // namespace pixii::rt
