#include "kv/session_keeper.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace pixii::kv {
namespace {

constexpr rt::Duration kLife = std::chrono::seconds(60);

rt::Time At(int seconds) { return rt::Time(std::chrono::seconds(seconds)); }

/// A cache of ten blocks of one token each, and sessions that keep six of them at most.
class SessionKeeperTest : public ::testing::Test {
 protected:
  /// The blocks of a sequence of `first`, first + 1, .., as one that ended has them.
  std::vector<BlockPin> Compute(TokenId first, int count) {
    ChainPosition chain = StartOf(cache_->MakeRoot({}));
    std::vector<BlockPin> pins;
    for (TokenId token = first; token < first + count; ++token) {
      BlockPin found = cache_->Find(chain, std::vector<TokenId>{token});
      pins.push_back(found ? std::move(found)
                           : cache_->Publish(*cache_->Allocate(), chain, {&token, 1}).pin);
    }
    return pins;
  }

  static void Let(std::vector<BlockPin>& pins) {
    while (!pins.empty()) {
      pins.pop_back();
    }
  }

  void Turn(std::string_view session, TokenId first, int count, int at) {
    std::vector<BlockPin> pins = Compute(first, count);
    keeper_.Keep(session, pins, At(at));
    Let(pins);
    cache_->CheckInvariants();
  }

  /// Blocks of the sequence that are still found.
  int Found(TokenId first, int count) {
    ChainPosition chain = StartOf(cache_->MakeRoot({}));
    int found = 0;
    while (found < count && cache_->Find(chain, std::vector<TokenId>{first + found})) {
      ++found;
    }
    return found;
  }

  std::unique_ptr<BlockCache> cache_ =
      *BlockCache::Create({.block_count_max = 10, .block_tokens = 1, .identity_key = "k"});
  SessionKeeper keeper_{{.blocks_max = 6, .sessions_max = 2, .lifetime = kLife}, *cache_};
};

TEST_F(SessionKeeperTest, ALiveSessionsBlocksAreEvictedBehindAllOthers) {
  Turn("a", 100, 4, 0);
  for (TokenId other = 0; other < 50; other += 5) {
    std::vector<BlockPin> pins = Compute(1000 + other, 5);
    Let(pins);
  }
  EXPECT_EQ(Found(100, 4), 4);
  EXPECT_EQ(keeper_.counters().live, 1U);
  EXPECT_EQ(keeper_.counters().blocks, 4U);
  std::vector<BlockPin> all = Compute(2000, 10);  // what a request needs it gets
  EXPECT_EQ(all.size(), 10U);
  EXPECT_EQ(Found(100, 4), 0);
  Let(all);
  cache_->CheckInvariants();
}

TEST_F(SessionKeeperTest, AnEndedSessionsBlocksAreAsOthers) {
  Turn("a", 100, 4, 0);
  keeper_.End("a");
  keeper_.End("a");
  cache_->CheckInvariants();
  for (TokenId other = 0; other < 15; other += 5) {
    std::vector<BlockPin> pins = Compute(1000 + other, 5);
    Let(pins);
  }
  EXPECT_EQ(Found(100, 4), 0);
  EXPECT_EQ(keeper_.counters().live, 0U);
  EXPECT_EQ(keeper_.counters().blocks, 0U);
  EXPECT_EQ(keeper_.counters().ended, 1U);
}

TEST_F(SessionKeeperTest, EachTurnBeginsTheLifetimeAnew) {
  Turn("a", 100, 2, 0);
  Turn("b", 200, 2, 10);
  Turn("a", 100, 3, 20);
  EXPECT_EQ(keeper_.next_expiry(), At(70));
  keeper_.Expire(At(69));
  EXPECT_EQ(keeper_.counters().live, 2U);
  keeper_.Expire(At(70));
  EXPECT_EQ(keeper_.counters().live, 1U);
  EXPECT_EQ(keeper_.counters().blocks, 3U);
  keeper_.Expire(At(80));
  EXPECT_EQ(keeper_.counters().live, 0U);
  EXPECT_EQ(keeper_.counters().expired, 2U);
  EXPECT_EQ(keeper_.next_expiry(), rt::kNever);
  cache_->CheckInvariants();
}

TEST_F(SessionKeeperTest, TheLeastRecentlyUsedGivesWayToOthersWithinTheBounds) {
  Turn("a", 100, 3, 0);
  Turn("b", 200, 3, 1);
  Turn("a", 100, 3, 2);
  Turn("c", 300, 2, 3);  // of blocks there is no room for three, of sessions neither
  EXPECT_EQ(keeper_.counters().displaced, 1U);
  EXPECT_EQ(keeper_.counters().blocks, 5U);
  EXPECT_EQ(keeper_.counters().begun, 3U);
  keeper_.End("b");
  EXPECT_EQ(keeper_.counters().ended, 0U) << "it was not the one that gave way";
  Turn("d", 400, 9, 4);  // more than all may keep: the beginning counts
  EXPECT_EQ(keeper_.counters().blocks, 6U);
  EXPECT_EQ(keeper_.counters().live, 1U);
}

TEST_F(SessionKeeperTest, ABlockOfTwoSessionsStaysUntilBothHaveEnded) {
  Turn("a", 100, 3, 0);
  Turn("b", 100, 2, 1);
  keeper_.End("a");
  for (TokenId other = 0; other < 25; other += 5) {
    std::vector<BlockPin> pins = Compute(1000 + other, 5);
    Let(pins);
  }
  EXPECT_EQ(Found(100, 3), 2);
  keeper_.Clear();
  EXPECT_EQ(keeper_.counters().blocks, 0U);
  cache_->CheckInvariants();
}

TEST_F(SessionKeeperTest, WhatWasClearedAndComputedAnewIsNobodysAnyMore) {
  Turn("a", 100, 3, 0);
  cache_->Clear();
  cache_->CheckInvariants();
  std::vector<BlockPin> pins = Compute(100, 3);
  Let(pins);
  keeper_.End("a");
  cache_->CheckInvariants();
  EXPECT_EQ(Found(100, 3), 3);
}

}  // namespace
}  // namespace pixii::kv
