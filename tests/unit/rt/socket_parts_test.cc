#include "rt/socket_parts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <numeric>
#include <string>

#include "rt/sync.h"

namespace pixii::rt {
namespace {

/// Two ends of a connection on one loop.
struct Ends {
  std::unique_ptr<Loop> loop = std::move(*MakeLoop());
  std::unique_ptr<Net> net = MakeNet(*loop);
  std::unique_ptr<Listener> listener;
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;

  explicit Ends(const Address& address) {
    listener = std::move(*net->Listen(address, {}));
    loop->Spawn(Meet(*this));
    loop->Run();
  }

  static Task<void> Meet(Ends& self) {
    self.client = std::move(*co_await self.net->Connect(self.listener->address(), kNever));
    self.server = std::move(*co_await self.listener->Accept());
    self.loop->Stop();
  }

  void Run(Task<void> task) {
    loop->Spawn(std::move(task));
    loop->Run();
  }
};

Task<void> Send(Ends& ends, std::span<const std::byte> bytes) {
  SocketParts& out = *PartsOf(*ends.client);
  while (!bytes.empty()) {
    // In three pieces each time.
    const std::size_t third = bytes.size() / 3;
    const std::span<const std::byte> parts[] = {bytes.first(third), bytes.subspan(third, third),
                                                bytes.subspan(2 * third)};
    const Result<std::size_t> taken = out.TryWriteParts(parts);
    EXPECT_TRUE(taken);
    bytes = bytes.subspan(*taken);
    co_await out.WaitWritable(kNever);
  }
  ends.client->ShutdownWrite();
}

Task<void> Receive(Ends& ends, std::span<std::byte> a, std::span<std::byte> b) {
  SocketParts& in = *PartsOf(*ends.server);
  while (true) {
    const std::span<std::byte> parts[] = {a, b};
    const Result<std::optional<std::size_t>> got = in.TryReadParts(parts);
    EXPECT_TRUE(got);
    if (!*got) {
      co_await in.WaitReadable(kNever);
      continue;
    }
    if (**got == 0) {
      break;
    }
    const std::size_t first = std::min(**got, a.size());
    a = a.subspan(first);
    b = b.subspan(**got - first);
    if (b.empty()) {
      break;
    }
  }
  EXPECT_TRUE(a.empty() && b.empty());
  ends.loop->Stop();
}

TEST(SocketParts, BytesOfManyPiecesArriveInManyPieces) {
  Ends ends({.host = "127.0.0.1", .port = 0});
  std::vector<std::byte> sent(3'000'001);
  for (std::size_t i = 0; i < sent.size(); ++i) {
    sent[i] = static_cast<std::byte>(i * 7 + i / 251);
  }
  std::vector<std::byte> got(sent.size());
  ends.loop->Spawn(Send(ends, sent));
  ends.Run(Receive(ends, std::span(got).first(1'000'000), std::span(got).subspan(1'000'000)));
  EXPECT_EQ(got, sent);
  EXPECT_FALSE(PartsOf(*ends.server)->credentials()) << "TCP does not know";
}

Task<void> PassDescriptors(Ends& ends, std::vector<Fd>& got, std::string& bytes) {
  SocketParts& in = *PartsOf(*ends.server);
  while (bytes.size() < 8) {
    std::array<std::byte, 64> space{};
    const std::span<std::byte> parts[] = {space};
    const Result<std::optional<std::size_t>> count = in.TryReadParts(parts);
    EXPECT_TRUE(count);
    if (*count) {
      bytes.append(reinterpret_cast<const char*>(space.data()), **count);
    } else {
      co_await in.WaitReadable(kNever);
    }
  }
  got = in.TakeDescriptors();
  ends.loop->Stop();
}

TEST(SocketParts, DescriptorsPassOverAUnixSocketAndOnlyAsManyAsWanted) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("pixii-parts-" + std::to_string(::getpid())))
          .string();
  Ends ends({.host = "unix:" + path, .port = 0});
  const Result<PeerCredentials> peer = PartsOf(*ends.server)->credentials();
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->user, OwnUser());
  EXPECT_EQ(peer->process, ::getpid());
  PartsOf(*ends.server)->KeepDescriptors(1);
  int pipe[2] = {};
  ASSERT_EQ(::pipe(pipe), 0);
  const Fd reading(pipe[0]);
  const Fd writing(pipe[1]);
  const int both[] = {writing.get(), reading.get()};
  const std::string text = "8 bytes.";
  ASSERT_EQ(*PartsOf(*ends.client)->TryWriteWithDescriptors(std::as_bytes(std::span(text)), both),
            8u);
  std::vector<Fd> got;
  std::string bytes;
  ends.Run(PassDescriptors(ends, got, bytes));
  EXPECT_EQ(bytes, text);
  ASSERT_EQ(got.size(), 1u) << "the second one was closed";
  ASSERT_EQ(::write(got[0].get(), "x", 1), 1);
  char letter = 0;
  ASSERT_EQ(::read(reading.get(), &letter, 1), 1);
  EXPECT_EQ(letter, 'x');
}

}  // namespace
}  // namespace pixii::rt
