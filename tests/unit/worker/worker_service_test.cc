#include "worker/worker_service.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "control/event_plane.h"
#include "control/forwarding_link.h"
#include "control/remote_link.h"
#include "engine/mock_executor.h"
#include "rt/sim_world.h"
#include "support/worker_process.h"
#include "wire/messages/codec.h"
#include "wire/public_hash.h"
#include "worker/local_link.h"

namespace pixii::worker {
namespace {

using pixii::testing::kMockContext;
using pixii::testing::kMockVocab;
using pixii::testing::MakeMockRequest;

constexpr std::uint16_t kPort = 7000;

std::unique_ptr<engine::Engine> MakeEngine(std::uint32_t kv_event_count_max) {
  engine::EngineOptions options = pixii::testing::MockEngineOptions();
  options.kv_event_count_max = kv_event_count_max;
  return pixii::testing::MakeMockEngine(options);
}

// Loses, repeats, delays and damages what is published, each with a probability.
class BadPlane final : public control::EventPlane {
 public:
  BadPlane(rt::SimNode& node, std::uint64_t seed) : node_(node), random_(seed) {}

  void Publish(std::string_view worker, Kind kind, std::string message) override {
    if (Happens(lose)) {
      return;
    }
    std::string sealed = Seal(std::move(message));
    if (Happens(repeat)) {
      SendLater(std::string(worker), kind, sealed);
    }
    if (Happens(damage)) {
      sealed[random_() % sealed.size()] ^= static_cast<char>(1U << random_() % 8);
    }
    SendLater(std::string(worker), kind, std::move(sealed));
  }

  double lose = 0;
  double repeat = 0;
  double damage = 0;
  rt::Duration delay_max = std::chrono::milliseconds(1);

 private:
  bool Happens(double probability) {
    return std::uniform_real_distribution<>(0, 1)(random_) < probability;
  }

  void SendLater(std::string worker, Kind kind, std::string sealed) {
    const auto delay = rt::Duration(
        static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(delay_max.count())));
    node_.loop().RunAt(node_.loop().Now() + delay,
                       [this, worker = std::move(worker), kind, sealed = std::move(sealed)] {
                         Deliver(worker, kind, sealed);
                       });
  }

  rt::SimNode& node_;
  std::mt19937_64 random_;
};

struct WorkerOptions {
  std::string name = "mock";
  std::uint32_t kv_event_count_max = 256;
  std::size_t kv_log_blocks_max = 65536;
  control::EventPlane* plane = nullptr;
};

// What a process that is a worker has.
struct WorkerProcess {
  explicit WorkerProcess(rt::SimNode& node, rt::Net& net, const WorkerOptions& options)
      : engine(node.loop(), MakeEngine(options.kv_event_count_max)),
        link(node.loop(), engine, {.name = options.name, .eos_token_ids = {}}),
        service(node.loop(), net, link,
                {.mux = {.name = "worker"},
                 .stream_bytes_max = 2048,
                 .connection_bytes_max = 64 * 1024,
                 .kv_blocks_max = 16,
                 .kv_log = {.blocks_max = options.kv_log_blocks_max},
                 .plane = options.plane}) {
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

class WorkerServiceTest : public ::testing::Test {
 protected:
  WorkerServiceTest() {
    StartWorker();
    link_.emplace(Connect());
    RunUntil([this] { return link_->get()->state() == control::RemoteLink::State::kHere; });
  }

  void StartWorker(const WorkerOptions& options = {}) {
    worker_.reset();
    if (worker_node_ != nullptr && worker_node_->alive()) {
      worker_node_->Kill();
    }
    worker_node_ = &world_.AddNode("worker");
    worker_.emplace(*worker_node_, worker_node_->net(), options);
  }

  std::unique_ptr<control::RemoteLink> Connect(wire::ModelCard known = {}) {
    return std::make_unique<control::RemoteLink>(
        frontend_node_.loop(), frontend_node_.net(),
        control::MuxClientOptions{.address = {.host = "worker", .port = kPort},
                                  .mux = {.name = "frontend"}},
        std::move(known), [] {});
  }

  void RunFor(rt::Duration duration) { world_.RunTo(world_.now() + duration); }

  // Runs `count` requests to their ends, with prompts that share beginnings.
  void RunSome(std::uint64_t count) {
    std::vector<wire::GenerateRequest> requests;
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t id = ++last_request_;
      wire::GenerateRequest request = MakeMockRequest(id, 10);
      request.prompt.assign(20 + id % 17, static_cast<TokenId>(id % 5));
      request.prompt.back() = static_cast<TokenId>(id % kMockVocab);
      requests.push_back(request);
      ASSERT_TRUE(Generate(request));
      RunUntil([&] { return Ended(request); });
    }
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
                engine::MockStream(request, choice, kMockVocab, kMockContext).tokens);
      EXPECT_EQ(received.ends[choice].finish, wire::FinishReason::kLength);
    }
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& frontend_node_ = world_.AddNode("frontend");
  rt::SimNode* worker_node_ = nullptr;
  std::optional<WorkerProcess> worker_;
  std::optional<std::unique_ptr<control::RemoteLink>> link_;
  std::map<std::uint64_t, Received> received_;
  std::uint64_t last_request_ = 1000;
};

TEST_F(WorkerServiceTest, WhatAWorkerIsCrossesWithTheConnection) {
  EXPECT_EQ(link().card().name, "mock");
  EXPECT_EQ(link().card().block_count, 4096U);
  EXPECT_EQ(link().load().blocks_total, 4096U);
}

TEST_F(WorkerServiceTest, StreamsAreTheSameAsWithoutTheWire) {
  std::vector<wire::GenerateRequest> requests;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    requests.push_back(MakeMockRequest(id, 5 + static_cast<std::uint32_t>(id), 1 + id % 3));
    ASSERT_TRUE(Generate(requests.back()));
  }
  RunUntil([&] { return std::ranges::all_of(requests, [&](auto& r) { return Ended(r); }); });
  for (const wire::GenerateRequest& request : requests) {
    ExpectOracle(request);
  }
  EXPECT_EQ(link().outstanding_count(), 0U);
  EXPECT_EQ(worker_->service.request_count(), 0U);
}

// Whoever asked knows then that the worker has the request, and may be harmed by it.
TEST_F(WorkerServiceTest, ARequestIsAcknowledgedLongBeforeItsFirstToken) {
  wire::GenerateRequest request = MakeMockRequest(1, 5);
  request.prompt.assign(3000, 7);
  ASSERT_TRUE(Generate(request));
  const rt::Time begun = world_.now();
  RunUntil([&] { return received_[1].frames == 1; });
  EXPECT_TRUE(received_[1].tokens[0].empty());
  const rt::Time acknowledged = world_.now();
  RunUntil([&] { return !received_[1].tokens[0].empty(); });
  EXPECT_GT(world_.now() - begun, 10 * (acknowledged - begun));
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
}

TEST_F(WorkerServiceTest, ACancelledChoiceEndsAndTheOthersGoOn) {
  const wire::GenerateRequest request = MakeMockRequest(1, 300, 2);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  link().Cancel({request.id, 0});
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(received_[1].ends[0].finish, wire::FinishReason::kCancelled);
  EXPECT_EQ(received_[1].tokens[1],
            engine::MockStream(request, 1, kMockVocab, kMockContext).tokens);
}

TEST_F(WorkerServiceTest, ARefusalArrivesAsItWasSaid) {
  wire::GenerateRequest request = MakeMockRequest(1, 10);
  request.prompt.assign(kMockContext + 1, 1);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request); });
  EXPECT_EQ(received_[1].ends[0].error->code(), Code::kInvalidArgument);
  EXPECT_EQ(received_[1].ends[0].error->param(), "prompt");
}

TEST_F(WorkerServiceTest, AWorkerThatDiesEndsWhatItRanAndIsFoundAgain) {
  const wire::GenerateRequest request = MakeMockRequest(1, 500, 3);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[2].size() >= 5; });
  worker_node_->Kill();
  RunUntil([&] { return Ended(request); });
  for (const auto& [choice, end] : received_[1].ends) {
    EXPECT_EQ(end.error->code(), Code::kDisconnected);
  }
  EXPECT_EQ(link().state(), control::RemoteLink::State::kAway);
  EXPECT_FALSE(Generate(MakeMockRequest(2, 5)));
  worker_.reset();
  StartWorker();
  RunUntil([&] { return link().state() == control::RemoteLink::State::kHere; });
  const wire::GenerateRequest again = MakeMockRequest(3, 5);
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
  const wire::GenerateRequest request = MakeMockRequest(1, 500);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  world_.SetPartition("frontend", "worker", true);
  const rt::Time begin = world_.now();
  RunUntil([&] { return Ended(request); });
  EXPECT_LE(world_.now() - begin, control::MuxOptions{}.dead_after + std::chrono::seconds(1));
}

TEST_F(WorkerServiceTest, WhatRunsForACallerThatIsGoneIsCancelled) {
  ASSERT_TRUE(Generate(MakeMockRequest(1, 3000)));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  link_.reset();
  RunUntil([&] { return worker_->link.outstanding_count() == 0; });
  EXPECT_EQ(worker_->service.request_count(), 0U);
  EXPECT_EQ(worker_->link.load().running, 0U);
}

TEST_F(WorkerServiceTest, ADrainingWorkerEndsWhatItHasAndTakesNothing) {
  const wire::GenerateRequest request = MakeMockRequest(1, 100);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  worker_->service.Drain();
  RunUntil([&] { return link().load().state == wire::WorkerState::kDraining; });
  const auto refused = Generate(MakeMockRequest(2, 5));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Code::kShuttingDown);
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
}

TEST_F(WorkerServiceTest, FramesForASlowLineAreJoinedAndNothingIsLost) {
  world_.options().bandwidth_bytes_per_s = 5'000;
  world_.options().window_size_bytes_max = 4096;
  link_.emplace(Connect());  // a line of such a kind
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  wire::GenerateRequest request = MakeMockRequest(1, 1500);
  request.top_logprobs = 5;
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
  EXPECT_LT(received_[1].frames, 1500U);
}

// Whoever moves a request to another worker looks at the error alone.
TEST_F(WorkerServiceTest, AnErrorComesBehindTheTokensThatWait) {
  world_.options().bandwidth_bytes_per_s = 5'000;
  world_.options().window_size_bytes_max = 4096;
  link_.emplace(Connect());
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  wire::GenerateRequest request = MakeMockRequest(1, 1500);
  request.top_logprobs = 5;
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return received_[1].tokens[0].size() >= 50; });
  worker_->engine.Shutdown(Error(Code::kUnavailable, "the engine ends"));
  RunUntil([&] { return Ended(request); });
  EXPECT_TRUE(received_[1].ends[0].error);
  EXPECT_TRUE(received_[1].ends[0].tokens.empty());
}

TEST_F(WorkerServiceTest, AnIdMayBeUsedAgainFromItsLastFrameOn) {
  int ends = 0;
  std::vector<TokenId> tokens;
  std::function<void(wire::TokenFrame)> on_frame = [&](const wire::TokenFrame& frame) {
    if (ends == 1) {
      tokens.insert(tokens.end(), frame.tokens.begin(), frame.tokens.end());
    }
    if (frame.finish) {
      EXPECT_EQ(frame.finish, wire::FinishReason::kLength);
      if (++ends == 1) {
        EXPECT_TRUE(link().Generate(MakeMockRequest(7, 20), on_frame));
      }
    }
  };
  ASSERT_TRUE(link().Generate(MakeMockRequest(7, 5), on_frame));
  RunUntil([&] { return ends == 2; });
  EXPECT_EQ(tokens, engine::MockStream(MakeMockRequest(7, 20), 0, kMockVocab, kMockContext).tokens);
  EXPECT_EQ(link().outstanding_count(), 0U);
}

TEST_F(WorkerServiceTest, WhatCouldNotEndOnceIsRefusedAtOnce) {
  ASSERT_TRUE(Generate(MakeMockRequest(1, 50)));
  EXPECT_EQ(Generate(MakeMockRequest(1, 50)).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Generate(MakeMockRequest(2, 50, 0)).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(Generate(MakeMockRequest(2, 50, ~0U)).error().code(), Code::kInvalidArgument);
  RunUntil([&] { return Ended(MakeMockRequest(1, 50)); });
}

TEST_F(WorkerServiceTest, AHandlerMayDestroyItsLink) {
  int frames = 0;
  ASSERT_TRUE(link().Generate(MakeMockRequest(1, 3000), [&](const wire::TokenFrame&) {
    if (++frames == 5) {
      link_.reset();
    }
  }));
  ASSERT_TRUE(link().Generate(MakeMockRequest(2, 3000), [](const wire::TokenFrame&) {}));
  RunUntil([&] { return frames == 5; });
  RunUntil([&] { return worker_->link.outstanding_count() == 0; });
  EXPECT_EQ(frames, 5);
}

TEST_F(WorkerServiceTest, AHandlerMayDestroyItsLinkWhenTheWorkerDies) {
  int ends = 0;
  for (std::uint64_t id = 1; id <= 3; ++id) {
    ASSERT_TRUE(link().Generate(MakeMockRequest(id, 3000, 3), [&](const wire::TokenFrame& frame) {
      if (frame.finish) {
        ++ends;
        link_.reset();
      }
    }));
  }
  RunFor(std::chrono::milliseconds(20));
  worker_node_->Kill();
  RunUntil([&] { return ends > 0; });
  RunFor(std::chrono::seconds(20));
  EXPECT_EQ(ends, 1) << "nothing is heard of a link that is gone";
  worker_.reset();
}

TEST_F(WorkerServiceTest, AnotherModelAtTheSameAddressIsNotBelieved) {
  wire::ModelCard known = link().card();
  link_.emplace(Connect(known));
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  StartWorker({.name = "other"});
  RunFor(std::chrono::seconds(10));
  EXPECT_EQ(link().state(), control::RemoteLink::State::kAway);
  EXPECT_EQ(link().card().name, "mock");
  EXPECT_EQ(link().trouble(), "another worker is at this address: its name is other, not mock");
  EXPECT_EQ(Generate(MakeMockRequest(1, 5)).error().code(), Code::kUnavailable);
  StartWorker();
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
}

TEST_F(WorkerServiceTest, ACallerThatIsCutOffIsNoticedByTheWorker) {
  ASSERT_TRUE(Generate(MakeMockRequest(1, 4000)));
  ASSERT_TRUE(Generate(MakeMockRequest(2, 4000, 8)));
  RunUntil([&] { return received_[1].tokens[0].size() >= 5; });
  world_.SetPartition("frontend", "worker", true);
  const rt::Time begin = world_.now();
  RunUntil([this] { return worker_->service.request_count() == 0; });
  EXPECT_LE(world_.now() - begin, control::MuxOptions{}.dead_after + std::chrono::seconds(1));
  RunUntil([this] { return worker_->link.outstanding_count() == 0; });
}

// A peer that calls and never reads what it is answered.
class Sink final : public control::MuxListener {
 public:
  void OnMuxEvent(control::MuxConnection& connection, control::MuxEvent event) override {
    if (event.kind == control::MuxEvent::Kind::kReady) {
      for (int i = 0; i < 60; ++i) {
        Ask(connection);
      }
    } else if (event.kind == control::MuxEvent::Kind::kEnded) {
      end = std::move(event.error);
    }
  }

  void Ask(control::MuxConnection& connection) {
    EXPECT_TRUE(
        connection.Call(control::kGenerateMethod, {}, wire::Encode(MakeMockRequest(1, 1000))));
  }

  std::optional<Error> end;
};

rt::Task<void> ConnectSink(rt::SimNode& node, Sink& sink,
                           std::unique_ptr<control::MuxConnection>& out) {
  const rt::Address address{.host = "worker", .port = kPort};
  auto connecting = node.net().Connect(address, rt::kNever);
  Result<std::unique_ptr<rt::Stream>> stream = co_await std::move(connecting);
  const control::MuxOptions options{.name = "sink", .window_bytes = 4096};
  out = std::make_unique<control::MuxConnection>(node.loop(), std::move(*stream), options,
                                                 control::Mux::Side::kConnected, sink);
}

TEST_F(WorkerServiceTest, WhoReadsNothingGetsNothingMore) {
  Sink sink;
  std::unique_ptr<control::MuxConnection> connection;
  frontend_node_.loop().Spawn(ConnectSink(frontend_node_, sink, connection));
  RunUntil([this] { return worker_->link.outstanding_count() == 60; });
  RunUntil([this] { return worker_->link.outstanding_count() == 0; });
  // Beyond the window of each stream 2048 bytes wait, and what was joined.
  EXPECT_FALSE(sink.end);
  sink.Ask(*connection);
  RunUntil([&] { return sink.end.has_value(); });
  EXPECT_EQ(sink.end->code(), Code::kResourceExhausted);
  EXPECT_NE(sink.end->detail().find("wait to be read"), std::string::npos);
  const wire::GenerateRequest request = MakeMockRequest(1, 20);
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
  connection.reset();
}

// An engine that gives all tokens of a request at once.
class BurstLink final : public control::ForwardingLink {
 public:
  using ForwardingLink::ForwardingLink;

  Result<void> Generate(wire::GenerateRequest request, FrameHandler on_frame) override {
    auto frames = std::make_shared<std::vector<wire::TokenFrame>>();
    return link().Generate(std::move(request), [frames, on_frame = std::move(on_frame)](
                                                   wire::TokenFrame frame) {
      frames->push_back(std::move(frame));
      if (frames->back().finish) {
        std::ranges::for_each(*frames, [&](wire::TokenFrame& one) { on_frame(std::move(one)); });
      }
    });
  }
};

TEST_F(WorkerServiceTest, TokensThatWaitTogetherTravelTogether) {
  constexpr std::uint16_t kBurstPort = kPort + 1;
  BurstLink burst(worker_->link);
  WorkerService service(worker_node_->loop(), worker_node_->net(), burst,
                        {.mux = {.name = "burst"}});
  ASSERT_TRUE(service.Start({.host = "0.0.0.0", .port = kBurstPort}));
  link_.emplace(std::make_unique<control::RemoteLink>(
      frontend_node_.loop(), frontend_node_.net(),
      control::MuxClientOptions{.address = {.host = "worker", .port = kBurstPort},
                                .mux = {.name = "frontend"}},
      wire::ModelCard{}, [] {}));
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  wire::GenerateRequest request = MakeMockRequest(1, 200);
  request.top_logprobs = 2;
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request); });
  ExpectOracle(request);
  EXPECT_LE(received_[1].frames, 3U);  // that it has the request, what comes first, all the rest
  link_.reset();
  RunFor(std::chrono::seconds(1));
}

// What a router makes of the events of one worker.
struct Index {
  control::WorkerLink::KvEventHandler Handler() {
    return [this](const std::vector<wire::KvEvent>& events) {
      for (const wire::KvEvent& event : events) {
        if (event.kind == wire::KvEvent::Kind::kCleared) {
          held.clear();
          ++clears;
        }
        EXPECT_TRUE(!event.parent || held.contains(*event.parent));
        for (const wire::KvBlock& block : event.blocks) {
          EXPECT_TRUE(held.insert(block.block_hash).second);
        }
        for (const std::uint64_t hash : event.removed) {
          EXPECT_EQ(held.erase(hash), 1U);
        }
      }
    };
  }

  std::set<std::uint64_t> held;
  int clears = 0;
};

class KvEventsTest : public WorkerServiceTest {
 protected:
  // All that runs has ended: what is in the cache is what can be found.
  bool Agrees(const Index& index) {
    const engine::EngineLoad& load = worker_->link.engine_load();
    return load.blocks_cached > 0 && load.blocks_used == 0 &&
           index.held.size() == load.blocks_cached;
  }

  void ExpectAgreement(const Index& index) {
    RunUntil([&] { return Agrees(index); });
    Index fresh;  // hears a dump
    const auto other = Connect();
    ASSERT_TRUE(other->WatchKvEvents(fresh.Handler()));
    RunUntil([&] { return fresh.held.size() == index.held.size(); });
    EXPECT_EQ(fresh.held, index.held);
  }

  bool Holds(const Index& index, const std::vector<TokenId>& prompt) {
    std::optional<std::uint64_t> chain;
    for (const std::uint64_t hash :
         wire::PublicBlockHashes(prompt, 4, wire::PublicHashSeed({}, {}))) {
      chain = chain ? wire::PublicChainHash(*chain, hash) : hash;
      if (!index.held.contains(*chain)) {
        return false;
      }
    }
    return chain.has_value();
  }
};

TEST_F(KvEventsTest, RoutersHearWhatCanBeFound) {
  RunSome(5);
  Index index;
  ASSERT_TRUE(link().WatchKvEvents(index.Handler()));
  RunSome(40);
  ExpectAgreement(index);
  EXPECT_EQ(index.clears, 2) << "the dump at first, and the engine's own beginning";
  EXPECT_EQ(link().kv_gap_count(), 0U);
  wire::GenerateRequest request = MakeMockRequest(1, 10);
  request.prompt = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  EXPECT_FALSE(Holds(index, request.prompt));
  ASSERT_TRUE(Generate(request));
  RunUntil([&] { return Ended(request) && Holds(index, request.prompt); });
}

TEST_F(KvEventsTest, ALostConnectionLosesNoEvent) {
  Index index;
  ASSERT_TRUE(link().WatchKvEvents(index.Handler()));
  RunSome(5);
  ExpectAgreement(index);
  const int clears = index.clears;
  const auto back = std::exchange(link_, Connect());  // another frontend goes on
  world_.options().reset_probability = 1;
  RunUntil([&] { return (*back)->state() == control::RemoteLink::State::kAway; });
  world_.options().reset_probability = 0;
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  RunSome(5);
  ExpectAgreement(index);
  EXPECT_EQ(index.clears, clears) << "the rest was told, not everything";
}

TEST_F(KvEventsTest, WhoIsTooFarBehindGetsADump) {
  StartWorker({.kv_log_blocks_max = 4});
  RunUntil([this] { return link().state() == control::RemoteLink::State::kAway; });
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  Index index;
  ASSERT_TRUE(link().WatchKvEvents(index.Handler()));
  RunSome(30);
  ExpectAgreement(index);
  const int clears = index.clears;
  const auto back = std::exchange(link_, Connect());
  world_.SetPartition("frontend", "worker", true);
  RunUntil([&] { return (*back)->state() == control::RemoteLink::State::kAway; });
  rt::SimNode& other_node = world_.AddNode("other");
  control::RemoteLink other(
      other_node.loop(), other_node.net(),
      {.address = {.host = "worker", .port = kPort}, .mux = {.name = "other"}}, {}, [] {});
  RunUntil([&] { return other.state() == control::RemoteLink::State::kHere; });
  int ends = 0;
  for (std::uint64_t id = 1; id <= 20; ++id) {
    ASSERT_TRUE(other.Generate(MakeMockRequest(id, 20), [&](const wire::TokenFrame& frame) {
      ends += frame.finish ? 1 : 0;
    }));
  }
  RunUntil([&] { return ends == 20; });
  world_.SetPartition("frontend", "worker", false);
  ExpectAgreement(index);
  EXPECT_EQ(index.clears, clears + 1);
}

TEST_F(KvEventsTest, AWorkerThatStartsAnewIsHeardFromTheBeginning) {
  Index index;
  ASSERT_TRUE(link().WatchKvEvents(index.Handler()));
  RunSome(10);
  ExpectAgreement(index);
  StartWorker();
  RunUntil([this] { return link().state() == control::RemoteLink::State::kAway; });
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  RunUntil([&] { return index.held.empty(); });
  RunSome(3);
  ExpectAgreement(index);
}

TEST_F(KvEventsTest, AClearedCacheIsHeardOf) {
  Index index;
  ASSERT_TRUE(link().WatchKvEvents(index.Handler()));
  RunSome(3);
  ExpectAgreement(index);
  bool cleared = false;
  link().ClearCache(control::CacheDepth::kMemory,
                    [&](const Result<void>& done) { cleared = done.has_value(); });
  RunUntil([&] { return cleared && index.held.empty(); });
  cleared = false;
  link().ClearCache(control::CacheDepth::kLasting,
                    [&](const Result<void>& done) { cleared = done.has_value(); });
  RunUntil([&] { return cleared; });
}

TEST_F(KvEventsTest, AWorkerThatPublishesNothingSaysSo) {
  StartWorker({.kv_event_count_max = 0});
  RunUntil([this] { return link().state() == control::RemoteLink::State::kAway; });
  RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
  EXPECT_EQ(worker_->link.WatchKvEvents({}).error().code(), Code::kUnsupported);
  Index index;
  ASSERT_TRUE(link().WatchKvEvents(index.Handler()));
  RunSome(3);
  EXPECT_EQ(index.clears, 0);
}

class PlaneTest : public KvEventsTest {
 protected:
  void Start(WorkerOptions options = {}) {
    options.plane = &plane_;
    StartWorker(options);
    RunUntil([this] { return link().state() == control::RemoteLink::State::kAway; });
    RunUntil([this] { return link().state() == control::RemoteLink::State::kHere; });
    link().UsePlane(plane_, "worker");
    ASSERT_TRUE(link().WatchKvEvents(index_.Handler()));
  }

  std::uint64_t plane_events() { return link().kv_reader().counters().plane_events; }

  ~PlaneTest() override { link_.reset(); }  // it listens there

  BadPlane plane_{frontend_node_, 7};
  Index index_;
};

TEST_F(PlaneTest, WhatThePlaneBringsTheWorkerNeedNotTell) {
  Start();
  RunSome(3);
  RunUntil([this] { return !link().asks_for_kv_events(); });
  ExpectAgreement(index_);
  const std::uint64_t before = plane_events();
  const int clears = index_.clears;
  RunSome(20);
  ExpectAgreement(index_);
  EXPECT_GT(plane_events(), before);
  EXPECT_EQ(index_.clears, clears);
  EXPECT_FALSE(link().asks_for_kv_events());
  EXPECT_EQ(plane_.counters().malformed, 0U);
}

TEST_F(PlaneTest, WhatThePlaneLosesOrDamagesTheWorkerIsAskedFor) {
  Start({.kv_log_blocks_max = 64});
  for (const int round : {0, 1, 2, 3}) {
    plane_.lose = 0.2;
    plane_.repeat = 0.2;
    plane_.damage = 0.1;
    plane_.delay_max = std::chrono::milliseconds(round % 2 == 0 ? 50 : 1);
    RunSome(15);
    plane_.lose = plane_.repeat = plane_.damage = 0;
    ExpectAgreement(index_);
    RunUntil([this] { return !link().asks_for_kv_events(); });
  }
  EXPECT_GT(plane_events(), 0U);
  EXPECT_GT(plane_.counters().malformed, 0U);
  EXPECT_GT(plane_.counters().gaps, 0U);
}

// Nothing follows that would show the gap but what the worker says every second.
TEST_F(PlaneTest, TheLastEventsAreMissedToo) {
  Start();
  RunSome(3);
  RunUntil([this] { return !link().asks_for_kv_events(); });
  plane_.lose = 1;
  RunSome(1);
  const std::size_t known = index_.held.size();
  EXPECT_FALSE(Agrees(index_));
  plane_.lose = 0;
  const rt::Time then = world_.now();
  RunUntil([this] { return Agrees(index_); });
  EXPECT_LT(world_.now() - then, control::KvEventReader::kPlaneSilence);
  ExpectAgreement(index_);
  EXPECT_GT(index_.held.size(), known);
}

TEST_F(PlaneTest, APlaneThatIsSilentIsNotReliedOn) {
  Start();
  RunSome(3);
  RunUntil([this] { return !link().asks_for_kv_events(); });
  plane_.lose = 1;
  RunSome(2);  // which the worker says nothing of any more
  EXPECT_FALSE(link().asks_for_kv_events());
  RunFor(control::KvEventReader::kPlaneSilence);
  EXPECT_TRUE(link().asks_for_kv_events());
  ExpectAgreement(index_);
  plane_.lose = 0;
  RunUntil([this] { return !link().asks_for_kv_events(); });
  RunSome(2);
  ExpectAgreement(index_);
}

TEST_F(PlaneTest, LoadIsHeardOfThePlane) {
  Start();
  std::uint64_t steps = 0;
  world_.SetPartition("frontend", "worker", true);  // the connection is there and brings nothing
  wire::WorkerReport report{.card = {}, .load = link().load(), .ranks = {}};
  steps = report.load.steps;
  report.load.steps = steps + 5;
  report.load.running = 3;
  report.load.state = wire::WorkerState::kUnhealthy;  // which only the worker itself may say
  plane_.Publish("worker", control::EventPlane::Kind::kLoad, wire::Encode(report));
  RunUntil([this] { return link().load().running == 3; });
  EXPECT_EQ(link().load().state, wire::WorkerState::kAwake);
  report.load.steps = steps + 1;  // it was under way for longer
  report.load.running = 9;
  plane_.Publish("worker", control::EventPlane::Kind::kLoad, wire::Encode(report));
  report.ranks.resize(3);  // which it does not have
  report.load.steps = steps + 9;
  plane_.Publish("worker", control::EventPlane::Kind::kLoad, wire::Encode(report));
  RunUntil([this] { return plane_.counters().malformed == 1; });
  EXPECT_EQ(link().load().running, 3U);
}

}  // namespace
}  // namespace pixii::worker
