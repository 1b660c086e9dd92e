// Whole decisions of the mode kv.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "router/router.h"
#include "wire/public_hash.h"

namespace pixii::router {
namespace {

using wire::KvEvent;

constexpr std::uint32_t kBlock = 4;

rt::Time At(double seconds) {
  return rt::Time{} +
         std::chrono::duration_cast<rt::Duration>(std::chrono::duration<double>(seconds));
}

control::Instance Worker(std::uint64_t id, std::uint32_t ranks = 1) {
  control::Instance out;
  out.id = InstanceId{id};
  out.rank_count = ranks;
  out.card.block_tokens = kBlock;
  out.card.block_count = 100;
  out.card.batch_tokens_max = 100;
  return out;
}

RouteRequest Request(std::uint64_t id, TokenId first, std::size_t count = 40) {
  RouteRequest out;
  out.id = RequestId{id};
  out.tokens.resize(count);
  std::iota(out.tokens.begin(), out.tokens.end(), first);
  return out;
}

KvEvent StoredOf(const RouteRequest& request, std::uint32_t rank = 0) {
  KvEvent out;
  out.rank = rank;
  std::uint64_t chain = 0;
  for (const std::uint64_t block : wire::PublicBlockHashes(
           request.tokens, kBlock, wire::PublicHashSeed(request.salt, request.adapter))) {
    chain = ChainHashOf(chain, block);
    out.blocks.push_back({chain, block});
  }
  return out;
}

class RouterKv : public testing::Test {
 protected:
  Router& Make(RouterOptions options, std::uint64_t workers) {
    options.mode = RouterMode::kKv;
    router_.emplace(options, 3);
    for (std::uint64_t i = 1; i <= workers; ++i) {
      router_->SetWorker(Worker(i));
    }
    return *router_;
  }

  // 0: nobody yet; 1000 and more: an error.
  std::uint64_t RouteTo(RouteRequest request, double now = 0) {
    router_->Submit(std::move(request), At(now));
    return Taken(now);
  }

  std::uint64_t Taken(double now = 0) {
    const std::vector<Dispatch> out = router_->TakeDispatches(At(now));
    EXPECT_LE(out.size(), 1);
    if (out.empty()) {
      return 0;
    }
    overlap_tokens_ = out[0].overlap_tokens;
    return out[0].target ? Raw(out[0].target->instance)
                         : 1000 + static_cast<std::uint64_t>(out[0].target.error().code());
  }

  static constexpr std::uint64_t Is(Code code) { return 1000 + static_cast<std::uint64_t>(code); }

  std::optional<Router> router_;
  std::uint32_t overlap_tokens_ = 0;
};

TEST_F(RouterKv, GoesWhereThePrefixIs) {
  Router& router = Make({}, 4);
  for (std::uint64_t i = 1; i <= 20; ++i) {
    router.OnKvEvents(InstanceId{3}, {StoredOf(Request(0, 500))}, At(0));
    EXPECT_EQ(RouteTo(Request(i, 500)), 3);
    EXPECT_EQ(overlap_tokens_, 40);
    router.Withdraw(RequestId{i}, At(0));
  }
}

TEST_F(RouterKv, LoadBeatsCacheWhereTheCostSaysSo) {
  Router& router = Make({}, 2);
  router.OnKvEvents(InstanceId{1}, {StoredOf(Request(0, 500))}, At(0));
  std::uint64_t at_first = 0;
  for (std::uint64_t i = 1; i <= 20; ++i) {
    RouteRequest request = Request(i, 500);
    const std::vector<Candidate> before = router.Explain(request, At(0));
    ASSERT_EQ(before.size(), 2);
    const std::uint64_t to = RouteTo(request);
    const bool equal = before[0].terms.cost == before[1].terms.cost;
    EXPECT_TRUE(equal || (to == 1) == (before[0].terms.cost < before[1].terms.cost));
    at_first += to == 1 ? 1 : 0;
    // Of another prefix, pinned there: load.
    RouteRequest other = Request(100 + i, static_cast<TokenId>(1000 * i));
    other.pinned = InstanceId{1};
    EXPECT_EQ(RouteTo(other), 1);
  }
  EXPECT_GE(at_first, 1);
  EXPECT_LE(at_first, 3);
}

TEST_F(RouterKv, ExplainsEveryTermOfEveryRank) {
  RouterOptions options;
  options.cost.active_request_weight = 32;
  Router& router = Make(options, 2);
  router.OnKvEvents(InstanceId{2}, {StoredOf(Request(0, 500, 20))}, At(0));
  RouteRequest busy = Request(1, 9000, 8);
  busy.pinned = InstanceId{1};
  EXPECT_EQ(RouteTo(busy), 1);
  RouteRequest request = Request(2, 500);
  request.excluded = {InstanceId{1}};
  const std::vector<Candidate> out = router.Explain(request, At(0));
  ASSERT_EQ(out.size(), 2);
  EXPECT_EQ(out[0].standing, Standing::kExcluded);
  EXPECT_EQ(out[0].input.active_prefill_tokens, 8);
  EXPECT_DOUBLE_EQ(out[0].terms.cost, 12 + (2 + 10) + 32);
  EXPECT_EQ(out[1].standing, Standing::kEligible);
  EXPECT_EQ(out[1].input.device_blocks, 5);
  EXPECT_DOUBLE_EQ(out[1].terms.credit, 5);
  EXPECT_DOUBLE_EQ(out[1].terms.cost, 10 - 5 + 10);
  EXPECT_EQ(router.Loads()[1].load, RankLoad{}) << "asking changes nothing";
}

TEST_F(RouterKv, SaltsAndAdaptersNeverMeet) {
  Router& router = Make({}, 1);
  RouteRequest salted = Request(0, 500);
  salted.salt = "a";
  router.OnKvEvents(InstanceId{1}, {StoredOf(salted)}, At(0));
  const auto device = [&](RouteRequest request) {
    return router.Explain(request, At(0))[0].input.device_blocks;
  };
  EXPECT_EQ(device(salted), 10);
  EXPECT_EQ(device(Request(0, 500)), 0);
  salted.salt = "b";
  EXPECT_EQ(device(salted), 0);
  salted.salt = "a";
  salted.adapter = "lora";
  EXPECT_EQ(device(salted), 0);
}

TEST_F(RouterKv, EventsAreOfARank) {
  Router& router = Make({}, 0);
  router.SetWorker(Worker(1, 4));
  router.OnKvEvents(InstanceId{1}, {StoredOf(Request(0, 500), 2)}, At(0));
  router.OnKvEvents(InstanceId{1}, {StoredOf(Request(0, 500), 9)}, At(0));  // it has no such rank
  router.Submit(Request(1, 500), At(0));
  EXPECT_EQ(*router.TakeDispatches(At(0))[0].target, (Target{InstanceId{1}, 2}));
}

TEST_F(RouterKv, WithoutCreditThereIsNoIndex) {
  RouterOptions options;
  options.cost.overlap_credit = 0;
  Router& router = Make(options, 2);
  EXPECT_EQ(router.index(), nullptr);
  router.OnKvEvents(InstanceId{1}, {StoredOf(Request(0, 500))}, At(0));
  EXPECT_EQ(router.Explain(Request(1, 500), At(0))[0].input.device_blocks, 0);
}

TEST_F(RouterKv, ARemovedWorkersBlocksAreGone) {
  Router& router = Make({}, 2);
  router.OnKvEvents(InstanceId{1}, {StoredOf(Request(0, 500))}, At(0));
  router.RemoveWorker(InstanceId{1});
  router.SetWorker(Worker(1));
  EXPECT_EQ(router.Explain(Request(1, 500), At(0))[0].input.device_blocks, 0);
}

TEST_F(RouterKv, GuessesByTimeWithoutEvents) {
  RouterOptions options;
  options.use_kv_events = false;
  options.approximate_ttl = std::chrono::seconds(10);
  Router& router = Make(options, 8);
  const std::uint64_t first = RouteTo(Request(1, 500), 0);
  router.Withdraw(RequestId{1}, At(0));
  EXPECT_EQ(RouteTo(Request(2, 500), 5), first);
  router.Withdraw(RequestId{2}, At(5));
  EXPECT_EQ(router.Explain(Request(3, 500), At(14)).at(first - 1).input.device_blocks, 10);
  EXPECT_EQ(router.Explain(Request(3, 500), At(15)).at(first - 1).input.device_blocks, 0);
}

TEST_F(RouterKv, GuessesByUseUpToWhatARankHolds) {
  RouterOptions options;
  options.use_kv_events = false;
  options.approximate_policy = ApproximatePolicy::kLru;
  Router& router = Make(options, 1);  // 100 blocks
  const auto device = [&](TokenId first) {
    return router.Explain(Request(0, first), At(0))[0].input.device_blocks;
  };
  for (std::uint64_t i = 1; i <= 10; ++i) {
    RouteTo(Request(i, static_cast<TokenId>(1000 * i)));
  }
  EXPECT_EQ(device(1000), 10);
  RouteTo(Request(11, 11'000));
  EXPECT_EQ(device(1000), 10) << "all are in use";
  for (std::uint64_t i = 1; i <= 11; ++i) {
    router.Withdraw(RequestId{i}, At(0));
  }
  EXPECT_EQ(device(1000), 0) << "the one used longest ago went";
  EXPECT_EQ(device(2000), 10);
  RouteTo(Request(20, 2000));
  RouteTo(Request(21, 30'000));
  EXPECT_EQ(device(2000), 10);
  EXPECT_EQ(device(3000), 0);
}

TEST_F(RouterKv, SiblingsStayTogetherIfStoresArePredicted) {
  for (const bool predicted : {false, true}) {
    RouterOptions options;
    options.track_active_blocks = false;  // load apart
    options.cost.track_prefill_tokens = true;
    options.cost.active_request_weight = 0;
    if (predicted) {
      options.predicted_ttl = std::chrono::seconds(5);
    }
    Make(options, 4);
    std::map<std::uint64_t, int> at;
    for (std::uint64_t i = 1; i <= 16; ++i) {
      ++at[RouteTo(Request(i, 500))];
      router_->OnFirstToken(RequestId{i}, At(0));
    }
    const int most =
        std::ranges::max_element(at, {}, [](const auto& one) { return one.second; })->second;
    EXPECT_EQ(most >= 15, predicted);
    if (predicted) {
      EXPECT_EQ(router_->Explain(Request(99, 500), At(5)).at(0).input.device_blocks, 0);
    }
  }
}

TEST_F(RouterKv, AnOverrideIsOfOneRequest) {
  Router& router = Make({}, 2);
  router.OnKvEvents(InstanceId{2}, {StoredOf(Request(0, 500))}, At(0));
  RouteRequest request = Request(1, 500);
  request.instead.overlap_credit = 0;
  EXPECT_DOUBLE_EQ(router.Explain(request, At(0))[1].terms.credit, 0);
  EXPECT_DOUBLE_EQ(router.Explain(Request(1, 500), At(0))[1].terms.credit, 10);
  std::map<std::uint64_t, int> hot;
  for (std::uint64_t i = 1; i <= 200; ++i) {
    request = Request(i, 500);
    request.instead.temperature = 1e9;
    ++hot[RouteTo(request)];
    router.Withdraw(RequestId{i}, At(0));
    EXPECT_EQ(RouteTo(Request(1000 + i, 500)), 2);
    router.Withdraw(RequestId{1000 + i}, At(0));
  }
  EXPECT_GT(hot[1], 50);
}

TEST_F(RouterKv, TaintsFilterAndPrefer) {
  Router& router = Make({}, 0);
  control::Instance east = Worker(1);
  east.taints = {"zone=east"};
  control::Instance west = Worker(2);
  west.taints = {"zone=west"};
  router.SetWorker(east);
  router.SetWorker(west);
  RouteRequest request = Request(1, 500);
  request.required_taints = {"zone=west"};
  EXPECT_EQ(RouteTo(request), 2);
  request.id = RequestId{2};
  request.required_taints = {"zone=north"};
  EXPECT_EQ(RouteTo(request), Is(Code::kUnavailable));
  router.Withdraw(RequestId{1}, At(0));
  request.required_taints.clear();
  request.id = RequestId{3};
  request.preferred_taints = {{"zone=east", 1}};
  EXPECT_EQ(RouteTo(request), 1);
  router.Withdraw(RequestId{3}, At(0));
  request.id = RequestId{4};
  request.preferred_taints = {{"zone=east", -1}};
  EXPECT_EQ(RouteTo(request), 2);
}

TEST_F(RouterKv, BusyIsRefusedAndFilteredIsUnavailable) {
  RouterOptions options;
  options.active_prefill_tokens_threshold = 50;
  Router& router = Make(options, 2);
  EXPECT_NE(RouteTo(Request(1, 100, 60)), RouteTo(Request(2, 200, 60)));
  EXPECT_EQ(RouteTo(Request(3, 300, 60)), Is(Code::kResourceExhausted));
  RouteRequest nowhere = Request(4, 300);
  nowhere.excluded = {InstanceId{1}, InstanceId{2}};
  EXPECT_EQ(RouteTo(nowhere), Is(Code::kUnavailable));
  router.OnFirstToken(RequestId{1}, At(0));
  EXPECT_LT(RouteTo(Request(5, 300)), 1000U);
}

TEST_F(RouterKv, AWorkerIsBusyIfAllItsRanksAre) {
  RouterOptions options;
  options.active_decode_blocks_threshold = 0.5;
  Router& router = Make(options, 0);
  router.SetWorker(Worker(1, 2));
  wire::WorkerLoad load;
  load.blocks_used = 60;
  router.OnLoad(InstanceId{1}, 0, load, At(0));
  EXPECT_EQ(RouteTo(Request(1, 100)), 1);
  router.OnLoad(InstanceId{1}, 1, load, At(0));
  EXPECT_EQ(RouteTo(Request(2, 100)), Is(Code::kResourceExhausted));
  load.blocks_used = 10;
  router.OnLoad(InstanceId{1}, 1, load, At(0));
  EXPECT_EQ(RouteTo(Request(3, 100)), 1);
  load.state = wire::WorkerState::kAsleep;
  router.OnLoad(InstanceId{1}, 0, load, At(0));
  router.OnLoad(InstanceId{1}, 1, load, At(0));
  EXPECT_EQ(RouteTo(Request(4, 100)), Is(Code::kUnavailable));
}

TEST_F(RouterKv, AWorkersWordThatItIsFullEnds) {
  Router& router = Make({}, 1);
  router.OnOverloaded(InstanceId{1}, At(0));
  EXPECT_EQ(RouteTo(Request(1, 100), 0.5), Is(Code::kResourceExhausted));
  EXPECT_EQ(RouteTo(Request(2, 100), 1), 1);
}

TEST_F(RouterKv, WaitsWhileAllArePastTheThreshold) {
  RouterOptions options;
  options.queue_threshold = 0.5;  // of 100 tokens
  Router& router = Make(options, 2);
  EXPECT_LT(RouteTo(Request(1, 100, 60)), 3U);
  EXPECT_LT(RouteTo(Request(2, 1000, 60)), 3U);
  EXPECT_EQ(RouteTo(Request(3, 2000, 60)), 0);
  EXPECT_EQ(RouteTo(Request(4, 3000, 60)), 0);
  EXPECT_EQ(router.waiting_count(), 2);
  EXPECT_EQ(router.waiting_tokens(), 120);
  router.OnFirstToken(RequestId{1}, At(1));
  EXPECT_LT(Taken(1), 3U);
  EXPECT_EQ(router.waiting_count(), 1);
  EXPECT_EQ(Taken(1), 0);
  router.Withdraw(RequestId{4}, At(2));
  EXPECT_EQ(router.waiting_count(), 0);
  // Without a threshold nobody waits.
  Make({}, 1);
  for (std::uint64_t i = 1; i <= 10; ++i) {
    EXPECT_EQ(RouteTo(Request(i, 100, 60)), 1);
  }
}

TEST_F(RouterKv, WhoWaitsForWorkersThatLeaveFails) {
  RouterOptions options;
  options.queue_threshold = 0.5;
  Router& router = Make(options, 1);
  EXPECT_EQ(RouteTo(Request(1, 100, 60)), 1);
  EXPECT_EQ(RouteTo(Request(2, 1000, 60)), 0);
  router.RemoveWorker(InstanceId{1});
  EXPECT_EQ(Taken(), Is(Code::kUnavailable));
}

TEST_F(RouterKv, ASessionStaysWhileItLives) {
  for (const AffinityMode mode : {AffinityMode::kHard, AffinityMode::kSoft}) {
    RouterOptions options;
    options.session_affinity_ttl = std::chrono::seconds(10);
    options.session_affinity_mode = mode;
    options.active_prefill_tokens_threshold = 500;
    Router& router = Make(options, 3);
    RouteRequest request = Request(1, 100);
    request.session = "s";
    const std::uint64_t home = RouteTo(request, 0);
    for (std::uint64_t i = 2; i <= 10; ++i) {
      request = Request(i, static_cast<TokenId>(1000 * i));
      request.session = "s";
      EXPECT_EQ(RouteTo(request, 0), home);
    }
    request = Request(11, 90'000, 400);
    request.pinned = InstanceId{home};
    EXPECT_EQ(RouteTo(request, 0), home);
    request = Request(12, 50'000);
    request.session = "s";
    const std::uint64_t when_busy = RouteTo(request, 0);
    if (mode == AffinityMode::kHard) {
      EXPECT_EQ(when_busy, Is(Code::kResourceExhausted));
    } else {
      EXPECT_LT(when_busy, 4U);
      EXPECT_NE(when_busy, home);
    }
    // Where it failed it is bound no more.
    request.id = RequestId{13};
    request.excluded = {InstanceId{home}, InstanceId{when_busy}};
    EXPECT_LT(RouteTo(request, 0), 4U);
    router.RemoveWorker(InstanceId{home});
    request.id = RequestId{14};
    request.excluded.clear();
    EXPECT_LT(RouteTo(request, 0), 4U);
  }
}

TEST_F(RouterKv, LoadsReturnToNothing) {
  Router& router = Make({}, 2);
  for (std::uint64_t i = 1; i <= 50; ++i) {
    RouteTo(Request(i, static_cast<TokenId>(10 * i)));
    router.OnFirstToken(RequestId{i}, At(0));
    router.OnTokens(RequestId{i}, 7, At(0));
  }
  EXPECT_GT(router.Loads()[0].load.requests + router.Loads()[1].load.requests, 49U);
  for (std::uint64_t i = 1; i <= 50; ++i) {
    router.Withdraw(RequestId{i}, At(0));
  }
  for (const RankLoadRow& row : router.Loads()) {
    EXPECT_EQ(row.load, RankLoad{});
  }
}

RouterOptions WithRecompute(double weight) {
  RouterOptions options;
  options.cost.prefill_load_scale = 64;
  options.cost.recompute_weight = weight;
  return options;
}

// How many other prompts of the same length wait at the holder of a prefix when a request leaves
// it.
std::uint64_t WaitersUntilItLeaves(Router& router, std::uint64_t users) {
  router.OnKvEvents(InstanceId{1}, {StoredOf(Request(0, 500))}, At(0));
  std::uint64_t id = 1000;
  const auto send = [&](RouteRequest request, std::optional<InstanceId> pinned) {
    request.id = RequestId{++id};
    request.pinned = pinned;
    router.Submit(std::move(request), At(0));
    const std::vector<Dispatch> out = router.TakeDispatches(At(0));
    EXPECT_EQ(out.size(), 1U);
    return Raw(out.at(0).target->instance);
  };
  for (std::uint64_t i = 0; i < users; ++i) {
    send(Request(0, 500), InstanceId{1});
    router.OnFirstToken(RequestId{id}, At(0));
  }
  for (std::uint64_t waiting = 0; waiting < 100; ++waiting) {
    const std::uint64_t to = send(Request(0, 500), std::nullopt);
    router.Withdraw(RequestId{id}, At(0));
    if (to != 1) {
      return waiting;
    }
    send(Request(0, static_cast<TokenId>(1000 * (waiting + 1))), InstanceId{1});
  }
  return 100;
}

TEST_F(RouterKv, APrefixIsLeftLaterTheMoreItsComputingWeighs) {
  // Prompts of 10 blocks: one that waits is worth what the prefix saves.
  EXPECT_LE(WaitersUntilItLeaves(Make({}, 2), 0), 2U);
  EXPECT_LE(WaitersUntilItLeaves(Make(WithRecompute(0), 2), 0), 2U);
  const std::uint64_t waiters = WaitersUntilItLeaves(Make(WithRecompute(16), 2), 0);
  EXPECT_GE(waiters, 16U);
  EXPECT_LE(waiters, 18U);
}

TEST_F(RouterKv, APrefixThatManyUseIsCopiedSooner) {
  const std::uint64_t alone = WaitersUntilItLeaves(Make(WithRecompute(16), 2), 0);
  const std::uint64_t shared = WaitersUntilItLeaves(Make(WithRecompute(16), 2), 3);
  EXPECT_LE(shared, alone / 3);  // a copy serves four
  EXPECT_GE(shared, 4U);
}

TEST_F(RouterKv, WhatIsBeingComputedCountsAsCachedIfTold) {
  RouterOptions options = WithRecompute(16);
  for (const bool credited : {false, true}) {
    options.credit_coming_blocks = credited;
    Router& router = Make(options, 2);
    const std::uint64_t first = RouteTo(Request(1, 500));
    EXPECT_EQ(RouteTo(Request(2, 500)) == first, credited);
    EXPECT_EQ(overlap_tokens_, credited ? 40 : 0);
    router.Withdraw(RequestId{1}, At(0));  // it was never computed, and nobody computes it
    router.Withdraw(RequestId{2}, At(0));
    EXPECT_EQ(router.Explain(Request(3, 500), At(0))[first - 1].input.device_blocks, 0);
  }
}

// Most decisions do not make a candidate for every rank; Explain always does.
TEST_F(RouterKv, TheChosenRankIsTheBestOfThoseExplained) {
  rt::Random random(11);
  for (const double scale : {1.0, 2.5}) {
    RouterOptions options;
    options.cost.prefill_load_scale = scale;
    options.cost.recompute_weight = scale == 1 ? 0 : 16;
    options.credit_coming_blocks = scale != 1;
    options.cost.active_request_weight = 0.25;
    options.cost.shared_cache_multiplier = 0.5;
    options.track_output_blocks = true;
    Router& router = Make(options, 0);
    for (std::uint64_t i = 1; i <= 6; ++i) {
      router.SetWorker(Worker(i, i % 3 == 0 ? 2 : 1));
    }
    std::uint64_t ties = 0;
    for (std::uint64_t i = 1; i <= 2000; ++i) {
      RouteRequest request =
          Request(i, static_cast<TokenId>(100 * random.Below(9)), 1 + random.Below(60));
      KvEvent event = StoredOf(Request(0, static_cast<TokenId>(100 * random.Below(9)), 30));
      event.tier = static_cast<wire::KvTier>(random.Below(4));
      router.OnKvEvents(InstanceId{1 + random.Below(6)}, {event}, At(0));
      if (random.Chance(0.05)) {
        router.RemoveWorker(InstanceId{4});
        router.SetWorker(Worker(4));
      }
      double least = 1e300;
      std::map<Target, double> costs;
      for (const Candidate& one : router.Explain(request, At(0))) {
        least = std::min(least, one.terms.cost);
        costs[one.target] = one.terms.cost;
      }
      router.Submit(std::move(request), At(0));
      const std::vector<Dispatch> out = router.TakeDispatches(At(0));
      ASSERT_EQ(out.size(), 1U);
      ASSERT_TRUE(out[0].target);
      ASSERT_EQ(costs.at(*out[0].target), least) << "request " << i;
      ties +=
          std::ranges::count_if(costs, [&](const auto& one) { return one.second == least; }) > 1;
      router.OnTokens(RequestId{i}, static_cast<std::uint32_t>(random.Below(9)), At(0));
      if (random.Chance(0.5)) {
        router.OnFirstToken(RequestId{1 + random.Below(i)}, At(0));
      }
      if (i > 15) {
        router.Withdraw(RequestId{i - 15}, At(0));
      }
    }
    EXPECT_LT(ties, 1500U);
  }
}

}  // namespace
}  // namespace pixii::router
