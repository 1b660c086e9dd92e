#include "rt/sim_world.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "rt/sync.h"

namespace pixii::rt {
namespace {

Time At(Duration since_start) { return Time{} + since_start; }

/// Serves lines of any size: answers each read by the same bytes.
Task<void> Echo(std::unique_ptr<Stream> stream) {
  std::string buffer(4096, '\0');
  while (true) {
    const std::span<char> space(buffer);
    Result<std::size_t> count = co_await stream->Read(space, kNever);
    if (!count || *count == 0) {
      co_return;
    }
    const std::string_view bytes(buffer.data(), *count);
    Result<void> written = co_await stream->Write(bytes, kNever);
    if (!written) {
      co_return;
    }
  }
}

Task<void> Serve(SimNode& node, std::uint16_t port) {
  const Address address{.host = "0.0.0.0", .port = port};
  auto listener = node.net().Listen(address, ListenOptions{}).value();
  while (true) {
    Result<std::unique_ptr<Stream>> stream = co_await listener->Accept();
    if (!stream) {
      co_return;
    }
    node.loop().Spawn(Echo(std::move(*stream)));
  }
}

struct CallResult {
  std::optional<Code> error;
  bool ended = false;
  bool same = false;  // what came back is what was sent
  Time ended_at{};
};

/// Sends `size` bytes and wants them back, before `limit`.
Task<void> Call(SimNode& node, Address server, std::size_t size, Duration limit, CallResult& out) {
  const Time deadline = node.loop().Now() + limit;
  std::string sent(size, 'x');
  std::string received;
  std::string buffer(4096, '\0');
  Result<std::unique_ptr<Stream>> stream = co_await node.net().Connect(server, deadline);
  if (!stream) {
    out.error = stream.error().code();
  } else {
    Result<void> written = co_await (*stream)->Write(sent, deadline);
    if (!written) {
      out.error = written.error().code();
    }
    while (!out.error && received.size() < sent.size()) {
      const std::span<char> space(buffer);
      Result<std::size_t> count = co_await (*stream)->Read(space, deadline);
      if (!count) {
        out.error = count.error().code();
      } else if (*count == 0) {
        out.error = Code::kDataCorrupt;
      } else {
        received.append(buffer, 0, *count);
      }
    }
  }
  out.ended = true;
  out.same = received == sent;
  out.ended_at = node.loop().Now();
}

struct RunRecord {
  std::uint64_t hash;
  std::uint64_t events;
  std::vector<int> codes;

  friend bool operator==(const RunRecord&, const RunRecord&) = default;
};

/// Several clients, a server, every fault at once.
RunRecord RunMix(std::uint64_t seed) {
  SimOptions options{.seed = seed};
  options.reset_probability = 0.01;
  options.refuse_probability = 0.1;
  options.delay_probability = 0.1;
  SimWorld world(options);
  SimNode& server = world.AddNode("server");
  SimNode& client_a = world.AddNode("a");
  SimNode& client_b = world.AddNode("b");
  server.loop().Spawn(Serve(server, 80));
  std::vector<CallResult> results(40);
  for (std::size_t i = 0; i < results.size(); ++i) {
    SimNode& node = i % 2 == 0 ? client_a : client_b;
    const Duration when(world.random().Between(0, 20'000'000));
    const std::size_t size = 1 + world.random().Below(30'000);
    world.RunAt(At(when), [&node, &results, i, size] {
      node.loop().Spawn(Call(node, Address{.host = "server", .port = 80}, size, 200ms, results[i]));
    });
  }
  world.RunAt(At(5ms), [&] { world.SetPartition("a", "server", true); });
  world.RunAt(At(15ms), [&] { world.SetPartition("a", "server", false); });
  world.RunAt(At(8ms), [&] { server.Freeze(At(12ms)); });
  const SimEnd end = world.RunUntil(
      [&] { return std::all_of(results.begin(), results.end(), [](auto& r) { return r.ended; }); },
      At(10s));
  EXPECT_EQ(end, SimEnd::kDone);
  RunRecord record{.hash = world.state_hash(), .events = world.event_count(), .codes = {}};
  for (const CallResult& result : results) {
    record.codes.push_back(result.error ? static_cast<int>(*result.error) : -1);
  }
  return record;
}

TEST(SimWorld, SameSeedGivesTheSameRunAndOtherSeedsOthers) {
  std::vector<std::uint64_t> hashes;
  int failed_calls = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const RunRecord first = RunMix(seed);
    EXPECT_EQ(first, RunMix(seed));
    EXPECT_GT(first.events, 100U);
    hashes.push_back(first.hash);
    failed_calls += static_cast<int>(first.codes.size() -
                                     std::count(first.codes.begin(), first.codes.end(), -1));
  }
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::unique(hashes.begin(), hashes.end()), hashes.end());
  EXPECT_GT(failed_calls, 0) << "the faults must bite";
  EXPECT_LT(failed_calls, 30 * 40 / 2);
}

TEST(SimWorld, TimeMovesOnlyByEventsAndTimersRunAtTheirTime) {
  SimWorld world(SimOptions{});
  SimNode& node = world.AddNode("n");
  std::vector<Time> ran;
  node.loop().RunAt(At(10s), [&] { ran.push_back(node.loop().Now()); });
  node.loop().RunAt(At(3600s), [&] { ran.push_back(node.loop().Now()); });
  EXPECT_TRUE(world.RunUntilQuiescent(At(7200s)));
  EXPECT_EQ(ran, (std::vector<Time>{At(10s), At(3600s)}));
  EXPECT_FALSE(world.Step());
  world.RunTo(At(7200s));
  EXPECT_EQ(world.now(), At(7200s));
  EXPECT_EQ(node.loop().WallNow().unix_seconds, 1'767'225'600 + 7200);
}

TEST(SimWorld, ACancelledTimerDoesNotMoveTheClock) {
  SimWorld world(SimOptions{});
  SimNode& node = world.AddNode("n");
  node.loop().Post([&] {
    const TimerId id = node.loop().RunAt(At(1000s), [] { FAIL(); });
    node.loop().Post([&node, id] { node.loop().CancelTimer(id); });
  });
  EXPECT_TRUE(world.RunUntilQuiescent(At(5000s)));
  EXPECT_LT(world.now(), At(1s));
}

TEST(SimWorld, PostsOfOneNodeToAnotherKeepTheirOrder) {
  SimWorld world(SimOptions{.seed = 3});
  SimNode& a = world.AddNode("a");
  SimNode& b = world.AddNode("b");
  std::vector<int> got;
  a.loop().Post([&] {
    for (int i = 0; i < 10; ++i) {
      b.loop().Post([&got, i] { got.push_back(i); });
    }
  });
  world.RunUntilQuiescent(At(1s));
  EXPECT_EQ(got, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

Task<void> YieldFor(Loop& loop, Time until, bool& done) {
  while (loop.Now() < until) {
    co_await loop.Yield();
  }
  done = true;
}

TEST(SimWorld, ALoopOfYieldsMovesTheClock) {
  SimWorld world(SimOptions{});
  SimNode& node = world.AddNode("n");
  bool done = false;
  node.loop().Spawn(YieldFor(node.loop(), At(1ms), done));
  EXPECT_EQ(world.RunUntil([&] { return done; }, At(1s)), SimEnd::kDone);
}

Task<void> WaitForever(Loop& loop, std::shared_ptr<int> held) {
  Event never(loop);
  co_await never.Wait();
  *held += 1;
}

TEST(SimWorld, SeesADeadlock) {
  SimWorld world(SimOptions{});
  SimNode& node = world.AddNode("n");
  auto held = std::make_shared<int>(0);
  node.loop().Spawn(WaitForever(node.loop(), held));
  EXPECT_EQ(world.RunUntil([&] { return *held == 1; }, At(1000s)), SimEnd::kDeadlock);
  EXPECT_EQ(world.spawned_count(), 1U);
}

TEST(SimWorld, KillingANodeDestroysItsTasksAndBreaksItsConnections) {
  SimWorld world(SimOptions{.seed = 5});
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  auto held = std::make_shared<int>(0);
  server.loop().Spawn(Serve(server, 80));
  server.loop().Spawn(WaitForever(server.loop(), held));
  CallResult big;
  client.loop().Spawn(Call(client, Address{.host = "server", .port = 80}, 10'000'000, 100s, big));
  world.RunAt(At(2ms), [&] { server.Kill(); });
  ASSERT_EQ(world.RunUntil([&] { return big.ended; }, At(50s)), SimEnd::kDone);
  EXPECT_EQ(big.error, Code::kUnavailable);
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_EQ(server.loop().spawned_count(), 0U);
  server.loop().Post([] { FAIL() << "a dead node runs nothing"; });
  CallResult refused;
  client.loop().Spawn(Call(client, Address{.host = "server", .port = 80}, 1, 1s, refused));
  world.RunUntilQuiescent(At(200s));
  EXPECT_EQ(refused.error, Code::kUnavailable);

  SimNode& again = world.AddNode("server");
  again.loop().Spawn(Serve(again, 80));
  CallResult served;
  client.loop().Spawn(Call(client, Address{.host = "server", .port = 80}, 1, 1s, served));
  world.RunUntilQuiescent(world.now() + 10s);
  EXPECT_TRUE(served.ended);
  EXPECT_FALSE(served.error);
}

TEST(SimWorld, APartitionHoldsBytesAndConnectsUntilItHeals) {
  SimWorld world(SimOptions{.seed = 6});
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  SimNode& other = world.AddNode("other");
  const Address address{.host = "server", .port = 80};
  server.loop().Spawn(Serve(server, 80));
  CallResult impatient;
  CallResult patient;
  CallResult unaffected;
  world.SetPartition("client", "server", true);
  client.loop().Spawn(Call(client, address, 1000, 50ms, impatient));
  client.loop().Spawn(Call(client, address, 1000, 10s, patient));
  other.loop().Spawn(Call(other, address, 1000, 50ms, unaffected));
  world.RunAt(At(1s), [&] { world.SetPartition("client", "server", false); });
  world.RunUntilQuiescent(At(100s));
  EXPECT_EQ(impatient.error, Code::kDeadlineExceeded);
  EXPECT_FALSE(patient.error);
  EXPECT_GE(patient.ended_at, At(1s));
  EXPECT_FALSE(unaffected.error);
  EXPECT_LT(unaffected.ended_at, At(50ms));
}

TEST(SimWorld, AOneWayCutHoldsBackWhatOneSideSaysAndNotTheOther) {
  SimWorld world(SimOptions{.seed = 11});
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  const Address address{.host = "server", .port = 80};
  server.loop().Spawn(Serve(server, 80));
  CallResult asked;  // it arrives, and the answer waits
  world.SetOneWayCut("server", "client", true);
  client.loop().Spawn(Call(client, address, 10, 10s, asked));
  world.RunAt(At(1s), [&] { world.SetOneWayCut("server", "client", false); });
  world.RunUntilQuiescent(At(100s));
  EXPECT_FALSE(asked.error);
  EXPECT_GE(asked.ended_at, At(1s));
  EXPECT_LT(asked.ended_at, At(1s) + 100ms);
}

TEST(SimWorld, OfANodeThatVanishedPeersHearNothing) {
  SimWorld world(SimOptions{.seed = 12});
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  server.loop().Spawn(Serve(server, 80));
  CallResult big;
  client.loop().Spawn(Call(client, Address{.host = "server", .port = 80}, 10'000'000, 5s, big));
  world.RunAt(At(2ms), [&] { server.Vanish(); });
  world.RunUntilQuiescent(At(100s));
  EXPECT_EQ(big.error, Code::kDeadlineExceeded);
  EXPECT_FALSE(server.alive());
  EXPECT_EQ(server.loop().spawned_count(), 0U);
}

TEST(SimWorld, CorruptionChangesBytesBetweenTwoHostsAlone) {
  SimWorld world(SimOptions{.seed = 13});
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  SimNode& other = world.AddNode("other");
  const Address address{.host = "server", .port = 80};
  server.loop().Spawn(Serve(server, 80));
  CallResult spoiled;
  CallResult sound;
  world.SetCorruption("client", "server", 0.5);
  client.loop().Spawn(Call(client, address, 100'000, 10s, spoiled));
  other.loop().Spawn(Call(other, address, 100'000, 10s, sound));
  world.RunUntilQuiescent(At(100s));
  EXPECT_FALSE(spoiled.same);
  EXPECT_TRUE(sound.same);
}

TEST(SimWorld, AClockMayGoFastOrSlow) {
  SimWorld world(SimOptions{.seed = 14});
  SimNode& fast = world.AddNode("fast");
  SimNode& slow = world.AddNode("slow");
  const auto plain = fast.loop().WallNow().unix_seconds;
  fast.SetClock(2.0, 3600s);
  slow.SetClock(0.5, Duration::zero());
  EXPECT_EQ(fast.loop().WallNow().unix_seconds, plain + 3600);
  Time fast_at{};
  Time slow_at{};
  fast.loop().RunAt(At(10s), [&] { fast_at = world.now(); });
  slow.loop().RunAt(At(10s), [&] {
    slow_at = world.now();
    EXPECT_GE(slow.loop().Now(), At(10s));
  });
  world.RunUntilQuiescent(At(100s));
  EXPECT_GE(fast_at, At(5s));
  EXPECT_LT(fast_at, At(5s) + 1ms);
  EXPECT_GE(slow_at, At(20s));
  EXPECT_LT(slow_at, At(20s) + 1ms);
}

TEST(SimWorld, AFrozenNodeDoesNothingUntilItThaws) {
  SimWorld world(SimOptions{.seed = 7});
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  server.loop().Spawn(Serve(server, 80));
  server.Freeze(At(300ms));
  CallResult result;
  client.loop().Spawn(Call(client, Address{.host = "server", .port = 80}, 100, 10s, result));
  world.RunUntilQuiescent(At(100s));
  EXPECT_FALSE(result.error);
  EXPECT_GE(result.ended_at, At(300ms));
}

TEST(SimWorld, AStoppedNodeMakesNoMoreTurns) {
  SimWorld world(SimOptions{});
  SimNode& node = world.AddNode("n");
  bool later = false;
  node.loop().Post([&] {
    node.loop().Stop();
    node.loop().RunAt(At(1s), [&] { later = true; });
  });
  world.RunUntilQuiescent(At(10s));
  EXPECT_TRUE(node.stopped());
  EXPECT_FALSE(later);
}

Task<void> ServeUnix(SimNode& node) {
  const Address address{.host = "unix:/run/x.sock", .port = 0};
  auto listener = node.net().Listen(address, ListenOptions{}).value();
  while (true) {
    Result<std::unique_ptr<Stream>> stream = co_await listener->Accept();
    if (!stream) {
      co_return;
    }
    node.loop().Spawn(Echo(std::move(*stream)));
  }
}

TEST(SimWorld, ASocketFileIsSeenOnItsOwnNodeOnly) {
  SimWorld world(SimOptions{.seed = 9});
  SimNode& a = world.AddNode("a");
  SimNode& b = world.AddNode("b");
  a.loop().Spawn(ServeUnix(a));
  CallResult local;
  CallResult remote;
  const Address address{.host = "unix:/run/x.sock", .port = 0};
  a.loop().Spawn(Call(a, address, 10, 1s, local));
  b.loop().Spawn(Call(b, address, 10, 1s, remote));
  world.RunUntilQuiescent(At(10s));
  EXPECT_FALSE(local.error);
  EXPECT_EQ(remote.error, Code::kUnavailable);
}

TEST(SimWorld, BandwidthBoundsHowFastBytesCross) {
  SimOptions options{.seed = 8};
  options.bandwidth_bytes_per_s = 1'000'000;
  options.window_size_bytes_max = 4'000'000;  // the client writes everything before it reads
  SimWorld world(options);
  SimNode& server = world.AddNode("server");
  SimNode& client = world.AddNode("client");
  server.loop().Spawn(Serve(server, 80));
  CallResult result;
  client.loop().Spawn(Call(client, Address{.host = "server", .port = 80}, 500'000, 100s, result));
  world.RunUntil([&] { return result.ended; }, At(100s));
  EXPECT_FALSE(result.error);
  EXPECT_GE(result.ended_at, At(500ms));
  EXPECT_LT(result.ended_at, At(2s));
}

}  // namespace
}  // namespace pixii::rt
