#include "rt/cpu.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace pixii::rt {
namespace {

TEST(Cpu, AThreadThatLeavesACpuMayComeBack) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(AllowedCpuCount(), CPU_COUNT(&before));
  int left = 0;
  constexpr int kTimes = 20;
  for (int i = 0; i < kTimes; ++i) {
    const std::int32_t cpu = CurrentCpu();
    LeaveCpu(cpu);
    left += CurrentCpu() != cpu ? 1 : 0;
    cpu_set_t after;
    ASSERT_EQ(::sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
  }
  // It may be moved at any time, by others than itself.
  if (CPU_COUNT(&before) > 1) {
    EXPECT_GE(left, kTimes - 2);
  }
}

TEST(Cpu, AThreadThatMayRunOnOneCpuStays) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  const std::int32_t cpu = CurrentCpu();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(cpu), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
  LeaveCpu(cpu);
  EXPECT_EQ(CurrentCpu(), cpu);
  EXPECT_EQ(AllowedCpuCount(), 1);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(before), &before), 0);
}

}  // namespace
}  // namespace pixii::rt
