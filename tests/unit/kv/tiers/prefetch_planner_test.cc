#include "kv/tiers/prefetch_planner.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace pixii::kv {
namespace {

ConnectorRequestRef Make(std::uint64_t id, std::vector<std::uint64_t> blocks) {
  auto request = std::make_shared<ConnectorRequest>();
  request->id = RequestId{id};
  for (const std::uint64_t block : blocks) {
    request->chain.hashes.push_back({.low = block, .high = 0});
  }
  return request;
}

Hash128 HashOf(const PrefetchPlanner::Wish& wish) {
  return wish.request->chain.hashes[wish.number];
}

/// What comes next, in order, if all of it is brought; at most `count`.
std::vector<std::uint64_t> Take(PrefetchPlanner& planner, std::size_t count) {
  std::vector<std::uint64_t> blocks;
  while (blocks.size() < count) {
    const auto wish = planner.Next();
    if (!wish) {
      break;
    }
    blocks.push_back(HashOf(*wish).low);
    planner.Began(*wish);
  }
  return blocks;
}

constexpr std::uint64_t kBlock = 10;

TEST(PrefetchPlanner, WhoIsSoonerComesFirstFromTheFirstBlockItLacks) {
  PrefetchPlanner planner(
      {.bytes_in_flight_max = 1000, .blocks_ahead_max = 100, .block_bytes = kBlock});
  const auto one = Make(1, {1, 2, 3});
  const auto two = Make(2, {11, 12});
  planner.Expect(std::vector<ExpectedRequest>{{one, 1}, {two, 0}});
  EXPECT_EQ(Take(planner, 1), (std::vector<std::uint64_t>{2}));
  planner.Expect(std::vector<ExpectedRequest>{{two, 0}, {one, 1}});
  EXPECT_EQ(Take(planner, 9), (std::vector<std::uint64_t>{11, 12, 3})) << "none a second time";
  EXPECT_FALSE(planner.Next());
}

TEST(PrefetchPlanner, NoMoreIsOnItsWayThanMay) {
  PrefetchPlanner planner(
      {.bytes_in_flight_max = 25, .blocks_ahead_max = 100, .block_bytes = kBlock});
  planner.Expect(std::vector<ExpectedRequest>{{Make(1, {1, 2, 3, 4}), 0}});
  EXPECT_EQ(Take(planner, 9), (std::vector<std::uint64_t>{1, 2}));
  planner.Done({.low = 1, .high = 0});
  EXPECT_EQ(Take(planner, 9), (std::vector<std::uint64_t>{3}));
}

TEST(PrefetchPlanner, NoMoreComesBeforeItsTurnThanMayBeKept) {
  PrefetchPlanner planner(
      {.bytes_in_flight_max = 1000, .blocks_ahead_max = 3, .block_bytes = kBlock});
  const auto one = Make(1, {1, 2});
  const auto two = Make(2, {11, 12, 13});
  planner.Expect(std::vector<ExpectedRequest>{{one, 0}, {two, 0}});
  const auto near = planner.Next();
  planner.Near(*near);
  EXPECT_EQ(Take(planner, 9), (std::vector<std::uint64_t>{2, 11}));
  for (const std::uint64_t block : {2, 11}) {
    planner.Done({.low = block, .high = 0});
  }
  EXPECT_FALSE(planner.Next()) << "what came is kept for them";
  planner.Forget(RequestId{1});  // its turn came
  EXPECT_EQ(Take(planner, 9), (std::vector<std::uint64_t>{12, 13}));
}

TEST(PrefetchPlanner, BlocksBehindAMissingOneAreOfNoUse) {
  PrefetchPlanner planner(
      {.bytes_in_flight_max = 1000, .blocks_ahead_max = 100, .block_bytes = kBlock});
  planner.Expect(std::vector<ExpectedRequest>{{Make(1, {1, 2}), 0}, {Make(2, {11}), 0}});
  planner.Missing(*planner.Next());
  EXPECT_EQ(Take(planner, 9), (std::vector<std::uint64_t>{11}));
}

TEST(PrefetchPlanner, WithoutBytesOrRoomNothingComesEarly) {
  for (const PrefetchPlannerOptions& options :
       {PrefetchPlannerOptions{.bytes_in_flight_max = 0, .blocks_ahead_max = 9, .block_bytes = 1},
        PrefetchPlannerOptions{
            .bytes_in_flight_max = 9, .blocks_ahead_max = 0, .block_bytes = 1}}) {
    PrefetchPlanner planner(options);
    planner.Expect(std::vector<ExpectedRequest>{{Make(1, {1}), 0}});
    EXPECT_FALSE(planner.Next());
  }
}

}  // namespace
}  // namespace pixii::kv
