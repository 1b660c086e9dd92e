#include "rt/tls.h"

#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <optional>
#include <string>

#include "rt/sync.h"
#include "unit/rt/echo.h"
#include "unit/rt/test_certificates.h"
#include "unit/rt/world.h"

namespace pixii::rt {
namespace {

using Outcome = std::optional<Result<std::string>>;

/// Accepts one connection and says what came first: some bytes, none, or why nothing came. Sends
/// "yes" back if bytes came.
Task<void> ServeOne(Listener& listener, Outcome& out) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.Accept();
  if (!stream) {
    out = Fail(stream.error());
    co_return;
  }
  std::array<char, 64> buffer{};
  const Result<std::size_t> count = co_await (*stream)->Read(buffer, kNever);
  if (!count) {
    out = Fail(count.error());
    co_return;
  }
  out = std::string(buffer.data(), *count);
  if (*count > 0) {
    (void)co_await (*stream)->Write("yes", kNever);
  }
}

/// Connects, says "hello" and reads the answer.
Task<void> Ask(Net& net, Address address, Outcome& out) {
  Result<std::unique_ptr<Stream>> stream = co_await net.Connect(address, kNever);
  if (!stream) {
    out = Fail(stream.error());
    co_return;
  }
  const Result<void> sent = co_await (*stream)->Write("hello", kNever);
  if (!sent) {
    out = Fail(sent.error());
    co_return;
  }
  std::array<char, 64> buffer{};
  const Result<std::size_t> count = co_await (*stream)->Read(buffer, kNever);
  if (!count) {
    out = Fail(count.error());
    co_return;
  }
  out = std::string(buffer.data(), *count);
}

Task<void> SendPlain(Net& net, Address address, std::string bytes, bool end, Outcome& out) {
  Result<std::unique_ptr<Stream>> stream = co_await net.Connect(address, kNever);
  (void)co_await (*stream)->Write(bytes, kNever);
  if (end) {
    (*stream)->ShutdownWrite();
  }
  std::array<char, 64> buffer{};
  Result<std::size_t> count = co_await (*stream)->Read(buffer, kNever);
  out = count ? Result<std::string>(std::string(buffer.data(), *count)) : Fail(count.error());
}

template <class World>
class TlsTest : public testing::Test {
 protected:
  struct Both {
    Outcome server;
    Outcome client;
  };

  /// What each side of one exchange sees.
  Both Exchange(const TlsFiles& server, const TlsFiles& client, const std::string& server_name) {
    auto server_context = TlsContext::ForServer(server);
    auto client_context = TlsContext::ForClient(client, server_name);
    EXPECT_TRUE(server_context) << server_context.error().ToString();
    EXPECT_TRUE(client_context) << client_context.error().ToString();
    auto net = MakeTlsNet(world_.loop(), world_.net(), *server_context, *client_context);
    auto listener = net->Listen({.host = world_.host(), .port = 0}, {}).value();
    Both both;
    world_.loop().Spawn(ServeOne(*listener, both.server));
    world_.loop().Spawn(Ask(*net, listener->address(), both.client));
    world_.RunUntil([&] { return both.server && both.client; });
    return both;
  }

  World world_;
  TestAuthority authority_;
};

TYPED_TEST_SUITE(TlsTest, Worlds);

TYPED_TEST(TlsTest, BothSidesSpeakAfterTheHandshake) {
  const auto both = this->Exchange(this->authority_.Sign("127.0.0.1"),
                                   {.authorities = this->authority_.file()}, "127.0.0.1");
  EXPECT_EQ(both.server->value(), "hello");
  EXPECT_EQ(both.client->value(), "yes");
}

TYPED_TEST(TlsTest, EchoesManyConnectionsWhateverThePieces) {
  constexpr int kClients = 10;
  Random random(12);
  auto server = TlsContext::ForServer(this->authority_.Sign("127.0.0.1")).value();
  auto client =
      TlsContext::ForClient({.authorities = this->authority_.file()}, "127.0.0.1").value();
  auto net = MakeTlsNet(this->world_.loop(), this->world_.net(), server, client);
  auto listener = net->Listen({.host = this->world_.host(), .port = 0}, {}).value();
  this->world_.loop().Spawn(EchoServer(this->world_.loop(), *listener, random.Fork()));
  int done = 0;
  for (int i = 0; i < kClients; ++i) {
    const std::size_t size = i == 0 ? 2'000'000 : random.Below(50'000);
    this->world_.loop().Spawn(EchoClient(this->world_.loop(), *net, listener->address(),
                                         Pattern(random, size), random.Fork(), done));
  }
  this->world_.RunUntil([&] { return done == kClients; });
  listener->Close();
  this->world_.RunUntil([&] { return this->world_.loop().spawned_count() <= 1; });
}

/// Writes without waiting as far as that goes, then the rest, so that a piece may be encrypted by
/// one call and leave with the next.
Task<void> WriteBothWays(Stream& stream, std::string_view bytes, std::size_t& waited) {
  while (!bytes.empty()) {
    const Result<std::size_t> taken = stream.TryWrite(bytes);
    EXPECT_TRUE(taken);
    if (!taken) {
      co_return;
    }
    bytes.remove_prefix(*taken);
    if (!bytes.empty()) {
      ++waited;
      const std::string_view piece = bytes.substr(0, 100'000);
      const Result<void> written = co_await stream.Write(piece, kNever);
      EXPECT_TRUE(written);
      bytes.remove_prefix(piece.size());
    }
  }
  stream.ShutdownWrite();
}

Task<void> SendAll(Listener& listener, std::string_view bytes, std::size_t& waited, bool& done) {
  Result<std::unique_ptr<Stream>> stream = co_await listener.Accept();
  std::array<char, 5> hello{};
  (void)co_await (*stream)->Read(hello, kNever);
  co_await WriteBothWays(**stream, bytes, waited);
  done = true;
}

Task<void> TakeAll(Net& net, Address address, std::string& out, bool& done) {
  Result<std::unique_ptr<Stream>> stream = co_await net.Connect(address, kNever);
  (void)co_await (*stream)->Write("hello", kNever);
  out = co_await ReadAll(**stream);
  done = true;
}

TYPED_TEST(TlsTest, WhatDoesNotGoAtOnceGoesLaterAndOnce) {
  Random random(13);
  const std::string bytes = Pattern(random, 30'000'000);
  auto server = TlsContext::ForServer(this->authority_.Sign("127.0.0.1")).value();
  auto client =
      TlsContext::ForClient({.authorities = this->authority_.file()}, "127.0.0.1").value();
  auto net = MakeTlsNet(this->world_.loop(), this->world_.net(), server, client);
  auto listener = net->Listen({.host = this->world_.host(), .port = 0}, {}).value();
  std::string received;
  std::size_t waited = 0;
  bool sent = false;
  bool taken = false;
  this->world_.loop().Spawn(SendAll(*listener, bytes, waited, sent));
  this->world_.loop().Spawn(TakeAll(*net, listener->address(), received, taken));
  this->world_.RunUntil([&] { return sent && taken; });
  EXPECT_GT(waited, 0U);
  EXPECT_TRUE(received == bytes);
}

TYPED_TEST(TlsTest, ACertificateOfAnotherAuthorityOrNameIsRefused) {
  TestAuthority other("another authority");
  const TlsFiles server = this->authority_.Sign("127.0.0.1");
  const auto stranger = this->Exchange(server, {.authorities = other.file()}, "127.0.0.1");
  EXPECT_EQ(stranger.client->error().code(), Code::kUnavailable);
  EXPECT_NE(stranger.client->error().detail().find("unable to get local issuer"), std::string::npos)
      << stranger.client->error().detail();
  EXPECT_FALSE(*stranger.server);
  const auto name = this->Exchange(server, {.authorities = this->authority_.file()}, "pixii.test");
  EXPECT_NE(name.client->error().detail().find("mismatch"), std::string::npos)
      << name.client->error().detail();
}

TYPED_TEST(TlsTest, AServerWithAuthoritiesTakesOnlyTheirClients) {
  TestAuthority other("another authority");
  TlsFiles server = this->authority_.Sign("pixii.test");
  server.authorities = this->authority_.file();
  TlsFiles client = this->authority_.Sign("client");
  client.authorities = this->authority_.file();
  const auto known = this->Exchange(server, client, "pixii.test");
  EXPECT_EQ(known.client->value(), "yes");
  const auto nobody =
      this->Exchange(server, {.authorities = this->authority_.file()}, "pixii.test");
  EXPECT_EQ(nobody.server->error().code(), Code::kUnavailable);
  EXPECT_FALSE(*nobody.client);
  TlsFiles stranger = other.Sign("client");
  stranger.authorities = this->authority_.file();
  const auto foreign = this->Exchange(server, stranger, "pixii.test");
  EXPECT_EQ(foreign.server->error().code(), Code::kUnavailable);
  EXPECT_FALSE(*foreign.client);
}

TYPED_TEST(TlsTest, BytesThatAreNoTlsEndTheConnection) {
  for (const bool end : {false, true}) {
    auto context = TlsContext::ForServer(this->authority_.Sign("127.0.0.1")).value();
    auto net = MakeTlsNet(this->world_.loop(), this->world_.net(), context, nullptr);
    auto listener = net->Listen({.host = this->world_.host(), .port = 0}, {}).value();
    Outcome server;
    Outcome client;
    this->world_.loop().Spawn(ServeOne(*listener, server));
    // A whole request in plain HTTP, or the first bytes of a handshake and then nothing more.
    this->world_.loop().Spawn(
        SendPlain(this->world_.net(), listener->address(),
                  end ? std::string("\x16\x03\x01", 3) : "GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
                  end, client));
    this->world_.RunUntil([&] { return server && client; });
    EXPECT_EQ(server->error().code(), Code::kUnavailable);
  }
}

TEST(Tls, FilesThatCannotBeUsedAreNamed) {
  TestAuthority authority;
  TlsFiles files = authority.Sign("a");
  const auto refused = [](const TlsFiles& bad, const std::string& named) {
    auto context = TlsContext::ForServer(bad);
    ASSERT_FALSE(context);
    EXPECT_EQ(context.error().code(), Code::kInvalidArgument);
    EXPECT_NE(context.error().detail().find(named), std::string::npos) << context.error().detail();
  };
  refused({.certificate = "/nowhere/a.pem", .key = files.key}, "/nowhere/a.pem");
  refused({.certificate = files.certificate, .key = authority.Sign("b").key}, files.certificate);
  refused({.certificate = files.key, .key = files.key}, files.key);
  files.authorities = files.key;
  refused(files, "authorities");
}

}  // namespace
}  // namespace pixii::rt
