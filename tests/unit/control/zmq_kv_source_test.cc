#include "control/zmq_kv_source.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/zmq_kv_publisher.h"
#include "rt/sim_world.h"

namespace pixii::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// An engine that publishes and a router that listens, on two machines.
class ZmqKvSourceTest : public testing::Test {
 protected:
  ~ZmqKvSourceTest() override {
    source_.reset();
    publisher_.reset();
  }

  void StartPublisher(ZmqKvPublisherOptions options = {}) {
    publisher_ = std::make_unique<ZmqKvPublisher>(engine_.loop(), engine_.net(), options);
    ASSERT_TRUE(publisher_->Start({.host = "0.0.0.0", .port = 5557}));
    ASSERT_TRUE(publisher_->StartReplay({.host = "0.0.0.0", .port = 5558}));
  }

  void StartSource(bool has_replay, std::string topic = "") {
    ZmqKvSourceOptions options;
    options.events = {.host = "engine", .port = 5557};
    if (has_replay) {
      options.replay = rt::Address{.host = "engine", .port = 5558};
    }
    options.topic = std::move(topic);
    options.stream.translator.block_tokens = 1;
    source_ = std::make_unique<ZmqKvSource>(router_.loop(), router_.net(), options,
                                            [this](std::vector<wire::KvEvent> events) {
                                              for (const wire::KvEvent& event : events) {
                                                Hear(event);
                                              }
                                            });
  }

  void Hear(const wire::KvEvent& event) {
    if (event.kind == wire::KvEvent::Kind::kCleared) {
      held_.clear();
    }
    for (const wire::KvBlock& block : event.blocks) {
      held_.push_back(block.block_hash);
    }
  }

  void Publish(std::uint64_t hash) {
    wire::EngineKvBatch batch;
    batch.seconds = seconds_ += 1;
    wire::EngineKvEvent& event = batch.events.emplace_back();
    event.hashes = {hash};
    event.tokens = {1};
    event.block_tokens = 1;
    publisher_->Publish(batch);
    published_.push_back(hash);
  }

  bool Converges(rt::Duration within) {
    return world_.RunUntil([&] { return held_ == published_; }, world_.now() + within) ==
           rt::SimEnd::kDone;
  }

  rt::SimWorld world_{rt::SimOptions{.seed = 5}};
  rt::SimNode& engine_ = world_.AddNode("engine");
  rt::SimNode& router_ = world_.AddNode("router");
  double seconds_ = 0;
  std::vector<std::uint64_t> published_;
  std::vector<std::uint64_t> held_;
  std::unique_ptr<ZmqKvPublisher> publisher_;
  std::unique_ptr<ZmqKvSource> source_;
};

TEST_F(ZmqKvSourceTest, WhatWasPublishedBeforeAndAfterIsHeard) {
  StartPublisher();
  for (std::uint64_t i = 0; i < 100; ++i) {
    Publish(i);
  }
  StartSource(true);
  EXPECT_TRUE(Converges(seconds(2)));
  EXPECT_TRUE(source_->connected());
  Publish(1000);
  EXPECT_TRUE(Converges(seconds(1)));
  EXPECT_EQ(source_->stream().counters().resets, 0U);
}

TEST_F(ZmqKvSourceTest, AnEngineThatComesLaterIsFound) {
  StartSource(true);
  world_.RunTo(world_.now() + seconds(20));
  EXPECT_FALSE(source_->connected());
  EXPECT_FALSE(source_->trouble().empty());
  StartPublisher();
  Publish(1);
  EXPECT_TRUE(Converges(seconds(10)));
}

// Acceptance B16: what was lost is there within a second of the next sign of life.
TEST_F(ZmqKvSourceTest, WhatALostConnectionMissedIsFetched) {
  StartPublisher();
  StartSource(true);
  Publish(1);
  ASSERT_TRUE(Converges(seconds(2)));
  world_.options().reset_probability = 0.5;
  for (std::uint64_t i = 2; i < 300; ++i) {
    Publish(i);
    world_.RunTo(world_.now() + milliseconds(20));
  }
  world_.options().reset_probability = 0;
  EXPECT_TRUE(Converges(seconds(1)));
}

TEST_F(ZmqKvSourceTest, ALastMessageThatWasLostIsMissedInSilence) {
  ZmqKvPublisherOptions deaf;
  deaf.peer_bytes_max = 0;  // it drops what does not go out at once
  StartPublisher(deaf);
  StartSource(true);
  Publish(1);
  ASSERT_TRUE(Converges(seconds(2)));
  Publish(2);
  Publish(3);  // the one before is not out yet
  EXPECT_GT(publisher_->dropped_count(), 0U);
  EXPECT_TRUE(Converges(seconds(6)));
}

TEST_F(ZmqKvSourceTest, AnEngineThatIsStartedAnewIsHeardFromItsBeginning) {
  StartPublisher();
  StartSource(true);
  for (std::uint64_t i = 0; i < 10; ++i) {
    Publish(i);
  }
  ASSERT_TRUE(Converges(seconds(2)));
  publisher_.reset();
  published_.clear();
  StartPublisher();
  Publish(77);
  EXPECT_TRUE(Converges(seconds(2)));
}

TEST_F(ZmqKvSourceTest, WithoutReplayWhatComesIsHeard) {
  StartPublisher();
  Publish(1);
  published_.clear();  // before anybody listened
  StartSource(false);
  world_.RunTo(world_.now() + seconds(1));
  Publish(2);
  EXPECT_TRUE(Converges(seconds(1)));
}

TEST_F(ZmqKvSourceTest, OfOtherTopicsNothingIsHeard) {
  StartPublisher();
  StartSource(false, "other");
  world_.RunTo(world_.now() + seconds(1));
  ASSERT_TRUE(source_->connected());
  Publish(1);
  world_.RunTo(world_.now() + seconds(1));
  EXPECT_TRUE(held_.empty());
}

TEST(ZmqEndpoint, IsWrittenAsZeroMqDoes) {
  EXPECT_EQ(ParseZmqEndpoint("tcp://10.0.0.1:5557").value().ToString(), "10.0.0.1:5557");
  EXPECT_EQ(ParseZmqEndpoint("ipc:///run/kv.sock").value().ToString(), "unix:/run/kv.sock");
  EXPECT_FALSE(ParseZmqEndpoint("10.0.0.1:5557"));
  EXPECT_FALSE(ParseZmqEndpoint("tcp://nowhere"));
  EXPECT_FALSE(ParseZmqEndpoint("ipc://"));
}

}  // namespace
}  // namespace pixii::control
