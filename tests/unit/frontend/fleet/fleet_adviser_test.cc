// A fleet that asks somebody else where its requests go, and does without when it must.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "router/route_adviser.h"
#include "unit/frontend/fleet/fleet_fixture.h"

namespace pixii::frontend {
namespace {

using router::Advice;
using router::Target;
using testing::MakeMockRequest;

// Says what the test wants, when it wants.
class ScriptedAdviser final : public router::RouteAdviser {
 public:
  bool Ask(const router::RouteRequest& request, AdviceHandler on_advice) override {
    excluded = request.excluded;
    live.insert(request.id);
    if (!there) {
      return false;
    }
    asked.emplace(request.id, std::move(on_advice));
    return true;
  }

  void OnSent(RequestId id, const Target& target, std::uint64_t prefill_tokens) override {
    sent[id] = {target, prefill_tokens};
  }

  void OnFirstToken(RequestId id) override { EXPECT_TRUE(begun.insert(id).second); }

  void OnTokens(RequestId, std::uint32_t count) override { tokens += count; }

  void Withdraw(RequestId id) override {
    live.erase(id);
    asked.erase(id);
  }

  void Answer(std::optional<Result<Advice>> advice) {
    const AdviceHandler handler = std::move(asked.begin()->second);
    asked.erase(asked.begin());
    handler(std::move(advice));
  }

  bool there = true;
  std::map<RequestId, AdviceHandler> asked;
  std::map<RequestId, std::pair<Target, std::uint64_t>> sent;
  std::set<RequestId> live;
  std::set<RequestId> begun;
  std::vector<control::InstanceId> excluded;
  std::uint64_t tokens = 0;
};

class FleetAdviserTest : public FleetFixture {
 protected:
  void Start(std::uint64_t workers) { StartFleet(workers, {.adviser = &adviser_}); }

  Advice To(std::uint64_t number, std::uint32_t overlap = 0) const {
    return {{instances_.at(number).id, 0}, overlap};
  }

  ScriptedAdviser adviser_;
};

TEST_F(FleetAdviserTest, RequestsGoWhereTheAdviserSays) {
  Start(3);
  for (std::uint64_t id = 1; id <= 4; ++id) {
    const wire::GenerateRequest request = MakeMockRequest(id, 10);
    Generate(request);
    ASSERT_EQ(adviser_.asked.size(), 1U);
    adviser_.Answer(To(2, 4));
    RunUntil([&] { return Busy() != 0; });
    EXPECT_EQ(Busy(), 2U);
    RunToEnd(request);
    ExpectOracle(request);
  }
  ASSERT_EQ(adviser_.sent.size(), 4U);
  EXPECT_EQ(adviser_.sent.begin()->second.first.instance, instances_.at(2).id);
  EXPECT_EQ(adviser_.sent.begin()->second.second, 2U);  // of 6 tokens, 4 are cached
  EXPECT_EQ(adviser_.begun.size(), 4U);
  EXPECT_EQ(adviser_.tokens, 40U);
  EXPECT_TRUE(adviser_.live.empty());
}

TEST_F(FleetAdviserTest, WithoutAdviceTheFleetDecides) {
  Start(2);
  adviser_.there = false;
  const wire::GenerateRequest alone = MakeMockRequest(1, 10);
  Generate(alone);
  RunToEnd(alone);
  adviser_.there = true;
  const wire::GenerateRequest silent = MakeMockRequest(2, 10);
  Generate(silent);
  adviser_.Answer(std::nullopt);
  RunToEnd(silent);
  ExpectOracle(alone);
  ExpectOracle(silent);
  EXPECT_EQ(adviser_.sent.size(), 2U);
  EXPECT_TRUE(adviser_.live.empty());
}

TEST_F(FleetAdviserTest, AdviceThatDoesNotFitIsNotFollowed) {
  Start(2);
  const wire::GenerateRequest unknown = MakeMockRequest(1, 10);
  Generate(unknown);
  adviser_.Answer(Advice{{control::InstanceId{999}, 0}, 0});
  RunToEnd(unknown);
  ExpectOracle(unknown);
  const wire::GenerateRequest no_rank = MakeMockRequest(2, 10);
  Generate(no_rank);
  adviser_.Answer(Advice{{instances_.at(1).id, 7}, 0});
  RunToEnd(no_rank);
  ExpectOracle(no_rank);
}

TEST_F(FleetAdviserTest, ARefusalIsTheRequestsEnd) {
  Start(1);
  const wire::GenerateRequest request = MakeMockRequest(1, 10);
  Generate(request);
  adviser_.Answer(Result<Advice>(Fail(Code::kResourceExhausted, "all are busy")));
  RunToEnd(request);
  ExpectError(1, Code::kResourceExhausted);
  EXPECT_TRUE(adviser_.live.empty());
}

// It may know workers of another version alone, or none yet.
TEST_F(FleetAdviserTest, AnAdviserThatKnowsNoWorkerIsNotBelieved) {
  Start(1);
  const wire::GenerateRequest request = MakeMockRequest(1, 10);
  Generate(request);
  adviser_.Answer(Result<Advice>(Fail(Code::kUnavailable, "there is no worker of that model")));
  RunToEnd(request);
  ExpectOracle(request);
  EXPECT_TRUE(adviser_.live.empty());
  EXPECT_TRUE(fleet_->ExplainRoute(request)->asks_router);
}

TEST_F(FleetAdviserTest, OneThatIsCancelledBeforeTheAdviceEnds) {
  Start(1);
  const wire::GenerateRequest request = MakeMockRequest(1, 10);
  Generate(request);
  fleet_->Cancel({request.id, std::nullopt});
  RunToEnd(request);
  EXPECT_TRUE(adviser_.live.empty());
  EXPECT_EQ(fleet_->attempt_count(), 0U);
}

TEST_F(FleetAdviserTest, ARequestThatMovesIsAskedForAgain) {
  Start(2);
  const wire::GenerateRequest request = MakeMockRequest(1, 60);
  Generate(request);
  adviser_.Answer(To(1));
  const control::InstanceId dead = instances_.at(1).id;
  KillAfter(5);
  RunUntil([&] { return !adviser_.asked.empty(); });
  EXPECT_EQ(adviser_.excluded, std::vector<control::InstanceId>{dead});
  adviser_.Answer(To(2));
  RunToEnd(request);
  ExpectOracle(request);
  EXPECT_TRUE(adviser_.live.empty());
}

}  // namespace
}  // namespace pixii::frontend
