#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/remote_link.h"
#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "worker/local_link.h"
#include "worker/worker_service.h"

namespace pixii::worker {
namespace {

using namespace std::chrono_literals;
using control::RemoteLink;
using control::WorkerState;

constexpr std::uint16_t kPort = 7000;

std::unique_ptr<engine::Engine> MakeEngine() {
  auto executor = std::make_unique<engine::MockExecutor>(
      engine::MockOptions{.limits = {.vocab_size = 64,
                                     .context_tokens_max = 4096,
                                     .block_tokens = 4,
                                     .block_count = 4096,
                                     .step_tokens_max = 64,
                                     .step_logit_rows_max = 64},
                          .timing = {.step_ns = 20'000'000},
                          .faults = {}});
  return std::move(*engine::Engine::Create(
      {.batch_sequences_max = 2, .batch_tokens_max = 16, .queue_length_max = 8},
      std::move(executor)));
}

// The engine's thread can stop while the process lives and its connections answer.
class WorkerHealthTest : public testing::Test {
 protected:
  WorkerHealthTest() {
    EXPECT_TRUE(service_.Start({.host = "0.0.0.0", .port = kPort}));
    EXPECT_TRUE(RunUntil(
        [this] {
          return link_.state() == RemoteLink::State::kHere && !told_.empty() &&
                 link_.load().state == WorkerState::kAwake;
        },
        5s));
  }

  bool RunUntil(const std::function<bool()>& done, rt::Duration limit) {
    return world_.RunUntil(done, world_.now() + limit) == rt::SimEnd::kDone;
  }

  void Send(std::uint64_t id, std::uint32_t max_tokens, std::size_t prompt_size = 6) {
    wire::GenerateRequest request;
    request.id = RequestId{id};
    request.prompt.assign(prompt_size, static_cast<TokenId>(id));
    request.stop.max_tokens = max_tokens;
    ASSERT_TRUE(link_.Generate(std::move(request), [this](wire::TokenFrame frame) {
      tokens_ += frame.tokens.size();
      if (frame.finish) {
        ends_.push_back(std::move(frame));
      }
    }));
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 9}};
  rt::SimNode& frontend_node_ = world_.AddNode("frontend");
  rt::SimNode& worker_node_ = world_.AddNode("worker");
  rt::SimNode& engine_node_ = world_.AddNode("engine");
  std::vector<std::string> told_;
  engine::EngineLoop engine_{engine_node_.loop(), MakeEngine()};
  LocalLink local_{worker_node_.loop(), engine_, {.name = "mock", .eos_token_ids = {}}};
  WorkerService service_{worker_node_.loop(), worker_node_.net(), local_,
                         WorkerServiceOptions{
                             .mux = {.name = "worker"},
                             .health = control::ReadinessOptions{.canary_interval = 10s,
                                                                 .canary_timeout = 3s,
                                                                 .stall_limit = 20s},
                             .on_health =
                                 [this](bool healthy, const std::string& why) {
                                   told_.push_back((healthy ? "+" : "-") + why);
                                 },
                         }};
  RemoteLink link_{frontend_node_.loop(), frontend_node_.net(),
                   control::MuxClientOptions{.address = {.host = "worker", .port = kPort},
                                             .mux = {.name = "frontend"}},
                   wire::ModelCard{}, [] {}};
  std::size_t tokens_ = 0;
  std::vector<wire::TokenFrame> ends_;
};

TEST_F(WorkerHealthTest, AnIdleEngineThatStopsIsToldWithinAPeriodAndComesBack) {
  engine_node_.Freeze(world_.now() + 60s);
  EXPECT_TRUE(RunUntil([this] { return link_.load().state == WorkerState::kUnhealthy; }, 15s))
      << "canary interval and timeout are 13 s together";
  EXPECT_EQ(link_.state(), RemoteLink::State::kHere) << "the process itself answers";
  EXPECT_TRUE(RunUntil([this] { return link_.load().state == WorkerState::kAwake; }, 70s));
  ASSERT_EQ(told_.size(), 3U);
  EXPECT_EQ(told_[0].front(), '+');
  EXPECT_NE(told_[1].find("did not end in time"), std::string::npos) << told_[1];
  EXPECT_EQ(told_[2].front(), '+');
}

// Its queue is full of what came since, so it takes no canary; and it never said that it has any.
TEST_F(WorkerHealthTest, AnEngineThatStopsAsItIsFilledIsToldLikeAnIdleOne) {
  engine_node_.Freeze(world_.now() + 60s);
  for (std::uint64_t id = 1; id <= 10; ++id) {
    Send(id, 10);
  }
  EXPECT_TRUE(RunUntil([this] { return link_.load().state == WorkerState::kUnhealthy; }, 16s))
      << "a quarter of an interval late at most";
  ASSERT_EQ(ends_.size(), 10U);
  EXPECT_EQ(ends_[0].error->code(), Code::kDisconnected);
  EXPECT_TRUE(RunUntil([this] { return link_.load().state == WorkerState::kAwake; }, 70s));
}

TEST_F(WorkerHealthTest, WhatAStuckEngineHasEndsForItsCallers) {
  Send(1, 4000);
  Send(2, 4000);
  ASSERT_TRUE(RunUntil([this] { return tokens_ > 50; }, 10s));
  engine_node_.Freeze(world_.now() + 600s);
  ASSERT_TRUE(RunUntil([this] { return ends_.size() == 2; }, 25s)) << "the stall limit is 20 s";
  EXPECT_EQ(ends_[0].error->code(), Code::kDisconnected);
  EXPECT_EQ(link_.outstanding_count(), 0U);
  EXPECT_TRUE(RunUntil([this] { return service_.request_count() == 0; }, 1s));
}

// Two long prompts fill the batch for longer than a canary's timeout: that is work, no illness.
TEST_F(WorkerHealthTest, ABusyEngineIsHealthy) {
  Send(1, 3000, 2000);
  Send(2, 3000, 2000);
  Send(3, 3000, 2000);
  bool unhealthy = false;
  EXPECT_TRUE(RunUntil(
      [&] {
        unhealthy |= link_.load().state == WorkerState::kUnhealthy;
        return ends_.size() == 3;
      },
      600s));
  EXPECT_FALSE(unhealthy);
}

}  // namespace
}  // namespace pixii::worker
