#include "kernels/compute_turns.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

namespace pixii::kernels {
namespace {

// On one machine after another, however slow: each step sees pieces halted, and both go on.
TEST(ComputeTurns, PiecesHaltWhileAStepRunsAndGoOnBehindIt) {
  ComputeTurns turns(0.25);
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> rounds = 0;
  std::thread video([&] {
    ThreadPool pool(2, &turns);
    while (!stop.load()) {
      const ComputeTurns::Pieces pieces(&turns);
      for (int i = 0; i < 100 && !stop.load(); ++i) {
        pool.Run([&](std::int32_t) { rounds.fetch_add(1); });
      }
    }
  });
  for (int step = 0; step < 50; ++step) {
    const std::uint64_t before = rounds.load();
    while (rounds.load() < before + 10) {  // pieces have the device between steps
      std::this_thread::yield();
    }
    const std::uint64_t halted = turns.halted_count();
    {
      std::optional<ComputeTurns::Step> turn(std::in_place, &turns);
      while (turns.halted_count() == halted) {  // at the latest where its next round begins
        std::this_thread::yield();
      }
      const std::uint64_t now = rounds.load();
      for (int i = 0; i < 1000; ++i) {
        std::this_thread::yield();
      }
      EXPECT_EQ(rounds.load(), now) << "nothing runs beside a step";
    }
  }
  stop.store(true);
  video.join();
}

TEST(ComputeTurns, StepsOfSeveralEnginesRunBesideOneAnother) {
  ComputeTurns turns(0.25);
  std::optional<ComputeTurns::Step> first(std::in_place, &turns);
  std::optional<ComputeTurns::Step> second(std::in_place, &turns);
  std::atomic<bool> entered = false;
  std::thread video([&] {
    const ComputeTurns::Pieces pieces(&turns);
    entered.store(true);
  });
  first.reset();
  for (int i = 0; i < 1000; ++i) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(entered.load()) << "one still runs";
  second.reset();
  video.join();
  EXPECT_TRUE(entered.load());
}

TEST(ComputeTurns, WithoutAnybodyElseNothingWaits) {
  const ComputeTurns::Step step(nullptr);
  const ComputeTurns::Pieces pieces(nullptr);
  ComputeTurns turns(0.25);
  for (int i = 0; i < 3; ++i) {
    const ComputeTurns::Step alone(&turns);
  }
  EXPECT_EQ(turns.halted_count(), 0U);
}

}  // namespace
}  // namespace pixii::kernels
