#include "rt/net.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "rt/sync.h"
#include "unit/rt/echo.h"
#include "unit/rt/world.h"

namespace pixii::rt {
namespace {

template <class World>
class NetTest : public testing::Test {
 protected:
  Loop& loop() { return world_.loop(); }

  Net& net() { return world_.net(); }

  Address AnyPort() { return Address{.host = world_.host(), .port = 0}; }

  World world_;
};

TYPED_TEST_SUITE(NetTest, Worlds);

TYPED_TEST(NetTest, EchoesManyConnectionsWhateverThePieces) {
  constexpr int kClients = 20;
  Random random(11);
  auto listener = this->net().Listen(this->AnyPort(), ListenOptions{}).value();
  EXPECT_NE(listener->address().port, 0);
  this->loop().Spawn(EchoServer(this->loop(), *listener, random.Fork()));
  int done = 0;
  for (int i = 0; i < kClients; ++i) {
    const std::size_t size = i == 0 ? 2'000'000 : random.Below(50'000);
    this->loop().Spawn(EchoClient(this->loop(), this->net(), listener->address(),
                                  Pattern(random, size), random.Fork(), done));
  }
  this->world_.RunUntil([&] { return done == kClients; });
  listener->Close();
  this->world_.RunUntil([&] { return this->loop().spawned_count() <= 1; });
}

struct Pair {
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
};

Task<void> ConnectInto(Net& net, Address address, std::unique_ptr<Stream>& out) {
  Result<std::unique_ptr<Stream>> stream = co_await net.Connect(address, kNever);
  EXPECT_TRUE(stream) << stream.error().ToString();
  out = std::move(*stream);
}

Task<void> AcceptInto(Listener& listener, std::unique_ptr<Stream>& out) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.Accept();
  EXPECT_TRUE(stream) << stream.error().ToString();
  out = std::move(*stream);
}

template <class World>
Pair MakePair(World& world, Address address) {
  Pair pair;
  pair.listener = world.net().Listen(address, ListenOptions{}).value();
  world.loop().Spawn(AcceptInto(*pair.listener, pair.server));
  world.loop().Spawn(ConnectInto(world.net(), pair.listener->address(), pair.client));
  world.RunUntil([&] { return pair.client && pair.server; });
  return pair;
}

Task<void> ReadInto(Stream& stream, std::span<char> space, Time deadline,
                    std::optional<Result<std::size_t>>& out) {
  out = co_await stream.Read(space, deadline);
}

Task<void> WriteInto(Stream& stream, std::string bytes, Time deadline,
                     std::optional<Result<void>>& out) {
  out = co_await stream.Write(bytes, deadline);
}

TYPED_TEST(NetTest, ReadGivesUpAtItsDeadlineAndTheStreamStaysUsable) {
  Pair pair = MakePair(this->world_, this->AnyPort());
  char buffer[16];
  std::optional<Result<std::size_t>> got;
  this->loop().Spawn(ReadInto(*pair.server, buffer, this->loop().Now() + 1ms, got));
  this->world_.RunUntil([&] { return got.has_value(); });
  EXPECT_EQ(got->error().code(), Code::kDeadlineExceeded);
  got.reset();
  EXPECT_EQ(WriteNow(*pair.client, "hello"), 5U);
  this->loop().Spawn(ReadInto(*pair.server, buffer, kNever, got));
  this->world_.RunUntil([&] { return got.has_value(); });
  EXPECT_GE(got->value(), 1U);
}

TYPED_TEST(NetTest, AHangUpEndsAPendingReadWithZero) {
  Pair pair = MakePair(this->world_, this->AnyPort());
  char buffer[16];
  std::optional<Result<std::size_t>> got;
  this->loop().Spawn(ReadInto(*pair.server, buffer, kNever, got));
  this->world_.RunFor(1ms);
  EXPECT_FALSE(got.has_value());
  pair.client.reset();
  this->world_.RunUntil([&] { return got.has_value(); });
  EXPECT_EQ(got->value(), 0U);
}

TYPED_TEST(NetTest, CloseResumesAPendingReadAndWriteWithCancelled) {
  Pair pair = MakePair(this->world_, this->AnyPort());
  char buffer[16];
  std::optional<Result<std::size_t>> got;
  std::optional<Result<void>> written;
  this->loop().Spawn(ReadInto(*pair.server, buffer, kNever, got));
  this->loop().Spawn(WriteInto(*pair.server, std::string(50'000'000, 'x'), kNever, written));
  this->world_.RunFor(1ms);
  EXPECT_FALSE(written.has_value()) << "nobody reads 50 MB, so the writer must wait";
  pair.server->Close();
  pair.server->Close();
  this->world_.RunUntil([&] { return got && written; });
  EXPECT_EQ(got->error().code(), Code::kCancelled);
  EXPECT_EQ(written->error().code(), Code::kCancelled);
  EXPECT_EQ(pair.server->TryWrite("x").error().code(), Code::kCancelled);
}

TYPED_TEST(NetTest, ASlowReaderHoldsTheWriterUntilItsDeadline) {
  Pair pair = MakePair(this->world_, this->AnyPort());
  std::optional<Result<void>> written;
  this->loop().Spawn(
      WriteInto(*pair.server, std::string(50'000'000, 'x'), this->loop().Now() + 5ms, written));
  this->world_.RunUntil([&] { return written.has_value(); });
  EXPECT_EQ(written->error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ(WriteNow(*pair.server, "more"), 0U);
}

TYPED_TEST(NetTest, WritingToAPeerThatIsGoneBreaksInTheEnd) {
  Pair pair = MakePair(this->world_, this->AnyPort());
  pair.client.reset();
  std::optional<Result<void>> written;
  this->loop().Spawn(WriteInto(*pair.server, std::string(50'000'000, 'x'), kNever, written));
  this->world_.RunUntil([&] { return written.has_value(); });
  EXPECT_EQ(written->error().code(), Code::kUnavailable);
}

TYPED_TEST(NetTest, WhatWasWrittenBeforeShutdownStillArrives) {
  Pair pair = MakePair(this->world_, this->AnyPort());
  EXPECT_EQ(WriteNow(*pair.client, "last words"), 10U);
  pair.client->ShutdownWrite();
  std::string got;
  bool ended = false;
  while (!ended) {
    char buffer[4];
    std::optional<Result<std::size_t>> count;
    this->loop().Spawn(ReadInto(*pair.server, buffer, kNever, count));
    this->world_.RunUntil([&] { return count.has_value(); });
    ended = count->value() == 0;
    got.append(buffer, count->value());
  }
  EXPECT_EQ(got, "last words");
  EXPECT_EQ(WriteNow(*pair.server, "answer"), 6U) << "the other direction is still open";
}

Task<void> ConnectResult(Net& net, Address address, Time deadline, std::optional<Error>& out) {
  Result<std::unique_ptr<Stream>> stream = co_await net.Connect(address, deadline);
  EXPECT_FALSE(stream);
  out = stream.error();
}

TYPED_TEST(NetTest, ConnectingWhereNobodyListensIsRefused) {
  auto listener = this->net().Listen(this->AnyPort(), ListenOptions{}).value();
  const Address address = listener->address();
  listener.reset();
  std::optional<Error> error;
  this->loop().Spawn(ConnectResult(this->net(), address, kNever, error));
  this->world_.RunUntil([&] { return error.has_value(); });
  EXPECT_EQ(error->code(), Code::kUnavailable);
  EXPECT_NE(error->detail().find(address.ToString()), std::string::npos) << error->detail();
}

TYPED_TEST(NetTest, ClosingAListenerCancelsItsAccept) {
  auto listener = this->net().Listen(this->AnyPort(), ListenOptions{}).value();
  this->loop().Spawn(EchoServer(this->loop(), *listener, Random(1)));
  EXPECT_EQ(this->loop().spawned_count(), 1U);
  listener->Close();
  this->world_.RunFor(1ms);
  EXPECT_EQ(this->loop().spawned_count(), 0U);
}

TYPED_TEST(NetTest, APortInUseIsNamedInTheError) {
  auto listener = this->net().Listen(this->AnyPort(), ListenOptions{}).value();
  auto second = this->net().Listen(listener->address(), ListenOptions{});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Code::kUnavailable);
  EXPECT_NE(second.error().detail().find(listener->address().ToString()), std::string::npos);
}

TYPED_TEST(NetTest, TearingDownWithPendingReadsWritesAndAcceptsLeaksNothing) {
  TypeParam world;
  Pair pair = MakePair(world, Address{.host = world.host(), .port = 0});
  char buffer[16];
  std::optional<Result<std::size_t>> got;
  std::optional<Result<void>> written;
  world.loop().Spawn(ReadInto(*pair.client, buffer, kNever, got));
  world.loop().Spawn(WriteInto(*pair.server, std::string(50'000'000, 'x'), kNever, written));
  world.loop().Spawn(EchoServer(world.loop(), *pair.listener, Random(1)));
  pair.client.reset();
}

TYPED_TEST(NetTest, ARandomMixOfHangUpsNeverLosesAConnectionTask) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    TypeParam world;
    auto listener = world.net().Listen(Address{.host = world.host(), .port = 0}, {}).value();
    world.loop().Spawn(EchoServer(world.loop(), *listener, random.Fork()));
    std::vector<std::unique_ptr<Stream>> streams(10);
    for (auto& stream : streams) {
      world.loop().Spawn(ConnectInto(world.net(), listener->address(), stream));
    }
    world.RunUntil([&] {
      return std::all_of(streams.begin(), streams.end(), [](auto& s) { return s != nullptr; });
    });
    for (auto& stream : streams) {
      (void)WriteNow(*stream, Pattern(random, random.Below(200'000)));
      if (random.Chance(0.5)) {
        stream->ShutdownWrite();
      }
    }
    streams.clear();
    listener->Close();
    world.RunUntil([&] { return world.loop().spawned_count() <= 1; });
  }
}

TEST(RealNet, WorksOverIpv6AndUnixSockets) {
  RealWorld world;
  Pair v6 = MakePair(world, Address{.host = "::1", .port = 0});
  EXPECT_TRUE(v6.client->peer().starts_with("[::1]:")) << v6.client->peer();
  const std::string path = testing::TempDir() + "pixii_net_test.sock";
  {
    Pair local = MakePair(world, Address{.host = "unix:" + path, .port = 0});
    EXPECT_EQ(local.client->TryWrite("hi").value(), 2U);
    EXPECT_EQ(::access(path.c_str(), F_OK), 0);
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "closing removes the socket file";
}

TEST(RealNet, AFileThatIsNoSocketStaysWhatItIs) {
  RealWorld world;
  const std::string path = testing::TempDir() + "pixii_precious_test";
  {
    std::ofstream(path) << "precious";
  }
  EXPECT_FALSE(world.net().Listen(Address{.host = "unix:" + path, .port = 0}, {}));
  std::string kept;
  std::ifstream(path) >> kept;
  EXPECT_EQ(kept, "precious");
  ::unlink(path.c_str());
}

TEST(RealNet, ASocketFileLeftByADeadProcessIsReplacedAndALiveOneIsNot) {
  RealWorld world;
  const Address address{.host = "unix:" + testing::TempDir() + "pixii_stale_test.sock", .port = 0};
  auto first = world.net().Listen(address, {}).value();
  EXPECT_EQ(world.net().Listen(address, {}).error().code(), Code::kUnavailable);
  const std::string path = address.host.substr(5);
  const std::string kept = path + ".kept";
  ASSERT_EQ(::link(path.c_str(), kept.c_str()), 0);
  first.reset();
  ASSERT_EQ(::rename(kept.c_str(), path.c_str()), 0);  // a file that nobody listens on
  EXPECT_TRUE(world.net().Listen(address, {}));
}

Task<void> AcceptResult(Listener& listener, std::optional<Result<std::unique_ptr<Stream>>>& out) {
  out = co_await listener.Accept();
}

TEST(RealNet, OutOfDescriptorsShedsTheClientSaysSoAndRecovers) {
  RealWorld world;
  auto listener = world.net().Listen(Address{.host = "127.0.0.1", .port = 0}, {}).value();
  std::unique_ptr<Stream> shed;
  world.loop().Spawn(ConnectInto(world.net(), listener->address(), shed));
  world.RunUntil([&] { return shed != nullptr; });
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next_free = ::dup(0);
  ::close(next_free);
  const rlimit none_left{.rlim_cur = static_cast<rlim_t>(next_free), .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none_left), 0);
  std::optional<Result<std::unique_ptr<Stream>>> accepted;
  world.loop().Spawn(AcceptResult(*listener, accepted));
  world.RunUntil([&] { return accepted.has_value(); });
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(*accepted);
  EXPECT_EQ(accepted->error().code(), Code::kResourceExhausted);
  char buffer[4];
  std::optional<Result<std::size_t>> got;
  world.loop().Spawn(ReadInto(*shed, buffer, kNever, got));
  world.RunUntil([&] { return got.has_value(); });
  EXPECT_TRUE(!*got || **got == 0) << "the client must not wait for ever";
  std::unique_ptr<Stream> next;
  accepted.reset();
  world.loop().Spawn(AcceptResult(*listener, accepted));
  world.loop().Spawn(ConnectInto(world.net(), listener->address(), next));
  world.RunUntil([&] { return accepted && next; });
  EXPECT_TRUE(*accepted);
}

TEST(RealNet, RefusesNamesAndNonsense) {
  RealWorld world;
  EXPECT_EQ(world.net().Listen(Address{.host = "", .port = 1}, {}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(world.net().Listen(Address{.host = "unix:", .port = 1}, {}).error().code(),
            Code::kInvalidArgument);
  EXPECT_EQ(world.net().Listen(Address{.host = "example.org", .port = 1}, {}).error().code(),
            Code::kUnsupported);
  EXPECT_TRUE(world.net().Listen(Address{.host = "localhost", .port = 0}, {}));
}

}  // namespace
}  // namespace pixii::rt
