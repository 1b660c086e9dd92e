// A fleet over simulated workers that the test starts, kills and asks.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/mock_executor.h"
#include "frontend/fleet/fleet_link.h"
#include "rt/sim_world.h"
#include "support/worker_process.h"

namespace pixii::frontend {

struct Received {
  std::map<std::uint32_t, std::vector<TokenId>> tokens;  // by choice
  std::map<std::uint32_t, wire::TokenFrame> ends;
  std::vector<wire::WorkerRank> served_by;
  std::vector<std::string> numerics;  // of choice 0, as it was told
  std::uint32_t cached_tokens = 0;
};

class FleetFixture : public ::testing::Test {
 protected:
  // Workers are numbered from 1; one that starts again is another instance.
  void StartWorker(std::uint64_t number) {
    const std::string host = "worker" + std::to_string(++starts_);
    rt::SimNode& node = world_.AddNode(host);
    workers_[number] = std::make_unique<testing::WorkerProcess>(
        node, worker::WorkerServiceOptions{}, engine_options_, handover_);
    control::Instance instance;
    instance.id = control::InstanceId{starts_};
    instance.address = host + ":" + std::to_string(testing::WorkerProcess::kPort);
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
      if (frame.served_by) {
        received.served_by.push_back(*frame.served_by);
      }
      if (frame.choice == 0 && !frame.numerics_id.empty()) {
        received.numerics.push_back(frame.numerics_id);
      }
      received.cached_tokens = std::max(received.cached_tokens, frame.cached_tokens);
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

  transport::MemoryExchange exchange_;  // first: its links may die with the world
  rt::SimWorld world_{rt::SimOptions{.seed = 11}};
  rt::SimNode& frontend_ = world_.AddNode("frontend");
  engine::EngineOptions engine_options_ = testing::MockEngineOptions();
  testing::HandoverWorld handover_;  // of workers that are started from now on
  std::uint64_t starts_ = 0;
  std::map<std::uint64_t, control::Instance> instances_;
  std::map<std::uint64_t, std::unique_ptr<testing::WorkerProcess>> workers_;
  std::vector<std::unique_ptr<testing::WorkerProcess>> dead_;
  std::unique_ptr<FleetLink> fleet_;
  std::map<std::uint64_t, Received> received_;
};

}  // namespace pixii::frontend
