#include "control/remote_link.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/mux_server.h"
#include "rt/sim_world.h"
#include "wire/messages/codec.h"

namespace pixii::control {
namespace {

constexpr std::uint16_t kPort = 7000;
constexpr std::uint32_t kVocab = 100;

// A worker that says what the test tells it to.
class ScriptedWorker final : public MuxService {
 public:
  explicit ScriptedWorker(rt::SimNode& node)
      : server(node.loop(), node.net(), {.name = "s"}, *this) {
    EXPECT_TRUE(server.Start({.host = "0.0.0.0", .port = kPort}));
  }

  void OnCall(CallId call, std::string_view method, rt::Duration /*deadline_left*/) override {
    methods[call] = method;
  }

  void OnMessage(CallId call, std::string message) override {
    const std::string& method = methods.at(call);
    if (method == kReportMethod) {
      wire::WorkerReport report;
      report.card.emplace().vocab_size = kVocab;
      Send(call, report);
      reports.push_back(call);
    } else if (method == kGenerateMethod) {
      generate = call;
    } else if (method == kKvEventsMethod) {
      asked.push_back(wire::Decode<wire::KvEventsRequest>(message).value());
      kv_call = call;
      on_kv(call);
    }
  }

  void OnGone(CallId call) override { gone.push_back(call); }

  template <class Message>
  void Send(CallId call, const Message& message) {
    EXPECT_TRUE(server.Send(call, wire::Encode(message)));
  }

  std::map<CallId, std::string> methods;
  std::vector<CallId> reports;
  std::vector<CallId> gone;
  std::optional<CallId> generate;
  std::optional<CallId> kv_call;
  std::vector<wire::KvEventsRequest> asked;
  std::function<void(CallId)> on_kv = [](CallId) {};
  MuxServer server;
};

class RemoteLinkTest : public testing::Test {
 protected:
  RemoteLinkTest() {
    RunUntil([this] { return link.state() == RemoteLink::State::kHere; });
  }

  void RunUntil(const std::function<bool()>& done) {
    ASSERT_EQ(world.RunUntil(done, world.now() + std::chrono::seconds(60)), rt::SimEnd::kDone);
  }

  // The frames of one request of three choices, of which one has ended.
  void Begin() {
    wire::GenerateRequest request;
    request.id = RequestId{1};
    request.choice_count = 3;
    request.prompt = {1, 2};
    ASSERT_TRUE(link.Generate(
        request, [this](wire::TokenFrame frame) { frames.push_back(std::move(frame)); }));
    RunUntil([this] { return worker.generate.has_value(); });
    wire::TokenFrame frame;
    frame.tokens = {1};
    frame.finish = wire::FinishReason::kStop;
    worker.Send(*worker.generate, frame);
    RunUntil([this] { return frames.size() == 1; });
  }

  // What the last two choices end with after `frame`.
  Code AnswerTo(const wire::TokenFrame& frame) {
    Begin();
    worker.Send(*worker.generate, frame);
    RunUntil([this] { return frames.size() == 3; });
    world.RunTo(world.now() + std::chrono::seconds(1));
    EXPECT_EQ(frames.size(), 3U);
    EXPECT_EQ(frames[1].choice, 1U);
    EXPECT_EQ(frames[2].choice, 2U);
    EXPECT_EQ(link.outstanding_count(), 0U);
    return frames[2].error->code();
  }

  static wire::KvEventBatch Batch(std::uint64_t first, std::uint64_t end) {
    wire::KvEventBatch batch;
    batch.epoch = 7;
    batch.next_id = end;
    for (std::uint64_t id = first; id < end; ++id) {
      wire::KvEvent& event = batch.events.emplace_back();
      event.id = id;
      event.blocks = {{id + 100, 0}};
    }
    return batch;
  }

  static wire::KvEventBatch Dump(std::uint64_t next_id, bool begins, bool ends) {
    wire::KvEventBatch batch;
    batch.epoch = 7;
    batch.dump = true;
    batch.dump_begins = begins;
    batch.dump_ends = ends;
    batch.next_id = next_id;
    wire::KvEvent& event = batch.events.emplace_back();
    event.id = next_id - 1;
    event.blocks = {{begins ? 1U : 2U, 0}};
    return batch;
  }

  void Watch() {
    ASSERT_TRUE(link.WatchKvEvents([this](const std::vector<wire::KvEvent>& events) {
      for (const wire::KvEvent& event : events) {
        heard.push_back(event.kind == wire::KvEvent::Kind::kCleared
                            ? "cleared"
                            : std::to_string(event.blocks.at(0).block_hash));
      }
    }));
    RunUntil([this] { return worker.kv_call.has_value(); });
  }

  rt::SimWorld world{rt::SimOptions{.seed = 3}};
  rt::SimNode& worker_node = world.AddNode("worker");
  rt::SimNode& node = world.AddNode("frontend");
  ScriptedWorker worker{worker_node};
  int changes = 0;
  RemoteLink link{
      node.loop(), node.net(),
      MuxClientOptions{.address = {.host = "worker", .port = kPort}, .mux = {.name = "frontend"}},
      wire::ModelCard{}, [this] { ++changes; }};
  std::vector<wire::TokenFrame> frames;
  std::vector<std::string> heard;
};

TEST_F(RemoteLinkTest, ACallThatEndsEarlyEndsEveryChoice) {
  Begin();
  worker.server.End(*worker.generate, std::nullopt);
  RunUntil([this] { return frames.size() == 3; });
  EXPECT_EQ(frames[1].error->code(), Code::kDisconnected);
}

TEST_F(RemoteLinkTest, FramesOfChoicesThatAreNoneBreakTheRequest) {
  wire::TokenFrame frame;
  frame.choice = 3;
  EXPECT_EQ(AnswerTo(frame), Code::kDisconnected);
  EXPECT_EQ(worker.gone, std::vector<CallId>{*worker.generate}) << "the worker may stop, too";
}

TEST_F(RemoteLinkTest, TokensBeyondTheVocabularyBreakTheRequest) {
  wire::TokenFrame frame;
  frame.choice = 1;
  frame.tokens = {kVocab};
  EXPECT_EQ(AnswerTo(frame), Code::kDisconnected);
}

TEST_F(RemoteLinkTest, LogprobsWithoutTheirTokensBreakTheRequest) {
  wire::TokenFrame frame;
  frame.choice = 1;
  frame.tokens = {1, 2};
  frame.logprobs.resize(1);
  EXPECT_EQ(AnswerTo(frame), Code::kDisconnected);
}

TEST_F(RemoteLinkTest, WhatComesBehindAnEndIsNotHeard) {
  Begin();
  wire::TokenFrame frame;
  frame.tokens = {5};
  worker.Send(*worker.generate, frame);  // of choice 0, which has ended
  frame.choice = 1;
  worker.Send(*worker.generate, frame);
  RunUntil([this] { return frames.size() == 2; });
  EXPECT_EQ(frames[1].choice, 1U);
}

TEST_F(RemoteLinkTest, AnErrorWithoutAReasonGetsOne) {
  Begin();
  wire::TokenFrame frame;
  frame.choice = 1;
  frame.finish = wire::FinishReason::kError;
  worker.Send(*worker.generate, frame);
  RunUntil([this] { return frames.size() == 2; });
  EXPECT_EQ(frames[1].error->code(), Code::kInternal);
}

TEST_F(RemoteLinkTest, AWorkerThatReportsNoMoreIsAway) {
  worker.server.End(worker.reports.at(0), std::nullopt);
  RunUntil([this] { return link.state() == RemoteLink::State::kAway; });
  EXPECT_NE(link.trouble().find("reports no more"), std::string::npos);
}

TEST_F(RemoteLinkTest, AWorkerThatGoesAwayDrainsWhateverItsReportsSay) {
  ASSERT_EQ(link.load().state, WorkerState::kAwake);
  worker.server.GoAway();
  RunUntil([this] { return link.load().state == WorkerState::kDraining; });
  wire::WorkerReport report;  // made before, and only read now
  report.load.running = 3;
  report.ranks.resize(2);
  worker.Send(worker.reports.front(), report);
  RunUntil([this] { return link.load().running == 3; });
  EXPECT_EQ(link.load().state, WorkerState::kDraining);
  for (const WorkerLoad& load : link.rank_loads()) {
    EXPECT_EQ(load.state, WorkerState::kDraining);
  }
}

TEST_F(RemoteLinkTest, AGapIsAskedForAgainAndWhatWasHeardIsNot) {
  worker.on_kv = [this](CallId call) {
    if (worker.asked.size() == 1) {
      worker.Send(call, Dump(5, true, false));
      worker.Send(call, Dump(5, false, true));
      worker.Send(call, Batch(5, 7));
      worker.Send(call, Batch(6, 8));   // one of them a second time
      worker.Send(call, Batch(9, 10));  // 8 is missing
    } else {
      worker.Send(call, Batch(worker.asked.back().from_id, 11));
    }
  };
  Watch();
  RunUntil([this] { return heard.size() >= 9; });
  EXPECT_EQ(heard, (std::vector<std::string>{"cleared", "1", "2", "105", "106", "107", "108", "109",
                                             "110"}));
  ASSERT_EQ(worker.asked.size(), 2U);
  EXPECT_EQ(worker.asked[0].epoch, 0U);
  EXPECT_EQ(worker.asked[1].epoch, 7U);
  EXPECT_EQ(worker.asked[1].from_id, 8U);
  EXPECT_EQ(link.kv_gap_count(), 1U);
}

TEST_F(RemoteLinkTest, ADumpThatWasCutOffBeginsAnew) {
  worker.on_kv = [this](CallId call) { worker.Send(call, Dump(5, true, false)); };
  Watch();
  RunUntil([this] { return heard.size() == 2; });
  world.options().reset_probability = 1;
  RunUntil([this] { return link.state() == RemoteLink::State::kAway; });
  world.options().reset_probability = 0;
  RunUntil([this] { return worker.asked.size() == 2; });
  EXPECT_EQ(worker.asked[1].epoch, 0U);
  RunUntil([this] { return heard.size() == 4; });
  EXPECT_EQ(heard[2], "cleared");
}

TEST_F(RemoteLinkTest, ADumpMakesVoidWhatWasHeardOfEveryRank) {
  worker.on_kv = [this](CallId call) {
    wire::KvEventBatch dump = Dump(5, true, true);
    dump.events[0].rank = worker.asked.size() == 1 ? 3 : 0;
    worker.Send(call, dump);
  };
  std::vector<std::uint32_t> cleared;
  ASSERT_TRUE(link.WatchKvEvents([&](const std::vector<wire::KvEvent>& events) {
    for (const wire::KvEvent& event : events) {
      if (event.kind == wire::KvEvent::Kind::kCleared) {
        cleared.push_back(event.rank);
      }
    }
  }));
  RunUntil([&] { return cleared == std::vector<std::uint32_t>{0}; });
  worker.Send(*worker.kv_call, Batch(9, 10));  // a gap: everything again
  RunUntil([&] { return cleared.size() == 3; });
  EXPECT_EQ(cleared, (std::vector<std::uint32_t>{0, 0, 3}));
}

TEST_F(RemoteLinkTest, EventsOfARankThatCannotBeAreNotBelieved) {
  worker.on_kv = [this](CallId call) {
    wire::KvEventBatch dump = Dump(5, true, true);
    dump.events[0].rank = worker.asked.size() == 1 ? RemoteLink::kRankCountMax : 0;
    worker.Send(call, dump);
  };
  Watch();
  RunUntil([this] { return heard.size() == 2; });
  EXPECT_EQ(link.kv_gap_count(), 1U);
  EXPECT_EQ(worker.asked.size(), 2U);
}

TEST_F(RemoteLinkTest, ALoadIsOfEachRank) {
  EXPECT_EQ(link.rank_loads().size(), 1U) << "a worker that says nothing of ranks has one";
  wire::WorkerReport report;
  report.load.running = 5;
  report.ranks.resize(2);
  report.ranks[0].running = 5;
  report.ranks[1].state = WorkerState::kDead;
  worker.Send(worker.reports.at(0), report);
  RunUntil([this] { return link.load().running == 5; });
  ASSERT_EQ(link.rank_loads().size(), 2U);
  EXPECT_EQ(link.rank_loads()[0].running, 5U);
  EXPECT_EQ(link.rank_loads()[1].state, WorkerState::kDead);
}

TEST_F(RemoteLinkTest, EventsOfAnotherLogAreNotMixedIn) {
  worker.on_kv = [this](CallId call) {
    worker.Send(call, Dump(5, true, true));
    wire::KvEventBatch other = Batch(5, 6);
    other.epoch = 8;
    if (worker.asked.size() == 1) {
      worker.Send(call, other);
    }
  };
  Watch();
  RunUntil([this] { return worker.asked.size() == 2; });
  EXPECT_EQ(heard.at(1), "1");
  EXPECT_EQ(link.kv_gap_count(), 1U);
}

}  // namespace
}  // namespace pixii::control
