#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "router/router.h"
#include "wire/public_hash.h"

namespace pixii::router {
namespace {

using std::chrono::seconds;
using testing::IsEmpty;
using testing::SizeIs;

constexpr rt::Time kStart{};
const std::vector<TokenId> kPrompt = {1, 2, 3, 4, 5, 6, 7, 8, 9};

control::Instance Worker(std::uint64_t id, std::uint32_t first = 0, std::uint32_t ranks = 1) {
  control::Instance out;
  out.id = InstanceId{id};
  out.rank_first = first;
  out.rank_count = ranks;
  out.card.block_tokens = 4;
  out.card.block_count = 1000;
  out.card.batch_tokens_max = 100;
  return out;
}

RouterOptions Options() {
  RouterOptions out;
  out.mode = RouterMode::kKv;
  out.tell_load_changes = true;
  out.active_request_expiry = seconds(60);
  return out;
}

HashedPrompt Hashed() {
  return {wire::PublicBlockHashes(kPrompt, 4, wire::kPublicHashSeed), kPrompt.size()};
}

Placement At(std::uint64_t instance, std::uint32_t rank = 0) {
  return {.target = {InstanceId{instance}, rank}, .prompt = Hashed(), .prefill_tokens = 9};
}

class RouterElsewhere : public testing::Test {
 protected:
  RankLoad LoadOf(std::uint64_t instance, std::uint32_t rank = 0) const {
    for (const RankLoadRow& row : router_.Loads()) {
      if (row.target == Target{InstanceId{instance}, rank}) {
        return row.load;
      }
    }
    return {};
  }

  wire::KvEvent Stored(std::uint32_t rank) const {
    wire::KvEvent event;
    event.rank = rank;
    const std::vector<std::uint64_t> hashes = Hashed().block_hashes;
    event.blocks = {{hashes[0], hashes[0]},
                    {wire::PublicChainHash(hashes[0], hashes[1]), hashes[1]}};
    return event;
  }

  Router router_{Options(), 1};
};

TEST_F(RouterElsewhere, HashesOfAPromptAreAsGoodAsItsTokens) {
  router_.SetWorker(Worker(1));
  router_.SetWorker(Worker(2));
  router_.OnKvEvents(InstanceId{2}, {Stored(0)}, kStart);
  RouteRequest request;
  request.id = RequestId{1};
  request.hashed = Hashed();
  router_.Submit(std::move(request), kStart);
  const std::vector<Dispatch> out = router_.TakeDispatches(kStart);
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].target->instance, InstanceId{2});
  EXPECT_EQ(out[0].overlap_tokens, 8U);
  EXPECT_EQ(LoadOf(2), (RankLoad{.prefill_tokens = 1, .prompt_blocks = 3, .requests = 1}));
}

TEST_F(RouterElsewhere, ChangesOfTheLoadAreToldInOrder) {
  router_.SetWorker(Worker(1));
  RouteRequest request;
  request.id = RequestId{1};
  request.tokens = kPrompt;
  request.session = "s";
  request.expected_output_tokens = 5;
  router_.Submit(std::move(request), kStart);
  router_.TakeDispatches(kStart);
  router_.OnFirstToken(RequestId{1}, kStart);
  router_.OnFirstToken(RequestId{1}, kStart);
  router_.Withdraw(RequestId{1}, kStart);
  router_.Withdraw(RequestId{1}, kStart);
  const std::vector<LoadChange> told = router_.TakeLoadChanges();
  ASSERT_THAT(told, SizeIs(3));
  EXPECT_EQ(told[0].kind, LoadChange::Kind::kAdded);
  EXPECT_EQ(told[0].placement.target.instance, InstanceId{1});
  EXPECT_EQ(told[0].placement.prompt.block_hashes, Hashed().block_hashes);
  EXPECT_EQ(told[0].placement.prompt.token_count, 9U);
  EXPECT_EQ(told[0].placement.prefill_tokens, 9U);
  EXPECT_EQ(told[0].placement.expected_output_tokens, 5U);
  EXPECT_EQ(told[0].placement.session, "s");
  EXPECT_EQ(told[1].kind, LoadChange::Kind::kPrefilled);
  EXPECT_EQ(told[2].kind, LoadChange::Kind::kFreed);
  EXPECT_THAT(router_.TakeLoadChanges(), IsEmpty());
}

TEST_F(RouterElsewhere, ExpiryAndAWorkersEndAreToldToo) {
  router_.SetWorker(Worker(1));
  router_.SetWorker(Worker(2));
  ASSERT_TRUE(router_.Place(RequestId{1}, At(1), kStart));
  ASSERT_TRUE(router_.Place(RequestId{2}, At(2), kStart));
  router_.TakeLoadChanges();
  router_.RemoveWorker(InstanceId{2});
  std::vector<LoadChange> told = router_.TakeLoadChanges();
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].id, RequestId{2});
  EXPECT_EQ(told[0].kind, LoadChange::Kind::kFreed);
  router_.TakeDispatches(kStart + seconds(59));
  EXPECT_THAT(router_.TakeLoadChanges(), IsEmpty());
  router_.OnTokens(RequestId{1}, 0, kStart + seconds(59));  // it lives
  router_.TakeDispatches(kStart + seconds(61));
  EXPECT_THAT(router_.TakeLoadChanges(), IsEmpty());
  router_.TakeDispatches(kStart + seconds(120));
  told = router_.TakeLoadChanges();
  ASSERT_THAT(told, SizeIs(1));
  EXPECT_EQ(told[0].id, RequestId{1});
  EXPECT_EQ(LoadOf(1), RankLoad{});
}

TEST_F(RouterElsewhere, APlacedRequestCountsWhereItIs) {
  EXPECT_FALSE(router_.Place(RequestId{1}, At(1), kStart));
  router_.SetWorker(Worker(1));
  EXPECT_FALSE(router_.Place(RequestId{1}, At(1, 1), kStart));
  EXPECT_TRUE(router_.Place(RequestId{1}, At(1), kStart));
  EXPECT_EQ(LoadOf(1), (RankLoad{.prefill_tokens = 9, .prompt_blocks = 3, .requests = 1}));
  router_.Withdraw(RequestId{1}, kStart);
  EXPECT_EQ(LoadOf(1), RankLoad{});
}

TEST_F(RouterElsewhere, WhatAnotherRouterSentCountsAndIsNotToldAgain) {
  router_.PlaceElsewhere(RequestId{9}, At(1), kStart);
  router_.SetWorker(Worker(1));  // known later than its request
  router_.TakeDispatches(kStart);
  EXPECT_EQ(LoadOf(1).requests, 1U);
  router_.OnFirstToken(RequestId{9}, kStart);
  EXPECT_EQ(LoadOf(1).prefill_tokens, 0U);
  router_.RemoveWorker(InstanceId{1});
  router_.SetWorker(Worker(1));
  router_.TakeDispatches(kStart);
  EXPECT_EQ(LoadOf(1), (RankLoad{.prompt_blocks = 3, .requests = 1}));
  router_.Withdraw(RequestId{9}, kStart);
  EXPECT_EQ(LoadOf(1), RankLoad{});
  EXPECT_THAT(router_.TakeLoadChanges(), IsEmpty());
}

TEST_F(RouterElsewhere, RanksThatStayKeepWhatTheyHold) {
  router_.SetWorker(Worker(1, 0, 1));
  router_.OnKvEvents(InstanceId{1}, {Stored(0)}, kStart);
  router_.Place(RequestId{1}, At(1, 0), kStart);
  router_.SetWorker(Worker(1, 0, 3));
  EXPECT_EQ(LoadOf(1, 0).requests, 1U);
  std::vector<TargetMatch> matches = router_.Matches(Hashed().block_hashes);
  ASSERT_THAT(matches, SizeIs(3));
  EXPECT_EQ(matches[0].match.device, 2U);
  EXPECT_EQ(matches[1].match.device, 0U);
  router_.SetWorker(Worker(1, 1, 2));
  matches = router_.Matches(Hashed().block_hashes);
  ASSERT_THAT(matches, SizeIs(2));
  EXPECT_EQ(matches[0].match.device, 0U);
  EXPECT_EQ(LoadOf(1, 1), RankLoad{});
}

TEST_F(RouterElsewhere, ADumpMakesAnotherIndexTheSame) {
  router_.SetWorker(Worker(1, 0, 2));
  router_.OnKvEvents(InstanceId{1}, {Stored(1)}, kStart);
  Router other(Options(), 2);
  other.SetWorker(Worker(1, 0, 2));
  EXPECT_THAT(router_.DumpKv({InstanceId{1}, 0}), IsEmpty());
  other.OnKvEvents(InstanceId{1}, router_.DumpKv({InstanceId{1}, 1}), kStart);
  const std::vector<TargetMatch> matches = other.Matches(Hashed().block_hashes);
  ASSERT_THAT(matches, SizeIs(2));
  EXPECT_EQ(matches[0].match.device, 0U);
  EXPECT_EQ(matches[1].match.device, 2U);
}

TEST_F(RouterElsewhere, TheFirstBindingOfASessionStays) {
  RouterOptions options = Options();
  options.session_affinity_ttl = seconds(60);
  Router router(options, 1);
  router.SetWorker(Worker(1));
  router.SetWorker(Worker(2));
  Placement there = At(2);
  there.session = "s";
  router.PlaceElsewhere(RequestId{9}, there, kStart);
  there.target.instance = InstanceId{1};
  router.PlaceElsewhere(RequestId{10}, there, kStart);
  for (std::uint64_t id = 20; id < 30; ++id) {
    RouteRequest request;
    request.id = RequestId{id};
    request.tokens = kPrompt;
    request.session = "s";
    router.Submit(std::move(request), kStart);
    const std::vector<Dispatch> out = router.TakeDispatches(kStart);
    ASSERT_THAT(out, SizeIs(1));
    EXPECT_EQ(out[0].target->instance, InstanceId{2});
  }
}

}  // namespace
}  // namespace pixii::router
