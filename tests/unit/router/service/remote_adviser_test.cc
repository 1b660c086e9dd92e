// Frontends that ask a router of another process, over a simulated network.
#include "router/service/remote_adviser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <optional>

#include "router/service/route_messages.h"
#include "unit/router/service/router_process.h"
#include "wire/public_hash.h"

namespace pixii::router {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class RemoteAdviserTest : public testing::Test {
 protected:
  RemoteAdviserTest() { StartRouter(); }

  void StartRouter(RouterOptions options = KvOptions()) {
    if (router_ && router_->node.alive()) {
      router_->node.Kill();
    }
    router_.reset();
    router_ = std::make_unique<RouterProcess>(world_.AddNode("router"), std::move(options));
  }

  RemoteAdviser& Adviser() {
    if (!adviser_) {
      adviser_.emplace(frontend_.loop(), frontend_.net(), kPool, RemoteAdviserOptions{});
      adviser_->SetAddress(rt::Address{.host = "router", .port = kRouterPort}, "");
    }
    return *adviser_;
  }

  void Connect() {
    Adviser();
    RunUntil([this] { return adviser_->available(); });
  }

  void RunUntil(const std::function<bool()>& done) {
    ASSERT_EQ(world_.RunUntil(done, world_.now() + seconds(60)), rt::SimEnd::kDone);
  }

  void RunFor(rt::Duration duration) { world_.RunTo(world_.now() + duration); }

  // Nothing: no advice was to be had.
  using Answers = std::map<std::uint64_t, std::optional<Result<Advice>>>;

  bool Ask(std::uint64_t id) {
    return Adviser().Ask(MakeRequest(id), [this, id](std::optional<Result<Advice>> advice) {
      EXPECT_TRUE(answers_.emplace(id, std::move(advice)).second);
    });
  }

  // Asks, and does as it is told.
  Target Send(std::uint64_t id) {
    EXPECT_TRUE(Ask(id));
    RunUntil([&] { return answers_.contains(id); });
    const Target target = answers_.at(id)->value().target;
    Adviser().OnSent(RequestId{id}, target, 9);
    return target;
  }

  rt::SimWorld world_{{.seed = 3}};
  rt::SimNode& frontend_ = world_.AddNode("frontend");
  std::unique_ptr<RouterProcess> router_;
  std::optional<RemoteAdviser> adviser_;
  Answers answers_;
};

TEST_F(RemoteAdviserTest, AdviceComesFromTheRouterAndItsLoadFollowsTheRequest) {
  router_->AddWorkers(2);
  Connect();
  const Target first = Send(1);
  const Target second = Send(2);
  EXPECT_NE(first, second);  // the load of the first is counted
  EXPECT_EQ(router_->Loads()[0],
            (RankLoad{.prefill_tokens = 9, .prompt_blocks = 3, .requests = 1}));
  adviser_->OnFirstToken(RequestId{1});
  RunFor(seconds(1));
  EXPECT_EQ(router_->Loads()[Raw(first.instance) - 1].prefill_tokens, 0U);
  adviser_->Withdraw(RequestId{1});
  adviser_->Withdraw(RequestId{2});
  RunFor(seconds(1));
  EXPECT_EQ(router_->RequestCount(), 0U);
  EXPECT_EQ(adviser_->counters().advised, 2U);
}

TEST_F(RemoteAdviserTest, WhatEndedDoesNotCountForWhoAsksThen) {
  router_->AddWorkers(2);
  Connect();
  Target last = Send(1);
  bool stayed = false;  // where the other one would have to go if that still ran
  for (std::uint64_t id = 2; id < 30; ++id) {
    adviser_->OnFirstToken(RequestId{id - 1});
    adviser_->Withdraw(RequestId{id - 1});
    const Target next = Send(id);
    stayed = stayed || next == last;
    last = next;
  }
  EXPECT_TRUE(stayed);
}

TEST_F(RemoteAdviserTest, CachedPrefixesAttract) {
  router_->AddWorkers(3);
  Connect();
  wire::KvEvent stored;
  const RouteRequest request = MakeRequest(1);
  const auto hashes = wire::PublicBlockHashes(request.tokens, 4, wire::kPublicHashSeed);
  stored.blocks = {{hashes[0], hashes[0]}};
  router_->pool->router().OnKvEvents(InstanceId{3}, {stored}, world_.now());
  EXPECT_EQ(Send(1).instance, InstanceId{3});
  EXPECT_EQ(answers_.at(1)->value().overlap_tokens, 4U);
}

TEST_F(RemoteAdviserTest, WithoutARouterThereIsNoAdviceAtOnce) {
  EXPECT_FALSE(Ask(1));
  router_->AddWorkers(1);
  Connect();
  RunFor(seconds(1));
  EXPECT_EQ(router_->RequestCount(), 0U);  // it was sent nowhere yet
  EXPECT_TRUE(answers_.empty());
}

TEST_F(RemoteAdviserTest, ARouterThatDiesGivesEveryoneBackAtOnceAndLearnsAllWhenItReturns) {
  router_->AddWorkers(2);
  Connect();
  const Target first = Send(1);
  adviser_->OnFirstToken(RequestId{1});
  ASSERT_TRUE(Ask(2));
  router_->node.Kill();
  const rt::Time killed = world_.now();
  RunUntil([&] { return answers_.contains(2); });
  EXPECT_LT(world_.now() - killed, milliseconds(50));
  EXPECT_FALSE(answers_.at(2).has_value());
  adviser_->OnSent(RequestId{2}, {InstanceId{1}, 0}, 5);
  EXPECT_FALSE(Ask(3));
  StartRouter();
  router_->AddWorkers(2);
  Connect();
  RunUntil([&] { return router_->RequestCount() == 2; });
  std::uint64_t prefill = 0;
  for (const RankLoad& load : router_->Loads()) {
    prefill += load.prefill_tokens;
  }
  EXPECT_EQ(prefill, 5U);  // the first one's prompt is computed
  EXPECT_GE(router_->Loads()[Raw(first.instance) - 1].requests, 1U);
  adviser_->Withdraw(RequestId{1});
  adviser_->Withdraw(RequestId{2});
  adviser_->Withdraw(RequestId{3});
  RunUntil([&] { return router_->RequestCount() == 0; });
  EXPECT_TRUE(Ask(4));
}

TEST_F(RemoteAdviserTest, ARouterThatStandsStillDelaysOnceAndIsLeftAlone) {
  router_->AddWorkers(1);
  Connect();
  router_->node.Freeze(world_.now() + seconds(2));
  ASSERT_TRUE(Ask(1));
  const rt::Time asked = world_.now();
  RunUntil([&] { return answers_.contains(1); });
  EXPECT_LE(world_.now() - asked, milliseconds(260));
  EXPECT_FALSE(answers_.at(1).has_value());
  EXPECT_FALSE(Ask(2));  // not tried again at once
  RunFor(seconds(4));
  EXPECT_TRUE(Ask(3));
  RunUntil([&] { return answers_.contains(3); });
  EXPECT_TRUE(answers_.at(3).has_value());
}

TEST_F(RemoteAdviserTest, AFrontendThatDiesTakesItsLoadWithIt) {
  router_->AddWorkers(2);
  Connect();
  Send(1);
  Send(2);
  ASSERT_EQ(router_->RequestCount(), 2U);
  adviser_.reset();
  RunUntil([&] { return router_->RequestCount() == 0; });
}

TEST_F(RemoteAdviserTest, ARequestThatRunsOnIsNeverForgotten) {
  RouterOptions options = KvOptions();
  options.active_request_expiry = seconds(5);
  StartRouter(options);
  router_->AddWorkers(1);
  Connect();
  Send(1);
  RunFor(seconds(60));  // without a token: a long prompt
  EXPECT_EQ(router_->RequestCount(), 1U);
}

TEST_F(RemoteAdviserTest, WhatGoesElsewhereIsCountedThere) {
  router_->AddWorkers(2);
  Connect();
  const Target advised = Send(1);
  const Target other{InstanceId{3 - Raw(advised.instance)}, 0};
  adviser_->OnSent(RequestId{1}, other, 9);
  RunUntil([&] { return router_->Loads()[Raw(other.instance) - 1].requests == 1; });
  EXPECT_EQ(router_->RequestCount(), 1U);
}

TEST_F(RemoteAdviserTest, WhoWaitsInTheRoutersQueueIsPatient) {
  RouterOptions options = KvOptions();
  options.queue_threshold = 0;
  StartRouter(options);
  router_->AddWorkers(1);
  Connect();
  Send(1);
  ASSERT_TRUE(Ask(2));
  RunFor(seconds(5));
  EXPECT_FALSE(answers_.contains(2));
  adviser_->OnFirstToken(RequestId{1});
  RunUntil([&] { return answers_.contains(2); });
  EXPECT_TRUE(answers_.at(2).has_value());
}

TEST_F(RemoteAdviserTest, WhatIsRefusedIsSaidAndWhatIsUnknownIsNot) {
  Connect();
  ASSERT_TRUE(Ask(1));  // there is no worker
  RunUntil([&] { return answers_.contains(1); });
  EXPECT_FALSE(answers_.at(1).has_value());
  router_->AddWorkers(1);
  router_->pool->router().OnOverloaded(InstanceId{1}, world_.now());
  ASSERT_TRUE(Ask(2));
  RunUntil([&] { return answers_.contains(2); });
  ASSERT_TRUE(answers_.at(2).has_value());
  EXPECT_EQ(answers_.at(2)->error().code(), Code::kResourceExhausted);
}

TEST_F(RemoteAdviserTest, ARequestReachesTheRouterWhole) {
  RouteRequest request = MakeRequest(7);
  request.anywhere = true;
  request.pinned = InstanceId{2};
  request.rank = 1;
  request.excluded = {InstanceId{5}};
  request.required_taints = {"a"};
  request.preferred_taints = {{"b", -2.5}};
  request.session = "s";
  request.policy_class = "c";
  request.priority_jump_s = 1.5;
  request.strict_priority = 3;
  request.expected_output_tokens = 40;
  request.instead.temperature = 0.5;
  request.instead.overlap_credit = 0.25;
  request.instead.assume_kv_reuse = false;
  const RouteRequest back = RequestOf(AskOf(request, 4));
  ASSERT_TRUE(back.hashed);
  EXPECT_EQ(back.hashed->token_count, 9U);
  EXPECT_EQ(back.hashed->block_hashes,
            wire::PublicBlockHashes(request.tokens, 4, wire::kPublicHashSeed));
  EXPECT_EQ(back.pinned, request.pinned);
  EXPECT_EQ(back.rank, request.rank);
  EXPECT_EQ(back.excluded, request.excluded);
  EXPECT_TRUE(back.anywhere);
  EXPECT_EQ(back.required_taints, request.required_taints);
  ASSERT_EQ(back.preferred_taints.size(), 1U);
  EXPECT_EQ(back.preferred_taints[0].taint, "b");
  EXPECT_EQ(back.preferred_taints[0].weight, -2.5);
  EXPECT_EQ(back.session, "s");
  EXPECT_EQ(back.policy_class, "c");
  EXPECT_EQ(back.priority_jump_s, 1.5);
  EXPECT_EQ(back.strict_priority, 3);
  EXPECT_EQ(back.expected_output_tokens, 40U);
  EXPECT_EQ(back.instead.temperature, 0.5);
  EXPECT_EQ(back.instead.overlap_credit, 0.25);
  EXPECT_EQ(back.instead.assume_kv_reuse, false);
}

}  // namespace
}  // namespace pixii::router
