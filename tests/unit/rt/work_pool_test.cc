#include "rt/work_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "rt/loop.h"
#include "unit/rt/real_loop.h"

namespace pixii::rt {
namespace {

using namespace std::chrono_literals;

class WorkPoolTest : public RealLoopTest {};

TEST_F(WorkPoolTest, WorksElsewhereAndIsDoneOnTheLoop) {
  WorkPool pool(*loop, "work", 2, 100);
  std::atomic<int> worked = 0;
  int done = 0;
  std::thread::id here = std::this_thread::get_id();
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(pool.Submit(
        [&worked, here] {
          EXPECT_NE(std::this_thread::get_id(), here);
          ++worked;
        },
        [this, &done, here] {
          EXPECT_EQ(std::this_thread::get_id(), here);
          if (++done == 50) {
            loop->Stop();
          }
        }));
  }
  loop->Run();
  EXPECT_EQ(worked, 50);
  EXPECT_EQ(done, 50);
}

TEST_F(WorkPoolTest, RefusesPastItsBoundAndDropsWhatWaitsAtItsEnd) {
  int done = 0;
  {
    WorkPool pool(*loop, "work", 0, 2);  // nobody serves
    auto submit = [&] { return pool.Submit([] {}, [&done] { ++done; }); };
    EXPECT_TRUE(submit());
    EXPECT_TRUE(submit());
    EXPECT_FALSE(submit());
  }
  loop->Post([this] { loop->Stop(); });
  loop->Run();
  EXPECT_EQ(done, 0);
}

}  // namespace
}  // namespace pixii::rt
