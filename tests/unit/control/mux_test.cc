#include "control/mux.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "rt/random.h"

namespace pixii::control {
namespace {

using Kind = MuxEvent::Kind;

// Two ends and the bytes between them, handed over in pieces of any size.
class MuxTest : public testing::Test {
 protected:
  void Carry(Mux& from, Mux& to, std::vector<MuxEvent>& events, std::size_t piece) {
    std::string bytes;
    from.TakeOutput(bytes, 32 * 1024);
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      to.Receive(std::string_view(bytes).substr(at, piece), now);
    }
    for (MuxEvent& event : to.TakeEvents()) {
      events.push_back(std::move(event));
    }
    for (MuxEvent& event : from.TakeEvents()) {
      (&from == &caller ? at_caller : at_answerer).push_back(std::move(event));
    }
  }

  void Settle(std::size_t piece = 1000) {
    while (caller.has_output() || answerer.has_output()) {
      Carry(caller, answerer, at_answerer, piece);
      Carry(answerer, caller, at_caller, piece);
    }
  }

  static std::vector<std::string> Messages(const std::vector<MuxEvent>& events, StreamId stream) {
    std::vector<std::string> out;
    for (const MuxEvent& event : events) {
      if (event.kind == Kind::kMessage && event.stream == stream) {
        out.push_back(event.text);
      }
    }
    return out;
  }

  static std::size_t Count(const std::vector<MuxEvent>& events, Kind kind) {
    return static_cast<std::size_t>(std::ranges::count(events, kind, &MuxEvent::kind));
  }

  rt::Time now{};
  Mux caller{{.name = "caller", .window_bytes = 4096}, Mux::Side::kConnected, now};
  Mux answerer{
      {.name = "answerer", .window_bytes = 4096, .streams_max = 100}, Mux::Side::kAccepted, now};
  std::vector<MuxEvent> at_caller;
  std::vector<MuxEvent> at_answerer;
};

TEST_F(MuxTest, ACallIsAnsweredInPiecesOfAnySize) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{100'000}}) {
    at_caller.clear();
    at_answerer.clear();
    const StreamId stream = caller.Call("sum", std::chrono::seconds(2), "1 + 2").value();
    Settle(piece);
    ASSERT_EQ(Count(at_answerer, Kind::kCalled), 1U);
    const auto called = std::ranges::find(at_answerer, Kind::kCalled, &MuxEvent::kind);
    EXPECT_EQ(called->text, "sum");
    EXPECT_EQ(called->deadline_left, std::chrono::seconds(2));
    EXPECT_EQ(Messages(at_answerer, stream), std::vector<std::string>{"1 + 2"});
    ASSERT_TRUE(answerer.Send(stream, "3"));
    ASSERT_TRUE(answerer.Send(stream, ""));
    answerer.End(stream, Error(Code::kNotFound, "no more", "x"));
    Settle(piece);
    EXPECT_EQ(Messages(at_caller, stream), (std::vector<std::string>{"3", ""}));
    ASSERT_EQ(at_caller.back().kind, Kind::kEnded);
    EXPECT_EQ(at_caller.back().error->code(), Code::kNotFound);
    EXPECT_EQ(caller.stream_count() + answerer.stream_count(), 0U);
  }
}

TEST_F(MuxTest, WhoDoesNotReadStallsOnlyItsOwnStream) {
  const StreamId slow = caller.Call("slow", {}, "x").value();
  const StreamId fast = caller.Call("fast", {}, "x").value();
  Settle();
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(answerer.Send(slow, std::string(1000, 's')));
    ASSERT_TRUE(answerer.Send(fast, std::string(1000, 'f')));
    Settle();
    caller.Consumed(fast, 1000);
  }
  Settle();
  EXPECT_EQ(Messages(at_caller, fast).size(), 100U);
  EXPECT_EQ(Messages(at_caller, slow).size(), 4U) << "a window of 4096 bytes";
  EXPECT_EQ(answerer.queued_bytes(slow), 100'000U - 4096U);
  for (int i = 0; i < 100; ++i) {
    caller.Consumed(slow, 1000);
    Settle();
  }
  EXPECT_EQ(Messages(at_caller, slow).size(), 100U);
  EXPECT_EQ(answerer.queued_bytes(slow), 0U);
}

TEST_F(MuxTest, AMessageLongerThanTheWindowArrivesWhole) {
  std::string big(1'000'000, '\0');
  for (std::size_t i = 0; i < big.size(); ++i) {
    big[i] = static_cast<char>(i * 7);
  }
  const StreamId stream = caller.Call("take", {}, big).value();
  Settle(3000);
  EXPECT_EQ(Messages(at_answerer, stream), std::vector<std::string>{big});
}

TEST_F(MuxTest, TwoLongMessagesTakeTurns) {
  const StreamId first = caller.Call("a", {}, std::string(3000, 'a')).value();
  const StreamId second = caller.Call("b", {}, "b").value();
  Settle();
  for (const StreamId stream : {first, second}) {
    answerer.Consumed(stream, 1 << 20);
  }
  Settle();
  ASSERT_TRUE(caller.Send(first, std::string(200'000, 'a')));
  ASSERT_TRUE(caller.Send(second, "short"));
  std::size_t rounds = 0;
  while (Messages(at_answerer, second).size() < 2) {
    ASSERT_LT(++rounds, 4U) << "a short message waited for a long one";
    Carry(caller, answerer, at_answerer, 1000);
    Carry(answerer, caller, at_caller, 1000);
  }
  EXPECT_EQ(Messages(at_answerer, first).size(), 1U);
}

TEST_F(MuxTest, GivenUpCallsAreToldAndForgotten) {
  const StreamId stream = caller.Call("work", {}, "x").value();
  Settle();
  ASSERT_TRUE(answerer.Send(stream, "under way"));
  caller.Cancel(stream);
  Settle();
  EXPECT_EQ(Count(at_answerer, Kind::kCancelled), 1U);
  EXPECT_TRUE(Messages(at_caller, stream).empty());
  answerer.End(stream, std::nullopt);
  ASSERT_TRUE(answerer.Send(stream, "late"));
  Settle();
  EXPECT_EQ(Count(at_caller, Kind::kEnded), 0U);
  EXPECT_FALSE(caller.is_broken() || answerer.is_broken());
}

TEST_F(MuxTest, TooManyCallsAreRefusedOneByOne) {
  std::vector<StreamId> streams;
  for (int i = 0; i < 101; ++i) {
    streams.push_back(caller.Call("work", {}, "x").value());
  }
  Settle();
  EXPECT_EQ(Count(at_answerer, Kind::kCalled), 100U);
  ASSERT_EQ(Count(at_caller, Kind::kEnded), 1U);
  const auto ended = std::ranges::find(at_caller, Kind::kEnded, &MuxEvent::kind);
  EXPECT_EQ(ended->stream, streams.back());
  EXPECT_EQ(ended->error->code(), Code::kResourceExhausted);
}

TEST_F(MuxTest, WhoGoesAwayFinishesWhatRuns) {
  const StreamId stream = caller.Call("work", {}, "x").value();
  Settle();
  answerer.GoAway();
  const StreamId crossing = caller.Call("work", {}, "x").value();
  Settle();
  EXPECT_EQ(Count(at_caller, Kind::kGoingAway), 1U);
  const auto ended = std::ranges::find(at_caller, Kind::kEnded, &MuxEvent::kind);
  EXPECT_EQ(ended->stream, crossing);
  EXPECT_EQ(ended->error->code(), Code::kShuttingDown);
  EXPECT_FALSE(caller.Call("work", {}, "x"));
  ASSERT_TRUE(answerer.Send(stream, "done"));
  answerer.End(stream, std::nullopt);
  Settle();
  EXPECT_EQ(Messages(at_caller, stream), std::vector<std::string>{"done"});
}

TEST_F(MuxTest, SilenceIsAskedAboutAndThenBelieved) {
  Settle();
  now += std::chrono::milliseconds(1100);
  caller.Tick(now);
  EXPECT_TRUE(caller.has_output()) << "a ping";
  Settle();
  EXPECT_FALSE(caller.is_broken());
  now += std::chrono::milliseconds(1100);
  caller.Tick(now);
  EXPECT_TRUE(caller.has_output()) << "the peer answered the last one";
  now += std::chrono::seconds(4);
  caller.Tick(now);
  EXPECT_TRUE(caller.is_broken());
  EXPECT_EQ(caller.TakeEvents().back().error->code(), Code::kDisconnected);
}

TEST_F(MuxTest, StrangersAreRefused) {
  answerer.Receive("GET / HTTP/1.1\r\nHost: x\r\n\r\n", now);
  EXPECT_TRUE(answerer.is_broken());
  Mux other({.name = "other"}, Mux::Side::kAccepted, now);
  std::string bytes;
  caller.TakeOutput(bytes, 1 << 20);
  bytes[bytes.find("magic") + 6] ^= 1;
  other.Receive(bytes, now);
  EXPECT_TRUE(other.is_broken());
}

// Whatever a peer sends, the connection breaks or goes on; nothing else happens.
TEST_F(MuxTest, SpoiledBytesBreakAConnectionAtMost) {
  rt::Random random(3);
  std::string bytes;
  caller.TakeOutput(bytes, 1 << 20);
  Settle();
  for (int i = 0; i < 5; ++i) {
    (void)caller.Call("method", {}, std::string(static_cast<std::size_t>(i) * 300, 'm')).value();
  }
  caller.TakeOutput(bytes, 1 << 20);
  for (int round = 0; round < 3000; ++round) {
    std::string spoiled = bytes;
    for (std::uint64_t i = 0; i <= random.Below(3); ++i) {
      spoiled[random.Below(spoiled.size())] = static_cast<char>(random.Below(256));
    }
    Mux other({.name = "other"}, Mux::Side::kAccepted, now);
    other.Receive(spoiled, now);
    std::string out;
    other.TakeOutput(out, 1 << 20);
    const std::vector<MuxEvent> events = other.TakeEvents();
    EXPECT_LE(Count(events, Kind::kBroken), 1U);
    if (other.is_broken()) {
      EXPECT_EQ(events.back().kind, Kind::kBroken);
    }
  }
}

}  // namespace
}  // namespace pixii::control
