#include "router/service/reservations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "unit/router/service/router_process.h"

namespace pixii::router {
namespace {

using std::chrono::seconds;

class ReservationsTest : public testing::Test {
 protected:
  explicit ReservationsTest(RouterOptions options = KvOptions())
      : router_(world_.AddNode("router"), std::move(options)) {
    router_.AddWorkers(1);
  }

  Result<Chosen> Select(const std::string& name, bool reserve) {
    std::optional<Result<Chosen>> out;
    const Result<std::string> named = held_.Select(*router_.pool, name, MakeRequest(1), reserve,
                                                   [&](Result<Chosen> chosen) { out = chosen; });
    if (!named) {
      return Fail(named.error());
    }
    return out ? *out : Result<Chosen>(Fail(Code::kInternal, "it waits"));
  }

  RankLoad Load() { return router_.Loads()[0]; }

  rt::SimWorld world_{{.seed = 1}};
  RouterProcess router_;
  Reservations held_{router_.node.loop(), router_.pools, {}};
};

TEST_F(ReservationsTest, ACycleGivesExactLoadsAndReturnsToNothing) {
  const Result<Chosen> chosen = Select("one", true);
  ASSERT_TRUE(chosen) << chosen.error().ToString();
  EXPECT_EQ(chosen->placement.target.instance, InstanceId{1});
  EXPECT_EQ(chosen->placement.prefill_tokens, 9U);
  EXPECT_EQ(Load(), (RankLoad{.prefill_tokens = 9, .prompt_blocks = 3, .requests = 1}));
  ASSERT_TRUE(held_.OnPrefillDone("one"));
  ASSERT_TRUE(held_.OnOutputBlock("one", 1));
  ASSERT_TRUE(held_.OnOutputBlock("one", 0.5));
  EXPECT_EQ(
      Load(),
      (RankLoad{.prefill_tokens = 0, .prompt_blocks = 3, .output_blocks = 1.5, .requests = 1}));
  ASSERT_TRUE(held_.Free("one"));
  EXPECT_EQ(Load(), RankLoad{});
  EXPECT_EQ(held_.Free("one").error().code(), Code::kNotFound);
  EXPECT_EQ(held_.OnPrefillDone("one").error().code(), Code::kNotFound);
}

TEST_F(ReservationsTest, NamesAndReservationsHaveABound) {
  const std::string longest(Reservations::kNameBytesMax, 'x');
  EXPECT_TRUE(Select(longest, true));
  EXPECT_EQ(Select(longest + "x", true).error().param(), "selection_id");
  EXPECT_EQ(Select(longest + "x", false).error().code(), Code::kInvalidArgument);
  Reservations few(router_.node.loop(), router_.pools, {.reserved_max = 1});
  const Placement there{.target = {InstanceId{1}, 0}};
  EXPECT_TRUE(few.Place(*router_.pool, "a", there));
  EXPECT_EQ(few.Place(*router_.pool, "b", there).error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(few.Free("a"));
  EXPECT_TRUE(few.Place(*router_.pool, "b", there));
}

TEST_F(ReservationsTest, ANameIsReservedOnce) {
  ASSERT_TRUE(Select("one", true));
  EXPECT_EQ(Select("one", true).error().param(), "selection_id");
  EXPECT_EQ(held_.Place(*router_.pool, "one", {}).error().param(), "selection_id");
  EXPECT_EQ(Load().requests, 1U);
}

TEST_F(ReservationsTest, AChoiceCountsOnceItIsReserved) {
  ASSERT_TRUE(Select("one", false));
  EXPECT_EQ(Load(), RankLoad{});
  const Result<Chosen> reserved = held_.Reserve(*router_.pool, "one");
  ASSERT_TRUE(reserved);
  EXPECT_EQ(Load().requests, 1U);
  ASSERT_TRUE(held_.Free("one"));
  EXPECT_EQ(held_.Reserve(*router_.pool, "one").error().code(), Code::kNotFound);  // used up
}

TEST_F(ReservationsTest, AChoiceThatNobodyReservesIsForgotten) {
  ASSERT_TRUE(Select("one", false));
  world_.RunTo(world_.now() + seconds(121));
  EXPECT_EQ(held_.Reserve(*router_.pool, "one").error().code(), Code::kNotFound);
}

TEST_F(ReservationsTest, AWorkerThatGoesTakesItsReservationsWithIt) {
  ASSERT_TRUE(Select("one", true));
  router_.pool->router().RemoveWorker(InstanceId{1});
  router_.pool->Pump();
  EXPECT_EQ(held_.reserved_count(), 0U);
  EXPECT_EQ(Select("two", true).error().code(), Code::kUnavailable);
  EXPECT_EQ(held_.reserved_count(), 0U);
}

class ReservationsExpiry : public ReservationsTest {
 protected:
  static RouterOptions Options() {
    RouterOptions out = KvOptions();
    out.active_request_expiry = seconds(60);
    return out;
  }

  ReservationsExpiry() : ReservationsTest(Options()) {}
};

TEST_F(ReservationsExpiry, WhoseOwnerVanishedEndsAndWhoStillStreamsDoesNot) {
  ASSERT_TRUE(Select("vanished", true));
  ASSERT_TRUE(Select("streams", true));
  for (int i = 0; i < 10; ++i) {
    world_.RunTo(world_.now() + seconds(50));
    ASSERT_TRUE(held_.OnOutputBlock("streams", 1)) << i;
  }
  EXPECT_EQ(held_.Free("vanished").error().code(), Code::kNotFound);
  EXPECT_EQ(Load().requests, 1U);
  world_.RunTo(world_.now() + seconds(61));
  EXPECT_EQ(Load(), RankLoad{});
  EXPECT_EQ(held_.reserved_count(), 0U);
}

class ReservationsQueue : public ReservationsTest {
 protected:
  static RouterOptions Options() {
    RouterOptions out = KvOptions();
    out.queue_threshold = 0;
    return out;
  }

  ReservationsQueue() : ReservationsTest(Options()) {}
};

TEST_F(ReservationsQueue, OneThatWaitsIsChosenLaterOrGivenUp) {
  ASSERT_TRUE(Select("one", true));
  std::optional<Result<Chosen>> second;
  ASSERT_TRUE(held_.Select(*router_.pool, "two", MakeRequest(2), true,
                           [&](Result<Chosen> chosen) { second = chosen; }));
  ASSERT_TRUE(held_.Select(*router_.pool, "three", MakeRequest(3), true,
                           [](const Result<Chosen>&) { ADD_FAILURE() << "it was given up"; }));
  EXPECT_FALSE(second);
  ASSERT_TRUE(held_.Free("three"));
  ASSERT_TRUE(held_.OnPrefillDone("one"));
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->has_value());
  EXPECT_EQ(Load().requests, 2U);
}

}  // namespace
}  // namespace pixii::router
