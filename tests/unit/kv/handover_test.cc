#include "kv/handover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <vector>

namespace pixii::kv {
namespace {

using std::chrono::seconds;

rt::Time At(int second) { return rt::Time(seconds(second)); }

Hash128 Id(std::uint64_t number) { return {.low = number, .high = 1}; }

std::vector<HandoverState> StatesOf(OfferTable& table) {
  std::vector<HandoverState> out;
  for (const OfferTable::End& end : table.TakeEnded()) {
    out.push_back(end.state);
  }
  return out;
}

TEST(OfferTable, WhatIsOfferedEndsOnceHoweverOftenThatIsSaid) {
  OfferTable table(8);
  ASSERT_TRUE(table.Offer(Id(1), At(10)));
  table.OnClaim(Id(1));
  table.OnRelease(Id(1), true);
  table.OnRelease(Id(1), false);
  table.Cancel(Id(1));
  table.OnTime(At(100));
  EXPECT_EQ(StatesOf(table), std::vector{HandoverState::kDone});
  EXPECT_EQ(table.size(), 0U);
  EXPECT_EQ(table.next_time(), rt::kNever);
}

TEST(OfferTable, ALeaseEndsWithoutAWord) {
  OfferTable table(8);
  ASSERT_TRUE(table.Offer(Id(1), At(10)));
  ASSERT_TRUE(table.Offer(Id(2), At(20)));
  EXPECT_EQ(table.next_time(), At(10));
  table.OnClaim(Id(1));  // who reads has no longer than who does not
  table.OnTime(At(9));
  EXPECT_TRUE(StatesOf(table).empty());
  table.OnTime(At(10));
  EXPECT_EQ(StatesOf(table), std::vector{HandoverState::kExpired});
  EXPECT_EQ(table.next_time(), At(20));
}

TEST(OfferTable, MoreThanItsBoundIsRefused) {
  OfferTable table(1);
  EXPECT_TRUE(table.Offer(Id(1), At(10)));
  EXPECT_FALSE(table.Offer(Id(2), At(10)));
  table.Cancel(Id(1));
  EXPECT_TRUE(table.Offer(Id(2), At(10)));
}

TEST(OfferTable, WhoIsClaimedOrNewestKeepsItsLeaseWhenRoomIsWanted) {
  OfferTable table(8);
  ASSERT_TRUE(table.Offer(Id(1), At(10)));
  ASSERT_TRUE(table.Offer(Id(2), At(30)));
  ASSERT_TRUE(table.Offer(Id(3), At(20)));
  ASSERT_TRUE(table.Offer(Id(4), At(5)));
  table.OnClaim(Id(1));
  EXPECT_TRUE(table.ExpireOne(Id(4)));
  EXPECT_TRUE(table.ExpireOne(Id(4)));
  EXPECT_FALSE(table.ExpireOne(Id(4)));
  const std::vector<OfferTable::End> ended = table.TakeEnded();
  ASSERT_EQ(ended.size(), 2U);
  EXPECT_EQ(ended[0].transfer, Id(3));
  EXPECT_EQ(ended[1].transfer, Id(2));
  EXPECT_EQ(ended[0].state, HandoverState::kExpired);
}

using Kind = FetchTable::Action::Kind;

TEST(FetchTable, ALongLoadMovesInChunksOfItsCredits) {
  FetchTable table({.chunk_blocks = 4, .chunks_running = 2, .chunks_together = 8});
  table.Begin(LoadId{1}, {10, 10}, At(10));
  const std::vector<FetchTable::Action> first = table.TakeActions();
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first[0].kind, Kind::kPost);
  EXPECT_EQ(first[1].first, 4U);
  EXPECT_EQ(first[1].count, 4U);
  table.OnChunk(LoadId{1}, 4, 4, std::nullopt);  // they may end in any order
  const std::vector<FetchTable::Action> second = table.TakeActions();
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].first, 8U);
  EXPECT_EQ(second[0].count, 2U);
  table.OnChunk(LoadId{1}, 8, 2, std::nullopt);
  EXPECT_TRUE(table.TakeActions().empty());
  table.OnChunk(LoadId{1}, 0, 4, std::nullopt);
  const std::vector<FetchTable::Action> end = table.TakeActions();
  ASSERT_EQ(end.size(), 1U);
  EXPECT_EQ(end[0].kind, Kind::kEnd);
  EXPECT_EQ(end[0].count, 10U);
  EXPECT_EQ(end[0].state, HandoverState::kDone);
  EXPECT_EQ(table.size(), 0U);
}

TEST(FetchTable, ABlockThatIsNotProvenEndsTheLoadBeforeIt) {
  FetchTable table({.chunk_blocks = 4, .chunks_running = 2, .chunks_together = 8});
  table.Begin(LoadId{1}, {12, 12}, At(10));
  (void)table.TakeActions();
  table.OnChunk(LoadId{1}, 4, 4, std::nullopt);
  (void)table.TakeActions();
  table.OnChunk(LoadId{1}, 0, 3, std::nullopt);
  std::vector<FetchTable::Action> actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U) << "the third chunk still runs";
  EXPECT_EQ(actions[0].kind, Kind::kCancel);
  table.OnChunk(LoadId{1}, 8, 0, Error(Code::kCancelled, ""));
  actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].state, HandoverState::kFailed);
  EXPECT_EQ(actions[0].count, 3U);
  EXPECT_EQ(actions[0].error->code(), Code::kDataCorrupt) << "the first reason counts";
}

TEST(FetchTable, ASlowLoadKeepsOnlyItsOwnCredits) {
  FetchTable table({.chunk_blocks = 1, .chunks_running = 2, .chunks_together = 4});
  table.Begin(LoadId{1}, {100, 100}, At(10));
  EXPECT_EQ(table.TakeActions().size(), 2U);
  table.Begin(LoadId{2}, {3, 3}, At(10));
  std::vector<FetchTable::Action> actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 2U);
  EXPECT_EQ(actions[0].load, LoadId{2});
  table.OnChunk(LoadId{2}, 0, 1, std::nullopt);
  table.OnChunk(LoadId{2}, 1, 1, std::nullopt);
  actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].load, LoadId{2});
}

TEST(FetchTable, ADeadlineEndsALoadThatHangsOnceItsTransfersAreQuiet) {
  FetchTable table({.chunk_blocks = 4, .chunks_running = 2, .chunks_together = 8});
  table.Begin(LoadId{1}, {4, 4}, At(10));
  (void)table.TakeActions();
  EXPECT_EQ(table.next_time(), At(10));
  table.OnTime(At(10));
  std::vector<FetchTable::Action> actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].kind, Kind::kCancel);
  EXPECT_EQ(table.next_time(), rt::kNever);
  table.OnChunk(LoadId{1}, 0, 0, Error(Code::kCancelled, ""));
  actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].state, HandoverState::kExpired);
}

TEST(FetchTable, WhatIsStillToComeIsPostedWhenItIsThereAndTheLoadEndsWithTheLast) {
  FetchTable table({.chunk_blocks = 4, .chunks_running = 2, .chunks_together = 8});
  table.Begin(LoadId{1}, {.block_count = 7, .available = 2}, At(10));
  std::vector<FetchTable::Action> actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].count, 2U);
  table.OnChunk(LoadId{1}, 0, 2, std::nullopt);
  EXPECT_TRUE(table.TakeActions().empty()) << "five are not there yet";
  table.OnMore(LoadId{1}, 5, At(20));
  actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].first, 2U);
  EXPECT_EQ(actions[0].count, 3U);
  table.OnTime(At(10));
  EXPECT_TRUE(table.TakeActions().empty()) << "what grows has longer";
  table.OnMore(LoadId{1}, 7, At(20));
  (void)table.TakeActions();
  table.OnChunk(LoadId{1}, 5, 2, std::nullopt);
  table.OnChunk(LoadId{1}, 2, 3, std::nullopt);
  actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].state, HandoverState::kDone);
  EXPECT_EQ(actions[0].count, 7U);
}

TEST(FetchTable, WhatComesNoMoreEndsTheLoadBehindWhatIsProven) {
  FetchTable table({.chunk_blocks = 4, .chunks_running = 2, .chunks_together = 8});
  table.Begin(LoadId{1}, {.block_count = 7, .available = 2}, At(10));
  (void)table.TakeActions();
  table.OnChunk(LoadId{1}, 0, 2, std::nullopt);
  table.Fail(LoadId{1}, Error(Code::kUnavailable, "withdrawn"));
  const std::vector<FetchTable::Action> actions = table.TakeActions();
  ASSERT_EQ(actions.size(), 1U);
  EXPECT_EQ(actions[0].state, HandoverState::kFailed);
  EXPECT_EQ(actions[0].count, 2U);
}

TEST(OfferTable, ALeaseThatIsRenewedLastsAsLongAsTheNewOne) {
  OfferTable table(8);
  ASSERT_TRUE(table.Offer(Id(1), rt::kNever));
  table.OnTime(At(100));
  table.Renew(Id(1), At(110));
  EXPECT_EQ(table.next_time(), At(110));
  table.OnTime(At(110));
  EXPECT_EQ(StatesOf(table), std::vector{HandoverState::kExpired});
}

// Against what must hold of any history: each load ends once, when none of its transfers runs, with
// the prefix that was proven, and never more transfers run than there are credits.
TEST(FetchTable, HoldsUnderRandomEvents) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 200; ++round) {
    const FetchOptions options = {.chunk_blocks = static_cast<std::uint32_t>(1 + below(5)),
                                  .chunks_running = static_cast<std::uint32_t>(1 + below(3)),
                                  .chunks_together = static_cast<std::uint32_t>(1 + below(6))};
    FetchTable table(options);

    struct Load {
      std::uint32_t blocks = 0;
      std::uint32_t available = 0;
      std::vector<bool> proven;
      std::map<std::uint32_t, std::uint32_t> running;
      bool stopped = false;  // by a failure, a cancel, or its deadline
    };

    std::map<LoadId, Load> live;
    std::uint64_t last = 0;
    int now = 0;
    std::map<LoadId, int> deadlines;
    const auto act = [&] {
      for (const FetchTable::Action& action : table.TakeActions()) {
        ASSERT_TRUE(live.contains(action.load));
        Load& load = live.at(action.load);
        if (action.kind == Kind::kPost) {
          ASSERT_FALSE(load.stopped);
          ASSERT_LE(action.first + action.count, load.available);
          ASSERT_TRUE(load.running.emplace(action.first, action.count).second);
          ASSERT_LE(load.running.size(), options.chunks_running);
        } else if (action.kind == Kind::kEnd) {
          ASSERT_TRUE(load.running.empty());
          const auto prefix = static_cast<std::uint32_t>(std::ranges::find(load.proven, false) -
                                                         load.proven.begin());
          ASSERT_EQ(action.count, prefix);
          ASSERT_EQ(action.state == HandoverState::kDone, !load.stopped);
          ASSERT_TRUE(load.stopped || prefix == load.blocks);
          live.erase(action.load);
        }
        std::size_t running = 0;
        for (const auto& [id, one] : live) {
          running += one.running.size();
        }
        ASSERT_LE(running, options.chunks_together);
      }
    };
    for (int step = 0; step < 200; ++step) {
      const std::uint64_t what = below(10);
      if (what < 2) {
        const LoadId id{++last};
        Load load;
        load.blocks = static_cast<std::uint32_t>(1 + below(20));
        load.proven.resize(load.blocks);
        deadlines[id] = now + static_cast<int>(1 + below(60));
        load.available =
            below(2) == 0 ? load.blocks : static_cast<std::uint32_t>(below(load.blocks));
        table.Begin(id, {load.blocks, load.available}, At(deadlines[id]));
        live.emplace(id, std::move(load));
      } else if (what < 3 && !live.empty()) {
        const LoadId id =
            std::next(live.begin(), static_cast<std::ptrdiff_t>(below(live.size())))->first;
        if (below(2) == 0) {
          Load& load = live.at(id);
          load.available += static_cast<std::uint32_t>(below(load.blocks - load.available + 1));
          table.OnMore(id, load.available, At(deadlines[id]));
        } else if (below(2) == 0) {
          live.at(id).stopped = true;
          table.Cancel(id);
        } else {
          live.at(id).stopped = true;
          table.Fail(id, Error(Code::kUnavailable, "withdrawn"));
        }
      } else if (what < 4) {
        now += static_cast<int>(below(5));
        for (auto& [id, load] : live) {
          load.stopped = load.stopped || deadlines[id] <= now;
        }
        table.OnTime(At(now));
      } else {
        for (auto& [id, load] : live) {
          if (!load.running.empty() && below(2) == 0) {
            const auto [first, count] = *std::next(
                load.running.begin(), static_cast<std::ptrdiff_t>(below(load.running.size())));
            const auto proven = static_cast<std::uint32_t>(
                below(8) > 0 && !load.stopped ? count : below(count + 1));
            load.running.erase(first);
            for (std::uint32_t i = 0; i < proven; ++i) {
              load.proven[first + i] = true;
            }
            load.stopped = load.stopped || proven < count;
            table.OnChunk(id, first, proven, std::nullopt);
            break;
          }
        }
      }
      act();
      if (HasFatalFailure()) {
        return;
      }
    }
    for (auto& [id, load] : live) {
      load.stopped = true;
      table.Cancel(id);
    }
    std::vector<std::pair<LoadId, std::uint32_t>> left;
    for (const auto& [id, load] : live) {
      for (const auto& [first, count] : load.running) {
        left.emplace_back(id, first);
      }
    }
    for (const auto& [id, first] : left) {
      live.at(id).running.erase(first);
      table.OnChunk(id, first, 0, std::nullopt);
    }
    act();
    ASSERT_EQ(table.size(), 0U);
    ASSERT_EQ(table.chunks_running(), 0U);
    ASSERT_TRUE(live.empty());
  }
}

}  // namespace
}  // namespace pixii::kv
