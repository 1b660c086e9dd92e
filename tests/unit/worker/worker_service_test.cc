#include "worker/worker_service.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/remote_link.h"
#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "worker/local_link.h"

namespace pixii::worker {
namespace {

constexpr std::uint32_t kVocab = 64;
constexpr std::uint32_t kContext = 4096;
constexpr std::uint16_t kPort = 7000;

std::unique_ptr<engine::Engine> MakeEngine() {
  auto executor = std::make_unique<engine::MockExecutor>(
      engine::MockOptions{.limits = {.vocab_size = kVocab,
                                     .context_tokens_max = kContext,
                                     .block_tokens = 4,
                                     .block_count = 4096,
                                     .step_tokens_max = 64,
                                     .step_logit_rows_max = 64},
                          .timing = {.step_ns = 1'000'000},
                          .faults = {}});
  return std::move(*engine::Engine::Create(
      {.batch_sequences_max = 8, .batch_tokens_max = 32, .queue_length_max = 64},
      std::move(executor)));
}

wire::GenerateRequest MakeRequest(std::uint64_t id, std::uint32_t max_tokens,
                                  std::uint32_t choices = 1) {
  wire::GenerateRequest request;
  request.id = RequestId{id};
  request.prompt = {static_cast<TokenId>(id % kVocab), 1, 2, 3, 4, 5};
  request.choice_count = choices;
  request.sampling.seed = id;
  request.stop.max_tokens = max_tokens;
  return request;
}

// What a process that is a worker has.
struct WorkerProcess {
  explicit WorkerProcess(rt::SimNode& node)
      : engine(node.loop(), MakeEngine()),
        link(node.loop(), engine, {.name = "mock", .eos_token_ids = {}}),
        service(node.loop(), node.net(), link,
                {.mux = {.name = "worker"}, .stream_bytes_max = 2048}) {
    EXPECT_TRUE(service.Start({.host = "0.0.0.0", .port = kPort}));
  }

  engine::EngineLoop engine;
  LocalLink link;
  WorkerService service;
};

struct Received {
  std::map<std::uint32_t, std::vector<TokenId>> tokens;  // by choice
  std::map<std::uint32_t, wire::TokenFrame> ends;
  std::uint32_t frames = 0;
};

class WorkerServiceTest : public testing::Test {
 protected:
  WorkerServiceTest() {
    StartWorker();
    link_.emplace(Connect());
    RunUntil([this] { return link_->get()->state() == control::RemoteLink::State::kHere; });
  }

  void StartWorker() {
    worker_node_ = &world_.AddNode("worker");
    worker_.emplace(*worker_node_);
  }

  std::unique_ptr<control::RemoteLink> Connect() {
    return std::make_unique<control::RemoteLink>(
        frontend_node_.loop(), frontend_node_.net(),
        control::MuxClientOptions{.address = {.host = "worker", .port = kPort},
                                  .mux = {.name = "frontend"}},
        wire::ModelCard{}, [] {});
  }

  control::RemoteLink& link() { return **link_; }

  void RunUntil(const std::function<bool()>& done) {
    EXPECT_EQ(world_.RunUntil(done, world_.now() + std::chrono::seconds(60)), rt::SimEnd::kDone);
  }

  Result<void> Generate(const wire::GenerateRequest& request) {
    const std::uint64_t id = Raw(request.id);
    return link().Generate(request, [this, id](wire::TokenFrame frame) {
      EXPECT_EQ(Raw(frame.id), id);
      Received& received = received_[id];
      EXPECT_FALSE(received.ends.contains(frame.choice)) << "a frame after the end";
      std::vector<TokenId>& tokens = received.tokens[frame.choice];
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
      ++received.frames;
      if (frame.finish) {
        received.ends.emplace(frame.choice, std::move(frame));
      }
    });
  }

  bool Ended(const wire::GenerateRequest& request) {
    return received_[Raw(request.id)].ends.size() == request.choice_count;
  }

  void ExpectOracle(const wire::GenerateRequest& request) {
    Received& received = received_[Raw(request.id)];
    for (std::uint32_t choice = 0; choice < request.choice_count; ++choice) {
      EXPECT_EQ(received.tokens[choice],
                engine::MockStream(request, choice, kVocab, kContext).tokens);
      EXPECT_EQ(received.ends[choice].finish, wire::FinishReason::kLength);
    }
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& frontend_node_ = world_.AddNode("frontend");
  rt::SimNode* worker_node_ = nullptr;
  std::optional<WorkerProcess> worker_;
  std::optional<std::unique_ptr<control::RemoteLink>> link_;
  std::map<std::uint64_t, Received> received_;
};

TEST_F(WorkerServiceTest, WhatAWorkerIsCrossesWithTheConnection) {
  EXPECT_EQ(link().card().name, "mock");
  EXPECT_EQ(link().card().block_count, 4096U);
  EXPECT_EQ(link().load().blocks_total, 4096U);
}

TEST_F(WorkerServiceTest, StreamsAreTheSameAsWithoutTheWire) {
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    requests.push_back(MakeRequest(id, 5 + static_cast<std::uint32_t>(id), 1 + id % 3));
    ASSERT_TRUE(Generate(requests.back()));
  }
  RunUntil([&] { return std::ranges::all_of(requests, [&](auto& r) { return Ended(r); }); });
  for (const wire::GenerateRequest& request : requests) {
    ExpectOracle(request);
  }
  EXPECT_EQ(link().outstanding_count(), 0U);
  EXPECT_EQ(worker_->service.request_count(), 0U);
}

TEST_F(WorkerServiceTest, ACancelledChoiceEndsAndTheOthersGoOn) {
  const wire::GenerateRequest request = MakeRequest(1, 300, 2);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  link().Cancel({request.id, 0});
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(received_[1].tokens[1], engine::MockStream(request, 1, kVocab, kContext).tokens);
}

TEST_F(WorkerServiceTest, ARefusalArrivesAsItWasSaid) {
  wire::GenerateRequest request = MakeRequest(1, 10);
  request.prompt.assign(kContext + 1, 1);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(received_[1].ends[0].error->code(), Code::kInvalidArgument);
  EXPECT_EQ(received_[1].ends[0].error->param(), "prompt");
}

TEST_F(WorkerServiceTest, AWorkerThatDiesEndsWhatItRanAndIsFoundAgain) {
  const wire::GenerateRequest request = MakeRequest(1, 500, 3);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[2].size() >= 5; });
  worker_node_->Kill();
  RunUntil([&] { return Ended(request); });
  for (const auto& [choice, end] : received_[1].ends) {
    EXPECT_EQ(end.error->code(), Code::kDisconnected);
  }
  EXPECT_EQ(link().state(), control::RemoteLink::State::kAway);
  EXPECT_FALSE(Generate(MakeRequest(2, 5)));
  worker_.reset();
  StartWorker();
  RunUntil([&] { return link().state() == control::RemoteLink::State::kHere; });
  const wire::GenerateRequest again = MakeRequest(3, 5);
  ASSERT_TRUE(Generate(again));
  RunUntil([&] { return Ended(again); });
  ExpectOracle(again);
}

TEST_F(WorkerServiceTest, AnotherProcessAtTheAddressIsNotTakenForTheWorker) {
  control::RemoteLink stranger(
      frontend_node_.loop(), frontend_node_.net(),
      control::MuxClientOptions{.address = {.host = "worker", .port = kPort},
                                .mux = {.name = "frontend"},
                                .expected_peer = "another"},
      wire::ModelCard{}, [] {});
  RunUntil([&] { return stranger.trouble().find("not 'another'") != std::string::npos; });
  world_.RunTo(world_.now() + std::chrono::seconds(10));
  EXPECT_EQ(stranger.state(), control::RemoteLink::State::kAway);
  EXPECT_EQ(link().state(), control::RemoteLink::State::kHere);
}

TEST_F(WorkerServiceTest, SilenceOfAWorkerIsNoticedInTime) {
  const wire::GenerateRequest request = MakeRequest(1, 500);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  world_.SetPartition("frontend", "worker", true);
  const rt::Time begin = world_.now();
  RunUntil([&] { return Ended(request); });
  EXPECT_LE(world_.now() - begin, control::MuxOptions{}.dead_after + std::chrono::seconds(1));
}

TEST_F(WorkerServiceTest, WhatRunsForACallerThatIsGoneIsCancelled) {
  ASSERT_TRUE(Generate(MakeRequest(1, 3000)));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  link_.reset();
  RunUntil([&] { return worker_->link.outstanding_count() == 0; });
  EXPECT_EQ(worker_->service.request_count(), 0U);
  EXPECT_EQ(worker_->link.load().running, 0U);
}

TEST_F(WorkerServiceTest, ADrainingWorkerEndsWhatItHasAndTakesNothing) {
  const wire::GenerateRequest request = MakeRequest(1, 100);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  worker_->service.Drain();
  RunUntil([&] { return link().load().state == wire::WorkerState::kDraining; });
  const auto refused = Generate(MakeRequest(2, 5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kShuttingDown);
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
}

TEST_F(WorkerServiceTest, FramesForASlowLineAreJoinedAndNothingIsLost) {
  world_.options().bandwidth_bytes_per_s = 100'000;
  wire::GenerateRequest request = MakeRequest(1, 3500);
  request.top_logprobs = 20;
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
  EXPECT_LT(received_[1].frames, 3500U);
}

}  // namespace
}  // namespace pixii::worker
