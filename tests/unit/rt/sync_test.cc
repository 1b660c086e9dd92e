#include "rt/sync.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "unit/rt/world.h"

namespace pixii::rt {
namespace {

template <class World>
class SyncTest : public testing::Test {
 protected:
  Loop& loop() { return world_.loop(); }

  World world_;
};

TYPED_TEST_SUITE(SyncTest, Worlds);

Task<void> WaitFor(Event& event, std::vector<std::string>& log, std::string name) {
  co_await event.Wait();
  log.push_back(name);
}

TYPED_TEST(SyncTest, AnEventWakesEveryWaiterInOrderAndLaterOnesAtOnce) {
  Event event(this->loop());
  std::vector<std::string> log;
  this->loop().Spawn(WaitFor(event, log, "a"));
  this->loop().Spawn(WaitFor(event, log, "b"));
  event.Set();
  EXPECT_TRUE(log.empty()) << "nobody runs inside Set()";
  this->world_.RunUntil([&] { return log.size() == 2; });
  EXPECT_EQ(log, (std::vector<std::string>{"a", "b"}));
  this->loop().Spawn(WaitFor(event, log, "c"));
  EXPECT_EQ(log.size(), 3U);
}

Task<void> WaitWithDeadline(Event& event, Time deadline, std::optional<bool>& out) {
  out = co_await event.Wait(deadline);
}

TYPED_TEST(SyncTest, AWaitEndsAtItsDeadlineAndNotBefore) {
  Event event(this->loop());
  std::optional<bool> out;
  const Time deadline = this->loop().Now() + 2ms;
  this->loop().Spawn(WaitWithDeadline(event, deadline, out));
  this->world_.RunUntil([&] { return out.has_value(); });
  EXPECT_EQ(out, false);
  EXPECT_GE(this->loop().Now(), deadline);
}

TYPED_TEST(SyncTest, SetAndDeadlineInOneTurnResumeOnceWithSet) {
  Event event(this->loop());
  std::optional<bool> out;
  const Time deadline = this->loop().Now() + 1ms;
  this->loop().Spawn(WaitWithDeadline(event, deadline, out));
  this->loop().RunAt(deadline, [&] { event.Set(); });
  this->world_.RunUntil([&] { return out.has_value(); });
  EXPECT_EQ(out, true);
}

Task<void> PopAll(Channel<int>& channel, std::vector<int>& out, std::optional<Code>& end) {
  while (true) {
    Result<int> item = co_await channel.Pop(kNever);
    if (!item) {
      end = item.error().code();
      co_return;
    }
    out.push_back(*item);
  }
}

Task<void> PushAll(Channel<int>& channel, int count) {
  for (int i = 0; i < count; ++i) {
    const Result<void> pushed = co_await channel.Push(i, kNever);
    EXPECT_TRUE(pushed);
  }
  channel.Close();
}

TYPED_TEST(SyncTest, ABoundedChannelDeliversEverythingInOrderAndThenCloses) {
  Channel<int> channel(this->loop(), 3);
  std::vector<int> out;
  std::optional<Code> end;
  this->loop().Spawn(PushAll(channel, 100));
  EXPECT_EQ(channel.size(), 3U) << "the producer waits for room";
  EXPECT_FALSE(channel.TryPush(1000));
  this->loop().Spawn(PopAll(channel, out, end));
  this->world_.RunUntil([&] { return end.has_value(); });
  EXPECT_EQ(end, Code::kCancelled);
  ASSERT_EQ(out.size(), 100U);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(out[i], i);
  }
  EXPECT_FALSE(channel.TryPush(1));
}

TYPED_TEST(SyncTest, ManyConsumersOfAChannelGetEachItemOnce) {
  Channel<int> channel(this->loop(), kUnbounded);
  std::vector<int> out;
  std::optional<Code> ends[3];
  for (auto& end : ends) {
    this->loop().Spawn(PopAll(channel, out, end));
  }
  this->loop().Spawn(PushAll(channel, 30));
  this->world_.RunUntil([&] { return ends[0] && ends[1] && ends[2]; });
  std::sort(out.begin(), out.end());
  ASSERT_EQ(out.size(), 30U);
  EXPECT_EQ(out.front(), 0);
  EXPECT_EQ(out.back(), 29);
}

Task<void> PopOne(Channel<int>& channel, Time deadline, std::optional<Result<int>>& out) {
  out = co_await channel.Pop(deadline);
}

TYPED_TEST(SyncTest, PopGivesUpAtItsDeadline) {
  Channel<int> channel(this->loop(), 1);
  std::optional<Result<int>> out;
  this->loop().Spawn(PopOne(channel, this->loop().Now() + 1ms, out));
  this->world_.RunUntil([&] { return out.has_value(); });
  EXPECT_EQ(out->error().code(), Code::kDeadlineExceeded);
}

Task<void> CloseGate(Gate& gate, bool& closed) {
  co_await gate.Close();
  closed = true;
}

TYPED_TEST(SyncTest, AGateClosesWhenItsLastWorkLeaves) {
  Gate gate(this->loop());
  bool closed = false;
  {
    Result<Gate::Pass> first = gate.Enter();
    {
      Result<Gate::Pass> second = gate.Enter();
      this->loop().Spawn(CloseGate(gate, closed));
      EXPECT_EQ(gate.count(), 2U);
      EXPECT_EQ(gate.Enter().error().code(), Code::kShuttingDown);
    }
    this->world_.RunFor(1ms);
    EXPECT_FALSE(closed);
  }
  this->world_.RunUntil([&] { return closed; });
}

TEST(GateDeathTest, DyingWithWorkInsideIsABug) {
  RealWorld world;
  EXPECT_DEATH(
      {
        auto gate = std::make_unique<Gate>(world.loop());
        Result<Gate::Pass> pass = gate->Enter();
        gate.reset();
      },
      "count_ == 0");
}

TYPED_TEST(SyncTest, AbortCallsSubscribersOnceAndKeepsTheFirstReason) {
  AbortSource source(this->loop());
  int calls = 0;
  AbortSubscription kept([&](const Error&) { ++calls; });
  source.Subscribe(kept);
  {
    AbortSubscription dropped([&](const Error&) { calls += 100; });
    source.Subscribe(dropped);
  }
  source.Abort(Error(Code::kCancelled, "first"));
  source.Abort(Error(Code::kInternal, "second"));
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(source.reason().detail(), "first");
  AbortSubscription late([&](const Error&) { calls += 10; });
  source.Subscribe(late);
  EXPECT_EQ(calls, 11);
}

Task<Result<int>> PopHolding(Channel<int>& channel, std::shared_ptr<int> held) {
  Result<int> item = co_await channel.Pop(kNever);
  *held += 1;
  co_return item;
}

Task<void> Limited(Loop& loop, Channel<int>& channel, std::shared_ptr<int> held, Time deadline,
                   AbortSource& abort, std::optional<Result<int>>& out) {
  Task<Result<int>> inner = PopHolding(channel, std::move(held));
  out = co_await WithAbort(loop, std::move(inner), deadline, abort);
}

TYPED_TEST(SyncTest, WithDeadlineDestroysTheTaskThatIsLate) {
  Channel<int> channel(this->loop(), 1);
  AbortSource abort(this->loop());
  auto held = std::make_shared<int>(0);
  std::optional<Result<int>> out;
  this->loop().Spawn(Limited(this->loop(), channel, held, this->loop().Now() + 1ms, abort, out));
  this->world_.RunUntil([&] { return out.has_value(); });
  EXPECT_EQ(out->error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(*held, 0);
}

TYPED_TEST(SyncTest, WithAbortEndsWithTheReasonAndDestroysTheTask) {
  Channel<int> channel(this->loop(), 1);
  AbortSource abort(this->loop());
  auto held = std::make_shared<int>(0);
  std::optional<Result<int>> out;
  this->loop().Spawn(Limited(this->loop(), channel, held, kNever, abort, out));
  abort.Abort(Error(Code::kCancelled, "client left"));
  this->world_.RunUntil([&] { return out.has_value(); });
  EXPECT_EQ(out->error().detail(), "client left");
  EXPECT_EQ(held.use_count(), 1);
}

TYPED_TEST(SyncTest, WithAbortReturnsTheResultThatWasThereFirst) {
  Channel<int> channel(this->loop(), 1);
  AbortSource abort(this->loop());
  std::optional<Result<int>> out;
  const Time deadline = this->loop().Now() + 1h;
  this->loop().Spawn(
      Limited(this->loop(), channel, std::make_shared<int>(0), deadline, abort, out));
  EXPECT_TRUE(channel.TryPush(5));
  this->world_.RunUntil([&] { return out.has_value(); });
  EXPECT_EQ(out->value(), 5);
  abort.Abort(Error(Code::kCancelled, "too late"));
  this->world_.RunFor(1ms);
}

// Deadline, abort, push and destruction meet in one instant in random order: exactly one end,
// nothing leaks.
TYPED_TEST(SyncTest, RacesOfResultDeadlineAbortAndTeardownEndOnce) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    auto held = std::make_shared<int>(0);
    {
      TypeParam world;
      Channel<int> channel(world.loop(), 1);
      AbortSource abort(world.loop());
      std::optional<Result<int>> out;
      const Time now = world.loop().Now();
      const auto soon = [&] { return now + Duration(random.Between(0, 2) * 1000); };
      world.loop().Spawn(Limited(world.loop(), channel, held, soon(), abort, out));
      world.loop().RunAt(soon(), [&] { abort.Abort(Error(Code::kCancelled, "race")); });
      world.loop().RunAt(soon(), [&] { (void)channel.TryPush(1); });
      if (random.Chance(0.7)) {
        world.RunUntil([&] { return out.has_value(); });
        EXPECT_TRUE(out->has_value() || out->error().code() != Code::kInternal);
      }
    }
    EXPECT_EQ(held.use_count(), 1);
  }
}

TYPED_TEST(SyncTest, TearingDownALoopWithWaitersOfEveryKindLeaksNothing) {
  auto held = std::make_shared<int>(0);
  {
    TypeParam world;
    Event event(world.loop());
    Channel<int> channel(world.loop(), 1);
    AbortSource abort(world.loop());
    std::vector<std::string> log;
    std::optional<bool> waited;
    std::optional<Result<int>> out;
    world.loop().Spawn(WaitFor(event, log, "never"));
    world.loop().Spawn(WaitWithDeadline(event, world.loop().Now() + 1h, waited));
    world.loop().Spawn(Limited(world.loop(), channel, held, world.loop().Now() + 1h, abort, out));
    event.Set();  // queued to resume, but the loop never runs
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace pixii::rt
