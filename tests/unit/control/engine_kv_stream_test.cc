#include "control/engine_kv_stream.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <string>
#include <vector>

namespace pixii::control {
namespace {

// A batch that stores block `hash`; at the time of `seconds`.
std::string Batch(std::uint64_t hash, double seconds = 1, std::optional<std::uint32_t> rank = {}) {
  wire::EngineKvBatch batch;
  batch.seconds = seconds;
  batch.rank = rank;
  wire::EngineKvEvent& event = batch.events.emplace_back();
  event.hashes = {hash};
  event.tokens = {1};
  event.block_tokens = 1;
  return wire::EncodeEngineKvBatch(batch, wire::EngineKvForm::kArrays);
}

EngineKvStream MakeStream(bool has_replay, std::size_t waiting_bytes_max = 1U << 20) {
  return EngineKvStream({.rank = 4,
                         .has_replay = has_replay,
                         .waiting_bytes_max = waiting_bytes_max,
                         .translator = {.block_tokens = 1}});
}

// "1 2 clear 3": what routers hear.
std::string Heard(EngineKvStream& stream) {
  std::string out;
  for (const wire::KvEvent& event : stream.TakeEvents()) {
    out += out.empty() ? "" : " ";
    out += event.kind == wire::KvEvent::Kind::kCleared
               ? fmt::format("clear{}", event.rank)
               : fmt::format("{}", event.blocks.front().block_hash);
  }
  return out;
}

TEST(EngineKvStream, WithoutReplayWhatWasMissedMakesTheRestVoid) {
  EngineKvStream stream = MakeStream(false);
  stream.Check();
  EXPECT_FALSE(stream.TakeReplayWish());
  stream.OnBatch(7, Batch(7));
  stream.OnBatch(8, Batch(8));
  stream.OnBatch(8, Batch(8));
  EXPECT_EQ(Heard(stream), "7 8");
  EXPECT_EQ(stream.counters().repeated, 1U);
  stream.OnBatch(10, Batch(10));
  EXPECT_EQ(Heard(stream), "clear4 10");
  EXPECT_EQ(stream.counters().gaps, 1U);
  // It counts from the beginning and its clock went on: it began anew.
  stream.OnBatch(0, Batch(0, 5));
  EXPECT_EQ(Heard(stream), "clear4 0");
}

TEST(EngineKvStream, EachRankThatWasHeardOfIsMadeVoid) {
  EngineKvStream stream = MakeStream(false);
  stream.OnBatch(0, Batch(1, 1, 0));
  stream.OnBatch(1, Batch(2, 1, 3));
  stream.OnBatch(5, Batch(3, 1, 3));
  EXPECT_EQ(Heard(stream), "1 2 clear0 clear3 3");
}

TEST(EngineKvStream, ABatchThatCannotBeReadMakesTheRestVoid) {
  EngineKvStream stream = MakeStream(false);
  stream.OnBatch(0, Batch(0));
  stream.OnBatch(1, "garbage");
  stream.OnBatch(2, Batch(2));
  EXPECT_EQ(Heard(stream), "0 clear4 2");
  EXPECT_EQ(stream.counters().broken, 1U);
}

TEST(EngineKvStream, WhatWasThereBeforeIsAskedForFirst) {
  EngineKvStream stream = MakeStream(true);
  stream.Check();
  EXPECT_EQ(stream.TakeReplayWish(), 0U);
  stream.OnBatch(4, Batch(4));  // meanwhile
  stream.OnReplayed(2, Batch(2));
  stream.OnReplayed(3, Batch(3));
  stream.OnReplayed(4, Batch(4));
  stream.OnReplayEnd(true);
  stream.OnBatch(5, Batch(5));
  EXPECT_EQ(Heard(stream), "2 3 4 5");
  EXPECT_FALSE(stream.TakeReplayWish());
}

// Acceptance B16: batches 5 .. 9 are lost.
TEST(EngineKvStream, AGapIsFilled) {
  EngineKvStream stream = MakeStream(true);
  stream.Check();
  EXPECT_TRUE(stream.TakeReplayWish());
  stream.OnReplayEnd(true);
  for (std::uint64_t i = 0; i < 5; ++i) {
    stream.OnBatch(i, Batch(i));
  }
  stream.OnBatch(10, Batch(10));
  EXPECT_EQ(stream.TakeReplayWish(), 4U);
  stream.OnBatch(11, Batch(11));
  for (std::uint64_t i = 4; i < 11; ++i) {
    stream.OnReplayed(i, Batch(i));
  }
  stream.OnReplayEnd(true);
  EXPECT_EQ(Heard(stream), "0 1 2 3 4 5 6 7 8 9 10 11");
  EXPECT_EQ(stream.counters().resets, 0U);
}

TEST(EngineKvStream, WhatThePublisherForgotMakesTheRestVoid) {
  EngineKvStream stream = MakeStream(true);
  stream.Check();
  stream.TakeReplayWish();
  stream.OnReplayEnd(true);
  stream.OnBatch(0, Batch(0));
  stream.OnBatch(9, Batch(9));
  EXPECT_EQ(stream.TakeReplayWish(), 0U);
  stream.OnReplayed(6, Batch(6));  // 0 .. 5 are forgotten
  EXPECT_TRUE(stream.wants_replay());
  stream.OnReplayEnd(true);  // of the question that was given up: nothing
  EXPECT_EQ(stream.TakeReplayWish(), 0U);
  stream.OnReplayed(6, Batch(6));
  stream.OnReplayed(7, Batch(7));
  stream.OnReplayed(8, Batch(8));
  stream.OnReplayed(9, Batch(9));
  stream.OnReplayEnd(true);
  EXPECT_EQ(Heard(stream), "0 clear4 6 7 8 9");
}

TEST(EngineKvStream, AnEngineThatBeganAnewIsHeardFromItsBeginning) {
  EngineKvStream stream = MakeStream(true);
  stream.Check();
  stream.TakeReplayWish();
  stream.OnReplayed(0, Batch(0));
  stream.OnReplayed(1, Batch(1));
  stream.OnReplayEnd(true);
  EXPECT_EQ(Heard(stream), "0 1");
  // As many batches as before, but others.
  stream.Check();
  EXPECT_EQ(stream.TakeReplayWish(), 1U);
  stream.OnReplayed(1, Batch(101, 9));
  EXPECT_EQ(stream.TakeReplayWish(), 0U);
  stream.OnReplayed(0, Batch(100, 8));
  stream.OnReplayed(1, Batch(101, 9));
  stream.OnReplayEnd(true);
  EXPECT_EQ(Heard(stream), "clear4 100 101");
  // Fewer: it knows nothing of the last one.
  stream.Check();
  EXPECT_EQ(stream.TakeReplayWish(), 1U);
  stream.OnReplayEnd(true);
  EXPECT_EQ(stream.TakeReplayWish(), 0U);
  stream.OnReplayed(0, Batch(200, 11));
  stream.OnReplayEnd(true);
  EXPECT_EQ(Heard(stream), "clear4 200");
  // And one that is seen by a message.
  stream.OnBatch(1, Batch(201, 12));
  stream.OnBatch(0, Batch(300, 13));
  EXPECT_EQ(stream.TakeReplayWish(), 0U);
  stream.OnReplayed(0, Batch(300, 13));
  stream.OnReplayEnd(true);
  EXPECT_EQ(Heard(stream), "201 clear4 300");
}

TEST(EngineKvStream, IfNobodyCanBeAskedWhatCameCounts) {
  EngineKvStream stream = MakeStream(true);
  stream.Check();
  stream.TakeReplayWish();
  stream.OnBatch(3, Batch(3));
  stream.OnReplayEnd(false);
  EXPECT_EQ(Heard(stream), "3");
  stream.OnBatch(5, Batch(5));
  EXPECT_EQ(stream.TakeReplayWish(), 2U + 1U);
  stream.OnReplayEnd(false);
  EXPECT_EQ(Heard(stream), "clear4 5");
}

TEST(EngineKvStream, WhatWaitsIsBounded) {
  EngineKvStream stream = MakeStream(true, 2 * Batch(1).size());
  stream.Check();
  stream.TakeReplayWish();
  for (std::uint64_t i = 0; i < 100; ++i) {
    stream.OnBatch(i, Batch(1));
  }
  stream.OnReplayEnd(false);
  EXPECT_EQ(Heard(stream), "1 1");
}

}  // namespace
}  // namespace pixii::control
