// What a fleet's router knows, and what requests may say about their worker.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/ranked_link.h"
#include "unit/frontend/fleet/fleet_fixture.h"
#include "wire/public_hash.h"

namespace pixii::frontend {
namespace {

using control::InstanceId;
using testing::MakeMockRequest;
using testing::RankedLink;
using wire::WorkerRank;

constexpr std::uint32_t kPromptBlocks = 8;  // of 4 tokens

class FleetRoutingTest : public FleetFixture {
 protected:
  FleetRoutingTest() { engine_options_.kv_event_count_max = 4096; }

  static FleetOptions Kv() {
    FleetOptions options;
    options.router.mode = router::RouterMode::kKv;
    return options;
  }

  /// A request of kPromptBlocks blocks and two tokens, the same for equal `prompt`.
  wire::GenerateRequest Ask(std::uint64_t prompt, std::uint32_t tokens = 4) {
    wire::GenerateRequest request = MakeMockRequest(++last_id_, tokens);
    request.prompt.clear();
    for (std::uint32_t i = 0; i < 4 * kPromptBlocks + 2; ++i) {
      request.prompt.push_back(static_cast<TokenId>((prompt * 7 + i * (prompt + 1)) % 61));
    }
    return request;
  }

  Received& Answer(const wire::GenerateRequest& request) {
    Generate(request);
    RunToEnd(request);
    return received_[Raw(request.id)];
  }

  /// What the router thinks each worker has of the prompt, in blocks.
  std::map<std::uint64_t, std::uint32_t> Known(const wire::GenerateRequest& request) {
    std::map<std::uint64_t, std::uint32_t> out;
    const control::RouteExplanation explained = *fleet_->ExplainRoute(request);
    for (const control::RouteCandidate& one : explained.candidates) {
      out[one.target.worker] = one.input.device_blocks;
    }
    return out;
  }

  std::uint64_t IdOf(std::uint64_t number) { return Raw(instances_.at(number).id); }

  void RunFor(rt::Duration duration) { world_.RunTo(world_.now() + duration); }

  std::uint64_t last_id_ = 0;
};

TEST_F(FleetRoutingTest, WhatWorkersHoldIsKnownExactlyAndDecides) {
  StartFleet(2, Kv());
  for (std::uint64_t prompt = 1; prompt <= 6; ++prompt) {
    const std::uint64_t worker = Answer(Ask(prompt)).served_by.at(0).worker;
    RunUntil([&] { return Known(Ask(prompt))[worker] == kPromptBlocks; });
    for (int turn = 0; turn < 3; ++turn) {
      const wire::GenerateRequest again = Ask(prompt);
      const auto foretold = *fleet_->ExplainRoute(again);
      EXPECT_EQ(foretold.choice, (WorkerRank{worker, 0}));
      const Received& answer = Answer(again);
      EXPECT_EQ(answer.served_by, (std::vector<WorkerRank>{{worker, 0}}));
      EXPECT_EQ(answer.cached_tokens, foretold.overlap_tokens);
      EXPECT_EQ(answer.cached_tokens, 4 * kPromptBlocks);
    }
  }
  EXPECT_GT(fleet_->router().kv_event_counts().stored, 0U);
}

TEST_F(FleetRoutingTest, SaltsAndTenantsShareNothing) {
  StartFleet(2, Kv());
  const std::uint64_t worker = Answer(Ask(1)).served_by.at(0).worker;
  RunUntil([&] { return Known(Ask(1))[worker] == kPromptBlocks; });
  wire::GenerateRequest salted = Ask(1);
  salted.cache_salt = "mine";
  EXPECT_EQ(Known(salted)[worker], 0U);
  wire::GenerateRequest foreign = Ask(1);
  foreign.tenant = "other";
  EXPECT_EQ(Known(foreign)[worker], 0U);

  const std::uint64_t own = Answer(salted).served_by.at(0).worker;
  RunUntil([&] { return Known(salted)[own] == kPromptBlocks; });
  wire::GenerateRequest again = Ask(1);
  again.cache_salt = "mine";
  EXPECT_EQ(Answer(again).cached_tokens, 4 * kPromptBlocks) << "both sides mean the same blocks";
}

TEST_F(FleetRoutingTest, WithoutCreditNobodyListens) {
  for (const double credit : {0.0, 1.0}) {
    SCOPED_TRACE(credit);
    workers_.clear();
    fleet_.reset();
    FleetOptions options = Kv();
    options.router.cost.overlap_credit = credit;
    StartFleet(1, std::move(options));
    RunFor(std::chrono::seconds(1));
    EXPECT_EQ(fleet_->router().index() != nullptr, credit > 0);
    // Its report, and its events.
    EXPECT_EQ(workers_[1]->service.call_count(), credit > 0 ? 2U : 1U);
  }
}

TEST_F(FleetRoutingTest, ADeadWorkersBlocksLeaveAndItsSuccessorIsEmpty) {
  StartFleet(1, Kv());
  Answer(Ask(1));
  const std::uint64_t old = IdOf(1);
  RunUntil([&] { return Known(Ask(1))[old] == kPromptBlocks; });
  Kill(1);
  RunUntil([&] { return fleet_->worker_count() == 0; });
  EXPECT_TRUE(Known(Ask(1)).empty());
  StartWorker(1);
  RunUntil([&] { return fleet_->worker_count() == 1; });
  EXPECT_EQ(Known(Ask(1)), (std::map<std::uint64_t, std::uint32_t>{{IdOf(1), 0U}}));
}

TEST_F(FleetRoutingTest, AWorkerThatWasAwayIsKnownAgainAsItIs) {
  StartFleet(2, Kv());
  const std::uint64_t worker = Answer(Ask(1)).served_by.at(0).worker;
  RunUntil([&] { return Known(Ask(1))[worker] == kPromptBlocks; });
  const std::string host = worker == IdOf(1) ? workers_[1]->node.host() : workers_[2]->node.host();
  world_.SetPartition("frontend", host, true);
  RunUntil([&] { return fleet_->worker_count() == 1; });
  EXPECT_FALSE(Known(Ask(1)).contains(worker));
  world_.SetPartition("frontend", host, false);
  RunUntil([&] { return fleet_->worker_count() == 2; });
  RunUntil([&] { return Known(Ask(1))[worker] == kPromptBlocks; });
}

TEST_F(FleetRoutingTest, AClearedCacheIsKnownToBeEmpty) {
  StartFleet(1, Kv());
  Answer(Ask(1));
  RunUntil([&] { return Known(Ask(1))[IdOf(1)] == kPromptBlocks; });
  bool done = false;
  fleet_->ClearCache(control::CacheDepth::kMemory,
                     [&](Result<void> cleared) { done = cleared.has_value(); });
  RunUntil([&] { return done && Known(Ask(1))[IdOf(1)] == 0; });
  EXPECT_EQ(Answer(Ask(1)).cached_tokens, 0U);
}

TEST_F(FleetRoutingTest, WorkersWithoutEventsAreUsedAsIfTheyHadNothing) {
  engine_options_.kv_event_count_max = 0;
  StartFleet(2, Kv());
  for (int turn = 0; turn < 4; ++turn) {
    Answer(Ask(1));
  }
  EXPECT_EQ(Known(Ask(1))[IdOf(1)], 0U);
  EXPECT_EQ(Known(Ask(1))[IdOf(2)], 0U);
}

TEST_F(FleetRoutingTest, AnExplanationIsWhatThenHappensInEveryMode) {
  using router::RouterMode;
  for (const RouterMode mode :
       {RouterMode::kRoundRobin, RouterMode::kRandom, RouterMode::kPowerOfTwo,
        RouterMode::kLeastLoaded, RouterMode::kKv}) {
    SCOPED_TRACE(static_cast<int>(mode));
    workers_.clear();
    instances_.clear();
    fleet_.reset();
    FleetOptions options;
    options.router.mode = mode;
    options.router.temperature = 0.5;
    StartFleet(4, std::move(options));
    std::set<std::uint64_t> seen;
    for (std::uint64_t prompt = 0; prompt < 12; ++prompt) {
      const wire::GenerateRequest request = Ask(prompt % 5);
      const auto foretold = *fleet_->ExplainRoute(request);
      ASSERT_TRUE(foretold.choice);
      EXPECT_EQ(foretold.candidates.size(), 4U);
      EXPECT_EQ(fleet_->ExplainRoute(request)->choice, foretold.choice) << "nothing has changed";
      EXPECT_EQ(Answer(request).served_by, (std::vector<WorkerRank>{*foretold.choice}));
      seen.insert(foretold.choice->worker);
    }
    EXPECT_GT(seen.size(), 1U);
  }
}

TEST_F(FleetRoutingTest, APinnedRequestGoesThereOrNowhere) {
  StartFleet(3);
  wire::GenerateRequest pinned = Ask(1);
  pinned.routing = wire::RoutingHints{.worker = IdOf(2)};
  for (int turn = 0; turn < 20; ++turn) {
    pinned.id = RequestId{++last_id_};
    EXPECT_EQ(Answer(pinned).served_by, (std::vector<WorkerRank>{{IdOf(2), 0}}));
  }
  pinned.id = RequestId{++last_id_};
  pinned.routing->worker = 12345;
  Answer(pinned);
  ExpectError(last_id_, Code::kUnavailable);
  pinned.id = RequestId{++last_id_};
  pinned.routing = wire::RoutingHints{.worker = IdOf(2)};
  pinned.dp_rank = 7;
  Answer(pinned);
  ExpectError(last_id_, Code::kInvalidArgument);
  // Without a worker it is a wish that nobody can grant.
  pinned.id = RequestId{++last_id_};
  pinned.routing.reset();
  EXPECT_EQ(Answer(pinned).served_by.at(0).rank, 0U);
}

TEST_F(FleetRoutingTest, DirectModeNeedsAPin) {
  FleetOptions options;
  options.router.mode = router::RouterMode::kDirect;
  StartFleet(2, std::move(options));
  wire::GenerateRequest request = Ask(1);
  Answer(request);
  ExpectError(last_id_, Code::kInvalidArgument);
  request = Ask(1);
  request.routing = wire::RoutingHints{.worker = IdOf(1)};
  EXPECT_EQ(Answer(request).served_by, (std::vector<WorkerRank>{{IdOf(1), 0}}));
}

TEST_F(FleetRoutingTest, ChangedTaintsReachTheRouter) {
  StartFleet(2);
  wire::GenerateRequest picky = Ask(1);
  picky.routing.emplace().required_taints = {"gpu=large"};
  Answer(picky);
  ExpectError(last_id_, Code::kUnavailable);
  instances_[2].taints = {"gpu=large"};
  ASSERT_TRUE(fleet_->SetInstance(instances_[2]));
  for (int turn = 0; turn < 6; ++turn) {
    picky.id = RequestId{++last_id_};
    EXPECT_EQ(Answer(picky).served_by, (std::vector<WorkerRank>{{IdOf(2), 0}}));
  }
}

TEST_F(FleetRoutingTest, APreferredTaintTipsTheScales) {
  FleetOptions options = Kv();
  StartFleet(2, std::move(options));
  instances_[2].taints = {"cheap"};
  ASSERT_TRUE(fleet_->SetInstance(instances_[2]));
  for (const auto& [weight, number] : {std::pair(2.0, 2U), std::pair(-2.0, 1U)}) {
    wire::GenerateRequest request = Ask(1);
    request.routing.emplace().preferred_taints = {{"cheap", weight}};
    EXPECT_EQ(fleet_->ExplainRoute(request)->choice->worker, IdOf(number)) << weight;
  }
}

TEST_F(FleetRoutingTest, ASessionStaysAtItsWorkerUntilItIdles) {
  FleetOptions options;
  options.router.session_affinity_ttl = std::chrono::seconds(10);
  StartFleet(3, std::move(options));
  wire::GenerateRequest request = Ask(1);
  request.session = "s";
  const WorkerRank bound = Answer(request).served_by.at(0);
  for (int turn = 0; turn < 20; ++turn) {
    request.id = RequestId{++last_id_};
    EXPECT_EQ(Answer(request).served_by.at(0), bound);
  }
  RunFor(std::chrono::seconds(11));
  request.id = RequestId{++last_id_};
  EXPECT_NE(Answer(request).served_by.at(0), bound) << "in turn, now that it is bound nowhere";
}

TEST_F(FleetRoutingTest, AnOverrideIsOfOneRequest) {
  StartFleet(2, Kv());
  const std::uint64_t worker = Answer(Ask(1)).served_by.at(0).worker;
  RunUntil([&] { return Known(Ask(1))[worker] == kPromptBlocks; });
  wire::GenerateRequest request = Ask(1);
  const auto cost = [&] {
    const std::vector<control::RouteCandidate> candidates =
        fleet_->ExplainRoute(request)->candidates;
    return std::ranges::find(candidates, WorkerRank{worker, 0}, &control::RouteCandidate::target)
        ->terms.cost;
  };
  const double usual = cost();
  request.routing.emplace().instead.overlap_credit = 0;
  EXPECT_EQ(cost(), usual + kPromptBlocks);
  request.routing.reset();
  EXPECT_EQ(cost(), usual);
}

TEST_F(FleetRoutingTest, AtANewAddressWhatRunsAtTheOldOneGoesOn) {
  StartFleet(1);
  Answer(Ask(9));  // the second service begins with the same ids
  const wire::GenerateRequest request = Ask(1, 200);
  Generate(request);
  RunUntil([&] { return received_[Raw(request.id)].tokens[0].size() >= 5; });
  // The same instance answers at another port of its host.
  testing::WorkerProcess& worker = *workers_[1];
  worker::WorkerService second(worker.node.loop(), worker.node.net(), worker.link, {});
  ASSERT_TRUE(second.Start({.host = "0.0.0.0", .port = 7001}));
  instances_[1].address = worker.node.host() + ":7001";
  ASSERT_TRUE(fleet_->SetInstance(instances_[1]));
  RunUntil([&] { return fleet_->worker_count() == 1 && second.call_count() == 1; });
  const wire::GenerateRequest next = Ask(2, 10);
  Generate(next);
  RunUntil([&] { return second.request_count() == 1; });
  RunToEnd(next);
  RunToEnd(request);
  ExpectOracle(request);
  ExpectOracle(next);
  EXPECT_EQ(fleet_->counters().moves_ongoing + fleet_->counters().moves_new_request, 0U);
  RunUntil([&] { return worker.service.connection_count() == 0; });
}

TEST_F(FleetRoutingTest, FullWorkersAreLeftAloneForAMomentAndComeBack) {
  engine_options_.batch_sequences_max = 1;
  engine_options_.queue_length_max = 1;
  StartFleet(2);
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t i = 0; i < 128; ++i) {
    requests.push_back(Ask(i, 20));
    Generate(requests.back());
  }
  RunUntil([&] { return std::ranges::all_of(requests, [&](auto& one) { return Ended(one); }); });
  std::size_t answered = 0;
  for (const wire::GenerateRequest& request : requests) {
    const wire::TokenFrame& end = received_[Raw(request.id)].ends[0];
    answered += end.error ? 0 : 1;
    if (end.error) {
      EXPECT_EQ(end.error->code(), Code::kResourceExhausted) << end.error->detail();
    }
  }
  EXPECT_GE(answered, 4U);
  EXPECT_LT(answered, 128U);
  RunFor(std::chrono::milliseconds(1100));
  for (std::uint64_t i = 0; i < 10; ++i) {
    const wire::GenerateRequest request = Ask(i, 20);
    Answer(request);
    ExpectOracle(request);
    RunFor(std::chrono::seconds(1));
  }
}

TEST_F(FleetRoutingTest, ThresholdsAreThoseSetLast) {
  StartFleet(1, Kv());
  ASSERT_TRUE(fleet_->SetBusyThresholds({.prefill_tokens = 0}));
  EXPECT_EQ(fleet_->busy_thresholds().prefill_tokens, 0U);
  const wire::GenerateRequest first = Ask(1, 20);
  Generate(first);
  const wire::GenerateRequest second = Ask(2, 20);
  Generate(second);
  RunToEnd(second);
  ExpectError(Raw(second.id), Code::kResourceExhausted);
  RunToEnd(first);
  ExpectOracle(first);
  ASSERT_TRUE(fleet_->SetBusyThresholds({}));
  const wire::GenerateRequest third = Ask(3, 20);
  Generate(third);
  const wire::GenerateRequest fourth = Ask(4, 20);
  Generate(fourth);
  RunToEnd(fourth);
  ExpectOracle(fourth);
}

TEST_F(FleetRoutingTest, MetricsCountDecisionsAndEvents) {
  obs::Registry registry;
  FleetOptions options = Kv();
  options.registry = &registry;
  StartFleet(2, std::move(options));
  for (std::uint64_t prompt = 0; prompt < 5; ++prompt) {
    Answer(Ask(prompt));
  }
  RunFor(std::chrono::seconds(1));
  fleet_->ExportMetrics();
  const std::string text = registry.Expose();
  for (const char* line :
       {"dynamo_router_overhead_total_ms_count{model=\"mock\"} 5\n",
        "dynamo_router_overhead_indexer_find_matches_ms_count{model=\"mock\"} 5\n",
        "dynamo_frontend_router_workers{model=\"mock\"} 2\n",
        "dynamo_component_kv_cache_events_applied{model=\"mock\",event_type=\"stored\",status="
        "\"ok\"} "}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
  const auto counts_of = [&](std::uint64_t worker) {
    fleet_->ExportMetrics();
    return registry.Expose().find("worker_id=\"" + std::to_string(IdOf(worker)) + "\"") !=
           std::string::npos;
  };
  EXPECT_TRUE(counts_of(1) && counts_of(2));
  Kill(2);
  RunUntil([&] { return fleet_->worker_count() == 1; });
  EXPECT_TRUE(counts_of(1));
  EXPECT_FALSE(counts_of(2)) << "a worker that is gone";
  fleet_.reset();
  EXPECT_EQ(registry.Expose().find("worker_id="), std::string::npos) << "a model that is gone";
  EXPECT_EQ(registry.Expose().find("router_workers{"), std::string::npos);
  EXPECT_NE(registry.Expose().find("dynamo_component_router_requests_total{model=\"mock\"} 5\n"),
            std::string::npos)
      << "what was stays";
}

TEST_F(FleetRoutingTest, WhoDoesNotRouteByCacheSaysNothingOfIt) {
  obs::Registry registry;
  FleetOptions options;
  options.registry = &registry;
  StartFleet(1, std::move(options));
  Answer(Ask(1));
  fleet_->ExportMetrics();
  const std::string text = registry.Expose();
  EXPECT_EQ(text.find("router_overhead"), std::string::npos);
  EXPECT_EQ(text.find("router_queue"), std::string::npos);
  EXPECT_EQ(text.find("kv_cache_events_applied"), std::string::npos);
  EXPECT_NE(text.find("dynamo_component_router_requests_total{model=\"mock\"} 0\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("worker_last_input_sequence_tokens"), std::string::npos);
  fleet_.reset();  // before its registry
}

// A worker of two ranks, which does nothing but say what it was asked.
class RankedFleetTest : public FleetRoutingTest {
 protected:
  void Start(FleetOptions options) {
    node_ = &world_.AddNode("ranked");
    wire::ModelCard card = testing::MakeMockEngine()->card();
    card.name = "mock";
    link_ = std::make_unique<RankedLink>(node_->loop(), card);
    service_ = std::make_unique<worker::WorkerService>(node_->loop(), node_->net(), *link_,
                                                       worker::WorkerServiceOptions{});
    ASSERT_TRUE(service_->Start({.host = "0.0.0.0", .port = 7000}));
    control::Instance instance;
    instance.id = InstanceId{77};
    instance.address = "ranked:7000";
    instance.rank_count = 2;
    instance.card = card;
    options.client.mux.name = "frontend";
    fleet_ =
        std::make_unique<FleetLink>(frontend_.loop(), frontend_.net(), card, std::move(options));
    ASSERT_TRUE(fleet_->SetInstance(instance));
    RunUntil([&] { return fleet_->worker_count() == 1; });
  }

  std::string StandingOf(std::uint32_t rank) {
    const control::RouteExplanation explained = *fleet_->ExplainRoute(Ask(1));
    for (const control::RouteCandidate& one : explained.candidates) {
      if (one.target.rank == rank) {
        return one.standing;
      }
    }
    return "none";
  }

  std::vector<std::uint32_t> KnownOf(std::uint64_t prompt) {
    std::vector<std::uint32_t> out;
    const control::RouteExplanation explained = *fleet_->ExplainRoute(Ask(prompt));
    for (const control::RouteCandidate& one : explained.candidates) {
      out.push_back(one.input.device_blocks);
    }
    return out;
  }

  wire::KvEvent Stored(std::uint32_t rank, std::uint64_t prompt) {
    wire::KvEvent out;
    out.rank = rank;
    std::uint64_t chain = 0;
    for (const std::uint64_t hash :
         wire::PublicBlockHashes(Ask(prompt).prompt, 4, wire::kPublicHashSeed)) {
      chain = out.blocks.empty() ? hash : wire::PublicChainHash(chain, hash);
      out.blocks.push_back({chain, hash});
    }
    return out;
  }

  rt::SimNode* node_ = nullptr;
  std::unique_ptr<RankedLink> link_;
  std::unique_ptr<worker::WorkerService> service_;
};

TEST_F(RankedFleetTest, EachRankIsACandidateAndTheWorkerHearsWhichOneItIs) {
  Start({});
  for (std::uint32_t turn = 0; turn < 4; ++turn) {
    const wire::GenerateRequest request = Ask(turn);
    EXPECT_EQ(Answer(request).served_by.at(0), (WorkerRank{77, turn % 2}));
  }
  EXPECT_EQ(link_->ranks, (std::vector<std::optional<std::uint32_t>>{0, 1, 0, 1}));
  wire::GenerateRequest pinned = Ask(1);
  pinned.routing = wire::RoutingHints{.worker = 77};
  pinned.dp_rank = 1;
  EXPECT_EQ(Answer(pinned).served_by.at(0), (WorkerRank{77, 1}));
  pinned.id = RequestId{++last_id_};
  pinned.dp_rank = 2;
  Answer(pinned);
  ExpectError(last_id_, Code::kInvalidArgument);
}

TEST_F(RankedFleetTest, AWorkerIsBusyOnceAllItsRanksAre) {
  FleetOptions options = Kv();
  options.router.active_decode_blocks_threshold = 0.5;
  Start(std::move(options));
  link_->loads[1].blocks_used = 4000;  // of 4096 on the card
  RunFor(std::chrono::seconds(1));
  EXPECT_EQ(StandingOf(0), "eligible");
  EXPECT_EQ(StandingOf(1), "eligible");
  link_->loads[0].blocks_used = 4000;
  RunFor(std::chrono::seconds(1));
  EXPECT_EQ(StandingOf(0), "busy");
  Answer(Ask(1));
  ExpectError(last_id_, Code::kResourceExhausted);
  link_->loads[0].blocks_used = 0;
  RunFor(std::chrono::seconds(1));
  EXPECT_EQ(StandingOf(0), "eligible");
}

TEST_F(RankedFleetTest, SomebodyHearsOfWorkersThatGetHealthyOnAConnectionThatStands) {
  std::vector<std::size_t> heard;
  FleetOptions options;
  options.on_workers = [&] { heard.push_back(fleet_->worker_count()); };
  Start(std::move(options));
  link_->state = control::WorkerState::kUnhealthy;
  RunUntil([&] { return fleet_->worker_count() == 0; });
  link_->state = control::WorkerState::kAwake;
  RunUntil([&] { return fleet_->worker_count() == 1; });
  link_->loads[0].blocks_used = 7;
  RunFor(std::chrono::seconds(1));
  EXPECT_EQ(heard, (std::vector<std::size_t>{1, 0, 1}));
}

TEST_F(RankedFleetTest, AdaptersAreThoseOfTheLastCardWhateverIsReportedOfLoads) {
  Start({});
  EXPECT_TRUE(fleet_->card().adapters.empty());
  link_->card_said.adapters = {{.name = "a", .source = "folder", .version = "1", .id = 1}};
  service_->Announce();
  RunUntil([&] { return !fleet_->card().adapters.empty(); });
  const wire::AdapterCard* const joined = fleet_->card().adapters.data();
  link_->loads[1].blocks_used = 7;
  RunFor(std::chrono::seconds(2));
  EXPECT_EQ(fleet_->card().adapters.data(), joined) << "joined anew for a report of loads alone";
  link_->card_said.adapters.clear();
  service_->Announce();
  RunUntil([&] { return fleet_->card().adapters.empty(); });
}

TEST_F(RankedFleetTest, EventsAreOfTheirRankAndSoIsAClearing) {
  Start(Kv());
  RunUntil([&] { return static_cast<bool>(link_->on_kv_events); });
  link_->on_kv_events({Stored(0, 1), Stored(1, 1), Stored(1, 2)});
  RunUntil([&] { return KnownOf(1) == std::vector<std::uint32_t>{kPromptBlocks, kPromptBlocks}; });
  wire::KvEvent cleared;
  cleared.kind = wire::KvEvent::Kind::kCleared;
  link_->on_kv_events({cleared});
  RunUntil([&] { return KnownOf(1) == std::vector<std::uint32_t>{0, kPromptBlocks}; });
  EXPECT_EQ(KnownOf(2), (std::vector<std::uint32_t>{0, kPromptBlocks}));
}

}  // namespace
}  // namespace pixii::frontend
