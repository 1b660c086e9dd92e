#include "worker/rank_placement.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace pixii::worker {
namespace {

using Kind = RankPlacement::Decision::Kind;

constexpr rt::Duration kWait = std::chrono::milliseconds(100);

TEST(RankPlacement, WithoutAWishTheLeastBusyRankIsTakenAndEqualsTakeTurns) {
  RankPlacement placement({.rank_count = 3, .rank_places = 4});
  std::set<std::uint32_t> ranks;
  for (int i = 0; i < 3; ++i) {
    const RankPlacement::Decision decision = placement.Place({}, {});
    EXPECT_EQ(decision.kind, Kind::kGo);
    ranks.insert(decision.rank);
  }
  EXPECT_EQ(ranks.size(), 3U);
  placement.Take(0, 2);
  placement.Take(1, 1);
  placement.Take(2, 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(placement.Place({}, {}).rank, 1U);
  }
  placement.Free(2, 3);
  EXPECT_EQ(placement.Place({}, {}).rank, 2U);
}

TEST(RankPlacement, StrictGoesToItsRankHoweverBusyItIs) {
  RankPlacement placement({.rank_count = 2, .rank_places = 4});
  placement.Take(0, 100);
  const RankPlacement::Decision decision =
      placement.Place({.rank = 0, .wait = {}, .session = {}}, {});
  EXPECT_EQ(decision.kind, Kind::kGo);
  EXPECT_EQ(decision.rank, 0U);
}

TEST(RankPlacement, RelaxedWaitsForAPlaceAndThenGoesElsewhere) {
  RankPlacement placement({.rank_count = 2, .rank_places = 4});
  const RankPlacement::Wish wish{.rank = 0, .wait = kWait, .session = {}, .sequences = 2};
  placement.Take(0, 2);
  EXPECT_EQ(placement.Place(wish, {}).kind, Kind::kGo) << "two places are left";
  placement.Take(0, 1);
  EXPECT_EQ(placement.Place(wish, {}).kind, Kind::kWait);
  EXPECT_EQ(placement.Place(wish, kWait - rt::Duration(1)).kind, Kind::kWait);
  const RankPlacement::Decision moved = placement.Place(wish, kWait);
  EXPECT_EQ(moved.kind, Kind::kGo);
  EXPECT_EQ(moved.rank, 1U);
  placement.Free(0, 1);
  EXPECT_EQ(placement.Place(wish, kWait).rank, 0U);
}

TEST(RankPlacement, ADeadOrUnknownRankIsAsGoodAsNone) {
  RankPlacement placement({.rank_count = 2, .rank_places = 4});
  EXPECT_FALSE(placement.exists(7));
  EXPECT_EQ(placement.Place({.rank = 7, .wait = {}, .session = {}}, {}).kind, Kind::kGo);
  placement.MarkDead(0);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(placement.Place({}, {}).rank, 1U);
    EXPECT_EQ(placement.Place({.rank = 0, .wait = {}, .session = {}}, {}).rank, 1U);
  }
  placement.MarkDead(1);
  EXPECT_EQ(placement.Place({}, {}).kind, Kind::kNobody);
}

TEST(RankPlacement, ASessionStaysAtItsRank) {
  RankPlacement placement({.rank_count = 4, .rank_places = 4, .session_affinity = true});
  const std::uint32_t rank = placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank;
  placement.Take(rank, 50);
  for (int turn = 0; turn < 5; ++turn) {
    EXPECT_EQ(placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank, rank);
    EXPECT_EQ(placement.Place({.rank = (rank + 1) % 4, .wait = {}, .session = "a"}, {}).rank, rank)
        << "its session counts for more than the rank that the router named";
    EXPECT_NE(placement.Place({.rank = {}, .wait = {}, .session = {}}, {}).rank, rank);
  }
  placement.MarkDead(rank);
  const std::uint32_t other = placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank;
  EXPECT_NE(other, rank);
  EXPECT_EQ(placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank, other);
  EXPECT_EQ(placement.session_count(), 1U);
}

TEST(RankPlacement, TheRouterMayHaveTheFirstWord) {
  RankPlacement placement(
      {.rank_count = 4, .rank_places = 4, .session_affinity = true, .session_first = false});
  const std::uint32_t rank = placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank;
  const std::uint32_t named = (rank + 1) % 4;
  EXPECT_EQ(placement.Place({.rank = named, .wait = {}, .session = "a"}, {}).rank, named);
  EXPECT_EQ(placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank, rank);
}

TEST(RankPlacement, SoManySessionsAreRememberedAndThoseUsedLast) {
  RankPlacement placement(
      {.rank_count = 2, .rank_places = 4, .session_affinity = true, .sessions_max = 3});
  const auto rank_of = [&](const std::string& session) {
    return placement.Place({.rank = {}, .wait = {}, .session = session}, {}).rank;
  };
  const std::uint32_t kept = rank_of("kept");
  const std::uint32_t lost = rank_of("lost");
  placement.Take(kept, 1);  // who is bound anew now goes to the other
  for (int i = 0; i < 50; ++i) {
    rank_of("other" + std::to_string(i));
    EXPECT_EQ(rank_of("kept"), kept);
    EXPECT_LE(placement.session_count(), 3U);
  }
  placement.Take(lost, 2);
  EXPECT_EQ(rank_of("lost"), kept) << "it was forgotten, and bound anew by what ranks have to do";
}

TEST(RankPlacement, WithoutAffinitySessionsMeanNothing) {
  RankPlacement placement({.rank_count = 2, .rank_places = 4});
  std::set<std::uint32_t> ranks;
  for (int i = 0; i < 2; ++i) {
    ranks.insert(placement.Place({.rank = {}, .wait = {}, .session = "a"}, {}).rank);
  }
  EXPECT_EQ(ranks.size(), 2U);
  EXPECT_EQ(placement.session_count(), 0U);
}

}  // namespace
}  // namespace pixii::worker
