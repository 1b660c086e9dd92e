// Requests that their clients send to workers themselves: counted as if they were sent from here.
#include "frontend/fleet/placer.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "unit/frontend/fleet/fleet_fixture.h"

namespace pixii::frontend {
namespace {

using testing::MakeMockRequest;

class PlacerTest : public FleetFixture {
 protected:
  std::unique_ptr<PlacedRequest> Place(std::uint64_t id, Placer::Filter may_have = {},
                                       std::uint32_t prompt_tokens = 40) {
    wire::GenerateRequest request = MakeMockRequest(id, 20, 1);
    request.prompt.assign(prompt_tokens, TokenId{static_cast<std::int32_t>(id)});
    return fleet_->Place(std::move(request), std::move(may_have),
                         [this, id](const Result<PlacedAt>& at) {
                           EXPECT_FALSE(told_.contains(id)) << "told twice";
                           told_.emplace(id, at);
                         });
  }

  void RunUntilTold(std::uint64_t id) {
    RunUntil([&] { return told_.contains(id); });
  }

  static FleetOptions LeastLoaded() {
    FleetOptions options;
    options.router.mode = router::RouterMode::kLeastLoaded;
    return options;
  }

  std::uint64_t PrefillTokens() const {
    std::uint64_t out = 0;
    for (const auto& row : fleet_->router().Loads()) {
      out += row.load.prefill_tokens;
    }
    return out;
  }

  std::map<std::uint64_t, Result<PlacedAt>> told_;
};

TEST_F(PlacerTest, APlacedRequestCountsUntilItIsLetGoAndNoWorkerHearsOfIt) {
  StartFleet(2, LeastLoaded());
  auto first = Place(1);
  EXPECT_FALSE(told_.contains(1)) << "not inside the call";
  auto second = Place(2);
  RunUntilTold(1);
  RunUntilTold(2);
  ASSERT_TRUE(told_.at(1));
  ASSERT_TRUE(told_.at(2));
  EXPECT_NE(told_.at(1)->instance.id, told_.at(2)->instance.id) << "the first one counts";
  EXPECT_EQ(fleet_->router().outstanding_count(), 2U);
  EXPECT_EQ(Busy(), 0U);
  EXPECT_GT(PrefillTokens(), 0U);
  first->OnTokens(1);
  second->OnTokens(3);
  EXPECT_EQ(PrefillTokens(), 0U);
  first.reset();
  EXPECT_EQ(fleet_->router().outstanding_count(), 1U);
  EXPECT_EQ(fleet_->outstanding_count(), 1U);
  second.reset();
  EXPECT_EQ(fleet_->router().outstanding_count(), 0U);
  EXPECT_EQ(fleet_->attempt_count(), 0U);
}

TEST_F(PlacerTest, OnlyThoseThatMayHaveItGetIt) {
  StartFleet(3, LeastLoaded());
  const control::InstanceId only = instances_.at(2).id;
  std::vector<std::unique_ptr<PlacedRequest>> held;
  for (std::uint64_t id = 1; id <= 4; ++id) {
    held.push_back(Place(id, [only](const control::Instance& one) { return one.id == only; }));
    RunUntilTold(id);
    ASSERT_TRUE(told_.at(id));
    EXPECT_EQ(told_.at(id)->instance.id, only);
  }
  auto nowhere = Place(9, [](const control::Instance&) { return false; });
  RunUntilTold(9);
  ASSERT_FALSE(told_.at(9));
  EXPECT_EQ(told_.at(9).error().code(), Code::kUnavailable);
  nowhere.reset();
  EXPECT_EQ(fleet_->outstanding_count(), 4U);
}

TEST_F(PlacerTest, WhoIsLetGoBeforeItsPlaceIsKnownIsToldNothing) {
  StartFleet(1);
  auto request = Place(1);
  request.reset();
  auto after = Place(2);
  RunUntilTold(2);
  EXPECT_FALSE(told_.contains(1));
  EXPECT_EQ(fleet_->outstanding_count(), 1U);
}

TEST_F(PlacerTest, ADeadWorkerTakesItsPlacedRequestsWithIt) {
  StartFleet(2, LeastLoaded());
  auto first = Place(1);
  RunUntilTold(1);
  const control::InstanceId at = told_.at(1)->instance.id;
  for (const auto& [number, instance] : instances_) {
    if (instance.id == at) {
      Kill(number);
      break;
    }
  }
  RunUntil([&] { return fleet_->worker_count() == 1; });
  first->OnTokens(1);
  auto second = Place(2);
  RunUntilTold(2);
  ASSERT_TRUE(told_.at(2));
  EXPECT_NE(told_.at(2)->instance.id, at);
  first.reset();
  second.reset();
  EXPECT_EQ(fleet_->outstanding_count(), 0U);
}

TEST_F(PlacerTest, ADeadlineEndsItWhereverItIs) {
  StartFleet(1);
  wire::GenerateRequest request = MakeMockRequest(1, 20, 1);
  request.deadline_left_ns = 100'000'000;
  auto placed =
      fleet_->Place(std::move(request), {}, [](const Result<PlacedAt>& at) { EXPECT_TRUE(at); });
  RunUntil([&] { return fleet_->outstanding_count() == 0; });
  placed->OnTokens(1);
  placed.reset();
  EXPECT_EQ(fleet_->router().outstanding_count(), 0U);
}

TEST_F(PlacerTest, AHandleMayOutliveTheFleet) {
  StartFleet(1);
  auto request = Place(1);
  RunUntilTold(1);
  fleet_.reset();
  request->OnTokens(1);
  request.reset();
}

}  // namespace
}  // namespace pixii::frontend
