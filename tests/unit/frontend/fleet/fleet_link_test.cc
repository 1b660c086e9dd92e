#include "frontend/fleet/fleet_link.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "unit/frontend/fleet/fleet_fixture.h"

namespace pixii::frontend {
namespace {

using control::InstanceId;
using testing::MakeMockRequest;

class FleetLinkTest : public FleetFixture {};

TEST_F(FleetLinkTest, ADeadlineEndsARequestThatHangsWithItsWorker) {
  StartFleet(1);
  wire::GenerateRequest request = MakeMockRequest(1, 20, 2);
  request.deadline_left_ns = 500'000'000;
  const rt::Time begun = world_.now();
  Generate(request);
  RunUntil([&] { return !received_[1].tokens[0].empty(); });
  workers_[1]->node.Freeze(begun +
                           std::chrono::seconds(3));  // not long enough to be taken for dead
  RunToEnd(request);
  ExpectError(1, Code::kDeadlineExceeded);
  EXPECT_LT(world_.now(), begun + std::chrono::milliseconds(501));
  const std::vector<TokenId> received = received_[1].tokens[0];
  RunUntil([&] { return fleet_->attempt_count() == 0; });  // the worker heard of it, too
  EXPECT_EQ(received_[1].tokens[0], received);
}

TEST_F(FleetLinkTest, ADeadlineEndsARequestThatWaitsForAWorker) {
  FleetOptions options;
  options.patience = std::chrono::seconds(30);
  StartFleet(1, options);
  wire::GenerateRequest request = MakeMockRequest(1, 20, 1);
  request.deadline_left_ns = 800'000'000;
  const rt::Time begun = world_.now();
  Generate(request);
  KillAfter(1);
  RunToEnd(request);
  ExpectError(1, Code::kDeadlineExceeded);
  EXPECT_LT(world_.now(), begun + std::chrono::milliseconds(801));
  EXPECT_EQ(fleet_->attempt_count(), 0U);
}

TEST_F(FleetLinkTest, ALineThatChangesBytesIsLeftAndItsRequestsMove) {
  StartFleet(2);
  for (std::uint64_t id = 1; id <= 20; ++id) {
    Generate(MakeMockRequest(id, 20, 1));
  }
  world_.SetCorruption("frontend", "worker1", 0.2);
  for (std::uint64_t id = 1; id <= 20; ++id) {
    const wire::GenerateRequest request = MakeMockRequest(id, 20, 1);
    RunToEnd(request);
    ExpectOracle(request);
  }
  EXPECT_GT(fleet_->counters().moves_ongoing + fleet_->counters().moves_new_request, 0U);
}

TEST_F(FleetLinkTest, RequestsAreSpreadAndAnsweredAsByOneWorker) {
  StartFleet(3);
  std::vector<wire::GenerateRequest> requests;
  std::set<std::uint64_t> seen;
  for (std::uint64_t id = 1; id <= 12; ++id) {
    requests.push_back(MakeMockRequest(id, 20, 1 + id % 3));
    Generate(requests.back());
  }
  RunUntil([&] {
    for (const auto& [number, worker] : workers_) {
      if (worker->link.outstanding_count() > 0) {
        seen.insert(number);
      }
    }
    return std::ranges::all_of(requests, [&](auto& request) { return Ended(request); });
  });
  for (const wire::GenerateRequest& request : requests) {
    ExpectOracle(request);
  }
  EXPECT_EQ(seen.size(), 3U);
  EXPECT_EQ(fleet_->outstanding_count(), 0U);
}

TEST_F(FleetLinkTest, AStreamOutlivesItsWorkerAtAnyToken) {
  for (const std::size_t tokens : {0U, 1U, 17U, 99U}) {
    SCOPED_TRACE(tokens);
    workers_.clear();
    dead_.clear();
    fleet_.reset();
    received_.clear();
    StartFleet(2);
    wire::GenerateRequest request = MakeMockRequest(1, 100);
    request.sampling.temperature = 0.7F;
    request.sampling.frequency_penalty = 0.5F;
    request.stop.min_tokens = 50;
    request.top_logprobs = 2;
    Generate(request);
    RunUntil([&] { return Busy() != 0; });
    KillAfter(tokens);
    RunToEnd(request);
    ExpectOracle(request);
    // Killed in the turn in which it got the request, it told nobody that it had it.
    EXPECT_EQ(fleet_->counters().moves_ongoing, tokens == 0 ? 0U : 1U);
    EXPECT_EQ(fleet_->counters().moves_new_request, tokens == 0 ? 1U : 0U);
  }
}

TEST_F(FleetLinkTest, TheLogTellsOfWorkersAndOfRequestsThatMove) {
  std::vector<std::string> lines;
  obs::Log log(
      {}, [] { return rt::WallTime{}; },
      [&](obs::Severity, std::string_view line) { lines.emplace_back(line); });
  const auto found = [&](std::string_view event) {
    const auto line = std::ranges::find_if(
        lines, [&](const std::string& one) { return one.find(event) != std::string::npos; });
    return line == lines.end() ? std::string() : *line;
  };
  FleetOptions options;
  options.log = &log;
  StartFleet(2, std::move(options));
  EXPECT_EQ(std::ranges::count_if(lines,
                                  [](const std::string& line) {
                                    return line.find("worker.came instance=") != std::string::npos;
                                  }),
            2);
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  KillAfter(5);
  RunToEnd(request);
  EXPECT_NE(found("worker.lost").find("why="), std::string::npos) << found("worker.lost");
  const std::string moved = found("request.moved");
  EXPECT_NE(moved.find("request=1 "), std::string::npos) << moved;
  EXPECT_NE(moved.find("from="), std::string::npos) << moved;
  EXPECT_NE(moved.find("begun=true"), std::string::npos) << moved;
  fleet_->RemoveInstance(instances_.at(workers_.begin()->first).id);
  EXPECT_NE(found("worker.left").find("discovery shows it no more"), std::string::npos);
  const wire::GenerateRequest last = MakeMockRequest(2, 5);
  Generate(last);
  RunToEnd(last);
  EXPECT_TRUE(found("request.failed").empty()) << "no worker had it";
}

TEST_F(FleetLinkTest, OfSeveralChoicesEachGoesOnWhereItWas) {
  StartFleet(2);
  wire::GenerateRequest request = MakeMockRequest(1, 60, 4);
  Generate(request);
  RunUntil([&] { return received_[1].tokens[0].size() >= 10; });
  fleet_->Cancel({request.id, 2});
  RunUntil([&] { return received_[1].ends.contains(2); });
  const std::vector<TokenId> cancelled = received_[1].tokens[2];
  KillAfter(5);
  RunToEnd(request);
  EXPECT_EQ(received_[1].ends[2].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(received_[1].tokens[2], cancelled) << "an ended choice stays ended";
  for (const std::uint32_t choice : {0U, 1U, 3U}) {
    EXPECT_EQ(
        received_[1].tokens[choice],
        engine::MockStream(request, choice, testing::kMockVocab, testing::kMockContext).tokens);
  }
}

TEST_F(FleetLinkTest, ARequestThatMovesGoesWhereTheSameBitsComeFrom) {
  for (const std::string other : {"y", "z"}) {
    SCOPED_TRACE(other);
    workers_.clear();
    dead_.clear();
    instances_.clear();
    fleet_.reset();
    received_.clear();
    const std::vector<std::string> numerics = {"y", "z", "z", "z", other, "y"};
    for (std::uint64_t number = 1; number <= numerics.size(); ++number) {
      engine_options_.numerics_id = numerics[number - 1];
      StartWorker(number);
    }
    StartFleet(0, {.flight = {.moves_max = 5, .deaths_max = 10}});
    RunUntil([&] { return fleet_->worker_count() == numerics.size(); });
    const wire::GenerateRequest request = MakeMockRequest(1, 100);
    Generate(request);
    RunUntil([&] { return received_[1].tokens[0].size() >= 3; });
    const std::string first = received_[1].numerics.at(0);
    const auto same = static_cast<std::size_t>(std::ranges::count(numerics, first));
    for (std::size_t death = 1; death < same; ++death) {
      KillAfter(3);
      RunUntil([&] { return received_[1].numerics.size() == death + 1; });
      EXPECT_EQ(received_[1].numerics.back(), first) << death;
    }
    KillAfter(3);  // nobody is left who computes as it began
    RunToEnd(request);
    ExpectOracle(request);
    EXPECT_NE(received_[1].numerics.back(), first) << "better than not at all";
  }
}

TEST_F(FleetLinkTest, WithoutMovesTheFirstFailureIsFinal) {
  StartFleet(2, {.flight = {.moves_max = 0}});
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  KillAfter(5);
  RunToEnd(request);
  ExpectError(1, Code::kDisconnected);
  EXPECT_EQ(fleet_->counters().moves_ongoing, 0U);
}

TEST_F(FleetLinkTest, ARequestThatOutlivesNoWorkerIsGivenUp) {
  StartFleet(4);
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  KillAfter(5);
  KillAfter(5);
  RunToEnd(request);
  ExpectError(1, Code::kRequestPoisoned);
  EXPECT_EQ(fleet_->worker_count(), 2U);
}

TEST_F(FleetLinkTest, ADeathBeforeTheFirstTokenCountsToo) {
  StartFleet(4);
  wire::GenerateRequest request = MakeMockRequest(1, 100);
  request.prompt.assign(2000, 7);  // many steps
  Generate(request);
  for (int death = 0; death < 2; ++death) {
    RunUntil([&] { return Busy() != 0; });
    world_.RunTo(world_.now() + std::chrono::milliseconds(10));
    ASSERT_TRUE(received_[1].tokens[0].empty());
    Kill(Busy());
  }
  RunToEnd(request);
  ExpectError(1, Code::kRequestPoisoned);
}

TEST_F(FleetLinkTest, WorkersThatWereGoneBeforeARequestCameDoItNoHarm) {
  StartFleet(6);
  for (std::uint64_t number = 1; number <= 5; ++number) {
    Kill(number);  // and nobody has heard of it yet
  }
  for (std::uint64_t id = 1; id <= 12; ++id) {
    Generate(MakeMockRequest(id, 20));
  }
  for (std::uint64_t id = 1; id <= 12; ++id) {
    RunToEnd(MakeMockRequest(id, 20));
    ExpectOracle(MakeMockRequest(id, 20));
  }
}

TEST_F(FleetLinkTest, WhereAllWereGoneBeforeARequestCameItWaitsForAnother) {
  StartFleet(3);
  for (std::uint64_t number = 1; number <= 3; ++number) {
    Kill(number);
  }
  const rt::Time begun = world_.now();
  const wire::GenerateRequest served = MakeMockRequest(1, 20);
  Generate(served);
  world_.RunTo(begun + std::chrono::seconds(4));
  EXPECT_FALSE(Ended(served));
  StartWorker(1);
  RunToEnd(served);
  ExpectOracle(served);
  Kill(1);
  const rt::Time again = world_.now();
  const wire::GenerateRequest given_up = MakeMockRequest(2, 20);
  Generate(given_up);
  RunToEnd(given_up);
  ExpectError(2, Code::kUnavailable);
  EXPECT_LE(world_.now() - again, std::chrono::seconds(11)) << "the patience begins once";
}

TEST_F(FleetLinkTest, RequestsGoToWorkersThatCanHoldThem) {
  StartFleet(1);
  EXPECT_EQ(fleet_->card().context_tokens_max, testing::kMockContext);
  engine_options_.context_tokens_max = 64;
  StartWorker(2);
  RunUntil([&] { return fleet_->worker_count() == 2; });
  EXPECT_EQ(fleet_->card().context_tokens_max, testing::kMockContext);
  std::set<std::uint64_t> workers;
  for (std::uint64_t id = 1; id <= 12; ++id) {
    // 6 tokens of prompt: 58 more are just what the small one holds.
    const wire::GenerateRequest request = MakeMockRequest(id, id % 2 == 0 ? 58 : 59);
    const auto why = fleet_->ExplainRoute(request);
    ASSERT_TRUE(why);
    EXPECT_EQ(std::ranges::count(why->candidates, "excluded", &control::RouteCandidate::standing),
              id % 2 == 0 ? 0 : 1);
    Generate(request);
    RunToEnd(request);
    ExpectOracle(request);
    workers.insert(received_[id].served_by.at(0).worker);
  }
  EXPECT_EQ(workers.size(), 2U);
  Kill(1);
  RunUntil([&] { return fleet_->worker_count() == 1; });
  EXPECT_EQ(fleet_->card().context_tokens_max, 64U) << "of the workers that are there";
  const wire::GenerateRequest large = MakeMockRequest(20, 59);
  Generate(large);
  RunToEnd(large);
  ExpectError(20, Code::kTooLarge);
}

TEST_F(FleetLinkTest, ALargeRequestThatLostItsWorkerWaitsForALargeOne) {
  StartFleet(1);
  engine_options_.context_tokens_max = 64;
  StartWorker(2);
  RunUntil([&] { return fleet_->worker_count() == 2; });
  const wire::GenerateRequest request = MakeMockRequest(1, 200);
  Generate(request);
  KillAfter(5);
  world_.RunTo(world_.now() + std::chrono::seconds(3));
  EXPECT_FALSE(Ended(request));
  engine_options_.context_tokens_max = 0;
  StartWorker(3);
  RunToEnd(request);
  ExpectOracle(request);
}

TEST_F(FleetLinkTest, ALongRequestStaysAtTheLimitAndMovesBelow) {
  for (const std::uint32_t room : {0U, 1U}) {
    SCOPED_TRACE(room);
    workers_.clear();
    dead_.clear();
    fleet_.reset();
    received_.clear();
    // The prompt has 6 tokens; 10 more are there when the worker dies.
    StartFleet(2, {.flight = {.tokens_max = 15 + room}});
    const wire::GenerateRequest request = MakeMockRequest(1, 100);
    Generate(request);
    RunUntil([&] { return received_[1].tokens[0].size() == 10; });
    Kill(Busy());
    RunToEnd(request);
    EXPECT_EQ(received_[1].ends[0].error.has_value(), room == 0);
    EXPECT_EQ(fleet_->counters().moves_too_long, room == 0 ? 1U : 0U);
  }
}

TEST_F(FleetLinkTest, WithoutAnotherWorkerARequestWaitsForOne) {
  StartFleet(1);
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  KillAfter(5);
  world_.RunTo(world_.now() + std::chrono::seconds(4));
  EXPECT_FALSE(Ended(request));
  StartWorker(1);
  RunToEnd(request);
  ExpectOracle(request);
}

TEST_F(FleetLinkTest, ARequestThatComesWithTokensWaitsForOneToo) {
  StartFleet(1);
  Kill(1);
  RunUntil([&] { return fleet_->worker_count() == 0; });
  wire::GenerateRequest request = MakeMockRequest(1, 20);
  request.generated = {{7}};
  Generate(request);
  world_.RunTo(world_.now() + std::chrono::seconds(4));
  EXPECT_FALSE(Ended(request));
  StartWorker(1);
  RunToEnd(request);
  ExpectOracle(request);
}

TEST_F(FleetLinkTest, NobodyWaitsForEver) {
  StartFleet(1);
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  KillAfter(5);
  const rt::Time begin = world_.now();
  RunToEnd(request);
  ExpectError(1, Code::kUnavailable);
  EXPECT_LE(world_.now() - begin, std::chrono::seconds(11));
  const wire::GenerateRequest next = MakeMockRequest(2, 5);
  Generate(next);
  RunToEnd(next);
  ExpectError(2, Code::kUnavailable);
}

TEST_F(FleetLinkTest, ADrainingWorkerFinishesAndGetsNothingNew) {
  std::vector<InstanceId> gone;
  FleetOptions options;
  options.on_going_away = [&](InstanceId instance) { gone.push_back(instance); };
  StartFleet(2, std::move(options));
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  const std::uint64_t draining = Busy();
  workers_[draining]->service.Drain();
  RunUntil([&] { return fleet_->worker_count() == 1; });
  EXPECT_EQ(gone, std::vector<InstanceId>{instances_[draining].id});
  for (std::uint64_t id = 2; id < 8; ++id) {
    Generate(MakeMockRequest(id, 10));
  }
  RunUntil([&] { return fleet_->outstanding_count() == 0; });
  for (std::uint64_t id = 2; id < 8; ++id) {
    ExpectOracle(MakeMockRequest(id, 10));
  }
  ExpectOracle(request);
  EXPECT_EQ(fleet_->counters().moves_ongoing, 0U);
}

// Whoever waits for a worker hears of one that wakes up, too: its connection was there all the
// time.
TEST_F(FleetLinkTest, WorkersThatComeAndGoAreToldOfHoweverTheyDo) {
  std::vector<std::size_t> counts;
  FleetOptions options;
  options.on_workers = [&] { counts.push_back(fleet_->worker_count()); };
  StartFleet(1, std::move(options));
  const control::MemoryTags kv_cache{.kv_cache = true, .weights = false};
  workers_[1]->link.ReleaseMemory(kv_cache, rt::Duration::zero(), [](const Result<void>&) {});
  RunUntil([&] { return fleet_->worker_count() == 0; });
  workers_[1]->link.ResumeMemory(kv_cache, [](const Result<void>&) {});
  RunUntil([&] { return fleet_->worker_count() == 1; });
  Kill(1);
  RunUntil([&] { return fleet_->worker_count() == 0; });
  EXPECT_EQ(counts, (std::vector<std::size_t>{1, 0, 1, 0}));
}

TEST_F(FleetLinkTest, AFleetThatWasSentToSleepWakesUp) {
  StartFleet(2);
  StartWorker(3);
  RunUntil([&] { return fleet_->worker_count() == 3; });
  workers_[3]->service.Drain();  // about to end: it is not asked
  RunUntil([&] { return fleet_->worker_count() == 2; });
  const control::MemoryTags kv_cache{.kv_cache = true, .weights = false};
  int answers = 0;
  const auto on_done = [&](const Result<void>& done) {
    EXPECT_TRUE(done) << done.error().ToString();
    ++answers;
  };
  fleet_->ReleaseMemory(kv_cache, rt::Duration::zero(), on_done);
  RunUntil([&] { return fleet_->load().state == control::WorkerState::kAsleep; });
  EXPECT_EQ(fleet_->worker_count(), 0U);
  fleet_->ResumeMemory(kv_cache, on_done);
  RunUntil([&] { return fleet_->worker_count() == 2; });
  EXPECT_EQ(answers, 2);
}

TEST_F(FleetLinkTest, TextsComeFromAWorkerThatTakesCalls) {
  StartFleet(2);
  workers_[1]->service.Drain();
  RunUntil([&] { return fleet_->worker_count() == 1; });
  std::optional<Error> error;
  fleet_->FetchFiles([&](const Result<wire::ModelFiles>& files) { error = files.error(); });
  RunUntil([&] { return error.has_value(); });
  EXPECT_EQ(CodeName(error->code()), CodeName(Code::kUnsupported)) << "as the one that is asked";
}

TEST_F(FleetLinkTest, WhoAsksForTextsIsAnsweredAlsoIfTheirWorkerIsTakenBack) {
  StartFleet(1);
  bool answered = false;
  fleet_->FetchFiles([&](const Result<wire::ModelFiles>&) { answered = true; });
  fleet_->RemoveInstance(instances_[1].id);
  RunUntil([&] { return answered; });
}

TEST_F(FleetLinkTest, ACancelReachesTheWorkerAndNothingMovesBehindIt) {
  StartFleet(2);
  const wire::GenerateRequest request = MakeMockRequest(1, 1000);
  Generate(request);
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  fleet_->Cancel({request.id, std::nullopt});
  Kill(Busy());
  RunToEnd(request);
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(fleet_->counters().moves_ongoing, 0U);
  world_.RunTo(world_.now() + std::chrono::seconds(1));
  EXPECT_EQ(Busy(), 0U);
}

TEST_F(FleetLinkTest, AFrozenWorkerIsGivenUpAndItsLateTokensAreNotBelieved) {
  StartFleet(2);
  const wire::GenerateRequest request = MakeMockRequest(1, 200);
  Generate(request);
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  const std::string host = workers_[Busy()]->node.host();
  world_.SetPartition("frontend", host, true);
  RunUntil([&] { return received_[1].tokens[0].size() >= 100; });
  world_.SetPartition("frontend", host, false);
  RunToEnd(request);
  ExpectOracle(request);
  RunUntil([&] { return fleet_->worker_count() == 2; });
}

TEST_F(FleetLinkTest, AnotherModelOrVersionIsNotTaken) {
  StartFleet(1);
  control::Instance other = instances_[1];
  other.id = InstanceId{999};
  other.card.fingerprint = "another";
  const auto taken = fleet_->SetInstance(other);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().param(), "model");
  other.card = instances_[1].card;
  other.card.block_tokens *= 2;
  EXPECT_FALSE(fleet_->SetInstance(other)) << "prompts are cut otherwise there";
}

TEST_F(FleetLinkTest, AnAddressThatIsNoneLeavesNothingBehind) {
  StartFleet(1);
  control::Instance other = instances_[1];
  other.id = InstanceId{999};
  other.address = "nowhere";
  ASSERT_FALSE(fleet_->SetInstance(other));
  EXPECT_EQ(fleet_->load().blocks_total, workers_[1]->link.load().blocks_total);
}

}  // namespace
}  // namespace pixii::frontend
