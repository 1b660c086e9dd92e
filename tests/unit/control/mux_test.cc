#include "control/mux.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "rt/random.h"
#include "wire/messages/codec.h"
#include "wire/mux_frame.h"

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
  EXPECT_EQ(Messages(at_caller, slow).size(), 5U) << "the last one began within 4096 bytes";
  EXPECT_EQ(answerer.queued_bytes(slow), 95'000U);
  EXPECT_EQ(answerer.queued_bytes(), 95'000U);
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
  const rt::Time asked = now;
  while (!caller.is_broken() && now < asked + std::chrono::seconds(10)) {
    now = caller.next_tick();
    caller.Tick(now);
  }
  EXPECT_TRUE(caller.is_broken());
  EXPECT_EQ(now - asked, MuxOptions{}.dead_after - MuxOptions{}.ping_after)
      << "that much had passed";
  EXPECT_EQ(caller.TakeEvents().back().error->code(), Code::kDisconnected);
}

// A process that was stopped finds its timers due before it has read what its peers said.
TEST_F(MuxTest, WhoStoodStillListensFirst) {
  Settle();
  now += std::chrono::seconds(60);
  caller.Tick(now);
  EXPECT_FALSE(caller.is_broken());
  const rt::Time awake = now;
  while (!caller.is_broken() && now < awake + std::chrono::seconds(10)) {
    now = caller.next_tick();
    caller.Tick(now);
  }
  EXPECT_TRUE(caller.is_broken()) << "nothing came";
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

TEST_F(MuxTest, LongMessagesWaitInLineAndShortOnesDoNot) {
  std::vector<StreamId> streams;
  for (int i = 0; i < 30; ++i) {
    streams.push_back(caller.Call("take", {}, "").value());
  }
  Settle();
  const std::string big(200'000, 'b');
  for (const StreamId stream : streams) {
    ASSERT_TRUE(caller.Send(stream, stream == streams.back() ? "short" : big));
  }
  caller.Cancel(streams[3]);  // with a turn, soon
  std::size_t rounds = 0;
  std::size_t rounds_of_short = 0;
  while (caller.has_output() || answerer.has_output()) {
    Carry(caller, answerer, at_answerer, 100'000);
    Carry(answerer, caller, at_caller, 100'000);
    ++rounds;
    if (rounds == 5) {
      caller.Cancel(streams[0]);
    }
    if (rounds_of_short == 0 && Messages(at_answerer, streams.back()).size() == 2) {
      rounds_of_short = rounds;
    }
  }
  EXPECT_FALSE(answerer.is_broken()) << "no more than kLongMessagesMax were under way";
  EXPECT_LE(rounds_of_short, 8U);
  EXPECT_GT(rounds, 100U);
  for (std::size_t i = 1; i + 1 < streams.size(); ++i) {
    EXPECT_EQ(Messages(at_answerer, streams[i]).size(), i == 3 ? 1U : 2U) << i;
  }
  EXPECT_EQ(caller.queued_bytes(), 0U);
}

TEST_F(MuxTest, AnErrorOfAnyLengthEndsAStream) {
  const StreamId stream = caller.Call("work", {}, "x").value();
  Settle();
  answerer.End(stream,
               Error(Code::kInvalidArgument, std::string(1 << 20, 'd'), std::string(1 << 20, 'p')));
  Settle();
  ASSERT_EQ(at_caller.back().kind, Kind::kEnded);
  EXPECT_EQ(at_caller.back().error->detail(), std::string(Mux::kErrorBytesMax, 'd'));
}

TEST_F(MuxTest, ADeadlineThatPassedIsNoneThatIsMissing) {
  (void)caller.Call("work", std::chrono::seconds(-2), "x").value();
  Settle();
  const auto called = std::ranges::find(at_answerer, Kind::kCalled, &MuxEvent::kind);
  EXPECT_EQ(called->deadline_left, std::chrono::seconds(-2));
}

TEST_F(MuxTest, WhoDoesNotEndItsHelloIsLeft) {
  std::string bytes;
  caller.TakeOutput(bytes, 1 << 20);
  for (std::size_t i = 0; i < 10; ++i) {
    answerer.Receive(std::string_view(bytes).substr(i, 1), now);
    EXPECT_FALSE(answerer.is_broken());
    now += std::chrono::milliseconds(500);
    answerer.Tick(now);
  }
  EXPECT_TRUE(answerer.is_broken());
}

// A peer that speaks the format and keeps none of its rules.
class HostilePeer : public MuxTest {
 protected:
  HostilePeer() {
    Settle();
    at_answerer.clear();
  }

  void Send(const wire::MuxHeader& header, std::string_view payload = {}) {
    std::string frame;
    wire::AppendMuxFrame(frame, header, payload);
    answerer.Receive(frame, now);
    for (MuxEvent& event : answerer.TakeEvents()) {
      at_answerer.push_back(std::move(event));
    }
  }

  void Open(std::uint64_t stream) {
    Send({.kind = wire::MuxKind::kCall, .stream = stream}, wire::Encode(wire::MuxCall{"m", 0}));
  }

  Code Broken() const {
    return answerer.is_broken() ? at_answerer.back().error->code() : Code::kUnimplemented;
  }
};

TEST_F(HostilePeer, PingsAreAnsweredOnceHoweverMany) {
  for (int i = 0; i < 100'000; ++i) {
    Send({.kind = wire::MuxKind::kPing}, "12345678");
  }
  std::string out;
  answerer.TakeOutput(out, 1 << 20);
  EXPECT_EQ(out.size(), wire::kMuxHeaderBytes + 8U);
}

TEST_F(HostilePeer, RefusalsThatNobodyReadsBreakTheConnection) {
  std::uint64_t stream = 1;
  for (; stream < 1'000'000 && !answerer.is_broken(); stream += 2) {
    Open(stream);
  }
  EXPECT_EQ(Broken(), Code::kDisconnected);
  EXPECT_GT(stream, 5000U);
}

TEST_F(HostilePeer, NothingIsTakenPastTheWindow) {
  Open(1);
  Send({.kind = wire::MuxKind::kData, .stream = 1}, std::string(4096, 'x'));
  EXPECT_EQ(Broken(), Code::kUnimplemented);
  Send({.kind = wire::MuxKind::kData, .stream = 1}, "");  // costs nothing
  Send({.kind = wire::MuxKind::kData, .stream = 1}, "x");
  EXPECT_EQ(Broken(), Code::kDataCorrupt);
}

TEST_F(HostilePeer, MessagesThatNeverEndAreFew) {
  for (std::uint64_t i = 0; i <= Mux::kLongMessagesMax; ++i) {
    EXPECT_EQ(Broken(), Code::kUnimplemented);
    Open(2 * i + 1);
    Send({.kind = wire::MuxKind::kData, .more = true, .stream = 2 * i + 1}, "x");
  }
  EXPECT_EQ(Broken(), Code::kDataCorrupt);
}

TEST_F(HostilePeer, PartsWithoutBytesAreRefused) {
  Open(1);
  Send({.kind = wire::MuxKind::kData, .more = true, .stream = 1});
  EXPECT_EQ(Broken(), Code::kDataCorrupt);
}

TEST_F(HostilePeer, CreditWithoutEndIsRefused) {
  Open(1);
  Send({.kind = wire::MuxKind::kCredit, .stream = 1}, std::string(8, '\x7F'));
  EXPECT_EQ(Broken(), Code::kDataCorrupt);
}

TEST_F(HostilePeer, StreamsAreNotUsedTwice) {
  Open(3);
  Send({.kind = wire::MuxKind::kCancel, .stream = 3});
  Open(3);
  EXPECT_EQ(Broken(), Code::kDataCorrupt);
}

TEST_F(HostilePeer, StreamsHaveNoEndOfNumbers) {
  Open(0xFFFF'FFFF'FFFF'FFF1);
  Send({.kind = wire::MuxKind::kData, .stream = 0xFFFF'FFFF'FFFF'FFF1}, "x");
  EXPECT_EQ(Messages(at_answerer, StreamId{0xFFFF'FFFF'FFFF'FFF1}).size(), 1U);
}

TEST_F(HostilePeer, AWindowInWhichNothingFitsIsRefused) {
  wire::MuxHello hello{.magic = wire::MuxHello::kMagic,
                       .version_min = 1,
                       .version_max = 1,
                       .window_bytes = 0,
                       .name = {}};
  std::string bytes;
  wire::AppendMuxFrame(bytes, {.kind = wire::MuxKind::kHello}, wire::Encode(hello));
  Mux other({.name = "other"}, Mux::Side::kAccepted, now);
  other.Receive(bytes, now);
  EXPECT_TRUE(other.is_broken());
}

// Whatever becomes of its bytes, the connection breaks or goes on, and says nothing that was not
// said.
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
    for (const MuxEvent& event : events) {
      if (event.kind == Kind::kMessage) {  // as it was sent, or not at all
        EXPECT_EQ(event.text, std::string(event.text.size() / 300 * 300, 'm'));
      }
    }
    EXPECT_LE(Count(events, Kind::kBroken), 1U);
    if (other.is_broken()) {
      EXPECT_EQ(events.back().kind, Kind::kBroken);
    }
  }
}

}  // namespace
}  // namespace pixii::control
