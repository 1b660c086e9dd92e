#include "rt/inbox.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "unit/rt/real_loop.h"

namespace pixii::rt {
namespace {

using namespace std::chrono_literals;

constexpr auto kApart = [](int&, int&) { return false; };

class InboxTest : public RealLoopTest {};

TEST_F(InboxTest, WhatWaitsComesTogetherAndInOrder) {
  std::vector<std::vector<int>> heard;
  const auto inbox = Inbox<int>::Make(*loop, [&](std::vector<int> items) {
    heard.push_back(std::move(items));
    if (heard.size() == 2) {
      loop->Stop();
    }
  });
  for (int i = 0; i < 5; ++i) {
    inbox->Put(i, kApart);
  }
  loop->Post([&] { inbox->Put(5, kApart); });  // what waited was given by then
  loop->Run();
  EXPECT_EQ(heard, (std::vector<std::vector<int>>{{0, 1, 2, 3, 4}, {5}}));
}

TEST_F(InboxTest, AnItemMayJoinTheLastThatWaits) {
  std::vector<int> heard;
  const auto inbox = Inbox<int>::Make(*loop, [&](std::vector<int> items) {
    heard = std::move(items);
    loop->Stop();
  });
  for (int i = 1; i <= 6; ++i) {
    inbox->Put(i, [](int& last, int& item) {
      const bool joins = item % 3 != 0;
      last += joins ? item : 0;
      return joins;
    });
  }
  loop->Run();
  EXPECT_EQ(heard, (std::vector<int>{1 + 2, 3 + 4 + 5, 6}));
}

TEST_F(InboxTest, NothingIsLostBetweenThreads) {
  constexpr int kItems = 100'000;
  std::vector<int> heard;
  const auto inbox = Inbox<int>::Make(*loop, [&](std::vector<int> items) {
    heard.insert(heard.end(), items.begin(), items.end());
    if (heard.size() == kItems) {
      loop->Stop();
    }
  });
  std::thread other([&] {
    for (int i = 0; i < kItems; ++i) {
      inbox->Put(i, kApart);
    }
  });
  loop->Run();
  other.join();
  std::vector<int> all(kItems);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(heard, all);
}

}  // namespace
}  // namespace pixii::rt
