#include "router/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <set>

namespace pixii::router {
namespace {

constexpr rt::Time kStart{};

control::Instance Worker(std::uint64_t id, std::uint32_t ranks = 1) {
  control::Instance out;
  out.id = InstanceId{id};
  out.rank_count = ranks;
  out.card.block_tokens = 4;
  out.card.block_count = 1000;
  out.card.batch_tokens_max = 100;
  return out;
}

RouteRequest Request(std::uint64_t id) {
  RouteRequest out;
  out.id = RequestId{id};
  out.tokens = {1, 2, 3, 4, 5};
  return out;
}

class RouterModes : public testing::Test {
 protected:
  Router& Make(RouterMode mode, std::uint64_t workers) {
    RouterOptions options;
    options.mode = mode;
    router_.emplace(options, 7);
    for (std::uint64_t i = 1; i <= workers; ++i) {
      router_->SetWorker(Worker(i));
    }
    return *router_;
  }

  Result<Target> Route(RouteRequest request) {
    router_->Submit(std::move(request), kStart);
    const std::vector<Dispatch> out = router_->TakeDispatches(kStart);
    EXPECT_EQ(out.size(), 1);
    return out.empty() ? Result<Target>(Fail(Code::kInternal, "nothing")) : out[0].target;
  }

  std::uint64_t RouteTo(RouteRequest request) {
    const Result<Target> target = Route(std::move(request));
    return target ? Raw(target->instance) : 0;
  }

  std::uint64_t RouteTo() { return RouteTo(Request(++last_id_)); }

  std::optional<Router> router_;
  std::uint64_t last_id_ = 100;
};

TEST_F(RouterModes, RoundRobinGoesInAnExactCycle) {
  Make(RouterMode::kRoundRobin, 3);
  std::vector<std::uint64_t> seen;
  for (int i = 0; i < 7; ++i) {
    seen.push_back(RouteTo());
  }
  EXPECT_THAT(seen, testing::ElementsAre(1, 2, 3, 1, 2, 3, 1));
}

TEST_F(RouterModes, RoundRobinGoesOnWhenWorkersComeAndGo) {
  Router& router = Make(RouterMode::kRoundRobin, 3);
  EXPECT_EQ(RouteTo(), 1);
  EXPECT_EQ(RouteTo(), 2);
  router.RemoveWorker(InstanceId{2});
  EXPECT_EQ(RouteTo(), 3);
  EXPECT_EQ(RouteTo(), 1);
  router.SetWorker(Worker(2));
  EXPECT_EQ(RouteTo(), 2);
}

TEST_F(RouterModes, RoundRobinTakesEveryRank) {
  Router& router = Make(RouterMode::kRoundRobin, 0);
  router.SetWorker(Worker(1, 2));
  router.SetWorker(Worker(2, 1));
  std::vector<Target> seen;
  for (std::uint64_t i = 1; i <= 4; ++i) {
    seen.push_back(*Route(Request(i)));
  }
  EXPECT_THAT(seen, testing::ElementsAre(Target{InstanceId{1}, 0}, Target{InstanceId{1}, 1},
                                         Target{InstanceId{2}, 0}, Target{InstanceId{1}, 0}));
}

TEST_F(RouterModes, RandomIsUniform) {
  Make(RouterMode::kRandom, 4);
  std::array<double, 4> seen{};
  for (int i = 0; i < 4000; ++i) {
    ++seen.at(RouteTo() - 1);
  }
  double chi_square = 0;
  for (const double count : seen) {
    chi_square += (count - 1000) * (count - 1000) / 1000;
  }
  EXPECT_LT(chi_square, 16.3);  // three degrees of freedom: one in a thousand seeds is above
  EXPECT_GT(chi_square, 0.0);
}

TEST_F(RouterModes, LeastLoadedEvensOutAndCountsWhatEnded) {
  Router& router = Make(RouterMode::kLeastLoaded, 3);
  std::map<std::uint64_t, std::vector<std::uint64_t>> at;
  for (std::uint64_t i = 1; i <= 9; ++i) {
    at[RouteTo(Request(i))].push_back(i);
  }
  for (std::uint64_t worker = 1; worker <= 3; ++worker) {
    EXPECT_EQ(at[worker].size(), 3) << worker;
  }
  for (const std::uint64_t id : at[2]) {
    router.Withdraw(RequestId{id}, kStart);
  }
  EXPECT_EQ(RouteTo(Request(20)), 2);
  EXPECT_EQ(RouteTo(Request(21)), 2);
  EXPECT_EQ(RouteTo(Request(22)), 2);
}

TEST_F(RouterModes, PowerOfTwoNeverTakesTheFullerOfTwo) {
  Make(RouterMode::kPowerOfTwo, 2);
  std::map<std::uint64_t, int> at;
  for (int i = 0; i < 100; ++i) {
    const int before_1 = at[1];
    const int before_2 = at[2];
    const std::uint64_t worker = RouteTo();
    ++at[worker];
    if (before_1 != before_2) {
      EXPECT_EQ(worker, before_1 < before_2 ? 1 : 2);
    }
  }
}

TEST_F(RouterModes, PowerOfTwoNeverTakesTheFullestOfMany) {
  Router& router = Make(RouterMode::kPowerOfTwo, 1);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(RouteTo(), 1);
  }
  router.SetWorker(Worker(2));
  router.SetWorker(Worker(3));
  router.SetWorker(Worker(4));
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 1; i <= 64; ++i) {
    seen.insert(RouteTo(Request(i)));
    router.Withdraw(RequestId{i}, kStart);
  }
  EXPECT_THAT(seen, testing::ElementsAre(2, 3, 4));
}

TEST_F(RouterModes, DirectGoesWhereTheRequestSays) {
  Make(RouterMode::kDirect, 3);
  RouteRequest request = Request(1);
  request.pinned = InstanceId{2};
  EXPECT_EQ(RouteTo(request), 2);
  const Result<Target> nowhere = Route(Request(2));
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code(), Code::kInvalidArgument);
}

TEST_F(RouterModes, APinHoldsInEveryMode) {
  for (const RouterMode mode :
       {RouterMode::kRoundRobin, RouterMode::kRandom, RouterMode::kPowerOfTwo,
        RouterMode::kLeastLoaded, RouterMode::kKv, RouterMode::kDirect}) {
    Router& router = Make(mode, 2);
    router.SetWorker(Worker(9, 4));
    RouteRequest request = Request(1);
    request.pinned = InstanceId{9};
    request.rank = 3;
    EXPECT_EQ(*Route(request), (Target{InstanceId{9}, 3}));
    request.id = RequestId{2};
    request.rank = 4;
    const Result<Target> no_rank = Route(request);
    ASSERT_FALSE(no_rank);
    EXPECT_EQ(no_rank.error().code(), Code::kInvalidArgument);
    request.id = RequestId{3};
    request.pinned = InstanceId{77};
    const Result<Target> no_worker = Route(request);
    ASSERT_FALSE(no_worker);
    EXPECT_EQ(no_worker.error().code(), Code::kUnavailable);
  }
}

TEST_F(RouterModes, WhereItFailedItDoesNotGoAgain) {
  for (const RouterMode mode :
       {RouterMode::kRoundRobin, RouterMode::kRandom, RouterMode::kPowerOfTwo,
        RouterMode::kLeastLoaded, RouterMode::kKv}) {
    Make(mode, 3);
    for (std::uint64_t i = 1; i <= 30; ++i) {
      RouteRequest request = Request(i);
      request.excluded = {InstanceId{1}, InstanceId{3}};
      EXPECT_EQ(RouteTo(request), 2);
    }
    RouteRequest request = Request(40);
    request.excluded = {InstanceId{1}, InstanceId{2}, InstanceId{3}};
    const Result<Target> none = Route(request);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code(), Code::kUnavailable);
  }
}

TEST_F(RouterModes, NoWorkerIsUnavailable) {
  Router& router = Make(RouterMode::kRoundRobin, 0);
  const Result<Target> none = Route(Request(1));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Code::kUnavailable);
  control::Instance draining = Worker(1);
  draining.draining = true;
  router.SetWorker(draining);
  EXPECT_FALSE(Route(Request(2)));
}

TEST_F(RouterModes, AWithdrawnRequestIsNotDispatched) {
  Router& router = Make(RouterMode::kRoundRobin, 1);
  router.Submit(Request(1), kStart);
  router.Withdraw(RequestId{1}, kStart);
  EXPECT_TRUE(router.TakeDispatches(kStart).empty());
}

}  // namespace
}  // namespace pixii::router
