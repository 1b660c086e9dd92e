#include "frontend/fleet/fleet_link.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "support/worker_process.h"

namespace pixii::frontend {
namespace {

using control::InstanceId;
using testing::MakeMockRequest;
using testing::WorkerProcess;

struct Received {
  std::map<std::uint32_t, std::vector<TokenId>> tokens;  // by choice
  std::map<std::uint32_t, wire::TokenFrame> ends;
};

class FleetLinkTest : public ::testing::Test {
 protected:
  // Workers are numbered from 1; one that starts again is another instance.
  void StartWorker(std::uint64_t number) {
    const std::string host = "worker" + std::to_string(++starts_);
    rt::SimNode& node = world_.AddNode(host);
    workers_[number] = std::make_unique<WorkerProcess>(node);
    control::Instance instance;
    instance.id = InstanceId{starts_};
    instance.address = host + ":" + std::to_string(WorkerProcess::kPort);
    instance.card = workers_[number]->link.card();
    instances_[number] = instance;
    if (fleet_) {
      ASSERT_TRUE(fleet_->SetInstance(instance));
    }
  }

  void StartFleet(std::uint64_t workers, FleetOptions options = {}) {
    for (std::uint64_t number = 1; number <= workers; ++number) {
      StartWorker(number);
    }
    options.client.mux.name = "frontend";
    fleet_ = std::make_unique<FleetLink>(frontend_.loop(), frontend_.net(),
                                         instances_.begin()->second.card, std::move(options));
    for (const auto& [number, instance] : instances_) {
      ASSERT_TRUE(fleet_->SetInstance(instance));
    }
    RunUntil([&] { return fleet_->worker_count() == workers; });
  }

  void Kill(std::uint64_t number) {
    workers_[number]->node.Kill();
    dead_.push_back(std::move(workers_[number]));
    workers_.erase(number);
  }

  void RunUntil(const std::function<bool()>& done) {
    EXPECT_EQ(world_.RunUntil(done, world_.now() + std::chrono::seconds(120)), rt::SimEnd::kDone);
  }

  void Generate(const wire::GenerateRequest& request) {
    const std::uint64_t id = Raw(request.id);
    ASSERT_TRUE(fleet_->Generate(request, [this, id](wire::TokenFrame frame) {
      EXPECT_EQ(Raw(frame.id), id);
      Received& received = received_[id];
      EXPECT_FALSE(received.ends.contains(frame.choice)) << "a frame after the end";
      std::vector<TokenId>& tokens = received.tokens[frame.choice];
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
      if (frame.finish) {
        received.ends.emplace(frame.choice, std::move(frame));
      }
    }));
  }

  bool Ended(const wire::GenerateRequest& request) {
    return received_[Raw(request.id)].ends.size() == request.choice_count;
  }

  void RunToEnd(const wire::GenerateRequest& request) {
    RunUntil([&] { return Ended(request); });
  }

  /// The worker that runs something, 0: none.
  std::uint64_t Busy() {
    for (const auto& [number, worker] : workers_) {
      if (worker->link.outstanding_count() > 0) {
        return number;
      }
    }
    return 0;
  }

  /// Kills whoever runs request 1, once its first choice has `tokens` more tokens.
  void KillAfter(std::size_t tokens) {
    const std::size_t until = received_[1].tokens[0].size() + tokens;
    RunUntil([&] { return received_[1].tokens[0].size() >= until; });
    Kill(Busy());
  }

  void ExpectOracle(const wire::GenerateRequest& request) {
    Received& received = received_[Raw(request.id)];
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      EXPECT_EQ(
          received.tokens[choice],
          engine::MockStream(request, choice, testing::kMockVocab, testing::kMockContext).tokens)
          << "choice " << choice;
      EXPECT_EQ(received.ends[choice].finish, wire::FinishReason::kLength);
    }
  }

  void ExpectError(std::uint64_t id, Code code) {
    ASSERT_TRUE(received_[id].ends[0].error);
    EXPECT_EQ(CodeName(received_[id].ends[0].error->code()), CodeName(code))
        << received_[id].ends[0].error->detail();
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 11}};
  rt::SimNode& frontend_ = world_.AddNode("frontend");
  std::uint64_t starts_ = 0;
  std::map<std::uint64_t, control::Instance> instances_;
  std::map<std::uint64_t, std::unique_ptr<WorkerProcess>> workers_;
  std::vector<std::unique_ptr<WorkerProcess>> dead_;
  std::unique_ptr<FleetLink> fleet_;
  std::map<std::uint64_t, Received> received_;
};

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
    EXPECT_EQ(fleet_->counters().moves_ongoing, 1U);
  }
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
  StartFleet(2);
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  Generate(request);
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  const std::uint64_t draining = Busy();
  workers_[draining]->service.Drain();
  RunUntil([&] { return fleet_->worker_count() == 1; });
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
}

}  // namespace
}  // namespace pixii::frontend
