#include "rt/foreign_thread.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>

namespace pixii::rt {
namespace {

/// Keeps the thread from going on.
struct Gate {
  void Open() {
    const std::lock_guard lock(mutex);
    is_open = true;
    changed.notify_all();
  }

  void Pass() {
    std::unique_lock lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [this] { return is_open; });
  }

  void WaitForOne() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return waiting > 0; });
  }

  std::mutex mutex;
  std::condition_variable changed;
  int waiting = 0;
  bool is_open = false;
};

TEST(ForeignThread, WhoDoesNotReturnIsLeftBehind) {
  auto gate = std::make_shared<Gate>();
  auto ran = std::make_shared<std::atomic<int>>(0);
  ForeignThread thread("foreign");
  EXPECT_TRUE(thread.Post([gate, ran] {
    gate->Pass();
    ++*ran;
  }));
  EXPECT_TRUE(thread.Post([ran] { ++*ran; }));
  gate->WaitForOne();
  EXPECT_FALSE(thread.Stop(std::chrono::milliseconds(20), {}));
  EXPECT_FALSE(thread.Post([] {}));
  EXPECT_EQ(*ran, 0);
  gate->Open();
}

TEST(ForeignThread, TheLastJobRunsAtTheEnd) {
  std::atomic<int> ran = 0;
  ForeignThread thread("foreign");
  EXPECT_TRUE(thread.Stop(std::chrono::seconds(30), [&] { ++ran; }));
  EXPECT_EQ(ran, 1);
}

TEST(ForeignThread, SignalsToTheProcessAreNotItsBusiness) {
  ForeignThread thread("foreign");
  sigset_t mask;
  ::sigemptyset(&mask);
  EXPECT_TRUE(thread.Stop(std::chrono::seconds(30),
                          [&mask] { ::pthread_sigmask(SIG_SETMASK, nullptr, &mask); }));
  EXPECT_EQ(::sigismember(&mask, SIGUSR1), 1);
  EXPECT_EQ(::sigismember(&mask, SIGSEGV), 0);
}

TEST(ForeignThread, AQueueThatIsFullTakesNoMore) {
  auto gate = std::make_shared<Gate>();
  ForeignThread thread("foreign");
  std::size_t taken = 0;
  while (taken < 2 * ForeignThread::kJobsMax && thread.Post([gate] { gate->Pass(); })) {
    ++taken;
  }
  EXPECT_LE(taken, ForeignThread::kJobsMax + 1);
  gate->Open();
  EXPECT_TRUE(thread.Stop(std::chrono::seconds(30), {}));
}

}  // namespace
}  // namespace pixii::rt
