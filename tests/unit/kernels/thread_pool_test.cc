#include "kernels/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace pixii::kernels {
namespace {

TEST(ThreadPool, RunsEveryWorkerOnceARoundAndTheCallerAsWorkerZero) {
  for (const std::int32_t count : {1, 2, 3, 8}) {
    ThreadPool pool(count);
    EXPECT_EQ(pool.thread_count(), count);
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
    std::thread::id zero;
    for (int round = 0; round < 500; ++round) {
      pool.Run([&](std::int32_t worker) {
        calls[static_cast<std::size_t>(worker)].fetch_add(1, std::memory_order_relaxed);
        if (worker == 0) {
          zero = std::this_thread::get_id();
        }
      });
      for (const std::atomic<int>& one : calls) {
        ASSERT_EQ(one.load(std::memory_order_relaxed), round + 1);
      }
    }
    EXPECT_EQ(zero, std::this_thread::get_id());
  }
}

TEST(ThreadPool, WhatWorkersWroteIsSeenByTheCallerAndByTheNextRound) {
  ThreadPool pool(4);
  std::vector<std::int64_t> values(4, 1);  // not atomic: the pool orders the accesses
  for (int round = 0; round < 1000; ++round) {
    pool.Run([&](std::int32_t worker) {
      values[static_cast<std::size_t>((worker + round) % 4)] += worker;
    });
  }
  std::int64_t sum = 0;
  for (const std::int64_t value : values) {
    sum += value;
  }
  EXPECT_EQ(sum, 4 + 1000 * (0 + 1 + 2 + 3));
}

/// States of this process's other threads as the kernel names them: S = asleep, R = running.
std::string StatesOfOtherThreads() {
  std::string out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    if (entry.path().filename() == std::to_string(gettid())) {
      continue;
    }
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    const std::size_t name_end = stat.rfind(')');
    out += name_end == std::string::npos ? '?' : stat[name_end + 2];
  }
  return out;
}

void MayRunOn(const cpu_set_t& cpus) { EXPECT_EQ(::sched_setaffinity(0, sizeof(cpus), &cpus), 0); }

// The kernel may put it there whenever it wakes it: here it is put there.
TEST(ThreadPool, AWorkerLeavesItsCallersCpu) {
  cpu_set_t allowed;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  if (CPU_COUNT(&allowed) < 2) {
    GTEST_SKIP() << "one CPU";
  }
  ThreadPool pool(2);
  const int cpu = ::sched_getcpu();
  cpu_set_t home;
  CPU_ZERO(&home);
  CPU_SET(static_cast<std::size_t>(cpu), &home);
  MayRunOn(home);
  constexpr int kRounds = 20;
  int apart = 0;
  for (int round = 0; round < kRounds; ++round) {
    pool.Run([&](std::int32_t worker) {
      if (worker == 1) {
        MayRunOn(home);
        MayRunOn(allowed);
      }
    });
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(10);
    while (std::chrono::steady_clock::now() < until) {  // it has stayed there for long enough
    }
    pool.Run([&](std::int32_t worker) { apart += worker == 1 && ::sched_getcpu() != cpu ? 1 : 0; });
  }
  EXPECT_GE(apart, kRounds - 2);  // it may have been moved in between
  MayRunOn(allowed);
}

TEST(ThreadPool, AnIdlePoolSleepsAndWakesForTheNextRound) {
  ThreadPool pool(3);
  pool.Run([](std::int32_t) {});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::string states;
  do {
    std::this_thread::yield();
    states = StatesOfOtherThreads();  // two workers, and a sanitizer may have a thread of its own
  } while (states.find_first_not_of('S') != std::string::npos &&
           std::chrono::steady_clock::now() < deadline);
  EXPECT_GE(states.size(), 2U);
  EXPECT_EQ(states.find_first_not_of('S'), std::string::npos) << states;
  std::atomic<int> ran{0};
  pool.Run([&](std::int32_t) { ran.fetch_add(1); });
  EXPECT_EQ(ran.load(), 3);
}

}  // namespace
}  // namespace pixii::kernels
