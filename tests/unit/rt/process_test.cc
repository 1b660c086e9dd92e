#include "rt/process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "rt/fd.h"
#include "rt/thread.h"

namespace pixii::rt {
namespace {

TEST(Process, ASignalReachesTheLoopAndAnEndedWatchIsSilent) {
  auto loop = MakeLoop().value();
  std::vector<int> got;
  {
    auto watch = WatchSignals(*loop, {SIGUSR1, SIGUSR2}, [&](int number) {
                   got.push_back(number);
                   if (got.size() == 2) {
                     loop->Stop();
                   }
                 }).value();
    ::kill(::getpid(), SIGUSR1);
    ::kill(::getpid(), SIGUSR2);
    loop->Run();
    EXPECT_EQ(got, (std::vector<int>{SIGUSR1, SIGUSR2}));
  }
  loop->Post([&] { loop->Stop(); });
  loop->Run();
  EXPECT_EQ(got.size(), 2U);
}

/// The kernel counts a joined thread a moment longer.
ProcessUsage UsageOnceThreadsAre(std::uint32_t threads) {
  ProcessUsage usage = ReadProcessUsage().value();
  for (int tries = 0; usage.threads != threads && tries < 10'000; ++tries) {
    usage = ReadProcessUsage().value();
  }
  return usage;
}

TEST(Process, UsageCountsDescriptorsThreadsAndMemory) {
  const ProcessUsage before = UsageOnceThreadsAre(1);
  EXPECT_GT(before.resident_bytes, 1U << 20U);
  EXPECT_GE(before.resident_bytes_peak, before.resident_bytes / 2);
  EXPECT_GE(before.threads, 1U);
  EXPECT_GT(before.descriptors_max, before.descriptors);
  {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const Fd out(ends[0]);
    Fd in(ends[1]);
    Thread waits("waits", [&] {
      char byte = 0;
      (void)!::read(out.get(), &byte, 1);
    });
    const ProcessUsage during = ReadProcessUsage().value();
    EXPECT_EQ(during.descriptors, before.descriptors + 2);
    EXPECT_EQ(during.threads, before.threads + 1);
    in.Close();
  }
  const ProcessUsage after = UsageOnceThreadsAre(before.threads);
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_EQ(after.threads, before.threads);
  EXPECT_GE(after.cpu_time, before.cpu_time);
  EXPECT_GT(ThreadCpuTime(), Duration::zero());
}

TEST(Process, MachineLimitsArePlausible) {
  const MachineLimits limits = ReadMachineLimits().value();
  EXPECT_GT(limits.memory_bytes, 64U << 20U);
  EXPECT_LE(limits.memory_available_bytes, limits.memory_bytes);
  EXPECT_GE(limits.cpu_count, 1U);
}

TEST(Thread, RunsItsBodyAndIsJoinedByItsDestructor) {
  int value = 0;
  {
    const Thread thread("a name longer than the kernel keeps", [&] { value = 1; });
  }
  EXPECT_EQ(value, 1);
}

TEST(CondVar, HandsAValueFromOneThreadToAnother) {
  Mutex mutex;
  CondVar changed;
  int stage = 0;
  const Thread other("other", [&] {
    const MutexLock lock(mutex);
    while (stage != 1) {
      changed.Wait(mutex);
    }
    stage = 2;
    changed.NotifyAll();
  });
  const MutexLock lock(mutex);
  stage = 1;
  changed.NotifyAll();
  while (stage != 2) {
    changed.Wait(mutex);
  }
  EXPECT_EQ(stage, 2);
}

}  // namespace
}  // namespace pixii::rt
