#include "model/rank_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "kernels/collective.h"

namespace pixii::model {
namespace {

TEST(RankTeamTest, EveryRankRunsEachPieceOnce) {
  std::vector<int> runs(3);
  RankTeam team(3, [](std::int32_t /*rank*/) {});
  for (int piece = 0; piece < 5; ++piece) {
    const std::int32_t failed = team.Run([&](std::int32_t rank) -> Result<void> {
      ++runs[static_cast<std::size_t>(rank)];
      return {};
    });
    EXPECT_EQ(failed, -1);
  }
  EXPECT_EQ(runs, std::vector<int>(3, 5));
}

TEST(RankTeamTest, ARankThatFailsEndsTheWaitingOfTheOthers) {
  auto members = kernels::MakeThreadCollective({.size = 2});
  ASSERT_TRUE(members.has_value());
  RankTeam team(2, [&](std::int32_t rank) { (*members)[static_cast<std::size_t>(rank)]->Abort(); });
  const std::int32_t failed = team.Run([&](std::int32_t rank) -> Result<void> {
    if (rank == 1) {
      return Fail(Code::kResourceExhausted, "no memory");
    }
    return (*members)[0]->Barrier();
  });
  EXPECT_EQ(failed, 1);
  EXPECT_EQ(team.result(1).error().code(), Code::kResourceExhausted);
  ASSERT_FALSE(team.result(0).has_value());
  EXPECT_EQ(team.result(0).error().code(), Code::kUnavailable);
}

TEST(RankTeamTest, AModelFaultIsAResultAndNoFailure) {
  std::atomic<int> ended{0};
  RankTeam team(2, [&](std::int32_t /*rank*/) { ++ended; });
  EXPECT_EQ(team.Run([](std::int32_t rank) -> Result<void> {
    if (rank == 1) {
      return Fail(Code::kModelFault, "not finite");
    }
    return {};
  }),
            -1);
  EXPECT_EQ(ended, 0);
  EXPECT_FALSE(team.result(1).has_value());
}

}  // namespace
}  // namespace pixii::model
