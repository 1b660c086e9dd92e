// Who has no cluster key gets nothing and harms nothing; who has it and speaks nonsense loses its
// connection and no more.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "rt/fd.h"
#include "rt/net.h"
#include "rt/process.h"
#include "rt/random.h"
#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/metadata.h"
#include "unit/transport/agents.h"

namespace pixii::transport {
namespace {

using rt::operator""s;

std::string Text(const Mac& mac) { return {reinterpret_cast<const char*>(mac.data()), mac.size()}; }

/// A raw connection to an agent.
class Stranger final {
 public:
  explicit Stranger(Agent& agent) {
    const AgentMetadata metadata = *DecodeMetadata(agent.Metadata());
    server_ = metadata.id;
    const std::string& address = metadata.transports.front().address;
    channel_ = metadata.transports.front().transport;
    const std::size_t path = address.find("unix:");
    if (path != std::string::npos) {
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      address.substr(path + 5).copy(to.sun_path, sizeof(to.sun_path) - 1);
      Connect(AF_UNIX, reinterpret_cast<sockaddr*>(&to), sizeof(to));
    } else {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(rt::ParseAddress(address)->port);
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      Connect(AF_INET, reinterpret_cast<sockaddr*>(&to), sizeof(to));
    }
  }

  /// False: the other side has closed.
  bool Send(std::string_view bytes) {
    return ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }

  /// `size` bytes, or fewer if the other side closed.
  std::string Receive(std::size_t size) {
    std::string out(size, '\0');
    std::size_t have = 0;
    while (have < size) {
      const ssize_t got = ::recv(fd_.get(), out.data() + have, size - have, 0);
      if (got <= 0) {
        break;
      }
      have += static_cast<std::size_t>(got);
    }
    out.resize(have);
    return out;
  }

  /// Everything until the other side closes.
  std::string Rest() {
    ::shutdown(fd_.get(), SHUT_WR);
    return Receive(1 << 20);
  }

  Hello MakeHello() const {
    Hello hello{.client = {.high = 5, .low = 6}, .server = server_, .nonce = {}, .checksums = true};
    rt::FillFromSystem(std::as_writable_bytes(std::span(hello.nonce)));
    return hello;
  }

  /// Up to the client's proof; the keys of what follows.
  Secrets Shake(const ClusterKey& key) {
    const std::string hello = EncodeHello(MakeHello());
    EXPECT_TRUE(Send(hello));
    const std::string challenge = Receive(kChallengeBytes);
    const Secrets secrets = DeriveSecrets(key, channel_, hello, challenge);
    EXPECT_TRUE(Send(Text(secrets.client_proof)));
    return secrets;
  }

 private:
  void Connect(int family, const sockaddr* to, socklen_t size) {
    fd_ = rt::Fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ASSERT_EQ(::connect(fd_.get(), to, size), 0) << std::strerror(errno);
  }

  rt::Fd fd_;
  AgentId server_;
  std::string channel_;
};

class Strangers : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(All, Strangers, testing::Values("tcp", "shm", "ucx", "libfabric"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Strangers, WithAnotherKeyGetANonceAndNothingElse) {
  Agents agents(GetParam());
  Stranger stranger(agents.server());
  stranger.Shake(*ClusterKey::FromSecret("not the key of this cluster"));
  EXPECT_EQ(stranger.Rest(), "") << "no byte follows a wrong proof";
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.server().counters().strangers_refused == 1; }));
}

TEST_P(Strangers, CannotRepeatWhatTheyHeard) {
  Agents agents(GetParam());
  Stranger first(agents.server());
  const std::string hello = EncodeHello(first.MakeHello());
  ASSERT_TRUE(first.Send(hello));
  const std::string challenge = first.Receive(kChallengeBytes);
  const std::string proof =
      Text(DeriveSecrets(TestKey(), GetParam(), hello, challenge).client_proof);
  ASSERT_TRUE(first.Send(proof));
  EXPECT_EQ(first.Receive(sizeof(Mac)).size(), sizeof(Mac)) << "the real one is let in";
  Stranger second(agents.server());
  ASSERT_TRUE(second.Send(hello));
  EXPECT_NE(second.Receive(kChallengeBytes), challenge);
  ASSERT_TRUE(second.Send(proof));
  EXPECT_EQ(second.Rest(), "");
}

TEST_P(Strangers, WhoSaysNothingIsSentAwayAndKeepsNobodyOut) {
  Agents agents(GetParam());
  std::vector<std::unique_ptr<Stranger>> silent;
  for (int i = 0; i < 80; ++i) {
    silent.push_back(std::make_unique<Stranger>(agents.server()));
  }
  // 64 may wait for their handshake's end; the rest is refused at once, and all after 2 s.
  EXPECT_TRUE(
      agents.bell().WaitFor([&] { return agents.server().counters().strangers_refused >= 80; }));
  const Memory local = agents.MakeMemory(agents.client(), 100, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 100, 2);
  remote.Open(agents.server(), 1, Access::kRead);
  EXPECT_EQ(agents.Run(Operation::kRead, {local.At(0, 100)}, {remote.At(0, 100)}).state,
            TransferState::kDone);
}

TEST_P(Strangers, TenThousandSpoiltConnectionsHarmNothing) {
  constexpr std::uint64_t kSeed = 4711;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Agents agents(GetParam());
  const Memory local = agents.MakeMemory(agents.client(), 10'000, 1);
  const Memory remote = agents.MakeMemory(agents.server(), 10'000, 2);
  remote.Open(agents.server(), 1, Access::kRead);
  ASSERT_EQ(agents.Run(Operation::kRead, {local.At(0, 100)}, {remote.At(0, 100)}).state,
            TransferState::kDone);
  const std::vector<std::byte> before(remote.bytes.begin(), remote.bytes.end());
  const rt::ProcessUsage usage = *rt::ReadProcessUsage();
  const std::uint64_t connections = agents.server().counters().connections;
  rt::Random random(kSeed);
  const auto spoil = [&](std::string& bytes) {
    for (std::uint64_t i = 1 + random.Below(3); i > 0 && !bytes.empty(); --i) {
      switch (random.Below(4)) {
        case 0:
          bytes[random.Below(bytes.size())] ^= static_cast<char>(1U << random.Below(8));
          break;
        case 1:
          bytes.resize(random.Below(bytes.size() + 1));
          break;
        case 2:
          bytes.insert(random.Below(bytes.size() + 1), 1, static_cast<char>(random.Next()));
          break;
        default:
          bytes[random.Below(bytes.size())] = static_cast<char>(random.Next());
      }
    }
  };
  // Each costs a fabric an endpoint, which libfabric takes long to close.
  const std::string_view backend = GetParam();
  const int rounds = backend == "libfabric" ? 40 : backend == "ucx" ? 400 : 10'000;
  for (int round = 0; round < rounds; ++round) {
    Stranger stranger(agents.server());
    switch (round % 4) {
      case 0: {
        std::string hello = EncodeHello(stranger.MakeHello());
        spoil(hello);
        stranger.Send(hello);
        break;
      }
      case 1: {
        const std::string hello = EncodeHello(stranger.MakeHello());
        ASSERT_TRUE(stranger.Send(hello));
        const std::string challenge = stranger.Receive(kChallengeBytes);
        std::string proof =
            Text(DeriveSecrets(TestKey(), GetParam(), hello, challenge).client_proof);
        spoil(proof);
        stranger.Send(proof);
        break;
      }
      default: {
        // One of us that has gone mad: the handshake is right, what follows is not.
        const Secrets secrets = stranger.Shake(TestKey());
        ASSERT_EQ(stranger.Receive(sizeof(Mac)).size(), sizeof(Mac));
        std::string payload = EncodeDescriptors({{remote.At(0, 100), remote.At(200, 300)}});
        if (round % 4 == 3) {
          spoil(payload);
        }
        const FrameHeader header{.payload_bytes = static_cast<std::uint32_t>(payload.size()),
                                 .kind = static_cast<FrameKind>(random.Below(12)),
                                 .checked = false,
                                 .transfer = random.Below(3),
                                 .checksum = 0};
        const FrameHeaderBytes packed = PackFrameHeader(header, FrameKey(secrets.client_key), 0);
        std::string bytes(reinterpret_cast<const char*>(packed.data()), packed.size());
        bytes += payload;
        if (std::string_view(GetParam()) == "shm") {
          const std::uint64_t words[8] = {random.Below(9), static_cast<std::uint64_t>(remote.key),
                                          random.Next(),   random.Next(),
                                          random.Next(),   random.Next(),
                                          random.Next(),   random.Next()};
          bytes.assign(reinterpret_cast<const char*>(words), sizeof(words));
        }
        if (round % 4 == 2) {
          spoil(bytes);
        }
        stranger.Send(bytes);
      }
    }
    if (round % 4 >= 2) {
      stranger.Rest();
    }
  }
  EXPECT_TRUE(agents.bell().WaitFor([&] {
    return agents.server().counters().connections == connections;
  })) << agents.server().counters().connections;
  EXPECT_TRUE(std::ranges::equal(remote.bytes, before));
  ASSERT_EQ(agents.Run(Operation::kRead, {local.At(0, 10'000)}, {remote.At(0, 10'000)}).state,
            TransferState::kDone);
  EXPECT_TRUE(std::ranges::equal(local.bytes, remote.bytes));
  EXPECT_TRUE(agents.bell().WaitFor(
      [&] { return rt::ReadProcessUsage()->descriptors <= usage.descriptors; }));
  EXPECT_EQ(rt::ReadProcessUsage()->threads, usage.threads);
  const AgentCounters counters = agents.server().counters();
  EXPECT_GT(counters.strangers_refused, static_cast<std::uint64_t>(rounds / 5));
  EXPECT_GT(counters.frames_malformed, static_cast<std::uint64_t>(rounds / 10));
}

}  // namespace
}  // namespace pixii::transport
